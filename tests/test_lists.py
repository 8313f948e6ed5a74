"""Lists of images as people have them: text, JSON, Parquet; columns, paths, labels; what is refused."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smelt.artifacts.bytestrings import ByteStrings
from smelt.artifacts.catalogue import Catalogue
from smelt.data.copies.groups import decide
from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.several import several_in
from smelt.data.formats.lists import scan, texts
from smelt.data.formats.lists.columns import Chooser, plain
from smelt.data.formats.lists.sheets import peek, read
from smelt.data.formats.tree.fingerprint import fingerprint
from smelt.errors import DataError, SmeltError
from smelt.files import bounded
from smelt.stages.index import index

NAMES = [f"{number:04}" for number in range(6)]
LABELS = ["cat", "dog", "fox"] * 2
FILES = [f"{name}.jpg" for name in NAMES]


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (90, 120, 30)).save(data, "JPEG")
    return data.getvalue()


PICTURE = picture()


def put(root: Path, files: dict[str, str | bytes], images: list[str] = FILES) -> Path:
    """Files below `root`, and images."""
    for name, content in (*files.items(), *((image, PICTURE) for image in images)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def catalogue_of(root: Path, out: Path, **fields: Any) -> Catalogue:
    chosen = FormatSettings.model_validate({"val_fraction": 0.0, **fields})
    fingerprint(chosen, root)  # as planning does: it reads the same lists in its own way
    index(chosen, root, out)
    return Catalogue.open(out / "catalogue")


def told(out: Path) -> str:
    """Notes and warnings of an index."""
    summary = json.loads((out / "index.json").read_text())
    return "\n".join([*summary["notes"], *summary["warnings"]])


def refused(root: Path, out: Path, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        catalogue_of(root, out, **fields)
    return str(caught.value)


def rows_of(c: Catalogue, split: str = "train") -> list[tuple[str, int]]:
    return [(c.path(row), int(c.labels_N[row])) for row in c.rows(split).tolist()]


def named(c: Catalogue) -> dict[str, str]:
    """Path → class ("" for none)."""
    labels = c.labels_N.tolist()
    return {c.path(row): c.classes[labels[row]] if labels[row] >= 0 else "" for row in range(c.num_rows)}


def table(
    sign: str = ",", header: str = "path,label", paths: list[str] = FILES, labels: list[str] = LABELS,
    end: str = "\n",
) -> str:  # fmt: skip
    lines = [header.replace(",", sign)] if header else []
    return "".join(line + end for line in [*lines, *(f"{p}{sign}{w}" for p, w in zip(paths, labels))])


TRUTH = dict(zip(FILES, LABELS))
NUMBERED = {file: "012"[number % 3] for number, file in enumerate(FILES)}

# ---- what a list says


CSV = (
    "path,label,split,source,query,title,true_label,noise\r\n"
    '"a b, c.jpg",dog,train,google,dogs,"say ""hi""",dog,\r\n'
    'x/é.jpg,cat,train,flickr,cats,"two\nlines",ufo,oov\r\n'
    "v.jpg,dog,valid,google,,,,\r\nt.jpg,,test,google,,,,\r\n"
)


def test_csv(tmp_path: Path) -> None:
    names = ["a b, c.jpg", "x/é.jpg", "t.jpg"]
    root = put(
        tmp_path / "data", {"images.csv": b"\xef\xbb\xbf" + CSV.encode(), **dict.fromkeys(names, b"x")}
    )
    c = catalogue_of(root, tmp_path / "out", format="csv")
    assert c.classes == ("cat", "dog") and set(c.sources) == {"google", "flickr"}
    assert rows_of(c, "train") == [("x/é.jpg", 0), ("a b, c.jpg", 1)] or rows_of(c, "train") == [
        ("a b, c.jpg", 1),
        ("x/é.jpg", 0),
    ]
    assert rows_of(c, "val") == [("v.jpg", 1)] and rows_of(c, "test") == [("t.jpg", -1)]
    by_path = {c.path(row): row for row in range(c.num_rows)}
    row = by_path["x/é.jpg"]
    truth = c.column("true_label")
    assert truth is not None and truth[row] == -1 and truth[by_path["v.jpg"]] == -2
    assert c.strings("noise", [row]) == ["oov"] and c.strings("title", [row]) == ["two\nlines"]
    assert [c.path(r) for r in c.missing.tolist()] == ["v.jpg"]


def test_parquet_and_tsv_and_one_file_for_each_split(tmp_path: Path) -> None:
    root = put(
        tmp_path / "data", {"train.tsv": "file\ty\na.jpg\t0\nb.jpg\t2\n", "names.txt": "zero\none\ntwo\n"}
    )
    table = pa.table({"file": pa.array(["v.jpg"]).dictionary_encode(), "y": pa.array([1], pa.int8())})
    pq.write_table(table, root / "val.parquet")
    fields = {
        "columns": {"path": "file", "label": "y"},
        "lists": {"train": "train.tsv", "val": "val.parquet", "classes": "names.txt"},
    }
    c = catalogue_of(root, tmp_path / "out", format="csv", check_files=False, **fields)
    assert c.classes == ("zero", "one", "two")
    assert rows_of(c, "train") == [("a.jpg", 0), ("b.jpg", 2)] and rows_of(c, "val") == [("v.jpg", 1)]


def test_csv_as_imagenette_writes_it(tmp_path: Path) -> None:
    text = "path,noisy_labels_0,noisy_labels_50,is_valid\ntrain/a.JPEG,n1,n2,False\nval/b.JPEG,n2,n2,True\n"
    root = put(tmp_path / "data", {"noisy.csv": text})
    columns = {"label": "noisy_labels_50", "true_label": "noisy_labels_0", "split": "is_valid"}
    c = catalogue_of(
        root, tmp_path / "o", format="csv", lists={"all": "noisy.csv"}, columns=columns, check_files=False
    )
    assert rows_of(c, "train") == [("train/a.JPEG", 0)] and rows_of(c, "val") == [("val/b.JPEG", 0)]


