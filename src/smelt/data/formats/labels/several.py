"""Cells with more than one label: `cat;dog`, `cat|dog`, `["cat", "dog"]`, `cat dog` where both are labels."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Collection, Sequence

from smelt.artifacts.bytestrings import decode, encode
from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.errors import short

_SIGNS = (b";", b"|", b",")
_MANY = 6  # different cells of words from which on their company tells
_LONGEST = 1 << 16  # bytes of a cell that is looked into


def several_of(words: set[bytes], settings: FormatSettings, report: Report) -> dict[bytes, Sequence[bytes]]:
    """The words that are several labels, with these."""
    if settings.multi_label == "whole":
        return {}
    several: dict[bytes, Sequence[bytes]] = dict(several_in(words))
    parted, sure = blanks_between(words - several.keys())
    if parted and (sure or settings.multi_label != "refuse"):
        shown, parts = min(parted.items())
        means = ", ".join(short(decode(part), 40) for part in parts)
        report.note(
            f"blanks part labels: {short(decode(shown), 80)!r} is {means}"
            " (-o data.multi_label=whole takes each as the name of one class)"
        )
        several |= parted
    elif parted:
        shown = min(parted)
        report.warn(
            f"labels such as {short(decode(shown), 80)!r} are taken as classes of their own, though each of "
            "their words is a class too: -o data.multi_label=first (or split) takes them as several labels"
        )
    return several


def several_in(words: Collection[bytes]) -> dict[bytes, list[bytes]]:
    """Cell → its labels, of those that hold several (or one in brackets), told from all cells of a data set.

    `;` and `|` part labels where every part is also met elsewhere, alone or in another cell; `,` where every
    part is met alone.
    """
    found = {word: labels for word in words if word[:1] in b"[({" and (labels := _listed(word)) is not None}
    for sign in _SIGNS:
        parted = {
            word: [part.strip() for part in word.split(sign) if part.strip()]
            for word in words
            if sign in word and word not in found and len(word) <= _LONGEST
        }
        alone = {word for word in words if sign not in word}
        times = Counter(part for parts in parted.values() for part in set(parts))
        for word, parts in parted.items():
            known = all(part in alone or (sign != b"," and times[part] > 1) for part in parts)
            if known and parts:
                found[word] = parts
    return found


def blanks_between(words: Collection[bytes]) -> tuple[dict[bytes, list[bytes]], bool]:
    """(cell → its labels, where blanks part words that are labels elsewhere; whether that is sure).

    Sure are two such cells at least, if blanks part labels in every cell that has any; so are numbers, and
    words that stand in all kinds of company, in cells of two words and of more (`haze primary`, `clear
    primary road`). Otherwise it may as well be the name of a class (`house cat` beside `house` and `cat`).
    """
    alone = {word for word in words if b" " not in word}
    parted = {word: word.split() for word in words if b" " in word and len(word) <= _LONGEST}
    found = {word: parts for word, parts in parted.items() if alone.issuperset(parts)}
    if len(parted) > 1 and all(part.isdigit() for parts in parted.values() for part in parts):
        return parted, True  # `16 0`: no name of a class is like that
    if len(found) > 1:
        return found, len(found) == len(parted)
    times = Counter(part for parts in parted.values() for part in set(parts))
    kinds = {len(parts) for parts in parted.values()}
    mixed = len(parted) > _MANY and len(kinds) > 1 and len(times) <= len(parted)
    if mixed and all(times[part] > 1 or part in alone for part in times):
        return parted, True
    return {}, False


def _listed(word: bytes) -> list[bytes] | None:
    """The labels of `["cat", "dog"]` or `['cat', 'dog']`; None where it is no list of such."""
    if len(word) > _LONGEST or word[-1:] not in (b"]", b")", b"}"):
        return None
    text = word.decode("utf-8", "surrogateescape")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return None
    if not isinstance(value, (list, tuple, set)) or not all(isinstance(item, (str, int)) for item in value):
        return None
    return [encode(str(item)).strip() for item in value]
