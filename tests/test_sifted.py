"""Rows that say nothing to learn: labels that do not hold, headers in the middle; labels parted by blanks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from formats_toy import PIXEL, catalogue_of, put, refused, told
from smelt.artifacts.catalogue import Catalogue
from smelt.data.formats.labels.several import blanks_between

NAMES = [f"{number}.jpg" for number in range(12)]


def labels_of(c: Catalogue) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row, label in enumerate(c.labels_N.tolist()):
        found.setdefault(c.path(row), []).append(c.classes[label])
    return found


def root_of(tmp_path: Path, text: str, names: list[str] = NAMES) -> Path:
    return put(tmp_path / "d", {"labels.csv": text, **dict.fromkeys(names, PIXEL)})


def read(tmp_path: Path, text: str, **fields: Any) -> tuple[dict[str, list[str]], str]:
    """Path → labels, and what is told."""
    c = catalogue_of(root_of(tmp_path, text), tmp_path / "out", **fields)
    return labels_of(c), told(tmp_path / "out")


def negatives(column: str, yes: str, no: str) -> str:
    """A row that holds and one that does not for every image."""
    rows = [
        f"{name},{'abc'[n % 3]},{yes}\n{name},{'abc'[(n + 1) % 3]},{no}\n" for n, name in enumerate(NAMES)
    ]
    return f"ImageID,LabelName,{column}\n" + "".join(rows)


@pytest.mark.parametrize(
    ("column", "yes", "no"),
    [("Confidence", "1", "0"), ("confidence", "0.97", "0.0"), ("conf", "100", "0"), ("Score", "0.2", "0"),
     ("is_positive", "True", "False"), ("present", "yes", "no"), ("answer", "accept", "reject"),
     ("AssignmentStatus", "Approved", "Rejected")],
)  # fmt: skip
def test_labels_that_are_said_not_to_hold_are_left_out(
    tmp_path: Path, column: str, yes: str, no: str
) -> None:
    found, said = read(tmp_path, negatives(column, yes, no))
    assert found == {name: ["abc"[n % 3]] for n, name in enumerate(NAMES)}
    assert f"12 of 24 rows have 0 or no in column {column!r}" in said and "labels.csv:3" in said


def test_an_image_that_has_no_label_that_holds_is_accounted_for(tmp_path: Path) -> None:
    text = negatives("Confidence", "1", "0").replace("3.jpg,a,1", "3.jpg,a,0")
    found, _ = read(tmp_path, text)
    assert "3.jpg" not in found and len(found) == 11
    assert "only to say which classes it is not of" in (tmp_path / "out/index.json").read_text()


def test_min_confidence_overrules(tmp_path: Path) -> None:
    text = "path,label,confidence\n" + "".join(
        f"{name},{'abc'[n % 3]},{n / 20}\n" for n, name in enumerate(NAMES)
    )
    assert len(read(tmp_path, text)[0]) == 11
    assert len(catalogue_of(tmp_path / "d", tmp_path / "all", min_confidence=0).labels_N) == 12
    assert len(catalogue_of(tmp_path / "d", tmp_path / "some", min_confidence=0.3).labels_N) == 6
    odd = root_of(tmp_path / "odd", text.replace("0.25", "sure"))
    assert "labels.csv:7: 'sure' in column 'confidence'" in refused(odd, tmp_path / "o", min_confidence=0.3)


@pytest.mark.parametrize("cells", ["0", "3", "high"])
def test_a_column_that_says_nothing_of_confidence_is_not_looked_at(tmp_path: Path, cells: str) -> None:
    votes = {"0": "0", "3": "{n}", "high": "high"}[cells]
    rows = "".join(f"{name},{'abc'[n % 3]},{votes.format(n=n)}\n" for n, name in enumerate(NAMES))
    found, said = read(tmp_path, "path,label,score\n" + rows)
    assert len(found) == 12 and "not looked at" in said


def test_two_columns_of_which_one_is_called_so_are_a_path_and_a_label(tmp_path: Path) -> None:
    text = "path,positive\n" + "".join(f"{name},{n % 2}\n" for n, name in enumerate(NAMES))
    found, _ = read(tmp_path, text)
    assert found["0.jpg"] == ["0"] and found["1.jpg"] == ["1"]


@pytest.mark.parametrize("again", ["path,label,split", "Path, Label ,SPLIT", '"path","label","split"'])
def test_names_of_columns_in_the_middle_are_no_row(tmp_path: Path, again: str) -> None:
    rows = [f"{name},{'abc'[n % 3]},train" for n, name in enumerate(NAMES)]
    rows.insert(6, again)
    found, said = read(tmp_path, "path,label,split\n" + "\n".join(rows) + "\n")
    assert found == {name: ["abc"[n % 3]] for n, name in enumerate(NAMES)}
    assert "stand again in 1 row(s)" in said and "line 8" in said


def test_names_of_columns_among_columns_of_classes(tmp_path: Path) -> None:
    rows = [f"{name}," + ",".join(str(int(n % 3 == k)) for k in range(3)) for n, name in enumerate(NAMES)]
    rows.insert(6, "file,a,b,c")
    found, _ = read(tmp_path, "file,a,b,c\n" + "\n".join(rows) + "\n")
    assert found == {name: ["abc"[n % 3]] for n, name in enumerate(NAMES)}


def test_names_of_columns_in_another_order_are_refused(tmp_path: Path) -> None:
    rows = [f"{name},{'abc'[n % 3]}" for n, name in enumerate(NAMES)]
    rows[6:] = ["label,path", *(f"{'abc'[n % 3]},{name}" for n, name in list(enumerate(NAMES))[6:])]
    root = root_of(tmp_path, "path,label\n" + "\n".join(rows) + "\n")
    assert "labels.csv:8: the names of the columns stand here again, in another order" in refused(
        root, tmp_path / "o"
    )


def test_a_class_and_a_file_called_as_a_column_are_rows(tmp_path: Path) -> None:
    text = "path,label\n" + "".join(f"{n},{'path' if n == '1.jpg' else 'label'}\n" for n in NAMES)
    assert read(tmp_path, text)[0]["1.jpg"] == ["path"]


LEAVES = ["healthy", "rust", "scab", "rust scab", "healthy rust scab", "scab"]
TAGS = ["haze primary", "clear primary water", "clear primary", "clear road", "cloudy road", "haze road",
        "clear primary road water", "cloudy primary", "water haze", "cloudy water"]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sure"),
    [(LEAVES, True), (TAGS, True), (["16 0", "7 1 2", "5"], True),
     (["golden retriever", "labrador retriever", "house cat", "cat", "dog"], None),
     (["house cat", "wild cat", "house", "wild", "cat", "golden retriever"], False),
     (["red small cube", "red large cube", "blue small cube", "blue large cube", "red small ball",
       "red large ball", "blue small ball", "blue large ball"], None)],
)  # fmt: skip
def test_blanks_part_labels_where_the_parts_recur(words: list[str], sure: bool | None) -> None:
    found, certain = blanks_between({word.encode() for word in words})
    assert (certain if found else None) is sure


def test_labels_parted_by_blanks_go_by_multi_label(tmp_path: Path) -> None:
    text = "path,labels\n" + "".join(f"{name},{LEAVES[n % 6]}\n" for n, name in enumerate(NAMES))
    root = root_of(tmp_path, text)
    said = refused(root, tmp_path / "o")
    assert "4 rows have several labels, such as" in said and "data.multi_label=whole" in said
    split = labels_of(catalogue_of(root, tmp_path / "split", multi_label="split", val_fraction=0.0))
    assert split["4.jpg"] == ["healthy", "rust", "scab"] and split["3.jpg"] == ["rust", "scab"]
    first = catalogue_of(root, tmp_path / "first", multi_label="first")
    assert labels_of(first)["4.jpg"] == ["healthy"] and "blanks part labels" in told(tmp_path / "first")
    whole = catalogue_of(root, tmp_path / "whole", multi_label="whole")
    assert labels_of(whole)["4.jpg"] == ["healthy rust scab"]


def test_names_of_listed_classes_are_never_parted(tmp_path: Path) -> None:
    text = "path,label\n" + "".join(f"{name},{LEAVES[n % 6]}\n" for n, name in enumerate(NAMES))
    root = put(root_of(tmp_path, text), {"names.txt": "\n".join(sorted(set(LEAVES)))})
    c = catalogue_of(root, tmp_path / "out", lists={"classes": "names.txt"})
    assert labels_of(c)["4.jpg"] == ["healthy rust scab"]
