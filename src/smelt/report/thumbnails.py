"""Small pictures for the galleries, as data URLs. Whatever cannot be shown is left out, never an error.

Crawled files are hostile: only plain image formats are opened, sizes are looked at before pixels are, and no
path leaves the root.
"""

from __future__ import annotations

import base64
import io
import os
import warnings
from pathlib import Path

import numpy as np

from smelt.artifacts.catalogue import Catalogue, Location

SIDE = 96
MAX_PIXELS = 60_000_000
MAX_BYTES = 64 << 20
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def thumbnail(catalogue: Catalogue, root: Path | None, row: int) -> str | None:
    """`data:image/jpeg;base64,…` of the image of `row`, or None."""
    from PIL import Image

    location = catalogue.location(row)
    data = _bytes(catalogue, root, location)
    if data is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if location.raw_shape:
                image = Image.fromarray(np.frombuffer(data, np.uint8).reshape(location.raw_shape))
            else:
                image = Image.open(io.BytesIO(data), formats=FORMATS)
                if image.width * image.height > MAX_PIXELS:
                    return None
                image.draft("RGB", (2 * SIDE, 2 * SIDE))
            small = image.convert("RGB")
            small.thumbnail((2 * SIDE, 2 * SIDE))
            out = io.BytesIO()
            small.save(out, "JPEG", quality=80)
    except Exception:
        # a decoder may raise anything on bytes made to break it; the page shows "no image"
        return None
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _bytes(catalogue: Catalogue, root: Path | None, location: Location) -> bytes | None:
    folder = catalogue.folder if location.inside else root
    if folder is None:
        return None
    name = location.shard if location.shard is not None else location.path
    path = Path(os.path.realpath(folder / os.fsdecode(name)))
    if not path.is_relative_to(os.path.realpath(folder)):
        return None
    try:
        with open(path, "rb") as file:
            if location.shard is None:
                return file.read(MAX_BYTES)
            file.seek(location.offset)
            return file.read(min(location.size, MAX_BYTES))
    except OSError:
        return None
