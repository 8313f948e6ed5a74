"""What happened, as JSON lines: appended only, one write a line, a torn last line does no harm.

Only the run that holds the lock writes here. Clock times and seconds live here and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smelt.errors import ArtifactError
from smelt.files.atomic import append_descriptor
from smelt.files.opening import open_file


def encode(event: Mapping[str, Any]) -> bytes:
    """One line of strict JSON: numbers that are not finite become null, unknown objects text."""
    try:
        text = json.dumps(event, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        text = json.dumps(_finite(event), ensure_ascii=False, allow_nan=False, default=_plain)
    return text.encode("utf-8", "replace") + b"\n"


def _plain(value: Any) -> Any:
    """numpy and torch scalars as numbers, anything else as text."""
    item = getattr(value, "item", None)
    return _finite(item()) if callable(item) and getattr(value, "size", 1) == 1 else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


class Journal:
    """The writer of one `events.jsonl`. A full disk loses events, not the run."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = append_descriptor(path)
        except OSError as error:
            raise ArtifactError(f"cannot write {path}: {error.strerror}") from error
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def write(self, event: str, **fields: Any) -> None:
        """Append one event with the time of day (seconds since 1970)."""
        line = encode({"time": round(time.time(), 3), "event": event, **fields})
        line = b"\n" + line if self._torn else line  # ends a line that a kill or a full disk tore
        written = 0
        with contextlib.suppress(OSError):
            written = os.write(self._file, line)
        self._torn = self._torn if not written else written < len(line)

    def close(self) -> None:
        """Close the file; what is written is written."""
        os.close(self._file)


def read(path: Path, *events: str) -> Iterator[dict[str, Any]]:
    """The events in `path`, oldest first, only those named if any are named; torn lines are passed over."""
    marks = [f'"event": "{name}"'.encode() for name in events]
    if not path.exists():
        return
    with open_file(path) as file:
        for line in file:
            if marks and not any(mark in line for mark in marks):
                continue
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and (not events or event.get("event") in events):
                yield event


class History:
    """What earlier runs say of each stage: the last key under each id, and how long it took."""

    def __init__(self, path: Path) -> None:
        self.last_key: dict[str, str] = {}
        self._by_id: dict[str, float] = {}
        self._by_stage: dict[str, list[float]] = {}
        for event in read(path, "done"):
            node_id, stage, seconds = event.get("id"), event.get("stage"), event.get("seconds")
            if not isinstance(node_id, str) or not isinstance(stage, str):
                continue
            self.last_key[node_id] = str(event.get("key"))
            if isinstance(seconds, int | float) and seconds >= 0 and not event.get("resumed"):
                self._by_id[node_id] = float(seconds)
                self._by_stage.setdefault(stage, []).append(float(seconds))

    def seconds(self, node_id: str, stage: str) -> float | None:
        """What the stage will take, by its own last time, else the median of its kind; None if never run."""
        if node_id in self._by_id:
            return self._by_id[node_id]
        known = self._by_stage.get(stage)
        return statistics.median(known[-50:]) if known else None
