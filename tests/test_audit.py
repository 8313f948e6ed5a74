"""`smelt audit`: a random sample that stays, verdicts as people and spreadsheets write them, what follows."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import overrides, smelt
from smelt.artifacts import verdicts
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.artifacts.likelywrong import LikelyWrong, read_likely_wrong, write_likely_wrong
from smelt.artifacts.ranking import Ranking
from smelt.artifacts.verdicts import COLUMNS, Asked, Given
from smelt.errors import ArtifactError, DataError, SmeltError
from smelt.files import auditfolder
from smelt.files.atomic import write_json
from smelt.flowchart.work import Work
from smelt.mining import audited, drawn
from smelt.mining.audited import Verdicts
from smelt.mining.given_audit import class_numbers
from smelt.mining.rightlabels import NO_CLASS, NOT_SAID, corrected
from smelt.report import page
from smelt.report.audits import Audit
from smelt.report.shown import shown
from smelt.verbs import auditing

IDS = [verdicts.name_of(number) for number in (0x1234567890123456, 0x12E4567890123456, 3)]


def asked(count: int = 3, label: str = "cat") -> list[Asked]:
    return [Asked(n + 1, IDS[n], label, f"a/{n}.jpg", "") for n in range(count)]


# The file of verdicts


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    said = {IDS[0]: Given("wrong", "dog"), IDS[2]: Given("unsure")}
    verdicts.write(path, asked(), said)
    found = verdicts.read(path)
    assert {key: (one.verdict, one.right_class) for key, one in found.given.items()} == {
        IDS[0]: ("wrong", "dog"),
        IDS[2]: ("unsure", ""),
    }
    assert found.ids == set(IDS)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfnumber,id,label")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_whatever_a_spreadsheet_saves_is_read(
    delimiter: str, encoding: str, end: str, tmp_path: Path
) -> None:
    text = io.StringIO(newline="")
    out = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    out.writerow(["Title", " ID ", "Verdict", "Right Class", "my notes"])
    for key, word, right in zip(IDS, (" W ", "Right", "OUTSIDE."), ("café", "", "")):
        out.writerow(["a, b; c\nd", key.upper(), word, right, "looks odd"])
    out.writerow(["", "", "", "", ""])
    path = tmp_path / "v.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    found = verdicts.read(path).given
    assert [(found[key].verdict, found[key].right_class) for key in IDS] == [
        ("wrong", "café"),
        ("right", ""),
        ("outside", ""),
    ]


def test_a_first_line_that_names_the_delimiter_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(f"sep=;\nid;verdict\n{IDS[0]};?\n")
    assert verdicts.read(tmp_path / "v.csv").given[IDS[0]].verdict == "unsure"


def test_a_right_class_alone_says_that_the_label_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(f"id,verdict,right_class\n{IDS[0]},,dog\n")
    assert verdicts.read(tmp_path / "v.csv").given[IDS[0]] == Given("wrong", "dog", 2)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (f"{IDS[0]},maybe,\n{IDS[1]},7,", ["line 2, column verdict: 'maybe'", "line 3, column verdict: '7'"]),
        ("1.23457E+15,right,", ["line 2, column id"]),
        (f"{IDS[0]},outside,dog", ["line 2, column right_class: 'dog', but the verdict is outside"]),
        (f"{IDS[0]},right,\n{IDS[0]},wrong,", ["line 3", "another verdict in line 2"]),
        (f"{IDS[0]},right,\n{'x' * 200_000},wrong,", ["v.csv"]),
    ],
)
def test_what_cannot_be_understood_is_refused_by_line_and_column(
    lines: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "v.csv").write_text(f"id,verdict,right_class\n{lines}\n")
    with pytest.raises(DataError) as error:
        verdicts.read(tmp_path / "v.csv")
    assert all(word in str(error.value) for word in words), error.value
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no column 'id'"),
        (b"a,b\n1,2\n", "no column 'id'"),
        (b"id\nv0\n", "no column 'verdict'"),
        (b"PK\x03\x04rest", "save the sheet as CSV"),
        (b"id,verdict\n\0\0\n", "zero bytes"),
    ],
)
def test_other_files_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        verdicts.read(tmp_path / "v.csv")


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_be_read_or_refused(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.csv"
        path.write_bytes(b"id,verdict\n" + content)
        try:
            verdicts.read(path)
        except DataError as error:
            assert "v.csv" in str(error)


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", "'x"])
def test_crawled_text_is_no_formula(text: str, tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    verdicts.write(path, [Asked(1, IDS[0], text, text, text)], {IDS[0]: Given("wrong", text)})
    (line,) = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig")))
    for name in ("label", "path", "title", "right_class"):
        assert line[name] == f"'{text}"
    assert verdicts.read(path).given[IDS[0]].right_class == text.strip()


# The sample


def catalogue(folder: Path, names: list[str], labels: list[int], classes: tuple[str, ...]) -> Catalogue:
    with CatalogueWriter(folder) as writer:
        writer.classes = list(classes)
        writer.add(
            Block("train", "web", Paths.of([name.encode() for name in names]), np.asarray(labels, np.int32))
        )
        writer.finish()
    return Catalogue.open(folder)


def order_of(found: Catalogue, seed: int = 0) -> list[str]:
    rows = drawn.labelled(found, "train", np.zeros(0, np.int64))
    return [found.path(int(rows[i])) for i in drawn.random_order(drawn.identities(found, rows), seed)]


def test_the_order_stays_when_images_are_added_and_others_get_other_rows(tmp_path: Path) -> None:
    names = [f"{n:03d}.jpg" for n in range(200)]
    one = catalogue(tmp_path / "one", names, [n % 2 for n in range(200)], ("cat", "dog"))
    more = [f"new{n}.jpg" for n in range(50)] + names
    other = catalogue(
        tmp_path / "two", more, [1] * 50 + [1 + n % 2 for n in range(200)], ("ant", "cat", "dog")
    )
    assert [name for name in order_of(other) if not name.startswith("new")] == order_of(one)
    assert order_of(one) != order_of(one, 1) and order_of(one) != names


def test_another_label_is_another_question(tmp_path: Path) -> None:
    names = [f"{n}.jpg" for n in range(20)]
    found = [
        drawn.identities(
            catalogue(tmp_path / str(last), names, [0] * 19 + [last], ("cat", "dog")), np.arange(20)
        )
        for last in (0, 1)
    ]
    assert (found[0] == found[1]).tolist() == [True] * 19 + [False]
    assert len(set(found[0].tolist())) == 20


def test_first_rows_of_the_order_are_a_random_sample() -> None:
    ids = np.arange(1000, dtype=np.uint64)
    counts = np.zeros(1000)
    for seed in range(2000):
        counts[drawn.random_order(ids, seed)[:100]] += 1
    # each in a tenth: 200 ± 13.4
    assert abs(counts - 200).max() < 6 * 13.4 and 10 < counts.std() < 17


# Accuracy under right labels


def test_accuracy_is_what_a_census_would_give() -> None:
    first, labels = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 0, 2, 0, 1, 1])
    right = [0, 1, 2, 1, NO_CLASS, 1]  # 0 → hit, 1 → hit, 2 → hit, miss, no class, miss
    found = corrected(first, labels, np.arange(6), right)
    assert found is not None
    assert found.measured == pytest.approx(4 / 6)
    assert found.low.share == found.high.share == pytest.approx(3 / 5)
    assert found.low.low == pytest.approx(3 / 5, abs=1e-4) and found.high.high == pytest.approx(
        3 / 5, abs=1e-4
    )


def test_what_nobody_said_is_a_bound() -> None:
    first, labels = np.array([0, 1, 0, 0]), np.array([0, 0, 0, 0])
    found = corrected(first, labels, [0, 1, 2, 3], [0, NOT_SAID, NOT_SAID, 0])
    assert found is not None and found.open == 1  # the other was taken for its wrong label: a miss anyway
    assert found.low.share == pytest.approx(0.5) and found.high.share == pytest.approx(0.75)
    assert corrected(first, labels, [0], [NO_CLASS]) is None


def test_intervals_hold_the_accuracy_under_right_labels() -> None:
    rng = np.random.default_rng(0)
    held, off = 0, []
    for _ in range(120):
        right = rng.integers(0, 5, 2000)
        right[rng.random(2000) < 0.05] = NO_CLASS
        first = np.where(rng.random(2000) < 0.8, np.maximum(right, 0), rng.integers(0, 5, 2000))
        labels = np.where(rng.random(2000) < 0.85, np.maximum(right, 0), rng.integers(0, 5, 2000))
        true = float((first == right)[right != NO_CLASS].mean())
        places = rng.permutation(2000)[:200]
        found = corrected(first, labels, places, right[places])
        assert found is not None
        held += found.low.low <= true <= found.high.high
        off.append(found.low.share - true)
    assert held >= 107  # of 120
    assert abs(np.mean(off)) < 3 * np.std(off) / np.sqrt(120)


# Cuts by words, and the file of probabilities


def test_trades_by_words() -> None:
    ranking = Ranking(np.arange(0, 400, 2), {}, np.linspace(-1, 1, 200))
    scores = audited.scores_of(ranking, np.arange(400))
    assert np.isnan(scores["cleanness"][1::2]).all() and scores["cleanness"][2] == ranking.cleanness[1]
    words = ["wrong" if place < 60 and place % 3 else "right" for place in range(200)]
    verdicts_ = Verdicts(np.arange(200), words, np.full(200, NOT_SAID))
    calibration = audited.calibrated(scores, verdicts_)
    assert calibration is not None
    for trade in ("f1", "F0.5", "precision=0.5", "recall = 0.8", "costs=1:3"):
        assert audited.cuts(calibration, verdicts_, trade)["best"]["dropped"] > 0
    for wrong in ("best", "precision=2", "costs=1", "f", ""):
        with pytest.raises(ValueError):
            audited.cuts(calibration, verdicts_, wrong)


def test_probabilities_are_kept_by_row(tmp_path: Path) -> None:
    rows, p = np.array([1, 4, 9]), np.array([0.1, 0.5, 1], np.float32)
    write_likely_wrong(tmp_path, LikelyWrong(rows, p, "key"))
    found = read_likely_wrong(tmp_path)
    assert found.catalogue == "key" and np.array_equal(found.rows, rows) and np.array_equal(found.p_wrong, p)
    assert found.of(np.array([9, 0, 4, 10])) == pytest.approx([1, np.nan, 0.5, np.nan], nan_ok=True)
    (tmp_path / "p_wrong.parquet").write_bytes(b"no")
    with pytest.raises(ArtifactError):
        read_likely_wrong(tmp_path)
    with pytest.raises(ValueError):
        LikelyWrong(rows[::-1], p)


def test_a_class_is_known_by_what_the_sheet_shows_and_by_other_capitals(tmp_path: Path) -> None:
    classes = ("Cat", "cat", "Dog", "7", "\u05d7\u05ea\u05d5\u05dc", "x" * 300)
    known = class_numbers(catalogue(tmp_path / "c", ["a"], [0], classes), shown)
    assert (known["Cat"], known["cat"], known["dog"], known["7"], known["2"]) == (0, 1, 2, 3, 2)
    assert "CAT" not in known and known[shown(classes[4])] == known[classes[4]] == 4
    assert known[shown(classes[5])] == 5


# The command, on a tiny run


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of a run that has a catalogue and nothing else."""
    work = tmp_path_factory.mktemp("audit") / "w"
    done = smelt("index", "demo", "--work", str(work), "--quiet", *overrides())
    assert done.returncode == 0, done.stderr
    return work


