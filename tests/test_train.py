"""Stage train: what it writes, and that a kill at any moment changes none of it."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning_toy import CLASSES, COUNTS, hashes, job, make_data, make_selection, run_job
from smelt.artifacts.checkpoint import Checkpoints, read_tensors, write_tensors
from smelt.artifacts.dynamics import Dynamics
from smelt.errors import ArtifactError, DataError, PreemptedError, RecipeError, TrainingError
from smelt.files.failpoints import VARIABLE
from smelt.mining.rankings import score_of

STEPS = 12  # of the toy: 3 epochs of 4 steps


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_selection(tmp_path_factory.mktemp("selection"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path, selection: Path) -> Path:
    torch.set_num_threads(1)
    return run_job(job(tmp_path_factory.mktemp("undisturbed"), catalogue=data, selection=selection))


# a process of its own for each run, forked from one that has torch imported but has not used it

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["learning_toy", "smelt.stages.train", "smelt.learning.setup", "timm"])


def _child(folder: Path, fail_at: str) -> None:
    os.environ[VARIABLE] = fail_at
    torch.set_num_threads(1)
    try:
        run_job(folder)
    except PreemptedError as error:
        raise SystemExit(error.exit_code) from error


def started(folder: Path, fail_at: str = "") -> Any:
    process = FORKS.Process(target=_child, args=(folder, fail_at))
    process.start()
    return process


def ended(folder: Path, fail_at: str = "") -> int | None:
    process = started(folder, fail_at)
    process.join(120)
    return process.exitcode  # type: ignore[no-any-return]


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_artefact(undisturbed: Path, data: Path) -> None:
    rows = list(csv.DictReader((undisturbed / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert all(0 <= float(row["val_top1_ema"]) <= float(row["val_top5_ema"]) <= 1 for row in rows)
    report = json.loads((undisturbed / "train.json").read_text())
    assert report["weights"] == "ema" and report["images"] == COUNTS["train"] and report["steps"] == STEPS
    dynamics = Dynamics.open(undisturbed / "dynamics")
    assert dynamics.num_rows == sum(COUNTS.values())
    assert (dynamics["seen"][: COUNTS["train"]] == 3).all() and not dynamics["seen"][COUNTS["train"] :].any()
    weights = read_tensors(undisturbed / "model.safetensors")
    averaged = read_tensors(undisturbed / "ema.safetensors")
    assert weights.keys() == averaged.keys() and weights["fc.weight"].shape[0] == CLASSES
    assert not torch.equal(weights["fc.weight"], averaged["fc.weight"])


@pytest.mark.slow
def test_kills_change_nothing(tmp_path: Path, data: Path, selection: Path, undisturbed: Path) -> None:
    """One training killed again and again: at steps, in and after the writing of checkpoints and results."""
    folder = job(tmp_path, catalogue=data, selection=selection)
    moments = [
        "train:step:2", "checkpoint:written:tensors.safetensors", "train:step:5", "train:step:6",
        "checkpoint:tensors:8", "train:step:11", "checkpoint:tensors:12",
        "checkpoint:written:model.safetensors", "checkpoint:written:ema.safetensors",
    ]  # fmt: skip
    for moment in moments:
        assert ended(folder, moment) == -signal.SIGKILL, moment
    for leftover in (folder / "out").rglob(".*.tmp"):  # as the stage runner does
        leftover.unlink()
    assert ended(folder) == 0
    assert hashes(folder / "out") == hashes(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.6])
def test_kill_at_any_time(
    tmp_path: Path, data: Path, selection: Path, undisturbed: Path, seconds: float
) -> None:
    folder = job(tmp_path, catalogue=data, selection=selection)
    process = started(folder)
    wait_until(lambda: any((folder / "out/scratch").glob("checkpoints/*/state.json")))
    time.sleep(seconds)
    process.kill()
    process.join()
    for leftover in (folder / "out").rglob(".*.tmp"):
        leftover.unlink()
    assert ended(folder) == 0
    assert hashes(folder / "out") == hashes(undisturbed)


@pytest.mark.slow
def test_sigterm_saves_and_goes_on(tmp_path: Path, data: Path, selection: Path, undisturbed: Path) -> None:
    folder = job(tmp_path, catalogue=data, selection=selection)
    process = started(folder)
    wait_until(lambda: any((folder / "out/scratch").glob("checkpoints/*/state.json")))
    process.terminate()
    process.join(60)
    assert process.exitcode == PreemptedError.exit_code
    assert ended(folder) == 0
    assert hashes(folder / "out") == hashes(undisturbed)


def test_same_for_any_number_of_workers(
    tmp_path: Path, data: Path, selection: Path, undisturbed: Path
) -> None:
    folder = job(tmp_path, catalogue=data, selection=selection)
    assert hashes(run_job(folder, workers=3)) == hashes(undisturbed)


def test_bad_images_are_left_out(tmp_path: Path, selection: Path) -> None:
    bad = (3, 77)
    data = make_data(tmp_path / "data", bad=bad)
    folder = job(tmp_path / "job", {"max_bad_fraction": 0.5}, catalogue=data, selection=selection)
    out = run_job(folder)
    dynamics = Dynamics.open(out / "dynamics")
    seen = np.full(COUNTS["train"], 3)
    seen[list(bad)] = 0
    assert (dynamics["seen"][: COUNTS["train"]] == seen).all()
    assert np.isnan(score_of(dynamics, "aum")[list(bad)]).all()
    assert json.loads((out / "train.json").read_text())["masked_images"] == 3 * len(bad)


def test_too_many_bad_images_stop(tmp_path: Path, selection: Path) -> None:
    data = make_data(tmp_path / "data", bad=(3, 7, 11))
    folder = job(tmp_path / "job", {"max_bad_fraction": 0.01}, catalogue=data, selection=selection)
    with pytest.raises(TrainingError, match="train/3"):
        run_job(folder)


def test_threshold_class(tmp_path: Path, data: Path) -> None:
    selection = make_selection(tmp_path / "s", extra=6)
    out = run_job(job(tmp_path / "j", {"epochs": 2}, catalogue=data, selection=selection))
    assert read_tensors(out / "model.safetensors")["fc.weight"].shape[0] == CLASSES + 1
    dynamics = Dynamics.open(out / "dynamics")
    assert (dynamics["seen"][: COUNTS["train"]] == 2).all()


def test_dropped_and_weightless_rows_are_not_shown(tmp_path: Path, data: Path) -> None:
    selection = make_selection(tmp_path / "s", drop=(0, 1), weights={2: 0.0, 3: 0.5})
    out = run_job(job(tmp_path / "j", catalogue=data, selection=selection))
    dynamics = Dynamics.open(out / "dynamics")
    assert dynamics["seen"][:5].tolist() == [0, 0, 0, 3, 3]


def test_record_epochs(tmp_path: Path, data: Path, selection: Path) -> None:
    out = run_job(job(tmp_path, {"record_epochs": 2}, catalogue=data, selection=selection))
    dynamics = Dynamics.open(out / "dynamics")
    assert (dynamics["seen"][: COUNTS["train"]] == 2).all()


def test_fine_tuning_starts_from_the_named_weights(
    tmp_path: Path, data: Path, selection: Path, undisturbed: Path
) -> None:
    still = {"epochs": 1, "warmup_epochs": 0, "learning_rate": 1e-30, "ema_decay": None, "weight_decay": 0.0}
    inputs = {"catalogue": data, "selection": selection, "start": undisturbed}
    out = run_job(job(tmp_path / "a", still, **inputs))
    begun = read_tensors(undisturbed / "ema.safetensors")
    after = read_tensors(out / "model.safetensors")
    parameters = [name for name in begun if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(begun[name], after[name], atol=1e-20) for name in parameters)
    with pytest.raises(ArtifactError, match="another model"):
        run_job(job(tmp_path / "b", {"backbone": "resnet14"}, **inputs))
    inputs["selection"] = make_selection(tmp_path / "s", extra=6)
    events: list[str] = []
    run_job(job(tmp_path / "c", still, **inputs), emit=lambda event, **fields: events.append(str(fields)))
    assert any("new head" in text for text in events)


def test_what_cannot_be_is_refused(tmp_path: Path, data: Path, selection: Path) -> None:
    inputs = {"catalogue": data, "selection": selection}
    with pytest.raises(RecipeError, match="tune"):
        run_job(job(tmp_path / "a", {"learning_rate": "tune"}, **inputs))
    everything = make_selection(tmp_path / "s", drop=tuple(range(COUNTS["train"])))
    with pytest.raises(DataError, match="keeps no image"):
        run_job(job(tmp_path / "b", {}, catalogue=data, selection=everything))
    with pytest.raises(ValueError, match="warmup_epochs"):
        run_job(job(tmp_path / "c", {"warmup_epochs": 3}, **inputs))


def test_tuned_rate_is_used(tmp_path: Path, data: Path, selection: Path) -> None:
    tuning = {"learning_rate": "tune", "tune": {"steps": 30}, "epochs": 1, "warmup_epochs": 0}
    tuned = run_job(job(tmp_path / "tune", tuning, catalogue=data, selection=selection), "tune")
    found = json.loads((tuned / "tune.json").read_text())
    out = run_job(job(tmp_path / "train", tuning, catalogue=data, selection=selection, tune=tuned))
    assert json.loads((out / "train.json").read_text())["peak_learning_rate"] == found["learning_rate"]


# checkpoints


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3, 2), value)}


def test_damaged_checkpoint_falls_back(tmp_path: Path) -> None:
    warned: list[str] = []
    checkpoints = Checkpoints(tmp_path, warned.append)
    for step in (1, 2, 3):
        checkpoints.save(step, tensors(step), {"at": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000000002", "000000000003"]
    damaged = tmp_path / "000000000003" / "tensors.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    found = checkpoints.latest()
    assert found is not None and found.state["at"] == 2 and bool((found.tensors["weight"] == 2).all())
    assert len(warned) == 1 and "step 3" in warned[0]
    (tmp_path / "000000000002" / "state.json").write_text("{")
    assert checkpoints.latest() is None


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 4, (1 << 60).to_bytes(8, "little") + b"{}", b"\x02" + b"\0" * 7 + b"[]"]
)
def test_evil_weights_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged"):
        read_tensors(path)


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    write_tensors(path, tensors(1))

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="48 bytes"):
        write_tensors(path, tensors(2))
    assert bool((read_tensors(path)["weight"] == 1).all())
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_no_threads_means_one_whatever_the_machine_has() -> None:
    """A number that the environment decides would be another result under the same key."""
    from smelt.learning.config import TrainSettings
    from smelt.learning.predict_settings import PredictSettings
    from smelt.learning.setup import fix_numerics

    assert TrainSettings(threads=0).threads == PredictSettings(threads=0).threads == 1
    for machine in (1, 2):
        torch.set_num_threads(machine)
        fix_numerics(0, True, torch.device("cpu"))
        assert torch.get_num_threads() == 1
