"""Which files of a folder are its lists of images, by their names and by the columns that they have."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from smelt.artifacts.bytestrings import encode
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.archives import SUFFIX as ARCHIVE
from smelt.data.formats.lists.columns import Chooser, Columns
from smelt.data.formats.lists.listnames import ALL, SHARD, is_list, lists_among, rank, said, stem_of
from smelt.data.formats.lists.sheets import Sheet, peek, stream
from smelt.data.formats.tree.fitting import SAMPLE, fit
from smelt.data.formats.tree.layout import Glimpse, classes_seen, what_is_there
from smelt.data.formats.tree.names import first_few, split_of
from smelt.data.formats.tree.spelling import Spelling
from smelt.errors import DataError, some

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
NAMES = ("all", "train", "val", "test")
_SHEETS = (".xlsx", ".xls", ".ods")
_SUBMISSION = re.compile(r"(?i)sample[\W_]*submission")
_MOST = 40  # files that are looked into
_OF_LISTS = frozenset(
    {"lists", "list", "csv", "csvs", "labels", "annotations", "annotation", "metadata", "meta", "splits",
     "split", "info"}
)  # fmt: skip
_MOST_WITHIN = 20  # lists in such a folder: as many as images are a text for each of them


@dataclass(frozen=True)
class ListFile:
    """A list that is read: the split of its rows or "all", what it holds, and how its paths lead to files.

    base: its folder below the root. name: what messages call it.
    """

    split: str
    sheet: Sheet
    columns: Columns
    spelling: Spelling
    base: bytes
    name: str
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return self.sheet.path


@dataclass
class _Candidates:
    """Lists of a folder by what their names say; `within`: of splits, in a folder of lists."""

    everything: list[str]
    splits: dict[str, list[str]]
    below: dict[str, list[str]]
    submissions: list[str]
    others: list[str]
    within: dict[str, list[str]]


def chosen(settings: FormatSettings, root: Path) -> list[ListFile]:
    """The lists of a data set: those that are named, or those that are found. DataError."""
    if "classes" in settings.lists:
        _there("classes", root / settings.lists["classes"], root)
    if any(name != "classes" for name in settings.lists):
        return _named(settings, root)
    finder = _Finder(settings, root, Glimpse(root))
    if not (lists := finder.find()):
        raise finder.none()
    return lists


def found_lists(glimpse: Glimpse) -> list[ListFile]:
    """The lists of a folder that names none; empty where there are none."""
    try:
        return _Finder(FormatSettings(format="csv"), glimpse.root, glimpse).find()
    except DataError:
        return []


def list_paths(settings: FormatSettings, root: Path) -> list[tuple[str, Path]]:
    """(split or "all", file) of the lists that the settings name. DataError where one is not there."""
    found = []
    for name, pattern in settings.lists.items():
        if name == "classes":
            continue
        if name not in NAMES:
            raise DataError(f"lists: format csv has all, train, val, test and classes, not {name!r}")
        path = root / pattern
        if path.is_file() or not set("*?[") & set(pattern):
            found.append((name, _there(name, path, root)))
            continue
        matches = sorted(match for match in root.glob(pattern) if match.is_file())
        if not matches:
            raise DataError(f"data.lists.{name}: no file below {root} matches {pattern!r}")
        found += [(name, match) for match in matches]
    return found


def _there(name: str, path: Path, root: Path) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        raise DataError(f"data.lists.{name}: {path} is a folder; it takes a file")
    if path.exists():
        raise DataError(f"data.lists.{name}: {path} is a pipe or a device, no file: write it into one")
    folder = path.parent if path.parent.is_dir() else root
    names = sorted(other.name for other in islice(folder.iterdir(), 5000) if other.is_file())
    lists = [other for other in names if is_list(other)] or names
    shown = ", ".join(some(lists, len(lists))) or "no files"
    raise DataError(f"data.lists.{name}: cannot read {path}: there is no such file; {folder} has {shown}")


def _named(settings: FormatSettings, root: Path) -> list[ListFile]:
    return [opened(settings, root, split, path) for split, path in list_paths(settings, root)]


def opened(settings: FormatSettings, root: Path, split: str, path: Path, bare: bool = False) -> ListFile:
    """A list with its columns and the way to read its paths. bare: its labels are none. DataError."""
    sheet = peek(path, settings)
    chooser = Chooser(path, sheet.names, sheet.sample, sheet.header, settings)
    columns = chooser.choose(labelled=split != "test" and not bare)
    if bare:
        places = {ours: place for ours, place in columns.places.items() if ours == "path"}
        columns = Columns(places, (), columns.notes)
    base = encode(str(path.parent.relative_to(root))) if path.is_relative_to(root) else b""
    base = b"" if base == b"." else base
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    spelling = fit(
        islice(stream(sheet, columns.places["path"]), 4 * SAMPLE), root, base, settings, name, split
    )
    return ListFile(
        split, sheet, columns, spelling, base, name, tuple(f"{name}: {note}" for note in columns.notes)
    )


class _Finder:
    """Finds the lists of a folder that names none."""

    def __init__(self, settings: FormatSettings, root: Path, glimpse: Glimpse) -> None:
        self.settings, self.root, self.glimpse = settings, root, glimpse
        self.reasons: dict[str, str] = {}  # file → why it is no list of images
        self.tried = 0

    def find(self) -> list[ListFile]:
        """The lists, none where there are none; DataError where it cannot be told which are meant."""
        names = self._candidates()
        known = [name for name in names.everything if rank(name)[0] < len(ALL)]
        whole = [found for name in known if (found := self._try("all", name))]
        if whole:
            return self._with_others(whole, names)
        for group in (names.splits, names.below, names.within):
            lists = self._of_splits(group)
            if any(found.split == "train" for found in lists):
                return self._with_submission(lists, names)
            for found in lists:
                self.reasons[found.name] = (
                    f"{found.path} is taken for the list of {found.split}, and there is none for training: "
                    f"-o data.lists.all={found.name} takes it for all images"
                )
        weak = [name for name in names.everything if name not in known]
        whole = [found for name in weak if (found := self._try("all", name))]
        if whole:
            return self._with_others(whole, names)
        other = [
            found for name in names.others if (found := self._try("all", name)) and leads(found, self.root)
        ]
        if len(other) == 1:
            found = _noting(other[0], f"{other[0].path.name} is taken as the list of all images")
            return self._with_submission([found], names)
        if other:
            shown = ", ".join(found.path.name for found in other[:5])
            raise DataError(
                f"{self.root} has {len(other)} lists with a path and a label ({shown}): "
                f"-o data.lists.all={other[0].path.name} takes one, data.lists.train, val and test one each"
            )
        return []

    def _candidates(self) -> _Candidates:
        found = _Candidates([], {}, {}, [], [], {})
        for name in lists_among(self.glimpse.files()):
            what = said(name)
            if _SUBMISSION.search(name):
                found.submissions.append(name)
            elif what == "all":
                found.everything.append(name)
            elif what:
                found.splits.setdefault(what, []).append(name)
            else:
                found.others.append(name)
        found.everything.sort(key=rank)
        for names in found.splits.values():
            names.sort(key=rank)
        for folder in self.glimpse.folders():
            split = split_of(folder)
            if split and (names := [name for name in self.glimpse.files(folder) if _of_folder(name, split)]):
                found.below[split] = [f"{folder}/{name}" for name in sorted(names, key=rank)]
        if classes_seen(self.glimpse) <= 1:  # else the folders are the classes
            self._within(found)
        return found

    def _within(self, found: _Candidates) -> None:
        """Lists in folders that are called as such: `lists/train.csv`, `annotations/labels.csv`."""
        for folder in self.glimpse.folders():
            names = lists_among(self.glimpse.files(folder))
            if folder.lower() not in _OF_LISTS or not 0 < len(names) <= _MOST_WITHIN:
                continue
            for name in sorted(names, key=rank):
                what = said(name)
                if what == "all":
                    found.everything.append(f"{folder}/{name}")
                elif what:
                    found.within.setdefault(what, []).append(f"{folder}/{name}")

    def _try(self, split: str, name: str, bare: bool = False) -> ListFile | None:
        """The list, or None where it has not the columns of one."""
        self.tried += 1
        if self.tried > _MOST:
            return None
        try:
            return opened(self.settings, self.root, split, self.root / name, bare)
        except DataError as error:
            self.reasons[name] = str(error)
            return None

    def _of_splits(self, group: dict[str, list[str]]) -> list[ListFile]:
        lists = []
        for split in ("train", "val", "test"):
            found = [one for name in group.get(split, []) if (one := self._try(split, name))]
            if found and all(SHARD.search(stem_of(one.name)) for one in found):
                lists += found  # parts of one list
            elif found:
                lists.append(_preferred(found))
            elif lists and lists[0].split == "train" and (names := group.get(split)):
                why = self.reasons.get(names[0], "it has other columns")
                lists[0] = _noting(lists[0], f"{names[0]} is not taken as the list of {split}: {why}")
        return lists

    def _with_others(self, whole: list[ListFile], names: _Candidates) -> list[ListFile]:
        """A list of all, and the unlabelled images that an example of a submission names."""
        return self._with_submission([_preferred(whole)], names)

    def _with_submission(self, lists: list[ListFile], names: _Candidates) -> list[ListFile]:
        first = lists[0]
        if any(found.split == "test" or "split" in found.columns.places for found in lists):
            return lists
        for name in names.submissions:
            other = self._try("test", name, bare=True)
            if other and leads(other, self.root) and other.spelling.prefix != first.spelling.prefix:
                return [*lists, _noting(other, f"{name} names the test images, which have no label")]
        return lists

    def none(self) -> DataError:
        """That there is no list, why not, and what lies there instead: looks into every folder."""
        if len(self.reasons) == 1:
            return DataError(next(iter(self.reasons.values())))
        shown = "".join(f"\n  {reason}" for reason in list(self.reasons.values())[:5])
        sheets = [name for name in self.glimpse.files() if name.lower().endswith(_SHEETS)]
        if sheets:
            stem = os.path.splitext(sheets[0])[0]
            shown = (
                f". {sheets[0]} is a spreadsheet, which is not read: save it as {stem}.csv, then "
                f"-o data.lists.all={stem}.csv{shown}"
            )
        below = (f"{folder}/{name}" for folder in self.glimpse.folders()
                 for name in lists_among(self.glimpse.files(folder))[:1])  # fmt: skip
        name = next(below, "NAME")
        return DataError(
            f"{self.root} has no list of images (images.csv, train.csv or the like, with columns for the "
            f"path and the label): {what_is_there(self.glimpse)}. -o data.lists.all={name} names one{shown}"
        )


def _of_folder(name: str, split: str) -> bool:
    """Whether a file in the folder of a split is its list."""
    return is_list(name) and (said(name) in ("all", split) or name.startswith("_classes."))


def _preferred(found: Sequence[ListFile]) -> ListFile:
    """The first, with a note on the others."""
    rest = [one.path.name for one in found[1:]]
    if not rest:
        return found[0]
    name = "all" if found[0].split == "all" else found[0].split
    return _noting(
        found[0],
        f"{found[0].path.name} is taken as the list; {first_few(rest, len(rest))} could be one too: "
        f"-o data.lists.{name}={rest[0]} takes it",
    )


def _noting(found: ListFile, note: str) -> ListFile:
    return replace(found, notes=(note, *found.notes))


def seen(glimpse: Glimpse) -> str:
    """What was recognised of a folder's lists, in words; "" for none.

    Where folders of images lie beside it, a list counts only if one of its images is there, or if it has to
    be asked where they are. Without such folders any list does: its faults are told when it is read.
    """
    lists = found_lists(glimpse)
    names = [str(found.path.relative_to(glimpse.root)) for found in lists]
    folders = classes_seen(glimpse)
    if not lists:
        if spoilt := [name for name in glimpse.files() if _is_spoilt(glimpse.root / name)]:
            return f"the list {spoilt[0]}"  # and not the folders' names in its stead: reading it tells why
        names = [] if folders else lists_among(glimpse.files())
    elif folders > 1 and not any(_is_meant(found, glimpse.root) for found in lists):
        return ""
    if (folders > 1 or _has_tars(glimpse)) and not any(said(os.path.basename(name)) for name in names):
        return ""  # a log, predictions, sizes: nothing says that it is the list of the data set
    if not names:
        return ""
    return f"the list {names[0]}" if len(names) == 1 else f"the lists {first_few(names, len(names))}"


def _is_spoilt(path: Path) -> bool:
    """Whether a file that is called as the list of the training images is damaged."""
    if said(path.name) != "train" or not path.name.lower().endswith(_TABLES):
        return False
    try:
        peek(path, FormatSettings(format="csv"))
    except DataError:
        return True
    return False


def _is_meant(found: ListFile, root: Path) -> bool:
    return bool(found.spelling.hint or found.spelling.refused) or leads(found, root)


def leads(found: ListFile, root: Path) -> bool:
    """Whether one of the first paths of a list is a file."""
    cells = islice(stream(found.sheet, found.columns.places["path"]), SAMPLE)
    paths = (os.path.join(os.fsencode(root), found.spelling(cell)) for cell in cells if cell)
    return any(b"\0" not in path and os.path.isfile(path) for path in paths)


def _has_tars(glimpse: Glimpse) -> bool:
    return any(ARCHIVE.search(name) for _, files in glimpse.tree for name in files)
