"""Writes the embedded data set in the layout of WebVision 2.0, with the truth beside it.

Every picture is drawn from a generator seeded by (seed, split, row), so any number of processes writes the
same bytes. What is true of each image is in `info/truth.csv` (path, true_label, noise), what copies what in
`info/copies.csv` (path, copy_of), the hidden labels of the test list in `info/test_labels.txt`.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np
from PIL import Image

from smelt.data.synthetic.captions import entry, query_text
from smelt.data.synthetic.config import SyntheticSettings
from smelt.data.synthetic.plan import (
    BROKEN,
    EXACT,
    LEAK,
    NOISE,
    OUT_OF_VOCABULARY,
    SOURCES,
    SPLITS,
    Plan,
    make_plan,
)
from smelt.data.synthetic.scene import draw, jpeg
from smelt.errors import DataError
from smelt.files.atomic import write_plain

FOLDERS = (*(f"{name}_images_resized" for name in (*SOURCES, "val", "test")), "info", *SOURCES)
FORBIDDEN = b"<!DOCTYPE html><html><title>403 Forbidden</title><body><h1>Forbidden</h1></body></html>\n"
REPORT_EVERY = 25  # images between two reports of a worker; also how long it outlives its parent


def generate(
    folder: Path,
    settings: SyntheticSettings,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the whole data set below `folder`; `progress(done, total)` counts images.

    Raises DataError if a folder of an earlier data set is there, or where a file cannot be written.
    """
    if there := [name for name in FOLDERS if (folder / name).exists()]:
        raise DataError(
            f"{folder / there[0]} is there already: generate into a new folder, or delete it first"
        )
    plan = make_plan(settings)
    try:
        for path in sorted({str(Path(plan.path(split, row)).parent) for split, row in _all_rows(plan)}):
            (folder / path).mkdir(parents=True)
        _write_lists(folder, plan, settings)
        _write_json(folder, plan, settings)
    except OSError as error:
        raise DataError(f"cannot write the data set into {folder}: {error}") from error
    _draw_all(folder, settings, workers, sum(plan.size(split) for split in SPLITS), progress)


def image_bytes(plan: Plan, settings: SyntheticSettings, split: str, row: int) -> bytes:
    """The content of one file."""
    rng = np.random.default_rng([settings.seed, 3 + SPLITS.index(split), row])
    noise = plan.noise[split][row]
    if noise == BROKEN:
        return _broken(_picture(plan, settings, split, row, rng), rng)
    if split == "train" and plan.copied_row_N[row] >= 0:
        original = SPLITS[plan.copied_split_N[row]], int(plan.copied_row_N[row])
        content = image_bytes(plan, settings, *original)
        # a quarter of the leaks are the very file
        same = noise == EXACT or (noise == LEAK and rng.random() < 0.25)
        return content if same else _nearly(content, rng)
    return _picture(plan, settings, split, row, rng)


def _picture(
    plan: Plan, settings: SyntheticSettings, split: str, row: int, rng: np.random.Generator
) -> bytes:
    """A picture of the true class; of anything at all for abstract classes."""
    looks = plan.table.looks
    shown = int(plan.truth[split][row])
    if shown >= len(looks):
        shown = int(rng.integers(len(looks))) if rng.random() < 0.7 else OUT_OF_VOCABULARY
    return jpeg(draw(looks[shown] if shown >= 0 else None, plan.table, settings, rng), rng)


def _nearly(content: bytes, rng: np.random.Generator) -> bytes:
    """The same picture cut a little, scaled or only encoded again."""
    image: Image.Image = Image.open(BytesIO(content))
    width, height = image.size
    kind = rng.integers(0, 4)  # 0: only encoded again; 1: scaled; 2: cut; 3: both
    box = (0.0, 0.0, float(width), float(height))
    if kind >= 2:
        cut = rng.uniform(0.005, 0.03, 4)
        box = (width * cut[0], height * cut[1], width * (1 - cut[2]), height * (1 - cut[3]))
    factor = rng.uniform(0.65, 1.3) if kind in (1, 3) else 1.0
    size = max(8, round((box[2] - box[0]) * factor)), max(8, round((box[3] - box[1]) * factor))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC, box)
    again = jpeg(image, rng)
    return again if again != content else again + b"\0"  # equal bytes would be an exact copy


def _broken(content: bytes, rng: np.random.Generator) -> bytes:
    """Nothing, half a file, or the page that a server sent in its place."""
    return (b"", content[: int(len(content) * rng.uniform(0.1, 0.5))], FORBIDDEN)[rng.integers(0, 3)]


def _all_rows(plan: Plan) -> Iterator[tuple[str, int]]:
    return ((split, row) for split in SPLITS for row in range(plan.size(split)))


def _draw_part(folder: Path, settings: SyntheticSettings, part: int, parts: int) -> Iterator[int]:
    """Write every `parts`-th image from `part` on; yields how many were written since the last time."""
    plan = make_plan(settings)
    since = 0
    for number, (split, row) in enumerate(_all_rows(plan)):
        if number % parts == part:
            write_plain(folder / plan.path(split, row), image_bytes(plan, settings, split, row))
            since += 1
            if since == REPORT_EVERY:
                yield since
                since = 0
    yield since


