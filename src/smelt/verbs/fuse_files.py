"""The verb `fuse`: on files of scores from anywhere, or the stage `fuse` of a recipe."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smelt.errors import RecipeError, ResultError
from smelt.verbs import run
from smelt.verbs.meant import RecipeCommand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from smelt.fusion.procedure import Outcome
    from smelt.fusion.scores.inputs import Gathered

EXAMPLES = """Fuse score files, or run a recipe up to its fusion.

Each input holds scores of N images for C classes: .npy, .npz, .pt, .parquet, .csv or .txt; or the best K
classes of each image. Images are joined by ids and classes by names where files have them; what scores mean
is found, and said. With labels, every method is fitted on a part of the images and judged on the rest, and
weights are used only if they beat the simple means there. Without, the plain average is taken.

Examples:

smelt fuse a.npy b.npy c.npz --labels labels.csv --out fused

smelt fuse stack.npy --labels labels.txt --metric top1 --explain

smelt fuse a.csv b.npy --kind a.csv=percentages --kind b.npy=logits --labels labels.npy

smelt fuse a-test.npy b-test.npy new.npz --as c=new.npz --use fused/fusion.json --out test --submission

smelt fuse demo --work work/demo
"""

Inputs = Annotated[
    list[Path] | None, typer.Argument(metavar="FILES|RECIPE", help="Score files, or one recipe.")
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("fuse", help=EXAMPLES, cls=RecipeCommand)(fuse)


def fuse(
    inputs: Inputs = None,
    labels: Annotated[Path | None, typer.Option(help="Labels: numbers, names or one-hot, any form.")] = None,
    ids: Annotated[Path | None, typer.Option(help="Ids of the images in their order, one a line.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for fusion.json, weights and lists.")] = None,
    use: Annotated[Path | None, typer.Option(help="Apply this fusion.json; nothing is fitted.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="What scores mean: FILE=KIND, or KIND for all.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--as", help="What a result is called: NAME=FILE.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="top1, top5, or auto: top5 if C > 5. Weights are chosen by it.")
    ] = "auto",
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
    replace: Annotated[
        bool, typer.Option("--replace", help="Recipe only: replace another, finished run in the work folder.")
    ] = False,
) -> None:
    """See EXAMPLES."""
    inputs = list(inputs or ())
    if _is_recipe(inputs):
        folder = run.run_until(
            "fuse", str(inputs[0]), override=override, work=work, jobs=jobs, replace=replace
        )
        typer.echo(f"fused; work folder {folder}")
        return
    if override or work or jobs or replace:
        raise RecipeError("--override, --work, --jobs and --replace belong to a recipe, not to score files")
    if (submission or scores) and out is None:
        raise ResultError("--submission and --scores write files: name a folder with --out")
    inputs = _all_files(inputs, name or ())
    asked = Asked(
        inputs, labels, ids, out, use, metric, seed, submission, scores, tuple(kind or ()), tuple(name or ())
    )
    outcome = files_fuse(asked)
    _print(outcome.record, explain, as_json)
    if out is not None and not as_json:
        typer.echo(f"written to {out}")


def _all_files(inputs: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """The files given, and those that `--as NAME=FILE` alone names; ResultError where there is none."""
    known = {word for path in inputs for word in (str(path), path.name, path.stem)}
    files = [Path(file) for file in (text.partition("=")[2] for text in names) if file and file not in known]
    resolved = {path.resolve() for path in inputs}
    found = [*inputs, *(path for path in files if path.is_file() and path.resolve() not in resolved)]
    if not found:
        raise ResultError("nothing to fuse: name score files, or one recipe (smelt fuse --help)")
    return found


def _is_recipe(inputs: Sequence[Path]) -> bool:
    """One argument that is a YAML file, or names a shipped recipe and no file."""
    if len(inputs) != 1:
        return False
    if inputs[0].suffix in (".yaml", ".yml"):
        return True
    if inputs[0].suffix or inputs[0].exists():
        return False
    from smelt.recipe.loading import shipped

    return str(inputs[0]) in shipped()


@dataclass(frozen=True)
class Asked:
    """What the verb is asked for on score files; see the options of `fuse`."""

    inputs: Sequence[Path]
    labels: Path | None
    ids: Path | None
    out: Path | None
    use: Path | None
    metric: str
    seed: int
    submission: bool
    scores: bool
    kinds: Sequence[str]
    names: Sequence[str]


def files_fuse(asked: Asked) -> Outcome:
    """The verb on score files. Everything is read and checked first; all files are written, or none."""
    # NumPy's own products are small here, and more threads than one only wait for one another
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from smelt.fusion.delivered import Delivery
    from smelt.fusion.earlier import read_record, used
    from smelt.fusion.procedure import Outcome
    from smelt.fusion.scores.brokenfiles import refuse_no_file, weights_file
    from smelt.fusion.scores.inputs import read_scores
    from smelt.fusion.scores.scorefiles import read_ids

    if asked.metric not in ("auto", "top1", "top5"):
        raise ResultError(f"--metric is auto, top1 or top5, not {asked.metric!r}")
    if asked.use is not None and asked.labels is not None:
        raise ResultError("--use applies weights, --labels fits them: give one of the two")
    if asked.labels is not None:
        refuse_no_file(asked.labels, "--labels ", "a label of each image")
    if asked.ids is not None:
        refuse_no_file(asked.ids, "--ids ", "the ids of the images, one a line")
    use = None if asked.use is None else weights_file(asked.use)
    record = None if use is None else read_record(use)
    given = read_scores(
        asked.inputs, ids=read_ids(asked.ids) if asked.ids else None, labels=asked.labels,
        kinds=asked.kinds, names=asked.names,
        wanted=(None, None, "") if record is None
        else (record.get("classes"), record.get("num_classes"), str(use)),
    )  # fmt: skip
    names = given.ids if given.ids is not None else [str(line) for line in range(len(given.sources[0]))]
    delivery = None if asked.out is None else Delivery(asked.out, names, asked.submission, asked.scores)
    if delivery is not None:
        delivery.check()
    if record is not None:
        fusion, given = used(str(use), record, given)
        outcome = Outcome((fusion,), fusion, dict(record))
    else:
        outcome = _fitted(asked, given)
    outcome.record["inputs" if record is None else "applied"] = {
        "files": [str(path) for path in given.paths],
        "read": given.told(),
        "notes": given.notes,
        "warnings": given.alarms,
    }
    if delivery is not None:
        delivery.write(outcome, given)
    return outcome


def _fitted(asked: Asked, given: Gathered) -> Outcome:
    """Weights fitted and judged, with what reading had to say among the warnings."""
    from smelt.fusion.config import FuseSettings
    from smelt.fusion.procedure import fuse as fit
    from smelt.fusion.scores.identity import described

    settings = FuseSettings.model_validate({"metric": asked.metric, "seed": asked.seed})
    outcome = fit(given.sources, given.labels_N, settings, num_classes=given.num_classes)
    outcome.record.update(described(given.names, given.kinds, given.num_classes, given.classes, given.ids))
    earlier = outcome.record.get("warnings", [])
    outcome.record["warnings"] = [*earlier, *_unsaid(given.alarms, earlier, given.names)]
    return outcome


def _unsaid(alarms: Sequence[str], earlier: Sequence[str], names: Sequence[str]) -> list[str]:
    """What reading has to say beyond what fusing said: of a result set aside only what may be mended."""
    aside = [name for name in names if any(text.startswith(f"{name}: ") for text in earlier)]
    return [
        text
        for text in alarms
        if text not in earlier
        and (not text.startswith(tuple(f"{name}{end}" for name in aside for end in (": ", " is ")))
             or "are in another order (" in text or "worse than chance" in text)
    ]  # fmt: skip


def _print(record: Mapping[str, Any], explain: bool, as_json: bool) -> None:
    """What was read and assumed, then tables, or the record; warnings go to the error stream."""
    told = record.get("applied") or record["inputs"]
    for text in told["warnings"] if "applied" in record else record["warnings"]:
        typer.echo(f"warning: {text}", err=True)
    if as_json:
        typer.echo(json.dumps(record, sort_keys=True))
        return
    for text in [*told["read"], *told["notes"]]:
        typer.echo(text)
    from smelt.report import terminal

    terminal.fusion(record, explain)
