"""What a run will take of the disk, from the recipe and what is known of the data, beside what is free.

An estimate: weights and checkpoints by the numbers in a net, dynamics by row, results by image and class.
Images that `synthesise` draws, catalogues and checks are counted by rough figures a row.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from smelt.errors import ArtifactError
from smelt.files.atomic import read_json
from smelt.flowchart.graph import is_try
from smelt.learning.config import TrainSettings
from smelt.verbs.checks.asked import Asked

FLOAT, HALF = 4, 2  # bytes of a number in weights, and in results
CHECKPOINTS = 3  # two are kept, and a third is being written
DYNAMICS = 36  # bytes a row
# Bytes a row, measured on the embedded data set: catalogue and its Parquet; check; selection and ranking
CATALOGUED, CHECKED, MINED = 250, 120, 60
DRAWN = 6000  # bytes of a drawn image, with its text
SIDECAR = 10_000  # bytes of a small file


@dataclass(frozen=True)
class Counts:
    """Classes and images by split, None where nobody knows before the catalogue is there."""

    classes: int | None = None
    images: Mapping[str, int] | None = None

    @property
    def rows(self) -> int:
        """Images of all splits, as far as they are known."""
        return sum((self.images or {}).values())


@dataclass(frozen=True)
class Part:
    """Bytes that stages of one kind leave, and that one of them takes besides while it runs."""

    what: str
    kept: int
    meanwhile: int = 0


@dataclass(frozen=True)
class Need:
    """What is still to be written, and what is free. complete: whether nothing had to be left out."""

    parts: tuple[Part, ...]
    free: int
    folder: Path
    complete: bool

    @property
    def total(self) -> int:
        """Bytes: all that stays, and the most that one stage takes besides."""
        return sum(part.kept for part in self.parts) + max((part.meanwhile for part in self.parts), default=0)

    def words(self) -> str:
        """`disk: about 3.2 GB to write (results 2.9 GB, …), 41 GB free in work`."""
        some = sorted((part for part in self.parts if part.kept), key=lambda part: -part.kept)[:3]
        most = ", ".join(f"{part.what} {size(part.kept)}" for part in some)
        more = "" if self.complete else " and what depends on the number of images, which nobody knows yet"
        return (
            f"disk: about {size(self.total)} to write{f' ({most})' if most else ''}{more}; "
            f"{size(self.free)} free in {self.folder}"
        )

    def problem(self) -> list[str]:
        """Why it does not fit, if it does not."""
        if self.total <= self.free:
            return []
        mends = {
            "results": "predict.topk keeps fewer scores of each image, fewer predict.views fewer results",
            "teachers": "a smaller teacher.top_k",
            "weights and dynamics": "fewer models or seeds",
            "images": "a smaller synthesise.train_images",
            "features": "fewer `features`",
        }
        most = max(self.parts, key=lambda part: part.kept + part.meanwhile).what
        hint = f"; {mends[most]}" if most in mends else ""
        return [f"{self.words()}: make room, or take another disk with --work FOLDER{hint}"]


def size(count: int) -> str:
    """Bytes in words: `3.2 GB`."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}" if count < 100 * factor else f"{count / factor:,.0f} {unit}"
    return f"{count / 1000:.0f} kB"


def counts(asked: Asked) -> Counts:
    """What the catalogue says where it is there, else the recipe of a data set that is drawn."""
    whole = asked.graph.whole
    index = next((node for node in whole if node.stage == "index"), None)
    if index is not None:
        try:
            told = read_json(asked.work.artifact("index", whole.key(index)) / "index.json")
            return Counts(int(told["num_classes"]), {name: int(n) for name, n in told["splits"].items()})
        except (OSError, ArtifactError, KeyError, TypeError, ValueError, AttributeError):
            pass
    made = asked.recipe.synthesise
    if made is None:
        return Counts()
    return Counts(
        made.classes, {"train": made.train_images, "val": made.val_images, "test": made.test_images}
    )


