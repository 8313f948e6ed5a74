"""Mixed batches: images and boxes against the papers, and trainings against a naive loop."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from learning_toy import CLASSES, job, make_data, make_selection, run_job, run_stage
from smelt.artifacts.dynamics import Dynamics
from smelt.errors import DataError
from smelt.learning import setup
from smelt.learning.config import TrainSettings
from smelt.learning.mixing import Mix, Mixer, _numbers, beta, cut_box, permutation
from smelt.learning.sections import MixingSettings
from test_loop import Greedy, make_loop, plain_net, weights_of

MIXUP, CUTMIX = {"mixup": 1.0, "probability": 1.0}, {"cutmix": 1.0, "probability": 1.0}


@pytest.fixture(autouse=True)
def numerics() -> None:
    setup.fix_numerics(1, True, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0, 32.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    drawn = [beta(alpha, _numbers(7, i)) for i in range(3000)]
    assert all(0.0 <= share <= 1.0 for share in drawn)
    small = [share for share in drawn if share < 0.5]  # near 1 a float is too coarse for a small alpha
    assert stats.kstest(small, lambda x: 2 * stats.beta(alpha, alpha).cdf(x)).pvalue > 1e-3
    assert stats.binomtest(len(small), len(drawn)).pvalue > 1e-3


@settings(deadline=None)
@given(st.integers(0, 1 << 40), st.integers(0, 200))
def test_partners_are_a_permutation(key: int, size: int) -> None:
    assert sorted(permutation(size, key).tolist()) == list(range(size))


def test_every_permutation_comes_as_often() -> None:
    found = [tuple(permutation(3, key).tolist()) for key in range(6000)]
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 1e-3


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1, exclude_max=True),
       st.floats(0, 1, exclude_max=True))  # fmt: skip
def test_boxes_lie_in_the_image_and_have_their_area_but_for_the_border(
    height: int, width: int, share: float, down: float, along: float
) -> None:
    top, bottom, left, right = cut_box(height, width, share, down, along)
    assert 0 <= top <= bottom <= height and 0 <= left <= right <= width
    ratio = np.sqrt(1 - share)
    assert bottom - top <= height * ratio and right - left <= width * ratio
    inside = [
        size * ratio / 2 <= int(middle * size) <= size - size * ratio / 2
        for size, middle in ((height, down), (width, along))
    ]
    if all(inside):
        assert bottom - top > height * ratio - 2 and right - left > width * ratio - 2


@pytest.mark.parametrize("box", [None, (1, 3, 0, 2)])
def test_images_are_mixed_pixel_by_pixel(box: tuple[int, int, int, int] | None) -> None:
    own, partners = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    kept = own.clone()
    found = Mix(torch.tensor([1, 0]), 0.25, box).images(own, partners)
    for i, c, y, x in np.ndindex(2, 3, 4, 5):
        mine, theirs = float(kept[i, c, y, x]), float(partners[i, c, y, x])
        if box is None:
            expected = 0.25 * mine + 0.75 * theirs
        else:
            expected = theirs if box[0] <= y < box[1] and box[2] <= x < box[3] else mine
        assert float(found[i, c, y, x]) == pytest.approx(expected, abs=1e-6)


def test_what_is_drawn_goes_by_seed_step_and_rank_alone() -> None:
    both = MixingSettings(mixup=1.0, cutmix=1.0, probability=0.5)
    ranks = [Mixer(both, 3, rank) for rank in (0, 1)]
    drawn = [[mixer.draw(step, 16, 32, 32) for step in range(400)] for mixer in ranks]
    again = [Mixer(both, 3, 0).draw(step, 16, 32, 32) for step in reversed(range(400))][::-1]
    for first, second, repeated in zip(*drawn, again):
        assert (first is None) == (second is None) == (repeated is None)  # all ranks alike
        if first is not None and second is not None and repeated is not None:
            assert (first.box is None) == (second.box is None)
            assert (first.share, first.box) == (repeated.share, repeated.box)
            assert torch.equal(first.partners_B, repeated.partners_B)
            assert not torch.equal(first.partners_B, second.partners_B)
    mixes = [mix for mix in drawn[0] if mix is not None]
    assert 150 < len(mixes) < 250 and 60 < sum(mix.box is None for mix in mixes) < 140
    for mix in mixes:
        if mix.box is not None:
            area = (mix.box[1] - mix.box[0]) * (mix.box[3] - mix.box[2])
            assert mix.share == pytest.approx(1 - area / 1024)


def test_what_is_drawn_stays_what_it_was() -> None:
    """Recorded: a change of it changes every training that mixes."""
    mixer = Mixer(MixingSettings(mixup=1.0, cutmix=1.0, probability=1.0), 5, 1)
    drawn = [mixer.draw(step, 6, 32, 32) for step in (3, 4, 5)]
    assert [mix and (mix.partners_B.tolist(), mix.box) for mix in drawn] == [
        ([5, 2, 1, 4, 0, 3], (22, 32, 0, 5)), ([3, 5, 0, 2, 1, 4], (6, 8, 27, 29)),
        ([2, 4, 0, 3, 1, 5], None),
    ]  # fmt: skip
    assert [mix and mix.share for mix in drawn] == pytest.approx([1 - 50 / 1024, 1 - 4 / 1024, 0.9716764669])


@pytest.mark.parametrize("mixing", [MIXUP, CUTMIX, {"mixup": 1.0, "cutmix": 1.0, "probability": 0.5}])
def test_against_a_naive_loop(data: Path, tmp_path: Path, mixing: dict[str, float]) -> None:
    """SGD on images mixed one by one, taught as the mixed one-hot targets, each row's share by its weight."""
    weights = dict.fromkeys(range(0, 120, 3), 0.25)
    loop, watcher, _ = make_loop(
        data, tmp_path, weights=weights, mixing=mixing, ema_decay=None, weight_decay=0.0, momentum=0.0,
        epochs=1, warmup_epochs=0, schedule="constant",
    )  # fmt: skip
    model = plain_net()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    mixer = Mixer(MixingSettings.model_validate(mixing), loop.settings.seed, 0)
    losses, hits, plain = [], [], []
    for step, batch in enumerate(loop.data.loader.training(loop._batches(0), loop.settings.augment, 0)):
        images, labels = loop.normalise(batch.images), batch.rows_B % CLASSES
        weight = torch.tensor([weights.get(int(row), 1.0) for row in batch.rows_B])
        mix = mixer.draw(step, len(images), 16, 16)
        y = F.one_hot(labels, CLASSES).float() * weight[:, None]
        share, at = (1.0, torch.arange(len(images))) if mix is None else (mix.share, mix.partners_B)
        if mix is None:
            plain += batch.rows_B.tolist()
            shown = images
        elif mix.box is None:
            shown = share * images + (1 - share) * images[at]
        else:
            top, bottom, left, right = mix.box
            inside = torch.zeros(16, 16, dtype=torch.bool)
            inside[top:bottom, left:right] = True
            shown = torch.where(inside, images[at], images)
        logits = model(shown)
        each = -((share * y + (1 - share) * y[at]) * torch.log_softmax(logits, 1)).sum(1)
        optimiser.zero_grad()
        each.mean().backward()
        optimiser.step()
        losses += each.tolist()
        best = logits.argmax(1)
        hits += (share * (best == labels) + (1 - share) * (best == labels[at])).tolist()
    loop.run()
    torch.testing.assert_close(weights_of(loop.model), weights_of(model), rtol=1e-4, atol=1e-6)
    assert loop.progress.metrics[0]["train_loss"] == pytest.approx(float(np.mean(losses)), rel=1e-5)
    assert loop.progress.metrics[0]["train_top1"] == pytest.approx(float(np.mean(hits)), rel=1e-5)
    assert watcher.rows == plain and len(watcher.seen) == 4  # told of each step, and of no mixed image


