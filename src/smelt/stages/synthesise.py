"""Stage `synthesise`: writes the embedded data set, in the layout of WebVision 2.0, with its truth known."""

from __future__ import annotations

import shutil

from smelt.data.synthetic.config import SyntheticSettings
from smelt.data.synthetic.generate import FOLDERS, generate
from smelt.stages.context import Context


def run(context: Context[SyntheticSettings]) -> None:
    """Draw everything; what a killed attempt left is deleted first, for a file of it may be half written."""
    for name in FOLDERS:
        shutil.rmtree(context.out / name, ignore_errors=True)

    def progress(done: int, total: int) -> None:
        context.emit("progress", done=done, total=total, unit="images")

    generate(context.out, context.settings, workers=context.runtime.workers, progress=progress)
