"""The embedded data set: equal bytes from any workers, the layout, and that what is planted is there."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError

from smelt.data.synthetic import shapes
from smelt.data.synthetic.captions import HOSTILE, query_text
from smelt.data.synthetic.config import GROUP_SIZE, SourceSettings, SyntheticSettings
from smelt.data.synthetic.generate import generate, image_bytes, query_ranks
from smelt.data.synthetic.looks import class_table
from smelt.data.synthetic.plan import (
    ABSTRACT,
    BROKEN,
    CLEAN,
    EXACT,
    FLIP,
    LEAK,
    NEAR,
    NOISE,
    OOV,
    STRAY,
    Plan,
    class_sizes,
    make_plan,
)
from smelt.errors import DataError
from smelt.stages.config import Runtime
from smelt.stages.context import run as run_stage

COPYING = SourceSettings(flip=2, stray=1, oov=1, exact=0.1, near=0.1)
SMALL = SyntheticSettings(
    seed=3,
    classes=9,
    abstract_classes=1,
    train_images=420,
    val_images=45,
    test_images=30,
    min_side=24,
    max_side=40,
    google=COPYING,
    flickr=COPYING,
    leak=0.08,
    broken=0.04,
    hostile=0.2,
)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return text.split("\n")[:-1]


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "set"
    generate(root, SMALL)
    return root


@pytest.fixture(scope="module")
def truth(small: Path) -> dict[str, tuple[int, str]]:
    return {row["path"]: (int(row["true_label"]), row["noise"]) for row in table(small / "info/truth.csv")}


@pytest.fixture(scope="module")
def listed(small: Path) -> dict[str, int]:
    """Label of every training image as the lists give it."""
    names = [f"train_filelist_{source}.txt" for source in ("google", "flickr")]
    pairs = [line.split(" ") for name in names for line in lines(small / "info" / name)]
    return {path: int(label) for path, label in pairs}


@pytest.fixture(scope="module")
def copies(small: Path) -> dict[str, str]:
    return {row["path"]: row["copy_of"] for row in table(small / "info/copies.csv")}


def test_bytes_do_not_depend_on_workers(small: Path, tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []
    generate(tmp_path / "again", SMALL, workers=3, progress=lambda *count: counts.append(count))
    assert digests(tmp_path / "again") == digests(small)
    assert [total for _, total in counts] == [495] * len(counts) and counts[-1][0] == 495
    assert [done for done, _ in counts] == sorted(done for done, _ in counts)


def test_one_image_alone_is_the_image_of_the_set(small: Path) -> None:
    plan = make_plan(SMALL)
    for split, row in (("train", 400), ("val", 7), ("test", 29)):
        assert (small / plan.path(split, row)).read_bytes() == image_bytes(plan, SMALL, split, row)


def test_another_seed_gives_other_pictures_names_and_looks() -> None:
    first, second = make_plan(SMALL), make_plan(SMALL.model_copy(update={"seed": 4}))
    assert not set(first.names_N) & set(second.names_N)
    assert first.table.names != second.table.names
    assert image_bytes(first, SMALL, "val", 0) != image_bytes(
        second, SMALL.model_copy(update={"seed": 4}), "val", 0
    )


def test_lists_name_every_file_once(small: Path, listed: dict[str, int], truth: dict[str, Any]) -> None:
    on_disk = {str(path.relative_to(small)) for path in small.rglob("*.jpg")}
    val = [line.split(" ")[0] for line in lines(small / "info/val_filelist.txt")]
    test = lines(small / "info/test_filelist.txt")
    held = [f"val_images_resized/{name}" for name in val] + [f"test_images_resized/{name}" for name in test]
    assert len(listed) == 420 and val == [f"val{i:06d}.jpg" for i in range(1, 46)] and len(test) == 30
    assert set(listed) | set(held) == on_disk == set(truth)
    assert [line.split(" ")[0] for line in lines(small / "info/test_labels.txt")] == test


def test_labels_count_from_0_and_every_class_is_there(small: Path, listed: dict[str, int]) -> None:
    assert set(listed.values()) == set(range(9))
    for name in ("val_filelist.txt", "test_labels.txt"):
        assert {int(line.split(" ")[1]) for line in lines(small / "info" / name)} == set(range(9))
    synsets = [line.split(" ", 1) for line in lines(small / "info/synsets.txt")]
    assert len(synsets) == 9 and all(len(n) == 9 and n[0] == "n" and n[1:].isdigit() for n, _ in synsets)


def test_folders_belong_to_one_class_by_the_map_of_queries(small: Path, listed: dict[str, int]) -> None:
    queries = dict(line.split(" ", 1) for line in lines(small / "info/queries.txt"))
    synset = dict(map(int, line.split(" ")) for line in lines(small / "info/queries_synsets_map.txt"))
    assert list(queries) == [str(i) for i in range(1, len(queries) + 1)] and len(queries) > 9
    assert all(synset[int(path.split("/")[1].removeprefix("q"))] == label for path, label in listed.items())


@pytest.mark.parametrize("source", ["google", "flickr"])
def test_meta_lists_join_the_json(small: Path, source: str) -> None:
    paths = [line.split(" ")[0] for line in lines(small / f"info/train_filelist_{source}.txt")]
    metas = [line.split(" ") for line in lines(small / f"info/train_meta_list_{source}.txt")]
    assert len(paths) == len(metas) > 0
    arrays = {name: json.loads((small / name).read_text(encoding="utf-8")) for name, _ in metas}
    kinds: set[Any] = set()
    for path, (name, row) in zip(paths, metas, strict=True):
        item = arrays[name][int(row) - 1]  # counts from 1
        assert Path(path).stem == item["id"] and Path(path).parent.name == Path(name).stem
        kinds |= set(item) | {type(item.get("tags"))}
        if source == "google":
            assert item["rank"] == row and "tags" not in item
        else:
            assert item["id"].isdigit() and "rank" not in item
    assert sum(map(len, arrays.values())) == len(paths)
    wanted = {"title", "description"} | ({"url", "rank"} if source == "google" else {"tags", list, str})
    assert wanted <= kinds
    assert any("title" not in item for array in arrays.values() for item in array)


def test_hostile_texts_are_there_and_survive(small: Path) -> None:
    items = [
        item for path in small.glob("*/q*.json") for item in json.loads(path.read_text(encoding="utf-8"))
    ]
    text = "\n".join(item.get(key, "") for item in items for key in ("title", "description"))
    assert sum(hostile in text for hostile in HOSTILE) >= 8
    assert "\0" not in text


def test_truth_of_pictures_that_copy_nothing(
    truth: dict[str, tuple[int, str]], listed: dict[str, int]
) -> None:
    for path, label in listed.items():
        shown, noise = truth[path]
        same_group = shown // GROUP_SIZE == label // GROUP_SIZE
        expected = {
            "": shown == label < 8, "leak": shown == label, "oov": shown == -1, "broken": shown == -2,
            "abstract": shown == label == 8, "flip": shown != label and same_group and label < 8,
            "stray": 0 <= shown < 8 and label < 8 and not same_group,
        }  # fmt: skip
        assert expected.get(noise, True), (path, label, shown, noise)
    assert {noise for _, noise in truth.values()} == set(NOISE)


def pixels(path: Path) -> np.ndarray[Any, Any]:
    image = Image.open(path).convert("L").resize((16, 16), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float64)


def test_copies_are_what_they_are_said_to_be(
    small: Path, truth: dict[str, tuple[int, str]], listed: dict[str, int], copies: dict[str, str]
) -> None:
    crossing = 0
    likeness: dict[bool, list[float]] = {True: [], False: []}
    strangers = sorted(copies.values())
    for (path, original), stranger in zip(copies.items(), strangers, strict=True):
        shown, noise = truth[path]
        equal = (small / path).read_bytes() == (small / original).read_bytes()
        assert noise in ("exact", "near", "leak")
        if noise == "leak":
            assert original.startswith(("val_", "test_")) and shown == listed[path] == truth[original][0]
        else:
            assert equal == (noise == "exact")
            assert original in listed and truth[original][1] in ("", "flip", "stray", "oov", "abstract")
            assert shown == truth[original][0]
            crossing += listed[path] != listed[original]
        for other, same in ((original, True), (stranger, False)):
            if other != original or same:
                likeness[same].append(float(np.abs(pixels(small / path) - pixels(small / other)).mean()))
    counted = {path for path, (_, noise) in truth.items() if noise in ("exact", "near", "leak")}
    assert counted == set(copies) and crossing > 5
    assert np.quantile(likeness[True], 0.95) < np.quantile(likeness[False], 0.1)


def test_some_base_names_collide_over_queries(copies: dict[str, str]) -> None:
    assert any(
        Path(path).name == Path(original).name and path != original for path, original in copies.items()
    )


def test_broken_files_do_not_decode_and_all_others_do(small: Path, truth: dict[str, tuple[int, str]]) -> None:
    starts = set()
    for path, (_, noise) in truth.items():
        content = (small / path).read_bytes()
        if noise == "broken":
            starts.add(content[:2])
            with pytest.raises((UnidentifiedImageError, OSError)):
                Image.open(BytesIO(content)).load()
        else:
            image = Image.open(BytesIO(content))
            image.load()
            assert image.format == "JPEG" and image.mode == "RGB" and min(image.size) >= 8
    assert starts == {b"", b"<!", b"\xff\xd8"}


def big(**changes: Any) -> tuple[SyntheticSettings, Plan]:
    sizes = {"train_images": 120_000, "val_images": 6000, "test_images": 6000}
    settings = SyntheticSettings(classes=62, abstract_classes=2, **sizes, **changes)
    return settings, make_plan(settings)


def test_rates_of_noise_are_as_set() -> None:
    settings, plan = big(seed=5, wrong=0.3)
    labels, shown, noise = plan.labels["train"], plan.truth["train"], plan.noise["train"]
    concrete = labels < 60
    planted = np.isin(noise, (FLIP, STRAY, OOV))
    fresh = concrete & np.isin(noise, (CLEAN, FLIP, STRAY, OOV))
    # classes differ by ±40 %, so the mean over 60 of them wanders by about 0.3·0.23/√60
    assert planted[fresh].mean() == pytest.approx(0.3, abs=0.03)
    by_class = np.array([planted[fresh & (labels == label)].mean() for label in range(60)])
    assert by_class.std() > 0.04
    for code, mix in enumerate((settings.google, settings.flickr)):
        here = plan.source_N == code
        assert here.mean() == pytest.approx(0.5, abs=0.01)
        shares = np.array([(noise[here & concrete] == kind).sum() for kind in (FLIP, STRAY, OOV)], float)
        np.testing.assert_allclose(shares / shares.sum(), [mix.flip, mix.stray, mix.oov], atol=0.02)
        for kind, rate in ((EXACT, mix.exact), (NEAR, mix.near), (LEAK, 0.01), (BROKEN, 0.004)):
            assert (noise[here] == kind).mean() == pytest.approx(rate, abs=0.003)
    made = plan.copied_row_N >= 0
    among = made & (plan.copied_split_N == 0) & concrete
    assert (labels[among] != labels[plan.copied_row_N[among]]).mean() == pytest.approx(
        settings.across, abs=0.03
    )
    assert (noise[labels >= 60] == ABSTRACT).mean() > 0.8
    assert set(np.unique(shown[noise == FLIP] - labels[noise == FLIP])) == {-3, -2, -1, 1, 2, 3}


def test_plan_is_in_the_order_of_the_lists_and_names_are_unique() -> None:
    _, plan = big(seed=6)
    key = plan.source_N * 10**6 + plan.query_N
    assert (np.diff(key) >= 0).all()
    assert (plan.queries[plan.query_N] == plan.labels["train"]).all()
    assert len(np.unique(np.rec.fromarrays([key, plan.names_N]))) == key.size
    google = plan.names_N[plan.source_N == 0]
    assert all(len(name) == 14 for name in google[:1000]) and any(name[0] in "-_" for name in google)
    ranks = query_ranks(plan)
    assert (np.bincount(key[ranks == 1] % 10**6) <= 2).all() and ranks.max() == np.unique(
        key, return_counts=True
    )[1].max()


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    classes=st.integers(1, 300),
    extra=st.integers(0, 5000),
    imbalance=st.floats(1, 100),
    seed=st.integers(0, 99),
)
def test_class_sizes(classes: int, extra: int, imbalance: float, seed: int) -> None:
    sizes = class_sizes(classes + extra, classes, imbalance, np.random.default_rng(seed))
    assert sizes.sum() == classes + extra and sizes.min() >= 1
    assert sizes.max() <= (sizes.min() + 1) * imbalance + 1  # within the rounding


@hypothesis_settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.integers(0, 3), st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_any_settings_make_a_plan_that_holds(
    classes: int, abstract: int, seed: int, wrong: float, across: float
) -> None:
    abstract = min(abstract, classes - 2)
    settings = SyntheticSettings(
        seed=seed, classes=classes, abstract_classes=abstract, train_images=classes + 60, val_images=0,
        test_images=classes, wrong=wrong, across=across, leak=0.1, google=COPYING, flickr=COPYING,
    )  # fmt: skip
    plan = make_plan(settings)
    labels, noise, shown = plan.labels["train"], plan.noise["train"], plan.truth["train"]
    assert len(class_table(settings).names) == len(set(plan.table.names)) == classes
    assert ((shown >= -2) & (shown < classes)).all() and set(labels) == set(range(classes))
    copying = np.isin(noise, (EXACT, NEAR, LEAK))
    assert ((plan.copied_row_N >= 0) == copying).all()
    assert (plan.copied_split_N[noise == LEAK] == 2).all()  # there is no validation to leak into
    assert not copying[plan.copied_row_N[plan.copied_split_N == 0]].any()
    assert (shown[np.isin(noise, (FLIP, STRAY))] != labels[np.isin(noise, (FLIP, STRAY))]).all()


def test_groups_share_two_attributes_and_no_class_repeats() -> None:
    settings = SyntheticSettings(
        classes=5000, abstract_classes=8, train_images=40_000, val_images=0, test_images=0
    )
    classes = class_table(settings)
    assert len(set(classes.names)) == classes.num_classes == 5000 and len(set(classes.looks)) == 4992
    for first in range(0, 4992, GROUP_SIZE):
        members = [classes.looks[label] for label in range(first, first + GROUP_SIZE)]
        families = {(look.shape, look.texture, look.colour) for look in members}
        variants = [
            {getattr(look, name) for look in members}
            for name in ("shape_variant", "texture_variant", "accent")
        ]
        assert len(families) == 1 and sorted(map(len, variants)) == [1, 1, 4]
    plan = make_plan(settings)
    assert np.bincount(plan.labels["train"], minlength=5000).min() >= 1
    assert len({query_text(plan, query) for query in range(plan.queries.size)}) == plan.queries.size
    assert (
        Image.open(BytesIO(image_bytes(plan, settings, "train", 39_999))).format == "JPEG"
        or plan.noise["train"][-1] == BROKEN
    )


@pytest.mark.parametrize("family", range(12))
def test_shapes_and_textures_are_sane(family: int) -> None:
    grid = np.meshgrid(
        np.linspace(-1.5, 1.5, 61, dtype=np.float32), np.linspace(-1.5, 1.5, 61, dtype=np.float32)
    )
    masks = []
    for variant in range(4):
        inside = shapes.shape(family, variant, *grid)
        share = shapes.texture(family, variant, *grid, np.random.default_rng(0))
        assert inside.dtype == share.dtype == np.float32 and inside.shape == share.shape == (61, 61)
        assert np.isfinite(inside).all() and 0 <= share.min() < 0.2 and 0.8 < share.max() <= 1
        mask = inside < 0
        assert 0.08 < mask.mean() < 0.6  # of the picture, of which the unit circle has a third
        assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any()
        masks.append(mask)
    overlap = [(a & b).sum() / (a | b).sum() for i, a in enumerate(masks) for b in masks[:i]]
    assert max(overlap) < 0.97, "two variants of a shape can be told apart"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 5001}, "less than or equal to 5000"),
        ({"min_side": 200}, "min_side is 200, max_side is 128: the least side is above"),
        ({"abstract_classes": 24}, "abstract_classes is 24, classes is 25: that leaves fewer than 2"),
        ({"val_images": 3}, "val_images is 3, classes is 25: that is less than one image"),
        ({"google": {"flip": 0, "stray": 0, "oov": 0}}, "must be above 0"),
        ({"colour": 1}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_right(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SyntheticSettings.model_validate({"classes": 25, **changes})


def test_a_folder_in_use_is_refused(small: Path) -> None:
    before = digests(small)
    with pytest.raises(DataError, match="is there already"):
        generate(small, SMALL)
    assert digests(small) == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the data set into"):
        generate(tmp_path / "file", SMALL)


def test_stage_clears_what_a_killed_attempt_left(small: Path, tmp_path: Path) -> None:
    (tmp_path / "google_images_resized/q00001").mkdir(parents=True)
    (tmp_path / "google_images_resized/q00001/half.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "scratch").mkdir()
    events: list[dict[str, Any]] = []
    context = {
        "inputs": {},
        "out": tmp_path,
        "scratch": tmp_path / "scratch",
        "runtime": Runtime(workers=2),
    }
    emit = lambda event, **fields: events.append({"event": event, **fields})  # noqa: E731
    run_stage("synthesise", SMALL.model_dump(), emit=emit, **context)
    assert digests(tmp_path) == digests(small)
    assert events[-1] == {"event": "progress", "done": 495, "total": 495, "unit": "images"}


ENDLESS = """
import pathlib, sys
from smelt.data.synthetic.config import SyntheticSettings
from smelt.data.synthetic.generate import generate
if __name__ == "__main__":
    settings = SyntheticSettings(train_images=20_000)
    show = lambda *count: print(*count, flush=True)
    generate(pathlib.Path(sys.argv[1]), settings, workers=2, progress=show)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found through /proc")
