"""What the machine cannot do: the work folder, processes of one training, accelerators. Without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from smelt.errors import short
from smelt.recipe.yaml_lines import Steps, dotted
from smelt.verbs.checks.asked import Asked, called

RANKS_PER_CORE = 8  # processes of a training on a CPU: more only wait for one another


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def about_machine(asked: Asked) -> list[str]:
    """What the machine cannot do, as far as it is known without torch."""
    if not asked.todo:
        return []
    return [*_about_folder(asked.work.folder), *_about_root(asked), *_about_ranks(asked)]


def about_gpus(asked: Asked, gpus: int) -> Iterator[str]:
    """What is asked for of `gpus`, as many as torch sees."""
    device = asked.recipe.runtime.device
    where = asked.said(("runtime", "device"))
    numbers = [int(number) for number in device.partition(":")[2].split(",") if number]
    if not gpus:
        yield f"{where}: {device} is asked for, and torch sees no GPU here; on a CPU: -o runtime.device=cpu"
        return
    there = "cuda:0" if gpus == 1 else f"cuda:0 to cuda:{gpus - 1}"
    if missing := [number for number in numbers if number >= gpus]:
        yield f"{where}: {device} is asked for, and torch sees {there} here, no cuda:{missing[0]}"
    if not numbers:
        yield from _too_many_ranks(asked, gpus, f"the {gpus} GPUs that torch sees here")


def _about_root(asked: Asked) -> Iterator[str]:
    root, folder = asked.recipe.data.root, asked.work.folder
    try:
        place, images = folder.resolve(), Path(root or "").resolve()
        inside = root is not None and images in place.parents and place.is_dir()
        taken = inside and not (place / "flowchart.json").exists() and any(place.iterdir())
    except (OSError, ValueError, RuntimeError):  # links in a circle: told as a folder that cannot be
        return
    if taken or (root is not None and place == images):
        what = "is a folder of the data set" if taken else "is the folder of the images"
        yield (
            f"the work folder {short(str(folder))} {what} (data.root), which stays as it is: --work FOLDER "
            "names another"
        )


def _about_folder(folder: Path) -> Iterator[str]:
    try:
        there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
    except (OSError, ValueError) as error:
        yield f"the work folder {short(str(folder))} cannot be: {getattr(error, 'strerror', None) or error}"
        return
    if not there.is_dir():
        what = "is a file" if there == folder else f"would lie in {there}, which is a file"
        yield f"the work folder {short(str(folder))} {what}: --work FOLDER names another"
    elif not os.access(there, os.W_OK | os.X_OK):
        what = "cannot be written to" if there == folder else f"cannot be made in {there}"
        yield f"the work folder {short(str(folder))} {what}: no permission; --work FOLDER names another"


def _about_ranks(asked: Asked) -> Iterator[str]:
    kind, _, numbers = asked.recipe.runtime.device.partition(":")
    if kind == "cpu":
        yield from _too_many_ranks(asked, RANKS_PER_CORE * cores(), f"{cores()} cores")
    elif numbers:
        yield from _too_many_ranks(asked, len(numbers.split(",")), asked.said(("runtime", "device")))


def _too_many_ranks(asked: Asked, most: int, has: str) -> Iterator[str]:
    """A line for each place that asks for more processes of one training than can be."""
    found: dict[tuple[Steps, int], list[str]] = {}
    for one, model, settings, at in asked.trainings():
        if settings.world_size > most:
            known = (asked.given(at, "world_size"), settings.world_size)
            found.setdefault(known, []).append(f"{one.name}/{model.name}")
    for (steps, ranks), names in found.items():
        yield (
            f"{asked.said(steps)}: {called(names)}: {ranks} processes, and up to {most} for {has}; "
            f"at most -o {dotted(steps)}={most}"
        )