def test_csv_refuses_with_lines(tmp_path: Path) -> None:
    root = put(tmp_path / "data", {
        "images.csv": 'path,label,split\n"two\nlines.jpg",0,train\n\n../up.jpg,0,train\nb.jpg,1,nosuch\n'
        "c.jpg,,train\nc.jpg,5,val\n",
    })  # fmt: skip
    said = refused(root, tmp_path / "out", format="csv", check_files=False)
    assert "images.csv:5: '../up.jpg' leads out" in said
    put(
        root,
        {"images.csv": (root / "images.csv").read_text().replace("../up", "up"), "classes.txt": "x\ny\n"},
    )
    said = refused(
        root,
        tmp_path / "out",
        format="csv",
        check_files=False,
        lists={"all": "images.csv", "classes": "classes.txt"},
        unlabelled="refuse",
    )
    assert "images.csv:6: split 'nosuch'" in said and "images.csv:7: label ''" in said
    assert (
        "images.csv:8: label '5' is not one of the classes" in said
        and "images.csv:8: 'c.jpg' is in train and in val" in said
    )
    assert "no column that is known as the label; it has 'path': " in refused(
        put(tmp_path / "no", {"data.csv": "path\na\n"}), tmp_path / "out", format="csv"
    )


# ---- text of any kind


TEXTS: dict[str, tuple[str, str | bytes, str]] = {
    "semicolon": ("images.csv", table(";"), ""),
    "tab": ("images.csv", table("\t"), ""),
    "pipe": ("labels.txt", table("|"), ""),
    "no header, comma": ("train.txt", table(header=""), "column 0 is the path, 1 is the label"),
    "no header, blanks": ("list.txt", table("  ", header=""), "column 0 is the path"),
    "blanks with a header": ("train.txt", table(" "), ""),
    "blanks after commas": ("images.csv", table(", ", "path, label"), ""),
    "quoted": ("images.csv", table(paths=[f'"{f}"' for f in FILES], labels=[f'"{w}"' for w in LABELS]), ""),
    "byte order mark": ("images.csv", b"\xef\xbb\xbf" + table().encode(), ""),
    "utf-16": ("images.csv", table().encode("utf-16"), ""),
    "utf-16 big": ("images.csv", b"\xfe\xff" + table().encode("utf-16-be"), ""),
    "utf-16 without mark": ("images.csv", table().encode("utf-16-le"), "utf-16-le"),
    "cr": ("images.csv", table(end="\r"), ""),
    "crlf": ("images.csv", table(end="\r\n"), ""),
    "comments": ("images.csv", "# made by hand\n\n" + table() + "\n# end\n , \n", "comments"),
    "labels before paths": ("list.txt", "".join(f"{w} {f}\n" for f, w in NUMBERED.items()), "1 is the path"),
    "comments before blanks": ("train.txt", "# path label\n" + table(" ", header=""), ""),
    "Excel's first line": ("images.csv", "sep=;\n" + table(";"), ""),
    "a last cell of nothing": ("images.csv", "path,label\n" + table(header="", end=",\n"), ""),
    "gzip": ("images.csv.gz", gzip.compress(table().encode()), ""),
    "CSV called json": ("labels.json", table(), ""),
    "JSON called csv": ("images.csv", json.dumps([{"path": f, "label": w} for f, w in TRUTH.items()]), ""),
    "list of objects": ("data.json", json.dumps([{"file": f, "y": TRUTH[f]} for f in TRUTH], indent=1), ""),
    "an object a line": (
        "metadata.jsonl",
        "\n".join(json.dumps({"file_name": f, "label": w}) for f, w in TRUTH.items()),
        "'file_name' is the path",
    ),
    "columns": ("data.json", json.dumps({"path": FILES, "label": LABELS}), ""),
    "columns by number": (
        "data.json", json.dumps({"path": dict(enumerate(FILES)), "label": dict(enumerate(LABELS))}), "",
    ),
    "path to label": ("labels.json", json.dumps(TRUTH), ""),
    "path to object": ("labels.json", json.dumps({f: {"label": w} for f, w in TRUTH.items()}), ""),
    "list within": (
        "labels.json", json.dumps({"v": 1, "rows": [{"id": f, "y": TRUTH[f]} for f in TRUTH]}), "",
    ),
    "fields within": (
        "labels.json",
        json.dumps([{"image": {"path": f}, "meta": {"label": w}} for f, w in TRUTH.items()]),
        "'image.path' is the path",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("form", ["auto", "csv"])
def test_every_way_to_write_a_list(tmp_path: Path, kind: str, form: str) -> None:
    name, content, said = TEXTS[kind]
    root = put(tmp_path / "data", {name: content})
    truth = NUMBERED if kind == "labels before paths" else TRUTH
    assert named(catalogue_of(root, tmp_path / "out", format=form)) == truth
    assert said in told(tmp_path / "out")
    assert (f"the list {name}" in told(tmp_path / "out")) == (form == "auto")


def test_parquet_of_every_type(tmp_path: Path) -> None:
    made = {
        "dictionary": pa.array(LABELS).dictionary_encode(),
        "large": pa.array(LABELS, pa.large_string()),
        "bytes": pa.array([word.encode() for word in LABELS]),
        "lists": pa.array([[word] for word in LABELS]),
    }
    for name, labels in made.items():
        root = put(tmp_path / name, {})
        pq.write_table(pa.table({"Image Path": FILES, "label": labels}), root / "images.parquet")
        assert named(catalogue_of(root, tmp_path / f"out {name}", format="csv")) == TRUTH, name
    numbers: dict[str, Any] = {
        "floats": pa.array([0.0, 1.0, None, 1.0, float("nan"), 0.0]),
        "integers": pa.array([0, 1, None, 1, None, 0], pa.int8()),
        "truths": pa.array([False, True, None, True, None, False]),
    }
    for name, labels in numbers.items():
        root = put(tmp_path / name, {})
        pq.write_table(pa.table({"path": FILES, "label": labels}), root / "images.parquet")
        c = catalogue_of(root, tmp_path / f"out {name}")
        assert [label for _, label in rows_of(c)] == [0, 1, 1, 0], name
    root = put(tmp_path / "struct", {})
    rows = [{"path": file, "made": {"label": word}} for file, word in TRUTH.items()]
    pq.write_table(pa.Table.from_pylist(rows), root / "images.parquet")
    c = catalogue_of(root, tmp_path / "out s", format="csv", columns={"label": "made.label"})
    assert named(c) == TRUTH


def test_letters_that_are_not_utf8(tmp_path: Path) -> None:
    """Labels are read as latin-1; a path as the bytes that it is, if there is such a file."""
    labels = ["café", "dog", "fox"] * 2
    root = put(tmp_path / "a", {"images.csv": table(labels=labels).encode("latin-1")})
    assert list(named(catalogue_of(root, tmp_path / "out")).values()) == labels
    assert "not all UTF-8" in told(tmp_path / "out") and "data.encoding" in told(tmp_path / "out")
    files = [f"é{file}" for file in FILES]
    root = put(tmp_path / "b", {"images.csv": table(paths=files).encode("latin-1")}, files)
    assert list(named(catalogue_of(root, tmp_path / "out b"))) == files
    raw = [os.fsdecode(file.encode("latin-1")) for file in files]
    root = put(tmp_path / "c", {"images.csv": table(paths=files).encode("latin-1")}, raw)
    assert list(named(catalogue_of(root, tmp_path / "out c"))) == raw
    root = put(
        tmp_path / "d", {"images.csv": table(paths=files, labels=["猫", "狗"] * 3).encode("gbk")}, files
    )
    root.joinpath("images.csv").write_bytes(table(labels=["猫", "狗"] * 3).encode("gbk"))
    put(root, {})
    assert set(catalogue_of(root, tmp_path / "out d", encoding="gbk").classes) == {"猫", "狗"}
    assert "knows no encoding" in refused(root, tmp_path / "o", encoding="klingon")
    assert "no text in ascii" in refused(root, tmp_path / "o", encoding="ascii", format="csv")


def test_rows_of_too_few_or_too_many_cells_are_named(tmp_path: Path) -> None:
    root = put(tmp_path, {"images.csv": table() + "x.jpg\n\ny.jpg,cat,9\n"})
    said = refused(root, tmp_path / "out")
    assert "images.csv:8: 1 cell(s), and 2 columns (path, label)" in said
    assert "images.csv:10: 3 cell(s)" in said and "2 problem(s)" in said


SWALLOWED = [
    ('"19 inch', "t"),  # never ended
    ('"19 inch', '"a quoted" title'),  # ended by the next quote of its kind
    ('"19 inch', 'a 20" screen'),
]


@pytest.mark.parametrize(("first", "later"), SWALLOWED)
def test_a_quote_that_swallows_rows_is_named(tmp_path: Path, first: str, later: str) -> None:
    titles = ["t", first, "t", later, "t", "t"]
    text = "path,label,title\n" + "".join(
        f"{file},{label},{title}\n" for (file, label), title in zip(TRUTH.items(), titles)
    )
    said = refused(put(tmp_path, {"images.csv": text}), tmp_path / "out")
    assert "images.csv:3: a quote is opened here" in said and "19 inch" in said


def test_two_stray_quotes_that_end_each_other(tmp_path: Path) -> None:
    text = 'path,label,title\n0000.jpg,cat,"19 inch\n0001.jpg,dog,"20 inch\n0002.jpg,fox,t\n'
    assert "images.csv:2: a quote" in refused(put(tmp_path, {"images.csv": text}), tmp_path / "out")


def test_quoted_texts_over_lines_are_one_cell(tmp_path: Path) -> None:
    text = 'path,label,title\n0000.jpg,cat,"two\nlines, and\n\nmore"\n'
    text += '0001.jpg,dog,"say ""hi"""\n0002.jpg,fox,5" disk\n'
    c = catalogue_of(put(tmp_path / "d", {"images.csv": text}), tmp_path / "out")
    assert c.strings("title", range(3)) == ["two\nlines, and\n\nmore", 'say "hi"', '5" disk']


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "images.csv is empty"),
        (b"\n\n", "images.csv is empty"),
        (b"path,label\n", "no rows"),
        (b"PK\x03\x04" + bytes(200), "zip archive"),
        (b"path,label,label\n0000.jpg,a,b\n", "'label' is there 2 times"),
        (b"PAR1 no such", "no Parquet"),
        (b"\x1f\x8b cut", "images.csv"),
        (b"path,lab\0el\na\0.jpg,x\nb.jpg,y\n", "images.csv"),
        (b'"path,label\n0000.jpg,x\n0001.jpg,y\n', "images.csv"),
        (bytes(range(256)) * 20, "images.csv"),
    ],
)
def test_what_is_no_list_is_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    root = put(tmp_path / "d", {"images.csv": content})
    for form in ("csv", "auto"):
        assert said in refused(root, tmp_path / "out", format=form)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" * 100_000, "nested too deep"),
        ('[{"path": "a.jpg", "label": ' + "9" * 5000 + "}]", "5,000 digits"),
        ('[{"path": "a.jpg", "label": 1},', "cut short"),
        ('[{"path": "a.jpg"}, 7]', "the number 7"),
        ('{"path": ["a.jpg", "b.jpg"], "label": [1]}', "different lengths"),
        ("[]", "no rows"),
        ('[{"path": "' + "x" * (20 << 20) + '"}]', "bytes"),
    ],
)
def test_hostile_json_is_refused_by_name(tmp_path: Path, content: str, said: str) -> None:
    root = put(tmp_path / "d", {"images.json": content})
    found = refused(root, tmp_path / "out", format="csv")
    assert said in found and "images.json" in found and len(found) < 2000


