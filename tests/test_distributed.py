"""Several ranks: the metrics of one, each row recorded once, and all of them end when one dies."""

from __future__ import annotations

import csv
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from learning_toy import COUNTS, hashes, job, make_data, make_selection, run_job
from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.selection import read_selection, write_selection
from smelt.errors import PreemptedError, TrainingError
from smelt.files.failpoints import VARIABLE
from smelt.learning.distributed import Group

pytestmark = pytest.mark.slow
TOY = Path(__file__).with_name("learning_toy.py")
# one rank's half of a batch has statistics of its own; without drop-path nothing else differs
TWO = {"world_size": 2, "drop_path_rate": 0.0, "batch_size": 40, "epochs": 4, "checkpoint_every_steps": 2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("data")
    return {
        "catalogue": make_data(folder / "data"),
        "selection": make_selection(folder / "selection", drop=(7,)),
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, inputs: dict[str, Path]) -> Path:
    return run_job(job(tmp_path_factory.mktemp("two"), TWO, **inputs))


def metrics(out: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((out / "metrics.csv").read_text().splitlines())
    return [{name: float(value) for name, value in row.items()} for row in rows]


def children_of(pid: int) -> list[int]:
    """Processes whose parent is `pid` and which are not dead."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def started(folder: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(TOY), str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def ranks_of(pid: int) -> list[int]:
    """The ranks that the process `pid` has started: children of its fork server."""
    servers = [c for c in children_of(pid) if "forkserver" in Path(f"/proc/{c}/cmdline").read_text()]
    return [rank for server in servers for rank in children_of(server)]


def test_two_ranks_give_the_metrics_of_one(tmp_path: Path, inputs: dict[str, Path], two: Path) -> None:
    one = run_job(job(tmp_path, {**TWO, "world_size": 1}, **inputs))
    for alone, together in zip(metrics(one), metrics(two), strict=True):
        assert together["step"] == alone["step"] and together["learning_rate"] == alone["learning_rate"]
        assert together["train_loss"] == pytest.approx(alone["train_loss"], abs=0.06)
        assert together["train_top1"] == pytest.approx(alone["train_top1"], abs=0.12)
        assert together["val_top1"] == pytest.approx(alone["val_top1"], abs=0.25)
    mean = [np.mean([row["train_loss"] for row in metrics(out)]) for out in (one, two)]
    assert mean[0] == pytest.approx(mean[1], abs=0.03)


def test_each_row_is_recorded_once_an_epoch(two: Path) -> None:
    dynamics = Dynamics.open(two / "dynamics")
    expected = np.zeros(sum(COUNTS.values()))
    expected[: COUNTS["train"]] = 4
    expected[7] = 0
    assert (dynamics["seen"] == expected).all()


def test_a_rank_that_dies_takes_all_along(
    tmp_path: Path, inputs: dict[str, Path], two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ranks reach step 5, whichever is killed first takes the other along; again, and the same comes."""
    folder = job(tmp_path, TWO, **inputs)
    monkeypatch.setenv(VARIABLE, "train:step:5")
    with pytest.raises(TrainingError, match="ended by signal 9"):
        run_job(folder)
    assert not multiprocessing.active_children()
    monkeypatch.delenv(VARIABLE)
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink()
    assert hashes(run_job(folder)) == hashes(two)


def test_one_rank_killed_from_outside(tmp_path: Path, inputs: dict[str, Path]) -> None:
    process = started(job(tmp_path, {**TWO, "epochs": 500}, **inputs))
    assert process.stdout is not None
    while "metric" not in process.stdout.readline():
        assert process.poll() is None
    victims = ranks_of(process.pid)
    assert len(victims) == 2
    os.kill(victims[1], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == TrainingError.exit_code and "all ranks were ended" in err, (out, err)
    assert not any(Path(f"/proc/{pid}").exists() for pid in victims)


def test_ranks_die_with_the_process_that_started_them(tmp_path: Path, inputs: dict[str, Path]) -> None:
    process = started(job(tmp_path, {**TWO, "epochs": 500}, **inputs))
    assert process.stdout is not None
    while "metric" not in process.stdout.readline():
        assert process.poll() is None
    victims = ranks_of(process.pid)
    process.kill()
    process.communicate()
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in victims):
        assert time.monotonic() < end, "a rank lives on"
        time.sleep(0.1)


def test_sigterm_saves_and_goes_on(tmp_path: Path, inputs: dict[str, Path]) -> None:
    folder = job(tmp_path, {**TWO, "epochs": 500, "checkpoint_every_steps": None}, **inputs)
    process = started(folder)
    assert process.stdout is not None
    while "metric" not in process.stdout.readline():
        assert process.poll() is None
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == PreemptedError.exit_code, (out, err)
    assert "saved at step" in err


def test_under_torchrun(tmp_path: Path, inputs: dict[str, Path], two: Path) -> None:
    folder = job(tmp_path, TWO, **inputs)
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(TOY),
         str(folder)],
        check=True, capture_output=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert hashes(folder / "out") == hashes(two)


def test_torchrun_with_other_ranks_is_refused(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(TrainingError, match="world_size is 2"):
        run_job(job(tmp_path, TWO, **inputs))


def _gathering(rank: int, world: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.set_num_threads(1)
    for sizes in ((3, 0, 2), (0, 0, 0), (1, 1, 1), (0, 5, 0)):
        made = [
            torch.arange(size * 2, dtype=torch.float64).view(size, 2) + 10 * i for i, size in enumerate(sizes)
        ]
        found = Group(rank, world).gathered(made[rank])
        assert len(found) == world and all(torch.equal(*pair) for pair in zip(found, made))
    dist.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, 3])
def test_lines_of_all_ranks_come_to_all(tmp_path: Path, world_size: int) -> None:
    mp.spawn(_gathering, (world_size, str(tmp_path)), nprocs=world_size)  # type: ignore[no-untyped-call]


def alike_after_a_death(
    tmp_path: Path,
    many: dict[str, Any],
    inputs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    apart: float,
) -> int:
    """A training whose rank dies at `where` and is started again gives the bytes of one that was let be; one
    rank sees the same rows, and its losses are no further `apart`. How many visits were recorded."""
    whole = run_job(job(tmp_path / "whole", many, **inputs))
    folder = job(tmp_path / "cut", many, **inputs)
    monkeypatch.setenv(VARIABLE, where)
    with pytest.raises(TrainingError, match="ended by signal 9"):
        run_job(folder)
    monkeypatch.delenv(VARIABLE)
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink()
    assert hashes(run_job(folder)) == hashes(whole)
    alone = run_job(job(tmp_path / "alone", {**many, "world_size": 1}, **inputs))
    one, several = Dynamics.open(alone / "dynamics"), Dynamics.open(whole / "dynamics")
    assert (one["seen"] == several["seen"]).all()
    losses = [[row["train_loss"] for row in metrics(out)] for out in (alone, whole)]
    assert losses[0] == pytest.approx(losses[1], abs=apart)
    return int(one["seen"].sum())


@pytest.mark.parametrize("world_size", [2, 3])
def test_options_against_noise_under_ranks(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    """Every rank draws whether to mix alike, else rows would be recorded on some and not on others; a death
    and another start give the same bytes; the loss is that of one rank, but for who is mixed with whom."""
    many = {
        **TWO, "world_size": world_size, "loss": "gce", "label_smoothing": 0.1, "elr": {"top": 2},
        "mixing": {"mixup": 1.0, "cutmix": 1.0, "probability": 0.5}, "batch_size": 24,
    }  # fmt: skip
    seen = alike_after_a_death(tmp_path, many, inputs, monkeypatch, "train:step:9", 0.15)
    assert 0 < seen < 4 * (COUNTS["train"] - 1)


def test_semi_under_ranks(tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair with unlabelled images: a death and another start give the same bytes; the loss is near that of
    one rank, whose norms see the whole batch."""
    dropped = make_selection(tmp_path / "selection", drop=tuple(range(0, COUNTS["train"], 3)))
    write_selection(dropped, dataclasses.replace(read_selection(dropped), words=("", "low_aum")))
    inputs = {**inputs, "selection": dropped}
    many = {**TWO, "semi": {"networks": 2, "warmup_epochs": 1, "threshold": 0.3, "spread": 0.5}}
    assert alike_after_a_death(tmp_path, many, inputs, monkeypatch, "train:step:5", 0.3) > 0


def test_a_group_of_one_needs_no_one() -> None:
    tensor: Any = torch.ones(3)
    group = Group()
    group.sum_all([tensor])
    group.barrier()
    assert group.first and bool((group.sum(tensor) == 1).all())
