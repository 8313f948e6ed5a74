"""What the readers of exports share: which lists to read, rows with a place each, and known classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smelt.artifacts.bytestrings import ByteStrings, decode
from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import SHOWN, SPLIT_NAMES, Report, lists_named, refuse_unknown_lists
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.jsons import kind_of, name_bytes, placed, walk
from smelt.data.formats.labels.classes import Classes
from smelt.data.formats.lists.imagetable import Table
from smelt.data.formats.lists.listed import add_tables
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.names import words_of
from smelt.data.formats.tree.spelling import Spelling
from smelt.errors import DataError, short

ENOUGH = 1000  # problems after which nothing more of a file is read
LISTS = ("all", "train", "val", "test")
FEW = 20  # lists in a folder: where more are, each belongs to an image …
MOST = 100  # … as they do where there are more of them in all: the first are looked at


@dataclass
class Rows:
    """Images that one export names, in its order: `names` as written, all `labels` of each, (), (a,), (a, b).

    path: the export. split: of all, or "all" where the column `split` says it (else they are for training).
    within: what the list of them is called in the file, and `places` where each is in it. columns: further
    ones of `Table`, a value for each.
    """

    path: Path
    split: str
    within: str = ""
    names: list[bytes] = field(default_factory=list)
    labels: list[tuple[bytes, ...]] = field(default_factory=list)
    places: list[int | str] = field(default_factory=list)
    columns: dict[str, list[bytes]] = field(default_factory=dict)
    lines: bool = False  # whether places are lines of the file

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: bytes, labels: Iterable[bytes], place: int | str) -> None:
        """Append an image; equal labels count once."""
        self.names.append(name)
        self.labels.append(tuple(dict.fromkeys(labels)))
        self.places.append(place)

    def where(self, entry: int) -> str:
        """File and place of row `entry`."""
        if self.lines:
            return f"{self.path}:{self.places[entry]}"
        return f"{self.path}: {placed(self.within, self.places[entry])}"

    def table(self, paths: Sequence[bytes]) -> Table:
        """As columns, with the paths below the root that the names stand for."""
        several = {row: labels for row, labels in enumerate(self.labels) if len(labels) > 1}
        columns = {
            "path": ByteStrings.of(paths),
            "label": ByteStrings.of(labels[0] if labels else b"" for labels in self.labels),
        }
        columns |= {name: ByteStrings.of(values) for name, values in self.columns.items()}
        return Table(self.split, columns, self.where, several=several, spelling=Spelling())


def named_lists(settings: FormatSettings) -> dict[str, str]:
    """Split (or "all") → file or pattern of the lists that the settings name. DataError for other names."""
    refuse_unknown_lists(settings, *LISTS, "classes")
    return {split: path for split, path in settings.lists.items() if split != "classes"}


def found_lists(
    settings: FormatSettings, root: Path, found: Sequence[str], what: str
) -> list[tuple[str, Path]]:
    """(split or "all", file) of the lists to read: those that are named, else `found`, one for each split.

    DataError where a named one is not there, where none was found, and where a split has several.
    """
    instead = f"; there is {', '.join(found[:3])}" if found else ""
    named = lists_named(settings, root, *LISTS, "classes", instead=instead)
    named.pop("classes", None)
    if named:
        return list(named.items())
    if not found:
        raise DataError(f"{root} has no {what}; name it: -o data.lists.all=FILE (or .train, .val, .test)")
    by_split: dict[str, list[str]] = {}
    for name in found:
        by_split.setdefault(split_of_list(name), []).append(name)
    if len(by_split) > 1 and "all" in by_split:
        others = ", ".join(by_split.pop("all"))
        raise DataError(
            f"{root} has lists of splits ({', '.join(names[0] for names in by_split.values())}) and "
            f"{others}, whose name says no split; name those to read: -o data.lists.train=FILE "
            "-o data.lists.val=FILE"
        )
    for split, names in by_split.items():
        if len(names) > 1:
            raise DataError(
                f"{root} has {len(names)} lists for {split}: {', '.join(names[:SHOWN])}; name the one to "
                f"read: -o data.lists.{split}={names[0]}"
            )
    return [(split, root / names[0]) for split, names in sorted(by_split.items(), key=_by_split)]


def _by_split(item: tuple[str, list[str]]) -> int:
    return LISTS.index(item[0])


def split_of_list(path: str) -> str:
    """The split that the name of a list, or else of a folder that it lies in, says; "all" if none does."""
    for part in reversed(path.split("/")):
        said = {SPLIT_NAMES[word] for word in words_of(part) if word in SPLIT_NAMES}
        if len(said) == 1:
            return said.pop()
    return "all"


def candidates(glimpse: Glimpse, suffixes: tuple[str, ...]) -> list[str]:
    """Files with one of these suffixes in the root and the folders below, where they are few in a folder."""
    found: list[str] = []
    for at, files in glimpse.tree:
        matching = [name for name in files if name.lower().endswith(suffixes)]
        if len(matching) <= FEW:
            found += [f"{at}/{name}".lstrip("/") for name in matching]
    return found[:MOST]


def text_or_number(value: object) -> bytes | None:
    """A label or an identifier as bytes: text, or a whole number in digits; None where it is neither."""
    if isinstance(value, str):
        return name_bytes(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        value = int(value)
    return b"%d" % value if isinstance(value, int) and not isinstance(value, bool) else None


def refuse_many(report: Report) -> None:
    """Refuse at once where so much is wrong that the rest need not be read. DataError."""
    if report.num_problems >= ENOUGH:
        report.refuse()


def wrong(where: str, what: str, value: object, wanted: str, report: Report) -> None:
    """Report that a value is not what it has to be."""
    shown = repr(short(value, 80)) if isinstance(value, str) else kind_of(value)
    report.problem(f"{where}: {what} is {shown}, not {wanted}")


def taken(value: Mapping[str, object], key: str, wanted: str, where: str, report: Report) -> bytes | None:
    """The text or whole number that an object has under `key`; None where it has to be and is not."""
    found = text_or_number(value.get(key))
    if found is None:
        wrong(where, f"`{key}`", value.get(key), wanted, report)
    return found


def items(
    path: Path, report: Report, streamed: tuple[str, ...] = (), what: str = "an object"
) -> Iterator[tuple[str, int | str, str, Any]]:
    """(list, place, where that is, object) of the objects in the lists `streamed` of a JSON file, and
    ("", key, where, value) of what else it holds. What is no object in a list is a problem."""
    for within, place, value in walk(path, streamed):
        refuse_many(report)
        where = f"{path}: {placed(within, place)}"
        if within and not isinstance(value, dict):
            wrong(where, "it", value, what, report)
        else:
            yield within, place, where, value


class Known:
    """Classes that an export lists itself, in its order: name → identifier (b"" where it has none)."""

    def __init__(self) -> None:
        self.ids: dict[bytes, bytes] = {}

    def add(self, found: dict[bytes, bytes], path: Path, report: Report) -> None:
        """Append those of one more list. Its identifiers count where the lists before had other ones."""
        other = [name for name, number in found.items() if self.ids.setdefault(name, number) != number]
        if other:
            report.warn(
                f"{path}: {len(other)} classes have another id than in the lists before, such as "
                f"{decode(other[0])!r}: they are told by their names"
            )

    def classes(self) -> Classes | None:
        """The classes; None where there are none, so that they are found in the labels."""
        names = list(self.ids)
        return Classes(names, {name: place for place, name in enumerate(names)}) if names else None


def add_rows(
    found: Sequence[Rows], paths: Sequence[Sequence[bytes]], known: Known, settings: FormatSettings,
    root: Path, writer: CatalogueWriter, report: Report,
) -> None:  # fmt: skip
    """Append the rows of all lists; paths: where the images of each were found, below the root."""
    report.refuse()
    own = None if "classes" in settings.lists else known.classes()
    tables = [rows.table(part) for rows, part in zip(found, paths) if len(rows)]
    if not tables:
        raise DataError(f"{', '.join(str(rows.path) for rows in found)}: no images are listed")
    add_tables(tables, settings, root, writer, report, known=own)
    if own is not None and all(known.ids.values()):
        writer.class_ids = [decode(number) for number in known.ids.values()]


def images_named(
    settings: FormatSettings, root: Path, lists: Sequence[Path]
) -> tuple[list[Path], list[Path]]:
    """What `outside` gives for exports: the lists by content, all files below the root by listing."""
    classes = [root / settings.lists["classes"]] if "classes" in settings.lists else []
    return [*lists, *classes], [root] if settings.check_files else []
