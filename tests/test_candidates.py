"""The table of candidates gives the hits of a plain float32 evaluation, image for image."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_toy import build, table_of
from smelt.artifacts.results import cut
from smelt.errors import ResultError
from smelt.fusion.apply import Fusion, plain_hits, top_classes
from smelt.fusion.config import Pooling
from smelt.fusion.exact import build as build_module
from smelt.fusion.exact import hits as table_module
from smelt.fusion.exact import prune, units
from smelt.fusion.exact.build import Wanted, build_all, choose_cap
from smelt.fusion.exact.candidates import Store
from smelt.fusion.exact.hits import tables_of
from smelt.fusion.exact.prune import extreme_means, extreme_shares
from smelt.fusion.fitting.vectors import capped
from smelt.fusion.scores import soften, sources
from smelt.fusion.scores.classranks import ranks
from smelt.fusion.scores.reference import fused, normalised, rounding
from smelt.fusion.scores.soften import largest, normaliser, softmax
from smelt.fusion.scores.sources import Held, Pool
from smelt.metrics import class_averaged, hits_in_list, hits_topk

POOLINGS: list[Pooling] = ["log_probability", "probability", "rank"]


def plain_loop(values_MNC: np.ndarray, weights_M: np.ndarray) -> np.ndarray:
    """What anybody would write: the definition, in the plainest words."""
    scores = np.zeros(values_MNC.shape[1:], np.float32)
    for m in range(len(values_MNC)):
        scores = scores + np.float32(weights_M[m]) * values_MNC[m].astype(np.float32)
    return scores


def brute(pool: Pool, labels: np.ndarray, weights_PM: np.ndarray, k: int) -> np.ndarray:
    values = np.stack(pool.block(np.arange(len(labels)), labels)[0])
    return np.stack([hits_topk(plain_loop(values, w), labels, k) for w in weights_PM])


def pool_of(scores_MNC: np.ndarray, pooling: Pooling = "log_probability", kind: Any = "logits") -> Pool:
    return Pool([Held(str(m), kind, scores) for m, scores in enumerate(scores_MNC)], pooling)


def random_problem(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Scores (M, N, C), labels, weights (P, M), k, of every nature: ties, huge values, near-ties, zeros."""
    random = np.random.default_rng(seed)
    m, n, c = (int(random.integers(1, high)) for high in (14, 40, 30))
    nature = (seed // 3) % 10
    common = random.normal(size=(1, n, c)) * random.choice([0.0, 1.0, 4.0])
    scores = common + random.normal(size=(m, n, c)) * random.choice([0.01, 0.3, 2.0])
    if nature == 1:
        scores = np.round(scores)  # ties everywhere
    elif nature == 2:
        scores = np.round(scores, 2) + 1000.0  # differences near the rounding of the sums
    elif nature == 3:
        scores *= 10.0 ** random.integers(-6, 4, size=(m, 1, 1))
    elif nature == 4:
        scores[:, :, 1:] = scores[:, :, :1] + random.choice([-1, 0, 1], size=(m, n, c - 1)) / 1024
    elif nature == 5:
        scores = random.choice([-300.0, 0.0, 300.0], size=(m, n, c))  # saturated: underflow in softmax
    elif nature == 6:
        scores = random.integers(-3, 4, size=(m, n, c)) * 2.0**-24  # the smallest steps there are
    elif nature == 7:
        scores = random.choice([-1.0, -0.0, 0.0, 1.0], size=(m, n, c))
    elif nature == 8:
        scores[random.random(m) < 0.5] = 0.0  # constant results beside others
    elif nature == 9:
        scores = 1000.0 + random.integers(-2, 3, size=(m, n, c)) * 2.0**-14  # lost in the sums' rounding
    kind = np.float16 if random.random() < 0.7 else np.float32
    labels = random.integers(0, c, n)
    labels[random.random(n) < 0.1] = -1
    weights = random.dirichlet(np.full(m, 0.5), size=9)
    weights[random.random(weights.shape) < 0.3] = 0.0
    weights[weights.sum(axis=1) == 0] = 1.0
    weights[0] = 1.0
    return scores.clip(-60000, 60000).astype(kind), labels, normalised(weights), int(random.integers(1, 7))


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 10**6))
def test_hits_are_those_of_the_plain_loop(seed: int) -> None:
    scores, labels, weights, k = random_problem(seed)
    pool = pool_of(scores, POOLINGS[seed % 3])
    expected = brute(pool, labels, weights, k)
    table = table_of(build(pool, labels, k), labels)
    assert np.array_equal(table.hits(weights), expected)
    known = labels >= 0
    singles = np.stack([hits_topk(one, labels, k) for one in scores])  # as stored, whatever the pooling
    assert np.array_equal(table.store.singles(k)[:, known], singles[:, known])
    if (labels >= 0).any():
        assert table.accuracy(weights).tolist() == [class_averaged(hits, labels) for hits in expected]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 5, 50]))
