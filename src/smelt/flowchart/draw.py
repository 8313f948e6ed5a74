"""The flowchart as a picture: similar nodes as one, in layers, with few crossings. Data only, for the report.

Layers by longest path, dummy nodes on long edges, order by barycentre (Sugiyama, Tagawa, Toda 1981). Edges
that a longer way already tells (transitive ones) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from posixpath import commonpath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smelt.flowchart.graph import Graph

SWEEPS = 8


@dataclass
class _Box:
    """A group of similar nodes: same stage, reading from the same groups."""

    members: list[str]
    stage: str
    parents: set[int]
    column: int


def draw(graph: Graph) -> dict[str, Any]:
    """{columns, rows, boxes: [{label, stage, ids, column, row}], edges: [{from, to, points}]}.

    `row` and the points (column, row) are in units of one box, rows counted from the top, from 0. `from` and
    `to` index the boxes; an edge has a point at each column that it passes.
    """
    boxes = _collapse(graph)
    edges = _reduce(boxes)
    rows, ways = _lay_out(boxes, edges)
    height = max(rows.values(), default=0.0)
    return {
        "columns": 1 + max((box.column for box in boxes), default=-1),
        "rows": height + 1 if boxes else 0,
        "boxes": [
            {
                "label": _label(box),
                "stage": box.stage,
                "ids": box.members,
                "column": box.column,
                "row": rows[i],
            }
            for i, box in enumerate(boxes)
        ],
        "edges": [
            {"from": a, "to": b, "points": [[boxes[a].column + i, rows[n]] for i, n in enumerate(ways[a, b])]}
            for a, b in edges
        ],
    }


def _collapse(graph: Graph) -> list[_Box]:
    """Nodes of one stage that read from the same groups through the same ports become one box."""
    box_of: dict[str, int] = {}
    index: dict[Any, int] = {}
    boxes: list[_Box] = []
    for node in graph:
        reads = frozenset((port, box_of[i]) for port, ids in node.inputs.items() for i in ids)
        signature = (node.stage, reads if node.inputs else node.id)
        if signature not in index:
            parents = {box for _, box in reads}
            index[signature] = len(boxes)
            column = 1 + max((boxes[p].column for p in parents), default=-1)
            boxes.append(_Box([], node.stage, parents, column))
        box_of[node.id] = index[signature]
        boxes[index[signature]].members.append(node.id)
    return boxes


def _label(box: _Box) -> str:
    """The one id, or the folder that all ids share and their number: `train/raw ×8`."""
    if len(box.members) == 1:
        return box.members[0]
    return f"{commonpath(box.members) or box.stage} ×{len(box.members)}"


def _reduce(boxes: list[_Box]) -> list[tuple[int, int]]:
    """Edges (from, to) without those between boxes that a longer way joins too."""
    above: list[set[int]] = []
    edges = []
    for i, box in enumerate(boxes):
        further = set().union(*(above[p] for p in box.parents)) if box.parents else set()
        edges += [(p, i) for p in sorted(box.parents - further)]
        above.append(box.parents | further)
    return edges


def _lay_out(
    boxes: list[_Box], edges: list[tuple[int, int]]
) -> tuple[dict[int, float], dict[tuple[int, int], list[int]]]:
    """Rows of boxes and dummies, and the way (ids, column by column) of each edge."""
    layers: list[list[int]] = [[] for _ in range(1 + max((box.column for box in boxes), default=-1))]
    for i, box in enumerate(boxes):
        layers[box.column].append(i)
    ways: dict[tuple[int, int], list[int]] = {}
    neighbours: dict[int, tuple[list[int], list[int]]] = {i: ([], []) for i in range(len(boxes))}
    for a, b in edges:
        way = [a]
        for column in range(boxes[a].column + 1, boxes[b].column):
            dummy = len(neighbours)
            neighbours[dummy] = ([], [])
            layers[column].append(dummy)
            way.append(dummy)
        ways[a, b] = [*way, b]
        for left, right in zip(ways[a, b], ways[a, b][1:]):
            neighbours[left][1].append(right)
            neighbours[right][0].append(left)
    rows = _rows(layers)
    for sweep in range(SWEEPS):
        side = sweep % 2
        for layer in layers if side == 0 else layers[::-1]:
            near = {n: neighbours[n][side] for n in layer}
            centre = {n: sum(rows[m] for m in near[n]) / len(near[n]) if near[n] else rows[n] for n in layer}
            layer.sort(key=lambda n: (centre[n], rows[n]))
        rows = _rows(layers)
    return rows, ways


def _rows(layers: list[list[int]]) -> dict[int, float]:
    """Rows that put every layer around the middle of the highest one."""
    height = max((len(layer) for layer in layers), default=0)
    return {n: i + (height - len(layer)) / 2 for layer in layers for i, n in enumerate(layer)}
