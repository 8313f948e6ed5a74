"""Looking after a work folder: find artefacts whose bytes have changed, clear what nothing needs."""

from __future__ import annotations

import shutil
from pathlib import Path

from smelt.artifacts.files import problems
from smelt.flowchart.lock import Lock
from smelt.flowchart.state import Work


def verify(folder: Path) -> list[str]:
    """Compare the sha256 of every file of every artefact below the work folder; a line for each problem.

    Damaged artefacts are moved aside, so that the next run makes them again. Raises LockedError while a run
    holds the folder.
    """
    work = Work(folder)
    work.create()
    found = []
    with Lock(work.lock):
        for artefact in sorted(work.artifacts.iterdir()):
            wrong = problems(artefact, deep=True)
            if wrong:
                stage, _, key = artefact.name.rpartition("-")
                moved = work.set_aside(stage, key)
                found += [f"{problem} (moved to {moved})" for problem in wrong]
    return found


def clean(folder: Path, *, delete: bool = True) -> list[Path]:
    """The artefacts and attempts that no stage of the last flowchart needs, and all that was set aside.

    With `delete` they are deleted. Raises LockedError while a run holds the folder, and ArtifactError if
    there is no flowchart to tell what is needed.
    """
    work = Work(folder)
    graph, _ = work.load()
    needed = {f"{node.stage}-{graph.key(node)}" for node in graph}
    done = {name for name in needed if not problems(work.artifacts / name)}
    keep = {work.artifacts: needed, work.attempts: needed - done, work.damaged: set()}
    with Lock(work.lock):
        found = [
            path
            for place, names in keep.items()
            if place.is_dir()
            for path in sorted(place.iterdir())
            if path.is_dir() and path.name not in names
        ]
        if delete:
            for path in found:
                shutil.rmtree(path)
            for lock in work.attempts.glob("*.lock"):  # nothing runs: the folder's own lock is ours
                lock.unlink()
    return found
