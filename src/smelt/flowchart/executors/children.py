"""A stage's process on this machine: started afresh, or forked from the warm zygote."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from smelt.errors import SmeltError
from smelt.files.atomic import append_descriptor
from smelt.flowchart.executors import lifeline, worker
from smelt.flowchart.executors.protocol import Task
from smelt.flowchart.executors.zygote import COMMON, Zygote

PATIENCE_SECONDS = 10.0  # for a zygote to tell that a child has ended; it looks 50 times a second


class Child(Protocol):
    """A stage's process. `events` is a descriptor that gives lines of JSON until it ends."""

    events: int

    @property
    def pid(self) -> int | None:
        """The process that leads the stage's session; None where there is none yet."""

    @property
    def through(self) -> int | None:
        """The process that starts the stage and tells of its end; None where there is none."""

    def poll(self) -> int | None:
        """None while it runs, then the return code, negative for a signal. All of its processes are gone."""

    def stop(self, number: int) -> None:
        """Send a signal; SIGKILL ends it with all its processes."""

    def close(self) -> None:
        """Let go of the descriptors, after the end."""


class Pipes:
    """The three descriptors of a stage's process: its log, its events, and the pipe it lives by."""

    def __init__(self, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.log = append_descriptor(log)
        except OSError as error:
            raise SmeltError(f"cannot write the log {log}: {error.strerror}") from error
        self.events, self.events_child = os.pipe()
        self.life_child, self.life = os.pipe()
        os.set_blocking(self.events, False)

    @property
    def of_the_child(self) -> list[int]:
        """Log, events and life as the child has them."""
        return [self.log, self.events_child, self.life_child]

    def started(self) -> None:
        """Close what only the child needs."""
        for descriptor in self.of_the_child:
            os.close(descriptor)

    def close(self) -> None:
        """Close the run's ends; a child that still lives dies of it."""
        os.close(self.events)
        os.close(self.life)


def environment(task: Task) -> dict[str, str]:
    """What a stage's process needs beyond the environment of the run."""
    found = dict.fromkeys(worker.THREAD_VARIABLES, str(task.threads))
    if task.devices is not None:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(task.devices)
    return found


class Spawned:
    """A process started afresh by `command`, the key and `--work FOLDER` appended."""

    through: int | None = None

    def __init__(self, task: Task, command: Sequence[str], work: Path) -> None:
        self._pipes = pipes = Pipes(task.log)
        self.events = pipes.events
        self._code: int | None = None
        links = {
            worker.EVENTS: str(pipes.events_child),
            worker.LIFE: str(pipes.life_child),
            worker.PARENT: str(os.getpid()),
        }
        process = subprocess.Popen(
            [*command, task.key, "--work", str(work)],
            stdin=subprocess.DEVNULL,
            stdout=pipes.log,
            stderr=pipes.log,
            env=os.environ | COMMON | environment(task) | links,
            pass_fds=[pipes.events_child, pipes.life_child],
            start_new_session=True,
        )
        process.returncode = 0  # we reap it ourselves (lifeline.reap); keeps Popen from doing it
        pipes.started()
        self.pid: int | None = process.pid
        self._leader = process.pid

    def poll(self) -> int | None:
        """See Child."""
        if self._code is None:
            self._code = lifeline.reap(self._leader)
        return self._code

    def stop(self, number: int) -> None:
        """See Child."""
        if self._code is None:
            lifeline.send(self._leader, number)

    def close(self) -> None:
        """See Child."""
        self._pipes.close()


class Forked:
    """A child of the zygote; its end is told by the zygote. `asked`: whether the zygote heard of it."""

    def __init__(self, task: Task, zygote: Zygote) -> None:
        self._pipes = Pipes(task.log)
        self.events = self._pipes.events
        self._zygote = zygote
        self._number = zygote.ask(task.key, task.threads, environment(task), self._pipes.of_the_child)
        self.asked = zygote.alive
        self._pipes.started()
        self._wanted = 0
        self._silent: float | None = None  # since when the zygote has not told what it should know

    @property
    def through(self) -> int | None:
        """See Child."""
        return self._zygote.process.pid

    @property
    def pid(self) -> int | None:
        """See Child."""
        return self._zygote.pids.get(self._number)

    def poll(self) -> int | None:
        """See Child."""
        self._zygote.receive()
        if self._wanted and self.pid:  # asked to end before it was born
            self.stop(self._wanted)
        code = self._zygote.codes.get(self._number)
        if code is None:
            self._look_for_silence()
        return code

    def _look_for_silence(self) -> None:
        """End a zygote that does not tell of the end of its child: it is stopped, or hangs."""
        pid = self.pid
        if pid is None or not lifeline.has_ended(pid):
            self._silent = None
        elif self._silent is None:
            self._silent = time.monotonic()
        elif time.monotonic() - self._silent > PATIENCE_SECONDS:
            self._zygote.end(f"has not told for {PATIENCE_SECONDS:.0f} s that process {pid} has ended")

    def stop(self, number: int) -> None:
        """See Child."""
        pid = self.pid
        self._wanted = 0 if pid else number
        if not pid and number == signal.SIGKILL:  # a zygote that does not even fork would never hear of it
            self._zygote.end("has not started a stage that is to end")
        if pid and self._number not in self._zygote.codes:
            lifeline.send(pid, number)

    def close(self) -> None:
        """See Child."""
        self._pipes.close()
