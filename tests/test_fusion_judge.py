"""Judging: folds, intervals, the guard, temperatures, similarity; a fusion is chosen by what holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smelt.artifacts.results import Kind, cut
from smelt.fusion import worth
from smelt.fusion.apply import Fusion, apply, fused_lines, plain_hits, top_classes, top_classes_of_all
from smelt.fusion.config import FuseSettings, GeneticSettings, Method
from smelt.fusion.exact.pooled import Tables
from smelt.fusion.fitting.fits import Option
from smelt.fusion.fitting.folded import Counts, joined, lefts
from smelt.fusion.fitting.method import simple
from smelt.fusion.folds import make_folds
from smelt.fusion.guard import Choice, Setup, certainty, evidence, guarded, in_words
from smelt.fusion.judge import Judge
from smelt.fusion.procedure import fuse
from smelt.fusion.scores import temperature
from smelt.fusion.scores.reference import fused, normalised
from smelt.fusion.scores.soften import softmax
from smelt.fusion.scores.sources import Held, Kept, Pool
from smelt.metrics import before_label, class_averaged, hits_topk

QUICK = FuseSettings(
    metric="top1",
    folds=3,
    bootstrap=300,
    shrinkage=(0.0, 0.5),
    genetic=GeneticSettings(population=16, generations=15),
)


MEANS = ("mean_probability", "mean_log_probability", "mean_rank")


def sources_of(scores_MNC: np.ndarray) -> list[Held]:
    return [Held(f"m{m}", "logits", one, one.shape[1]) for m, one in enumerate(scores_MNC)]


def problem(good: float, seed: int = 0, images: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """Six results: equally good ones for good = 1, two much better ones for a larger value."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 8, images)
    signal = np.array([good, good, 1, 1, 1, 1])[:, None, None]
    scores = signal * np.eye(8)[labels] + 1.2 * random.normal(size=(6, images, 8))
    return scores.astype(np.float16), labels


def judge_of(
    scores: np.ndarray,
    labels: np.ndarray,
    settings: FuseSettings = QUICK,
    folds: np.ndarray | None = None,
) -> Judge:
    """A judge over given folds."""
    sources, labels = sources_of(scores), labels.astype(np.int32)
    tables = Tables(sources, labels, settings, folder=None)
    judge = Judge(sources, labels, tables, settings, num_classes=scores.shape[2])
    if folds is not None:
        judge.folds_N = judge.fits.folds_N = folds
        judge.fits.counts = Counts(labels, folds, judge.count)
    return judge


def test_nothing_fitted_or_chosen_for_a_fold_saw_its_labels() -> None:
    """Permute the labels of one fold: whatever leaves that fold out stays the same, to the last bit."""
    scores, labels = problem(good=2.0, images=420)
    settings = QUICK.model_copy(update={"folds": 4})
    assert len(settings.methods) == 11
    folds = make_folds(labels, 4, 0)
    other = labels.copy()
    other[folds == 2] = np.random.default_rng(5).permutation(labels[folds == 2])
    one, two = judge_of(scores, labels, settings, folds), judge_of(scores, other, settings, folds)
    changed = set()
    for method in settings.methods:
        for mine, theirs in zip(one.options[method], two.options[method], strict=True):
            for left in lefts(4):
                if 2 in left:
                    assert mine.fusions[left] == theirs.fusions[left], (method, left)
                elif mine.fusions[left] != theirs.fusions[left]:
                    changed.add(method)
    assert changed >= {
        method for method in settings.methods if not simple(method)
    }  # and the labels do matter where they are seen
    ours, theirs = one.choices(), two.choices()
    assert ours[2,].method == theirs[2,].method and ours[2,].rival == theirs[2,].rival
    assert ours[2,].accuracies == theirs[2,].accuracies and ours[2,].sure == theirs[2,].sure
    for method in settings.methods:
        assert ours[2,].options[method].fusions[2,] == theirs[2,].options[method].fusions[2,]
    assert ours[()].accuracies != theirs[()].accuracies


