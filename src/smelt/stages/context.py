"""What a stage is given, and how one is run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from smelt.files.workfolder import catalogue_of
from smelt.settings import Settings
from smelt.stages.config import Runtime
from smelt.stages.table import STAGES

S = TypeVar("S", bound=Settings, covariant=True)


@dataclass(frozen=True)
class Context(Generic[S]):
    """All that a stage may see; `S` is its settings class.

    inputs: port name → committed artefact folders, in the order of the flowchart.
    out: the folder to write to; kept over a kill, so look for your own half-done files and go on.
    scratch: a sub-folder of `out` for checkpoints, deleted at the commit.
    emit: progress to the user: `emit("progress", done=3, total=10, unit="images", text="…")`,
    `emit("metric", …)`, `emit("warning", text="…")`. Free of consequence for the result.
    """

    settings: S
    inputs: Mapping[str, list[Path]]
    out: Path
    scratch: Path
    runtime: Runtime = field(default_factory=Runtime)
    emit: Callable[..., None] = lambda event, **fields: None

    def one(self, port: str) -> Path:
        """The single artefact on `port`."""
        (path,) = self.inputs[port]
        return path

    def maybe(self, port: str) -> Path | None:
        """The single artefact on `port`, or None where the port is not connected."""
        paths = self.inputs.get(port, [])
        assert len(paths) <= 1, f"port {port} has {len(paths)} inputs"
        return paths[0] if paths else None

    @property
    def catalogue(self) -> Path:
        """The folder of the catalogue, with the splits as `dedupe` drew them again, if it did."""
        return catalogue_of(self.one("catalogue"), self.maybe("dedupe"))

    @property
    def root(self) -> Path | None:
        """The folder of the images: what `synthesise` made, or the one that the run was given."""
        return self.maybe("data") or (Path(self.runtime.root) if self.runtime.root else None)


def run(
    stage: str, settings: Mapping[str, Any], *, runtime: Mapping[str, Any] | None = None, **rest: Any
) -> None:
    """Run one stage in this process; `rest` are the other fields of Context."""
    checked = STAGES[stage].settings.model_validate(settings)
    context = Context(settings=checked, runtime=Runtime.model_validate(runtime or {}), **rest)
    importlib.import_module(f"smelt.stages.{stage}").run(context)
