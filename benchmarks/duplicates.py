"""Duplicates: the join of hashes at scale, and what is found of copies planted among real photos.

    python benchmarks/duplicates.py [--rows 16000000] [--photos FOLDER_OR_TAR] [--quick] [--json]

1. `near_candidates` over `rows` random 64-bit hashes, 1 % of them copies of others with 1 to 4 bits flipped:
   seconds, peak memory of its process, planted pairs found; and beside a plain all-with-all comparison at a
   size where that ends.
2. Copies of eight kinds among photos, each kind alone with the originals. Recall: copies found. Precision:
   right ones among all (copy, original) pairs reported. Beside imagehash and imagededup on the same pixels,
   at 4 bits, as our hashes are joined, and at 10, imagededup's default.
"""

from __future__ import annotations

import argparse
import glob
import importlib.util
import io
import json
import multiprocessing
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from smelt.data.copies.confirm import CopyFinder, Hashes, Search
from smelt.data.copies.hashes import perceptual_hashes
from smelt.data.copies.pairs import near_candidates
from smelt.data.copies.thumbnails import Thumbnails

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos" / "photos_small600.tar"
Pixels = NDArray[np.uint8]
Rng = np.random.Generator


def planted(rows: int, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(hashes, pairs of rows at distance 1..4 or less)."""
    random = np.random.default_rng(seed)
    hashes = random.integers(1, 2**64, rows, dtype=np.uint64)
    pairs = random.permutation(rows)[: rows // 50].reshape(-1, 2)
    flips = np.zeros(len(pairs), np.uint64)
    for number in range(4):
        flip = np.uint64(1) << random.integers(0, 64, len(pairs)).astype(np.uint64)
        flips ^= np.where(random.integers(0, 4, len(pairs)) >= number, flip, np.uint64(0))
    hashes[pairs[:, 1]] = hashes[pairs[:, 0]] ^ flips
    return hashes, np.sort(pairs, axis=1)


def joined(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pairs of rows whose hashes differ in at most 4 bits, as the search makes them."""
    return near_candidates(np.arange(len(hashes)), hashes[:, None], 4, mirror=False).pairs_R2


def join(rows: int) -> dict[str, Any]:
    """Time and memory of one join; runs in a process of its own."""
    hashes, wanted = planted(rows, 1)
    before = time.perf_counter(), time.process_time()
    pairs = joined(hashes)
    seconds, cpu = time.perf_counter() - before[0], time.process_time() - before[1]
    codes = pairs[:, 0] * rows + pairs[:, 1]
    # a planted pair of one hash with a third row is reported through the lowest of them
    found = np.isin(wanted[:, 0] * rows + wanted[:, 1], codes) | (hashes[wanted[:, 0]] == 0)
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": rows, "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "mib": round(mib),
        "planted": len(wanted), "found": int(found.sum()), "pairs": len(pairs),
    }  # fmt: skip


def all_with_all(hashes: NDArray[np.uint64], max_distance: int) -> int:
    """Number of pairs within the distance, the plain way."""
    return sum(
        int(np.count_nonzero(np.bitwise_count(hashes[row + 1 :] ^ hashes[row]) <= max_distance))
        for row in range(len(hashes))
    )


def against_plain(rows: int, rounds: int = 3) -> dict[str, Any]:
    """Ours and the plain comparison, alternating; medians of CPU seconds, ratios within a round."""
    hashes, _ = planted(rows, 2)
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    counts = set()
    calls: list[tuple[str, Callable[[], int]]] = [
        ("ours", lambda: len(joined(hashes))),
        ("plain", lambda: all_with_all(hashes, 4)),
    ]
    for number in range(rounds):
        for name, call in calls[:: -1 if number % 2 else 1]:
            before = time.process_time()
            counts.add(call())
            times[name].append(time.process_time() - before)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    ratios = [plain / ours for ours, plain in zip(times["ours"], times["plain"], strict=True)]
    return {
        "rows": rows, "same_pairs": len(counts) == 1, "rounds": rounds,
        "ratio": round(float(np.median(ratios)), 1),
        "ratio_range": [round(min(ratios), 1), round(max(ratios), 1)],
        **{name: round(value, 3) for name, value in medians.items()},
    }  # fmt: skip


def _jpeg(image: Image.Image, quality: int = 90) -> Pixels:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _scaled(image: Image.Image, random: Rng) -> Pixels:
    factor = random.uniform(0.3, 0.7)
    width, height = (max(8, round(side * factor)) for side in image.size)
    return _jpeg(image.resize((width, height), Image.Resampling.BICUBIC), 85)


