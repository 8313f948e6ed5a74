"""What scores mean: found from numbers, converted as a naive formula says, said where it may be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smelt.errors import ResultError
from smelt.fusion.scores import meaning
from smelt.fusion.scores.arrayfiles import Raw
from smelt.fusion.scores.holding import examine
from smelt.fusion.scores.meaning import Found, converted, find, named, said

RANDOM = np.random.default_rng(3)
LOGITS = RANDOM.normal(size=(80, 9)) * 2
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def stats(scores: np.ndarray) -> meaning.Stats:
    return examine(Raw("x", Path("x.npy"), scores), scores)


def found(scores: np.ndarray) -> Found:
    return find(stats(np.asarray(scores)))


CASES = {
    "logits": LOGITS,
    "probabilities": PROBABILITIES,
    "log_probabilities": np.log(PROBABILITIES),
    "percentages": 100 * PROBABILITIES,
    "sums": 10 * PROBABILITIES,
    "sigmoid": 1 / (1 + np.exp(-LOGITS)),
    "points": -(np.argsort(np.argsort(-LOGITS, axis=1), axis=1)),
    "ranks": 1 + np.argsort(np.argsort(-LOGITS, axis=1), axis=1),
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_each_kind_is_found_in_every_precision(kind: str, dtype: type) -> None:
    one = found(CASES[kind].astype(dtype))
    assert one.meaning == kind and one.why and not one.warnings
    assert one.unsure == (kind == "ranks")


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind != "logits"])
def test_conversion_keeps_the_order_and_says_what_it_says(kind: str) -> None:
    scores = CASES[kind].astype(np.float32)
    one = found(scores)
    values = converted(scores, one).astype(np.float64)
    chances = values if one.kind == "probabilities" else np.exp(values)
    chances = chances / chances.sum(axis=1, keepdims=True)
    if kind in ("ranks", "points"):
        places = np.argsort(np.argsort(-LOGITS, axis=1), axis=1)
        expected = 1 / (1 + places)
        expected = expected / expected.sum(axis=1, keepdims=True)
    elif kind == "sigmoid":  # P(c | one class) is the product over all classes, by enumeration
        own = CASES[kind]
        expected = np.stack(
            [own[:, c] * np.delete(1 - own, c, axis=1).prod(axis=1) for c in range(9)], axis=1
        )
        expected /= expected.sum(axis=1, keepdims=True)
    else:
        expected = PROBABILITIES
    assert np.allclose(chances, expected, atol=2e-6)
    assert np.array_equal(np.argsort(-chances, axis=1), np.argsort(-LOGITS, axis=1))


def test_rounded_and_cut_probabilities_are_rescaled_and_said() -> None:
    wide = RANDOM.normal(size=(60, 200)) * 1.5
    wide = np.exp(wide) / np.exp(wide).sum(axis=1, keepdims=True)
    cut = np.where(wide >= np.sort(wide, axis=1)[:, -5:-4], wide, 0)
    for scores, kind in (
        (wide.round(2), "probabilities"),
        (cut, "probabilities"),
        ((100 * wide).round(), "percentages"),
    ):
        one = found(scores.astype(np.float32))
        assert one.meaning == kind and one.rescaled and "rescaled" in one.warnings[0]
        assert np.allclose(converted(scores.astype(np.float32), one).sum(axis=1), 1, atol=1e-5)


def test_crops_of_different_number_and_votes() -> None:
    crops = RANDOM.integers(1, 11, size=(80, 1))
    assert found(PROBABILITIES * crops).meaning == "sums"
    votes = RANDOM.multinomial(7, PROBABILITIES[0], size=80)
    one = found(votes.astype(np.float32))
    assert one.meaning == "sums" and np.allclose(converted(votes, one), votes / 7)
    assert found(np.round(255 * PROBABILITIES)).meaning == "sums"


def test_a_row_without_anything_is_shared_evenly() -> None:
    scores = np.zeros((1, 4), np.float32)
    assert converted(scores, Found("percentages", "", rescaled=True)).tolist() == [[0.25] * 4]


def test_a_few_odd_rows_are_named() -> None:
    scores = np.tile(PROBABILITIES, (5, 1))
    scores[37] *= 0.5
    (words,) = found(scores).warnings
    assert "line 37" in words


def test_near_uniform_softmax_is_said() -> None:
    similarities = RANDOM.uniform(-0.3, 0.3, size=(50, 100))
    assert "near uniform" in found(similarities).warnings[0]
    assert "near uniform" in found(0.25 + similarities / 6).warnings[0]
    assert (
        "equal" in found(np.zeros((50, 4))).warnings[0]
        and "equal" in found(np.full((50, 4), -2.0)).warnings[0]
    )


def test_log_of_nothing_is_cut_in_log_probabilities() -> None:
    scores = np.log(PROBABILITIES)
    hard = np.where(scores < np.sort(scores, axis=1)[:, 1:2], -np.inf, scores)
    one = found(hard)
    assert one.meaning == "log_probabilities" and one.floor is not None
    few = np.where(PROBABILITIES < 0.03, -np.inf, scores)
    assert found(few).meaning == "log_probabilities"
    values = converted(hard.astype(np.float32), one)
    assert np.isfinite(values).all() and np.array_equal(values.argmax(1), LOGITS.argmax(1))


def test_what_is_said_is_checked() -> None:
    assert said("logits", stats(PROBABILITIES), "a.npy", "said").kind == "logits"
    assert said("probabilities", stats(PROBABILITIES * 0.7), "a.npy", "said").rescaled
    for kind in ("probabilities", "sigmoid", "percentages", "sums", "log_probabilities"):
        with pytest.raises(ResultError, match=r"a\.npy holds .*: these are no " + kind):
            said(named(kind), stats(LOGITS), "a.npy", "said")


def test_words_for_kinds() -> None:
    assert named("Log-Probs") == "log_probabilities" and named("softmax") == "probabilities"
    with pytest.raises(ResultError, match=r"'banana'.*logits, probabilities"):
        named("banana")
    with pytest.raises(ResultError):
        named("lists")


def softmax(logits: np.ndarray) -> np.ndarray:
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


WIDTHS = (3, 4, 6, 30, 200)
SHARPNESS = (1, 2, 4, 8)  # standard deviation of logits


def random_logits(seed: int, least: float = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [
        random.normal(size=(n, c)) * s for c in WIDTHS for n in (15, 240) for s in SHARPNESS if s >= least
    ]


@pytest.mark.parametrize("voters", [2, 5, 10, 30])
@pytest.mark.parametrize("digits", [np.round, np.floor])
@pytest.mark.parametrize("step", [1, 0.5, 0.1, 0.01])
def test_sums_that_were_rounded_are_sums(voters: int, digits: np.ufunc, step: float) -> None:
    # two voters in whole numbers leave 0, 1 and 2, of which nothing can be told
    for logits in random_logits(voters, least=2) if step < voters / 4 else []:
        whole = softmax(logits) * voters
        scores = (digits(whole / step) * step).astype(np.float32)
        one = found(scores)
        if scores.max() <= 1 or scores.shape[1] * step > 2 * voters:
            continue  # as free probabilities are, or more lost than kept
        assert one.meaning in ("sums", "probabilities") and one.rescaled, (logits.shape, one)
        kept = scores.sum(axis=1) > 0
        assert np.allclose(converted(scores, one)[kept].sum(axis=1), 1, atol=1e-5)
        if np.ptp(scores.sum(axis=1)) > 0.03 * voters:
            assert "--kind FILE=logits" in one.warnings[0]


@pytest.mark.parametrize("places", [2, 3])
@pytest.mark.parametrize("digits", [np.round, np.floor])
def test_probabilities_of_few_digits_are_probabilities(places: int, digits: np.ufunc) -> None:
    for logits in random_logits(places):
        scores = (digits(softmax(logits) * 10**places) / 10**places).astype(np.float32)
        one = found(scores)
        assert one.meaning in ("sums", "probabilities"), (logits.shape, one)
        assert one.rescaled or np.abs(scores.sum(axis=1) - 1).mean() < 0.02


@pytest.mark.parametrize("kept", [2, 3, 5])
def test_the_best_of_a_softmax_are_probabilities(kept: int) -> None:
    for logits in random_logits(kept):
        chances = softmax(logits)
        if chances.shape[1] > kept:
            cut = np.where(chances >= np.sort(chances, axis=1)[:, [-kept]], chances, 0)
            assert found(cut.astype(np.float32)).meaning == "probabilities", logits.shape


@pytest.mark.parametrize("places", [None, 2, 3])
@pytest.mark.parametrize("bias", [0, -2, -4])
def test_free_probabilities_stay_sigmoid(places: int | None, bias: float) -> None:
    for logits in random_logits(7):
        scores = 1 / (1 + np.exp(-logits - bias))
        one = found((scores if places is None else scores.round(places)).astype(np.float32))
        assert one.meaning == "sigmoid", (logits.shape, one)


def test_logits_of_few_digits_stay_logits() -> None:
    for logits in random_logits(8, least=4):
        for scores in (np.maximum(logits, 0), logits - logits.min(), np.log1p(np.exp(logits))):
            for places in (0, 1, 2):
                one = found(scores.round(places).astype(np.float32))
                assert one.meaning == "logits", (logits.shape, places, one)


def test_what_may_be_shares_or_free_says_what_to_say() -> None:
    low = np.random.default_rng(1).uniform(0, 0.05, size=(40, 8)) * (np.arange(8) < 3)
    one = found(low.astype(np.float32))
    assert one.meaning == "sigmoid" and "--kind FILE=probabilities" in one.warnings[0]
    flat = (softmax(np.random.default_rng(2).normal(size=(40, 20)) / 4) * 5).round(1)
    assert any("steps of 0.1" in words for words in found(flat).warnings)
