"""What passes is tried again and then stops the work; a short read goes on; links are followed or refused."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smelt.errors import BadImageError, StorageError, short
from smelt.files.opening import NOT_THERE, PAUSES, patiently, read_part, resolved

PASSING = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.ENOSPC,
           errno.EINTR, errno.EAGAIN, errno.ENOTCONN, errno.EDQUOT, errno.EBUSY)  # fmt: skip


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; nobody waits for them."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


def failing(times: int, error: BaseException) -> Callable[[], str]:
    left = [times]

    def action() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return "read"

    return action


@pytest.mark.parametrize("number", PASSING)
def test_what_passes_is_tried_again(number: int, slept: list[float]) -> None:
    assert number not in NOT_THERE
    assert patiently(failing(len(PAUSES), OSError(number, os.strerror(number))), str) == "read"
    assert slept == list(PAUSES)


@pytest.mark.parametrize("number", PASSING)
def test_what_does_not_pass_stops_with_its_number_its_file_and_what_to_do(number: int) -> None:
    with pytest.raises(StorageError) as caught:
        patiently(failing(99, OSError(number, os.strerror(number))), lambda: "/data/a.jpg")
    text = str(caught.value)
    assert errno.errorcode[number] in text and "/data/a.jpg" in text and os.strerror(number) in text
    assert "again" in text and not isinstance(caught.value, BadImageError)


def test_want_of_memory_is_tried_again_and_then_stops(slept: list[float]) -> None:
    assert patiently(failing(1, MemoryError()), str) == "read"
    with pytest.raises(StorageError, match="memory"):
        patiently(failing(99, MemoryError()), lambda: "a.jpg")
    assert slept == [PAUSES[0], *PAUSES]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_permission_does_not_pass(number: int, slept: list[float]) -> None:
    error = OSError(number, os.strerror(number), "/data/a.jpg")
    with pytest.raises(StorageError, match=r"/data/a\.jpg.*chmod"):
        patiently(failing(99, error), lambda: "?")
    assert slept == []


def test_facts_go_through_at_once(slept: list[float]) -> None:
    with pytest.raises(BadImageError):
        patiently(failing(1, BadImageError("missing")), str)
    assert slept == []


def few_at_a_time(monkeypatch: pytest.MonkeyPatch, most: int, until: int = 1 << 40) -> None:
    """`os.pread` gives at most so many bytes, and none from byte `until` on."""
    original = os.pread

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        return original(descriptor, max(min(size, most, until - offset), 0), offset)

    monkeypatch.setattr(os, "pread", pread)


@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_a_short_read_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    (tmp_path / "file").write_bytes(bytes(range(50)))
    few_at_a_time(monkeypatch, most)
    with open(tmp_path / "file", "rb") as file:
        for offset, size in ((0, 50), (10, 20), (49, 1), (0, 0), (50, 0)):
            assert read_part(file.fileno(), size, offset) == bytes(range(offset, offset + size))
        assert read_part(file.fileno(), 20, 40) == bytes(range(40, 50)), "the file ends before"
        assert read_part(file.fileno(), 20, 60) == b""


@pytest.mark.parametrize("until", [0, 5, 49])
def test_no_bytes_before_the_end_are_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: int
) -> None:
    (tmp_path / "file").write_bytes(bytes(50))
    few_at_a_time(monkeypatch, 4, until)
    with open(tmp_path / "file", "rb") as file, pytest.raises(OSError, match="before the end"):
        read_part(file.fileno(), 50, 0)


def test_a_link_that_cannot_be_looked_at_is_not_taken_for_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    assert resolved(tmp_path / "link" / "absent") == os.path.realpath(tmp_path / "folder" / "absent")

    def lstat(path: str, **options: object) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.raises(OSError, match="Input/output"):
        resolved(tmp_path / "link")


@given(st.text(max_size=60), st.integers(10, 40))
def test_a_short_text_keeps_both_ends(text: str, width: int) -> None:
    cut = short(text, width)
    assert len(cut) <= width
    if len(text) > width:
        assert cut[:3] == text[:3] and cut[-3:] == text[-3:] and "…" in cut
    else:
        assert cut == text
