"""Atomic files and the commit: whole or not there, damage found, equal work equal bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smelt.errors import ArtifactError
from smelt.files import atomic, committed


def attempt(folder: Path, text: str = "one") -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "scratch").mkdir()
    (folder / "scratch" / "checkpoint").write_text("not kept")
    (folder / "a.txt").write_text(text)
    (folder / "sub" / "b.bin").write_bytes(bytes(100))
    return folder


def test_a_commit_moves_everything_but_scratch(tmp_path: Path) -> None:
    manifest = committed.commit(attempt(tmp_path / "try"), tmp_path / "done" / "x-1", {"key": "1"})
    assert list(manifest["files"]) == ["a.txt", "sub/b.bin"] and manifest["key"] == "1"
    assert not (tmp_path / "try").exists() and not (tmp_path / "done/x-1/scratch").exists()
    assert committed.problems(tmp_path / "done" / "x-1", deep=True) == []


def test_equal_work_gives_equal_manifests(tmp_path: Path) -> None:
    for name in "ab":
        committed.commit(attempt(tmp_path / f"try-{name}"), tmp_path / name, {"key": "1"})
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()


def test_damage_is_found(tmp_path: Path) -> None:
    target = tmp_path / "x"
    assert "never committed" in committed.problems(target)[0]
    committed.commit(attempt(tmp_path / "try"), target, {})
    (target / "a.txt").write_text("two")  # same size, other content
    assert committed.problems(target) == []
    assert "other content" in committed.problems(target, deep=True)[0]
    (target / "a.txt").write_text("longer")
    assert "6 bytes, not 3" in committed.problems(target)[0]
    (target / "a.txt").unlink()
    assert "missing" in committed.problems(target)[0]
    (target / "manifest.json").write_text("{")
    assert "damaged" in committed.problems(target)[0]


def test_a_link_is_not_committed(tmp_path: Path) -> None:
    folder = attempt(tmp_path / "try")
    os.symlink("/etc/hostname", folder / "link")
    with pytest.raises(ArtifactError, match="is a link"):
        committed.commit(folder, tmp_path / "x", {})
    assert not (tmp_path / "x").exists()


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    atomic.write_json(path, {"step": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"cannot write .*state\.json \(\d+ bytes\): No space left"):
        atomic.write_json(path, {"step": 2})
    monkeypatch.undo()
    assert atomic.read_json(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["state.json"]


def test_json_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"x\.json is not there"):
        atomic.read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(ArtifactError, match=r"x\.json is damaged"):
        atomic.read_json(tmp_path / "x.json")
