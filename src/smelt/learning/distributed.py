"""The ranks of one training: who they are, what they tell one another, how they are started and die together.

Under torchrun the ranks are there already. Otherwise `launch` starts them on this machine, watches them, and
ends all of them as soon as one dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from smelt.errors import PreemptedError, SmeltError, TrainingError

TIMEOUT = timedelta(
    minutes=10
)  # for one message; a rank that dies is noticed at once, by `launch` or torchrun
GRACE_SECONDS = 20.0  # for the ranks to save after a SIGTERM


@dataclass(frozen=True)
class Group:
    """This process among the ranks of a training."""

    rank: int = 0
    world_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this rank writes the files and talks to the user."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor`, summed in place over all ranks."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_all(self, tensors: Sequence[Tensor]) -> None:
        """Sum many tensors of one type in place over all ranks, in one message."""
        if self.world_size > 1 and tensors:
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            dist.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts):
                tensor.copy_(part.view(tensor.shape))

    def gathered(self, own: Tensor) -> list[Tensor]:
        """The lines (L, …) of every rank, on every rank; each may have another number of them."""
        if self.world_size == 1:
            return [own]
        length = torch.tensor([len(own)], device=own.device)
        lengths = [torch.zeros_like(length) for _ in range(self.world_size)]
        dist.all_gather(lengths, length)
        sizes = [int(size) for size in lengths]
        padded = own.new_zeros((max(sizes), *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        if max(sizes):
            dist.all_gather(parts, padded)
        return [part[:size] for part, size in zip(parts, sizes)]

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            dist.barrier()


def from_torchrun() -> Group | None:
    """The group that torchrun's environment describes; None outside of it."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    return Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def device_of(device: str, rank: int) -> torch.device:
    """The device of a rank: with "cuda" each takes the one of its number on this machine."""
    if device != "cuda":
        return torch.device(device)
    local = int(os.environ.get("LOCAL_RANK", rank))
    return torch.device("cuda", local)


@contextmanager
def joined(group: Group, device: torch.device, port: int | None = None) -> Iterator[None]:
    """Be a member of the process group; `port`: the store on this machine, None: torchrun's environment."""
    if group.world_size == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = TCPStore("127.0.0.1", port, is_master=False, timeout=TIMEOUT) if port is not None else None
    dist.init_process_group(
        backend, rank=group.rank, world_size=group.world_size, store=store, timeout=TIMEOUT
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def launch(
    function: Callable[..., None], args: tuple[Any, ...], world_size: int, emit: Callable[..., None]
) -> None:
    """Run `function(group, port, emit, *args)` in `world_size` processes of this machine, and wait.

    Their events go to `emit`. SIGTERM is passed on to them. Raises PreemptedError when they saved and
    stopped, the SmeltError that a rank raised, or TrainingError when a rank died; no rank is left behind.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "smelt.learning.setup"])  # imported once for all ranks
    ranks = []
    for rank in range(world_size):
        events, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_rank_main,
            args=(dict(os.environ), function, args, Group(rank, world_size), store.port, sender),
            name=f"rank {rank}",
        )
        process.start()
        sender.close()
        ranks.append((process, events))
    try:
        with stop_on_sigterm() as stop:
            _watch(ranks, stop, emit)
    finally:
        for process, _ in ranks:
            process.kill()
            process.join()


def _watch(ranks: list[tuple[Any, Connection]], stop: Stop, emit: Callable[..., None]) -> None:
    """Pass events on until all ranks have ended well; raise as soon as one has not."""
    open_pipes = {events: process for process, events in ranks}
    passed_on: float | None = None
    while open_pipes:
        for events in wait(list(open_pipes), timeout=0.2):
            assert isinstance(events, Connection)
            try:
                kind, fields = events.recv()
            except EOFError:
                _check_end(open_pipes.pop(events))
                continue
            if kind == "raised":
                raise fields["error"]
            emit(kind, **fields)
        if stop.asked and passed_on is None:
            passed_on = time.monotonic()
            for process, _ in ranks:
                process.terminate()
        if passed_on is not None and time.monotonic() - passed_on > GRACE_SECONDS:
            raise PreemptedError("asked to stop; the last checkpoint is kept, run again to go on")


def _check_end(process: Any) -> None:
    process.join(timeout=10)
    if process.exitcode != 0:
        how = f"by signal {-process.exitcode}" if (process.exitcode or 0) < 0 else f"with {process.exitcode}"
        raise TrainingError(
            f"{process.name} of the training ended {how}; all ranks were ended. "
            "Run again to go on from the last checkpoint."
        )


def _rank_main(
    environment: dict[str, str],
    function: Callable[..., None],
    args: tuple[Any, ...],
    group: Group,
    port: int,
    sender: Connection,
) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.environ.update(environment)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all on this machine, whatever its name resolves to

    def emit(event: str, **fields: Any) -> None:
        sender.send((event, fields))

    try:
        function(group, port, emit, *args)
    except SmeltError as error:
        # errors with more than a message lose their class on the way, never their text
        plain = type(error)(str(error)) if isinstance(error, PreemptedError) else TrainingError(str(error))
        sender.send(("raised", {"error": plain}))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(137)


class Stop:
    """Whether this process was asked to stop."""

    asked = False


@contextmanager
def stop_on_sigterm() -> Iterator[Stop]:
    """Within, SIGTERM only sets `asked`: the work saves and stops at the next step. Main thread only."""
    stop = Stop()

    def ask(signum: int, frame: Any) -> None:
        stop.asked = True

    try:
        before = signal.signal(signal.SIGTERM, ask)
    except ValueError:  # not the main thread: whoever runs it there handles signals
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
