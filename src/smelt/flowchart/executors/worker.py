"""Runs one stage in this process: find it by its key, let it write, commit. The same for every executor.

Started by a run, it reports through a pipe and dies with the run; started by hand, it prints.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from smelt.errors import ArtifactError, DataError, PreemptedError, RecipeError, SmeltError
from smelt.files import committed
from smelt.files.failpoints import reach
from smelt.files.opening import read_text
from smelt.flowchart import journal, versions
from smelt.flowchart.executors import lifeline
from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.lock import Lock
from smelt.flowchart.work import Work

# How a run tells its workers where to report and whom to die with
EVENTS, LIFE, PARENT = "SMELT_EVENTS_FD", "SMELT_LIFE_FD", "SMELT_PARENT_PID"
# BLAS and OpenMP read these when they are loaded, so they are set before that
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PROGRESS_EVERY_SECONDS = 0.1

Runner = Callable[..., None]


def load_runner(name: str) -> Runner:
    """The function `module:function` that runs a stage."""
    module, _, function = name.partition(":")
    found: Runner = getattr(importlib.import_module(module), function)
    return found


class Reporter:
    """`emit` of one stage: lines of JSON into the run's pipe, or text on stderr where there is none."""

    def __init__(self, pipe: int | None) -> None:
        self.pipe = pipe
        self._lock = threading.Lock()
        self._next_progress = 0.0

    def __call__(self, event: str, **fields: Any) -> None:
        with self._lock:
            if event == "progress":
                final = fields.get("done") is not None and fields.get("done") == fields.get("total")
                if time.monotonic() < self._next_progress and not final:
                    return
                self._next_progress = time.monotonic() + PROGRESS_EVERY_SECONDS
            if self.pipe is None:
                shown = " ".join(f"{name}={value}" for name, value in fields.items())
                print(f"{event}: {shown}", file=sys.stderr)
                return
            line = journal.encode({"event": event, **fields})
            try:
                while line:
                    line = line[os.write(self.pipe, line) :]
            except BrokenPipeError:  # the run is gone
                lifeline.kill_group(0, signal.SIGKILL)


def attach() -> Reporter:
    """Join the run that started this process, as its environment says; call it first of all."""
    parent, life, events = (os.environ.pop(name, None) for name in (PARENT, LIFE, EVENTS))
    if parent:
        lifeline.die_with_parent(int(parent))
    if life:
        lifeline.watch(int(life))
    return Reporter(int(events) if events else None)


def run_stage(
    work_folder: Path | str,
    key: str,
    runner: Runner,
    runtime: Mapping[str, Any] | None = None,
    emit: Reporter | None = None,
) -> int:
    """Run and commit the stage `key` of the last planned flowchart; the process's exit code.

    `runner(stage, settings, inputs=…, out=…, scratch=…, runtime=…, emit=…)` does the work. Errors for users
    are printed in a line, others with their traceback. SIGTERM ends the stage with 75; one that saves on
    SIGTERM sets a handler of its own.
    """
    emit = emit or attach()
    try:
        with _stop_on_sigterm():
            _run(Work(work_folder), key, runner, runtime, emit)
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:
        told = error if isinstance(error, SmeltError) else _disk_full(error, Path(work_folder))
        if told is None:
            traceback.print_exc()
            emit("error", text=f"{type(error).__name__}: {error}")
            return 1
        emit("error", text=str(told), refused=isinstance(told, DataError | RecipeError))
        print(f"error: {told}", file=sys.stderr)
        return told.exit_code


