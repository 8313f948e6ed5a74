"""Processes that die with their parent, whatever kills it, and take their own children along.

Three nets. The kernel kills the child when its parent dies (prctl, Linux). Each stage leads a process group
of its own and forks a watcher that sleeps on a pipe whose other end only the run holds: when the run is
gone the watcher kills the group, grandchildren (data workers, ranks) included. And a stage whose process has
ended has its group killed by whoever reaps it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

from smelt.files.opening import read_bytes

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent (pid `parent`) dies; die now if that has happened."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(137)


def watch(life: int) -> None:
    """Fork the watcher of this process group: it kills the group when the pipe `life` closes.

    Call it before any thread is started. The process must lead a group of its own.
    """
    assert os.getpgid(0) == os.getpid(), "a guarded process leads its own group"
    leader = os.getpid()
    if os.fork() != 0:
        os.close(life)
        return
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if life != 3:
            os.dup2(life, 3)
        os.closerange(0, 3)
        os.closerange(4, 65536)
        while os.read(3, 4096):
            pass
        os.killpg(leader, signal.SIGKILL)
    finally:
        os._exit(0)


def reap(pid: int) -> int | None:
    """None while the child `pid` runs; then its return code (negative: a signal), its group killed first.

    Where the system can, the group is killed before the pid is given back, so that no stranger is hit.
    """
    can_peek = hasattr(os, "waitid")  # not on macOS before Python 3.13
    if can_peek:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        kill_group(pid, signal.SIGKILL)
    found, status = os.waitpid(pid, os.WNOHANG)
    if found and not can_peek:
        kill_group(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status) if found else None


def kill_group(leader: int, number: int) -> None:
    """Send a signal to the group of `leader`, if it is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def send(pid: int, number: int) -> None:
    """Send a signal to a process, SIGKILL to its whole group; nothing where it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    if number == signal.SIGKILL:
        kill_group(pid, number)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits for its parent to look at its end; False where nobody tells."""
    try:
        return read_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except FileNotFoundError:
        return os.path.isdir("/proc/self")
    except (OSError, IndexError):
        return False
