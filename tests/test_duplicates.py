"""Joins against plain comparison, hashes against what was done to pictures, groups against a plain search."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from smelt.data.copies import alignment, near
from smelt.data.copies.confirm import CopyFinder, Hashes, Search
from smelt.data.copies.groups import (
    decide,
    followers,
    group_rows,
    join_exact,
    lowest_of,
    partners,
    stars,
)
from smelt.data.copies.hashes import (  # fmt: skip
    BLANK,
    HASHES,
    content_box,
    luma,
    mirrored,
    perceptual_hashes,
    thumbnail,
)
from smelt.data.copies.loose import loose_pairs
from smelt.data.copies.near import near_values
from smelt.data.copies.pairs import near_candidates
from smelt.data.copies.thumbnails import Thumbnails
from smelt.errors import BadImageError

Values = NDArray[np.uint64]
Pixels = NDArray[np.uint8]


def perceptual_hash(picture: NDArray[np.uint8]) -> int:
    """The hash of the whole picture."""
    return int(perceptual_hashes(picture)[0])


def plain_near(values: Values, distance: int) -> list[tuple[int, int]]:
    bits = [[int(a ^ b).bit_count() for b in values.tolist()] for a in values.tolist()]
    return [
        (a, b)
        for i, a in enumerate(values.tolist())
        for j, b in enumerate(values.tolist())
        if a < b and bits[i][j] <= distance
    ]


def pairs_list(sides: tuple[Values, Values]) -> list[tuple[int, int]]:
    return list(zip(sides[0].tolist(), sides[1].tolist()))


@pytest.fixture
def tiny_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks, runs and the switch to plain comparison so small that every path is taken."""
    monkeypatch.setattr(near, "FEW", 4)
    monkeypatch.setattr(near, "CHUNK", 16)
    monkeypatch.setattr(near, "LONG_RUN", 8)
    monkeypatch.setattr(near, "COMPARE_COST", 1e5)  # many tables, even for few values


def hash_sets(kind: str, random: np.random.Generator, count: int) -> Values:
    """Sets that are hard in different ways."""
    values: Values = random.integers(0, 2**64, count, dtype=np.uint64)
    if kind == "few bits vary":
        return values & np.uint64(0x00FF00000000FF0F)
    if kind == "one ball":
        flips = np.uint64(1) << random.integers(0, 64, (3, count)).astype(np.uint64)
        return np.asarray(values[0] ^ flips[0] ^ flips[1] ^ flips[2])
    if kind == "counting":
        return np.uint64(1 << 40) + np.arange(count, dtype=np.uint64)
    if kind == "long runs":
        return np.where(random.random(count) < 0.7, values & np.uint64(0xFFF), values)
    return np.asarray(values, np.uint64)


@pytest.mark.parametrize("kind", ["random", "few bits vary", "one ball", "counting", "long runs"])
@pytest.mark.parametrize("distance", [1, 4, 6])
def test_near_join_finds_what_plain_comparison_finds(kind: str, distance: int, tiny_limits: None) -> None:
    for seed, count in enumerate((2, 5, 40, 180)):
        values = np.unique(hash_sets(kind, np.random.default_rng(seed), count))
        assert pairs_list(near_values(values, distance)) == plain_near(values, distance)


@given(hnp.arrays(np.uint64, st.integers(0, 40)), st.integers(0, 8))
@settings(max_examples=40, deadline=None)
def test_near_join_of_any_values(values: Values, distance: int) -> None:
    values = np.unique(values)
    assert pairs_list(near_values(values, distance)) == plain_near(values, distance)


def test_near_join_at_a_size_that_uses_tables() -> None:
    random = np.random.default_rng(3)
    values = random.integers(1, 2**64, 40_000, dtype=np.uint64)
    flips = np.zeros(2_000, np.uint64)
    for _ in range(4):
        flips ^= np.uint64(1) << random.integers(0, 64, 2_000).astype(np.uint64)
    values[20_000:22_000] = values[:2_000] ^ flips
    lower, higher = near_values(np.unique(values), 4)
    found = set(zip(lower.tolist(), higher.tolist()))
    for a, b in zip(values[:2_000].tolist(), values[20_000:22_000].tolist()):
        assert a == b or (min(a, b), max(a, b)) in found
    assert (np.bitwise_count(lower ^ higher) <= 4).all()
    one = near_values(np.unique(values), 4, threads=1)
    assert np.array_equal(one[0], lower) and np.array_equal(one[1], higher)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60))
