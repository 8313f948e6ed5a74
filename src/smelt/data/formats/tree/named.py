"""Images that text files call by name, with or without suffix, in a folder that has to be found.

What the formats of published data sets share whose splits and labels lie in lists of their own beside a
folder of images: `splitlists` and `joined`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smelt.artifacts.bytestrings import decode
from smelt.data.formats.base import unsafe
from smelt.data.formats.containers.jsons import open_regular
from smelt.data.formats.lists.columns import SUFFIXES, looks_like_image
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import normalised
from smelt.errors import DataError

MOST_BYTES = 1 << 28  # of one list
_TRIED = 40  # names by which a folder is told
_QUICK = 8  # of them, one of which has to be there for the folder to be listed
_ENDINGS = ("", *sorted({case for end in SUFFIXES for case in (end, end.upper())}))
# Words of folders whose images show no picture but what is marked in it; their names are those of the images.
_MARKS = frozenset(
    {"mask", "masks", "trimap", "trimaps", "annotation", "annotations", "labels", "segmentation", "gt",
     "segmentations", "groundtruth", "depth", "edges", "saliency"}
)  # fmt: skip


@dataclass
class Images:
    """The files below a root; folders are listed when they are first asked for.

    find: the path of an image in a folder by its name, with its suffix or without.
    """

    root: Path
    _stems: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)

    def find(self, folder: bytes, name: bytes) -> bytes | None:
        """The path of `name` in `folder`; None where there is none, or more than one without its suffix."""
        path = normalised(folder + b"/" + name if folder else name)
        if not path or unsafe(path):
            return None
        top, slash, own = path.rpartition(b"/")
        there = self._names(top).get(own)
        return top + slash + there if there else None

    def _names(self, folder: bytes) -> dict[bytes, bytes]:
        """Names of the images in a folder, by themselves and without their suffix where that is enough."""
        if folder not in self._stems:
            try:
                names = sorted(os.listdir(os.path.join(os.fsencode(self.root), folder)))
            except (OSError, ValueError):
                names = []
            images = [name for name in names if looks_like_image(decode(name))]
            known: dict[bytes, bytes] = {}
            twice = set()
            for name in images:
                stem = os.path.splitext(name)[0]
                if known.setdefault(stem, name) != name:
                    twice.add(stem)
            self._stems[folder] = {stem: name for stem, name in known.items() if stem not in twice}
            self._stems[folder] |= {name: name for name in images}
        return self._stems[folder]

    def found(self, folder: bytes, names: Iterable[bytes]) -> int:
        """How many of the names are images in a folder."""
        return sum(self.find(folder, name) is not None for name in names)

    def best(self, folders: Sequence[bytes], names: Sequence[bytes]) -> tuple[bytes, int]:
        """(the first of the folders in which most of the names are, how many of `tried(names)` are there)."""
        sample = tried(names)
        quick = sample[:: max(1, len(sample) // _QUICK)]
        there = [folder for folder in folders if any(self._is_there(folder, name) for name in quick)]
        pictures = [folder for folder in there if not _marks(folder)]
        counts = [(self.found(folder, sample), -place) for place, folder in enumerate(pictures or there)]
        count, place = max(counts, default=(0, 0))
        return ((pictures or there)[-place] if counts else b""), count

    def _is_there(self, folder: bytes, name: bytes) -> bool:
        """Whether there is such a file, without listing the folder."""
        path = os.path.join(os.fsencode(self.root), folder, name)
        endings = ("",) if looks_like_image(decode(name)) else _ENDINGS
        return b"\0" not in path and any(os.path.isfile(path + os.fsencode(end)) for end in endings)


def _marks(folder: bytes) -> bool:
    words = re.split(r"[^a-z]+", decode(folder).lower())
    return not _MARKS.isdisjoint(words) and "images" not in words


def tried(names: Sequence[bytes]) -> list[bytes]:
    """Some of the names, from the whole of a list."""
    return list(names[:: max(1, len(names) // _TRIED)][: 2 * _TRIED])


def folders_of(glimpse: Glimpse) -> list[bytes]:
    """Folders in which names may be looked for: the root, those in it and those in these, as bytes."""
    return [os.fsencode(at) for at, _ in glimpse.tree]


def lines_of(path: Path) -> list[tuple[int, bytes]]:
    """(number from 1, line without blanks around it) of a text; blank lines and `#` comments left out."""
    with open_regular(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise DataError(f"{path} has more than {MOST_BYTES >> 20} MiB: no list of names is")
    lines = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n")
    return [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip() and line[:1] != b"#"]
