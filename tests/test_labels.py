"""Labels of every form: one truth, however written; joined by ids; wrong ones refused with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from smelt.errors import ResultError
from smelt.fusion.scores.identity import Told
from smelt.fusion.scores.labels import read_labels

TRUTH = [1, 0, 3, 2, 1, 0, 2, 3]
CLASSES = ("persian cat", "dog", "owl", "fox")
IDS = tuple(f"img_{n:04}.jpg" for n in range(8))
ONE_HOT = np.eye(4, dtype=int)[TRUTH]


def told(path: Path, **known: Any) -> tuple[list[int], str]:
    said = Told()
    labels = read_labels(path, 8, 4, told=said, **known)
    assert labels.dtype == np.int32
    return labels.tolist(), " ".join(said.notes)


def write(path: Path, rows: list[list[object]], sign: str = ",", header: str = "") -> Path:
    path.write_text(header + "\n".join(sign.join(map(str, row)) for row in rows) + "\n")
    return path


VALUES: dict[str, list[Any]] = {
    "numbers": TRUTH,
    "floats": [float(label) for label in TRUTH],
    "names": [CLASSES[label] for label in TRUTH],
    "from one": [label + 1 for label in TRUTH],
    "words": [str(label) for label in TRUTH],
}


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize(
    "form", ["npy", "npz", "pt", "parquet", "csv", "csv;", "tsv", "csv without header", "lines"]
)
def test_every_value_in_every_form(tmp_path: Path, values: str, form: str) -> None:
    shuffled = np.random.default_rng(0).permutation(8)
    given = [VALUES[values][place] for place in shuffled]
    ids = [IDS[place] for place in shuffled]
    path = tmp_path / f"l.{form[:3].replace('par', 'parquet').replace('lin', 'txt')}"
    rows = [[name, label] for name, label in zip(ids, given)]
    known: dict[str, Any] = {"classes": CLASSES}
    if form == "npy":
        np.save(path, np.array(VALUES[values]))
    elif form == "npz":
        np.savez(path, y_true=np.array(given), filenames=ids)
    elif form == "pt":
        path = tmp_path / "l.pt"
        torch.save({"labels": given if isinstance(given[0], str) else torch.tensor(given), "ids": ids}, path)
    elif form == "parquet":
        pq.write_table(pa.table({"image_id": ids, "label": given}), path)
    elif form == "lines":
        write(path, [[label] for label in VALUES[values]])
    else:
        sign = {"csv;": ";", "tsv": "\t"}.get(form, ",")
        write(path, rows, sign, "" if "without" in form else f"image_id{sign}label\n")
    if form not in ("npy", "lines"):
        known["ids"] = IDS
    labels, words = told(path, **known)
    assert labels == TRUTH
    assert ("from 1 to 4" in words) == (values == "from one")
    assert ("into the order of the scores by id" in words) == (form not in ("npy", "lines"))


@pytest.mark.parametrize("form", ["npy", "npz", "csv", "parquet", "bool parquet", "no ids"])
def test_one_hot(tmp_path: Path, form: str) -> None:
    order = [2, 0, 3, 1]  # of the columns, which have names in tables
    names = [CLASSES[place] for place in order]
    path = tmp_path / f"l.{form.removeprefix('bool ').replace('no ids', 'csv')}"
    if form == "npy":
        np.save(path, ONE_HOT.astype(float))
    elif form == "npz":
        np.savez(path, labels=ONE_HOT, ids=IDS)
    elif form == "csv":
        rows = [[name, *row] for name, row in zip(IDS, ONE_HOT[:, order])]
        write(path, rows[::-1], ",", f"filename,{','.join(names)}\n")
    elif "parquet" in form:
        values = ONE_HOT[:, order].T.astype(bool if "bool" in form else float)
        pq.write_table(pa.table({"id": IDS, **dict(zip(names, values))}), path)
    else:
        write(path, [[name, *row] for name, row in zip(IDS, ONE_HOT)])
    labels, words = told(path, classes=CLASSES, ids=IDS)
    assert labels == TRUTH and "one-hot" in words


def test_unknown_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.array([1, 0, np.nan, 2, 1, -1, 2, 3]))
    labels, words = told(tmp_path / "l.npy")
    assert labels == [1, 0, -1, 2, 1, -1, 2, 3] and "1 labels are NaN" in words
    rows = [[name, CLASSES[label]] for name, label in zip(IDS, TRUTH)]
    rows[2][1], rows[5][1] = "", "unknown"
    assert told(write(tmp_path / "l.csv", rows), classes=CLASSES)[0] == [1, 0, -1, 2, 1, -1, 2, 3]
    hot = ONE_HOT.copy()
    hot[2] = 0
    np.save(tmp_path / "h.npy", hot)
    assert told(tmp_path / "h.npy")[0][2] == -1


@pytest.mark.parametrize("header", ["", "label,what\n", "label,image_id\n"])
def test_the_label_may_stand_before_the_id(tmp_path: Path, header: str) -> None:
    for values in (TRUTH, VALUES["names"]):
        rows = [[label, name] for name, label in zip(IDS, values)][::-1]
        assert told(write(tmp_path / "l.csv", rows, header=header), ids=IDS, classes=CLASSES)[0] == TRUTH


@pytest.mark.parametrize("numbers", [("10", "20", "30", "40"), ("c_10", "c_20", "c_30", "c_40")])
def test_classes_that_are_called_by_numbers(tmp_path: Path, numbers: tuple[str, ...]) -> None:
    np.save(tmp_path / "l.npy", [int(numbers[label].removeprefix("c_")) for label in TRUTH])
    labels, words = told(tmp_path / "l.npy", classes=numbers)
    assert labels == TRUTH and "own numbers" in words
    np.save(tmp_path / "l.npy", TRUTH)  # none of them is a name: places
    assert told(tmp_path / "l.npy", classes=numbers)[0] == TRUTH


def test_names_that_are_only_written_otherwise(tmp_path: Path) -> None:
    path, said = tmp_path / "l.csv", Told()
    classes = ("cat", "great dane")
    write(path, [["a", "Great_Dane"], ["b", "?"], ["c", "CAT"]], header="id,label\n")
    assert read_labels(path, 3, 2, classes=classes, told=said).tolist() == [1, -1, 0]
    assert "Great_Dane is great dane" in " ".join(said.notes)
    write(path, [["a", "Great_Dane"], ["b", "dog"], ["c", "CAT"]], header="id,label\n")
    with pytest.raises(ResultError, match="'Great_Dane' is none of the 2 classes"):
        read_labels(path, 3, 2, classes=classes)


NO_TABLES = [
    ("y.json", "[1, 2]"), ("y.txt", '{"a": 1}'), ("y.csv", '[{"id": 1}]'), ("y", "[1, 0, 1]"), ("y.pkl", "x"),
    ("y.csv", " \n[[1], [2]]"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), NO_TABLES)
def test_what_is_no_table_is_told_so(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ResultError, match="is not read as labels; write a table `id,label`"):
        told(tmp_path / name)


def test_names_without_names_of_classes_say_what_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", [[name, CLASSES[label]] for name, label in zip(IDS, TRUTH)])
    with pytest.raises(
        ResultError, match=r"l\.csv:1: labels are names \('dog'\).*A\.classes\.txt beside A\.npy"
    ):
        told(path)
    with pytest.raises(
        ResultError, match=r"l\.csv:1: 'dog' is none of the 4 classes \(a, b, c and 1 more\); neither"
    ):
        told(path, classes=("a", "b", "c", "d"))
    with pytest.raises(ResultError, match=r"l\.csv:3: 'fox' is none"):
        told(path, classes=("persian cat", "dog", "owl", "vixen"))


def test_ids_are_joined_or_refused(tmp_path: Path) -> None:
    rows: list[list[object]] = [[name, label] for name, label in zip(IDS, TRUTH)]
    path = write(
        tmp_path / "l.csv", [[f"val/{name}".removesuffix(".jpg"), label] for name, label in rows][::-1]
    )
    labels, words = told(path, ids=IDS)
    assert labels == TRUTH and "val/img_0000 is img_0000.jpg" in words
    labels, words = told(write(path, [*rows, ["more.jpg", 0]]), ids=IDS)
    assert labels == TRUTH and "8 of its 9 images are used" in words
    for odd, match in (
        (rows[:-2], r"l\.csv lacks 2 images of the scores \(img_0006\.jpg, img_0007\.jpg\)"),
        ([*rows, rows[3]], r"l\.csv has image img_0003\.jpg twice"),
        ([["x" + str(name), label] for name, label in rows], "no image in common"),
    ):
        with pytest.raises(ResultError, match=match):
            told(write(path, odd), ids=IDS)


def test_ids_that_nothing_can_be_joined_to(tmp_path: Path) -> None:
    rows: list[list[object]] = [[name, label] for name, label in zip(IDS, TRUTH)]
    path, said = write(tmp_path / "l.csv", rows), Told()
    assert read_labels(path, 8, 4, told=said).tolist() == TRUTH
    assert "the scores have none" in said.alarms[0] and "--ids" in said.alarms[0]
    with pytest.raises(ResultError, match=r"8 labels for 9 images.*--ids"):
        read_labels(path, 9, 4)
    # numbers of lines say the order themselves
    write(path, [[place, TRUTH[place]] for place in (5, 2, 7, 0, 1, 3, 6, 4)], ",", "index,label\n")
    labels, words = told(path)
    assert labels == TRUTH and "numbers of lines" in words


@pytest.mark.parametrize(
    "values, match",
    [
        ([0, 9], r"label 9 of image 1 .*not among 4"),
        ([0, -3], "label -3 of image 1"),
        ([0.5, 1], "no whole number"),
        ([1e300, 1], "no whole number"),
        ([np.inf, 1], "no whole number"),
        ([], "holds no labels"),
        ([[1, 1, 0, 0], [0, 1, 0, 0]], "image 0 has no single 1"),
        ([[0.2, 0.8, 0, 0]] * 2, "image 0 has no single 1"),
        ([[1, 0, 0]] * 2, "3 columns of labels, the scores have 4 classes"),
        (np.zeros((2, 2, 2)), "has shape"),
        ([1j, 2], "complex128"),
        ([0, 4], "label 4 of image 1"),
        (np.array([1, 2**64 - 1], np.uint64), "not among"),
    ],
)
def test_wrong_values(tmp_path: Path, values: Any, match: str) -> None:
    np.save(tmp_path / "l.npy", np.array(values))
    with pytest.raises(ResultError, match=rf"l\.npy.*{match}"):
        read_labels(tmp_path / "l.npy", len(values) if np.ndim(values) < 3 else 2, 4)


def test_wrong_lines_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", [["a", 1], ["b", 2], ["c"]])
    with pytest.raises(ResultError, match=r"l\.csv:3 has 1 columns"):
        read_labels(path, 3, 4)
    write(path, [["a", 1], ["b", 17]], header="id,label\n")
    with pytest.raises(ResultError, match=r"l\.csv:3: label 17 of image 1 \(b\)"):
        read_labels(path, 2, 4)
    np.savez(tmp_path / "l.npz", a=[1], b=[2])
    with pytest.raises(ResultError, match=r"l\.npz holds a, b: none is called labels"):
        read_labels(tmp_path / "l.npz", 1, 4)


def test_the_last_of_several_numbers(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("".join(f"{name} 640 480 {label}\n" for name, label in zip(IDS, TRUTH)))
    assert told(tmp_path / "l.txt", ids=IDS)[0] == TRUTH
