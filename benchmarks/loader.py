"""Loading images: smelt beside torchvision, timm, WebDataset, albumentations, DALI (CPU) and FFCV.

Every loader reads the same JPEG files, decodes, takes a random resized crop of 224, mirrors (does
RandAugment(2, 9) too in the second pair of tables) and gives batches of 64. Loaders alternate within a
repetition; compared are images per CPU-second, of all threads and child processes.

    python benchmarks/loader.py [--quick] [--json] [--photos photos.tar] [--images N] [--repeats R]

Two forms: `256` (short side of 256 pixels, quality 90, as WebVision's own resized files) and `500`
(500 × 375), made of the JPEGs in --photos, or of generated ones where that is not given or missing.
`ratios`: smelt over torchvision (Pillow, float32), median of repetitions. Quality: PSNR of smelt's crops
against Pillow's full decode and antialiased bilinear resize.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import multiprocessing
import os
import resource
import statistics
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from smelt.artifacts.catalogue import Location
from smelt.data.augment import random_box, uniform
from smelt.data.config import AugmentSettings, RandAugmentSettings
from smelt.data.decode import load_crop, probe
from smelt.data.loader import ImageStore, Loader

SIZE, BATCH = 224, 64
PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos" / "photos_small600.tar"
Run = Callable[[int], int]  # workers → number of images that came out


class Folder:
    """As much of a catalogue as a loader needs: the files of one folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.names = root, sorted(path.name for path in root.glob("*.jpg"))
        self.num_rows = len(self.names)

    def location(self, row: int) -> Location:
        return Location(None, 0, 0, self.names[row])

    def path(self, row: int) -> str:
        return self.names[row]


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


class Files(Dataset[torch.Tensor]):
    """A folder of JPEGs for PyTorch's DataLoader: read, then transform."""

    def __init__(self, folder: Path, transform: Callable[[Path], torch.Tensor]) -> None:
        self.paths, self.transform = sorted(folder.glob("*.jpg")), transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(self.paths[index])


def data_loader(folder: Path, transform: Callable[[Path], torch.Tensor]) -> Run:
    """One process (workers 1) or as many child processes as workers, which stay from pass to pass."""
    files = Files(folder, transform)
    return passes(lambda workers: DataLoader(files, BATCH, **processes(workers)))


def processes(workers: int) -> dict[str, Any]:
    """How PyTorch's DataLoader is to use so many cores."""
    return {"num_workers": workers, "persistent_workers": True} if workers > 1 else {"num_workers": 0}


def passes(make: Callable[[int], DataLoader[Any]]) -> Run:
    """Go through a loader made once for each number of workers."""
    made: dict[int, DataLoader[Any]] = {}

    def run(workers: int) -> int:
        if workers not in made:
            made[workers] = make(workers)
        return sum(len(batch[0] if isinstance(batch, (tuple, list)) else batch) for batch in made[workers])

    return run


def smelt(folder: Path, randaugment: bool) -> Run:
    catalogue: Any = Folder(folder)
    store = ImageStore(catalogue, folder)
    loaders = {workers: Loader(store, workers=workers, seed=0) for workers in (1, 2)}
    rows = np.arange(catalogue.num_rows)
    batches = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
    augment = AugmentSettings(sizes=(SIZE,), randaugment=RandAugmentSettings() if randaugment else None)

    def run(workers: int) -> int:
        return sum(int(batch.valid_B.sum()) for batch in loaders[workers].training(batches, augment, epoch=0))

    return run


