"""Stages that stand still: no event, no processor time of any of their processes, or one of them stopped.

A rank that was stopped (SIGSTOP), a lock that never opens, a disk that does not answer look like this; so
does one long system call on a slow disk, which is why a stage that stands still is only reported unless a
limit is set. Every stage leads a session of its own, by which its processes are known (Linux; elsewhere
nobody is watched).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from smelt.files.opening import read_bytes

WARNING_SECONDS = 45.0
IDLE = 0.005  # of the time: threads that wake up to look around take so much, and it is no sign of work
LONGEST_STEP = 5.0  # seconds that one look adds: a machine that was suspended was not watched meanwhile
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Use:
    """What the processes of one session have used: seconds of processors; pids of those that are stopped."""

    seconds: float
    stopped: tuple[int, ...]


NONE = Use(0.0, ())


@dataclass
class Watch:
    """What is known of one stage. `quiet`: seconds without a sign of work; `told`: it was reported.
    `pid`: its first process; `starter`: the process that starts stages, where that one is stopped."""

    quiet: float = 0.0
    used: float | None = None
    stopped: dict[int, float] = field(default_factory=dict)
    told: float = 0.0
    event: bool = False
    starter: int | None = None
    pid: int | None = None

    def add(self, step: float, use: Use) -> None:
        """Take in a look, `step` seconds after the one before."""
        self.stopped = {pid: self.stopped.get(pid, 0.0) + step for pid in use.stopped}
        self.quiet += step
        gained = None if self.used is None else use.seconds - self.used
        # less than before: a process has ended, and its time went with it
        if self.event or gained is None or gained < 0 or gained > IDLE * self.quiet + 1 / _TICK:
            self.quiet, self.used = 0.0, use.seconds
        self.event = False

    @property
    def still(self) -> float:
        """Seconds that the stage, or one of its processes, has stood still for."""
        return max(self.quiet, *self.stopped.values(), 0.0)

    def news(self, warning: float | None) -> tuple[str, str] | None:
        """(`stalled` or `warning`, words) where there is something new to tell; warning: seconds."""
        before, self.told = self.told, self.still if self.told else 0.0
        if before and self.still < before:
            self.told = 0.0
            return "warning", f"goes on, after it stood still for {before:.0f} s"
        if before or warning is None or self.still < warning:
            return None
        self.told = self.still
        who = f"process {self.pid}" if self.pid else "which has no process yet"
        return "stalled", f"stands still for {self.still:.0f} s ({who}): {self.words()}{self.hint()}"

    def words(self) -> str:
        """What was seen."""
        if self.starter and not self.stopped:
            return f"process {self.starter}, which starts stages, is stopped (SIGSTOP)"
        if not self.stopped:
            return "no event and no processor time of any of its processes"
        pids = sorted(self.stopped)
        return f"process {', '.join(map(str, pids))} of it is stopped (SIGSTOP)"

    def hint(self) -> str:
        """What can be done about it."""
        pids = " ".join(map(str, sorted({*self.stopped, *([self.starter] if self.starter else [])})))
        return f"; `kill -CONT {pids}` lets it go on" if pids else ""


class Stalls:
    """Watches the stages of a run by their keys. `limit`: seconds after which one is to be ended, or None."""

    def __init__(self, warning: float | None = WARNING_SECONDS, limit: float | None = None) -> None:
        self.warning, self.limit = warning, limit
        spans = [span for span in (warning, limit) if span is not None]
        self.every = min(max(min(spans) / 10, 0.1), LONGEST_STEP - 0.5) if spans else float("inf")
        self.watches: dict[str, Watch] = {}
        self._last = time.monotonic()

    def event(self, key: str) -> None:
        """The stage has said something."""
        self.watches.setdefault(key, Watch()).event = True

    def forget(self, key: str) -> None:
        """The stage has ended."""
        self.watches.pop(key, None)

    def look(self, pids: Mapping[str, tuple[int | None, int | None]]) -> dict[str, Watch]:
        """Look at the stages `pids` now and then.

        pids: key → pid of its first process, None before it has one; and of the process that starts it and
        tells of its end: it does no work of the stage, and is only named where the stage stands still.
        Gives those that are watched, once a look; none between looks and where nothing can be known.
        """
        now = time.monotonic()
        if now - self._last < self.every:
            return {}
        step, self._last = min(now - self._last, LONGEST_STEP), now
        uses = sessions() if pids else None
        if uses is None:
            return {}
        for key, (pid, through) in pids.items():
            watch = self.watches.setdefault(key, Watch())
            watch.pid = pid
            # not session 0 for one that has none: that is the kernel's own
            watch.add(step, uses.get(pid, NONE) if pid else NONE)
            watch.starter = through if through and uses.get(through, NONE).stopped else None
        return {key: self.watches[key] for key in pids}


def sessions() -> dict[int, Use] | None:
    """What the processes of each session have used so far; None where the system does not tell."""
    found: dict[int, Use] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return None
    known = False
    for name in names:
        if not name.isdigit():
            continue
        try:
            fields = read_bytes(f"/proc/{name}/stat").rpartition(b")")[2].split()
            state, session = fields[0], int(fields[3])
            ticks = sum(map(int, fields[11:15]))  # its own, and of children that it has waited for
        except (OSError, IndexError, ValueError):
            continue  # it has ended meanwhile
        known = True
        before = found.get(session, NONE)
        stopped = (*before.stopped, int(name)) if state in (b"T", b"t") else before.stopped
        found[session] = Use(before.seconds + ticks / _TICK, stopped)
    return found if known else None
