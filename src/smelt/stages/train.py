"""train: one model, learnt from a selection, and what training showed of each image.

Ports: data (optional), catalogue, selection, tune (for `learning_rate: tune`), teacher (results of the train
split, any number), start (a train artefact to fine-tune from), decision and instead (what stands in for this
training, see `stages.decided`). Writes `model.safetensors`, `model.json`,
`ema.safetensors` with `ema_decay`, `weights.json` (what was loaded) with `weights`, `dynamics/`,
`metrics.csv`, `train.json`. Checkpoints are in the scratch folder: a killed attempt goes on from the last.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.checkpoint import Checkpoints, write_tensors
from smelt.artifacts.dynamics import Dynamics
from smelt.artifacts.results import find
from smelt.artifacts.selection import Selection, read_selection
from smelt.errors import RecipeError, TrainingError
from smelt.files.atomic import read_json, write_csv, write_json
from smelt.learning import distributed, setup
from smelt.learning.config import TrainSettings
from smelt.learning.distillation import Teacher
from smelt.learning.distributed import Group
from smelt.learning.loop import Loop
from smelt.mining.recorder import Recorder
from smelt.models.backbones import num_parameters
from smelt.stages.context import Context
from smelt.stages.decided import hand_on, standing_in

COLUMNS = ("epoch", "step", "learning_rate", "train_loss", "train_top1",
           "val_top1", "val_top5", "val_top1_ema", "val_top5_ema")  # fmt: skip


def run(context: Context[TrainSettings]) -> None:
    """Train on one process, on the ranks that torchrun started, or on `world_size` new ones."""
    # before the first use of a GPU: without it cuBLAS has no deterministic form
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    settings = context.settings
    group = distributed.from_torchrun()
    if standing_in(context) is not None:
        if group is None or group.first:
            hand_on(context)
        return
    if group is not None and group.world_size != settings.world_size:
        raise TrainingError(
            f"torchrun started {group.world_size} ranks, but world_size is {settings.world_size}: "
            f"use -o train.world_size={group.world_size}, it is part of the key"
        )
    if group is not None:
        _rank(group, None, context.emit if group.first else _silent, *_parts(context))
    elif settings.world_size > 1:
        distributed.launch(_rank, _parts(context), settings.world_size, context.emit)
    else:
        _rank(distributed.Group(), None, context.emit, *_parts(context))


def _silent(event: str, **fields: Any) -> None:
    """The `emit` of ranks that do not talk."""


def _parts(context: Context[TrainSettings]) -> tuple[Any, ...]:
    """The context as values that another process can be given."""
    return context.settings, dict(context.inputs), context.out, context.scratch, context.runtime


def _rank(group: Group, port: int | None, emit: Callable[..., None], *parts: Any) -> None:
    """All that one rank does."""
    settings, inputs, out, scratch, runtime = parts
    context = Context(settings, inputs, out, scratch, runtime, emit if group.first else _silent)
    device = distributed.device_of(runtime.device, group.rank)
    setup.fix_numerics(settings.threads, settings.deterministic, device)
    if settings.precision == "bf16" and not setup.bf16_is_fast(device):
        context.emit("warning", text="this processor is slow in bf16: precision: fp32 will be faster")
    with distributed.joined(group, device, port), distributed.stop_on_sigterm() as stop:
        loop, recorder = _prepared(context, settings, group, device, stop)
        try:
            loop.run()
        finally:
            loop.data.loader.close()
        if group.first:
            _write(context, settings, loop, recorder)
        group.barrier()


def _prepared(
    context: Context[TrainSettings], settings: TrainSettings, group: Group, device: Any, stop: Any
) -> tuple[Loop, Recorder]:
    catalogue = Catalogue.open(context.catalogue)
    selection = read_selection(context.one("selection"))
    loader = setup.make_loader(
        catalogue, context.root, workers=context.runtime.workers, seed=settings.seed,
        max_bad=settings.max_bad_fraction,
    )  # fmt: skip
    start = context.maybe("start")
    networks = 1 if settings.semi is None else settings.semi.networks
    model, inputs, loaded = setup.begun_model(settings, selection.num_classes, start, networks)
    if loaded is not None:
        context.emit("note", text=f"weights: {loaded.words()}")
        if group.first:
            write_json(context.out / "weights.json", loaded.to_json())
    if start is not None and setup.start_from(model, start):
        context.emit("warning", text=f"fine-tuning with a new head: {start.name} has other classes")
    if settings.mixing is not None and settings.mixing.probability == 1.0:
        context.emit(
            "warning",
            text="mixing.probability is 1: every batch is mixed, so no margins are recorded and no ranking "
            "can go by this training",
        )
    recorder = Recorder(catalogue.num_rows, device, stop_after_epoch=_last_recorded(settings))
    data = setup.training_data(catalogue, selection, loader, settings)
    if settings.semi is not None:
        data = replace(data, unlabelled=setup.unlabelled(selection, settings.seed))
    loop = Loop(
        model,
        settings,
        data,
        learning_rate=learning_rate(context, settings),
        device=device,
        group=group,
        checkpoints=Checkpoints(
            context.scratch / "checkpoints", lambda text: context.emit("warning", text=text)
        ),
        observers=[recorder],
        teacher=_teacher(context, settings, catalogue, selection),
        stop=stop,
        emit=context.emit,
        log_every_seconds=context.runtime.log_every_seconds,
        inputs=inputs,
    )
    return loop, recorder


def learning_rate(context: Context[TrainSettings], settings: TrainSettings) -> float:
    """The rate of the settings, or the one that the tune stage found. RecipeError if there is none."""
    if settings.learning_rate != "tune":
        return settings.learning_rate
    tune = context.maybe("tune")
    if tune is None:
        raise RecipeError("learning_rate: tune needs the tune stage's artefact on the port tune")
    return float(read_json(tune / "tune.json")["learning_rate"])


def _last_recorded(settings: TrainSettings) -> int | None:
    return None if settings.record_epochs is None else settings.record_epochs - 1


def _teacher(
    context: Context[TrainSettings], settings: TrainSettings, catalogue: Catalogue, selection: Selection
) -> Teacher | None:
    """The teacher on the port, if any; refused at once where it lacks rows or has other classes."""
    folders = context.inputs.get("teacher", [])
    if not folders:
        return None
    files = [
        file for folder in folders for file in find(folder, "train") if file.with_suffix(".json").is_file()
    ]
    if not files:
        raise RecipeError("the teacher has no result of the train split: predict it with splits: [train]")
    if settings.semi is not None:
        raise RecipeError("semi guesses itself, and learns from no teacher: -o train.semi=null")
    teacher = Teacher(files, catalogue.classes, settings.distillation.temperature)
    teacher.covers(selection.rows[selection.kept])
    return teacher


def _write(context: Context[TrainSettings], settings: TrainSettings, loop: Loop, recorder: Recorder) -> None:
    """The artefact's files, from the loop's last state."""
    weights = "raw" if loop.average is None else "ema"
    write_tensors(context.out / "model.safetensors", loop.model.state_dict())
    if loop.average is not None:
        write_tensors(context.out / "ema.safetensors", loop.average.state_dict())
    num_classes = loop.data.num_outputs
    write_json(context.out / "model.json", setup.model_json(settings, num_classes, weights, loop.inputs))
    summary = {"classes": num_classes, "epochs": settings.epochs, "backbone": settings.backbone}
    Dynamics(recorder.arrays()).save(context.out / "dynamics", summary)
    measured = ([epoch.get(name) for name in COLUMNS] for epoch in loop.progress.metrics)
    write_csv(context.out / "metrics.csv", [COLUMNS, *measured])
    write_json(
        context.out / "train.json",
        {
            "weights": weights,
            "images": loop.num_images,
            "steps": loop.total_steps,
            "skipped_steps": loop.progress.skipped,
            "halved_rate": loop.progress.rate_factor < 1.0,
            "micro_batches": loop.progress.parts,
            "masked_images": loop.progress.masked,
            "parameters": num_parameters(loop.model),
            "peak_learning_rate": loop.learning_rate,
            **{f"final_{key}": value for key, value in loop.progress.metrics[-1].items()},
        },
    )
