"""What rows are taught: every loss against its formula written out, and all that can go together together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from smelt.artifacts import results
from smelt.artifacts.softlabels import SoftLabels
from smelt.learning.config import TrainSettings
from smelt.learning.distillation import Teacher
from smelt.learning.distributed import Group
from smelt.learning.losses import Lesson, generalised_cross_entropy
from smelt.learning.trainingdata import TrainingData
from smelt.settings import not_in_key

CPU = torch.device("cpu")
ROWS, CLASSES = 12, 5
NAMES = tuple(f"c{c}" for c in range(CLASSES))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max())
    return np.asarray(e / e.sum(), np.float64)


@settings(deadline=None)
@given(st.floats(0.05, 1.0), st.integers(2, 8), st.floats(0.0, 0.5), st.booleans(), st.integers(0, 1000))
def test_generalised_cross_entropy_is_the_formula(
    q: float, classes: int, smoothing: float, soft: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((4, classes)) * 3
    labels = generator.integers(0, classes, 4)
    targets = generator.dirichlet(np.ones(classes), 4) if soft else np.eye(classes)[labels]
    naive = []
    for line, target in zip(logits, (1 - smoothing) * targets + smoothing / classes):
        p = softmax(line)
        naive.append(sum(target[c] * (1 - p[c] ** q) / q for c in range(classes)))
    given = torch.from_numpy(targets) if soft else torch.from_numpy(labels)
    found = generalised_cross_entropy(torch.from_numpy(logits), given, q, smoothing)
    np.testing.assert_allclose(found.numpy(), naive, rtol=1e-9, atol=1e-12)


def test_generalised_cross_entropy_goes_from_cross_entropy_to_mean_absolute_error() -> None:
    """Its limits (Zhang and Sabuncu 2018, section 3.2), and its gradient: p_y^q times cross entropy's."""
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(
        generalised_cross_entropy(logits, labels, 1e-7), F.cross_entropy(logits, labels, reduction="none"),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    p = torch.softmax(logits, 1)
    one_hot = F.one_hot(labels, 4).double()
    torch.testing.assert_close(generalised_cross_entropy(logits, labels, 1.0), (p - one_hot).abs().sum(1) / 2)
    (found,) = torch.autograd.grad(generalised_cross_entropy(logits, labels, 0.7).sum(), logits)
    own = p.gather(1, labels[:, None]).detach() ** 0.7
    torch.testing.assert_close(found, own * (p.detach() - one_hot))


def test_logits_far_apart_give_finite_losses_and_gradients() -> None:
    logits = torch.tensor([[300.0, -300.0], [-300.0, 300.0]], requires_grad=True)
    loss = generalised_cross_entropy(logits, torch.tensor([0, 0]), 0.7)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.0, 1 / 0.7])
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


# the lesson: labels, soft labels, weights, teacher, smoothing, ELR and a partner


