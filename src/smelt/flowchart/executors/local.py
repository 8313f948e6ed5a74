"""Stages as processes of this machine, watched while they run."""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from smelt.flowchart.executors import memory
from smelt.flowchart.executors.children import Child, Forked, Spawned
from smelt.flowchart.executors.protocol import Ended, Said, Task
from smelt.flowchart.executors.stall import Stalls
from smelt.flowchart.executors.zygote import LOST, Zygote
from smelt.flowchart.work import Work

COMMAND = (sys.executable, "-m", "smelt", "stage", "run")
ENDING_SECONDS = 0.005  # between looks at a stage that has closed its pipe and is about to end


@dataclass
class _Stage:
    """A stage under way. `buffer` holds the part of a line that has come through its pipe. `stalled` says why
    it was ended for standing still."""

    task: Task
    child: Child
    buffer: bytes = b""
    silent: bool = False
    stalled: str = ""


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
        stalls: Stalls | None = None,
    ) -> None:
        self._work = work
        self._command = tuple(command)
        self._zygote: Zygote | None = None
        self._make_zygote = (lambda: Zygote(work.folder, work.logs, runner, preload)) if zygote else None
        self._stages: dict[str, _Stage] = {}
        self._selector = selectors.DefaultSelector()
        self._stalls = stalls or Stalls()
        self._kills = memory.oom_kills()
        self._told = ""  # of a zygote that was ended

    def start(self, task: Task) -> None:
        """See Executor."""
        stage = _Stage(task, self._fork(task) or Spawned(task, self._command, self._work.folder))
        self._stages[task.key] = stage
        self._selector.register(stage.child.events, selectors.EVENT_READ, stage)

    def _fork(self, task: Task) -> Forked | None:
        """A child of the zygote; None for a task with accelerators, and where there is no zygote."""
        if not self._make_zygote or task.devices:
            return None
        if self._zygote is None:
            self._zygote = self._make_zygote()
        self._zygote.receive()
        if not self._zygote.alive:
            return None
        child = Forked(task, self._zygote)
        if child.asked:
            return child
        child.close()
        return None

    def wait(self, seconds: float) -> Sequence[Said | Ended]:
        """See Executor."""
        return list(self._happened(seconds))

    def _happened(self, seconds: float) -> Iterator[Said | Ended]:
        if any(stage.silent for stage in self._stages.values()):
            seconds = min(seconds, ENDING_SECONDS)
        for ready, _ in self._selector.select(seconds):
            yield from self._read(ready.data)
        yield from self._look_for_stalls()
        for stage in list(self._stages.values()):
            code = stage.child.poll()
            if code is not None:
                yield from self._read(stage)
                yield from self._end(stage, code)

    def _read(self, stage: _Stage) -> Iterator[Said]:
        """The lines that the stage has sent."""
        while not stage.silent:
            try:
                content = os.read(stage.child.events, 1 << 16)
            except BlockingIOError:
                return
            self._stalls.event(stage.task.key)
            if not content:
                stage.silent = True
                self._selector.unregister(stage.child.events)
            *lines, stage.buffer = (stage.buffer + content).split(b"\n")
            for line in lines:
                try:
                    event = json.loads(line)
                    yield Said(stage.task.key, str(event.pop("event")), event)
                except (ValueError, KeyError, AttributeError):
                    continue

    def _look_for_stalls(self) -> Iterator[Said]:
        """Tell of stages that stand still; end them where a limit is set."""
        pids = {key: (stage.child.pid, stage.child.through) for key, stage in self._stages.items()}
        for key, watch in self._stalls.look(pids).items():
            stage, limit = self._stages[key], self._stalls.limit
            if news := watch.news(self._stalls.warning):
                event, text = news
                about = {"seconds": round(watch.still), "pid": watch.pid}
                log = f"; log: {stage.task.log}" if event == "stalled" else ""
                yield Said(key, event, {**about, "text": text + log})
            if limit is not None and watch.still >= limit and not stage.stalled:
                stage.stalled = (
                    f"it stood still for {watch.still:.0f} s ({watch.words()}), and "
                    f"runtime.stall_limit_seconds is {limit:g}\n"
                    "It was ended; the same command goes on from what it had saved"
                )
                stage.child.stop(signal.SIGKILL)

    def _end(self, stage: _Stage, code: int) -> Iterator[Said | Ended]:
        key = stage.task.key
        if not stage.silent:
            self._selector.unregister(stage.child.events)
        stage.child.close()
        del self._stages[key]
        self._stalls.forget(key)
        if self._zygote and isinstance(stage.child, Forked) and self._zygote.ended != self._told:
            self._told = self._zygote.ended
            yield Said(key, "warning", {"text": self._told})
        why = stage.stalled
        if code < 0 and code != LOST and not why:
            killed = f"\n{memory.verdict(self._kills)}" if code == -signal.SIGKILL else ""
            why = f"killed by {_signal_name(-code)}{killed}"
        yield Ended(key, code, why, lost=code == LOST)

    def stop(self, key: str, *, kill: bool) -> None:
        """See Executor."""
        if key in self._stages:
            self._stages[key].child.stop(signal.SIGKILL if kill else signal.SIGTERM)

    def close(self) -> None:
        """See Executor."""
        for stage in self._stages.values():
            stage.child.stop(signal.SIGKILL)
            stage.child.close()
        self._stages.clear()
        self._selector.close()
        if self._zygote is not None:
            self._zygote.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
