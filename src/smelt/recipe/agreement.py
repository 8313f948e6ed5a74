"""What of a recipe does not go together: its rounds with one another, and settings of different parts."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from smelt.mining.config import SelectSettings
from smelt.models import lineup
from smelt.random import SEEDS, derived
from smelt.recipe.parts import Parts, Round
from smelt.recipe.tries import tries
from smelt.recipe.yaml_lines import dotted
from smelt.settings import MAX_SEED, Disagreement, Settings


def refuse(recipe: Parts) -> None:
    """ValueError that begins with the field, or Disagreement of several, by their paths in the recipe."""
    if why := lineup.unknown(recipe.train.backbone):
        raise ValueError(f"train.backbone: {why}")
    earlier: dict[str, Round] = {}
    for number, one in enumerate(recipe.rounds):
        for field, message in _mistakes(one, earlier):
            raise ValueError(f"rounds.{number}.{field}: {message}")
        _trainings(recipe, number, one)
        if one.auto:
            _decided(recipe, number, one)
        elif one.select:
            _selection(recipe, number, one, one.select, earlier)
        earlier[one.name] = one
    if recipe.rounds and not any(one.fuse for one in recipe.rounds):
        raise ValueError("rounds: no round has `fuse: true`, so there is nothing to fuse")
    if recipe.synthesise and recipe.data.root is not None:
        raise Disagreement(
            {"data.root": recipe.data.root, "synthesise": "given"},
            "`synthesise` makes the images of this recipe",
            "for your own images: -o synthesise=null, or the recipe `folder`; else leave {data.root} out",
        )
    if recipe.runtime.root is not None:
        raise ValueError("runtime.root: the folder of the images is `data.root`")
    _features(recipe)
    _seeds(recipe)
    _splits(recipe)
    _weights(recipe)


def _mistakes(one: Round, earlier: Mapping[str, Round]) -> Iterator[tuple[str, str]]:
    """(field of the round, what is wrong with it), as far as other rounds and settings decide it."""
    if one.name in earlier:
        yield "name", "an earlier round has the same name"
    named = [("ranking", name) for name in one.rankings]
    named += [("teacher.round", one.teacher.round)] if one.teacher else []
    named += [("start", one.start)] if one.start else []
    for field, name in named:
        if name not in earlier:
            yield field, f"names {name!r}, not an earlier round (there: {', '.join(earlier) or 'none'})"


def _features(recipe: Parts) -> None:
    """Raise where two are called alike, or where one is of a model that is none of the run."""
    models = [
        f"{one.name}/{model.name}-{seed}"
        for one in recipe.rounds
        for model in one.models
        for seed in model.seeds
    ]
    names: set[str] = set()
    for number, one in enumerate(recipe.features):
        if one.name in names:
            raise ValueError(f"features.{number}.name: two are called {one.name!r}")
        names.add(one.name)
        if one.model is not None and one.model not in models:
            near = difflib.get_close_matches(one.model, models, 1, 0.0)
            told = f"ROUND/MODEL-SEED, such as {near[0]}" if near else "there is none, for it has no rounds"
            raise ValueError(f"features.{number}.model: {one.model!r} is no model of the run ({told})")
        if one.backbone is not None and (why := lineup.unknown(one.backbone)):
            raise ValueError(f"features.{number}.backbone: {why}")


def _trainings(recipe: Parts, number: int, one: Round) -> None:
    """Raise where the settings of a model, which come from three places, do not go together."""
    for place, model in enumerate(one.models):
        try:
            settings = recipe.training(one, model, model.seeds[0])
        except ValidationError as error:
            problem = error.errors()[0]
            loc = tuple(map(str, problem["loc"]))
            cause = problem.get("ctx", {}).get("error")
            if not isinstance(cause, Disagreement):
                at = ".".join(("rounds", str(number), "models", str(place), "train", *loc))
                raise ValueError(f"{at}: {str(problem['msg']).removeprefix('Value error, ')}") from error
            raise _where_given(recipe, cause, (number, place), loc) from error
        if why := lineup.unknown(settings.backbone):
            raise ValueError(f"{dotted(recipe.given(number, place, 'backbone'))}: {why}")


def _where_given(
    recipe: Parts, cause: Disagreement, model: tuple[int, int], loc: tuple[str, ...]
) -> Disagreement:
    """A disagreement at `loc` of the settings of a model, by the fields that they come from; it is mended
    where the most special of these is, which leaves other models alone."""
    given = {name: recipe.given(*model, *loc, *name.split(".")) for name in cause.values}
    deepest = max(given.values(), key=lambda steps: steps.index("train"))
    prefix = deepest[: deepest.index("train") + 1]
    return cause.moved(
        lambda name: dotted(given[name]), lambda name: dotted((*prefix, *loc, *name.split(".")))
    )


def _decided(recipe: Parts, number: int, one: Round) -> None:
    """Raise where a round's step cannot be judged against the round before, or its tries cannot be made."""
    if number == 0:
        return  # nothing to judge it against: it learns from everything usable
    before = recipe.rounds[number - 1]
    known = {(model.name, seed) for model in before.models for seed in model.seeds}
    for place, model in enumerate(one.models):
        if missing := [seed for seed in model.seeds if (model.name, seed) not in known]:
            raise ValueError(
                f"rounds.{number}.models.{place}: with `select: {{method: auto}}` a step that does not climb "
                f"hands on the models of the round before, and {before.name} has no {model.name} of seed "
                f"{missing[0]}. Give both rounds the same models, or another select.method"
            )
    kept, metric = recipe.predict.topk.get("val"), recipe.fuse.metric
    if kept is not None and kept < (1 if metric == "top1" else 5):
        raise Disagreement(
            {"predict.topk.val": kept, f"rounds.{number}.select.method": "auto"},
            "a step is judged by whether the label is among the first five classes",
            "5 or more, or -o {fuse.metric}=top1",
        )
    earlier = {other.name: other for other in recipe.rounds[:number]}
    for place, (_, settings) in enumerate(tries(one, bool(recipe.features))):
        if settings is None:
            continue
        if settings.method in ("auto", "threshold_runs", "threshold_samples"):
            raise ValueError(
                f"rounds.{number}.tries.{place}.method: {settings.method} cannot be tried; "
                "give it a round of its own"
            )
        _selection(recipe, number, one, settings, earlier)


