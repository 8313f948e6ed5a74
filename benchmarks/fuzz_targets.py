"""What is fuzzed: each target reads bytes and raises nothing but SmeltError.

A target is a function of the bytes and of an empty folder to put them in. To add one, write it, put it into
TARGETS and give it sound files in `fuzz_inputs.other_files`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from smelt.errors import BadImageError, SmeltError

Target = Callable[[bytes, Path], str]
SIZE = (64, 64)


class WrongError(AssertionError):
    """What a reader gave is not what it promises."""


def image(data: bytes, folder: Path) -> str:
    """The reason why it cannot be read, or "ok", or the word for its damage; the training path besides."""
    import numpy as np

    from smelt.data.images.decode import examine, load_crop
    from smelt.data.images.headers import probe
    from smelt.data.images.kinds import sniff

    kind = sniff(data[:64])
    try:
        header = probe(data)
        if not kind.readable or kind.kind != sniff(data).kind:
            raise WrongError(f"sniffed as {kind}, and yet probed as {header}")
        pixels, word = examine(data)
    except BadImageError as error:
        return error.reason
    if pixels.shape != (header.height, header.width, 3) or pixels.dtype != np.uint8:
        raise WrongError(f"{pixels.shape} {pixels.dtype} for {header}")
    del pixels
    box = (0.0, 0.0, max(header.width / 2, 1.0), max(header.height / 2, 1.0))
    crop = load_crop(data, box, SIZE, True, header)
    if crop.shape != (*SIZE, 3):
        raise WrongError(f"a crop of {crop.shape}")
    return word or "ok"


def tar(data: bytes, folder: Path) -> str:
    """The members of a tar, each within it."""
    from smelt.data.formats.base import Report
    from smelt.data.formats.containers.tars import read_members

    path = folder / "shard.tar"
    path.write_bytes(data)
    members = read_members(path, Report())
    return f"{min(len(members), 1)} members"


def _list(name: str) -> Target:
    def listed(data: bytes, folder: Path) -> str:
        return _indexed(data, folder, name)

    return listed


def _indexed(data: bytes, folder: Path, name: str) -> str:
    """A data set of one list, by its reader and the writer of catalogues."""
    from smelt.stages.context import run as run_stage

    (folder / "root").mkdir()
    (folder / "root" / name).write_bytes(data)
    settings = {"format": "csv", "check_files": False, "lists": {"all": name}}
    (folder / "out" / "scratch").mkdir(parents=True)
    run_stage(
        "index", settings, inputs={}, out=folder / "out", scratch=folder / "out" / "scratch",
        runtime={"root": str(folder / "root")},
    )  # fmt: skip
    return "ok"


def lines(data: bytes, folder: Path) -> str:
    """A list of paths and numbers as WebVision has it, of which there are millions of lines."""
    from smelt.data.formats.base import Report
    from smelt.data.formats.lists.pathlists import read_list
    from smelt.data.formats.tree.files import Part

    path = folder / "list.txt"
    path.write_bytes(data)
    report = Report()
    list(read_list(Part(path), report, labelled=True, num_classes=5))
    report.refuse()
    return "ok"


def yaml(data: bytes, folder: Path) -> str:
    """A recipe's text."""
    from smelt.recipe.yaml_lines import read_yaml

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "not text"
    read_yaml(text, "recipe.yaml")
    return "ok"


def pickle(data: bytes, folder: Path) -> str:
    """A batch of CIFAR."""
    from smelt.data.formats.cifar_files import _load

    path = folder / "data_batch_1"
    path.write_bytes(data)
    _load(path)
    return "ok"


def jsons(data: bytes, folder: Path) -> str:
    """A small file of smelt's own."""
    from smelt.files.atomic import read_json

    path = folder / "a.json"
    path.write_bytes(data)
    json.dumps(read_json(path))
    return "ok"


def _scores(suffix: str) -> Target:
    def scores(data: bytes, folder: Path) -> str:
        from smelt.fusion.scores.inputs import read_scores

        path = folder / f"model{suffix}"
        path.write_bytes(data)
        read_scores([path])
        return "ok"

    return scores


def _labels(suffix: str) -> Target:
    def labels(data: bytes, folder: Path) -> str:
        from smelt.fusion.scores.labels import read_labels

        path = folder / f"labels{suffix}"
        path.write_bytes(data)
        read_labels(path, 20, 4, ids=[f"{i}.jpg" for i in range(20)], classes=list("abcd"))
        return "ok"

    return labels


TARGETS: dict[str, Target] = {
    "image": image,
    "tar": tar,
    "csv": _list("images.csv"),
    "list.txt": lines,
    "list.parquet": _list("images.parquet"),
    "list.json": _list("images.json"),
    "list.jsonl": _list("images.jsonl"),
    "list.csv.gz": _list("images.csv.gz"),
    "yaml": yaml,
    "pickle": pickle,
    "json": jsons,
    "scores.npy": _scores(".npy"),
    "scores.npz": _scores(".npz"),
    "scores.csv": _scores(".csv"),
    "scores.parquet": _scores(".parquet"),
    "scores.pt": _scores(".pt"),
    **{f"labels{suffix}": _labels(suffix) for suffix in (".npy", ".npz", ".csv", ".parquet")},
}


def outcome(target: str, data: bytes, folder: Path) -> str:
    """A word for what `target` made of the bytes; only what is not a SmeltError goes through."""
    try:
        return TARGETS[target](data, folder)
    except SmeltError as error:
        return f"{type(error).__name__}"
