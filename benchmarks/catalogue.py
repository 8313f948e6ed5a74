"""Sixteen million rows: index, open, draw an epoch, record dynamics, join hashes; each in its own process.

    python benchmarks/catalogue.py [--rows 16076665] [--quick] [--json] [--repeats R] [--only index,epoch]
                                   [--folder DIR]

Generates file lists as WebVision 2.0 has them (12,597 queries, 5,000 classes of 300 to over 10,000 images,
no pixels) and measures, each in a freshly executed process (seconds of wall clock; MiB of VmHWM, the whole
process with interpreter and imports):

    index       the stage `index`: parse, check, write columns and Parquet       at most 90 s, 3 GiB
    open        open, and read labels, splits, sources and the training rows      1 s, 400 MiB
    epoch       build the sampler and draw every batch of one epoch of 18 M       3 s, 200 MiB
    duplicates  join 16 M content hashes and 16 M perceptual hashes               5 min, 6 GiB
    dynamics    one visit of every row; MiB above the process before it           640 MiB

Beside `index` and `epoch`, on the same rows and in turn with ours, R times each (1; quick: 3), the plain
ways, as one writes them first: a tuple and a string per line in lists and a set, pickled; and lists of rows,
shuffled for each class and then all together. `ratios`: CPU seconds of the plain way over ours (imports left
out), median, within a repetition; seconds and MiB are the last repetition's. --quick: 1,000,000 rows.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pickle
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROWS, QUICK_ROWS = 16_076_665, 1_000_000
GOOGLE, FLICKR, EVALUATION = 8_366_429, 7_710_236, 294_099
CLASSES, QUERIES, PER_CLASS = 5_000, 12_597, 3_600
BATCH = 4_096
LIMITS = {
    "index": (90, 3072),
    "open": (1, 400),
    "epoch": (3, 200),
    "duplicates": (300, 6144),
    "dynamics": (None, 640),
}
MODULES = {
    "index": ("smelt.stages.context", "smelt.stages.index", "smelt.data.formats.webvision"),
    "epoch": ("smelt.artifacts.catalogue", "smelt.data.images.sampler"),
    "plain_epoch": ("smelt.artifacts.catalogue",),
}  # imported before the CPU's clock starts
COMPARED = ("index", "epoch")  # parts that have a plain way beside them
ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", np.uint8)


def generate(root: Path, rows: int) -> None:
    """Write `info/` of a data set with `rows` training images."""
    rng = np.random.default_rng(0)
    info = root / "info"
    info.mkdir(parents=True)
    classes = min(CLASSES, max(2, rows // 300))
    queries = round(classes * QUERIES / CLASSES)
    labels = np.sort(np.r_[np.arange(classes), rng.integers(0, classes, queries - classes)])
    share = np.exp(rng.normal(0, 0.7, queries))
    google = round(rows * GOOGLE / ROWS)
    for source, count in (("google", google), ("flickr", rows - google)):
        sizes = rng.multinomial(count, share / share.sum())
        with open(info / f"train_filelist_{source}.txt", "wb") as file:
            first = 0
            for query, size in enumerate(sizes.tolist()):
                file.write(_lines(source, query + 1, int(labels[query]), first, size, rng))
                first += size
    (info / "synsets.txt").write_text("".join(f"n{10**7 + c} class {c}, kind {c}\n" for c in range(classes)))
    (info / "queries.txt").write_text("".join(f"{q + 1} query number {q + 1}\n" for q in range(queries)))
    evaluation = max(classes, EVALUATION * rows // ROWS)
    (info / "val_filelist.txt").write_text(
        "".join(f"val{i + 1:06d}.jpg {i % classes}\n" for i in range(evaluation))
    )
    (info / "test_filelist.txt").write_text("".join(f"test{i + 1:06d}.jpg\n" for i in range(evaluation)))


def _lines(source: str, query: int, label: int, first: int, size: int, rng: np.random.Generator) -> bytes:
    """`size` lines of one query: Google's names 14 letters, Flickr's numbers; all different."""
    numbers = np.arange(first, first + size)
    if source == "google":
        names = ALPHABET[rng.integers(0, 64, (size, 14))]
        names[:, :5] = ALPHABET[numbers[:, None] >> np.array([24, 18, 12, 6, 0]) & 63]
    else:
        names = (48 + numbers[:, None] // 10 ** np.arange(9, -1, -1) % 10).astype(np.uint8)
    head = np.frombuffer(f"{source}/q{query:05d}/".encode(), np.uint8)
    tail = np.frombuffer(f".jpg {label}\n".encode(), np.uint8)
    return np.hstack([np.tile(head, (size, 1)), names, np.tile(tail, (size, 1))]).tobytes()


def index(folder: Path, rows: int) -> dict[str, Any]:
    from smelt.data.formats.config import FormatSettings
    from smelt.stages.config import Runtime
    from smelt.stages.context import Context
    from smelt.stages.index import run

    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    settings = FormatSettings(format="webvision", check_files=False)
    run(Context(settings, {}, out, out / "scratch", Runtime(root=str(folder / "data"))))
    found = json.loads((out / "index.json").read_text())
    assert found["splits"]["train"] == rows, found["splits"]
    sizes = {path.name: path.stat().st_size for path in (out / "catalogue").iterdir()}
    return {"bytes_per_row": round(sum(sizes.values()) / rows, 1), "parquet": sizes["catalogue.parquet"]}


def open_(folder: Path, rows: int) -> dict[str, Any]:
    from smelt.artifacts.catalogue import Catalogue

    catalogue = Catalogue.open(folder / "out" / "catalogue")
    train = catalogue.rows("train")
    total = int(catalogue.labels_N[train].sum()) + int(catalogue.source_codes_N.sum())
    assert len(train) == rows and total > 0 and catalogue.path(int(train[-1])).endswith(".jpg")
    rollup = Path("/proc/self/smaps_rollup").read_text()
    shared = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Shared_"))
    clean = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_Clean"))
    return {"shareable_mib": round((shared + clean) / 1024)}


def _sampler(folder: Path) -> Any:
    from smelt.artifacts.catalogue import Catalogue
    from smelt.data.images.sampler import ClassBalancedSampler

    catalogue = Catalogue.open(folder / "out" / "catalogue")
    labels = catalogue.labels_N
    count = int(np.searchsorted(catalogue.split_codes_N, np.uint8(1)))  # training rows come first
    return ClassBalancedSampler(range(count), labels[:count], images_per_class=_per_class(count), seed=0)


def _per_class(rows: int) -> int:
    return PER_CLASS if rows > 10**7 else PER_CLASS // 16


def epoch(folder: Path, rows: int) -> dict[str, Any]:
    sampler = _sampler(folder)
    drawn = sum(len(batch) for batch in sampler.batches(1, BATCH))
    assert drawn == len(sampler)
    return {"draws": drawn}


def epoch_check(folder: Path, rows: int) -> dict[str, Any]:
    """What `epoch` promises, counted: classes, repeats, rotation, ranks, resuming."""
    from smelt.artifacts.catalogue import Catalogue

    sampler = _sampler(folder)
    labels = Catalogue.open(folder / "out" / "catalogue").labels_N[:rows]
    sizes = np.bincount(labels)
    times = np.zeros(rows, np.int32)
    for number in range(2):
        drawn = sampler.epoch(number)
        once = np.bincount(drawn, minlength=rows)
        exact = np.bincount(labels, weights=once)[sizes > 0] == sampler.images_per_class
        assert exact.all() and (once <= -(-sampler.images_per_class // sizes[labels])).all()
        times += once
    assert (times <= -(-2 * sampler.images_per_class // sizes[labels])).all()
    number = len(drawn) // BATCH // 2
    parts = [sampler.batches(1, BATCH, rank, 4)[number] for rank in range(4)]
    assert sorted(np.concatenate(parts)) == sorted(drawn[number * BATCH : (number + 1) * BATCH])
    return {"checked": True}


def duplicates(folder: Path, rows: int) -> dict[str, Any]:
    from smelt.data.copies.groups import join_exact
    from smelt.data.copies.pairs import near_candidates

    rng = np.random.default_rng(0)
    content = rng.integers(0, 2**64, (rows, 2), dtype=np.uint64)
    near = rng.integers(0, 2**64, rows, dtype=np.uint64)
    copies, originals = np.split(rng.permutation(rows)[: rows // 500 * 2], 2)
    content[copies] = content[originals]
    bits = rng.integers(0, 64, (len(copies), 4))
    near[copies] = near[originals] ^ np.bitwise_or.reduce(np.uint64(1) << bits.astype(np.uint64), axis=1)
    start = time.perf_counter()
    first = join_exact(content)
    exact_seconds = time.perf_counter() - start
    assert (first[copies] == first[originals]).all() and (first != np.arange(rows)).sum() == len(copies)
    del content, first
    pairs = near_candidates(np.arange(rows), near[:, None], 4, mirror=False).pairs_R2
    assert np.bitwise_count(near[pairs[:, 0]] ^ near[pairs[:, 1]]).max(initial=0) <= 4
    planted = np.sort(np.stack([copies, originals], 1), axis=1)
    keys = pairs[:, 0] * rows + pairs[:, 1]
    found = np.isin(planted[:, 0] * rows + planted[:, 1], keys).mean()
    assert found == 1.0, f"{found:.2%} of the planted pairs found"
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "exact_seconds": exact_seconds, "planted": len(copies), "pairs": len(pairs)}


def dynamics(folder: Path, rows: int) -> dict[str, Any]:
    import torch

    from smelt.mining.recorder import Recorder

    torch.set_num_threads(1)
    logits = torch.randn(16384, 10)
    Recorder(len(logits)).update(
        torch.arange(len(logits)), logits, torch.zeros(len(logits), dtype=torch.long)
    )
    before = _status("VmHWM")
    start = time.perf_counter()
    recorder = Recorder(rows)
    for first in range(0, rows, len(logits)):
        visited = torch.arange(first, min(first + len(logits), rows))
        recorder.update(visited, logits[: len(visited)], visited % 10)
    seen = recorder.columns["seen"]
    assert int(seen.min()) == int(seen.max()) == 1
    return {
        "seconds": time.perf_counter() - start,
        "mib": _status("VmHWM") - before,
        "process": _status("VmHWM"),
    }


def plain_index(folder: Path, rows: int) -> dict[str, Any]:
    """A tuple and a string per line of every list; repeated paths and labels out of range refused; pickled.

    Less than the stage does: nothing is hashed, no queries, no order of splits, no second format.
    """
    info = folder / "data" / "info"
    classes = [line.split(" ", 1) for line in (info / "synsets.txt").read_text().splitlines()]
    listed: dict[str, list[tuple[str, int]]] = {}
    seen: set[str] = set()
    for path in sorted(info.glob("*_filelist*.txt")):
        listed[path.stem] = []
        with open(path, encoding="utf-8") as file:
            for line in file:
                name, *label = line.split()
                number = int(label[0]) if label else -1
                if name in seen or number >= len(classes):
                    raise ValueError(line)
                seen.add(name)
                listed[path.stem].append((name, number))
    with open(folder / "plain.pickle", "wb") as out:
        pickle.dump((classes, listed), out, protocol=5)
    train = sum(len(found) for name, found in listed.items() if name.startswith("train"))
    assert train == rows
    return {"rows": train}


def plain_epoch(folder: Path, rows: int) -> dict[str, Any]:
    """Rows of each class in a list, shuffled and repeated to the number wanted, all shuffled, in batches."""
    from smelt.artifacts.catalogue import Catalogue

    labels = Catalogue.open(folder / "out" / "catalogue").labels_N[:rows]
    per_class = _per_class(rows)
    members: list[list[int]] = [[] for _ in range(CLASSES)]
    for row, label in enumerate(labels.tolist()):
        members[label].append(row)
    drawn: list[int] = []
    for own in members:
        wanted = per_class if own else 0
        while wanted:
            part = random.sample(own, min(wanted, len(own)))
            drawn += part
            wanted -= len(part)
    random.shuffle(drawn)
    batches = [np.array(drawn[at : at + BATCH]) for at in range(0, len(drawn), BATCH)]
    return {"draws": sum(map(len, batches))}


PARTS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "index": index, "open": open_, "epoch": epoch, "epoch_check": epoch_check, "duplicates": duplicates,
    "dynamics": dynamics, "plain_index": plain_index, "plain_epoch": plain_epoch,
}  # fmt: skip


def _status(field: str) -> float:
    """MiB of a field of /proc/self/status; unlike ru_maxrss its peak begins anew with the process."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) / 1024


