"""A stage that stands still is named in time, ended where a limit says so, and a busy one is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from processes import manifests, wait_for
from smelt.errors import PreemptedError, StageFailedError
from smelt.flowchart import journal
from smelt.flowchart.executors import children, stall
from smelt.flowchart.executors.stall import Stalls, Use, Watch
from smelt.flowchart.graph import Graph
from smelt.stages.config import Runtime
from toy import execute, node

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are watched on Linux")
QUICK = {"stall_warning_seconds": 1.0}


class Witness:
    """Collects the events of a run and does something when one comes."""

    def __init__(
        self, when: str = "", then: Callable[[Mapping[str, Any]], None] = lambda event: None
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self.when, self.then = when, then

    def __call__(self, event: Mapping[str, Any]) -> None:
        self.events.append({**event, "at": time.monotonic()})
        if event["event"] == self.when:
            self.then(event)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]


@pytest.mark.parametrize("zygote", [False, True])
def test_a_stage_that_sleeps_is_named_with_its_process_and_log(tmp_path: Path, zygote: bool) -> None:
    def end(event: Mapping[str, Any]) -> None:
        if event["pid"]:  # on a busy machine the warm process takes its time to start the stage
            os.kill(event["pid"], signal.SIGKILL)

    seen = Witness("stalled", end)
    with pytest.raises(StageFailedError, match="killed by SIGKILL"):
        execute(Graph([node("train", "sleeper")]), tmp_path, zygote=zygote, runtime=QUICK, on_event=seen)
    told = seen.named("stalled")[-1]
    (begun,) = seen.named("metric")
    assert told["pid"] == begun["pid"] and told["id"] == "train"
    assert "no event and no processor time" in told["text"] and f"process {told['pid']}" in told["text"]
    assert str(tmp_path / "logs" / "train.log") in told["text"]
    assert 0.9 < told["at"] - begun["at"] < 10
    assert [event["id"] for event in journal.read(tmp_path / "events.jsonl", "stalled")][-1:] == ["train"]


def test_by_itself_it_is_only_reported_and_going_on_is_told(tmp_path: Path) -> None:
    """Stopped for some seconds and continued: nothing is lost, and the bytes are the same."""
    graph = Graph([node("train", "slow", {"steps": 30, "seconds": 0.05})])
    execute(graph, tmp_path / "reference", zygote=True)
    pids: list[int] = []

    def stop(event: Mapping[str, Any]) -> None:
        if event["done"] == 5:
            pids.append(next(pid for pid in session_leaders() if pid not in before))
            os.kill(pids[0], signal.SIGSTOP)
            threading.Timer(3.0, os.kill, (pids[0], signal.SIGCONT)).start()

    before = set(session_leaders())
    seen = Witness("progress", stop)
    execute(graph, tmp_path / "run", zygote=False, runtime=QUICK, on_event=seen)
    texts = [told["text"] for told in seen.named("stalled")]  # a crowded machine may have added one
    assert [text for text in texts if f"process {pids[0]} of it is stopped" in text]
    assert [text for text in texts if f"kill -CONT {pids[0]}" in text]
    assert "goes on, after it stood still for" in seen.named("warning")[-1]["text"]
    assert manifests(tmp_path / "run") == manifests(tmp_path / "reference")


def session_leaders() -> list[int]:
    """Processes below this one that lead a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and int(fields[3]) == int(path.name):
            found.append(int(path.name))
    return found


@pytest.mark.parametrize("zygote", [False, True])
def test_with_a_limit_it_is_ended_and_the_same_command_goes_on(tmp_path: Path, zygote: bool) -> None:
    """The rest of the flowchart runs; what the stage had saved is there for the next time."""
    steps = {"steps": 6, "seconds": 0.05}
    hangs = {**steps, "hang_at": 3, "mark": str(tmp_path / "mark")}
    graph = Graph([node("good", "slow", steps), node("train", "hang", hangs), node("later", x="train")])
    limits = {**QUICK, "stall_limit_seconds": 4.0}
    with pytest.raises(StageFailedError) as caught:
        execute(graph, tmp_path / "run", zygote=zygote, runtime=limits, jobs=2)
    text = str(caught.value)
    assert "the stage train failed: it stood still for" in text and "stall_limit_seconds is 4" in text
    assert "the same command goes on" in text and "SIGKILL" not in text
    assert str(tmp_path / "run" / "logs" / "train.log") in text
    done = [event["id"] for event in journal.read(tmp_path / "run" / "events.jsonl", "done")]
    assert done == ["good"]
    seen = Witness()
    execute(graph, tmp_path / "run", zygote=zygote, runtime=limits, on_event=seen)
    assert seen.named("progress")[0]["done"] == 4  # it went on from its checkpoint
    assert [event["id"] for event in seen.named("done")] == ["train", "later"]


