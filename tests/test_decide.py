"""Whether a step is taken: the stage `decide` on made-up results, and what stands in where it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import golden_cases
from smelt.artifacts import results
from smelt.artifacts.catalogue import Catalogue
from smelt.errors import ArtifactError, RecipeError
from smelt.files.committed import copy_files
from smelt.metrics import class_averaged
from smelt.mining.corrected import compare, label_right
from smelt.stages import decided
from smelt.stages.config import DecideSettings, Runtime
from smelt.stages.context import Context
from smelt.stages.context import run as run_stage

VIEW = "20x1"


def predicted(folder: Path, index: Path, right_N: np.ndarray[Any, Any]) -> Path:
    """A predict artefact whose validation images are right where `right_N` says so, else one class off."""
    catalogue = Catalogue.open(index / "catalogue")
    rows = catalogue.rows("val")
    labels = catalogue.labels_N[rows]
    named = np.where(right_N, labels, (labels + 1) % len(catalogue.classes))
    scores = np.eye(len(catalogue.classes), dtype=np.float32)[named] * 3
    info = results.describe(folder.name, VIEW, "val", rows, catalogue.classes)
    (folder / "val").mkdir(parents=True)
    results.write_dense(folder / "val" / f"{VIEW}.npy", iter([scores]), info, rows)
    return folder


def decision(
    tmp_path: Path, before: Any, *tried: Any, settings: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What is decided between results that are right where the arrays say so."""
    index = golden_cases.catalogue(tmp_path / "index")
    folders = [predicted(tmp_path / f"p{number}", index, one) for number, one in enumerate((before, *tried))]
    names = [f"try {number}" for number in range(len(tried))]
    given = {
        "view": VIEW,
        "tries": names,
        "metric": "top1",
        "validation_labels": "checked",
        **(settings or {}),
    }
    out = tmp_path / "out"
    (out / "scratch").mkdir(parents=True)
    ports = {"catalogue": [index], "before": [folders[0]], "tried": folders[1:]}
    run_stage("decide", given, inputs=ports, out=out, scratch=out / "scratch")
    found: dict[str, Any] = json.loads((out / "decision.json").read_text())
    return found


def right(share: float, seed: int = 0) -> np.ndarray[Any, Any]:
    """Which of the 70 validation images are right."""
    return np.random.default_rng(seed).random(70) < share


def test_a_step_that_climbs_is_taken_and_the_best_of_several(tmp_path: Path) -> None:
    base = right(0.4)
    better, best = base | right(0.3, 1), base | right(0.7, 2)
    found = decision(tmp_path, base, better, best)
    assert found["chosen"] == 2 and found["words"].startswith("used: try 1: +")
    labels = Catalogue.open(tmp_path / "index" / "catalogue")
    truth = labels.labels_N[labels.rows("val")]
    for one, hits in zip(found["tries"], (better, best)):
        assert one["accuracy"] == pytest.approx(class_averaged(hits, truth), abs=1e-6)
        gain = class_averaged(hits, truth) - class_averaged(base, truth)
        assert one["gain"] == pytest.approx(gain, abs=1e-6)
    assert found["before"] == pytest.approx(class_averaged(base, truth), abs=1e-6)


def test_a_step_that_does_not_climb_says_so(tmp_path: Path) -> None:
    base = right(0.6)
    found = decision(tmp_path, base, base & right(0.8, 1))
    assert found["chosen"] == 0 and found["words"].startswith("not used: it does not climb; try 0: -")


def test_a_step_within_chance_is_not_taken(tmp_path: Path) -> None:
    base = right(0.6)
    other = base.copy()
    wrong, good = np.flatnonzero(~base), np.flatnonzero(base)
    other[wrong[:9]], other[good[:7]] = True, False  # 2 more of 70, of 16 that changed
    found = decision(tmp_path / "a", base, other)
    assert found["chosen"] == 0 and "too few images to tell" in found["words"]
    assert 0 < found["tries"][0]["gain"] < found["tries"][0]["standard_error"]
    assert decision(tmp_path / "b", base, other, settings={"standard_errors": 0.0})["chosen"] == 1


def test_equal_results_are_no_step(tmp_path: Path) -> None:
    base = right(0.6)
    assert decision(tmp_path, base, base, settings={"standard_errors": 0.0})["chosen"] == 0


def test_top_five_of_seven_classes_is_compared_where_fusion_goes_by_it(tmp_path: Path) -> None:
    base = right(0.3)
    found = decision(tmp_path, base, right(0.9, 1), settings={"metric": "auto"})
    assert found["metric"] == "top5"


def test_without_labels_nothing_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden_cases, "COUNTS", {"train": 42, "val": 0, "test": 70})
    index = golden_cases.catalogue(tmp_path / "index")
    out = tmp_path / "out"
    (out / "scratch").mkdir(parents=True)
    given = {"view": VIEW, "tries": ["a"]}
    ports = {"catalogue": [index], "before": [tmp_path], "tried": [tmp_path]}
    run_stage("decide", given, inputs=ports, out=out, scratch=out / "scratch")
    found = json.loads((out / "decision.json").read_text())
    assert found["chosen"] == 0 and "no image of validation has a label" in found["words"]


