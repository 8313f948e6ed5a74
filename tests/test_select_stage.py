"""The stages rank and select on small artefacts: ports, reasons, rounds, threshold samples, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.featurestore import FeatureWriter
from smelt.artifacts.ranking import read_ranking
from smelt.artifacts.results import describe, write_dense
from smelt.artifacts.row_kinds import KINDS, read_kinds
from smelt.artifacts.selection import Selection, read_selection
from smelt.errors import ArtifactError, RecipeError, SmeltError
from smelt.files.atomic import read_json, write_json
from smelt.mining.estimate import NO_FEATURES
from smelt.mining.recorder import Recorder
from smelt.stages.context import run as run_stage

CLASSES = ("ant", "bee", "cat")
TRAIN = 30  # catalogue rows 6..35: rows 0..5 are validation, so that places and rows differ
FIRST = 6
MANY = 3000


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with the artefact `index`: 6 validation rows, then 30 training rows, labels in turn."""
    catalogue_of(tmp_path, [0, 1, 2, 0, 1, 2])
    return tmp_path


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """The same with so many rows that a share of wrong labels can be told."""
    catalogue_of(tmp_path, [i % 3 for i in range(MANY)], MANY)
    return tmp_path


def catalogue_of(folder: Path, validation: list[int], train: int = TRAIN) -> range:
    """Write `index` with validation rows of these labels, then so many training rows; returns the former."""
    with CatalogueWriter(folder / "index" / "catalogue") as writer:
        for split, labels in (("val", validation), ("train", [i % 3 for i in range(train)])):
            paths = Paths.of(f"{split}/{i}.jpg".encode() for i in range(len(labels)))
            writer.add(Block(split, "google", paths, np.array(labels, np.int32)))
        writer.classes = list(CLASSES)
        writer.finish()
    return range(len(validation))


def stage(
    work: Path,
    name: str,
    out: str,
    ports: dict[str, list[str]],
    warn: list[str] | None = None,
    **settings: Any,
) -> Path:
    """Run a stage on artefacts of `work` into the folder `out`; its warnings go to `warn`."""

    def emit(event: str, **fields: Any) -> None:
        if event == "warning" and warn is not None:
            warn.append(fields["text"])

    if name == "rank" and "train" in ports:
        settings = {"score": "aum", **settings}
    (work / out / "scratch").mkdir(parents=True)
    inputs = {"catalogue": [work / "index"], **{port: [work / p for p in ps] for port, ps in ports.items()}}
    run_stage(name, settings, inputs=inputs, out=work / out, scratch=work / out / "scratch", emit=emit)
    return work / out


def select(work: Path, out: str, ports: dict[str, list[str]] | None = None, **settings: Any) -> Selection:
    return read_selection(stage(work, "select", out, ports or {}, **settings))


def words(selection: Selection) -> dict[int, str]:
    """Catalogue row → reason, of the rows that have one."""
    return {int(row): selection.words[code] for row, code in zip(selection.rows, selection.reasons) if code}


def recorded(work: Path, name: str, accuracies: list[tuple[float, float]], **manifest: Any) -> str:
    """Give a train artefact `metrics.csv`: accuracy of the visits and of validation after each epoch."""
    lines = ["epoch,step,train_top1,val_top1"]
    lines += [f"{i + 1},{i},{visits},{'' if val < 0 else val}" for i, (visits, val) in enumerate(accuracies)]
    (work / name / "metrics.csv").write_text("\n".join(lines) + "\n")
    if manifest:
        write_json(work / name / "manifest.json", manifest)
    return name


def trained(
    work: Path,
    name: str,
    margins: dict[int, float],
    classes: int = 3,
    labels: Any = None,
    first: int = FIRST,
    count: int = TRAIN,
) -> str:
    """A train artefact with one visit of each training row, its margin as given (else 1 + row/100)."""
    rows = torch.arange(first, first + count)
    labels = torch.arange(count) % 3 if labels is None else torch.tensor(labels.tolist())
    logits = torch.full((count, classes), -9.0)
    for i, row in enumerate(rows.tolist()):
        logits[i, labels[i]] = margins.get(row, 1 + row / 100)
        logits[i, (int(labels[i]) + 1) % classes] = 0.0
    recorder = Recorder(first + count)
    recorder.update(rows, logits, labels)
    Dynamics(recorder.arrays()).save(work / name / "dynamics", {})
    return name


def checked(work: Path, bad: dict[int, str]) -> str:
    rows = list(range(FIRST + TRAIN))
    table = {"row": rows, "ok": [r not in bad for r in rows], "reason": [bad.get(r, "") for r in rows]}
    (work / "check").mkdir()
    pq.write_table(pa.table(table), work / "check" / "images.parquet")
    return "check"


