"""Looking after a work folder: find artefacts whose bytes have changed, clear what nothing needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smelt.artifacts.files import problems
from smelt.flowchart.lock import Lock
from smelt.flowchart.state import Work


@dataclass(frozen=True)
class Damage:
    """An artefact that is not what was committed: what is wrong, and where it was moved."""

    name: str
    problems: tuple[str, ...]
    moved_to: Path


def verify(work: Work) -> list[Damage]:
    """Compare the sha256 of every file of every artefact; move damaged ones aside, so that they run again.

    Raises LockedError while a run holds the folder.
    """
    found = []
    work.create()
    with Lock(work.lock):
        for folder in sorted(work.artifacts.iterdir()):
            wrong = problems(folder, deep=True)
            if wrong:
                stage, _, key = folder.name.rpartition("-")
                found.append(Damage(folder.name, tuple(wrong), work.set_aside(stage, key)))
    return found


@dataclass(frozen=True)
class Garbage:
    """Folders that no stage of the last flowchart needs, and their bytes."""

    folders: tuple[Path, ...]
    size: int


def clean(work: Work, *, delete: bool = True) -> Garbage:
    """Delete artefacts and attempts that are not of the last flowchart, and what was moved aside as damaged.

    With `delete=False` it only says what would go. Raises LockedError while a run holds the folder, and
    ArtifactError if there is no flowchart to tell what is needed.
    """
    graph, _ = work.load()
    needed = {f"{node.stage}-{graph.key(node)}" for node in graph}
    with Lock(work.lock):
        folders = tuple(_unneeded(work, needed))
        size = sum(file.lstat().st_size for folder in folders for file in folder.rglob("*"))
        if delete:
            for folder in folders:
                shutil.rmtree(folder)
            for lock in work.attempts.glob("*.lock"):
                lock.unlink()
    return Garbage(folders, size)


def _unneeded(work: Work, needed: set[str]) -> Iterator[Path]:
    for place in (work.artifacts, work.attempts, work.damaged):
        keep = set() if place == work.damaged else needed
        if place.is_dir():
            yield from (
                folder for folder in sorted(place.iterdir()) if folder.is_dir() and folder.name not in keep
            )
