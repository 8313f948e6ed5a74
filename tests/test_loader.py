"""The loader: exact rows, the same pixels for any workers and ranks, bad images masked, resumable."""

from __future__ import annotations

import errno
import gc
import io
import os
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.data.config import AugmentSettings, RandAugmentSettings, ViewSettings
from smelt.data.images import loader as module
from smelt.data.images.augment import random_box
from smelt.data.images.decode import Pixels, crop_resize, decode, load_crop
from smelt.data.images.loader import Batch, Loader, _Occurrences, scaled_size
from smelt.data.images.sampler import ClassBalancedSampler
from smelt.data.images.store import ImageStore
from smelt.errors import BadImageError, DataError, StorageError, TrainingError

COUNT = 48
BAD = {5: b"", 17: b"<html>404</html>", 30: b"\xff\xd8\xff"}
AUGMENT = AugmentSettings(sizes=(24, 32), randaugment=RandAugmentSettings(num_ops=2, magnitude=9))


def jpeg(number: int) -> bytes:
    """A JPEG that tells its number: every channel is near 5 × number, with a gradient."""
    height, width = 40 + number % 7, 50 + number % 5
    ramp = np.linspace(0, 12, width).astype(np.uint8)
    pixels = np.full((height, width, 3), 5 * number, np.uint8) + ramp[None, :, None]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def catalogue_of(folder: Path, names: list[str], **fixed: Any) -> Catalogue:
    with CatalogueWriter(folder) as writer:
        paths = Paths.of(os.fsencode(name) for name in names)
        writer.shards = ["images.tar"] if fixed else []
        writer.add(Block("train", "google", paths, np.zeros(len(names), np.int32), fixed=fixed))
        writer.classes = ["one"]
        return Catalogue.open(writer.finish())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """COUNT files, three of them bad."""
    root = tmp_path_factory.mktemp("files")
    names = [f"q{number % 3}/é {number}.jpg" for number in range(COUNT)]
    for number, name in enumerate(names):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(BAD.get(number, jpeg(number)))
    return ImageStore(catalogue_of(root / "catalogue", names), root)


@pytest.fixture
def loader(files: ImageStore) -> Iterator[Loader]:
    made = Loader(files, workers=2, seed=3, max_bad=1.0)
    yield made
    made.close()


def batches_of(rows: NDArray[np.int64], size: int = 10) -> list[NDArray[np.int64]]:
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def shuffled(epoch: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(epoch).permutation(COUNT)


def same(ours: list[Batch], theirs: list[Batch]) -> bool:
    pairs = list(zip(ours, theirs, strict=True))
    return all(
        torch.equal(a.rows_B, b.rows_B)
        and torch.equal(a.images, b.images)
        and torch.equal(a.valid_B, b.valid_B)
        for a, b in pairs
    )


def test_batches_have_their_rows_shapes_and_masks(loader: Loader) -> None:
    batches = batches_of(shuffled())
    got = list(loader.training(batches, AUGMENT, epoch=0))
    assert [batch.rows_B.tolist() for batch in got] == [rows.tolist() for rows in batches]
    for batch in got:
        count, size = len(batch.rows_B), batch.images.shape[-1]
        assert batch.images.shape == (count, 3, size, size) and size in AUGMENT.sizes
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        bad = torch.tensor([row in BAD for row in batch.rows_B.tolist()])
        assert torch.equal(batch.valid_B, ~bad)
        assert not batch.images[bad].any()
    assert {batch.images.shape[-1] for batch in got} == {24, 32}
    assert loader.bad == {5: "empty", 17: "not_an_image", 30: "truncated"}


def test_every_slot_shows_its_own_row(loader: Loader) -> None:
    plain = AugmentSettings(sizes=(16,))
    for batch in loader.training(batches_of(shuffled()), plain, epoch=1):
        for row, image, valid in zip(batch.rows_B.tolist(), batch.images, batch.valid_B.tolist()):
            if valid:
                assert 5 * row - 4 <= image.float().mean() <= 5 * row + 16


@pytest.mark.parametrize("cache_mib", [0, 1000])
def test_the_pixels_do_not_depend_on_the_workers(files: ImageStore, cache_mib: int) -> None:
    batches, results = batches_of(shuffled(), 13), []
    for workers in (1, 2, 5):
        loader = Loader(files, workers=workers, seed=3, cache_mib=cache_mib, max_bad=1.0)
        results.append([list(loader.training(batches, AUGMENT, epoch)) for epoch in (0, 1)])
        loader.close()
    for result in results[1:]:
        assert same(result[0], results[0][0]) and same(result[1], results[0][1])
    assert not same(results[0][0][:1], results[0][1][:1])


def test_seed_and_epoch_change_the_pixels(files: ImageStore) -> None:
    rows = [np.arange(4)]
    augment = AugmentSettings(sizes=(24,))
    images = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        loader = Loader(files, workers=1, seed=seed)
        images.append(next(loader.training(rows, augment, epoch)).images)
        loader.close()
    assert not torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])


