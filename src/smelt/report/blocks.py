"""What sections are made of: plain dictionaries that the template knows how to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from markupsafe import Markup

from smelt.report.findings import Table

Block = dict[str, Any]
Section = dict[str, Any]


def section(name: str, title: str, blocks: Sequence[Block], intro: str = "") -> Section | None:
    """A section, or None if there is nothing in it."""
    return {"id": name, "title": title, "intro": intro, "blocks": list(blocks)} if blocks else None


def chart(svg: Markup, title: str = "", legend: Sequence[str] = (), note: str = "") -> Block:
    """A picture; `legend` names the series in the order of their colours."""
    items = [{"name": name, "colour": i % 8} for i, name in enumerate(legend)]
    return {"kind": "chart", "svg": svg, "title": title, "legend": items, "note": note}


def table(found: Table | None) -> list[Block]:
    """A table, or nothing where there is none."""
    if found is None:
        return []
    left = [i for i, name in enumerate(found.columns) if i == 0 or name in found.words]
    return [{"kind": "table", "left": left, **asdict(found)}]


def paragraph(words: str) -> Block:
    """A paragraph of plain text."""
    return {"kind": "paragraph", "text": words}


def preformatted(words: str) -> Block:
    """Text that keeps its lines."""
    return {"kind": "text", "text": words}


def gallery(title: str, subtitle: str, cards: Sequence[dict[str, Any]]) -> Block:
    """Pictures with their titles."""
    return {"kind": "gallery", "title": title, "subtitle": subtitle, "cards": list(cards)}
