"""The archives of a data set: found below the root, opened where they lie, compressed ones unpacked.

What a file is its first bytes say: `a.tar` may be compressed, `b.tar.gz` plain. A plain tar in a plain tar,
as ImageNet has them, is read in place too, one level deep.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smelt.artifacts.bytestrings import concatenate, decode, encode
from smelt.artifacts.catalogue_writer import CatalogueWriter, Paths
from smelt.data.formats.base import Report, as_bytes, natural
from smelt.data.formats.containers.tars import Members, read_members
from smelt.data.formats.containers.unpack import compression, unpack
from smelt.data.formats.tree.census import LEADS_OUT, Walk
from smelt.errors import DataError, short

SUFFIX = re.compile(r"\.(tar(\.(gz|bz2|xz|zst|zstd))?|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)


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


def find_archives(root: Path, report: Report, links: str = "inside", *, deep: bool = True) -> list[Path]:
    """Archives below `root` in natural order, those in the root alone if not `deep`.

    Links are followed as `data.links` says. A packed archive beside its plain one is left out by name.
    DataError where all archives are links that may not be followed, StorageError where a folder may not be
    read.
    """
    found: list[bytes] = []
    led_out: list[str] = []
    for folder in Walk(
        root, links, lambda why, path: led_out.append(decode(path)) if why == LEADS_OUT else None
    ):
        found += [path for path in folder.paths() if SUFFIX.search(decode(path))]
        if not deep:
            break
    led_out = [path for path in led_out if SUFFIX.search(path)]
    if led_out and not found:
        raise DataError(
            f"{root}: its archives are links that lead out of the folder, such as {short(led_out[0])}: where "
            f"they are of your own making, -o data.links=anywhere follows them"
        )
    plain = {path for path in found if path.lower().endswith(b".tar")}
    kept = []
    for path in found:
        if path not in plain and encode(SUFFIX.sub("", decode(path))) + b".tar" in plain:
            report.leave_out("a packed archive beside the plain one", path)
        else:
            kept.append(root / os.fsdecode(path))
    return sorted(kept, key=lambda path: natural(os.fsencode(path)))


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
    found = read_members(place, report, str(path), shown=as_bytes(path, root))
    members = _with_nested(place, found, path, root, report)
    writer.shards.append(shard)
    report.used.add(as_bytes(path, root))
    return Archive(place, name, shard, members)


def _with_nested(place: Path, members: Members, archive: Path, root: Path, report: Report) -> Members:
    """The members and, in their place, those of tars among them."""
    found = [row for row in range(len(members)) if SUFFIX.search(decode(members.paths.names[row]))]
    if not found:
        return members
    parts = [members.take(np.setdiff1d(np.arange(len(members)), np.array(found)))]
    for row in found:
        path = members.paths[row]
        name, shown = f"{archive}:{decode(path)}", as_bytes(archive, root) + b"/" + path
        start, size = int(members.offsets[row]), int(members.sizes[row])
        try:
            inner = read_members(place, report, name, start, size, shown)
        except DataError as error:
            report.problem(f"{error} (an archive within an archive has to be a plain tar)")
            continue
        parts.append(Members(inner.paths.below(path), inner.offsets, inner.sizes))
        if any(SUFFIX.search(decode(each)) for each in inner.paths.names):
            report.warn(f"{name} holds archives once more: unpack it, they are not read")
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
