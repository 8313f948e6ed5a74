"""Commands that look at what a run left, or at recipes: show, results, report, verify, clean, recipes, …

Those that read a work folder speak of its last finished run, where there is one, and compute nothing.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from smelt.errors import ArtifactError
from smelt.verbs import completion, meant, usage

WorkFolder = Annotated[
    Path,
    typer.Argument(metavar="WORK", help="The work folder of a run.", autocompletion=completion.work_folders),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(cls=usage.WorkCommand)(show)
    app.command(cls=usage.WorkCommand)(results)
    app.command(cls=usage.WorkCommand)(report)
    app.command(cls=usage.WorkCommand)(verify)
    app.command(cls=usage.WorkCommand)(clean)
    app.command(cls=usage.PlainCommand)(recipes)
    app.command(cls=usage.PlainCommand)(schema)


def require_work(verb: str, work: Path) -> None:
    """Refuse a folder that no run has written to, with the command that was probably meant."""
    from smelt.files.workfolder import chart_file

    try:
        chart_file(work)
    except ArtifactError as error:
        if told := meant.of_work(verb, work):
            raise ArtifactError(told) from error
        raise


def show(
    work: WorkFolder,
    stage: Annotated[
        str,
        typer.Argument(
            metavar="STAGE",
            help="index, check, select, rank, train, …, or audit",
            autocompletion=completion.stages,
        ),
    ],
) -> None:
    """Print what a stage of a run gave, and where its files are. Computes nothing.

    Example: smelt show work/demo select
    """
    from smelt.report import terminal
    from smelt.stages.table import STAGES

    if str(work) in STAGES and Path(stage).is_dir() and not work.exists():
        raise ArtifactError(f"the work folder comes first: smelt show {shlex.join([stage, str(work)])}")
    require_work("show", work)
    if stage == "audit":
        if not terminal.audited(work):
            raise ArtifactError(f"no verdicts yet: smelt audit {shlex.quote(str(work))} asks for them")
        return
    terminal.show(work, stage)
    _tell_under_way(work)


def _tell_under_way(work: Path) -> None:
    """Say on stderr that what was shown is the finished run, where another has been begun since."""
    from smelt.files.workfolder import under_way

    if under_way(work):
        typer.echo(f"this is the last finished run of {work}; another has been begun there since", err=True)


def results(work: WorkFolder, as_json: AsJson = False) -> None:
    """Print the ladder of a finished run again.

    Example: smelt results work/demo
    """
    from smelt.report import terminal

    require_work("results", work)
    measured = terminal.measured(work)
    if as_json:
        typer.echo(json.dumps(measured, sort_keys=True))
    else:
        terminal.ladder(measured)
        terminal.audited(work)
    _tell_under_way(work)


def report(
    work: WorkFolder,
    out: Annotated[Path | None, typer.Option(help="Where to write it (default: WORK/report.html).")] = None,
) -> None:
    """Write the report of a run, finished or not, as one self-contained page.

    Example: smelt report work/demo --out demo.html
    """
    from smelt.report import page

    require_work("report", work)
    path = out or work / "report.html"
    if out is None and not os.access(work, os.W_OK | os.X_OK):
        raise ArtifactError(
            f"{work} cannot be written to: smelt report {shlex.quote(str(work))} --out FILE writes elsewhere"
        )
    page.write(work, path)
    typer.echo(f"report: {path}")
    _tell_under_way(work)


def verify(work: WorkFolder) -> None:
    """Compare every committed file with its hash; what is damaged, or made from replaced files, is set aside.

    Example: smelt verify work/demo
    """
    from smelt.flowchart.upkeep import verify as check

    require_work("verify", work)
    found = check(work)
    for line in found:
        typer.echo(line)
    typer.echo(
        f"{len(found)} damaged or out of date; run the recipe again to remake them" if found else "all whole"
    )
    raise typer.Exit(2 if found else 0)


def clean(
    work: WorkFolder, yes: Annotated[bool, typer.Option("--yes", help="Delete, do not only list.")] = False
) -> None:
    """List (or delete) artefacts and attempts that neither the finished run nor the last one begun needs.

    Example: smelt clean work/demo --yes
    """
    from smelt.flowchart.upkeep import clean as remove

    require_work("clean", work)
    for path in remove(work, delete=yes):
        typer.echo(f"{'deleted' if yes else 'not needed'}: {path}")


def recipes() -> None:
    """List the recipes that come with smelt.

    Example: smelt recipes
    """
    from smelt.recipe.loading import shipped, summary

    for name in shipped():
        typer.echo(f"{name:28} {summary(name)}")


def schema() -> None:
    """Print the JSON schema of recipes, for editors.

    Example: smelt schema > recipe.schema.json
    """
    from smelt.recipe.loading import json_schema
    from smelt.recipe.schema import Recipe

    typer.echo(json.dumps(json_schema(Recipe), indent=1, sort_keys=True))
