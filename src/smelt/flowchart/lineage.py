"""Which artefacts can be used: whole, themselves, and made from what their inputs hold now.

A manifest records the content of every input at the time it was read, which was compared with its hashes
then. So an artefact whose input is damaged later stands; one that was made from other content than its input
has now (replaced, or made again with another outcome) does not, and nothing that was made from it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from smelt.files.committed import content_hash
from smelt.flowchart.graph import Graph
from smelt.flowchart.work import Work


@dataclass(frozen=True)
class Fault:
    """Why an artefact cannot be used. damaged: it is itself; else what it was made from has changed."""

    texts: tuple[str, ...]
    damaged: bool

    @property
    def text(self) -> str:
        """The first reason, for a line of the plan."""
        return f"damaged: {self.texts[0]}" if self.damaged else self.texts[0]


def of_graph(graph: Graph, work: Work, *, remember: bool = True) -> dict[str, Fault]:
    """Key → fault, for the artefacts of `graph` that are there and cannot be used."""
    names = {f"{node.stage}-{key}": key for key, node in graph.by_key().items()}
    there = [name for name in names if (work.artifacts / name).exists()]
    return {names[name]: fault for name, fault in examine(work, there, remember=remember).items()}


def examine(
    work: Work, names: Iterable[str], *, fresh: bool = False, remember: bool = True
) -> dict[str, Fault]:
    """Name → fault, for the folders `names` in `artifacts/`; every file is hashed anew where `fresh`."""
    look = _Look()
    for name in names:
        stage, _, key = name.rpartition("-")
        look.names[key] = name
        look.manifests[name] = work.manifest(stage, key) or {}
        if wrong := work.problems(stage, key, fresh=fresh, remember=remember):
            look.faults[name] = Fault(tuple(wrong), damaged=True)
    return {name: fault for name in look.manifests if (fault := look.fault(name)) is not None}


class _Look:
    """One look over artefacts: their manifests by name, and what is known to be wrong with them."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.manifests: dict[str, Mapping[str, Any]] = {}
        self.faults: dict[str, Fault | None] = {}

    def fault(self, name: str) -> Fault | None:
        if name not in self.faults:
            self.faults[name] = None  # ends a circle, which only made-up manifests have
            self.faults[name] = self._of_inputs(name)
        return self.faults[name]

    def _of_inputs(self, name: str) -> Fault | None:
        manifest = self.manifests[name]
        for port, keys in manifest.get("inputs", {}).items():
            recorded = list(manifest.get("contents", {}).get(port, []))
            for place, key in enumerate(keys):
                known = recorded[place] if place < len(recorded) else None
                if key in self.names and (text := self._of_input(self.names[key], known)):
                    return Fault((text,), damaged=False)
        return None

    def _of_input(self, parent: str, recorded: str | None) -> str:
        """What is wrong with having been made from `parent`; "" if nothing is."""
        fault = self.fault(parent)
        if recorded is None:  # older than the record: only a sound input speaks for it
            return f"was made from {parent}, which cannot be used" if fault else ""
        now = content_hash(self.manifests[parent])
        if now is not None and now != recorded:
            return f"was made from other content of {parent} than it has now"
        return f"was made from {parent}, which {fault.texts[0]}" if fault and not fault.damaged else ""


def made_otherwise(manifest: Mapping[str, Any], key: str, content: str | None) -> bool:
    """Whether `manifest` records another content of the input `key` than `content` (a `content_hash`)."""
    return any(
        known != content
        for port, keys in manifest.get("inputs", {}).items()
        for one, known in zip(keys, manifest.get("contents", {}).get(port, []))
        if one == key
    )
