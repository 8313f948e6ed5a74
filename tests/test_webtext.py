"""Text from crawled JSON: joined where it can be read, empty and counted where not; and packed WebVision."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from formats_toy import PIXEL, catalogue_of, put, read_back, refused, rows_of, tar, webvision
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.tree.fingerprint import fingerprint
from smelt.data.formats.tree.layout import recognise


def said(out: Path) -> str:
    return "\n".join(json.loads((out / "index.json").read_text())["warnings"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[" * 1_000_000, "nested too deep"), (b'[{"a": ' * 100_000, "nested too deep"), (b"{", "no JSON"),
        (b"[" + b"9" * 5000 + b"]", "5,000 digits"), (b"", "no JSON"), (b"\xff\xfe\xff", ""),
        (b'"' + b"x" * (17 << 20) + b'"', "at most 16,777,216"), (b'{"a": 1}', "an object, where a list"),
        (b"5", "the number 5, where a list"), (b'[{"title": "t"}] more', "more text"),
    ],
)  # fmt: skip
def test_json_that_cannot_be_read_leaves_the_text_empty(tmp_path: Path, text: bytes, why: str) -> None:
    root, _ = webvision(tmp_path / "data", 2)
    put(root, {"google/q00001.json": text, "google/q00002.json": text})
    start = time.process_time()
    c = catalogue_of(root, tmp_path / "out")
    assert time.process_time() - start < 5
    assert c.strings("title", range(4)) == ["", "", "", "5"] and c.num_rows == 7
    warning = said(tmp_path / "out")
    assert "2 JSON file(s) of google cannot be read" in warning and why in warning
    assert ("q00001.json" in warning) != ("q00002.json" in warning), "one is named"


def test_values_of_every_type_do_no_harm(tmp_path: Path) -> None:
    odd: list[Any] = [None, 5, "x", [], [[]], {"title": {"a": [1]}, "tags": {"b": 2}, "id": ["-aB_1"]},
                      {"title": [1, [2], None, {"a": 1}, "b"], "rank": [1], "id": 7},
                      {"title": "\ud800", "rank": "9" * 5000, "tags": [None]},
                      {"rank": 1e400}, {"rank": True}]  # fmt: skip
    for number, value in enumerate(odd):
        root, _ = webvision(tmp_path / str(number), 2)
        put(root, {"google/q00001.json": json.dumps([value, value])})
        if number % 2:
            (root / "info/train_meta_list_google.txt").unlink()
        c = catalogue_of(root, tmp_path / f"out{number}")
        assert c.num_rows == 7, value
    c = catalogue_of(tmp_path / "6", tmp_path / "again")
    assert c.strings("title", [0]) == ["1 b"]


def test_numbers_of_queries_beyond_measure_are_none(tmp_path: Path) -> None:
    root, _ = webvision(tmp_path / "data", 2)
    put(root, {"info/queries_google.txt": "9" * 5000 + " many\n² two\n1 tench\n"})
    long = "google_images_resized/q" + "1" * 200
    with open(root / "info/train_filelist_google.txt", "a") as file:
        file.write(f"{long}/x.jpg 0\n")
    c = catalogue_of(root, tmp_path / "out", check_files=False)
    assert c.strings("query", range(4)) == ["tench", "", "tench", ""]


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz"])
def test_webvision_from_packed_archives(tmp_path: Path, suffix: str) -> None:
    root, pictures = webvision(tmp_path / "data", 1, images=False)
    plain = catalogue_of(put(root, dict(pictures)), tmp_path / "plain")
    for name in pictures:
        (root / name).unlink()
    lists = {f"info/{path.name}": path.read_bytes() for path in (root / "info").iterdir()}
    for path in (root / "info").iterdir():
        path.unlink()
    for name, members in (("info", lists), ("google", {n: d for n, d in pictures.items() if "google" in n}),
                          ("rest", {n: d for n, d in pictures.items() if "google" not in n})):  # fmt: skip
        whole = tar(tmp_path / "t.tar", members).read_bytes()
        put(root, {f"{name}.{suffix}": gzip.compress(whole) if name != "rest" else whole})
    assert recognise(root).format == "webvision"
    c = catalogue_of(root, tmp_path / "out")
    assert [rows_of(c, split) for split in c.splits] == [rows_of(plain, split) for split in plain.splits]
    assert c.strings("title", range(7)) == plain.strings("title", range(7)) and not len(c.missing)
    inside = 0
    for row in range(7):
        place = c.location(row)
        inside += place.inside
        assert read_back(c, c.folder if place.inside else root, row) == pictures[c.path(row)]
    assert inside == 3, "those of google; the rest is no packed archive, whatever it is called"
    before = fingerprint(FormatSettings(format="webvision"), root)
    put(root, {f"google.{suffix}": b"\x1f\x8b" + bytes(100)})
    assert fingerprint(FormatSettings(format="webvision"), root) != before
    assert f"google.{suffix} is damaged" in refused(root, tmp_path / "bad")


def test_animal10n_without_what_is_hidden_or_a_folder(tmp_path: Path) -> None:
    files = {
        f"{split}/{y}_{i}.jpg": PIXEL for split in ("training", "testing") for y in range(10) for i in "ab"
    }
    root = put(tmp_path / "data", {**files, "training/._0_a.jpg": b"x", "training/0_folder.jpg/x.txt": b"x"})
    c = catalogue_of(root, tmp_path / "out", format="animal10n", val_fraction=0.0)
    assert c.num_rows == 40 and all("folder" not in c.path(row) for row in range(40))
    os.rename(root / "testing", root / "elsewhere")
    text = refused(root, tmp_path / "bad", format="animal10n")
    assert "testing is no folder" in text and "data.folders.test=" in text


@pytest.mark.parametrize("form", ["food101n", "clothing1m"])
def test_a_list_that_leads_out_of_the_folder_is_refused_before_it_is_followed(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "secret"
    put(outside, {"x/1.jpg": b"x"})
    listed: list[bytes] = []
    original = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(os.fsencode(path)) or original(path))
    if form == "food101n":
        root = put(
            tmp_path / "data", {"meta/imagelist.tsv": "class_name/key\n../secret.jpg\n../../secret/1.jpg\n"}
        )
    else:
        path = "../secret/x/1.jpg"
        lists = {f"{name}_key_list.txt": f"{path}\n" for name in ("noisy_train", "clean_val", "clean_test")}
        labels = {f"{name}_label_kv.txt": f"{path} 0\n" for name in ("noisy", "clean")}
        root = put(tmp_path / "data", {**lists, **labels})
    assert "leads out" in refused(root, tmp_path / "out", format=form)
    assert not any(b"secret" in path for path in listed)