def test_the_pixels_of_a_row_do_not_depend_on_the_batches(loader: Loader) -> None:
    augment = AugmentSettings(sizes=(24,), randaugment=RandAugmentSettings())
    by_row: list[dict[int, bytes]] = []
    for size in (7, 20):
        found = {}
        for batch in loader.training(batches_of(shuffled(size), size), augment, epoch=0):
            found |= {int(row): image.numpy().tobytes() for row, image in zip(batch.rows_B, batch.images)}
        by_row.append(found)
    assert by_row[0] == by_row[1]


def test_a_row_that_comes_again_looks_different(loader: Loader) -> None:
    rows = np.array([1, 2, 1, 1, 3])
    (first, second) = loader.training([rows, rows[:3]], AugmentSettings(sizes=(24,)), epoch=0)
    shown = [first.images[0], first.images[2], first.images[3], second.images[0], second.images[2]]
    assert len({image.numpy().tobytes() for image in shown}) == 5


@pytest.mark.parametrize("start", [0, 1, 3, 6, 8])
def test_an_epoch_taken_up_again_goes_on_exactly(loader: Loader, start: int) -> None:
    rows = np.concatenate([shuffled(), shuffled(1)[:20], np.array([1, 1, 1])])
    batches = batches_of(rows, 9)
    whole = list(loader.training(batches, AUGMENT, epoch=4))
    assert same(list(loader.training(batches, AUGMENT, epoch=4, start=start)), whole[start:])


def test_an_epoch_can_be_left_in_the_middle(loader: Loader) -> None:
    batches = batches_of(shuffled(), 4)
    for _ in range(5):
        iterator = loader.training(batches, AUGMENT, epoch=0)
        next(iterator)
        iterator.close()
    assert len(list(loader.training(batches, AUGMENT, epoch=0))) == len(batches)


def test_too_many_bad_images_stop_the_epoch_with_the_list(files: ImageStore) -> None:
    loader = Loader(files, workers=2, seed=0, max_bad=0.05)
    with pytest.raises(TrainingError) as caught:
        list(loader.training(batches_of(np.arange(COUNT)), AUGMENT, epoch=0))
    assert "3 of the epoch's 48 images" in str(caught.value) and "q2/é 17.jpg: not_an_image" in str(
        caught.value
    )
    assert (
        len(list(Loader(files, workers=1, seed=0, max_bad=0.07).training([np.arange(COUNT)], AUGMENT, 0)))
        == 1
    )
    good = np.setdiff1d(np.arange(COUNT), list(BAD))
    assert len(list(loader.training([good], AUGMENT, epoch=0))) == 1
    assert len(list(loader.training([np.array([5, 6])], AUGMENT, epoch=0))) == 1, "two images prove nothing"


