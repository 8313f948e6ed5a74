"""Toy stages for the tests of the flowchart, and the two commands that run them (a stage, a whole run).

`python toy.py KEY --work DIR` is the stage command; `python toy.py run DIR SPEC.json` the whole run.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import smelt
from smelt.errors import DataError, SmeltError
from smelt.files import atomic
from smelt.flowchart.executors import worker
from smelt.flowchart.executors.local import LocalExecutor
from smelt.flowchart.executors.stall import Stalls
from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.running import run as run_graph
from smelt.flowchart.work import Work

# for child processes: this module, and the smelt that is tested
PATHS = os.pathsep.join([str(Path(__file__).parent), str(Path(smelt.__file__).parents[1])])


def run(
    stage: str,
    settings: dict[str, Any],
    *,
    inputs: dict[str, list[Path]],
    out: Path,
    scratch: Path,
    runtime: dict[str, Any],
    emit: Any,
) -> None:
    """The runner: the stage's name says what it does; all write `value.txt` from settings and inputs."""
    digest = hashlib.sha256(json.dumps([stage, settings], sort_keys=True).encode())
    for port in sorted(inputs):
        for folder in inputs[port]:
            digest.update((port + (folder / "value.txt").read_text()).encode())
    if stage == "fickle":  # comes out as something that is in no key
        digest.update(Path(settings["path"]).read_bytes())
    behave(stage, settings, out, scratch, runtime, emit)
    (out / "value.txt").write_text(digest.hexdigest())


def behave(
    stage: str, settings: dict[str, Any], out: Path, scratch: Path, runtime: dict[str, Any], emit: Any
) -> None:
    if stage == "slow":
        write_slowly(settings, out, scratch, emit)
    elif stage == "refuse":
        raise DataError("lists/train.txt:3: the label 9 is out of range")
    elif stage == "crash":
        print("about to crash")
        raise RuntimeError("a bug")
    elif stage == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif stage == "family":  # a grandchild that would live for long
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        emit("metric", pid=os.getpid(), grandchild=child.pid)
        time.sleep(600)
    elif stage == "sleeper":
        emit("metric", pid=os.getpid())
        time.sleep(600)
    elif stage == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        emit("metric", pid=os.getpid())
        time.sleep(600)
    elif stage == "hang":  # stands still at a step, the first time
        hang(settings, out, scratch, emit)
    elif stage == "nap":
        time.sleep(settings["seconds"])
    elif stage == "burn":
        burn(settings["seconds"], child=settings.get("child", False))
    elif stage == "spinning":  # works for ever, and has a child that was stopped
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        os.kill(child.pid, signal.SIGSTOP)
        emit("metric", pid=os.getpid(), stopped=child.pid)
        burn(600)
    elif stage == "environment":
        emit("metric", **{name: os.environ.get(name) for name in settings["names"]})
    elif stage == "big":
        atomic.write_bytes(out / "big.bin", bytes(settings["bytes"]))


def burn(seconds: float, child: bool = False) -> None:
    """Use a processor for so long, here or in a child."""
    if child:
        code = f"import time; end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
        return
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def hang(settings: dict[str, Any], out: Path, scratch: Path, emit: Any) -> None:
    """As `slow`, but the first time it sleeps after `hang_at` steps; the file `mark` remembers."""
    mark = Path(settings["mark"])
    if mark.exists():
        write_slowly(settings, out, scratch, emit)
        return
    mark.touch()
    write_slowly({**settings, "steps": settings["hang_at"]}, out, scratch, emit)
    time.sleep(600)


def write_slowly(settings: dict[str, Any], out: Path, scratch: Path, emit: Any) -> None:
    """Several files, a chained hash over all steps, and a checkpoint in scratch after every step."""
    steps = settings["steps"]
    checkpoint = scratch / "checkpoint.json"
    state = atomic.read_json(checkpoint) if checkpoint.exists() else {"step": 0, "hash": ""}
    for step in range(state["step"], steps):
        time.sleep(settings.get("seconds", 0.01))
        state = {"step": step + 1, "hash": hashlib.sha256(f"{state['hash']}{step}".encode()).hexdigest()}
        atomic.write_bytes(out / f"part{step}.txt", state["hash"].encode() * 50)
        atomic.write_json(checkpoint, state)
        emit("progress", done=step + 1, total=steps, unit="steps")


def node(id: str, stage: str = "plain", settings: dict[str, Any] | None = None, **ports: Any) -> Node:
    inputs = {port: (ids,) if isinstance(ids, str) else tuple(ids) for port, ids in ports.items()}
    return Node(id, stage, settings=settings or {}, inputs=inputs)


def chart(seconds: float = 0.01, steps: int = 4) -> Graph:
    """A small copy of the real flowchart's form."""
    slow = {"steps": steps, "seconds": seconds}
    return Graph(
        [
            node("index", "slow", {**slow, "name": "index"}),
            node("select", "plain", {"fraction": 0.2}, catalogue="index"),
            node("train/0", "slow", {**slow, "seed": 0}, selection="select"),
            node("train/1", "slow", {**slow, "seed": 1}, selection="select"),
            node("rank", "plain", {}, train=["train/0", "train/1"]),
            node("fuse", "slow", {**slow, "name": "fuse"}, ranking="rank", catalogue="index"),
        ]
    )


def execute(graph: Graph, folder: Path, *, zygote: bool = False, **options: Any) -> None:
    """The whole run in this process; the children find this module."""
    work = Work(folder)
    command = (sys.executable, __file__)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATHS)
        wanted = options.get("runtime", {})
        stalls = Stalls(wanted.get("stall_warning_seconds", 45.0), wanted.get("stall_limit_seconds"))
        local = LocalExecutor(work, "toy:run", command=command, zygote=zygote, stalls=stalls)
        run_graph(graph, work, local, **options)


def main(arguments: list[str]) -> int:
    if arguments[0] == "run":
        options = json.loads(arguments[2])
        name = options.pop("graph", "")
        graph = chart(options.pop("seconds", 0.01), options.pop("steps", 4))
        if name:
            settings = {"steps": 50, "seconds": 0.02}
            graph = Graph([node("train", "slow", settings) if name == "long" else node(name, name)])
        try:
            execute(graph, Path(arguments[1]), **options)
        except SmeltError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        return 0
    return worker.run_stage(arguments[2], arguments[0], run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