def test_what_is_held_out_is_what_fits_without_the_fold_give() -> None:
    """Against every fold's images one by one: the choice without the fold, applied to them."""
    scores, labels = problem(good=3.0, images=300)
    judge = judge_of(scores, labels)
    choices, found = judge.choices(), judge.judgement()
    for k in (1, 5):
        expected = np.zeros(300, bool)
        for fold in range(judge.count):
            choice = choices[fold,]
            fusion = choice.options[choice.method].fusions[fold,]
            mine = judge.folds_N == fold
            expected[mine] = plain_hits(fusion, sources_of(scores), labels, np.arange(300), (k,))[k][mine]
        assert np.array_equal(found.held_out[k], expected)
    assert found.taken == tuple(choices[fold,].method for fold in range(judge.count))
    assert found.chosen == choices[()].options[choices[()].method].final


def test_inner_hits_are_of_fits_without_either_fold() -> None:
    scores, labels = problem(good=2.0, images=240)
    judge = judge_of(scores, labels)
    for method in ("linear_pool", "genetic", "tempered_probability", "mean_rank", "stacking"):
        option = judge.options[method][0]
        per_fold = option.inner((1,), 3)
        assert (
            set(per_fold) == {0, 2} and per_fold[0] == option.fusions[joined((1,), 0)] == option.fusions[0, 1]
        )
        hits = judge.evaluator.hits([per_fold], (1,))[1][0]
        assert not hits[judge.folds_N == 1].any()
        right = plain_hits(per_fold[2], sources_of(scores), labels, np.arange(240), (1,))[1]
        assert np.array_equal(hits[judge.folds_N == 2], right[judge.folds_N == 2])


def setup_of(method: Method, accuracy: float) -> Setup:
    fusion = Fusion(method, "probability", (1.0,))
    return Setup(Option({(): fusion}), np.zeros(0, bool), accuracy, None)


def drawn_of(*gains: tuple[float, float, float]) -> np.ndarray:
    """Bootstrap samples of methods: (mean gain in accuracy, its spread, log likelihood or NaN)."""
    random = np.random.default_rng(0)
    return np.stack(
        [np.stack([g + s * random.normal(size=2000), likely + 0.01 * random.normal(size=2000)], 1)
         for g, s, likely in gains], 1,
    )  # fmt: skip


def choice_of(sure: float = 0.8, **methods: tuple[float, float, float]) -> Choice:
    """The guard on methods given by (gain, spread, likelihood); the first is the plain average."""
    setups: dict[Method, Setup] = {m: setup_of(m, 0.8 + gain[0]) for m, gain in methods.items()}
    return guarded(setups, drawn_of(*methods.values()), next(iter(setups)), sure)


NO = float("nan")


def test_the_guard_asks_for_certainty() -> None:
    plain = (0.0, 0.0, NO)
    found = choice_of(mean_probability=plain, genetic=(0.01, 0.005, NO))
    assert found.method == "genetic" and found.rival == "mean_probability" and found.sure["genetic"] > 0.95
    assert "genetic is used" in in_words(found, 0.8, "mean_probability", 0.008, (0.001, 0.02))
    found = choice_of(mean_probability=plain, genetic=(0.01, 0.05, NO))
    words = in_words(found, 0.8, "mean_probability", 0.0, (0.0, 0.0))
    assert found.method == "mean_probability" and "plain average" in words and "with only" in words
    found = choice_of(mean_probability=plain, genetic=(-0.02, 0.05, NO))
    words = in_words(found, 0.8, "mean_probability", 0.0, (0.0, 0.0))
    assert found.method == "mean_probability" and "nothing beats it" in words and "-2.00" in words
    found = choice_of(mean_probability=plain)
    assert "nothing else was tried" in in_words(found, 0.8, "mean_probability", 0.0, (0.0, 0.0))


def test_another_simple_mean_needs_the_same_certainty() -> None:
    plain = (0.0, 0.0, NO)
    found = choice_of(mean_probability=plain, mean_rank=(0.01, 0.05, NO))
    assert found.method == found.rival == "mean_probability"
    found = choice_of(mean_probability=plain, mean_rank=(0.01, 0.005, NO))
    assert found.method == found.rival == "mean_rank"
    assert "mean rank is used" in in_words(found, 0.8, "mean_probability", 0.01, (0.0, 0.02))
    # and fitted weights are then compared with that one
    found = choice_of(mean_probability=plain, mean_rank=(0.01, 0.002, NO), greedy=(0.0102, 0.002, NO))
    assert found.method == "mean_rank"


