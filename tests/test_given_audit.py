"""Audits that selections are given: read, matched with rows, refused where they are of other data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smelt.artifacts import verdicts
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.artifacts.likelywrong import LikelyWrong, write_likely_wrong
from smelt.artifacts.ranking import Ranking, write_ranking
from smelt.artifacts.selection import read_selection
from smelt.artifacts.verdicts import Asked, Given
from smelt.errors import DataError, RecipeError
from smelt.files.atomic import write_json
from smelt.files.committed import MANIFEST
from smelt.mining import drawn, given_audit
from smelt.mining.rightlabels import NOT_SAID
from smelt.recipe.borrowed import audit_of
from smelt.stages.context import run
from smelt.verbs.checks.auditcheck import about_audits
from test_datacheck import asked, data  # noqa: F401

CLASSES = ("cat", "dog")
SIZE = 60
WRONG = np.arange(SIZE) % 3 == 0


def catalogue(folder: Path, prefix: str = "") -> Catalogue:
    names = Paths.of([f"{prefix}{n:03d}.jpg".encode() for n in range(SIZE)])
    with CatalogueWriter(folder / "catalogue") as writer:
        writer.classes = list(CLASSES)
        writer.add(Block("val", "web", Paths.of([b"v.jpg"]), np.zeros(1, np.int32)))
        writer.add(Block("train", "web", names, (np.arange(SIZE) % 2).astype(np.int32)))
        writer.finish()
    return Catalogue.open(folder / "catalogue")


def audit(folder: Path, of: Catalogue, **more: Given) -> Path:
    """A file of verdicts on all rows, sorted by label as a spreadsheet leaves it."""
    rows = of.rows("train")
    ids = [verdicts.name_of(int(one)) for one in drawn.identities(of, rows)]
    said = {}
    for place in sorted(range(SIZE), key=lambda n: n % 2):
        name = CLASSES[1 - place % 2]
        said[ids[place]] = Given("wrong", name) if WRONG[place] else Given("right")
    said |= more
    path = folder / "verdicts-train.csv"
    verdicts.write(path, [Asked(n + 1, key, "", "", "") for n, key in enumerate(said)], said)
    return path


def ranking(of: Catalogue, telling: bool = True) -> Ranking:
    rows = of.rows("train")
    scores = np.random.default_rng(0).normal(size=SIZE) - 3 * WRONG * (1 if telling else -1)
    return Ranking(rows, {}, scores)


def test_verdicts_are_matched_with_rows_and_calibrate_the_ranking(tmp_path: Path) -> None:
    of = catalogue(tmp_path)
    rows = of.rows("train")
    found = given_audit.read(audit(tmp_path, of), of, rows, ranking(of))
    assert found.verdicts is not None and found.p_wrong is not None
    assert sorted(found.verdicts.places.tolist()) == list(range(SIZE))
    for place, word, right in zip(found.verdicts.places, found.verdicts.words, found.verdicts.right):
        assert word == ("wrong" if WRONG[place] else "right")
        assert right == (1 - place % 2 if WRONG[place] else NOT_SAID)
    assert found.p_wrong[WRONG].mean() > 0.8 and found.p_wrong[~WRONG].mean() < 0.2
    assert not (np.diff(found.verdicts.places) > 0).all(), "in the random order, not the file's"
    assert given_audit.read(audit(tmp_path, of), of, rows, ranking(of, telling=False)).p_wrong is None
    assert given_audit.read(audit(tmp_path, of), of, rows, None).p_wrong is None


def test_right_classes_that_are_none_are_not_said(tmp_path: Path) -> None:
    of = catalogue(tmp_path)
    name = verdicts.name_of(int(drawn.identities(of, of.rows("train"))[0]))
    found = given_audit.of_rows(audit(tmp_path, of, **{name: Given("wrong", "horse")}), of, of.rows("train"))
    assert found.right[found.places == 0].tolist() == [NOT_SAID]
    assert given_audit.class_numbers(of, lambda word: f"<{word}>") == {
        "0": 0, "1": 1, "cat": 0, "dog": 1, "<cat>": 0, "<dog>": 1,
    }  # fmt: skip


def test_probabilities_are_read_by_row(tmp_path: Path) -> None:
    of = catalogue(tmp_path)
    rows = of.rows("train")
    write_likely_wrong(tmp_path, LikelyWrong(rows[:5], np.full(5, 0.25, np.float32), "key"))
    found = given_audit.read(tmp_path / "p_wrong.parquet", of, rows, None, key="key")
    assert found.p_wrong is not None and found.verdicts is None
    assert found.p_wrong[:5].tolist() == [0.25] * 5 and np.isnan(found.p_wrong[5:]).all()
    with pytest.raises(DataError, match="of another catalogue"):
        given_audit.read(tmp_path, of, rows, None, key="other")
    write_likely_wrong(tmp_path, LikelyWrong(rows[-1:] + 9, np.ones(1, np.float32)))
    with pytest.raises(DataError, match="another data set"):
        given_audit.read(tmp_path, of, rows, None)


def test_an_audit_of_other_images_is_refused(tmp_path: Path) -> None:
    of, other = catalogue(tmp_path), catalogue(tmp_path / "b", "b")
    path = audit(tmp_path, other)
    with pytest.raises(DataError, match="none of its 60 verdicts"):
        given_audit.read(path, of, of.rows("train"), None)
    verdicts.write(path, [], {})
    with pytest.raises(DataError, match="no verdict yet"):
        given_audit.read(path, of, of.rows("train"), None)


def test_what_is_read_of_a_folder(tmp_path: Path) -> None:
    of = catalogue(tmp_path)
    (tmp_path / "w" / "audit").mkdir(parents=True)
    with pytest.raises(DataError, match=r"neither verdicts-train.csv nor p_wrong"):
        given_audit.file_of(tmp_path / "w")
    with pytest.raises(RecipeError, match=r"rounds.1.select.audit: .* neither verdicts-train.csv"):
        audit_of(str(tmp_path / "w"), "rounds.1.select.audit")
    with pytest.raises(RecipeError, match="is not there"):
        audit_of(str(tmp_path / "nowhere"), "x")
    write_likely_wrong(tmp_path / "w" / "audit", LikelyWrong(of.rows("train"), np.ones(SIZE, np.float32)))
    place, before = audit_of(str(tmp_path / "w"), "x")
    assert place == str(tmp_path / "w" / "audit" / "p_wrong.parquet") and given_audit.is_parquet(Path(place))
    path = audit(tmp_path / "w" / "audit", of)
    assert audit_of(str(tmp_path / "w" / "audit"), "x")[0] == str(path), "verdicts come first"
    assert given_audit.file_of(tmp_path / "w") == path and audit_of(str(path), "x")[1] != before


def selected(tmp_path: Path, of: Catalogue, **settings: Any) -> Any:
    folder, out = tmp_path / "ranking", tmp_path / "out"
    for one in (folder, out):
        one.mkdir()
    write_ranking(folder, ranking(of), {"score": "knn"})
    ports = {"catalogue": [tmp_path], "ranking": [folder]}
    run("select", {"method": "likely_wrong", **settings}, inputs=ports, out=out, scratch=out)
    return read_selection(out)


def test_the_stage_goes_by_an_audit(tmp_path: Path) -> None:
    of = catalogue(tmp_path)
    found = selected(tmp_path, of, audit=str(audit(tmp_path, of)))
    dropped = np.array([found.words[code] == "likely_wrong" for code in found.reasons])
    assert (dropped == WRONG).mean() > 0.9


def test_verdicts_that_tell_nothing_are_said_to(tmp_path: Path) -> None:
    of, said = catalogue(tmp_path), []
    path = audit(tmp_path, of)
    for name in ("ranking", "out"):
        (tmp_path / name).mkdir()
    write_ranking(tmp_path / "ranking", ranking(of, telling=False), {"score": "knn"})
    run(
        "select", {"method": "likely_wrong", "audit": str(path), "fraction": 0.1},
        inputs={"catalogue": [tmp_path], "ranking": [tmp_path / "ranking"]}, out=tmp_path / "out",
        scratch=tmp_path / "out", emit=lambda event, **fields: said.append((event, fields["text"])),
    )  # fmt: skip
    assert said[0][0] == "warning" and "do not tell which labels are wrong" in said[0][1]
    assert read_selection(tmp_path / "out").kept.sum() == SIZE * 0.9


def test_the_stage_refuses_probabilities_of_another_catalogue(tmp_path: Path) -> None:
    of = catalogue(tmp_path)
    write_json(tmp_path / MANIFEST, {"key": "mine"})
    write_likely_wrong(tmp_path, LikelyWrong(of.rows("train"), np.ones(SIZE, np.float32), "other"))
    with pytest.raises(DataError, match=r"another catalogue \(other, not mine\)"):
        selected(tmp_path, of, audit=str(tmp_path / "p_wrong.parquet"))


TWO = (
    "rounds=[{name: raw, models: [{name: m}]}, "
    "{name: b, select: {method: likely_wrong, audit: AUDIT}, models: [{name: m}]}]"
)


@pytest.mark.usefixtures("data")
def test_a_run_refuses_before_it_begins(tmp_path: Path) -> None:
    other = catalogue(tmp_path / "other")
    path = audit(tmp_path, other)
    (problem,) = about_audits(asked(TWO.replace("AUDIT", str(path))))
    assert problem.startswith("rounds.1.select.audit (-o rounds=") and "none of its 60 verdicts" in problem
    assert not about_audits(asked(TWO.replace("AUDIT", str(path)), "seed=3", indexed=False)), (
        "nobody knows yet"
    )
    file = tmp_path / "p_wrong.parquet"
    write_likely_wrong(tmp_path, LikelyWrong(np.arange(3), np.ones(3, np.float32), "other"))
    (problem,) = about_audits(asked(TWO.replace("AUDIT", str(file)), "seed=4", indexed=False))
    assert "of another catalogue (other" in problem
    made = asked(TWO.replace("AUDIT", str(file)), indexed=False)
    write_likely_wrong(tmp_path, LikelyWrong(np.arange(3), np.ones(3, np.float32), made.graph.key("index")))
    assert not about_audits(made)
    again = asked(TWO.replace("AUDIT", str(file)), indexed=False)
    assert again.graph.key("select/b") != made.graph.key("select/b"), "its content counts"
