"""A small file cannot ask for much memory: dictionaries, runs and archives are counted first."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers import arrowfiles
from smelt.data.formats.lists import parquets
from smelt.data.formats.lists.sheets import peek
from smelt.errors import DataError, OutOfProportionError, SmeltError
from smelt.files import bounded, parquet
from smelt.fusion.scores import labels, scorefiles


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same rule with a thousandth of the bytes, so that the files are made in no time."""
    monkeypatch.setattr(bounded, "ALWAYS", 1 << 20)
    yield


def equal_rows(path: Path, count: int, text: str = "a/b.jpg", kind: str = "path") -> Path:
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [text])
    table = pa.table({kind: words, "label": np.zeros(count, np.int64)})
    pq.write_table(table, path, compression="zstd")
    return path


def test_a_small_parquet_of_many_equal_rows_is_refused_wherever_it_is_read(tmp_path: Path) -> None:
    path = equal_rows(tmp_path / "a.parquet", 200_000)
    assert path.stat().st_size < 1 << 14
    with pytest.raises(DataError, match=r"a\.parquet: its 200,000 rows would take .* may ask for"):
        parquets.columns(path, ["path"])
    assert peek(path, FormatSettings(format="csv")).sample[0] == ["a/b.jpg", "0"]  # its head is small
    path = equal_rows(tmp_path / "b.parquet", 200_000, kind="id")
    with pytest.raises(OutOfProportionError, match="its 200,000 rows would take"):
        labels.read_file(path)
    scores = tmp_path / "s.parquet"
    pq.write_table(pa.table({"a": np.zeros(200_000), "b": np.ones(200_000)}), scores)
    with pytest.raises(OutOfProportionError, match="its 200,000 rows would take"):
        scorefiles.read_file(scores)


@pytest.mark.parametrize("encoding", ["dictionary", "DELTA_BYTE_ARRAY", "list", "struct"])
def test_a_long_text_in_every_row_is_counted_and_not_written_out(tmp_path: Path, encoding: str) -> None:
    """The footer of such a file says nothing of it: every row refers to the one text of 100 kB."""
    path, text = tmp_path / "a.parquet", "x" * 100_000
    column: Any = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2000, np.int32)), [text]).cast(pa.string())
    if encoding == "list":
        column = pa.array([[text]] * 2000)
    if encoding == "struct":
        column = pa.array([{"b": text}] * 2000)
    options: Any = (
        {"use_dictionary": False, "column_encoding": {"a": encoding}} if encoding.startswith("DELTA") else {}
    )
    pq.write_table(pa.table({"a": column}), path, compression="zstd", **options)
    assert path.stat().st_size < 1 << 17
    pool, plain = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(bounded.OutOfProportionError, match="rows would take"):
            parquet.parquet_table(path)
    finally:
        pa.set_memory_pool(plain)
    assert (pool.max_memory() or 0) < 2000 * 100_000 / 4  # never all of them
    with pytest.raises(DataError, match="would take"):
        parquets.peek(path, 200)