def _selection(
    recipe: Parts, number: int, one: Round, select: SelectSettings, earlier: Mapping[str, Round]
) -> None:
    """Raise where `select` does not go with `ranking`, the rounds before or what they predict."""
    at = f"rounds.{number}"
    sources = one.rankings or tuple(earlier)[-1:]
    if not sources and (select.needs or select.down_weight):
        reason = f"method {select.method}" if select.needs else "down_weight"
        raise ValueError(f"{at}.select: {reason} goes by an earlier round, and there is none")
    kept = recipe.predict.topk.get("val")
    if select.method == "worst_classes" and kept is not None:
        raise Disagreement(
            {"predict.topk.val": kept, f"{at}.select.method": select.method},
            "worst_classes goes by the scores of all classes on validation",
            f"leave {{predict.topk.val}} out, or take another {{{at}.select.method}}",
        )
    both = {f"{at}.ranking": one.ranking, f"{at}.select.method": select.method}
    if select.method != "threshold_samples":
        if len(sources) > 1:
            raise Disagreement(
                both,
                "only threshold_samples goes by more than one round",
                f"-o {{{at}.ranking}}={sources[-1]}, or -o {{{at}.select.method}}=threshold_samples",
            )
        return
    of_sets = [earlier[name].select for name in sources]
    parts = [found.part for found in of_sets if found and found.method == "threshold_runs"]
    if len(parts) < len(sources) or len(set(parts)) < len(parts):
        raise Disagreement(
            both,
            "threshold_samples goes by one round with `select: {method: threshold_runs}` or by two of "
            f"different `part`; {', '.join(sources)} are not such",
            f"name such rounds in {{{at}.ranking}}, or take another {{{at}.select.method}}",
        )


def _seeds(recipe: Parts) -> None:
    """A stage is given its own seed with the recipe's added, and that must be one too."""
    shift = derived(recipe.seed, 0)
    parts: dict[str, Settings | None] = {
        "data": recipe.data,
        "synthesise": recipe.synthesise,
        "fuse": recipe.fuse,
    }
    parts |= {f"rounds.{number}.select": one.select for number, one in enumerate(recipe.rounds)}
    for name, part in parts.items():
        own = getattr(part, "seed", 0)
        if own and own + shift > MAX_SEED:
            raise Disagreement(
                {f"{name}.seed": own, "seed": recipe.seed},
                f"together ({SEEDS:,} · seed is added) they are above {MAX_SEED:,}",
                f"a smaller {{{name}.seed}} or {{seed}}",
            )


def _splits(recipe: Parts) -> None:
    """What is to be fused, submitted or written must be predicted."""
    splits = list(recipe.predict.splits)
    if "val" not in splits:
        raise ValueError("predict.splits: needs 'val': fusion is chosen by it")
    wanted = [("fuse.write_scores", split) for split in recipe.fuse.write_scores]
    if recipe.submit:
        wanted.append(("submit.split", recipe.submit.split))
    for name, split in wanted:
        if split not in splits:
            raise Disagreement(
                {name: split, "predict.splits": splits},
                f"no model would predict {split}",
                f"-o '{{predict.splits}}=[{', '.join([*splits, split])}]', or another {{{name}}}",
            )


def _weights(recipe: Parts) -> None:
    """Averaged weights can predict only where training keeps them."""
    if recipe.predict.weights != "ema":
        return
    for number, one in enumerate(recipe.rounds):
        for place, model in enumerate(one.models):
            if recipe.training(one, model, model.seeds[0]).ema_decay is None:
                name = dotted(recipe.given(number, place, "ema_decay"))
                raise Disagreement(
                    {"predict.weights": "ema", name: None},
                    f"the model {one.name}/{model.name} keeps no average of its weights",
                    f"-o {{predict.weights}}=default, or -o {{{name}}}=0.999",
                )
