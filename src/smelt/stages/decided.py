"""What a round hands on where a decision stands over it: the outcome of the round before, or of a try.

A training or prediction that the decision has already is not computed again: its files are copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smelt.files.atomic import read_json
from smelt.files.committed import copy_files
from smelt.settings import Settings
from smelt.stages.context import Context

DECISION = "decision.json"


def decision_of(context: Context[Settings]) -> Mapping[str, Any] | None:
    """The decision on the port of that name; None where nothing was to be decided."""
    path = context.maybe("decision")
    return None if path is None else read_json(path / DECISION)


def standing_in(context: Context[Settings], port: str = "instead") -> Path | None:
    """The artefact that the decision puts in the place of this stage's own work: the round before's, first on
    the port, where nothing that was tried is used; else that of the try, where it is on the port."""
    decision = decision_of(context)
    there: list[Path] = context.inputs.get(port, [])
    if decision is None or decision["chosen"] >= len(there):
        return None
    return there[int(decision["chosen"])]


def hand_on(context: Context[Settings]) -> bool:
    """Copy the artefact that stands in for this stage, if one does; whether it did."""
    source = standing_in(context)
    if source is None:
        return False
    copy_files(source, context.out)
    whose = "the round before" if source == context.inputs["instead"][0] else "the try that was used"
    context.emit("note", text=f"the same as of {whose}: nothing to compute")
    return True
