"""What a run would do and why: each stage done, ready to run or waiting, and what changed since last time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from smelt.flowchart import lineage
from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.journal import History
from smelt.flowchart.work import Work


@dataclass(frozen=True)
class PlanLine:
    """One stage of the plan. `seconds` is what it should take, None if nothing like it has run here."""

    id: str
    stage: str
    key: str
    state: Literal["done", "run", "wait"]
    why: str
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """For `smelt plan --json`."""
        return asdict(self)


def plan(graph: Graph, work: Work) -> list[PlanLine]:
    """A line for each node, in order. Reads the work folder, changes nothing."""
    history = History(work.events)
    previous = work.previous()
    previous_keys = Graph(previous.values()) if previous else None
    faults = lineage.of_graph(graph, work, remember=False)
    states: dict[str, str] = {}
    lines = []
    for node in graph:
        key = graph.key(node)
        pending = [parent for parent in node.parents() if states[parent] != "done"]
        if key not in faults and work.artifact(node.stage, key).exists():
            state: Literal["done", "run", "wait"] = "done"
            why = ""
        else:
            state = "wait" if pending else "run"
            before = _before(node, work, history, previous_keys)
            why = faults[key].text if key in faults else _why(graph, node, work, before)
            if pending:
                why += f"; waits for {_names(pending)}"
        states[node.id] = state
        seconds = None if state == "done" else history.seconds(node.id, node.stage)
        lines.append(PlanLine(node.id, node.stage, key, state, why, seconds))
    return lines


def _before(node: Node, work: Work, history: History, previous: Graph | None) -> dict[str, Any] | None:
    """The identity that the node of this id had last time: as it was finished, else as it was planned."""
    last = history.last_key.get(node.id)
    done = work.identity(node.stage, last) if last else None
    if done is None and previous is not None and node.id in previous.nodes:
        return previous.identity(previous[node.id])
    return done


def _why(graph: Graph, node: Node, work: Work, before: Mapping[str, Any] | None) -> str:
    key = graph.key(node)
    resumes = work.attempt(node.stage, key).is_dir()
    if before is None or before.get("key") == key:
        if resumes:
            return "was interrupted, goes on"
        return (
            "first run" if before is None else "its artefact is gone" if before.get("files") else "first run"
        )
    changes = differences(before, graph.identity(node)) or ["changed"]
    return "; ".join(_limit(changes)) + (" (was interrupted, goes on)" if resumes else "")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two identities of a stage, in words."""
    found = []
    if before.get("stage") != now["stage"]:
        found.append(f"stage {before.get('stage')} → {now['stage']}")
    if before.get("version") != now["version"]:
        found.append(f"stage version {before.get('version')} → {now['version']}")
    if before.get("device", "") != now.get("device", ""):
        found.append(f"device {before.get('device') or '(none)'} → {now.get('device') or '(none)'}")
    changed = [
        f"{path} {_short(old)} → {_short(new)}"
        for path, old, new in _changes(before.get("settings", {}), now["settings"], ())
    ]
    if changed:
        found.append("settings changed: " + ", ".join(_limit(changed)))
    old_inputs, new_inputs = before.get("inputs", {}), now["inputs"]
    for port in sorted({*old_inputs, *new_inputs}):
        old, new = list(old_inputs.get(port, [])), list(new_inputs.get(port, []))
        if old != new:
            found.append(f"input {port} {_input_change(old, new)}")
    for name, old, new in _changes(before.get("external", {}), now["external"], ()):
        found.append(f"{name} has other content ({_short(old)} → {_short(new)})")
    return found


def _input_change(old: list[str], new: list[str]) -> str:
    if not old or not new:
        return "added" if new else "removed"
    if len(old) != len(new):
        return f"has {len(new)} artefacts, not {len(old)}"
    return "in another order" if sorted(old) == sorted(new) else "changed"


_ABSENT = object()


def _changes(old: Any, new: Any, path: tuple[str, ...]) -> list[tuple[str, Any, Any]]:
    """(dotted path, old value, new value) for every leaf that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*new, *old]))
        return [
            change
            for key in keys
            for change in _changes(old.get(key, _ABSENT), new.get(key, _ABSENT), (*path, str(key)))
        ]
    if isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        return [
            change for i, (a, b) in enumerate(zip(old, new)) for change in _changes(a, b, (*path, str(i)))
        ]
    return [] if old == new and type(old) is type(new) else [(".".join(path), old, new)]


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "(none)"
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "…"


def _limit(items: list[str], most: int = 4) -> list[str]:
    return items if len(items) <= most else [*items[: most - 1], f"and {len(items) - most + 1} more"]


def _names(ids: list[str]) -> str:
    return ", ".join(_limit(ids, 3))
