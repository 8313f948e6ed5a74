"""The run: starts every stage that is not done, as soon as its inputs are, until all are done or cannot be.

A stage that fails stops only what depends on it. Being asked to stop (SIGTERM, Ctrl-C, a closed terminal)
lets the stages save; a second Ctrl-C does not wait.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smelt.errors import PreemptedError, RecipeError, RefusedError, StageFailedError
from smelt.files.committed import content_hash
from smelt.files.opening import open_file
from smelt.flowchart import lineage
from smelt.flowchart.executors.protocol import Ended, Executor, Task
from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.journal import History, Journal
from smelt.flowchart.lock import Lock
from smelt.flowchart.signals import Signals
from smelt.flowchart.work import Work

GRACE_SECONDS = 25.0  # between SIGTERM and SIGKILL; Slurm gives 30 by default
WAIT_SECONDS = 0.2  # between looks at what the run itself was asked
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
            _Run(graph, work, executor, journal, jobs, devices, on_event, grace_seconds).run()
            work.finish()
        finally:
            executor.close()
            journal.close()


@dataclass
class _Running:
    """A stage under way. error: what it said was wrong, before it ended."""

    node: Node
    key: str
    devices: list[str]
    began: float
    resumed: bool
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
        self.preempted = ""
        self.kill_at = float("inf")

    def run(self) -> None:
        """Run all that is not done, each stage once its inputs are; PreemptedError where the run was told to
        stop, StageFailedError with every failure, once nothing more can run."""
        self._look_for_done()
        self.waiting = self._by_urgency()
        self.tell("run_started", stages=len(self.nodes), done=len(self.done), jobs=self.jobs)
        with Signals() as signals:
            while self._step(signals):
                pass
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
        for news in self.executor.wait(WAIT_SECONDS):
            running = self.running[news.key]
            if isinstance(news, Ended):
                self._finish(running, news)
            elif news.event == "error":
                running.error = news.fields
            elif news.event == "begun":  # what it took to start a process is no part of what the stage costs
                running.began = time.monotonic()
            else:
                node = running.node
                self.tell(news.event, **{**news.fields, "id": node.id, "stage": node.stage, "key": news.key})
        return True

    def _obey(self, signals: Signals) -> None:
        if signals.count and not self.preempted:
            self._stop(signals.name)
        if self.preempted and (signals.count > 1 or time.monotonic() > self.kill_at):
            for key in self.running:
                self.executor.stop(key, kill=True)

    def _stop(self, why: str) -> None:
        self.preempted = why
        self.kill_at = time.monotonic() + self.grace_seconds
        self.tell(
            "stopping", text=f"{why}: letting {len(self.running)} stage{'s' * (len(self.running) != 1)} save"
        )
        for key in self.running:
            self.executor.stop(key, kill=False)

    def _start(self, key: str) -> None:
        node = self.nodes[key]
        needed = node.devices if self.has_devices else 0
        if needed > len(self.free):
            return
        leased, self.free = self.free[:needed], self.free[needed:]
        visible = tuple(leased) if self.has_devices else None
        resumed = self.work.attempt(node.stage, key).is_dir()
        log = self.work.log(node.id)
        self.executor.start(Task(node.id, node.stage, key, node.threads, visible, log))
        self.waiting.remove(key)
        self.running[key] = _Running(node, key, leased, time.monotonic(), resumed)
        self.tell("started", id=node.id, stage=node.stage, key=key, resumed=resumed, devices=leased)

    def _finish(self, running: _Running, end: Ended) -> None:
        del self.running[running.key]
        self.free += running.devices
        node, key = running.node, running.key
        about = {"id": node.id, "stage": node.stage, "key": key}
        seconds = round(time.monotonic() - running.began, 3)
        if self.work.committed(node.stage, key):
            self.done.add(key)
            self.tell("done", **about, seconds=seconds, resumed=running.resumed)
            self._recheck_children(key)
        elif end.lost and not self.preempted:
            self.waiting.insert(0, key)  # the executor starts it afresh
            self.tell("warning", **about, text="the process that starts stages was lost; starting afresh")
        elif end.code == PreemptedError.exit_code or self.preempted:
            self.tell("preempted", **about, seconds=seconds)
            if not self.preempted:
                self._stop(f"{node.id} was asked to stop")
        else:
            text = self._describe(running, end)
            self.failures[key] = text
            if running.error.get("refused"):
                self.refused.add(key)
            # the error that the run ends with follows at once, and says the same
            last = not self.running and not any(self.ancestors[other] <= self.done for other in self.waiting)
            self.tell("failed", **about, seconds=seconds, code=end.code, text=text, last=last)

    def _describe(self, running: _Running, end: Ended) -> str:
        """Why a stage failed, where its log is, and the end of the log where the reason is not known."""
        log = self.work.log(running.node.id)
        why = end.why or (str(running.error.get("text", "")) if running.error else "")
        lines = [
            f"the stage {running.node.id} failed" + (f": {why}" if why else f" with exit code {end.code}")
        ]
        lines.append(f"log: {log}")
        if end.code == 1 or not running.error:
            lines += [f"  | {line}" for line in _tail(log)]
        return "\n".join(lines)


def _tail(log: Path) -> list[str]:
    """The last lines of a log."""
    try:
        with open_file(log) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 20_000))
            return file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    except OSError:
        return []
