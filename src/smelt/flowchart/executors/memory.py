"""Was it the kernel's out-of-memory killer? Looks at the machine while stages run, to judge a SIGKILL."""

from __future__ import annotations

import time
from pathlib import Path

LOW = 0.08  # of all memory: below this a SIGKILL is most likely the kernel's
_EVENTS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
ADVICE = (
    "Give it more memory, or take fewer jobs at once (--jobs), fewer workers, a smaller batch or a smaller "
    "cache; in a container raise its memory limit and --shm-size."
)


class MemoryWatch:
    """Notes the least memory seen in the last seconds and the kernel's count of kills in this container."""

    def __init__(self) -> None:
        self._kills = _oom_kills()
        self._next = 0.0
        self._recent: list[tuple[float, float, float]] = []

    def look(self) -> None:
        """Take a sample, at most every half second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 0.5
        free, total = _memory()
        self._recent = [*self._recent[-20:], (free / total if total else 1.0, free, total)]

    def verdict(self) -> str:
        """What a SIGKILL that we did not send most likely was."""
        if _oom_kills() > self._kills:
            return f"The kernel killed it for want of memory. {ADVICE}"
        if self._recent:
            share, free, total = min(self._recent)
            if share < LOW:
                low = f"{free / 1024:.0f} of {total / 1024:.0f} MiB were free just before"
                return f"Most likely for want of memory ({low}). {ADVICE}"
        return "Something else killed it, or the kernel did for want of memory (see dmesg)."


def _memory() -> tuple[float, float]:
    """(available, total) in KiB; zeros where the system does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0.0, 0.0
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return (
        float(values.get("MemAvailable", "0 kB").split()[0]),
        float(values.get("MemTotal", "0 kB").split()[0]),
    )


def _oom_kills() -> int:
    for path in _EVENTS:
        try:
            fields = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
        except (OSError, ValueError):
            continue
        return int(fields.get("oom_kill", 0))
    return 0
