"""Prediction: views against a naive computation, results as files, restarts, bad images, full disks."""

from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning_toy import (
    CLASSES,
    COUNTS,
    SIZE,
    hashes,
    images_of,
    job,
    make_data,
    make_selection,
    run_job,
    run_stage,
)
from smelt.artifacts import results
from smelt.artifacts.catalogue import Catalogue
from smelt.errors import ArtifactError
from smelt.learning.pixels import Normaliser
from smelt.learning.setup import saved_model
from smelt.metrics import hits_topk
from smelt.stages import predict

WHOLE = {"size": SIZE, "crops": 1, "resize": 1.0}
SETTINGS: dict[str, Any] = {"views": [WHOLE], "threads": 1, "precision": "fp32", "batch_size": 16}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("train")
    selection = make_selection(folder / "selection", extra=5)  # one output more than classes
    return run_job(job(folder, {"epochs": 2}, catalogue=data, selection=selection))


def predicted(out: Path, data: Path, trained: Path, **changes: Any) -> Path:
    return run_stage(out, "predict", {**SETTINGS, **changes}, {"catalogue": [data], "train": [trained]})


def test_whole_view_is_the_model(tmp_path: Path, data: Path, trained: Path) -> None:
    out = predicted(tmp_path, data, trained)
    scores, info = results.open_dense(out / "val" / "16x1r1.npy")
    labels = np.arange(COUNTS["val"]) % CLASSES
    images = torch.from_numpy(images_of(labels.astype(np.int32), 1)).permute(0, 3, 1, 2)
    model = saved_model(trained).eval()
    with torch.inference_mode():
        plain = model(Normaliser(torch.device("cpu"), False)(images))[:, :CLASSES]
    np.testing.assert_allclose(scores, plain.numpy(), rtol=2e-3, atol=2e-3)
    catalogue = Catalogue.open(data / "catalogue")
    assert info.classes_hash == results.classes_hash(catalogue.classes) and info.kind == "logits"
    assert (results.read_rows(out / "val" / "16x1r1.npy") == catalogue.rows("val")).all()
    assert {path.name for path in (out / "test").iterdir()} == {
        "16x1r1.npy",
        "16x1r1.json",
        "16x1r1.rows.npy",
    }


@pytest.mark.parametrize("crops", [5, 10])
def test_crops_are_averaged(tmp_path: Path, data: Path, trained: Path, crops: int) -> None:
    """Images of 16 pixels under a view of 12 / 16: centre and corners are plain slices."""
    view = {"size": 12, "crops": crops, "resize": 16 / 12}
    out = predicted(tmp_path, data, trained, views=[view], splits=["val"])
    (path,) = results.find(out, "val")
    scores, _ = results.open_dense(path)
    labels = np.arange(COUNTS["val"]) % CLASSES
    images = torch.from_numpy(images_of(labels.astype(np.int32), 1)).permute(0, 3, 1, 2)
    corners = [(2, 2), (0, 0), (0, 4), (4, 0), (4, 4)]
    views = [images[..., top : top + 12, left : left + 12] for top, left in corners]
    if crops == 10:
        views += [view.flip(-1) for view in views]
    model = saved_model(trained).eval()
    normalise = Normaliser(torch.device("cpu"), False)
    with torch.inference_mode():
        plain = torch.stack([model(normalise(view))[:, :CLASSES] for view in views]).mean(dim=0)
    np.testing.assert_allclose(scores, plain.numpy(), rtol=3e-3, atol=3e-3)


def test_best_scores_only(tmp_path: Path, data: Path, trained: Path) -> None:
    dense = predicted(tmp_path / "a", data, trained, splits=["train"])
    cut = predicted(tmp_path / "b", data, trained, splits=["train"], topk={"train": 2})
    scores, _ = results.open_dense(dense / "train" / "16x1r1.npy")
    top, info = results.open_topk(cut / "train" / "16x1r1.topk.npz")
    expected = results.cut(scores, 2)
    for name in ("classes_NK", "scores_NK", "floor_N"):
        assert (getattr(top, name) == getattr(expected, name)).all(), name
    np.testing.assert_allclose(top.tail_N, expected.tail_N, rtol=1e-3, atol=1e-5)
    assert info.num_rows == COUNTS["train"] and not list((cut / "scratch").iterdir())


def test_which_weights(tmp_path: Path, data: Path, trained: Path) -> None:
    found = {}
    for weights in ("default", "ema", "raw"):
        out = predicted(tmp_path / weights, data, trained, weights=weights, splits=["val"])
        found[weights] = np.array(results.open_dense(out / "val" / "16x1r1.npy")[0])
    assert (found["default"] == found["ema"]).all() and not (found["ema"] == found["raw"]).all()


