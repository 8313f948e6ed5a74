"""What made an artefact is in its manifest, in the report, and in the plan where versions would meet."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path

import pytest

from processes import manifests
from smelt import __version__
from smelt.files import atomic, committed
from smelt.flowchart import versions
from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.work import Work
from smelt.report.page import versions as footer
from toy import execute, node


def chain() -> Graph:
    return Graph([node("train", "train"), node("predict", "predict", x="train"), node("fuse", x="predict")])


@pytest.fixture
def work(tmp_path: Path) -> Path:
    execute(chain(), tmp_path, zygote=True)
    return tmp_path


def remake(work: Path, name: str, **made_with: str) -> None:
    """Write other versions into the manifest of a node."""
    item = chain()[name]
    path = Work(work).artifact(item.stage, chain().key(name)) / committed.MANIFEST
    manifest = atomic.read_json(path)
    manifest["made_with"] |= made_with
    atomic.write_json(path, manifest)


def test_manifests_say_what_made_them(work: Path) -> None:
    for content in manifests(work).values():
        made = json.loads(content)["made_with"]
        assert made["smelt"] == __version__ and made["python"] == platform.python_version()
        for name in ("torch", "numpy", "timm", "pillow", "simplejpeg"):
            assert made[name] == metadata.version(name)
        assert made["processor"].startswith(platform.machine()) and made["libjpeg_turbo"]
        assert platform.node() not in json.dumps(made)


def test_device_and_threads_where_arithmetic_depends_on_them() -> None:
    made = versions.made_with(Node("a", "train", device="cpu", threads=3))
    assert (made["device"], made["threads"]) == ("cpu", 3)
    loading = versions.made_with(Node("a", "check", threads=3))  # which only loads with them
    assert "device" not in loading and "threads" not in loading


def test_the_processor_is_a_class_and_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for flags, expected in (
        ("fpu avx avx2", "x86_64 avx2"),
        ("avx2 avx512f", "x86_64 avx512"),
        ("avx2 avx512f avx512_bf16 amx_bf16", "x86_64 amx"),
        ("fpu", "x86_64"),
    ):
        monkeypatch.setattr(versions, "read_text", lambda *a, f=flags: f"model name: z\nflags\t: {f}\n")
        assert versions.processor() == expected


def test_the_plan_says_where_versions_meet(work: Path) -> None:
    graph, place = chain(), Work(work)
    done = list(graph.nodes)
    assert versions.meetings(graph, place, done) == []
    remake(work, "train", torch="1.0", processor=versions.processor())
    (met,) = versions.meetings(graph, place, done)
    assert met == f"torch 1.0 meets {metadata.version('torch')}: train → predict"
    # what is still to run would be made with what is here
    assert versions.meetings(graph, place, ["train"]) == [met]
    remake(work, "predict", torch="1.0")
    assert versions.meetings(graph, place, ["train", "predict"])[0].endswith("predict → fuse")
    assert len(versions.meetings(graph, place, [])) == 0


def test_other_versions_are_no_other_content(work: Path) -> None:
    """An artefact that is made again with equal bytes leaves what was made from it as it is."""
    remake(work, "train", torch="1.0")
    events: list[str] = []
    execute(chain(), work, zygote=True, on_event=lambda event: events.append(str(event["event"])))
    assert "started" not in events and "damaged" not in events


def test_the_report_tells_the_versions_of_the_artefacts(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = metadata.version("torch")
    monkeypatch.setattr(metadata, "version", lambda name: "99.0")  # the renderer's own
    text = footer(Work(work))
    assert f"torch {torch}," in text and "99.0" not in text
    remake(work, "train", torch="1.0")
    assert f"torch 1.0 (train) and {torch} (predict, plain)" in footer(Work(work))
    path = next(work.glob("artifacts/predict-*/value.txt"))
    path.write_text("x" * path.stat().st_size)
    assert "Damaged since it was made: " in footer(Work(work)) and str(path) in footer(Work(work))
    for path in work.glob("artifacts/*/manifest.json"):
        atomic.write_json(path, {k: v for k, v in atomic.read_json(path).items() if k != "made_with"})
    assert footer(Work(work)).startswith("What made these artefacts was not recorded.")
