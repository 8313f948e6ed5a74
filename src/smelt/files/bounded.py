"""Memory that the size of a file answers for: what files from elsewhere may ask for, and no more.

Dictionaries, runs of equal values and compression let a megabyte ask for any number of rows. A file may
always ask for ALWAYS bytes, and for RATIO times its own size beyond that: lists and scores that say something
take a tenth of it at most.
"""

from __future__ import annotations

import os
from pathlib import Path

from smelt.errors import OutOfProportionError

ALWAYS = 1 << 28
RATIO = 200


def allowed(path: Path) -> int:
    """Bytes of memory that the file at `path` may ask for; what is a hole in a sparse file counts nothing."""
    status = os.stat(path)
    return max(ALWAYS, RATIO * min(status.st_size, getattr(status, "st_blocks", 1 << 50) * 512))


def refuse_beyond(path: Path, needed: int, what: str) -> None:
    """OutOfProportionError where `needed` bytes are more than `path` may ask for; `what` asks for them."""
    if needed > (limit := allowed(path)):
        raise OutOfProportionError(
            f"{path}: {what} would take {needed >> 20:,} MiB of memory, and a file of "
            f"{path.stat().st_size:,} bytes may ask for {limit >> 20:,} MiB ({RATIO} times its size): it "
            "holds nearly the same in every row. If it is sound, write it without compression and "
            "dictionaries, or in parts"
        )
