"""Whether two runs of one recipe gave the same, for a change that must not move a number:

    smelt demo --short --work before          (with the source as it was)
    smelt demo --short --work after           (with the source as it is)
    python tests/same_runs.py before after

Artefacts are paired by the node of the flowchart. Every file must be the same to the byte; a catalogue is
compared column by column, and keys in JSON files count as their nodes. What differs in the nodes themselves
(versions, settings, inputs) is told. Exit code 1 where a number moved.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

FIELDS = ("stage", "version", "settings", "inputs", "external", "device", "outside", "threads", "devices")
SHORT = 8  # of a key, in the names of models
CATALOGUE = "catalogue/"  # how it is stored may change; `catalogue.parquet` in it says what it holds


def nodes(work: Path) -> dict[str, dict[str, Any]]:
    """The nodes of the run in `work`, by id."""
    return {node["id"]: node for node in json.loads((work / "flowchart.json").read_text())["nodes"]}


def files(work: Path, node: dict[str, Any]) -> dict[str, Path]:
    """The files of a node's artefact but for its manifest, by name."""
    folder = work / "artifacts" / f"{node['stage']}-{node['key']}"
    found = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    return {name: path for name, path in found.items() if name != "manifest.json"}


def named(text: str, keys: dict[str, str]) -> str:
    """`text` with the id of the node for every key in it."""
    for key, name in keys.items():
        text = text.replace(key, name).replace(key[:SHORT], name)
    return text


def differences(before: Path, after: Path) -> Iterator[tuple[bool, str]]:
    """What differs, and whether it is a number."""
    old, new = nodes(before), nodes(after)
    keys = [{node["key"]: name for name, node in of.items()} for of in (old, new)]
    for name in sorted(old.keys() ^ new.keys()):
        yield True, f"{name}: only {'before' if name in old else 'after'}"
    for name in sorted(old.keys() & new.keys()):
        for field in FIELDS:
            if old[name].get(field) != new[name].get(field):
                yield False, f"{name}: {field} was {old[name].get(field)}, is {new[name].get(field)}"
        pairs = files(before, old[name]), files(after, new[name])
        for file in sorted(pairs[0].keys() | pairs[1].keys()):
            if file.startswith(CATALOGUE) and file != f"{CATALOGUE}catalogue.parquet":
                continue
            if not all(file in pair for pair in pairs):
                yield True, f"{name}: {file}: only {'before' if file in pairs[0] else 'after'}"
            elif wrong := difference(pairs[0][file], pairs[1][file], keys):
                yield True, f"{name}: {file}: {wrong}"


def difference(one: Path, other: Path, keys: list[dict[str, str]]) -> str:
    """In what two files differ; empty where they hold the same."""
    if hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest():
        return ""
    if one.suffix == ".json" and named(one.read_text(), keys[0]) == named(other.read_text(), keys[1]):
        return ""
    if one.name == "catalogue.parquet":
        tables = pq.read_table(one), pq.read_table(other)
        if tables[0].column_names != tables[1].column_names:
            return f"columns {tables[0].column_names}, {tables[1].column_names}"
        unlike = [n for n in tables[0].column_names if tables[0][n].to_pylist() != tables[1][n].to_pylist()]
        return f"columns {unlike} differ" if unlike else ""
    return "other bytes"


def main(before: Path, after: Path) -> int:
    """Print what differs; the exit code."""
    found = list(differences(before, after))
    for is_number, text in found:
        print("NUMBER" if is_number else "node  ", text)
    count = sum(len(files(after, node)) for node in nodes(after).values())
    moved = sum(is_number for is_number, _ in found)
    print(f"{len(nodes(after))} nodes, {count} files: {moved} differ")
    return int(moved > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
