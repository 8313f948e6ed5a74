"""The page of `smelt look`: the images whose labels look wrong, odd ones out, copies, what cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smelt.artifacts.row_kinds import KINDS, OUTSIDE
from smelt.files.atomic import write_bytes
from smelt.report.blocks import Block, Section, gallery, paragraph, section, table
from smelt.report.findings import Table, count, percent
from smelt.report.gallery import thumbnail
from smelt.report.looking import LIST, WORDS, Looked
from smelt.report.page import assembled, name, versions
from smelt.report.shown import BRIEF, NAME, crawled, shown

CLASSES, IMAGES = 16, 12  # galleries, and pictures in each
ODD, PAIRS, LISTED = 36, 18, 40
APART = "\N{NO-BREAK SPACE}"
UNCALIBRATED = (
    "The percentages say how likely the label is wrong, by what the net sees. They are uncalibrated: good "
    "for the order, less for the size. smelt audit {work} calibrates them by some 200 of your verdicts."
)


def write(looked: Looked, path: Path, listed: str = LIST) -> None:
    """Write the page to `path`; `listed`: what the list beside it is called."""
    write_bytes(path, render(looked, listed).encode("utf-8", "replace"))


def render(looked: Looked, listed: str = LIST) -> str:
    """The page as text."""
    found = [
        suspicious(looked, listed), odd(looked), copies(looked), alike(looked), unreadable(looked)
    ]  # fmt: skip
    return assembled(name(looked.work), lead(looked), facts(looked), found, versions(looked.work))


def lead(looked: Looked) -> str:
    """What was found, in a sentence or two."""
    noise = looked.noise
    first = f"{noise[0].upper()}{noise[1:]}." if noise else ""
    return f"Looked at without any training. {first}"


def facts(looked: Looked) -> list[dict[str, str]]:
    """The figures at the top."""
    told = looked.summary()
    found = {
        "images": told["images"], "classes": told["classes"], "labels in doubt": told["listed"],
        "odd ones out": told["kinds"]["outside"], "copies": told["exact_copies"] + told["near_copies"],
        "cannot be read": told["unreadable"],
    }  # fmt: skip
    return [{"name": what, "value": count(number)} for what, number in found.items()]


def suspicious(looked: Looked, listed: str) -> Section | None:
    """The worst of each class, with what they look like instead."""
    by_class = looked.by_class()
    blocks = confusions(looked)
    for label, places in by_class[:CLASSES]:
        title = f"labelled {shown(looked.catalogue.classes[label], NAME)}"
        more = f"; the {IMAGES} worst" if len(places) > IMAGES else ""
        cards = [card(looked, place) for place in places[:IMAGES].tolist()]
        blocks.append(gallery(title, f"{count(len(places))} in doubt{more}", cards))
    if not by_class:
        blocks.append(paragraph("No label stands out."))
    if len(by_class) > CLASSES:
        blocks.append(paragraph(f"{count(len(by_class) - CLASSES)} more classes are in {listed}."))
    intro = UNCALIBRATED.format(work=shown(looked.work.folder))
    intro += f" All of them, the worst first, are in {listed}."
    return section("suspicious", "Labels that look wrong", blocks, intro)


def confusions(looked: Looked) -> list[Block]:
    """Which classes are taken for which, most often first."""
    pairs: dict[tuple[str, str], int] = {}
    for place, label in zip(looked.suspects.tolist(), looked.labels(looked.suspects).tolist()):
        if other := looked.looks_like(place):
            pair = (looked.catalogue.classes[label], other)
            pairs[pair] = pairs.get(pair, 0) + 1
    most = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:10]
    rows = [[shown(label, NAME), shown(other, NAME), count(number)] for (label, other), number in most]
    found = Table(["label", "looks like", "images"], rows, "Most often", words=("looks like",))
    return table(found if rows else None)


def card(looked: Looked, place: int) -> dict[str, Any]:
    """A picture with its name, what it looks like, and how surely its label is wrong."""
    row = int(looked.kinds.rows[place])
    other, p_wrong = looked.looks_like(place), float(looked.kinds.p_wrong[place])
    if not other:
        other = WORDS[KINDS[int(looked.kinds.kind[place])]]
    sure = "" if np.isnan(p_wrong) else f", {likely(p_wrong)}"
    return picture(looked, row, f"{shown(other, BRIEF)}{sure}")


def likely(share: float) -> str:
    """A probability in per cent; none of ours is sure enough for a hundred."""
    return f">{APART}99{APART}%" if share > 0.99 else f"{percent(share, 0)}{APART}%"


def picture(looked: Looked, row: int, meta: str) -> dict[str, Any]:
    """A picture with its crawled title, or else the name of its file."""
    catalogue = looked.catalogue
    (title,) = catalogue.strings("title", [row])
    return {
        "image": thumbnail(catalogue, looked.work.image_root, row),
        "title": crawled(title) or shown(catalogue.path(row).rpartition("/")[2]),
        "meta": meta,
        "truth": "",
        "dropped": False,
    }


def odd(looked: Looked) -> Section | None:
    """What belongs to no class."""
    places = looked.of_kind(OUTSIDE)
    cards = [
        picture(looked, int(looked.kinds.rows[place]), f"labelled {_label(looked, place)}")
        for place in places[:ODD].tolist()
    ]
    if not cards:
        return None
    more = f"the {ODD} that stand out most" if len(places) > ODD else ""
    blocks = [gallery(f"{count(len(places))} images", more, cards)]
    return section("odd", "Odd ones out", blocks, "They look like none of the classes.")


def copies(looked: Looked) -> Section | None:
    """Copies beside what they are copies of; those under another label first."""
    labels = looked.catalogue.labels_N
    pairs = sorted(looked.originals.items(), key=lambda pair: (labels[pair[0]] == labels[pair[1]], pair))
    if not pairs:
        return None
    across = sum(bool(labels[row] != labels[other]) for row, other in pairs)
    blocks = [
        gallery(
            f"{count(len(pairs))} copies",
            f"{count(across)} under another label than what they are copies of; in pairs",
            _pairs(looked, [(row, other, "copy") for row, other in pairs[:PAIRS]]),
        )
    ]
    intro = "The same picture by its pixels: resized, cropped, mirrored, in other colours."
    return section("copies", "Copies", blocks, intro)


def alike(looked: Looked) -> Section | None:
    """Pairs that a net sees alike, of which the pixels do not say that they are copies."""
    found = looked.alike
    if not found:
        return None
    told = [(row, other, f"{cosine:.2f}") for row, other, cosine in found[:PAIRS]]
    blocks = [gallery(f"{count(len(found))} pairs", "the nearest, in pairs", _pairs(looked, told))]
    intro = (
        "Two photos of one thing, or copies that were changed much: see for yourself. Not counted as copies."
    )
    return section("alike", "Very much alike", blocks, intro)


def _pairs(looked: Looked, pairs: list[tuple[int, int, str]]) -> list[dict[str, Any]]:
    labels = looked.catalogue.labels_N
    cards = []
    for number, (row, other, words) in enumerate(pairs, 1):
        for one, said in ((other, f"{number}. "), (row, f"{number}. {words}; ")):
            label = int(labels[one])
            label_of = shown(looked.catalogue.classes[label], BRIEF) if label >= 0 else "no label"
            cards.append(picture(looked, one, f"{said}{label_of}"))
    return cards


def unreadable(looked: Looked) -> Section | None:
    """What cannot be read, and what is damaged."""
    blocks: list[Block] = []
    for file, column, title in (
        ("bad_files.csv", "reason", "Cannot be read"), ("damaged_files.csv", "damage", "Damaged, but shown"),
    ):  # fmt: skip
        lines = looked.bad(file)
        rows = [[shown(line["file"]), shown(line[column])] for line in lines[:LISTED]]
        note = f"The first {LISTED} of {count(len(lines))}." if len(lines) > LISTED else ""
        blocks += table(Table(["file", column], rows, title, note, words=(column,)) if rows else None)
    return section("files", "Files", blocks)


def _label(looked: Looked, place: int) -> str:
    (label,) = looked.labels(np.array([place], np.int64)).tolist()
    return shown(looked.catalogue.classes[label], BRIEF) if label >= 0 else "no class"
