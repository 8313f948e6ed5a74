"""The lock, with two real processes: refused with a name, freed by death, taken over where it is stale."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processes import Run, wait_for
from smelt.errors import LockedError
from smelt.flowchart.lock import Lock, _birth

HOLD = """
import sys, time
from pathlib import Path
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
        with pytest.raises(LockedError, match="process 17 on elsewhere"), Lock(tmp_path / "lock"):
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
