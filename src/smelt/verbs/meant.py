"""What was probably meant where a verb was given something of another kind: the command that takes it.

Verbs that compute take a recipe, verbs that read take a work folder, and both are given folders of images,
lists, score files and misspelt names. Looks at names and at one listing of a folder, and at how a recipe
that it may propose begins.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import shlex
from itertools import islice
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from smelt.errors import RecipeError, short
from smelt.files.opening import read_head

YAML = (".yaml", ".yml")
LISTS = (".csv", ".tsv", ".jsonl", ".parquet")
SCORES = (".npy", ".npz", ".pt", ".pth")
IMAGES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif")
ARCHIVES = (".tar", ".tgz", ".zip", ".gz", ".bz2", ".xz", ".zst")
FIELD = re.compile(r"[a-z_]+(\.\w+)*")
OVERRIDE = re.compile(r"[a-z_]+(\.\w+)+=")
FLAGS = ("--quiet", "--replace", "--check", "--json", "--short")  # options that take no value
LOOKED_AT = 1000  # names of a folder


class RecipeCommand(TyperCommand):
    """A command with `-o`: says so where a shell has split an override that was not quoted."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Look at the words before they are taken apart."""
        _refuse_split(args)
        _refuse_bare(args)
        return super().parse_args(ctx, args)


def _refuse_split(words: list[str]) -> None:
    from smelt.recipe.loading import is_cut

    for place, word in enumerate(words[:-1]):
        if word not in ("-o", "--override") or not is_cut(words[place + 1]):
            continue
        for end in range(place + 2, len(words)):
            whole = " ".join(words[place + 1 : end + 1])
            if not is_cut(whole):
                raise RecipeError(
                    f"-o {short(words[place + 1], 60)}: the shell has split this override at a space: quote "
                    f"the whole of it: -o {shlex.quote(short(whole))}"
                )


def _refuse_bare(words: list[str]) -> None:
    """Refuse an override without its `-o` (`train.epochs=3`), and one in two words (`-o data.root crawl`)."""
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        if OVERRIDE.match(word) and (not before.startswith("-") or before in FLAGS):
            raise RecipeError(f"{short(word, 120)}: an override needs -o before it: -o {short(word, 120)}")
        if before in ("-o", "--override") and FIELD.fullmatch(word):
            _refuse_section(word)
        behind = words[place + 1 : place + 2]
        if before in ("-o", "--override") and FIELD.fullmatch(word) and behind and behind[0][:1] != "-":
            raise RecipeError(
                f"-o {short(word, 120)} {short(behind[0], 120)}: an override is one word, key=value: "
                f"-o {shlex.quote(f'{short(word, 120)}={short(behind[0], 120)}')}"
            )


def _refuse_section(word: str) -> None:
    """Refuse an override that names a section and no value (`-o data`), with the fields of the section."""
    from smelt.recipe.fields import find
    from smelt.recipe.schema import Recipe

    known = find(Recipe, word)
    if len(known) != 1 or not known[0].inside:
        return
    steps, cls = known[0].inside[0]
    names = list(cls.model_fields)
    field = ".".join((word, *("0" for _ in steps), "root" if "root" in names else names[0]))
    raise RecipeError(
        f"-o {word}: that is a {'list of sections' if steps else 'section'}, and an override sets one value: "
        f"-o {field}=… (its fields: {', '.join(names)})"
    )


def refuse(verb: str, recipe: str) -> None:
    """Raise RecipeError where `recipe` is neither a shipped recipe nor a file that may be one, with what was
    probably meant by `smelt VERB recipe`."""
    from smelt.recipe.loading import is_path, shipped

    if recipe in shipped():
        return
    path = Path(recipe)
    shown = short(recipe, 120)
    if not recipe.strip():
        raise RecipeError(f"smelt {verb} takes a recipe, and was given an empty name: smelt {verb} folder")
    if told := _link(path):
        raise RecipeError(f"{shown} is {told}{_near(verb, path)}")
    if _is_dir(path):
        raise RecipeError(f"{shown} is {_folder(verb, path)}")
    if path.suffix.lower() in YAML:
        if not _exists(path):
            raise RecipeError(f"there is no recipe {shown}{_near(verb, path)}")
        return
    if _exists(path):
        if told := _file(verb, path):
            raise RecipeError(f"{shown} is {told}")
        if is_path(recipe):  # a recipe may be a pipe, /dev/fd/63
            return
        raise RecipeError(f"{shown} is a file, and no recipe: a recipe ends in .yaml")
    said = f"there is no {shown}" if "/" in recipe else f"no recipe is called {shown!r}"
    raise RecipeError(f"{said}{_near(verb, path)}")


def kind(verb: str, path: Path) -> str:
    """What a folder or file is, and the command for it; "" for what is not there."""
    if _is_dir(path):
        return _folder(verb, path)
    return _file(verb, path) if _exists(path) else ""


def of_work(verb: str, work: Path) -> str:
    """What was probably meant by `smelt VERB work` where `work` is no work folder; "" where nobody knows."""
    from smelt.recipe.loading import is_path, shipped

    name = str(work)
    if _is_work(work):
        return ""  # it is one, and what is wrong with it has been said
    if name in shipped() and not work.exists():
        folder = Path("work") / name
        there = _is_work(folder)
        rest = f"smelt {verb} {folder}" if there else f"smelt run {name} makes it"
        return f"smelt {verb} takes the work folder of a run, and {name} is a shipped recipe: {rest}"
    if work.suffix.lower() in YAML and is_path(name):
        folder = Path("work") / work.stem
        rest = f"smelt {verb} {folder}" if _is_work(folder) else f"smelt run {_quoted(work)} makes it"
        return f"smelt {verb} takes the work folder of a run, and {short(name)} is a recipe: {rest}"
    if _is_work(work.parent) and work.name:
        return f"{short(name)} lies in a work folder: smelt {verb} {_quoted(work.parent)}"
    if _is_dir(work):
        inside = [path for path in _listing(work) if _is_work(path)]
        if inside:
            return f"{short(name)} holds work folders: smelt {verb} {_quoted(inside[0])}"
        if any(path.is_dir() or path.suffix.lower() in IMAGES for path in _listing(work)):
            mend = f"smelt run folder -o {shlex.quote(f'data.root={work}')} makes one of images"
            return f"{short(name)} is a folder, and not the work folder of a run: {mend}"
    return ""