@settings(deadline=None)
def test_exact_join_is_the_first_row_of_equal_bytes(rows: list[tuple[int, bool]]) -> None:
    data = np.array([[0] * 7 + [value] + [value % 2] * 8 for value, _ in rows], np.uint8).reshape(-1, 16)
    valid = np.array([ok for _, ok in rows], bool)
    seen: dict[bytes, int] = {}
    wanted = [
        seen.setdefault(line.tobytes(), row) if ok else row for row, (line, ok) in enumerate(zip(data, valid))
    ]
    assert join_exact(data, valid).tolist() == wanted
    assert join_exact(data.view("V16").reshape(-1), valid).tolist() == wanted


@given(st.integers(1, 60), st.data())
@settings(deadline=None)
def test_groups_are_connected_components(count: int, data: st.DataObject) -> None:
    row = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(row, row), max_size=80))
    wanted = list(range(count))
    changed = True
    while changed:
        changed = False
        for a, b in pairs:
            low = min(wanted[a], wanted[b])
            changed |= wanted[a] != low or wanted[b] != low
            wanted[a] = wanted[b] = low
    assert group_rows(count, np.array(pairs, np.int64).reshape(-1, 2)).tolist() == wanted


def test_a_long_chain_is_one_group() -> None:
    random = np.random.default_rng(0)
    order = random.permutation(100_000)
    pairs = np.stack([order[1:], order[:-1]], axis=1)
    assert (group_rows(100_000, pairs) == 0).all()


def test_followers_tell_pictures_of_one_hash_apart() -> None:
    pictures = np.array([0, 1, 0, 2, 1, 0, 5, 5])
    classes = np.array([7, 7, 7, 7, 7, 8, 8, 8], np.uint64)
    seen: list[list[int]] = []

    def same(pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        seen.extend(pairs.tolist())
        return np.asarray(pictures[pairs[:, 0]] == pictures[pairs[:, 1]])

    pairs, leaders = followers(np.arange(8), classes, same, np.arange(8))
    assert sorted(pairs.tolist()) == [[0, 2], [1, 4], [6, 7]]
    assert leaders.tolist() == [0, 1, 3, 5, 6]
    assert [0, 5] not in seen, "rows of different hashes are not compared"


def test_followers_give_up_in_bounded_time() -> None:
    compared = 0

    def never(pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        nonlocal compared
        compared += len(pairs)
        return np.zeros(len(pairs), bool)

    pairs, leaders = followers(np.arange(5_000), np.zeros(5_000), never, np.arange(5_000))
    assert compared < 8 * 5_000 and not len(pairs) and leaders.tolist() == list(range(5_000))


def test_loose_join_finds_most_and_nothing_else() -> None:
    random = np.random.default_rng(1)
    first = random.integers(1, 2**64, 20_000, dtype=np.uint64)
    second = random.integers(1, 2**64, 20_000, dtype=np.uint64)
    flips = np.zeros(1_000, np.uint64)
    for _ in range(6):
        flips ^= np.uint64(1) << random.integers(0, 64, 1_000).astype(np.uint64)
    second[1_000:2_000] = first[:1_000] ^ flips
    second[5], first[6] = 0, 0
    pairs = loose_pairs(first, second, 8)
    assert (np.bitwise_count(first[pairs[:, 0]] ^ second[pairs[:, 1]]) <= 8).all()
    planted = {(row, row + 1_000) for row in range(1_000)} - {(6, 1_006)}
    assert len(planted & set(map(tuple, pairs.tolist()))) > 0.9 * len(planted)
    assert np.array_equal(pairs, loose_pairs(first, second, 8, threads=1))
    assert len(loose_pairs(first[:0], second[:0], 8)) == 0


def test_loose_join_leaves_out_a_picture_with_itself() -> None:
    hashes = np.random.default_rng(0).integers(1, 2**64, 3_000, dtype=np.uint64)
    assert len(loose_pairs(hashes, hashes, 4)) == 0


@given(st.integers(2, 60), st.integers(0, 1000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_candidates_are_those_of_a_plain_search(count: int, seed: int, mirror: bool) -> None:
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 4, (count, 2), dtype=np.uint64) * np.uint64(0x1111)
    hashes[:, 1] = np.where(random.random(count) < 0.7, hashes[:, 0], hashes[:, 1])
    far = np.uint64(0xF0F0F0F000000000)
    hashes = np.where((random.random(count) < 0.5)[:, None] & (hashes != BLANK), hashes ^ far, hashes)
    rows = np.sort(random.permutation(1000)[:count])
    found = near_candidates(rows, hashes, 4, mirror)
    ways = [hashes.T, mirrored(hashes.T)] if mirror else [hashes.T]
    wanted = np.zeros((count, count), bool)
    for way in ways:
        for own in hashes.T:
            for other in way:
                near_enough = np.bitwise_count(own[:, None] ^ other[None]) <= 4
                wanted |= near_enough & (own != BLANK)[:, None] & (other != BLANK)[None]
    wanted |= wanted.T
    np.fill_diagonal(wanted, False)
    # the pairs are fewer (one of many equal hashes stands for all), the groups they make are the same
    position = np.searchsorted(rows, found.pairs_R2)
    assert wanted[position[:, 0], position[:, 1]].all()
    assert (found.pairs_R2[:, 0] < found.pairs_R2[:, 1]).all()
    everything = np.stack(np.nonzero(wanted), axis=1)
    assert np.array_equal(group_rows(count, position), group_rows(count, everything))


def scene(seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """A picture with structure at all scales, no two alike."""
    random = np.random.default_rng(seed)
    layers = np.zeros((height, width, 3))
    for cells, strength in ((3, 1.0), (7, 0.7), (17, 0.5), (45, 0.25)):
        small = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layers += strength * np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), float)
    return Image.fromarray((layers / 2.45).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = 60) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def pixels(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))


def bits(a: int, b: int) -> int:
    return (int(a) ^ int(b)).bit_count()


def test_hash_survives_coding_scaling_and_greying() -> None:
    for seed in range(20):
        image = scene(seed)
        own = perceptual_hash(pixels(image))
        assert bits(own, perceptual_hash(pixels(jpeg(image, 40)))) <= 4
        assert bits(own, perceptual_hash(pixels(image.resize((100, 75), Image.Resampling.BICUBIC)))) <= 4
        assert bits(own, perceptual_hash(np.asarray(image.convert("L")))) <= 2
        assert bits(own, perceptual_hash(np.asarray(image.convert("L"))[:, :, None])) <= 2


def test_hashes_of_different_pictures_are_far_apart() -> None:
    hashes = np.array([perceptual_hash(pixels(scene(seed))) for seed in range(60)], np.uint64)
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None])[np.triu_indices(60, 1)]
    assert apart.min() > 10 and 28 < apart.mean() < 36


