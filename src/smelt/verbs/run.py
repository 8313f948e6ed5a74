"""Commands that run a recipe, wholly or up to a stage: run, demo, plan, index … submit, and `stage run`."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.errors import DataError, RecipeError, SmeltError, short
from smelt.stages.table import STAGES
from smelt.verbs import completion, meant, usage

if TYPE_CHECKING:
    from smelt.flowchart.graph import Graph
    from smelt.flowchart.reasons import PlanLine
    from smelt.flowchart.work import Work
    from smelt.recipe.schema import Recipe
    from smelt.recipe.yaml_lines import Places, Steps
    from smelt.verbs.checks.asked import Asked, Found

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file (.yaml) or the name of one that is shipped.",
        autocompletion=completion.recipes,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--override",
        metavar="KEY=VALUE",
        help="Set one value of the recipe; repeatable.",
        autocompletion=completion.overrides,
    ),
]
WorkOption = Annotated[
    Path | None,
    typer.Option("--work", help="Work folder (default: work/NAME).", autocompletion=completion.work_folders),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Stages at once (default: one a core or device).")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print results only.")]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Go on though another, finished run in WORK is replaced by this one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

PRELOAD = ("torch", "timm", "torchvision", "pyarrow.parquet", "smelt.stages.context")


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(cls=usage.RecipeCommand)(run)
    app.command(cls=usage.RecipeCommand)(demo)
    app.command(cls=usage.RecipeCommand)(plan)
    for stage in (one for one in STAGES.values() if one.command):
        text = f"{stage.summary}\n\nExample: smelt {stage.name} demo --work work/demo"
        app.command(stage.name, help=text, cls=usage.RecipeCommand)(_verb(stage.name))
    one = typer.Typer(hidden=True, no_args_is_help=True)
    one.command("run")(stage_run)
    one.callback()(lambda: None)
    app.add_typer(one, name="stage", help="One stage by its key, as every executor runs it.")


def run(
    recipe: RecipeName,
    override: Overrides = None,
    work: WorkOption = None,
    jobs: Jobs = None,
    quiet: Quiet = False,
    replace: Replace = False,
) -> None:
    """Run a recipe to its report; what is done already is not done again.

    Example: smelt run webvision2020 -o data.root=/data/webvision --work work/webvision --jobs 8
    """
    from smelt.flowchart.work import Work
    from smelt.report import page, terminal

    folder = run_until(None, recipe, override=override, work=work, jobs=jobs, quiet=quiet, replace=replace)
    if Work(folder).of("evaluate"):  # a recipe without rounds measures nothing
        terminal.ladder(terminal.measured(folder))
    page.write(folder, folder / "report.html")
    typer.echo(f"report: {folder / 'report.html'}")


def demo(
    short: Annotated[
        bool, typer.Option("--short", help="A tenth of the images: only to see it run.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Another data set, other models.")] = 0,
    override: Overrides = None,
    work: WorkOption = None,
    jobs: Jobs = None,
    quiet: Quiet = False,
    replace: Replace = False,
) -> None:
    """Learn, mine and fuse the embedded data set: the whole method in a few minutes, without a network.

    Example: smelt demo --seed 1
    """
    name = "demo_short" if short else "demo"
    work = work or Path("work") / (name if seed == 0 else f"{name}-{seed}")
    run(name, [f"seed={seed}", *(override or ())], work, jobs, quiet, replace)


def plan(
    recipe: RecipeName,
    override: Overrides = None,
    work: WorkOption = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Build every model and show it every size, and look at the machine."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show every stage of a recipe: done or to do, why, and what it should take.

    `--check` does what `run` does before its first stage: every model is built and passes an image of every
    size, without any arithmetic; devices, processes and the disk are looked at. It takes some seconds.

    Example: smelt plan demo --check
    """
    from smelt.flowchart import versions
    from smelt.flowchart.reasons import plan as explain
    from smelt.flowchart.work import Work
    from smelt.verbs.checks import precheck, startweights
    from smelt.verbs.checks.asked import Asked, refuse
    from smelt.verbs.checks.machine import about_machine

    settings, graph, places = load(recipe, override, "plan")
    folder = work or Path("work") / settings.name
    asked = Asked(settings, graph, Work(folder), places)
    if check:
        notes = precheck.check(asked).notes
    else:
        fit = startweights.about_fit(asked)
        refuse([*about_machine(asked), *fit.problems])
        notes = fit.notes
    lines = explain(graph, Work(folder))
    met = versions.meetings(graph, Work(folder), [line.id for line in lines if line.state == "done"])
    cost = replaces(Work(folder), graph, lines)
    if as_json:
        told = {"stages": [line.to_json() for line in lines], "versions": met, "replaces": cost}
        told |= {"checked": notes} if check else {}
        typer.echo(json.dumps({"recipe": settings.name, "work": str(folder), **told}))
        return
    _show_plan(lines, folder)
    for meeting in met:
        typer.echo(f"versions meet: {meeting}")
    for note in notes:
        typer.echo(note)
    if cost:
        typer.echo(f"note: {cost}; `run` wants --replace for it")


