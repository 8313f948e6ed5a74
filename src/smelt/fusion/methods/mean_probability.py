"""The plain average of probabilities: what every other fusion is measured by."""

from __future__ import annotations

from smelt.fusion.fitting.method import Method

METHOD = Method("probability")
