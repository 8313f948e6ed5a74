"""Random numbers by counter, crops, and RandAugment operation by operation against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from scipy import stats
from torchvision import transforms
from torchvision.transforms.autoaugment import _apply_op

from smelt.data.config import AugmentSettings, RandAugmentSettings, ViewSettings
from smelt.data.images import augment as aug
from smelt.data.images import randaugment as ra
from smelt.random import keys

NAMES = {
    "identity": "Identity", "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX",
    "translate_y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "color": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterize": "Posterize", "solarize": "Solarize",
    "auto_contrast": "AutoContrast", "equalize": "Equalize",
}  # fmt: skip
MOVING = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
NEAREST = transforms.InterpolationMode.NEAREST


def pictures() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    rough = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    smooth = [
        np.asarray(Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC))
        for size in ((224, 200), (32, 32))
    ]
    return [
        *smooth,
        random.integers(0, 256, (37, 53, 3), dtype=np.uint8),
        random.integers(100, 140, (5, 3, 3), dtype=np.uint8),
        np.full((20, 20, 3), 77, np.uint8),
        np.stack([np.full((8, 8), 3), random.integers(9, 11, (8, 8)), np.full((8, 8), 255)], 2).astype(
            np.uint8
        ),
        random.integers(0, 256, (1, 40, 3), dtype=np.uint8),
        random.integers(0, 256, (2, 2, 3), dtype=np.uint8),
    ]


def values(operation: str, picture: NDArray[np.uint8]) -> list[float]:
    height, width = picture.shape[:2]
    strengths = [ra.strength(operation, magnitude, width, height) for magnitude in (0, 1, 5, 9, 17, 30)]
    return strengths + [-value for value in strengths if operation in ra.SIGNED]


@pytest.mark.parametrize("operation", ra.OPERATIONS)
def test_operations_are_torchvisions_on_pillow(operation: str) -> None:
    for picture in pictures():
        before = picture.copy()
        for value in values(operation, picture):
            ours = ra.apply(picture, operation, value)
            theirs = np.asarray(_apply_op(Image.fromarray(picture), NAMES[operation], value, NEAREST, None))
            limit = 0 if operation in MOVING else 1
            assert ours.dtype == np.uint8 and ours.shape == picture.shape
            assert np.abs(ours.astype(int) - theirs).max() <= limit, (operation, value, picture.shape)
        assert np.array_equal(picture, before), "the input was changed"


@pytest.mark.parametrize("operation", [name for name in ra.OPERATIONS if name != "rotate"])
def test_operations_are_torchvisions_on_tensors(operation: str) -> None:
    # not rotate: torchvision's own two paths pick other neighbours where a source point is between two
    for picture in pictures():
        if operation in ("sharpness", "auto_contrast") and min(picture.shape[:2]) < 3:
            continue  # torchvision's tensor path leaves out other pixels there than its Pillow path
        tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)
        for value in values(operation, picture):
            theirs = _apply_op(tensor, NAMES[operation], value, NEAREST, None).permute(1, 2, 0).numpy()
            assert np.abs(ra.apply(picture, operation, value).astype(int) - theirs).max() <= 1, value


def test_strengths_are_torchvisions() -> None:
    space = transforms.RandAugment()._augmentation_space(31, (200, 224))
    assert {NAMES[operation] for operation in ra.OPERATIONS} == set(space)
    assert {NAMES[operation] for operation in ra.SIGNED} == {
        name for name, (_, signed) in space.items() if signed
    }
    for operation in ra.OPERATIONS:
        magnitudes, _ = space[NAMES[operation]]
        for magnitude in range(31):
            theirs = float(magnitudes[magnitude]) if magnitudes.ndim else 0.0
            assert ra.strength(operation, magnitude, 224, 200) == pytest.approx(theirs, rel=1e-6, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99),
    operation=st.sampled_from(ra.OPERATIONS), magnitude=st.integers(0, 30), sign=st.sampled_from([1, -1]),
)  # fmt: skip
def test_operations_on_any_shape(
    height: int, width: int, seed: int, operation: str, magnitude: int, sign: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    value = ra.strength(operation, magnitude, width, height) * (sign if operation in ra.SIGNED else 1)
    theirs = np.asarray(_apply_op(Image.fromarray(picture), NAMES[operation], value, NEAREST, None))
    assert np.abs(ra.apply(picture, operation, value).astype(int) - theirs).max() <= 1


def test_randaugment_draws_every_operation_and_sign_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, float]] = []
    monkeypatch.setattr(ra, "apply", lambda picture, name, value: drawn.append((name, value)) or picture)
    numbers = aug.uniform(np.arange(7_000, dtype=np.uint64), 4)
    for row in numbers:
        ra.randaugment(np.zeros((10, 10, 3), np.uint8), RandAugmentSettings(num_ops=2, magnitude=9), row)
    counts = [sum(name == operation for name, _ in drawn) for operation in ra.OPERATIONS]
    assert len(drawn) == 14_000 and stats.chisquare(counts).pvalue > 1e-4
    for operation in ra.SIGNED:
        signs = [value > 0 for name, value in drawn if name == operation]
        assert stats.binomtest(sum(signs), len(signs)).pvalue > 1e-4
    assert all(value >= 0 for name, value in drawn if name not in ra.SIGNED)


def test_uniform_numbers_are_uniform_and_independent() -> None:
    hashed = keys(3, 1, np.arange(20_000), np.zeros(20_000, np.int64))
    numbers = aug.uniform(hashed, 4)
    assert numbers.min() >= 0 and numbers.max() < 1
    for column in numbers.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    assert np.abs(np.corrcoef(numbers.T) - np.eye(4)).max() < 0.04
    assert np.abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.04


def test_keys_differ_in_every_part() -> None:
    rows, seen = np.arange(50), set()
    for seed in (0, 1, -1, 2**63):
        for epoch in range(5):
            for occurrence in range(3):
                seen.update(keys(seed, epoch, rows, np.full(50, occurrence)).tolist())
    assert len(seen) == 4 * 5 * 3 * 50
    # (row 1, occurrence 0) must not be (row 0, occurrence 1), nor epoch and row change places
    a = keys(0, 1, np.array([0, 1]), np.array([0, 0]))
    b = keys(0, 0, np.array([0, 1]), np.array([1, 1]))
    assert not set(a.tolist()) & set(b.tolist())


def test_the_numbers_of_an_image_do_not_depend_on_its_batch() -> None:
    rows, occurrence = np.arange(10), np.arange(10) % 3
    together = aug.uniform(keys(5, 2, rows, occurrence), 6)
    for row in rows:
        alone = aug.uniform(keys(5, 2, rows[row : row + 1], occurrence[row : row + 1]), 6)
        assert np.array_equal(alone[0], together[row])


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 3000), height=st.integers(1, 3000), key=st.integers(0, 2**64 - 1),
    low=st.floats(0.01, 1.0), squeeze=st.floats(0.3, 1.0),
)  # fmt: skip
def test_boxes_lie_within_the_image(width: int, height: int, key: int, low: float, squeeze: float) -> None:
    augment = AugmentSettings(scale=(low, 1.0), ratio=(squeeze, 1 / squeeze))
    numbers = aug.uniform(np.array([key], np.uint64), aug.CROP_DRAWS)[0]
    left, top, right, bottom = aug.random_box(width, height, augment, numbers)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_boxes_are_distributed_as_torchvisions() -> None:
    width, height, count = 320, 240, 4000
    torch.manual_seed(0)
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    scale, ratio = (0.08, 1.0), (3 / 4, 4 / 3)
    theirs = np.array([transforms.RandomResizedCrop.get_params(image, scale, ratio) for _ in range(count)])
    numbers = aug.uniform(np.arange(count, dtype=np.uint64), aug.CROP_DRAWS)
    boxes = np.array(
        [aug.random_box(width, height, AugmentSettings(scale=scale, ratio=ratio), row) for row in numbers]
    )
    ours = np.stack([boxes[:, 1], boxes[:, 0], boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1)
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-4


def test_pad_crop_shifts_and_fills_with_zeros() -> None:
    picture = np.random.default_rng(0).integers(1, 256, (8, 8, 3), dtype=np.uint8)
    padded = np.pad(picture, ((2, 2), (2, 2), (0, 0)))
    windows = {padded[y : y + 8, x : x + 8].tobytes() for y in range(5) for x in range(5)}
    numbers = aug.uniform(np.arange(1000, dtype=np.uint64), aug.CROP_DRAWS)
    assert {aug.pad_crop(picture, 2, row).tobytes() for row in numbers} == windows


def test_view_boxes() -> None:
    assert aug.view_boxes(10, 8, 8, 1) == [((1, 0, 9, 8), False)]
    five = [box for box, _ in aug.view_boxes(12, 10, 8, 5)]
    assert five == [(2, 1, 10, 9), (0, 0, 8, 8), (4, 0, 12, 8), (0, 2, 8, 10), (4, 2, 12, 10)]
    ten = aug.view_boxes(12, 10, 8, 10)
    assert [box for box, _ in ten] == five * 2 and [flip for _, flip in ten] == [False] * 5 + [True] * 5


def test_each_batch_draws_its_size_and_all_sizes_come() -> None:
    augment = AugmentSettings(sizes=(64, 96, 128))
    sizes = [aug.batch_size_in_pixels(augment, 7, 0, batch) for batch in range(300)]
    assert sizes == [aug.batch_size_in_pixels(augment, 7, 0, batch) for batch in range(300)]
    assert stats.chisquare(np.unique(sizes, return_counts=True)[1]).pvalue > 1e-4
    assert sizes != [aug.batch_size_in_pixels(augment, 7, 1, batch) for batch in range(300)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sizes": ()}, {"sizes": (0,)}, {"scale": (0.0, 1.0)}, {"scale": (0.5, 0.2)}, {"ratio": (2.0, 1.0)},
        {"flip": 1.5}, {"sizes": (32,), "pad_crop": 32}, {"randaugment": {"magnitude": 31}}, {"size": 3},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_right_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentSettings.model_validate(wrong)


def test_views_have_names_of_their_own() -> None:
    names = [
        ViewSettings(size=64).name,
        ViewSettings(size=64, crops=10).name,
        ViewSettings(size=64, resize=1.3).name,
    ]
    assert names == ["64x1", "64x10", "64x1r1.3"]