def test_a_packed_list_out_of_all_proportion_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "ALWAYS", 1 << 20)
    monkeypatch.setattr(bounded, "RATIO", 10)
    packed = gzip.compress(table().encode() + b"x" * (64 << 20))
    root = put(tmp_path / "d", {"images.csv.gz": packed})
    assert "unpacks to more than 1 MiB" in refused(root, tmp_path / "out", format="csv")


def test_one_cell_of_many_megabytes(tmp_path: Path) -> None:
    text = f"path,label,title\n0000.jpg,cat,{'x' * (3 << 20)}\n0001.jpg,dog,t\n"
    c = catalogue_of(put(tmp_path / "d", {"images.csv": text}), tmp_path / "out")
    assert named(c) == {"0000.jpg": "cat", "0001.jpg": "dog"}


CELL = st.text(st.sampled_from('ab ,;"\n\t|é#.'), max_size=6)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=12), st.sampled_from(",;\t|"))
@settings(max_examples=150, deadline=None)
def test_quick_and_careful_reading_agree(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], sign: str
) -> None:
    """What pyarrow reads of a text that is said to be plain is what is read row by row."""
    import csv

    folder = tmp_path_factory.mktemp("t")
    with open(folder / "l.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=sign, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(["path", "label"])
        writer.writerows((f"p{first}", f"x{second}") for first, second in cells)
    sheet = peek(folder / "l.csv", FormatSettings(format="csv", delimiter=sign, header=True))
    assert sheet.form is not None
    try:
        careful = [row for _, row in texts.Rows(sheet.form)]
    except DataError:
        return  # a quoted cell that looks like rows
    assert careful == [[f"p{first}", f"x{second}"] for first, second in cells]
    columns, where = read(sheet, [0, 1], Report())
    assert [[a.decode(), b.decode()] for a, b in zip(*columns)] == careful
    assert where(0).endswith("l.csv:2")
    if scan.looked_over(sheet.form)[0]:
        quick = scan.fast_columns(sheet.form, [0, 1])
        assert quick is not None and [[a.decode(), b.decode()] for a, b in zip(*quick)] == careful
        assert scan.line_numbers(sheet.form).tolist() == list(range(2, 2 + len(cells)))


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    root = tmp_path_factory.mktemp("n")
    (root / "images.csv").write_bytes(noise)
    try:
        index(FormatSettings(format="csv", check_files=False), root, root / "out")
    except SmeltError as error:
        assert len(str(error)) < 20_000


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_mutants_of_lists_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("m")
    name, content, _ = TEXTS[data.draw(st.sampled_from(sorted(TEXTS)))]
    mutant = bytearray(content if isinstance(content, bytes) else content.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutant) - 1))
        mutant[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=4))
        mutant = mutant or bytearray(b"x")
    (root / name).write_bytes(mutant)
    try:
        index(FormatSettings(format="csv", check_files=False, lists={"all": name}), root, root / "out")
    except SmeltError as error:
        assert len(str(error)) < 20_000