def test_views_are_crops_of_the_scaled_image(files: ImageStore, loader: Loader) -> None:
    rows = np.array([3, 5, 8, 40])
    got = list(loader.views(rows, ViewSettings(size=16, crops=10, resize=1.25), batch_size=3))
    assert [batch.rows_B.tolist() for batch in got] == [[3, 5, 8], [40]]
    assert got[0].images.shape == (3, 10, 3, 16, 16) and got[0].valid_B.tolist() == [True, False, True]
    assert not got[0].images[1].any()
    pixels = decode(bytes(files.read(3)))
    height, width = 20, round(20 * pixels.shape[1] / pixels.shape[0])
    whole = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)).astype(int)
    left, top = round((width - 16) / 2), 2
    views = got[0].images[0].permute(0, 2, 3, 1).numpy()
    assert np.abs(views[0] - whole[top : top + 16, left : left + 16]).max() <= 1
    assert np.abs(views[4] - whole[-16:, -16:]).max() <= 1
    assert np.array_equal(views[5], views[0][:, ::-1])


def test_views_of_no_rows(loader: Loader) -> None:
    assert list(loader.views(np.zeros(0, np.int64), ViewSettings(size=8), batch_size=4)) == []


def test_pad_crop_and_the_cache(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(1, 256, (6, 8, 8, 3), dtype=np.uint8)
    with CatalogueWriter(tmp_path / "catalogue") as writer:
        np.save(tmp_path / "catalogue" / "images.npy", raw)
        start = os.path.getsize(tmp_path / "catalogue" / "images.npy") - raw.nbytes
        offsets, sizes = start + 192 * np.arange(6), np.full(6, 192)
        fixed = {"shard": np.zeros(6), "offset": offsets, "size": sizes}
        writer.shards = ["images.npy"]
        paths = Paths.of(str(row).encode() for row in range(6))
        writer.add(Block("train", "", paths, np.zeros(6, np.int32), fixed=fixed))
        writer.classes, writer.raw_shape, writer.inside = ["one"], (8, 8, 3), {"images.npy"}
        catalogue = Catalogue.open(writer.finish())
    store = ImageStore(catalogue, None)
    assert all(np.array_equal(store.read(row), raw[row]) for row in range(6))
    augment = AugmentSettings(sizes=(8,), pad_crop=2, flip=0.0)
    results = []
    for cache_mib in (0, 1):
        loader = Loader(store, workers=2, seed=0, cache_mib=cache_mib)
        (batch,) = loader.training([np.arange(6)], augment, epoch=0)
        results.append(batch.images)
        loader.close()
    assert torch.equal(*results)
    for row, image in enumerate(results[0].permute(0, 2, 3, 1).numpy()):
        padded = np.pad(raw[row], ((2, 2), (2, 2), (0, 0)))
        windows = [padded[y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
        assert any(np.array_equal(image, window) for window in windows)
    plain = AugmentSettings(sizes=(8,), pad_crop=0, flip=0.0)
    (batch,) = Loader(store, workers=1, seed=0).training([np.arange(6)], plain, epoch=0)
    assert np.array_equal(batch.images.permute(0, 2, 3, 1).numpy(), raw)


def test_the_cache_stays_within_its_size(files: ImageStore) -> None:
    loader = Loader(files, workers=2, seed=0, cache_mib=1, max_bad=1.0)
    loader._cache_left = 30_000
    for _ in range(2):
        list(loader.training(batches_of(shuffled()), AUGMENT, epoch=0))
    assert 0 < sum(pixels.nbytes for pixels in loader._cache.values()) <= 30_000


def test_members_of_a_shard_are_read_by_offset(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for number in range(5):
            info = tarfile.TarInfo(f"a/{number}.jpg")
            info.size = len(jpeg(number))
            tar.addfile(info, io.BytesIO(jpeg(number)))
    with tarfile.open(tmp_path / "images.tar") as tar:
        members = tar.getmembers()
    offsets = np.array([member.offset_data for member in members])
    sizes = np.array([member.size for member in members])
    sizes[4] = 10**6  # beyond the end of the archive
    names = [member.name for member in members]
    store = ImageStore(
        catalogue_of(tmp_path / "catalogue", names, shard=np.zeros(5), offset=offsets, size=sizes), tmp_path
    )
    assert [store.read(number) == jpeg(number) for number in range(4)] == [True] * 4
    with pytest.raises(BadImageError, match="truncated"):
        store.read(4)
    (tmp_path / "images.tar").unlink()
    with pytest.raises(DataError, match=r"images\.tar"):
        ImageStore(store.catalogue, tmp_path).read(0)


def test_nothing_outside_the_root_is_read(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(jpeg(1))
    (root / "inside.jpg").write_bytes(jpeg(2))
    (root / "link.jpg").symlink_to(outside / "secret.jpg")
    (root / "folder").symlink_to(outside)
    (root / "good.jpg").symlink_to(root / "inside.jpg")
    (root / "directory.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    names = ["../outside/secret.jpg", str(outside / "secret.jpg"), "link.jpg", "folder/secret.jpg",
             "absent.jpg", "directory.jpg", "pipe.jpg", "good.jpg", "x/../inside.jpg"]  # fmt: skip
    store = ImageStore(catalogue_of(tmp_path / "catalogue", names), root)
    reasons = []
    for row in range(7):
        try:
            data = store.read(row)
            decode(bytes(data))
        except BadImageError as error:
            reasons.append(error.reason)
    assert reasons == ["outside_root"] * 4 + ["missing"] * 2 + ["empty"]
    assert store.read(7) == jpeg(2)


def test_odd_names(tmp_path: Path) -> None:
    names = [
        b"spaces and \xc3\xa9",
        b"not utf-8 \xff.jpg",
        b"line\nbreak.jpg",
        "😀.jpg".encode(),
        b"x" * 251 + b".jpg",
    ]
    for number, name in enumerate(names):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(jpeg(number))
    store = ImageStore(catalogue_of(tmp_path / "catalogue", [os.fsdecode(name) for name in names]), tmp_path)
    assert [store.read(number) for number in range(5)] == [jpeg(number) for number in range(5)]


def test_without_a_root_it_says_so(files: ImageStore) -> None:
    with pytest.raises(DataError, match="root"):
        list(
            Loader(ImageStore(files.catalogue, None), workers=1, seed=0).training([np.arange(3)], AUGMENT, 0)
        )


def test_a_fault_of_our_own_is_not_taken_for_a_bad_image(
    files: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(files, workers=2, seed=0)
    monkeypatch.setattr(files, "read", lambda row: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(loader.training([np.arange(3)], AUGMENT, 0))


def test_torch_threads_of_the_caller_are_left_alone(files: ImageStore) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        loader = Loader(files, workers=2, seed=0)
        assert torch.get_num_threads() == 3
        inside = [loader._pool.submit(torch.get_num_threads).result() for _ in range(8)]
        assert set(inside) == {1}
    finally:
        torch.set_num_threads(before)


def test_few_batches_are_under_way(files: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    loader, made = Loader(files, workers=1, seed=0), []
    original = loader._training_work
    monkeypatch.setattr(loader, "_training_work", lambda *a: made.append(1) or original(*a))
    iterator = loader.training([np.arange(2)] * 50, AUGMENT, epoch=0)
    next(iterator)
    assert len(made) <= 5


def test_threads_end_with_the_loader(files: ImageStore) -> None:
    before = set(threading.enumerate())
    loader = Loader(files, workers=4, seed=0)
    list(loader.training([np.arange(3)], AUGMENT, 0))
    assert len(set(threading.enumerate()) - before) == 4
    loader.close()
    assert set(threading.enumerate()) <= before
    forgotten = Loader(files, workers=4, seed=0)
    del forgotten
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=6), st.integers(0, 6))
def test_occurrences_count_up(batches: list[list[int]], start: int) -> None:
    seen, counts = _Occurrences(10), [0] * 10
    for number, rows in enumerate(batches):
        expected = []
        for row in rows:
            expected.append(counts[row])
            counts[row] += 1
        if number < start:
            seen.skip(np.array(rows, np.int64))
        else:
            assert seen.take(np.array(rows, np.int64)).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 300))
def test_scaled_sizes(height: int, width: int, short: int) -> None:
    scaled = scaled_size(height, width, short)
    assert min(scaled) == short and max(scaled) <= 8 * short
    assert (scaled[0] <= scaled[1]) == (height <= width) or scaled[0] == scaled[1]


# ranks


class Numbers(Loader):
    """Loads nothing: the pixels of an image are its random numbers."""

    def _augmented(
        self, row: int, size: int, augment: AugmentSettings, numbers: NDArray[np.float64]
    ) -> Pixels:
        bits = np.frombuffer(numbers[:6].tobytes(), np.uint8)
        return np.resize(bits, (size, size, 3))


def epoch_of(
    loader: Loader, sampler: ClassBalancedSampler, batch: int, world_size: int, start: int = 0
) -> list[tuple[list[int], NDArray[np.uint8]]]:
    """(rows, images) of each global batch of epoch 1, put together from all ranks' parts."""
    parts = []
    for rank in range(world_size):
        batches = sampler.batches(1, batch, rank, world_size)
        parts.append(list(loader.training(batches, AugmentSettings(sizes=(4,)), epoch=1, start=start)))
    whole = []
    for ranks in zip(*parts, strict=True):
        rows = np.zeros(sum(len(part.rows_B) for part in ranks), np.int64)
        images = np.zeros((len(rows), 3, 4, 4), np.uint8)
        for rank, part in enumerate(ranks):
            rows[rank::world_size], images[rank::world_size] = part.rows_B, part.images
        whole.append((rows.tolist(), images))
    return whole


@pytest.fixture
def numbers(files: ImageStore) -> Iterator[Numbers]:
    made = Numbers(files, workers=1, seed=3)
    yield made
    made.close()


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_every_draw_differs_and_is_the_same_over_any_number_of_ranks(
    numbers: Numbers, world_size: int
) -> None:
    """40 images of two classes, each class shown 600 times: 30 times an image, on all ranks."""
    sampler = ClassBalancedSampler(range(40), np.arange(40) % 2, images_per_class=600, seed=0)
    alone, ranks = epoch_of(numbers, sampler, 64, 1), epoch_of(numbers, sampler, 64, world_size)
    assert [rows for rows, _ in ranks] == [rows for rows, _ in alone]
    assert all(np.array_equal(mine, theirs) for (_, mine), (_, theirs) in zip(ranks, alone))
    shown = {image.tobytes() for _, images in ranks for image in images}
    assert len(shown) == 1200, "two draws were shown in the same way"
    for start in (1, 7, 18):
        later = epoch_of(numbers, sampler, 64, world_size, start)
        assert all(np.array_equal(mine, theirs) for (_, mine), (_, theirs) in zip(later, alone[start:]))


def test_ranks_of_plain_lists_are_counted_as_they_are(numbers: Numbers) -> None:
    sampler = ClassBalancedSampler(range(5), np.zeros(5, int), images_per_class=20, seed=0)
    order = sampler.epoch(1)
    plain = [order[at : at + 8] for at in range(0, 20, 8)]
    got = numbers.training(plain, AugmentSettings(sizes=(4,)), epoch=1)
    alone = epoch_of(numbers, sampler, 8, 1)
    assert all(np.array_equal(mine.images, theirs) for mine, (_, theirs) in zip(got, alone, strict=True))


def test_an_epoch_is_not_drawn_to_count_it(numbers: Numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = ClassBalancedSampler(range(40), np.zeros(40, int), images_per_class=4000, seed=0)
    drawn: list[int] = []
    original = sampler.draw

    def counting(epoch: int, start: int, stop: int) -> Any:
        drawn.append(stop - start)
        return original(epoch, start, stop)

    monkeypatch.setattr(sampler, "draw", counting)
    iterator = numbers.training(sampler.batches(0, 10, 0, 2), AUGMENT, epoch=0)
    next(iterator)
    assert 0 < sum(drawn) <= 10 * (module.AHEAD + 2)
    iterator.close()


def test_occurrences_do_not_wrap_round() -> None:
    seen = _Occurrences(3)
    seen.skip(np.full(65_000, 1))
    taken = np.concatenate([seen.take(np.full(400, 1)) for _ in range(3)])
    assert taken.tolist() == list(range(65_000, 66_200))
    assert seen.take(np.array([0, 1, 2])).tolist() == [0, 66_200, 0]


# decoding in part


def photo(number: int, format: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    rough = np.random.default_rng(number).integers(0, 256, (10, 13, 3), dtype=np.uint8)
    image = Image.fromarray(rough).resize((150 + number, 120), Image.Resampling.BICUBIC).convert(mode)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def damaged_below(data: bytes) -> bytes:
    """With so many bytes cut out near the end that the decoder wants for some at the bottom."""
    for cut in range(20, 400):
        damaged = data[: -20 - cut] + data[-20:]
        try:
            decode(damaged)
        except BadImageError:
            return damaged
    raise AssertionError("the decoder noticed none of it")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """18 photographs of all kinds; the fourth is damaged near its bottom, the fifth cut in the middle."""
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: list[dict[str, Any]] = [
        {}, {"quality": 95}, {"subsampling": "4:4:4"}, {}, {}, {"progressive": True}, {"mode": "CMYK"},
        {"mode": "L"}, {"exif": turned}, {"restart_marker_rows": 1}, {"format": "PNG"}, {"format": "WEBP"},
        {"format": "PNG", "mode": "P"},
    ]  # fmt: skip
    root = tmp_path_factory.mktemp("photos")
    names = [f"{number}.img" for number in range(18)]
    for number, name in enumerate(names):
        data = photo(number, **(kinds[number] if number < len(kinds) else {}))
        changed = {3: damaged_below(data), 4: data[: len(data) // 2]}
        (root / name).write_bytes(changed.get(number, data))
    return ImageStore(catalogue_of(root / "catalogue", names), root)


def whole_and_crop(store: ImageStore, row: int, numbers: NDArray[np.float64]) -> Pixels:
    """The plain way: decode all, cut, resize, mirror."""
    pixels = decode(bytes(store.read(row)))
    box = random_box(pixels.shape[1], pixels.shape[0], PLAIN, numbers)
    return crop_resize(pixels, box, (24, 24), bool(numbers[22] < 0.5))


PLAIN = AugmentSettings(sizes=(24,), scale=(0.05, 0.5))


@pytest.mark.parametrize("cache_mib", [0, 1, 1000])
def test_training_decodes_in_part_and_shows_the_same(
    photos: ImageStore, monkeypatch: pytest.MonkeyPatch, cache_mib: int
) -> None:
    """Bit for bit what decoding everything shows, whatever is kept; and the shipped path decodes in part."""
    loader = Loader(photos, workers=2, seed=0, cache_mib=cache_mib, max_bad=1.0)
    if cache_mib == 1:  # room for a few images, and always some left
        loader._cache_left = 300_000
    calls: list[Any] = []
    asked: list[Any] = []
    original = loader._augmented
    monkeypatch.setattr(loader, "_augmented", lambda *a: asked.append((a[0], a[3])) or original(*a))
    monkeypatch.setattr(module, "load_crop", lambda *a: calls.append(a) or load_crop(*a))
    sound = {row for row in range(18) if row not in (3, 4)}
    for epoch in range(6):
        asked.clear()
        (batch,) = loader.training([np.arange(18)], PLAIN, epoch)
        by_row = dict(asked)
        for row in sound:
            shown = batch.images[row].permute(1, 2, 0).numpy()
            assert np.array_equal(shown, whole_and_crop(photos, row, by_row[row])), (epoch, row)
        assert not batch.valid_B[4] and batch.valid_B[sorted(sound)].all()
    in_part = len({id(call[0]) for call in calls})
    assert in_part > (6 * 8 if cache_mib == 0 else 4 * 8 if cache_mib == 1 else 0)
    loader.close()


def test_what_is_kept_changes_no_verdict(photos: ImageStore) -> None:
    """An image damaged below its crop: shown or masked by its crop alone, not by whether there was room."""
    results = []
    for cache_mib in (0, 1000):
        loader = Loader(photos, workers=1, seed=0, cache_mib=cache_mib, max_bad=1.0)
        results.append([next(loader.training([np.arange(18)], PLAIN, epoch)) for epoch in range(40)])
        loader.close()
    assert same(*results)
    verdicts = {bool(batch.valid_B[3]) for batch in results[0]}
    assert verdicts == {True, False}, "the damage is met by some crops only"


def test_a_cache_without_room_decodes_no_more_than_none(
    photos: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_decoded: list[int] = []
    original = module.load_crop.__globals__["_decode_jpeg"]

    def counting(data: bytes, header: Any, rows: int) -> Pixels:
        rows_decoded.append(rows)
        return original(data, header, rows)  # type: ignore[no-any-return]

    monkeypatch.setitem(module.load_crop.__globals__, "_decode_jpeg", counting)
    counts = []
    for left in (0, 10_000):
        loader = Loader(photos, workers=1, seed=0, cache_mib=0, max_bad=1.0)
        loader._cache_left = left
        rows_decoded.clear()
        list(loader.training([np.arange(13, 18)] * 8, PLAIN, epoch=0))
        counts.append(sum(rows_decoded))
        loader.close()
    assert counts[0] == counts[1] < 0.9 * 8 * 5 * 120


# the machine's faults


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ESTALE, errno.ENOMEM])
def test_a_disk_that_fails_stops_training_and_prediction(
    photos: ImageStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    loader = Loader(photos, workers=2, seed=0, max_bad=1.0)
    original = os.open

    def failing(path: Any, *rest: Any) -> int:
        if str(path).endswith("7.img"):
            raise OSError(number, os.strerror(number), path)
        return original(path, *rest)

    monkeypatch.setattr(os, "open", failing)
    for batches in (
        loader.training([np.arange(5, 10)], AUGMENT, epoch=0),
        loader.views(np.arange(5, 10), ViewSettings(size=8), batch_size=5),
    ):
        with pytest.raises(StorageError, match=rf"7\.img.*{errno.errorcode[number]}"):
            list(batches)
    assert loader.bad == {}
    loader.close()


@pytest.mark.parametrize("cache_mib", [0, 100])
def test_want_of_memory_is_tried_again_and_never_masks(
    photos: ImageStore, monkeypatch: pytest.MonkeyPatch, cache_mib: int
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    expected = next(Loader(photos, workers=1, seed=0).training([np.arange(3)], PLAIN, epoch=0))
    left, original = [4], module.load_crop.__globals__["_decode_jpeg"]

    def hungry(*args: Any) -> Pixels:
        left[0] -= 1
        if left[0] >= 0:
            raise MemoryError
        return original(*args)  # type: ignore[no-any-return]

    monkeypatch.setitem(module.load_crop.__globals__, "_decode_jpeg", hungry)
    loader = Loader(photos, workers=1, seed=0, cache_mib=cache_mib)
    assert same(list(loader.training([np.arange(3)], PLAIN, epoch=0)), [expected])
    left[0], loader._cache = 10**6, {}
    with pytest.raises(StorageError, match=r"0\.img: there is not enough memory"):
        list(loader.training([np.arange(3)], PLAIN, epoch=0))
    loader.close()


def test_a_message_of_very_many_bad_images_is_short(
    files: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(files, workers=1, seed=0)
    monkeypatch.setattr(files, "name", lambda row: f"google/{'very ' * 1000}long/{row:08d}.jpg")
    bad = list(range(160_001))
    loader.bad = dict.fromkeys(bad, "truncated") | {7: "empty"}
    text = loader._too_many(bad, 16_000_000)
    assert len(text.encode()) < 4000
    assert "160001 of the epoch's 16000000 images" in text and "1 empty, 160,000 truncated" in text
    assert "00000000.jpg: truncated" in text and "and 159,991 more" in text
    loader.close()