def _show_plan(lines: Sequence[PlanLine], folder: Path) -> None:
    """The stages, a line each, and how many are done."""
    width = max(len(line.id) for line in lines)
    for line in lines:
        takes = "" if line.seconds is None else f"  (about {line.seconds:.0f} s)"
        typer.echo(f"{line.state:4}  {line.id:{width}}  {line.why}{takes}".rstrip())
    done = sum(line.state == "done" for line in lines)
    known = sum(line.seconds or 0 for line in lines)
    rest = f", the rest about {known:.0f} s of work" if known else ""
    typer.echo(f"{done} of {len(lines)} stages done{rest}; work folder {folder}")


def stage_run(key: str, work: Annotated[Path, typer.Option("--work", help="Work folder.")]) -> None:
    """Run the stage with this key of the last flowchart planned in WORK, and commit it."""
    from smelt.flowchart.executors import worker
    from smelt.stages.context import run

    raise typer.Exit(worker.run_stage(work, key, run))


def load(recipe: str, override: list[str] | None, verb: str = "run") -> tuple[Recipe, Graph, Places]:
    """The checked recipe, its flowchart, and the places of its values; `verb` is what an error proposes."""
    from smelt.recipe import loading as recipes
    from smelt.recipe.schema import Recipe
    from smelt.recipe.unfolding import unfold

    meant.refuse(verb, recipe)
    data, places = recipes.load(recipe, override or ())
    settings = recipes.validate(Recipe, data, places)
    if settings.synthesise is None and settings.data.root is None and Path(recipe).is_dir():
        raise RecipeError(
            f"data.root is not set. {recipe} is a shipped recipe, and a folder here: if that is the data, "
            f"smelt {verb} {recipe} -o data.root={recipe}"
        )
    try:
        return settings, unfold(settings), places
    except (DataError, RecipeError) as error:
        told = _placed(str(error), recipe, settings.data.root, places)
        raise type(error)(told) from error


def _placed(text: str, recipe: str, root: str | None, places: Places) -> str:
    """An error that begins with a field, with the place where its user gave the field before it."""
    from smelt.recipe.loading import is_path

    found = re.match(r"data(\.\w+)+", text)
    if not found:
        return text
    steps: Steps = tuple(found[0].split("."))
    while steps not in places and len(steps) > 2:
        steps = steps[:-1]
    place = places.get(steps)
    if place is None or place.shipped:
        unset = found[0] == "data.root" and root is None and is_path(recipe)
        return text + (f", or in {short(recipe)}: `data: {{root: FOLDER}}`" if unset else "")
    beside = Path(place.file).parent / (root or "")
    if found[0] == "data.root" and place.line and root and not Path(root).is_dir() and beside.is_dir():
        text += f"; beside the recipe there is {beside}: -o {shlex.quote(f'data.root={beside}')}"
    return f"{place}: {text}"


def run_until(
    stage: str | None,
    recipe: str,
    *,
    override: list[str] | None = None,
    work: Path | None = None,
    jobs: int | None = None,
    quiet: bool = False,
    replace: bool = False,
    told: set[str] | None = None,
) -> Path:
    """Run all stages of that name (None: all) and what they need; the work folder.

    told: takes the warnings that were shown on the way.

    Raises the errors of the recipe, of the lock and of stages that failed, and SmeltError where it would
    replace another run that is finished, without `replace` or a yes.
    """
    from smelt.flowchart.work import Work
    from smelt.verbs.checks import precheck
    from smelt.verbs.checks.asked import Asked

    settings, graph, places = load(recipe, override, stage or "run")
    if stage is not None:
        graph = graph.until(stage)
        if not len(graph):
            raise RecipeError(f"the recipe {settings.name} has no stage {stage!r}")
    folder = work or Path("work") / settings.name
    asked = Asked(settings, graph, Work(folder), places)
    if not replace:
        _may_replace(asked.work, graph)
    found = precheck.check(asked)
    if not quiet:
        for note in found.notes:
            typer.echo(note, err=True)
    _execute(asked, found, jobs, quiet, told)
    return folder


