"""The average of ranks, which no result's scale matters to."""

from __future__ import annotations

from smelt.fusion.fitting.method import Method

METHOD = Method("rank", own_pass=True)
