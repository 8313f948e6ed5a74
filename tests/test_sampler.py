"""Sampler: exact counts, no repeats before a class is used up, rotation, ranks, resuming at any step."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.data.images.sampler import ClassBalancedSampler, permute

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=80)


def sampler_of(labels: list[int], per_class: int | None, seed: int = 0, **kw: int) -> ClassBalancedSampler:
    rows = np.arange(len(labels)) * 3 + 1  # rows are not positions
    return ClassBalancedSampler(rows, np.array(labels), images_per_class=per_class, seed=seed, **kw)


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
@settings(max_examples=80, deadline=None)
def test_permute_is_a_permutation(size: int, key: int) -> None:
    out = permute(np.arange(size, dtype=np.uint32), size, key)
    assert np.array_equal(np.sort(out), np.arange(size))


def test_permute_looks_random() -> None:
    """Neighbours, fixed points and the ends of the range behave as in random permutations."""
    size, fixed, adjacent, first = 1000, 0, 0, []
    for key in range(300):
        out = permute(np.arange(size, dtype=np.uint32), size, key).astype(np.int64)
        fixed += int((out == np.arange(size)).sum())
        adjacent += int((np.diff(out) == 1).sum())
        first.append(int(out[0]))
    assert 200 < fixed < 400 and 200 < adjacent < 400  # both Poisson, mean 300
    assert abs(np.mean(first) - 499.5) < 5 * 289 / 300**0.5
    assert len(set(first)) > 220  # 300 draws of 1,000: 259 expected


@given(LABELS, st.integers(1, 30), st.integers(0, 5), st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_exactly_so_many_of_each_class(labels: list[int], per_class: int, seed: int, epoch: int) -> None:
    drawn = sampler_of(labels, per_class, seed).epoch(epoch)
    assert drawn.dtype == np.int64
    counts = Counter(labels[(row - 1) // 3] for row in drawn.tolist())
    assert counts == dict.fromkeys(set(labels), per_class)


@given(LABELS, st.integers(1, 30), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_no_repeat_before_the_class_is_used_up(labels: list[int], per_class: int, seed: int) -> None:
    """Within an epoch, and over any run of epochs: counts of two rows of a class differ by at most one."""
    sampler = sampler_of(labels, per_class, seed)
    sizes = Counter(labels)
    total: Counter[int] = Counter()
    for epoch in range(4):
        once = Counter(sampler.epoch(epoch).tolist())
        total += once
        for counts in (once, total):
            for label in sizes:
                of_class = [counts[i * 3 + 1] for i, other in enumerate(labels) if other == label]
                assert max(of_class) - min(of_class) <= 1


@given(LABELS, st.integers(1, 10))
@settings(max_examples=50, deadline=None)
def test_rotation_shows_every_row(labels: list[int], per_class: int) -> None:
    sampler = sampler_of(labels, per_class)
    epochs = -(-max(Counter(labels).values()) // per_class)
    seen = np.concatenate([sampler.epoch(epoch) for epoch in range(7, 7 + epochs)])
    assert set(seen.tolist()) == {i * 3 + 1 for i in range(len(labels))}


@given(
    LABELS, st.one_of(st.none(), st.integers(1, 9)), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3)
)
@settings(max_examples=60, deadline=None)
def test_ranks_share_each_batch(
    labels: list[int], per_class: int | None, batch: int, world: int, epoch: int
) -> None:
    sampler = sampler_of(labels, per_class)
    order = sampler.epoch(epoch)
    parts = [sampler.batches(epoch, batch, rank, world) for rank in range(world)]
    assert len(parts[0]) == -(-len(order) // batch)
    assert [part.num_images for part in parts] == [sum(map(len, part)) for part in parts]
    for number, pieces in enumerate(zip(*parts)):
        whole = order[number * batch : (number + 1) * batch]
        assert sorted(np.concatenate(pieces).tolist()) == sorted(whole.tolist())
        for rank, piece in enumerate(pieces):
            assert piece.tolist() == whole[rank::world].tolist()
            assert parts[rank].whole(number).tolist() == whole.tolist()


@given(LABELS, st.one_of(st.none(), st.integers(1, 9)), st.integers(1, 7), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_even_batches_share_the_epoch(
    labels: list[int], per_class: int | None, batch: int, world: int
) -> None:
    sampler = sampler_of(labels, per_class)
    order = sampler.epoch(1)
    parts = [sampler.batches(1, batch, rank, world, even=True) for rank in range(world)]
    assert len(parts[0]) == -(-len(order) // batch)
    assert [part.num_images for part in parts] == [sum(map(len, part)) for part in parts]
    whole = [parts[0].whole(number) for number in range(len(parts[0]))]
    assert np.concatenate(whole).tolist() == order.tolist()
    sizes = [len(one) for one in whole]
    assert sizes == [parts[0].size(number) for number in range(len(whole))]
    assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1
    for rank, part in enumerate(parts):
        assert [piece.tolist() for piece in part] == [one[rank::world].tolist() for one in whole]


@given(LABELS, st.one_of(st.none(), st.integers(1, 9)), st.data())
@settings(max_examples=60, deadline=None)
def test_any_slice_is_that_slice_of_the_epoch(
    labels: list[int], per_class: int | None, data: st.DataObject
) -> None:
    order = sampler_of(labels, per_class).epoch(2)
    start = data.draw(st.integers(0, len(order)))
    stop = data.draw(st.integers(start, len(order)))
    again = sampler_of(labels, per_class)
    assert again.draw(2, start, stop).tolist() == order[start:stop].tolist()


@given(LABELS, st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_every_row_once_without_balance(labels: list[int], epoch: int) -> None:
    drawn = sampler_of(labels, None).epoch(epoch)
    assert sorted(drawn.tolist()) == [i * 3 + 1 for i in range(len(labels))]


def test_epochs_and_seeds_differ_and_equal_ones_do_not() -> None:
    labels = [0] * 200 + [1] * 50
    first = sampler_of(labels, 100).epoch(0)
    assert np.array_equal(first, sampler_of(labels, 100).epoch(0))
    assert not np.array_equal(first, sampler_of(labels, 100).epoch(1))
    assert not np.array_equal(first, sampler_of(labels, 100, seed=1).epoch(0))


def test_the_order_is_pinned() -> None:
    """The order is part of what resuming relies on: a change of it needs a new version of the stage train."""
    drawn = sampler_of([0, 0, 0, 1, 1, 2], 2, seed=5).epoch(3)
    assert drawn.tolist() == [1, 13, 4, 10, 16, 16]


def test_classes_in_any_order_and_many_parts() -> None:
    """The counting sort agrees with a plain one over many chunks."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 300, 700_000).astype(np.int32)
    sampler = ClassBalancedSampler(np.arange(len(labels)), labels, images_per_class=7, seed=1)
    drawn = sampler.epoch(1)
    assert np.array_equal(np.bincount(labels[drawn]), np.full(300, 7))
    assert len(np.unique(drawn)) == len(drawn)