@pytest.mark.slow
def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    command = [sys.executable, str(tmp_path / "endless.py"), str(tmp_path / "set")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline().split()[0] == b"25"
        children = [
            int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        ]
        assert len(children) >= 2 and all(map(alive, children))
        parent.kill()
    for _ in range(1200):  # a starved worker still has to draw its 25 images
        if not any(map(alive, children)):
            break
        time.sleep(0.1)
    assert not any(map(alive, children))


def test_settings_import_nothing_heavy() -> None:
    code = "import sys, smelt.data.synthetic.config; print({'torch', 'pyarrow', 'PIL'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_index_reads_it_back(
    small: Path, tmp_path: Path, listed: dict[str, int], truth: dict[str, Any]
) -> None:
    from smelt.artifacts.catalogue import Catalogue
    from smelt.data.formats.config import FormatSettings
    from smelt.stages.index import index

    index(FormatSettings(format="webvision"), small, tmp_path)
    catalogue = Catalogue.open(tmp_path / "catalogue")
    rows = catalogue.rows("train")
    paths = [catalogue.path(int(row)) for row in rows]
    assert dict(zip(paths, catalogue.labels_N[rows].tolist(), strict=True)) == listed
    true_label = catalogue.column("true_label")
    assert true_label is not None and catalogue.num_rows == len(truth)
    everything = [catalogue.path(row) for row in range(catalogue.num_rows)]
    kinds = catalogue.strings("noise", np.arange(catalogue.num_rows))
    assert dict(zip(everything, zip(true_label.tolist(), kinds, strict=True), strict=True)) == truth
    assert catalogue.classes[0].endswith(make_plan(SMALL).table.names[0])
    titles = catalogue.strings("title", rows)
    assert sum(map(bool, titles)) > 0.85 * len(rows)
    assert sum(any(hostile in title for hostile in HOSTILE) for title in titles) > 0.1 * len(rows)