def test_the_hits_are_those_of_the_lists_that_are_delivered(seed: int, k: int) -> None:
    """Every pooling, every nature of ties, k beyond the classes too: the table, a fusion and its lists."""
    scores, labels, weights, _ = random_problem(seed)
    pool = pool_of(scores, POOLINGS[seed % 3])
    table = table_of(build(pool, labels, k), labels)
    for weight, hits in zip(weights, table.hits(weights)):
        fusion = Fusion("genetic", pool.pooling, tuple(map(float, weight)))
        lists = top_classes(fusion, pool.sources, len(labels), k=k)
        assert np.array_equal(hits_in_list(lists, labels), hits)
        lines = np.arange(len(labels))
        assert np.array_equal(plain_hits(fusion, pool.sources, labels, lines, [k])[k], hits)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 3.0]))
def test_repeated_candidates_are_kept_as_often_as_they_matter(seed: int, bound: float) -> None:
    scores, labels, weights, k = random_problem(seed)
    scores = np.concatenate([scores] * 3, axis=2)[
        :, :, np.random.default_rng(seed).permutation(3 * scores.shape[2])
    ]
    pool = pool_of(scores)
    with mock.patch.object(prune, "MANY", 2):
        store = build(pool, labels, k, bound=bound)
    weights = normalised(capped(weights, store.cap))
    assert np.array_equal(table_of(store, labels).hits(weights), brute(pool, labels, weights, k))
    assert len(store.classes_R) <= len(build(pool, labels, k, bound=bound).classes_R)


def test_thousands_of_tied_classes_do_not_make_thousands_of_candidates() -> None:
    """One result of two puts all probability on one class: every other class ties in it."""
    random = np.random.default_rng(0)
    scores = np.full((2, 20, 3000), -300, np.float32)
    scores[:, :, 0] = 300
    scores[1, np.arange(20), random.integers(1, 3000, 20)] = 305
    labels = random.integers(1500, 3000, 20)
    pool = pool_of(scores, "probability")
    store = build(pool, labels, 5)
    weights = normalised(random.dirichlet([1, 1], 9))
    assert np.array_equal(table_of(store, labels).hits(weights), brute(pool, labels, weights, 5))
    assert (store.counts_U <= 2 * 5 + 2).all()


def test_weights_that_the_cap_lets_pass_are_proven_for() -> None:
    """Rounding lets weights be a little above the cap: a class that can win there is still a candidate."""
    scores = np.full((3, 1, 6), -50, np.float32)
    scores[:, 0, 0], scores[:, 0, 1] = 0, [1, -1.000003, -1.0001]
    pool = pool_of(scores)
    labels = np.zeros(1, np.int32)
    table = table_of(build(pool, labels, 1, bound=1.5), labels)
    weights = normalised([[0.500004, 0.499996, 0.0]])
    assert np.array_equal(table.hits(weights), brute(pool, labels, weights, 1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 1.5, 3.0]))
def test_bounded_weights(seed: int, bound: float) -> None:
    scores, labels, weights, k = random_problem(seed)
    pool = pool_of(scores)
    store = build(pool, labels, k, bound=bound)
    weights = normalised(capped(weights, store.cap))
    assert np.array_equal(table_of(store, labels).hits(weights), brute(pool, labels, weights, k))
    assert len(store.classes_R) <= len(build(pool, labels, k).classes_R)