def taught(settings: dict[str, Any], tmp_path: Path, *, soft: bool, weights: bool, teacher: bool) -> Lesson:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, CLASSES, ROWS).astype(np.int32)
    none = labels[:0]
    shares = SoftLabels(
        np.arange(0, ROWS, 2),
        np.stack([np.arange(ROWS // 2) % CLASSES, np.full(ROWS // 2, -1)], axis=1).astype(np.int32),
        np.stack([np.full(ROWS // 2, 0.6), np.zeros(ROWS // 2)], axis=1).astype(np.float32),
    )
    data = TrainingData(
        None, None, labels, generator.random(ROWS).astype(np.float32) if weights else None,  # type: ignore[arg-type]
        none.astype(np.int64), none, CLASSES, CLASSES, shares if soft else None,
    )  # fmt: skip
    made = None
    if teacher:
        rows = np.arange(ROWS)
        logits = (generator.standard_normal((ROWS, CLASSES)) * 2).astype(np.float16)
        info = results.describe("m", "v", "train", rows, NAMES, "logits")
        results.write_dense(tmp_path / "v.npy", logits, info, rows)
        made = Teacher([tmp_path / "v.npy"], NAMES, 2.0)
    return Lesson(TrainSettings.model_validate(settings), data, made, CPU, Group())


class Naive:
    """The loss of one image at a time, all in plain numbers. t: the early targets of rows."""

    def __init__(self, lesson: Lesson, t: NDArray[np.float64]) -> None:
        self.lesson, self.t = lesson, t

    def target(self, row: int) -> NDArray[np.float64]:
        data, found = self.lesson.data, np.zeros(CLASSES)
        found[data.labels_N[row]] = 1.0
        if data.soft is not None and row in data.soft.rows:
            at = list(data.soft.rows).index(row)
            found *= 1 - float(data.soft.shares_NK[at, 0])
            found[data.soft.classes_NK[at, 0]] += float(data.soft.shares_NK[at, 0])
        s = self.lesson.settings.label_smoothing
        return (1 - s) * found + s / CLASSES

    def weight(self, row: int) -> float:
        weights = self.lesson.data.weights_N
        return 1.0 if weights is None else float(weights[row])

    def of(self, row: int, logits: NDArray[np.float64]) -> float:
        settings, p, y = self.lesson.settings, softmax(logits), self.target(row)
        if settings.loss == "gce":
            loss = sum(y[c] * (1 - p[c] ** settings.gce_q) / settings.gce_q for c in range(CLASSES))
        else:
            loss = -sum(y[c] * math.log(p[c]) for c in range(CLASSES))
        if self.lesson.teacher is not None:
            distil, T = settings.distillation, settings.distillation.temperature
            q = self.lesson.teacher.targets(np.array([row]), CLASSES)[0].double().numpy()
            soft = softmax(logits / T)
            kl = T**2 * sum(q[c] * (math.log(q[c]) - math.log(soft[c])) for c in range(CLASSES))
            loss = (1 - distil.weight) * loss + distil.weight * kl
        return float(loss)

    def early(self, t: NDArray[np.float64], logits: NDArray[np.float64]) -> float:
        elr = self.lesson.settings.elr
        return 0.0 if elr is None else elr.weight * math.log(1 - float((t * softmax(logits)).sum()))

    def moved(self, row: int, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        elr = self.lesson.settings.elr
        return self.t[row] if elr is None else elr.beta * self.t[row] + (1 - elr.beta) * softmax(logits)

    def alone(self, row: int, logits: NDArray[np.float64]) -> float:
        return self.weight(row) * (self.of(row, logits) + self.early(self.moved(row, logits), logits))

    def mixed(self, row: int, partner: int, share: float, logits: NDArray[np.float64]) -> float:
        t = share * self.t[row] + (1 - share) * self.t[partner]
        return sum(
            s * self.weight(one) * (self.of(one, logits) + self.early(t, logits))
            for s, one in ((share, row), (1 - share, partner))
        )


EVERY = [
    {"loss": loss, "label_smoothing": smoothing, "elr": elr}
    for loss in ("cross_entropy", "gce") for smoothing in (0.0, 0.2) for elr in (None, {"top": CLASSES})
]  # fmt: skip


@pytest.mark.parametrize("settings", EVERY, ids=lambda each: "-".join(map(str, each.values())))
@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_all_go_together(tmp_path: Path, settings: dict[str, Any], soft: bool, teacher: bool) -> None:
    for weights in (False, True):
        lesson = taught(settings, tmp_path, soft=soft, weights=weights, teacher=teacher)
        generator = np.random.default_rng(5)
        t = np.zeros((ROWS, CLASSES))
        rows = np.array([0, 1, 2, 3, 7, 10])
        for _ in range(2):  # the second time there is something to go by
            logits = generator.standard_normal((len(rows), CLASSES)) * 2
            naive = Naive(lesson, t)
            given = torch.from_numpy(logits).float()
            found = lesson.loss(torch.from_numpy(rows), given)
            expected = [naive.alone(row, line) for row, line in zip(rows, logits)]
            np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3, atol=1e-3)
            partners = rows[[3, 2, 5, 0, 1, 4]]
            found = lesson.loss(torch.from_numpy(rows), given, torch.from_numpy(partners), 0.7)
            expected = [naive.mixed(a, b, 0.7, line) for a, b, line in zip(rows, partners, logits)]
            np.testing.assert_allclose(found.numpy(), expected, rtol=2e-3, atol=1e-3)
            for observer in lesson.observers:
                observer.update(torch.from_numpy(rows), given, lesson.labels(torch.from_numpy(rows)))
            t[rows] = [naive.moved(row, line) for row, line in zip(rows, logits)]


@pytest.mark.parametrize("loss", ["cross_entropy", "gce"])
def test_mixed_losses_have_the_gradient_of_mixed_targets(tmp_path: Path, loss: str) -> None:
    """Two losses by their shares are what the papers write: the loss of λ y + (1 − λ) y′."""
    lesson = taught({"loss": loss}, tmp_path, soft=True, weights=False, teacher=True)
    rows, partners = torch.tensor([0, 1, 2, 3]), torch.tensor([5, 4, 1, 8])
    logits = torch.randn(4, CLASSES, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(lesson.loss(rows, logits, partners, 0.3).sum(), logits)
    naive = Naive(lesson, np.zeros((ROWS, CLASSES)))
    y = np.array(
        [0.3 * naive.target(a) + 0.7 * naive.target(b) for a, b in zip(rows.tolist(), partners.tolist())]
    )
    assert lesson.teacher is not None
    q = [lesson.teacher.targets(r.numpy(), CLASSES).double() for r in (rows, partners)]
    log_p = F.log_softmax(logits, 1)
    each = -log_p if loss == "cross_entropy" else (1 - torch.exp(0.7 * log_p)) / 0.7
    hard = (torch.from_numpy(y) * each).sum(1)
    soft = -4.0 * ((0.3 * q[0] + 0.7 * q[1]) * F.log_softmax(logits / 2, 1)).sum(1)
    (expected,) = torch.autograd.grad((0.5 * hard + 0.5 * soft).sum(), logits)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


# settings


def test_what_is_not_read_is_in_no_key() -> None:
    assert "gce_q" in not_in_key(TrainSettings())
    assert "gce_q" not in not_in_key(TrainSettings(loss="gce"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mixing": {}}, "mixup is 0.0, cutmix is 0.0"),
        ({"mixing": {"mixup": 1.0, "probability": 1.0}, "elr": {}}, "mixing.probability"),
        ({"loss": "gce", "gce_q": 0.0}, "greater than 0"),
        ({"elr": {"beta": 1.0}}, "less than 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TrainSettings.model_validate(settings)
