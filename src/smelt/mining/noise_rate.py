"""How large a share of the labels is wrong, estimated from margins. Arrays in, numbers out.

A row whose AUM is negative is one that the models would rather call something else: its label is wrong, or
the models are. What they get wrong on validation, where labels are taken to be right, is the second part.
A mixture of two Gaussians, the usual estimate (Li et al. 2020, DivideMix, section 3.1), was tried first: it
sees 35–60 % noise where there is none, because margins are skewed (docs/log.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def negative_share(aum_N: NDArray[np.float64]) -> float:
    """Share of the rows with a score whose AUM is negative; NaN where none has a score."""
    known = aum_N[~np.isnan(aum_N)]
    return float((known < 0).mean()) if len(known) else float("nan")


def noise_rate(aum_N: NDArray[np.float64], error: float = 0.0) -> float:
    """Share of wrong labels, 0..1: with n the negative share and e the models' error rate on right labels,
    n = r + (1 − r) · e for the rate r, if every wrong label has a negative AUM.

    Without `error` it is an upper estimate. NaN where no row has a score.
    """
    assert 0 <= error <= 1
    if error == 1:
        return 0.0
    return float(np.clip((negative_share(aum_N) - error) / (1 - error), 0, 1))