def test_one_of_several_processes_that_is_stopped_is_named_though_others_work(tmp_path: Path) -> None:
    """Ranks that wait for a stopped one may burn a processor meanwhile."""
    ended = []

    def end(event: Mapping[str, Any]) -> None:
        if event["pid"]:
            ended.append(event["text"])
            os.kill(event["pid"], signal.SIGKILL)

    seen = Witness("stalled", end)
    with pytest.raises(StageFailedError):
        execute(Graph([node("train", "spinning")]), tmp_path, zygote=True, runtime=QUICK, on_event=seen)
    (begun,) = seen.named("metric")
    assert f"process {begun['stopped']} of it is stopped" in ended[0]


def test_who_works_or_says_something_is_not_named(tmp_path: Path) -> None:
    graph = Graph(
        [
            node("busy", "burn", {"seconds": 6.0}),
            node("child", "burn", {"seconds": 6.0, "child": True}),
            node("speaks", "slow", {"steps": 20, "seconds": 0.3}),
        ]
    )
    seen = Witness()
    execute(graph, tmp_path, zygote=True, jobs=3, runtime={"stall_warning_seconds": 3.0}, on_event=seen)
    assert not seen.named("stalled") and len(seen.named("done")) == 3


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    seen = Witness()
    off = {"stall_warning_seconds": None, "stall_limit_seconds": None}
    graph = Graph([node("nap", "nap", {"seconds": 2.5})])
    execute(graph, tmp_path / "off", zygote=True, runtime=off, on_event=seen)
    assert not seen.named("stalled")
    execute(graph, tmp_path / "on", zygote=True, runtime=QUICK, on_event=seen)
    assert [event["id"] for event in seen.named("stalled")] == ["nap"]


def test_a_warm_process_that_was_stopped_is_done_without(tmp_path: Path) -> None:
    """It forks nobody: its stages have no process. At the limit they are started afresh."""
    stopped = []

    def stop(event: Mapping[str, Any]) -> None:
        if event["id"] == "a":
            (zygote,) = [pid for pid in session_leaders() if pid not in before]
            os.kill(zygote, signal.SIGSTOP)
            stopped.append(zygote)

    before = set(session_leaders())
    seen = Witness("done", stop)
    limits = {**QUICK, "stall_limit_seconds": 4.0}
    execute(Graph([node("a"), node("b", x="a")]), tmp_path, zygote=True, runtime=limits, on_event=seen)
    assert stopped and [event["id"] for event in seen.named("done")] == ["a", "b"]
    assert "which has no process yet" in seen.named("stalled")[0]["text"]


# The measure itself


def looks(*uses: tuple[float, float, tuple[int, ...]]) -> Watch:
    watch = Watch()
    for step, seconds, stopped in uses:
        watch.add(step, Use(seconds, stopped))
    return watch


def test_threads_that_only_look_around_are_no_sign_of_work() -> None:
    idle = [(4.5, 10 + 0.01 * i, ()) for i in range(12)]  # 10 ms in 4.5 s, as polling threads take
    assert looks(*idle).still == pytest.approx(4.5 * 11)
    slow = [(4.5, 10 + 0.1 * i, ()) for i in range(12)]  # two per cent of a processor
    assert looks(*slow).still == 0


def test_a_process_that_ended_took_its_time_with_it() -> None:
    assert looks((4.5, 10.0, ()), (4.5, 10.0, ()), (4.5, 3.0, ())).still == 0
    assert looks((4.5, 10.0, ()), (4.5, 11.0, (7,)), (4.5, 12.0, (7,)), (4.5, 13.0, ())).still == 0
    assert looks((4.5, 10.0, ()), (4.5, 11.0, (7,)), (4.5, 12.0, (7,))).still == 9.0


def test_a_machine_that_slept_was_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(stall.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stall, "sessions", lambda: {7: Use(3.0, ())})
    watched = Stalls(45.0, None)
    for step in (5.0, 5.0, 3600.0):
        now[0] += step
        found = watched.look({"key": (7, None)})
    assert found["key"].still == 10.0


