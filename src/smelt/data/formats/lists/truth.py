"""Known truth beside a data set, `truth.csv` (path, true_label, noise): to evaluate by, never to learn."""

from __future__ import annotations

import csv
import io

import numpy as np

from smelt.artifacts.bytestrings import encode
from smelt.artifacts.catalogue import OUT_OF_VOCABULARY, UNKNOWN_TRUTH
from smelt.artifacts.catalogue_writer import Block
from smelt.data.formats.base import Report
from smelt.data.formats.tree.files import Files, Part

LIMIT = 1 << 31  # labels are int32


class Truth:
    """True label and kind of noise by path."""

    def __init__(self, known: dict[bytes, tuple[int, bytes]]) -> None:
        self.known = known

    @classmethod
    def read(cls, part: Part | None, files: Files, report: Report) -> Truth:
        """From the file `part`; nothing is known where there is none."""
        if part is None:
            return cls({})
        known = {}
        text = part.read().decode("utf-8-sig", "surrogateescape")
        for row in csv.DictReader(io.StringIO(text, newline="")):
            try:
                label = int(row["true_label"])
                if not -LIMIT <= label < LIMIT:
                    raise ValueError("not a label")
                known[encode(row["path"])] = (label, encode(row.get("noise") or ""))
            except (KeyError, TypeError, ValueError):
                found = str(row)[:200]
                report.problem(f"{part}: needs columns path, true_label (a number), noise; found {found}")
                break
        return cls(known)

    def join(self, block: Block, num_classes: int) -> None:
        """Add the columns `true_label` and `noise`; a true class that was left out is out of vocabulary."""
        if not self.known:
            return
        found = [self.known.get(block.paths[i], (UNKNOWN_TRUTH, b"")) for i in range(len(block))]
        labels = np.array([label for label, _ in found], np.int32).reshape(-1)
        labels[labels >= num_classes] = OUT_OF_VOCABULARY
        block.fixed["true_label"] = labels
        kinds: dict[bytes, int] = {}
        codes = np.array([kinds.setdefault(kind, len(kinds)) for _, kind in found], np.int64)
        block.words["noise"] = (codes, list(kinds))