def test_a_million_rows_take_little_memory_beyond_the_columns(tmp_path: Path) -> None:
    """Row by row too: no list of all rows as Python objects."""
    count = 200_000
    text = "path,label,title\n" + "".join(f"a/{i}.jpg,{i % 9},t\n" for i in range(count - 1))
    root = put(tmp_path / "d", {"images.csv": text + f'a/{count}.jpg,0,"two\nlines"\n'}, [])
    sheet = peek(root / "images.csv", FormatSettings(format="csv"))
    assert sheet.form is not None and not scan.looked_over(sheet.form)[0]
    tracemalloc.start()
    columns, where = read(sheet, [0, 1], Report())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(columns[0]) == count and where(count - 1).endswith(f":{count + 1}")
    assert peak < 60 << 20


# ---- columns


@pytest.mark.parametrize(
    ("names", "path", "label"),
    [
        (["ImageId", "Target"], 0, 1),
        (["IMAGE ID", "Breed"], 0, 1),
        (["id", "file_name", "category"], 1, 2),
        (["label", "filename"], 1, 0),
        (["", "path", "label"], 1, 2),
        (["uri", "class"], 0, 1),
        (["img", "y"], 0, 1),
        (["file_name", "class_id", "class_name"], 0, 2),
        (["photo", "weird"], 0, 1),
        (["weird", "label"], 0, 1),
    ],
)
def test_usual_names_of_columns(tmp_path: Path, names: list[str], path: int, label: int) -> None:
    cells = [[str(number % 3)] * len(names) for number in range(6)]
    for number, row in enumerate(cells):
        row[path], row[label] = FILES[number], LABELS[number]
    chosen = Chooser(tmp_path / "l.csv", names, cells, True, FormatSettings(format="csv")).choose(True)
    assert (chosen.places["path"], chosen.places["label"]) == (path, label)
    if plain(names[path]) != "path":
        assert repr(names[path]) in " ".join(chosen.notes)


@pytest.mark.parametrize(
    ("header", "fields", "said"),
    [
        (
            "foto,art",
            {"path": "photo"},
            r"has no column 'photo' for the path; it has 'foto', 'art': -o data.columns.path=foto ",
        ),
        ("img file,kind", {"path": "imgfiles"}, "-o 'data.columns.path=img file'"),
        ("file,kind", {"label": "klass"}, "has no column 'klass' for the label; it has 'file', 'kind'"),
        ("path,width", {"label": "hight"}, "it has 'path', 'width'"),
    ],
)
def test_columns_found_are_shown_in_every_error(
    tmp_path: Path, header: str, fields: dict[str, str], said: str
) -> None:
    root = put(tmp_path / "d", {"images.csv": table(header=header)})
    assert said in refused(root, tmp_path / "out", format="csv", columns=fields)


def test_no_column_for_the_label(tmp_path: Path) -> None:
    text = "path,width,height\n" + "".join(f"{file},10,20\n" for file in FILES)
    said = refused(put(tmp_path / "d", {"images.csv": text}), tmp_path / "out")
    assert "known as the label; it has 'path', 'width', 'height': -o data.columns.label=NAME" in said


def test_a_list_of_paths_alone(tmp_path: Path) -> None:
    root = put(
        tmp_path / "d", {"images.csv": "path,split\na/0.jpg,train\nb/0.jpg,train\n"}, ["a/0.jpg", "b/0.jpg"]
    )
    assert "where the folders are the classes: -o data.format=imagefolder" in refused(
        root, tmp_path / "o", format="csv"
    )
    root = put(tmp_path / "e", {"val.csv": table()})
    assert "-o data.lists.all=val.csv takes it for all images" in refused(root, tmp_path / "o")


def test_columns_without_names_count_from_zero(tmp_path: Path) -> None:
    text = "".join(f"{n};{file};x{n};{label}\n" for n, (file, label) in enumerate(TRUTH.items()))
    root = put(tmp_path / "d", {"list.txt": text})
    assert "it has the columns '0', '1', '2', '3'" in refused(root, tmp_path / "o", format="csv")
    splits = ["train", "val"] * 3
    text = "".join(f"{f},{w},{s}\n" for (f, w), s in zip(TRUTH.items(), splits))
    three = catalogue_of(put(tmp_path / "t", {"list.txt": text}), tmp_path / "three")
    assert named(three) == TRUTH and len(three.rows("val")) == 3
    c = catalogue_of(root, tmp_path / "out", format="csv", columns={"label": "3"})
    assert named(c) == TRUTH
    root = put(tmp_path / "e", {"images.csv": table(header="a.jpg,b")})
    assert len(named(catalogue_of(root, tmp_path / "h", header=True, format="csv"))) == 6


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("split", ["train", "Valid", "TEST"]),
        ("is_valid", ["False", "True", "0"]),
        ("is_test", ["0", "1", "0"]),
        ("partition", ["0", "1", "2"]),
        ("subset", ["training", "validation", "testing"]),
    ],
)
def test_columns_of_splits(tmp_path: Path, name: str, words: list[str]) -> None:
    text = f"path,label,{name}\n" + "".join(
        f"{file},{'ab'[n % 2]},{words[n % 3]}\n" for n, file in enumerate(FILES)
    )
    c = catalogue_of(put(tmp_path / "d", {"images.csv": text}), tmp_path / "out")
    expected = {
        "split": (2, 2, 2), "is_valid": (4, 2, 0), "is_test": (4, 0, 2), "partition": (2, 2, 2),
        "subset": (2, 2, 2),
    }[name]  # fmt: skip
    assert tuple(len(c.rows(split)) for split in ("train", "val", "test")) == expected


