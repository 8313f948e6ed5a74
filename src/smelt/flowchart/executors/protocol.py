"""What an executor offers: it starts stages, tells what they say and how they end, and stops them.

An executor is one module of this folder. Wherever its stages run, they are the same command,
`smelt stage run KEY --work FOLDER`, which finds its inputs, writes and commits; so all that a run needs of an
executor are these four methods, and what a stage leaves is judged by its artefact alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Task:
    """One stage to start. `devices` are leased accelerators; None leaves the machine's own view of them."""

    id: str
    stage: str
    key: str
    threads: int
    devices: tuple[str, ...] | None
    log: Path


@dataclass(frozen=True)
class Said:
    """What a stage said, or the executor of it: `progress`, `warning`, `stalled`, `error`, `begun`, …"""

    key: str
    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """A stage has ended, and none of its processes is left.

    code: of the command (75: it was asked to stop, and has saved); negative for a signal. why: what the
    executor knows of the end, as it goes on from "the stage x failed: ". lost: nothing was wrong with the
    stage, and it is to be started again.
    """

    key: str
    code: int
    why: str = ""
    lost: bool = False


class Executor(Protocol):
    """Where stages run."""

    def start(self, task: Task) -> None:
        """Start one stage; what it prints goes to `task.log`."""

    def wait(self, seconds: float) -> Sequence[Said | Ended]:
        """What has happened since the last call, in order, once there is something or `seconds` are over."""

    def stop(self, key: str, *, kill: bool) -> None:
        """Ask a stage to save and end, or end it with all its processes; nothing where it has ended."""

    def close(self) -> None:
        """Let go of everything; nothing that was started is alive afterwards."""