def deduped(work: Path, rows: list[dict[str, Any]]) -> str:
    (work / "dedupe").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), work / "dedupe" / "duplicates.parquet")
    return "dedupe"


def one(row: int, group: int, **flags: bool) -> dict[str, Any]:
    return {"row": row, "group": group, "keep": False, "cross_label": False, "leak": False, **flags}


def test_the_first_round_needs_the_catalogue_alone(work: Path) -> None:
    selection = select(work, "s")
    assert selection.rows.tolist() == list(range(FIRST, FIRST + TRAIN))
    assert selection.kept.all() and selection.num_classes == 3
    assert selection.labels.tolist() == [i % 3 for i in range(TRAIN)]
    assert read_json(work / "s" / "selection.json") == {
        "method": "all", "num_classes": 3, "counts": {"kept": TRAIN},
    }  # fmt: skip


def test_bad_files_leaks_and_duplicates_are_dropped_with_their_reason(work: Path) -> None:
    groups = [
        one(8, 0, keep=True), one(11, 0), one(1, 1, keep=True), one(14, 1, leak=True),
        one(20, 2, cross_label=True, keep=True), one(21, 2, cross_label=True),
        one(10, 3, keep=True), one(9, 3),
    ]  # fmt: skip
    ports = {
        "check": [checked(work, {7: "truncated", 9: "html", 2: "html"})],
        "dedupe": [deduped(work, groups)],
    }
    assert words(select(work, "s", ports)) == {
        7: "bad:truncated", 9: "bad:html", 11: "duplicate", 14: "leak", 20: "cross_label", 21: "cross_label",
    }  # fmt: skip
    kept = select(work, "t", ports, duplicates="keep", leaks="keep", cross_label="keep")
    assert words(kept) == {7: "bad:truncated", 9: "bad:html"}


def test_of_a_picture_under_two_labels_the_cleanest_can_stay(work: Path) -> None:
    groups = [one(20, 2, cross_label=True, keep=True), one(21, 2, cross_label=True)]
    stage(work, "rank", "rank", {"train": [trained(work, "m", {20: -1.0})]})
    ports = {"dedupe": [deduped(work, groups)]}
    with_ranking = {**ports, "ranking": ["rank"]}
    assert words(select(work, "s", with_ranking, cross_label="cleanest")) == {20: "cross_label"}
    assert set(words(select(work, "t", ports, cross_label="cleanest"))) == {20, 21}


def test_the_lowest_fraction_goes_by_row_id(work: Path) -> None:
    low = {10: -1.0, 17: -3.0, 33: -2.0, 12: 0.1, 13: 0.2, 14: 0.3, 15: 0.4}
    stage(work, "rank", "rank", {"train": [trained(work, "m", low)]})
    selection = select(work, "s", {"ranking": ["rank"]}, method="lowest_fraction", fraction=0.1)
    assert words(selection) == {10: "low_aum", 17: "low_aum", 33: "low_aum"}
    assert selection.weights[~selection.kept].tolist() == [0, 0, 0]
    within = select(work, "t", {"ranking": ["rank"]}, method="lowest_fraction", fraction=0.1, within="class")
    assert np.bincount(within.labels[~within.kept], minlength=3).tolist() == [1, 1, 1]
    softer = select(
        work, "u", {"ranking": ["rank"]}, method="lowest_fraction", fraction=0.1, flagged_weight=0.25
    )
    assert softer.kept.all() and softer.weights[softer.reasons > 0].tolist() == [0.25] * 3


def test_classes_keep_a_minimum_and_rounds_follow_rounds(work: Path) -> None:
    ants = {row: -5.0 + row / 100 for row in range(FIRST, FIRST + TRAIN) if row % 3 == FIRST % 3}
    stage(work, "rank", "rank", {"train": [trained(work, "m", ants)]})
    ports = {"ranking": ["rank"]}
    first = select(work, "s", ports, method="lowest_fraction", fraction=0.4, minimum_per_class=4)
    assert np.bincount(first.labels[first.kept]).tolist() == [4, 9, 9]  # 12 lowest: 10 ants, a bee, a cat
    best_ants = sorted(ants, key=lambda row: -ants[row])[:4]
    assert set(best_ants) <= set(first.rows[first.kept])
    again = {**ports, "selection": ["s"]}
    second = select(work, "t", again, method="lowest_fraction", fraction=0.25)
    assert second.kept.sum() == 22 - 5 and not (second.kept & ~first.kept).any()
    revived = select(work, "v", again, method="lowest_fraction", fraction=0.25, revive=True)
    assert revived.kept.sum() == TRAIN - 7


