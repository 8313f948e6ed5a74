"""Small pictures for the galleries, as data URLs, made from the pixels that a model is shown.

Read and decoded by the loader's own `ImageStore` and `decode`: upright, on white, within the same limits.
What a model could not be shown has no picture either. Where the machine keeps an image from being read the
report stops (StorageError): a page that says "no image" would say something of the image.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from smelt.artifacts.catalogue import Catalogue
from smelt.data.images.decode import decode
from smelt.data.images.store import ImageStore
from smelt.errors import DataError
from smelt.files.opening import patiently

SIDE = 96


def thumbnail(catalogue: Catalogue, root: Path | None, row: int) -> str | None:
    """`data:image/jpeg;base64,…` of the image of `row`, or None where it has no pixels to show."""
    store = ImageStore(catalogue, root)
    try:
        small = patiently(lambda: _small(store, row), lambda: store.name(row))
    except DataError:  # a bad image, or the images are no longer where they were
        return None
    return "data:image/jpeg;base64," + base64.b64encode(small).decode()


def _small(store: ImageStore, row: int) -> bytes:
    """The image of `row` as a JPEG of at most 2 SIDE pixels a side."""
    data = store.read(row)
    image = Image.fromarray(decode(data) if isinstance(data, bytes) else data)
    image.thumbnail((2 * SIDE, 2 * SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()
