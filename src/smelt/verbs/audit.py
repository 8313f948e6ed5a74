"""`smelt audit`: a person's verdicts on random images, and what follows for all labels of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from smelt.errors import RecipeError
from smelt.verbs import usage
from smelt.verbs.inspect import AsJson, WorkFolder, require_work

Rows = Annotated[
    int | None,
    typer.Option(min=1, max=100_000, help="Images to ask about (200); more than before extend the sample."),
]
Split = Annotated[Literal["train", "val", "test"], typer.Option(help="Whose labels: train, val or test.")]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Another random sample (0; that of the first call stays).")
]
Trade = Annotated[
    str,
    typer.Option(
        metavar="TRADE",
        help="What the best cut is: f1, f0.5, f2, precision=0.9, recall=0.8, costs=LOST:KEPT.",
    ),
]
Round = Annotated[
    str, typer.Option("--round", metavar="ROUND", help="Whose ranking to go by (the first there is).")
]


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    app.command(cls=usage.WorkCommand)(audit)


def audit(
    work: WorkFolder,
    rows: Rows = None,
    split: Split = "train",
    seed: Seed = None,
    trade: Trade = "f1",
    round_: Round = "",
    as_json: AsJson = False,
) -> None:
    """Ask a person about random labels, and tell from the verdicts how many are wrong, and which.

    The first call writes a page of images and a CSV into WORK/audit. Fill the column verdict (right, wrong,
    outside, unsure), and give the command again: the share of wrong labels with its interval, what every cut
    would do, how likely each label is wrong (p_wrong.parquet), and for val and test the accuracy that right
    labels would give.

    Example: smelt audit work/demo --rows 200
    """
    from smelt.files import auditfolder
    from smelt.flowchart.work import Work
    from smelt.report import contactsheet
    from smelt.verbs import auditing

    require_work("audit", work)
    _check_trade(trade)
    place = Work(work)
    sample = auditing.draw(place, split, rows, seed)
    sheet = auditfolder.sheet(work, split)
    drawn = sample.rows[sample.places].tolist()
    blank = contactsheet.write(
        place, sheet, split, drawn, sample.asked, sample.given, auditing.taken_for(place, sample)
    )
    record = _reckoned(work, place, sample, trade, round_) if sample.given else None
    if as_json:
        typer.echo(json.dumps({"split": split, "sheet": str(sheet), "audit": record}, sort_keys=True))
        return
    _tell(work, sample, sheet, blank)


def _check_trade(trade: str) -> None:
    from smelt.mining.audited import TRADE

    found = TRADE.fullmatch(trade.replace(" ", ""))
    shares = [float(value) for value in found.groups()[2:3] if value] if found else []
    if (
        not found
        or any(value > 1 for value in shares)
        or (found[4] and float(found[4]) + float(found[5]) == 0)
    ):
        raise RecipeError(f"--trade {trade!r} is none of f1, f0.5, f2, precision=0.9, recall=0.8, costs=1:3")


def _reckoned(work: Path, place: Any, sample: Any, trade: str, round_: str) -> dict[str, Any]:
    """What the verdicts say; written as `audit.json` and, for training images that were ranked, as
    `p_wrong.parquet`."""
    from smelt.artifacts.likelywrong import FILE, LikelyWrong, write_likely_wrong
    from smelt.files import auditfolder
    from smelt.files.atomic import write_json
    from smelt.verbs import auditing

    record, p_wrong = auditing.reckon(place, sample, trade, round_)
    folder = auditfolder.folder_of(work)
    if p_wrong is not None:
        write_likely_wrong(folder, LikelyWrong(sample.rows, p_wrong.astype("float32"), record["catalogue"]))
    elif sample.split == "train":
        (folder / FILE).unlink(missing_ok=True)  # of a ranking that is no more
    splits = {**auditfolder.read_record(work), sample.split: record}
    write_json(folder / auditfolder.RECORD, {"version": auditfolder.VERSION, "splits": splits})
    return record


def _tell(work: Path, sample: Any, sheet: Path, blank: int) -> None:
    """What there is to do, and what was found."""
    from smelt.files import auditfolder
    from smelt.report import terminal

    path = auditfolder.verdicts(work, sample.split)
    missing = len(sample.asked) - len(sample.judged)
    if sample.strange:
        typer.echo(
            f"{sample.strange} verdicts are on images that are not in this sample, or whose label is "
            "another one now: left out; the file as it was is kept beside",
            err=True,
        )
    if blank:
        typer.echo(f"{blank} of {len(sample.asked)} images cannot be shown: give them no verdict", err=True)
    if sample.given:
        terminal.audited(work, sample.split)
    typer.echo(f"sheet: {sheet}")
    if missing:
        typer.echo(
            f"verdicts: {path}: {missing} of {len(sample.asked)} to be filled; then give the command again"
        )
    elif sample.given:
        more = min(2 * len(sample.asked), len(sample.rows))
        asks = f"; --rows {more} would ask for more" if more > len(sample.asked) else ""
        typer.echo(f"all {len(sample.asked)} have a verdict{asks}")