def _folder(verb: str, path: Path) -> str:
    """What a folder is, and the command for it."""
    quoted = _quoted(path)
    if _is_work(path):
        own = path / "recipe.yaml"
        again = f"; to run its recipe: smelt {verb} {_quoted(own)} --work {quoted}" if own.is_file() else ""
        return f"the work folder of a run: smelt report {quoted}, smelt show {quoted} STAGE{again}"
    listing = _listing(path)
    recipes = [item for item in listing if _may_be_recipe(item)]
    if recipes:
        return f"a folder; a recipe in it is {_quoted(recipes[0])}: smelt {verb} {_quoted(recipes[0])}"
    if not listing:
        return f"an empty folder; smelt {verb} takes a recipe (smelt recipes lists those that are shipped)"
    scores = [item for item in listing if item.suffix.lower() in SCORES]
    if scores and len(scores) * 2 > len(listing):
        return f"a folder of score files: smelt fuse {_quoted(path)}/*{scores[0].suffix} --labels LABELS"
    return f"a folder of data, not a recipe: smelt {verb} folder -o {shlex.quote(f'data.root={path}')}"


def _file(verb: str, path: Path) -> str:
    """What a file is by its name, and the command for it; "" for one that may be a recipe."""
    suffix = path.suffix.lower()
    root = f"-o {shlex.quote(f'data.root={path.parent}')}"
    if suffix in LISTS:
        lists = shlex.quote(f"data.lists={{all: {path.name}}}")
        return (
            f"a list, not a recipe: smelt {verb} folder {root} -o data.format=csv -o {lists} where it lists "
            f"images; smelt fuse {_quoted(path)} --labels LABELS where it holds scores"
        )
    if suffix in SCORES:
        return f"a file of arrays, not a recipe: smelt fuse {_quoted(path)} OTHERS --labels LABELS"
    if suffix in IMAGES:
        return f"an image, not a recipe: smelt {verb} folder {root}, the folder of the data set"
    if suffix in ARCHIVES:
        return f"an archive, not a recipe: smelt {verb} folder {root}, the folder that it lies in"
    if suffix == ".json":
        if path.name.startswith("fusion"):
            return f"a fusion, not a recipe: smelt fuse FILES --use {_quoted(path)}"
        return "JSON, not a recipe: a recipe is YAML and ends in .yaml (JSON is YAML: rename it if it is one)"
    if suffix in (".safetensors", ".ckpt", ".onnx"):
        return "a model, not a recipe; a recipe ends in .yaml"
    return ""


def _near(verb: str, path: Path) -> str:
    """`, did you mean …` of recipes and folders beside `path` and of shipped recipes."""
    from smelt.recipe.loading import shipped

    suffixed = path.suffix.lower() in YAML
    if suffixed and path.stem in shipped():
        return f"; the shipped one is called without a suffix: smelt {verb} {path.stem}"
    if not _is_dir(path.parent):
        return f": there is no folder {short(str(path.parent), 120)}"
    listing = [item for item in _listing(path.parent) if not item.name.startswith(".")]
    files = [item for item in listing if _may_be_recipe(item) and item != path]
    known = {item.stem.lower(): item for item in files}
    if path.parent == Path("."):
        known |= {name: Path(name) for name in shipped()}
    if not suffixed:
        known |= {item.name.lower(): item for item in listing if _is_dir(item) and item not in files}
    near = difflib.get_close_matches(path.stem.lower()[:100], list(known), n=1, cutoff=0.55)
    if near:
        meant = known[near[0]]
        if _is_dir(meant) and meant.name not in shipped():
            return f"; {_quoted(meant)} is {_folder(verb, meant)}"
        return f", did you mean smelt {verb} {_quoted(meant)}?"
    if files:
        return f"; recipes there: {', '.join(_quoted(item) for item in files[:5])}"
    return f" (shipped: {', '.join(shipped())}; a file of yours ends in .yaml)"


def _link(path: Path) -> str:
    """What is wrong with a link that leads to nothing; "" for all else."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return (
                "a link that goes round in a circle" if os.path.islink(path) else "behind links in a circle"
            )
        if os.path.islink(path):
            return f"a link to {short(os.readlink(path), 120)}, which is not there"
    except ValueError:  # a zero byte
        pass
    return ""


def _may_be_recipe(path: Path) -> bool:
    """Whether it is a file with the suffix of YAML and a text in it, so that it may be proposed."""
    try:
        if path.suffix.lower() not in YAML or not path.is_file():
            return False
        begins = read_head(path, 512)
        return bool(begins.strip()) and b"\0" not in begins
    except (OSError, ValueError, RuntimeError):  # RuntimeError: how pathlib tells of links in a circle
        return False


def _is_work(path: Path) -> bool:
    return any(_exists(path / name) for name in ("flowchart.json", "finished.json"))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, a zero byte
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _listing(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as items:
            return sorted(Path(path, item.name) for item in islice(items, LOOKED_AT))
    except (OSError, ValueError):
        return []


def _quoted(path: Path) -> str:
    return shlex.quote(short(str(path)))