@pytest.mark.parametrize("mixing", [MIXUP, CUTMIX])
def test_micro_batches_and_short_memory_change_nothing(
    data: Path, tmp_path: Path, mixing: dict[str, float]
) -> None:
    whole, _, _ = make_loop(data, tmp_path / "a", mixing=mixing)
    cut, _, _ = make_loop(data, tmp_path / "b", mixing=mixing, accumulate_steps=3)
    short, _, _ = make_loop(data, tmp_path / "c", Greedy(10), mixing=mixing)
    for loop in (whole, cut, short):
        loop.run()
        assert loop.progress.metrics[-1]["train_loss"] == pytest.approx(
            whole.progress.metrics[-1]["train_loss"], rel=1e-4
        )
        torch.testing.assert_close(weights_of(loop.model), weights_of(whole.model), rtol=1e-3, atol=1e-5)
    assert short.progress.parts == 4


def test_bad_images_are_nobodys_partner(tmp_path: Path) -> None:
    bad = tuple(range(0, 120, 4))
    broken = make_data(tmp_path / "bad", bad=bad)
    loop, _, _ = make_loop(broken, tmp_path / "a", mixing=MIXUP, epochs=1, warmup_epochs=0)
    taught: list[int] = []
    loss = loop.lesson.loss

    def noted(rows_B: torch.Tensor, logits: torch.Tensor, partners_B: Any, share: float) -> torch.Tensor:
        assert sorted(rows_B.tolist()) == sorted(partners_B.tolist())
        taught.extend(partners_B.tolist())
        return loss(rows_B, logits, partners_B, share)

    loop.lesson.loss = noted  # type: ignore[method-assign,assignment]
    loop.run()
    assert sorted(taught) == sorted(set(range(120)) - set(bad))
    assert loop.progress.masked == len(bad)


