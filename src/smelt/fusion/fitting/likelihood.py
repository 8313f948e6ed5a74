"""How likely fusions make the labels of sampled images, whatever their sharpness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.apply import Fusion
from smelt.fusion.fitting.sample import Sample, picked

FAINT = 1e-30  # added to a probability before its logarithm
SHARP_IMAGES = 1000  # that the sharpness of a fusion is fitted on


def log_chances(found: Sample, fusions: Sequence[Fusion], part: slice) -> list[NDArray[np.float32]]:
    """Logarithms (K, n'), up to a constant of each image, of what fusions make of the images in `part`.

    Either one fusion with temperatures, or any with weights of classes, or any of one pooling without both.
    """
    temperatures, pooling = fusions[0].temperatures, fusions[0].pooling
    if all(one.class_weights is not None for one in fusions):
        return _by_class(found, fusions, part)
    assert len(fusions) == 1 or all(one.summed and one.pooling == pooling for one in fusions)
    if temperatures is not None:
        values = np.exp(found.logs_MKn[:, :, part] / np.asarray(temperatures, np.float32)[:, None, None])
        values /= values.sum(axis=1, keepdims=True)
    else:
        values = (found.chances_MKn if pooling == "probability" else found.logs_MKn)[:, :, part]
    weights_FM = np.array([fusion.weights for fusion in fusions], np.float32)
    mixed = (weights_FM @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])
    return list(np.log(mixed + np.float32(FAINT)) if pooling == "probability" else mixed)


def _by_class(found: Sample, fusions: Sequence[Fusion], part: slice) -> list[NDArray[np.float32]]:
    """The same of fusions with weights of classes; the sample holds all classes."""
    weights_FMK = np.array([fusion.class_weights for fusion in fusions], np.float32)
    biases_FK = np.array([fusion.biases for fusion in fusions], np.float32)
    mixed_KFn = np.matmul(weights_FMK.transpose(2, 0, 1), found.logs_MKn[:, :, part].transpose(1, 0, 2))
    # Σ w (s − n) = Σ w s − Σ w n: normalisers are taken off the sums
    mixed_FKn = mixed_KFn.transpose(1, 0, 2) - weights_FMK.transpose(0, 2, 1) @ found.normalisers_Mn[:, part]
    return list(mixed_FKn + biases_FK[:, :, None])


def calibrated(
    logs_Kn: NDArray[np.float32], place_n: NDArray[np.int64], balance_n: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log likelihood (n,) of the labels after the sharpness that makes them likeliest (one number for all).

    Guo et al. 2017: the sharpness says nothing of the order of classes, so fusions are compared without it.
    """
    keep = balance_n > 0
    place, balance = place_n[keep], balance_n[keep]
    logs = picked(logs_Kn, keep)
    logs = logs - logs.max(axis=0)
    own = logs[place, np.arange(len(place))].astype(np.float64)
    few = slice(None, None, max(1, len(place) // SHARP_IMAGES))
    sharp = _sharpness(np.ascontiguousarray(logs[:, few]), own[few], balance[few])
    logs *= np.float32(sharp)
    np.exp(logs, out=logs)
    likelihood = np.full(len(balance_n), np.nan)
    likelihood[keep] = sharp * own - np.log(logs.sum(axis=0), dtype=np.float64)
    return likelihood


def _sharpness(
    logs_Kn: NDArray[np.float32], own_n: NDArray[np.float64], balance_n: NDArray[np.float64]
) -> float:
    """The factor on the logarithms that makes the labels likeliest, by Newton steps."""
    sharp = 1.0
    for _ in range(8):
        exp = np.exp(np.float32(sharp) * logs_Kn)
        total = exp.sum(axis=0)
        exp *= logs_Kn
        mean = exp.sum(axis=0) / total
        exp *= logs_Kn
        slope = float(balance_n @ (own_n - mean))
        bend = float(balance_n @ (exp.sum(axis=0) / total - mean**2))
        change = slope / max(bend, 1e-12)
        sharp = float(np.clip(sharp + change, sharp / 3, sharp * 3))
        if abs(change) < 1e-3 * sharp:
            break
    return sharp


def clearly(differences_n: NDArray[np.float64], balance_n: NDArray[np.float64]) -> bool:
    """Whether the balanced mean of differences (NaN where nothing weighs) is two standard errors above 0."""
    differences = np.nan_to_num(differences_n)
    mean = float(differences @ balance_n)
    error = float(np.sqrt(((differences - mean) ** 2) @ balance_n**2))
    return mean > 2 * error > 0
