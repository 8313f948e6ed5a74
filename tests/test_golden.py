"""What each stage gives is tied to its version: a changed helper cannot go unnoticed. See golden_cases.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden_cases import (
    CASES,
    COMMAND,
    TOLERANCE,
    Case,
    context_of,
    differences,
    execute,
    main,
    may_record,
    recorded,
    result_of,
)
from smelt.settings import Settings, _counts
from smelt.stages.table import STAGES

# Read by stages though in no key: how often to save, when to give up, and a path whose content is in it
HARMLESS = {"checkpoint_every_steps", "max_bad_fraction", "weights", "audit"}
BY_ID = {case.id: case for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_stage_gives_what_is_recorded(case: Case, tmp_path: Path) -> None:
    golden = recorded(case.stage).get(case.name)
    assert golden, f"{case.id} has no record: {COMMAND} {case.stage}"
    version = STAGES[case.stage].version
    assert golden["version"] == version, (
        f"{case.id} is recorded of version {golden['version']}, the stage has {version}: "
        f"{COMMAND} {case.stage}"
    )
    assert golden["settings"] == dict(case.settings), f"the case was changed: {COMMAND} {case.stage}"
    found = differences(case, golden, result_of(case, tmp_path))
    assert not found, (
        f"other results under version {version}. If that is meant, raise its version in "
        f"src/smelt/stages/table.py, then {COMMAND} {case.stage}:\n" + "\n".join(found[:20])
    )


def test_every_stage_has_a_case_and_a_tolerance() -> None:
    assert {case.stage for case in CASES} == set(STAGES) == set(TOLERANCE)
    for stage in STAGES:
        assert set(recorded(stage)) == {case.name for case in CASES if case.stage == stage}


# That it would be noticed


def test_a_changed_helper_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smelt.mining import rankings

    case = BY_ID["rank/standard"]
    golden = result_of(case, tmp_path / "before")
    real = rankings.mean_of
    monkeypatch.setattr(rankings, "mean_of", lambda scores: np.nextafter(real(scores), 9.0))
    now = result_of(case, tmp_path / "after")
    assert differences(case, golden, now) and not may_record(case, golden, now)


def test_what_is_recorded_and_what_is_not() -> None:
    case = BY_ID["select/all"]
    golden = recorded("select")["all"]
    other = {**golden, "files": {**golden["files"], "selection.json": {}}}
    assert may_record(case, golden, golden) and may_record(case, None, golden)
    assert not may_record(case, golden, other)
    assert may_record(case, golden, {**other, "version": golden["version"] + 1})
    assert may_record(case, golden, {**other, "inputs": "others"})
    assert may_record(case, golden, {**other, "build": {"torch": "0"}})


def test_exact_here_and_within_the_tolerance_elsewhere() -> None:
    case = BY_ID["predict/toy"]

    def record(build: str, **values: Any) -> dict[str, Any]:
        return {"build": {"torch": build}, "files": {"a.npy": values}}

    golden = record("1", values=[1.0, 2.0], sha256="x", mean=1.5, shape=[2])
    near = {"values": [1.0, 2.001], "sha256": "y", "mean": 1.501, "shape": [2]}
    assert differences(case, golden, record("2", **near)) == []
    assert len(differences(case, golden, record("1", **near))) == 3
    assert differences(case, golden, record("2", **{**near, "values": [1.0, 3.0]}))
    assert differences(case, golden, record("2", **{**near, "values": [1.0]}))
    assert differences(case, golden, record("2", **{**near, "mean": 2.0}))
    assert differences(case, golden, record("2", values=[1.0, 2.0]))  # a figure is gone
    table = BY_ID["select/all"]
    assert differences(table, golden, record("2", **near)) and TOLERANCE["select"] is None


def test_the_command_compares_one_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit"]) == 0
    assert capsys.readouterr().out == "submit/three: as recorded\n"


# What is outside a key is not read


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Call it with settings and ports: from then on reading what does not count for them is noted."""
    read: list[str] = []
    watched: dict[int, tuple[Settings, Mapping[str, Any]]] = {}
    plain = Settings.__getattribute__

    def get(self: Settings, name: str) -> Any:
        known = watched.get(id(self))
        ours = known is not None and name in type(self).model_fields and name not in HARMLESS
        if known is not None and ours and not _counts(self, name, known[1]):
            read.append(name)
        return plain(self, name)

    def watch(settings: Settings, ports: Mapping[str, Any]) -> list[str]:
        watched[id(settings)] = (settings, ports)
        monkeypatch.setattr(Settings, "__getattribute__", get)
        return read

    yield watch


WATCHED = [case for case in CASES if case.stage in ("select", "tune", "train", "fuse")]


@pytest.mark.parametrize("case", WATCHED, ids=lambda case: case.id)
def test_a_stage_reads_nothing_that_is_outside_its_key(case: Case, tmp_path: Path, forbidden: Any) -> None:
    inputs = case.make(tmp_path / "inputs")
    context = context_of(case.stage, case.settings, inputs, tmp_path / "out")
    read = forbidden(context.settings, inputs)
    execute(context, case.stage)
    assert read == []


def test_reading_outside_the_key_would_be_noticed(forbidden: Any) -> None:
    from smelt.mining.config import SelectSettings

    settings = SelectSettings(method="all")
    read = forbidden(settings, {})
    assert settings.percentile == 99.0 and settings.within == "all"
    assert read == ["percentile"]
