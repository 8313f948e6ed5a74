"""Tests whose images and labels are apart: a folder without a list, a list beside class folders."""

from __future__ import annotations

from pathlib import Path

from smelt.data.formats.config import FormatSettings
from smelt.data.formats.tree.fingerprint import fingerprint
from test_lists import FILES, catalogue_of, put, rows_of, told

TRAINING = [f"train/{name}/{file}" for name in ("cat", "dog") for file in FILES]
TEST = [f"test/{file}" for file in FILES[:4]]


def labels_of(tmp_path: Path, text: str, images: list[str] = TEST) -> list[int]:
    root = put(tmp_path / "d", {"test.csv": text}, [*TRAINING, *images])
    return [label for _, label in rows_of(catalogue_of(root, tmp_path / "o"), "test")]


def test_a_list_beside_class_folders_labels_the_test(tmp_path: Path) -> None:
    text = "file,label\n" + "".join(
        f"{name},{'dog' if i % 2 else 'cat'}\n" for i, name in enumerate(FILES[:4])
    )
    assert labels_of(tmp_path, text) == [0, 1, 0, 1]
    root = tmp_path / "d"
    before = fingerprint(FormatSettings(), root)
    (root / "test.csv").write_text(text.replace("cat", "xxx").replace("dog", "cat").replace("xxx", "dog"))
    assert fingerprint(FormatSettings(), root) != before  # same size, other labels


def test_labels_that_are_no_class_folders_are_told(tmp_path: Path) -> None:
    text = "file,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(FILES[:4]))
    assert labels_of(tmp_path, text) == [-1] * 4
    assert "may hold the labels of the test, and" in told(tmp_path / "o") and "test.csv:2: '0'" in told(
        tmp_path / "o"
    )


def test_one_class_for_all_is_a_stand_in(tmp_path: Path) -> None:
    images = [f"test/{i:04}.jpg" for i in range(12)]
    text = "file,label\n" + "".join(f"{i:04}.jpg,cat\n" for i in range(12))
    assert set(labels_of(tmp_path, text, images)) == {-1}
    assert "stands in for a label" in told(tmp_path / "o")


def test_a_test_folder_without_a_list_is_a_test_without_labels(tmp_path: Path) -> None:
    text = "file_name,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(FILES))
    root = put(tmp_path / "d", {"train/metadata.csv": text}, [*(f"train/{name}" for name in FILES), *TEST])
    before = fingerprint(FormatSettings(format="csv"), root)
    assert rows_of(catalogue_of(root, tmp_path / "o"), "test") == [(path, -1) for path in TEST]
    (root / "test/9999.jpg").write_bytes(b"new")
    assert fingerprint(FormatSettings(format="csv"), root) != before
    chosen = catalogue_of(root, tmp_path / "n", format="csv", lists={"train": "train/metadata.csv"})
    assert not rows_of(chosen, "test")
