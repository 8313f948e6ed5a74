"""Lists of classes as people have them: a name a line, a table of ids and names, JSON of either."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smelt.artifacts.bytestrings import decode
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers import jsons
from smelt.data.formats.labels.classes import Classes, is_number, listed_in
from smelt.data.formats.lists.columns import plain
from smelt.data.formats.lists.jsontables import text_of
from smelt.data.formats.lists.letters import in_utf8, known
from smelt.data.formats.lists.pathlists import read_lines
from smelt.data.formats.lists.sheets import peek, read
from smelt.data.formats.tree.files import Part
from smelt.errors import DataError

_MOST = 64 << 20  # bytes of a list of classes
_TABLES = (".csv", ".tsv", ".psv", ".parquet")
_IDS = ("id", "label", "index", "idx", "number", "classid", "categoryid", "labelid", "code", "classindex",
        "key")  # fmt: skip
_NAMES = ("name", "classname", "class", "category", "categoryname", "labelname", "species", "breed", "title",
          "description")  # fmt: skip


def read_classes(path: Path, settings: FormatSettings, report: Any) -> Classes:
    """The classes of a list: `.txt`, `.csv` (id, name), `.json` (a list, `{"0": "cat"}`, `{"cat": 0}`)."""
    part = Part(path)
    head = part.read(0, 1 << 12)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return _of_json(path, jsons.load(path, _MOST))
    if head.startswith(b"PAR1") or path.name.lower().endswith(_TABLES):
        return _of_table(path, settings, report)
    names = [line.strip() for line in read_lines(part)]
    if not names:
        raise DataError(f"{path} has no classes: it takes a name a line")
    encoding = known(settings.encoding) if settings.encoding else None
    names = in_utf8(names, encoding, lambda place: f"{path}: class {place}")
    return listed_in(str(path), names)


def _of_json(path: Path, value: Any) -> Classes:
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), (list, dict)):
        value = next(iter(value.values()))  # {"classes": […]}
    if isinstance(value, list) and value:
        names = [_name(path, item) for item in value]
        ids: dict[bytes, int] = {}
        if all(isinstance(item, dict) and "id" in item for item in value):
            ids = {text_of(item["id"]): place for place, item in enumerate(value)}
        return listed_in(str(path), names, ids)
    if not isinstance(value, dict) or not value:
        raise DataError(f"{path}: a list of names or an object of ids and names should be here")
    pairs = [(text_of(key), item) for key, item in value.items()]
    if all(isinstance(item, int) and not isinstance(item, bool) for _, item in pairs):
        pairs = [(text_of(item), decode(key)) for key, item in pairs]  # {"cat": 0}
    return _of_pairs(path, [(key, _name(path, item)) for key, item in pairs])


def _name(path: Path, item: Any) -> bytes:
    """The name of a class: text, a number, the last of a list (`["n02123394", "Persian cat"]`), or `name`."""
    if isinstance(item, list) and item:
        item = item[-1]
    if isinstance(item, dict):
        item = item.get("name", item.get("label"))
    if isinstance(item, (dict, list, bool)) or item is None:
        raise DataError(f"{path}: {jsons.kind_of(item)} is no name of a class")
    return text_of(item).strip()


def _of_table(path: Path, settings: FormatSettings, report: Any) -> Classes:
    plainly = settings.model_copy(update={"delimiter": None, "header": None})
    sheet = peek(path, plainly)
    called = {plain(name): place for place, name in reversed(list(enumerate(sheet.names)))}
    name = next((called[known] for known in _NAMES if known in called), None)
    number = next((called[known] for known in _IDS if known in called), None)
    if len(sheet.names) == 1:
        (names,), _ = read(sheet, [0], report)
        return listed_in(str(path), [word.strip() for word in names if word.strip()])
    if name is None or number is None:
        number, name = (0, 1) if len(sheet.names) == 2 else (number, name)
    if name is None or number is None or name == number:
        raise DataError(
            f"{path} has the columns {', '.join(map(repr, sheet.names))}: a list of classes has two, `id` "
            "and `name`, or a name a line"
        )
    (ids, names), _ = read(sheet, [number, name], report)
    return _of_pairs(path, [(key.strip(), word.strip()) for key, word in zip(ids, names)])


def _of_pairs(path: Path, pairs: list[tuple[bytes, bytes]]) -> Classes:
    """Classes by id and name: in the order of the ids where these are numbers."""
    if all(is_number(key) for key, _ in pairs):
        pairs = sorted(pairs, key=lambda pair: (len(pair[0]), pair[0]))
    ids: Mapping[bytes, int] = {key: place for place, (key, _) in enumerate(pairs)}
    if len(ids) < len(pairs):
        twice = next(key for place, (key, _) in enumerate(pairs) if ids[key] != place)
        raise DataError(f"{path}: the class {decode(twice)!r} is there twice")
    return listed_in(str(path), [name for _, name in pairs], ids)
