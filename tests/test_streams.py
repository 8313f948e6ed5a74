"""Standard streams that are closed: nothing is lost, and what is printed lands in no file of the run."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from processes import manifests

CLOSED = [which for size in (1, 2, 3) for which in combinations(range(3), size)]


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six images."""
    root = tmp_path_factory.mktemp("crawl")
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for i in range(6):
            Image.fromarray(random.integers(0, 255, (20, 20, 3)).astype(np.uint8)).save(
                root / name / f"{i}.png"
            )
    return root


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, crawl: Path) -> Path:
    """The work folder of a run whose streams are open."""
    work = tmp_path_factory.mktemp("usual") / "w"
    done = subprocess.run([*command(crawl), str(work)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return work


def command(crawl: Path) -> list[str]:
    return [sys.executable, "-m", "smelt", "index", "folder", "-o", f"data.root={crawl}", "--work"]


@pytest.mark.parametrize("closed", CLOSED)
def test_a_run_with_closed_streams_is_the_same(
    tmp_path: Path, crawl: Path, usual: Path, closed: tuple[int, ...]
) -> None:
    def shut() -> None:
        for number in closed:
            os.close(number)

    with open(os.devnull, "r+") as null:
        done = subprocess.run(
            [*command(crawl), str(tmp_path / "shut")], stdin=null, stdout=null, stderr=null, preexec_fn=shut
        )
    assert done.returncode == 0
    assert manifests(tmp_path / "shut") == manifests(usual)
    for path in (tmp_path / "shut").glob("*"):
        if path.is_file():
            assert b"begins" not in path.read_bytes() and b"stages" not in path.read_bytes()[:20], path
    assert (tmp_path / "shut" / "lock").read_bytes() == b""


def test_an_error_with_closed_streams_has_its_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "smelt", "report", str(tmp_path / "none")]
    done = subprocess.run(command, preexec_fn=lambda: os.closerange(0, 3))
    assert done.returncode == 2
