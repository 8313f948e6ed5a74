"""Score files from anywhere: every form read, orders aligned, what cannot be fused refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smelt.artifacts import results
from smelt.errors import ArtifactError, ResultError
from smelt.fusion.inputs import read, read_ids, read_labels, read_lists
from smelt.fusion.soften import softmax
from smelt.fusion.sources import Held

RANDOM = np.random.default_rng(0)
A, B = (RANDOM.normal(size=(6, 4)).astype(np.float32) for _ in range(2))
IDS = ("f", "e", "d", "c", "b", "a")


def save(path: Path, array: np.ndarray, ids: tuple[str, ...] | None = None) -> Path:
    np.save(path, array)
    if ids:
        path.with_name(path.stem + ".ids.txt").write_text("\n".join(ids))
    return path


def dense(held: Held) -> np.ndarray:
    return np.asarray(held.block(np.arange(6), "low"))


def test_every_form(tmp_path: Path) -> None:
    np.savez(tmp_path / "pair.npz", x=A + 1, y=B + 1)
    top = results.cut(A, 3)
    np.savez(tmp_path / "cut.npz", classes=top.classes_NK, scores=top.scores_NK)
    (tmp_path / "lists.csv").write_text(
        "image,c1,c2\n" + "".join(f"i{n},{n % 4},{(n + 1) % 4}\n" for n in range(6))
    )
    paths = [
        save(tmp_path / "one.npy", A), save(tmp_path / "stack.npy", np.stack([B, A * 2])),
        tmp_path / "pair.npz", tmp_path / "cut.npz", tmp_path / "lists.csv",
        save(tmp_path / "soft.npy", softmax(B)), save(tmp_path / "half.npy", (A * 3).astype(np.float16)),
        save(tmp_path / "double.npy", (A * 4).astype(np.float64)),
    ]  # fmt: skip
    held, num_classes = read(paths)
    assert num_classes == 4
    names = [one.name for one in held]
    assert names == [
        "one",
        "stack[0]",
        "stack[1]",
        "pair:x",
        "pair:y",
        "cut",
        "lists",
        "soft",
        "half",
        "double",
    ]
    assert [one.name for one in held if one.kind == "probabilities"] == ["soft"]
    assert [one.name for one in held if one.cut] == ["cut"]
    for name, expected in (("one", A), ("stack[1]", A * 2), ("pair:y", B + 1), ("double", A * 4)):
        assert np.array_equal(dense(held[names.index(name)]), expected)
    assert dense(held[names.index("lists")])[1].tolist() == [0, 2, 1, 0]
    assert held[names.index("double")].scores.dtype == np.float32  # type: ignore[union-attr]


def test_smelts_own_results(tmp_path: Path) -> None:
    rows = np.array([5, 3, 9, 1, 0, 2])
    info = results.describe("m", "v", "val", rows, ("a", "b", "c", "d"))
    results.write_dense(tmp_path / "own.npy", A, info, rows)
    held, _ = read([tmp_path / "own.npy"], [str(row) for row in sorted(rows)])
    assert np.array_equal(dense(held[0]), A.astype(np.float16)[np.argsort(rows)])


def test_orders_are_aligned_by_ids(tmp_path: Path) -> None:
    order = [2, 0, 5, 1, 4, 3]
    one = save(tmp_path / "one.npy", A, IDS)
    two = save(tmp_path / "two.npy", B[order], tuple(IDS[i] for i in order))
    top = results.cut(A + B, 2)
    np.savez(tmp_path / "cut.npz", classes=top.classes_NK[order], scores=top.scores_NK[order],
             ids=np.array([IDS[i] for i in order]))  # fmt: skip
    (tmp_path / "lists.txt").write_text("".join(f"{IDS[i]}\t{i % 4}   {(i + 1) % 4}\n" for i in order))
    paths = [one, two, tmp_path / "cut.npz", tmp_path / "lists.txt"]
    held, _ = read(paths)
    assert np.array_equal(dense(held[0]), A) and np.array_equal(dense(held[1]), B)
    assert np.array_equal(dense(held[2]).argmax(1), (A + B).argmax(1))
    assert dense(held[3]).argmax(1).tolist() == [i % 4 for i in range(6)]
    backwards, _ = read(paths, IDS[::-1])
    assert np.array_equal(dense(backwards[0]), A[::-1]) and np.array_equal(dense(backwards[1]), B[::-1])
    some, _ = read(paths, IDS[:3])
    assert np.array_equal(np.asarray(some[1].block(np.arange(3), "low")), B[:3])


def refused(paths: list[Path], match: str, kind: type[Exception] = ResultError) -> None:
    with pytest.raises(kind, match=match):
        read(paths)


def test_what_cannot_be_fused_is_refused_by_name(tmp_path: Path) -> None:
    good = save(tmp_path / "good.npy", A)
    refused([good, save(tmp_path / "wide.npy", np.ones((6, 5)))], r"wide\.npy has 5 classes.*good\.npy has 4")
    refused([good, save(tmp_path / "long.npy", np.ones((7, 4)))], r"long\.npy has 7 lines")
    bad = B.copy()
    bad[3, 1] = np.nan
    refused([good, save(tmp_path / "nan.npy", bad)], r"nan\.npy.*line 3 is not finite")
    bad[3, 1] = np.inf
    refused([good, save(tmp_path / "inf.npy", bad)], r"inf\.npy.*line 3")
    refused([good, good], r"good\.npy is given twice")
    (tmp_path / "link.npy").symlink_to(good)
    refused([good, tmp_path / "link.npy"], "given twice")
    refused([good, save(tmp_path / "copy.npy", A)], "copy and good hold the same scores")
    refused([good, save(tmp_path / "ints.npy", np.ones((6, 4), int))], r"ints\.npy holds int64")
    refused([good, save(tmp_path / "flat.npy", np.ones(6))], r"flat\.npy has shape")
    refused([good, tmp_path / "none.npy"], r"none\.npy is not there", ArtifactError)
    (tmp_path / "odd.bin").write_bytes(b"x")
    refused([good, tmp_path / "odd.bin"], r"odd\.bin")
    with pytest.raises(ResultError, match="no result"):
        read([])


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_truncated_and_evil_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".npy":
        np.save(path, B)
    else:
        np.savez(path, x=B)
    content = path.read_bytes()
    for size in (0, 4, 60, len(content) - 10):
        path.write_bytes(content[:size])
        refused([path], rf"cut\{suffix}", ArtifactError)
    objects = np.array([[{}]], dtype=object)
    np.save(path.with_suffix(".npy"), objects) if suffix == ".npy" else np.savez(path, x=objects)
    refused([path], rf"cut\{suffix}", ArtifactError)


def test_class_lists_are_compared(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one.npy", A), save(tmp_path / "two.npy", B)
    (tmp_path / "one.classes.txt").write_text("cat\ndog\nowl\nfox\n")
    (tmp_path / "two.classes.txt").write_text("cat\ndog\nowl\nfox\n")
    read([one, two])
    (tmp_path / "two.classes.txt").write_text("dog\ncat\nowl\nfox\n")
    refused([one, two], r"two\.npy and .*one\.npy have different lists of classes")
    (tmp_path / "lists.txt").write_text("".join(f"{n} 7 1\n" for n in range(6)))
    refused([one, tmp_path / "lists.txt"], r"lists\.txt names class 7")


def test_ids_are_checked(tmp_path: Path) -> None:
    one = save(tmp_path / "one.npy", A, IDS)
    refused([one, save(tmp_path / "two.npy", B, (*IDS[:5], "z"))], r"two\.npy lacks image a")
    refused([save(tmp_path / "twice.npy", B, (*IDS[:5], "f"))], r"twice\.npy has image f twice")
    refused([save(tmp_path / "few.npy", B, IDS[:5])], r"few\.npy has 6 lines but 5 ids")


def test_lists(tmp_path: Path) -> None:
    path = tmp_path / "lists.txt"
    path.write_text("a.jpg\t1   2   3\n\nb.jpg\t3   2   1\n")
    assert read_lists(path)[0] == ("a.jpg", "b.jpg") and read_lists(path)[1].tolist() == [
        [1, 2, 3],
        [3, 2, 1],
    ]
    for text, match in (
        ("a 1 2\nb 1\n", ":2"),
        ("a 1 1\n", ":1"),
        ("a 1\nb x\n", ":2"),
        ("", "no lists"),
        ("a -1\n", ":1"),
    ):
        path.write_text(text)
        with pytest.raises(ResultError, match=match):
            read_lists(path)


def test_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.array([0, 3, -1], np.int64))
    (tmp_path / "l.txt").write_text("x.jpg 0\ny.jpg 3\nz.jpg -1\n")
    for name in ("l.npy", "l.txt"):
        assert read_labels(tmp_path / name, 3, 4).tolist() == [0, 3, -1]
        with pytest.raises(ResultError, match=r"3 labels for 4 images"):
            read_labels(tmp_path / name, 4, 4)
        with pytest.raises(ResultError, match=r"label 3 of image 1"):
            read_labels(tmp_path / name, 3, 3)
    np.save(tmp_path / "f.npy", np.zeros(3))
    with pytest.raises(ResultError, match="float64"):
        read_labels(tmp_path / "f.npy", 3, 4)
    (tmp_path / "bad.txt").write_text("cat\n")
    with pytest.raises(ResultError, match=r"bad\.txt"):
        read_labels(tmp_path / "bad.txt", 1, 4)
    np.save(tmp_path / "ids.npy", np.array([3, 1]))
    assert read_ids(tmp_path / "ids.npy") == ("3", "1")
