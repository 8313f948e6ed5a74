"""The page: sections put into one self-contained HTML file: crawled text escaped, no network, no script."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from markupsafe import Markup

from smelt.files.atomic import write_bytes
from smelt.report import sections_data, sections_fuse, sections_learn, sections_mine
from smelt.report.collect import Run
from smelt.report.shown import lines, shown

# in this order; others that a manifest has follow
MADE_WITH = ("smelt", "python", "torch", "torchvision", "timm", "numpy", "pyarrow", "pillow", "simplejpeg")
SECTIONS = (
    sections_learn.ladder,
    sections_fuse.fusion,
    sections_mine.noise,
    sections_mine.galleries,
    sections_learn.difficulty,
    sections_data.copies,
    sections_learn.training,
    sections_data.data,
    sections_data.flowchart,
    sections_data.recipe,
)


def write(work: Path, path: Path) -> None:
    """Write the report of the work folder `work` to `path`; ArtifactError if `work` is none."""
    write_bytes(path, render(Run(work)).encode("utf-8", "replace"))


def render(run: Run) -> str:
    """The page as text. Sections for which nothing is done yet are left out."""
    from jinja2 import Environment, StrictUndefined

    templates = resources.files("smelt.report") / "templates"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_without_controls
    )
    environment.filters["brief"] = shown
    template = environment.from_string((templates / "report.html").read_text(encoding="utf-8"))
    style = Markup((templates / "report.css").read_text(encoding="utf-8"))
    found = [section for make in SECTIONS if (section := make(run)) is not None]
    return template.render(
        name=run.name,
        lead=sections_learn.lead(run),
        facts=sections_data.facts(run),
        sections=found,
        style=style,
        footer=versions(run),
    )


def _without_controls(value: object) -> object:
    """What the template puts into the page: text as it can be shown, wherever it came from."""
    return lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def versions(run: Run) -> str:
    """What made the artefacts, as their manifests say; where versions differ, which stages had which."""
    made = run.made_with()
    order = [*(name for name in MADE_WITH if name in made), *(name for name in made if name not in MADE_WITH)]
    parts = [f"{name.replace('_', ' ')} {_of(made[name])}" for name in order]
    text = f"Made with {', '.join(parts)}." if parts else "What made these artefacts was not recorded."
    damaged = [f"Damaged since it was made: {line}." for line in run.damaged]
    return " ".join([text, *damaged])


def _of(stages: dict[str, list[str]]) -> str:
    """`2.10.0`, or `2.9.0 (train, rank) and 2.10.0 (predict)`."""
    if len(stages) == 1:
        return next(iter(stages))
    return " and ".join(f"{version} ({', '.join(found)})" for version, found in stages.items())