# ---- paths


def spelled(how: Callable[[str], str], files: list[str]) -> tuple[str, list[str]]:
    return table(paths=[how(file) for file in files]), files


BELOW = [f"images/{file}" for file in FILES]
PATHS: dict[str, tuple[Callable[[str], str], list[str], str]] = {
    "backslashes": (lambda file: file.replace("/", "\\"), BELOW, "backslashes"),
    "a drive": (lambda file: "C:\\my data\\" + file.replace("/", "\\"), BELOW, "without its first 2 folder"),
    "another home": (lambda file: f"/home/me/data/{file}", BELOW, "without its first 3 folder"),
    "a folder more": (lambda file: f"data/{file}", BELOW, "without its first 1 folder"),
    "dots and slashes": (lambda file: f"./{file.replace('/', '//./')}", BELOW, ""),
    "percent": (lambda file: file.replace(" ", "%20"), [f"a b/{file}" for file in FILES], "%XX are letters"),
    "file URL elsewhere": (lambda file: f"file:///mnt/x/{file}", BELOW, "without its first 2"),
    "other case": (lambda file: file.upper(), BELOW, "in case or Unicode form only"),
    "decomposed": (lambda file: file.replace("é", "e\u0301"), [f"é{file}" for file in FILES], "Unicode"),
    "ids": (lambda file: file[7:-4], BELOW, "-o data.prefix=images/ -o data.suffix=.jpg"),
    "no suffix": (lambda file: file[:-4], BELOW, "-o data.suffix=.jpg"),
    "bare names": (lambda file: file[7:], BELOW, "-o data.prefix=images/"),
    "two folders": (lambda file: file[4:], [f"a/b/{file}" for file in FILES], "-o data.prefix=a/b/"),
    "blanks": (lambda file: f"{file} ", BELOW, "without the blanks"),
    "another suffix": (lambda file: file.replace(".jpg", ".png"), BELOW, "with the suffix .jpg"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("form", ["auto", "csv"])
def test_paths_written_elsewhere_lead_to_their_files(tmp_path: Path, kind: str, form: str) -> None:
    how, files, said = PATHS[kind]
    text, _ = spelled(how, files)
    root = put(tmp_path / "data", {"images.csv": text}, files)
    c = catalogue_of(root, tmp_path / "out", format=form)
    assert named(c) == dict(zip(files, LABELS)) and not len(c.missing)
    assert said in told(tmp_path / "out")
    (root / files[0]).write_bytes(PICTURE + b"more")  # what a path is read as counts by size
    one = FormatSettings(format=form, val_fraction=0.0)
    before = fingerprint(one, root)
    (root / files[0]).write_bytes(PICTURE)
    assert fingerprint(one, root) != before


@pytest.mark.parametrize("url", [False, True])
def test_absolute_paths_below_the_root(tmp_path: Path, url: bool) -> None:
    root = tmp_path / "data set"
    paths = [(root / file).as_uri() if url else str(root / file) for file in BELOW]
    put(root, {"images.csv": table(paths=paths)}, BELOW)
    assert list(named(catalogue_of(root, tmp_path / "out"))) == BELOW


def test_paths_of_the_lists_own_folder(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"lists/train.csv": table(paths=[f"../{file}" for file in BELOW])}, BELOW)
    fields: dict[str, Any] = {"format": "csv", "lists": {"train": "lists/train.csv"}}
    assert list(named(catalogue_of(root, tmp_path / "out", **fields))) == BELOW
    put(root, {"lists/train.csv": table(paths=[f"../../elsewhere/{file}" for file in FILES])}, [])
    assert "leads out of its folder" in refused(root, tmp_path / "o", **fields)


def test_prefix_and_suffix_are_settings(tmp_path: Path) -> None:
    files = [f"{folder}/{file}" for folder in "ab" for file in FILES]
    root = put(tmp_path / "d", {"images.csv": table(paths=NAMES)}, files)
    said = refused(root, tmp_path / "o")
    assert "none of the 6 listed files is there" in said
    assert "-o data.prefix=a/ -o data.suffix=.jpg or by -o data.prefix=b/ -o data.suffix=.jpg" in said
    c = catalogue_of(root, tmp_path / "out", format="csv", prefix="b/", suffix=".jpg")
    assert list(named(c)) == files[6:]


def test_no_file_at_all_is_an_error_and_many_are_a_warning(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"images.csv": table(paths=[f"q/{file}" for file in FILES])}, ["z/1.txt"])
    said = refused(root, tmp_path / "o", format="csv")
    assert (
        f"images.csv:2: 'q/0000.jpg' was looked for as {root}/q/0000.jpg; the root has z/, images.csv" in said
    )
    root = put(tmp_path / "e", {"images.csv": table()}, FILES[:4])
    c = catalogue_of(root, tmp_path / "out")
    assert [c.path(row) for row in c.missing.tolist()] == FILES[4:]
    assert "2 of 6 listed files are not there, such as" in told(tmp_path / "out")
    assert "images.csv:6: '0004.jpg' was looked for as" in told(tmp_path / "out")


def test_addresses_of_the_web_are_refused(tmp_path: Path) -> None:
    paths = [f"https://example.org/{file}" for file in FILES]
    said = refused(put(tmp_path / "d", {"images.csv": table(paths=paths)}, ["x.jpg"]), tmp_path / "o")
    assert "is an address of the web" in said and "img2dataset" in said
    paths = [f"https://example.org/{number}/{file}" for number, file in enumerate([*FILES[:5], FILES[0]])]
    said = refused(put(tmp_path / "e", {"images.csv": table(paths=paths)}), tmp_path / "o")
    assert "is an address of the web" in said  # two of them would be one file


