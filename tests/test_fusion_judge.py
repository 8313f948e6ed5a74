"""Judging: folds, intervals, the guard, temperatures, likeness; and that a fusion is chosen by what holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smelt.artifacts.results import cut
from smelt.fusion import explain, temperature
from smelt.fusion.apply import Fusion, apply, plain_hits, top_classes, top_classes_of_all
from smelt.fusion.config import MEANS, FuseSettings, GeneticSettings
from smelt.fusion.judge import Verdict, bootstrap, guard, make_folds
from smelt.fusion.reference import fused, normalised
from smelt.fusion.run import fuse
from smelt.fusion.soften import softmax
from smelt.fusion.sources import Held, Pool
from smelt.metrics import class_averaged, hits_topk

QUICK = FuseSettings(
    metric="top1",
    folds=3,
    bootstrap=300,
    shrinkage=(0.0, 0.5),
    genetic=GeneticSettings(population=16, generations=15),
)


def sources_of(scores_MNC: np.ndarray) -> list[Held]:
    return [Held(f"m{m}", "logits", one, one.shape[1]) for m, one in enumerate(scores_MNC)]


def problem(good: float, seed: int = 0, images: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """Six results: equally good ones for good = 1, two much better ones for a larger value."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 8, images)
    signal = np.array([good, good, 1, 1, 1, 1])[:, None, None]
    scores = signal * np.eye(8)[labels] + 1.2 * random.normal(size=(6, images, 8))
    return scores.astype(np.float16), labels


def test_folds_spread_classes_evenly() -> None:
    labels = np.random.default_rng(0).integers(-1, 7, 500)
    folds = make_folds(labels, 5, 1)
    assert ((folds == -1) == (labels < 0)).all()
    for label in range(7):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(folds, make_folds(labels, 5, 1)) and not np.array_equal(
        folds, make_folds(labels, 5, 2)
    )


def test_bootstrap_is_that_of_classes_and_images() -> None:
    """Against drawing classes and images one by one."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 9, 240)
    one, other = random.random(240) < 0.8, random.random(240) < 0.7
    gains = bootstrap(one, other, labels, 4000, 0)
    drawn = []
    difference = one.astype(float) - other
    for _ in range(4000):
        classes = random.integers(0, 9, 9)
        drawn.append(
            np.mean([random.choice(difference[labels == c], (labels == c).sum()).mean() for c in classes])
        )
    expected = class_averaged(one, labels) - class_averaged(other, labels)
    assert gains.mean() == pytest.approx(expected, abs=0.004)
    assert gains.std() == pytest.approx(np.std(drawn), rel=0.08)
    assert (bootstrap(one, one, labels, 10, 0) == 0).all()


def verdict(method: str, accuracy: float, sure: float) -> Verdict:
    return Verdict(Fusion(method, "probability", (1.0,)), {}, accuracy, 0.0, 0.0, 0.0, sure)  # type: ignore[arg-type]


def test_the_guard_says_what_it_does() -> None:
    plain, log = verdict("mean_probability", 0.80, 0), verdict("mean_log_probability", 0.79, 0)
    chosen, words = guard([plain, log, verdict("genetic", 0.81, 0.95)], "mean_probability", 0.8)
    assert chosen.fusion.method == "genetic" and "+1.00 points" in words and "95%" in words
    chosen, words = guard([plain, log, verdict("genetic", 0.81, 0.6)], "mean_probability", 0.8)
    assert chosen is plain and "plain average" in words and "60%" in words
    chosen, words = guard([plain, log, verdict("genetic", 0.78, 0.1)], "mean_probability", 0.8)
    assert chosen is plain and "no fitted fusion beats it" in words and "-2.00" in words
    better = verdict("mean_rank", 0.82, 0)
    chosen, words = guard([plain, better, verdict("greedy", 0.81, 0.9)], "mean_probability", 0.8)
    assert chosen is better and "best of the simple means" in words
    assert guard([plain], "mean_probability", 0.8)[0] is plain


def test_weights_are_used_where_they_help_and_only_there() -> None:
    scores, labels = problem(good=4.0)
    outcome = fuse(sources_of(scores), labels, QUICK, num_classes=8)
    assert outcome.chosen.method not in MEANS
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


def test_likeness_is_the_correlation_of_errors() -> None:
    random = np.random.default_rng(0)
    hits = random.random((5, 300)) < 0.7
    hits[4] = True
    found = explain.likeness(hits, np.zeros(300, int))
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
    assert temperature.fit(probabilities, labels, np.arange(4000), 0) == pytest.approx(found, rel=0.01)


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
def test_real_logits_hold_out_at_least_the_best_mean(shared_data: Path) -> None:
    scores = np.load(shared_data / "logits" / "cifar10_test_logits_f16.npy")
    labels = np.load(shared_data / "logits" / "cifar10_test_labels.npy")
    outcome = fuse(sources_of(scores), labels, FuseSettings(metric="top1"), num_classes=10)
    held = {m["method"]: m["held_out"]["top1"] for m in outcome.record["methods"]}
    assert held[outcome.chosen.method] >= max(held[method] for method in MEANS)
