"""The hold-out by groups: nothing is torn, no class loses its last image, without copies nothing changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.data.copies.groups import lowest_of
from smelt.data.formats.base import hold_out
from smelt.data.formats.config import FormatSettings
from smelt.data.holdout import draw, origins


def how(splits: dict[str, str], val: float = 0.3, test: float = 0.0, seed: int = 0) -> dict[str, Any]:
    fractions = {"val_fraction": val, "test_fraction": test}
    sources = {f"{split}_from": source for split, source in splits.items()}
    return {"splits": splits, "seed": seed, **fractions, **sources}


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=40)


@given(ROWS, st.integers(0, 5), st.sampled_from([0.1, 0.5, 0.9]), st.booleans())
@settings(deadline=None)
def test_groups_are_not_torn_and_classes_not_lost(
    rows: list[tuple[int, int]], seed: int, fraction: float, tested: bool
) -> None:
    """Groups of any labels, of which some rows came as test images."""
    labels = np.array([row[0] for row in rows], np.int32)
    groups = lowest_of(np.array([row[1] for row in rows]))
    keys = np.arange(len(rows), dtype=np.uint64) * np.uint64(7919)
    given_ = np.array([2 if tested and i % 3 == 0 else 0 for i in range(len(rows))], np.uint8)
    rank = np.random.default_rng(seed).permutation(len(rows))
    found = draw(given_, labels, keys, groups, rank, how({"val": "train"}, fraction, 0.5, seed))
    assert (found[given_ == 2] == 2).all() and set(found[given_ == 0].tolist()) <= {0, 1}
    for group in np.unique(groups):
        assert len(set(found[(groups == group) & (given_ == 0)].tolist())) <= 1
    for label in np.unique(labels[given_ == 0]):
        assert (found[labels == label] == 0).any()


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=40), st.integers(0, 5), st.booleans())
@settings(deadline=None)
def test_without_copies_the_draw_is_that_of_index(labels: list[int], seed: int, both: bool) -> None:
    splits = {"val": "train", "test": "train"} if both else {"val": "train"}
    asked = how(splits, 0.3, 0.2 if both else 0.0, seed)
    given_, keys = np.zeros(len(labels), np.uint8), np.arange(len(labels), dtype=np.uint64)
    own = np.array(labels, np.int32)
    wanted = FormatSettings(
        format="imagefolder", seed=seed, val_fraction=0.3, test_fraction=asked["test_fraction"]
    )
    first = hold_out(given_, own, keys, wanted)
    alone = np.arange(len(labels))
    assert draw(origins(first, splits), own, keys, alone, alone, asked).tolist() == first.tolist()


def test_of_many_groups_the_wanted_share_goes() -> None:
    """1,000 pictures of one to nine copies each: a tenth of the pictures, so a tenth of the images."""
    random = np.random.default_rng(3)
    groups = lowest_of(np.repeat(np.arange(1000), random.integers(1, 10, 1000)))
    count = len(groups)
    keys = random.integers(0, 1 << 62, count).astype(np.uint64)
    rank = random.permutation(count)
    found = draw(
        np.zeros(count, np.uint8), np.zeros(count, np.int32), keys, groups, rank, how({"val": "train"}, 0.1)
    )
    assert len(np.unique(groups[found == 1])) == 100
    assert (found == 1).mean() == pytest.approx(0.1, abs=0.02)


def test_splits_go_back_to_where_they_came_from() -> None:
    codes = np.array([0, 1, 2, 1], np.uint8)
    assert origins(codes, {"val": "train"}).tolist() == [0, 0, 2, 0]
    assert origins(codes, {"val": "test"}).tolist() == [0, 2, 2, 2]
    assert origins(codes, {"test": "train", "val": "test"}).tolist() == [0, 0, 0, 0]
