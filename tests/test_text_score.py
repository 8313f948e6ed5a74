"""The text score is what plain loops give that leave each row out; it hears what is there, no more."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smelt.mining import textscore, wordcounts
from smelt.mining.diagnosis import auroc
from smelt.mining.textscore import Column, fitted, saturated, summed, text_evidence, text_score
from smelt.mining.tokens import hashed, words_of
from smelt.mining.wordcounts import count, log_gamma

STRENGTH, PRIOR = 3.0, 0.3
VOCABULARY = ["red", "blue", "star", "moon", "photo", "buy", "cat", "lamp", "sea", "花", "sun", "fish"]


def drawn(seed: int, *, copies: bool, rows: int = 80, classes: int = 4) -> tuple[list[str], np.ndarray]:
    """Texts that lean towards their class, some empty, some without a label; copies only where asked for."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, classes, rows).astype(np.int32)
    texts, seen = [], set()
    for label in labels:
        p = np.full(len(VOCABULARY), 0.5)
        p[max(label, 0) * 2] = 4
        text = " ".join(rng.choice(VOCABULARY, rng.integers(0, 6), p=p / p.sum()))
        key = (frozenset(text.split()), label)
        texts.append("" if key in seen and not copies else text)
        seen.add(key)
    return texts, labels


def naive_sums(texts: list[str], labels: np.ndarray, row: int, classes: int = 4) -> dict[int, float]:
    """By class the log odds of the row's words, from the counts of all other rows."""
    sets = [frozenset(words_of(t)) if label >= 0 else frozenset() for t, label in zip(texts, labels)]
    copies = Counter(zip(sets, labels))
    often = Counter(word for words in sets for word in words)
    share = np.array([(labels == k).sum() + 0.5 for k in range(classes)])
    share = share / share.sum()
    sums = dict.fromkeys(range(classes), 0.0)
    for word in sets[row]:
        if often[word] < 2:
            continue
        counts = [0.0] * classes
        for other, (words, label) in enumerate(zip(sets, labels)):
            if other != row and word in words:
                counts[label] += 1 / math.sqrt(copies[words, label])
        n = sum(counts)
        bayes = math.lgamma(STRENGTH) - math.lgamma(n + STRENGTH)
        for k in range(classes):
            centre = STRENGTH * share[k]
            bayes += math.lgamma(counts[k] + centre) - math.lgamma(centre) - counts[k] * math.log(share[k])
        odds = PRIOR / (1 - PRIOR) * math.exp(bayes)
        for k in range(classes):
            ratio = (counts[k] / share[k] + STRENGTH) / (n + STRENGTH)
            sums[k] += math.log(1 + odds / (1 + odds) * (ratio - 1))
    return sums


