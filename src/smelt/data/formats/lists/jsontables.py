"""JSON as columns of text: a list of objects, an object a line, columns by name, or `{"a.jpg": "cat"}`.

Fields of objects inside one another are called `a.b`; a list of several values stays JSON. null is "".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from smelt.artifacts.bytestrings import decode, encode
from smelt.data.formats.containers import jsons
from smelt.data.formats.lists.columns import looks_like_image
from smelt.errors import DataError

_DEPTH = 4  # objects inside one another whose fields have names
_KEY, _VALUE = "path", "label"  # what the members of `{"a.jpg": "cat"}` are called
MOST_FIELDS = 10_000
MOST_LABELS = 1000  # in the list of one image
Row = dict[str, Any]


class _All:
    """Every member of an object comes value by value."""

    def __contains__(self, _: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def kind_of_json(head: bytes, name: str) -> str:
    """ "json", "lines", or "" for what does not begin as JSON does."""
    text = head.decode(json.detect_encoding(head), "replace").lstrip("\ufeff \t\r\n")
    lower = name.lower()
    if text[:1] == "[" and (text[1:].lstrip()[:1] in ("{", "[", "]", '"', "") or lower.endswith(".json")):
        return "json"
    if text[:1] != "{":
        return ""
    if lower.endswith((".jsonl", ".ndjson")):
        return "lines"
    first, _, rest = text.partition("\n")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return "json"
    return "lines" if isinstance(value, dict) and rest.lstrip()[:1] == "{" else "json"


def peek(path: Path, kind: str, count: int) -> tuple[list[str], list[list[str]]]:
    """(names of the fields of the first rows, their cells)."""
    sample = [row for _, row in islice(_records(path, kind), count)]
    names = list(dict.fromkeys(name for row in sample for name in row))
    if len(names) > MOST_FIELDS:
        raise DataError(
            f"{path}: its first {len(sample)} rows have {len(names):,} different fields: it is no list"
        )
    if not names:
        raise DataError(f"{path} holds no rows")
    return names, [
        [text_of(row.get(name)).decode("utf-8", "surrogateescape") for name in names] for row in sample
    ]


def rows(path: Path, kind: str, names: Sequence[str]) -> Iterator[tuple[int, list[bytes]]]:
    """(line or number of the row from 0, its cells in the fields `names`) one by one."""
    for place, row in _records(path, kind):
        yield place, [text_of(row.get(name)) for name in names]


def text_of(value: Any) -> bytes:
    """A value as a cell of a table."""
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, list):
        if len(value) < 2:
            return text_of(value[0]) if value else b""
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    if isinstance(value, float) and value != value:
        return b""
    return jsons.name_bytes(str(value)) or encode(ascii(value))


def flat(row: Row) -> Row:
    """The row with the fields of its objects as fields `a.b` of its own."""
    if not any(isinstance(value, dict) for value in row.values()):
        return row
    found: Row = {}

    def walk(before: str, value: Row, depth: int) -> None:
        for name, inner in value.items():
            if isinstance(inner, dict) and depth < _DEPTH:
                walk(f"{before}{name}.", inner, depth + 1)
            else:
                found[f"{before}{name}"] = inner

    walk("", row, 0)
    return found


def _records(path: Path, kind: str) -> Iterator[tuple[int, Row]]:
    if kind == "lines":
        yield from _lines(path)
        return
    with jsons.open_regular(path) as file:
        opened = file.read(1 << 12).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")[:1]
    yield from (_list(path) if opened == "[" else _object(path))


def _lines(path: Path) -> Iterator[tuple[int, Row]]:
    with jsons.open_regular(path) as file:
        number = 0
        while line := file.readline(jsons.MAX_VALUE + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, _row(path, f"{path}:{number}", jsons.parse(line, f"{path}:{number}"))


def _row(path: Path, where: str, value: Any) -> Row:
    if isinstance(value, dict):
        return flat(value)
    if isinstance(value, list) and len(value) == 2:
        return {_KEY: value[0], _VALUE: value[1]}
    raise DataError(
        f"{where}: an object with a field for the path should be here, not {jsons.kind_of(value)}"
    )


def _list(path: Path) -> Iterator[tuple[int, Row]]:
    for _, place, value in jsons.walk(path):
        assert isinstance(place, int)
        yield place, _row(path, f"{path}[{place}]", value)


def _object(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows of an object: a member each, members that are columns, or one member that is the list of rows."""
    events = jsons.walk(path, _All())
    first = list(islice((event for event in events), 4))
    inner = next((event for event in first if event[0]), None)
    if inner is None:
        yield from enumerate(_members(path, first, events))
    elif isinstance(inner[1], int) and isinstance(inner[2], dict):
        yield from enumerate(_wrapped(path, first, events))
    elif isinstance(inner[1], int) or inner[1].isdigit():
        yield from enumerate(_columns(path, first, events))
    else:
        yield from enumerate(_members(path, first, events))


def _members(path: Path, first: list[Any], events: Iterator[Any]) -> Iterator[Row]:
    """`{"a.jpg": "cat"}` or `{"a.jpg": {"label": "cat"}}`."""
    open_row: Row | None = None
    for within, place, value in _chain(first, events):
        if within:
            if isinstance(open_row, dict):
                if isinstance(place, int):
                    several = open_row.setdefault(_VALUE, [])
                    several.append(value)
                    if len(several) > MOST_LABELS:
                        raise DataError(
                            f"{path}: [{json.dumps(open_row[_KEY])}] is a list of more than {MOST_LABELS:,} "
                            "values: it is no image with its labels"
                        )
                else:
                    open_row[place] = value
            continue
        if open_row is not None:
            yield flat(open_row)
            open_row = None
        if isinstance(value, (dict, list)):
            open_row = {_KEY: place}
        else:
            yield {_KEY: place, _VALUE: value}
    if open_row is not None:
        yield flat(open_row)


def _chain(first: list[Any], events: Iterator[Any]) -> Iterator[Any]:
    yield from first
    yield from events


def _wrapped(path: Path, first: list[Any], events: Iterator[Any]) -> Iterator[Row]:
    """`{"images": [{…}, …]}`: the rows of the first list of objects."""
    name = ""
    for within, place, value in _chain(first, events):
        if not within or (name and within != name):
            continue
        name = within
        yield _row(path, f"{path}: {within}[{place}]", value)


def _columns(path: Path, first: list[Any], events: Iterator[Any]) -> Iterator[Row]:
    """`{"path": ["a.jpg", …], "label": […]}`, or with objects by number as pandas writes them.

    Where all hold names of images the columns are classes, `{"cat": ["a.jpg", …], "dog": […]}`.
    """
    columns: dict[str, dict[str, bytes]] = {}
    for within, place, value in _chain(first, events):
        if within:
            columns.setdefault(within, {})[str(place)] = text_of(value)
    if len(columns) > 1 and all(map(_of_images, columns.values())):
        for name, cells in columns.items():
            yield from ({_KEY: decode(cell), _VALUE: name} for cell in cells.values())
        return
    sizes = {name: len(cells) for name, cells in columns.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name}: {size}" for name, size in list(sizes.items())[:10])
        raise DataError(f"{path}: its columns are of different lengths ({shown})")
    for key in next(iter(columns.values()), {}):
        yield {
            name: cells.get(key, b"").decode("utf-8", "surrogateescape") for name, cells in columns.items()
        }


def _of_images(cells: dict[str, bytes]) -> bool:
    return bool(cells) and all(looks_like_image(decode(cell)) for cell in cells.values())
