"""The run: order, failure, devices, threads, damage, the warm process and what ends with what."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from processes import Run, manifests, wait_for
from smelt.errors import ArtifactError, RecipeError, SmeltError, StageFailedError
from smelt.files import atomic
from smelt.flowchart import journal, running, upkeep, versions
from smelt.flowchart.executors import memory
from smelt.flowchart.executors.local import LocalExecutor
from smelt.flowchart.executors.protocol import Ended, Said, Task
from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.progress import Progress
from smelt.flowchart.reasons import plan
from smelt.flowchart.work import Work
from toy import PATHS, chart, execute, node

Events = list[Mapping[str, Any]]


def run(graph: Graph, folder: Path, **options: Any) -> Events:
    """Run, and give back the events (those of a failed run are in the journal only)."""
    events: Events = []
    execute(graph, folder, on_event=events.append, **options)
    return events


def named(events: Events, name: str) -> list[str]:
    return [event["id"] for event in events if event["event"] == name]


@pytest.mark.parametrize("zygote", [False, True])
def test_everything_runs_once_in_order(tmp_path: Path, zygote: bool) -> None:
    graph = chart()
    events = run(graph, tmp_path, jobs=2, zygote=zygote)
    started, done = named(events, "started"), named(events, "done")
    assert sorted(started) == sorted(done) == sorted(graph.nodes)
    order = [(event["event"], event.get("id")) for event in events]
    for item in graph:
        for parent in item.parents():
            assert order.index(("done", parent)) < order.index(("started", item.id))
    assert len(manifests(tmp_path)) == len(graph)
    assert not [path for path in (tmp_path / "attempts").iterdir() if path.is_dir()]
    again = run(graph, tmp_path, zygote=zygote)
    assert not named(again, "started")


def test_forked_and_fresh_processes_give_the_same_bytes(tmp_path: Path) -> None:
    execute(chart(), tmp_path / "a", zygote=False, jobs=2)
    execute(chart(), tmp_path / "b", zygote=True, jobs=1)
    assert manifests(tmp_path / "a") == manifests(tmp_path / "b")


def test_nothing_of_clock_host_or_path_is_in_an_artefact(tmp_path: Path) -> None:
    execute(chart(), tmp_path / "a", zygote=True)
    manifest = atomic.read_json(next((tmp_path / "a" / "artifacts").glob("plain-*/manifest.json")))
    assert sorted(manifest) == [
        "contents", "external", "files", "inputs", "key", "made_with", "settings", "stage", "version",
    ]  # fmt: skip
    assert set(manifest["made_with"]) <= {"processor", "libjpeg_turbo", *versions.here()}
    assert str(tmp_path).encode() not in b"".join(manifests(tmp_path / "a").values())


def test_equal_keys_run_once(tmp_path: Path) -> None:
    graph = Graph([node("a"), node("b"), node("c", x=["a", "b"])])
    assert named(run(graph, tmp_path, zygote=True), "started") == ["a", "c"]


def test_an_edit_reruns_only_what_depends_on_it(tmp_path: Path) -> None:
    def graph(fraction: float) -> Graph:
        return Graph([item if item.id != "select" else edited(item, fraction) for item in chart()])

    def edited(item: Node, fraction: float) -> Node:
        return Node(item.id, item.stage, settings={"fraction": fraction}, inputs=item.inputs)

    execute(graph(0.2), tmp_path, zygote=True)
    lines = {line.id: line for line in plan(graph(0.3), Work(tmp_path))}
    assert {name for name, line in lines.items() if line.state == "done"} == {"index"}
    assert lines["select"].why == "settings changed: fraction 0.2 → 0.3"
    events = run(graph(0.3), tmp_path, zygote=True)
    assert set(named(events, "started")) == {"select", "train/0", "train/1", "rank", "fuse"}
    assert not named(run(graph(0.2), tmp_path, zygote=True), "started")  # the old results are still there


def test_a_moved_and_a_copied_folder_run_nothing(tmp_path: Path) -> None:
    execute(chart(), tmp_path / "a", zygote=True)
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    (tmp_path / "a").rename(tmp_path / "c")
    for path in (tmp_path / "c").rglob("*"):
        os.utime(path, (0, 0))
    for name in ("b", "c"):
        assert not named(run(chart(), tmp_path / name), "started")


# Failure


@pytest.mark.parametrize("zygote", [False, True])
def test_a_failure_stops_only_what_depends_on_it(tmp_path: Path, zygote: bool) -> None:
    graph = Graph(
        [
            node("good"),
            node("bad", "crash"),
            node("after/bad", x="bad"),
            node("later", settings={"n": 1}, x="good"),
        ]
    )
    with pytest.raises(StageFailedError) as caught:
        execute(graph, tmp_path, zygote=zygote)
    text = str(caught.value)
    assert "the stage bad failed: RuntimeError: a bug" in text
    assert str(tmp_path / "logs" / "bad.log") in text
    assert "about to crash" in text  # the end of the log
    assert "1 stage further on did not run for it" in text
    assert caught.value.exit_code == 4
    done = [event["id"] for event in journal.read(tmp_path / "events.jsonl", "done")]
    assert sorted(done) == ["good", "later"]


def test_a_refusal_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(StageFailedError, match=r"check failed: lists/train\.txt:3: the label 9") as caught:
        execute(Graph([node("check", "refuse")]), tmp_path, zygote=True)
    assert "Traceback" not in str(caught.value)
    assert caught.value.exit_code == 2  # the user's data, seen by a stage


def test_a_refusal_beside_another_failure_is_a_failure(tmp_path: Path) -> None:
    nodes = [node("check", "refuse"), node("train", "crash")]
    with pytest.raises(StageFailedError) as caught:
        execute(Graph(nodes), tmp_path, zygote=True)
    assert caught.value.exit_code == 4 and "check failed" in str(caught.value)


def test_a_killed_stage_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageFailedError, match="train failed: killed by SIGKILL\nSomething else killed it"):
        execute(Graph([node("train", "die")]), tmp_path, zygote=True)
    counts = itertools.count()
    monkeypatch.setattr(memory, "oom_kills", lambda: next(counts))
    with pytest.raises(StageFailedError, match=r"The kernel killed it for want of memory.*fewer jobs"):
        execute(Graph([node("train", "die")]), tmp_path, zygote=True)


def test_disk_full_is_told_and_gone_on_from(tmp_path: Path) -> None:
    graph = Graph([node("a"), node("big", "big", {"bytes": 300_000}, x="a")])
    execute(graph, tmp_path / "reference", zygote=True)
    code = (
        "import resource, sys; from pathlib import Path; from toy import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "graph = Graph([node('a'), node('big', 'big', {'bytes': 300_000}, x='a')])\n"
        "execute(graph, Path(sys.argv[1]), zygote=True)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "full")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": PATHS},
    )
    assert "StageFailedError" in result.stderr
    assert "big.bin (300000 bytes): File too large" in result.stderr
    assert len(manifests(tmp_path / "full")) == 1
    events = run(graph, tmp_path / "full", zygote=True)
    assert named(events, "started") == ["big"]
    assert manifests(tmp_path / "full") == manifests(tmp_path / "reference")


def test_more_devices_than_there_are_is_refused_before_anything(tmp_path: Path) -> None:
    graph = Graph([node("a"), Node("train", "plain", settings={"x": 1}, devices=4)])
    with pytest.raises(RecipeError, match="train needs 4 devices, and 2 are given"):
        execute(graph, tmp_path / "work", devices=["0", "1"])
    assert not (tmp_path / "work").exists()


# Threads, devices, jobs


def environment(id: str, *names: str, **fields: Any) -> Node:
    return Node(id, "environment", settings={"names": list(names), "id": id}, **fields)


@pytest.mark.parametrize("zygote", [False, True])
def test_threads_and_devices_reach_the_stage(tmp_path: Path, zygote: bool) -> None:
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    graph = Graph([environment("cpu", *names, threads=3), environment("gpu", *names, devices=2)])
    events = run(graph, tmp_path, zygote=zygote, devices=["4", "6", "7"])
    seen = {event["id"]: (event[names[0]], event[names[1]]) for event in events if event["event"] == "metric"}
    assert seen == {"cpu": ("3", ""), "gpu": ("1", "4,6")}


def test_a_device_is_leased_to_one_stage_at_a_time(tmp_path: Path) -> None:
    slow = {"steps": 2, "seconds": 0.05}
    graph = Graph([Node(f"t{i}", "slow", settings={**slow, "i": i}, devices=1) for i in range(5)])
    events = run(graph, tmp_path, jobs=4, devices=["0", "1"])
    held: dict[str, list[str]] = {}
    most = 0
    for event in events:
        if event["event"] == "started":
            held[event["id"]] = list(event["devices"])
        elif event["event"] == "done":
            del held[event["id"]]
        used = [device for devices in held.values() for device in devices]
        assert len(used) == len(set(used))
        most = max(most, len(used))
    assert most == 2
    assert len(named(events, "done")) == 5


@pytest.mark.parametrize("jobs", [1, 3])
def test_no_more_jobs_than_asked_for(tmp_path: Path, jobs: int) -> None:
    graph = Graph([node(f"t{i}", "slow", {"steps": 2, "seconds": 0.02, "i": i}) for i in range(6)])
    running, most = 0, 0
    for event in run(graph, tmp_path, jobs=jobs, zygote=True):
        running += {"started": 1, "done": -1}.get(event["event"], 0)
        most = max(most, running)
    assert most == jobs


def test_the_longest_way_goes_first(tmp_path: Path) -> None:
    graph = Graph(
        [node("short"), node("long", settings={"n": 1}), node("next", x="long"), node("last", x="next")]
    )
    assert (
        named(run(graph, tmp_path, zygote=True), "started") == ["long", "next", "last", "short"]
        or named(run(graph, tmp_path / "2", zygote=True), "started")[0] == "long"
    )


# Damage


def damage(folder: Path, stage: str, *, same_size: bool) -> Path:
    path = next(folder.glob(f"artifacts/{stage}-*/value.txt"))
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:] if same_size else content[:-1])
    return path


def test_a_truncated_artefact_is_set_aside_and_made_again(tmp_path: Path) -> None:
    graph = Graph([node("a", "first"), node("b", x="a")])
    execute(graph, tmp_path, zygote=True)
    before = manifests(tmp_path)
    damage(tmp_path, "first", same_size=False)
    events = run(graph, tmp_path, zygote=True)
    assert named(events, "damaged") == ["a"]
    assert named(events, "started") == ["a"]
    assert manifests(tmp_path) == before
    assert len(list((tmp_path / "damaged").iterdir())) == 1


def test_verify_finds_one_flipped_bit(tmp_path: Path) -> None:
    graph = Graph([node("a", "first"), node("b", x="a")])
    execute(graph, tmp_path, zygote=True)
    assert upkeep.verify(tmp_path) == []
    path = damage(tmp_path, "first", same_size=True)
    (found,) = upkeep.verify(tmp_path)
    assert str(path) in found
    assert "other content" in found
    assert named(run(graph, tmp_path, zygote=True), "started") == ["a"]
    assert upkeep.verify(tmp_path) == []


def test_clean_keeps_what_the_flowchart_needs(tmp_path: Path) -> None:
    execute(Graph([node("a", settings={"n": 1}), node("b", x="a")]), tmp_path, zygote=True)
    graph = Graph([node("a", settings={"n": 2}), node("b", x="a")])
    execute(graph, tmp_path, zygote=True)
    kept = {f"plain-{key}" for key in graph.keys.values()}
    listed = upkeep.clean(tmp_path, delete=False)
    assert len(listed) == 2
    assert all(path.exists() for path in listed)
    assert upkeep.clean(tmp_path) == listed
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == kept
    assert not named(run(graph, tmp_path), "started")


def test_a_stage_run_by_hand(tmp_path: Path) -> None:
    graph = Graph([node("a"), node("b", x="a")])
    work = Work(tmp_path)
    work.create()
    work.save(graph, {"workers": 3})

    def by_hand(key: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(Path(__file__).with_name("toy.py")), key, "--work", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True)

    early = by_hand(graph.key("b"))
    assert early.returncode == 2
    assert "b reads from a, which cannot be used" in early.stderr
    assert by_hand("nokey").returncode == 2
    for key in (graph.key("a"), graph.key("b"), graph.key("b")):
        assert by_hand(key).returncode == 0
    assert not work.damaged.exists()  # the third found its artefact, and made no other
    assert not named(run(graph, tmp_path), "started")


def test_a_stage_by_hand_has_the_threads_of_its_node(tmp_path: Path) -> None:
    """Not those of the machine that it is started on, which no key knows."""
    work, graph = Work(tmp_path), Graph([environment("cpu", "OMP_NUM_THREADS", threads=3)])
    work.create()
    work.save(graph, {})
    toy = str(Path(__file__).with_name("toy.py"))
    for machine in ("1", "7"):
        done = subprocess.run(
            [sys.executable, toy, graph.key("cpu"), "--work", str(tmp_path)],
            capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": machine},
        )  # fmt: skip
        assert "OMP_NUM_THREADS=3" in done.stderr, done.stderr
        shutil.rmtree(work.artifact("environment", graph.key("cpu")))


def test_leftovers_of_a_killed_atomic_write_are_not_committed(tmp_path: Path) -> None:
    graph = Graph([node("a")])
    attempt = Work(tmp_path).attempt("plain", graph.key("a"))
    attempt.mkdir(parents=True)
    (attempt / ".value.txt.123.tmp").write_text("half")
    execute(graph, tmp_path, zygote=True)
    manifest = atomic.read_json(next(tmp_path.glob("artifacts/*/manifest.json")))
    assert list(manifest["files"]) == ["value.txt"]


def test_a_work_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SmeltError, match="cannot make the work folder"):
        execute(Graph([node("a")]), tmp_path / "file" / "work")
    with pytest.raises(ArtifactError, match="is not there"):
        upkeep.clean(tmp_path / "none")


# An executor of one's own: what CONTRIBUTING shows


class Plain:
    """The smallest executor: starts the command and looks whether it has ended."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.jobs: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, task: Task) -> None:
        command = [sys.executable, str(Path(__file__).with_name("toy.py")), task.key]
        with open(task.log, "ab") as log:
            self.jobs[task.key] = subprocess.Popen(
                [*command, "--work", str(self.work.folder)], stdout=log, stderr=log
            )

    def wait(self, seconds: float) -> list[Said | Ended]:
        time.sleep(min(seconds, 0.05))
        codes = {key: job.poll() for key, job in self.jobs.items()}
        ended = [Ended(key, code) for key, code in codes.items() if code is not None]
        for end in ended:
            del self.jobs[end.key]
        return [*ended]

    def stop(self, key: str, *, kill: bool) -> None:
        self.jobs[key].send_signal(signal.SIGKILL if kill else signal.SIGTERM)

    def close(self) -> None:
        for job in self.jobs.values():
            job.kill()


