"""Results that cannot help are named and set aside; the metric that is settled; few labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.fusion.apply import Fusion, top_classes
from smelt.fusion.config import FuseSettings, GeneticSettings
from smelt.fusion.fitting.method import simple
from smelt.fusion.procedure import fuse
from smelt.fusion.scores.screen import screened
from smelt.fusion.scores.sources import Held
from smelt.metrics import class_averaged, hits_in_list, top_lists

QUICK = FuseSettings(
    metric="top1",
    folds=3,
    bootstrap=100,
    shrinkage=(0.0, 0.5),
    genetic=GeneticSettings(population=8, generations=5),
)


def held(scores: list[np.ndarray]) -> list[Held]:
    return [Held(f"m{m}", "logits", one.astype(np.float32), one.shape[1]) for m, one in enumerate(scores)]


def problem(images: int = 400, classes: int = 6, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Three good results."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    return [2 * np.eye(classes)[labels] + random.normal(size=(images, classes)) for _ in range(3)], labels


def odd_ones(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Scores that say nothing, by what must be said of them."""
    random = np.random.default_rng(7)
    good = 2 * np.eye(6)[labels] + random.normal(size=(len(labels), 6))
    sigmoid = 1 / (1 + np.exp(-(8 + 30 * good)))
    return {
        "equal": np.zeros((len(labels), 6)),
        "every image the same": np.tile(np.arange(6.0), (len(labels), 1)),
        "chance": good[:, [3, 4, 5, 0, 1, 2]] * 0 + random.normal(size=good.shape),
        "shared by several classes": sigmoid.astype(np.float16),
    }


def test_each_kind_is_named_and_set_aside() -> None:
    scores, labels = problem()
    for words, odd in odd_ones(labels).items():
        outcome = fuse(held([*scores, odd]), labels, QUICK, num_classes=6)
        (warning,) = outcome.record["warnings"]
        assert warning.startswith("m3: ") and words in warning and "set aside" in warning
        assert outcome.record["results"][3]["weight"] == 0 and outcome.record["results"][3]["set_aside"]
        assert all(fusion.weights[3] == 0 for fusion in outcome.fusions) and len(outcome.chosen.weights) == 4
        alone = fuse(held(scores), labels, QUICK, num_classes=6)
        assert outcome.record["held_out"] == alone.record["held_out"]
        for method, without in zip(outcome.record["methods"], alone.record["methods"]):
            assert method["held_out"] == without["held_out"]
        delivered = top_classes(outcome.chosen, held([*scores, odd]), 400)
        assert np.array_equal(delivered, top_classes(alone.chosen, held(scores), 400))


def test_classes_in_another_order_are_told() -> None:
    scores, labels = problem()
    moved = [scores[0], scores[1], np.roll(scores[2], 1, axis=1)]
    (reason,) = screened(held(moved), labels, 400, 6).values()
    assert "another order" in reason


def test_insisted_on_they_are_fused_and_named() -> None:
    scores, labels = problem()
    odd = odd_ones(labels)["chance"]
    insisting = QUICK.model_copy(update={"set_aside": False})
    outcome = fuse(held([*scores, odd]), labels, insisting, num_classes=6)
    assert "fused all the same" in outcome.record["warnings"][0]
    plain = next(fusion for fusion in outcome.fusions if fusion.method == "mean_probability")
    assert plain.weights == pytest.approx([0.25] * 4)


