"""What was probably meant by words that cannot be taken apart: verbs that are none, options and arguments
that a verb does not take or that are missing. Where nobody knows, typer's own error stands.
"""

from __future__ import annotations

import contextlib
import difflib
import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from smelt.errors import RecipeError, short
from smelt.verbs import completion, meant

# Of the click that typer brings along, or of the one that is installed
UsageError: type[Exception] = typer.BadParameter.__bases__[0]
VALUED = (
    "-o",
    "--override",
    "--work",
    "--jobs",
    "--seed",
    "--recipe",
    "--out",
    "--rows",
    "--split",
    "--trade",
    "--round",
)  # options with a value
# Verbs of other programs
OTHERS = {
    "help": "smelt --help lists the verbs, smelt VERB --help explains one",
    "version": "smelt --version",
    "resume": "the same smelt run goes on where it was stopped",
    "continue": "the same smelt run goes on where it was stopped",
    "restart": "the same smelt run goes on where it was stopped",
    "stop": "Ctrl-C, or SIGTERM to its process, stops a run with everything saved",
    "status": "smelt plan RECIPE says what is done; smelt report WORK shows a run that is not finished too",
    "list": "smelt recipes lists the recipes",
    "ls": "smelt recipes lists the recipes",
    "start": "smelt run RECIPE",
    "fit": "smelt train RECIPE, or smelt run RECIPE for the whole method",
    "ensemble": "smelt fuse FILES --labels LABELS",
}
# Options of other programs, and of other verbs
SETTINGS = {"root": "data.root", "data_root": "data.root", "data": "data.root", "gpu": "runtime.device",
            "cuda": "runtime.device", "lr": "train.learning_rate", "model": "train.backbone",
            "batch": "train.batch_size"}  # fmt: skip
SHORT = {"-d": "data.root", "-e": "train.epochs", "-b": "train.batch_size", "-m": "train.backbone",
         "-l": "train.learning_rate", "-s": "seed", "-g": "runtime.device"}  # fmt: skip
LONG = {"-w": "--work", "-j": "--jobs", "-r": "--recipe", "-c": "--check", "-V": "--version"}
FLAGS = {"--check": "smelt plan RECIPE --check looks before a run", "--short": "smelt demo --short",
         "--json": "smelt plan RECIPE --json, smelt results WORK --json",
         "--jobs": "smelt run RECIPE --jobs N; a plan has none"}  # fmt: skip
FOLDERS = ("out", "output", "output_dir", "out_dir", "dir", "workdir", "work_dir")


class Commands(TyperGroup):
    """The verbs: says what was meant by a word that is none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Look at the first word before it is taken for a verb."""
        strange = args and not args[0].startswith("-") and args[0] not in self.commands
        if strange and not ctx.resilient_parsing and (told := of_verb(args, list(self.commands))):
            raise RecipeError(told)
        return super().parse_args(ctx, args)


class RecipeCommand(meant.RecipeCommand):
    """A verb that takes a recipe."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Say what was meant where typer can not."""
        words = list(args)
        if any(pair == ("--work", "") for pair in pairwise(words)) or "--work=" in words:
            raise RecipeError("--work: an empty name; is a variable of the shell not set?")
        with _explained(ctx, lambda error: of_recipe(str(ctx.info_name), words, error)):
            return super().parse_args(ctx, args)


class WorkCommand(TyperCommand):
    """A verb that takes a work folder, or nothing."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Say what was meant where typer can not."""
        words = list(args)
        with _explained(ctx, lambda error: self.meant(str(ctx.info_name), words, error)):
            return super().parse_args(ctx, args)

    def meant(self, verb: str, words: Sequence[str], error: Exception) -> str:
        """What was meant by `smelt verb words…`; "" where nobody knows."""
        return of_work(verb, words, error)


@contextlib.contextmanager
def _explained(ctx: Any, tell: Callable[[Exception], str]) -> Iterator[None]:
    """Raise RecipeError with what `tell` says of words that typer refuses; its own error where that is ""."""
    try:
        yield
    except UsageError as error:  # not what ends a command that has shown its --help
        told = "" if ctx.resilient_parsing else tell(error)
        if not told:
            raise
        raise RecipeError(told) from error


class PlainCommand(WorkCommand):
    """A verb that takes neither a recipe nor a work folder."""

    def meant(self, verb: str, words: Sequence[str], error: Exception) -> str:
        """What was meant by `smelt verb words…`; "" where nobody knows."""
        return of_plain(verb, words, error)


def of_verb(words: Sequence[str], verbs: Sequence[str]) -> str:
    """What was meant by `smelt words…` whose first word is no verb; "" where nobody knows."""
    from smelt.recipe.loading import is_path, shipped

    first, *rest = words
    shown = short(first, 120)
    if first.lower() in OTHERS:
        return f"smelt has no verb {shown}: {OTHERS[first.lower()]}"
    if difflib.get_close_matches(first, verbs, n=1, cutoff=0.7) and first not in shipped():
        return ""  # typer names it
    if verb := next((word for word in rest if word in verbs), None):
        rest.remove(verb)
        return f"the verb comes first: smelt {verb} {shlex.join([short(word) for word in (first, *rest)])}"
    if first in shipped() or (is_path(first) and Path(first).suffix in meant.YAML):
        return f"{shown} is a recipe, and what to do with it comes first: smelt run {_joined(words)}"
    if "=" in first:
        return f"{shown}: what to do comes first: smelt run folder -o {shlex.quote(shown)}"
    told = meant.kind("run", Path(first))
    return f"smelt has no verb {shown}, which is {told}" if told else ""