def torchvision(folder: Path, randaugment: bool) -> Run:
    from torchvision import transforms as t

    steps = [t.RandomResizedCrop(SIZE), t.RandomHorizontalFlip()]
    steps += [t.RandAugment()] if randaugment else []
    steps += [t.ToTensor(), t.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    transform = t.Compose(steps)
    return data_loader(folder, lambda path: transform(Image.open(path).convert("RGB")))


def timm(folder: Path, randaugment: bool) -> Run:
    from timm.data import create_transform

    policy = "rand-m9-n2" if randaugment else None
    transform = create_transform(
        SIZE,
        is_training=True,
        use_prefetcher=True,
        color_jitter=None,
        auto_augment=policy,
        interpolation="bilinear",
    )
    return data_loader(folder, lambda path: torch.as_tensor(transform(Image.open(path).convert("RGB"))))


def webdataset(folder: Path, randaugment: bool) -> Run:
    import webdataset as wds
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip()] + (
        [v2.RandAugment()] if randaugment else []
    )
    transform = v2.Compose([*steps, v2.PILToTensor()])
    shard = str(folder.with_suffix(".tar"))

    def make(workers: int) -> DataLoader[Any]:
        data = wds.WebDataset([shard] * workers, shardshuffle=False, empty_check=False)
        data = data.decode("pil").to_tuple("jpg").map_tuple(transform).batched(BATCH)
        return DataLoader(data, batch_size=None, **processes(workers))

    return passes(make)


def albumentations(folder: Path, randaugment: bool) -> Run:
    import albumentations as a
    import cv2

    if randaugment:
        raise ImportError("has no RandAugment")
    cv2.setNumThreads(0)
    transform = a.Compose(
        [a.RandomResizedCrop((SIZE, SIZE), interpolation=cv2.INTER_AREA), a.HorizontalFlip()]
    )

    def load(path: Path) -> torch.Tensor:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        return torch.from_numpy(np.ascontiguousarray(transform(image=pixels)["image"]))

    return data_loader(folder, load)


