"""Charts as inline SVG: arrays in, markup out. Text is escaped; colours come from the page's style sheet.

Every chart is drawn in its own units of pixels and scales with the page. Marks carry a <title>, which a
browser shows on hovering. Series take the classes s0 … s7 of the style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from markupsafe import escape as escaped

from smelt.report.shown import LONGEST, shown

SERIES = 8


@dataclass(frozen=True)
class Frame:
    """A plot area with linear (or logarithmic) axes, in pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: float = 560
    height: float = 260
    left: float = 54
    right: float = 14
    top: float = 12
    bottom: float = 38
    log_x: bool = False

    def px(self, value: float) -> float:
        """Horizontal pixel of a value."""
        low, high = self.x
        if self.log_x:
            value, low, high = (math.log10(max(v, 1e-12)) for v in (value, low, high))
        share = (value - low) / ((high - low) or 1)
        return self.left + share * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        """Vertical pixel of a value."""
        low, high = self.y
        share = (value - low) / ((high - low) or 1)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most so many round numbers between low and high."""
    span = (high - low) or 1.0
    step = 10 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= most:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number short enough for an axis."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    return f"{value:.0e}"


def escape(words: object, width: int = LONGEST) -> Markup:
    """Text for the markup of a chart, of bounded length and without controls."""
    return escaped(shown(words, width))


def svg(width: float, height: float, parts: Iterable[str], label: str) -> Markup:
    """The picture; `label` is read out by screen readers."""
    head = (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" aria-label="{escape(label)}">'
    )
    return Markup(head + "".join(parts) + "</svg>")


def text(x: float, y: float, words: object, kind: str = "", anchor: str = "middle") -> str:
    """One line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def axes(frame: Frame, x_title: str, y_title: str, *, percent: bool = False) -> list[str]:
    """Grid, ticks and titles of both axes."""
    parts = []
    x_ticks = _decades(frame.x) if frame.log_x else ticks(*frame.x)
    for value in ticks(*frame.y, 5):
        y = frame.py(value)
        parts.append(
            f'<line x1="{frame.left}" x2="{frame.width - frame.right}" '
            f'y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        )
        parts.append(
            text(frame.left - 6, y + 4, f"{100 * value:.4g}" if percent else number(value), "tick", "end")
        )
    for value in x_ticks:
        parts.append(text(frame.px(value), frame.height - frame.bottom + 16, number(value), "tick"))
    middle = (frame.left + frame.width - frame.right) / 2
    parts.append(text(middle, frame.height - 4, x_title, "axis"))
    y_middle = (frame.top + frame.height - frame.bottom) / 2
    parts.append(
        f'<text transform="translate(12 {y_middle:.1f}) rotate(-90)" text-anchor="middle" class="axis">'
        f"{escape(y_title)}</text>"
    )
    return parts


def _decades(span: tuple[float, float]) -> list[float]:
    low, high = (math.log10(max(v, 1e-12)) for v in span)
    return [10.0**i for i in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]


def padded(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    """A range around the finite values with some room on both sides."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_title: str,
    y_title: str,
    *,
    percent: bool = False,
    log_x: bool = False,
    groups: Mapping[str, int] | None = None,
) -> Markup:
    """One line a series; `groups` gives a series the colour of that number instead of its own."""
    points = [p for line in series.values() for p in line if math.isfinite(p[1])]
    xs = [p[0] for p in points] or [0.0, 1.0]
    frame = Frame((min(xs), max(xs)), padded(p[1] for p in points), log_x=log_x)
    parts = axes(frame, x_title, y_title, percent=percent)
    for i, (name, line) in enumerate(series.items()):
        colour = f"s{(groups or {}).get(name, i) % SERIES}"
        known = [(frame.px(x), frame.py(y)) for x, y in line if math.isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in known)
        parts.append(
            f'<polyline points="{path}" class="line {colour}"><title>{escape(name)}</title></polyline>'
        )
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" class="fill {colour}">'
            f"<title>{escape(name)}</title></circle>"
            for x, y in known[-1:]
        ]
    return svg(frame.width, frame.height, parts, f"{y_title} over {x_title}")


def histogram(
    edges: Sequence[float],
    counts: Mapping[str, Sequence[float]],
    x_title: str,
    y_title: str,
    marks: Mapping[str, float] | None = None,
) -> Markup:
    """Step outlines of several histograms over common edges, and vertical marks with their names."""
    top = max((max(c) for c in counts.values() if len(c)), default=1.0) or 1.0
    frame = Frame((edges[0], edges[-1]), (0.0, 1.05 * top))
    parts = axes(frame, x_title, y_title)
    for i, (name, values) in enumerate(counts.items()):
        outline = [(edges[0], 0.0)]
        for low, high, value in zip(edges, edges[1:], values):
            outline += [(low, value), (high, value)]
        outline.append((edges[-1], 0.0))
        path = " ".join(f"{frame.px(x):.1f},{frame.py(y):.1f}" for x, y in outline)
        parts.append(
            f'<polygon points="{path}" class="area s{i % SERIES}"><title>{escape(name)}</title></polygon>'
        )
    for name, value in (marks or {}).items():
        x = frame.px(min(max(value, frame.x[0]), frame.x[1]))
        bottom = frame.height - frame.bottom
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{bottom}" class="mark"/>')
        parts.append(text(x + 4, frame.top + 10, name, "tick", "start"))
    return svg(frame.width, frame.height, parts, f"histogram of {x_title}")


def scatter(
    points: Sequence[tuple[float, float, str]],
    x_title: str,
    y_title: str,
    *,
    log_x: bool = False,
    percent: bool = False,
    label: int = 6,
) -> Markup:
    """Points with their names; the `label` lowest ones are named in the picture too."""
    xs = [p[0] for p in points] or [1.0]
    span = (min(xs) * 0.85, max(xs) * 1.18) if log_x else padded(xs)
    frame = Frame(span, padded([p[1] for p in points]), log_x=log_x, height=300)
    parts = axes(frame, x_title, y_title, percent=percent)
    lowest = {id(p) for p in sorted(points, key=lambda p: p[1])[:label]}
    taken: list[tuple[float, float]] = []
    for point in points:
        x, y = frame.px(point[0]), frame.py(point[1])
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="dot s0">'
            f"<title>{escape(point[2])}</title></circle>"
        )
        clear = all(abs(y - b) > 12 or abs(x - a) > 110 for a, b in taken)
        if id(point) in lowest and clear:
            taken.append((x, y))
            right = x > frame.width - 140
            anchor, shift = ("end", -7) if right else ("start", 7)
            parts.append(text(x + shift, y + 4, shortened(point[2], 22), "tick", anchor))
    return svg(frame.width, frame.height, parts, f"{y_title} against {x_title}")


def bars(rows: Sequence[tuple[str, float, tuple[float, float] | None]], *, best: int | None = None) -> Markup:
    """Shares as bars in %, with an interval each; the axis begins near the least, so that gains show."""
    low, high = padded([v for _, v, gap in rows for v in (v, *(gap or ()))], 0.15)
    low, high = max(0.0, low), min(1.0, high)
    frame = Frame((low, high), (0, 1), height=26 * len(rows) + 30, left=190, right=64, top=6, bottom=24)
    parts = [_upright(frame, value, f"{100 * value:.4g}") for value in ticks(low, high)]
    for i, (name, value, gap) in enumerate(rows):
        y, x = 8 + 26 * i, frame.px(value)
        end, words = x, f"{100 * value:.2f}"
        parts.append(text(frame.left - 8, y + 13, shortened(name, 30), "name", "end"))
        parts.append(
            f'<rect x="{frame.left}" y="{y}" width="{max(x - frame.left, 1):.1f}" height="18" rx="2" '
            f'class="bar s{int(i == best)}"><title>{escape(name)}: {words}</title></rect>'
        )
        if gap:
            parts.append(_gap(frame, gap, y + 9))
            end = max(x, frame.px(gap[1]))
        parts.append(text(end + 6, y + 13, words, "value", "start"))
    return svg(frame.width, frame.height, parts, "bars")


def gains(rows: Sequence[tuple[str, float, tuple[float, float]]], *, best: int | None = None) -> Markup:
    """Differences from zero in points of a hundred, with an interval each."""
    low, high = padded([0.0, *(v for _, value, gap in rows for v in (value, *gap))], 0.1)
    frame = Frame((low, high), (0, 1), height=26 * len(rows) + 30, left=230, right=20, top=6, bottom=24)
    parts = [
        _upright(frame, value / 100, f"{value:+g}" if value else "0", "grid" if value else "zero")
        for value in ticks(100 * low, 100 * high)
    ]
    for i, (name, value, gap) in enumerate(rows):
        y = 17 + 26 * i
        parts.append(text(frame.left - 8, y + 4, shortened(name, 36), "name", "end"))
        parts.append(_gap(frame, gap, y))
        parts.append(
            f'<circle cx="{frame.px(value):.1f}" cy="{y}" r="5" class="fill s{int(i == best)}">'
            f"<title>{escape(name)}: {100 * value:+.2f}</title></circle>"
        )
    return svg(frame.width, frame.height, parts, "gains")


def _upright(frame: Frame, value: float, words: str, kind: str = "grid") -> str:
    """A line of the grid behind horizontal bars, with its number below."""
    x = frame.px(value)
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{frame.height - 24:.0f}" class="{kind}"/>'
    return line + text(x, frame.height - 8, words, "tick")


def _gap(frame: Frame, gap: tuple[float, float], y: float) -> str:
    """An interval."""
    a, b = frame.px(gap[0]), frame.px(gap[1])
    return f'<line x1="{a:.1f}" x2="{b:.1f}" y1="{y}" y2="{y}" class="gap"/>'


def heatmap(names: Sequence[str], values: Sequence[Sequence[float]], title: str) -> Markup:
    """A square table of shares as shades; hovering tells the pair and the value."""
    size = max(8.0, min(26.0, 460 / max(1, len(names))))
    left, top = 190.0, 8.0
    flat = [v for i, row in enumerate(values) for j, v in enumerate(row) if i != j]
    low, high = (min(flat), max(flat)) if flat else (0.0, 1.0)
    parts = []
    for i, row in enumerate(values):
        parts.append(text(left - 6, top + (i + 0.5) * size + 4, shortened(names[i], 30), "name small", "end"))
        for j, value in enumerate(row):
            shade = 1.0 if i == j else (value - low) / ((high - low) or 1.0)
            parts.append(
                f'<rect x="{left + j * size:.1f}" y="{top + i * size:.1f}" width="{size - 1:.1f}" '
                f'height="{size - 1:.1f}" class="cell" fill-opacity="{0.06 + 0.94 * shade:.3f}">'
                f"<title>{escape(names[i])} and {escape(names[j])}: {value:.3f}</title></rect>"
            )
    side = len(names) * size
    return svg(left + side + 10, top + side + 10, parts, title)


def shortened(words: str, most: int) -> str:
    """At most so many characters, an ellipsis for the rest."""
    return words if len(words) <= most else words[: most - 1] + "…"
