"""The memory of what was found whole: hashed once, again after any change, harmless when it is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smelt.files import atomic, committed, verified
from smelt.files.verified import Verified


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    (tmp_path / "try").mkdir()
    (tmp_path / "try" / "a.bin").write_bytes(bytes(100))
    (tmp_path / "try" / "b.bin").write_bytes(bytes(range(100)))
    committed.commit(tmp_path / "try", tmp_path / "artifacts" / "x-1", {"key": "1"})
    return tmp_path / "artifacts" / "x-1"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed."""
    names: list[str] = []
    real = atomic.sha256_file

    def note(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(committed, "sha256_file", note)
    return names


def test_every_file_is_hashed_once(artefact: Path, tmp_path: Path, hashed: list[str]) -> None:
    path = tmp_path / "verified.txt"
    assert Verified(path).problems(artefact) == []
    assert sorted(hashed) == ["a.bin", "b.bin"]
    one, other = Verified(path), Verified(path)
    assert one.problems(artefact) == other.problems(artefact) == []
    assert len(hashed) == 2
    assert one.problems(artefact, fresh=True) == [] and len(hashed) == 4


def test_a_commit_need_not_be_hashed_again(artefact: Path, tmp_path: Path, hashed: list[str]) -> None:
    memory = Verified(tmp_path / "verified.txt")
    memory.note(artefact)
    assert memory.problems(artefact) == [] and not hashed


@pytest.mark.parametrize("change", ["content", "content and time", "another inode", "manifest"])
def test_any_change_is_looked_at(artefact: Path, tmp_path: Path, hashed: list[str], change: str) -> None:
    memory = Verified(tmp_path / "verified.txt")
    assert memory.problems(artefact) == []
    path, before = artefact / "a.bin", (artefact / "a.bin").stat()
    if change == "another inode":
        (tmp_path / "copy").write_bytes(bytes(100))
        os.replace(tmp_path / "copy", path)
    elif change == "manifest":
        os.utime(artefact / committed.MANIFEST, (1, 1))
        manifest = atomic.read_json(artefact / committed.MANIFEST)
        atomic.write_json(artefact / committed.MANIFEST, {**manifest, "key": "2"})
    else:
        path.write_bytes(bytes(99) + b"!")
    if change == "content and time":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = memory.problems(artefact)
    assert bool(found) == change.startswith("content") and len(hashed) == 4
    assert memory.problems(artefact) == found  # damage is never remembered as whole


def test_a_lost_or_torn_memory_costs_hashing_only(artefact: Path, tmp_path: Path, hashed: list[str]) -> None:
    path = tmp_path / "verified.txt"
    for content in (b"", b"x-1", b"x-1 0123", b"\xff\x00\n\n x", b"x-1 " + b"0" * 64 + b"\nx-1 "):
        path.write_bytes(content)
        del hashed[:]
        assert Verified(path).problems(artefact) == [] and len(hashed) == 2
        assert Verified(path).problems(artefact) == [] and len(hashed) == 2  # written behind the torn line


def test_without_remembering_nothing_is_written(artefact: Path, tmp_path: Path) -> None:
    path = tmp_path / "verified.txt"
    assert Verified(path).problems(artefact, remember=False) == []
    assert not path.exists()


def test_lines_of_what_is_gone_are_dropped(
    artefact: Path, tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "verified.txt"
    memory = Verified(path)
    memory.problems(artefact)
    with open(path, "a") as file:
        file.write("gone-1 00\ngone-2 00\n")
    memory.tidy(artefact.parent)
    assert "gone-1" in path.read_text()  # a few are left in place
    monkeypatch.setattr(verified, "SPARE_LINES", 1)
    memory.tidy(artefact.parent)
    assert "gone" not in path.read_text()
    assert Verified(path).problems(artefact) == [] and len(hashed) == 2