def test_the_same_hits_are_no_gain() -> None:
    """Strictly more, in accuracy and in every sample that counts."""
    plain = (0.0, 0.0, 0.0)
    assert choice_of(mean_probability=plain, genetic=(0.0, 0.0, 1.0)).method == "mean_probability"
    assert choice_of(mean_probability=plain, genetic=(0.0, 0.0, NO)).sure["genetic"] == 0.0
    assert certainty(np.zeros((100, 2))) == 0.0
    # four equal results: whatever is fitted gives the very hits of the plain average
    scores, labels = problem(good=1.0, images=300)
    outcome = fuse(sources_of(np.stack([scores[0]] * 4)), labels, QUICK, num_classes=8)
    assert outcome.chosen.method == "mean_probability"
    assert outcome.record["held_out"]["gain"] == 0 and outcome.record["held_out"]["gain_interval"] == [0, 0]


def test_likelihood_adds_to_certainty_and_cannot_replace_accuracy() -> None:
    plain = (0.0, 0.0, 0.0)
    assert choice_of(mean_probability=plain, linear_pool=(0.001, 0.004, NO)).method == "mean_probability"
    assert choice_of(mean_probability=plain, linear_pool=(0.001, 0.004, 0.05)).method == "linear_pool"
    assert choice_of(mean_probability=plain, linear_pool=(0.001, 0.004, -0.05)).method == "mean_probability"
    assert choice_of(mean_probability=plain, linear_pool=(-0.001, 0.004, 0.5)).method == "mean_probability"


def test_evidence_is_in_common_units() -> None:
    """A tiny gain that is sure is worth less than a large one that is nearly as sure."""
    drawn = drawn_of((0.0001, 0.00001, NO), (0.01, 0.002, NO))
    worth = evidence(np.moveaxis(drawn, 1, 0))
    assert worth[1] > 50 * worth[0] > 0


def test_counts_by_fold_give_class_averaged_accuracy() -> None:
    """Few images of some classes: a mean over images would be another figure."""
    random = np.random.default_rng(0)
    labels = random.choice(5, 200, p=[0.7, 0.2, 0.05, 0.04, 0.01])
    folds = make_folds(labels, 4, 0)
    hits = random.random((3, 200)) < np.linspace(0.2, 0.9, 5)[labels]
    counts = Counts(labels, folds, 4)
    for left in lefts(4):
        seen = ~np.isin(folds, left)
        expected = [class_averaged(one[seen], labels[seen]) for one in hits]
        assert counts.accuracy(counts.right(hits), left).tolist() == expected
        assert abs(expected[0] - hits[0, seen].mean()) > 0.01


def test_weights_are_used_where_they_help_and_only_there() -> None:
    scores, labels = problem(good=4.0)
    outcome = fuse(sources_of(scores), labels, QUICK, num_classes=8)
    assert not simple(outcome.chosen.method)
    fresh, fresh_labels = problem(good=4.0, seed=1)
    hits = plain_hits(outcome.chosen, sources_of(fresh), fresh_labels, np.arange(1200), (1,))[1]
    plain = hits_topk(fused(fresh, normalised(np.ones(6))), fresh_labels, 1)
    assert class_averaged(hits, fresh_labels) > class_averaged(plain, fresh_labels) + 0.005
    scores, labels = problem(good=1.0, images=4000)
    outcome = fuse(sources_of(scores), labels, QUICK, num_classes=8)
    # equally good results: whatever is chosen must not cost anything worth mentioning
    fresh, fresh_labels = problem(good=1.0, seed=1, images=4000)
    hits = plain_hits(outcome.chosen, sources_of(fresh), fresh_labels, np.arange(4000), (1,))[1]
    plain = hits_topk(fused(fresh, normalised(np.ones(6))), fresh_labels, 1)
    assert class_averaged(hits, fresh_labels) > class_averaged(plain, fresh_labels) - 0.01


def test_held_out_accuracy_is_honest() -> None:
    """Labels at random: whatever a search finds on its folds, held out it has nothing."""
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(12, 600, 2)).astype(np.float16), random.integers(0, 2, 600)
    outcome = fuse(sources_of(scores), labels, QUICK, num_classes=2)
    genetic = next(m for m in outcome.record["methods"] if m["method"] == "genetic")
    assert genetic["chosen_by"]["top1"] > 0.53
    assert abs(genetic["held_out"]["top1"] - 0.5) < 0.05