def test_weights_outside_are_refused() -> None:
    scores, labels, _, k = random_problem(7)
    scores = np.concatenate([scores] * 3)
    table = table_of(build(pool_of(scores), labels, k, bound=2.0), labels)
    one_hot = np.eye(len(scores))[:1]
    with pytest.raises(AssertionError):
        table.hits(one_hot)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("arithmetic", ["numpy", "float32", "bfloat16"])
def test_any_precision_and_several_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int, arithmetic: str
) -> None:
    import torch

    monkeypatch.setattr(table_module, "ROWS", 64)
    if arithmetic != "numpy":
        monkeypatch.setattr(table_module, "halved", lambda numbers: True)
        monkeypatch.setattr(units, "working_type", lambda: getattr(torch, arithmetic))
    random = np.random.default_rng(0)
    truth = random.normal(size=(300, 20))
    scores = (truth + random.normal(size=(24, 300, 20))).astype(np.float16)
    labels = truth.argmax(axis=1)
    weights = normalised(random.dirichlet(np.ones(24), size=33))
    pool = pool_of(scores)
    table = table_of(build(pool, labels, 2), labels, threads)
    assert len(table.tiles) >= 4 and table.many == (arithmetic != "numpy")
    assert isinstance(table.tiles[0].units, np.ndarray) == (arithmetic == "numpy")
    expected = brute(pool, labels, weights, 2)
    assert np.array_equal(table.hits(weights), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_half_precision_changes_no_hit(seed: int) -> None:
    scores, labels, weights, k = random_problem(seed)
    pool = pool_of(scores, POOLINGS[seed % 3])
    with mock.patch.object(table_module, "halved", lambda numbers: True):
        table = table_of(build(pool, labels, k), labels)
    assert table.many and np.array_equal(table.hits(weights), brute(pool, labels, weights, k))


def test_few_go_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Low precision decides nearly all: what is re-examined is a small share of what is compared."""
    random = np.random.default_rng(1)
    truth = random.normal(size=(500, 50))
    monkeypatch.setattr(table_module, "halved", lambda numbers: True)
    scores = (truth + random.normal(size=(32, 500, 50))).astype(np.float16)
    labels = truth.argmax(axis=1)
    store = build(pool_of(scores), labels, 1)
    asked: list[int] = []
    real = Store.above

    def counted(self: Store, rows: Any, which: Any, weights: Any) -> Any:
        asked.append(len(rows))
        return real(self, rows, which, weights)

    monkeypatch.setattr(Store, "above", counted)
    weights = normalised(random.dirichlet(np.ones(32), size=64))
    table_of(store, labels).hits(weights)
    assert sum(asked) < 0.01 * len(store.classes_R) * 64


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_top_k_results_bound_what_all_scores_give(seed: int) -> None:
    scores, labels, weights, k = random_problem(seed)
    scores = scores.astype(np.float16)
    pooling: Pooling = "rank" if seed % 2 else "log_probability"
    kept = 1 + seed % scores.shape[2]
    tops = [Held(str(m), "logits", cut(one, kept), scores.shape[2]) for m, one in enumerate(scores)]
    tops[0] = Held("0", "logits", scores[0])  # dense and cut results may be mixed
    expected = brute(pool_of(scores, pooling), labels, weights, k)
    low = table_of(build(Pool(tops, pooling), labels, k), labels).hits(weights)
    high = table_of(build(Pool(tops, pooling, pessimistic=False), labels, k), labels).hits(weights)
    assert not (low & ~expected).any() and not (expected & ~high).any()
    if kept == scores.shape[2]:
        assert np.array_equal(low, high) or pooling == "rank"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.7]))
def test_a_row_of_probabilities_does_not_depend_on_its_block(seed: int, temperature: float) -> None:
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(60, int(random.integers(1, 3000)))) * 9).astype(np.float16)
    whole = softmax(logits, temperature)
    cuts = np.sort(random.integers(0, 61, 4))
    for part, alone in zip(np.split(whole, cuts), np.split(logits, cuts)):
        assert np.array_equal(softmax(alone, temperature), part)
        assert np.array_equal(softmax(alone.astype(np.float32), temperature), part)
    exact = np.exp(logits.astype(np.float64) / np.float32(temperature))
    np.testing.assert_allclose(whole, exact / exact.sum(axis=1, keepdims=True), rtol=2e-5, atol=1e-30)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_the_largest_logit_is_found_by_its_bits(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.integers(0, 1 << 16, (40, int(random.integers(1, 40))), np.uint16).view(np.float16)
    logits = np.where(np.isnan(logits), np.float16(-0.0), logits)
    logits[::2] = -np.abs(logits[::2])
    assert np.array_equal(largest(logits), logits.max(axis=1).astype(np.float32))
    assert np.array_equal(largest(logits.astype(np.float32)), largest(logits))


def test_normalisers_are_found_for_the_images_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float16)
    whole = normaliser(logits)
    rows: list[int] = []
    monkeypatch.setattr(soften, "normaliser", lambda a, t: rows.append(len(a)) or normaliser(a, t))
    some = soften.Softened(logits)
    for images in ([3, 3, 7], [7, 3], [9], [3, 9, 49]):
        assert np.array_equal(some.normalisers(np.array(images)), whole[images])
    assert rows == [2, 1, 1]
    assert np.array_equal(some.normaliser_B, whole)
    assert np.array_equal(np.asarray(some), softmax(logits))


def test_poolings_that_need_every_score_refuse_cut_results() -> None:
    top = Held("x", "logits", cut(np.ones((2, 5)), 2), 5)
    with pytest.raises(ResultError, match=r"x is a top-K.*probability"):
        Pool([top], "probability").refuse_cut()
    Pool([top], "rank").refuse_cut()
    Pool([top], "log_probability").refuse_cut()


def test_a_pass_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "PART", 16)
    random = np.random.default_rng(3)
    scores, labels = random.normal(size=(5, 100, 8)).astype(np.float16), random.integers(0, 8, 100)
    pool = pool_of(scores)
    whole = build(pool, labels, 2, bound=5, folder=tmp_path / "whole", fingerprint="a")
    real = build_module._part
    done: list[int] = []

    def killed(*arguments: Any) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(arguments[2])
        return real(*arguments)

    monkeypatch.setattr(build_module, "_part", killed)
    with pytest.raises(KeyboardInterrupt):
        build(pool, labels, 2, bound=5, folder=tmp_path / "cut", fingerprint="a")
    monkeypatch.setattr(build_module, "_part", lambda *a: done.append(a[2]) or real(*a))
    seen: list[tuple[int, int]] = []
    resumed = build(
        pool, labels, 2, bound=5, folder=tmp_path / "cut", fingerprint="a",
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert done == list(range(0, 100, 16)) and seen[0] == (48, 100) and seen[-1] == (100, 100)
    for name in ("hits_KN", "values_RM", "classes_R", "images_U", "singles_KMN", "own_UM", "certain_U"):
        assert np.array_equal(getattr(whole, name), getattr(resumed, name)), name
        assert np.array_equal(getattr(whole, name), getattr(build(pool, labels, 2, bound=5), name)), name
    # finished: opened, not built; of other results: built again
    done.clear()
    build(pool, labels, 2, bound=5, folder=tmp_path / "cut", fingerprint="a")
    assert done == []
    build(pool, labels, 2, bound=5, folder=tmp_path / "cut", fingerprint="b")
    assert len(done) == 7
    assert not list((tmp_path / "cut").glob("part-*")) and not list((tmp_path / "cut").glob("*.raw"))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_several_poolings_and_ks_in_one_pass(seed: int) -> None:
    """Counted together where they are about the same logits, and each still its own."""
    scores, labels, weights, _ = random_problem(seed)
    pools = [pool_of(scores, pooling) for pooling in POOLINGS]
    parts = np.arange(len(labels)) % 3
    for store, pool in zip(build_all([Wanted(pool, (5, 1, 2)) for pool in pools], labels), pools):
        for k, table in tables_of(store, labels, parts_N=parts).items():
            expected = brute(pool, labels, weights, k)
            assert np.array_equal(table.hits(weights), expected)
            assert np.array_equal(table_of(store, labels, k=k).hits(weights), expected)
            some = table.part([0, 2], parts)
            keep = parts != 1
            assert np.array_equal(some.hits(weights)[:, keep], expected[:, keep])
            assert some.candidates <= table.candidates
            if (labels[keep] >= 0).any():
                means = [class_averaged(hits[keep], labels[keep]) for hits in expected]
                assert some.accuracy(weights).tolist() == means


def test_the_same_logits_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).normal(size=(3, 20, 5)).astype(np.float16)
    labels = np.arange(20) % 5
    done: list[int] = []
    real = prune.count
    monkeypatch.setattr(prune, "count", lambda *a: done.append(1) or real(*a))
    poolings: list[Pooling] = ["log_probability", "probability"]
    build_all([Wanted(pool_of(scores, p), (k,), bound=3) for p in poolings for k in (1, 5)], labels)
    assert len(done) == 1


@pytest.mark.slow
def test_several_processes(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    scores = random.normal(size=(3, 2100, 6)).astype(np.float16)
    labels = random.integers(0, 6, 2100)
    one = build(pool_of(scores), labels, 1, folder=tmp_path / "one")
    two = build(pool_of(scores), labels, 1, folder=tmp_path / "two", workers=2)
    for path in (tmp_path / "one").glob("*.npy"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    assert np.array_equal(
        table_of(one, labels).hits(np.ones((1, 3))), table_of(two, labels).hits(np.ones((1, 3)))
    )


def test_the_cap_follows_from_the_memory() -> None:
    random = np.random.default_rng(5)
    truth = random.normal(size=(300, 60))
    scores = (truth + 0.7 * random.normal(size=(40, 300, 60))).astype(np.float16)
    labels = truth.argmax(axis=1).astype(np.int32)
    pool = pool_of(scores)
    assert choose_cap(pool, labels, (5,), 4.0) == 1.0
    need = build(pool, labels, 5).values_RM.size * 4.4 / 2**30
    tight = choose_cap(pool, labels, (5,), need / 2)
    assert 2 / 40 <= tight < 1.0
    with pytest.raises(ResultError, match="raise memory_gib"):
        choose_cap(pool, labels, (5,), 1e-6)


def test_extreme_means_are_the_extremes() -> None:
    """Against a linear programme."""
    from scipy.optimize import linprog

    random = np.random.default_rng(6)
    for cap in (1.0, 0.5, 0.3, 0.15, 1 / 7):
        values = random.normal(size=(5, 7)).astype(np.float32)
        low, high, largest = extreme_means(values.copy(), extreme_shares(7, cap))
        assert np.array_equal(largest, np.abs(values).max(axis=1))
        for row in range(5):
            for sign, found in ((1, low), (-1, high)):
                best = linprog(sign * values[row], A_eq=np.ones((1, 7)), b_eq=[1], bounds=(0, cap))
                assert sign * best.fun == pytest.approx(found[row], abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_the_reference_is_the_plain_loop_within_its_rounding(seed: int) -> None:
    scores, _, weights, _ = random_problem(seed)
    for w in weights:
        found = fused(scores, w)
        assert np.array_equal(found, plain_loop(scores, w))
        exact = np.tensordot(w.astype(np.float64), scores.astype(np.float64), 1)
        largest = np.abs(scores.astype(np.float64)).max(axis=0)
        assert (np.abs(found - exact) <= rounding(len(w)) * largest + 1e-30).all()


@given(st.integers(0, 10**6))
def test_weights_are_normalised_once_for_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = normalised(random.dirichlet(np.full(int(random.integers(1, 200)), 0.3), size=5))
    assert np.array_equal(normalised(weights), weights)
    assert np.array_equal(normalised(weights[0].astype(np.float64).tolist()), weights[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_ranks_are_shared_by_equals(seed: int) -> None:
    from scipy.stats import rankdata

    scores = random_problem(seed)[0][0]
    expected = -(rankdata(-scores.astype(np.float64), axis=1) - 1)
    assert np.array_equal(ranks(scores).astype(np.float64), expected)


def test_without_images_or_labels() -> None:
    scores = np.zeros((2, 0, 4), np.float16)
    table = table_of(build(pool_of(scores), np.zeros(0, np.int32), 1), np.zeros(0, np.int32))
    assert table.hits(np.ones((3, 2))).shape == (3, 0)
    labels = np.full(5, -1)
    scores = np.zeros((2, 5, 4), np.float16)
    assert not table_of(build(pool_of(scores), labels, 1), labels).hits(np.ones((1, 2))).any()


@pytest.mark.shared
@pytest.mark.parametrize("pooling", POOLINGS)
def test_real_logits(shared_data: Path, pooling: Pooling) -> None:
    scores = np.load(shared_data / "logits" / "cifar10_test_logits_f16.npy")
    labels = np.load(shared_data / "logits" / "cifar10_test_labels.npy")
    random = np.random.default_rng(0)
    weights = normalised(np.concatenate([random.dirichlet(np.ones(19), 6), np.eye(19)[:2], np.ones((1, 19))]))
    pool = pool_of(scores, pooling)
    for k in (1, 5):
        table = table_of(build(pool, labels, k), labels)
        expected = brute(pool, labels, weights, k)
        assert np.array_equal(table.hits(weights), expected)
        singles = np.stack([hits_topk(one, labels, k) for one in scores])
        if pooling == "log_probability":
            assert np.array_equal(table.store.singles(k), singles)


def test_a_mapped_store_is_not_kept_in_memory(tmp_path: Path) -> None:
    """Its pages are given back once a table is made of it, and read again where they are asked for."""
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(6, 400, 40)).astype(np.float16), random.integers(0, 40, 400)
    pool, weights = pool_of(scores), normalised(random.dirichlet(np.ones(6), 9))
    store = build(pool, labels, 1, folder=tmp_path / "store")
    assert not store.values_RM.flags.writeable  # mapped to be read
    table = table_of(store, labels)
    maps = Path("/proc/self/smaps").read_text().split(str(tmp_path / "store" / "values_RM.npy"))[1:]
    assert maps and sum(int(part.split("Rss:")[1].split()[0]) for part in maps) < 8  # of some 120 KiB
    assert np.array_equal(table.hits(weights), brute(pool, labels, weights, 1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["high", "low", "middle", None]))
def test_ranks_of_few_and_of_many_classes(seed: int, side: Any) -> None:
    """Counted or sorted, the same; both ends of ties against counting in the plainest words."""
    scores = random_problem(seed)[0][0]
    found = ranks(scores, cut_side=side).astype(np.float64)
    with mock.patch("smelt.fusion.scores.classranks.NARROW", 0):
        assert np.array_equal(ranks(scores, cut_side=side), found)
    values = scores.astype(np.float64)
    above = (values[:, None, :] > values[:, :, None]).sum(axis=2)
    equal_ones = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    share = {"high": 0.0, "low": 1.0, "middle": 0.5, None: 0.5}[side]
    assert np.array_equal(-found, np.minimum(above + share * (equal_ones - 1), 100))


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_is_no_number_is_refused(kind: Any, sign: int, pooling: Pooling) -> None:
    scores = np.zeros((2, 30, 5), kind)
    labels = np.zeros(30, np.int32)
    build(pool_of(scores, pooling), labels, 1)
    largest = np.finfo(kind).max * np.array([[1, -1, -0.0]], kind)
    assert sources.numbers(largest, "x", np.arange(1)) is largest
    for odd, words in ((np.nan, r"not a number \(NaN\)"), (np.inf, "infinite .* finite one")):
        scores[1, 17, 3] = np.copysign(odd, sign)
        with pytest.raises(ResultError, match=f"1: the score of image 17 for class 3 is {words}"):
            build(pool_of(scores, pooling), labels, 1)
