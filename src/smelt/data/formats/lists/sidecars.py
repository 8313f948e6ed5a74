"""What the JSON beside an image says: fields by their names (`a.b` for one in another), labels as words.

Used where each image brings fields of its own, whose names only its maker knew: usual names are recognised,
and where none is, the user is shown what was found.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from smelt.data.formats.containers.jsons import kind_of
from smelt.errors import short

# Names that a label goes by; names of classes before their numbers, the plainest first.
LABELS = (
    "label", "cls", "class_name", "label_name", "category_name", "class", "category", "target_name", "target",
    "species", "breed", "class_label", "class_id", "class_idx", "class_index", "label_id", "label_idx",
    "category_id", "target_id", "y",
)  # fmt: skip
NEARLY = ("labels", "classes", "categories", "onehot", "one_hot")  # for where nothing has a name of these
TEXTS = {
    "source": ("source",),
    "query": ("query", "search_query"),
    "title": ("title", "caption"),
    "description": ("description",),
    "tags": ("tags", "keywords"),
}  # our name → usual ones
_TECHNICAL = frozenset(
    {"status", "error_message", "width", "height", "original_width", "original_height", "sha256", "md5",
     "exif", "key", "url", "punsafe", "pwatermark", "similarity", "NSFW"}
)  # fmt: skip
_LOOKED_AT = 5000  # records whose fields are remembered
_DEEP, _MANY, _VALUES = 3, 60, 200


class NoLabel(ValueError):
    """A value that cannot be a label; the text says what it is."""


def field_of(record: Mapping[str, Any], name: str) -> Any:
    """The field `name` of a record, None where there is none; `a.b` is the field b of a."""
    if name in record or "." not in name:
        return record.get(name)
    value: Any = record
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def words_of(value: Any) -> tuple[bytes, ...]:
    """The labels that a value is: () for none, one, or those of a list. NoLabel where it cannot be any."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if any(isinstance(item, list | dict) for item in value):
            raise NoLabel("a list of lists or objects")
        return tuple(dict.fromkeys(word for item in value for word in words_of(item)))
    word = _word(value)
    return (word,) if word else ()


def _word(value: Any) -> bytes:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return b""
    if isinstance(value, bytes):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower().encode()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        value = int(value)
    if not isinstance(value, str | int | float):
        raise NoLabel(kind_of(value))
    return str(value).strip().encode("utf-8", "replace")


class OneHot:
    """Whether all lists that labels were are one-hot: of one length, two or more, 0 but for one 1 each.

    places: row → place of the 1.
    """

    def __init__(self) -> None:
        self.places: dict[int, int] = {}
        self._length: int | None = None
        self._other = False

    def add(self, row: int, value: Any) -> None:
        """The label of a row, as it was found."""
        if self._other or not isinstance(value, list) or len(value) < 2:
            self._other = self._other or (value not in (None, "", []))
            return
        numbers = [item for item in value if type(item) in (int, float) and item in (0, 1)]
        if self._length not in (None, len(value)) or len(numbers) != len(value) or sum(numbers) != 1:
            self._other = True
            return
        self._length = len(value)
        self.places[row] = value.index(1)

    def __bool__(self) -> bool:
        return bool(self.places) and not self._other


def text_of(value: Any) -> bytes:
    """Free text that a value is: what is in a list is joined by blanks; lists and objects in it are not."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if value is None:
        return b""
    items = value if isinstance(value, list) else [value]
    words = [str(item) for item in items if item is not None and not isinstance(item, list | dict)]
    return " ".join(words).encode("utf-8", "replace")


class Seen:
    """The fields of the first records, for messages: their names, and a few of their values."""

    def __init__(self) -> None:
        self.records = 0
        self.values: dict[str, Counter[str]] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Take note of one record."""
        if self.records >= _LOOKED_AT:
            return
        self.records += 1
        self._add(record, "", 1)

    def _add(self, record: Mapping[str, Any], before: str, depth: int) -> None:
        for name, value in record.items():
            name = before + name
            if isinstance(value, dict) and depth < _DEEP:
                self._add(value, f"{name}.", depth + 1)
            elif name in self.values or (len(self.values) < _MANY and len(name) < 200):
                values = self.values.setdefault(name, Counter())
                shown = short(repr(value), 40) if isinstance(value, str) else kind_of(value)
                shown = shown.removeprefix("the number ")
                if len(values) < _VALUES or shown in values:
                    values[shown] += 1

    def proposal(self) -> str:
        """The field that most looks like a label: few values, more than one; "" where none does."""
        fit = [
            (len(values), name)
            for name, values in self.values.items()
            if 2 <= len(values) < _VALUES
            and 2 * len(values) <= max(values.total(), 4)
            and name not in _TECHNICAL
        ]
        return min(fit)[1] if fit else ""

    def __str__(self) -> str:
        """`caption ('a dog'), class_name ('cat', 'dog')`."""
        return ", ".join(
            f"{name} ({', '.join(value for value, _ in values.most_common(3))})"
            for name, values in sorted(self.values.items())
        )
