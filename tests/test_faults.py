"""The whole real method under faults: killed, asked to stop, without network or space, beside another run."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from conftest import TINY, overrides, smelt
from processes import MARK, Marked, manifests, wait_for
from smelt.flowchart import journal

SMELT = [sys.executable, "-m", "smelt"]


class Started(Marked):
    """`smelt run demo …` in a session of its own; every process of it carries a mark."""

    def __init__(self, work: Path, *extra: str) -> None:
        self.work, self.mark = work, uuid.uuid4().hex
        self.process = subprocess.Popen(
            [*SMELT, "run", "demo", "--work", str(work), "--quiet", *overrides(*extra)],
            env=os.environ | {MARK: self.mark}, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def stages(self, event: str) -> list[str]:
        """Ids of the stages of which `event` was told."""
        path = self.work / "events.jsonl"
        return [e["id"] for e in journal.read(path, event)] if path.exists() else []


def finish(work: Path, reference: Path, *extra: str) -> None:
    """The same command ends well, begins no committed stage again, and every artefact has equal bytes."""
    before, seen = manifests(work), len(list(journal.read(work / "events.jsonl")))
    done = smelt("run", "demo", "--work", str(work), "--quiet", *overrides(*extra))
    assert done.returncode == 0, done.stderr[-3000:]
    events = list(journal.read(work / "events.jsonl"))[seen:]
    assert not {f"{e['stage']}-{e['key']}" for e in events if e["event"] == "started"} & set(before)
    assert manifests(work) == manifests(reference)


@pytest.mark.slow
def test_asked_to_stop_and_killed_at_random_moments(finished: Path, tmp_path: Path) -> None:
    """One run: in its first training it is asked to stop, then six times all of it is killed, after some of
    its stages and a moment into what comes next."""
    run = Started(tmp_path)
    wait_for(lambda: any(name.startswith("train/") for name in run.stages("started")), 200)
    run.process.send_signal(signal.SIGTERM)
    _, errors = run.process.communicate(timeout=60)
    assert run.process.returncode == 75 and "the same command goes on" in errors
    assert not run.alive()
    rng = random.Random(0)
    first, stages = len(manifests(tmp_path)), len(manifests(finished))
    for stop in sorted(rng.sample(range(first, stages - 2), 6)):
        run = Started(tmp_path)
        wait_for(
            lambda run=run, stop=stop: len(manifests(tmp_path)) > stop or run.process.poll() is not None, 200
        )
        time.sleep(rng.uniform(0.0, 1.5))
        run.kill_everything()
    finish(tmp_path, finished)


@pytest.mark.slow
def test_no_network_no_home_and_data_that_cannot_be_written(finished: Path, tmp_path: Path) -> None:
    """The finished run's own images, as a data set of its own that is mounted read-only."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare")
    made = next((finished / "artifacts").glob("synthesise-*"))
    data = tmp_path / "data"
    data.mkdir()
    kept = [value for value in TINY if not value.startswith("synthesise")]
    own = [*kept, "synthesise=null", f"data.root={data}"]
    command = [*SMELT, "run", "demo", "--work", str(tmp_path / "work"), "--quiet"]
    command += [word for value in own for word in ("-o", value)]
    script = f'mount --bind "{made}" "{data}" && mount -o remount,bind,ro "{data}" && exec "$@"'
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME")}
    done = subprocess.run(
        ["unshare", "-n", "-m", "bash", "-c", script, "-", *command],
        env=environment, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "average fusion" in done.stdout


@pytest.mark.slow
def test_no_space_is_told_and_then_it_goes_on(tmp_path: Path) -> None:
    """A file system of 300 kB, of 12 MB that fill up, then of 60 MB.

    The first is told before anything is begun, the second when it is full; what fitted is not made again.
    """
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare")
    place = tmp_path / "full"
    place.mkdir()
    words = " ".join(f"'{word}'" for word in overrides())
    command = f"'{sys.executable}' -m smelt run demo --jobs 1 --work '{place}/run' --quiet {words}"
    script = (
        f"mount -t tmpfs -o size=300k none '{place}' || exit 99\n{command}; echo first $?\n"
        f"mount -o remount,size=14m none '{place}'\n"
        f"(until ls '{place}'/run/artifacts/select-*; do sleep 0.05; done; cat /dev/zero > '{place}/other')"
        f" > /dev/null 2>&1 &\n{command}; echo second $?; wait; rm -f '{place}/other'\n"
        f"mount -o remount,size=60m none '{place}'; {command} && "
        f"'{sys.executable}' -m smelt verify '{place}/run'"
    )
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, timeout=280, check=False
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no namespaces here")
    assert "first 2" in done.stdout, done.stdout + done.stderr
    assert "nothing was begun" in done.stderr and "make room" in done.stderr
    assert "second 4" in done.stdout, done.stdout + done.stderr
    assert "Make room and give the same command again" in done.stderr or "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 and done.stdout.strip().endswith("all whole"), done.stderr[-2000:]


@pytest.mark.slow
def test_an_edited_recipe_in_the_same_folder_shares_what_it_can(finished: Path, tmp_path: Path) -> None:
    """And the first recipe is still done afterwards, every byte of it."""
    work = tmp_path / "w"
    shutil.copytree(finished, work)
    before = manifests(work)
    edit = "rounds.1.tries=[{method: lowest_fraction, fraction: 0.3}]"
    refused = smelt("run", "demo", "--work", str(work), "--quiet", *overrides(edit))
    assert refused.returncode == 2 and "--replace" in refused.stderr and manifests(work) == before
    done = smelt("run", "demo", "--work", str(work), "--quiet", "--replace", *overrides(edit))
    assert done.returncode == 0, done.stderr[-2000:]
    stages = sorted(name.partition("-")[0] for name in set(manifests(work)) - set(before))
    assert stages == sorted(
        ["select"] * 2
        + ["train"] * 6
        + ["predict"] * 8
        + ["decide"] * 2
        + ["rank"] * 2
        + ["fuse", "submit", "evaluate"]
    )
    assert {name: manifests(work)[name] for name in before} == before
    plan = smelt("plan", "demo", "--json", "--work", str(work), *overrides())
    assert {stage["state"] for stage in json.loads(plan.stdout)["stages"]} == {"done"}


def test_a_folder_that_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for work, words in (("file", "is a file"), ("file/below", "would lie in"), ("\udcff", "is not UTF-8")):
        done = smelt("run", "demo", "--work", str(tmp_path / work))
        assert done.returncode == 2 and words in done.stderr
        assert "Traceback" not in done.stderr


def test_a_disk_that_is_full_behind_the_output_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*SMELT, "recipes"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2 and done.stderr.startswith("smelt: No space left on device: standard output")