def test_off_it_is_the_training_that_it_was(data: Path, tmp_path: Path) -> None:
    """Batches that chance leaves as they are give the very bits of a training without mixing."""
    half = MixingSettings(mixup=1.0, probability=0.5)
    seed = next(
        seed for seed in range(10_000) if not any(Mixer(half, seed, 0).draw(s, 2, 4, 4) for s in range(4))
    )
    changes: dict[str, Any] = {"epochs": 1, "warmup_epochs": 0, "seed": seed}
    plain, watcher, _ = make_loop(data, tmp_path / "a", copy.deepcopy(plain_net()), **changes)
    mixed, mixed_watcher, _ = make_loop(
        data, tmp_path / "b", copy.deepcopy(plain_net()), mixing={"mixup": 1.0, "probability": 0.5}, **changes
    )
    plain.run()
    mixed.run()
    assert torch.equal(weights_of(plain.model), weights_of(mixed.model))
    assert watcher.rows == mixed_watcher.rows


def test_a_training_that_mixes_every_batch_says_that_nothing_can_be_ranked_by_it(
    data: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    trained = run_job(
        job(tmp_path / "j", {"mixing": MIXUP}, catalogue=data, selection=make_selection(tmp_path / "s")),
        emit=lambda event, **fields: told.append(str(fields.get("text")) if event == "warning" else ""),
    )
    assert any("no margins are recorded" in text for text in told)
    assert not Dynamics.open(trained / "dynamics")["seen"].any()
    with pytest.raises(DataError, match="mixes every batch"):
        run_stage(tmp_path / "rank", "rank", {}, {"catalogue": [data], "train": [trained]})


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_settings_take_what_can_be_drawn(alpha: float, step: int) -> None:
    mixing = TrainSettings.model_validate({"mixing": {"cutmix": alpha, "probability": 1.0}}).mixing
    assert mixing is not None
    mix = Mixer(mixing, 0, 0).draw(step, 5, 7, 9)
    assert mix is not None and 0.0 <= mix.share <= 1.0