def test_hash_of_the_mirrored_picture_is_known_from_the_hash() -> None:
    own = np.array([perceptual_hash(pixels(scene(seed))) for seed in range(20)], np.uint64)
    flip = Image.Transpose.FLIP_LEFT_RIGHT
    other = np.array([perceptual_hash(pixels(scene(seed).transpose(flip))) for seed in range(20)], np.uint64)
    assert (np.bitwise_count(mirrored(own) ^ other) <= 2).all()
    assert np.array_equal(mirrored(mirrored(own)), own)
    assert mirrored(np.array([BLANK], np.uint64)).tolist() == [BLANK]


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 10_000, 3), (10_000, 1, 3), (2, 3, 3), (32, 32, 3)])
def test_any_shape_has_hashes(shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, shape, dtype=np.uint8)
    hashes = perceptual_hashes(picture)
    assert hashes[0] == perceptual_hash(picture)
    assert hashes.shape == (HASHES,) and hashes.dtype == np.uint64
    blank = perceptual_hashes(np.full(shape, 130, np.uint8))
    assert blank.tolist() == [BLANK] * HASHES


def test_coding_noise_on_a_plain_picture_stays_blank() -> None:
    noise = np.random.default_rng(0).integers(-1, 2, (90, 90, 3))
    assert perceptual_hash((128 + noise).astype(np.uint8)) == BLANK


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (180, 30, 30)])
def test_a_frame_is_seen_and_taken_off(colour: tuple[int, int, int]) -> None:
    for seed in range(5):
        image = scene(seed)
        framed = Image.new("RGB", (image.width + 24, image.height + 30), colour)
        framed.paste(image, (10, 14))
        left, top, right, bottom = content_box(luma(pixels(jpeg(framed))))
        assert abs(left - 10) <= 2 and abs(top - 14) <= 2
        assert abs(right - 10 - image.width) <= 2 and abs(bottom - 14 - image.height) <= 2
        # a line too many or too few costs some bits: the looser join of parts is there for it
        assert bits(perceptual_hash(pixels(image)), int(perceptual_hashes(pixels(framed))[1])) <= 8


