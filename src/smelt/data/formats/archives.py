"""The archives of a data set: found below the root, opened where they lie, compressed ones unpacked.

What a file is its first bytes say: `a.tar` may be compressed, `b.tar.gz` plain. A plain tar in a plain tar,
as ImageNet has them, is read in place too, one level deep.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smelt.artifacts.bytestrings import concatenate, decode
from smelt.artifacts.catalogue_writer import CatalogueWriter, Paths
from smelt.data.formats.base import Report, as_bytes, natural
from smelt.data.formats.names import hidden
from smelt.data.formats.tars import Members, read_members
from smelt.data.formats.unpack import compression, unpack
from smelt.data.reading import NOT_THERE, patiently, resolved
from smelt.errors import DataError

SUFFIX = re.compile(r"\.(tar(\.(gz|bz2|xz|zst|zstd))?|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
_OF_A_RUN = {b"artifacts", b"events.jsonl"}  # what a work folder of smelt is known by
LEADS_OUT = "a link that leads out of the folder (-o data.links=anywhere follows it)"


@dataclass(frozen=True)
class Archive:
    """path: where its bytes are. name: its path below the root, as it was found. shard: its name among the
    catalogue's shards. members: what lies in it.
    """

    path: Path
    name: str
    shard: str
    members: Members


def stem(name: str) -> str:
    """The last part of an archive's path without `.tar`, `.tgz` and the like."""
    return SUFFIX.sub("", name.rpartition("/")[2])


def find_archives(root: Path, report: Report, *, anywhere: bool = False, deep: bool = True) -> list[Path]:
    """Archives below `root` in natural order, those in the root alone if not `deep`.

    Links are followed if they stay below the root, or `anywhere`; those that do not are left out by name, as
    is a packed archive beside its plain one. StorageError where a folder may not be read.
    """
    found = [Path(os.fsdecode(name)) for name in _walk(root, report, anywhere, deep)]
    plain = {str(path) for path in found if path.suffix.lower() == ".tar"}
    kept = []
    for path in found:
        if path.suffix.lower() != ".tar" and f"{SUFFIX.sub('', str(path))}.tar" in plain:
            report.leave_out("a packed archive beside the plain one", as_bytes(path, root))
        else:
            kept.append(path)
    return sorted(kept, key=lambda path: natural(os.fsencode(path)))


def _walk(root: Path, report: Report, anywhere: bool, deep: bool) -> Iterator[bytes]:
    top = resolved(root)
    pending, seen = [os.fsencode(root)], set()
    while pending:
        folder = pending.pop()
        if (real := resolved(os.fsdecode(folder))) in seen:  # links may go round in circles
            continue
        seen.add(real)
        entries = _listed(folder)
        if folder != os.fsencode(root) and {entry.name for entry in entries} >= _OF_A_RUN:
            continue
        for entry in entries:
            if hidden(entry.name):
                continue
            is_archive = SUFFIX.search(decode(entry.name)) is not None
            if not entry.is_symlink():
                if entry.is_dir():
                    pending += [entry.path] if deep else []
                elif is_archive and entry.is_file():
                    yield entry.path
            elif kind := _kind(entry.path):
                if not stat.S_ISDIR(kind) and not is_archive:
                    continue
                if not anywhere and not is_inside(entry.path, top):
                    report.leave_out(LEADS_OUT, os.path.relpath(entry.path, os.fsencode(root)))
                elif stat.S_ISDIR(kind):
                    pending += [entry.path] if deep else []
                elif stat.S_ISREG(kind):
                    yield entry.path


def is_inside(path: bytes, top: str) -> bool:
    """Whether `path`, its links followed, lies below the folder `top`, whose links were followed."""
    return os.path.commonpath([resolved(os.fsdecode(path)), top]) == top


def _kind(path: bytes) -> int:
    """Mode of what a link leads to; 0 where it leads nowhere."""
    try:
        return os.stat(path).st_mode
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        return 0


def _listed(folder: bytes) -> list[os.DirEntry[bytes]]:
    """What lies in a folder, by name; nothing where it is gone."""

    def listed() -> list[os.DirEntry[bytes]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            return []

    return patiently(listed, lambda: decode(folder))


def open_archive(path: Path, root: Path, writer: CatalogueWriter, report: Report) -> Archive:
    """The archive `path` with its members, made the catalogue's next shard; `report.used` has it then.

    DataError where it is damaged or no archive, StorageError where it cannot be read, ArtifactError where
    there is no room to unpack it.
    """
    name, place = str(path.relative_to(root)), path
    shard = name
    if kind := compression(path):
        shard = f"unpacked-{len(writer.inside):05d}.tar"
        place = writer.folder / shard
        writer.inside.add(shard)
        size = unpack(path, kind, place, report)
        report.note(
            f"{name} is compressed ({kind}), and images in it cannot be read where they lie: it was unpacked "
            f"into the catalogue's folder ({size / (1 << 20):,.1f} MiB); a plain tar in its place spares that"
        )
    members = _with_nested(place, read_members(place, report, str(path)), str(path), report)
    writer.shards.append(shard)
    report.used.add(as_bytes(path, root))
    return Archive(place, name, shard, members)


def _with_nested(place: Path, members: Members, name: str, report: Report) -> Members:
    """The members and, in their place, those of tars among them."""
    found = [row for row in range(len(members)) if SUFFIX.search(decode(members.paths.names[row]))]
    if not found:
        return members
    parts = [members.take(np.setdiff1d(np.arange(len(members)), np.array(found)))]
    for row in found:
        path = members.paths[row]
        try:
            inner = read_members(
                place, report, f"{name}:{decode(path)}", int(members.offsets[row]), int(members.sizes[row])
            )
        except DataError as error:
            report.problem(f"{error} (an archive within an archive has to be a plain tar)")
            continue
        parts.append(Members(inner.paths.below(path), inner.offsets, inner.sizes))
        if any(SUFFIX.search(decode(each)) for each in inner.paths.names):
            report.warn(f"{name}:{decode(path)} holds archives once more: unpack it, they are not read")
    return _joined(parts)


def _joined(parts: Sequence[Members]) -> Members:
    folders: list[bytes] = []
    codes = []
    for part in parts:
        codes.append(part.paths.folder_codes.astype(np.uint32) + np.uint32(len(folders)))
        folders += part.paths.folders
    names = concatenate([part.paths.names for part in parts])
    return Members(
        Paths(folders, np.concatenate(codes), names),
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.sizes for part in parts]),
    )
