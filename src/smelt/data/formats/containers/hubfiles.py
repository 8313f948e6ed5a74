"""Which Parquet and Arrow files of a folder hold the rows of a data set, and of which split each is."""

from __future__ import annotations

import re
from pathlib import Path

from smelt.artifacts.bytestrings import encode
from smelt.data.formats.base import SHOWN, natural
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.jsons import load
from smelt.data.formats.lists.exported import LISTS, named_lists, split_of_list
from smelt.data.formats.tree.layout import Glimpse
from smelt.errors import DataError

_SUFFIXES = (".parquet", ".arrow")
SHARD = re.compile(r"-\d{5}-of-\d{5}\.(parquet|arrow)$|^\d{4}\.parquet$")


def found_files(glimpse: Glimpse) -> list[str]:
    """Files that may hold rows, but for what `datasets` caches and for img2dataset's."""
    found = []
    for at, files in glimpse.tree:
        if any(name.endswith("_stats.json") for name in files):
            continue
        found += [
            f"{at}/{name}".lstrip("/")
            for name in files
            if name.lower().endswith(_SUFFIXES) and not name.startswith(("cache-", "tmp"))
        ]
    return found


def files_of(settings: FormatSettings, root: Path) -> dict[str, list[Path]]:
    """Split (or "all") → its files, in natural order. DataError where there are none, or of several sets."""
    if named := named_lists(settings):
        return {split: _matching(split, pattern, root) for split, pattern in named.items()}
    by_split: dict[str, list[str]] = {}
    for name in found_files(Glimpse(root)):
        by_split.setdefault(split_of_list(name), []).append(name)
    if not by_split:
        raise DataError(f"{root} has no .parquet or .arrow files, nor have the folders below it")
    for split, names in by_split.items():
        folders = sorted({name.rpartition("/")[0] for name in names})
        if len(folders) > 1:
            raise DataError(
                f"{root} has files for {split} in {len(folders)} folders: {', '.join(folders[:SHOWN])}. Name "
                f'those to read: -o data.lists.{split}="{folders[0] or "."}/*{Path(names[0]).suffix}"'
            )
    if len(by_split) > 1 and "all" in by_split:
        raise DataError(
            f"{root} has files of splits ({', '.join(sorted(by_split.keys() - {'all'}))}) and others, such "
            f"as {by_split['all'][0]}, whose name says none; name those to read: "
            '-o data.lists.train="PATTERN" -o data.lists.val="PATTERN"'
        )
    return {
        split: _in_order([root / name for name in by_split[split]]) for split in LISTS if split in by_split
    }


def _matching(split: str, pattern: str, root: Path) -> list[Path]:
    try:
        found = [path for path in root.glob(pattern) if path.is_file()]
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"data.lists.{split}: {pattern!r} is no pattern below the root: {error}") from error
    if not found:
        raise DataError(f"data.lists.{split}: {pattern!r} matches no file below {root}")
    return _in_order(found)


def _in_order(paths: list[Path]) -> list[Path]:
    """The files of one split: in the order of `state.json`, else of their names."""
    paths = sorted(paths, key=lambda path: natural(encode(str(path))))
    state = paths[0].with_name("state.json")
    if not state.is_file():
        return paths
    value = load(state)
    listed = value.get("_data_files") if isinstance(value, dict) else None
    items = listed if isinstance(listed, list) else []
    names = (item.get("filename") for item in items if isinstance(item, dict))
    named = [name for name in names if isinstance(name, str)]
    if not named or len(named) < len(items):
        raise DataError(f"{state}: `_data_files` is no list of files, each with its `filename`")
    if len(set(named)) < len(named):
        raise DataError(f"{state}: `_data_files` has a file twice")
    there = {path.name: path for path in paths}
    if missing := [name for name in named if name not in there]:
        raise DataError(f"{state}: it lists {missing[0]!r:.80}, which is not there: files are missing")
    return [there[name] for name in named]