def test_addresses_whose_files_are_here_are_read(tmp_path: Path) -> None:
    paths = [f"s3://bucket/all/{file}" for file in FILES]
    root = put(tmp_path / "d", {"images.csv": table(paths=paths)})
    assert named(catalogue_of(root, tmp_path / "out")) == TRUTH
    assert "without its first 3 folder(s)" in told(tmp_path / "out")


def test_a_path_is_known_by_its_one_form(tmp_path: Path) -> None:
    lines = "path,label,split\na/0.jpg,cat,train\na/1.jpg,dog,train\n"
    root = put(tmp_path / "d", {}, ["a/0.jpg", "a/1.jpg"])
    put(root, {"images.csv": lines + "./a//0.jpg,cat,val\n"}, [])
    assert "images.csv:4: 'a/0.jpg' is in train and in val" in refused(root, tmp_path / "o")
    put(root, {"images.csv": lines + "a/./1.jpg,cat,train\n"}, [])
    said = refused(root, tmp_path / "o")
    assert "images.csv:4: 'a/1.jpg' is listed twice, with another label" in said and "images.csv:3" in said
    put(root, {"images.csv": lines + "a//1.jpg,dog,train\n"}, [])
    assert rows_of(catalogue_of(root, tmp_path / "out")) == [("a/0.jpg", 0), ("a/1.jpg", 1)]
    assert "1 rows are listed twice, the same each time" in told(tmp_path / "out")


def test_names_whose_files_lie_in_several_folders(tmp_path: Path) -> None:
    files = [f"{folder}/{file}" for folder, file in zip(["train", "val"] * 3, FILES)]
    root = put(tmp_path / "d", {"images.csv": table()}, files)
    said = refused(root, tmp_path / "o", format="csv")
    assert "the files lie in several folders (train/, val/)" in said and "-o data.lists.train=" in said


# ---- which lists


def test_a_list_for_each_split_and_a_test_without_labels(tmp_path: Path) -> None:
    images = [f"train/{file}" for file in FILES] + ["test/0100.jpg", "test/0101.jpg"]
    root = put(
        tmp_path / "d",
        {"train.csv": table(paths=NAMES, header="id,breed"), "test.csv": "id\n0100\n0101\n"},
        images,
    )
    c = catalogue_of(root, tmp_path / "out")
    assert rows_of(c, "test") == [("test/0100.jpg", -1), ("test/0101.jpg", -1)]
    assert list(named(c))[:6] == images[:6]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_metadata_in_the_folder_of_each_split(tmp_path: Path, kind: str) -> None:
    root = put(tmp_path / "d", {}, [f"{split}/{file}" for split in ("train", "test") for file in FILES])
    for split in ("train", "test"):
        rows = [{"file_name": file, "label": label} for file, label in TRUTH.items()]
        path = root / split / f"metadata.{kind}"
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif kind == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            path.write_text(table(header="file_name,label"))
    c = catalogue_of(root, tmp_path / "out")
    assert [path for path, _ in rows_of(c)] == [f"train/{file}" for file in FILES]
    assert [path for path, _ in rows_of(c, "test")] == [f"test/{file}" for file in FILES]


def test_an_example_of_a_submission_names_the_test_images(tmp_path: Path) -> None:
    images = [f"train/{file}" for file in FILES] + ["test/0100.jpg"]
    sample = "id,cat,dog,fox\n0100,0.3,0.3,0.4\n"
    root = put(
        tmp_path / "d",
        {"labels.csv": table(paths=NAMES, header="id,breed"), "sample_submission.csv": sample},
        images,
    )
    c = catalogue_of(root, tmp_path / "out")
    assert rows_of(c, "test") == [("test/0100.jpg", -1)] and c.classes == ("cat", "dog", "fox")


def test_columns_of_zeros_and_ones_are_classes(tmp_path: Path) -> None:
    lines = "".join(
        f"{file}, {n % 3 == 0:d}, {n % 3 == 1:d}, {n % 3 == 2:d}\n" for n, file in enumerate(FILES)
    )
    text = "filename, cat, dog, fox\n" + lines
    root = put(tmp_path / "d", {f"{split}/_classes.csv": text for split in ("train", "valid")},
               [f"{split}/{file}" for split in ("train", "valid") for file in FILES])  # fmt: skip
    c = catalogue_of(root, tmp_path / "out")
    assert [c.classes[label] for _, label in rows_of(c, "val")] == LABELS and c.classes == (
        "cat",
        "dog",
        "fox",
    )
    assert "'cat', 'dog', 'fox' hold 0 and 1" in told(tmp_path / "out")
    put(root, {"train/_classes.csv": text + "0006.jpg, 0, 0, 0\n0007.jpg, 1, 1, 0\n"}, [])
    said = refused(root, tmp_path / "o")
    assert "train/_classes.csv:9 (cat, dog): smelt learns one label an image" in said
    c = catalogue_of(root, tmp_path / "out 2", multi_label="first")
    assert ("train/0007.jpg", 0) in rows_of(c) and "train/0006.jpg" not in dict(rows_of(c))
    put(root, {"train/_classes.csv": text + "0006.jpg, 0.5, 0.2, 0.3\n"}, [])
    fields = {"header": True, "delimiter": ",", "format": "csv", "lists": {"train": "train/_classes.csv"}}
    assert "probabilities" in refused(root, tmp_path / "o", **fields)


def test_other_names_and_several_candidates(tmp_path: Path) -> None:
    root = put(tmp_path / "a", {"flowers.csv": table(), "log.txt": "started\nended\n"})
    assert named(catalogue_of(root, tmp_path / "out")) == TRUTH
    root = put(tmp_path / "b", {"a.csv": table(), "b.csv": table()})
    assert "2 lists with a path and a label (a.csv, b.csv): -o data.lists.all=a.csv" in refused(
        root, tmp_path / "o"
    )
    root = put(tmp_path / "c", {"images.csv": table(), "labels.csv": table()})
    catalogue_of(root, tmp_path / "out c")
    assert "labels.csv could be one too: -o data.lists.all=labels.csv" in told(tmp_path / "out c")
    with pytest.raises(DataError, match=r"no such file; .* has images\.csv, labels\.csv"):
        catalogue_of(root, tmp_path / "o", format="csv", lists={"all": "image.csv"})
    put(root, {"p1.csv": table(paths=FILES[:3]), "p2.csv": table(paths=FILES[3:])}, [])
    c = catalogue_of(root, tmp_path / "out g", format="csv", lists={"all": "p*.csv"})
    assert named(c) == TRUTH


