"""Weights that a recipe takes from elsewhere: found, counted by content, and refused with what was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from smelt.errors import RecipeError
from smelt.recipe.borrowed import borrowed


def test_a_file_counts_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in (("a.pth", b"one"), ("b.pth", b"one"), ("c.pth", b"two")):
        (tmp_path / name).write_bytes(content)
    (a, one), (b, same), (_, two) = (borrowed(str(tmp_path / f"{n}.pth"), "x") for n in "abc")
    assert one == same != two and a != b
    monkeypatch.chdir(tmp_path)
    assert borrowed("a.pth", "x") == (str(tmp_path / "a.pth"), one)


def test_a_trained_model_counts_by_its_content(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    place, known = borrowed(str(tmp_path / "one"), "x")
    assert place == str(tmp_path / "one") and borrowed(str(tmp_path / "two"), "x")[1] == known
    (tmp_path / "one" / "note.txt").write_text("says nothing")
    assert borrowed(str(tmp_path / "one"), "x") == (place, known)
    (tmp_path / "one" / "model.safetensors").write_bytes(b"others")
    assert borrowed(str(tmp_path / "one"), "x")[1] != known


def test_a_name_of_timms_counts_by_itself() -> None:
    assert borrowed("resnet50.a1_in1k", "x") == ("resnet50.a1_in1k", "timm resnet50.a1_in1k")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("none/such.pth", "x.weights: none/such.pth: there is no such file"),
        ("resnet5O", "x.weights: resnet5O is no file, no model of another run"),
        (".", "x.weights: . is a folder, and no model that smelt trained"),
        (".:raw/m-0", "x.weights: . is not a work folder"),
        ("gone:raw/m-0", "there is no folder gone"),
    ],
)
def test_what_is_not_there(given: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as error:
        borrowed(given, "x.weights")
    assert words in str(error.value)
