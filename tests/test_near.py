"""Files that are called nearly as a list says are found where each is found once; else they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from smelt.data.formats.tree import named
from smelt.data.formats.tree.census import Walk
from test_lists import catalogue_of, put, refused, told

CASES = {
    "zeros": (["0", "1", "12"], ["train/00000.jpg", "train/00001.jpg", "train/00012.jpg"]),
    "zeros with a suffix": (["images/0.jpg", "images/7.jpg"], ["images/0000.jpg", "images/0007.jpg"]),
    "float": (["1.0", "12.0"], ["train/1.jpg", "train/12.jpg"]),
    "number": (["1", "12"], ["train/Img-1.jpg", "train/Img-12.jpg"]),
    "case": (["IMG_0", "IMG_1"], ["train/img_0.jpg", "train/img_1.jpg"]),
    "suffix": (["a0.jpg", "a1.jpg"], ["train/a0.png", "train/a1.png"]),
    "query": (["i/0.jpg?w=200", "i/1.jpg?w=200"], ["i/0.jpg", "i/1.jpg"]),
    "quotes": (["'i/0.jpg'", "'i/1.jpg'"], ["i/0.jpg", "i/1.jpg"]),
}


@pytest.mark.parametrize("case", CASES)
def test_each_is_found_once(tmp_path: Path, case: str) -> None:
    listed, files = CASES[case]
    text = "id,label\n" + "".join(f"{path},{i % 2}\n" for i, path in enumerate(listed))
    root = put(tmp_path / "d", {"labels.csv": text}, files)
    found = catalogue_of(root, tmp_path / "o")
    assert [found.path(row) for row in range(found.num_rows)] == files
    assert "is read as" in told(tmp_path / "o") and "the only file" in told(tmp_path / "o")


@pytest.mark.parametrize(
    "listed, files",
    [
        (["1", "2"], ["a/x1.jpg", "b/x1.jpg", "a/x2.jpg", "b/x2.jpg"]),  # twice
        (["1", "2", "4"], ["a/x1.jpg", "a/x2.jpg", "a/x3.jpg"]),  # by number all have to be there
        (["0001", "01"], ["a/x1.jpg", "a/x2.jpg"]),  # two that would be one
    ],
)
def test_what_may_be_another_is_not_taken(tmp_path: Path, listed: list[str], files: list[str]) -> None:
    text = "id,label\n" + "".join(f"{path},{i % 2}\n" for i, path in enumerate(listed))
    said = refused(put(tmp_path / "d", {"labels.csv": text}, files), tmp_path / "o", format="csv")
    assert "and a/ has x1.jpg" in said and "-o data.prefix=a/ and -o data.suffix=.jpg" in said


def test_the_folder_that_a_list_names_tells_files_of_one_name_apart(tmp_path: Path) -> None:
    files = [f"{top}/{folder}/{i:04d}.jpg" for top in ("x", "y") for folder in ("Cat", "dog") for i in (1, 2)]
    put(tmp_path, {}, files)
    found = named.Near(bytes(tmp_path), "all")
    found.way = 1
    assert found.find(b"x/cat/1.jpg") == b"x/Cat/0001.jpg"
    assert found.find(b"Cat/1.jpg") == b"Cat/1.jpg"  # in two folders
    assert found.find(b"at/1.jpg") == b"at/1.jpg"  # the end of a name is no folder
    assert found.find(b"/x/cat/1.jpg") == b"/x/cat/1.jpg"


def test_a_tree_without_images_is_walked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []

    def counted(root: Path) -> Walk:
        walks.append(root)
        return Walk(root)

    monkeypatch.setattr(named, "Walk", counted)
    put(tmp_path, {"a/b/c.txt": "x"}, [])
    anywhere = named.Anywhere(bytes(tmp_path))
    assert [anywhere.find(name) for name in (b"a.jpg", b"b.jpg")] == [b"a.jpg", b"b.jpg"]
    assert len(walks) == 1
