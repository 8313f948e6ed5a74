"""Damage that keeps the size is never read; what was made from damaged or replaced inputs is made again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from processes import manifests
from smelt.errors import ArtifactError, StageFailedError
from smelt.files import atomic, committed
from smelt.flowchart import lineage, upkeep
from smelt.flowchart.executors import worker
from smelt.flowchart.graph import Graph
from smelt.flowchart.reasons import plan
from smelt.flowchart.work import Work
from toy import execute, node, run

Events = list[Mapping[str, Any]]


def chain() -> Graph:
    """a → b → c → d, and e beside them."""
    return Graph(
        [
            node("a", "first"),
            node("b", "second", x="a"),
            node("c", x="b"),
            node("d", "last", x="c"),
            node("e"),
        ]
    )


def go(graph: Graph, folder: Path) -> Events:
    events: Events = []
    execute(graph, folder, on_event=events.append, zygote=True)
    return events


def named(events: Events, name: str) -> list[str]:
    return [event["id"] for event in events if event["event"] == name]


def states(graph: Graph, folder: Path) -> list[str]:
    return [line.id for line in plan(graph, Work(folder)) if line.state != "done"]


def artefact(folder: Path, graph: Graph, name: str) -> Path:
    return Work(folder).artifact(graph[name].stage, graph.key(name))


def flip(path: Path) -> None:
    """Other content of the same size, under the same time of modification."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(folder: Path, text: str = "another") -> None:
    """Another artefact in the same place, whole in itself."""
    (folder / "value.txt").write_text(text)
    manifest = atomic.read_json(folder / committed.MANIFEST)
    size, digest = len(text), atomic.sha256_file(folder / "value.txt")
    manifest["files"]["value.txt"] = {"size": size, "sha256": digest}
    atomic.write_json(folder / committed.MANIFEST, manifest)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    go(chain(), folder)
    return folder


