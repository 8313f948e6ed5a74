"""The verb `fuse`: on files of scores from anywhere, or the stage `fuse` of a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.errors import RecipeError, ResultError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from smelt.fusion.run import Outcome
    from smelt.fusion.sources import Held

EXAMPLES = """Fuse score files, or run a recipe up to its fusion.

Each input holds scores of N images for C classes: .npy (N, C) or (M, N, C), .npz, top-K .npz, or .csv and
.txt with `id class class …` a line. With labels, every method is fitted on a part of the images and judged on
the rest, and weights are used only if they beat the simple means there. Without, the plain average is taken.

Examples:

smelt fuse a.npy b.npy c.npz --labels labels.npy --out fused

smelt fuse stack.npy --labels labels.txt --metric top1 --explain

smelt fuse a-test.npy b-test.npy c-test.npz --use fused/fusion.json --ids test.txt --out test --submission

smelt fuse demo --work work/demo
"""

Inputs = Annotated[list[Path], typer.Argument(metavar="FILES|RECIPE", help="Score files, or one recipe.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("fuse", help=EXAMPLES)(fuse)


def fuse(
    inputs: Inputs,
    labels: Annotated[Path | None, typer.Option(help="Class numbers, .npy or one a line.")] = None,
    ids: Annotated[Path | None, typer.Option(help="Order of the images (and labels), one id a line.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for fusion.json, weights and lists.")] = None,
    use: Annotated[Path | None, typer.Option(help="Apply this fusion.json; nothing is fitted.")] = None,
    metric: Annotated[str, typer.Option(help="top1 or top5: what weights are chosen by.")] = "top5",
    explain: Annotated[bool, typer.Option("--explain", help="What each result is worth.")] = False,
    submission: Annotated[bool, typer.Option("--submission", help="Write submission.zip too.")] = False,
    scores: Annotated[bool, typer.Option("--scores", help="Write the fused scores too.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of folds and searches.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print fusion.json instead of tables.")] = False,
    override: Annotated[
        list[str] | None, typer.Option("-o", "--override", help="Recipe only: KEY=VALUE.")
    ] = None,
    work: Annotated[Path | None, typer.Option(help="Recipe only: the work folder.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Recipe only: stages at once.")] = None,
) -> None:
    """See EXAMPLES."""
    if _is_recipe(inputs):
        from smelt.verbs.flow import run_until

        folder = run_until("fuse", str(inputs[0]), override=override, work=work, jobs=jobs)
        typer.echo(f"fused; work folder {folder}")
        return
    if override or work or jobs:
        raise RecipeError("--override, --work and --jobs belong to a recipe, not to score files")
    if (submission or scores) and out is None:
        raise ResultError("--submission and --scores write files: name a folder with --out")
    files_fuse(inputs, labels, ids, out, use, metric, explain, submission, scores, seed, as_json)


def _is_recipe(inputs: Sequence[Path]) -> bool:
    """One argument that is a YAML file, or names a shipped recipe and no file."""
    if len(inputs) != 1:
        return False
    if inputs[0].suffix in (".yaml", ".yml"):
        return True
    if inputs[0].suffix or inputs[0].exists():
        return False
    from smelt.recipe import shipped

    return str(inputs[0]) in shipped()


def files_fuse(
    inputs: Sequence[Path], labels: Path | None, ids: Path | None, out: Path | None, use: Path | None,
    metric: str, explain: bool, submission: bool, scores: bool, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """The verb on score files."""
    from smelt.fusion import inputs as reading
    from smelt.fusion.config import FuseSettings
    from smelt.fusion.run import fuse as fit

    if metric not in ("top1", "top5"):
        raise ResultError(f"--metric is top1 or top5, not {metric!r}")
    if use is not None and labels is not None:
        raise ResultError("--use applies weights, --labels fits them: give one of the two")
    order = reading.read_ids(ids) if ids else None
    sources, num_classes = reading.read(inputs, order)
    count = len(sources[0].scores)
    if use is not None:
        outcome = _used(use, sources)
    else:
        known = reading.read_labels(labels, count, num_classes) if labels else None
        settings = FuseSettings.model_validate({"metric": metric, "seed": seed})
        outcome = fit(sources, known, settings, num_classes=num_classes)
    if out is not None:
        _write(out, outcome, sources, order, count, num_classes, submission, scores)
    if as_json:
        typer.echo(json.dumps(outcome.record, sort_keys=True))
    else:
        show(outcome.record, explain)
        if out is not None:
            typer.echo(f"written to {out}")


def _used(path: Path, sources: Sequence[Held]) -> Outcome:
    """The chosen fusion of an earlier `fusion.json`, for these results in their order."""
    from smelt.artifacts.files import read_json
    from smelt.errors import ArtifactError
    from smelt.fusion.apply import Fusion
    from smelt.fusion.run import Outcome

    record = read_json(path)
    try:
        chosen = next(m for m in record["methods"] if m["method"] == record["chosen"])
    except (KeyError, TypeError, StopIteration) as error:
        raise ArtifactError(f"{path} is not a fusion.json") from error
    fusion = Fusion.from_json(chosen)
    if len(fusion.weights) != len(sources):
        raise ResultError(f"{path} weighs {len(fusion.weights)} results, {len(sources)} are given")
    return Outcome((fusion,), fusion, record)


def _write(
    out: Path, outcome: Outcome, sources: Sequence[Held], ids: Sequence[str] | None, count: int,
    num_classes: int, submission: bool, scores: bool,
) -> None:  # fmt: skip
    """fusion.json, weights.csv, top5.txt and what else is asked for."""
    import numpy as np

    from smelt.artifacts.files import write_bytes, write_json
    from smelt.fusion.apply import apply, top_classes
    from smelt.fusion.submission import packed, predictions

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "fusion.json", outcome.record)
    weights = [f"{source.name},{w:.9g}\n" for source, w in zip(sources, outcome.chosen.weights)]
    write_bytes(out / "weights.csv", ("result,weight\n" + "".join(weights)).encode())
    names = ids if ids is not None else [str(line) for line in range(count)]
    lists = top_classes(outcome.chosen, sources, count, min(5, num_classes))
    text = predictions(names, lists)
    write_bytes(out / "top5.txt", text.encode())
    if submission:
        write_bytes(out / "predictions.txt", text.encode())
        write_bytes(out / "submission.zip", packed(text))
    if scores:
        fused = np.lib.format.open_memmap(
            out / ".scores.npy", mode="w+", dtype=np.float32, shape=(count, num_classes)
        )
        for lines, block in apply(outcome.chosen, sources, count):
            fused[lines] = block
        fused.flush()
        (out / ".scores.npy").rename(out / "scores.npy")


def show(record: Mapping[str, Any], explain: bool = False) -> None:
    """Print what was tried, what is used and why; with `explain`, what each result is worth."""
    from rich.console import Console

    console = Console()
    if record["images"]:
        console.print(_methods_table(record))
    for line in [record["words"], *record.get("left_out", [])]:
        console.print(line, highlight=False)
    if explain or not record["images"]:
        console.print(_results_table(record))
        if "likeness" in record:
            console.print("How alike they err: correlation of being wrong, in %", highlight=False)
            console.print(_likeness_table(record))


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _methods_table(record: Mapping[str, Any]) -> Any:
    from rich.table import Table

    metric = record["metric"]
    table = Table(title=f"Class-averaged accuracy in %, {record['images']} images, chosen by {metric}")
    table.add_column("method")
    for column in ("on all", "held out", "gain over plain (95 %)"):
        table.add_column(column, justify="right", no_wrap=True)
    for method in record["methods"]:
        low, high = method["interval"]
        on_all, held = (_percent(method[key][metric]) for key in ("chosen_by", "held_out"))
        if "certified" in method:
            on_all = "{} … {}".format(*map(_percent, method["certified"][metric]))
        used = method["method"] == record["chosen"]
        table.add_row(
            ("→ " if used else "  ") + method["title"],
            on_all,
            held,
            f"{100 * method['gain']:+.2f} ({100 * low:+.2f} … {100 * high:+.2f})",
            style="bold" if used else None,
        )
    return table


def _results_table(record: Mapping[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title="What each result is worth")
    table.add_column("result")
    for column in ("weight", "alone", "lost without it"):
        table.add_column(column, justify="right")
    for result in sorted(record["results"], key=lambda one: -one["weight"]):
        cells = ["–", "–"]
        if "accuracy" in result:
            cells = [_percent(result["accuracy"][record["metric"]]), f"{100 * result['without']:+.2f}"]
        table.add_row(result["name"], f"{result['weight']:.4f}", *cells)
    return table


def _likeness_table(record: Mapping[str, Any], most: int = 12) -> Any:
    from rich.table import Table

    names = [result["name"] for result in record["results"]][:most]
    table = Table(box=None, padding=(0, 1))
    table.add_column("", no_wrap=True, overflow="ellipsis", max_width=20)
    for place in range(len(names)):
        table.add_column(str(place + 1), justify="right", no_wrap=True, min_width=2)
    for place, name in enumerate(names):
        row = record["likeness"][place][:most]
        cells = ("·" if other == place else f"{100 * value:.0f}" for other, value in enumerate(row))
        table.add_row(f"{place + 1} {name}", *cells)
    return table
