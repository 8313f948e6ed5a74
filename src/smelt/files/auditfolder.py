"""Where an audit lies in the work folder, and which flowchart's it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smelt.errors import ArtifactError
from smelt.files.atomic import read_json

FOLDER = "audit"
RECORD = "audit.json"
VERSION = 1


def folder_of(work: Path) -> Path:
    """`WORK/audit`."""
    return work / FOLDER


def sheet(work: Path, split: str) -> Path:
    """The contact sheet of a split."""
    return folder_of(work) / f"sheet-{split}.html"


def verdicts(work: Path, split: str) -> Path:
    """The file of verdicts of a split."""
    return folder_of(work) / f"verdicts-{split}.csv"


def sample(work: Path, split: str) -> Path:
    """What sample of a split was drawn: its seed and its size."""
    return folder_of(work) / f"sample-{split}.json"


def read_record(work: Path) -> dict[str, Any]:
    """What `smelt audit` found of each split, by split; empty where it never had verdicts. ArtifactError."""
    path = folder_of(work) / RECORD
    if not path.is_file():
        return {}
    record = read_json(path)
    splits = record.get("splits") if isinstance(record, dict) else None
    if not isinstance(splits, dict) or record.get("version") != VERSION:
        raise ArtifactError(f"{path} is damaged, or another smelt's: delete it and run smelt audit again")
    return dict(splits)
