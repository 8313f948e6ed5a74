"""Shards that are numbered, and those that are missing: `train-00003-of-00010.tar`, `shard-000007.tar`.

A name with `-of-` says how many there are: one that lacks some is refused, unless its files are named by
`lists`. Without it only a gap in the numbers tells, which may be meant: that is warned of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from smelt.data.formats.base import Report
from smelt.data.formats.tree.names import first_few

_OF = re.compile(r"(.*?)(\d{1,9})([-_]of[-_])(\d{1,9})(.*)", re.IGNORECASE)
_LAST = re.compile(r"(.*?)(\d{1,9})(\D*)")
_PACKED = re.compile(r"\.(gz|bz2|xz|zst|zstd)$", re.IGNORECASE)
_MOST = 1 << 20  # shards that are looked for
_FEW = 3  # shards from which on a gap in their numbers says something
_SHOWN = 5


@dataclass
class _Set:
    """Shards whose names differ by their number: its digits by value. total: what `-of-` says, 0 without."""

    before: str
    behind: str
    total: int = 0
    numbers: dict[int, str] = field(default_factory=dict)

    def name(self, number: int) -> str:
        """What a shard of that number is called."""
        width = len(next(iter(self.numbers.values())))
        return f"{self.before}{number:0{width}d}{self.behind}"

    @property
    def folder(self) -> str:
        return self.before.rpartition("/")[0]

    @property
    def kind(self) -> tuple[str, str]:
        return self.before.rpartition("/")[2], self.behind


def tell_missing(splits: Mapping[str, Sequence[str]], report: Report, *, chosen: bool) -> None:
    """Say which of numbered shards are not there.

    splits: split → paths of all shards that are there. chosen: whether `data.lists` names them.
    """
    counted: dict[tuple[str, str], _Set] = {}
    totals: dict[tuple[str, str], dict[int, str]] = {}
    plain: dict[tuple[str, str], _Set] = {}
    for name in (name for names in splits.values() for name in names):
        folder, slash, own = _PACKED.sub("", name).rpartition("/")
        if found := _OF.fullmatch(own):
            before, digits, sign, total, behind = found.groups()
            key = folder + slash + before, f"{sign}{total}{behind}"
            counted.setdefault(key, _Set(*key, int(total))).numbers[int(digits)] = digits
            totals.setdefault((key[0], behind), {}).setdefault(int(total), name)
        elif found := _LAST.fullmatch(own):
            key = folder + slash + found[1], found[3]
            plain.setdefault(key, _Set(*key)).numbers[int(found[2])] = found[2]
    for examples in totals.values():
        if len(examples) > 1:
            shown = " and ".join(examples[total] for total in sorted(examples))
            report.problem(
                f"shards of {len(examples)} sets lie together, such as {shown}: images are likely to be in "
                "both. Leave one set in the folder"
            )
    for shards in counted.values():
        _tell_counted(shards, "" if chosen else _options(splits), report)
    for group in _kinds(plain.values()):
        _tell_gaps(group, report)


def _options(splits: Mapping[str, Sequence[str]]) -> str:
    """The settings that name the shards that are there."""
    found = []
    for split, names in splits.items():
        before = re.split(r"\d+[-_]of[-_]|\d+\D*$", names[0])[0]
        found.append(f'-o data.lists.{split}="{before}*"')
    return " ".join(found)


def _tell_counted(shards: _Set, options: str, report: Report) -> None:
    first = 0 if 0 in shards.numbers or shards.total not in shards.numbers else 1
    wanted = range(first, first + min(shards.total, _MOST))
    missing = [number for number in wanted if number not in shards.numbers]
    if not missing:
        return
    text = f"{len(missing):,} of {shards.total:,} shards are missing: {_few(shards, missing)}"
    if options:
        report.problem(f"{text}. If those that are there are meant: {options}")
    else:
        report.warn(text)


def _kinds(sets: Iterable[_Set]) -> list[list[_Set]]:
    """Sets of one kind of name in different folders, as one where no number is in two of them.

    A split of shards by folders leaves gaps in each (`train/0000.tar`, `val/0001.tar`, `train/0002.tar`).
    """
    by_kind: dict[tuple[str, str], list[_Set]] = {}
    for one in sets:
        by_kind.setdefault(one.kind, []).append(one)
    groups = []
    for found in by_kind.values():
        apart = sum(len(one.numbers) for one in found) == len({n for one in found for n in one.numbers})
        groups += [found] if apart else [[one] for one in found]
    return groups


def _tell_gaps(group: Sequence[_Set], report: Report) -> None:
    numbers = {number for one in group for number in one.numbers}
    first, last = min(numbers), max(numbers)
    padded = all(len(digits) > 1 for one in group for digits in one.numbers.values())
    lacking = last + 1 - len(numbers) if first > 1 else last + 1 - first - len(numbers)
    if len(numbers) < _FEW or not padded or not lacking or lacking > len(numbers):
        return  # single ones, or numbers that are no count, such as those of synsets
    missing = [number for number in range(0 if first > 1 else first, last) if number not in numbers]
    report.warn(
        f"the shards {group[0].name(first)} to {group[-1].name(last)} are numbered, and {len(missing):,} "
        f"number(s) of them are not there: {_few(group[0], missing)}. Are they still to be fetched?"
    )


def _few(shards: _Set, missing: Sequence[int]) -> str:
    return first_few(map(shards.name, missing), len(missing), _SHOWN)