def dali(folder: Path, randaugment: bool) -> Run:
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.auto_aug import rand_augment

    files = [str(path) for path in sorted(folder.glob("*.jpg"))]

    @pipeline_def(enable_conditionals=True, batch_size=BATCH, device_id=None)
    def pipeline() -> Any:
        data, _ = fn.readers.file(files=files, name="files")
        images = fn.decoders.image_random_crop(data, device="cpu", random_area=[0.08, 1.0])
        images = fn.resize(images, size=[SIZE, SIZE], interp_type=types.INTERP_LINEAR, antialias=True)
        images = fn.flip(images, horizontal=fn.random.coin_flip())
        return rand_augment.rand_augment(images, n=2, m=9, fill_value=0) if randaugment else images

    built: dict[int, Any] = {}

    def run(workers: int) -> int:
        if workers not in built:
            built[workers] = pipeline(num_threads=workers)
            built[workers].build()
        return sum(len(built[workers].run()[0]) for _ in range(len(files) // BATCH))

    return run


def ffcv(folder: Path, randaugment: bool) -> Run:
    from ffcv.fields.basics import IntDecoder, IntField
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder, RGBImageField
    from ffcv.loader import Loader as Reader
    from ffcv.loader import OrderOption
    from ffcv.transforms import RandomHorizontalFlip, ToTensor
    from ffcv.writer import DatasetWriter

    if randaugment:
        raise ImportError("has no RandAugment")

    class Pairs:
        paths = sorted(folder.glob("*.jpg"))

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.open(self.paths[index]).convert("RGB"), 0

    beton = str(folder.with_suffix(".beton"))
    fields = {"image": RGBImageField(write_mode="jpg", jpeg_quality=90), "label": IntField()}
    DatasetWriter(beton, fields, num_workers=1).from_indexed_dataset(Pairs())
    image = [RandomResizedCropRGBImageDecoder((SIZE, SIZE)), RandomHorizontalFlip(), ToTensor()]

    def run(workers: int) -> int:
        reader = Reader(
            beton, BATCH, num_workers=workers, order=OrderOption.SEQUENTIAL, os_cache=True,
            pipelines={"image": image, "label": [IntDecoder(), ToTensor()]},
        )  # fmt: skip
        return sum(len(batch[0]) for batch in reader)

    return run


CONTESTANTS: dict[str, tuple[str, Callable[[Path, bool], Run]]] = {
    "smelt": ("smelt", smelt),
    "torchvision": ("torchvision", torchvision),
    "timm": ("timm", timm),
    "webdataset": ("webdataset", webdataset),
    "albumentations": ("albumentations", albumentations),
    "dali": ("nvidia.dali", dali),
    "ffcv": ("ffcv", ffcv),
}


def enter(name: str, folder: Path, randaugment: bool, workers: int) -> Run | str:
    """The loader, warmed up, or why it does not take part."""
    module, make = CONTESTANTS[name]
    try:
        if importlib.util.find_spec(module) is None:
            return "not installed"
        run = make(folder, randaugment)
        run(workers)
    except ModuleNotFoundError:
        return "not installed"
    except Exception as error:  # a peer that does not run here is no failure of ours
        return f"does not take part: {' '.join(str(error).split())[:200]}"
    return run


def cpu_seconds() -> float:
    """Of this process, of its children that have ended and of those that live."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + ticks / os.sysconf("SC_CLK_TCK")


def measured(run: Run, workers: int) -> tuple[float, float]:
    """(images per CPU-second, images per second) of one pass."""

    wall, before = time.perf_counter(), cpu_seconds()
    count = run(workers)
    return count / (cpu_seconds() - before), count / (time.perf_counter() - wall)


def compare(folder: Path, randaugment: bool, names: list[str], workers: int, repeats: int) -> dict[str, Any]:
    """Medians of `repeats` alternating passes, and the ratio to torchvision's of the same repetition."""
    entered = {name: enter(name, folder, randaugment, workers) for name in names}
    runs = {name: run for name, run in entered.items() if not isinstance(run, str)}
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name in list(runs)[:: 1 if repeat % 2 else -1]:
            results[name].append(measured(runs[name], workers))
    table: dict[str, Any] = {name: reason for name, reason in entered.items() if isinstance(reason, str)}
    for name, pairs in results.items():
        ratios = [own[0] / base[0] for own, base in zip(pairs, results["torchvision"])]
        table[name] = {
            "per_cpu_second": round(statistics.median(pair[0] for pair in pairs), 1),
            "per_second": round(statistics.median(pair[1] for pair in pairs), 1),
            "ratio": round(statistics.median(ratios), 2),
            "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    return table


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


def main() -> None:
    """Measure and print; the last line is JSON with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="torchvision only, one core, under 50 s")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="a tar of JPEGs")
    parser.add_argument("--images", type=int, help="images of each form (quick: 128, else 576)")
    parser.add_argument("--repeats", type=int, help="repetitions (quick: 5, else 7)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    images = options.images or (128 if options.quick else 576)
    repeats = options.repeats or (5 if options.quick else 7)
    names = ["smelt", "torchvision"] if options.quick else list(CONTESTANTS)
    report: dict[str, Any] = {"images": images, "repeats": repeats, "psnr": {}, "tables": {}, "ratios": {}}
    with tempfile.TemporaryDirectory() as temporary:
        forms = make_files(options.photos, images, Path(temporary))
        for form, folder in forms.items():
            report["psnr"][form] = round(quality(folder), 1)
            print(f"{form}: PSNR {report['psnr'][form]} dB", flush=True)
            for randaugment in (False, True):
                key = f"{'randaugment' if randaugment else 'crop'}_{form}"
                for workers in (1,) if options.quick else (1, 2):
                    table = compare(folder, randaugment, names, workers, repeats)
                    report["tables"][f"{key}_{workers}"] = table
                    print(
                        f"\n{key}, {workers} worker(s): images per CPU-second, per second, over torchvision"
                    )
                    for name, line in table.items():
                        print(
                            f"  {name:15s}",
                            line if isinstance(line, str) else "  ".join(map(str, line.values())),
                        )
                report["ratios"][key] = report["tables"][f"{key}_1"]["smelt"]["ratio"]
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