@pytest.fixture
def work(indexed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(indexed, tmp_path / "w"))


Answer = Callable[[Catalogue, int], tuple[str, str]]


def truth(found: Catalogue, row: int) -> tuple[str, str]:
    """The verdict that somebody would give who knows the truth."""
    real = found.column("true_label")
    assert real is not None
    if real[row] == found.labels_N[row]:
        return "right", ""
    return ("outside", "") if real[row] < 0 else ("wrong", found.classes[real[row]])


def fill(work: Path, split: str = "train", answer: Answer = truth, most: int | None = None) -> None:
    """Fill the empty verdicts, of the first lines or of all, and save as a German spreadsheet does."""
    path = work / "audit" / f"verdicts-{split}.csv"
    found = Work(work).catalogue
    assert found is not None
    by_path = {found.path(row): row for row in range(found.num_rows)}
    lines = list(
        csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig")), delimiter=_delimiter(path))
    )
    for line in lines[:most]:
        if not line["verdict"]:
            line["verdict"], line["right_class"] = answer(found, by_path[line["path"].removeprefix("'")])
    text = io.StringIO(newline="")
    out = csv.DictWriter(text, COLUMNS, delimiter=";")
    out.writeheader()
    out.writerows(lines)
    path.write_bytes(text.getvalue().encode("utf-8-sig"))


