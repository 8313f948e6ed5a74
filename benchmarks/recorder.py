"""Recording dynamics: smelt's recorder beside the per-sample way and, where installed, the `aum` package.

    python benchmarks/recorder.py [--quick] [--json]

The same batches of 256 raw logits go to each, in turn, the order turning round from round to round, at 100,
1,000 and 5,000 classes; a ratio is the median over rounds of (CPU time of the other / CPU time of smelt's),
with the least and the largest. smelt and `the same per sample` record probabilities, variability, forgetting
and the other class too, the others the margin alone. `margin only` is the least that any vectorised recorder
has to do: one margin and one sum. Memory, after two epochs: bytes a row of smelt's columns, traced
allocations per sample for the others.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import math
import statistics
import tempfile
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from smelt.mining.recorder import Recorder

BATCH = 256
Update = Callable[[Tensor, Tensor, Tensor], Any]


class Naive:
    """Dictionaries and `.item()` for each sample, as one writes it first."""

    def __init__(self) -> None:
        self.sums: defaultdict[int, float] = defaultdict(float)
        self.counts: defaultdict[int, int] = defaultdict(int)

    def update(self, rows_B: Tensor, logits_BC: Tensor, labels_B: Tensor) -> None:
        own = logits_BC.gather(1, labels_B[:, None]).squeeze(1)
        other = logits_BC.scatter(1, labels_B[:, None], float("-inf")).max(dim=1).values
        for i in range(len(rows_B)):
            row = int(rows_B[i].item())
            self.sums[row] += own[i].item() - other[i].item()
            self.counts[row] += 1


class NaiveAll:
    """All that smelt records, for each sample in turn."""

    def __init__(self) -> None:
        self.rows: defaultdict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))

    def update(self, rows_B: Tensor, logits_BC: Tensor, labels_B: Tensor) -> None:
        own = logits_BC.gather(1, labels_B[:, None]).squeeze(1)
        other = logits_BC.scatter(1, labels_B[:, None], float("-inf")).max(dim=1)
        probability = torch.softmax(logits_BC, dim=1).gather(1, labels_B[:, None]).squeeze(1)
        for i in range(len(rows_B)):
            kept, p = self.rows[int(rows_B[i].item())], min(probability[i].item(), 1 - 1e-7)
            margin = own[i].item() - other.values[i].item()
            kept["margin"] += margin
            kept["log margin"] += math.log(max(p, 1e-30)) - math.log1p(-p)
            kept["probability"] += p
            kept["square"] += p * p
            kept["seen"] += 1
            kept["correct"] += margin > 0
            kept["forgotten"] += kept["was correct"] > 0 and margin <= 0
            kept["was correct"], kept["other"] = margin > 0, other.indices[i].item()


class MarginOnly:
    """The least: one margin, one sum, one count."""

    def __init__(self, num_rows: int) -> None:
        self.sums, self.counts = torch.zeros(num_rows), torch.zeros(num_rows, dtype=torch.int32)

    def update(self, rows_B: Tensor, logits_BC: Tensor, labels_B: Tensor) -> None:
        own = logits_BC.gather(1, labels_B[:, None]).squeeze(1)
        other = logits_BC.scatter(1, labels_B[:, None], float("-inf")).max(dim=1).values
        self.sums.index_add_(0, rows_B, own - other)
        self.counts.index_add_(0, rows_B, torch.ones_like(rows_B, dtype=torch.int32))


def package() -> Any:
    """A calculator of the `aum` package, or None where it is not installed."""
    try:
        return importlib.import_module("aum").AUMCalculator(tempfile.gettempdir(), compressed=True)
    except ImportError:
        return None


def updates(num_rows: int) -> dict[str, Update]:
    """The update of a fresh recorder of each kind, ours first."""
    found: dict[str, Update] = {
        "smelt": Recorder(num_rows).update,
        "per sample": Naive().update,
        "the same per sample": NaiveAll().update,
        "margin only": MarginOnly(num_rows).update,
    }
    if (theirs := package()) is not None:
        found["aum package"] = lambda rows, logits, labels: theirs.update(logits, labels, rows.tolist())
    return found


def timed(update: Update, batches: list[tuple[Tensor, Tensor, Tensor]]) -> float:
    """CPU seconds of this process for one batch."""
    start = time.process_time()
    for batch in batches:
        update(*batch)
    return (time.process_time() - start) / len(batches)


def measure(classes: int, rounds: int, num_batches: int) -> dict[str, Any]:
    """Milliseconds a batch (median) of each kind and the ratios to ours, by alternating rounds."""
    num_rows = BATCH * num_batches
    generator = torch.Generator().manual_seed(classes)
    batches = [
        (
            torch.randperm(num_rows, generator=generator)[:BATCH],
            torch.randn(BATCH, classes, generator=generator),
            torch.randint(0, classes, (BATCH,), generator=generator),
        )
        for _ in range(num_batches)
    ]
    kinds = updates(num_rows)
    for update in kinds.values():
        timed(update, batches[:2])
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds):
        for name in list(kinds)[:: -1 if number % 2 else 1]:
            times[name].append(timed(kinds[name], batches))
    ours = times["smelt"]
    return {
        "milliseconds": {name: 1e3 * statistics.median(each) for name, each in times.items()},
        "ratios": {
            name: statistics.median(t / o for t, o in zip(each, ours))
            for name, each in times.items()
            if name != "smelt"
        },
        "spread": {
            name: [min(r), max(r)]
            for name, each in times.items()
            if name != "smelt" and (r := [t / o for t, o in zip(each, ours)])
        },
    }


def bytes_per_row(make: Callable[[], Any], num_rows: int) -> float:
    """Traced bytes that a recorder made of Python objects holds for each row after two epochs."""
    gc.collect()
    tracemalloc.start()
    update = make()
    logits = torch.randn(BATCH, 10)
    labels = torch.zeros(BATCH, dtype=torch.int64)
    for _ in range(2):
        for start in range(0, num_rows, BATCH):
            update(torch.arange(start, start + BATCH), logits, labels)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / num_rows


def memory(num_rows: int) -> dict[str, float]:
    """Bytes a row of each kind."""
    columns = Recorder(num_rows).columns.values()
    found = {"smelt": sum(column.nbytes for column in columns) / num_rows}
    found["per sample"] = bytes_per_row(lambda: Naive().update, num_rows)
    found["the same per sample"] = bytes_per_row(lambda: NaiveAll().update, num_rows)
    if (theirs := package()) is not None:
        found["aum package"] = bytes_per_row(
            lambda: lambda r, z, y: theirs.update(z, y, r.tolist()), num_rows
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds (some 15 s)")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rounds, num_batches, num_rows = (5, 20, 10_240) if args.quick else (15, 50, 102_400)
    results: dict[str, Any] = {}
    for classes in (100, 1_000, 5_000):
        found = results[str(classes)] = measure(classes, rounds, num_batches)
        print(f"{classes} classes, batch {BATCH}, {rounds} rounds of {num_batches} batches, one thread")
        for name, milliseconds in found["milliseconds"].items():
            low, high = found["spread"].get(name, (1, 1))
            ratio = found["ratios"].get(name, 1)
            print(f"  {name:20} {milliseconds:8.3f} ms a batch   {ratio:6.1f}x   ({low:.1f} to {high:.1f})")
    held = memory(num_rows)
    print("bytes a row:", ", ".join(f"{name} {size:.0f}" for name, size in held.items()))
    print(f"16,076,665 rows: {held['smelt'] * 16_076_665 / 2**20:.0f} MiB")
    if "aum package" not in held:
        print("aum package: not installed")
    if args.json:
        ratios = {classes: found["ratios"] for classes, found in results.items()}
        ranges = {classes: found["spread"] for classes, found in results.items()}
        print(json.dumps({
            "rounds": rounds, "ratios": ratios, "ratio_ranges": ranges, "bytes_per_row": held,
            "results": results,
        }))  # fmt: skip


if __name__ == "__main__":
    main()