def test_the_record_is_what_it_says_and_repeats() -> None:
    scores, labels = problem(good=2.0, images=400)
    labels = labels.copy()
    labels[:20] = -1
    one = fuse(sources_of(scores), labels, QUICK, num_classes=8)
    assert one.record == fuse(sources_of(scores), labels, QUICK, num_classes=8).record
    assert one.record["images"] == 380
    known = labels >= 0
    for method, fusion in zip(one.record["methods"], one.fusions):
        assert Fusion.from_json(method) == fusion
        hits = plain_hits(fusion, sources_of(scores), labels, np.flatnonzero(known), (1, 5))
        for k in (1, 5):
            assert method["chosen_by"][f"top{k}"] == class_averaged(hits[k], labels[known])
    for m, result in enumerate(one.record["results"]):
        assert result["accuracy"]["top1"] == class_averaged(
            hits_topk(scores[m], labels, 1)[known], labels[known]
        )
    curve = one.record["curve"]
    assert [point["results"] for point in curve] == [1, 2, 3, 4, 5, 6]
    assert curve[0]["accuracy"] == max(result["accuracy"]["top1"] for result in one.record["results"])


def test_losses_without_each_result() -> None:
    scores, labels = problem(good=3.0, images=300)
    outcome = fuse(sources_of(scores), labels, QUICK, num_classes=8)
    weights = np.array(outcome.chosen.weights)
    values, _ = outcome.chosen.pool(sources_of(scores)).block(np.arange(300), labels)
    whole = class_averaged(hits_topk(fused(values, normalised(weights)), labels, 1), labels)
    for m, result in enumerate(outcome.record["results"]):
        left = weights * (np.arange(6) != m)
        without = class_averaged(hits_topk(fused(values, normalised(left)), labels, 1), labels)
        assert result["without"] == pytest.approx(whole - without)


def test_similarity_is_the_correlation_of_errors() -> None:
    random = np.random.default_rng(0)
    hits = random.random((5, 300)) < 0.7
    hits[4] = True
    found = worth.similarity(hits, np.zeros(300, int))
    assert found[:4, :4] == pytest.approx(np.corrcoef(hits[:4]), abs=1e-4)
    assert (found[4, :4] == 0).all() and found[4, 4] == 1


def test_temperature_is_the_most_likely_one() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 6)) * 2
    chance = softmax(logits.astype(np.float32) / np.float32(2.5))
    labels = np.array([random.choice(6, p=p / p.sum()) for p in chance.astype(np.float64)])
    found = temperature.fit(Held("x", "logits", logits.astype(np.float16)), labels, np.arange(4000), 0)
    assert found == pytest.approx(2.5, rel=0.1)
    probabilities = Held("x", "probabilities", softmax(logits.astype(np.float32)))
    assert temperature.fit(probabilities, labels, np.arange(4000), 0) == pytest.approx(found, rel=0.041)


def test_temperatures_for_every_set_of_folds_are_those_of_a_plain_search() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(900, 5)).astype(np.float32) * 3
    labels = np.argmax(logits + 2 * random.gumbel(size=logits.shape), axis=1)
    folds = make_folds(labels, 3, 0)
    lines = np.arange(900)
    found = temperature.fits(Held("x", "logits", logits), labels, lines, folds, lefts(3))
    for left, one in zip(lefts(3), found):
        seen = ~np.isin(folds, left)
        losses = []
        grid = np.exp(np.linspace(-1, 3, 2001))
        for one_of in grid:
            scaled = logits[seen].astype(float) / one_of
            losses.append(
                (np.log(np.exp(scaled).sum(1)) - scaled[np.arange(seen.sum()), labels[seen]]).mean()
            )
        assert one == pytest.approx(grid[int(np.argmin(losses))], rel=0.025)  # half a step, and the grid's
        assert np.log(one) / temperature.STEP == pytest.approx(round(np.log(one) / temperature.STEP))


def test_without_labels_the_plain_average() -> None:
    scores, _ = problem(good=1.0, images=30)
    for labels in (None, np.full(30, -1)):
        outcome = fuse(sources_of(scores), labels, FuseSettings(), num_classes=8)
        assert outcome.chosen.method == "mean_probability" and "without labels" in outcome.record["words"]


def test_top_k_results_are_certified() -> None:
    scores, labels = problem(good=2.0, images=500)
    tops = [Held(f"m{m}", "logits", cut(one, 4), 8) for m, one in enumerate(scores)]
    outcome = fuse(tops, labels, QUICK, num_classes=8)
    assert any("needs every score" in line for line in outcome.record["left_out"])
    for method, fusion in zip(outcome.record["methods"], outcome.fusions):
        low, high = method["certified"]["top1"]
        values, _ = fusion.pool(sources_of(scores)).block(np.arange(500), labels)
        real = class_averaged(hits_topk(fused(values, normalised(fusion.weights)), labels, 1), labels)
        assert low <= real <= high


