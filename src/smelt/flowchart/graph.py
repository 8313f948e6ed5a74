"""The flowchart: nodes, checked and in an order in which they can run.

A node is a stage with its settings and the nodes whose artefacts it reads. Two nodes of one key are one
artefact, made once.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from smelt.errors import RecipeError
from smelt.flowchart.keys import key_of
from smelt.settings import canonical, without


@dataclass(frozen=True)
class Node:
    """One step of the flowchart.

    In the key: stage, version, settings (JSON values), inputs (port → node ids, in order), external
    (name → fingerprint of content from outside), device (kind of processor, where the bytes depend on it).
    Not in the key: outside (dotted paths of settings that cannot change a byte), id (the name people see,
    as `train/raw/resnet20-0`), label, threads (CPU threads of the process), devices (accelerators leased).
    """

    id: str
    stage: str
    version: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    external: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    outside: tuple[str, ...] = ()
    threads: int = 1
    devices: int = 0
    label: str = ""

    def parents(self) -> list[str]:
        """Ids of all nodes it reads from, once each."""
        return list(dict.fromkeys(parent for ports in self.inputs.values() for parent in ports))

    def key_settings(self) -> dict[str, Any]:
        """The settings that are in the key."""
        return without(self.settings, self.outside)


def is_try(node_id: str) -> bool:
    """Whether a node is of something that a round tried, `train/filtered@1/resnet14-0`, not of the round."""
    return "@" in "".join(node_id.split("/")[1:2])


class Graph:
    """Nodes by id, in topological order (of nodes that are free to go, the earlier given comes first).

    Raises RecipeError for a cycle, an unknown input and an id used twice.
    """

    def __init__(self, nodes: Iterable[Node], whole: Graph | None = None) -> None:
        self.whole = whole or self  # the flowchart that this is a part of
        given: dict[str, Node] = {}
        for node in nodes:
            if node.id in given:
                raise RecipeError(f"two stages of the flowchart are called {node.id!r}")
            given[node.id] = node
        for node in given.values():
            for parent in node.parents():
                if parent not in given:
                    raise RecipeError(f"{node.id} reads from {parent!r}, which is not in the flowchart")
        self.nodes: dict[str, Node] = {name: given[name] for name in _order(given)}
        self.keys: dict[str, str] = {}
        for node in self:
            canonical(node.settings)  # fails here, with the node at hand, if it is not JSON
            inputs = {port: [self.keys[parent] for parent in ids] for port, ids in node.inputs.items()}
            self.keys[node.id] = key_of(
                node.stage, node.version, node.key_settings(), inputs, node.external, node.device
            )

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, node_id: str) -> Node:
        return self.nodes[node_id]

    def key(self, node: Node | str) -> str:
        """The key of a node or of the node with that id."""
        return self.keys[node if isinstance(node, str) else node.id]

    def by_key(self) -> dict[str, Node]:
        """One node for each key, the first in order."""
        found: dict[str, Node] = {}
        for node in self:
            found.setdefault(self.keys[node.id], node)
        return found

    def children(self) -> dict[str, list[str]]:
        """Ids of the nodes that read from each node."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in self:
            for parent in node.parents():
                found[parent].append(node.id)
        return found

    def until(self, stage: str) -> Graph:
        """The part that is needed for all nodes of that stage; empty if there are none."""
        wanted = {node.id for node in self if node.stage == stage}
        for node in reversed(self.nodes.values()):
            if node.id in wanted:
                wanted.update(node.parents())
        return Graph((node for node in self if node.id in wanted), self.whole)

    def identity(self, node: Node) -> dict[str, Any]:
        """All that is in the key of `node`, and the key: what its manifest begins with."""
        return {
            "stage": node.stage,
            "version": node.version,
            "key": self.keys[node.id],
            "settings": node.key_settings(),
            "inputs": {port: [self.keys[i] for i in ids] for port, ids in node.inputs.items() if ids},
            "external": dict(node.external),
            **({"device": node.device} if node.device else {}),
        }

    def to_json(self) -> list[dict[str, Any]]:
        """The nodes with their keys, in order, as JSON values; `from_json` reads them back."""
        return [
            {**asdict(node), "inputs": {p: list(i) for p, i in node.inputs.items()}, "key": self.key(node)}
            for node in self
        ]

    @classmethod
    def from_json(cls, nodes: Iterable[Mapping[str, Any]]) -> Graph:
        """The graph that `to_json` wrote."""
        return cls(
            Node(
                **{
                    **{name: value for name, value in node.items() if name != "key"},
                    "inputs": {port: tuple(ids) for port, ids in node["inputs"].items()},
                    "outside": tuple(node.get("outside", ())),
                }
            )
            for node in nodes
        )


def _order(nodes: Mapping[str, Node]) -> list[str]:
    """Ids in topological order."""
    rank = {name: i for i, name in enumerate(nodes)}
    sorter = graphlib.TopologicalSorter({name: node.parents() for name, node in nodes.items()})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise RecipeError(f"the flowchart goes round in a circle: {' → '.join(error.args[1])}") from error
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=rank.__getitem__)
        order += ready
        sorter.done(*ready)
    return order