def test_an_executor_of_ones_own_needs_four_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", PATHS)
    events: Events = []
    work = Work(tmp_path / "work")
    running.run(chart(), work, Plain(work), jobs=2, on_event=events.append)
    assert sorted(named(events, "done")) == sorted(chart().nodes)
    execute(chart(), tmp_path / "reference", zygote=True)
    assert manifests(tmp_path / "work") == manifests(tmp_path / "reference")
    work = Work(tmp_path / "bad")
    with pytest.raises(StageFailedError, match="check failed with exit code 2"):
        running.run(Graph([node("check", "refuse")]), work, Plain(work))


# The warm process


def test_without_its_warm_process_a_run_starts_stages_afresh(tmp_path: Path) -> None:
    work = Work(tmp_path)
    command = (sys.executable, str(Path(__file__).with_name("toy.py")))
    local = LocalExecutor(work, "toy:run", preload=("no_such_module",), command=command, zygote=True)
    events: Events = []
    running.run(Graph([node("a"), node("b", x="a")]), work, local, on_event=events.append)
    assert named(events, "done") == ["a", "b"]
    assert named(events, "warning") == ["a"]


def test_a_lost_warm_process_costs_no_stage(tmp_path: Path) -> None:
    """kill -9 of the zygote while two stages run: both are started afresh and go on."""
    reference = tmp_path / "reference"
    execute(chart(), reference, zygote=True)
    first = Run(tmp_path / "work", zygote=True, jobs=2, seconds=0.1, steps=4)
    try:
        wait_for(lambda: len(first.events("started")) >= 3)
        zygotes = [pid for pid in first.alive() if b"executors.zygote" in command_line(pid)]
        os.kill(min(zygotes), signal.SIGKILL)
        code, errors = first.end()
        assert code == 0, errors
    finally:
        first.kill_everything()
    execute(chart(0.1), tmp_path / "same", zygote=True)
    assert manifests(tmp_path / "work") == manifests(tmp_path / "same")


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# Progress


