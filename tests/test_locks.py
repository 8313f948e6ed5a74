"""The two locks: complete, pinned, with hashes, in agreement with pyproject.toml, and free of addresses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-torch.lock")
OF_TORCH = re.compile(r"torch|torchvision|triton|nvidia-.*|cuda-.*")


def locked(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """Package → (its requirement, hashes) of a lock."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, tuple[Requirement, list[str]]] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            words, *hashes = re.split(r"\s+--hash=", line.strip())
            requirement = Requirement(words)
            assert requirement.name not in found, f"{name} has {requirement.name} twice"
            found[requirement.name] = requirement, hashes
    return found


def asked() -> list[Requirement]:
    """What pyproject.toml wants: the package, its tests and what builds it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    words = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["dev"]]
    return [Requirement(word) for word in (*words, *project["dependency-groups"]["build"])]


def version_of(requirement: Requirement) -> Version:
    (pin,) = requirement.specifier
    assert pin.operator == "==", str(requirement)
    return Version(pin.version)


def test_everything_that_is_asked_for_is_pinned_as_it_was_asked_for() -> None:
    pins = {**locked(LOCKS[0]), **locked(LOCKS[1])}
    for wanted in asked():
        name = canonicalize_name(wanted.name)
        assert name in pins, f"{name} is in neither lock: make lock"
        assert wanted.specifier.contains(version_of(pins[name][0])), f"{wanted}: make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_hashes_and_no_address(name: str) -> None:
    pins = locked(name)
    assert len(pins) > 10
    for requirement, hashes in pins.values():
        version_of(requirement)
        assert requirement.url is None and hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"://|--index|--extra|--find-links|--trusted|file:", text)


def test_torch_and_what_only_it_brings_are_apart() -> None:
    assert all(OF_TORCH.fullmatch(name) for name in locked(LOCKS[1])) and "torch" in locked(LOCKS[1])
    assert not [name for name in locked(LOCKS[0]) if OF_TORCH.fullmatch(name)]
    text = (ROOT / LOCKS[1]).read_text(encoding="utf-8")
    for name, (requirement, _) in locked(LOCKS[1]).items():
        if name.startswith(("nvidia-", "cuda-", "triton")):
            assert requirement.marker is not None and "linux" in str(requirement.marker), text


def test_the_locks_are_complete_where_they_were_installed() -> None:
    """What the packages of the locks need here, by their own metadata, is in the locks."""
    pins = {**locked(LOCKS[0]), **locked(LOCKS[1])}
    for name, (requirement, _) in pins.items():
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # another torch was wanted
        for words in needed:
            one = Requirement(words)
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                assert canonicalize_name(one.name) in pins, f"{name} needs {one.name}"


def test_make_says_what_it_will_not_do(tmp_path: Path) -> None:
    """A Python that is too old, a TORCH that is neither, an environment that was made otherwise."""
    if shutil.which("make") is None:
        pytest.skip("no make here")
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        shutil.copy(ROOT / name, tmp_path)

    def make(*words: str) -> str:
        done = subprocess.run(["make", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "TORCH is lock or any, not all" in make("TORCH=all", "setup")
    assert "smelt needs Python 3.11 to 3.14" in make("PYTHON=/absent/python", "setup")
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    assert "smelt needs Python 3.11 to 3.14" in make(f"PYTHON={old}", "setup")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".ready").write_text("any\n")
    assert "was made with TORCH=any: make clean first" in make("TORCH=lock", "setup")
    plain = subprocess.run(["make", "setup"], cwd=tmp_path, capture_output=True, text=True)
    assert plain.returncode == 0, "an environment keeps to what it was made with"


def test_the_commands_of_a_set_up(tmp_path: Path) -> None:
    """In the order and with the options that the locks need; torch's lock only where it was not refused."""
    if shutil.which("make") is None:
        pytest.skip("no make here")
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        shutil.copy(ROOT / name, tmp_path)

    def commands(*words: str) -> str:
        word = f"PYTHON={sys.executable}"
        return subprocess.run(["make", "-n", word, *words, "setup"], cwd=tmp_path, capture_output=True,
                              text=True, check=True).stdout  # fmt: skip

    hashed = "--require-hashes --no-deps -r"
    told = commands()
    assert told.index(f"{hashed} requirements.lock") < told.index(f"{hashed} requirements-torch.lock")
    assert told.index("requirements-torch.lock") < told.index("--no-build-isolation --no-deps -e .")
    other = commands("TORCH=any", "TORCH_INDEX=there")
    assert "requirements-torch.lock" not in other and "--index-url there 'torch>=" in other
    assert "no hash speaks for them" in other
