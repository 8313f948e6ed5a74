"""The lock, with two real processes: refused with a name, freed by death, taken over where it is stale."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from processes import Run, wait_for
from smelt.errors import LockedError, SmeltError
from smelt.flowchart import lock as lock_module
from smelt.flowchart.lock import Lock, _birth

HOLD = """
import sys, time
from pathlib import Path
from smelt.flowchart import lock as lock_module
from smelt.flowchart.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = holder(path)
    try:
        with pytest.raises(LockedError) as caught, Lock(path):
            pass
        assert f"process {first.pid} on {socket.gethostname()}" in str(caught.value)
        assert caught.value.exit_code == 3
    finally:
        first.communicate("")
    with Lock(path):
        pass


def test_a_lock_without_permission_says_what_only_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "lock").write_text("")
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(SmeltError, match=r"Permission denied\. A run writes in its work folder.* only read"):
        Lock(tmp_path / "lock").__enter__()


def test_kill_9_frees_it_without_any_unlock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = holder(path)
    first.kill()
    first.communicate()
    assert str(first.pid) in path.read_text()  # the text is still there, and means nothing
    with Lock(path):
        assert path.read_text().split()[:2] == [socket.gethostname(), str(os.getpid())]


def test_a_wait_ends_when_the_holder_does(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = holder(path)
    second = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("[1])", "[1]), wait=60"), str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    first.communicate("")
    assert second.communicate()[0] == "held\n"
    assert second.returncode == 0


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    first = Run(tmp_path, seconds=0.3, steps=20)
    try:
        wait_for(lambda: first.events("started"))
        code, text = Run(tmp_path).end()
        assert code == 3
        assert f"process {first.process.pid} on {socket.gethostname()}" in text
    finally:
        first.kill_everything()


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without flock, as some network mounts are."""

    def refuse(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("no_flock")
class TestWithoutFlock:
    def test_a_living_holder_is_respected(self, tmp_path: Path) -> None:
        with Lock(tmp_path / "lock"), pytest.raises(LockedError), Lock(tmp_path / "lock"):
            pass

    def test_another_host_is_respected(self, tmp_path: Path) -> None:
        (tmp_path / "lock").write_text("elsewhere 17 5\n")
        with (
            pytest.raises(LockedError, match=r"process 17 on elsewhere.*only elsewhere can"),
            Lock(tmp_path / "lock"),
        ):
            pass

    def test_a_dead_holder_is_not(self, tmp_path: Path) -> None:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        (tmp_path / "lock").write_text(f"{socket.gethostname()} {gone.pid} 5\n")
        with Lock(tmp_path / "lock"):
            pass

    def test_a_later_process_with_the_same_number_is_not_the_holder(self, tmp_path: Path) -> None:
        birth = int(_birth(os.getpid())) - 1
        (tmp_path / "lock").write_text(f"{socket.gethostname()} {os.getpid()} {birth}\n")
        with Lock(tmp_path / "lock"):
            pass

    def test_it_is_free_after_a_clean_end(self, tmp_path: Path) -> None:
        for _ in range(2):
            with Lock(tmp_path / "lock"):
                pass

    def test_two_that_find_it_free_at_once_do_not_both_have_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both look before either takes it, whether it is not there, empty, or a dead process's."""
        look = lock_module._text
        for text in (None, "", dead_text()):
            path = tmp_path / f"{text is None}{text == ''}" / "lock"
            path.parent.mkdir()
            if text is not None:
                path.write_text(text)
            barrier = threading.Barrier(2)
            seen: set[int] = set()

            def slow(place: Path, path: Path = path, barrier: threading.Barrier = barrier,
                     seen: set[int] = seen) -> str | None:  # fmt: skip
                found = look(place)
                if place == path and threading.get_ident() not in seen:
                    seen.add(threading.get_ident())
                    barrier.wait(30)
                return found

            monkeypatch.setattr(lock_module, "_text", slow)
            held: list[Lock] = []
            threads = [threading.Thread(target=take, args=(path, held)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            monkeypatch.setattr(lock_module, "_text", look)
            assert len(held) == 1
            assert os.listdir(path.parent) == ["lock"]
            held[0].__exit__(None, None, None)

    def test_one_who_looked_long_ago_takes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between our look at a dead holder and our claim another succeeded it and cleared all traces."""
        path = tmp_path / "lock"
        path.write_text(dead_text())
        link = lock_module._link
        other = Lock(path)

        def late(made: Path, place: Path) -> bool:
            monkeypatch.setattr(lock_module, "_link", link)
            other.__enter__()
            return link(made, place)

        monkeypatch.setattr(lock_module, "_link", late)
        with pytest.raises(LockedError):
            Lock(path).__enter__()
        assert path.read_text() == other._own and os.listdir(tmp_path) == ["lock"]
        other.__exit__(None, None, None)
        with Lock(path):
            pass

    @pytest.mark.parametrize("links", [True, False])
    def test_one_that_died_while_it_took_over_is_succeeded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
    ) -> None:
        if not links:

            def refuse(made: Path, place: Path) -> None:
                raise OSError(errno.EPERM, "Operation not permitted")

            monkeypatch.setattr(os, "link", refuse)
        path = tmp_path / "lock"
        first, second = dead_text("1"), dead_text("2")
        path.write_text(first)
        lock_module._after(path, first).write_text(second)
        with Lock(path) as held:
            assert path.read_text() == held._own and os.listdir(tmp_path) == ["lock"]
            with pytest.raises(LockedError):
                Lock(path).__enter__()
        path.write_text(first)
        living = f"{socket.gethostname()} {os.getpid()} {_birth(os.getpid())} x\n"
        lock_module._after(path, first).write_text(living)
        with pytest.raises(LockedError):
            Lock(path).__enter__()


def dead_text(word: str = "") -> str:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return f"{socket.gethostname()} {gone.pid} 5 {word}\n"


def take(path: Path, held: list[Lock]) -> None:
    with contextlib.suppress(LockedError):
        held.append(Lock(path).__enter__())


CONTEND = """
import errno, fcntl, os, sys, time
from pathlib import Path
from smelt.errors import LockedError, SmeltError
from smelt.flowchart import lock as lock_module
from smelt.flowchart.lock import Lock
def refuse(file, operation):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
path, inside = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for turn in range(30):
    try:
        with Lock(path, wait=60):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where another is inside
            os.unlink(inside)
            if turn == 15 and sys.argv[3] == "dies":
                os._exit(0)
    except FileExistsError:
        sys.exit("two at once")
"""


def test_many_processes_without_flock_are_never_inside_together(tmp_path: Path) -> None:
    """Half of them die with the lock in their hands, so it is also taken over from the dead."""
    command = [sys.executable, "-c", CONTEND, str(tmp_path / "lock"), str(tmp_path / "inside")]
    crowd = [
        subprocess.Popen(
            [*command, "dies" if i % 2 else "ends"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(6)
    ]  # fmt: skip
    for process in crowd:
        assert process.stdout and process.stdout.readline() == "ready\n"
    said = [process.communicate("go\n")[1] for process in crowd]
    assert [process.returncode for process in crowd] == [0] * 6, said
    assert set(os.listdir(tmp_path)) <= {"lock"}


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    """A child that outlives the holder must not keep the folder locked."""
    code = HOLD.replace(
        "    sys.stdin.read()",
        "    import subprocess; print(subprocess.Popen(['sleep', '60'], close_fds=False).pid, flush=True)\n"
        "    sys.stdin.read()",
    )
    process: Any = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        with Lock(tmp_path / "lock"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdin.close()
        process.stdout.close()