def test_progress_without_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smelt.flowchart.progress.EVERY_SECONDS", 0.0)
    stream = io.StringIO()
    with Progress(stream) as progress:
        execute(chart(), tmp_path, on_event=progress, zygote=True)
    text = stream.getvalue()
    assert text.startswith("6 stages\nindex: begins\n")
    assert "index: 4 of 4 steps" in text
    assert "(6 of 6)" in text.splitlines()[-1]


def test_progress_on_a_terminal_draws_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(stream) as progress:
        progress({"event": "run_started", "stages": 2, "done": 0})
        progress({"event": "started", "id": "train/[red]x[/red]", "resumed": False})
        progress({"event": "progress", "id": "train/[red]x[/red]", "done": 3, "total": 10, "unit": "steps"})
        progress({"event": "done", "id": "train/[red]x[/red]", "seconds": 75.0})
    assert "all stages" in stream.getvalue()
    assert "train/[red]x[/red]: done in 1 min 15 s (1 of 2)" in stream.getvalue()


def test_a_closed_output_does_not_end_the_run(tmp_path: Path) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with Progress(Closed()) as progress:
        execute(Graph([node("a")]), tmp_path, on_event=progress, zygote=True)
    assert len(manifests(tmp_path)) == 1


def test_quiet_says_only_what_went_wrong() -> None:
    stream = io.StringIO()
    with Progress(stream, quiet=True) as progress:
        progress({"event": "run_started", "stages": 2, "done": 0})
        progress({"event": "progress", "id": "a", "done": 1, "total": 2})
        progress({"event": "failed", "id": "a", "text": "a failed: the label 9\nlog: …"})
    assert stream.getvalue() == "a failed: the label 9\n"


