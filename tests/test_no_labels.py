"""Words that say that an image has no label, and labels that are numbers of an odd kind."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.classes import found_in
from smelt.data.formats.labels.nolabels import option
from smelt.data.formats.tree.names import alike
from test_lists import FILES, catalogue_of, put, refused, table, told

NAMES = ["cat", "dog", "cat", "dog"]


@pytest.mark.parametrize("word", ["?", "-", "\\N", "[]", "-1", "-1.0"])
def test_never_a_name(tmp_path: Path, word: str) -> None:
    root = put(tmp_path / "d", {"images.csv": table(labels=[*NAMES, word, word])})
    assert list(catalogue_of(root, tmp_path / "o").classes) == ["cat", "dog"]
    assert f"{word!r} (2 rows) is taken to say that there is no label" in told(tmp_path / "o")
    kept = catalogue_of(root, tmp_path / "k", unlabelled="keep")
    assert kept.labels_N.tolist().count(-1) == 2


@pytest.mark.parametrize("word", ["unknown", "not labeled", "TODO", "null", "N/A", "it's unclear", "a: b"])
def test_the_option_says_what_the_cell_says(tmp_path: Path, word: str) -> None:
    given = shlex.split(option([word.encode()]))[1].partition("=")[2]
    assert yaml.safe_load(given) == [word]
    root = put(tmp_path / "d", {"images.csv": table(labels=[*NAMES, word, "dog"])})
    assert word in catalogue_of(root, tmp_path / "o").classes
    without = catalogue_of(root, tmp_path / "n", no_label=yaml.safe_load(given))
    assert list(without.classes) == ["cat", "dog"] and without.num_rows == 5


def test_words_that_may_be_names_are_warned_of(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"images.csv": table(labels=[*NAMES, "skip", "Unknown"])})
    catalogue_of(root, tmp_path / "o")
    assert "-o 'data.no_label=[skip, Unknown]' takes it for no label" in told(tmp_path / "o")


def test_one_word_alone_and_numbers_are_words() -> None:
    assert FormatSettings(format="csv", no_label="255").no_label == ("255",)  # type: ignore[arg-type]
    assert FormatSettings(format="csv", no_label=[255, "x"]).no_label == ("255", "x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="in quotes"):
        FormatSettings(format="csv", no_label=[None])  # type: ignore[arg-type]


def test_minus_one_and_one_are_two_classes() -> None:
    found = found_in([b"-1", b"1", b""], Report())
    assert found.names == [b"-1", b"1"] and [found.label(word) for word in (b"-1", b"1", b"")] == [0, 1, -1]
    assert found_in([b"-1", b"1.0"], Report()).label(b"1.0") == 1
    assert found_in([b"-1", b"0", b"1"], Report()).label(b"-1") == -1
    assert not alike(["-1", "1"]) and alike(["cat-1", "cat1"])


@pytest.mark.parametrize("odd", ["1.5", "1e5", '"1,000"', "01", "-2"])
def test_numbers_that_are_no_labels_are_names_where_that_is_said(tmp_path: Path, odd: str) -> None:
    root = put(tmp_path / "d", {"images.csv": table(labels=["0", "1", "2", "0", "1", odd])})
    assert "-o data.label_is=name takes every label" in refused(root, tmp_path / "o")
    assert odd.strip('"') in catalogue_of(root, tmp_path / "n", label_is="name").classes


def test_words_of_splits_are_known_or_can_be_said(tmp_path: Path) -> None:
    text = "path,label,split\n" + "".join(
        f"{name},{i % 2},{split}\n"
        for i, (name, split) in enumerate(zip(FILES, [*["train"] * 4, "%s", "%s"]))
    )
    root = put(tmp_path / "d", {"images.csv": text.replace("%s", "Holdout")})
    assert len(catalogue_of(root, tmp_path / "o").rows("test")) == 2
    (root / "images.csv").write_text(text.replace("%s", "Late: 2"))
    said = refused(root, tmp_path / "r")
    assert "dev, eval" in said
    option = shlex.split(said[said.index("-o 'data.split") :])[1].partition("=")[2]
    assert len(catalogue_of(root, tmp_path / "n", split_words=yaml.safe_load(option)).rows("test")) == 2
