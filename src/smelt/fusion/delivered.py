"""The files that a fusion of score files is delivered in: all of them, or none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smelt.errors import ResultError
from smelt.files.arrays import new_array
from smelt.files.atomic import filling, write_bytes, write_csv, write_json
from smelt.files.workfolder import MODE
from smelt.fusion.apply import Fusion, apply, top_classes
from smelt.fusion.exact.threads import one_thread
from smelt.fusion.procedure import Outcome
from smelt.fusion.scores.inputs import Gathered
from smelt.fusion.submission import lists_text, names_of, packed, predictions

WRITTEN = (
    "weights.csv",
    "class_weights.csv",
    "top5.txt",
    "predictions.txt",
    "submission.zip",
    "scores.npy",
    "fusion.json",
)


@dataclass(frozen=True)
class Delivery:
    """Where to, for images of which names, and what beside fusion.json, weights and lists."""

    out: Path
    names: Sequence[str]
    submission: bool
    scores: bool

    def check(self) -> None:
        """Refuse before anything is fitted what could not be written afterwards."""
        if self.submission:
            names_of(self.names)
        broken = next((name for name in self.names if any(sign in name for sign in "\t\r\n")), None)
        if broken is not None:
            raise ResultError(
                f"the id {broken!r} holds a tab or a line end: top5.txt could not be read again"
            )
        out = self.out
        if out.exists() and not out.is_dir():
            raise ResultError(f"--out {out} is a file; name a folder")
        link = next((out / name for name in WRITTEN if (out / name).is_symlink()), None)
        if link is not None:
            raise ResultError(f"--out {out}: {link} is a link (to {os.readlink(link)}); remove it")
        there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise ResultError(f"--out {out}: {there} cannot be written to")

    def write(self, outcome: Outcome, given: Gathered) -> None:
        """Write all files. A new folder is for its owner alone, as a work folder is."""
        with filling(self.out, WRITTEN, MODE) as folder, one_thread():
            self._fill(folder, outcome, given)

    def _fill(self, folder: Path, outcome: Outcome, given: Gathered) -> None:
        """All files of a fusion."""
        chosen, count = outcome.chosen, len(self.names)
        weights = [[name, _number(weight)] for name, weight in zip(given.names, chosen.weights)]
        write_csv(folder / "weights.csv", [["result", "weight"], *weights])
        if chosen.class_weights is not None:
            write_csv(folder / "class_weights.csv", _by_class(chosen, given))
        lists = top_classes(chosen, given.sources, count, min(5, given.num_classes))
        write_bytes(folder / "top5.txt", lists_text(self.names, lists).encode())
        if self.submission:
            text = predictions(self.names, lists)
            write_bytes(folder / "predictions.txt", text.encode())
            write_bytes(folder / "submission.zip", packed(text))
        if self.scores:
            shape = (count, given.num_classes)
            fused = new_array(folder / "scores.npy", shape, np.float32)
            for lines, block in apply(chosen, given.sources, count):
                fused[lines] = block
            del fused
        write_json(folder / "fusion.json", outcome.record)


def _by_class(fusion: Fusion, given: Gathered) -> list[list[str]]:
    """Weights of each class, a line a class: its name (or number), bias, and the weight of each result."""
    names = given.classes or [str(number) for number in range(given.num_classes)]
    columns = zip(names, fusion.biases or (), zip(*(fusion.class_weights or ())))
    return [["class", "bias", *given.names], *([name, *map(_number, (b, *w))] for name, b, w in columns)]


def _number(value: float) -> str:
    return f"{value:.9g}"