@pytest.mark.parametrize("degrees", [-5, 5])
def test_a_turned_picture_is_near_one_of_the_hashes(degrees: int) -> None:
    for seed in range(10):
        image = scene(seed)
        turned = image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
        distances = [bits(own, perceptual_hash(pixels(turned))) for own in perceptual_hashes(pixels(image))]
        assert min(distances) <= 5
        assert distances[0] > min(distances)


def test_a_soft_edge_is_not_a_frame() -> None:
    ramp = np.repeat(np.linspace(0, 255, 200).astype(np.uint8)[:, None], 200, axis=1)
    image = Image.fromarray(ramp)
    assert content_box(image) == (0, 0, 200, 200)
    hashes = perceptual_hashes(np.asarray(image))
    assert hashes[0] == hashes[1]


def thumbs(*images: Image.Image) -> Pixels:
    return np.stack([thumbnail(luma(pixels(image))) for image in images])


def test_alignment_confirms_copies_and_refuses_others() -> None:
    images = [scene(seed) for seed in range(12)]
    box = (9, 3, 231, 171)
    changes = {
        "re-encoded": [jpeg(image, 30) for image in images],
        "cropped": [image.crop(box) for image in images],
        "turned": [image.rotate(4, Image.Resampling.BICUBIC) for image in images],
        "brighter": [Image.eval(image, lambda level: min(255, int(level * 1.3 + 10))) for image in images],
    }
    for name, copies in changes.items():
        result = alignment.compare(thumbs(*images), thumbs(*copies))
        assert np.maximum(result.unmoved_P, result.aligned_P).min() > 0.88, name
        assert result.overlap_P.min() > 0.6, name
    others = alignment.compare(thumbs(*images), thumbs(*images[1:], images[0]))
    assert max(others.unmoved_P.max(), others.aligned_P.max()) < 0.6


def test_alignment_of_nothing_and_of_blanks() -> None:
    empty = np.zeros((0, 64, 64), np.uint8)
    assert len(alignment.compare(empty, empty).aligned_P) == 0
    blank = np.full((2, 64, 64), 9, np.uint8)
    result = alignment.compare(blank, blank)
    assert np.isfinite(result.aligned_P).all() and result.aligned_P.max() < 0.1


class Memory:
    """A store of pictures in memory; None is an image that cannot be read."""

    def __init__(self, images: list[Image.Image | None]) -> None:
        self.images = images

    def read(self, row: int) -> bytes | Pixels:
        image = self.images[row]
        if image is None:
            raise BadImageError("missing")
        return pixels(image)


def search_pictures(images: list[Image.Image | None], tmp_path: Path, search: Search) -> NDArray[np.int64]:
    """Groups of pictures that have nothing in common but what they show."""
    count = len(images)
    alone = np.arange(2 * count, dtype=np.uint64).view(np.uint8).reshape(-1, 16)
    perceptual = np.array([perceptual_hashes(pixels(image or scene(0))) for image in images], np.uint64)
    thumbnails = Thumbnails(Memory(images), tmp_path / "thumbnails", 2)
    everything = Hashes(np.ones(count, bool), alone, alone, perceptual)
    return CopyFinder(everything, thumbnails, search, lambda *_: None).find(np.zeros(count, bool)).groups_N


def family(seed: int) -> Iterator[Image.Image]:
    image = scene(seed)
    yield image
    yield jpeg(image.resize((120, 90), Image.Resampling.BICUBIC), 50)
    yield image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    yield image.crop((6, 4, 234, 176))