def test_apply_streams_what_the_definition_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smelt.fusion.apply.ELEMENTS", 100)
    scores, _ = problem(good=1.0, images=70)
    fusion = Fusion(
        "genetic", "probability", tuple(map(float, normalised([3, 0, 1, 0, 2, 1]))), 0.0, (1, 2, 3, 1, 1, 0.5)
    )
    blocks = list(apply(fusion, sources_of(scores), 70))
    assert len(blocks) > 5 and np.array_equal(np.concatenate([lines for lines, _ in blocks]), np.arange(70))
    values = np.stack(
        [softmax(s.astype(np.float32) / np.float32(t)) for s, t in zip(scores, fusion.temperatures or ())]
    )
    expected = fused(values, normalised(fusion.weights))
    assert np.array_equal(np.concatenate([block for _, block in blocks]), expected)
    best = np.argsort(-expected, axis=1, kind="stable")[:, :3]
    other = Fusion("mean_rank", "rank", (1.0,) * 6)
    both = top_classes_of_all([other, fusion], sources_of(scores), 70, 3)
    assert np.array_equal(both[1], best) and not np.array_equal(both[0], best)
    assert np.array_equal(top_classes(other, sources_of(scores), 70, 3), both[0])


def test_the_middle_of_cut_scores_keeps_the_tail() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20, 30)).astype(np.float16)
    pool = Pool([Held("x", "logits", cut(logits, 5), 30)], "log_probability")
    middle = pool.guess(0, np.arange(20)).astype(np.float64)
    real = logits.astype(np.float64)
    kept = np.argsort(-real, axis=1)[:, :5]
    assert np.array_equal(np.take_along_axis(middle, kept, 1), np.take_along_axis(real, kept, 1))
    for a, b in ((middle, real),):
        mass = [1 - np.exp(np.take_along_axis(x, kept, 1)).sum(1) / np.exp(x).sum(1) for x in (a, b)]
        assert mass[0] == pytest.approx(mass[1], rel=0.02)


@pytest.mark.shared
@pytest.mark.slow
def test_real_logits_hold_out_no_less_than_the_plain_average(shared_data: Path) -> None:
    """Ten halves of real results, valued on the other half: never to lose anything worth mentioning."""
    scores = np.load(shared_data / "logits" / "cifar10_test_logits_f16.npy")
    labels = np.load(shared_data / "logits" / "cifar10_test_labels.npy")
    gains = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(labels))
        one, other = order[:5000], order[5000:]
        settings = FuseSettings(metric="top1", seed=seed)
        outcome = fuse(sources_of(scores[:, one]), labels[one], settings, num_classes=10)
        fresh = sources_of(scores[:, other])
        plain = Fusion("mean_probability", "probability", (1.0,) * 19)
        hits = [
            plain_hits(f, fresh, labels[other], np.arange(5000), (1,))[1] for f in (outcome.chosen, plain)
        ]
        gains.append(class_averaged(hits[0], labels[other]) - class_averaged(hits[1], labels[other]))
    assert np.mean(gains) > 0 and min(gains) > -0.001


