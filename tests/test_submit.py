"""The submission: exactly the form that the challenge's readers take, and the same bytes every time."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.errors import ArtifactError, DataError
from smelt.fusion.scores.scorefiles import read_file
from smelt.fusion.submission import packed, predictions
from smelt.stages.context import run as run_stage


def read_lists(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    (raw,) = read_file(path)
    assert raw.ids is not None and raw.lists_NK is not None
    return raw.ids, raw.lists_NK


def catalogue(folder: Path, test: int = 3) -> Path:
    with CatalogueWriter(folder / "catalogue") as writer:
        writer.classes = [f"c{index}" for index in range(9)]
        for split, count in (("val", 2), ("test", test)):
            paths = Paths.of(f"{split}_images/{split}{n:06}.jpg".encode() for n in range(1, count + 1))
            writer.add(Block(split, "web", paths, np.full(count, -1, np.int32)))
        writer.finish()
    return folder


def fused(folder: Path, lists: np.ndarray) -> Path:
    (folder / "test").mkdir(parents=True)
    np.save(folder / "test" / "top5.npy", lists)
    return folder


def submit(tmp_path: Path, lists: np.ndarray, name: str = "out", test: int = 3) -> Path:
    out = tmp_path / name
    out.mkdir()
    inputs = {
        "catalogue": [catalogue(tmp_path / f"{name}-index", test)],
        "fuse": [fused(tmp_path / f"{name}-fuse", lists)],
    }
    run_stage("submit", {}, inputs=inputs, out=out, scratch=out / "scratch")
    return out


LISTS = np.array([[1, 2, 3, 4, 5], [8, 0, 1, 2, 3], [0, 1, 2, 3, 4]])


def test_the_form(tmp_path: Path) -> None:
    out = submit(tmp_path, LISTS)
    text = (out / "predictions.txt").read_bytes().decode()
    assert text.splitlines()[0] == "test000001.jpg\t1   2   3   4   5"
    assert text.splitlines()[1].split() == ["test000002.jpg", "8", "0", "1", "2", "3"] and text.endswith(
        "4\n"
    )
    with zipfile.ZipFile(out / "submission.zip") as archive:
        assert archive.namelist() == ["predictions.txt"] and archive.read("predictions.txt").decode() == text
        assert archive.testzip() is None
    assert np.array_equal(read_lists(out / "predictions.txt")[1], LISTS)


def test_equal_bytes(tmp_path: Path) -> None:
    one, two = submit(tmp_path, LISTS, "one"), submit(tmp_path, LISTS, "two")
    for name in ("predictions.txt", "submission.zip"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed("x"))) as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


def test_names(tmp_path: Path) -> None:
    assert predictions(["a/x.jpg", "b/y.jpg"], [[1], [2]]) == "x.jpg\t1\ny.jpg\t2\n"
    assert predictions(["a/x.jpg", "b/x.jpg"], [[1], [2]]) == "a/x.jpg\t1\nb/x.jpg\t2\n"
    with pytest.raises(DataError, match="white space"):
        predictions(["a b.jpg"], [[1]])


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="2 lists for 3 images"):
        submit(tmp_path, LISTS[:2], "short")
    with pytest.raises(DataError, match="no test images"):
        submit(tmp_path, LISTS[:0], "none", test=0)
