"""The models of a recipe against all sizes that they will see, as a process of its own tries them.

That process (models/trial.py) imports torch, builds every net that has still to learn or to predict, and
shows it each size once; what it finds is told here by the fields of the recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smelt.learning.config import TrainSettings
from smelt.recipe.parts import Round
from smelt.recipe.schema import Recipe
from smelt.recipe.yaml_lines import Steps
from smelt.stages.table import STAGES
from smelt.verbs.checks import asking, disk, resized
from smelt.verbs.checks.asked import Asked, Found, called
from smelt.verbs.checks.machine import about_gpus
from smelt.verbs.checks.tried import Tried

CLASSES = 10  # for a net whose number of classes nobody knows yet: it does not matter to the sizes
LIMIT_SECONDS = 600.0  # of the process that tries the nets


@dataclass(frozen=True)
class _Trial:
    """A net to try, and of what: (round, model) places, and field of the recipe by (train or shown, size)."""

    name: str
    at: tuple[int, int]
    net: dict[str, Any]
    fields: Mapping[tuple[str, int], Steps]


def about_models(asked: Asked) -> Found:
    """Every net that has still to learn or to predict, built and shown every size that it will see."""
    trials = list(_trials(asked))
    todo = {node.stage for node in asked.todo}
    on_gpu = asked.recipe.runtime.device.startswith("cuda") and any(STAGES[stage].device for stage in todo)
    if not trials and not on_gpu:
        return Found()
    nets: list[dict[str, Any]] = []
    for trial in trials:
        if trial.net not in nets:
            nets.append(trial.net)
    starts = list(_starts(asked, {trial.at for trial in trials}))
    told = _tell(nets, [(was, now) for _, was, now in starts], on_gpu)
    if told.error:
        return _untried(asked, told.error, on_gpu)
    mine = [told.nets[nets.index(trial.net)] for trial in trials]
    found = Found(gpus=told.gpus)
    found.values = {trial.at: int(verdict["values"]) for trial, verdict in zip(trials, mine, strict=True)}
    refused = list(_about_nets(asked, trials, mine))
    if refused and told.mend is not None:
        learnt = {trial.at: told.mend["train"][nets.index(trial.net)] for trial in trials}
        refused += resized.proposal(asked, learnt, told.mend["shown"], told.mend["size"])
    found.problems += refused
    found.problems += [f"{text}: {why}" for (text, _, _), why in zip(starts, told.starts, strict=True) if why]
    if found.gpus is not None:
        found.problems += about_gpus(asked, found.gpus)
    if trials:
        sizes = sum(len(net["train"]) + len(net["shown"]) for net in nets)
        before = f", {told.before} of them in runs before" if told.before else ""
        found.notes.append(
            f"models: {len(nets)} net{'s' * (len(nets) > 1)} tried at {sizes} sizes in all{before}"
        )
    return found


def _untried(asked: Asked, why: str, on_gpu: bool) -> Found:
    """What is known where the nets could not be tried: that torch has the GPUs, which is asked by itself."""
    found = Found(notes=[f"the models could not be tried beforehand ({why})"])
    if on_gpu:
        answer = _ask({"gpus": True})
        if "error" in answer:
            said = f"torch could not be asked for its GPUs ({answer['error']})"
            found.problems.append(f"{asked.said(('runtime', 'device'))}: {said}")
        else:
            found.gpus = answer["gpus"]
            found.problems += about_gpus(asked, answer["gpus"])
    return found


def _trials(asked: Asked) -> Iterator[_Trial]:
    """The nets that have still to learn or to predict, with all that they will be shown."""
    todo = {node.id for node in asked.todo}
    whole = {node.id for node in asked.undone(asked.graph.whole)}  # who only trains will want to predict
    outputs = disk.counts(asked).classes or CLASSES
    for one, model, settings, at in asked.trainings():
        names = [f"{one.name}/{model.name}-{seed}" for seed in model.seeds]
        learns = any(f"train/{name}" in todo for name in names)
        fields = {**(_learnt(asked, settings, at) if learns else {})}
        for key, steps in _shown(asked.recipe, one, names, whole if learns else todo):
            fields.setdefault(key, steps)
        if not fields:
            continue
        net = {
            **_shape(settings),
            "outputs": outputs,
            "drop_rate": settings.drop_rate,
            "drop_path_rate": settings.drop_path_rate,
            "pretrained": settings.pretrained,
            "batch": min(2, max(1, settings.batch_size // (settings.world_size * settings.accumulate_steps))),
            "train": sorted({size for mode, size in fields if mode == "train"}),
            "shown": sorted({size for mode, size in fields if mode == "shown"}),
            **({"frozen_stages": settings.frozen_stages} if settings.frozen_stages else {}),
            **({"layers": True} if settings.layer_decay is not None else {}),
        }
        yield _Trial(f"{one.name}/{model.name}", at, net, fields)


def _learnt(asked: Asked, settings: TrainSettings, at: tuple[int, int]) -> dict[tuple[str, int], Steps]:
    """Sizes that a training shows, with the field of each."""
    sizes = asked.given(at, "augment", "sizes")
    view = asked.given(at, "validation_view") if settings.validation_view else sizes
    learnt: dict[tuple[str, int], Steps] = {("train", size): sizes for size in settings.augment.sizes}
    return {**learnt, ("shown", settings.test_view.size): view}


def _shown(
    recipe: Recipe, one: Round, names: list[str], todo: set[str]
) -> Iterator[tuple[tuple[str, int], Steps]]:
    """Sizes of the views that models of a round are to predict under, as results and as teachers."""
    if any(f"predict/{name}" in todo for name in names):
        for number, view in enumerate(recipe.predict.views):
            yield ("shown", view.size), ("predict", "views", number)
    if any(node.startswith(f"teach/{name}") for name in names for node in todo):
        for number, later in enumerate(recipe.rounds):
            if later.teacher and later.teacher.round == one.name:
                if later.teacher.view:
                    yield ("shown", later.teacher.view.size), ("rounds", number, "teacher", "view")
                else:
                    yield ("shown", recipe.predict.views[0].size), ("predict", "views", 0)


def _about_nets(asked: Asked, trials: list[_Trial], told: list[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each net and field that do not go together, whatever number of models and sizes has it."""
    names: dict[tuple[Any, ...], list[str]] = {}
    sizes: dict[tuple[Any, ...], dict[int, str]] = {}
    for trial, verdict in zip(trials, told, strict=True):
        backbone = trial.net["backbone"]
        at = asked.given(trial.at, "backbone")
        if verdict["build"]:
            known: tuple[Any, ...] = (at, at, f"{backbone} cannot be built")
            names.setdefault(known, []).append(trial.name)
            sizes[known] = {0: verdict["build"]}
        learnt = [size for mode, size, _ in verdict["sizes"] if mode == "train"]
        for mode, size, why in verdict["sizes"]:
            where = trial.fields[mode, size]
            if mode == "shown" and size in learnt and where[-1] == "sizes":
                continue  # the view of validation, which goes by the sizes that are told already
            does = "learn from" if mode == "train" else "be shown"
            known = (where, at, f"{backbone} cannot {does} images of")
            names.setdefault(known, []).append(trial.name)
            sizes.setdefault(known, {})[size] = why
    for known, of in names.items():
        where, at, text = known
        numbers = ", ".join(str(size) for size in sizes[known] if size)
        pixels = f" {numbers} px" if numbers else ""
        why = next(iter(sizes[known].values())).rstrip(".")
        mend = "" if "pretrained" in why else f"; other sizes, or another net than {asked.said(at)}"
        yield f"{asked.said(where)}: {called(of)}: {text}{pixels}: {why}{mend}"


