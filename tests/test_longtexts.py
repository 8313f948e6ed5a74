"""Free text is cut on its way into a catalogue, at a character, marked; the Parquet alone has it whole."""

from __future__ import annotations

import json
import time
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.artifacts import catalogue_parquet
from smelt.artifacts.bytestrings import ByteStrings
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_parquet import write_parquet
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.artifacts.longtexts import LIMIT, MARK, cut, cut_name


@given(st.text(max_size=900))
@settings(max_examples=400, deadline=None)
def test_a_cut_is_the_beginning_in_so_many_characters(text: str) -> None:
    data = text.encode("utf-8", "replace")
    short = cut(data)
    if len(data.decode()) <= LIMIT:
        assert short is None
        return
    assert short is not None
    shown = short.decode()
    assert len(shown) <= LIMIT and shown.endswith(MARK)
    assert data.decode().startswith(shown[:-1])


@pytest.mark.parametrize("letter", ["a", "é", "猫", "😀", "\U0010ffff"])
def test_a_cut_is_never_within_a_character(letter: str) -> None:
    for lead in range(5):
        short = cut(("a" * lead + letter * 10_000).encode())
        assert short is not None and short.decode() == "a" * lead + letter * (LIMIT - 1 - lead) + MARK


def test_marks_stay_with_their_letter_and_emoji_whole() -> None:
    family = "👨\u200d👩\u200d👧"
    for cluster in ("e\u0301", "n\u0303\u0323", family, "❤\ufe0f"):
        for lead in range(len(cluster) + 1):
            short = cut(("x" * lead + cluster * 1000).encode())
            assert short is not None
            kept = short.decode()[lead:-1]
            assert kept == cluster * (len(kept) // len(cluster)), (cluster, lead)
    hostile = cut(("a" + "\u0301" * 200_000).encode())  # no end of marks: not stepped back over for ever
    assert hostile is not None and LIMIT - 20 < len(hostile.decode()) <= LIMIT
    assert unicodedata.combining(hostile.decode()[-2])


def test_bytes_that_are_no_text_are_cut_too() -> None:
    for data in (b"\xff" * 5000, b"\x80" * 5000, b"\0" * 5000):
        short = cut(data)
        assert short is not None and len(short.decode()) == LIMIT


def test_long_names_that_differ_stay_different() -> None:
    names = ["a" * 200_000 + end for end in ("1", "2", "3")]
    shown = {cut_name(name) for name in names}
    assert len(shown) == 3 and all(len(name) <= LIMIT and MARK in name for name in shown)
    assert cut_name("n02123045 tabby") == "n02123045 tabby"


TITLES = ["short", "", "t" * 200_000, "é" * LIMIT, "猫" * (LIMIT + 1), "x" * (LIMIT + 1), "end"]


def write(folder: Path, titles: list[str], source: str = "web") -> CatalogueWriter:
    """A catalogue in two blocks, with a column of words whose long ones are one letter apart."""
    queries = [b"cat", b"q" * 5000 + b"1", b"q" * 5000 + b"2"]
    with CatalogueWriter(folder) as writer:
        writer.classes = ["cat", "c" * 200_000]
        for part, rows in enumerate((range(3), range(3, len(titles)))):
            paths = Paths.of(f"{part}/{row}.jpg".encode() for row in rows)
            block = Block("train", source, paths, np.zeros(len(rows), np.int32))
            block.strings["title"] = ByteStrings.of(titles[row].encode() for row in rows)
            block.words["query"] = (np.array([row % 3 for row in rows]), queries)
            writer.add(block)
        writer.finish()
    return writer


def test_the_catalogue_is_cut_and_the_parquet_file_whole(tmp_path: Path) -> None:
    writer = write(tmp_path / "c", TITLES, source="s" * 200_000)
    catalogue = Catalogue.open(tmp_path / "c")
    shown = catalogue.strings("title", range(len(TITLES)))
    assert [len(title) for title in shown] == [5, 0, LIMIT, LIMIT, LIMIT, LIMIT, 3]
    assert [title.endswith(MARK) for title in shown] == [False, False, True, False, True, True, False]
    assert writer.long.counts == {"title": 3, "query": 2, "class": 1, "source": 1}
    assert all(len(query) <= LIMIT for query in catalogue.strings("query", range(7)))
    assert len(catalogue.classes[1]) <= LIMIT and len(catalogue.sources[0]) <= LIMIT
    write_parquet(catalogue, tmp_path / "c" / "catalogue.parquet")
    table = pq.read_table(tmp_path / "c" / "catalogue.parquet")
    assert table["title"].to_pylist() == TITLES
    tails = ["cat", "q" * 5000 + "1", "q" * 5000 + "2"]
    assert table["query"].to_pylist() == [tails[row % 3] for row in range(7)]
    assert set(table["source"].to_pylist()) == {"s" * 200_000}
    assert json.loads(table.schema.metadata[b"smelt.classes"]) == {"1": "c" * 200_000}
    assert not list((tmp_path / "c").glob("*.long.*")), "what lay aside is not part of the artefact"
    size = (tmp_path / "c" / "catalogue.arrow").stat().st_size
    assert size < 20_000, "the columns that are mapped hold no long text"


def test_groups_of_long_texts_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_parquet, "LONG_BYTES_PER_GROUP", 250_000)
    titles = [f"{row} " + "y" * (100_000 if row % 2 else 10) for row in range(40)]
    write(tmp_path / "c", titles)
    write_parquet(Catalogue.open(tmp_path / "c"), tmp_path / "c" / "catalogue.parquet")
    file = pq.ParquetFile(tmp_path / "c" / "catalogue.parquet")
    assert file.num_row_groups >= 8 and file.read()["title"].to_pylist() == titles
    assert file.read()["row"].to_pylist() == list(range(40))
    write(tmp_path / "d", ["one long " + "z" * 500_000, "two", "three"])  # one text beyond the bound
    write_parquet(Catalogue.open(tmp_path / "d"), tmp_path / "d" / "catalogue.parquet")
    assert pq.read_table(tmp_path / "d" / "catalogue.parquet")["title"].to_pylist()[1:] == ["two", "three"]