def of_recipe(verb: str, words: Sequence[str], error: Exception) -> str:
    """What was meant by `smelt verb words…`, which typer refuses with `error`."""
    from smelt.recipe.loading import is_path, shipped

    if option := getattr(error, "option_name", None):
        return _option(verb, words, str(option), error)
    plain = _positional(words)
    if _missing(error):
        if verb == "explain":
            return ""
        given = f" {_joined(words)}" if words else " -o data.root=FOLDER"
        return (
            f"smelt {verb} takes a recipe: smelt {verb} folder{given} for images of your own (smelt recipes "
            "lists those that are shipped)"
        )
    if verb == "demo" and plain:
        return f"smelt demo takes no recipe: smelt run {_joined(plain)}"
    whole = " ".join(plain)
    if len(plain) > 1 and Path(whole).exists():
        return f"the shell has split a name at its spaces: quote it: smelt {verb} {shlex.quote(short(whole))}"
    if len(plain) != 2:
        return ""
    recipes = [word for word in plain if word in shipped() or (is_path(word) and word.endswith(meant.YAML))]
    folders = [word for word in plain if word not in recipes[:1] and Path(word).is_dir()]
    if len(recipes[:1]) + len(folders) != 2:
        return ""
    root = shlex.quote(f"data.root={short(folders[0])}")
    return f"the folder of the images is a setting: smelt {verb} {_joined(recipes[:1])} -o {root}"


def of_work(verb: str, words: Sequence[str], error: Exception) -> str:
    """What was meant by `smelt verb words…` of a verb that reads a work folder."""
    if option := getattr(error, "option_name", None):
        return _short(verb, words, str(option), error)
    plain = _positional(words)
    if not _missing(error):
        return ""
    if not plain:
        known = [name for name in completion.work_folders("") if not name.endswith("/")]
        there = f"; here are {', '.join(known[:5])}" if known else "; smelt run RECIPE makes one"
        return f"smelt {verb} takes the work folder of a run{there}"
    from smelt.stages.table import STAGES

    return f"smelt {verb} {_joined(plain)} STAGE: which stage? One of {', '.join(STAGES)}"


def of_plain(verb: str, words: Sequence[str], error: Exception) -> str:
    """What was meant by `smelt verb words…` of a verb that takes no words."""
    from smelt.recipe.loading import is_path, shipped

    if option := getattr(error, "option_name", None):
        return _short(verb, words, str(option), error)
    plain = _positional(words)
    if not plain:
        return ""
    recipe = next((word for word in plain if word in shipped() or is_path(word)), None)
    then = f": smelt plan {_joined([recipe])} shows what one does" if recipe else f"; smelt {verb} -h"
    return f"smelt {verb} takes no words, and {_joined(plain[:3])} was given{then}"


def _missing(error: Exception) -> bool:
    return type(error).__name__ == "MissingParameter"


def _option(verb: str, words: Sequence[str], option: str, error: Exception) -> str:
    """What was meant by an option that the verb does not have."""
    from smelt.recipe.fields import find
    from smelt.recipe.schema import Recipe

    if not option.startswith("--"):
        return _short(verb, words, option, error)
    if option in FLAGS:
        return f"smelt {verb} has no {option}: {FLAGS[option]}"
    place = next((n for n, word in enumerate(words) if word.partition("=")[0] == option), None)
    if place is None:
        return ""
    name = option.lstrip("-").replace("-", "_")
    after = words[place + 1] if len(words) > place + 1 and not words[place + 1].startswith("-") else "…"
    value = short(words[place].partition("=")[2] or after, 120)
    if name in FOLDERS:
        return f"smelt {verb} has no {option}: --work {shlex.quote(value)} names the work folder"
    if name in ("gpu", "gpus", "cuda"):
        value = "cuda"
    entries = find(Recipe, SETTINGS.get(name, name)) or find(Recipe, name.replace("_", "."))
    fields = [entry.name for entry in entries if not entry.inside][:3]
    ways = " or ".join(f"-o {shlex.quote(f'{field}={value}')}" for field in fields)
    return f"smelt {verb} has no {option}; settings are given by -o: {ways}" if ways else ""


def _short(verb: str, words: Sequence[str], option: str, error: Exception) -> str:
    """What was meant by an option of one letter; "" for one of a whole word."""
    if option.startswith("--"):
        return ""
    command = getattr(getattr(error, "ctx", None), "command", None)
    has = [name for one in getattr(command, "params", ()) for name in one.opts if name.startswith("-")]
    no = f"smelt {verb} has no {option}"
    if (long := LONG.get(option)) in has:
        return f"{no}: {long} is written in full"
    place = next((n for n, word in enumerate(words) if word.startswith(option)), len(words))
    after = words[place + 1] if len(words) > place + 1 and not words[place + 1].startswith("-") else "…"
    if option in SHORT and "-o" in has:
        value = (
            "cuda"
            if option == "-g"
            else short(words[place][2:] if words[place:] and len(words[place]) > 2 else after, 120)
        )
        return f"{no}; settings are given by -o: -o {shlex.quote(f'{SHORT[option]}={value}')}"
    return f"{no}; it has {', '.join(dict.fromkeys([*has, '-h']))}"


def _positional(words: Sequence[str]) -> list[str]:
    before = ["", *words]
    return [word for last, word in zip(before, words) if not word.startswith("-") and last not in VALUED]


def _joined(words: Sequence[str]) -> str:
    return shlex.join([short(word) for word in words])
