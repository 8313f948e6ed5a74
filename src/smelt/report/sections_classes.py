"""What features say of whole classes: which are one thing, which are two, which show nothing in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smelt.report.blocks import Block, paragraph, table
from smelt.report.findings import Table, between, count, percent
from smelt.report.shown import BRIEF, NAME, shown

LISTED = 20
NOTE = (
    "By features, out of sample: AUROC of telling images of one from those of the other, .5 being chance. In "
    "brackets intervals that hold for all comparisons together. "
)
WORDS = "Words: those that the texts of one surely have more often than those of the other."


def whole_classes(found: Mapping[str, Any]) -> list[Block]:
    """Tables of the claims, one line where there is none; nothing where features were not asked."""
    if not found:
        return []
    if found["why"]:
        return [paragraph(f"Whole classes: nothing can be said; {found['why']}.")]
    blocks = _synonyms(found) + _two_meanings(found) + _abstract(found)
    small = found["too_small"]
    if not blocks:
        blocks = [
            paragraph("Whole classes: none that is the same as another, two things in one, or nothing.")
        ]
    if small:
        names = ", ".join(dict.fromkeys(shown(row["class"], BRIEF) for row in small[:LISTED]))
        many = len({row["class"] for row in small})
        blocks.append(
            paragraph(f"Classes too small, or too unclear, to say all of that: {count(many)} ({names}).")
        )
    return blocks


def _synonyms(found: Mapping[str, Any]) -> list[Block]:
    rows = [
        [
            shown(row["classes"][0], NAME), shown(row["classes"][1], NAME),
            between(row["auroc"], (row["low"], row["high"]), 1, 2), _words(row["words"]),
        ]
        for row in found["synonyms"][:LISTED]
    ]  # fmt: skip
    note = f"{NOTE}Usual for a class and its nearest: {found['usual'].get('apart', 0):.2f}. {WORDS}"
    header = ["class", "cannot be told from", "AUROC", "words"]
    return _table(header, rows, "One thing under two names? To merge, or to look at", note, (1, 3))


def _two_meanings(found: Mapping[str, Any]) -> list[Block]:
    rows = [
        [
            shown(row["class"], NAME), count(row["rows"]), percent(row["smaller"]),
            between(row["valley"], (row["low"], row["high"]), 1, 2), shown(row.get("looks_like", "–"), NAME),
            _words(row["words"]),
        ]
        for row in [*found["two_meanings"], *found["mixed"]][:LISTED]
    ]  # fmt: skip
    note = (
        "Images lie in two heaps, found on one half of them and measured on the other. Valley: images midway "
        "between the heaps over those at the lesser heap's centre, 1 or more for a single heap. Where one "
        f"heap is where another class lies, its labels are likely wrong, else the class is two. {WORDS}"
    )
    header = ["class", "images looked at", "smaller heap, %", "valley", "one heap looks like", "words"]
    return _table(header, rows, "Two things under one name? To split, or to relabel", note, (4, 5))


def _abstract(found: Mapping[str, Any]) -> list[Block]:
    rows = [
        [
            shown(row["class"], NAME),
            count(row["rows"]),
            between(row["auroc"], (row["low"], row["high"]), 1, 2),
        ]
        for row in found["abstract"][:LISTED]
    ]
    note = f"{NOTE}Usual for a class and all others: {found['usual'].get('from_others', 0):.2f}."
    return _table(
        ["class", "images", "AUROC against all others"], rows, "Nothing in common that features see", note
    )


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], title: str, note: str, words: Sequence[int] = ()
) -> list[Block]:
    return table(Table(header, rows, title, note, [header[i] for i in words])) if rows else []


def _words(sides: Sequence[Sequence[str]]) -> str:
    """What tells the sides apart, each side's in turn."""
    said = [", ".join(shown(word, BRIEF) for word in side) or "–" for side in sides]
    return " | ".join(said) if any(sides) else "–"
