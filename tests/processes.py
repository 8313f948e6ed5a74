"""Whole runs of toy stages as processes, for tests that kill them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smelt.flowchart import journal

TOY = Path(__file__).with_name("toy.py")


MARK = "SMELT_TEST_MARK"  # environment variable by which processes of one run are known


class Marked:
    """A run of which every process, children and grandchildren too, carries a mark in its environment."""

    mark: str
    process: subprocess.Popen[str]

    def alive(self) -> list[int]:
        """Pids of all processes of the run, children and grandchildren too, that are not dead."""
        return [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if self._is_ours(pid)]

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            zombie = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            return not zombie and f"{MARK}={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    def kill_everything(self) -> None:
        """kill -9 of every process of the run, until none is left."""
        while pids := self.alive():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.communicate()


class Run(Marked):
    """`toy.py run FOLDER OPTIONS` in a session of its own; every process of it carries a mark."""

    def __init__(self, folder: Path, fail_at: str = "", **options: Any) -> None:
        self.mark = uuid.uuid4().hex
        self.folder = folder
        environment = os.environ | {
            MARK: self.mark,
            "PYTHONPATH": os.pathsep.join([str(TOY.parent), str(Path(journal.__file__).parents[2])]),
            "OMP_NUM_THREADS": "1",
            "SMELT_FAIL_AT": fail_at,
        }
        self.process = subprocess.Popen(
            [sys.executable, str(TOY), "run", str(folder), json.dumps(options)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, seconds: float = 60.0) -> tuple[int, str]:
        """(return code, stderr)"""
        _, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, errors

    def kill_orchestrator(self) -> None:
        """kill -9 of the process that the user started, and of no other."""
        self.process.kill()
        self.end()

    def events(self, *names: str) -> list[dict[str, Any]]:
        return list(journal.read(self.folder / "events.jsonl", *names))


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true value of `condition`; fails after that many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not so within {seconds} s")


def manifests(folder: Path) -> dict[str, bytes]:
    """The bytes of every committed manifest: names, sizes and sha256 of all files of all artefacts."""
    return {path.parent.name: path.read_bytes() for path in (folder / "artifacts").glob("*/manifest.json")}
