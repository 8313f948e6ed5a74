"""The contact sheet of an audit: images that verdicts are asked for, numbered as in the CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.verdicts import Asked, Given
from smelt.files.atomic import write_bytes
from smelt.flowchart.work import Work
from smelt.report.blocks import gallery, section
from smelt.report.gallery import thumbnail
from smelt.report.page import assembled, name, versions
from smelt.report.shown import BRIEF, NAME, crawled, shown

TOGETHER = 50  # cards under one heading
HOW = (
    "Look at each image and say in the column verdict of {file}, in the line of its number, whether its "
    "label is "
    "right: right; wrong (the image shows another class: which, in the column right_class, if you know "
    "it); outside "
    "(it shows none of the classes); unsure. The first letter is enough. In order, please, and without a "
    "look at "
    "anything else: the order is random, and what is judged must not be chosen. Then run smelt audit again."
)


def write(
    work: Work, path: Path, split: str, rows: Sequence[int], asked: Sequence[Asked],
    given: Mapping[str, Given], taken_for: Sequence[int],
) -> int:  # fmt: skip
    """Write the page to `path`; how many of the images have no picture.

    rows: catalogue rows of `asked`. taken_for: for each the class that it was taken for, or −1.
    """
    catalogue = work.catalogue
    assert catalogue is not None
    cards = [
        _card(catalogue, work.image_root, row, one, given.get(one.id), other)
        for row, one, other in zip(rows, asked, taken_for, strict=True)
    ]
    blocks = []
    for first in range(0, len(cards), TOGETHER):
        part = cards[first : first + TOGETHER]
        title = f"{first + 1} to {first + len(part)}"
        blocks.append({**gallery(title, "", part), "large": True})
    facts = [
        {"name": "images to judge", "value": str(len(asked))},
        {"name": "verdicts given", "value": str(sum(one.id in given for one in asked))},
    ]
    lead = HOW.format(file=f"verdicts-{split}.csv")
    text = assembled(
        f"{name(work)}: audit of {split}",
        lead,
        facts,
        [section("images", "The images", blocks)],
        versions(work),
    )
    write_bytes(path, text.encode("utf-8", "replace"))
    return sum(card["image"] is None for card in cards)


def _card(
    catalogue: Catalogue, root: Path | None, row: int, one: Asked, given: Given | None, other: int
) -> dict[str, Any]:
    meta = shown(one.path)
    if 0 <= other < len(catalogue.classes):
        meta += f"; taken for {shown(catalogue.classes[other], BRIEF)}"
    verdict = "" if given is None else f"{given.verdict} {shown(given.right_class, BRIEF)}".strip()
    return {
        "image": thumbnail(catalogue, root, row),
        "label": f"{one.number} · {shown(one.label, NAME)}",
        "title": crawled(one.title) or "(no title)",
        "meta": meta,
        "truth": verdict,
        "dropped": False,
    }
