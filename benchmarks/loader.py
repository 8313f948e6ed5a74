"""Loading images: smelt beside torchvision, simplejpeg + torchvision v2, timm, WebDataset, albumentations,
DALI (CPU) and FFCV; uint8 beside uint8, float32 beside float32.

    python benchmarks/loader.py [--quick] [--json] [--photos photos.tar] [--images N] [--repeats R]
                                [--only smelt,torchvision,ffcv] [--patience SECONDS]

What each does, exactly, and what installs them: benchmarks/loader_peers.py. Every loader has a process of its
own: one that fails, dies or does not answer is shown as `failed: reason`, and the others go on. They take
turns, one at a time, in an order that turns round from repetition to repetition. Compared are images per
CPU-second, of all threads and child processes of a loader; its ratio to torchvision's for the same type is
taken within a repetition, and shown are median, least and largest of the repetitions.

Two forms: `256` (short side of 256 pixels, quality 90, as WebVision's own resized files) and `500`
(500 × 375), made of the JPEGs in --photos, or of generated ones where that is not given or missing.

The last line with --json: `ratios`, smelt's on one core, {crop,randaugment}_{256,500} over torchvision's
uint8 and the same names with _float32 over its float32; `ratio_ranges` (least, largest), `repeats`, `images`,
`images_per_cpu_second` of smelt, `failures`, `not_installed`, all `tables`, and `psnr`, smelt's crops against
Pillow's full decode and antialiased bilinear resize. Exit code 1 where smelt or torchvision failed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from loader_peers import PEERS
from loader_process import BATCH, SIZE, Failed, Pass, Peer, Work
from smelt.data.config import AugmentSettings
from smelt.data.images.augment import random_box, uniform
from smelt.data.images.decode import load_crop
from smelt.data.images.headers import probe

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos" / "photos_small600.tar"
QUICK = ("smelt", "torchvision", "simplejpeg + v2")
BASE = "torchvision"
PACKAGES = (
    "torch", "torchvision", "pillow", "simplejpeg", "timm", "webdataset", "albumentations",
    "opencv-python-headless", "nvidia-dali-cuda120", "ffcv",
)  # fmt: skip


def photographs(archive: Path | None, count: int) -> Iterator[Image.Image]:
    """JPEGs of `archive`, or else pictures with structure at all scales, as photographs have."""
    if archive is not None and archive.is_file():
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.isfile() and member.name.endswith(".jpg")]
            for member in members[:: max(len(members) // count, 1)][:count]:
                yield Image.open(tar.extractfile(member)).convert("RGB")  # type: ignore[arg-type]
        return
    random = np.random.default_rng(0)
    for _ in range(count):
        octaves = np.zeros((384, 512, 3))
        for side in (3, 6, 12, 24, 48, 96, 192):
            noise = random.normal(size=(side * 3 // 4 + 1, side, 3)) + random.normal(
                size=(side * 3 // 4 + 1, side, 1)
            )
            layers = [
                Image.fromarray(noise[..., c].astype(np.float32)).resize((512, 384), Image.Resampling.BICUBIC)
                for c in range(3)
            ]
            octaves += np.stack([np.asarray(layer) for layer in layers], axis=2) * 60 / side**0.5
        yield Image.fromarray((octaves + 128).clip(0, 255).astype(np.uint8))


def make_files(archive: Path | None, count: int, below: Path) -> dict[str, Path]:
    """Both forms as folders of JPEGs, and a tar of each beside it."""
    forms = {form: below / form for form in ("256", "500")}
    for folder in forms.values():
        folder.mkdir()
    for number, image in enumerate(photographs(archive, count)):
        scale = 256 / min(image.size)
        small = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
        )
        small.save(forms["256"] / f"{number:06d}.jpg", quality=90)
        landscape = ImageOps.fit(image, (500, 375), Image.Resampling.LANCZOS)
        landscape.save(forms["500"] / f"{number:06d}.jpg", quality=90)
    for folder in forms.values():
        with tarfile.open(folder.with_suffix(".tar"), "w") as tar:
            for path in sorted(folder.iterdir()):
                tar.add(path, path.name)
    return forms


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    peer: str
    float32: bool

    def __str__(self) -> str:
        return f"{self.peer}, {'float32' if self.float32 else 'uint8'}"


def compare(
    peers: dict[str, Peer], folder: Path, randaugment: bool, workers: int, repeats: int
) -> dict[str, Any]:
    """`repeats` alternating passes of every row: medians and ratios, or why there are none."""
    works = {
        Row(name, float32): Work(folder, randaugment, float32, workers)
        for float32 in (False, True)
        for name in peers
    }
    failed: dict[Row, Failed] = {}
    passes: dict[Row, list[Pass]] = {row: [] for row in works}

    def ask(what: str, row: Row) -> None:
        answer = peers[row.peer].ask(what, works[row])
        if isinstance(answer, Failed):
            for other in works:  # a peer whose process has ended has forgotten its other work
                if other == row or (other.peer == row.peer and answer.fatal):
                    failed.setdefault(other, answer)
        elif answer is not None:
            passes[row].append(answer)

    for row in works:
        if row not in failed:
            ask("enter", row)
    for repeat in range(repeats):
        for row in list(works)[:: 1 if repeat % 2 else -1]:
            if row not in failed:
                ask("pass", row)
    for peer in peers.values():
        if peer.alive:
            peer.ask("leave")
    return {str(row): summary(row, passes, failed) for row in works}


def summary(row: Row, passes: dict[Row, list[Pass]], failed: dict[Row, Failed]) -> dict[str, Any] | str:
    """A row's medians and, where its base has them too, ratios."""
    if row in failed:
        return str(failed[row])
    speeds = [count / cpu for count, cpu, _ in passes[row]]
    found: dict[str, Any] = {
        "per_cpu_second": round(statistics.median(speeds), 1),
        "per_second": round(statistics.median(count / wall for count, _, wall in passes[row]), 1),
    }
    base = Row(BASE, row.float32)
    if base in passes and base not in failed:
        ratios = [own / (count / cpu) for own, (count, cpu, _) in zip(speeds, passes[base], strict=True)]
        found["ratio"] = round(statistics.median(ratios), 2)
        found["ratio_range"] = [round(min(ratios), 2), round(max(ratios), 2)]
    return found


