"""A process of its own for each loader that is compared, so that none can end the others."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import multiprocessing
import os
import resource
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor

SIZE, BATCH = 224, 64


@dataclass(frozen=True)
class Work:
    """What a loader is to do. workers: cores it may use."""

    folder: Path
    randaugment: bool
    float32: bool
    workers: int


@dataclass(frozen=True)
class Failed:
    """Why a loader does not do it.

    missing: it is not installed or has no such operation. fatal: its process has ended or is to be ended.
    """

    reason: str
    missing: bool = False
    fatal: bool = False

    def __str__(self) -> str:
        return self.reason if self.missing else f"failed: {self.reason}"


class NotOffered(Exception):
    """The peer has no such operation."""


Pass = tuple[int, float, float]  # images, CPU seconds of all threads and child processes, seconds
Epoch = Callable[[], Iterable[Tensor]]  # one pass over the folder: batches (64, 3, 224, 224)


class Peer:
    """A loader in a process of its own, which is started when it is needed and ended when it fails."""

    def __init__(self, package: str, function: str, patience: float) -> None:
        self.package, self.function, self.patience = package, function, patience
        self._process: multiprocessing.process.BaseProcess | None = None
        self._silent: Failed | None = None  # once it did not answer it is not waited for again

    @property
    def alive(self) -> bool:
        """Whether its process runs and remembers what it has entered."""
        return self._process is not None

    def ask(self, what: str, work: Work | None = None) -> Pass | Failed | None:
        """What the peer answers, or Failed if it dies or has not answered after `patience` seconds."""
        if self._silent is not None:
            return self._silent
        if not installed(self.package):
            return Failed("not installed", missing=True)
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None
        try:
            self._pipe.send((what, work))
            if self._pipe.poll(self.patience):
                answer: Pass | Failed | None = self._pipe.recv()
            else:
                answer = self._silent = Failed(f"no answer in {self.patience:g} s", fatal=True)
        except (EOFError, OSError):
            process.join(10)
            answer = Failed(_ended(process.exitcode), fatal=True)
        if isinstance(answer, Failed) and answer.fatal:
            self.end()
        return answer

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(self.function, other))
        self._process.start()
        other.close()

    def end(self) -> None:
        """End the process and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError):  # its group is its own once it serves
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join()


def _ended(code: int | None) -> str:
    return f"ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


def serve(function: str, pipe: Connection) -> None:
    """The life of a peer's process: ("enter", Work) → None, ("pass", Work) → Pass; ("leave", None) → None.

    Whatever goes wrong is answered as Failed. What the peer prints goes to stderr.
    """
    os.setsid()
    os.dup2(2, 1)
    multiprocessing.set_start_method("fork", force=True)  # for the peer's own workers; ours was spawned
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")

    def give_up(args: threading.ExceptHookArgs) -> None:  # else the peer's main thread would wait for ever
        pipe.send(failure(args.exc_value or args.exc_type(), fatal=True))
        os._exit(1)

    threading.excepthook = give_up
    epochs: dict[Work, Epoch] = {}
    answer: Pass | Failed | None
    while True:
        try:
            asked, work = pipe.recv()
        except EOFError:
            return
        try:
            answer = _answer(function, epochs, asked, work)
        except Exception as error:
            answer = failure(error)
        pipe.send(answer)


def _answer(function: str, epochs: dict[Work, Epoch], asked: str, work: Work) -> Pass | None:
    if asked == "pass":
        return timed(epochs[work])
    if asked == "leave":
        epochs.clear()
        return None
    module, _, name = function.partition(":")
    epochs[work] = getattr(importlib.import_module(module), name)(work)
    for batch in epochs[work]():  # warms it up, too
        check(batch, work)
    idle(0.0)
    return None


def failure(error: BaseException, fatal: bool = False) -> Failed:
    if isinstance(error, ModuleNotFoundError):
        return Failed("not installed", missing=True)
    if isinstance(error, NotOffered):
        return Failed(str(error), missing=True)
    return Failed(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", fatal=fatal)


def installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # the package that it lies in
        return False


def check(batch: Tensor, work: Work) -> None:
    """Raises ValueError unless the batch is what all have to give."""
    wanted = torch.float32 if work.float32 else torch.uint8
    inner = batch.is_contiguous(memory_format=torch.channels_last)
    if batch.dtype != wanted or batch.shape != (BATCH, 3, SIZE, SIZE) or not inner:
        where = "innermost" if inner else "elsewhere"
        raise ValueError(f"gives {batch.dtype} {tuple(batch.shape)} with channels {where} in memory")


def cpu_seconds() -> float:
    """Of this process, of its children that have ended and of those that live."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + ticks / os.sysconf("SC_CLK_TCK")


def timed(epoch: Epoch) -> Pass:
    """One pass; what a loader does ahead for the next one is part of it, as what it had done ahead is not."""
    start, before = time.perf_counter(), cpu_seconds()
    count = sum(len(batch) for batch in epoch())
    end, after = idle(time.perf_counter())
    return count, after - before, end - start


def idle(end: float) -> tuple[float, float]:
    """Wait for work done ahead: (when it ended, at the earliest `end`, CPU seconds until then)."""
    after, quiet = cpu_seconds(), 0
    while quiet < 2:
        time.sleep(0.05)
        now = cpu_seconds()
        quiet = quiet + 1 if now - after < 0.005 else 0
        if not quiet:
            end, after = time.perf_counter(), now
    return end, after
