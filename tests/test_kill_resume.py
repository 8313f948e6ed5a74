"""kill -9 at any moment, then the same command: it finishes, repeats nothing committed, gives equal bytes."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from processes import Run, manifests, wait_for
from smelt.flowchart import journal
from smelt.flowchart.work import Work
from toy import Graph, chart, execute, node

SPEED = {"seconds": 0.03, "steps": 6}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("reference")
    execute(chart(**SPEED), folder, zygote=True, jobs=2)
    return folder


def finish(folder: Path, reference: Path, **options: object) -> None:
    """Give the command again; what was committed is not begun again, and all bytes are the reference's."""
    before = manifests(folder)
    seen = len(list(journal.read(folder / "events.jsonl")))
    code, errors = Run(folder, **{**SPEED, "jobs": 2, **options}).end()
    assert code == 0, errors
    again = [
        event for event in list(journal.read(folder / "events.jsonl"))[seen:] if event["event"] == "started"
    ]
    assert not {f"{event['stage']}-{event['key']}" for event in again} & set(before)
    assert len(again) == len(chart()) - len(before)
    assert manifests(folder) == manifests(reference)
    assert not [path for path in (folder / "attempts").iterdir() if path.is_dir()]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_kill_everything_at_a_random_moment(tmp_path: Path, reference: Path, seed: int) -> None:
    rng = random.Random(seed)
    zygote = seed % 3 != 2
    for _ in range(2):  # and once more, into the second attempt
        run = Run(tmp_path, **SPEED, jobs=2, zygote=zygote)
        wait_for(lambda run=run: (tmp_path / "events.jsonl").exists() or run.process.poll() is not None)
        time.sleep(rng.uniform(0.0, 1.2 if zygote else 2.5))
        run.kill_everything()
    finish(tmp_path, reference, zygote=zygote)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_kill_only_the_orchestrator(tmp_path: Path, reference: Path, seed: int) -> None:
    """None of its processes is alive 5 s later, and no lock stands in the way."""
    rng = random.Random(100 + seed)
    run = Run(tmp_path, **SPEED, jobs=2, zygote=seed % 3 != 2)
    wait_for(lambda: run.events("started"))
    time.sleep(rng.uniform(0.0, 0.8))
    run.kill_orchestrator()
    wait_for(lambda: not run.alive(), 5.0)
    finish(tmp_path, reference, zygote=seed % 3 != 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "point, zygote",
    [
        ("stage:plain", True),
        ("commit:before", True),
        ("commit:inside", True),
        ("commit:inside", False),
        ("commit:inside:slow", True),
        ("commit:after", True),
    ],
)
def test_killed_at_a_point(tmp_path: Path, reference: Path, point: str, zygote: bool) -> None:
    run = Run(tmp_path, fail_at=point, **SPEED, jobs=2, zygote=zygote)
    code, errors = run.end()
    # killed just after the commit, a stage is done, whatever became of its process
    assert code == (0 if point.startswith("commit:after") else 4), errors
    assert code == 0 or "killed by SIGKILL" in errors
    finish(tmp_path, reference, zygote=zygote)


@pytest.mark.parametrize("zygote", [False, True])
def test_grandchildren_die_with_the_orchestrator(tmp_path: Path, zygote: bool) -> None:
    run, pids = start_family(tmp_path, zygote)
    run.kill_orchestrator()
    wait_for(lambda: not run.alive(), 5.0)
    assert not any(Path(f"/proc/{pid}").exists() and pid in run.alive() for pid in pids)


@pytest.mark.parametrize("zygote", [False, True])
def test_grandchildren_die_with_their_stage(tmp_path: Path, zygote: bool) -> None:
    run, (stage, grandchild) = start_family(tmp_path, zygote)
    os.kill(stage, signal.SIGKILL)
    wait_for(lambda: grandchild not in run.alive(), 5.0)
    code, errors = run.end()
    assert code == 4
    assert "family failed: killed by SIGKILL" in errors
    assert not run.alive()


def start_family(folder: Path, zygote: bool) -> tuple[Run, tuple[int, int]]:
    """A run whose stage has a child of its own; (stage, its child)."""
    run = Run(folder, graph="family", zygote=zygote)
    (metric, *_) = wait_for(lambda: run.events("metric"))
    assert {metric["pid"], metric["grandchild"]} <= set(run.alive())
    return run, (metric["pid"], metric["grandchild"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, zygote",
    [(signal.SIGTERM, True), (signal.SIGTERM, False), (signal.SIGINT, True), (signal.SIGHUP, True)],
)
def test_asked_to_stop(tmp_path: Path, reference: Path, number: int, zygote: bool) -> None:
    run = Run(tmp_path, **SPEED, jobs=2, zygote=zygote)
    wait_for(lambda: run.events("started"))
    run.process.send_signal(number)
    code, errors = run.end()
    assert code == 75
    assert "the same command goes on" in errors
    assert not run.alive()
    assert [event["event"] for event in run.events()][-1] == "run_done"
    finish(tmp_path, reference, zygote=zygote)


def test_asked_twice_does_not_wait(tmp_path: Path) -> None:
    run = Run(tmp_path, graph="stubborn", zygote=True)
    wait_for(lambda: run.events("metric"))
    run.process.send_signal(signal.SIGINT)
    wait_for(lambda: run.events("stopping"))
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGINT)
    assert run.end(10.0)[0] == 75
    assert not run.alive()


def test_a_stage_that_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    run = Run(tmp_path, graph="stubborn", zygote=False, grace_seconds=0.3)
    wait_for(lambda: run.events("metric"))
    run.process.send_signal(signal.SIGTERM)
    assert run.end(15.0)[0] == 75
    assert not run.alive()


def test_a_stage_that_is_preempted_stops_the_run(tmp_path: Path) -> None:
    """A scheduler may send SIGTERM to every process; the stage's own 75 must not read as a failure."""
    run = Run(tmp_path, graph="sleeper", zygote=True)
    (metric, *_) = wait_for(lambda: run.events("metric"))
    os.kill(metric["pid"], signal.SIGTERM)
    code, errors = run.end()
    assert code == 75
    assert "sleeper was asked to stop" in errors


def test_scratch_is_gone_on_from(tmp_path: Path) -> None:
    """A stage killed after step k does not do the first k steps again."""
    graph = Graph([node("train", "slow", {"steps": 50, "seconds": 0.02})])
    run = Run(tmp_path, graph="long")
    checkpoint = Work(tmp_path).attempt("slow", graph.key("train")) / "scratch" / "checkpoint.json"
    wait_for(checkpoint.exists)
    time.sleep(0.2)
    run.kill_everything()
    step = int(checkpoint.read_text().split('"step": ')[1].split()[0].rstrip(",}"))
    first: list[int] = []

    def note(event: object) -> None:
        if isinstance(event, dict) and event["event"] == "progress":
            first.append(event["done"])

    execute(graph, tmp_path, zygote=True, on_event=note)
    assert step >= 1
    assert first[0] == step + 1
