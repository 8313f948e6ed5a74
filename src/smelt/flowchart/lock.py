"""One run in a work folder at a time, without a lock file that anyone must ever delete.

The kernel holds the lock (flock) and drops it when the process dies, however it dies. The file's text, host
and pid, is only for the message. Where the file system has no flock (some network mounts), the text itself
is the lock: taken over when its process, on this host, is dead.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from smelt.errors import LockedError, SmeltError

_NO_FLOCK = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


class Lock:
    """Context manager that holds `path`; LockedError names host and pid of who has it.

    `wait` is how many seconds to try for: a stage whose run was killed a moment ago may still be dying.
    The descriptor is not inherited through exec.
    """

    def __init__(self, path: Path, *, wait: float = 0.0) -> None:
        self.path = path
        self.wait = wait
        self._file = -1

    def __enter__(self) -> Lock:
        deadline = time.monotonic() + self.wait
        while not self._try():
            if time.monotonic() >= deadline:
                raise LockedError(self._message())
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1

    def _try(self) -> bool:
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise SmeltError(f"cannot open the lock {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                os.close(file)
                raise SmeltError(f"cannot lock {self.path}: {error.strerror}") from error
            free = _is_stale(_read(file))
        if not free:
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.pwrite(file, f"{socket.gethostname()} {os.getpid()} {_birth(os.getpid())}\n".encode(), 0)
        self._file = file
        return True

    def _message(self) -> str:
        try:
            host, pid, _ = _parse(self.path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            host, pid = "", 0
        who = f"process {pid} on {host}" if host else "another process"
        return (
            f"{self.path.parent} is in use by {who}. Wait for it, stop it, or take another folder; "
            f"the lock falls by itself when that process ends"
        )


def _read(file: int) -> str:
    return os.pread(file, 1000, 0).decode("utf-8", "replace")


def _parse(text: str) -> tuple[str, int, str]:
    """(host, pid, birth) or ("", 0, "")."""
    fields = text.split()
    if len(fields) < 2 or not fields[1].isdecimal():
        return "", 0, ""
    return fields[0], int(fields[1]), fields[2] if len(fields) > 2 else ""


def _is_stale(text: str) -> bool:
    """Without flock: whether the holder is dead for certain. A process of another host never is."""
    host, pid, birth = _parse(text)
    if not host:
        return True
    return host == socket.gethostname() and (not _alive(pid) or (birth not in ("", _birth(pid))))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _birth(pid: int) -> str:
    """When the process began, in the kernel's ticks: tells it from a later one with the same number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "-"
    return stat.rpartition(")")[2].split()[19]
