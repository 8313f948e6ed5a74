"""The ladder of the method as a table: what each step gained on the user's own data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smelt.errors import ArtifactError
from smelt.files.atomic import read_json
from smelt.files.workfolder import read_chart
from smelt.verbs.summaries import not_done


def find(work: Path, stage: str) -> Path:
    """The committed artefact of the only node of `stage` in the last finished flowchart of `work`."""
    from smelt.flowchart.work import Work

    nodes = [node for node in read_chart(work)["nodes"] if node["stage"] == stage]
    if not nodes:
        raise ArtifactError(f"the flowchart of {work} has no stage {stage!r}")
    folder = work / "artifacts" / f"{stage}-{nodes[-1]['key']}"
    if not (folder / "manifest.json").is_file():
        raise not_done(work, stage)
    if wrong := Work(work).problems(stage, nodes[-1]["key"]):
        raise ArtifactError(f"{wrong[0]}: run the recipe again, it makes {stage} anew")
    return folder


def ladder(work: Path) -> dict[str, Any]:
    """What `evaluate` measured in the work folder `work`."""
    value: dict[str, Any] = read_json(find(work, "evaluate") / "ladder.json")
    return value


def _percent(value: float | None, against: float | None = None, spread: float | None = None) -> str:
    """`63.72 ±1.20 (+7.41)`: value, standard deviation over the models, gain."""
    if value is None:
        return "–"
    text = f"{100 * value:.2f}" + ("" if spread is None else f" ±{100 * spread:.2f}")
    return text if against is None else f"{text} ({100 * (value - against):+.2f})"


def show(measured: Mapping[str, Any]) -> None:
    """Print the ladder, what was dropped against the known truth, and what was chosen."""
    import sys

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    # lines that a pipe or a log gets are not cut at 80 characters; titles of rounds are plain text
    width = None if sys.stdout.isatty() else 110
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    table = Table(
        title="The ladder: class-averaged accuracy in % (gain over the step before)", box=SIMPLE_HEAD
    )
    table.add_column("step", no_wrap=True)
    for column in ("val top-1", "val top-5", "test top-1", "test top-5"):
        table.add_column(column, justify="right")
    before: dict[str, float | None] = {}
    for rung in measured["rungs"]:
        cells = []
        for split in ("val", "test"):
            for top in ("top1", "top5"):
                value = rung[split].get(top)
                first = top == "top1"
                spread = rung["spread"].get(f"{split}_{top}") if first else None
                cells.append(_percent(value, before.get(split + top) if first else None, spread))
                before[split + top] = value
        table.add_row(rung["name"], *cells)
    console.print(table)
    console.print(
        "Validation: fitted fusions are judged on images that they were not fitted to; what the guard chose, "
        "on images that had no part in the whole choice."
    )
    console.print(f"Fusion: {measured['fusion']}.")
    for row in measured.get("noise", []):
        if row["words"]:
            console.print(f"Wrong labels, {row['round']}: {row['words']}.")
    judged = [row for row in measured.get("selections", []) if row.get("precision") is not None]
    dropped = [row for row in judged if not row.get("selected_for")]  # each selection once
    if dropped:
        console.print(_dropped_table(dropped))
    scored = [row for row in measured.get("selections", []) if row.get("scores")]
    if scored:
        console.print(_scores_table(scored))


def _dropped_table(rows: list[Mapping[str, Any]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = "What was dropped as noise, against the known truth (intervals of 95 %)"
    table = Table(title=title, box=SIMPLE_HEAD)
    columns = ("round", "images", "dropped", "precision", "recall", "noise left")
    for column in columns:
        table.add_column(column, justify="left" if column == "round" else "right")
    for row in rows:
        figures = (_between(row, name) for name in ("precision", "recall", "noise_left"))
        table.add_row(row["round"], str(row["rows"]), str(row["dropped"]), *figures)
    return table


def _scores_table(rows: list[Mapping[str, Any]]) -> Any:
    """AUROC and precision at k of each score of each round's training."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = (
        "How well each score finds wrong labels: AUROC / precision among the k least clean, k the wrong ones"
    )
    table = Table(title=title, caption=_precise(rows), box=SIMPLE_HEAD)
    table.add_column("score", no_wrap=True)
    for row in rows:
        table.add_column(row["round"], justify="right")
    for name in rows[0]["scores"]:
        found = [row["scores"][name] for row in rows]
        table.add_row(name, *(f"{_plain(f['auroc'])} / {_plain(f['precision_at_k'])}" for f in found))
    return table


def _precise(rows: list[Mapping[str, Any]]) -> str | None:
    """On how many images the scores of each round were judged, and how wide the widest interval is."""
    words = []
    for row in rows:
        found = list(row.get("intervals", {}).values())
        ends = [one[name] for one in found for name in ("auroc", "precision_at_k") if None not in one[name]]
        if ends:
            widest = max(high - low for low, high in ends) / 2
            counts = f"{found[0]['images']} images, {found[0]['wrong']} of them wrong"
            words.append(f"{row['round']}: {counts}, intervals of 95 % up to ±{widest:.3f}")
    return "; ".join(words) or None


def _between(row: Mapping[str, Any], name: str) -> str:
    """`0.637 (0.601–0.672)`: a figure and its interval."""
    low, high = row.get(f"{name}_interval") or (None, None)
    text = _plain(row.get(name))
    return text if low is None or high is None else f"{text} ({low:.3f}–{high:.3f})"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