def test_search_groups_families_of_copies(tmp_path: Path) -> None:
    images: list[Image.Image | None] = [image for seed in range(8) for image in family(seed)]
    groups = search_pictures(images, tmp_path, Search())
    assert groups.tolist() == [row // 4 * 4 for row in range(32)]
    strict = search_pictures(images, tmp_path, Search(mirrored=False, crop_distance=0))
    assert all(strict[row] == row for row in range(2, 32, 4)), "mirrored ones are found only when asked for"


def test_equal_hashes_are_no_copies_until_the_pixels_agree(tmp_path: Path) -> None:
    """Pictures forced to one hash: three copies of one, two of another, one alone, one unreadable."""
    images = [scene(1), scene(2), jpeg(scene(1)), scene(3), jpeg(scene(2)), jpeg(scene(1), 40), None]
    alone = np.arange(14, dtype=np.uint64).view(np.uint8).reshape(-1, 16)
    forced = np.full((7, 1), 12345, np.uint64)
    thumbnails = Thumbnails(Memory(images), tmp_path / "thumbnails", 1)
    everything = Hashes(np.ones(7, bool), alone, alone, forced)
    copies = CopyFinder(everything, thumbnails, Search(), lambda *_: None).find(np.zeros(7, bool))
    assert copies.groups_N.tolist() == [0, 1, 0, 3, 1, 0, 6]


def test_blanks_join_by_colour_not_by_hash(tmp_path: Path) -> None:
    colours = [(10, 10, 10), (200, 200, 200), (10, 10, 10), (200, 40, 40), (200, 40, 41), (10, 10, 11)]
    images: list[Image.Image | None] = [Image.new("RGB", (40, 30), colour) for colour in colours]
    assert search_pictures(images, tmp_path, Search()).tolist() == [0, 1, 0, 3, 3, 0]


def verdict_of(groups: list[int], held: list[int], **more: list[int]) -> dict[int, tuple[int, ...]]:
    """row → (keep, leak, cross_label, original)."""
    count = len(groups)
    held_out = np.isin(np.arange(count), held)
    labels = np.array(more.get("labels", [0] * count), np.int32)
    area, size = (np.array(more.get(name, [0] * count), np.int64) for name in ("area", "size"))
    verdict = decide(np.array(groups), labels, held_out, area, size)
    columns = (verdict.keep, verdict.leak, verdict.cross_label, verdict.original)
    return {row: tuple(values) for row, *values in zip(verdict.rows.tolist(), *(c.tolist() for c in columns))}


def test_the_best_copy_is_kept() -> None:
    by_area = verdict_of([0, 0, 0, 3], [], area=[5, 9, 9, 1], size=[9, 1, 2, 1])
    assert by_area == {
        0: (False, False, False, 2), 1: (False, False, False, 2), 2: (True, False, False, 2),
    }  # fmt: skip
    ties = verdict_of([0, 1, 0, 1], [])
    assert [ties[row][0] for row in range(4)] == [True, True, False, False], "the lowest row of equals"


def test_held_out_images_win_and_are_never_dropped() -> None:
    verdict = verdict_of([0, 0, 0, 0], [1, 2], area=[99, 1, 2, 50])
    assert verdict == {
        0: (False, True, False, 2),
        1: (True, False, False, 2),
        2: (True, False, False, 2),
        3: (False, True, False, 2),
    }


def test_labels_that_differ_are_told_but_unknown_ones_do_not_count() -> None:
    verdict = verdict_of([0, 0, 2, 2, 4, 4], [1], labels=[3, -1, 1, 2, 5, 5])
    assert [verdict[row][2] for row in range(6)] == [False, False, True, True, False, False]


def test_what_is_dropped_is_set() -> None:
    groups, held = np.array([0, 0, 0, 3, 3]), np.array([False, False, True, False, False])
    zeros = np.zeros(5, np.int64)
    labels = np.zeros(5, np.int32)

    def kept(**which: bool) -> list[bool]:
        return list(decide(groups, labels, held, zeros, zeros, **which).keep)

    assert kept() == [False, False, True, True, False]
    assert kept(against_held_out=False) == [True, False, True, True, False]
    assert kept(within_training=False) == [False, False, True, True, True]
    assert kept(within_training=False, against_held_out=False) == [True] * 5


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 2), st.integers(0, 2)), max_size=40)
)
@settings(deadline=None)
def test_decisions_hold_their_promises(rows: list[tuple[int, bool, int, int]]) -> None:
    first: dict[int, int] = {}
    groups = np.array([first.setdefault(group, row) for row, (group, *_) in enumerate(rows)], np.int64)
    held = np.array([row[1] for row in rows], bool)
    labels, area = (np.array([row[at] for row in rows], np.int64) for at in (2, 3))
    verdict = decide(groups, labels.astype(np.int32), held, area, area)
    assert not held.any() or verdict.keep[held[verdict.rows]].all()
    for number in range(len(np.unique(verdict.group))):
        inside = verdict.group == number
        members, kept = verdict.rows[inside], verdict.rows[inside & verdict.keep]
        assert len(members) > 1 and len(set(groups[members].tolist())) == 1
        assert held[members].sum() == len(kept) if held[members].any() else len(kept) == 1
        assert len(set(verdict.original[inside].tolist())) == 1 and verdict.original[inside][0] in kept
        assert verdict.leak[inside].tolist() == [
            bool(held[members].any()) and not held[row] for row in members
        ]
        assert verdict.cross_label[inside].tolist() == [len(set(labels[members].tolist())) > 1] * len(members)


