"""Audits that selections are given: said before the first stage where one is of another data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from smelt.errors import SmeltError
from smelt.flowchart.graph import Node
from smelt.verbs.checks.asked import Asked


def about_audits(asked: Asked) -> list[str]:
    """A line for each audit of a selection still to be made that cannot be what is meant. Verdicts, which go
    by image, are compared with the catalogue once it is there; probabilities say which it was."""
    found = []
    for node in asked.todo:
        if node.stage == "select" and node.settings.get("audit"):
            found += [f"{_said(asked, node)}: {problem}" for problem in _problems(asked, node)]
    return found


def _said(asked: Asked, node: Node) -> str:
    name = node.id.partition("/")[2]
    at = next((place for place, one in enumerate(asked.recipe.rounds) if one.name == name), None)
    return node.id if at is None else asked.said(("rounds", at, "select", "audit"))


def _problems(asked: Asked, node: Node) -> Iterator[str]:
    from smelt.artifacts.catalogue import Catalogue
    from smelt.artifacts.likelywrong import read_likely_wrong
    from smelt.artifacts.verdicts import read
    from smelt.mining import given_audit

    try:
        file = given_audit.file_of(Path(str(node.settings["audit"])))
        if given_audit.is_parquet(file):
            keys = tuple(asked.graph.key(one) for one in asked.graph if one.stage in ("index", "dedupe"))
            given_audit.refuse_other(file, read_likely_wrong(file.parent, file.name).catalogue, keys)
            return
        read(file)
        index = asked.work.artifact("index", asked.graph.key("index")) / "catalogue"
        if index.is_dir():
            catalogue = Catalogue.open(index)
            given_audit.of_rows(file, catalogue, catalogue.rows("train"))
    except SmeltError as error:
        yield str(error)