def test_results_that_are_cut_to_the_best_are_judged_alike(tmp_path: Path) -> None:
    """Hits are the same; what is cut off is spread over the other classes."""
    from smelt.stages import decide

    index = golden_cases.catalogue(tmp_path / "index")
    catalogue = Catalogue.open(index / "catalogue")
    rows = catalogue.rows("val")
    scores = np.random.default_rng(0).normal(0, 2, (len(rows), 7)).astype(np.float16)
    info = results.describe("m", VIEW, "val", rows, catalogue.classes)
    for name in ("a", "b"):
        (tmp_path / name / "val").mkdir(parents=True)
    results.write_dense(tmp_path / "a" / "val" / f"{VIEW}.npy", scores, info, rows)
    cut = tmp_path / "b" / "val" / (VIEW + results.TOPK)
    results.write_topk(cut, results.cut(scores, 5), info, rows)
    whole, labels = decide.result_of(tmp_path / "a", VIEW, rows), catalogue.labels_N[rows]
    assert decide.result_of(tmp_path / "b", VIEW, rows) == cut
    for k in (1, 5):
        assert np.array_equal(decide.hits_of(whole, labels, k), decide.hits_of(cut, labels, k))
    with pytest.raises(ArtifactError, match="5 scores of each image: too few for top-6"):
        decide.hits_of(cut, labels, 6)
    one, other = decide.probabilities(whole), decide.probabilities(cut)
    assert np.allclose(other.sum(axis=1), 1, atol=1e-3)
    kept = np.argsort(-scores, axis=1)[:, :5]
    assert np.allclose(np.take_along_axis(one, kept, 1), np.take_along_axis(other, kept, 1), atol=2e-3)


def test_results_of_another_view_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="under the view 99x9"):
        decision(tmp_path, right(0.5), right(0.5, 1), settings={"view": "99x9"})


def test_crawled_labels_count_as_far_as_they_are_right(tmp_path: Path) -> None:
    """By all that is compared together; who is compared with whom is no matter."""
    base, other = right(0.5), right(0.8, 1)
    found = decision(tmp_path, base, other, settings={"validation_labels": "crawled"})
    index = Catalogue.open(tmp_path / "index" / "catalogue")
    labels = index.labels_N[index.rows("val")]
    files = [tmp_path / name / "val" / f"{VIEW}.npy" for name in ("p0", "p1")]
    likely = [np.exp(results.open_dense(path)[0].astype(np.float64)) for path in files]
    mean = np.mean([one / one.sum(axis=1, keepdims=True) for one in likely], axis=0)
    weights = label_right(labels, mean)
    assert 0 < weights.min() < 0.9 < weights.max() <= 1
    assert found["labels"].startswith("crawled, each counts")
    assert found["tries"][0]["gain"] == pytest.approx(compare(other, base, labels, weights).gain, abs=1e-3)
    assert found["tries"][0]["gain"] != pytest.approx(compare(other, base, labels).gain, abs=1e-3)


class Standing:
    """A context with a decision, artefacts of a round before and of two tries."""

    def __init__(self, tmp_path: Path, chosen: int, instead: int) -> None:
        self.folders = []
        for number in range(instead):
            folder = tmp_path / f"a{number}"
            (folder / "deep").mkdir(parents=True)
            (folder / "deep" / "file").write_text(f"artefact {number}")
            (folder / "manifest.json").write_text("{}")
            self.folders.append(folder)
        (tmp_path / "decision").mkdir()
        (tmp_path / "decision" / "decision.json").write_text(json.dumps({"chosen": chosen, "words": "so"}))
        self.out = tmp_path / "out"
        self.out.mkdir()
        self.context = Context(
            DecideSettings(view=VIEW, tries=("a",)),
            {"decision": [tmp_path / "decision"], "instead": self.folders},
            self.out, self.out / "scratch", Runtime(),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "instead", "takes"), [(0, 1, 0), (0, 3, 0), (2, 3, 2), (1, 1, None), (2, 1, None)]
)
def test_what_stands_in(tmp_path: Path, chosen: int, instead: int, takes: int | None) -> None:
    """0 is the round before; a try only stands in where this very model was trained in it."""
    standing = Standing(tmp_path, chosen, instead)
    assert decided.hand_on(standing.context) == (takes is not None)
    if takes is None:
        assert not list(standing.out.iterdir())
    else:
        assert (standing.out / "deep" / "file").read_text() == f"artefact {takes}"
        assert not (standing.out / "manifest.json").exists()  # the new artefact has its own


def test_nothing_stands_in_where_nothing_was_decided(tmp_path: Path) -> None:
    context = Context(DecideSettings(view=VIEW, tries=("a",)), {}, tmp_path, tmp_path, Runtime())
    assert decided.standing_in(context) is None and not decided.hand_on(context)


def test_a_copy_that_was_killed_is_made_anew(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "x").mkdir(parents=True)
    (source / "x" / "y").write_bytes(bytes(1000))
    (target / "x").mkdir(parents=True)
    (target / "x" / "y").write_bytes(b"torn")
    copy_files(source, target)
    assert (target / "x" / "y").read_bytes() == bytes(1000)


def test_the_library_says_that_auto_takes_a_flowchart() -> None:
    import smelt

    with pytest.raises(RecipeError, match="as a flowchart does"):
        smelt.select(np.array([0, 1, 0, 1]), np.arange(4.0), method="auto")