PAIRS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda p: p[0] < p[1]), max_size=25)


def as_pairs(found: list[tuple[int, int]]) -> NDArray[np.int64]:
    return np.array(sorted(set(found)), np.int64).reshape(-1, 2)


@given(PAIRS, st.permutations(range(12)))
@settings(deadline=None)
def test_stars_against_a_plain_greedy_cover(found: list[tuple[int, int]], rank: list[int]) -> None:
    centre: dict[int, int] = {}
    for row in sorted(range(12), key=lambda row: rank[row]):
        if row not in centre:
            centre[row] = row
            for other in range(12):
                if (min(row, other), max(row, other)) in found and other not in centre:
                    centre[other] = row
    assert stars(as_pairs(found), np.array(rank)).tolist() == [centre[row] for row in range(12)]


@given(PAIRS, st.lists(st.booleans(), min_size=12, max_size=12), st.permutations(range(12)))
@settings(deadline=None)
def test_partners_against_a_plain_search(
    found: list[tuple[int, int]], wanted: list[bool], rank: list[int]
) -> None:
    exact = np.array([row // 3 * 3 for row in range(12)])  # four pictures, three equal copies of each
    near = as_pairs([(exact[a], exact[b]) for a, b in found if exact[a] != exact[b]])
    got = partners(near, exact, np.array(wanted), np.array(rank)).tolist()
    pairs = {tuple(pair) for pair in near.tolist()}
    for row in range(12):
        own = exact[row]
        of_class = {first: [r for r in range(first, first + 3) if wanted[r]] for first in (0, 3, 6, 9)}
        others = [b for b in (0, 3, 6, 9) if ((own, b) in pairs or (b, own) in pairs) and of_class[b]]
        best = own if of_class[own] else min(others, key=lambda b: rank[b], default=None)
        assert got[row] == (-1 if best is None else of_class[best][0])


class Alike:
    """Thumbnails of pictures of which it is said which are alike; counts what is compared."""

    def __init__(self, alike: NDArray[np.bool_]) -> None:
        self.alike, self.asked = alike, 0

    def add(self, rows: NDArray[np.int64], progress: object) -> None:
        pass

    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)

    def colours(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.zeros(len(rows), np.int64)

    def same_blank(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self.alike[pairs[:, 0], pairs[:, 1]]

    def same(self, pairs: NDArray[np.int64], mirrored: object, agrees: object) -> NDArray[np.bool_]:
        self.asked += len(pairs)
        return self.alike[pairs[:, 0], pairs[:, 1]]


def finder(alike: NDArray[np.bool_], hashes: list[int], area: list[int] | None = None) -> CopyFinder:
    count = len(alike)
    alone = np.arange(2 * count, dtype=np.uint64).view(np.uint8).reshape(-1, 16)
    known = Hashes(np.ones(count, bool), alone, alone, np.array(hashes, np.uint64).reshape(-1, 1))
    sizes = np.array(area or [0] * count, np.int64)
    return CopyFinder(known, Alike(alike), Search(), lambda *_: None, sizes)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=2, max_size=12),
    PAIRS,
    st.integers(0, 1),
)
@settings(deadline=None, max_examples=200)
def test_every_row_of_a_group_was_compared_with_its_best(
    rows: list[tuple[int, int, bool]], found: list[tuple[int, int]], blank: int
) -> None:
    """Likeness that is not transitive: hashes 0 (blank) to 3 apart by up to 2 bits, areas, held-out rows."""
    count = len(rows)
    alike = np.zeros((count, count), bool)
    for a, b in found:
        if a < count and b < count:
            alike[a, b] = alike[b, a] = True
    held = np.array([row[2] for row in rows])
    area = [row[1] for row in rows]
    copies = finder(alike, [row[0] + (0 if blank else 4) for row in rows], area).find(held)
    zeros = np.zeros(count, np.int64)
    verdict = decide(
        copies.groups_N, zeros.astype(np.int32), held, np.array(area), zeros, shown_N=copies.shown_N
    )
    for row, original, leak in zip(verdict.rows.tolist(), verdict.original.tolist(), verdict.leak.tolist()):
        assert row == original or alike[row, original]
        assert not leak or held[original]
    for a, b in copies.pairs_R2.tolist():
        assert alike[a, b]
        leaks = dict(zip(verdict.rows.tolist(), verdict.leak.tolist()))
        assert not held[b] or held[a] or leaks[a]
        assert not held[a] or held[b] or leaks[b]
    for group in np.unique(verdict.group):
        inside = verdict.group == group
        training = inside & ~held[verdict.rows] & ~verdict.leak
        assert (verdict.keep & training).sum() == min(1, training.sum())


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3), st.booleans()), min_size=2, max_size=14))
@settings(deadline=None, max_examples=200)
def test_likeness_that_is_transitive_gives_its_classes(rows: list[tuple[int, int, bool]]) -> None:
    """Pictures, copies of them with hashes up to two bits apart, held out or not: nothing is missed."""
    picture = np.array([row[0] for row in rows])
    held = np.array([row[2] for row in rows])
    copies = finder(picture[:, None] == picture[None], [16 * row[0] + row[1] for row in rows]).find(held)
    _, first, inverse = np.unique(picture, return_index=True, return_inverse=True)
    assert copies.chains_N.tolist() == first[inverse].tolist()
    shown = np.array([bool((held & (picture == own)).any()) for own in picture])
    assert ((copies.shown_N >= 0) == shown).all()
    assert copies.groups_N.tolist() == lowest_of(picture).tolist() == first[inverse].tolist()