def _execute(asked: Asked, found: Found, jobs: int | None, quiet: bool, told: set[str] | None) -> None:
    """Run what was checked, and look once more at what settings ask of the data when that is known."""
    from smelt.flowchart.executors.local import LocalExecutor
    from smelt.flowchart.executors.stall import Stalls
    from smelt.flowchart.progress import Progress
    from smelt.flowchart.running import run as run_graph
    from smelt.recipe import loading as recipes
    from smelt.verbs.checks import precheck
    from smelt.verbs.checks.machine import cores

    settings, own = asked.recipe, asked.recipe.runtime
    devices = _devices(own.device, found.gpus)
    preload = PRELOAD if any(STAGES[node.stage].warm for node in asked.graph) else ()
    stalls = Stalls(own.stall_warning_seconds, own.stall_limit_seconds)
    executor = LocalExecutor(asked.work, "smelt.stages.context:run", preload=preload, stalls=stalls)
    with Progress(quiet=quiet, told=told) as progress:

        def watch(event: Mapping[str, Any]) -> None:
            progress(event)
            if event["event"] == "done" and event["stage"] == "index":
                precheck.after_index(asked, found)

        run_graph(
            asked.graph,
            asked.work,
            executor,
            jobs=jobs or max(1, len(devices) or cores()),
            devices=devices,
            # a stage sees the accelerators it was leased, and no others
            runtime={
                **own.model_dump(mode="json"),
                "root": _root(settings),
                "device": own.device.partition(":")[0],
            },
            recipe=recipes.dump(settings.model_dump(mode="json")),
            on_event=watch,
        )


def replaces(place: Work, graph: Graph, lines: Sequence[PlanLine]) -> str:
    """What it means for the finished run in the folder that `graph` is run there; "" where it stays.

    It stays where all of its artefacts are of the new flowchart too. `lines`: the plan of `graph`.
    """
    finished = place.load_finished()
    if finished is None or set(finished.keys.values()) <= set(graph.whole.keys.values()):
        return ""
    todo = [line for line in lines if line.state != "done"]
    seconds = sum(line.seconds or 0 for line in todo)
    about = f", about {seconds:.0f} s of work" if seconds else ""
    first = f", first {todo[0].id} ({todo[0].why})" if todo else ""
    lost = len({*finished.keys.values()} - {*graph.whole.keys.values()})
    return (
        f"{place.folder} holds a finished run of another recipe, of which {lost} artefacts are no part of "
        f"this one; {len(todo)} of {len(lines)} stages would run{about}{first}"
    )


def _may_replace(place: Work, graph: Graph) -> None:
    """Ask, on a terminal, before a finished run is replaced by another; SmeltError without a yes."""
    from smelt.flowchart.reasons import plan as explain

    if place.load_finished() is None:
        return
    cost = replaces(place, graph, explain(graph, place))
    if not cost:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        if typer.confirm(f"{cost}. Replace it?", default=False, err=True):
            return
        raise SmeltError("nothing was done; another folder for another recipe: --work FOLDER")
    raise SmeltError(
        f"{cost}. Give --replace if that is meant (the finished run is kept until the new one is finished), "
        f"or another folder: --work FOLDER. What is there already, `smelt show {place.folder} STAGE` prints"
    )


def _verb(stage: str) -> Callable[..., None]:
    """The command that runs a recipe up to a stage and prints what came of it."""

    def command(
        recipe: RecipeName,
        override: Overrides = None,
        work: WorkOption = None,
        jobs: Jobs = None,
        quiet: Quiet = False,
        replace: Replace = False,
    ) -> None:
        """Run up to the stage, whose help the table of stages has, and show what it gave."""
        from smelt.report import terminal

        told: set[str] = set()
        folder = run_until(
            stage, recipe, override=override, work=work, jobs=jobs, quiet=quiet, replace=replace, told=told
        )
        terminal.show(folder, stage, last=True, told=told)

    return command


def _root(settings: Recipe) -> str | None:
    return None if settings.data.root is None else str(Path(settings.data.root).resolve())


def _devices(device: str, gpus: int | None) -> list[str]:
    """Accelerators to lease: none on a CPU, all visible ones for "cuda", those named for "cuda:0,2".

    gpus: how many torch sees; None where nothing is left to be done on one.
    """
    kind, _, wanted = device.partition(":")
    if kind == "cpu" or gpus is None:
        return []
    return wanted.split(",") if wanted else [str(number) for number in range(gpus)]
