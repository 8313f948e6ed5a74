"""Selections and rankings come back as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smelt.artifacts.ranking import Ranking, read_ranking, write_ranking
from smelt.artifacts.selection import Selection, read_selection, write_selection
from smelt.errors import ArtifactError
from smelt.files.atomic import sha256_file


def selection() -> Selection:
    return Selection(
        rows=np.array([3, 5, 9]), labels=np.array([0, 7, 2], np.int32),
        weights=np.array([1, 0.5, 1], np.float32), kept=np.array([True, True, False]),
        reasons=np.array([0, 0, 2], np.int32), words=("", "leak", "low_aum"), num_classes=8,
    )  # fmt: skip


def test_selection_round_trip(tmp_path: Path) -> None:
    write_selection(tmp_path, selection(), {"method": "x"})
    back = read_selection(tmp_path)
    for name in ("rows", "labels", "weights", "kept"):
        np.testing.assert_array_equal(getattr(back, name), getattr(selection(), name))
    assert [back.words[code] for code in back.reasons] == ["", "", "low_aum"]
    assert back.num_classes == 8 and back.counts() == {"kept": 2, "low_aum": 1}


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    hashes = set()
    for name in "ab":
        (tmp_path / name).mkdir()
        write_selection(tmp_path / name, selection())
        hashes.add(sha256_file(tmp_path / name / "selection.parquet"))
    assert len(hashes) == 1


def test_ranking_round_trip(tmp_path: Path) -> None:
    scores = {"aum": np.array([1.0, np.nan]), "margin": np.array([0.25, 2])}
    write_ranking(tmp_path, Ranking(np.array([1, 4]), scores, scores["aum"]))
    back = read_ranking(tmp_path)
    np.testing.assert_array_equal(back.scores["margin"], [0.25, 2])
    np.testing.assert_array_equal(back.cleanness, [1, np.nan])


def test_a_damaged_or_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"selection\.parquet is not there"):
        read_selection(tmp_path)
    (tmp_path / "selection.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ArtifactError, match=r"selection\.parquet is damaged"):
        read_selection(tmp_path)
