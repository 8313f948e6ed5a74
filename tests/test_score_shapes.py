"""Tables of other shapes than a column a class, and names of classes as programs keep them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from smelt.errors import ArtifactError, ResultError
from smelt.fusion.scores.arrayfiles import Raw
from smelt.fusion.scores.inputs import read_scores
from smelt.fusion.scores.scorefiles import read_file

RANDOM = np.random.default_rng(2)
SCORES = RANDOM.dirichlet(np.ones(4), size=6)
IDS = tuple(f"im{n}" for n in range(6))
CLASSES = ("fox", "bee", "owl", "cat")
ORDERS = np.argsort(-SCORES, axis=1)


def one(path: Path) -> Raw:
    (raw,) = read_file(path)
    return raw


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def long_lines() -> list[tuple[str, str, str]]:
    return [(IDS[n], CLASSES[c], f"{SCORES[n, c]:.8f}") for n in range(6) for c in range(4)]


@pytest.mark.parametrize("header", ["image_id,class,prob", "prob,class,image_id", ",image_id,class,prob", ""])
@pytest.mark.parametrize("by_class", [False, True])
def test_a_line_for_each_image_and_class(tmp_path: Path, header: str, by_class: bool) -> None:
    rows = [list(row) for row in long_lines()]
    rows = sorted(rows, key=lambda row: (CLASSES.index(row[1]), row[0])) if by_class else rows
    rows = [row[::-1] for row in rows] if header.startswith("prob") else rows
    rows = [[str(place), *row] for place, row in enumerate(rows)] if header.startswith(",") else rows
    text = "\n".join([header] * bool(header) + [",".join(row) for row in rows])
    raw = one(written(tmp_path / "a.csv", text))
    assert raw.ids == IDS and raw.classes == CLASSES and np.allclose(raw.scores, SCORES)
    assert "a line for each image and class" in raw.notes[0]


def test_a_line_for_each_image_and_class_in_parquet(tmp_path: Path) -> None:
    ids, classes, scores = zip(*long_lines())
    table = {"image_id": ids, "class": classes, "score": np.array(scores, np.float64)}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    raw = one(tmp_path / "a.parquet")
    assert raw.ids == IDS and raw.classes == CLASSES and np.allclose(raw.scores, SCORES)


def test_lines_that_lack_classes_are_told(tmp_path: Path) -> None:
    rows = [row for row in long_lines() if row[:2] != ("im4", "owl")]
    path = written(tmp_path / "a.csv", "image_id,class,prob\n" + "\n".join(map(",".join, rows)))
    with pytest.raises(ResultError, match=r"a\.csv .*image im4 has 3 of 4 classes \(not owl\): write"):
        one(path)


@pytest.mark.parametrize("sign", [", ", " ", ","])
@pytest.mark.parametrize("header", ["image_id,probs\n", ""])
def test_scores_in_one_cell(tmp_path: Path, sign: str, header: str) -> None:
    cells = [sign.join(f"{value:.8f}" for value in row) for row in SCORES]
    text = header + "".join(f'{name},"[{cell}]"\n' for name, cell in zip(IDS, cells))
    raw = one(written(tmp_path / "a.csv", text))
    assert raw.ids == IDS and raw.lists_NK is None and np.allclose(raw.scores, SCORES)
    assert raw.classes is None


def test_a_header_of_another_width_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id\n" + "".join(f'{name},"[0.1, 0.9]"\n' for name in IDS))
    with pytest.raises(ResultError, match="1 names of columns and 2 columns"):
        one(path)


def test_lists_in_one_cell(tmp_path: Path) -> None:
    text = "id,top\n" + "".join(f'{name},"{row[:3].tolist()}"\n' for name, row in zip(IDS, ORDERS))
    raw = one(written(tmp_path / "a.csv", text))
    assert raw.lists_NK is not None and raw.lists_NK.tolist() == ORDERS[:, :3].tolist()
    for bad, words in (("[0.1, x, 0.2]", "'x' is not a number"), ("[0.1]", ":8 has 1 in brackets")):
        text = "id,p\n" + "".join(f'{name},"[0.2, 0.3, 0.5]"\n' for name in IDS) + f'im9,"{bad}"\n'
        with pytest.raises(ResultError, match=words.replace("[", r"\[")):
            one(written(tmp_path / "b.csv", text))


@pytest.mark.parametrize("sign", [" ", ";", "|", ", "])
@pytest.mark.parametrize("header", ["image_id,pred", "image_id,labels"])
def test_names_in_one_cell(tmp_path: Path, sign: str, header: str) -> None:
    other = tmp_path / "b.npz"
    np.savez(other, scores=SCORES, ids=np.array(IDS), class_names=np.array(CLASSES))
    lists = [sign.join(CLASSES[place].upper() for place in row[:2]) for row in ORDERS]
    rows = [f'{name},"{cell}"' for name, cell in zip(IDS, lists)]
    path = written(tmp_path / "a.csv", "\n".join([header, *rows]))
    gathered = read_scores([path, other])
    assert gathered.found[0].meaning == "lists" and gathered.classes == CLASSES
    first = gathered.sources[0].block(np.arange(6), "low")
    assert first.argmax(axis=1).tolist() == ORDERS[:, 0].tolist() and first.max() == 2
    written(path, "\n".join([header, *rows[:3], f'im3,"fox{sign}fox"', *rows[4:]]))
    with pytest.raises(ResultError, match=r"a\.csv.* a class twice"):
        read_scores([path, other])
    written(path, "\n".join([header, *rows[:3], f'im3,"fox{sign}gnu"', *rows[4:]]))
    with pytest.raises(ResultError, match="none of the others"):
        read_scores([path, other])


@pytest.mark.parametrize(
    "value",
    [
        list(CLASSES),
        {name: place for place, name in reversed(list(enumerate(CLASSES)))},
        {str(place): name for place, name in enumerate(CLASSES)},
        {"class_to_idx": {name: place for place, name in enumerate(CLASSES)}},
    ],
)
def test_names_beside_scores_and_in_bundles(tmp_path: Path, value: object) -> None:
    np.save(tmp_path / "a.npy", SCORES)
    beside = written(tmp_path / "a.classes.json", json.dumps(value))
    assert one(tmp_path / "a.npy").classes == CLASSES
    if isinstance(value, dict) and "fox" in value:
        torch.save({"scores": torch.tensor(SCORES), "class_to_idx": value}, tmp_path / "p.pt")
        raw = one(tmp_path / "p.pt")
        assert raw.classes == CLASSES and not raw.notes
        np.savez(tmp_path / "p.npz", scores=SCORES, class_to_idx=json.dumps(value))
        assert one(tmp_path / "p.npz").classes == CLASSES
    for bad in ('{"fox": 0, "bee": 2}', "[1, 2]", "{}", '{"a": true, "b": 0}', '{"a": 0.5}', "7"):
        beside.write_text(bad)
        with pytest.raises(ResultError, match=r"a\.classes\.json.*a list of names in the order"):
            one(tmp_path / "a.npy")
    beside.write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match="damaged"):
        one(tmp_path / "a.npy")
