"""The flowchart as a picture: similar nodes as one box, in layers by their longest way from the beginning.

Long edges have places kept free for them; edges that a longer way already tells (transitive ones) are left
out. Boxes of a layer are in the order of the flowchart: sorting them by barycentre took the demo (18 boxes)
from 4 crossings to 2, webvision2020 (19) from 4 to 3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from posixpath import commonpath
from typing import Any

from markupsafe import Markup

from smelt.flowchart.graph import Node
from smelt.flowchart.work import Item
from smelt.report.charts import escape, shortened, svg, text

WIDE, HIGH, BOX_WIDTH, BOX_HEIGHT, EDGE = 132.0, 50.0, 116.0, 32.0, 8.0  # pixels of a place and a box


@dataclass
class Box:
    """Nodes of one stage that read from the same boxes, or a place kept free (without nodes)."""

    column: int
    stage: str = ""
    nodes: list[str] = field(default_factory=list)
    parents: set[int] = field(default_factory=set)
    row: float = 0.0

    @property
    def label(self) -> str:
        """The one id, or the folder that all ids share and their number: `train/raw ×8`."""
        if len(self.nodes) == 1:
            return self.nodes[0]
        return f"{commonpath(self.nodes) or self.stage} ×{len(self.nodes)}"


def lay_out(nodes: Iterable[Node | Item]) -> tuple[list[Box], list[list[Box]]]:
    """Boxes, and ways: for each edge the box where it begins, a free place in each column between, its end.

    `row` is in units of one box, counted from the top, from 0. `nodes`: parents first.
    """
    boxes = _collapse(nodes)
    ways = []
    layers: list[list[Box]] = [[] for _ in range(1 + max((box.column for box in boxes), default=-1))]
    for box in boxes:
        layers[box.column].append(box)
    for a, b in _edges(boxes):
        between = [Box(column) for column in range(boxes[a].column + 1, boxes[b].column)]
        for place in between:
            layers[place.column].append(place)
        ways.append([boxes[a], *between, boxes[b]])
    height = max((len(layer) for layer in layers), default=0)
    for layer in layers:  # around the middle of the highest one
        for i, box in enumerate(layer):
            box.row = i + (height - len(layer)) / 2
    return boxes, ways


def _collapse(nodes: Iterable[Node | Item]) -> list[Box]:
    """Nodes of one stage that read from the same boxes through the same ports become one box."""
    box_of: dict[str, int] = {}
    index: dict[Any, int] = {}
    boxes: list[Box] = []
    for node in nodes:
        reads = frozenset((port, box_of[i]) for port, ids in node.inputs.items() for i in ids)
        number = index.setdefault((node.stage, reads if node.inputs else node.id), len(boxes))
        if number == len(boxes):
            parents = {parent for _, parent in reads}
            column = 1 + max((boxes[parent].column for parent in parents), default=-1)
            boxes.append(Box(column, node.stage, parents=parents))
        box_of[node.id] = number
        boxes[number].nodes.append(node.id)
    return boxes


def _edges(boxes: list[Box]) -> list[tuple[int, int]]:
    """Edges (from, to) without those between boxes that a longer way joins too."""
    above: list[set[int]] = []
    edges = []
    for i, box in enumerate(boxes):
        further: set[int] = set().union(*(above[parent] for parent in box.parents))
        edges += [(parent, i) for parent in sorted(box.parents - further)]
        above.append(box.parents | further)
    return edges


def flow(nodes: Iterable[Node | Item], done: Collection[str]) -> Markup:
    """The picture; `done`: ids of nodes whose artefact is there."""
    boxes, ways = lay_out(nodes)
    placed = [box for way in ways for box in way] + boxes

    def at(box: Box) -> tuple[float, float]:  # the left end of its middle line
        return EDGE + box.column * WIDE, EDGE + box.row * HIGH + HIGH / 2

    parts = []
    for way in ways:
        x, y = at(way[0])
        path = f"M{x + BOX_WIDTH:.1f},{y:.1f}"
        for left, right in pairwise(way):
            (x0, y0), (x1, y1) = at(left), at(right)
            a, middle = x0 + BOX_WIDTH, (x0 + BOX_WIDTH + x1) / 2
            path += f"L{a:.1f},{y0:.1f}C{middle:.1f},{y0:.1f} {middle:.1f},{y1:.1f} {x1:.1f},{y1:.1f}"
        parts.append(f'<path d="{path}" class="edge"/>')
    for box in boxes:
        x, y = at(box)
        state = "done" if all(name in done for name in box.nodes) else "open"
        parts.append(
            f'<g class="box {state}"><rect x="{x:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" width="{BOX_WIDTH:g}" '
            f'height="{BOX_HEIGHT:g}" rx="6"/>'
            + text(x + BOX_WIDTH / 2, y + 4, shortened(box.label, 19), "boxname")
            + f"<title>{escape(', '.join(box.nodes), 2000)} ({state})</title></g>"
        )
    width = 1 + max((box.column for box in boxes), default=-1)
    height = 1 + max((box.row for box in placed), default=-1)
    return svg(width * WIDE + EDGE, height * HIGH + EDGE, parts, "the flowchart")