@pytest.fixture
def _fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strength and prior as in the naive sums."""
    monkeypatch.setattr(
        wordcounts, "_fitted",
        lambda pairs, total_V, *_: (np.full(len(total_V), STRENGTH), np.full(len(total_V), PRIOR)),
    )  # fmt: skip


@pytest.mark.usefixtures("_fixed")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("part", [1 << 24, 7])
def test_sums_are_those_of_counts_without_the_row(
    seed: int, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wordcounts, "PART", part)
    texts, labels = drawn(seed, copies=False)
    counts = count(hashed(texts), labels, 4)
    sums = summed(counts, labels, slice(0, len(labels)))
    pairs = {(r, c): s for r, c, s in zip(sums.row_P, sums.class_P, sums.sum_P)}
    usable = np.flatnonzero(np.diff(counts.offsets) > 0)
    assert len(usable) > 30
    assert len(pairs) > 60
    for row in usable:
        for k, value in naive_sums(texts, labels, row).items():
            own = k == labels[row]
            ours = sums.own_B[row] if own else pairs.get((row, k), sums.none_B[row])
            assert ours == pytest.approx(value, abs=1e-6)


@pytest.mark.usefixtures("_fixed")
def test_copies_count_by_their_root_and_not_for_themselves() -> None:
    """The belief in a word leaves a copy out to first order only; the counts leave it out exactly."""
    texts, labels = drawn(4, copies=True, rows=150)
    assert max(Counter(zip(texts, labels)).values()) > 2
    counts = count(hashed(texts), labels, 4)
    sums = summed(counts, labels, slice(0, len(labels)))
    for row in np.flatnonzero(np.diff(counts.offsets) > 0):
        assert sums.own_B[row] == pytest.approx(naive_sums(texts, labels, row)[labels[row]], abs=0.15)
    many = ["same words here"] * 100 + ["same words", "words here"]
    copied = count(hashed(many), np.zeros(102, np.int32), 2)
    assert sorted(copied.total_V) == pytest.approx([11.0, 11.0, 12.0])


@pytest.mark.usefixtures("_fixed")
def test_classes_that_are_not_kept_share_what_is_left() -> None:
    """Of many classes the kept ones are exact; over all classes the odds of a word average to 1."""
    texts, labels = drawn(1, copies=False, rows=300, classes=6)
    whole, cut = (count(hashed(texts), labels, 6, kept=kept) for kept in (6, 2))
    all_of, some = (summed(counts, labels, slice(0, 300)) for counts in (whole, cut))
    assert np.array_equal(all_of.own_B, some.own_B)
    one = np.flatnonzero(np.diff(whole.offsets) == 1)
    exact = {(r, c): s for r, c, s in zip(all_of.row_P, all_of.class_P, all_of.sum_P)}
    kept = {(r, c): s for r, c, s in zip(some.row_P, some.class_P, some.sum_P)}
    assert len(kept) < len(exact)
    share = whole.share_C
    for row in one:
        others = [k for k in range(6) if k != labels[row]]
        for k in others:
            if (row, k) in kept:
                assert kept[row, k] == pytest.approx(exact[row, k])
        for sums, found in ((all_of, exact), (some, kept)):
            odds = [share[k] * math.exp(found.get((row, k), sums.none_B[row])) for k in others]
            odds.append(share[labels[row]] * math.exp(sums.own_B[row]))
            assert sum(odds) == pytest.approx(1, abs=1e-6)


def test_the_strength_is_the_likeliest() -> None:
    """Words of one frequency: every (a, share of telling words) by the naive likelihood of left-out
    labels."""
    rng = np.random.default_rng(0)
    words = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60)]
    home = rng.integers(0, 5, 60)
    labels, texts = [], []
    for i, word in enumerate(words):
        for _ in range(6):
            telling = i % 3 == 0 and rng.random() < 0.8
            labels.append(home[i] if telling else rng.integers(0, 5))
            texts.append(word + f" {len(texts)}")  # a number of its own, so that no text is a copy
    y = np.array(labels, np.int32)
    share = (np.bincount(y) + 0.5) / (np.bincount(y) + 0.5).sum()
    counts = count(hashed(texts), y, 5)
    best, where = -np.inf, None
    for a in wordcounts.STRENGTHS:
        for prior in wordcounts.TELLING[1:]:
            gain = 0.0
            for i in range(60):
                n_k = np.bincount(y[i * 6 : i * 6 + 6], minlength=5).astype(float)
                for k in range(5):
                    if not n_k[k]:
                        continue
                    left = n_k - np.eye(5)[k]
                    bayes = math.lgamma(a) - math.lgamma(5 + a) + sum(
                        math.lgamma(n + a * s) - math.lgamma(a * s) - n * math.log(s)
                        for n, s in zip(left, share)
                    )  # fmt: skip
                    q = 1 / (1 + (1 - prior) / prior * math.exp(-bayes))
                    gain += n_k[k] * math.log(1 + q * ((left[k] / share[k] + a) / (5 + a) - 1))
            if gain > best:
                best, where = gain, (a, prior)
    assert best > wordcounts.LEAST
    assert set(counts.strength_V) == {where[0]}
    rank = np.argsort(counts.belief_V)
    concentrated = [max(np.bincount(y[i * 6 : i * 6 + 6])) for i in range(60)]
    assert np.mean(np.sort(concentrated)[-10:]) > 5
    assert counts.belief_V[rank[-1]] > 3 > 0 > counts.belief_V[rank[0]]


def test_log_gamma() -> None:
    x = 10.0 ** np.linspace(-8, 7, 200)
    assert log_gamma(x) == pytest.approx([math.lgamma(v) for v in x], rel=1e-10, abs=1e-10)


def test_words_of_any_script() -> None:
    assert words_of("A Star写真, DSC_0132.JPG") == ["a", "star", "写真", "dsc", "0132", "jpg"]
    assert words_of("e\u0301tude ÉTUDE ｅ") == ["étude", "étude", "e"]
    assert words_of("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert words_of("東京都") == ["東京", "京都"]
    assert words_of("Straße") == ["strasse"]
    assert words_of("<b>\x00—!") == ["b"]


@given(st.lists(st.text(max_size=20), max_size=30))
def test_texts_are_sets_of_words(texts: list[str]) -> None:
    read = hashed(texts)
    assert len(read.offsets) == len(texts) + 1
    for i, one in enumerate(texts):
        mine = read.words[read.offsets[i] : read.offsets[i + 1]]
        assert len(mine) <= len(set(words_of(one)))
        assert (np.diff(mine) > 0).all()
        assert bool(len(mine)) == bool(words_of(one))
        again = hashed([" ".join(reversed(words_of(one)))])
        assert set(again.words) == set(mine) or any(c >= "\u0e00" for c in one)


def made(
    seed: int, *, said: float, echo: bool = False, rows: int = 3000, classes: int = 20
) -> tuple[dict[str, Sequence[str]], np.ndarray, np.ndarray]:
    """(texts, labels, which are wrong): a third of the labels wrong, 40 % of those of no class. Words of any
    frequency, and in a share `said` of titles a word of what is shown, or always of the label."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    wrong = rng.random(rows) < 1 / 3
    labels = np.where(wrong, (truth + rng.integers(1, classes, rows)) % classes, truth).astype(np.int32)
    outside = wrong & (rng.random(rows) < 0.4)
    titles = []
    for i in range(rows):
        words = [_word(int(w)) for w in rng.zipf(1.3, rng.integers(0, 8))]
        if echo:
            words.append(f"topic{_word(labels[i])}")
        elif rng.random() < said and not outside[i]:
            words.append(f"topic{_word(truth[i])}x{_word(int(rng.zipf(2)) % 9)}")
        titles.append(" ".join(words))
    return {"title": titles}, labels, wrong


