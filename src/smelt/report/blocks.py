"""What sections are made of: plain dictionaries that the template knows how to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

Block = dict[str, Any]
Section = dict[str, Any]


def section(name: str, title: str, blocks: Sequence[Block], intro: str = "") -> Section | None:
    """A section, or None if there is nothing in it."""
    return {"id": name, "title": title, "intro": intro, "blocks": list(blocks)} if blocks else None


def chart(svg: Markup, title: str = "", legend: Sequence[str] = (), note: str = "") -> Block:
    """A picture; `legend` names the series in the order of their colours."""
    items = [{"name": name, "colour": i % 8} for i, name in enumerate(legend)]
    return {"kind": "chart", "svg": svg, "title": title, "legend": items, "note": note}


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    title: str = "",
    note: str = "",
    words: Sequence[str] = (),
) -> Block:
    """A table; the first column and those named in `words` are to the left, figures to the right."""
    left = [i for i, name in enumerate(columns) if i == 0 or name in words]
    return {
        "kind": "table",
        "columns": list(columns),
        "rows": rows,
        "title": title,
        "note": note,
        "left": left,
    }


def paragraph(words: str) -> Block:
    """A paragraph of plain text."""
    return {"kind": "paragraph", "text": words}


def preformatted(words: str) -> Block:
    """Text that keeps its lines."""
    return {"kind": "text", "text": words}


def gallery(title: str, subtitle: str, cards: Sequence[dict[str, Any]]) -> Block:
    """Pictures with their titles."""
    return {"kind": "gallery", "title": title, "subtitle": subtitle, "cards": list(cards)}


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage, a dash where it is not known."""
    return "–" if value is None or value != value else f"{100 * value:.{digits}f}"


def count(value: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
