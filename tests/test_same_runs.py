"""The comparison of two runs finds a byte that moved, and is silent where only keys are others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import same_runs


def rewritten(work: Path, old: str, new: str) -> None:
    """Another key for the stage that had `old`, wherever it stands."""
    (folder,) = work.glob(f"artifacts/*-{old}")
    folder.rename(folder.with_name(folder.name.replace(old, new)))
    for path in work.rglob("*.json"):
        path.write_text(path.read_text().replace(old, new))


def test_runs_are_compared_by_what_they_hold(finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    assert same_runs.main(finished, other) == 0
    key = same_runs.nodes(other)["fuse"]["key"]
    rewritten(other, key, "f" * len(key))
    assert same_runs.main(finished, other) == 0
    key = same_runs.nodes(other)["rank/raw"]["key"]
    ranking = other / "artifacts" / f"rank-{key}" / "ranking.parquet"
    ranking.write_bytes(ranking.read_bytes()[:-1] + b"0")
    told = list(same_runs.differences(finished, other))
    assert [(is_number, text) for is_number, text in told if is_number] == [
        (True, "rank/raw: ranking.parquet: other bytes")
    ]


def test_other_settings_of_a_node_are_told(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "other")
    chart = json.loads((tmp_path / "other" / "flowchart.json").read_text())
    for node in chart["nodes"]:
        node["version"] += node["id"] == "evaluate"
    (tmp_path / "other" / "flowchart.json").write_text(json.dumps(chart))
    told = list(same_runs.differences(finished, tmp_path / "other"))
    assert [(is_number, text.split(" was")[0]) for is_number, text in told] == [(False, "evaluate: version")]
