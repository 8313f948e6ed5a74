"""A score and a selection that are dropped into their folders are values of settings, and run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning_toy import CLASSES, COUNTS, make_data, make_selection
from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.ranking import read_ranking
from smelt.artifacts.selection import read_selection
from smelt.mining.recorder import Recorder
from smelt.mining.selections import lowest_fraction
from smelt.mining.visits import declared

TESTS = Path(__file__).parent
SCORE = '''"""Minus the mean entropy of what the model gave: how sure it was, whatever of."""

from smelt.mining.visits import Column


def entropy(logits_BC, labels_B):
    log_p_BC = logits_BC.float().log_softmax(dim=1)
    return -(log_p_BC.exp() * log_p_BC).sum(dim=1)


COLUMNS = (Column("entropy_sum", "float32", observe=entropy),)


def score(entropy_sum, seen):
    return -entropy_sum / seen
'''
SELECTION = '''"""What is less clean than so large a share of the cleanest row is flagged."""

import numpy as np

NEEDS = ("ranking",)
READS = ("fraction",)


def select(draft, known, *, fraction):
    cleanness = known.cleanness("below_best")
    draft.flag(cleanness < np.nanquantile(cleanness, fraction), cleanness)
    return {"quantile": fraction}
'''
# Stages in a process of its own, whose folders of modules have one more each
RUN = """
import sys
from pathlib import Path

import smelt.mining.scores
import smelt.mining.selections

tests, extra, work = sys.argv[1:4]
smelt.mining.scores.__path__.append(f"{extra}/scores")
smelt.mining.selections.__path__.append(f"{extra}/selections")
sys.path.insert(0, tests)

from learning_toy import SETTINGS, run_stage
from smelt.mining.config import SelectSettings
from smelt.settings import not_in_key

work = Path(work)
inputs = {"catalogue": [work / "data"], "selection": [work / "selection"]}
run_stage(work / "train", "train", {**SETTINGS, "epochs": 2, "warmup_epochs": 0}, inputs)
inputs = {"catalogue": [work / "data"], "train": [work / "train"]}
run_stage(work / "rank", "rank", {"score": "entropy"}, inputs)
chosen = {"method": "below_best", "fraction": 0.25}
run_stage(work / "select", "select", chosen, {"catalogue": [work / "data"], "ranking": [work / "rank"]})
settings = SelectSettings.model_validate(chosen)
assert settings.needs == ("ranking",)
assert "fraction" not in not_in_key(settings) and "percentile" in not_in_key(settings)
try:
    run_stage(work / "older", "rank", {"score": "entropy"}, {**inputs, "train": [work / "before"]})
except ValueError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(folder of the stages train, rank and select, what ranking older dynamics by the new score said)."""
    work, extra = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("extra")
    for folder, name, text in (("scores", "entropy", SCORE), ("selections", "below_best", SELECTION)):
        (extra / folder).mkdir()
        (extra / folder / f"{name}.py").write_text(text)
    make_data(work / "data")
    make_selection(work / "selection")
    Dynamics(Recorder(sum(COUNTS.values())).arrays()).save(work / "before" / "dynamics", {})
    command = [sys.executable, "-c", RUN, str(TESTS), str(extra), str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return work, done.stdout


def test_a_new_score_is_recorded_ranked_and_selected_by(ran: tuple[Path, str]) -> None:
    work, _ = ran
    dynamics = Dynamics.open(work / "train" / "dynamics")
    assert set(dynamics.columns) == {*declared(), "entropy_sum"}
    train = slice(0, COUNTS["train"])
    entropy = dynamics["entropy_sum"][train] / dynamics["seen"][train]
    assert ((entropy > 0) & (entropy <= np.log(CLASSES) + 1e-6)).all()
    ranking, selection = read_ranking(work / "rank"), read_selection(work / "select")
    assert list(ranking.scores)[-1] == "entropy" and len(ranking.scores) == 9
    np.testing.assert_allclose(ranking.scores["entropy"], -entropy, rtol=1e-6)
    assert set(np.array(selection.words)[selection.reasons]) == {"", "low_entropy"}
    assert (~selection.kept).sum() == COUNTS["train"] // 4
    assert json.loads((work / "select" / "selection.json").read_text())["quantile"] == 0.25


def test_dynamics_from_before_a_score_say_that_they_lack_it(ran: tuple[Path, str]) -> None:
    work, said = ran
    assert f"{work / 'before' / 'dynamics'} has no entropy_sum.npy" in said and "train again" in said


def test_a_checkpoint_from_before_a_column_goes_on_without_it() -> None:
    recorder = Recorder(4)
    recorder.update(torch.arange(4), torch.randn(4, 3), torch.zeros(4).long())
    state = {name: value for name, value in recorder.state_dict().items() if name != "probability_sum"}
    later = Recorder(4)
    later.load_state_dict(state)
    later.update(torch.arange(4), torch.randn(4, 3), torch.zeros(4).long())
    # nor what goes by it at every visit
    gone = {"probability_sum", "probability_m2"}
    assert set(later.arrays()) == set(declared()) - gone and later.arrays()["seen"].tolist() == [2] * 4
    with pytest.raises(ValueError, match=r"\(4,\) torch.int32, not \(5,\)"):
        Recorder(5).load_state_dict(state)


# A stranger's own arrays


@pytest.mark.parametrize(
    ("rows", "logits", "labels", "told"),
    [
        (torch.arange(3), torch.zeros(3), torch.zeros(3).long(), r"logits \(3,\)"),
        (torch.arange(3), torch.zeros(3, 1), torch.zeros(3).long(), r"logits \(3, 1\)"),
        (torch.arange(3), torch.zeros(3, 2), torch.zeros(2).long(), r"labels \(2,\)"),
        (torch.arange(3), torch.zeros(3, 2), torch.zeros(3), "labels must be whole numbers"),
        (torch.zeros(3), torch.zeros(3, 2), torch.zeros(3).long(), "rows must be whole numbers"),
        (torch.arange(3), torch.zeros(3, 2).long(), torch.zeros(3).long(), "logits must be floating-point"),
        ([0, 1, 2], torch.zeros(3, 2), torch.zeros(3).long(), "rows must be a torch tensor, not list"),
    ],
)
def test_batches_that_are_none_are_refused(rows: Any, logits: Any, labels: Any, told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=told):
        Recorder(3).update(rows, logits, labels)


def test_dynamics_that_are_none_are_refused() -> None:
    good = Recorder(3).arrays()
    with pytest.raises(ValueError, match="lack the column last"):
        Dynamics({"seen": good["seen"]})
    with pytest.raises(ValueError, match=r"margin_sum .* shape \(2,\), `seen` \(3,\)"):
        Dynamics({**good, "margin_sum": good["margin_sum"][:2]})
    with pytest.raises(TypeError, match=r"margin_sum .* not float64"):
        Dynamics({**good, "margin_sum": good["margin_sum"].astype(float)})
    assert lowest_fraction.NEEDS == ("ranking", "selection")
