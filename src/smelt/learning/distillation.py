"""Soft targets from the results of earlier models, looked up row by row in mapped files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from smelt.artifacts import results
from smelt.errors import ResultError

TINY = 1e-12  # below any probability that float32 logits give; keeps logarithms finite


class Teacher:
    """The mean of several results' softened probabilities. Only the lines of a batch are ever in memory."""

    def __init__(self, files: Sequence[Path], classes: Sequence[str], temperature: float) -> None:
        """Raises ResultError where a file has other classes, ArtifactError where it is damaged."""
        assert files and temperature > 0
        self.temperature = temperature
        self._sources = [_Source(path, classes) for path in files]

    def covers(self, rows_N: NDArray[np.int64]) -> None:
        """Refuse, before training, a teacher that lacks some of the rows to be learnt."""
        for source in self._sources:
            source.lines(rows_N)

    def targets(self, rows_B: NDArray[np.int64], num_outputs: int) -> Tensor:
        """Mean probabilities (B, num_outputs) float32 at the temperature; outputs beyond the teacher's
        classes (the class of threshold samples) get none."""
        total = sum(self._softened(source.logits(rows_B)) for source in self._sources)
        assert isinstance(total, Tensor)
        mean_BC = total / len(self._sources)
        return F.pad(mean_BC, (0, num_outputs - mean_BC.shape[1]))

    def _softened(self, logits_BC: NDArray[np.float32]) -> Tensor:
        return torch.softmax(torch.from_numpy(logits_BC) / self.temperature, dim=1)


class _Source:
    """One result file: dense, or the best K of each line with the probability of the rest."""

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self.path = path
        self._dense, self._top = None, None
        if path.name.endswith(results.TOPK):
            self._top, info = results.open_topk(path)
        else:
            self._dense, info = results.open_dense(path)
        if info.classes_hash != results.classes_hash(classes):
            raise ResultError(f"teacher {path} has other classes than the images to learn from")
        self._kind, self._num_classes = info.kind, info.num_classes
        self._rows = results.read_rows(path)
        self._order = None if bool((np.diff(self._rows) > 0).all()) else np.argsort(self._rows)

    def lines(self, rows_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """Line of each row in the file; ResultError if one is missing."""
        at = np.searchsorted(self._rows, rows_B, sorter=self._order)
        at = np.minimum(at, len(self._rows) - 1)
        lines: NDArray[np.int64] = at if self._order is None else self._order[at]
        missing = self._rows[lines] != rows_B
        if missing.any():
            raise ResultError(
                f"teacher {self.path} has no scores for {int(missing.sum())} of the rows to learn from "
                f"(the first is row {int(rows_B[missing][0])}): predict the train split with it"
            )
        return lines

    def logits(self, rows_B: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits (B, C), up to a constant of each line."""
        lines = self.lines(rows_B)
        if self._dense is not None:
            scores = self._dense[lines].astype(np.float32)
            return scores if self._kind == "logits" else np.log(np.maximum(scores, TINY))
        assert self._top is not None
        classes, kept = self._top.classes_NK[lines], self._top.scores_NK[lines]
        if self._kind == "logits":
            return expand(classes, kept, self._top.tail_N[lines], self._num_classes).astype(np.float32)
        return expand_probabilities(classes, kept, self._num_classes).astype(np.float32)


def expand(
    classes_BK: NDArray[np.integer],
    scores_BK: NDArray[np.floating],
    tail_B: NDArray[np.floating],
    num_classes: int,
) -> NDArray[np.float64]:
    """Logits (B, C) whose softmax gives the kept classes their probability and spreads the tail evenly.

    The kept logits stay as they are. The rest of a line, C − K classes, share probability `tail`: each gets
    the logit log(tail / (C − K)) + log Z, Z being the sum of exp over the kept logits over 1 − tail.
    """  # fmt: skip
    kept = scores_BK.astype(np.float64)
    rest = num_classes - kept.shape[1]
    tail = np.clip(tail_B.astype(np.float64), TINY, 1.0 - TINY)
    top = kept.max(axis=1)
    log_z = top + np.log(np.exp(kept - top[:, None]).sum(axis=1)) - np.log1p(-tail)
    fill = np.log(tail / max(rest, 1)) + log_z
    full = np.repeat(fill[:, None], num_classes, axis=1)
    np.put_along_axis(full, classes_BK.astype(np.int64), kept, axis=1)
    return full


def expand_probabilities(
    classes_BK: NDArray[np.integer], scores_BK: NDArray[np.floating], num_classes: int
) -> NDArray[np.float64]:
    """The same for probabilities: what the kept ones leave over is spread evenly. Log-probabilities."""
    kept = np.maximum(scores_BK.astype(np.float64), TINY)
    rest = np.maximum(1.0 - kept.sum(axis=1), TINY) / max(num_classes - kept.shape[1], 1)
    full = np.repeat(np.log(rest)[:, None], num_classes, axis=1)
    np.put_along_axis(full, classes_BK.astype(np.int64), np.log(kept), axis=1)
    return full


def distillation_loss(logits_BC: Tensor, targets_BC: Tensor, temperature: float) -> Tensor:
    """temperature² · KL(targets ‖ softmax(logits / temperature)) of each sample, (B,)."""
    log_student = F.log_softmax(logits_BC / temperature, dim=1)
    return temperature**2 * F.kl_div(log_student, targets_BC, reduction="none").sum(dim=1)