def test_ordinary_text_leaves_no_trace(tmp_path: Path) -> None:
    """The same files, to the byte, whether or not the writer looks for long texts."""
    titles = [f"title {row} ü" for row in range(1000)]
    with CatalogueWriter(tmp_path / "c") as writer:
        writer.classes = ["a"]
        block = Block("train", "", Paths.of(b"%d" % row for row in range(1000)), np.zeros(1000, np.int32))
        block.strings["title"] = ByteStrings.of(title.encode() for title in titles)
        writer.add(block)
        writer.finish()
    assert writer.long.counts == {} and not list((tmp_path / "c").glob("*.long.*"))
    files = sorted(path.name for path in (tmp_path / "c").iterdir())
    assert files == ["catalogue.arrow", "catalogue.json"], "what was written on the way is gone"
    assert Catalogue.open(tmp_path / "c").to_arrow()["title"].to_pylist() == titles


def test_an_attempt_that_was_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path / "c", TITLES)  # killed before the Parquet file
    assert list((tmp_path / "c").glob("*.long.*"))
    write(tmp_path / "c", ["a", "b", "c", "d"])
    assert {path.name.split(".")[0] for path in (tmp_path / "c").glob("*.long.*")} == {"query", "class"}


def test_many_cut_texts_take_little_memory(tmp_path: Path) -> None:
    """What is kept aside is on the disk; beside the block itself a part of its rows lies in memory."""
    rows = 200_000
    heap = np.full(rows * 350, ord("x"), np.uint8)
    strings = ByteStrings(heap, np.arange(0, rows * 350 + 1, 350))
    paths = Paths.of(b"%d.jpg" % row for row in range(rows))
    block = Block("train", "", paths, np.zeros(rows, np.int32), strings={"title": strings})
    tracemalloc.start()
    before = time.process_time()
    with CatalogueWriter(tmp_path / "c") as writer:
        writer.classes = ["a"]
        writer.add(block)
        writer.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert writer.long.counts == {"title": rows}
    assert peak < 60 << 20, f"{peak >> 20} MiB for {heap.nbytes >> 20} MiB of text"
    assert time.process_time() - before < 60  # of processors: a bound on the work, whatever else runs here
    assert Catalogue.open(tmp_path / "c").strings("title", [rows - 1]) == ["x" * (LIMIT - 1) + MARK]
