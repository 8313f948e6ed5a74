"""What is wrong with each row, and how surely: a kind with its probability. From features, without verdicts.

- right: the label is right.
- wrong_class: it shows another class of the data; `likely` says which.
- outside: it shows none of the classes.
- ambiguous: it lies between its class and another.
- copy, unreadable: known from the files, whatever a model says.

p_wrong is uncalibrated: a flip of labels at a rate ρ turns a label with the tempered leave-one-out
probability g, in a class with the share u, into one that is wrong with probability min(1, ρ·u/g) (Bayes'
rule). ρ is such that the mean is the estimated rate, and the probability is made a falling function of the
score that rows are ranked by (isotonic regression, Barlow et al. 1972). On human labels it tells the order of
size (docs/log.md); verdicts calibrate it (`calibration`).

Whether a wrong row is outside goes by how near it is to the nearest centre of a class, against the rows that
are right: of these the share α that is no nearer is uniform in 0..1, and so is that of rows of a wrong
class. What lies alone has a small α; the probability is the local false discovery rate (Efron et al. 2001,
"Empirical Bayes Analysis of a Microarray Experiment", section 3) with a decreasing density (Grenander 1956)
over Storey's estimate of the uniform part (2002, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.ranking import Ranking
from smelt.artifacts.row_kinds import AMBIGUOUS, KINDS, OUTSIDE, RIGHT, WRONG_CLASS, RowKinds
from smelt.artifacts.softlabels import MOST, SoftLabels
from smelt.mining.centres import centres
from smelt.mining.firth import sigmoid
from smelt.mining.posterior import Posterior
from smelt.mining.quantiles import normal_quantiles

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Shown = tuple[Floats, Floats, NDArray[np.int32], NDArray[np.int32]]
Top = tuple[NDArray[np.int32], NDArray[np.float32]]

BINS = 2000  # of the ordered rows, for isotonic regression: finer ones change nothing
SHARPER = 1.5  # log-odds by a fused score over those by the posterior: 1.3 to 2 on human labels (docs/log.md)
UNIFORM_FROM = 0.5  # α from which on all density is taken for that of rows of a class


def kinds(
    posterior: Posterior,
    ranking: Ranking,
    rate: float,
    files: Mapping[int, Bools] | None = None,
) -> tuple[RowKinds, SoftLabels]:
    """(kinds of all rows that the posterior's features are of, the likeliest classes of those that have
    some).

    ranking: of those rows. rate: share of wrong labels that p_wrong has as
    its mean. files: what is known of files, `COPY` and `UNREADABLE` → (N,).
    """
    data = posterior.data
    size = len(data.labels)
    given, other = np.full(size, np.nan), np.full(size, np.nan)
    likely, instead = np.full(size, -1, np.int32), np.full(size, -1, np.int32)
    width = min(MOST, data.num_classes)
    classes, shares = np.empty((data.num_rows, width), np.int32), np.empty((data.num_rows, width), np.float32)
    for start, (shown, top) in zip(data.starts(), data.each(lambda at: _shown(posterior, at))):
        at = data.usable[start : start + len(shown[0])]
        given[at], other[at], likely[at], instead[at] = shown
        classes[start : start + len(at)], shares[start : start + len(at)] = top
    p_wrong = np.full(size, np.nan)
    p_wrong[data.usable] = chance_wrong(
        given[data.usable], data.counts[data.classes] / data.num_rows, ranking.cleanness[data.usable], rate
    )
    p_outside = data.whole(chance_outside(centres(data).nearest(), p_wrong[data.usable]))
    between = 2 * np.minimum(given, other)  # 1: all that is likely is divided between the two
    chances = np.zeros((size, len(KINDS)))
    chances[:, AMBIGUOUS] = between
    chances[:, RIGHT] = (1 - p_wrong) * (1 - between)
    chances[:, WRONG_CLASS] = p_wrong * (1 - p_outside) * (1 - between)
    chances[:, OUTSIDE] = p_wrong * p_outside * (1 - between)
    for code, mask in (files or {}).items():
        chances[mask] = 0
        chances[mask, code] = 1
    known = ~np.isnan(chances).any(axis=1)
    kind = np.where(known, np.nan_to_num(chances).argmax(axis=1), RIGHT).astype(np.int8)
    likely = np.where(kind == WRONG_CLASS, instead, likely)
    p_kind = np.where(known, chances[np.arange(size), kind], np.nan)
    found = RowKinds(ranking.rows, p_wrong, likely, kind, p_kind, p_outside)
    return found, SoftLabels(ranking.rows[data.usable], classes, shares)


def _shown(posterior: Posterior, start: int) -> tuple[Shown, Top]:
    """((probability of the label, of the likeliest other, likeliest class of all, likeliest other) of a
    block, (likeliest classes, their probabilities))."""
    likely = posterior.of(start)
    top = likeliest(likely, min(MOST, likely.shape[1]))
    labels = posterior.data.classes[start : start + len(likely)]
    at, best = np.arange(len(labels)), likely.argmax(axis=1).astype(np.int32)
    own = likely[at, labels].copy()
    likely[at, labels] = -1
    return (own, likely.max(axis=1), best, likely.argmax(axis=1).astype(np.int32)), top


def likeliest(likely_BC: Floats, count: int) -> Top:
    """(classes (B, count) by falling probability, among equals the lower class first, probabilities)."""
    left, lines = likely_BC.copy(), np.arange(len(likely_BC))
    classes = np.empty((len(left), count), np.int32)
    for column in range(count):  # a few passes are cheaper than a sort of thousands of classes
        classes[:, column] = left.argmax(axis=1)
        left[lines, classes[:, column]] = -1
    return classes, np.take_along_axis(likely_BC, classes, axis=1).astype(np.float32)


def chance_wrong(given_n: Floats, share_n: Floats, cleanness_n: Floats, rate: float) -> Floats:
    """The probability that each label is wrong, (n,), with the mean `rate`, falling in the cleanness.

    given_n: out-of-sample probability of the label; share_n: share of its class among all labels. Rows
    without a score have the mean.
    """
    if not len(given_n):
        return np.zeros(0)
    low, high = 0.0, 1.0
    odds = share_n / np.maximum(given_n, 1e-12)
    while np.minimum(1, high * odds).mean() < rate and high < 1e9:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(1, middle * odds).mean() < rate else (low, middle)
    return sharpened(falling(np.minimum(1, high * odds), normal_quantiles(cleanness_n), rate), rate)


def sharpened(chance_n: Floats, rate: float) -> Floats:
    """Chances whose log-odds are `SHARPER` times as far apart, with the mean `rate`: a tempered posterior,
    which they come from, is less sure of a row than the mean of several scores."""
    odds = SHARPER * np.log(np.maximum(chance_n, 1e-12) / np.maximum(1 - chance_n, 1e-12))
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(odds + middle).mean() < rate else (low, middle)
    return sigmoid(odds + high)


def falling(values_n: Floats, order_n: Floats, blank: float) -> Floats:
    """The nearest function of `order_n` to the values that never rises; in bins of equal numbers of rows,
    linear between their middles. `blank` where the order is NaN."""
    known = np.flatnonzero(~np.isnan(order_n))
    found = np.full(len(values_n), blank)
    if not len(known):
        return found
    order = known[np.argsort(order_n[known], kind="stable")]
    parts = np.array_split(order, min(BINS, len(order)))
    smooth = pooled([float(values_n[part].mean()) for part in parts], [len(part) for part in parts])
    middles = np.array([order_n[part].mean() for part in parts])
    found[known] = np.interp(order_n[known], middles, smooth)
    return found


def pooled(means_K: Sequence[float], sizes_K: Sequence[int]) -> Floats:
    """The nearest numbers (K,) to the means of so many rows that never rise: neighbours that would are pooled
    (Ayer et al. 1955)."""
    levels: list[tuple[float, int, int]] = []  # (mean, rows, places) of each pool
    for mean, size in zip(means_K, sizes_K):
        levels.append((mean, size, 1))
        while len(levels) > 1 and levels[-1][0] > levels[-2][0]:
            (a, m, i), (b, n, j) = levels[-2:]
            levels[-2:] = [((a * m + b * n) / (m + n), m + n, i + j)]
    return np.repeat([level[0] for level in levels], [level[2] for level in levels])


def chance_outside(near_n: Floats, p_wrong_n: Floats) -> Floats:
    """The probability that each row, if its label is wrong, shows none of the classes, (n,)."""
    if not len(near_n):
        return np.zeros(0)
    weight = np.clip(p_wrong_n, 0, 1)
    order = np.argsort(near_n, kind="stable")
    right = np.cumsum(1 - weight[order])
    below = np.searchsorted(near_n[order], near_n, side="right")
    alpha = (right[below - 1] + 0.5) / (right[-1] + 1)
    total = weight.sum()
    if total <= 0:
        return np.zeros(len(near_n))
    uniform = min(1.0, float(weight[alpha > UNIFORM_FROM].sum() / total / (1 - UNIFORM_FROM)))
    density = decreasing(alpha, weight / total)
    return np.clip(1 - uniform / np.maximum(density, 1e-12), 0, 1)


def decreasing(alpha_n: Floats, weight_n: Floats) -> Floats:
    """The density at each α in 0..1 that never rises: the slope of the least concave majorant of the weighted
    distribution (Grenander 1956)."""
    edges = np.linspace(0, 1, 101)
    mass = np.histogram(alpha_n, edges, weights=weight_n)[0]
    steps = pooled((mass * (len(edges) - 1)).tolist(), [1] * len(mass))
    place = np.clip((alpha_n * (len(edges) - 1)).astype(int), 0, len(steps) - 1)
    return np.asarray(steps[place])
