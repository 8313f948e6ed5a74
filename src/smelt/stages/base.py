"""What a stage is: a settings class, a version and a function of committed inputs.

Each stage is one module of this package, named as the verb. It defines

    VERSION: int                     raised when the same settings and inputs would give other bytes
    class StageSettings(Settings)    what goes into the key
    def run(context: Context) -> None

and imports torch, pyarrow and the like inside functions, so that planning stays quick.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field, model_validator

from smelt.settings import Limit, NotInKey, Rule, Settings

STAGES = (
    "synthesise", "index", "check", "dedupe", "tune", "train", "rank", "select",
    "predict", "fuse", "evaluate", "submit",
)  # fmt: skip


class Runtime(Settings):
    """What may differ from machine to machine without changing a byte of the result; never in a key.

    Of `device` the kind counts: stages that compute on it have it in their key (`Node.device`).
    """

    RULES: ClassVar[Mapping[str, Rule]] = {
        "root": NotInKey("what lies in it counts by `fingerprint`"),
        "workers": NotInKey("rows come in one order, however many load them"),
        "device": NotInKey("its kind is a part of the key of its own, its numbers are leases"),
        "log_every_seconds": NotInKey("what is shown"),
        "stall_warning_seconds": NotInKey("what is shown"),
        "stall_limit_seconds": NotInKey("a stage that is ended goes on to the same bytes"),
    }
    root: str | None = Field(
        default=None, description="Not set in a recipe: the run fills in the folder of `data.root`."
    )
    workers: Annotated[int, Limit("no machine gains from more")] = Field(
        default=2,
        ge=1,
        le=1024,
        description="Threads or processes of a stage that load images. As many as there are cores for each "
        "stage that runs at once.",
    )
    device: str = Field(
        default="cpu",
        pattern=r"^(cpu|cuda(:\d{1,4}(,\d{1,4})*)?)$",
        description="Where nets compute: cpu, cuda (every GPU that is visible), or GPUs by number "
        "(cuda:0,1).",
    )
    log_every_seconds: float = Field(
        default=2.0,
        ge=0,
        le=86_400,
        description="Seconds between the lines of progress of a training.",
    )
    stall_warning_seconds: float | None = Field(
        default=45.0,
        ge=1,
        le=86_400,
        description="Seconds after which a stage that stands still (no event, no processor time, or one of "
        "its processes stopped) is named in a warning with its process and its log. null: never.",
    )
    stall_limit_seconds: float | None = Field(
        default=None,
        ge=1,
        le=31_536_000,
        description="Seconds after which a stage that stands still is ended; the same command goes on from "
        "what it had saved. Longer than the longest wait for a slow disk or network. null: left alone.",
    )

    @model_validator(mode="after")
    def _each_once(self) -> Runtime:
        numbers = self.device.partition(":")[2].split(",")
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"device: {self.device} names a GPU twice")
        return self


@dataclass(frozen=True)
class Context:
    """All that a stage may see.

    inputs: port name → committed artefact folders, in the order of the flowchart.
    out: the folder to write to; kept over a kill, so look for your own half-done files and go on.
    scratch: a sub-folder of `out` for checkpoints, deleted at the commit.
    emit: progress to the user: `emit("progress", done=3, total=10, unit="images", text="…")`,
    `emit("metric", …)`, `emit("warning", text="…")`. Free of consequence for the result.
    """

    settings: Settings
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


def module(stage: str) -> ModuleType:
    """The module of the stage called `stage`."""
    assert stage in STAGES, stage
    return importlib.import_module(f"smelt.stages.{stage}")


def settings_class(stage: str) -> type[Settings]:
    """The settings class of the stage called `stage`."""
    return cast(type[Settings], module(stage).StageSettings)


def version(stage: str) -> int:
    """The version of the stage called `stage`, part of every key."""
    return cast(int, module(stage).VERSION)


def run(
    stage: str, settings: Mapping[str, Any], *, runtime: Mapping[str, Any] | None = None, **rest: Any
) -> None:
    """Run one stage in this process; `rest` are the other fields of Context.

    Where `dedupe` drew the hold-out again, by groups of copies, its catalogue stands for that of `index`.
    """
    inputs: dict[str, list[Path]] = dict(rest.pop("inputs"))
    redrawn = [path for path in inputs.get("dedupe", []) if (path / "catalogue").is_dir()]
    if redrawn and "catalogue" in inputs:
        inputs["catalogue"] = redrawn
    context = Context(
        settings=settings_class(stage).model_validate(settings),
        runtime=Runtime.model_validate(runtime or {}),
        inputs=inputs,
        **rest,
    )
    module(stage).run(context)