def _starts(
    asked: Asked, places: set[tuple[int, int]]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(message, net that was, net that goes on from its weights), where they are not made alike."""
    rounds = {one.name: one for one in asked.recipe.rounds}
    for one, model, settings, at in asked.trainings():
        if not one.start or at not in places:
            continue
        before = next((m for m in rounds[one.start].models if m.name == model.name), None)
        if before is None:
            continue  # the flowchart says so
        was = _shape(asked.recipe.training(rounds[one.start], before, before.seeds[0]))
        now = _shape(settings)
        differs = [name for name in {**was, **now} if was.get(name, 1) != now.get(name, 1)]
        if differs:
            called = {"image_size": "augment.sizes", "networks": "semi.networks"}.get(differs[0], differs[0])
            yield (
                f"{asked.said(('rounds', at[0], 'start'))}: the model {one.name}/{model.name} cannot go on "
                f"from {one.start}/{model.name}, which is another net (train.{called}: "
                f"{was.get(differs[0], 1)} there, {now.get(differs[0], 1)} here)",
                was,
                now,
            )


def _shape(settings: TrainSettings) -> dict[str, Any]:
    """What decides the weights that a net has, but for its head."""
    return {
        "backbone": settings.backbone, "outputs": CLASSES, "image_size": settings.image_size,
        "small_stem": settings.small_stem,
        **({"networks": settings.semi.networks} if settings.semi and settings.semi.networks > 1 else {}),
    }  # fmt: skip


@dataclass(frozen=True)
class _Told:
    """What is known of nets: verdicts, in order; why a net cannot go on from another, "" where it can; GPUs
    that torch sees; how many nets were known before; what went wrong with the asking; where a net was
    refused, sizes that all take, in the order of the nets (None where none were found)."""

    nets: Sequence[Mapping[str, Any]] = ()
    starts: Sequence[str] = ()
    gpus: int | None = None
    before: int = 0
    error: str = ""
    mend: Mapping[str, Any] | None = None


def _tell(
    nets: Sequence[dict[str, Any]], pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], on_gpu: bool
) -> _Told:
    """Verdicts on `nets` and on `pairs` (net that was, net that goes on); only what is new is asked."""
    memory = Tried.here()
    known = [memory.verdict(net) for net in nets]
    new = [net for net, verdict in zip(nets, known, strict=True) if verdict is None]
    strange = [pair for pair in pairs if not memory.goes_on(*pair)]
    answer: dict[str, Any] = {"verdicts": []}
    if new or strange or on_gpu:
        asked = list(new)
        for was, now in strange:
            asked += [was, {**now, "start": len(asked)}]
        answer = _ask({"nets": asked, "gpus": on_gpu, "together": list(nets)})
    if "error" in answer:
        return _Told(error=answer["error"])
    fresh, both = answer["verdicts"][: len(new)], answer["verdicts"][len(new) :]
    going_on = list(zip(strange, both[::2], both[1::2], strict=True))
    memory.keep(
        list(zip(new, fresh, strict=True)),
        [pair for pair, was, now in going_on if not (was["build"] or now["build"] or now["start"])],
    )
    late = iter(fresh)
    whys = iter([now["start"] for _, _, now in going_on])
    return _Told(
        nets=[next(late) if verdict is None else verdict for verdict in known],
        starts=[next(whys) if pair in strange else "" for pair in pairs],
        gpus=answer.get("gpus"),
        before=len(nets) - len(new),
        mend=answer.get("mend"),
    )


def _ask(question: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of models/trial.py; `error` where it could not answer."""
    try:
        answer: dict[str, Any] = asking.ask("smelt.models.trial", question, LIMIT_SECONDS)
    except asking.UnansweredError as error:
        return {"error": str(error)}
    return answer
