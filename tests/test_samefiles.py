"""One file under several names is told when the data set is indexed: in two splits, or under two labels."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from formats_toy import catalogue_of, put

JPEG = b"\xff\xd8\xff"


def tree(root: Path) -> Path:
    """Two classes, with training and validation."""
    return put(
        root,
        {f"{s}/{c}/{i}.jpg": JPEG + bytes([i]) for s in ("train", "val") for c in "ab" for i in range(3)},
    )


def told(out: Path) -> tuple[str, str]:
    found = json.loads((out / "index.json").read_text())
    return "\n".join(found["warnings"]), "\n".join(found["notes"])


@pytest.mark.parametrize("link", [os.link, lambda a, b: os.symlink(os.path.relpath(a, b.parent), b)])
def test_one_file_in_two_splits_or_classes(tmp_path: Path, link: Any) -> None:
    root = tree(tmp_path / "d")
    catalogue_of(root, tmp_path / "o0")
    assert "several names" not in "".join(told(tmp_path / "o0"))  # equal bytes are no equal files
    link(root / "train/a/0.jpg", root / "val/a/leak.jpg")
    link(root / "train/a/1.jpg", root / "train/b/twice.jpg")
    link(root / "train/a/2.jpg", root / "train/a/again.jpg")
    catalogue_of(root, tmp_path / "o")
    warnings, notes = told(tmp_path / "o")
    assert "1 image(s) are in two splits" in warnings and "1 image(s) have two labels" in warnings
    assert "train/a/0.jpg (train, a) is val/a/leak.jpg (val, a)" in warnings
    assert "train/a/1.jpg (train, a) is train/b/twice.jpg (train, b)" in warnings
    assert "1 image(s) are there by several names of one file" in notes


def test_two_links_to_one_folder(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {f"{c}/{i}.jpg": JPEG for c in "ab" for i in range(3)})
    put(root, {"data.csv": ""})
    os.symlink("a", root / "more")
    rows = [f"a/{i}.jpg,x,train\nmore/{i}.jpg,x,val\nb/{i}.jpg,y,train" for i in range(3)]
    put(root, {"data.csv": "\n".join(["path,label,split", *rows])})
    catalogue_of(root, tmp_path / "o", format="csv", lists={"all": "data.csv"})
    assert "3 image(s) are in two splits" in told(tmp_path / "o")[0]


def test_a_list_that_is_reached_by_a_link_is_read_and_not_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{i}.jpg,{'ab'[i % 2]}\n" for i in range(6))
    put(tmp_path, {"lists/real.csv": "path,label\n" + rows, **{f"d/{i}.jpg": JPEG for i in range(6)}})
    root = tmp_path / "d"
    os.symlink("../lists/real.csv", root / "images.csv")
    catalogue_of(root, tmp_path / "o", format="csv")
    files = json.loads((tmp_path / "o" / "index.json").read_text())["files"]
    assert files["read"] == 1 and files["images"] == 6 and files["found"] == 7 and not files["left_out"]
