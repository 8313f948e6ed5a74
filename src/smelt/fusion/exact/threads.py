"""Threads for the evaluation of tables: several where candidates are many, one in every library meanwhile."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

MANY = 1 << 16  # candidates from which on threads gain more than starting them costs
Item = TypeVar("Item")
Done = TypeVar("Done")


@contextmanager
def one_thread() -> Iterator[None]:
    """torch, where it is loaded, keeps to one thread: it wakes the others for work too small for them, and
    beside other programs they wait for one another by spinning."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_blas_thread() -> AbstractContextManager[Any]:
    """NumPy's products keep to one thread: most here are small, and beside other work two threads take up to
    a hundred times as long, each waiting for the other."""
    if os.environ.get("OPENBLAS_NUM_THREADS") == "1":  # it was said before NumPy was loaded
        return nullcontext()
    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits


def torch_alone() -> None:
    """In a thread or process of several: torch, where it is loaded, starts no more of them."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def spread_over(
    work: Callable[[Item], Done], items: Sequence[Item], candidates: int, threads: int = 0
) -> Iterator[Done]:
    """`work` of every item, in order; in several threads where there are many `candidates` in all.

    torch keeps to one thread meanwhile.
    """
    threads = threads or (len(os.sched_getaffinity(0)) if candidates >= MANY else 1)
    with one_thread():
        if threads == 1 or len(items) <= 1:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(threads, initializer=torch_alone) as pool:
            yield from pool.map(work, items)
