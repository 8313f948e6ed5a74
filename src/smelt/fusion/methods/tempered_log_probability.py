"""Logits divided by each result's temperature and averaged: weights in proportion to 1/T.

Guo et al. 2017, On Calibration of Modern Neural Networks, §4.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.fitting.method import Method, Seen


def fit(seen: Seen) -> NDArray[np.float64]:
    """Weights (M,)."""
    return 1 / np.array(seen.temperatures_M())


METHOD = Method("log_probability", fit, tuned=False)
