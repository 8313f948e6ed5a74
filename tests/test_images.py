"""Normalising: right to the last bits, in the memory format that training asks for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smelt.learning.pixels import MEAN, STD, Normaliser

CPU = torch.device("cpu")


def every_value(channels_last: bool) -> Tensor:
    """(2, 3, 16, 32) uint8 in which each channel takes all of 0..255, twice in different places."""
    values = torch.stack([torch.arange(512).roll(17 * c) % 256 for c in range(6)]).to(torch.uint8)
    images = values.view(2, 3, 16, 32)
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


def plain(images: Tensor, kind: torch.dtype) -> Tensor:
    """(x / 255 - mean) / std, value by value."""
    mean, std = (torch.tensor(each, dtype=kind).view(1, 3, 1, 1) for each in (MEAN, STD))
    return (images.to(kind) / 255 - mean) / std


@pytest.mark.parametrize("innermost", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_equals_the_plain_formula(innermost: bool, asked: bool) -> None:
    images = every_value(innermost)
    normalised = Normaliser(CPU, asked)(images)
    exact = plain(images, torch.float64)
    error = (normalised - exact).abs().max()
    assert error < 5e-7  # two units in the last place of the largest values, which are above 2
    assert error <= (plain(images, torch.float32) - exact).abs().max()  # no worse than float32 by the formula


def test_bits_do_not_depend_on_the_layout_of_either_side() -> None:
    found = [Normaliser(CPU, asked)(every_value(innermost)) for asked in (0, 1) for innermost in (0, 1)]
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("shape", [(2, 3, 16, 32), (1, 3, 5, 5), (3, 3, 1, 7), (2, 3, 1, 1), (0, 3, 4, 4)])
@pytest.mark.parametrize("innermost", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_layout_is_the_one_asked_for(shape: tuple[int, ...], innermost: bool, asked: bool) -> None:
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    if innermost:
        images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    normalised = Normaliser(CPU, asked)(images)
    wanted = torch.channels_last if asked else torch.contiguous_format
    assert normalised.shape == shape and normalised.dtype == torch.float32
    assert normalised.is_contiguous(memory_format=wanted)
    assert torch.equal(images, before)  # the pixels of a batch are shown again to a second crop


def test_several_widths_and_parts_of_a_batch() -> None:
    normalise = Normaliser(CPU, True)
    for side in (8, 12, 8):
        images = torch.randint(0, 256, (6, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
        whole = normalise(images)
        torch.testing.assert_close(whole, plain(images, torch.float32), rtol=0, atol=1e-6)
        assert torch.equal(normalise(images[2:5]), whole[2:5])
        some = torch.tensor([True, False, True, True, False, True])
        assert torch.equal(normalise(images[some]), whole[some])


def test_rows_are_taken_where_the_channels_are_innermost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader's batches, whole or in parts, go the quick way."""
    taken: list[int] = []
    by_rows = Normaliser._by_rows
    monkeypatch.setattr(Normaliser, "_by_rows", lambda self, x: (taken.append(len(x)), by_rows(self, x))[1])
    batch = torch.zeros(4, 8, 8, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    Normaliser(CPU, True)(batch)
    Normaliser(CPU, True)(batch[1:3])
    Normaliser(CPU, True)(batch.contiguous())
    Normaliser(CPU, False)(batch)
    assert taken == [4, 2]