def test_a_failure_is_told_once_where_the_run_ends_with_it(tmp_path: Path) -> None:
    stream = io.StringIO()
    graph = Graph([node("check", "refuse"), node("after", x="check")])
    with Progress(stream) as progress, pytest.raises(StageFailedError, match="check failed"):
        execute(graph, tmp_path, on_event=progress, zygote=True)
    assert "check failed" not in stream.getvalue()


def test_a_failure_is_told_at_once_where_others_go_on(tmp_path: Path) -> None:
    stream = io.StringIO()
    graph = Graph([node("check", "refuse"), node("a"), node("b", x="a"), node("c", settings={"n": 1}, x="b")])
    with Progress(stream) as progress, pytest.raises(StageFailedError, match="check failed"):
        execute(graph, tmp_path, on_event=progress, zygote=True, jobs=2)
    told = stream.getvalue()
    assert told.count("check failed") == 1 and told.index("check failed") < told.index("c: done")


def test_what_a_watcher_raises_ends_the_run(tmp_path: Path) -> None:
    def watch(event: Mapping[str, Any]) -> None:
        if event["event"] == "done" and event["id"] == "a":
            raise RecipeError("no such split")

    graph = Graph([node("a"), node("b", x="a")])
    with pytest.raises(RecipeError, match="no such split"):
        execute(graph, tmp_path, on_event=watch, zygote=True)
    assert len(manifests(tmp_path)) == 1
    execute(graph, tmp_path, zygote=True)  # the lock is free, and what was done is kept
    assert len(manifests(tmp_path)) == 2
