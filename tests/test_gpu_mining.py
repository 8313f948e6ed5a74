"""The GPU benchmark in its tiny form: both rounds run, a call that is cut short goes on, figures are said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu_mining.py"


def said(cache: Path, data: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), "--quick", "--cache", str(cache), "--data", str(data), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.shared
@pytest.mark.slow
def test_it_goes_on_where_it_was_cut_short(tmp_path: Path, shared_data: Path) -> None:
    short = said(tmp_path, shared_data, "--sets", "worst", "--minutes", "0")
    assert not short["done"] and not short["figures"]
    whole = said(tmp_path, shared_data, "--sets", "worst", "--minutes", "8")
    assert whole["done"] and whole["sets"] == {"worst": True}
    assert set(whole["figures"]) == {
        "worst_pk", "worst_auroc", "worst_accuracy", "worst_raw_accuracy", "worst_images",
    }  # fmt: skip
    assert 0 < whole["figures"]["worst_pk"] <= 1 and 0 < whole["figures"]["worst_accuracy"] <= 100
    assert 200 < whole["figures"]["worst_images"] <= 300
