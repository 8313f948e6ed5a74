"""Catalogue: byte strings, writer and reader against plain Python; Parquet; damaged files."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smelt.artifacts.bytestrings import ByteStrings, decode, encode, gather, hash_spans, offsets_of
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_parquet import write_parquet
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths, shard_codes
from smelt.errors import ArtifactError, DataError
from smelt.files.arrays import map_array
from smelt.files.ipc import write_batch

STRINGS = st.lists(st.binary(max_size=40), max_size=30)
NAMES = st.lists(st.binary(min_size=1, max_size=30).filter(lambda b: b"/" not in b), min_size=1, max_size=20)
ODD = [
    "ä ö.jpg",
    "a b  c.jpg",
    "line\nbreak.jpg",
    "😀.jpg",
    "-x.jpg",
    "_y.jpg",
    "n" * 251 + ".jpg",
    "\udcff\udc80.jpg",
]


@given(STRINGS, st.data())
@settings(deadline=None)
def test_byte_strings_are_a_list(items: list[bytes], data: st.DataObject) -> None:
    strings = ByteStrings.of(items)
    assert list(strings) == items and strings.lengths().tolist() == [len(x) for x in items]
    start = data.draw(st.integers(0, len(items)))
    stop = data.draw(st.integers(start, len(items)))
    assert list(strings.slice(start, stop)) == items[start:stop]
    if items:
        picks = data.draw(st.lists(st.integers(0, len(items) - 1)))
        assert list(strings.take(np.array(picks, np.int64))) == [items[i] for i in picks]
    assert list(ByteStrings.from_arrow(strings.to_arrow())) == items


@given(STRINGS)
@settings(deadline=None)
def test_equal_hashes_mean_equal_strings(items: list[bytes]) -> None:
    """Whatever stands around them; 64 bits do not collide by chance in so few."""
    near = [*items, *(x + b"\0" for x in items), *(b"\0" + x for x in items), *(x[:-1] for x in items)]
    hashes = ByteStrings.of(near).hashes().tolist()
    assert len(set(hashes)) == len(set(near))
    assert ByteStrings.of(near[::-1]).hashes().tolist() == hashes[::-1]
    assert set(hashes).isdisjoint(
        hash_spans(np.frombuffer(b"other", np.uint8), np.zeros(1, np.int64), np.full(1, 5), seed=1).tolist()
    )


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=5)), max_size=20))
def test_gather_takes_spans(pieces: list[tuple[bytes, bytes]]) -> None:
    heap = np.frombuffer(b"".join(keep + drop for keep, drop in pieces), np.uint8)
    starts = offsets_of(np.array([len(a) + len(b) for a, b in pieces], np.int64))[:-1]
    ends = starts + np.array([len(keep) for keep, _ in pieces], np.int64)
    assert list(gather(heap, starts, ends)) == [keep for keep, _ in pieces]


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\0", b"")), max_size=20))
@settings(deadline=None)
def test_paths_are_put_together_again(paths: list[bytes]) -> None:
    made = Paths.of(paths)
    whole = [path[1:] if path.startswith(b"/") and path.count(b"/") == 1 else path for path in paths]
    assert [made[i] for i in range(len(made))] == whole
    moved = made.below(b"top")
    assert [moved[i] for i in range(len(moved))] == [b"top/" + path for path in whole]


def write(folder: Path, blocks: list[Block], **fields: Any) -> Catalogue:
    with CatalogueWriter(folder) as writer:
        for block in blocks:
            writer.add(block)
        for name, value in {"classes": ["a", "b"], **fields}.items():
            setattr(writer, name, value)
        writer.finish()
    return Catalogue.open(folder)


def block(split: str, paths: list[str], labels: list[int] | None = None, source: str = "s") -> Block:
    given = labels if labels is not None else [0] * len(paths)
    return Block(split, source, Paths.of(encode(path) for path in paths), np.array(given, np.int32))


def test_rows_in_the_order_of_the_blocks(tmp_path: Path) -> None:
    one = block("train", ["x/1.jpg", "y/2.jpg"], [1, 0], "google")
    one.fixed["rank"] = np.array([3, 4])
    one.words["query"] = (np.array([1, 0]), [b"cat", b"dog"])
    two = block("val", ["v/1.jpg"], [1], "val")
    two.words["noise"] = (np.array([0]), [b"flip"])
    two.strings["title"] = ByteStrings.of([b"<b>t\xc3\xa4"])
    three = block("train", ["3.jpg"], [0], "flickr")
    three.words["query"] = (np.array([0]), [b"dog"])
    three.missing = np.array([True])
    c = write(tmp_path / "c", [one, two, three], class_ids=["n1", "n2"])
    assert (c.num_rows, c.num_classes, c.classes, c.class_ids) == (4, 2, ("a", "b"), ("n1", "n2"))
    assert c.splits == ("train", "val", "test") and c.sources == ("google", "val", "flickr")
    assert [c.path(row) for row in range(4)] == ["x/1.jpg", "y/2.jpg", "v/1.jpg", "3.jpg"]
    assert c.rows("train").tolist() == [0, 1, 3] and c.rows("val").tolist() == [2] and not len(c.rows("test"))
    assert c.rows("train").dtype == np.int64 and c.labels_N.dtype == np.int32
    assert c.labels_N.tolist() == [1, 0, 1, 0] and c.source_codes_N.tolist() == [0, 0, 1, 2]
    rank = c.column("rank")
    assert rank is not None and rank.tolist() == [3, 4, -1, -1]
    assert c.column("true_label") is None and c.column("query") is None
    assert c.strings("query", range(4)) == ["dog", "cat", "", "dog"]
    assert c.strings("noise", [2, 0]) == ["flip", ""] and c.strings("tags", [0]) == [""]
    assert c.strings("title", range(4)) == ["", "", "<b>tä", ""]
    assert c.missing.tolist() == [3] and c.location(0).shard is None
    assert pickle.loads(pickle.dumps(c)).path(2) == "v/1.jpg"


def test_locations_in_shards(tmp_path: Path) -> None:
    inside = block("train", ["a.jpg", "b.jpg"])
    inside.fixed = {
        "shard": np.array([1, 0xFFFF]),
        "offset": np.array([5 << 33, 0]),
        "size": np.array([7, -1]),
    }
    c = write(tmp_path / "c", [inside, block("val", ["v.jpg"])], shards=["0.tar", "1.tar"])
    found = c.location(0)
    assert (found.shard, found.offset, found.size, found.path, found.inside) == (
        "1.tar",
        5 << 33,
        7,
        "a.jpg",
        False,
    )
    assert c.location(1).shard is None and c.location(1).size == -1
    assert c.location(2).shard is None and c.location(2).path == "v.jpg"


@given(NAMES, NAMES)
@settings(max_examples=30, deadline=None)
def test_any_bytes_round_trip(
    tmp_path_factory: pytest.TempPathFactory, folders: list[bytes], names: list[bytes]
) -> None:
    paths = [folder + b"/" + name for folder in folders for name in names]
    c = write(tmp_path_factory.mktemp("c"), [block("train", [decode(path) for path in paths])])
    assert [encode(c.path(row)) for row in range(c.num_rows)] == paths


def test_odd_names_open_the_file(tmp_path: Path) -> None:
    for name in ODD:
        (tmp_path / name).write_bytes(os.fsencode(name))
    c = write(tmp_path / "c", [block("train", ODD)])
    for row, name in enumerate(ODD):
        assert (tmp_path / c.path(row)).read_bytes() == os.fsencode(name)
    write_parquet(c, tmp_path / "c.parquet")
    assert pq.read_table(tmp_path / "c.parquet")["path"].to_pylist() == [encode(name) for name in ODD]


def test_parquet_says_the_same(tmp_path: Path) -> None:
    one = block("train", ["x/é.jpg", "2.jpg"], [1, 0])
    one.words["query"] = (np.array([0, 1]), [b"cat", b"dog"])
    one.strings["title"] = ByteStrings.of([b"", b"t\xff".decode("utf-8", "replace").encode()])
    one.fixed["true_label"] = np.array([0, -2])
    c = write(tmp_path / "c", [one])
    write_parquet(c, tmp_path / "t.parquet")
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    both = {"source": "s", "split": "train"}
    first = {"row": 0, "path": "x/é.jpg", "label": 1, "query": "cat", "title": "", "true_label": 0}
    second = {"row": 1, "path": "2.jpg", "label": 0, "query": "dog", "title": "t\ufffd", "true_label": -2}
    assert rows == [{**first, **both}, {**second, **both}]


def test_repeats_are_found_with_their_rows(tmp_path: Path) -> None:
    first = block("train", ["a/1.jpg", "a/2.jpg", "b/1.jpg"])
    first.listed_in, first.entries = "list", np.array([4, 5, 9])
    with CatalogueWriter(tmp_path / "c") as writer:
        writer.add(first)
        writer.add(block("val", ["b/2.jpg", "a/2.jpg"]))
        writer.add(block("train", ["a/2.jpg"]))
        found = writer.repeats()
        assert [(r.first, r.second, r.path) for r in found] == [(1, 4, "a/2.jpg"), (1, 5, "a/2.jpg")]
        assert writer.origin(2) == ("train", "list", 9) and writer.origin(4) == ("val", None, 1)


def test_equal_blocks_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, [block("train", ["a/1.jpg", "b/2.jpg"], [0, 1])])
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files and all(
        (tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files
    )


@pytest.mark.parametrize("taken", [254, 255, 256, 65534, 65535])
def test_codes_never_wrap(tmp_path: Path, taken: int) -> None:
    """Two more sources and shards than `taken`: each keeps its own code, or is refused by name."""
    with CatalogueWriter(tmp_path / "c") as writer:
        writer._sources.codes.update({b"s%d" % i: i for i in range(taken)})
        writer.shards = [f"{i}.tar" for i in range(taken + 2)]
        shard = {"shard": np.array([taken + 1]), "offset": np.array([5 << 32]), "size": np.array([1 << 32])}
        writer.add(replace(block("train", ["a"], source="one more"), fixed=shard))
        if taken == 65535:
            with pytest.raises(DataError, match="there are 65537 different sources"):
                writer.add(block("train", ["b"], source="and one"))
            return
        writer.add(block("train", ["b"], source="and one"))
        writer.finish()
    c = Catalogue.open(tmp_path / "c")
    assert [c.sources[code] for code in c.source_codes_N] == ["one more", "and one"]
    there, nowhere = c.location(0), c.location(1)
    assert (there.shard, there.offset, there.size) == (f"{taken + 1}.tar", 5 << 32, 1 << 32)
    assert nowhere.shard is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label", 1 << 31),
        ("true_label", -(1 << 31) - 1),
        ("rank", 1 << 40),
        ("shard", 1 << 16),
        ("shard", -1),
    ],
)
def test_a_number_that_a_column_cannot_hold_is_refused(tmp_path: Path, name: str, value: int) -> None:
    one = block("train", ["a"])
    if name == "label":
        one.labels = np.array([value])
    else:
        one.fixed = {name: np.array([value])}
    with (
        pytest.raises(DataError, match=f"column {name} of the catalogue holds"),
        CatalogueWriter(tmp_path / "c") as writer,
    ):
        writer.add(one)


def test_the_code_for_no_shard_is_no_shard() -> None:
    for shards in (0, 255, 256, 65534, 65535, 65536):
        assert np.iinfo(shard_codes(shards)).max >= shards
    assert shard_codes(65534) == np.uint16 and shard_codes(65535) == np.uint32


def test_labels_beyond_sixteen_bits(tmp_path: Path) -> None:
    labels = [65535, 65536, 65537]
    c = write(tmp_path / "c", [block("train", ["a", "b", "c"], labels)])
    assert c.labels_N.tolist() == labels


def test_damage_is_told(tmp_path: Path) -> None:
    c = write(tmp_path / "c", [block("train", [f"{i}.jpg" for i in range(100)])])
    folder = c.folder
    with pytest.raises(ArtifactError, match="not there"):
        Catalogue.open(tmp_path)
    rows = folder / "catalogue.arrow"
    whole = rows.read_bytes()
    for part in (whole[:-1], whole[: len(whole) // 2], b"rubbish", b"", b"ARROW1\0\0" + bytes(100)):
        rows.write_bytes(part)
        with pytest.raises(ArtifactError, match="cut short"):
            Catalogue.open(folder)
    write_batch(rows, pa.RecordBatch.from_pydict({"label": [1]}))
    with pytest.raises(ArtifactError, match="damaged"):
        Catalogue.open(folder)
    rows.write_bytes(whole)
    (folder / "catalogue.json").write_text('{"version": 99}')
    with pytest.raises(ArtifactError, match="version"):
        Catalogue.open(folder)


def test_map_array_refuses_objects(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match="plain numbers"):
        map_array(tmp_path / "evil.npy")


def test_mapped_columns_cannot_be_written(tmp_path: Path) -> None:
    c = write(tmp_path / "c", [block("train", ["1.jpg"])])
    with pytest.raises(ValueError, match="read-only"):
        c.labels_N[0] = 1


@pytest.mark.slow
def test_the_benchmark_says_what_it_measured() -> None:
    script = Path(__file__).parents[1] / "benchmarks/catalogue.py"
    command = [sys.executable, str(script), "--rows", "20000", "--json", "--repeats", "2"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == 20000
    parts = {"index", "open", "epoch", "duplicates"}
    assert found["seconds"].keys() == parts | {"dynamics"} == found["mib"].keys()
    assert all(0 < found["seconds"][part] < 600 and 1 < found["mib"][part] < 4000 for part in parts)
    assert found["repeats"] == 2 and found["ratios"].keys() == {"index", "epoch"}
    for part, (low, high) in found["ratio_ranges"].items():
        assert 0 < low <= found["ratios"][part] <= high


def test_a_catalogue_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "catalogue.json").write_text('{"version": 2}')
    with pytest.raises(ArtifactError, match=r"but of 2: another smelt wrote it\. Run the recipe again"):
        Catalogue.open(tmp_path)