def test_the_noise_rate_is_corrected_by_the_validation_error(work: Path) -> None:
    wrong = dict.fromkeys(range(10, 16), -2.0)
    stage(work, "rank", "rank", {"train": [trained(work, "m", wrong)]})
    selection = select(work, "s", {"ranking": ["rank"]}, method="noise_rate")
    assert set(words(selection)) == set(wrong)
    predicted(work, [0, 1, 2, 0, 1, 0])  # class 2: half right; error 1/6
    ports = {"ranking": ["rank"], "results": ["predict"]}
    corrected = select(work, "t", ports, method="noise_rate")
    assert read_json(work / "t" / "selection.json")["rate"] == pytest.approx(
        (0.2 - 1 / 6) / (5 / 6), abs=1e-6
    )
    assert (~corrected.kept).sum() == 1
    capped = select(work, "u", {"ranking": ["rank"]}, method="noise_rate", maximum_rate=0.1)
    assert (~capped.kept).sum() == 3


def test_a_rate_that_is_not_supported_falls_back_and_says_so(work: Path) -> None:
    """All but three rows have a negative AUM: a weak learner. `fraction` is dropped, not the most allowed."""
    weak = dict.fromkeys(range(FIRST, FIRST + TRAIN - 3), -2.0)
    stage(work, "rank", "rank", {"train": [recorded(work, trained(work, "m", weak), [(0.1, 0.35)] * 3)]})
    warnings: list[str] = []
    selection = select(work, "s", {"ranking": ["rank"]}, method="noise_rate", fraction=0.3, warn=warnings)
    assert (~selection.kept).sum() == 9
    summary = read_json(work / "s" / "selection.json")
    assert summary["supported"] is False and summary["rate"] == 0.3
    assert summary["noise"] == NO_FEATURES
    (warning,) = warnings
    assert NO_FEATURES in warning and "flags 0.300 of the rows" in warning
    assert read_json(work / "rank" / "diagnosis.json")["estimated_noise"] is None


@pytest.mark.parametrize(
    ("possible", "flagged"),
    [({"low": 0.3, "high": 0.8}, 9), ({"low": 0.0, "high": 0.1}, 3), ({"low": 0.1, "high": 0.5}, 6), ({}, 6)],
)
def test_what_is_dropped_without_a_rate_is_possible(
    work: Path, possible: dict[str, float], flagged: int
) -> None:
    """A fifth, but never less than is surely wrong, nor more than can be."""
    low = dict.fromkeys(range(FIRST, FIRST + 12), -2.0)
    stage(work, "rank", "rank", {"train": [trained(work, "m", low)]})
    write_json(work / "rank" / "diagnosis.json", {"noise": {**possible, "words": "cannot be told"}})
    selection = select(work, "s", {"ranking": ["rank"]}, method="noise_rate")
    assert (~selection.kept).sum() == flagged


def test_a_rate_that_is_supported_is_dropped(many: Path) -> None:
    """The margins alone would say 5 rows of 3,000; features say two in five."""
    low = dict.fromkeys(range(MANY + 4, MANY + 9), -2.0)
    made = trained(many, "m", low, first=MANY, count=MANY)
    seen = featured(many, "features", wrong=0.4)
    stage(many, "rank", "rank", {"train": [made], "features": [seen]}, validation_labels="crawled")
    noise = read_json(many / "rank" / "diagnosis.json")["noise"]
    assert noise["low"] <= 0.4 <= noise["high"] and noise["rate"] == pytest.approx(0.4, abs=0.04)
    assert "uncalibrated" in noise["words"]
    warnings: list[str] = []
    selection = select(many, "s", {"ranking": ["rank"]}, method="noise_rate", warn=warnings)
    assert (~selection.kept).sum() == int(noise["rate"] * MANY + 1e-9) and not warnings
    assert read_json(many / "s" / "selection.json")["supported"] is True
    capped = select(many, "t", {"ranking": ["rank"]}, method="noise_rate", maximum_rate=0.1)
    assert (~capped.kept).sum() == MANY // 10


def featured(work: Path, name: str, wrong: float) -> str:
    """Features of the rows of `many`, whose training labels are wrong at that rate."""
    catalogue = Catalogue.open(work / "index" / "catalogue")
    generator = np.random.default_rng(3)
    truth = catalogue.labels_N.copy()
    train = catalogue.rows("train")
    flipped = train[generator.random(len(train)) < wrong]
    truth[flipped] = (truth[flipped] + generator.integers(1, 3, len(flipped))) % 3
    values = 4 * np.eye(8)[truth] + generator.normal(size=(len(truth), 8))
    (work / name / "scratch").mkdir(parents=True)
    writer = FeatureWriter(work / name, work / name / "scratch", len(values), 8)
    writer.write(values.astype(np.float32), np.ones(len(values), bool))
    writer.finish("tiny", {})
    return name


