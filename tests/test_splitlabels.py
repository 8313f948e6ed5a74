"""Labels of validation and test beside those of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from formats_toy import PIXEL, catalogue_of, put, refused, told

THREE = ["cat", "dog", "fox"]
NUMBERS = ["0", "1", "2"]


def root_of(tmp_path: Path, train: list[str], other: list[str], split: str = "test") -> Path:
    files = {}
    for name, words in (("train", train * 4), (split, other)):
        rows = [f"{name}/{n}.jpg,{word}" for n, word in enumerate(words)]
        files[f"{name}.csv"] = "path,label\n" + "\n".join(rows) + "\n"
        files |= {f"{name}/{n}.jpg": PIXEL for n in range(len(words))}
    return put(tmp_path / "d", files)


@pytest.mark.parametrize("word", ["?", "unknown", "0", "-1", "none", "cat", "whatever", ""])
@pytest.mark.parametrize("train", [THREE, NUMBERS])
def test_one_word_for_a_whole_test_is_no_label(tmp_path: Path, word: str, train: list[str]) -> None:
    c = catalogue_of(root_of(tmp_path, train, [word] * 12), tmp_path / "out")
    assert c.classes == tuple(train)
    assert {int(c.labels_N[row]) for row in c.rows("test")} == {-1}
    assert not word or "label" in told(tmp_path / "out")


def test_labels_of_a_test_as_given_and_as_none(tmp_path: Path) -> None:
    root = root_of(tmp_path, THREE, ["cat"] * 12)
    given = catalogue_of(root, tmp_path / "given", test_labels="given")
    assert {int(given.labels_N[row]) for row in given.rows("test")} == {0}
    few = catalogue_of(root_of(tmp_path / "few", THREE, ["cat"] * 3), tmp_path / "o")
    assert {int(few.labels_N[row]) for row in few.rows("test")} == {0}
    none = catalogue_of(root_of(tmp_path / "none", THREE, ["wolf", "ox"]), tmp_path / "n", test_labels="none")
    assert none.classes == tuple(THREE) and {int(none.labels_N[row]) for row in none.rows("test")} == {-1}


def test_one_word_for_a_whole_validation_is_refused(tmp_path: Path) -> None:
    said = refused(root_of(tmp_path, THREE, ["?"] * 6, "val"), tmp_path / "o")
    assert "val.csv:2: label '?' of validation is none of training: it stands for no label" in said


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize(
    ("train", "other", "said"),
    [(THREE, NUMBERS * 2, "has numbers where the other has names: -o data.lists.classes=FILE"),
     (NUMBERS, THREE * 2, "training has numbers where the other has names"),
     (THREE, ["Cat", "Dog", "Fox"] * 2, "they differ in case"),
     (THREE, ["ox", "hen"] * 2, "nothing that is learnt is right there"),
     (NUMBERS, ["1", "2", "3"] * 2, "count from 0 and the other from 1")],
)  # fmt: skip
def test_other_labels_than_those_of_training_are_refused(
    tmp_path: Path, split: str, train: list[str], other: list[str], said: str
) -> None:
    text = refused(root_of(tmp_path, train, other, split), tmp_path / "o")
    assert f"{split}.csv:" in text and said in text


def test_numbers_and_names_are_joined_by_a_list_of_classes(tmp_path: Path) -> None:
    root = put(root_of(tmp_path, THREE, NUMBERS * 2, "val"), {"names.txt": "cat\ndog\nfox\n"})
    lists = {"train": "train.csv", "val": "val.csv", "classes": "names.txt"}
    c = catalogue_of(root, tmp_path / "out", lists=lists)
    assert [int(c.labels_N[row]) for row in c.rows("val")] == [0, 1, 2] * 2


@pytest.mark.parametrize("split", ["val", "test"])
def test_further_classes_are_told_with_their_line(tmp_path: Path, split: str) -> None:
    catalogue_of(root_of(tmp_path, THREE, ["cat", "wolf", "wolf"], split), tmp_path / "out")
    assert f"{split}.csv:3: label 'wolf': 2 image(s)" in told(tmp_path / "out")


def test_the_splits_of_one_list_are_compared_as_well(tmp_path: Path) -> None:
    rows = [f"{n}.jpg,{THREE[n % 3] if n < 9 else '?'},{'train' if n < 9 else 'test'}" for n in range(21)]
    files = {"images.csv": "path,label,split\n" + "\n".join(rows) + "\n"}
    root = put(tmp_path / "d", files | {f"{n}.jpg": PIXEL for n in range(21)})
    c = catalogue_of(root, tmp_path / "out")
    assert c.classes == tuple(THREE) and len(c.rows("test")) == 12
    assert "images.csv:11" in told(tmp_path / "out")


def test_an_example_of_a_submission_names_the_test(tmp_path: Path) -> None:
    train = "id,label\n" + "".join(f"{n},{THREE[n % 3]}\n" for n in range(9))
    test = "id,label\n" + "".join(f"{n},cat\n" for n in range(5))
    files = {"train.csv": train, "sample_submission.csv": test}
    files |= {f"train/{n}.jpg": PIXEL for n in range(9)} | {f"test/{n}.jpg": PIXEL for n in range(5)}
    c = catalogue_of(put(tmp_path / "d", files), tmp_path / "out", val_fraction=0.0)
    assert len(c.rows("train")) == 9 and {int(c.labels_N[row]) for row in c.rows("test")} == {-1}
