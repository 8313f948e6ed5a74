"""The hold-out of `index`, drawn again by groups: copies of one picture go to one side together.

`index` knows nothing of pictures when it holds images out. Of a pan over a scene it takes every tenth frame,
and the other nine show the same. Drawn by groups, as many groups go as images went, and hardly any training
image shows what is held out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.catalogue import SPLITS
from smelt.data.formats.base import hold_out
from smelt.data.formats.config import FormatSettings

Codes = NDArray[np.uint8]


def origins(splits_N: Codes, made: dict[str, str]) -> Codes:
    """The splits as the data set came. made: split that was held out → split it was taken from."""
    given_N = splits_N.copy()
    for _ in made:  # validation may be of a test split that is itself held out
        for split, source in made.items():
            given_N[given_N == SPLITS.index(split)] = SPLITS.index(source)
    return given_N


def draw(
    given_N: Codes, labels_N: NDArray[np.int32], keys_N: NDArray[np.uint64], groups_N: NDArray[np.int64],
    rank_N: NDArray[np.int64], how: dict[str, Any],
) -> Codes:  # fmt: skip
    """Splits of all rows, those that `how` says were held out drawn by groups.

    given_N: as the data set came. keys_N: hashes of the paths. groups_N: copies of one picture. rank_N: the
    best row of a group, and of its rows in one given split, stands for the others. how: `held_out` of
    `index.json`. A set without copies is drawn as `index` did. No class of a split that is drawn from loses
    its last image: its groups stay.
    """
    settings = FormatSettings(format="imagefolder", **_asked(how))
    # a group whose rows came in several splits is a unit in each
    _, unit_N = np.unique(groups_N * len(SPLITS) + given_N, return_inverse=True)
    best = np.lexsort((rank_N, unit_N))
    _, first = np.unique(unit_N[best], return_index=True)
    heads = best[first]
    drawn_N = hold_out(given_N[heads], labels_N[heads], keys_N[heads], settings)[unit_N]
    return _put_back(given_N, drawn_N, labels_N, unit_N)


def _asked(how: dict[str, Any]) -> dict[str, Any]:
    """Settings of the draw; a split that was not made by it is not made now."""
    fields = {name: value for name, value in how.items() if name != "splits"}
    for split in ("val", "test"):
        if split not in how["splits"]:
            fields[f"{split}_fraction"] = 0.0
    return fields


def _put_back(
    given_N: Codes, drawn_N: Codes, labels_N: NDArray[np.int32], unit_N: NDArray[np.int64]
) -> Codes:
    """The draw without what would leave a class (a group may have several) without an image where it was."""
    count = int(labels_N.max(initial=-1)) + 1
    result_N = drawn_N.copy()
    for split in np.unique(given_N[drawn_N != given_N]).tolist():
        before, after = (
            np.bincount(labels_N[(codes == split) & (labels_N >= 0)], minlength=count)
            for codes in (given_N, drawn_N)
        )
        lost = np.append((before > 0) & (after == 0), False)  # the last is for the label -1
        back = np.unique(unit_N[lost[labels_N] & (given_N == split) & (drawn_N != split)])
        staying = np.isin(unit_N, back)
        result_N[staying] = given_N[staying]
    return result_N