def test_class_folders_with_a_stray_list_remain_folders(tmp_path: Path) -> None:
    folders = ["cat/a.jpg", "cat/b.jpg", "dog/a.jpg", "dog/b.jpg"]
    stray = {"log.csv": "url,status\nhttp://x.org/a.jpg,200\n", "metadata.csv": "path,label\nq.jpg,cat\n"}
    root = put(tmp_path / "d", dict(stray), folders)
    assert named(catalogue_of(root, tmp_path / "out")) == {path: path[:3] for path in folders}
    put(root, {"images.csv": table(paths=folders, labels=["x", "y", "x", "y"])}, [])
    assert list(named(catalogue_of(root, tmp_path / "out 2")).values()) == ["x", "y", "x", "y"]
    assert "(or imagefolder)" in told(tmp_path / "out 2")


# ---- labels


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        (["0.0", "1.0", "", "1.0", "0.0", "1.0"], ["0", "1"], "1 rows without a label are left out"),
        (["0", "1", "nan", "0", "N/A", "0"], ["0", "1"], "says that there is no label"),
        (["0", "1", "-1", "0", "1", "0"], ["0", "1"], "1 rows without a label"),
        (["0", " 1", "1 ", "0", "1", "1"], ["0", "1"], ""),
        (["cat", "dog", "nan"] * 2, ["cat", "dog", "nan"], "'nan' (2 rows) is taken as the name of a class"),
        (["true", "false"] * 3, ["false", "true"], ""),
        (["0", "1", "9" * 20, "0", "1", "1"], ["0", "1", "9" * 20], "taken as names of 3 classes"),
        (["0", "1", "cat", "0", "1", "1"], ["0", "1", "cat"], "are numbers (0, 1) and some names (cat)"),
        (["a;b", "c|d", "e", "f", "e", "f"], ["a;b", "c|d", "e", "f"], ""),
        (["ash", "rot", "ash rot", "rot ash", "red ash", "rot"],
         ["ash", "ash rot", "red ash", "rot", "rot ash"], "own"),
    ],
)  # fmt: skip
def test_labels_as_people_write_them(
    tmp_path: Path, labels: list[str], classes: list[str], said: str
) -> None:
    root = put(tmp_path / "d", {"images.csv": table(labels=labels)})
    assert list(catalogue_of(root, tmp_path / "out").classes) == classes
    assert said in told(tmp_path / "out")


@pytest.mark.parametrize("odd", ["1.5", "1e9", "0x10", '"1,000"', "-7", "inf", "01"])
def test_odd_numbers_among_labels_are_refused_with_their_line(tmp_path: Path, odd: str) -> None:
    root = put(tmp_path / "d", {"images.csv": table(labels=["0", "1", odd, "0", "1", "0"])})
    assert f"images.csv:4: label {odd.strip(chr(34))!r} is not one of the classes (" in refused(
        root, tmp_path / "o"
    )


def test_a_label_of_its_own_for_every_image_is_doubted(tmp_path: Path) -> None:
    files = [f"{number:03}.jpg" for number in range(30)]
    root = put(tmp_path / "d", {"images.csv": table(paths=files, labels=[f"x{f}y" for f in files])}, files)
    catalogue_of(root, tmp_path / "out")
    assert "30 classes and 30 images for training: is the label another column" in told(tmp_path / "out")


def test_one_enormous_number_allocates_nothing(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"images.csv": table(labels=["0", "1", "2000000000", "0", "1", "0"])})
    tracemalloc.start()
    c = catalogue_of(root, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert c.classes == ("0", "1", "2000000000") and peak < 64 << 20


SEVERAL = ["cat;dog", "cat|dog", '"[""cat"", ""dog""]"', "\"['cat', 'dog']\"", '"cat, dog"']


@pytest.mark.parametrize("cell", SEVERAL)
def test_several_labels_in_a_cell(tmp_path: Path, cell: str) -> None:
    root = put(tmp_path / "d", {"images.csv": table(labels=["cat", "dog", cell, "dog", "cat", "cat"])})
    said = refused(root, tmp_path / "o")
    assert (
        "1 rows have several labels" in said
        and "images.csv:4 (cat, dog)" in said
        and "multi_label=first" in said
    )
    first = catalogue_of(root, tmp_path / "first", multi_label="first")
    assert dict(rows_of(first))["0002.jpg"] == 0 and first.num_rows == 6
    both = catalogue_of(root, tmp_path / "both", multi_label="split")
    assert [label for path, label in rows_of(both) if path == "0002.jpg"] == [0, 1] and both.num_rows == 7


def test_rows_of_one_image_are_held_out_together(tmp_path: Path) -> None:
    files = [f"{number:03}.jpg" for number in range(40)]
    labels = ["cat;dog" if number % 4 == 0 else ("cat", "dog")[number % 2] for number in range(40)]
    root = put(tmp_path / "d", {"images.csv": table(paths=files, labels=labels)}, files)
    c = catalogue_of(root, tmp_path / "out", multi_label="split", val_fraction=0.4, test_fraction=0.2)
    splits: dict[str, set[int]] = {}
    for row in range(c.num_rows):
        splits.setdefault(c.path(row), set()).add(int(c.split_codes_N[row]))
    assert c.num_rows == 50 and len(splits) == 40 and all(len(found) == 1 for found in splits.values())
    assert {len(c.rows(split)) > 0 for split in ("train", "val", "test")} == {True}


def test_several_labels_are_told_from_all_cells() -> None:
    assert several_in({b"a;b", b"a", b"b"}) == {b"a;b": [b"a", b"b"]}
    assert several_in({b"AC/DC; live", b"a"}) == {}
    assert several_in({b"a|b", b"b|c", b"a|c"}) == {
        b"a|b": [b"a", b"b"], b"b|c": [b"b", b"c"], b"a|c": [b"a", b"c"],
    }  # fmt: skip
    assert several_in({b"Paris, Texas", b"Paris"}) == {} and several_in({b"[" * 5000}) == {}


def test_rows_without_a_label(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"images.csv": table(labels=["cat", "dog", "", "dog", "cat", "cat"])})
    assert "0002.jpg" not in named(catalogue_of(root, tmp_path / "out"))
    summary = json.loads((tmp_path / "out/index.json").read_text())
    assert {"count": 1, "first": ["0002.jpg"], "what": "files", "why": "unlabelled"} in summary["files"][
        "left_out"
    ]
    assert "images.csv:4: label '' is not" in refused(root, tmp_path / "o", unlabelled="refuse")
    kept = catalogue_of(root, tmp_path / "kept", unlabelled="keep")
    assert named(kept)["0002.jpg"] == "" and kept.num_rows == 6
    put(root, {"images.csv": table(labels=["cat", "dog", "", "", "", ""])}, [])
    said = refused(root, tmp_path / "o")
    assert "4 of 6 images for training have no label" in said and "data.unlabelled=keep" in said
    assert catalogue_of(root, tmp_path / "most", unlabelled="keep").num_rows == 6