@pytest.fixture
def work(reference: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, as a user makes one."""
    shutil.copytree(reference, tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("gone", [(), ("c", "d"), ("b", "c", "d")])
def test_damage_of_the_same_size_is_mended_before_it_is_read(
    work: Path, reference: Path, gone: tuple[str, ...]
) -> None:
    graph = chain()
    flip(artefact(work, graph, "b" if "b" not in gone else "a") / "value.txt")
    for name in gone:
        shutil.rmtree(artefact(work, graph, name))
    damaged = "b" if "b" not in gone else "a"
    assert states(graph, work) == [damaged, *gone]
    events = go(graph, work)
    assert named(events, "damaged") == [damaged]
    assert named(events, "started") == [damaged, *gone]  # what was made before the damage stands
    assert manifests(work) == manifests(reference)
    assert not named(go(graph, work), "started")


def test_a_stage_refuses_a_damaged_input_by_itself(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also where nobody looked before: started by its key, as on another machine."""
    graph = chain()
    flip(artefact(work, graph, "b") / "value.txt")
    shutil.rmtree(artefact(work, graph, "c"))
    assert worker.run_stage(work, graph.key("c"), run, emit=worker.Reporter(None)) == ArtifactError.exit_code
    told = capfd.readouterr().err
    assert "c reads from b, which cannot be used" in told and "other content" in told
    assert not artefact(work, graph, "c").exists()


def test_an_input_that_changes_while_it_is_read_is_not_committed(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = chain()
    shutil.rmtree(artefact(work, graph, "c"))

    def meanwhile(stage: str, settings: Any, **rest: Any) -> None:
        run(stage, settings, **rest)
        flip(artefact(work, graph, "b") / "value.txt")

    code = worker.run_stage(work, graph.key("c"), meanwhile, emit=worker.Reporter(None))
    assert code == ArtifactError.exit_code and "b, which cannot be used" in capfd.readouterr().err
    assert not artefact(work, graph, "c").exists()


@pytest.mark.parametrize("how", ["run", "verify"])
def test_all_that_was_made_from_a_replaced_artefact_is_set_aside(work: Path, how: str) -> None:
    graph = chain()
    replace(artefact(work, graph, "b"))
    assert states(graph, work) == ["c", "d"]
    if how == "verify":
        found = upkeep.verify(work)
        assert len(found) == 2 and all("was made from" in line and "moved to" in line for line in found)
    events = go(graph, work)
    assert named(events, "damaged") == ([] if how == "verify" else ["c", "d"])
    assert named(events, "started") == ["c", "d"]
    assert len(list((work / "damaged").iterdir())) == 2
    assert states(graph, work) == [] and upkeep.verify(work) == []


def test_verify_sees_what_no_flowchart_names(work: Path) -> None:
    graph = chain()
    replace(artefact(work, graph, "a"))
    (work / "flowchart.json").unlink()
    assert len(upkeep.verify(work)) == 3  # b, c and d


def test_another_artefact_under_a_name_is_found(work: Path) -> None:
    graph = chain()
    shutil.rmtree(artefact(work, graph, "c"))
    shutil.copytree(artefact(work, graph, "e"), artefact(work, graph, "c"))
    assert "is not of plain-" in next(line.why for line in plan(graph, Work(work)) if line.id == "c")
    assert named(go(graph, work), "started") == ["c"]


def test_what_comes_out_otherwise_is_followed(tmp_path: Path) -> None:
    """An artefact is gone and made again: with equal bytes its descendants stand, else they are remade."""
    outside = tmp_path / "outside"
    outside.write_text("one")
    graph = Graph(
        [
            node("a", "fickle", {"path": str(outside)}), node("b", "second", x="a"), node("c", x="b"),
            node("d", "last", x="c"), node("e", "last", {"n": 1}),
        ]
    )  # fmt: skip
    folder = tmp_path / "work"
    go(graph, folder)
    shutil.rmtree(artefact(folder, graph, "a"))
    assert named(go(graph, folder), "started") == ["a"]
    outside.write_text("two")
    for name in "ad":
        shutil.rmtree(artefact(folder, graph, name))
    events = go(graph, folder)
    assert named(events, "started") == ["a", "b", "c", "d"]  # d waited for what c came out as
    assert named(events, "damaged") == ["b", "c"]
    assert upkeep.verify(folder) == [] and not named(go(graph, folder), "started")


def test_artefacts_without_a_record_fall_with_their_input(work: Path) -> None:
    """Of manifests from before contents were recorded nobody knows whether the damage was there already."""
    graph = chain()
    for name in graph.nodes:
        path = artefact(work, graph, name) / committed.MANIFEST
        atomic.write_json(path, {k: v for k, v in atomic.read_json(path).items() if k != "contents"})
    assert states(graph, work) == []
    flip(artefact(work, graph, "b") / "value.txt")
    assert states(graph, work) == ["b", "c", "d"]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"files": []}', b'{"files": {"value.txt": 3}}', b""])
def test_a_manifest_that_is_none_is_damage(work: Path, reference: Path, content: bytes) -> None:
    graph = chain()
    (artefact(work, graph, "b") / committed.MANIFEST).write_bytes(content)
    assert states(graph, work) == ["b"]
    assert named(go(graph, work), "started") == ["b"]
    assert manifests(work) == manifests(reference)


def test_a_file_that_no_stage_wrote_is_not_read(work: Path) -> None:
    graph = chain()
    shutil.rmtree(artefact(work, graph, "c"))
    (artefact(work, graph, "b") / ".hidden").write_text("of some file manager")
    (artefact(work, graph, "b") / "more.npy").write_text("")
    with pytest.raises(StageFailedError, match=r"more\.npy: move it away"):
        go(graph, work)
    (artefact(work, graph, "b") / "more.npy").unlink()
    assert named(go(graph, work), "started") == ["c"]


def test_a_circle_of_manifests_ends(work: Path) -> None:
    place = Work(work)
    name = artefact(work, chain(), "b").name
    path = place.artifacts / name / committed.MANIFEST
    manifest = atomic.read_json(path)
    atomic.write_json(path, {**manifest, "inputs": {"x": [name.rpartition("-")[2]]}})
    assert set(lineage.examine(place, [name])) == {name}  # its key is not of these inputs


def test_the_run_is_the_same_beside_a_damaged_memory(work: Path, reference: Path) -> None:
    (work / "verified.txt").write_bytes(b"\xff\xfe\n" + b"x" * 999)
    assert not named(go(chain(), work), "started")
    (work / "verified.txt").unlink()
    (work / "verified.txt").mkdir()  # cannot be written
    assert not named(go(chain(), work), "started")
    assert manifests(work) == manifests(reference)


def test_stages_import_nothing_heavy_to_say_what_made_them() -> None:
    code = "import sys; from smelt.flowchart import versions; versions.here(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