def test_a_hub_that_a_better_copy_takes_leaves_nobody_behind() -> None:
    """2,000 copies of one placeholder: a larger one of another hash takes the one that led them."""
    count = 2000
    alike = np.ones((count, count), bool)
    hashes = [7] * count
    hashes[-1] = 6
    found = finder(alike, hashes, [1] * (count - 1) + [9])
    copies = found.find(np.zeros(count, bool))
    assert not copies.groups_N.any()
    assert found.compare.tested < 10 * count
    alike[-1, 1:] = alike[1:, -1] = alike[-1, 0] = alike[0, -1] = False
    alike[-1, 0] = alike[0, -1] = True  # only the leader is like the larger one
    found = finder(alike, hashes, [1] * (count - 1) + [9])
    copies = found.find(np.zeros(count, bool))
    assert len(np.unique(copies.groups_N)) == 2 and found.compare.tested < 10 * count


def pan(frames: int, step: int = 8) -> list[Image.Image]:
    strip = scene(77, 240 + step * frames, 180)
    return [strip.crop((step * at, 0, step * at + 240, 180)) for at in range(frames)]


def test_the_frames_of_a_pan_are_no_single_picture(tmp_path: Path) -> None:
    images: list[Image.Image | None] = [*pan(60)]
    count = len(images)
    alone = np.arange(2 * count, dtype=np.uint64).view(np.uint8).reshape(-1, 16)
    perceptual = np.array([perceptual_hashes(pixels(image)) for image in images if image], np.uint64)
    thumbnails = Thumbnails(Memory(images), tmp_path / "thumbnails", 2)
    held = np.arange(count) == 30
    copies = CopyFinder(
        Hashes(np.ones(count, bool), alone, alone, perceptual), thumbnails, Search(), lambda *_: None
    ).find(held)
    assert np.bincount(copies.chains_N).max() >= 40, "each frame is like the next"
    assert len(np.unique(copies.groups_N)) > 4
    zeros = np.zeros(count, np.int64)
    verdict = decide(copies.groups_N, zeros.astype(np.int32), held, zeros, zeros, shown_N=copies.shown_N)
    pairs = np.stack([verdict.rows, verdict.original], axis=1)[verdict.rows != verdict.original]
    plain = np.zeros(len(pairs), bool)
    assert thumbnails.same(np.sort(pairs, axis=1), plain, Search().agrees).all()
    leaks = verdict.rows[verdict.leak]
    assert 1 < len(leaks) < 25 and np.abs(leaks - 30).max() < 15
