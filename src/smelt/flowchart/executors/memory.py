"""Was it the kernel's out-of-memory killer? It counts its kills, in a container and on the whole machine."""

from __future__ import annotations

import contextlib

from smelt.files.opening import read_text

# cgroup v2 and v1, as a container sees its own, and the machine (Linux 4.13)
_COUNTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control", "/proc/vmstat")
ADVICE = (
    "Give it more memory, or take fewer jobs at once (--jobs), fewer workers, a smaller batch or a smaller "
    "cache; in a container raise its memory limit and --shm-size."
)


def oom_kills() -> int:
    """How often the kernel has killed for want of memory: grows with every kill, 0 where it does not say."""
    found = 0
    for path in _COUNTS:
        with contextlib.suppress(OSError, ValueError):
            lines = read_text(path).splitlines()
            found += int(dict(line.split() for line in lines).get("oom_kill", 0))
    return found


def verdict(before: int) -> str:
    """What a SIGKILL that we did not send most likely was; `before`: `oom_kills` when the run began."""
    if oom_kills() > before:
        return f"The kernel killed it for want of memory. {ADVICE}"
    return "Something else killed it, or the kernel did for want of memory (see dmesg)."
