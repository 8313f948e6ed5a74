"""A way of fusing is a module: its name is the setting's value, and a new one costs one file."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from smelt.fusion import config, methods
from smelt.fusion.fitting.method import Method, method, simple

NEW = '''"""The one result that makes the labels likeliest."""

import numpy as np

from smelt.fusion.fitting.method import Method, Seen


def fit(seen: Seen) -> np.ndarray:
    """Weights (M,): 1 for one of them."""
    likely_M = np.log(seen.sample.own_Mn) @ seen.sample.balanced(seen.seen_n)
    return np.eye(len(likely_M))[np.argmax(likely_M)]


METHOD = Method("probability", fit)
'''

USE = """
import json, sys
from smelt.fusion import methods
methods.__path__.append(sys.argv[1])  # as if the file lay in the folder
import numpy as np
from smelt.fusion.config import FuseSettings
from smelt.fusion.procedure import fuse
from smelt.fusion.scores.sources import Held
random = np.random.default_rng(0)
labels = random.integers(0, 4, 600)
noise = np.array([0.4, 3.0, 3.0])[:, None, None]
scores = (np.eye(4)[labels] + noise * random.normal(size=(3, 600, 4))).astype(np.float32)
sources = [Held(f"m{m}", "logits", one, 4) for m, one in enumerate(scores)]
settings = FuseSettings(metric="top1", methods=("mean_probability", "likeliest_result"), shrinkage=(0.0,))
print(json.dumps(fuse(sources, labels, settings, num_classes=4).record))
"""


def names() -> list[str]:
    return [one.name for one in pkgutil.iter_modules(methods.__path__)]


def test_what_settings_take_is_what_lies_in_the_folder() -> None:
    assert list(get_args(config.Method)) == sorted(names())
    assert sorted(config.FuseSettings().methods) == sorted(names())
    assert next(filter(simple, config.FuseSettings().methods)) == "mean_probability"


@pytest.mark.parametrize("name", names())
def test_every_method_says_what_it_is(name: str) -> None:
    one = method(name)
    assert isinstance(one, Method) and (one.fit is None or one.steps is None)
    assert one.pooling or one.steps, "a mean or a fit knows what it averages"
    assert one.simple == name.startswith("mean_")


def test_a_new_method_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "likeliest_result.py").write_text(NEW)
    command = [sys.executable, "-c", USE, str(tmp_path)]
    record = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found = {one["method"]: one for one in record["methods"]}
    assert found["likeliest_result"]["weights"] == [1, 0, 0]
    assert record["chosen"] == "likeliest_result" and "likeliest result is used" in record["words"]
    assert found["likeliest_result"]["held_out"]["top1"] > found["mean_probability"]["held_out"]["top1"]
