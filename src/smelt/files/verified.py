"""Which artefacts were found whole, remembered: every file is hashed once, not each time it is read.

A line is `NAME FINGERPRINT`: the artefact's folder and a hash of its manifest together with inode, size,
change and modification time of each of its files. A line that is lost or torn only costs hashing again; none
can make damage pass by accident, for a file that was written to has another fingerprint.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from smelt.errors import ArtifactError
from smelt.files.atomic import append_line, read_json, write_text
from smelt.files.committed import MANIFEST, problems

SPARE_LINES = 1000  # lines beyond one an artefact that a run leaves in place


class Verified:
    """The memory of one folder of artefacts, in the file `path`, which several processes add to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: frozenset[str] = frozenset()
        self._size = -1

    def problems(self, folder: Path, *, fresh: bool = False, remember: bool = True) -> list[str]:
        """What is wrong with the artefact `folder`, its content included; hashed anew where `fresh`.

        Nothing is written without `remember`, nor where that cannot be done.
        """
        wrong = problems(folder)
        if wrong:
            return wrong
        line = _line(folder)  # before the hashing: what changes meanwhile changes the next fingerprint
        if not fresh and line is not None and line in self._known():
            return []
        wrong = problems(folder, deep=True)
        if not wrong and remember:
            self._add(line)
        return wrong

    def note(self, folder: Path) -> None:
        """Remember an artefact whose files were hashed a moment ago, as a commit does."""
        self._add(_line(folder))

    def tidy(self, artefacts: Path) -> None:
        """Drop lines of artefacts that are gone, where there are many; only while nothing else runs."""
        there = {path.name for path in artefacts.iterdir()} if artefacts.is_dir() else set()
        kept = sorted(line for line in self._known() if line.split()[0] in there)
        if len(self._lines) > len(kept) + SPARE_LINES:
            with contextlib.suppress(ArtifactError):
                write_text(self.path, "".join(f"{line}\n" for line in kept))

    def _known(self) -> frozenset[str]:
        try:
            size = self.path.stat().st_size
            if size != self._size:
                text = self.path.read_bytes().decode("utf-8", "replace")
                self._lines = frozenset(line for line in text.splitlines() if len(line.split()) == 2)
                self._size = size
        except OSError:
            self._lines = frozenset()
        return self._lines

    def _add(self, line: str | None) -> None:
        if line is None or line in self._known():
            return
        with contextlib.suppress(OSError):
            append_line(self.path, line)


def _line(folder: Path) -> str | None:
    """The artefact's line; None where a file went away meanwhile."""
    try:
        manifest = (folder / MANIFEST).read_bytes()
        digest = hashlib.sha256(manifest)
        for name in sorted(read_json(folder / MANIFEST)["files"]):
            found = os.stat(folder / name)
            numbers = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            digest.update(f"\n{name} {numbers}".encode("utf-8", "surrogateescape"))
    except (OSError, ArtifactError, KeyError, TypeError):
        return None
    return f"{folder.name} {digest.hexdigest()}"