def quality(folder: Path) -> float:
    """Mean PSNR in dB of random crops against Pillow's full decode + antialiased bilinear resize."""
    values, augment = [], AugmentSettings()
    for number, path in enumerate(sorted(folder.glob("*.jpg"))):
        data = path.read_bytes()
        header = probe(data)
        box = random_box(header.width, header.height, augment, uniform(np.array([number], np.uint64), 22)[0])
        ours = load_crop(data, box, (SIZE, SIZE), flip=False).astype(np.float64)
        image = Image.open(io.BytesIO(data)).convert("RGB")
        theirs = np.asarray(image.crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        values.append(10 * np.log10(255**2 / max(np.mean((ours - theirs) ** 2), 1e-9)))
    return float(np.mean(values))


def show(title: str, table: dict[str, Any]) -> None:
    print(f"\n{title}: images per CPU-second, per second, over {BASE} of the same type [least, largest]")
    for name, line in table.items():
        if isinstance(line, str):
            print(f"  {name:30s} {line}")
            continue
        ratio = f"{line['ratio']:6.2f} {line['ratio_range']}" if "ratio" in line else ""
        print(f"  {name:30s} {line['per_cpu_second']:8.1f} {line['per_second']:8.1f} {ratio}", flush=True)


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def measure(names: list[str], options: argparse.Namespace, images: int, repeats: int) -> dict[str, Any]:
    """All tables, shown as they come, and the line for --json."""
    report: dict[str, Any] = {
        "images": images, "repeats": repeats, "cores": os.cpu_count(), "machine": platform.machine(),
        "versions": versions(), "ratios": {}, "ratio_ranges": {}, "images_per_cpu_second": {}, "psnr": {},
        "failures": {}, "not_installed": [], "tables": {},
    }  # fmt: skip
    peers = {name: Peer(*PEERS[name], options.patience) for name in names}
    try:
        with tempfile.TemporaryDirectory() as temporary:
            for form, folder in make_files(options.photos, images, Path(temporary)).items():
                report["psnr"][form] = round(quality(folder), 1)
                print(f"\n{form}: PSNR {report['psnr'][form]} dB")
                for randaugment in (False, True):
                    for workers in (1,) if options.quick else (1, 2):
                        title = f"{'randaugment' if randaugment else 'crop'}_{form}"
                        table = compare(peers, folder, randaugment, workers, repeats)
                        show(f"{title}, {workers} worker(s)", table)
                        enter(report, title, workers, table)
    finally:
        for peer in peers.values():
            peer.end()
    return report


def enter(report: dict[str, Any], title: str, workers: int, table: dict[str, Any]) -> None:
    """Put a table into the report."""
    report["tables"][f"{title}_{workers}"] = table
    for name, line in table.items():
        peer = name.rpartition(",")[0]
        if line == "not installed":
            report["not_installed"] = sorted({*report["not_installed"], peer})
        elif isinstance(line, str) and line.startswith("failed: "):
            report["failures"][f"{name}, {title}, {workers} worker(s)"] = line.removeprefix("failed: ")
    if workers != 1:
        return
    for kind, key in (("uint8", title), ("float32", f"{title}_float32")):
        line = table.get(f"smelt, {kind}")
        if isinstance(line, dict) and "ratio" in line:
            report["ratios"][key], report["ratio_ranges"][key] = line["ratio"], line["ratio_range"]
            report["images_per_cpu_second"][key] = line["per_cpu_second"]


def main() -> None:
    """Measure and print; the last line is JSON with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)}; one core; about a minute")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="a tar of JPEGs")
    parser.add_argument("--images", type=int, help="images of each form (quick: 128, else 576)")
    parser.add_argument("--repeats", type=int, help="repetitions (quick: 5, else 7)")
    parser.add_argument("--only", help=f"peers, by commas; {BASE} is always there: {', '.join(PEERS)}")
    parser.add_argument("--patience", type=float, default=300, help="seconds to wait for a peer (300)")
    options = parser.parse_args()
    asked = options.only.split(",") if options.only else QUICK if options.quick else PEERS
    if unknown := [name for name in asked if name not in PEERS]:
        parser.error(f"--only: no peer is called {unknown[0]!r}; there are {', '.join(PEERS)}")
    images = -(-(options.images or (128 if options.quick else 576)) // BATCH) * BATCH
    repeats = options.repeats or (5 if options.quick else 7)
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"  # peers that bring OpenCV get their threads from us
    report = measure([name for name in PEERS if name in asked or name == BASE], options, images, repeats)
    if options.json:
        print(json.dumps(report))
    sys.exit(len(report["ratios"]) < 8 and "smelt" in asked)


if __name__ == "__main__":
    main()