def _worker(pipe: Connection, folder: Path, settings: SyntheticSettings, part: int, parts: int) -> None:
    """Draw in a process of its own. Its parent's death breaks the pipe, and with it the worker."""
    try:
        for count in _draw_part(folder, settings, part, parts):
            pipe.send(count)
    except BrokenPipeError:
        return
    except OSError as error:
        pipe.send(str(error))
    finally:
        pipe.close()


def _draw_all(
    folder: Path, settings: SyntheticSettings, workers: int, total: int, progress: Callable[[int, int], None]
) -> None:
    done = 0
    for count in _counts(folder, settings, min(workers, total)):
        if isinstance(count, str):
            raise DataError(f"cannot write the images into {folder}: {count}")
        done += count
        progress(done, total)
    if done != total:
        raise DataError(f"a process that draws images ended early: {done} of {total} are in {folder}")


def _counts(folder: Path, settings: SyntheticSettings, workers: int) -> Iterator[int | str]:
    """Numbers of images written, or the text of what went wrong; from `workers` processes."""
    if workers <= 1:
        try:
            yield from _draw_part(folder, settings, 0, 1)
        except OSError as error:
            yield str(error)
        return
    context = multiprocessing.get_context("spawn")  # inherits neither threads nor the ends of other pipes
    pipes, processes = [], []
    try:
        for part in range(workers):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_worker, args=(theirs, folder, settings, part, workers), daemon=True
            )
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        while pipes:
            for pipe in wait(pipes):
                assert isinstance(pipe, Connection)
                try:
                    yield pipe.recv()
                except EOFError:
                    pipes.remove(pipe)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _write_lists(folder: Path, plan: Plan, settings: SyntheticSettings) -> None:
    """The text files of `info/`."""
    info = folder / "info"
    info.mkdir(parents=True)

    def write(name: str, lines: Iterator[str]) -> None:
        write_plain(info / name, "".join(line + "\n" for line in lines).encode())

    labels = plan.labels["train"]
    ranks = query_ranks(plan)
    for code, source in enumerate(SOURCES):
        rows = np.flatnonzero(plan.source_N == code).tolist()
        write(f"train_filelist_{source}.txt", (f"{plan.path('train', row)} {labels[row]}" for row in rows))
        meta = (f"{source}/q{plan.query_N[row] + 1:05d}.json {ranks[row]}" for row in rows)
        write(f"train_meta_list_{source}.txt", meta)
    for split, name in (("val", "val_filelist.txt"), ("test", "test_labels.txt")):
        write(name, (f"{split}{row + 1:06d}.jpg {label}" for row, label in enumerate(plan.labels[split])))
    write("test_filelist.txt", (f"test{row + 1:06d}.jpg" for row in range(plan.size("test"))))
    synsets = [f"n{10_000_000 + 97 * label}" for label in range(plan.table.num_classes)]
    write("synsets.txt", (f"{synset} {name}" for synset, name in zip(synsets, plan.table.names, strict=True)))
    write("queries.txt", (f"{query + 1} {query_text(plan, query)}" for query in range(plan.queries.size)))
    write("queries_synsets_map.txt", (f"{query + 1} {label}" for query, label in enumerate(plan.queries)))
    truth = ([plan.path(s, row), plan.truth[s][row], NOISE[plan.noise[s][row]]] for s, row in _all_rows(plan))
    _write_csv(info / "truth.csv", ["path", "true_label", "noise"], truth)
    copies = np.flatnonzero(plan.copied_row_N >= 0).tolist()
    origins = ((SPLITS[plan.copied_split_N[row]], int(plan.copied_row_N[row])) for row in copies)
    pairs = (
        [plan.path("train", row), plan.path(*origin)] for row, origin in zip(copies, origins, strict=True)
    )
    _write_csv(info / "copies.csv", ["path", "copy_of"], pairs)


def _write_csv(path: Path, header: list[str], rows: Iterator[list[object]] | Iterator[list[str]]) -> None:
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_plain(path, text.getvalue().encode())


def query_ranks(plan: Plan) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Place of each training row within its source and query, from 1: its row in the JSON and its rank."""
    key = plan.source_N * plan.queries.size + plan.query_N
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    return np.arange(key.size) - np.repeat(starts, np.diff(starts, append=key.size)) + 1


def _write_json(folder: Path, plan: Plan, settings: SyntheticSettings) -> None:
    """One array per source and query, in the order of the file list."""
    ranks = query_ranks(plan)
    starts = [*np.flatnonzero(ranks == 1).tolist(), len(ranks)]
    for first, end in pairwise(starts):
        entries = [entry(plan, settings, row, int(ranks[row])) for row in range(first, end)]
        path = folder / SOURCES[plan.source_N[first]] / f"q{plan.query_N[first] + 1:05d}.json"
        path.parent.mkdir(exist_ok=True)
        write_plain(path, json.dumps(entries, ensure_ascii=False).encode())