def child(part: str, folder: Path, rows: int) -> None:
    """Run one part and print what it took."""
    start = time.perf_counter()
    for module in MODULES.get(part, ()):
        importlib.import_module(module)
    before = time.process_time()
    found = PARTS[part](folder, rows)
    cpu = round(time.process_time() - before, 4)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "mib": _status("VmHWM"), "cpu_seconds": cpu, **found}))


def measure(part: str, folder: Path, rows: int) -> dict[str, Any]:
    """Run one part in a new process."""
    command = [sys.executable, __file__, "--child", part, "--folder", str(folder), "--rows", str(rows)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, help="of what has a plain way beside it (quick: 3, else 1)")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child")
    args = parser.parse_args()
    rows = args.rows or (QUICK_ROWS if args.quick else ROWS)
    if args.child:
        child(args.child, args.folder, rows)
        return
    with tempfile.TemporaryDirectory(prefix="smelt-catalogue-") as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "data").exists():
            start = time.perf_counter()
            generate(folder / "data", rows)
            print(f"generated lists of {rows:,} rows in {time.perf_counter() - start:.1f} s", flush=True)
        repeats = args.repeats or (3 if args.quick else 1)
        report(folder, rows, args.only.split(","), repeats, as_json=args.json)


def report(folder: Path, rows: int, only: list[str], repeats: int, *, as_json: bool) -> None:
    """Measure, print a line for each part, and the JSON line."""
    found: dict[str, dict[str, Any]] = {}
    cpu: dict[str, list[float]] = {}
    for repeat in range(repeats):
        turn = only if repeat == 0 else [part for part in only if part.removeprefix("plain_") in COMPARED]
        for part in turn if repeat % 2 == 0 else turn[::-1]:
            found[part] = measure(part, folder, rows)
            cpu.setdefault(part, []).append(found[part]["cpu_seconds"])
            show(part, found[part], rows)
    ratios = {part: compared(cpu, part) for part in COMPARED if {part, f"plain_{part}"} <= cpu.keys()}
    for part, line in ratios.items():
        print(f"{part}: CPU seconds of the plain way over ours {line[1]:.2f} [{line[0]:.2f}, {line[2]:.2f}]")
    if as_json:
        parts = [part for part in ("index", "open", "epoch", "duplicates", "dynamics") if part in found]
        print(json.dumps({
            "rows": rows,
            "seconds": {part: round(found[part]["seconds"], 3) for part in parts},
            "cpu_seconds": {part: found[part]["cpu_seconds"] for part in parts},
            "mib": {part: round(found[part]["mib"], 1) for part in parts},
            "repeats": repeats,
            "ratios": {part: line[1] for part, line in ratios.items()},
            "ratio_ranges": {part: [line[0], line[2]] for part, line in ratios.items()},
        }))  # fmt: skip


def compared(cpu: dict[str, list[float]], part: str) -> tuple[float, float, float]:
    """(least, median, largest) of the plain way's CPU seconds over ours of the same repetition."""
    ratios = [plain / ours for ours, plain in zip(cpu[part], cpu[f"plain_{part}"], strict=True)]
    return round(min(ratios), 2), round(statistics.median(ratios), 2), round(max(ratios), 2)


def show(part: str, found: dict[str, Any], rows: int) -> None:
    limit = LIMITS.get(part)
    bar = "" if limit is None or rows < ROWS else f"   (at most {limit[0] or '–'} s, {limit[1]} MiB)"
    rest = {key: value for key, value in found.items() if key not in ("seconds", "mib")}
    print(f"{part:12} {found['seconds']:8.2f} s {found['mib']:8.0f} MiB{bar}   {rest}", flush=True)


if __name__ == "__main__":
    main()
