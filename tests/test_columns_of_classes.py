"""Columns that are classes: how people write yes and no, and what may stand beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from test_lists import FILES, catalogue_of, named, put, refused, told

CLASSES = ("cat", "dog", "fox")
WANTED = dict(zip(FILES, CLASSES * 2))


def hot(on: str, off: str, beside: str = "", cells: str = "") -> str:
    lines = [",".join(["filename", *([beside] if beside else []), *CLASSES])]
    for name, label in WANTED.items():
        own = [on if label == other else off for other in CLASSES]
        lines.append(",".join([name, *([cells] if cells else []), *own]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "on, off",
    [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("yes", "no"), ("1", "-1"), ("x", ""), ("1", "")],
)
def test_yes_and_no_as_people_write_them(tmp_path: Path, on: str, off: str) -> None:
    root = put(tmp_path / "d", {"train.csv": hot(on, off)})
    if (on, off) == ("1", ""):  # nothing there says no
        assert "known as the label" in refused(root, tmp_path / "o")
        return
    assert named(catalogue_of(root, tmp_path / "o")) == WANTED


@pytest.mark.parametrize("on, off", [("1", "0"), ("True", "False")])
def test_classes_beside_other_columns(tmp_path: Path, on: str, off: str) -> None:
    root = put(tmp_path / "d", {"train.csv": hot(on, off, "age,sex", "20,M")})
    assert named(catalogue_of(root, tmp_path / "o")) == WANTED
    assert "'age', 'sex' says nothing that is used" in told(tmp_path / "o")


def test_recognised_in_the_folder_of_a_split(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"train/_classes.csv": hot("True", "False")}, [f"train/{n}" for n in FILES])
    assert set(named(catalogue_of(root, tmp_path / "o")).values()) == set(CLASSES)


def test_two_columns_are_no_classes_where_words_may_be_the_label(tmp_path: Path) -> None:
    lines = [f"{name},{'ab'[i % 2]},{i % 2},{1 - i % 2}" for i, name in enumerate(FILES)]
    root = put(tmp_path / "d", {"train.csv": "filename,kin,male,female\n" + "\n".join(lines) + "\n"})
    assert "data.columns.label=kin" in refused(root, tmp_path / "o")


def test_several_of_one_and_minus_one_are_several_labels(tmp_path: Path) -> None:
    text = "filename,a,b,c\n" + "".join(f"{name},1,{'1' if i else '-1'},-1\n" for i, name in enumerate(FILES))
    root = put(tmp_path / "d", {"train.csv": text})
    assert "data.multi_label=first" in refused(root, tmp_path / "o")


def test_minus_one_beside_zero_is_no_no(tmp_path: Path) -> None:
    rows = "".join(f"x{i}.jpg,{i % 2},{1 - i % 2}\n" for i in range(200)) + "0000.jpg,1,-1\n"
    root = put(tmp_path / "d", {"train.csv": "filename,a,b\n" + rows})
    assert "'-1' in column 'b' is not 0 or 1" in refused(root, tmp_path / "o", check_files=False)


def test_columns_of_classes_can_be_named(tmp_path: Path) -> None:
    text = hot("1", "0", "age,sex", "20,M").replace("20,M,1,0,0", "20,M,0,0,0")  # rows of no class
    root = put(tmp_path / "d", {"train.csv": text})
    said = refused(root, tmp_path / "o")
    assert "-o 'data.columns.label=cat,dog,fox' takes them for classes" in said
    found = named(catalogue_of(root, tmp_path / "n", columns={"label": "cat,dog,fox"}))
    assert found == {name: label for name, label in WANTED.items() if label != "cat"}