def test_small_and_large_problems_fuse_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept in memory, or read block by block and valued over tables on disk: to the bit."""
    scores, labels = problem(good=2.0, images=400)

    def fused_now() -> tuple[Any, dict[str, Any]]:
        outcome = fuse(sources_of(scores), labels, QUICK, num_classes=8, folder=tmp_path / "tables")
        sizes = ("undecided", "candidates")  # the large way's table knows top-5, too
        return outcome.fusions, {k: v for k, v in outcome.record.items() if k not in sizes}

    small = fused_now()
    assert not (tmp_path / "tables").exists()
    monkeypatch.setattr("smelt.fusion.procedure.KEPT", 0)
    assert fused_now() == small
    monkeypatch.setattr("smelt.fusion.procedure.SMALL", 0)
    monkeypatch.setattr("smelt.fusion.fitting.fits.PLAIN", 0)
    monkeypatch.setattr("smelt.fusion.exact.hits.halved", lambda numbers: True)
    large = fused_now()
    assert (tmp_path / "tables" / "probability-low" / "candidates.json").exists()
    assert large == small


@pytest.mark.parametrize("classes", [3, 31, 32, 50])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_what_is_kept_is_what_is_read(kind: Kind, classes: int) -> None:
    """Laid out by fold, class after class: the same bits as from the stored scores, line for line."""
    random = np.random.default_rng(0)
    scores = (4 * random.normal(size=(2, 500, classes))).round(1).astype(np.float16)
    if kind == "probabilities":
        chances = np.exp(scores.astype(np.float64))
        scores = (chances / chances.sum(axis=2, keepdims=True)).astype(np.float16)
    plain = [Held(str(place), kind, one, classes) for place, one in enumerate(scores)]
    kept = [Kept(source, 500) for source in plain]
    folds = random.integers(3, size=500)
    shared = {"weights": (0.3, 0.7)}
    fusions = [
        *(Fusion("greedy", pooling, **shared) for pooling in ("probability", "log_probability", "rank")),
        Fusion("tempered_probability", "probability", **shared, temperatures=(0.7, 1.9)),
        Fusion("stacking", "log_probability", **shared, biases=tuple(random.normal(size=classes).tolist()),
               class_weights=tuple(map(tuple, random.random((2, classes)).tolist()))),
    ]  # fmt: skip
    asked = [np.flatnonzero(folds == 1), np.arange(40, 90), np.array([3, 2, 499, 2]), np.arange(500)]
    for order in (None, np.argsort(folds, kind="stable"), random.permutation(500)):
        for source in kept:
            if order is not None:
                source.arrange(order)
        for lines in asked:
            expected = fused_lines(fusions, plain, lines)
            for one, other in zip(fused_lines(fusions, kept, lines), expected, strict=True):
                assert np.array_equal(one, other)
                label = random.integers(classes, size=len(lines))
                assert np.array_equal(before_label(one, label), before_label(other, label))


@pytest.mark.parametrize("classes", [8, 40])
@pytest.mark.parametrize("kept", [True, False])
def test_scores_in_either_memory_order_fuse_alike(
    kept: bool, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays saved in Fortran order, as transposed ones are: to the bit."""
    if not kept:
        monkeypatch.setattr("smelt.fusion.procedure.KEPT", 0)
    random = np.random.default_rng(classes)
    labels = random.integers(classes, size=200)
    scores = (2 * np.eye(classes)[labels] + random.normal(size=(3, 200, classes))).astype(np.float16)
    turned = [Held(f"m{m}", "logits", np.asfortranarray(one), classes) for m, one in enumerate(scores)]
    asked = QUICK.model_copy(update={"methods": (*MEANS, "tempered_probability", "log_pool", "genetic")})
    one, other = (fuse(some, labels, asked, num_classes=classes) for some in (sources_of(scores), turned))
    assert one.fusions == other.fusions and one.record == other.record


@pytest.mark.parametrize("classes", [2, 31, 32, 300])
def test_probabilities_are_the_same_bits_in_either_memory_order(classes: int) -> None:
    logits = (5 * np.random.default_rng(0).normal(size=(700, classes))).astype(np.float32)
    for softness in (1.0, 0.6):
        assert np.array_equal(softmax(np.asfortranarray(logits), softness), softmax(logits, softness))


def test_small_fusions_do_not_load_torch() -> None:
    """Loading it takes longer than fusing twenty results of ten classes."""
    code = (
        "import sys, numpy as np\n"
        "from smelt.fusion.config import FuseSettings\n"
        "from smelt.fusion.procedure import fuse\n"
        "from smelt.fusion.scores.sources import Held\n"
        "r = np.random.default_rng(0)\n"
        "s = [Held(str(m), 'logits', r.normal(size=(3000, 9)).astype(np.float16), 9) for m in range(4)]\n"
        "fuse(s, r.integers(0, 9, 3000), FuseSettings(metric='top1', bootstrap=100), num_classes=9)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_products_keep_to_one_thread_while_fusing(monkeypatch: pytest.MonkeyPatch) -> None:
    from threadpoolctl import threadpool_info

    def threads() -> set[int]:
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    scores, labels = problem(good=1.0, images=200)
    before, during = threads(), set[int]()
    real = Judge.judgement
    monkeypatch.setattr(Judge, "judgement", lambda self: during.update(threads()) or real(self))
    fuse(sources_of(scores), labels, QUICK, num_classes=8)
    assert during == {1} and threads() == before