def _delimiter(path: Path) -> str:
    return ";" if ";" in path.read_bytes().decode("utf-8-sig").splitlines()[0] else ","


def lines_of(work: Path, split: str = "train") -> list[dict[str, str]]:
    path = work / "audit" / f"verdicts-{split}.csv"
    text = path.read_bytes().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text), delimiter=_delimiter(path)))


def audit(work: Path, *options: str) -> dict[str, Any]:
    done = smelt("audit", str(work), "--json", *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_catalogue_is_enough(work: Path) -> None:
    first = audit(work, "--rows", "40")
    assert first["audit"] is None and len(lines_of(work)) == 40
    text = Path(first["sheet"]).read_text()
    assert (
        text.count("data:image/jpeg;base64,") > 30 and "<script" not in text and "default-src 'none'" in text
    )
    fill(work)
    kept = (work / "audit" / "verdicts-train.csv").read_bytes()
    found = audit(work)["audit"]
    assert (work / "audit" / "verdicts-train.csv").read_bytes() == kept, (
        "a file that is whole stays as it was"
    )
    wrong = sum(line["verdict"] != "right" for line in lines_of(work))
    assert found["judged"] == 40 and found["share"]["share"] == pytest.approx(wrong / 40, abs=1e-5)
    assert found["mined"] is None and found["first"] and not (work / "audit" / "p_wrong.parquet").exists()
    assert found["sampled"]["low"] < wrong / 40 < found["sampled"]["high"]
    assert "% of" in smelt("show", str(work), "audit").stdout
    assert 'id="audit"' in page.render(Work(work))


@pytest.mark.slow
def test_more_rows_extend_the_sample_and_no_verdict_is_lost(work: Path) -> None:
    audit(work, "--rows", "30")
    fill(work, most=20)
    before = lines_of(work)
    found = audit(work, "--rows", "60")["audit"]
    after = lines_of(work)
    assert len(after) == 60 and found["judged"] == 20 and found["asked"] == 60
    for old, new in zip(before, after):
        assert {name: new[name] for name in ("id", "verdict", "right_class")} == {
            name: old[name] for name in ("id", "verdict", "right_class")
        }
    assert len(lines_of(work)) == 60 and (work / "audit" / "verdicts-train-before-1.csv").is_file()
    audit(work, "--rows", "5")
    assert len(lines_of(work)) == 60, "what was asked stays asked"
    refused = smelt("audit", str(work), "--seed", "1")
    assert refused.returncode == 2 and "--seed 0" in refused.stderr
    assert len(lines_of(work)) == 60


@pytest.mark.slow
def test_verdicts_out_of_order_and_unsure_ones_are_told(work: Path) -> None:
    audit(work, "--rows", "40")
    fill(work, answer=lambda found, row: ("unsure", "") if row % 4 == 0 else truth(found, row))
    path = work / "audit" / "verdicts-train.csv"
    lines = path.read_text("utf-8-sig").splitlines()
    path.write_text("\n".join([lines[0], *lines[5:]]), "utf-8-sig")  # its owner deleted the first four
    told = smelt("audit", str(work))
    assert told.returncode == 0 and "not the first of the random order" in told.stdout
    assert "unsure" in told.stdout and "4 of 40" in told.stdout
    assert len(lines_of(work)) == 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("no such class", "there is no class 'no such class'"),
        ("OWN", "is the label"),
        ("99", "no class '99'"),
    ],
)
def test_a_class_that_there_is_not_is_refused_by_line(cell: str, words: str, work: Path) -> None:
    auditing.draw(Work(work), "train", 5, None)
    own = lines_of(work)[1]["label"]
    fill(work, answer=lambda found, row: ("wrong", own if cell == "OWN" else cell), most=2)
    told = smelt("audit", str(work))
    assert told.returncode == 2 and "line 3" in told.stderr and words in told.stderr
    assert not (work / "audit" / "audit.json").exists()


