"""The command line as a user meets it: the whole tiny run, plans, results, errors and exit codes."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import pytest

from conftest import overrides, smelt
from processes import manifests

VERBS = (
    "demo", "run", "plan", "index", "check", "dedupe", "train", "rank", "select", "predict", "fuse",
    "evaluate", "submit", "show", "audit", "report", "results", "verify", "clean", "recipes", "schema",
    "explain",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_shows_an_example(verb: str) -> None:
    shown = smelt(verb, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"smelt {verb}" in shown.stdout.split("Usage:")[1].split("\n", 1)[1]


def test_plan_of_a_recipe_that_never_ran(tmp_path: Path) -> None:
    shown = smelt("plan", "demo", "--json", "--work", str(tmp_path / "w"))
    stages = json.loads(shown.stdout)["stages"]
    assert {stage["state"] for stage in stages} == {"run", "wait"}
    assert not (tmp_path / "w").exists()


def test_a_mistake_in_a_recipe_names_line_and_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: demo\nname: mine\ntrain:\n  epoch: 3\n")
    shown = smelt("run", str(path))
    assert shown.returncode == 2
    assert "mine.yaml:4" in shown.stderr and "epochs" in shown.stderr
    assert "Traceback" not in shown.stderr and not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "no_such"], "no recipe is called 'no_such'"),
        (["run", "no/such.yaml"], "there is no folder no"),
        (["results", "no/such"], "is not a folder"),
        (["report", "."], "is not a work folder"),
        (["plan", "cifar10n"], "data.root is not set"),
        (["plan", "cifar10n", "-o", "data.root=no/such"], "there is no folder no/such"),
        (["plan", "demo", "-o", "train.epochs=0"], "train.epochs"),
        (["plan", "demo", "-o", "train.epochs"], "key=value"),
        (["verify", "no/such"], "is not a folder"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    shown = smelt(*arguments, cwd=tmp_path)
    assert shown.returncode == 2, shown
    assert words.lower() in shown.stderr.lower()
    assert "Traceback" not in shown.stderr


def test_recipes_and_schema() -> None:
    names = smelt("recipes").stdout
    assert all(name in names for name in ("demo", "cifar10n", "webvision2020", "trial_down_weight"))
    schema = json.loads(smelt("schema").stdout)
    assert "rounds" in schema["properties"]


@pytest.mark.slow
def test_a_finished_run_is_not_done_again(finished: Path) -> None:
    plan = smelt("plan", "demo", "--json", "--work", str(finished), *overrides())
    assert {stage["state"] for stage in json.loads(plan.stdout)["stages"]} == {"done"}


@pytest.mark.slow
def test_an_edit_reruns_only_what_depends_on_it(finished: Path) -> None:
    plan = smelt("plan", "demo", "--json", "--work", str(finished), *overrides("fuse.folds=4"))
    stages = json.loads(plan.stdout)["stages"]
    assert [s["id"] for s in stages if s["state"] != "done"] == ["fuse", "submit", "evaluate"]
    assert "folds 5 → 4" in next(s["why"] for s in stages if s["id"] == "fuse")


def test_figures_of_mining_are_printed_with_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    from smelt.report import terminal

    row = {
        "round": "raw", "rows": 1000, "dropped": 200, "precision": 0.5, "precision_interval": [0.431, 0.569],
        "recall": 0.25, "recall_interval": [0.21, 0.294],
        "noise_left": None, "noise_left_interval": [None, None],
        "scores": {"aum": {"auroc": 0.75, "precision_at_k": None}},
        "intervals": {
            "aum": {"auroc": [0.7, 0.8], "precision_at_k": [None, None], "images": 1000, "wrong": 400}
        },
    }  # fmt: skip
    noise = [{"round": "raw", "words": "not enough training to tell"}, {"round": "aum", "words": ""}]
    terminal.ladder({"rungs": [], "fusion": "none", "noise": noise, "selections": [row]})
    printed = " ".join(capsys.readouterr().out.split())
    assert "Wrong labels, raw: not enough training to tell." in printed and "Wrong labels, aum" not in printed
    assert "50.0 (43.1–56.9) 25.0 (21.0–29.4) –" in printed
    assert "raw 1 000, 400 of them wrong" in printed and "aum 0.750 (0.700–0.800) –" in printed
    for name in ("intervals", "precision_interval"):
        row.pop(name)  # as written by an earlier version
    terminal.ladder({"rungs": [], "fusion": "none", "selections": [row]})
    assert "50.0 25.0 (21.0–29.4)" in " ".join(capsys.readouterr().out.split())


def test_rank_prints_what_can_be_said_of_the_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from smelt.flowchart.work import Work
    from smelt.report import terminal

    monkeypatch.setattr(Work, "problems", lambda *_, **__: [])  # this is about words, not about files
    folder = tmp_path / "artifacts" / "rank-k"
    folder.mkdir(parents=True)
    nodes = [{"id": "rank/raw", "stage": "rank", "key": "k"}]
    (tmp_path / "flowchart.json").write_text(json.dumps({"nodes": nodes}))
    (folder / "manifest.json").write_text("{}")
    (folder / "rank.json").write_text(json.dumps({"score": "aum", "rows": 9}))
    for diagnosis, expected in (
        ({"noise": {"words": "not enough training to tell"}}, "noise: not enough training to tell"),
        ({"estimated_noise": 0.8}, "noise: not estimated"),  # as written by an earlier version
    ):
        (folder / "diagnosis.json").write_text(json.dumps(diagnosis))
        terminal.show(tmp_path, "rank")
        printed = capsys.readouterr().out
        assert expected in printed and "score: aum" in printed and "0.8" not in printed


@pytest.mark.slow
def test_the_ladder_is_printed_again(finished: Path) -> None:
    shown = smelt("results", str(finished))
    assert "one model, raw data" in shown.stdout and "average fusion" in shown.stdout
    measured = json.loads(smelt("results", str(finished), "--json").stdout)
    names = [rung["name"] for rung in measured["rungs"]]
    assert names[:3] == ["one model, raw data", "one model, + filtering", "one model, + distillation"]
    for rung in measured["rungs"]:
        assert all(0 <= rung[split][top] <= 1 for split in ("val", "test") for top in ("top1", "top5"))


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_is_refused(finished: Path) -> None:
    with open(finished / "lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shown = smelt("run", "demo", "--work", str(finished), "--quiet", *overrides())
    assert shown.returncode == 3, shown.stderr


@pytest.mark.slow
def test_a_copied_folder_is_as_done_and_damage_in_it_is_found(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(finished, copy)
    assert smelt("verify", str(copy)).stdout.strip().endswith("all whole")
    artefact = next((copy / "artifacts").glob("rank-*"))
    path = artefact / "ranking.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    found = smelt("verify", str(copy))
    assert found.returncode == 2 and "ranking.parquet" in found.stdout
    plan = smelt("plan", "demo", "--json", "--work", str(copy), *overrides())
    again = [s["stage"] for s in json.loads(plan.stdout)["stages"] if s["state"] != "done"]
    assert again == ["rank"]  # it is made again with the same bytes, so what was made from it stands


@pytest.mark.slow
def test_results_damaged_in_place_are_mended_before_they_are_fused(finished: Path, tmp_path: Path) -> None:
    """Bits of every validation result flipped, nothing longer or shorter, and the fusion to be made again."""
    copy = tmp_path / "w"
    shutil.copytree(finished, copy)
    for path in copy.glob("artifacts/predict-*/val/*x1.npy"):
        content = bytearray(path.read_bytes())
        for i in range(len(content) // 2, len(content), 2):
            content[i] ^= 0x80
        path.write_bytes(bytes(content))
    for stage in ("fuse", "evaluate", "submit"):
        for folder in copy.glob(f"artifacts/{stage}-*"):
            shutil.rmtree(folder)
    done = smelt("run", "demo", "--work", str(copy), "--quiet", *overrides())
    assert done.returncode == 0 and done.stderr.count("has other content than was committed") == 10
    assert manifests(copy) == manifests(finished)


@pytest.mark.slow
def test_verbs_stop_at_their_stage_and_say_what_came_out(finished: Path) -> None:
    for verb, words in (("index", "images by split"), ("check", "bad"), ("select", "low_")):
        shown = smelt(verb, "demo", "--work", str(finished), "--quiet", *overrides())
        assert shown.returncode == 0, shown.stderr
        assert words in shown.stdout, shown.stdout


@pytest.mark.slow
def test_the_submission_is_what_the_challenge_wants(finished: Path) -> None:
    artefact = next((finished / "artifacts").glob("submit-*"))
    lines = (artefact / "predictions.txt").read_text().splitlines()
    assert len(lines) == 60 and all(len(line.split()) == 6 for line in lines)
    assert lines[0].startswith("test000001.jpg\t")


def test_the_folder_of_the_images_is_no_work_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "1.jpg").write_bytes(b"\xff\xd8\xff")
    done = smelt("index", "folder", "-o", f"data.root={tmp_path / 'd'}", "--work", str(tmp_path / "d"))
    assert done.returncode == 2 and "--work FOLDER names another" in done.stderr
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["a", "b"]


def test_links_that_go_round_in_circles_are_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "l.npy").symlink_to("l.npy")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for words in (
        ["fuse", "l.npy", "l.npy"],
        ["fuse", "l.npy", "--use", "l.npy"],
        ["fuse", "l.npy", "--use", "deep.json"],
        ["plan", "folder", "-o", "data.root=" + "a" * 5000],
    ):
        done = smelt(*words, cwd=tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr and len(done.stderr) < 1000, (
            done.stderr
        )