def test_what_says_something_passes_and_is_the_same_as_pyarrow_reads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count = 100_000
    table = pa.table(
        {
            "path": [f"{i % 100:03d}/{i:08d}.jpg" for i in range(count)],
            "label": rng.integers(0, 5000, count),
            "split": pa.array(["train", "val"] * (count // 2)).dictionary_encode(),
            "tags": [["a", "b"], None] * (count // 2),
            "inner": [{"x": "u", "y": 1}] * count,
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, compression="zstd", row_group_size=30_000)
    read = parquet.parquet_table(path)
    for name in table.column_names:
        assert read.column(name).to_pylist() == table.column(name).to_pylist(), name
    part = parquet.parquet_table(path, ["inner.x", "path"])
    assert part.num_rows == count and part.column("path").to_pylist() == table.column("path").to_pylist()
    assert parquet.parquet_head(path, ["path"], 7).column("path").to_pylist() == [
        f"{i:03d}/{i:08d}.jpg" for i in range(7)
    ]
    columns = parquets.columns(path, ["path", "label", "inner.x"])
    assert columns[0][99_999] == b"099/00099999.jpg" and columns[2][5] == b"u"


def test_what_is_allowed_for_the_challenge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """16 million rows of a list in 30 MB, 294,099 × 5,000 scores in what they take at the tightest."""
    monkeypatch.undo()
    path = tmp_path / "a"
    for size, needed in ((30 << 20, 16_076_665 * (100 + 60 + 8)), (294_099 * 500, 294_099 * 5000 * 8)):
        with open(path, "wb") as file:
            file.write(b"\1" * size)
        bounded.refuse_beyond(path, needed, "it")


def test_a_hole_in_a_sparse_file_speaks_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    assert bounded.allowed(path) == bounded.ALWAYS


def test_archives_count_all_their_members(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **{f"a{i}": np.zeros(100_000) for i in range(5)})  # each alone would pass
    with pytest.raises(OutOfProportionError, match="unpacking its 5 members would take"):
        scorefiles.read_file(path)


def test_a_tensor_that_shows_one_number_very_often(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pt"
    torch.save({"scores": torch.zeros(1).expand(1 << 20, 1 << 20)}, path)
    with pytest.raises(OutOfProportionError, match=r"a tensor of \(1048576, 1048576\) would take"):
        scorefiles.read_file(path)
    with zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (8 << 20))
    with pytest.raises(OutOfProportionError, match="unpacking its 1 members would take"):
        scorefiles.read_file(tmp_path / "b.pt")


def test_one_hot_parquet_needs_no_text_for_each_cell(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    hot = np.eye(50, dtype=np.int64)[np.arange(400) % 50]
    names = [f"c{i}" for i in range(50)]
    pq.write_table(pa.table({"id": [f"i{i}" for i in range(400)], **dict(zip(names, hot.T))}), path)
    found = labels.read_file(path)
    assert found.columns == tuple(names) and found.ids is not None and found.ids[3] == "i3"
    assert np.array_equal(found.values, hot)


def test_a_line_without_end_is_refused_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smelt.data.formats.base import Report
    from smelt.data.formats.lists import pathlists, texts
    from smelt.data.formats.lists.sheets import read
    from smelt.data.formats.tree.files import Part
    from smelt.fusion.scores import textfiles

    monkeypatch.setattr(texts, "MOST_LINE", 1 << 20)
    monkeypatch.setattr(pathlists, "MOST_LINE", 1 << 20)
    monkeypatch.setattr(textfiles, "MOST_LINE", 1 << 20)
    settings = FormatSettings(format="csv")
    for end in ("\n", "\r", "\r\n"):
        short = "".join(f"i/{i}.jpg,cat{end}" for i in range(300_000))
        path = tmp_path / "a.csv"
        path.write_bytes(f"path,label{end}{short}".encode())  # many lines are no long line
        assert len(read(peek(path, settings), [0], Report())[0][0]) == 300_000
        path.write_bytes(f"path,label{end}a.jpg,cat{end}b.jpg,".encode() + b"x" * (3 << 20))
        with pytest.raises(DataError, match=r"a\.csv:3: a line of more than"):
            read(peek(path, settings), [0], Report())
        with pytest.raises(ValueError, match=r"a\.csv:3: a line of more than"):
            textfiles.read(path)
    path.write_bytes(b"a.jpg 0\n" + b"x" * (9 << 20))
    with pytest.raises(DataError, match=r"a\.csv:2: a line of more than"):
        list(pathlists.read_list(Part(path), Report(), labelled=True, num_classes=2))


def arrow(path: Path, array: Any, compression: str | None, whole: bool) -> Path:
    batch = pa.record_batch({"a": array})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    new = pa.ipc.new_file if whole else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as file, new(file, batch.schema, options=options) as out:
        out.write_batch(batch)
    return path


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
def test_an_arrow_file_is_looked_at_before_it_is_unpacked(
    tmp_path: Path, compression: str | None, whole: bool
) -> None:
    sound = arrow(tmp_path / "sound.arrow", pa.array([b"image" * 9] * 500), compression, whole)
    assert sum(len(batch) for _, batch in arrowfiles.batches(sound, ["a"])) == 500
    zeros = arrow(tmp_path / "zeros.arrow", pa.array(np.zeros(4 << 20, np.int8)), compression, whole)
    if compression is None:
        assert sum(len(batch) for _, batch in arrowfiles.batches(zeros, ["a"])) == 4 << 20
    else:
        with pytest.raises(
            OutOfProportionError, match=r"zeros\.arrow: unpacking its message 2 would take 4 MiB"
        ):
            arrowfiles.schema_of(zeros)
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10_000, np.int8)), ["y" * 10_000])
    many = arrow(tmp_path / "many.arrow", words, compression, whole)
    with pytest.raises(OutOfProportionError, match="10,000 rows would take 95 MiB"):
        list(arrowfiles.batches(many, ["a"]))


def test_a_damaged_arrow_file_is_refused_by_name(tmp_path: Path) -> None:
    """Bytes of what a file says of itself, changed at random: an outcome, and no bare exception."""
    random = np.random.default_rng(5)
    for whole in (True, False):
        sound = arrow(tmp_path / "a.arrow", pa.array([b"image" * 9] * 50), "zstd", whole).read_bytes()
        for _ in range(300):
            spoilt = bytearray(sound)
            spoilt[random.integers(min(len(spoilt), 900))] = random.integers(256)
            path = tmp_path / "b.arrow"
            path.write_bytes(spoilt)
            try:
                names = arrowfiles.schema_of(path).names
                list(arrowfiles.batches(path, names))
            except SmeltError as error:
                assert "b.arrow" in str(error)
