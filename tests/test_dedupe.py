"""Stage `dedupe` end to end: files on disk, a catalogue, `check`, and what is said of planted copies."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.data.copies.config import DedupeSettings
from smelt.errors import ArtifactError
from smelt.files.atomic import read_json
from smelt.files.committed import files_below
from smelt.stages import check, dedupe
from smelt.stages.config import Runtime
from smelt.stages.context import Context
from smelt.stages.context import run as run_stage
from smelt.stages.table import STAGES


def scene(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    layers = np.zeros((150, 200, 3))
    for cells, strength in ((3, 1.0), (7, 0.7), (17, 0.5), (45, 0.25)):
        small = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layers += strength * np.asarray(small.resize((200, 150), Image.Resampling.BICUBIC), float)
    return Image.fromarray((layers / 2.45).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "JPEG", quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, quality=quality)
    return buffer.getvalue()


def planted() -> list[tuple[str, str, int, bytes]]:
    """(split, path, label, bytes) of every image, by row."""
    one, two, three, four, five = (scene(seed) for seed in range(5))
    small = two.resize((100, 75), Image.Resampling.BICUBIC)
    return [
        ("train", "web/a/alone.jpg", 0, encoded(five)),
        ("train", "web/a/one.jpg", 0, encoded(one)),
        ("train", "web/b/one again.jpg", 1, encoded(one)),  # equal bytes under another label
        ("train", "web/a/two small.jpg", 0, encoded(small)),
        ("train", "web/a/two.jpg", 0, encoded(two)),  # the larger of two near copies
        ("train", "web/b/three.png", 1, encoded(three, "PNG")),
        ("train", "web/b/three.bmp", 1, encoded(three, "BMP")),  # equal pixels, other bytes
        ("train", "web/b/four mirrored.jpg", 1, encoded(four.transpose(Image.Transpose.FLIP_LEFT_RIGHT))),
        ("train", "web/b/broken.jpg", 1, encoded(four)[:300]),
        ("train", "web/b/grey.jpg", 1, encoded(Image.new("RGB", (50, 40), (90, 90, 90)))),
        ("train", "web/b/red.jpg", 1, encoded(Image.new("RGB", (50, 40), (200, 20, 20)))),
        ("val", "val/four, with comma.jpg", 1, encoded(four)),
        ("val", "val/two cropped.jpg", 0, encoded(two.crop((4, 3, 197, 147)))),
        ("test", "test/one.jpg", -1, encoded(one, quality=55)),
    ]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images below `root`, the artefact `index` and the artefact `check`."""
    base = tmp_path_factory.mktemp("dedupe")
    images = planted()
    for _, path, _, content in images:
        (base / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (base / "root" / path).write_bytes(content)
    with CatalogueWriter(base / "index" / "catalogue") as writer:
        for split in ("train", "val", "test"):
            part = [image for image in images if image[0] == split]
            paths = Paths.of(path.encode() for _, path, _, _ in part)
            writer.add(Block(split, "web", paths, np.array([label for _, _, label, _ in part], np.int32)))
        writer.classes = ["a", "b"]
        writer.finish()
    run(check, base, base / "check")
    return base


def run(stage: Any, base: Path, out: Path, workers: int = 2, **settings: Any) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    stage.run(
        Context(
            settings=STAGES[stage.__name__.rpartition(".")[2]].settings(**settings),
            inputs={"catalogue": [base / "index"], "check": [base / "check"]},
            out=out,
            scratch=out / "scratch",
            runtime=Runtime(
                root=str(base / "root"), workers=int(out.name[-1]) if out.name[-1].isdigit() else 2
            ),
        )
    )
    return out


def rows_of(out: Path) -> dict[int, dict[str, Any]]:
    return {line["row"]: line for line in pq.read_table(out / "duplicates.parquet").to_pylist()}


def test_planted_copies_get_their_verdict(checked: Path, tmp_path: Path) -> None:
    out = run(dedupe, checked, tmp_path / "out")
    rows = rows_of(out)
    assert set(rows) == {1, 2, 3, 4, 5, 6, 7, 11, 12, 13}
    groups: dict[int, list[int]] = {}
    for row, line in rows.items():
        groups.setdefault(line["group"], []).append(row)
    assert groups == {0: [1, 2, 13], 1: [3, 4, 12], 2: [5, 6], 3: [7, 11]}
    assert [row for row, line in rows.items() if line["keep"]] == [5, 11, 12, 13]
    assert [row for row, line in rows.items() if line["leak"]] == [1, 2, 3, 4, 7]
    assert [row for row, line in rows.items() if line["cross_label"]] == [1, 2, 13]
    assert [rows[row]["original"] for row in (1, 4, 6, 7)] == [13, 12, 5, 11]
    assert {row: rows[row]["kind"] for row in (1, 5, 6, 7, 12)} == {
        1: "near", 5: "exact", 6: "exact", 7: "near", 12: "near",
    }  # fmt: skip
    assert rows[6]["distance"] == 0 and 0 <= rows[7]["distance"] <= 4
    schema = pq.read_schema(out / "duplicates.parquet")
    types = {name: str(schema.field(name).type) for name in schema.names}
    assert types["row"] == "int64" and types["group"] == "int32" and types["distance"] == "int8"


def test_leaks_are_listed_with_what_they_leak_into(checked: Path, tmp_path: Path) -> None:
    out = run(dedupe, checked, tmp_path / "out")
    with open(out / "leaks.csv", newline="", encoding="utf-8") as file:
        leaks = list(csv.DictReader(file))
    assert [(leak["file"], leak["split"], leak["original"], leak["kind"]) for leak in leaks] == [
        ("web/a/two small.jpg", "val", "val/two cropped.jpg", "near"),
        ("web/a/two.jpg", "val", "val/two cropped.jpg", "near"),
        ("web/b/four mirrored.jpg", "val", "val/four, with comma.jpg", "near"),
        ("web/a/one.jpg", "test", "test/one.jpg", "near"),
        ("web/b/one again.jpg", "test", "test/one.jpg", "near"),
    ]
    summary = read_json(out / "dedupe.json")
    assert summary["leaks"] == {"val": 3, "test": 2} and summary["leaking"] == 5
    assert summary["dropped"] == 6 and summary["groups"] == 4 and summary["cross_label_groups"] == 1
    assert summary["blank_images"] == 2 and summary["dropped_by_source"] == {"web": 6}
    assert summary["exact_copies"] == 1 and summary["near_copies"] == 5


def test_settings_decide_what_is_dropped(checked: Path, tmp_path: Path) -> None:
    out = run(dedupe, checked, tmp_path / "out", against_held_out=False)
    assert [row for row, line in rows_of(out).items() if not line["keep"]] == [2, 3, 6]
    out = run(dedupe, checked, tmp_path / "out", within_training=False)
    assert [row for row, line in rows_of(out).items() if not line["keep"]] == [1, 2, 3, 4, 7]
    out = run(dedupe, checked, tmp_path / "out", mirrored=False)
    assert 7 not in rows_of(out)


def test_bytes_do_not_depend_on_workers(checked: Path, tmp_path: Path) -> None:
    first = run(dedupe, checked, tmp_path / "one", workers=1)
    second = run(dedupe, checked, tmp_path / "three", workers=3)
    names = [name for name in files_below(first) if not name.startswith("scratch")]
    assert names == ["dedupe.json", "duplicates.parquet", "leaks.csv"]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_half_a_file_of_thumbnails_is_not_believed(checked: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "scratch").mkdir(parents=True)
    (out / "scratch" / "thumbnails").write_bytes(b"half of an earlier attempt")
    context = Context(
        settings=DedupeSettings.model_validate({}),
        inputs={"catalogue": [checked / "index"], "check": [checked / "check"]},
        out=out,
        scratch=out / "scratch",
        runtime=Runtime(root=str(checked / "root")),
    )
    dedupe.run(context)
    assert len(rows_of(out)) == 10


def test_checks_of_another_catalogue_are_refused(checked: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(checked, other)
    table = pq.read_table(other / "check" / "images.parquet")
    pq.write_table(table.slice(1), other / "check" / "images.parquet")
    with pytest.raises(ArtifactError, match=r"images\.parquet is not of this catalogue"):
        run(dedupe, other, tmp_path / "out")
    (other / "check" / "images.parquet").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="is damaged"):
        run(dedupe, other, tmp_path / "out")


def test_a_set_without_copies_gives_empty_files(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with CatalogueWriter(tmp_path / "index" / "catalogue") as writer:
        for seed in range(3):
            (tmp_path / "root" / f"{seed}.jpg").write_bytes(encoded(scene(seed)))
        names = Paths.of(f"{seed}.jpg".encode() for seed in range(3))
        writer.add(Block("train", "web", names, np.zeros(3, np.int32)))
        writer.classes = ["a"]
        writer.finish()
    run(check, tmp_path, tmp_path / "check")
    out = run(dedupe, tmp_path, tmp_path / "out")
    assert rows_of(out) == {}
    assert (out / "leaks.csv").read_text() == "file,split,original,distance,kind\n"
    assert read_json(out / "dedupe.json")["dropped"] == 0


def frames(seed: int, count: int) -> list[Image.Image]:
    """A slow pan over a scene."""
    wide = scene(seed).resize((200 + 6 * count, 150), Image.Resampling.BICUBIC)
    return [wide.crop((6 * at, 0, 6 * at + 200, 150)) for at in range(count)]


def test_what_index_held_out_is_drawn_again_by_groups(tmp_path: Path) -> None:
    """Two classes, one of them three pans: each frame stays with the picture that it is a copy of."""
    root = tmp_path / "root"
    for name, images in (
        ("alone", [scene(seed) for seed in range(20)]),
        ("pan", [image for seed in (50, 51, 52) for image in frames(seed, 15)]),
    ):
        (root / name).mkdir(parents=True)
        for number, image in enumerate(images):
            (root / name / f"{number:03d}.jpg").write_bytes(encoded(image))
    runtime = {"root": str(root)}

    def stage(name: str, **inputs: Path) -> Path:
        out = tmp_path / name
        out.mkdir()
        settings = {"format": "imagefolder", "val_fraction": 0.2} if name == "index" else {}
        connected = {port: [path] for port, path in inputs.items()}
        run_stage(name, settings, runtime=runtime, inputs=connected, out=out, scratch=out / "scratch")
        return out

    index = stage("index")
    checked = stage("check", catalogue=index)
    out = stage("dedupe", catalogue=index, check=checked)
    before, after = Catalogue.open(index / "catalogue"), Catalogue.open(out / "catalogue")
    rows = rows_of(out)
    assert (
        read_json(out / "dedupe.json")["moved_by_group"]
        == ((before.split_codes_N != after.split_codes_N).sum())
        > 0
    )
    paths = [after.path(row) for row in range(after.num_rows)]
    assert paths == [before.path(row) for row in range(before.num_rows)]
    table = pq.read_table(out / "catalogue" / "catalogue.parquet").to_pydict()
    assert [after.splits[code] for code in after.split_codes_N] == table["split"]
    held = {row for row in rows if after.split_codes_N[row] == 1}
    torn = {line["group"] for row, line in rows.items() if row in held} & {
        line["group"] for row, line in rows.items() if row not in held and not line["leak"]
    }
    assert held and not torn
    assert [after.split_codes_N[row] for row, path in enumerate(paths) if path.startswith("alone")] == [
        before.split_codes_N[row] for row, path in enumerate(paths) if path.startswith("alone")
    ]
    leaks = sum(line["leak"] for line in rows.values())
    index_held = before.split_codes_N == 1
    would = sum(
        not index_held[row] and bool(index_held[[r for r in rows if rows[r]["chain"] == line["chain"]]].any())
        for row, line in rows.items()
    )
    assert leaks < would / 2
    for row, line in rows.items():  # of each chain some row is still learnt from
        if line["keep"] and not line["leak"]:
            assert line["original"] == row or row in held
    seen: list[Path] = []
    spy = type("Spy", (), {"run": staticmethod(lambda context: seen.append(context.catalogue))})
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "smelt.stages.rank", spy)
        for extra in ({}, {"dedupe": [out]}, {"dedupe": [checked]}):
            run_stage("rank", {}, inputs={"catalogue": [index], **extra}, out=out, scratch=out)
    assert seen == [folder / "catalogue" for folder in (index, out, index)]