def _cropped(share: float) -> Callable[[Image.Image, Rng], Pixels]:
    """Width and height less `share`, anywhere in the picture."""

    def crop(image: Image.Image, random: Rng) -> Pixels:
        width, height = (round(side * (1 - share)) for side in image.size)
        left = int(random.integers(0, image.width - width + 1))
        top = int(random.integers(0, image.height - height + 1))
        return _jpeg(image.crop((left, top, left + width, top + height)))

    return crop


def _watermarked(image: Image.Image, random: Rng) -> Pixels:
    """Three half-transparent lines of text of a tenth of the width."""
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    draw, font = ImageDraw.Draw(layer), ImageFont.load_default(size=max(10, image.width // 10))
    for line in range(3):
        place = (int(random.uniform(0, 0.4) * image.width), int((line + 0.3) / 3 * image.height))
        draw.text(place, "sample photo", fill=(255, 255, 255, 110), font=font)
    return _jpeg(Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB"))


def _bordered(image: Image.Image, random: Rng) -> Pixels:
    """A frame of 3 to 8 % of the longer side, black, white or red."""
    width = int(max(image.size) * random.uniform(0.03, 0.08))
    colour = ((0, 0, 0), (255, 255, 255), (200, 30, 30))[int(random.integers(3))]
    framed = Image.new("RGB", (image.width + 2 * width, image.height + 2 * width), colour)
    framed.paste(image, (width, width))
    return _jpeg(framed)


KINDS: dict[str, Callable[[Image.Image, Rng], Pixels]] = {
    "re-encoded": lambda image, random: _jpeg(image, int(random.choice([30, 50, 75]))),
    "scaled": _scaled,
    "cropped 2 %": _cropped(0.02),
    "cropped 5 %": _cropped(0.05),
    "cropped 10 %": _cropped(0.10),
    "watermark": _watermarked,
    "border": _bordered,
    "grey": lambda image, random: _jpeg(image.convert("L").convert("RGB")),
    "mirrored": lambda image, random: _jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "rotated 5°": lambda image, random: _jpeg(image.rotate(5, Image.Resampling.BICUBIC)),
}


class InMemory:
    """Images that are there already, read as a catalogue's are."""

    def __init__(self, images: list[Pixels]) -> None:
        self.images = images

    def read(self, row: int) -> Pixels:
        return self.images[row]


def _pairs_of(groups: NDArray[np.int64], count: int) -> set[tuple[int, int]]:
    """(copy, original) pairs in one group: originals are the first `count` rows, copies the next."""
    return {
        (copy, original)
        for original in range(count)
        for copy in np.flatnonzero(groups[count:] == groups[original]).tolist()
    }


def ours(images: list[Pixels], hashes: NDArray[np.uint64], search: Search) -> NDArray[np.int64]:
    """Group of each image by the whole of our search; nothing is known of bytes."""
    alone = np.arange(2 * len(images), dtype=np.uint64).view(np.uint8).reshape(-1, 16)
    with tempfile.TemporaryDirectory() as folder:
        thumbnails = Thumbnails(InMemory(images), Path(folder) / "thumbnails", 2)
        everything = Hashes(np.ones(len(images), bool), alone, alone, hashes)
        finder = CopyFinder(everything, thumbnails, search, lambda *_: None)
        return finder.find(np.zeros(len(images), bool)).groups_N


def hash_pairs(hashes: NDArray[np.uint64], count: int, distance: int) -> set[tuple[int, int]]:
    near = np.bitwise_count(hashes[count:, None] ^ hashes[None, :count]) <= distance
    return set(zip(*(side.tolist() for side in np.nonzero(near))))


def peers() -> dict[str, Callable[[Pixels], int]]:
    """The 64-bit hash of each peer that is installed."""
    found: dict[str, Callable[[Pixels], int]] = {}
    if importlib.util.find_spec("imagehash"):
        import imagehash

        found["imagehash"] = lambda pixels: int(str(imagehash.phash(Image.fromarray(pixels))), 16)
    if importlib.util.find_spec("imagededup"):
        from imagededup.methods import PHash

        method = PHash(verbose=False)
        found["imagededup"] = lambda pixels: int(method.encode_image(image_array=pixels), 16)
    return found


def load(source: Path, count: int) -> list[Image.Image]:
    """Up to `count` photos, no two of them equal to the byte, none of the 200 that set our thresholds."""
    if source.is_dir():
        names = sorted(glob.glob(f"{source}/**/*.jpg", recursive=True))
        files = [Path(name).read_bytes() for name in names]
    else:
        with tarfile.open(source) as tar:
            members = [member for member in tar if member.isfile() and member.name.endswith(".jpg")]
            members.sort(key=lambda member: member.name)
            readers = [tar.extractfile(member) for member in members]
            files = [reader.read() for reader in readers if reader]
    order = np.random.default_rng(5).permutation(len(files)).tolist()
    used = {files[at] for at in order[:200]} if source == PHOTOS else set()
    unused = dict.fromkeys(files[at] for at in order if files[at] not in used)
    return [Image.open(io.BytesIO(data)).convert("RGB") for data in list(unused)[:count]]


SEARCHES = {"smelt": Search(), "smelt, 4 bits only": Search(crop_distance=0, mirrored=False)}


def _rates(pairs: set[tuple[int, int]], count: int) -> dict[str, float]:
    right = sum(copy == original for copy, original in pairs)
    return {"recall": round(right / count, 4), "precision": round(right / len(pairs), 4) if pairs else 1.0}


def photos(images: list[Image.Image]) -> dict[str, Any]:
    """Recall and precision by kind and method; milliseconds of CPU for one hash."""
    methods = peers()
    originals = [np.asarray(image) for image in images]
    count = len(images)
    table: dict[str, Any] = {}
    spent: dict[str, float] = {}

    def hashed(name: str, call: Callable[[Pixels], Any], pictures: list[Pixels]) -> NDArray[np.uint64]:
        before = time.process_time()
        values = np.array([call(picture) for picture in pictures], np.uint64)
        spent[name] = spent.get(name, 0) + (time.process_time() - before) * 1000 / len(pictures) / (
            len(KINDS) + 1
        )
        return values

    base = {name: hashed(name, call, originals) for name, call in methods.items()}
    own = hashed("all our hashes", perceptual_hashes, originals)
    for kind, change in KINDS.items():
        random = np.random.default_rng(7)
        copies = [change(image, random) for image in images]
        hashes = np.concatenate([own, hashed("all our hashes", perceptual_hashes, copies)])
        line: dict[str, Any] = {}
        for name, search in (
            ("smelt", Search()),
            ("smelt, 4 bits only", Search(crop_distance=0, mirrored=False)),
        ):
            groups = ours(originals + copies, hashes, search)
            line[name] = _rates(_pairs_of(groups, count), count)
        for name, call in methods.items():
            values = np.concatenate([base[name], hashed(name, call, copies)])
            for distance in (4, 10):
                line[f"{name} ≤ {distance}"] = _rates(hash_pairs(values, count, distance), count)
        table[kind] = line
    missing = [name for name in ("imagehash", "imagededup") if name not in methods]
    return {
        "photos": count, "kinds": table, "not_installed": missing,
        "ms_per_hash": {name: round(value, 3) for name, value in spent.items()},
    }  # fmt: skip


def show(results: dict[str, Any]) -> None:
    for name, value in results.items():
        if name != "photos":
            print(name, value)
            continue
        if isinstance(value, str):
            print("photos:", value)
            continue
        names = list(next(iter(value["kinds"].values())))
        print(
            f"{value['photos']} photos; recall / precision; not installed: {value['not_installed'] or 'none'}"
        )
        print(f"{'kind':14}", *(f"{name:>20}" for name in names))
        for kind, line in value["kinds"].items():
            cells = (f"{line[name]['recall']:.3f} / {line[name]['precision']:.3f}" for name in names)
            print(f"{kind:14}", *(f"{cell:>20}" for cell in cells))
        print("milliseconds a hash:", value["ms_per_hash"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int)
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = options.rows or (1_000_000 if options.quick else 16_000_000)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        joined = pool.apply(join, (rows,))
    results: dict[str, Any] = {"join": joined, "plain": against_plain(20_000 if options.quick else 30_000)}
    there = options.photos.exists()
    results["photos"] = photos(load(options.photos, 60 if options.quick else 400)) if there else "not there"
    show(results)
    if options.json:
        print(json.dumps(results))
    sys.exit(joined["found"] != joined["planted"] or not results["plain"]["same_pairs"])


if __name__ == "__main__":
    main()
