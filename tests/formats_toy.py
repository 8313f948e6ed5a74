"""What the tests of formats share: small data sets, and the catalogue that is made of them."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from smelt.artifacts.catalogue import Catalogue
from smelt.data.formats.config import FormatSettings
from smelt.errors import DataError
from smelt.stages.index import index

PIXEL = b"\xff\xd8 not decoded when indexed"


def catalogue_of(root: Path, out: Path, **fields: Any) -> Catalogue:
    index(FormatSettings.model_validate(fields), root, out)
    return Catalogue.open(out / "catalogue")


def put(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def tar(path: Path, members: dict[str, bytes], *, form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def rows_of(c: Catalogue, split: str) -> list[tuple[str, int]]:
    return [(c.path(row), int(c.labels_N[row])) for row in c.rows(split).tolist()]


def read_back(c: Catalogue, root: Path, row: int) -> bytes:
    place = c.location(row)
    if place.shard is None:
        return (root / place.path).read_bytes()
    with open(root / place.shard, "rb") as file:
        return os.pread(file.fileno(), place.size, place.offset)


def refused(root: Path, out: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as error:
        catalogue_of(root, out, **fields)
    assert not (out / "index.json").exists()
    return str(error.value)


def webvision(root: Path, version: int, *, images: bool = True) -> tuple[Path, dict[str, bytes]]:
    """Lists, JSON and images of a small WebVision; returns the images by path as well."""
    digits, train, end = (4, ("google", "flickr"), "256") if version == 1 else (
        5, ("google_images_resized", "flickr_images_resized"), "resized"
    )  # fmt: skip
    q1, q2 = f"q{1:0{digits}d}", f"q{2:0{digits}d}"
    google = [(f"{train[0]}/{q1}/-aB_1.jpg", 0), (f"{train[0]}/{q2}/x.jpg", 1), (f"{train[0]}/{q1}/x.jpg", 0)]
    flickr = [(f"{train[1]}/{q2}/123.jpg", 1)]
    info = {
        "info/train_filelist_google.txt": "".join(f"{p} {y}\n" for p, y in google),
        "info/train_filelist_flickr.txt": "".join(f"{p} {y}\n" for p, y in flickr),
        "info/train_meta_list_google.txt": f"google/{q1}.json 1\ngoogle/{q2}.json 1\ngoogle/{q1}.json 2\n",
        "info/train_meta_list_flickr.txt": f"flickr/{q2}.json 2\n",
        "info/synsets.txt": "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n",
        "info/queries_google.txt": "1 tench\n2 gold fish\n",
        "info/queries_flickr.txt": "1 tench\n2 goldfish pet\n",
        f"google/{q1}.json": json.dumps([
            {"id": "-aB_1", "title": "A <b>tench</b>", "description": "d", "rank": "7", "url": "u"},
            {"id": "x"},
        ]),
        f"google/{q2}.json": json.dumps([{"title": None, "rank": "many", "description": "é 😀"}]),
        f"flickr/{q2}.json": json.dumps([{"tags": "a string"}, {"tags": ["two", "tags"], "title": 5}]),
    }  # fmt: skip
    where = "info/" if version == 1 else ""
    info[f"{where}val_filelist.txt"] = "val000001.jpg 1\nval000002.jpg 0\n"
    info[f"{where}test_filelist.txt"] = "test000001.jpg\n"
    listed = [p for p, _ in google + flickr]
    listed += [f"val_images_{end}/val00000{i}.jpg" for i in (1, 2)] + [f"test_images_{end}/test000001.jpg"]
    pictures = {path: PIXEL + path.encode() for path in listed}
    put(root, {**info, **(pictures if images else {})})
    return root, pictures


def told(out: Path) -> str:
    """Notes and warnings of an index."""
    summary = json.loads((out / "index.json").read_text())
    return "\n".join([*summary["notes"], *summary["warnings"]])
