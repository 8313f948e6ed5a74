"""The run: starts every stage that is not done, as soon as its inputs are, until all are done or cannot be.

A stage that fails stops only what depends on it. Being asked to stop (SIGTERM, Ctrl-C, a closed terminal)
lets the stages save; a second Ctrl-C does not wait.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smelt.artifacts.files import content_hash
from smelt.errors import PreemptedError, RecipeError, RefusedError, StageFailedError
from smelt.flowchart import lineage
from smelt.flowchart.executors.local import LOST, Executor, Handle, Task
from smelt.flowchart.executors.memory import MemoryWatch
from smelt.flowchart.executors.signals import Signals
from smelt.flowchart.executors.stall import WARNING_SECONDS, Stalls, Watch
from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.journal import History, Journal
from smelt.flowchart.lock import Lock
from smelt.flowchart.work import Work

GRACE_SECONDS = 25.0  # between SIGTERM and SIGKILL; Slurm gives 30 by default
LOG_LINES = 15
OnEvent = Callable[[Mapping[str, Any]], None]


def run(
    graph: Graph,
    work: Work,
    executor: Executor,
    *,
    jobs: int = 1,
    devices: Sequence[str] = (),
    runtime: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    on_event: OnEvent = lambda event: None,
    grace_seconds: float = GRACE_SECONDS,
) -> None:
    """Run what is not done. `recipe` is the text kept beside the results. What `on_event` raises ends
    the run: all that is committed stays, what is under way is killed.

    Raises LockedError (another run is here), StageFailedError (after all that could go on has),
    PreemptedError (asked to stop), RecipeError (a stage needs more devices than there are).
    """
    for node in graph:
        if devices and node.devices > len(devices):
            raise RecipeError(f"{node.id} needs {node.devices} devices, and {len(devices)} are given")
    work.create()
    with Lock(work.lock):
        journal = Journal(work.events)
        try:
            work.save(graph, runtime or {}, recipe)
            stalls = _stalls(runtime or {})
            _Run(graph, work, executor, journal, jobs, devices, on_event, grace_seconds, stalls).run()
            work.finish()
        finally:
            executor.close()
            journal.close()


def _stalls(runtime: Mapping[str, Any]) -> Stalls:
    """The watch over stages that stand still, as `runtime` wants it."""
    return Stalls(runtime.get("stall_warning_seconds", WARNING_SECONDS), runtime.get("stall_limit_seconds"))


@dataclass
class _Running:
    """A stage under way. `buffer` holds the part of a line that has come through its pipe. `stalled` says why
    it was ended for standing still."""

    node: Node
    key: str
    handle: Handle
    devices: list[str]
    began: float
    resumed: bool
    buffer: bytes = b""
    ended: bool = False
    stalled: str = ""
    error: Mapping[str, Any] = field(default_factory=dict)


class _Run:
    def __init__(
        self,
        graph: Graph,
        work: Work,
        executor: Executor,
        journal: Journal,
        jobs: int,
        devices: Sequence[str],
        on_event: OnEvent,
        grace_seconds: float,
        stalls: Stalls,
    ) -> None:
        self.graph = graph
        self.work = work
        self.executor = executor
        self.journal = journal
        self.jobs = max(1, jobs)
        self.has_devices = bool(devices)
        self.free = list(devices)
        self.on_event = on_event
        self.grace_seconds = grace_seconds
        self.told_lost: set[str] = set()
        self.nodes = graph.by_key()
        self.parents = {
            key: {graph.key(parent) for parent in node.parents()} for key, node in self.nodes.items()
        }
        self.ancestors: dict[str, set[str]] = {}
        for key in self.nodes:  # in topological order
            above = self.parents[key]
            self.ancestors[key] = above.union(*(self.ancestors[parent] for parent in above))
        self.done: set[str] = set()
        self.failures: dict[str, str] = {}
        self.refused: set[str] = set()  # of these, whose stage refused the user's data or settings
        self.running: dict[str, _Running] = {}
        self.selector = selectors.DefaultSelector()
        self.memory = MemoryWatch()
        self.stalls = stalls
        self.preempted = ""
        self.kill_at = float("inf")

    def run(self) -> None:
        """Run all that is not done, each stage once its inputs are; PreemptedError where the run was told to
        stop, StageFailedError with every failure, once nothing more can run."""
        self._look_for_done()
        self.waiting = self._by_urgency()
        self.tell("run_started", stages=len(self.nodes), done=len(self.done), jobs=self.jobs)
        with Signals() as signals:
            try:
                while self._step(signals):
                    pass
            finally:
                for running in self.running.values():
                    running.handle.stop(signal.SIGKILL)
        blocked = [self.nodes[key].id for key in self.waiting]
        self.tell("run_done", done=len(self.done), failed=len(self.failures), waiting=len(blocked))
        if self.preempted:
            raise PreemptedError(f"stopped ({self.preempted}): all is saved, the same command goes on")
        if self.failures:
            number = "1 stage" if len(blocked) == 1 else f"{len(blocked)} stages"
            waiting = f"\n{number} further on did not run for it" if blocked else ""
            kind = RefusedError if self.refused >= self.failures.keys() else StageFailedError
            raise kind("\n\n".join(self.failures.values()) + waiting)

    def tell(self, event: str, **fields: Any) -> None:
        """Into the journal (progress apart, of which there is too much) and to whoever watches."""
        if event != "progress":
            self.journal.write(event, **fields)
        self.on_event({"event": event, **fields})

    def _look_for_done(self) -> None:
        self.work.verified.tidy(self.work.artifacts)
        faults = lineage.of_graph(self.graph, self.work)
        for key, node in self.nodes.items():
            if key in faults:
                self._set_aside(key, faults[key].texts[0])
            elif self.work.artifact(node.stage, key).exists():
                self.done.add(key)

    def _set_aside(self, key: str, why: str) -> None:
        node = self.nodes[key]
        moved = self.work.set_aside(node.stage, key)
        undone = key in self.done
        self.done.discard(key)
        about = {"id": node.id, "stage": node.stage, "key": key, "undone": undone}
        self.tell("damaged", **about, text=f"{why}; moved to {moved}")

    def _recheck_children(self, key: str) -> None:
        """What was made from an earlier outcome of the stage that ended now is made again, if it differs."""
        node = self.nodes[key]
        content = content_hash(self.work.identity(node.stage, key) or {})
        name = f"{node.stage}-{key}"
        for child in [child for child in self.done if key in self.parents[child]]:
            manifest = self.work.identity(self.nodes[child].stage, child) or {}
            if lineage.made_otherwise(manifest, key, content):
                stale = [child, *(other for other in self.done if child in self.ancestors[other])]
                for other in stale:
                    self._set_aside(other, f"was made from other content of {name} than it has now")
                self.waiting += stale

    def _by_urgency(self) -> list[str]:
        """Keys to run: those with the longest way still to go behind them first (critical path)."""
        history = History(self.work.events)
        path: dict[str, float] = {}
        for key in reversed(self.nodes):
            node = self.nodes[key]
            behind = max((path[child] for child in path if key in self.parents[child]), default=0.0)
            path[key] = behind + (history.seconds(node.id, node.stage) or 1.0)
        return sorted((key for key in self.nodes if key not in self.done), key=lambda key: -path[key])

    def _step(self, signals: Signals) -> bool:
        """One turn of the loop; False when nothing runs and nothing can be started."""
        self._obey(signals)
        if not self.preempted:
            for key in list(self.waiting):
                # all that it goes back to, not its parents alone: what is made again may come out otherwise
                if len(self.running) < self.jobs and self.ancestors[key] <= self.done:
                    self._start(key)
        if not self.running:
            return False
        soon = any(running.ended for running in self.running.values())
        for ready, _ in self.selector.select(0.005 if soon else 0.2):
            self._read(ready.data)
        self.memory.look()
        self._look_for_stalls()
        for running in list(self.running.values()):
            code = running.handle.poll()
            if code is not None:
                self._read(running)
                self._finish(running, code)
        return True

    def _look_for_stalls(self) -> None:
        """Tell of stages that stand still; end them where a limit is set."""
        pids = {key: (running.handle.pid, running.handle.through) for key, running in self.running.items()}
        for key, watch in self.stalls.look(pids).items():
            self._tell_stall(self.running[key], watch)
            limit = self.stalls.limit
            if limit is not None and watch.still >= limit and not self.running[key].stalled:
                self.running[key].stalled = f"stood still for {watch.still:.0f} s ({watch.words()})"
                self.running[key].handle.stop(signal.SIGKILL)

    def _tell_stall(self, running: _Running, watch: Watch) -> None:
        node = running.node
        about = {"id": node.id, "stage": node.stage, "key": running.key, "seconds": round(watch.still)}
        warning = self.stalls.warning
        if watch.told and watch.still < watch.told:
            self.tell("warning", **about, text=f"goes on, after it stood still for {watch.told:.0f} s")
            watch.told = 0.0
        elif watch.told:
            watch.told = watch.still
        elif warning is not None and watch.still >= warning:
            watch.told = watch.still
            pid = running.handle.pid
            who = f"process {pid}" if pid else "which has no process yet"
            text = f"stands still for {watch.still:.0f} s ({who}): {watch.words()}{watch.hint()}"
            self.tell("stalled", **about, pid=pid, text=f"{text}; log: {self.work.log(node.id)}")

    def _obey(self, signals: Signals) -> None:
        if signals.count and not self.preempted:
            self._stop(signals.name)
        if self.preempted and (signals.count > 1 or time.monotonic() > self.kill_at):
            for running in self.running.values():
                running.handle.stop(signal.SIGKILL)

    def _stop(self, why: str) -> None:
        self.preempted = why
        self.kill_at = time.monotonic() + self.grace_seconds
        self.tell(
            "stopping", text=f"{why}: letting {len(self.running)} stage{'s' * (len(self.running) != 1)} save"
        )
        for running in self.running.values():
            running.handle.stop(signal.SIGTERM)

    def _start(self, key: str) -> None:
        node = self.nodes[key]
        needed = node.devices if self.has_devices else 0
        if needed > len(self.free):
            return
        leased, self.free = self.free[:needed], self.free[needed:]
        log = self.work.log(node.id)
        visible = tuple(leased) if self.has_devices else None
        resumed = self.work.attempt(node.stage, key).is_dir()
        handle = self.executor.start(Task(node.id, node.stage, key, node.threads, visible, log))
        running = _Running(node, key, handle, leased, time.monotonic(), resumed)
        self.waiting.remove(key)
        self.running[key] = running
        self.selector.register(handle.events, selectors.EVENT_READ, running)
        self.tell("started", id=node.id, stage=node.stage, key=key, resumed=resumed, devices=leased)

    def _read(self, running: _Running) -> None:
        """Pass on the lines that the stage has sent."""
        while not running.ended:
            try:
                content = os.read(running.handle.events, 1 << 16)
            except BlockingIOError:
                return
            self.stalls.event(running.key)
            if not content:
                running.ended = True
                self.selector.unregister(running.handle.events)
            *lines, running.buffer = (running.buffer + content).split(b"\n")
            for line in lines:
                self._pass_on(running, line)

    def _pass_on(self, running: _Running, line: bytes) -> None:
        try:
            event = json.loads(line)
            name = str(event.pop("event"))
        except (ValueError, KeyError, AttributeError):
            return
        if name == "error":
            running.error = event
            return
        if name == "begun":  # what it took to start a process is no part of what the stage costs
            running.began = time.monotonic()
            return
        node = running.node
        self.tell(name, **{**event, "id": node.id, "stage": node.stage, "key": running.key})

    def _finish(self, running: _Running, code: int) -> None:
        if not running.ended:
            self.selector.unregister(running.handle.events)
        running.handle.close()
        del self.running[running.key]
        self.stalls.forget(running.key)
        self.free += running.devices
        node, key = running.node, running.key
        about = {"id": node.id, "stage": node.stage, "key": key}
        seconds = round(time.monotonic() - running.began, 3)
        if (lost := running.handle.lost) and lost not in self.told_lost:
            self.told_lost.add(lost)
            self.tell("warning", **about, text=lost)
        if self.work.committed(node.stage, key):
            self.done.add(key)
            self.tell("done", **about, seconds=seconds, resumed=running.resumed)
            self._recheck_children(key)
        elif code == LOST and not self.preempted:
            self.waiting.insert(0, key)  # the executor starts it afresh
            self.tell("warning", **about, text="the process that starts stages was lost; starting afresh")
        elif code == PreemptedError.exit_code or self.preempted:
            self.tell("preempted", **about, seconds=seconds)
            if not self.preempted:
                self._stop(f"{node.id} was asked to stop")
        else:
            text = self._describe(running, code)
            self.failures[key] = text
            if running.error.get("refused"):
                self.refused.add(key)
            # the error that the run ends with follows at once, and says the same
            last = not self.running and not any(self.ancestors[other] <= self.done for other in self.waiting)
            self.tell("failed", **about, seconds=seconds, code=code, text=text, last=last)

    def _describe(self, running: _Running, code: int) -> str:
        """Why a stage failed, where its log is, and the end of the log where the reason is not known."""
        log = self.work.log(running.node.id)
        lines = [f"the stage {running.node.id} failed"]
        if running.stalled:
            lines[0] += f": it {running.stalled}, and runtime.stall_limit_seconds is {self.stalls.limit:g}"
            lines.append("It was ended; the same command goes on from what it had saved")
        elif code < 0:
            lines[0] += f": killed by {_signal_name(-code)}"
            if -code == signal.SIGKILL:
                lines.append(self.memory.verdict())
        elif running.error:
            lines[0] += f": {running.error.get('text', '')}"
        else:
            lines[0] += f" with exit code {code}"
        lines.append(f"log: {log}")
        if code == 1 or not running.error:
            lines += [f"  | {line}" for line in _tail(log)]
        return "\n".join(lines)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(log: Path) -> list[str]:
    """The last lines of a log."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 20_000))
            return file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    except OSError:
        return []
