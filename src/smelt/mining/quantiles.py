"""Scores of any scale on one: the quantiles of the normal distribution that their ranks stand for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Wichura (1988), Algorithm AS 241, PPND16: numerators and denominators, the highest power first
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_TAIL = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
     1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
     4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
     1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
     2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
     5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
     7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
     5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def inverse_normal(shares: ArrayLike) -> Floats:
    """The quantile of the standard normal distribution for each share between 0 and 1, of any shape.

    Wichura (1988), AS 241: 16 digits. −inf and inf at the ends, NaN beyond them and for NaN.
    """
    p = np.atleast_1d(np.asarray(shares, np.float64))
    q = p - 0.5
    found = np.full(p.shape, np.nan)
    centre = np.abs(q) <= 0.425
    found[centre] = q[centre] * _ratio(_CENTRE, 0.180625 - q[centre] ** 2)
    tails = ~centre & (p > 0) & (p < 1)
    r = np.sqrt(-np.log(np.minimum(p[tails], 1 - p[tails])))
    far = np.where(r <= 5, _ratio(_TAIL, r - 1.6), _ratio(_FAR, r - 5))
    found[tails] = np.sign(q[tails]) * far
    found[p == 0], found[p == 1] = -np.inf, np.inf
    return found.reshape(np.shape(shares))


def _ratio(parts: tuple[tuple[float, ...], tuple[float, ...]], x: Floats) -> Floats:
    """The quotient of two polynomials."""
    ratio: Floats = np.polyval(parts[0], x) / np.polyval(parts[1], x)
    return ratio


def normal_quantiles(scores_N: ArrayLike) -> Floats:
    """The normal quantile at (rank − ½)/n of each score, (N,); equal scores share their mean rank.

    n counts the scores that are known: NaN stays NaN. Any increasing function of the scores gives the same.
    """
    scores = np.asarray(scores_N, np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores must have the shape (N,), not {scores.shape}")
    known = np.flatnonzero(~np.isnan(scores))
    found = np.full(len(scores), np.nan)
    if not len(known):
        return found
    order = known[np.argsort(scores[known], kind="stable")]
    ordered = scores[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[first[1:], len(order)]
    middle = inverse_normal((first + ends) / 2 / len(order))
    found[order] = np.repeat(middle, ends - first)
    return found