def _disk_full(error: BaseException, folder: Path) -> SmeltError | None:
    """The error in words if it is for want of space, which writers raise in their own ways."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if not full and os.strerror(errno.ENOSPC) not in str(error):
        return None
    free = shutil.disk_usage(folder).free
    return ArtifactError(
        f"no room to write in {folder} ({free:,} bytes are free there): {error}. "
        f"Make room and give the same command again: it goes on"
    )


@contextlib.contextmanager
def _stop_on_sigterm() -> Iterator[None]:
    """SIGTERM leaves as SystemExit(75), which no `except Exception` on the way swallows."""

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(PreemptedError.exit_code)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(work: Work, key: str, runner: Runner, runtime: Mapping[str, Any] | None, emit: Reporter) -> None:
    graph, saved_runtime = work.load()
    node = graph.by_key().get(key)
    if node is None:
        raise ArtifactError(f"{work.flowchart} has no stage with the key {key!r}")
    attempt = work.attempt(node.stage, key)
    lock = attempt.with_name(f"{attempt.name}.lock")
    with Lock(lock, wait=10.0):  # a process of a run that was killed a moment ago may still be dying
        if not work.committed(node.stage, key):
            inputs, contents = _inputs(work, graph, node)
            scratch = attempt / committed.SCRATCH
            if (link := committed.first_link(attempt)) is not None:
                raise ArtifactError(f"{link} is a link, and attempts hold none: remove it; the stage goes on")
            scratch.mkdir(parents=True, exist_ok=True)
            for leftover in attempt.rglob(".*.tmp"):  # of an atomic write that a kill cut short
                leftover.unlink()
            # as a run does; a stage started by hand must not take the number of its machine
            os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(node.threads)))
            set_threads(node.threads)
            reach("stage", node.stage)
            emit("begun")
            runner(
                node.stage,
                dict(node.settings),
                inputs=inputs,
                out=attempt,
                scratch=scratch,
                runtime=dict(saved_runtime if runtime is None else runtime),
                emit=emit,
            )
            if _inputs(work, graph, node)[1] != contents:
                raise ArtifactError(f"an input of {node.id} was replaced while it ran: start it again")
            _commit(work, graph, node, contents)
        lock.unlink(missing_ok=True)  # who waits for it finds the artefact committed


def _inputs(work: Work, graph: Graph, node: Node) -> tuple[dict[str, list[Path]], dict[str, list[str]]]:
    """Folders of the inputs and hashes of what is in them, by port; ArtifactError names one that is damaged.

    The content of every file is compared with its hash, once (see `files.verified`).
    """
    found: dict[str, list[Path]] = {}
    contents: dict[str, list[str]] = {}
    for port, ids in node.inputs.items():
        for parent in ids:
            stage, key = graph[parent].stage, graph.key(parent)
            folder = work.artifact(stage, key)
            wrong = work.problems(stage, key)
            if wrong:
                raise ArtifactError(
                    f"{node.id} reads from {parent}, which cannot be used: {wrong[0]}. "
                    f"Run the recipe again: it makes {parent} anew"
                )
            if strange := committed.strangers(folder):
                raise ArtifactError(
                    f"{node.id} reads from {parent}, which did not make {folder / strange[0]}: move it away"
                )
            found.setdefault(port, []).append(folder)
            contents.setdefault(port, []).append(
                committed.content_hash(work.identity(stage, key) or {}) or ""
            )
    return found, contents


def _commit(work: Work, graph: Graph, node: Node, contents: Mapping[str, Any]) -> None:
    key = graph.key(node)
    target = work.artifact(node.stage, key)
    reach("commit:before", node.stage)
    if target.exists():  # damaged, and not yet moved by a run
        work.set_aside(node.stage, key)
    try:
        about = {"contents": contents, "made_with": versions.made_with(node)}
        committed.commit(work.attempt(node.stage, key), target, {**graph.identity(node), **about})
    except OSError as error:
        raise ArtifactError(f"cannot commit {node.id} to {target}: {error.strerror}") from error
    reach("commit:after", node.stage)
    work.verified.note(target)


def set_threads(threads: int) -> None:
    """Threads of what has been imported already (torch, numpy's BLAS); the environment is for the rest."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
    for library, symbol in _blas():
        with contextlib.suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(library), symbol)(ctypes.c_int(threads))


def _blas() -> Iterator[tuple[str, str]]:
    """OpenBLAS libraries of this process and the names that wheels of numpy and scipy give its setter."""
    try:
        maps = read_text("/proc/self/maps", "replace")
    except OSError:
        return
    for path in sorted({line.split()[-1] for line in maps.splitlines() if "openblas" in line}):
        for suffix in ("64_", ""):
            for prefix in ("scipy_", ""):
                yield path, f"{prefix}openblas_set_num_threads{suffix}"
