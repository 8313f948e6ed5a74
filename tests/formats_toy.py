"""What the tests of formats share: small data sets, and the catalogue that is made of them."""

from __future__ import annotations

import io
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
