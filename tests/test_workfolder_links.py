"""Nothing is written, renamed or deleted through links in a work folder; who may enter it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import smelt
from processes import manifests
from smelt.errors import ArtifactError, SmeltError, StageFailedError
from smelt.files import atomic, committed, workfolder
from smelt.flowchart import upkeep
from smelt.flowchart.graph import Graph
from smelt.flowchart.work import Work
from smelt.report import page
from toy import chart, execute, node

CONTENT = b"not ours: keep your hands off"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the work folder, which must be as it was at the end of the test."""
    folder = tmp_path / "outside"
    (folder / "below").mkdir(parents=True)
    (folder / "file").write_bytes(CONTENT)
    (folder / "below" / "file").write_bytes(CONTENT)
    yield folder
    found = {str(path.relative_to(folder)): path.is_dir() or path.read_bytes() for path in folder.rglob("*")}
    assert found == {"below": True, "file": CONTENT, "below/file": CONTENT}


def plant(path: Path, target: Path) -> None:
    """Put a link to `target` in the place of `path`."""
    if path.exists():
        path.rename(path.with_name(f"moved-{path.name}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


NAMES = [*workfolder.FOLDERS, *workfolder.FILES]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_under_one_of_our_names_is_refused(
    tmp_path: Path, outside: Path, name: str, dangling: bool
) -> None:
    work = tmp_path / "work"
    execute(chart(steps=1), work, zygote=True, recipe="name: toy\n")
    target = (
        outside / "absent" if dangling else outside / "below" / ("" if name in workfolder.FOLDERS else "file")
    )
    plant(work / name, target)
    for act in (
        lambda: execute(chart(steps=1), work, zygote=True),
        lambda: upkeep.verify(work),
        lambda: upkeep.clean(work),
        lambda: page.write(work, work / "report.html"),
    ):
        with pytest.raises(ArtifactError) as caught:
            act()
        assert str(work / name) in str(caught.value) and "is a link" in str(caught.value)
        assert str(target) in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_new_work_folder_prepared_by_somebody_else(tmp_path: Path, outside: Path, name: str) -> None:
    plant(tmp_path / "work" / name, outside / ("below" if name in workfolder.FOLDERS else "file"))
    with pytest.raises(ArtifactError, match="is a link"):
        execute(chart(steps=1), tmp_path / "work", zygote=True)
    assert os.listdir(tmp_path / "work") == [name]


@pytest.mark.parametrize(
    "place", ["artifacts/{}", "attempts/{}", "attempts/{}.lock", "logs/index.log", "damaged/x"]
)
def test_links_one_level_down_are_refused(tmp_path: Path, outside: Path, place: str) -> None:
    work, graph = tmp_path / "work", chart(steps=1)
    execute(graph, work, zygote=True)
    path = work / place.format(f"slow-{graph.key('index')}")
    plant(path, outside / ("file" if path.suffix else "below"))
    for act in (lambda: execute(graph, work, zygote=True), lambda: upkeep.clean(work)):
        with pytest.raises(ArtifactError, match="is a link") as caught:
            act()
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("inside", ["scratch", "value.txt", "part0.txt", ".value.txt.7.tmp", "deep"])
def test_links_in_an_attempt_are_refused_before_the_stage_writes(
    tmp_path: Path, outside: Path, inside: str
) -> None:
    work, graph = tmp_path / "work", chart(steps=2)
    attempt = Work(work).attempt("slow", graph.key("index"))
    attempt.mkdir(parents=True)
    plant(attempt / inside, outside / ("below" if inside in ("scratch", "deep") else "file"))
    with pytest.raises(StageFailedError, match="is a link, and attempts hold none") as caught:
        execute(graph, work, zygote=True)
    assert str(attempt / inside) in str(caught.value)
    (attempt / inside).unlink()
    execute(graph, work, zygote=True)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_in_an_artefact_is_damage_and_what_it_leads_to_stays(
    tmp_path: Path, outside: Path, kind: str
) -> None:
    """Even with the very bytes that were committed: whoever owns the target can change them."""
    work, graph = tmp_path / "work", chart(steps=1)
    execute(graph, work, zygote=True)
    before = manifests(work)
    artefact = Work(work).artifact("slow", graph.key("index"))
    if kind == "file":
        copy = tmp_path / "copy.txt"
        (artefact / "value.txt").rename(copy)
        (artefact / "value.txt").symlink_to(copy)
    else:
        (artefact / "extra").symlink_to(outside / "below")
    assert "is a link" in Work(work).problems("slow", graph.key("index"))[0]
    execute(graph, work, zygote=True)
    assert manifests(work) == before
    (aside,) = (work / "damaged").iterdir()
    assert (aside / ("value.txt" if kind == "file" else "extra")).is_symlink()
    assert aside in upkeep.clean(work)
    assert not aside.exists()
    if kind == "file":
        assert copy.exists()


def test_clean_deletes_no_further_than_its_folder(tmp_path: Path, outside: Path) -> None:
    work = tmp_path / "work"
    execute(chart(steps=1), work, zygote=True)
    old = work / "artifacts" / "old-00"
    old.mkdir()
    (old / "link").symlink_to(outside)
    assert upkeep.clean(work) == [old] and not old.exists()


def test_commit_takes_no_links(tmp_path: Path, outside: Path) -> None:
    for name in ("file", "below"):
        attempt = tmp_path / f"attempt-{name}"
        attempt.mkdir()
        (attempt / "link").symlink_to(outside / name)
        with pytest.raises(ArtifactError, match="link is a link; an artefact holds plain files only"):
            committed.commit(attempt, tmp_path / "target", {})
    (tmp_path / "attempt" / "scratch").parent.mkdir()
    (tmp_path / "attempt" / "scratch").symlink_to(outside / "below")
    with pytest.raises(ArtifactError, match="plain files only"):
        committed.commit(tmp_path / "attempt", tmp_path / "target", {})


def test_an_atomic_write_does_not_follow_the_name_it_writes_under(tmp_path: Path, outside: Path) -> None:
    (tmp_path / f".page.{os.getpid()}.tmp").symlink_to(outside / "file")
    atomic.write_bytes(tmp_path / "page", b"ours")
    assert (tmp_path / "page").read_bytes() == b"ours" and not (tmp_path / "page").is_symlink()


@pytest.mark.parametrize("name", ["events.jsonl", "lock", "flowchart.json", "report.html"])
def test_pipes_and_folders_under_our_names_do_not_hang(tmp_path: Path, name: str) -> None:
    for number, make in enumerate((os.mkfifo, os.mkdir)):
        work = tmp_path / f"work{number}"
        work.mkdir()
        make(work / name)
        with pytest.raises(ArtifactError, match=f"{name} is no file"):
            execute(chart(steps=1), work, zygote=True)
    (tmp_path / "memory").mkdir()
    os.mkfifo(tmp_path / "memory" / "verified.txt")
    with pytest.raises(ArtifactError, match=r"verified\.txt is no file"):
        execute(chart(steps=1), tmp_path / "memory", zygote=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "attempts").write_text("")
    with pytest.raises(ArtifactError, match="attempts is no folder"):
        execute(chart(steps=1), tmp_path / "work", zygote=True)


@pytest.mark.parametrize("there", [False, True])
def test_the_work_folder_itself_may_be_a_link(tmp_path: Path, there: bool) -> None:
    """To a larger disk; to a folder that is yet to be made, too."""
    big = tmp_path / "disk" / "runs"
    if there:
        big.mkdir(parents=True)
    (tmp_path / "work").symlink_to(big)
    execute(chart(steps=1), tmp_path / "work", zygote=True)
    assert len(manifests(big)) == len(chart())
    assert upkeep.verify(tmp_path / "work") == [] and upkeep.clean(tmp_path / "work") == []


def test_other_names_and_links_of_the_user_are_nobody_s_concern(tmp_path: Path, outside: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "my-images").symlink_to(outside)
    execute(chart(steps=1), work, zygote=True)
    assert (work / "my-images").is_symlink()


def test_the_verbs_end_with_two_and_the_name(tmp_path: Path, outside: Path) -> None:
    work = tmp_path / "work"
    execute(chart(steps=1), work, zygote=True, recipe="name: toy\n")
    plant(work / "events.jsonl", outside / "file")
    for words in (["clean", str(work), "--yes"], ["verify", str(work)], ["report", str(work)],
                  ["run", "demo", "--work", str(work)]):  # fmt: skip
        done = smelt(*words)
        assert done.returncode == 2 and "Traceback" not in done.stderr, words
        assert f"{work / 'events.jsonl'} is a link" in done.stderr.replace("\n", ""), done.stderr


# Who may enter


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("umask", "folder", "file"), [(0o022, 0o700, 0o644), (0o077, 0o700, 0o600),
                                                       (0o002, 0o700, 0o664)])  # fmt: skip
def test_a_new_work_folder_is_for_its_owner(tmp_path: Path, umask: int, folder: int, file: int) -> None:
    before = os.umask(umask)
    try:
        execute(Graph([node("a")]), tmp_path / "new" / "work", zygote=True)
    finally:
        os.umask(before)
    assert mode(tmp_path / "new" / "work") == folder
    assert mode(tmp_path / "new") == 0o777 & ~umask  # what lies above is not ours
    assert mode(tmp_path / "new" / "work" / "flowchart.json") == file


def test_a_stricter_umask_counts(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root could then make folders in it")
    before = os.umask(0o277)
    try:
        workfolder.make(tmp_path / "work")
    finally:
        os.umask(before)
    assert mode(tmp_path / "work") == 0o500


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work").chmod(0o755)
    execute(Graph([node("a")]), tmp_path / "work", zygote=True)
    assert mode(tmp_path / "work") == 0o755


def test_a_work_folder_of_somebody_else_is_told_in_words(tmp_path: Path) -> None:
    work = tmp_path / "work"
    execute(Graph([node("a")]), work, zygote=True)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    else:
        work.chmod(0)
    try:
        with pytest.raises(SmeltError, match="Permission denied"):
            Work(work)
    finally:
        if user == 0:
            os.seteuid(0)
        else:
            work.chmod(0o700)


# smelt fuse --out


@pytest.fixture
def scores(tmp_path: Path) -> list[str]:
    """Files for a small fusion, as arguments."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", random.normal(size=(60, 3)) + 2 * np.eye(3)[labels])
    np.save(tmp_path / "labels.npy", labels)
    return ["fuse", "a.npy", "b.npy", "--labels", "labels.npy", "--out", "out"]


@pytest.mark.parametrize("name", ["fusion.json", "weights.csv", "top5.txt"])
def test_a_link_in_the_folder_of_a_fusion_is_refused(
    tmp_path: Path, outside: Path, scores: list[str], name: str
) -> None:
    plant(tmp_path / "out" / name, outside / "file")
    done = smelt(*scores, cwd=tmp_path)
    assert done.returncode == 2 and f"{Path('out') / name} is a link" in done.stderr.replace("\n", " ")


def test_the_folder_of_a_fusion_may_be_a_link_and_is_its_owner_s(tmp_path: Path, scores: list[str]) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    for _ in range(2):
        done = smelt(*scores, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "disk" / "fusion.json").is_file() and (tmp_path / "out").is_symlink()
    assert mode(tmp_path / "disk") == 0o700
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]
