"""Patterns of shards as people write them: `train/*.tar`, `train-{0000..0099}.tar`, `{a,b}/*.tgz`."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from smelt.data.formats.base import unsafe
from smelt.data.formats.tree.names import first_few
from smelt.errors import DataError

MOST = 100_000  # names that the braces of a pattern may stand for
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})")


def expanded(where: str, pattern: str, root: Path, there: Sequence[Path]) -> list[Path]:
    """Those of the files `there` below `root` that the pattern `pattern`, which `where` holds, stands for.

    DataError where it leads out of the root, stands for too many names or for none that is there.
    """
    if reason := unsafe(os.fsencode(pattern)):
        raise DataError(f"{where}: {pattern!r} {reason}; it takes names of shards below {root}")
    known = {str(path.relative_to(root)): path for path in there}
    found: dict[str, Path] = {}
    for one in _alternatives(where, pattern):
        matching = re.compile(_translated(one.removeprefix("./"))).fullmatch
        names = [one] if one in known else filter(matching, known) if _is_pattern(one) else []
        found |= {name: known[name] for name in names}
    if not found:
        shown = first_few(known, len(known)) or "no archives"
        raise DataError(f"{where}: {pattern!r} matches no archive below {root}; there are {shown}")
    return list(found.values())


def _is_pattern(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def _translated(pattern: str) -> str:
    """A regular expression for a pattern whose `*` stays within a folder and whose `**` does not."""
    parts = []
    for part in pattern.split("/"):
        one = fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z").replace(".*", "[^/]*")
        parts.append("(?:.*/)?" if part == "**" else one + "/")
    return "".join(parts).removesuffix("/")


def _alternatives(where: str, pattern: str) -> Iterator[str]:
    """The pattern once for every way to fill its braces."""
    ways = [pattern]
    while found := _BRACES.search(ways[0]):
        inside = found[1]
        numbers = _RANGE.fullmatch(inside)
        if numbers:
            first, last = int(numbers[1]), int(numbers[2])
            if last - first >= MOST or last < first:
                raise DataError(f"{where}: {{{inside}}} is no range of at most {MOST:,} names")
            words = [str(number).zfill(len(numbers[1])) for number in range(first, last + 1)]
        else:
            words = inside.split(",")
        if len(ways) * len(words) > MOST:
            raise DataError(f"{where}: {pattern!r} stands for more than {MOST:,} names")
        ways = [way.replace(found[0], word, 1) for way in ways for word in words]
    yield from ways