def test_copies_of_files_with_several_labels() -> None:
    """Rows of one file are no copies; files cross where their labels differ."""
    groups = np.array([0, 0, 2, 2, 2, 5, 5, 5])
    same = np.array([0, 0, 2, 2, 4, 5, 5, 7])
    labels = np.array([0, 1, 0, 1, 0, 0, 1, 2], np.int32)
    held, size = np.zeros(8, bool), np.zeros(8, np.int64)
    area = np.array([1, 1, 9, 9, 1, 1, 1, 9])
    found = decide(groups, labels, held, area, size, same_N=same)
    assert found.rows.tolist() == [2, 3, 4, 5, 6, 7]
    assert found.keep.tolist() == [True, True, False, False, False, True]
    assert found.cross_label.tolist() == [True] * 6
    twins = decide(
        groups[:4] * 0, np.array([0, 1, 1, 0], np.int32), held[:4], area[:4], size[:4], same_N=same[:4]
    )
    assert twins.cross_label.tolist() == [False] * 4 and twins.keep.tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "fox\ncat\ndog\n"),
        ("classes.json", '["fox", "cat", "dog"]'),
        ("classes.json", '{"0": "fox", "1": "cat", "2": "dog"}'),
        ("classes.json", '{"cat": 1, "dog": 2, "fox": 0}'),
        ("classes.json", '{"0": ["n01", "fox"], "1": ["n02", "cat"], "2": ["n03", "dog"]}'),
        ("classes.json", '{"classes": [{"name": "fox"}, {"name": "cat"}, {"id": 7, "name": "dog"}]}'),
        ("classes.csv", "id,name\n2,dog\n0,fox\n1,cat\n"),
        ("classes.csv", "class_name;class_id\ndog;2\nfox;0\ncat;1\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("numbers", [False, True])
def test_lists_of_classes(tmp_path: Path, name: str, content: str, numbers: bool) -> None:
    labels = ["1", "2", "0"] * 2 if numbers else LABELS
    root = put(tmp_path / "d", {"images.csv": table(labels=labels), name: content})
    c = catalogue_of(root, tmp_path / "out", format="csv", lists={"all": "images.csv", "classes": name})
    assert c.classes == ("fox", "cat", "dog") and named(c) == TRUTH


def test_ids_of_a_list_of_classes_may_have_gaps(tmp_path: Path) -> None:
    lists = {"all": "images.csv", "classes": "c.csv"}
    root = put(
        tmp_path / "d",
        {
            "images.csv": table(labels=["57", "9021", "1104200"] * 2),
            "c.csv": "id,name\n9021,dog\n1104200,fox\n57,cat\n",
        },
    )
    assert named(catalogue_of(root, tmp_path / "out", format="csv", lists=lists)) == TRUTH
    for content in ("", "[1, {}]", '{"a": [', "id,x,y\n1,2,3\n", '{"0": null}'):
        name = "c.json" if content[:1] in ("[", "{") else "c.csv"
        put(root, {name: content}, [])
        said = refused(root, tmp_path / "o", format="csv", lists={**lists, "classes": name})
        assert name in said


# ---- from the command line


def smelt_index(tmp_path: Path, root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `smelt index` as a user does."""
    command = [sys.executable, "-m", "smelt", "index", "folder", "--work", str(tmp_path / "w")]
    command += ["-o", f"data.root={root}", *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("form", [[], ["-o", "data.format=csv"]])
def test_the_command_line_says_what_was_read(tmp_path: Path, form: list[str]) -> None:
    root = put(tmp_path / "data", {"labels.csv": table(";", "Image_ID,Breed", NAMES)}, BELOW)
    done = smelt_index(tmp_path, root, *form)
    words = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert "column 'Image_ID' is the path, 'Breed' is the label" in words
    assert "as with -o data.prefix=images/ -o data.suffix=.jpg" in words
    (root / "labels.csv").write_text("x;y\n1;2\n")
    done = smelt_index(tmp_path, root, "-o", "data.format=csv")
    assert done.returncode == 2 and "Traceback" not in done.stderr + done.stdout
    assert "it has 'x', 'y'" in " ".join((done.stderr + done.stdout).split())


def test_tables_are_added_from_anywhere(tmp_path: Path) -> None:
    """What yields rows of its own, an export say, hands them over as a Table."""
    from smelt.artifacts.catalogue_writer import CatalogueWriter
    from smelt.data.formats.lists.imagetable import Table
    from smelt.data.formats.lists.listed import add_tables

    root = put(tmp_path / "d", {}, [f"data/{file}" for file in FILES])
    columns = {
        "path": ByteStrings.of(file.encode() for file in FILES),
        "label": ByteStrings.of([b"a", b"b", b"", b"a", b"b", b"a"]),
    }
    chosen, report = FormatSettings(format="csv", val_fraction=0.0, multi_label="first"), Report()
    table = Table("all", columns, lambda row: f"export.json: images[{row}]", b"data", {2: [b"b", b"a"]})
    with CatalogueWriter(tmp_path / "out") as writer:
        add_tables([table], chosen, root, writer, report)
        writer.finish()
    c = Catalogue.open(tmp_path / "out")
    assert [label for _, label in rows_of(c)] == [0, 1, 1, 0, 1, 0] and not len(c.missing)
    assert "export.json: images[2] (b, a): the first is taken" in " ".join(report.notes)
