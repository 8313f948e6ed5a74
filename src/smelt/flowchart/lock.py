"""One run in a work folder at a time, without a lock file that anyone must ever delete.

The kernel holds the lock (flock) and drops it when the process dies, however it dies. The file's text, host
and pid, is only for the message.

Where the file system has no flock (some network mounts), the file itself is the lock: its text says who has
it, and it is there as long as that one has it. A file is made under a name of its own and linked into place,
which exactly one process can do. A holder that is dead for certain, a process of this host, is succeeded:
whoever links its own file to `lock.after-<hash of the dead one's text>` first, and finds that the text still
stands in `lock`, moves its file there. No text is ever used twice, so of many that saw the same dead holder
one succeeds it, whatever the order of their steps; one that dies on the way is succeeded like any other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from smelt.errors import LockedError, SmeltError
from smelt.files.opening import read_text

_NO_FLOCK = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
_WRITING = 0.2  # seconds that a file may be empty while its maker writes the text


class Lock:
    """Context manager that holds `path`; LockedError names host and pid of who has it.

    `wait` is how many seconds to try for: a stage whose run was killed a moment ago may still be dying.
    The descriptor is not inherited through exec.
    """

    def __init__(self, path: Path, *, wait: float = 0.0) -> None:
        self.path = path
        self.wait = wait
        self._file = -1  # with flock: the descriptor that the kernel's lock belongs to
        self._own = ""  # without: the text that says we have it

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
        if self._own and _text(self.path) == self._own:
            self.path.unlink(missing_ok=True)
        self._own = ""

    def _try(self) -> bool:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            if not self.path.exists():
                if not _has_flock(self.path):
                    return self._take_file()  # it must not be made before it has its text
                flags |= os.O_CREAT
            file = os.open(self.path, flags, 0o666)
        except FileNotFoundError:  # it was freed this moment
            return self._try() if self.path.parent.is_dir() else False
        except OSError as error:
            raise SmeltError(f"cannot open the lock {self.path}: {error.strerror}{_mend(error)}") from error
        return self._take_kernel(file)

    def _take_kernel(self, file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if isinstance(error, BlockingIOError):
                return False
            if error.errno in _NO_FLOCK:
                return self._take_file()
            raise SmeltError(f"cannot lock {self.path}: {error.strerror}") from error
        text = _identity().encode()
        os.pwrite(file, text, 0)  # never empty in between: hosts that mount it without flock go by the text
        os.ftruncate(file, len(text))
        self._file = file
        return True

    def _take_file(self) -> bool:
        """Without flock: link a file of our own into place, where nobody or a dead process has it."""
        text = _settled(self.path)
        if not _is_stale(text or ""):
            return False
        own = _identity()
        with _own_file(self.path, own) as made:
            if text is None:
                taken = _link(made, self.path)
            else:
                taken = self._succeed(text, made)
        if taken:
            self._own = own
        return taken

    def _succeed(self, text: str, made: Path) -> bool:
        """Take the place of the dead holder `text`; False where another did. `made` has our own text.

        Between a claim and the move of its file to `path` the claimant may die: then its claim is succeeded,
        and so on; the last claim is who has the lock.
        """
        last = text
        while (claimed := _settled(claim := _after(self.path, last))) is not None:
            if not _is_stale(claimed):
                return False
            last = claimed
        if not _link(made, claim):
            return False
        if _text(self.path) != text:
            # all was over before we began: another succeeded, moved its file and cleared the claims away
            claim.unlink(missing_ok=True)
            return False
        own = _text(made)
        os.replace(made, self.path)
        # the claims that led here, and files that dead processes left
        for left in list(self.path.parent.iterdir()):
            if not left.name.startswith(f"{self.path.name}."):
                continue
            found = _text(left)
            if found is not None and (found == own or _is_stale(found)):
                left.unlink(missing_ok=True)
        return True

    def _message(self) -> str:
        host, pid, _ = _parse(_text(self.path) or "")
        who = f"process {pid} on {host}" if host else "another process"
        falls = "the lock falls by itself when that process ends"
        if host not in ("", socket.gethostname()) and not _has_flock(self.path):
            falls = (
                f"its file system cannot lock, so only {host} can tell whether that process is alive: if it "
                f"surely is not, start once on {host}, or delete {self.path}"
            )
        return f"{self.path.parent} is in use by {who}. Wait for it, stop it, or take another folder; {falls}"


def _identity() -> str:
    """Host, process, when it began, and a word that no other lock has."""
    return f"{socket.gethostname()} {os.getpid()} {_birth(os.getpid())} {secrets.token_hex(8)}\n"


def _mend(error: OSError) -> str:
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ""
    return (
        ". A run writes in its work folder, and so do verify and clean: do it as its owner, or with another "
        "folder; results, show and report --out FILE only read"
    )


@contextlib.contextmanager
def _own_file(path: Path, text: str) -> Iterator[Path]:
    """A file beside `path` that is ours alone and holds `text`; gone afterwards, but for its links."""
    made = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(8)}")
    try:
        file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.write(file, text.encode())
            os.fsync(file)
        finally:
            os.close(file)
        yield made
    except OSError as error:
        raise SmeltError(f"cannot write the lock {path}: {error.strerror}{_mend(error)}") from error
    finally:
        made.unlink(missing_ok=True)


def _has_flock(path: Path) -> bool:
    """Whether files beside `path` can be locked by the kernel, tried with one of our own."""
    with _own_file(path, _identity()) as made:
        file = os.open(made, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_FLOCK:
                return False
            raise
        finally:
            os.close(file)
    return True


def _link(made: Path, place: Path) -> bool:
    """Make `place` a name of the file `made`, unless there is such a name already."""
    try:
        os.link(made, place)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return _copy(made, place)
        # over NFS a request that is sent again may find its own work done
        return os.stat(made).st_nlink == 2
    return True


def _copy(made: Path, place: Path) -> bool:
    """`_link` where there are no links; the file is empty for a moment, which `_settled` sits out."""
    try:
        file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(file, made.read_bytes())
        os.fsync(file)
    finally:
        os.close(file)
    return True


def _after(path: Path, text: str) -> Path:
    """The claim to succeed the holder with this text."""
    return path.with_name(f"{path.name}.after-{hashlib.sha256(text.encode()).hexdigest()[:32]}")


def _text(path: Path) -> str | None:
    """What a lock file says; None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1000)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SmeltError(f"cannot read the lock {path}: {error.strerror}") from error


def _settled(path: Path) -> str | None:
    """`_text`, after a moment in which its maker may still be writing."""
    deadline = time.monotonic() + _WRITING
    while (text := _text(path)) == "" and time.monotonic() < deadline:
        time.sleep(0.01)
    return text


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
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _birth(pid: int) -> str:
    """When the process began, in the kernel's ticks: tells it from a later one with the same number."""
    try:
        stat = read_text(f"/proc/{pid}/stat", "replace")
    except OSError:
        return "-"
    return stat.rpartition(")")[2].split()[19]
