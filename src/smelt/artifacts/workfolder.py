"""Which flowchart of a work folder readers speak of: the last that was finished, else the one under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smelt.artifacts.files import read_json
from smelt.errors import ArtifactError

FLOWCHART = "flowchart.json"  # the last that was begun
FINISHED = "finished.json"  # the last of which every stage was done, with its recipe


def chart_file(work: Path) -> Path:
    """The file of the flowchart to show of the work folder; ArtifactError where there is none."""
    if not work.is_dir():
        raise ArtifactError(f"{work} is not a folder; `smelt run RECIPE --work {work}` would make it")
    for name in (FINISHED, FLOWCHART):
        if (work / name).is_file():
            return work / name
    raise ArtifactError(f"{work} is not a work folder (no {FLOWCHART}): give the folder of a run")


def read_chart(work: Path) -> dict[str, Any]:
    """The flowchart to show: `nodes` with keys, `runtime`, `drawing`, and `recipe` where it is known."""
    path = chart_file(work)
    chart = read_json(path)
    if not isinstance(chart, dict) or not isinstance(chart.get("nodes"), list):
        raise ArtifactError(f"{path} is damaged: it holds no flowchart; run the recipe again")
    if "recipe" not in chart and (work / "recipe.yaml").is_file():
        chart["recipe"] = (work / "recipe.yaml").read_text(encoding="utf-8")
    return chart


def under_way(work: Path) -> bool:
    """Whether another flowchart than the finished one has been begun since."""
    if not ((work / FINISHED).is_file() and (work / FLOWCHART).is_file()):
        return False
    keys = [{node["key"] for node in read_json(work / name)["nodes"]} for name in (FINISHED, FLOWCHART)]
    return keys[0] != keys[1]
