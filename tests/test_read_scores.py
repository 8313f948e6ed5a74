"""Scores and labels in memory: arrays, tensors, data frames by Arrow's protocols; wrong ones refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from smelt.fusion.scores.inputs import Gathered, read_scores

LABELS = np.random.default_rng(0).integers(0, 4, 40)
A, B = (np.eye(4)[LABELS] + np.random.default_rng(n).normal(size=(40, 4)).astype(np.float32) for n in (1, 2))
IDS = [f"i{n}" for n in range(40)]
CLASSES = ("cat", "dog", "owl", "fox")


class Stream:
    """A frame that gives Arrow's stream and nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


class Interchange:
    """A frame of the older protocol."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> Any:
        return self.table.__dataframe__(nan_as_null, allow_copy)


def frame(scores: np.ndarray, order: np.ndarray) -> pa.Table:
    names = pa.array([IDS[place] for place in order]).dictionary_encode()
    return pa.table({"id": names, **dict(zip(CLASSES, scores[order].T))})


def block(given: Gathered, place: int) -> np.ndarray:
    return np.asarray(given.sources[place].block(np.arange(40), "low"))


@pytest.mark.parametrize("kind", [Stream, Interchange, lambda table: table])
def test_frames_are_joined_by_id_and_class(kind: Any, tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(40)
    labels = pa.table({"id": IDS, "label": [CLASSES[label] for label in LABELS]})
    given = read_scores([kind(frame(A, np.arange(40))), kind(frame(B, order))], labels=kind(labels))
    assert given.names == ["scores[0]", "scores[1]"] and given.classes == CLASSES and not given.alarms
    assert np.allclose(block(given, 0), A) and np.allclose(block(given, 1), B)
    assert given.labels_N is not None and np.array_equal(given.labels_N, LABELS)


def test_arrays_tensors_and_files_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    bundle = {"scores": B + 1, "ids": IDS}
    given = read_scores(
        {"one": tmp_path / "a.npy", "two": torch.tensor(B), "three": A - B, "four": bundle},
        labels=LABELS.tolist(),
    )
    assert given.names == ["one", "two", "three", "four"]
    assert np.allclose(block(given, 1), B) and np.allclose(block(given, 3), B + 1)
    assert given.labels_N is not None and np.array_equal(given.labels_N, LABELS)
    assert read_scores(str(tmp_path / "a.npy")).names == ["a"] and read_scores(A).names == ["scores[0]"]
    one_hot = np.eye(4, dtype=int)[LABELS]
    named = np.array([CLASSES[label] for label in LABELS], object)
    for labels in (one_hot, named):
        found = read_scores(frame(A, np.arange(40)), labels=labels).labels_N
        assert found is not None and np.array_equal(found, LABELS)


def test_wrong_arguments_are_named_with_their_shapes() -> None:
    for scores, match in (
        (A[:, 0], r"scores\[0\] has shape \(40,\), not \(N, C\) or \(M, N, C\)"),
        ([A, B[:30]], r"scores\[1\] has 30 lines, 40 images are wanted"),
        ([A, B[:, :3]], r"scores\[1\] has 3 classes, scores\[0\] has 4"),
        ([], "no result"),
        ([A, A], "hold the same scores"),
    ):
        with pytest.raises(ValueError, match=match):
            read_scores(scores)
    with pytest.raises(ValueError, match="39 labels for 40 images"):
        read_scores(A, labels=LABELS[:-1])
    with pytest.raises(TypeError, match=r"scores\[1\] is of type int: a path, an array"):
        read_scores([A, 3])