@pytest.mark.slow
def test_verdicts_of_another_data_set_are_refused_and_strange_ones_kept(work: Path) -> None:
    auditing.draw(Work(work), "train", 10, None)
    path = work / "audit" / "verdicts-train.csv"
    path.write_text(f"id,verdict\n{IDS[0]},right\n{IDS[1]},wrong\n")
    told = smelt("audit", str(work))
    assert told.returncode == 2 and "another data set" in told.stderr
    assert path.read_text().endswith(f"{IDS[1]},wrong\n"), "what a person wrote stays"
    path.unlink()
    auditing.draw(Work(work), "train", 10, None)
    fill(work)
    with path.open("a") as file:
        file.write(f"99;{IDS[0]};x;right;;;\n")
    told = smelt("audit", str(work))
    assert told.returncode == 0 and "1 verdicts are on images" in told.stderr
    assert (
        IDS[0] in (work / "audit" / "verdicts-train-before-1.csv").read_text()
        and IDS[0] not in path.read_text()
    )


@pytest.mark.slow
def test_a_stop_at_any_write_leaves_whole_files(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Work(work)
    auditing.draw(place, "train", 20, None)
    fill(work)
    path = work / "audit" / "verdicts-train.csv"
    kept = path.read_bytes()
    stopped = 0
    for name in ("fsync", "replace"):  # while a file is written, and before it takes its place

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(f"smelt.files.atomic.os.{name}", stop)
            with pytest.raises(KeyboardInterrupt):
                auditing.draw(place, "train", 50, None)
            stopped += 1
        assert path.read_bytes() == kept and not list(path.parent.glob(".*.tmp"))
    assert stopped == 2
    assert len(auditing.draw(place, "train", 50, None).judged) == 20 and len(lines_of(work)) == 50


@pytest.mark.slow
def test_a_run_without_its_images_can_be_audited(work: Path) -> None:
    for folder in (work / "artifacts").glob("synthesise-*"):
        for images in folder.glob("*_images_resized"):
            shutil.rmtree(images)
    told = smelt("audit", str(work), "--rows", "10")
    assert told.returncode == 0 and "10 of 10 images cannot be shown" in told.stderr


def test_what_is_no_work_folder_or_no_trade_is_refused(tmp_path: Path) -> None:
    told = smelt("audit", str(tmp_path))
    assert told.returncode == 2 and "not" in told.stderr and not (tmp_path / "audit").exists()
    (tmp_path / "flowchart.json").write_text('{"nodes": [], "runtime": {}}')
    told = smelt("audit", "--rows", "200")
    assert told.returncode == 2 and "takes the work folder of a run" in told.stderr
    told = smelt("audit", str(tmp_path), "--trade", "cheapest")
    assert told.returncode == 2 and "precision=0.9" in told.stderr
    told = smelt("audit", str(tmp_path))
    assert told.returncode == 2 and "not done yet" in told.stderr


@pytest.mark.slow
def test_a_finished_run_is_audited_from_end_to_end(finished: Path, tmp_path: Path) -> None:
    work = Path(shutil.copytree(finished, tmp_path / "w"))
    audit(work, "--rows", "120")
    fill(work)
    found = audit(work)["audit"]
    right = Work(work).catalogue
    assert right is not None
    likely = read_likely_wrong(work / "audit")
    assert likely.catalogue == found["catalogue"]
    assert set(likely.rows) <= set(right.rows("train")) and len(likely.rows) == found["rows"]
    assert likely.p_wrong.sum() == pytest.approx(found["mined"]["expected_wrong"], rel=0.01)
    assert found["mined"]["cuts"][-1]["share"] == pytest.approx(0.5, abs=0.01)
    assert [one["name"] for one in found["selections"]]
    dropped = max(found["selections"], key=lambda one: one["dropped"])
    assert 0 < dropped["judged"] <= dropped["dropped"]
    audit(work, "--split", "test", "--rows", "60")
    fill(work, "test")
    held = audit(work, "--split", "test")["audit"]
    rows = right.rows("test")
    truth_ = right.column("true_label")
    assert truth_ is not None
    lists = auditing.predictions(Work(work), "test")
    assert lists is not None
    in_class = truth_[rows] >= 0
    assert held["rows"] == 60, "all of them were judged: what follows is no estimate"
    assert held["accuracy"]["right_labels"] == pytest.approx(
        [float((lists[0][:, 0] == truth_[rows])[in_class].mean())] * 2, abs=1e-5
    )
    both = json.loads((work / "audit" / "audit.json").read_text())["splits"]
    assert set(both) == {"train", "test"}
    text = smelt("results", str(work)).stdout
    assert "Training:" in text and "under right labels" in text
    text = page.render(Work(work))
    assert 'id="audit"' in text and "How many labels are wrong" in text
    (work / "audit" / "audit.json").write_text("{}")
    assert smelt("audit", str(work)).returncode == 2


def test_what_the_score_is_worth_is_told() -> None:
    counts = {"right": 180, "wrong": 3, "outside": 0, "unsure": 0}
    mined: dict[str, Any] = {
        "orders": True,
        "sure": 0.8,
        "score": "aum",
        "auroc": 0.7,
        "auroc_interval": [0.4, 0.9],
    }
    record: dict[str, Any] = {"counts": counts, "mined": mined}
    assert "too few to be sure" in Audit("train", record, set()).score()
    mined["sure"] = 1.0
    assert "only 3 are wrong" in Audit("train", record, set()).score()
    counts["wrong"] = 30
    assert Audit("train", record, set()).score().endswith("AUROC 0.70 (0.40–0.90).")
    mined["orders"] = False
    assert "the same probability" in Audit("train", record, set()).score()
    assert Audit("train", {**record, "mined": None}, set()).score() == ""


def test_another_run_since_is_told() -> None:
    record: dict[str, Any] = {"catalogue": "old", "ranking": {"id": "rank/raw", "key": "r"}}
    assert "another one since" in Audit("train", record, {"old"}).stale()
    assert Audit("train", record, {"old", "r"}).stale() == ""


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    assert auditfolder.read_record(tmp_path) == {}
    (tmp_path / "audit").mkdir()
    write_json(tmp_path / "audit" / "audit.json", {"version": 99, "splits": {}})
    with pytest.raises(SmeltError, match="another smelt"):
        auditfolder.read_record(tmp_path)
