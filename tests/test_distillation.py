"""Distillation: the loss and the soft targets against naive formulas, from dense and from cut results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from learning_toy import CLASSES, COUNTS, job, make_data, make_selection, run_job, run_stage
from smelt.artifacts import results
from smelt.artifacts.checkpoint import read_tensors
from smelt.errors import ArtifactError, RecipeError, ResultError
from smelt.learning.distillation import Teacher, distillation_loss, expand

CLASS_NAMES = tuple(f"c{c}" for c in range(6))
ROWS = np.array([2, 3, 5, 8, 13, 21], np.int64)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def scores(seed: int) -> NDArray[np.float16]:
    return (np.random.default_rng(seed).standard_normal((len(ROWS), 6)) * 3).astype(np.float16)


def write(folder: Path, logits: NDArray[np.float16], *, kind: results.Kind = "logits", k: int | None = None,
          rows: NDArray[np.int64] = ROWS) -> Path:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    info = results.describe("m", "v", "train", rows, CLASS_NAMES, kind)
    if k is None:
        path = folder / "v.npy"
        results.write_dense(path, logits, info, rows)
    else:
        path = folder / "v.topk.npz"
        results.write_topk(path, results.cut(logits, k), info, rows)
    return path


@given(st.floats(0.5, 8.0), st.integers(2, 9), st.integers(0, 1000))
def test_loss_is_the_naive_formula(temperature: float, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    student, teacher = generator.standard_normal((2, 5, classes)) * 4
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    naive = [
        temperature**2 * sum(p[i, c] * (np.log(p[i, c]) - np.log(q[i, c])) for c in range(classes))
        for i in range(5)
    ]
    found = distillation_loss(torch.tensor(student), torch.tensor(p), temperature)
    np.testing.assert_allclose(found.numpy(), naive, rtol=1e-6, atol=1e-9)
    assert bool((found > -1e-9).all())


def test_gradient_is_that_of_soft_cross_entropy() -> None:
    """∂/∂z of T² KL is T (q − p) (Hinton et al. 2015, equation 2)."""
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.softmax(torch.randn(3, 4, dtype=torch.float64), dim=1)
    distillation_loss(logits, targets, 3.0).sum().backward()
    q = torch.softmax(logits.detach() / 3.0, dim=1)
    torch.testing.assert_close(logits.grad, 3.0 * (q - targets))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_mean_of_teachers_by_row(tmp_path: Path, temperature: float) -> None:
    """Rows are found by their ids, in whatever order file and batch have them."""
    a, b = scores(1), scores(2)
    shuffled = np.array([4, 0, 5, 2, 1, 3])
    files = [write(tmp_path / "a", a), write(tmp_path / "b", b[shuffled], rows=ROWS[shuffled])]
    teacher = Teacher(files, CLASS_NAMES, temperature)
    batch = np.array([13, 2, 13, 21])
    lines = [4, 0, 4, 5]
    expected = (softmax(a[lines] / temperature) + softmax(b[lines].astype(float) / temperature)) / 2
    np.testing.assert_allclose(teacher.targets(batch, 6).numpy(), expected, rtol=2e-3, atol=1e-6)
    padded = teacher.targets(batch, 7)
    assert padded.shape == (4, 7) and not padded[:, 6].any()


@pytest.mark.parametrize("k", [1, 3, 5, 6])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_cut_results_spread_the_tail(tmp_path: Path, k: int, temperature: float) -> None:
    logits = scores(3)
    teacher = Teacher([write(tmp_path, logits, k=k)], CLASS_NAMES, temperature)
    p = softmax(logits.astype(np.float64))
    best = np.argsort(-p, axis=1, kind="stable")[:, :k]
    naive = np.zeros_like(p)
    for i in range(len(p)):
        rest = 1.0 - p[i, best[i]].sum()
        at_one = np.full(6, rest / max(6 - k, 1))
        at_one[best[i]] = p[i, best[i]]
        with np.errstate(divide="ignore"):
            naive[i] = softmax(np.log(at_one)[None] / temperature)[0]
    np.testing.assert_allclose(teacher.targets(ROWS, 6).numpy(), naive, rtol=2e-4, atol=2e-5)


def test_cut_to_all_classes_is_dense(tmp_path: Path) -> None:
    dense = Teacher([write(tmp_path / "a", scores(4))], CLASS_NAMES, 2.0)
    cut = Teacher([write(tmp_path / "b", scores(4), k=6)], CLASS_NAMES, 2.0)
    torch.testing.assert_close(dense.targets(ROWS, 6), cut.targets(ROWS, 6), rtol=1e-4, atol=1e-6)


def test_probabilities_are_softened_too(tmp_path: Path) -> None:
    p = softmax(scores(5).astype(np.float64)).astype(np.float16)
    teacher = Teacher([write(tmp_path, p, kind="probabilities")], CLASS_NAMES, 2.0)
    root = np.sqrt(p.astype(np.float64))
    np.testing.assert_allclose(
        teacher.targets(ROWS, 6).numpy(), root / root.sum(axis=1, keepdims=True), rtol=1e-3
    )


@given(st.integers(1, 5), st.integers(0, 100))
def test_expand_gives_back_the_kept_probabilities(k: int, seed: int) -> None:
    logits = np.random.default_rng(seed).standard_normal((4, 7)) * 5
    top = results.cut(logits, k)
    full = softmax(expand(top.classes_NK, top.scores_NK, top.tail_N, 7))
    whole = softmax(logits.astype(np.float16).astype(np.float64))
    kept = np.take_along_axis(whole, top.classes_NK.astype(np.int64), axis=1)
    np.testing.assert_allclose(
        np.take_along_axis(full, top.classes_NK.astype(np.int64), axis=1), kept, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(full.sum(axis=1), 1.0)


def test_teachers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", scores(1))
    with pytest.raises(ResultError, match="other classes"):
        Teacher([path], ("x", *CLASS_NAMES[1:]), 1.0)
    with pytest.raises(ResultError, match="row 4"):
        Teacher([path], CLASS_NAMES, 1.0).covers(np.array([2, 4]))
    with pytest.raises(ResultError, match="row 99"):
        Teacher([path], CLASS_NAMES, 1.0).targets(np.array([99]), 6)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ArtifactError, match="is cut short"):
        Teacher([path], CLASS_NAMES, 1.0)


@pytest.mark.slow
def test_distil_from_a_trained_model(tmp_path: Path) -> None:
    """Teacher → results of the train split → a student that is taught by nothing else."""
    data, selection = make_data(tmp_path / "data"), make_selection(tmp_path / "selection")
    inputs = {"catalogue": data, "selection": selection}
    teacher = run_job(job(tmp_path / "teacher", {"epochs": 8, "batch_size": 16}, **inputs))
    view = {"size": 16, "resize": 1.0}
    taught = {}
    for name, topk in (("all", {}), ("best", {"train": 2})):
        settings = {"views": [view], "splits": ["train"], "topk": topk, "threads": 1, "precision": "fp32"}
        ports = {"catalogue": [data], "train": [teacher]}
        scored = run_stage(tmp_path / f"scores_{name}", "predict", settings, ports)
        only = {"distillation": {"weight": 1.0, "temperature": 2.0}, "epochs": 4}
        out = run_job(job(tmp_path / name, only, **inputs, teacher=scored))
        taught[name] = read_tensors(out / "model.safetensors")["fc.weight"]
    with pytest.raises(RecipeError, match="train split"):
        run_job(job(tmp_path / "none", **inputs, teacher=make_selection(tmp_path / "empty")))
    plain = run_job(job(tmp_path / "plain", {"epochs": 4}, **inputs))
    hard = read_tensors(plain / "model.safetensors")["fc.weight"]
    distance = (taught["all"] - taught["best"]).norm()
    assert 0 < distance < (taught["all"] - hard).norm()
    scores_N4, _ = results.open_dense(tmp_path / "scores_all" / "train" / "16x1r1.npy")
    assert scores_N4.shape == (COUNTS["train"], CLASSES)
