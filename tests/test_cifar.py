"""CIFAR-N from one file and as published, and files that would do harm."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from formats_toy import catalogue_of, put, refused, rows_of
from smelt.data.formats.cifar_n import _chosen as cifar_chosen
from smelt.data.formats.config import FormatSettings, fingerprint


def test_cifar_keeps_the_only_image_of_a_class() -> None:
    labels = np.array([0] * 30 + [1] + [2] * 2, np.int32)
    for seed in range(20):
        wanted = FormatSettings(format="cifar_n", val_fraction=0.9, seed=seed)
        train, val = cifar_chosen(wanted, labels)
        assert sorted([*train.tolist(), *val.tolist()]) == list(range(33))
        assert set(labels[train].tolist()) == {0, 1, 2}


def cifar_npz(root: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Two sheets for training, one for test."""

    def sheet(images: np.ndarray) -> np.ndarray:
        tiles = images.reshape(50, 50, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(1600, 1600, 3)
        file = io.BytesIO()
        Image.fromarray(tiles).save(file, "PNG", compress_level=0)
        return np.frombuffer(file.getvalue(), np.uint8)

    images = (np.arange(7500, dtype=np.uint32)[:, None] // np.array([1, 256]) % 256).astype(np.uint8)
    pixels = np.zeros((7500, 32, 32, 3), np.uint8)
    pixels[:, 0, 0, :2] = images  # the number of the image
    clean = rng.integers(0, 10, 5000).astype(np.uint8)
    worst = np.where(rng.random(5000) < 0.4, (clean + 1) % 10, clean).astype(np.uint8)
    data = {
        "train_sheet_00": sheet(pixels[:2500]), "train_sheet_01": sheet(pixels[2500:5000]),
        "test_sheet_00": sheet(pixels[5000:]), "train_labels_clean": clean, "noisy_worst": worst,
        "test_labels": rng.integers(0, 10, 2500).astype(np.uint8),
        "class_names": np.array([f"class {i}" for i in range(10)]),
    }  # fmt: skip
    root.mkdir()
    np.savez(root / "cifar10n.npz", **data)
    return data


def test_cifar_n(tmp_path: Path) -> None:
    data = cifar_npz(tmp_path / "data", np.random.default_rng(0))
    c = catalogue_of(tmp_path / "data", tmp_path / "out", format="cifar_n", subset=1003, subset_balanced=True)
    assert [len(c.rows(split)) for split in c.splits] == [1003, 500, 2500]
    counts = np.bincount(c.labels_N[c.rows("train")])
    assert counts.sum() == 1003 and counts.max() - counts.min() <= 1
    truth = c.column("true_label")
    assert truth is not None
    pixels = np.load(c.folder / "images.npy", mmap_mode="r")
    assert pixels.shape == (4003, 32, 32, 3)
    for row in [0, 500, 1002, 1003, 1502, 1503, 4002]:
        place = c.location(row)
        assert place.inside and place.raw_shape == (32, 32, 3) and place.shard == "images.npy"
        raw = (c.folder / "images.npy").read_bytes()[place.offset : place.offset + place.size]
        assert np.array_equal(np.frombuffer(raw, np.uint8).reshape(32, 32, 3), pixels[row])
        part, number = place.path.split("/")
        original = int(number) + (5000 if part == "test" else 0)
        assert raw[0] + 256 * raw[1] == original
        if part == "train":
            assert (
                c.labels_N[row] == data["noisy_worst"][original]
                and truth[row] == data["train_labels_clean"][original]
            )
        else:
            assert c.labels_N[row] == truth[row] == data["test_labels"][original - 5000]
    train = c.rows("train")
    assert (np.array(c.strings("noise", train)) == "flip").tolist() == (
        c.labels_N[train] != truth[train]
    ).tolist()
    paths = {c.path(row) for row in range(c.num_rows)}
    assert len(paths) == c.num_rows


def test_cifar_n_settings(tmp_path: Path) -> None:
    cifar_npz(tmp_path / "data", np.random.default_rng(0))
    whole = catalogue_of(
        tmp_path / "data", tmp_path / "a", format="cifar_n", val_labels="clean", val_fraction=0.2
    )
    part = catalogue_of(tmp_path / "data", tmp_path / "b", format="cifar_n", subset=300, val_fraction=0.2)
    assert [len(whole.rows(s)) for s in whole.splits] == [4000, 1000, 2500]
    val = {whole.path(row) for row in whole.rows("val").tolist()}
    assert val == {part.path(row) for row in part.rows("val").tolist()}, (
        "validation is the same for any subset"
    )
    truth = whole.column("true_label")
    assert truth is not None and (truth == whole.labels_N)[whole.rows("val")].all()
    assert {path for path, _ in rows_of(part, "train")} <= {path for path, _ in rows_of(whole, "train")}
    assert "has no labels `noisy_aggre`" in refused(
        tmp_path / "data", tmp_path / "c", format="cifar_n", labels="noisy_aggre"
    )
    assert "more than the 4500" in refused(tmp_path / "data", tmp_path / "d", format="cifar_n", subset=4999)


@pytest.mark.parametrize("kind", ["zip", "legacy", "npy"])
@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_n_as_published(tmp_path: Path, kind: str, hundred: bool) -> None:
    rng = np.random.default_rng(1)
    root = tmp_path / "data"
    base = root / ("cifar-100-python" if hundred else "cifar-10-batches-py")
    base.mkdir(parents=True)
    labels_key, classes = (b"fine_labels", 100) if hundred else (b"labels", 10)
    batches = {"train": 500} if hundred else {f"data_batch_{i}": 100 for i in range(1, 6)}
    clean: list[int] = []
    pixels = []
    for name, count in {**batches, ("test" if hundred else "test_batch"): 100}.items():
        data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = [int(y) for y in rng.permutation(np.arange(count) % classes)]
        (base / name).write_bytes(
            pickle.dumps({b"data": data, labels_key: labels, b"filenames": [b"x"] * count}, 2)
        )
        if not name.startswith("test"):
            clean += labels
            pixels.append(data)
    noisy = (np.array(clean) + (rng.random(500) < 0.3)) % classes
    human = {"clean_label": np.array(clean), "noisy_label" if hundred else "worse_label": noisy}
    stem = "CIFAR-100_human" if hundred else "CIFAR-10_human"
    if kind == "npy":
        np.save(root / f"{stem}_ordered.npy", human, allow_pickle=True)
    else:
        torch.save(human, root / f"{stem}.pt", _use_new_zipfile_serialization=kind == "zip")
    name = "noisy" if hundred else "noisy_worst"
    c = catalogue_of(root, tmp_path / "out", format="cifar_n", labels=name, val_fraction=0.0)
    truth = c.column("true_label")
    assert truth is not None and c.num_classes == classes and len(c.rows("train")) == 500
    assert c.labels_N[:500].tolist() == noisy.tolist() and truth[:500].tolist() == clean
    stored = np.load(c.folder / "images.npy", mmap_mode="r")
    assert np.array_equal(stored[:500].transpose(0, 3, 1, 2).reshape(500, 3072), np.concatenate(pixels))
    assert len(fingerprint(FormatSettings(format="cifar_n", labels=name), root)) == 32
    human["clean_label"] = human["clean_label"][::-1].copy()
    torch.save(human, root / f"{stem}.pt")
    assert "another order" in refused(root, tmp_path / "bad", format="cifar_n", labels=name)


def test_cifar_pickles_run_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/canary",)

    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        put(tmp_path / "data", {f"cifar-10-batches-py/{name}": pickle.dumps({b"data": Evil()})})
    assert "cannot be read as a file of arrays" in refused(
        tmp_path / "data", tmp_path / "out", format="cifar_n"
    )
    assert not (tmp_path / "canary").exists()


@pytest.mark.shared
@pytest.mark.slow
def test_cifar_n_for_real(tmp_path: Path, shared_data: Path) -> None:
    c = catalogue_of(shared_data, tmp_path / "out", format="cifar_n", val_fraction=0.0)
    truth = c.column("true_label")
    assert truth is not None and len(c.rows("train")) == 50_000 and len(c.rows("test")) == 10_000
    assert abs(float((truth != c.labels_N)[:50_000].mean()) - 0.402) < 0.001
    assert np.bincount(truth).tolist() == [6000] * 10