def estimate(
    asked: Asked, values: Mapping[tuple[int, int], int], dims: Mapping[str, int] | None = None
) -> Need:
    """What the nodes that are not done will write. values: numbers in the state of the nets, where known;
    dims: numbers of a line of features, by their names."""
    known = counts(asked)
    todo = {node.id for node in asked.todo}
    lines = [HALF * dim + 1 for name, dim in (dims or {}).items() if f"features/{name}" in todo]
    parts = [*_parts(asked, known, todo, values), Part("features", known.rows * sum(lines))]
    parts = [part for part in parts if part.kept or part.meanwhile]
    folder = next(
        path for path in (asked.work.folder, *asked.work.folder.absolute().parents) if path.exists()
    )
    begun = sum(_below(asked.work.attempt(node.stage, asked.graph.key(node))) for node in asked.todo)
    trained = any(name.startswith("train/") for name in todo)
    seen = sum(name.startswith("features/") for name in todo)
    complete = known.images is not None and (bool(values) or not trained) and len(lines) == seen
    return Need(tuple(parts), shutil.disk_usage(folder).free + begun, folder, complete)


def _below(folder: Path) -> int:
    """Bytes that an attempt has written already."""
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:
        return 0


def _parts(
    asked: Asked, known: Counts, todo: set[str], values: Mapping[tuple[int, int], int]
) -> Iterator[Part]:
    recipe, rows = asked.recipe, known.rows
    stages = [node.stage for node in asked.todo]
    yield Part("images", DRAWN * rows if "synthesise" in stages else 0)
    yield Part(
        "catalogue", CATALOGUED * rows * stages.count("index") + CHECKED * rows * stages.count("check")
    )
    yield Part("rankings", MINED * rows * (stages.count("rank") + stages.count("select")))
    yield _models(asked, known, todo, values)
    yield _results(asked, known, todo)
    yield _teachers(asked, known, todo)
    scores = sum((known.images or {}).get(split, 0) for split in recipe.fuse.write_scores)
    yield Part("fused scores", HALF * scores * (known.classes or 0) if "fuse" in stages else 0)


def _models(asked: Asked, known: Counts, todo: set[str], values: Mapping[tuple[int, int], int]) -> Part:
    kept = meanwhile = 0
    for one, model, settings, at in asked.trainings():
        own = {f"{model.name}-{seed}" for seed in model.seeds}
        # those of the round, and of what it tries (`train/filtered@1/resnet14-0`)
        parts = (name.split("/") for name in todo if name.startswith("train/"))
        left = sum(tail in own and round_.partition("@")[0] == one.name for _, round_, tail in parts)
        if left:
            weights = FLOAT * values.get(at, 0) * (2 if settings.ema_decay else 1)
            kept += left * (weights + DYNAMICS * known.rows + SIDECAR)
            state = FLOAT * values.get(at, 0) * _copies(settings) + DYNAMICS * known.rows
            meanwhile = max(meanwhile, CHECKPOINTS * state)
    return Part("weights and dynamics", kept, meanwhile)


def _copies(settings: TrainSettings) -> int:
    """Numbers in a checkpoint for each of the net: itself, what the optimiser remembers, its average."""
    return 1 + (2 if settings.optimiser == "adamw" else 1) + (1 if settings.ema_decay else 0)


def _results(asked: Asked, known: Counts, todo: set[str]) -> Part:
    predict, images, count = asked.recipe.predict, known.images or {}, known.classes or 0
    nodes = sum(name.startswith("predict/") for name in todo if not is_try(name))
    tries = sum(name.startswith("predict/") for name in todo if is_try(name))  # validation, in one view
    per_view = sum(
        images.get(split, 0) * _scores(predict.topk.get(split), count) + SIDECAR for split in predict.splits
    )
    judged = images.get("val", 0) * _scores(None, count) + SIDECAR
    return Part("results", nodes * len(predict.views) * per_view + tries * judged)


def _teachers(asked: Asked, known: Counts, todo: set[str]) -> Part:
    images = (known.images or {}).get("train", 0)
    most = max((one.teacher.top_k for one in asked.recipe.rounds if one.teacher), default=0)
    nodes = sum(name.startswith("teach/") for name in todo)
    # columns are written beside the file that they are joined in
    each = images * _scores(most, known.classes or 0) + SIDECAR
    return Part("teachers", nodes * each, each if nodes else 0)


def _scores(kept: int | None, count: int) -> int:
    """Bytes of one image's scores: all in half precision, or the best, their classes and the rest's mass."""
    if kept is None or not count:
        return HALF * count
    return min(kept, count) * (HALF + (2 if count <= 1 << 16 else 4)) + HALF + FLOAT
