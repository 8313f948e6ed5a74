"""benchmarks/loader.py: who fails ends nobody else, ratios are like for like, the path is the shipped one."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from smelt.data.images.store import ImageStore
from smelt.learning import setup

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
FAKES = """
import os, threading, time
import torch

def give(work, seconds=0.0):
    images = torch.zeros(64, 224, 224, 3, dtype=torch.float32 if work.float32 else torch.uint8)
    def epoch():
        print("noise on stdout")
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass
        yield images.permute(0, 3, 1, 2)
    return epoch

def quick(work): return give(work, 0.1)
def slow(work): return give(work, 0.4)
def raises(work): raise OSError("its header is missing")
def wrong(work): return lambda: [torch.zeros(64, 3, 224, 224, dtype=torch.uint8)]
def dies(work): os.kill(os.getpid(), 11)

def dies_later(work):
    calls = []
    def epoch():
        calls.append(1)
        if len(calls) == 3:
            os._exit(7)
        yield from give(work)()
    return epoch

def thread_raises(work):
    def fail(): raise RuntimeError("in a thread")
    def epoch():
        threading.Thread(target=fail, daemon=True).start()
        time.sleep(1000)
        yield
    return epoch

def silent(work): return lambda: (time.sleep(1000) for _ in range(1))
"""


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    """The three modules of the benchmark: loader, loader_peers, loader_process."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = [importlib.import_module(name) for name in ("loader", "loader_peers", "loader_process")]
    return found[0], found[1], found[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """64 small JPEGs of a few sizes."""
    random = np.random.default_rng(0)
    below = tmp_path / "256"
    below.mkdir()
    for number in range(64):
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        side = (60 + number % 3, 48)
        Image.fromarray(coarse).resize(side, Image.Resampling.BICUBIC).save(below / f"{number:03d}.jpg")
    return below


@pytest.mark.slow
def test_failures_of_every_kind_end_nobody_else(
    modules: tuple[Any, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fakes.py").write_text(FAKES)
    monkeypatch.syspath_prepend(str(tmp_path))
    loader, _, process = modules
    kinds = {"torchvision": "slow", "smelt": "quick"}
    kinds |= {k: k for k in ("raises", "wrong", "dies", "dies_later", "thread_raises", "silent")}
    peers = {
        name: process.Peer("smelt", f"fakes:{kind}", 3 if kind == "silent" else 200)
        for name, kind in kinds.items()
    }
    peers["absent"] = process.Peer("no_such_package.inner", "fakes:quick", 200)
    try:
        table = loader.compare(peers, tmp_path, False, 1, 3)
    finally:
        for peer in peers.values():
            peer.end()
    for kind in ("uint8", "float32"):
        assert table[f"torchvision, {kind}"]["ratio"] == 1.0
        assert 2.0 < table[f"smelt, {kind}"]["ratio"] < 8.0  # 0.1 and 0.4 s of CPU, and what a pass costs
        assert table[f"raises, {kind}"] == "failed: OSError: its header is missing"
        assert table[f"dies, {kind}"] == "failed: ended by signal 11"
        assert table[f"dies_later, {kind}"] == "failed: ended with exit code 7"
        assert table[f"thread_raises, {kind}"] == "failed: RuntimeError: in a thread"
        assert table[f"silent, {kind}"] == "failed: no answer in 3 s"
        assert table[f"absent, {kind}"] == "not installed"
        assert "gives torch.uint8 (64, 3, 224, 224) with channels elsewhere" in table[f"wrong, {kind}"]


@pytest.mark.slow
def test_the_command_ends_with_one_line_of_json(folder: Path) -> None:
    photos = folder.with_suffix(".tar")
    with tarfile.open(photos, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    command = [sys.executable, str(BENCHMARKS / "loader.py"), "--quick", "--json", "--only", "smelt"]
    command += ["--images", "1", "--repeats", "2", "--photos", str(photos)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["images"] == 64 and report["repeats"] == 2 and report["failures"] == {}
    names = {f"{what}_{form}" for what in ("crop", "randaugment") for form in ("256", "500")}
    assert report["ratios"].keys() == names | {f"{name}_float32" for name in names}
    for name, ratio in report["ratios"].items():
        low, high = report["ratio_ranges"][name]
        assert 0 < low <= ratio <= high
    assert report["tables"].keys() == {f"{name}_1" for name in names}
    assert min(report["psnr"].values()) > 60


def test_ratio_is_of_the_same_type_and_repetition(modules: tuple[Any, Any, Any]) -> None:
    loader, _, _ = modules
    row = loader.Row
    passes = {  # (images, CPU seconds, seconds); the machine is three times slower in the second repetition
        row("torchvision", False): [(64, 1.0, 2.0), (64, 3.0, 6.0), (64, 1.0, 2.0)],
        row("torchvision", True): [(64, 2.0, 2.0), (64, 6.0, 6.0), (64, 2.0, 2.0)],
        row("smelt", False): [(64, 0.5, 1.0), (64, 1.5, 1.0), (64, 0.4, 1.0)],
        row("smelt", True): [(64, 0.5, 1.0), (64, 1.5, 1.0), (64, 0.5, 1.0)],
    }
    table = {str(each): loader.summary(each, passes, {}) for each in passes}
    assert table["smelt, uint8"] == {
        "per_cpu_second": 128.0, "per_second": 64.0, "ratio": 2.0, "ratio_range": [2.0, 2.5]
    }  # fmt: skip
    assert table["smelt, float32"]["ratio"] == 4.0 and table["smelt, float32"]["ratio_range"] == [4.0, 4.0]
    report: dict[str, Any] = {
        "tables": {}, "ratios": {}, "ratio_ranges": {}, "images_per_cpu_second": {}, "failures": {},
        "not_installed": [],
    }  # fmt: skip
    table["ffcv, uint8"] = "failed: no answer in 300 s"
    table["dali, uint8"] = table["dali, float32"] = "not installed"
    table["albumentations, uint8"] = "has no RandAugment"
    loader.enter(report, "crop_256", 1, table)
    assert report["ratios"] == {"crop_256": 2.0, "crop_256_float32": 4.0}
    assert report["failures"] == {"ffcv, uint8, crop_256, 1 worker(s)": "no answer in 300 s"}
    assert report["not_installed"] == ["dali"]


def test_no_ratio_where_the_base_failed(modules: tuple[Any, Any, Any]) -> None:
    loader, _, process = modules
    base, own = loader.Row("torchvision", False), loader.Row("smelt", False)
    passes = {base: [(64, 1.0, 1.0)], own: [(64, 0.5, 1.0), (64, 0.5, 1.0)]}
    failed = {base: process.Failed("ended by signal 9")}
    assert "ratio" not in loader.summary(own, passes, failed)
    assert loader.summary(base, passes, failed) == "failed: ended by signal 9"


@pytest.mark.parametrize("float32", [False, True])
@pytest.mark.parametrize("randaugment", [False, True])
@pytest.mark.parametrize("name", ["smelt", "torchvision", "simplejpeg + v2", "smelt, pixels kept", "timm"])
def test_all_give_the_same_type_shape_and_layout(
    modules: tuple[Any, Any, Any],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    randaugment: bool,
    float32: bool,
) -> None:
    _, peers, process = modules
    for module in (peers, setup):
        monkeypatch.setattr(module, "CACHE_MIB", 1)
    work = process.Work(folder, randaugment, float32, 1)
    batches = list(getattr(peers, peers.PEERS[name][1].partition(":")[2])(work)())
    assert len(batches) == 1
    process.check(batches[0], work)
    assert len(torch.unique(batches[0])) > 100
    if float32:
        assert -2.2 < batches[0].min() < -1.5 and 1.5 < batches[0].max() < 2.7


def test_no_measured_image_is_kept_in_memory_or_all_are(
    modules: tuple[Any, Any, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loader is the one of training; its memory for pixels is full of others, or holds them all."""
    _, peers, process = modules
    for module in (peers, setup):
        monkeypatch.setattr(module, "CACHE_MIB", 1)
    read: list[int] = []
    plain = ImageStore.read
    monkeypatch.setattr(ImageStore, "read", lambda self, row: (read.append(row), plain(self, row))[1])
    work = process.Work(folder, False, False, 1)
    for make, expected in ((peers.smelt, list(range(64))), (peers.smelt_kept, [])):
        epoch = make(work)
        for _ in range(2):
            read.clear()
            assert sum(len(batch) for batch in epoch()) == 64
            assert sorted(read) == expected


def test_work_done_ahead_is_counted(modules: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that goes on after the last batch is waited for, and its seconds are its own."""
    _, _, process = modules
    used = iter([10.0, 12.0, 12.5, 13.0, 13.001, 13.001])  # before, after the pass, then every 50 ms
    monkeypatch.setattr(process, "cpu_seconds", lambda: next(used))
    clock = iter([100.0, 101.0, 101.05, 101.1])
    monkeypatch.setattr(process.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(process.time, "sleep", lambda seconds: None)
    count, cpu, wall = process.timed(lambda: [torch.zeros(64, 1), torch.zeros(64, 1)])
    assert (count, cpu) == (128, 3.0) and wall == pytest.approx(1.1)
