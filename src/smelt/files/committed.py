"""The folder of an artefact: its manifest, its commit, and what is wrong with it.

A stage writes into an attempt folder. `commit` makes it an artefact: fsync every file, write the manifest
(sizes and sha256), fsync, rename, fsync the parent. No manifest, not done. Nothing that a clock, a host or
a path decides goes into a manifest, so equal work with the same versions gives equal bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from smelt.errors import ArtifactError
from smelt.files.atomic import read_json, sha256_file, sha256_text, sync_folder, write_json
from smelt.files.failpoints import reach

MANIFEST = "manifest.json"
SCRATCH = "scratch"


def files_below(folder: Path) -> list[str]:
    """Names of all regular files below `folder`, relative, sorted; the manifest and scratch left out."""
    names = []
    for root, folders, files in os.walk(folder):
        here = Path(root).relative_to(folder)
        if here == Path("."):
            folders[:] = [name for name in folders if name != SCRATCH]
        names += [str(here / name) for name in files if name != MANIFEST or here != Path(".")]
    return sorted(names)


def first_link(folder: Path) -> Path | None:
    """A link at or below `folder`; None where there is none. What links lead to is not looked at."""
    if folder.is_symlink():
        return folder
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if os.path.islink(path := os.path.join(root, name)):
                return Path(path)
    return None


def commit(attempt: Path, target: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the folder `attempt` into the artefact `target`; returns the manifest.

    `identity` (stage, version, key, settings, inputs, …) goes into the manifest as it is. The sub-folder
    `scratch` (checkpoints and the like) is deleted first.
    """
    if (link := first_link(attempt)) is not None:
        raise ArtifactError(f"{link} is a link; an artefact holds plain files only")
    shutil.rmtree(attempt / SCRATCH, ignore_errors=True)
    files: dict[str, Any] = {}
    for name in files_below(attempt):
        path = attempt / name
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        files[name] = {"size": path.stat().st_size, "sha256": sha256_file(path)}
    for folder in sorted({(attempt / name).parent for name in files}):
        sync_folder(folder)
    manifest = {**identity, "files": files}
    write_json(attempt / MANIFEST, manifest)
    reach("commit:inside", str(identity.get("stage", "")))
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(attempt, target)
    sync_folder(target.parent)
    sync_folder(attempt.parent)
    return manifest


def copy_files(source: Path, target: Path) -> None:
    """Copy the files of the artefact `source` into `target`; what a killed copy left is replaced."""
    for name in files_below(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def seal(record: Path, root: Path, names: Iterable[str]) -> None:
    """Note in `record` what files below `root` hold: a finished part of a stage that may yet be killed."""
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json(record, {name: sha256_file(root / name) for name in names})


def sealed(record: Path, root: Path) -> bool:
    """Whether a part was finished, and its files hold what they held then."""
    try:
        noted = read_json(record)
        return all(sha256_file(root / name) == digest for name, digest in noted.items())
    except (ArtifactError, OSError, AttributeError, TypeError):
        return False


def content_hash(manifest: Mapping[str, Any]) -> str | None:
    """Hash of all that an artefact holds, from its manifest: names, sizes and sha256; None if it has none.

    What made the artefact is no part of it: the same bytes have the same hash, whoever wrote them.
    """
    files = manifest.get("files")
    if not isinstance(files, Mapping):
        return None
    return sha256_text(json.dumps(files, sort_keys=True, separators=(",", ":")))


def strangers(folder: Path) -> list[str]:
    """Files in the artefact `folder` that were not committed with it; hidden ones are nobody's concern."""
    listed = read_json(folder / MANIFEST)["files"]
    return [
        name
        for name in files_below(folder)
        if name not in listed and not any(part.startswith(".") for part in Path(name).parts)
    ]


def problems(folder: Path, *, deep: bool = False) -> list[str]:
    """What is wrong with the committed artefact `folder`: an empty list when it can be used.

    Sizes are compared always, sha256 of every file with `deep`.
    """
    if not (folder / MANIFEST).is_file():
        return [f"{folder} was never committed (no {MANIFEST})"]
    if (link := first_link(folder)) is not None:
        return [f"{link} is a link; what was committed are plain files"]
    try:
        listed = read_json(folder / MANIFEST)["files"]
        files = {str(name): (int(one["size"]), str(one["sha256"])) for name, one in listed.items()}
    except (ArtifactError, AttributeError, KeyError, TypeError, ValueError):
        return [f"{folder / MANIFEST} is damaged"]
    found = []
    for name, (size, sha256) in files.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif path.stat().st_size != size:
            found.append(f"{path} has {path.stat().st_size} bytes, not {size}")
        elif deep and sha256_file(path) != sha256:
            found.append(f"{path} has other content than was committed")
    return found
