"""Stages as processes of this machine: forked from a warm zygote, or started afresh."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from smelt.errors import SmeltError
from smelt.flowchart.executors import lifeline, worker
from smelt.flowchart.executors.worker import THREAD_VARIABLES
from smelt.flowchart.work import Work

PATIENCE_SECONDS = 10.0  # for a zygote to tell that a child has ended; it looks 50 times a second
COMMAND = (sys.executable, "-m", "smelt", "stage", "run")


@dataclass(frozen=True)
class Task:
    """One stage to start. `devices` are leased accelerators; None leaves the machine's own view of them."""

    id: str
    stage: str
    key: str
    threads: int
    devices: tuple[str, ...] | None
    log: Path


class Handle(Protocol):
    """A stage that was started. `events` is a descriptor that gives lines of JSON until the stage ends."""

    events: int

    @property
    def pid(self) -> int | None:
        """The process here that leads the stage's session; None where there is none, or not yet."""

    @property
    def through(self) -> int | None:
        """The process here that starts the stage and tells of its end; None where there is none."""

    @property
    def lost(self) -> str:
        """What was done about that process, where it stood still; "" where nothing was."""

    def poll(self) -> int | None:
        """None while it runs, then the return code, negative for a signal. All of its processes are gone."""

    def stop(self, number: int) -> None:
        """SIGTERM asks the stage to save and end; SIGKILL ends it with all its processes."""

    def close(self) -> None:
        """Let go of the descriptors, after the end."""


class Executor(Protocol):
    """Where stages run. An executor for a cluster starts the same command, `smelt stage run KEY`."""

    def start(self, task: Task) -> Handle:
        """Start one stage."""

    def close(self) -> None:
        """Let go of everything; nothing that was started is alive afterwards."""


