"""Commands that look at what a run left, or at recipes: results, report, verify, clean, recipes, schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

WorkFolder = Annotated[Path, typer.Argument(metavar="WORK", help="The work folder of a run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command()(results)
    app.command()(report)
    app.command()(verify)
    app.command()(clean)
    app.command()(recipes)
    app.command()(schema)


def results(work: WorkFolder, as_json: AsJson = False) -> None:
    """Print the ladder of a finished run again.

    Example: smelt results work/demo
    """
    from smelt.verbs import ladder

    measured = ladder.ladder(work)
    if as_json:
        typer.echo(json.dumps(measured, sort_keys=True))
    else:
        ladder.show(measured)


def report(
    work: WorkFolder,
    out: Annotated[Path | None, typer.Option(help="Where to write it (default: WORK/report.html).")] = None,
) -> None:
    """Write the report of a run, finished or not, as one self-contained page.

    Example: smelt report work/demo --out demo.html
    """
    from smelt.report import page

    path = out or work / "report.html"
    page.write(work, path)
    typer.echo(f"report: {path}")


def verify(work: WorkFolder) -> None:
    """Compare every committed file with the hash it was committed with; damaged artefacts are set aside.

    Example: smelt verify work/demo
    """
    from smelt.flowchart.upkeep import verify as check
    from smelt.verbs.ladder import require_work

    require_work(work)
    found = check(work)
    for line in found:
        typer.echo(line)
    typer.echo(f"{len(found)} damaged; run the recipe again to remake them" if found else "all whole")
    raise typer.Exit(2 if found else 0)


def clean(
    work: WorkFolder, yes: Annotated[bool, typer.Option("--yes", help="Delete, do not only list.")] = False
) -> None:
    """List (or delete) artefacts and attempts that the last flowchart does not need.

    Example: smelt clean work/demo --yes
    """
    from smelt.flowchart.upkeep import clean as remove
    from smelt.verbs.ladder import require_work

    require_work(work)
    for path in remove(work, delete=yes):
        typer.echo(f"{'deleted' if yes else 'not needed'}: {path}")


def recipes() -> None:
    """List the recipes that come with smelt.

    Example: smelt recipes
    """
    from smelt.recipe import shipped, summary

    for name in shipped():
        typer.echo(f"{name:28} {summary(name)}")


def schema() -> None:
    """Print the JSON schema of recipes, for editors.

    Example: smelt schema > recipe.schema.json
    """
    from smelt.recipe import json_schema
    from smelt.stages.flow import Recipe

    typer.echo(json.dumps(json_schema(Recipe), indent=1, sort_keys=True))
