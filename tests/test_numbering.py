"""Shards that are numbered, and those of them that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from formats_toy import PIXEL, catalogue_of, put, refused, tar, told
from smelt.data.formats.base import Report
from smelt.data.formats.containers.numbering import tell_missing


def said(names: list[str], chosen: bool = False) -> tuple[list[str], list[str]]:
    report = Report()
    tell_missing({"train": names}, report, chosen=chosen)
    return report.problems, report.warnings


def test_counted_shards_that_lack_some_are_refused_with_their_names() -> None:
    names = [f"data/train-{n:05d}-of-00010.parquet" for n in range(10) if n not in (3, 9)]
    problems, warnings = said(names)
    assert not warnings and problems == [
        "2 of 10 shards are missing: data/train-00003-of-00010.parquet, data/train-00009-of-00010.parquet. "
        'If those that are there are meant: -o data.lists.train="data/train-*"'
    ]
    problems, warnings = said(names, chosen=True)
    assert not problems and "2 of 10" in warnings[0]


@pytest.mark.parametrize(
    "names",
    [
        [f"{n:05d}-of-00004.tar" for n in range(4)],
        [f"a-{n}-of-4.tar" for n in range(1, 5)],  # counted from 1
        [f"shard-{n:06d}.tar" for n in range(5)],
        [f"shard-{n:06d}.tar.gz" for n in range(1, 6)],
        ["n01440764.tar", "n01443537.tar", "n01484850.tar"],  # synsets
        ["train/0000.tar", "train/0002.tar", "train/0003.tar", "val/0001.tar"],
        ["cat.tar", "dog.tar", "v2.tar"],
        ["1.tar", "5.tar", "9.tar"],
        ["v1.tar", "v2.tar", "v4.tar", "v5.tar"],  # versions
        ["2019.tar", "2020.tar"],  # two are no count
    ],
)
def test_whole_sets_and_names_that_are_no_count(names: list[str]) -> None:
    assert said(names) == ([], [])


@pytest.mark.parametrize(
    ("numbers", "missing"), [([0, 1, 2, 4, 5], "shard-000003.tar"), ([2, 3, 4, 5], "shard-000000.tar")]
)
@pytest.mark.parametrize("packed", ["", ".gz", ".bz2"])
def test_gaps_are_warned_of(numbers: list[int], missing: str, packed: str) -> None:
    problems, warnings = said([f"shard-{n:06d}.tar{packed}" for n in numbers])
    assert not problems and missing in warnings[0]


def test_two_sets_of_shards_in_one_folder_are_refused() -> None:
    names = [f"train-{n:05d}-of-{total:05d}.tar" for total in (2, 3) for n in range(total)]
    assert "shards of 2 sets lie together" in said(names)[0][0]


def test_tars_that_lack_some(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for n in (0, 2):
        members = {f"{n}{k}.jpg": PIXEL for k in range(4)} | {
            f"{n}{k}.cls": b"%d" % (k % 2) for k in range(4)
        }
        tar(root / f"data-{n:05d}-of-00003.tar", members)
    assert "1 of 3 shards are missing: data-00001-of-00003.tar" in refused(root, tmp_path / "o")
    catalogue_of(root, tmp_path / "out", lists={"train": "data-*"})
    assert "1 of 3 shards are missing" in told(tmp_path / "out")


def test_folders_of_a_downloader_that_lack_some(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    for n in (0, 1, 3):
        for k in range(4):
            files[f"{n:05d}/{n}{k}.jpg"] = PIXEL
            files[f"{n:05d}/{n}{k}.json"] = f'{{"label": "{"ab"[k % 2]}"}}'
        files[f"{n:05d}_stats.json"] = '{"count": 4, "successes": 4}'
    catalogue_of(put(tmp_path / "d", files), tmp_path / "out")
    assert "00002" in told(tmp_path / "out")


def test_parts_of_one_list_are_read_together(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"im/{n}{k}.jpg": PIXEL for n in range(3) for k in range(4)}
    for n in range(3):
        rows = "".join(f"im/{n}{k}.jpg,{'ab'[k % 2]}\n" for k in range(4))
        files[f"train-{n:05d}-of-00003.csv"] = "path,label\n" + rows
    root = put(tmp_path / "d", files)
    assert len(catalogue_of(root, tmp_path / "out").labels_N) == 12
    (root / "train-00001-of-00003.csv").unlink()
    assert "1 of 3 shards are missing: train-00001-of-00003.csv" in refused(root, tmp_path / "o")
    some = catalogue_of(root, tmp_path / "some", lists={"train": "train-*"})
    assert len(some.labels_N) == 8