class _Pipes:
    """The three descriptors of a stage's process: its log, its events, and the pipe it lives by."""

    def __init__(self, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self.log = os.open(log, flags, 0o666)
        except OSError as error:
            raise SmeltError(f"cannot write the log {log}: {error.strerror}") from error
        self.events, self.events_child = os.pipe()
        self.life_child, self.life = os.pipe()
        os.set_blocking(self.events, False)

    def started(self) -> None:
        """Close what only the child needs."""
        for descriptor in (self.log, self.events_child, self.life_child):
            os.close(descriptor)

    def close(self) -> None:
        os.close(self.events)
        os.close(self.life)


class _Spawned:
    """A process started afresh."""

    through: int | None = None
    lost = ""

    def __init__(self, pid: int, pipes: _Pipes) -> None:
        self.pid: int | None = pid
        self.events = pipes.events
        self._pipes = pipes
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            assert self.pid is not None
            self._code = lifeline.reap(self.pid)
        return self._code

    def stop(self, number: int) -> None:
        if self._code is None and self.pid is not None:
            _send(self.pid, number)

    def close(self) -> None:
        self._pipes.close()


class _Forked:
    """A child of the zygote; its end is told by the zygote."""

    def __init__(self, zygote: _Zygote, task: int, pipes: _Pipes) -> None:
        self.events = pipes.events
        self._zygote = zygote
        self._task = task
        self._pipes = pipes
        self._wanted = 0
        self._silent: float | None = None  # since when the zygote has not told what it should know

    @property
    def through(self) -> int | None:
        return self._zygote.process.pid

    @property
    def lost(self) -> str:
        return self._zygote.ended

    @property
    def pid(self) -> int | None:
        return self._zygote.pids.get(self._task)

    def poll(self) -> int | None:
        self._zygote.receive()
        if self._wanted and self._task in self._zygote.pids:  # asked to end before it was born
            self.stop(self._wanted)
        code = self._zygote.codes.get(self._task)
        if code is None:
            self._look_for_silence()
        return code

    def _look_for_silence(self) -> None:
        """End a zygote that does not tell of the end of its child: it is stopped, or hangs."""
        pid = self.pid
        if pid is None or not _has_ended(pid):
            self._silent = None
        elif self._silent is None:
            self._silent = time.monotonic()
        elif time.monotonic() - self._silent > PATIENCE_SECONDS:
            self._zygote.end(f"has not told for {PATIENCE_SECONDS:.0f} s that process {pid} has ended")

    def stop(self, number: int) -> None:
        pid = self._zygote.pids.get(self._task)
        self._wanted = 0 if pid else number
        if not pid and number == signal.SIGKILL:  # a zygote that does not even fork would never hear of it
            self._zygote.end("has not started a stage that is to end")
        if pid and self._task not in self._zygote.codes:
            _send(pid, number)

    def close(self) -> None:
        self._pipes.close()


def _has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits for its parent to look at its end; False where nobody tells."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except FileNotFoundError:
        return os.path.isdir("/proc/self")
    except (OSError, IndexError):
        return False


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    if number == signal.SIGKILL:
        lifeline.kill_group(pid, number)


class _Zygote:
    """The run's end of the zygote (see zygote.py)."""

    def __init__(self, work: Work, runner: str, preload: Sequence[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.socket = ours
        self.log = work.logs / "zygote.log"
        self.alive = True
        self.pids: dict[int, int] = {}
        self.codes: dict[int, int] = {}
        self.ended = ""
        self._count = 0
        # one thread in every library while modules are loaded; each child sets its own number
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1") | _COMMON | _NO_THREADS
        arguments = [str(theirs.fileno()), str(os.getpid()), str(work.folder.resolve()), runner, *preload]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "smelt.flowchart.executors.zygote", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        theirs.close()

    def start(self, task: Task) -> _Forked | None:
        """Ask for a child; None if the zygote is gone or does not listen."""
        pipes = _Pipes(task.log)
        self._count += 1
        request = {
            "task": self._count,
            "key": task.key,
            "threads": task.threads,
            "environment": _environment(task),
        }
        descriptors = [pipes.log, pipes.events_child, pipes.life_child]
        try:
            socket.send_fds(self.socket, [json.dumps(request).encode()], descriptors)
        except OSError:
            self.alive = False
        pipes.started()
        if not self.alive:
            pipes.close()
            return None
        return _Forked(self, self._count, pipes)

    def receive(self) -> None:
        """Take in what the zygote has said. If it is gone, so are its children."""
        while self.alive:
            try:
                content = self.socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                content = b""
            message = json.loads(content) if content else {}
            if not message:
                self.alive = False
            elif "pid" in message:
                self.pids[message["task"]] = message["pid"]
            elif "code" in message:
                self.codes[message["task"]] = message["code"]
        for task in range(1, self._count + 1):
            if task not in self.codes:
                if task in self.pids:
                    lifeline.kill_group(self.pids[task], signal.SIGKILL)
                self.codes[task] = LOST

    def end(self, why: str) -> None:
        """Kill it as it does not answer; its children die with it, and stages are started afresh."""
        if not self.ended:
            self.ended = f"the warm process {self.process.pid} that starts stages {why}: it was ended"
        self.process.kill()

    def close(self) -> None:
        """End it; its children, if any, die with it."""
        self.socket.close()
        self.process.kill()
        self.process.wait()


LOST = -1000  # the zygote went away, before or after it had started the child
_COMMON = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
_NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # pyarrow starts one when it is loaded


def _environment(task: Task) -> dict[str, str]:
    """What a stage's process needs beyond the environment of the run."""
    found = dict.fromkeys(THREAD_VARIABLES, str(task.threads))
    if task.devices is not None:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(task.devices)
    return found


class LocalExecutor:
    """Processes of this machine.

    `runner` is `module:function` (see worker.run_stage), `preload` the modules worth importing once,
    `command` what starts a stage afresh, its key and `--work DIR` appended. With `zygote` (Linux), stages
    without accelerators are forked from a warm process; if that fails they are started afresh.
    """

    def __init__(
        self,
        work: Work,
        runner: str,
        *,
        preload: Sequence[str] = (),
        command: Sequence[str] = COMMAND,
        zygote: bool = sys.platform == "linux",
    ) -> None:
        self.work = work
        self.command = tuple(command)
        self._zygote: _Zygote | None = None
        self._make_zygote = (lambda: _Zygote(work, runner, preload)) if zygote else None

    def start(self, task: Task) -> Handle:
        if self._make_zygote and not task.devices:
            if self._zygote is None:
                self._zygote = self._make_zygote()
            self._zygote.receive()
            handle = self._zygote.start(task) if self._zygote.alive else None
            if handle is not None:
                return handle
        return self._spawn(task)

    def _spawn(self, task: Task) -> _Spawned:
        pipes = _Pipes(task.log)
        links = {
            worker.EVENTS: str(pipes.events_child),
            worker.LIFE: str(pipes.life_child),
            worker.PARENT: str(os.getpid()),
        }
        process = subprocess.Popen(
            [*self.command, task.key, "--work", str(self.work.folder)],
            stdin=subprocess.DEVNULL,
            stdout=pipes.log,
            stderr=pipes.log,
            env=os.environ | _COMMON | _environment(task) | links,
            pass_fds=[pipes.events_child, pipes.life_child],
            start_new_session=True,
        )
        process.returncode = 0  # we reap it ourselves (guard.reap); keeps Popen from doing it
        pipes.started()
        return _Spawned(process.pid, pipes)

    def close(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
