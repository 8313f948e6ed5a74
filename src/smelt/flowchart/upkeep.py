"""Looking after a work folder: find artefacts whose bytes have changed, clear what nothing needs."""

from __future__ import annotations

import shutil
from pathlib import Path

from smelt.flowchart import lineage
from smelt.flowchart.lock import Lock
from smelt.flowchart.work import Work


def verify(folder: Path) -> list[str]:
    """Compare the sha256 of every file of every artefact below the work folder; a line for each problem.

    Damaged artefacts, and what was made from other content than its inputs hold now, are moved aside, so
    that the next run makes them again. Raises LockedError while a run holds the folder.
    """
    work = Work(folder)
    work.create()
    found = []
    with Lock(work.lock):
        names = sorted(path.name for path in work.artifacts.iterdir())
        for name, fault in lineage.examine(work, names, fresh=True).items():
            stage, _, key = name.rpartition("-")
            moved = work.set_aside(stage, key)
            texts = fault.texts if fault.damaged else [f"{work.artifacts / name} {fault.texts[0]}"]
            found += [f"{text} (moved to {moved})" for text in texts]
    return found


def clean(folder: Path, *, delete: bool = True) -> list[Path]:
    """The artefacts and attempts that neither the last flowchart nor the last finished one needs, and all
    that was set aside.

    With `delete` they are deleted. Raises LockedError while a run holds the folder, and ArtifactError if
    there is no flowchart to tell what is needed.
    """
    work = Work(folder)
    finished = work.load_finished(strict=True)
    graphs = [finished] if finished is not None else []
    if work.flowchart.exists() or finished is None:
        graphs.append(work.load()[0])
    needed = {f"{node.stage}-{graph.key(node)}" for graph in graphs for node in graph}
    done = {name for name in needed if not work.problems(*name.rsplit("-", 1))}
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
                shutil.rmtree(path)  # of a link it deletes nothing, and `Work` refused those
            for lock in work.attempts.glob("*.lock"):  # nothing runs: the folder's own lock is ours
                lock.unlink()
    return found