def test_who_has_no_process_is_not_taken_for_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of the kernel are of session 0, and they are never idle for long."""
    now = [1000.0]
    monkeypatch.setattr(stall.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stall, "sessions", lambda: {0: Use(now[0], ()), 7: Use(now[0], ())})
    watched = Stalls(45.0, None)
    for _ in range(4):
        now[0] += 5.0
        found = watched.look({"waits": (None, None), "works": (7, None)})
    assert found["waits"].still == 15.0 and found["works"].still == 0.0


def test_the_numbers_of_this_machine(tmp_path: Path) -> None:
    """A session's processor time counts what its children used, the ended ones among them."""
    code = "import subprocess, sys, time\n" \
        "subprocess.run([sys.executable, '-c', 'while __import__(\"time\").process_time() < 0.8: pass'])\n" \
        "time.sleep(60)"  # fmt: skip
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        wait_for(lambda: (stall.sessions() or {}).get(child.pid, Use(0, ())).seconds > 0.5)
        os.kill(child.pid, signal.SIGSTOP)
        wait_for(lambda: (stall.sessions() or {})[child.pid].stopped == (child.pid,))
    finally:
        child.kill()
        child.wait()


def test_the_settings_are_in_no_key() -> None:
    for name in ("stall_warning_seconds", "stall_limit_seconds"):
        assert name in Runtime.model_fields and name in Runtime.RULES
        assert Runtime.model_fields[name].description
    assert Runtime().stall_warning_seconds == stall.WARNING_SECONDS < 60
    assert Runtime().stall_limit_seconds is None


def zygote_of_this() -> int:
    """The warm process of the run in this process."""
    name = b"executors.zygote"
    return min(pid for pid in session_leaders() if name in Path(f"/proc/{pid}/cmdline").read_bytes())


def that_stops_the_warm_process(
    when: str, then: Callable[[], None] = lambda: None
) -> tuple[Witness, list[int]]:
    """Who stops the warm process at the first event of that name, then does something; and its pid."""
    stopped: list[int] = []

    def stop(event: Mapping[str, Any]) -> None:
        if not stopped:
            stopped.append(zygote_of_this())
            os.kill(stopped[0], signal.SIGSTOP)
            then()

    return Witness(when, stop), stopped


def test_a_warm_process_that_is_stopped_before_it_starts_a_stage_is_named(tmp_path: Path) -> None:
    """It is named with what lets it go on; with a limit it is ended, and the stage is started afresh."""
    seen, stopped = that_stops_the_warm_process("started")
    limits = {**QUICK, "stall_limit_seconds": 2.0}
    execute(Graph([node("a")]), tmp_path, zygote=True, runtime=limits, on_event=seen)
    (told,) = seen.named("stalled")
    assert "which has no process yet" in told["text"]
    assert f"process {stopped[0]}, which starts stages, is stopped (SIGSTOP)" in told["text"]
    assert f"kill -CONT {stopped[0]}" in told["text"]
    assert [event["id"] for event in seen.named("done")] == ["a"]
    assert any(f"the warm process {stopped[0]}" in event["text"] for event in seen.named("warning"))


def test_a_warm_process_that_does_not_tell_of_an_end_is_named_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while its child works, it never reports the child's end; the run waited for it for ever."""
    monkeypatch.setattr(children, "PATIENCE_SECONDS", 1.0)
    seen, stopped = that_stops_the_warm_process("progress")
    graph = Graph([node("a", "slow", {"steps": 4, "seconds": 0.05}), node("b", x="a")])
    execute(graph, tmp_path, zygote=True, on_event=seen)
    assert [event["id"] for event in seen.named("done")] == ["a", "b"]  # nothing of it was done twice
    assert len(seen.named("started")) == 2
    (told,) = seen.named("warning")
    assert f"the warm process {stopped[0]} that starts stages has not told for 1 s" in told["text"]


@pytest.mark.parametrize("when", ["started", "progress"])
def test_asked_to_end_a_run_does_not_wait_for_a_stopped_warm_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """SIGTERM, before the stage has a process and after: the run ends, where it waited for ever."""
    monkeypatch.setattr(children, "PATIENCE_SECONDS", 1.0)
    seen, stopped = that_stops_the_warm_process(when, lambda: os.kill(os.getpid(), signal.SIGTERM))
    graph = Graph([node("a", "slow", {"steps": 60, "seconds": 0.05})])
    with pytest.raises(PreemptedError):
        execute(graph, tmp_path, zygote=True, on_event=seen, grace_seconds=2.0)
    assert not Path(f"/proc/{stopped[0]}").exists()
    execute(graph, tmp_path, zygote=False)  # what was saved is gone on from
