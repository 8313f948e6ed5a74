"""Stage `submit`: the challenge's submission from the chosen fusion.

Ports: catalogue, fuse. Writes `predictions.txt` and `submission.zip`, which holds it.
"""

from __future__ import annotations

from smelt.artifacts.catalogue import Catalogue
from smelt.errors import ArtifactError, DataError
from smelt.files.arrays import map_array
from smelt.files.atomic import write_bytes
from smelt.fusion.config import SubmitSettings
from smelt.fusion.submission import NAME, packed, predictions
from smelt.stages.context import Context


def run(context: Context[SubmitSettings]) -> None:
    """Write both files; DataError where the data set has no such images."""

    split = context.settings.split
    catalogue = Catalogue.open(context.catalogue)
    rows = catalogue.rows(split)
    if not len(rows):
        raise DataError(f"the data set has no {split} images to predict: set `submit: null`")
    path = context.one("fuse") / split / "top5.npy"
    if not path.exists():
        raise ArtifactError(f"{path} is not there: predict the split {split!r} (predict.splits)")
    lists = map_array(path)
    if len(lists) != len(rows):
        raise ArtifactError(f"{path} holds {len(lists)} lists for {len(rows)} images")
    text = predictions([catalogue.path(int(row)) for row in rows], lists)
    write_bytes(context.out / NAME, text.encode())
    write_bytes(context.out / "submission.zip", packed(text))
