"""The average of log probabilities (of logits): the logarithmic pool with equal weights."""

from __future__ import annotations

from smelt.fusion.fitting.method import Method

METHOD = Method("log_probability")
