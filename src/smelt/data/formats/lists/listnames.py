"""What the names of files say of lists of images: whether they are some, and of which split."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from smelt.data.formats.lists.columns import looks_like_image
from smelt.data.formats.tree.names import split_of

SUFFIXES = (".csv", ".tsv", ".txt", ".psv", ".parquet", ".jsonl", ".ndjson", ".json", ".lst", ".list", ".dat",
            ".manifest")  # fmt: skip
_PACKED = (".gz", ".bz2", ".xz")
# What lists of all images are called, the first that is there going first
ALL = ("images", "data", "labels", "metadata", "annotations", "dataset", "index", "list", "files")
_WORDS = frozenset(
    {*ALL, "image", "img", "imgs", "label", "annotation", "info", "meta", "set", "file", "lists", "ids",
     "filelist", "imagelist", "ground", "truth", "gt", "classes", "df", "csv", "final"}
)  # fmt: skip
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
           "dev": "val", "test": "test", "testing": "test"}  # fmt: skip
SHARD = re.compile(r"[-_.]?\d+[-_]of[-_]\d+$")
_NO_LIST = re.compile(
    r"(readme|licen[cs]e|copying|citation|changelog|requirements|version|notice)\b|license_|meta\.json$"
)


def is_list(name: str) -> bool:
    """Whether a file is called as lists are, and not as texts for people or settings of tools are."""
    lower = name.lower()
    if _NO_LIST.match(lower):
        return False
    for suffix in _PACKED:
        lower = lower.removesuffix(suffix)
    return lower.endswith(SUFFIXES)


def lists_among(files: Sequence[str]) -> list[str]:
    """Those files of a folder that are called as lists are, without those that belong to one image each."""
    images = {name for name in files if looks_like_image(name)}
    stems = {os.path.splitext(name)[0] for name in images}
    return [
        name
        for name in files
        if is_list(name) and (stem := os.path.splitext(name)[0]) not in stems and stem not in images
    ]


def stem_of(name: str) -> str:
    """A list's name without its suffixes."""
    for suffix in (*_PACKED, *SUFFIXES):
        name = name.removesuffix(suffix)
    return name


def said(name: str) -> str:
    """What the name of a list says: a split, "all", or ""."""
    stem = name.lower()
    for suffix in (*_PACKED, *SUFFIXES):
        stem = stem.removesuffix(suffix)
    stem = SHARD.sub("", stem)
    words = [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[0-9])", stem) if word and not word.isdigit()]
    splits = [_SPLITS[word] for word in words if word in _SPLITS]
    rest = [word for word in words if word not in _SPLITS]
    if not words or not _WORDS.issuperset(rest):
        return split_of(stem) if words else ""
    if len(splits) == 1:
        return splits[0]
    return "all" if not splits and rest != ["classes"] else ""


def rank(name: str) -> tuple[int, int, str]:
    """Lists are looked for in the order of `ALL`, and of SUFFIXES."""
    stem, _, rest = name.rpartition("/")[2].lower().partition(".")
    place = ALL.index(stem) if stem in ALL else len(ALL)
    kind = next((n for n, suffix in enumerate(SUFFIXES) if f".{rest}".startswith(suffix)), len(SUFFIXES))
    return place, kind, name
