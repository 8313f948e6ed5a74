"""Stacking per class: its minimum, what it finds and does not; that what is judged is what is delivered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from smelt.artifacts.results import cut
from smelt.errors import ResultError
from smelt.fusion import worth
from smelt.fusion.apply import Fusion, apply, fused_lines, plain_hits, top_classes
from smelt.fusion.case import usable
from smelt.fusion.config import FuseSettings, GeneticSettings
from smelt.fusion.exact.pooled import Tables
from smelt.fusion.fitting import likelihood
from smelt.fusion.fitting.folded import lefts
from smelt.fusion.fitting.quasinewton import minimum
from smelt.fusion.fitting.sample import sample
from smelt.fusion.judge import Judge
from smelt.fusion.methods import stacking
from smelt.fusion.procedure import fuse
from smelt.fusion.scores.sources import Held, Kept, Source
from smelt.metrics import class_averaged, hits_in_list, hits_topk

QUICK = FuseSettings(
    metric="top1",
    methods=("mean_probability", "mean_log_probability", "linear_pool", "log_pool", "stacking"),
    folds=3,
    bootstrap=200,
    shrinkage=(0.0, 0.5),
    genetic=GeneticSettings(population=8, generations=4),
)


def held(scores_MNC: np.ndarray) -> list[Source]:
    return [Held(f"m{m}", "logits", one, one.shape[1]) for m, one in enumerate(scores_MNC)]


def problem(
    images: int, lean: float = 0.0, results: int = 4, classes: int = 6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Results of different quality and sharpness that all lean to the lower classes, each by its own ways."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    noise = np.linspace(0.8, 1.6, results)[:, None, None]
    scores = 1.8 * np.eye(classes)[labels] + noise * random.normal(size=(results, images, classes))
    scores += lean * np.linspace(1, -1, classes)
    return (scores * np.linspace(0.7, 1.5, results)[:, None, None]).astype(np.float32), labels


def log_softmax(scores: np.ndarray) -> np.ndarray:
    scores = scores.astype(np.float64)
    return scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)


def balanced(labels: np.ndarray) -> np.ndarray:
    counts = np.bincount(labels)
    return 1 / counts[labels] / (counts > 0).sum()


def naive(
    weights: np.ndarray, logs_MNC: np.ndarray, labels: np.ndarray, base: np.ndarray, penalty: float
) -> float:
    """The penalised loss of weights (C, M + 1), class by class and image by image."""
    results, _, classes = logs_MNC.shape
    losses: dict[int, list[float]] = {}
    for image, label in enumerate(labels):
        scores = [sum(weights[c, m] * logs_MNC[m, image, c] for m in range(results)) + weights[c, results]
                  for c in range(classes)]  # fmt: skip
        losses.setdefault(int(label), []).append(float(np.logaddexp.reduce(scores)) - float(scores[label]))
    away = sum(
        (np.mean(logs_MNC[m] ** 2) * (weights[c, m] - base[m]) ** 2) if m < results else weights[c, m] ** 2
        for c in range(classes)
        for m in range(results + 1)
    )
    return float(np.mean([np.mean(one) for one in losses.values()])) + penalty / 2 * float(away)


def loss_of(
    scores: np.ndarray, labels: np.ndarray, base: np.ndarray, penalty: float
) -> tuple[stacking.Loss, np.ndarray]:
    """The loss over images that are all seen, and the weights of the logarithmic pool to begin at."""
    logs = log_softmax(scores).astype(np.float32).transpose(0, 2, 1)
    seen, classes = stacking.Stacker(logs, labels).seen(balanced(labels))
    base_P = np.append(base, 0.0)
    return stacking.Loss(seen, base_P, penalty), np.repeat(base_P[None], len(classes), axis=0)


def test_loss_gradient_and_blocks_are_those_of_the_formula() -> None:
    scores, labels = problem(60, lean=0.5, results=3, classes=4)
    labels[:30] = 0  # classes of very different sizes
    base = np.array([0.5, 0.2, 0.0])
    of, _ = loss_of(scores, labels, base, 0.05)
    weights = np.abs(np.random.default_rng(1).normal(size=(4, 4)))
    loss, gradient = of.judged(weights)
    logs = log_softmax(scores)
    assert loss == pytest.approx(naive(weights, logs, labels, base, 0.05), rel=1e-5)
    blocks = of.images.bends(weights)
    step = 1e-4
    for c in range(4):
        for p in range(4):
            moved = np.zeros((4, 4))
            moved[c, p] = step
            up, down = (naive(weights + sign * moved, logs, labels, base, 0.05) for sign in (1, -1))
            assert gradient[c, p] == pytest.approx((up - down) / (2 * step), abs=1e-4)
            up, down = (of.images.judged(weights + sign * 100 * moved)[1][c] for sign in (1, -1))
            assert blocks[c, :, p] == pytest.approx((up - down) / (200 * step), abs=2e-3)


@pytest.mark.parametrize("penalty", [1.0, 0.03, 0.001, 0.00003])
@pytest.mark.parametrize("lean", [0.0, 1.0])
def test_the_minimum_is_that_of_another_minimiser(penalty: float, lean: float) -> None:
    scores, labels = problem(400, lean=lean)
    base = np.array([0.3, 0.2, 0.1, 0.0])
    of, start = loss_of(scores, labels, base, penalty)
    found = minimum(of, start)
    assert (found[:, :-1] >= 0).all()
    logs = np.moveaxis(log_softmax(scores), 0, 2)
    units = np.append(np.sqrt((logs**2).mean(axis=(0, 1))), 1.0)
    balance, rows = balanced(labels), np.arange(len(labels))

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(6, 5) / units
        mixed = np.einsum("ncm,cm->nc", logs, weights[:, :-1]) + weights[:, -1]
        chances = np.exp(mixed - np.logaddexp.reduce(mixed, axis=1, keepdims=True))
        away = flat.reshape(6, 5) - np.append(base, 0.0) * units
        loss = -balance @ np.log(chances[rows, labels]) + penalty / 2 * (away**2).sum()
        chances[rows, labels] -= 1
        pull = np.einsum("n,nc,ncm->cm", balance, chances, logs)
        gradient = np.column_stack([pull, balance @ chances]) / units + penalty * away
        return float(loss), gradient.ravel()

    best = minimize(
        value, (start * units).ravel(), jac=True, method="L-BFGS-B",
        bounds=([(0, None)] * 4 + [(None, None)]) * 6, options={"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-8},
    )  # fmt: skip
    ours = value((found * units).ravel())[0]
    assert best.fun - 1e-6 < ours < best.fun + 2e-5
    assert value((start * units).ravel())[0] > ours + (2e-4 if penalty < 1 else 0)


def test_a_start_elsewhere_ends_at_the_same_place() -> None:
    scores, labels = problem(300, lean=1.0)
    of, start = loss_of(scores, labels, np.array([0.3, 0.2, 0.1, 0.0]), 0.01)
    far = np.abs(np.random.default_rng(0).normal(size=(6, 5)))
    assert minimum(of, far) == pytest.approx(minimum(of, start), abs=0.02)


def test_a_class_without_images_stays_as_the_pool_has_it() -> None:
    scores, labels = problem(200, lean=1.0)
    labels[labels == 2] = 3
    logs = log_softmax(scores).astype(np.float32).transpose(0, 2, 1)
    base = np.array([0.3, 0.2, 0.1, 0.05])
    for balance in (balanced(labels), np.where(np.arange(200) < 100, balanced(labels), 0.0)):
        found = stacking.Stacker(logs, labels).path(balance, base, (0.1, 0.001))
        for weights in found.values():
            assert weights[2].tolist() == [*base, 0.0]
            assert np.abs(weights[[0, 1, 3, 4, 5], -1]).min() > 0


def test_what_is_not_seen_does_not_matter() -> None:
    """Images without weight are as if they were not there, whatever their labels."""
    scores, labels = problem(300, lean=0.5)
    logs = log_softmax(scores).astype(np.float32).transpose(0, 2, 1)
    seen = np.arange(300) % 3 > 0
    balance = np.zeros(300)
    balance[seen] = balanced(labels[seen])
    other = np.where(seen, labels, 5 - labels)
    base = np.full(4, 0.2)
    one, two = (stacking.Stacker(logs, of).path(balance, base, (0.1, 0.01)) for of in (labels, other))
    assert all(np.array_equal(one[penalty], two[penalty]) for penalty in one)
    alone = stacking.Stacker(logs[:, :, seen], labels[seen])
    alone.units_P = stacking.Stacker(logs, labels).units_P
    assert alone.path(balance[seen], base, (0.1,))[0.1] == pytest.approx(one[0.1], abs=1e-6)


def judge_of(scores: np.ndarray, labels: np.ndarray, settings: FuseSettings = QUICK) -> Judge:
    sources, labels = held(scores), labels.astype(np.int32)
    tables = Tables(sources, labels, settings, folder=None)
    return Judge(sources, labels, tables, settings, num_classes=scores.shape[2])


def test_what_sees_more_starts_from_what_sees_less_only() -> None:
    judge = judge_of(*problem(200))
    order = judge.fits._least_first
    assert {left for left, _ in order} == set(lefts(3))
    for place, (left, near) in enumerate(order):
        assert near is None or (set(near) > set(left) and near in [one for one, _ in order[:place]])


def test_a_penalty_without_end_gives_the_hits_of_the_logarithmic_pool() -> None:
    scores, labels = problem(500, lean=0.5)
    settings = QUICK.model_copy(update={"penalties": (1e9,), "shrinkage": (0.0,)})
    judge = judge_of(scores, labels, settings)
    lines = np.arange(500)
    (pool,), (stacked,) = judge.options["log_pool"], judge.options["stacking"]
    for left in judge.fits.lefts:
        both = pool.fusions[left], stacked.fusions[left]
        assert both[1].weights == pytest.approx(both[0].weights, abs=1e-5)
        ours, theirs = (plain_hits(one, held(scores), labels, lines, (1, 3)) for one in both)
        assert all(np.array_equal(ours[k], theirs[k]) for k in (1, 3))
        lists = [top_classes(one, held(scores), 500, 6) for one in both]
        assert np.array_equal(*lists)


def test_the_penalty_is_that_under_which_held_out_labels_are_likeliest() -> None:
    """By likelihood, one sharpness for all; the number of right images would often say something else."""
    otherwise = 0
    for seed in range(6):
        scores, labels = problem(240, lean=0.15, seed=seed)
        judge = judge_of(scores, labels)
        balance, worth, right = balanced(labels), [], []
        for option in judge.options["stacking"]:
            mixed = np.zeros((240, 6), np.float32)
            for fold in range(3):
                mine = np.flatnonzero(judge.folds_N == fold)
                (mixed[mine],) = fused_lines([option.fusions[fold,]], held(scores), mine)
            sharp = [
                balance @ log_softmax(s * mixed)[np.arange(240), labels] for s in np.linspace(0.2, 2, 400)
            ]
            worth.append(max(sharp))
            right.append(class_averaged(hits_topk(mixed, labels, 1), labels))
        chosen = judge.choices()[()].options["stacking"]
        assert chosen is judge.options["stacking"][int(np.argmax(worth))]
        otherwise += np.argmax(worth) != np.argmax(right)
    assert otherwise


def test_a_lean_of_all_results_is_found_and_undone() -> None:
    """No weight a result can undo it: on images that nobody saw it is worth several points."""
    scores, labels = problem(900, lean=0.7)
    outcome = fuse(held(scores), labels, QUICK, num_classes=6)
    assert outcome.chosen.method == "stacking" and "stacking is used" in outcome.record["words"]
    fresh, truth = problem(6000, lean=0.7, seed=1)
    found = {
        one.method: class_averaged(plain_hits(one, held(fresh), truth, np.arange(6000), (1,))[1], truth)
        for one in outcome.fusions
    }
    assert found["stacking"] > max(found["log_pool"], found["linear_pool"], found["mean_probability"]) + 0.02
    assert found["stacking"] - found["mean_probability"] == pytest.approx(
        outcome.record["held_out"]["gain"], abs=0.05
    )
    biases = np.array(outcome.chosen.biases)
    assert biases[0] < -0.2 and biases[-1] > 0.2  # against the lean
    chosen = next(one for one in outcome.record["methods"] if one["method"] == "stacking")
    assert chosen["penalty"] in QUICK.penalties and outcome.chosen.penalty == chosen["penalty"]


def test_results_that_know_some_classes_each_are_weighed_by_class() -> None:
    def draw(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        labels = random.integers(0, 6, images)
        noise = np.array([[0.6, 0.6, 0.6, 2.5, 2.5, 2.5], [2.5, 2.5, 2.5, 0.6, 0.6, 0.6]])
        scores = 1.8 * np.eye(6)[labels] + noise[:, None] * random.normal(size=(2, images, 6))
        return scores.astype(np.float32), labels

    scores, labels = draw(1200, 0)
    outcome = fuse(held(scores), labels, QUICK, num_classes=6)
    assert outcome.chosen.method == "stacking"
    weights = np.array(outcome.chosen.class_weights)
    assert (weights[0, :3] > 1.5 * weights[1, :3]).all() and (weights[1, 3:] > 1.5 * weights[0, 3:]).all()


def test_labels_drawn_at_random_are_not_taken_for_anything() -> None:
    """By itself it collapses then, for nothing is left to hold on to; the guard must not take it."""
    for seed in range(5):
        scores, _ = problem(600, seed=seed)
        random = np.random.default_rng(100 + seed).integers(0, 6, 600)
        outcome = fuse(held(scores), random, QUICK.model_copy(update={"seed": seed}), num_classes=6)
        assert outcome.chosen.method != "stacking", outcome.record["words"]
        entry = next(one for one in outcome.record["methods"] if one["method"] == "stacking")
        assert abs(entry["held_out"]["top1"] - 1 / 6) < 0.06


def null(family: str, images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Equally good results: nothing is to be gained by weights. Some families are harder to judge."""
    random = np.random.default_rng(seed)
    shares = np.array([0.8, 0.15, 0.05]) if family == "imbalanced" else np.full(8, 1 / 8)
    labels = random.choice(len(shares), images, p=shares)
    base = random.normal(size=(images, len(shares))) + 1.5 * np.eye(len(shares))[labels]
    scores = (base + 1.5 * random.normal(size=(6, images, len(shares)))).astype(np.float32)
    if family == "copies" and images < 1000:
        return np.repeat(scores[:, : images // 4], 4, axis=1), np.repeat(labels[: images // 4], 4)
    return scores, labels


@pytest.mark.parametrize("family", ["exchangeable", "imbalanced", "copies"])
def test_where_nothing_is_to_be_gained_nothing_is_promised(family: str) -> None:
    settings = QUICK.model_copy(update={"methods": ("mean_probability", "stacking"), "sure": 0.5})
    own, whole = [], []
    for seed in range(8):
        scores, labels = null(family, 400, seed)
        outcome = fuse(
            held(scores), labels, settings.model_copy(update={"seed": seed}), num_classes=scores.shape[2]
        )
        fresh, truth = null(family, 5000, 100 + seed)
        true = {
            fusion.method: class_averaged(
                plain_hits(fusion, held(fresh), truth, np.arange(5000), (1,))[1], truth
            )
            for fusion in outcome.fusions
        }
        entry = next(one for one in outcome.record["methods"] if one["method"] == "stacking")
        own.append(entry["gain"] - (true["stacking"] - true["mean_probability"]))
        whole.append(
            outcome.record["held_out"]["gain"] - (true[outcome.chosen.method] - true["mean_probability"])
        )
    for differences in (own, whole):
        assert np.mean(differences) < 2.5 * np.std(differences, ddof=1) / 8**0.5 + 0.003


def test_two_classes_and_nothing_left_to_weigh() -> None:
    scores, labels = problem(80, classes=2, seed=3)
    outcome = fuse(held(scores), labels, QUICK, num_classes=2)
    assert any(fusion.method == "stacking" for fusion in outcome.fusions)
    empty = Fusion(
        "stacking", "log_probability", (1.0,) * 4, class_weights=((0.0, 0.0),) * 4, biases=(0.5, 1.0)
    )
    (found,) = fused_lines([empty], held(scores), np.arange(7))
    assert found.tolist() == [[0.5, 1.0]] * 7


def stacked_fusion(results: int, classes: int) -> Fusion:
    random = np.random.default_rng(4)
    weights = random.random((results, classes)).astype(np.float32)
    weights[1, 2] = 0.0
    biases = random.normal(size=classes).astype(np.float32)
    return Fusion(
        "stacking", "log_probability", tuple(np.full(results, 1 / results).tolist()),
        class_weights=tuple(map(tuple, weights.tolist())), biases=tuple(biases.tolist()), penalty=0.5,
    )  # fmt: skip


@pytest.mark.parametrize("classes", [6, 40])
def test_scores_are_the_sums_as_they_are_documented(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    """Results in their order in float32, the bias last; kept or not, in blocks or at once, the same bits."""
    monkeypatch.setattr("smelt.fusion.apply.ELEMENTS", 10 * classes)
    scores, _ = problem(50, classes=classes)
    fusion = stacked_fusion(4, classes)
    sources = held(scores.astype(np.float16))
    expected = np.zeros((50, classes), np.float32)
    logs = log_softmax(scores.astype(np.float16))
    for m, weights in enumerate(np.array(fusion.class_weights, np.float32)):
        expected += weights * logs[m].astype(np.float32)
    expected += np.array(fusion.biases, np.float32)
    blocks = [block for _, block in apply(fusion, sources, 50)]
    found = np.concatenate(blocks)
    assert len(blocks) > 3 and found == pytest.approx(expected, abs=1e-5)
    other = Fusion("mean_probability", "probability", (0.25,) * 4)
    kept = [Kept(source, 50) for source in sources]
    for one in (sources, kept):
        both = fused_lines([other, fusion], one, np.arange(50))
        assert np.array_equal(both[1], found) and not np.array_equal(both[0], found)
    rows = fused_lines([fusion], kept, np.array([17, 3]))[0]
    assert np.array_equal(rows, found[[17, 3]])
    chances = [
        Held(s.name, "probabilities", np.exp(logs[m]).astype(np.float32), classes)
        for m, s in enumerate(sources)
    ]
    assert fused_lines([fusion], chances, np.arange(50))[0] == pytest.approx(found, abs=1e-4)


def test_a_shift_of_an_images_logits_changes_nothing() -> None:
    """With weights of each class only log probabilities make sense: a logit's zero is anywhere."""
    scores, _ = problem(80)
    shifts = np.random.default_rng(0).normal(size=(4, 80, 1)).astype(np.float32) * 20
    fusion = stacked_fusion(4, 6)
    one, two = (fused_lines([fusion], held(s), np.arange(80))[0] for s in (scores, scores + shifts))
    assert one == pytest.approx(two, abs=1e-3)
    found, moved = (sample(held(s), np.zeros(80, int), np.zeros(80, np.int8), 0, 6)
                    for s in (scores, scores + shifts))  # fmt: skip
    ours, theirs = (likelihood.log_chances(one, [fusion], slice(None))[0] for one in (found, moved))
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_log_chances_are_those_of_the_scores_that_are_delivered() -> None:
    scores, labels = problem(60)
    fusions = [stacked_fusion(4, 6), Fusion(
        "stacking", "log_probability", (1.0, 0.0, 0.0, 0.0), class_weights=((1.0,) * 6, *((0.0,) * 6,) * 3),
        biases=(0.0,) * 6,
    )]  # fmt: skip
    found = sample(held(scores), labels, (np.arange(60) % 3).astype(np.int8), 0, 6)
    ours = likelihood.log_chances(found, fusions, slice(10, 40))
    theirs = fused_lines(fusions, held(scores), found.lines[10:40])
    for one, other in zip(ours, theirs, strict=True):
        assert log_softmax(one.T) == pytest.approx(log_softmax(other), abs=1e-4)


def test_what_is_judged_is_what_is_delivered() -> None:
    """Ties included: scores of few levels, hits against the lists, image by image."""
    scores, labels = problem(400, lean=0.7)
    scores = np.round(scores)
    outcome = fuse(held(scores), labels, QUICK, num_classes=6)
    fusion = next(one for one in outcome.fusions if one.method == "stacking")
    entry = next(one for one in outcome.record["methods"] if one["method"] == "stacking")
    lists = top_classes(fusion, held(scores), 400, 5)
    for k in (1, 5):
        assert entry["chosen_by"][f"top{k}"] == class_averaged(hits_in_list(lists[:, :k], labels), labels)
    # and with every class's weights the same there are ties, which go to the lower class
    flat = Fusion(
        "stacking", "log_probability", (0.25,) * 4, class_weights=((0.25,) * 6,) * 4, biases=(0.0,) * 6
    )
    same = [Held(str(m), "logits", np.round(scores[0]), 6) for m in range(4)]
    lists = top_classes(flat, same, 400, 5)
    hits = plain_hits(flat, same, labels, np.arange(400), (1, 3))
    assert np.array_equal(lists, np.argsort(-np.round(scores[0]), axis=1, kind="stable")[:, :5])
    for k in (1, 3):
        assert np.array_equal(hits[k], hits_in_list(lists[:, :k], labels))


def test_json_keeps_it_to_the_last_bit() -> None:
    fusion = stacked_fusion(3, 5)
    assert Fusion.from_json(fusion.to_json()) == fusion and hash(fusion) == hash(
        Fusion.from_json(fusion.to_json())
    )
    assert fusion.fitting(3, 5) and fusion.fitting(3, None)
    assert not fusion.fitting(3, 6) and not fusion.fitting(4, 5)
    old = Fusion("genetic", "probability", (0.5, 0.5))
    before = {
        key: old.to_json()[key] for key in ("method", "pooling", "weights", "shrinkage", "temperatures")
    }
    assert Fusion.from_json(before) == old and old.fitting(2, 7)


def test_a_result_that_is_set_aside_weighs_nothing_in_any_class() -> None:
    scores, labels = problem(500, lean=0.7)
    odd = np.insert(scores, 1, 0.0, axis=0)
    outcome = fuse(held(odd), labels, QUICK, num_classes=6)
    fusion = outcome.chosen
    assert fusion.method == "stacking" and len(fusion.class_weights or ()) == 5
    assert fusion.class_weights is not None and set(fusion.class_weights[1]) == {0.0}
    alone = fuse(held(scores), labels, QUICK, num_classes=6)
    assert np.array_equal(top_classes(fusion, held(odd), 500), top_classes(alone.chosen, held(scores), 500))
    assert outcome.record["results"][1]["weight"] == 0 == outcome.record["results"][1]["without"]
    assert sum(one["weight"] for one in outcome.record["results"]) == pytest.approx(1)


def test_no_result_has_more_than_its_bound_in_any_class() -> None:
    scores, labels = problem(500, lean=0.7)
    outcome = fuse(held(scores), labels, QUICK.model_copy(update={"bound": 1.5}), num_classes=6)
    fusion = next(one for one in outcome.fusions if one.method == "stacking")
    weights = np.array(fusion.class_weights)
    assert (weights <= 1.5 / 4 * weights.sum(axis=0) * (1 + 1e-5)).all()
    free = next(
        one for one in fuse(held(scores), labels, QUICK, num_classes=6).fusions if one.method == "stacking"
    )
    loose = np.array(free.class_weights)
    assert (loose > 1.5 / 4 * loose.sum(axis=0) * 1.01).any()


def test_what_is_lost_without_each_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = problem(300, lean=0.7)
    outcome = fuse(held(scores), labels, QUICK, num_classes=6)
    assert outcome.chosen.class_weights is not None and outcome.chosen.biases is not None
    logs = log_softmax(scores)

    def accuracy(weights: np.ndarray) -> float:
        mixed = np.einsum("mnc,mc->nc", logs, weights) + np.array(outcome.chosen.biases)
        return class_averaged(hits_topk(mixed.astype(np.float32), labels, 1), labels)

    weights = np.array(outcome.chosen.class_weights)
    for m, result in enumerate(outcome.record["results"]):
        others = weights * (np.arange(4) != m)[:, None]
        others *= weights.sum(axis=0) / others.sum(axis=0)
        assert result["without"] == pytest.approx(accuracy(weights) - accuracy(others), abs=1e-9)
        assert result["weight"] == outcome.chosen.weights[m]
    monkeypatch.setattr(worth, "PRODUCTS", 1)  # a sample of one image
    lost = worth.without_each_by_class(outcome.chosen, held(scores), labels.astype(np.int32), 1)
    assert set(lost.tolist()) <= {-1.0, 0.0, 1.0}


def test_a_result_alone_in_a_class_is_followed_by_all_others() -> None:
    scores, labels = problem(100, results=3)
    weights = ((1.0,) * 6, (0.0,) * 6, (0.0,) * 6)
    fusion = Fusion("stacking", "log_probability", (1.0, 0.0, 0.0), class_weights=weights, biases=(0.0,) * 6)
    lost = worth.without_each_by_class(fusion, held(scores), labels, 1)
    logs = log_softmax(scores)
    alone, others = (class_averaged(hits_topk(x.astype(np.float32), labels, 1), labels)
                     for x in (logs[0], logs[1:].mean(axis=0)))  # fmt: skip
    assert lost == pytest.approx([alone - others, 0, 0])
    one = Fusion("stacking", "log_probability", (1.0,), class_weights=(weights[0],), biases=(0.0,) * 6)
    assert worth.without_each_by_class(one, held(scores[:1]), labels, 1).tolist() == [0.0]


def test_it_is_left_out_in_words() -> None:
    scores, labels = problem(200)
    tops = [Held(f"m{m}", "logits", cut(one.astype(np.float16), 4), 6) for m, one in enumerate(scores)]
    outcome = fuse(tops, labels, QUICK, num_classes=6)
    assert (
        "stacking is left out: it needs every score, and some results are top-K" in outcome.record["left_out"]
    )
    assert all(fusion.method != "stacking" for fusion in outcome.fusions)
    with pytest.raises(ResultError, match="m0 is a top-K result: weights of each class need every score"):
        list(apply(stacked_fusion(4, 6), tops, 200))

    def words(results: int, classes: int, scores: int) -> list[str]:
        return usable(held(np.zeros((results, 1, 2))), QUICK, scores, classes)[1]

    assert words(2, 65, 10) == ["stacking is left out: it is fitted for up to 64 classes, there are 65"]
    assert words(40, 64, 10) == ["stacking is left out: 40 results of 64 classes are too many weights for it"]
    assert words(2, 64, 1 << 31) == [
        "stacking is left out: it needs several passes of its own over 2.1e+09 scores"
    ]
    assert words(19, 10, 10**6) == [] == words(8, 64, 10**6)


def test_many_classes_are_fused_without_it() -> None:
    scores, labels = problem(400, classes=70)
    outcome = fuse(held(scores), labels, QUICK, num_classes=70)
    assert any("up to 64 classes, there are 70" in text for text in outcome.record["left_out"])


@pytest.mark.shared
@pytest.mark.slow
def test_results_trained_on_wrong_labels_gain_by_it(shared_data: Path) -> None:
    """Five results trained on the worst labels of CIFAR-10N; judged by clean ones on images of their own."""
    chances = np.load(shared_data / "logits" / "cifar10n_worst_oof_probs_f16.npy")
    labels = np.load(shared_data / "cifar10n.npz")["train_labels_clean"].astype(np.int32)
    order = np.random.default_rng(0).permutation(len(labels))
    one, other = order[:2000], order[2000:12000]
    sources, fresh = (
        [Held(str(m), "probabilities", x[at], 10) for m, x in enumerate(chances)] for at in (one, other)
    )
    outcome = fuse(sources, labels[one], FuseSettings(metric="top1"), num_classes=10)
    assert outcome.chosen.method == "stacking"
    plain = next(fusion for fusion in outcome.fusions if fusion.method == "mean_probability")
    ours, theirs = (
        class_averaged(plain_hits(one, fresh, labels[other], np.arange(10000), (1,))[1], labels[other])
        for one in (outcome.chosen, plain)
    )
    assert ours - theirs > 0.012
