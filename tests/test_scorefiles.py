"""Score files of every form that people have: the same scores, ids and classes come out of each; hostile ones
are refused in one line and nothing in them is run."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from smelt.artifacts import results
from smelt.errors import ArtifactError, ResultError, SmeltError
from smelt.fusion.scores.arrayfiles import Raw
from smelt.fusion.scores.inputs import read_scores
from smelt.fusion.scores.scorefiles import read_file, read_ids

RANDOM = np.random.default_rng(5)
SCORES = RANDOM.normal(size=(7, 4)).astype(np.float32)
IDS = tuple(f"i{n}.jpg" for n in range(7))
CLASSES = ("cat", "dog", "owl", "fox")
LABELS = [1, 0, 3, 2, 1, 0, 2]


def one(path: Path) -> Raw:
    (raw,) = read_file(path)
    return raw


def same(raw: Raw, classes: tuple[str, ...] | None = CLASSES, ids: tuple[str, ...] | None = IDS) -> None:
    assert isinstance(raw.scores, np.ndarray) and np.allclose(raw.scores, SCORES, atol=1e-6)
    assert raw.classes == classes and raw.ids == ids and raw.num_classes == 4


def lines(sign: str, header: bool = True, decimal: str = ".") -> str:
    rows = [["image_id", *CLASSES]] if header else []
    rows += [
        [name, *(f"{value:.7f}".replace(".", decimal) for value in row)] for name, row in zip(IDS, SCORES)
    ]
    return "\n".join(sign.join(row) for row in rows) + "\n"


@pytest.mark.parametrize("sign", [",", ";", "\t", " ", "   "])
@pytest.mark.parametrize("suffix", [".csv", ".txt", ".tsv"])
def test_text_with_a_column_a_class(tmp_path: Path, sign: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(lines(sign))
    same(one(path))
    path.write_text(lines(sign, header=False))
    same(one(path), classes=None)


def test_text_of_a_spreadsheet_with_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(";", decimal=","))
    same(one(tmp_path / "a.csv"))


def test_remarks_above_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# model r50\n# 7 images\n" + lines(","))
    same(one(tmp_path / "a.csv"))
    (tmp_path / "a.csv").write_text("# " + lines(","))
    same(one(tmp_path / "a.csv"))


def test_text_of_pandas_and_of_numpy(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [
        f"{place},{name},{','.join(map(repr, map(float, row)))},{label}"
        for place, (name, row, label) in enumerate(zip(IDS, SCORES, LABELS))
    ]
    path.write_text(f",filename,{','.join(CLASSES)},label\n" + "\n".join(rows))
    same(one(path))
    assert one(path).labels is not None and [int(v) for v in one(path).labels] == LABELS
    path.write_text(
        f",{','.join(CLASSES)}\n" + "\n".join(f"{i},{','.join(map(str, r))}" for i, r in enumerate(SCORES))
    )
    same(one(path), ids=tuple(map(str, range(7))))
    np.savetxt(path, SCORES)
    same(one(path), classes=None, ids=None)
    np.savetxt(path, SCORES, delimiter=",", header=",".join(CLASSES), comments="")
    same(one(path), ids=None)


def test_columns_that_are_no_classes(tmp_path: Path) -> None:
    rows = [
        f"{float(row[0])},x,{float(row[1])},{name},3,{float(row[2])},{float(row[3])}"
        for name, row in zip(IDS, SCORES)
    ]
    (tmp_path / "a.csv").write_text("cat,note,dog,image_id,pred,owl,fox\n" + "\n".join(rows))
    same(one(tmp_path / "a.csv"))
    assert [note.rpartition("column ")[2] for note in one(tmp_path / "a.csv").notes] == [
        "note is left out",
        "pred is left out",
    ]


def test_text_says_where_it_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = lines(",").splitlines()
    for odd, match in (
        ("i3.jpg,1,2", r"a\.csv:5 has 3 columns where 5"),
        ("i3.jpg,1.,2.,x,3.", r"a\.csv:5: 'x' is not"),
        ("i3.jpg,1.,2.,,3.", r"a\.csv:5: '' is not a number"),
    ):
        path.write_text("\n".join([*text[:4], odd, *text[5:]]))
        with pytest.raises(ResultError, match=match):
            read_file(path)
    path.write_text("id,a\nx,1.5\n")
    with pytest.raises(ResultError, match=r"neither .id class class"):
        read_file(path)


def test_lists_by_number_and_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a.jpg\t3   1   0\nb.jpg\t0   1   2\n")
    assert one(path).lists_NK is not None and one(path).lists_NK.tolist() == [[3, 1, 0], [0, 1, 2]]
    path.write_text("a.jpg,owl,cat\nb.jpg,dog,fox\n")
    assert one(path).lists_NK is not None and one(path).lists_NK.tolist() == [["owl", "cat"], ["dog", "fox"]]
    path.write_text("image,first,second\nb c.jpg,3,1\nd.jpg,0,1\n")
    assert one(path).ids == ("b c.jpg", "d.jpg")
    # whole numbers under names of classes are scores
    path.write_text("image,cat,dog,owl\na.jpg,90,7,3\nb.jpg,20,50,30\n")
    assert one(path).classes == ("cat", "dog", "owl") and one(path).lists_NK is None
    path.write_text("ImageId,PredictionString\na.jpg,2 0\nb.jpg,1 2\n")
    assert one(path).lists_NK is not None and one(path).lists_NK.tolist() == [[2, 0], [1, 2]]
    # a ranking of all columns from 1 would name a class that is not there
    path.write_text("a.jpg,1,3,2\nb.jpg,3,2,1\n")
    assert one(path).lists_NK is None


@pytest.mark.parametrize("scores", ["scores", "probs", "preds", "anything"])
@pytest.mark.parametrize("labels", ["labels", "y_true", "y_test", "gt"])
@pytest.mark.parametrize("ids", ["ids", "filenames", "image_paths"])
@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_bundles_under_usual_names(tmp_path: Path, scores: str, labels: str, ids: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, **{scores: SCORES, labels: LABELS, ids: IDS, "classes": CLASSES, "epoch": 3})
    else:
        torch.save(
            {
                scores: torch.tensor(SCORES, requires_grad=True),
                labels: torch.tensor(LABELS),
                ids: list(IDS),
                "class_names": list(CLASSES),
                "epoch": 3,
            },
            path,
        )
    raw = one(path)
    same(raw)
    assert raw.name == "a" and raw.labels is not None and raw.labels.tolist() == LABELS
    assert any("epoch" in note for note in raw.notes)


def test_one_model_does_not_vote_twice(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", logits=SCORES, probs=SCORES, y=LABELS)
    raw = one(tmp_path / "a.npz")
    assert raw.kind == "logits" and "probs is left out" in raw.notes[0]


def test_tensors(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(torch.tensor(SCORES), path)
    same(one(path), None, None)
    torch.save(torch.stack([torch.tensor(SCORES), torch.tensor(SCORES) * 2]), path)
    assert [raw.name for raw in read_file(path)] == ["a[0]", "a[1]"]
    torch.save((torch.tensor(SCORES), torch.tensor(LABELS)), path)
    same(one(path), None, None)
    torch.save(torch.tensor(SCORES).bfloat16(), path)
    assert one(path).scores.dtype == np.float32  # type: ignore[union-attr]
    torch.save(torch.tensor(SCORES).to_sparse(), path)
    with pytest.raises(ResultError, match="sparse"):
        read_file(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ResultError, match=r"a\.pt holds no scores \(it has epoch\)"):
        read_file(path)


@pytest.mark.parametrize("lists", [False, True])
def test_parquet(tmp_path: Path, lists: bool) -> None:
    path = tmp_path / "a.parquet"
    columns: dict[str, Any] = {"image_id": IDS, "label": LABELS}
    columns |= {"scores": SCORES.tolist()} if lists else dict(zip(CLASSES, SCORES.T))
    pq.write_table(pa.table(columns), path)
    same(one(path), classes=None if lists else CLASSES)
    assert one(path).labels is not None and [int(v) for v in one(path).labels] == LABELS
    if not lists:  # as pandas leaves it behind a selection of rows
        pq.write_table(pa.table({**columns, "__index_level_0__": range(7)}), path)
        same(one(path))
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(SCORES.ravel()), 4)
    pq.write_table(pa.table({"image_id": IDS, "scores": fixed}), path)
    same(one(path), classes=None)
    # a slice of a list column starts where it starts
    pq.write_table(pa.table({"image_id": IDS, "scores": SCORES.tolist()}), path, row_group_size=3)
    same(one(path), classes=None)


def test_ragged_or_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "scores": [[1.0, 2.0], [1.0]]}), path)
    with pytest.raises(ResultError, match="lists of 1 to 2 scores"):
        read_file(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match=r"a\.parquet cannot be read as a .parquet"):
        read_file(path)


def test_top_k_of_torch_and_of_numpy(tmp_path: Path) -> None:
    values, indices = torch.tensor(SCORES).topk(2)
    torch.save({"indices": indices, "values": values, "ids": list(IDS)}, tmp_path / "a.pt")
    raw = one(tmp_path / "a.pt")
    assert isinstance(raw.scores, results.TopK) and raw.ids == IDS
    assert raw.scores.classes_NK.tolist() == np.argsort(-SCORES, axis=1)[:, :2].tolist()
    np.savez(tmp_path / "b.npz", classes=[[0, 1]], scores=[[0.1, 0.2, 0.3]])
    with pytest.raises(ArtifactError, match="of one shape"):
        read_file(tmp_path / "b.npz")
    np.savez(tmp_path / "b.npz", classes=[[0.5, 1]], scores=[[0.1, 0.2]])
    with pytest.raises(ResultError, match="not numbers of classes"):
        read_file(tmp_path / "b.npz")


def test_whole_numbers_and_votes_are_scores_but_one_number_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for array in (
        np.arange(8).reshape(2, 4),
        np.eye(4, dtype=bool),
        np.arange(8, dtype=np.uint8).reshape(2, 4),
    ):
        np.save(path, array)
        assert np.array_equal(one(path).scores, array)  # type: ignore[arg-type]
    for array, match in (
        (np.ones((3, 4), int), "all 1"),
        (np.ones((3, 4), complex), "complex128"),
        (np.full((3, 4), "x"), "<U1"),
        (np.ones((3, 1)), "one column"),
    ):
        np.save(path, array)
        with pytest.raises(ResultError, match=match):
            read_file(path)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + data


def test_hostile_files_run_nothing_and_are_refused_in_one_line(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    np.save(tmp_path / "o.npy", np.array([Evil(canary)], dtype=object))
    np.savez(tmp_path / "o.npz", x=np.array([Evil(canary)], dtype=object))
    torch.save({"scores": torch.ones(2, 2), "x": Evil(canary)}, tmp_path / "o.pt")
    (tmp_path / "p.pt").write_bytes(pickle.dumps(Evil(canary)))
    (tmp_path / "junk.pt").write_bytes(b"junk" * 99)
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "o.pkl").write_bytes(pickle.dumps(Evil(canary)))
    written = "{'descr':'<f4','fortran_order':False,'shape':%s}\n"
    heads = {
        "code": "__import__('os').system('touch canary')\n",
        "deep": "(" * 60000,
        "huge": written % "(10**12,6)",
        "large": written % "(1000000000000, 6)",
        "minus": written % "(-3, 6)",
        "words": written % "'x'",
    }
    for name, head in heads.items():
        (tmp_path / f"{name}.npy").write_bytes(npy(head, b"\0" * 99))
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", npy(head, b"\0" * 99))
    canary.unlink(missing_ok=True)  # numpy.save pickles, which runs nothing; only reading could
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(SmeltError) as caught:
            read_file(path)
        assert (
            path.name in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500
        )
    assert not canary.exists()


def test_sidecars_are_checked_not_ignored(tmp_path: Path) -> None:
    path, rows = tmp_path / "own.npy", np.arange(7)
    info = results.describe("m", "v", "val", rows, CLASSES)
    results.write_dense(path, SCORES, info, rows)
    raw = one(path)
    assert raw.name == "m/v" and raw.ids == tuple(map(str, rows)) and raw.classes_hash == info.classes_hash
    np.save(path, SCORES[:-1])
    with pytest.raises(ArtifactError, match="holds 6 lines and 4 classes, its sidecar says 7 and 4"):
        read_file(path)
    np.save(path, SCORES)
    np.save(results.rows_path(path), rows[::-1])
    with pytest.raises(ArtifactError, match="other rows"):
        read_file(path)
    np.save(results.rows_path(path), rows)
    sidecar = path.with_suffix(".json")
    good = sidecar.read_text()
    for text in (
        good[:-9],
        good.replace('"logits"', '"soup"'),
        good.replace("7", '"7"'),
        good.replace('"m"', "[1]"),
    ):
        sidecar.write_text(text)
        with pytest.raises(ArtifactError, match=r"own\.json"):
            read_file(path)
    results.rows_path(path).unlink()
    sidecar.write_text('{"somebody": "else"}')
    assert one(path).ids is None


def test_read_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(b"\xef\xbb\xbfa b.jpg\r\nc.jpg\r\n")
    assert read_ids(path) == ("a b.jpg", "c.jpg")
    path.write_text("image_id\nx\ny\n")
    assert read_ids(path) == ("x", "y")
    path = tmp_path / "ids.csv"
    path.write_text("split,filename\nval,x.jpg\nval,y.jpg\n")
    assert read_ids(path) == ("x.jpg", "y.jpg")
    np.save(tmp_path / "ids.npy", np.array([b"x", b"y"]))
    assert read_ids(tmp_path / "ids.npy") == ("x", "y")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.npy", b"", "it is empty; copy"),
        ("a.npy", b"hello", r"does not begin as one does.*numpy\.save\(path, array\)$"),
        ("a.npy", b"PK\3\4abc", r"is a zip archive \(\.npz, \.pt\); call it a\.npz"),
        ("a.npy", b"<html>", r"is a page \(HTML or XML\); copy or download"),
        ("a.npy", b"\x93NUMPY\x01\0", "header is cut off or damaged"),
        ("a.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9, 3)}\n", b"1234"),
         r"cut off: its header announces float32 of shape \(9, 3\), 108 bytes, and 4 are there"),
        ("a.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (9,)}\n", b"1" * 99),
         "holds objects, which are never unpickled"),
        ("a.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (%s, 7)}\n" % ('9' * 4300), b""),
         "announces more than any disk holds"),  # of more digits than Python writes out
        ("a.npz", b"PK\3\4abc", "cut off or damaged"),
        ("a.npz", b"PAR1", r"is Parquet; call it a\.parquet"),
        ("a.parquet", b"PAR1abc", "cut off"),
        ("a.pt", b"abc", r"damaged|more than tensors"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_broken_file_is_said_in_our_words(
    tmp_path: Path, name: str, content: bytes, match: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=match) as told:
        read_file(path)
    assert "\n" not in str(told.value) and "allow_pickle" not in str(told.value)
    assert str(path) in str(told.value)


def test_a_header_alone_and_words_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,label\n")
    with pytest.raises(ResultError, match=r"has a header \('id,label'\) and no line below"):
        read_file(path)
    np.savez(tmp_path / "a.npz", scores=SCORES, ids=np.array([b"\xe9%d" % i for i in range(len(SCORES))]))
    with pytest.raises(ResultError, match="are not UTF-8: save them as text"):
        read_file(tmp_path / "a.npz")
    odd = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xe9\xff")]
    )
    pq.write_table(pa.table({"id": odd, "a": [0.1], "b": [0.9]}), tmp_path / "a.parquet")
    with pytest.raises(ArtifactError, match=r"cannot be read as a \.parquet file: it is damaged"):
        read_file(tmp_path / "a.parquet")


def test_axes_in_another_order_are_told(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    forms = {"good": scores, "turned": scores.T, "crops": np.stack([scores] * 3, axis=1)}
    for name, array in forms.items():
        np.save(tmp_path / f"{name}.npy", array)
    for names, words in (
        (("good", "turned"), "images come first, save the other one as scores.T"),
        (("turned", "good"), "images come first, save the other one as scores.T"),
        (("good", "crops"), r"crops.npy has shape \(40, 3, 4\).*moveaxis\(scores, 1, 0\)"),
        (("crops", "good"), r"crops.npy has shape \(40, 3, 4\).*moveaxis\(scores, 1, 0\)"),
    ):
        with pytest.raises(ResultError, match=words):
            read_scores([tmp_path / f"{name}.npy" for name in names])
    for array in (scores[:, 0], scores[:, :1]):
        np.save(tmp_path / "one.npy", array)
        with pytest.raises(ResultError, match=r"np.stack\(\[1 - p, p\], axis=1\)"):
            read_scores([tmp_path / "one.npy"])
