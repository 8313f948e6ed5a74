"""Score files from anywhere: every form read, orders aligned, what cannot be fused refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smelt.artifacts import results
from smelt.errors import ArtifactError, ResultError
from smelt.fusion.scores import identity
from smelt.fusion.scores.inputs import Gathered, read_scores
from smelt.fusion.scores.labels import read_labels
from smelt.fusion.scores.scorefiles import read_file, read_ids
from smelt.fusion.scores.soften import softmax
from smelt.fusion.scores.sources import Held

RANDOM = np.random.default_rng(0)
A, B = (RANDOM.normal(size=(6, 4)).astype(np.float32) for _ in range(2))
IDS = ("f", "e", "d", "c", "b", "a")


def save(path: Path, array: np.ndarray, ids: tuple[str, ...] | None = None) -> Path:
    np.save(path, array)
    if ids:
        path.with_name(path.stem + ".ids.txt").write_text("\n".join(ids))
    return path


def read(paths: list[Path], ids: tuple[str, ...] | None = None) -> tuple[list[Held], int]:
    gathered = read_scores(paths, ids=ids)
    return gathered.sources, gathered.num_classes


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
    refused([good, save(tmp_path / "ints.npy", np.ones((6, 4), int))], r"ints\.npy holds int64, all 1")
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
    held, _ = read([one, two])
    assert np.array_equal(dense(held[1]), B[:, [1, 0, 2, 3]])
    (tmp_path / "two.classes.txt").write_text("dog\ncow\nowl\nfox\n")
    refused([one, two], r"two\.npy and .*one\.npy have different lists of classes: .*cat.*cow")
    (tmp_path / "two.classes.txt").write_text("dog\ncat\nowl\n")
    refused([one, two], r"two\.npy has 4 columns but 3 names of classes")
    (tmp_path / "two.classes.txt").unlink()
    (tmp_path / "lists.txt").write_text("".join(f"{n} 7 1\n" for n in range(6)))
    refused([one, tmp_path / "lists.txt"], r"lists\.txt names class 7 in line 0")


def test_ids_are_checked(tmp_path: Path) -> None:
    one = save(tmp_path / "one.npy", A, IDS)
    two = save(tmp_path / "two.npy", B, (*IDS[:5], "z"))
    refused([one, two], r"two\.npy lacks image a of .*one\.npy; it has 1 that .* lacks \(z\)")
    more = save(tmp_path / "more.npy", np.concatenate([B, B[:1]]), (*IDS, "z"))
    refused([one, more], r"more\.npy does not agree with .*it has 1 that .* lacks \(z\)")
    refused([save(tmp_path / "twice.npy", B, (*IDS[:5], "f"))], r"twice\.npy has image f twice")
    refused([save(tmp_path / "few.npy", B, IDS[:5])], r"few\.npy has 6 lines but 5 ids")


def test_lists(tmp_path: Path) -> None:
    path = tmp_path / "lists.txt"
    path.write_text("a.jpg\t1   2   3\n\nb.jpg\t3   2   0\n")
    (raw,) = read_file(path)
    assert raw.ids == ("a.jpg", "b.jpg") and raw.lists_NK is not None
    assert raw.lists_NK.tolist() == [[1, 2, 3], [3, 2, 0]]
    for text, match in (
        ("a 1 2\nb 1\n", ":2"),
        ("a 1 2\nb 2 1\nc 1 1\n", ":3: a class is below 0 or there twice"),
        ("a 1\nb 2\nc x\n", ":3"),
        ("", "is empty"),
        ("a 1\nb 2\nc -1\n", ":3: a class is below 0"),
    ):
        path.write_text(text)
        with pytest.raises(ResultError, match=match):
            read_file(path)


def test_labels_without_knowledge_of_images(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.array([0, 3, -1], np.int64))
    (tmp_path / "l.txt").write_text("x.jpg 0\ny.jpg 3\nz.jpg -1\n")
    for name in ("l.npy", "l.txt"):
        assert read_labels(tmp_path / name, 3, 4).tolist() == [0, 3, -1]
        with pytest.raises(ResultError, match=r"3 labels for 4 images"):
            read_labels(tmp_path / name, 4, 4)
        with pytest.raises(ResultError, match=r"label 3 of image 1"):
            read_labels(tmp_path / name, 3, 3)
    np.save(tmp_path / "ids.npy", np.array([3, 1]))
    assert read_ids(tmp_path / "ids.npy") == ("3", "1")


# What is known is used, what is assumed is said


def texts(gathered: Gathered) -> str:
    return " | ".join([*gathered.notes, *gathered.alarms])


def many(count: int = 300, classes: int = 6, seed: int = 1) -> tuple[np.ndarray, list[np.ndarray]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    return labels, [
        (2.0 * np.eye(classes)[labels] + random.normal(size=(count, classes))).astype(np.float32)
        for _ in range(3)
    ]


def test_labels_are_joined_by_ids(tmp_path: Path) -> None:
    labels, scores = many()
    ids = tuple(f"i{n}" for n in range(300))
    files = [save(tmp_path / f"{n}.npy", one, ids) for n, one in enumerate(scores)]
    order = np.random.default_rng(0).permutation(300)
    (tmp_path / "l.csv").write_text("".join(f"{ids[n]},{labels[n]}\n" for n in order))
    gathered = read_scores(files, labels=tmp_path / "l.csv")
    assert gathered.labels_N is not None and np.array_equal(gathered.labels_N, labels)
    assert not gathered.alarms and "l.csv: lines are put into the order of the scores by id" in texts(
        gathered
    )
    subset = [ids[n] for n in (7, 3, 5)]
    gathered = read_scores(files, ids=subset, labels=tmp_path / "l.csv")
    assert gathered.labels_N is not None and gathered.labels_N.tolist() == labels[[7, 3, 5]].tolist()
    assert "3 of its 300 images are used" in texts(gathered)


def test_files_without_ids_beside_files_with(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one.npy", A, IDS), save(tmp_path / "two.npy", B)
    (words,) = read_scores([one, two]).alarms
    assert "two.npy has no ids" in words and "in the order of" in words
    (words,) = read_scores([one, two], ids=IDS).alarms
    assert "in the order of --ids" in words
    assert not read_scores([two], ids=IDS).alarms  # the user says them
    refused(
        [one, save(tmp_path / "short.npy", B[:5])],
        r"short\.npy has 5 lines, 6 images are wanted .those of .*one",
    )
    # numbers of lines, as in lists that smelt writes without ids
    (tmp_path / "lists.txt").write_text(
        "".join(f"{n}\t{n % 4}   {(n + 1) % 4}\n" for n in (3, 1, 0, 2, 5, 4))
    )
    gathered = read_scores([two, tmp_path / "lists.txt"])
    assert not gathered.alarms and dense(gathered.sources[1]).argmax(1).tolist() == [n % 4 for n in range(6)]


@pytest.mark.parametrize("form", ["csv", "npz", "topk", "lists by name", "lists by number"])
def test_classes_in_another_order(tmp_path: Path, form: str) -> None:
    _, (first, second, _) = many()
    names, moved = list("abcdef"), list("fbadec")
    order = [names.index(name) for name in moved]
    np.savez(tmp_path / "one.npz", scores=first, class_names=names)
    there = second[:, order]
    top = np.argsort(-there, axis=1)[:, :3]
    path = tmp_path / {"csv": "two.csv", "npz": "two.npz", "topk": "two.npz"}.get(form, "two.txt")
    if form == "csv":
        rows = [f"{n},{','.join(map(str, row))}" for n, row in enumerate(there)]
        path.write_text("\n".join([f"id,{','.join(moved)}", *rows]))
    elif form == "npz":
        np.savez(path, logits=there, classes=moved)
    elif form == "topk":
        np.savez(path, classes=top, scores=np.take_along_axis(there, top, axis=1), class_names=moved)
    else:
        said = np.array(moved)[top] if form.endswith("name") else top
        path.write_text("".join("\t".join(map(str, [n, *row])) + "\n" for n, row in enumerate(said)))
        if form.endswith("number"):
            path.with_name("two.classes.txt").write_text("\n".join(moved))
    gathered = read_scores([tmp_path / "one.npz", path])
    found = gathered.sources[1].block(np.arange(300), "low")
    assert np.array_equal(found.argmax(1), second.argmax(1)) and gathered.classes == tuple("abcdef")
    assert ("another order" in texts(gathered)) == (form != "lists by name")
    if form in ("csv", "npz"):
        assert np.allclose(found, second, atol=1e-6)


def test_classes_called_by_numbers_are_in_their_order_whoever_comes_first(tmp_path: Path) -> None:
    labels, (first, second, _) = many(classes=12)
    order = sorted(range(12), key=str)
    np.savez(tmp_path / "a.npz", scores=first, class_names=list(map(str, range(12))))
    np.savez(tmp_path / "b.npz", scores=second[:, order], class_names=list(map(str, order)))
    np.save(tmp_path / "l.npy", labels)
    for files in (["a.npz", "b.npz"], ["b.npz", "a.npz"]):
        gathered = read_scores([tmp_path / file for file in files], labels=tmp_path / "l.npy")
        right = [
            (source.block(np.arange(300), "low").argmax(1) == labels).mean() for source in gathered.sources
        ]
        assert min(right) > 0.5 and gathered.classes == tuple(map(str, range(12))) and not gathered.alarms


def test_classes_without_names_beside_moved_ones_are_a_warning(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", scores=A, class_names=list("abcd"))
    np.savez(tmp_path / "b.npz", scores=B, class_names=list("dcba"))
    three = save(tmp_path / "c.npy", A + B)
    assert "c.npy: no names of classes" in " ".join(
        read_scores([tmp_path / "a.npz", tmp_path / "b.npz", three]).alarms
    )
    gathered = read_scores([tmp_path / "a.npz", three])
    assert not gathered.alarms and "c.npy: no names of classes" in texts(gathered)


def test_smelts_own_results_beside_others(tmp_path: Path) -> None:
    rows = np.arange(6)
    info = results.describe("m", "v", "val", rows, ("a", "b", "c", "d"))
    results.write_dense(tmp_path / "own.npy", A, info, rows)
    for names, match in ((list("abcd"), None), (list("dbca"), "another order")):
        np.savez(tmp_path / "b.npz", scores=B, class_names=names, ids=list(map(str, rows)))
        if match is None:
            assert read_scores([tmp_path / "own.npy", tmp_path / "b.npz"]).names == ["m/v", "b"]
        else:
            refused(
                [tmp_path / "own.npy", tmp_path / "b.npz"], "different lists of classes, or in another order"
            )


@pytest.mark.parametrize("numbers, match", [
    ([[0, 1], [9, 1]], r"t\.npz names class 9 in line 1, .*good\.npy has 4 classes"),
    ([[0, 1], [-1, 1]], r"t\.npz names class -1 in line 1"),
    ([[1, 2], [4, 1]], r"names class 4 .*count from 1, subtract 1"),
    ([[0, 1], [2, 2]], r"t\.npz: line 1 names class 2 twice"),
])  # fmt: skip
def test_top_k_of_classes_that_are_not_there(tmp_path: Path, numbers: list[list[int]], match: str) -> None:
    good = save(tmp_path / "good.npy", A[:2])
    np.savez(tmp_path / "t.npz", classes=numbers, scores=[[0.9, 0.1]] * 2)
    refused([good, tmp_path / "t.npz"], match)


def test_top_k_in_any_order_and_of_any_kind(tmp_path: Path) -> None:
    chances = softmax(A)
    order = np.argsort(-chances, axis=1)
    top = order[:, [2, 0, 1]]
    values = np.take_along_axis(chances, top, axis=1)
    for factor, kind in ((1, "probabilities"), (100, "percentages")):
        np.savez(tmp_path / "t.npz", classes=top, scores=factor * values)
        gathered = read_scores([tmp_path / "t.npz"])
        assert gathered.kinds == [kind] and gathered.sources[0].kind == "probabilities"
        middle = gathered.sources[0].block(np.arange(6), "middle")
        # with one class cut, what is left of 1 is its probability
        assert np.allclose(middle, chances, atol=2e-3)
        low, high = (gathered.sources[0].block(np.arange(6), side) for side in ("low", "high"))
        assert (low <= chances + 1e-6).all() and (chances <= high + 1e-6).all()
    np.savez(tmp_path / "t.npz", classes=top, scores=np.log(values))
    assert read_scores([tmp_path / "t.npz"]).kinds == ["log_probabilities"]
    with pytest.raises(ResultError, match="cannot hold sigmoid"):
        read_scores([tmp_path / "t.npz"], kinds=["sigmoid"])


def test_scores_that_cannot_be_computed_with(tmp_path: Path) -> None:
    good = save(tmp_path / "good.npy", A)
    for value in (1e300, -1e300, 1e30):
        bad = B.astype(np.float64)
        bad[2, 3] = value
        refused([good, save(tmp_path / "bad.npy", bad)], r"bad\.npy .bad.: line 2 holds .*class 3")
    bad = np.array(B)
    bad[4, 1] = -np.inf
    refused([good, save(tmp_path / "bad.npy", bad)], r"line 4 is not finite .−inf")
    (tmp_path / "bad.csv").write_text("id,a,b,c,d\nx,1.,2.,3.,4.\n\ny,1.,nan,3.,4.\n")
    refused([tmp_path / "bad.csv"], r"bad\.csv:4 is not finite")


def test_kinds_are_found_said_and_told(tmp_path: Path) -> None:
    _, (first, second, third) = many()
    chances = softmax(second)
    a, b, c = (
        save(tmp_path / "a.npy", first),
        save(tmp_path / "b.npy", 100 * chances),
        save(tmp_path / "c.npy", softmax(third)),
    )
    gathered = read_scores([a, b, c])
    assert gathered.kinds == ["logits", "percentages", "probabilities"]
    assert np.allclose(gathered.sources[1].block(np.arange(300), "low"), chances, atol=1e-6)
    assert [line.partition(" (")[0] for line in gathered.told()] == [
        "a: logits",
        "b: percentages",
        "c: probabilities",
    ]
    assert read_scores([a, b, c], kinds=["b.npy=logits"]).kinds == ["logits", "logits", "probabilities"]
    assert read_scores([a, b], kinds=["logits"]).kinds == ["logits", "logits"]
    assert read_scores([a, b], kinds=["logits", f"{b}=sums"]).kinds == ["logits", "sums"]
    assert "as --kind says" in read_scores([a, b], kinds=["b=sums"]).told()[1]
    for kinds, match in (
        (["x.npy=logits"], "x.npy is none of the inputs"),
        (["a.npy=soup"], "'soup' is no kind"),
        (["a=probabilities"], r"a\.npy holds .*no probabilities"),
        (["b=sums", "b=logits"], "was said to hold sums"),
    ):
        with pytest.raises(ResultError, match=match):
            read_scores([a, b], kinds=kinds)


def test_the_best_end_of_a_ranking_is_told_by_labels_or_by_others(tmp_path: Path) -> None:
    labels, (first, second, _) = many()
    np.save(tmp_path / "l.npy", labels)
    places = 1 + np.argsort(np.argsort(-first, axis=1), axis=1)
    other = save(tmp_path / "other.npy", second)
    for name, ranking, kind in (("places", places, "ranks"), ("borda", 7 - places, "points")):
        path = save(tmp_path / f"{name}.npy", ranking)
        for known in ({"labels": tmp_path / "l.npy"}, {}):
            gathered = read_scores([path, other], **known)
            assert gathered.kinds[0] == kind
            assert np.array_equal(gathered.sources[0].block(np.arange(300), "low").argmax(1), first.argmax(1))
        with pytest.raises(
            ResultError, match=f"nothing tells which end is the best: say --kind {name}=ranks"
        ):
            read_scores([path])
        assert read_scores([path], kinds=[kind]).kinds == [kind]


def test_labels_beside_scores(tmp_path: Path) -> None:
    labels, (first, second, _) = many()
    ids = [f"i{n}" for n in range(300)]
    order = np.random.default_rng(0).permutation(300)
    save(tmp_path / "a.npy", first, tuple(ids))
    np.savez(
        tmp_path / "b.npz", scores=second[order], labels=labels[order], filenames=[ids[n] for n in order]
    )
    gathered = read_scores([tmp_path / "a.npy", tmp_path / "b.npz"])
    assert gathered.labels_N is not None and np.array_equal(gathered.labels_N, labels)
    assert "labels are those in" in texts(gathered)
    np.savez(tmp_path / "c.npz", scores=second, labels=labels)
    gathered = read_scores([tmp_path / "c.npz"])
    assert gathered.labels_N is not None and np.array_equal(gathered.labels_N, labels) and not gathered.alarms
    # in the order of a file without ids, which is not the order of the first
    gathered = read_scores([tmp_path / "a.npy", tmp_path / "c.npz"])
    assert gathered.labels_N is not None and np.array_equal(gathered.labels_N, labels)


def test_files_of_one_name_and_names_that_are_said(tmp_path: Path) -> None:
    for folder, scores in (("r50", A), ("b4", B)):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "val.npy", scores)
    paths = [tmp_path / "r50" / "val.npy", tmp_path / "b4" / "val.npy"]
    assert read_scores(paths).names == ["r50/val", "b4/val"]
    assert read_scores(paths, names=[f"x={paths[1]}"]).names == ["val", "x"]
    stack = save(tmp_path / "stack.npy", np.stack([A * 2, B * 2]))
    assert read_scores([stack], names=["s=stack.npy"]).names == ["s[0]", "s[1]"]
    for names, match in (
        (["x"], "NAME=FILE"),
        (["x=val.npy"], "more than one of the inputs"),
        (["x=no"], "none of"),
    ):
        with pytest.raises(ResultError, match=match):
            read_scores(paths, names=names)


def test_columns_in_an_order_that_nobody_would_guess_are_a_warning(tmp_path: Path) -> None:
    plain, named = save(tmp_path / "a.npy", A), tmp_path / "q.npz"
    for names, alarmed in (
        (["dog", "ant", "cat", "bee"], True),
        (["ant", "bee", "cat", "dog"], False),
        (["0", "1", "2", "3"], False),
    ):
        np.savez(named, scores=B, class_names=np.array(names))
        gathered = read_scores([plain, named])
        words = [text for text in gathered.alarms if "no names of classes" in text]
        assert bool(words) == alarmed
        if alarmed:
            assert "a.classes.txt" in words[0] and "dog" in words[0]


@pytest.mark.parametrize(
    "ours, theirs, how",
    [
        (("Im0", "Im1", "iM2"), ("im1", "IM2", "im0"), "by capitals"),
        (("a/Im0.JPG", "a/im1.jpg", "a/im2.jpg"), ("im1", "IM2", "im0"), "by folder, suffix and capitals"),
        (("55", "7", "0"), ("7.0", "0.0", "55.0"), "by .0 behind numbers"),
    ],
)
def test_ids_by_capitals_and_as_fractions(ours: tuple[str, ...], theirs: tuple[str, ...], how: str) -> None:
    order, said = identity.match(ours, theirs, "ours", "theirs")
    assert order.tolist() == [2, 0, 1] and how in said
    with pytest.raises(ResultError):
        identity.match((*ours, ours[0].upper() + "x"), (*theirs, theirs[0] + "y"), "ours", "theirs")


def test_ids_that_capitals_alone_tell_apart_stay_apart() -> None:
    assert identity.match(("a", "A"), ("A", "a"), "ours", "theirs")[0].tolist() == [1, 0]
    with pytest.raises(ResultError, match="by capitals, several images would be one"):
        identity.match(("a", "A"), ("a", "B"), "ours", "theirs")
