"""Questions to a process of its own, which imports what a verb need not: torch, and what nets are made of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from smelt.errors import short

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class UnansweredError(Exception):
    """A process that was asked gave no answer; its text is why. It says nothing of what was asked."""


def ask(module: str, question: Any, seconds: float) -> Any:
    """The answer of a module that replies (models/replies.py) to a question, both as JSON has them.

    UnansweredError where there is none within `seconds`: on a busy machine loading libraries may take long.
    """
    try:
        asked = subprocess.run(
            [sys.executable, "-m", module], input=json.dumps(question), capture_output=True, text=True,
            timeout=seconds, check=False, env=os.environ | ONE_THREAD,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UnansweredError(f"no answer within {seconds:.0f} s") from error
    except OSError as error:
        raise UnansweredError(str(error.strerror)) from error
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UnansweredError(f"exit code {asked.returncode}: {short(last)}")
    try:
        return json.loads(asked.stdout)
    except ValueError as error:
        raise UnansweredError("its answer was cut off") from error