def test_nothing_is_set_aside_where_nothing_is_better() -> None:
    """All at chance: nobody can say which; a result that is only weak stays too."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    chance = [random.normal(size=(300, 3)) for _ in range(3)]
    assert screened(held(chance), labels, 300, 3) == {}
    scores, labels = problem()
    weak = scores[0] + 3 * random.normal(size=scores[0].shape)
    assert screened(held([*scores, weak]), labels, 400, 6) == {}
    zeros = [np.zeros((300, 3))] * 2
    outcome = fuse(held(zeros), random.integers(0, 3, 300), QUICK, num_classes=3)
    assert len(outcome.record["warnings"]) >= 2 and outcome.chosen.weights == pytest.approx([0.5, 0.5])


def test_the_metric_means_something() -> None:
    for classes, metric in ((2, "top1"), (5, "top1"), (6, "top5"), (1000, "top5")):
        settled, words = FuseSettings().resolved(classes)
        assert settled.metric == metric and str(classes) in words and metric[-1] in words
    assert FuseSettings(metric="top1").resolved(100)[0].metric == "top1"
    scores, labels = problem(images=90, classes=4)
    record = fuse(held(scores), labels, QUICK.model_copy(update={"metric": "auto"}), num_classes=4).record
    assert record["metric"] == "top1" and "4 classes" in record["metric_words"]
    record = fuse(held(scores), labels, QUICK.model_copy(update={"metric": "top5"}), num_classes=4).record
    assert any("always right" in text for text in record["warnings"])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0], "1 labelled image is too few"),
        ([0, 1], "2 labelled images are too few"),
        ([0, 1, 2, 3, 0, 1], "6 labelled images are too few"),
        ([2] * 30, "of one class"),
        ([], "without labels"),
    ],
)
def test_few_labels_give_the_plain_average(labels: list[int], words: str) -> None:
    random = np.random.default_rng(0)
    of_all = np.full(40, -1)
    of_all[: len(labels)] = labels
    sources = held([random.normal(size=(40, 4)) for _ in range(3)])
    outcome = fuse(sources, of_all, QUICK, num_classes=4)
    assert outcome.chosen.method == "mean_probability" and words in outcome.record["words"]
    assert outcome.chosen.weights == pytest.approx([1 / 3] * 3)
    for method in outcome.record["methods"] if labels else []:
        lists = top_classes(Fusion.from_json(method), sources, 40)
        right = hits_in_list(lists[:, :1], of_all)
        assert method["held_out"]["top1"] == method["chosen_by"]["top1"] == class_averaged(right, of_all)
    assert simple(fuse(sources, None, QUICK, num_classes=4).chosen.method)


def tied(kind: str, random: np.random.Generator, images: int, classes: int) -> np.ndarray:
    """Scores with ties of a kind."""
    scores = random.normal(size=(images, classes)) * 2
    if kind == "equal":
        return np.zeros((images, classes))
    if kind == "zeros":
        return np.where(scores > 1, scores, 0.0)
    if kind == "underflow":
        return np.exp(scores * 400)
    if kind == "plateaus":  # what bfloat16 leaves of large logits
        return np.round(scores + 60, 0)
    if kind == "ranks":
        return -np.argsort(np.argsort(-scores, axis=1), axis=1) // 2 * 1.0
    return scores


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(
        st.sampled_from(["equal", "zeros", "underflow", "plateaus", "ranks", "none"]), min_size=2, max_size=4
    ),
    st.sampled_from([2, 4, 7]),
    st.booleans(),
)
def test_every_figure_is_that_of_the_list_that_is_delivered(
    seed: int, kinds: list[str], classes: int, aside: bool
) -> None:
    """For k = 1, 5 and k ≥ C: each result alone and each fusion, by the very lists that would be
    submitted."""
    random = np.random.default_rng(seed)
    labels = random.integers(-1, classes, 45)
    labels[:2] = [0, 1]
    with np.errstate(over="ignore"):
        scores = [np.clip(tied(kind, random, 45, classes), -1e30, 1e30) for kind in kinds]
    sources = held(scores)
    chosen = QUICK.model_copy(update={"set_aside": aside, "metric": "top1" if seed % 2 else "top5"})
    outcome = fuse(sources, labels, chosen, num_classes=classes)
    for result, source in zip(outcome.record["results"], sources, strict=True):
        lists = top_lists(source.scores, 5)  # type: ignore[arg-type]
        for k in (1, 5):
            right = hits_in_list(lists[:, :k], labels)
            assert result["accuracy"][f"top{k}"] == class_averaged(right, labels)
    for method, fusion in zip(outcome.record["methods"], outcome.fusions, strict=True):
        lists = top_classes(fusion, sources, 45)
        for k in (1, 5):
            assert method["chosen_by"][f"top{k}"] == class_averaged(
                hits_in_list(lists[:, :k], labels), labels
            )
        if simple(method["method"]):
            assert method["held_out"] == method["chosen_by"]  # nothing is fitted
