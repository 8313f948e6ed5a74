"""The report: one page that reads files only, asks the network for nothing and shows crawled text as text."""

from __future__ import annotations

import base64
import errno
import html
import html.parser
import io
import json
import math
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.data.images.decode import decode
from smelt.errors import ArtifactError, StorageError
from smelt.flowchart.work import Work
from smelt.report import charts, page, sections_fuse, sections_mine
from smelt.report.findings import Fused, Ladder
from smelt.report.gallery import thumbnail


class Page(html.parser.HTMLParser):
    """Collects tags, and text by tag."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.slow
def test_the_page_holds_every_section_and_no_way_out(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    found = Page(text)
    sections = [attrs["id"] for tag, attrs in found.tags if tag == "section"]
    assert sections == ["ladder", "fusion", "noise", "suspicious", "difficulty", "copies", "training", "data",
                        "flowchart", "recipe"]  # fmt: skip
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "iframe", "object", "embed", "link", "form", "base"}
    for tag, attrs in found.tags:
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "srcset", "action") and value is not None:
                assert value.startswith(("#", "data:image/jpeg;base64,")), value
    policy = next(a["content"] for t, a in found.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None and "default-src 'none'" in policy
    assert "url(" not in text.split("</style>")[0]


@pytest.mark.slow
def test_hostile_titles_are_shown_as_text(finished: Path) -> None:
    run = Work(finished)
    assert run.catalogue is not None
    titles = run.catalogue.strings("title", range(run.catalogue.num_rows))
    hostile = [title for title in titles if "<" in title]
    assert hostile, "the data set should hold titles with markup"
    found = Page((finished / "report.html").read_text())
    shown = {attrs.get("title") for tag, attrs in found.tags if tag == "p"}
    assert shown & set(hostile), "none of them was shown; the test would prove nothing"


@pytest.mark.slow
def test_a_browser_runs_nothing_and_asks_for_nothing(finished: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here")
    picture = tmp_path / "page.png"
    log = tmp_path / "net.json"
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", "--window-size=1300,2000",
         f"--screenshot={picture}", (finished / "report.html").as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert picture.stat().st_size > 20_000
    # requests that the browser makes for itself have no origin; a page's have "null" or "file://"
    starts = re.findall(r'"initiator":"([^"]*)"[^}]*"url":"(https?:[^"]*)"', log.read_text(errors="replace"))
    assert not [url for initiator, url in starts if initiator != "not an origin"], starts


@pytest.mark.slow
def test_a_run_that_is_not_finished_has_a_page_too(finished: Path, tmp_path: Path) -> None:
    work = tmp_path / "part"
    shutil.copytree(finished, work)
    for stage in ("evaluate", "fuse", "submit", "predict", "dedupe"):
        for artefact in (work / "artifacts").glob(f"{stage}-*"):
            shutil.rmtree(artefact)
    text = page.render(Work(work))
    assert "Not finished" in text and 'id="noise"' in text and 'id="ladder"' not in text
    shutil.rmtree(work / "artifacts")
    assert "Not finished" in page.render(Work(work))


@pytest.mark.slow
def test_a_data_set_without_labels_to_measure_by_has_a_page_too(finished: Path, tmp_path: Path) -> None:
    work = tmp_path / "blind"
    shutil.copytree(finished, work)
    (path,) = (work / "artifacts").glob("evaluate-*/ladder.json")
    whole = json.loads(path.read_text())
    for splits in (("test",), ("test", "val")):
        for rung in whole["rungs"]:
            rung.update({split: {} for split in splits}, spread={})
        path.write_text(json.dumps(whole))
        text = page.render(Work(work))
        assert ("validation top-1 in the end" in text) == (splits == ("test",))
        assert ("no accuracy could be measured" in text) == (len(splits) == 2)


@pytest.mark.slow
def test_the_chosen_step_is_the_one_that_the_page_begins_with(finished: Path) -> None:
    measured = json.loads(next((finished / "artifacts").glob("evaluate-*/ladder.json")).read_text())
    (chosen,) = [rung for rung in measured["rungs"] if rung.get("chosen")]
    text = (finished / "report.html").read_text()
    assert f"to {100 * chosen['test']['top1']:.1f} % ({chosen['name']})" in html.unescape(text)


@pytest.mark.slow
def test_thumbnails_do_not_leave_the_root(finished: Path, tmp_path: Path) -> None:
    run = Work(finished)
    assert run.catalogue is not None and run.image_root is not None
    row = int(run.catalogue.rows("val")[0])
    there = thumbnail(run.catalogue, run.image_root, row)
    assert there is not None and there.startswith("data:image/jpeg;base64,")
    assert thumbnail(run.catalogue, tmp_path, row) is None
    target = tmp_path / run.catalogue.path(row)
    target.parent.mkdir(parents=True)
    target.symlink_to(run.image_root / run.catalogue.path(row))
    assert thumbnail(run.catalogue, tmp_path, row) is None


def drawing(mode: str = "RGB") -> Image.Image:
    """Four quarters of different colours, so that turning shows; the upper left one see-through."""
    pixels = np.zeros((120, 200, 4), np.uint8)
    pixels[:60, :100], pixels[:60, 100:] = (0, 0, 0, 0), (200, 30, 30, 255)
    pixels[60:, :100], pixels[60:, 100:] = (30, 160, 30, 255), (40, 40, 220, 255)
    return Image.fromarray(pixels).convert(mode)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


IMAGES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{f"turned {n}": ("RGB", "JPEG", {"exif": exif(n), "quality": 95}) for n in range(1, 9)},
    "cmyk": ("CMYK", "JPEG", {}), "grey": ("L", "JPEG", {}), "avif": ("RGB", "AVIF", {}),
    "alpha": ("RGBA", "PNG", {}), "grey with alpha": ("LA", "PNG", {}), "gif": ("P", "GIF", {}),
    "webp": ("RGBA", "WEBP", {"lossless": True}), "bmp": ("RGB", "BMP", {}),
    "sixteen bits": ("I;16", "PNG", {}),
}  # fmt: skip


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Catalogue, Path]:
    """A catalogue of IMAGES, a file that is no image and one that is not there, and their folder."""
    root = tmp_path / "root"
    root.mkdir()
    for name, (mode, format, options) in IMAGES.items():
        image = drawing("L") if mode == "I;16" else drawing(mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        image.save(root / name, format, **options)
    (root / "html").write_bytes(b"<html>")
    names = [*IMAGES, "html", "absent"]
    with CatalogueWriter(tmp_path / "catalogue") as writer:
        paths = Paths.of(name.encode() for name in names)
        writer.add(Block("train", "", paths, np.zeros(len(names), np.int32)))
        writer.classes = ["one"]
        return Catalogue.open(writer.finish()), root


def test_the_gallery_shows_what_a_model_is_shown(pictures: tuple[Catalogue, Path]) -> None:
    catalogue, root = pictures
    for row, name in enumerate(IMAGES):
        url = thumbnail(catalogue, root, row)
        assert url is not None, name
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
        seen = decode((root / name).read_bytes())
        small = np.asarray(Image.fromarray(seen).resize(shown.shape[1::-1], Image.Resampling.BICUBIC))
        ratio = shown.shape[0] / shown.shape[1]
        assert ratio == pytest.approx(seen.shape[0] / seen.shape[1], rel=0.02), name
        assert np.abs(small.astype(int) - shown).mean() < 6, name
    assert [thumbnail(catalogue, root, len(IMAGES) + i) for i in (0, 1)] == [None, None]
    assert thumbnail(catalogue, None, 0) is None and thumbnail(catalogue, root / "gone", 0) is None


def test_a_disk_that_fails_is_not_shown_as_no_image(
    pictures: tuple[Catalogue, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, root = pictures
    assert thumbnail(catalogue, root, 0) is not None
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def failing(path: Any, *rest: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(StorageError, match=r"turned 1.*EIO"):
        thumbnail(catalogue, root, 0)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a work folder"):
        page.write(tmp_path, tmp_path / "x.html")


def test_a_fusion_with_weights_of_each_class_says_so() -> None:
    result = {"name": "m/v", "weight": 0.7, "accuracy": {"top1": 0.5}, "without": 0.01, "set_aside": None}
    stacked = {"method": "stacking", "biases": [0.1, -2.5, 0.0, 1.25], "class_weights": [[1.0] * 4]}
    plain = {"method": "log_pool", "biases": None, "class_weights": None}
    found: dict[str, Any] = {"metric": "top1", "results": [result], "classes": ["ant", "<b>", "cow", "dog"],
                             "methods": [plain, stacked], "chosen": "stacking"}  # fmt: skip
    words, table = sections_fuse._results(Fused(found), ["m v"])
    assert "Biases, in logits: dog +1.25, ant +0.10, <b> -2.50." in words["text"]
    assert "mean weight" in table["columns"]
    (table,) = sections_fuse._results(Fused({**found, "chosen": "log_pool"}), ["m v"])
    assert "weight" in table["columns"] and "mean weight" not in table["columns"]
    words, _ = sections_fuse._results(Fused({**found, "classes": None}), ["m v"])
    assert "3 +1.25" in words["text"]


def test_charts_escape_names_and_survive_odd_values() -> None:
    evil = "</svg><script>alert(1)</script>"
    pictures: list[Markup] = [
        charts.lines({evil: [(0, 1), (1, math.nan), (2, 3)]}, evil, "y"),
        charts.lines({}, "x", "y"),
        charts.bars([(evil, 0.5, None), ("b", 0.5, (0.4, 0.6))], best=0),
        charts.gains([(evil, 0.0, (0.0, 0.0))]),
        charts.scatter([(1.0, 0.5, evil)] * 3, "x", "y", log_x=True),
        charts.histogram([0, 1, 2], {evil: [0, 0]}, "x", "y", {evil: 5.0}),
        charts.heatmap([evil, "b"], [[1.0, 0.2], [0.2, 1.0]], "t"),
    ]
    for picture in pictures:
        assert "<script" not in picture and picture.count("<svg") == picture.count("</svg>") == 1
        assert "nan" not in picture.lower().replace("nan-", "")


def test_ticks_are_round_and_within() -> None:
    for low, high in ((0, 1), (-3.2, 7.7), (0.612, 0.655), (0, 1e6), (5, 5)):
        found = charts.ticks(low, high)
        assert len(found) <= 7 and all(low - 1e-6 <= tick <= max(high, low + 1) + 1e-6 for tick in found)


@pytest.mark.slow
def test_the_ladder_in_the_page_is_the_one_measured(finished: Path) -> None:
    measured = json.loads(next((finished / "artifacts").glob("evaluate-*/ladder.json")).read_text())
    words = " ".join(Page((finished / "report.html").read_text()).words)
    for rung in measured["rungs"]:
        assert rung["name"] in words and f"{100 * rung['test']['top1']:.2f}" in words


# What mining says


def words_of(blocks: list[dict[str, Any]]) -> str:
    return json.dumps(blocks, ensure_ascii=False)


def test_where_training_was_too_short_the_page_says_so_and_names_no_class() -> None:
    words = "not enough training to tell: anything from 0.13 to 0.57 is possible"
    why = "not enough training to tell: in 21 of 25 classes most images have a negative AUM"
    diagnosis = {"noise": {"words": words, "low": 0.13, "high": 0.57}, "abstract": [], "abstract_why": why}
    (said,) = sections_mine._estimate(diagnosis)
    assert said["text"] == f"How many labels are wrong: {words}."
    (said,) = sections_mine._standing_out(diagnosis, [])
    assert said["text"] == f"Classes that no model learnt: {why}."
    (said,) = sections_mine._standing_out({"abstract": [], "abstract_why": ""}, [])
    assert "none that stands out" in said["text"]


def test_a_class_is_shown_with_its_interval_and_what_validation_says() -> None:
    row = {"number": 3, "class": "luck", "images": 90, "negative": 0.9, "low": 0.82, "high": 0.947,
           "comparable": 0.2, "best_median_aum": -1.0}  # fmt: skip
    diagnosis = {"abstract": [row, {**row, "number": 4, "class": "fate"}], "abstract_why": ""}
    judged = {
        "number": 3,
        "images": 20,
        "top1": 0.05,
        "top1_interval": [0.009, 0.236],
        "usual": 0.8,
        "learnt": "no",
    }
    (shown,) = sections_mine._standing_out(diagnosis, [judged])
    assert shown["rows"] == [
        ["luck", "90", "90.0 (82.0–94.7)", "20.0", "20", "5.0 (0.9–23.6)", "80.0", "no"],
        ["fate", "90", "90.0 (82.0–94.7)", "20.0", "–", "–", "–", "–"],
    ]
    assert len(shown["columns"]) == 8


def test_shares_of_negative_margins_are_not_called_noise() -> None:
    row = {"images": 50, "negative": 0.8, "low": 0.67, "high": 0.888, "median_aum": None}
    blocks = sections_mine._diagnosis(
        {"sources": [{"source": "web", **row}], "classes": [{"class": "ant", **row}]}
    )
    assert [block["rows"] for block in blocks] == [
        [["web", "50", "80.0 (67.0–88.8)", "–"]],
        [["ant", "50", "80.0 (67.0–88.8)", "–"]],
    ]
    assert "noise" not in words_of(blocks) and "upper bound" not in words_of(blocks)


def test_every_figure_of_mining_has_its_interval_and_its_number() -> None:
    measured: dict[str, Any] = {
        "round": "raw", "rows": 1000, "dropped": 200,
        "precision": 0.5, "precision_interval": [0.43, 0.57],
        "recall": 0.25, "recall_interval": [0.21, 0.3],
        "noise_left": None, "noise_left_interval": [None, None],
        "scores": {"aum": {"auroc": 0.75, "precision_at_k": 0.5}},
        "intervals": {
            "aum": {"auroc": [0.7, 0.8], "precision_at_k": [0.4, 0.6], "images": 1000, "wrong": 400}
        },
    }  # fmt: skip
    ladder = Ladder.of({"selections": [measured]})
    dropped, found = ladder.dropped(), ladder.scores()
    assert dropped is not None and found is not None
    assert dropped.rows == [["raw", "1\u202f000", "200", "50.0 (43.0–57.0)", "25.0 (21.0–30.0)", "–"]]
    assert found.rows == [["raw", "aum", "0.750 (0.700–0.800)", "0.500 (0.400–0.600)"]]
    assert "raw 1\u202f000, 400 of them wrong" in found.note
    measured.pop("intervals")  # as written by an earlier version
    found = ladder.scores()
    assert found is not None and found.rows == [["raw", "aum", "0.750", "0.500"]]


@pytest.mark.slow
def test_a_run_says_how_much_of_its_labels_is_wrong_or_that_it_cannot_tell(finished: Path) -> None:
    diagnosis = json.loads(next((finished / "artifacts").glob("rank-*/diagnosis.json")).read_text())
    assert diagnosis["estimated_noise"] is None  # training alone does not tell
    words = " ".join(Page((finished / "report.html").read_text()).words)
    assert "How many labels are wrong: cannot be told without features" in words
    assert "Classes that no model learnt: " in words
