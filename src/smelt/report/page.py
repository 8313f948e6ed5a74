"""The page: sections put into one self-contained HTML file: crawled text escaped, no network, no script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from smelt.files.atomic import write_bytes
from smelt.files.committed import MANIFEST
from smelt.flowchart.work import Work
from smelt.report import sections_audit, sections_data, sections_fuse, sections_learn, sections_mine
from smelt.report.blocks import Section
from smelt.report.findings import Ladder
from smelt.report.shown import lines, shown

# in this order; others that a manifest has follow
MADE_WITH = ("smelt", "python", "torch", "torchvision", "timm", "numpy", "pyarrow", "pillow", "simplejpeg")


def write(work: Path, path: Path) -> None:
    """Write the report of the work folder `work` to `path`; ArtifactError if `work` is none."""
    write_bytes(path, render(Work(work)).encode("utf-8", "replace"))


def render(work: Work) -> str:
    """The page as text. Sections for which nothing is done yet are left out."""
    measured = Ladder.of(work.one("evaluate").json("ladder.json"))
    sections = [
        sections_learn.ladder(measured),
        sections_fuse.fusion(work),
        sections_audit.audit(work),
        *sections_mine.mining(work, measured),
        sections_learn.difficulty(work),
        sections_data.copies(work),
        sections_learn.training(work),
        sections_data.data(work),
        sections_data.flowchart(work),
        sections_data.recipe(work),
    ]
    lead, facts = sections_learn.lead(work, measured), sections_data.facts(work, measured)
    return assembled(name(work), lead, facts, sections, versions(work))


def assembled(
    title: str, lead: str, facts: Sequence[Mapping[str, str]], sections: Sequence[Section | None], footer: str
) -> str:
    """A page of sections as text: those that are None are left out, and whatever comes in is escaped."""
    templates = resources.files("smelt.report") / "templates"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_without_controls
    )
    environment.filters["brief"] = shown
    template = environment.from_string((templates / "report.html").read_text(encoding="utf-8"))
    return template.render(
        name=title,
        lead=lead,
        facts=facts,
        sections=[section for section in sections if section is not None],
        style=Markup((templates / "report.css").read_text(encoding="utf-8")),
        footer=footer,
    )


def name(work: Work) -> str:
    """The name of the recipe, or of the folder where there is none."""
    found = re.search(r"^name: *(\S+)", str(work.chart.get("recipe", "")), re.MULTILINE)
    return found[1] if found else work.folder.resolve().name


def _without_controls(value: object) -> object:
    """What the template puts into the page: text as it can be shown, wherever it came from."""
    return lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def versions(work: Work) -> str:
    """What made the artefacts, as their manifests say; where versions differ, which stages had which."""
    made: dict[str, dict[str, list[str]]] = {}  # name (torch, device, …) → version → stages, once each
    for item in work.items.values():
        for what, version in item.json(MANIFEST).get("made_with", {}).items():
            stages = made.setdefault(str(what), {}).setdefault(str(version), [])
            stages += [item.stage] if item.stage not in stages else []
    order = [*(what for what in MADE_WITH if what in made), *(what for what in made if what not in MADE_WITH)]
    parts = [f"{what.replace('_', ' ')} {_of(made[what])}" for what in order]
    text = f"Made with {', '.join(parts)}." if parts else "What made these artefacts was not recorded."
    shown = {item.key: item for item in work.items.values() if item.path}.values()
    wrong = [found[0] for item in shown if (found := work.problems(item.stage, item.key))]
    return " ".join([text, *(f"Damaged since it was made: {line}." for line in wrong)])


def _of(stages: Mapping[str, Sequence[str]]) -> str:
    """`2.10.0`, or `2.9.0 (train, rank) and 2.10.0 (predict)`."""
    if len(stages) == 1:
        return next(iter(stages))
    return " and ".join(f"{version} ({', '.join(found)})" for version, found in stages.items())
