"""Where lists lie and what stands in their place; classes that look the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from smelt.data.formats.tree.names import alike, told
from test_lists import FILES, LABELS, catalogue_of, named, put, refused, rows_of, table

WITHIN = [f"images/{name}" for name in FILES]


def test_lists_in_a_folder_of_lists(tmp_path: Path) -> None:
    lists = {
        "lists/train.csv": table(paths=[f"../{name}" for name in WITHIN[:4]], labels=LABELS[:4]),
        "lists/test.csv": table(paths=[f"../{name}" for name in WITHIN[4:]], labels=LABELS[1:3]),
    }
    found = catalogue_of(put(tmp_path / "d", lists, WITHIN), tmp_path / "o")
    assert [path for path, _ in rows_of(found, "test")] == WITHIN[4:]


def test_folders_of_classes_go_before_a_folder_of_lists(tmp_path: Path) -> None:
    images = [f"{folder}/{name}" for folder in ("cat", "dog") for name in FILES]
    lists = {"lists/train.csv": table(paths=images[:6])}
    assert catalogue_of(put(tmp_path / "d", lists, images), tmp_path / "o").classes == ("cat", "dog")


@pytest.mark.parametrize(
    "content, said",
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        ("<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "is a page of the web"),
        (b"PK\3\4\0\0\0\0", "save the sheet as CSV"),
    ],
)
def test_what_stands_in_the_place_of_a_list(tmp_path: Path, content: str | bytes, said: str) -> None:
    root = put(tmp_path / "d", {"images.csv": content})
    assert said in refused(root, tmp_path / "o", format="csv")


def test_spreadsheets_and_pipes_are_told(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"labels.xlsx": b"PK\3\4"})
    assert "-o data.lists.all=labels.csv" in refused(root, tmp_path / "o", format="csv")
    os.mkfifo(root / "pipe")
    assert "is a pipe" in refused(root, tmp_path / "p", format="csv", lists={"all": "pipe"})


def test_json_of_classes_and_their_files(tmp_path: Path) -> None:
    wanted = dict(zip(FILES, LABELS))
    content = {label: [name for name in FILES if wanted[name] == label] for label in LABELS[:3]}
    content["fox"].pop()  # columns may be of any length
    found = named(catalogue_of(put(tmp_path / "d", {"images.json": json.dumps(content)}), tmp_path / "o"))
    assert found == {name: label for name, label in wanted.items() if name != FILES[5]}


@pytest.mark.parametrize(
    "names",
    [("'cat'", "cat"), ("cat.", "cat"), ("\u0441at", "cat"), ("\u0130stanbul", "istanbul"), ("a_b", "A b")],
)
def test_names_that_look_the_same(names: tuple[str, str]) -> None:
    assert alike([*names, "dog"]) == [list(names)]


def test_names_that_only_nearly_look_the_same() -> None:
    assert alike(["c++", "c#", "c", "-1", "1", "1.5", "15", "\u00e9t\u00e9", "ete"]) == []
    assert told("\u0441at") == "'\\u0441at'" and told("\u0441\u043e\u043c") == "'\u0441\u043e\u043c'"