def test_no_average_no_ema_weights(tmp_path: Path, data: Path) -> None:
    selection = make_selection(tmp_path / "selection")
    plain = run_job(
        job(
            tmp_path,
            {"epochs": 1, "warmup_epochs": 0, "ema_decay": None},
            catalogue=data,
            selection=selection,
        )
    )
    with pytest.raises(ArtifactError, match="without ema_decay"):
        predicted(tmp_path / "p", data, plain, weights="ema")


def test_bad_images_have_no_opinion_and_are_listed(tmp_path: Path, trained: Path) -> None:
    bad = COUNTS["train"] + 3  # the fourth of validation
    data = make_data(tmp_path / "data", bad=(bad,))
    out = predicted(tmp_path / "p", data, trained, splits=["val"])
    scores, _ = results.open_dense(out / "val" / "16x1r1.npy")
    assert not scores[3].any() and np.abs(scores).sum(axis=1).astype(bool).sum() == len(scores) - 1
    # no opinion lists the first classes, and is right for no other
    guesses = np.tile(scores[3], (scores.shape[1], 1))
    assert np.flatnonzero(hits_topk(guesses, np.arange(scores.shape[1]), 1)).tolist() == [0]
    (line,) = csv.DictReader((out / "val" / "16x1r1.bad.csv").read_text().splitlines())
    assert line == {"row": str(bad), "file": f"val/{bad}", "reason": "missing"}


def test_restart_keeps_what_is_whole(
    tmp_path: Path, data: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = [WHOLE, {"size": 12, "crops": 5}]
    whole = predicted(tmp_path / "a", data, trained, views=views, topk={"test": 2})
    calls: list[int] = []
    write_dense = results.write_dense

    def interrupted(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write_dense(*args)

    monkeypatch.setattr(predict, "write_dense", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predicted(tmp_path / "b", data, trained, views=views, topk={"test": 2})
    assert len(results.find(tmp_path / "b", "val")) == 1
    monkeypatch.undo()
    first = results.find(tmp_path / "b", "val")[0]
    written = first.stat().st_mtime_ns
    again = predicted(tmp_path / "b", data, trained, views=views, topk={"test": 2})
    assert hashes(again) == hashes(whole)
    assert first.stat().st_mtime_ns == written


@pytest.mark.parametrize("name", ["16x1r1.npy", "16x1r1.json", "16x1r1.rows.npy"])
def test_a_view_that_was_damaged_after_a_kill_is_made_again(
    tmp_path: Path, data: Path, trained: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same size: nothing but its hash can tell, and it would be committed as sound."""
    splits, out = ["test", "val", "train"], tmp_path / "b"
    whole = predicted(tmp_path / "a", data, trained, splits=splits)
    real = results.write_dense

    def killed(path: Path, *rest: Any) -> None:
        if path.parent.name == "train":
            raise KeyboardInterrupt
        real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("smelt.stages.predict.write_dense", killed)
        with pytest.raises(KeyboardInterrupt):
            predicted(out, data, trained, splits=splits)
    path = out / "val" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    untouched = (out / "test" / name).stat().st_mtime_ns
    assert hashes(predicted(out, data, trained, splits=splits)) == hashes(whole)
    assert (out / "test" / name).stat().st_mtime_ns == untouched


def test_full_disk_is_told_at_once(
    tmp_path: Path, data: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ArtifactError, match=r"bytes\): No space"):
        predicted(tmp_path, data, trained, splits=["train"], topk={"train": 2})
    assert not results.find(tmp_path, "train")


def test_other_classes_are_refused(tmp_path: Path, data: Path, trained: Path) -> None:
    other = tmp_path / "train"
    other.mkdir()
    for name in ("model.safetensors", "ema.safetensors"):
        (other / name).write_bytes((trained / name).read_bytes())
    info = json.loads((trained / "model.json").read_text())
    (other / "model.json").write_text(json.dumps({**info, "num_classes": 3}))
    with pytest.raises(ArtifactError, match="3 classes"):
        predicted(tmp_path / "p", data, other)
    (other / "model.json").write_text(json.dumps({**info, "num_classes": 9}))
    with pytest.raises(ArtifactError, match="other shapes"):
        predicted(tmp_path / "q", data, other)


def test_settings_that_cannot_be(tmp_path: Path, data: Path, trained: Path) -> None:
    with pytest.raises(ValueError, match="same view twice"):
        predicted(tmp_path, data, trained, views=[WHOLE, WHOLE])
    with pytest.raises(ValueError, match="same split twice"):
        predicted(tmp_path, data, trained, splits=["val", "val"])