def _word(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


def test_words_of_classes_find_wrong_labels() -> None:
    texts, labels, wrong = made(0, said=0.7)
    found = text_evidence(texts, labels, [str(i) for i in range(20)])
    assert auroc(found.score_N, wrong) > 0.85
    assert found.informative
    assert found.accuracy > 3 * found.chance


@pytest.mark.parametrize(("said", "echo"), [(0.0, False), (0.0, True)])
def test_where_nothing_is_told_nothing_is_heard(said: float, echo: bool) -> None:
    """Words without a meaning, and titles that repeat what was searched for: no score that differs."""
    for seed in range(3):
        texts, labels, _ = made(seed, said=said, echo=echo)
        found = text_evidence(texts, labels, [str(i) for i in range(20)])
        assert not found.informative
        scores = found.score_N[~np.isnan(found.score_N)]
        assert not len(scores) or (scores == np.median(scores)).mean() > 0.99


def test_labels_that_were_shuffled_say_nothing() -> None:
    texts, labels, _ = made(1, said=0.7)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert not text_evidence(texts, shuffled, [str(i) for i in range(20)]).informative


def test_contradiction_is_worth_more_than_agreement() -> None:
    odds = np.linspace(-60, 60, 200)
    worth = saturated(odds)
    assert (np.diff(worth) >= 0).all()
    assert saturated(np.zeros(1)) == 0
    assert worth[-1] == pytest.approx(math.log((1 - textscore.ELSEWHERE) / textscore.ECHO))
    assert worth[0] == pytest.approx(math.log(textscore.ELSEWHERE / (1 - textscore.ECHO)))
    assert -worth[0] > worth[-1]


def test_the_sharpness_is_the_likeliest() -> None:
    """The gain of `fitted` is the mean over rows of log((1 − s)·p/π + s), p by a softmax over all classes."""
    texts, labels, _ = made(2, said=0.6, rows=400, classes=5)
    counts = count(hashed(texts["title"]), labels, 5)
    fit = fitted(counts, labels)
    rows = np.flatnonzero(np.diff(counts.offsets) > 0)
    sums = summed(counts, labels, rows)
    best = 0.0
    for sharpness in textscore.SHARPNESS:
        for length in textscore.LENGTH:
            logits = np.repeat(sums.none_B[:, None], 5, axis=1)
            logits[sums.row_P, sums.class_P] = sums.sum_P
            logits[np.arange(len(rows)), labels[rows]] = sums.own_B
            p = counts.share_C * np.exp(sharpness * logits / np.maximum(sums.words_B, 1)[:, None] ** length)
            ratio = (p / p.sum(axis=1, keepdims=True) / counts.share_C)[np.arange(len(rows)), labels[rows]]
            best = max(best, *(np.log((1 - s) * ratio + s).mean() for s in textscore.ASTRAY))
    assert fit.gain == pytest.approx(best)
    assert fit.tells


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, labels, _ = made(3, said=0.5, rows=700)
    labels[5:50] = -1
    names = [str(i) for i in range(20)]
    whole = text_score(texts, labels, names)
    monkeypatch.setattr(textscore, "BLOCK", 37)
    monkeypatch.setattr("smelt.mining.tokens.BLOCK", 41)
    assert np.array_equal(text_score(texts, labels, names), whole, equal_nan=True)
    assert np.isnan(whole[5:50]).all()


def test_a_text_of_another_class_names_it() -> None:
    texts, labels, _ = made(0, said=0.9, classes=6)
    title = list(texts["title"])
    title[0] = f"topic{_word((labels[0] + 1) % 6)}x{_word(1)}"
    found = text_evidence({"title": title}, labels, [str(i) for i in range(6)])
    assert found.best_N[0] == (labels[0] + 1) % 6
    assert found.score_N[0] < np.nanquantile(found.score_N, 0.3)


def test_fields_are_fetched_by_slices_and_wrong_arguments_said() -> None:
    class Catalogue:
        def strings(self, name: str, rows: list[int]) -> list[str]:
            return [f"{name} {row}" for row in rows]

    column = Column(Catalogue(), "title", np.array([4, 2, 9]))  # type: ignore[arg-type]
    assert column[1:3] == ["title 2", "title 9"]
    assert column[0] == "title 4"
    with pytest.raises(ValueError, match="3 rows, and labels"):
        text_score({"title": column}, np.zeros(2, np.int32), ["a"])
    with pytest.raises(ValueError, match="a label is 3"):
        text_score({"title": column}, np.array([0, 3, 0]), ["a"])
    with pytest.raises(TypeError, match="whole numbers"):
        text_score({"title": column}, np.zeros(3), ["a"])
    assert np.isnan(text_score({"title": ["", "", ""]}, np.zeros(3, np.int32), ["a"])).all()
    assert np.isnan(text_score({}, np.zeros(3, np.int32), ["a"])).all()