def test_validation_narrows_the_estimate_where_its_labels_were_checked(many: Path) -> None:
    seen = featured(many, "features", wrong=0.2)

    def noise(out: str, **settings: Any) -> dict[str, Any]:
        stage(many, "rank", out, {"features": [seen]}, **settings)
        found: dict[str, Any] = read_json(many / out / "diagnosis.json")["noise"]
        return found

    crawled, checked = noise("a", validation_labels="crawled"), noise("b", validation_labels="checked")
    assert crawled["validation_images"] == 0 and checked["validation_images"] == MANY
    assert crawled["low"] <= checked["low"] <= 0.22
    assert 0.18 <= checked["high"] <= crawled["high"]


def test_features_alone_rank_and_say_what_is_wrong(many: Path) -> None:
    seen = featured(many, "features", wrong=0.2)
    stage(many, "rank", "rank", {"features": [seen]})
    ranking, found = read_ranking(many / "rank"), read_kinds(many / "rank")
    assert set(ranking.scores) == {"centroid", "ridge", "knn", "density"}
    assert found is not None and found.p_wrong.mean() == pytest.approx(0.2, abs=0.03)
    catalogue = Catalogue.open(many / "index" / "catalogue")
    wrong = KINDS[int(found.kind[np.argmin(ranking.cleanness)])]
    assert wrong == "wrong_class"
    taken = found.kind == KINDS.index("wrong_class")
    assert (found.likely[taken] != catalogue.labels_N[ranking.rows][taken]).all()
    assert 0.1 < taken.mean() < 0.3


def test_the_validation_error_is_averaged_over_classes(tmp_path: Path) -> None:
    """Eight ants, all right, and two bees, both wrong: half is wrong, not a fifth."""
    rows = catalogue_of(tmp_path, [0] * 8 + [1] * 2)
    stage(tmp_path, "rank", "rank", {"train": [trained(tmp_path, "m", {}, first=len(rows))]})
    predicted(tmp_path, [0] * 10)
    select(tmp_path, "s", {"ranking": ["rank"], "results": ["predict"]}, method="noise_rate")
    assert read_json(tmp_path / "s" / "selection.json")["validation_error"] == 0.5


def predicted(work: Path, guesses: list[int], rows: Any = None) -> str:
    catalogue = Catalogue.open(work / "index" / "catalogue")
    rows = catalogue.rows("val") if rows is None else rows
    (work / "predict" / "val").mkdir(parents=True)
    info = describe("m", "32x1", "val", rows, CLASSES)
    write_dense(work / "predict" / "val" / "32x1.npy", 4 * np.eye(3, dtype=np.float16)[guesses], info, rows)
    return "predict"


def test_worst_classes_by_validation(work: Path) -> None:
    predicted(work, [0, 1, 2, 0, 0, 1])  # ant 2/2, bee 1/2, cat 1/2
    selection = select(work, "s", {"results": ["predict"]}, method="worst_classes", worst_classes=2)
    assert set(selection.labels[selection.kept]) == {1, 2} and selection.num_classes == 3
    assert set(words(selection).values()) == {"other_class"}
    with pytest.raises(RecipeError, match="port results"):
        select(work, "t", method="worst_classes")


def test_results_of_other_rows_are_refused(work: Path) -> None:
    predicted(work, [0, 1, 2, 0, 0, 1], rows=np.arange(1, 7))
    with pytest.raises(ArtifactError, match="other rows"):
        select(work, "s", {"results": ["predict"]}, method="worst_classes")


def test_down_weighting_marks_a_band(work: Path) -> None:
    stage(work, "rank", "rank", {"train": [trained(work, "m", {})]})
    band = {"start": 0.7, "stop": 0.9, "weight": 0.5}
    selection = select(
        work, "s", {"ranking": ["rank"]}, method="lowest_fraction", fraction=0.1, down_weight=band
    )
    assert sorted(words(selection).values()) == ["down_weighted"] * 6 + ["low_aum"] * 3
    assert sorted(selection.weights.tolist()) == [0] * 3 + [0.5] * 6 + [1] * 21


