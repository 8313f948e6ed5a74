"""The page: sections put into one self-contained HTML file: crawled text escaped, no network, no script."""

from __future__ import annotations

import platform
from importlib import metadata, resources
from pathlib import Path

from markupsafe import Markup

from smelt import __version__
from smelt.artifacts.files import write_bytes
from smelt.report import sections_data, sections_fuse, sections_learn, sections_mine
from smelt.report.collect import Run

LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pyarrow", "pillow", "simplejpeg")
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
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string((templates / "report.html").read_text(encoding="utf-8"))
    style = Markup((templates / "report.css").read_text(encoding="utf-8"))
    found = [section for make in SECTIONS if (section := make(run)) is not None]
    return template.render(
        name=run.name,
        lead=sections_learn.lead(run),
        facts=sections_data.facts(run),
        sections=found,
        style=style,
        footer=_versions(),
    )


def _versions() -> str:
    parts = [f"smelt {__version__}", f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            parts.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(parts) + "."