def test_threshold_samples_from_the_two_runs_to_the_flagged_rows(work: Path) -> None:
    parts = [select(work, f"part{p}", method="threshold_runs", part=p, seed=3) for p in (0, 1)]
    for part in parts:
        assert part.num_classes == 4 and part.kept.all()
        assert (part.labels == 3).sum() == TRAIN // 4
        assert set(words(part).values()) == {"threshold_sample"}
    samples = [set(part.rows[part.labels == 3].tolist()) for part in parts]
    assert not samples[0] & samples[1]

    wrong = {
        min(samples[0]),
        min(samples[1]),
        next(r for r in range(6, 36) if r not in samples[0] | samples[1]),
    }
    trains = []
    for number, (part, mine) in enumerate(zip(parts, samples)):
        low = dict.fromkeys(mine, -1.0) | dict.fromkeys(wrong - mine, -2.0)
        trains.append(trained(work, f"m{number}", low, classes=4, labels=part.labels))
    ports = {"train": trains, "threshold": ["part0", "part1"]}
    warnings: list[str] = []
    flagged = select(work, "s", ports, method="threshold_samples", warn=warnings)
    assert "7 samples are too few for a percentile of 99" in warnings[0]
    assert read_json(work / "s" / "selection.json")["threshold_samples"] == [7, 7]
    assert set(words(flagged)) == wrong and set(words(flagged).values()) == {"low_aum"}
    assert flagged.num_classes == 3 and flagged.labels.tolist() == [i % 3 for i in range(TRAIN)]
    assert read_json(work / "s" / "selection.json")["thresholds"] == [-1.0, -1.0]

    stage(work, "rank", "rank", {"train": trains, "selection": ["part0", "part1"]})
    ranking = read_ranking(work / "rank")
    below = ranking.rows[ranking.scores["aum"] < 0].tolist()
    assert set(below) == wrong  # each row is judged only where it had its own label
    with pytest.raises(RecipeError, match=r"threshold: 1"):
        select(work, "t", {"train": trains, "threshold": ["part0"]}, method="threshold_samples")


def test_what_the_threshold_runs_left_out_stays_out(work: Path) -> None:
    ports = {"check": [checked(work, {7: "truncated"})]}
    low = {12: -2.0}
    first = select(work, "part0", ports, method="threshold_runs")
    assert not first.kept[first.rows == 7].any()
    low |= dict.fromkeys(first.rows[first.labels == 3].tolist(), -1.0)
    trains = [trained(work, "m", low, classes=4, labels=first.labels)]
    selection = select(work, "s", {"train": trains, "threshold": ["part0"]}, method="threshold_samples")
    assert words(selection).get(7) == "bad:truncated"


def test_the_rank_stage_writes_all_three_files(work: Path) -> None:
    stage(work, "rank", "rank", {"train": [trained(work, "m", {10: -1.0}), trained(work, "n", {10: -2.0})]})
    summary = read_json(work / "rank" / "rank.json")
    assert summary == {"score": "aum", "models": 2, "unseen": 0, "seen_mean": 1.0, "rows": TRAIN}
    diagnosis = read_json(work / "rank" / "diagnosis.json")
    assert diagnosis["pairs"] == [{"label": "bee", "looks_like": "cat", "images": 1}]
    ranking = read_ranking(work / "rank")
    assert ranking.rows[ranking.cleanness.argmin()] == 10
    assert ranking.scores["aum"][4] == pytest.approx(-1.5)


def test_what_does_not_fit_is_refused(work: Path) -> None:
    with pytest.raises(RecipeError, match="goes by a ranking"):
        select(work, "s", method="lowest_fraction")
    with pytest.raises(RecipeError, match="goes by a ranking"):
        select(work, "t", down_weight={})
    Dynamics(Recorder(5).arrays()).save(work / "alien" / "dynamics", {})
    with pytest.raises(ArtifactError, match="different data sets"):
        stage(work, "rank", "r", {"train": ["alien"]})
    (work / "check").mkdir()
    pq.write_table(pa.table({"row": [1]}), work / "check" / "images.parquet")
    with pytest.raises(SmeltError, match=r"images\.parquet"):
        select(work, "u", {"check": ["check"]})


def test_equal_inputs_give_equal_bytes(work: Path) -> None:
    name = trained(work, "m", {10: -1.0})
    for attempt in ("a", "b"):
        stage(work, "rank", f"rank-{attempt}", {"train": [name]})
        select(work, f"select-{attempt}", {"ranking": [f"rank-{attempt}"]}, method="lowest_fraction")
    for kind in ("rank", "select"):
        files = sorted(path.name for path in (work / f"{kind}-a").iterdir() if path.is_file())
        assert files
        for file in files:
            assert (work / f"{kind}-a" / file).read_bytes() == (work / f"{kind}-b" / file).read_bytes()
