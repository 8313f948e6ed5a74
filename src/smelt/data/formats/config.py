"""Settings of the data set: which format it has, what to take of it, how to split what is not split.

`FormatSettings` is what decides the catalogue and so goes into the key of the stage `index`;
`DataSettings` adds the folder, which does not: what lies in it counts by `fingerprint`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator

from smelt.errors import DataError
from smelt.settings import NotInKey, Settings

Format = Literal[
    "webvision", "mini_webvision", "imagefolder", "csv", "cifar_n",
    "clothing1m", "food101n", "animal10n", "webdataset",
]  # fmt: skip

Column = Literal[
    "path", "label", "split", "source", "query", "title", "description", "tags", "true_label", "noise"
]  # fmt: skip

# Settings that only some formats look at; the others are for all.
USED_BY: dict[str, tuple[str, ...]] = {
    "lists": ("webvision", "mini_webvision", "csv", "clothing1m", "food101n", "webdataset"),
    "folders": ("webvision", "mini_webvision", "clothing1m", "food101n", "animal10n"),
    "sources": ("webvision",),
    "num_classes": ("webvision",),
    "text": ("webvision", "mini_webvision", "webdataset"),
    "labels": ("cifar_n",),
    "val_labels": ("cifar_n",),
    "subset": ("cifar_n",),
    "subset_balanced": ("cifar_n",),
    "columns": ("csv",),
}


# Formats that hold images out where a data set does not split itself; the others come with lists for all.
DRAWS = ("imagefolder", "csv", "cifar_n", "food101n", "animal10n", "webdataset")


class FormatSettings(Settings):
    """What decides the rows of the catalogue, given the files."""

    format: Format = "webvision"
    lists: dict[str, str] = Field(
        default={}
    )  # file lists by name, where they are not where the format has them
    folders: dict[str, str] = Field(
        default={}
    )  # image folders by name, likewise; unknown ones are probed for
    check_files: bool = True  # look whether every listed file is there (a look per folder)

    # webvision
    sources: tuple[Literal["google", "flickr"], ...] | None = None  # None: all that have a file list
    num_classes: Annotated[int, Field(ge=1)] | None = None  # only the first so many classes
    text: bool = True  # join title, description, tags and rank from the JSON

    # where a data set has no validation or test list: so much of another split is held out, by seed
    seed: int = 0
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    val_from: Literal["train", "test"] = "train"
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    test_from: Literal["train", "val"] = "train"

    # cifar_n
    labels: Literal[
        "clean", "noisy", "noisy_aggre", "noisy_random1", "noisy_random2", "noisy_random3", "noisy_worst"
    ] = "noisy_worst"
    val_labels: Literal["clean", "noisy"] = "noisy"
    subset: Annotated[int, Field(ge=1)] | None = None  # so many of the training images
    subset_balanced: bool = False  # equally many of each (noisy) class, else at random

    # csv: our name of a column → its name in the file
    columns: dict[Column, str] = Field(default={})

    @model_validator(mode="after")
    def _only_what_is_used(self) -> Self:
        for name, formats in USED_BY.items():
            if self.format not in formats and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`{name}` says nothing to format {self.format} (only {', '.join(formats)})")
        return self


class DataSettings(FormatSettings):
    """A data set of a recipe. `root` is the folder of everything; None where a stage makes the data."""

    root: Annotated[str | None, NotInKey("what lies in it counts by `fingerprint`")] = None

    def key_settings(self) -> FormatSettings:
        """The same without the folder: the settings of the stage `index`, that go into its key."""
        return FormatSettings.model_validate(self.model_dump(exclude={"root"}))

    @property
    def draws(self) -> bool:
        """Whether the format may hold images out, so that `seed` means something to it."""
        return self.format in DRAWS


def reader(settings: FormatSettings) -> Any:
    """The module of the format: `read(settings, root, writer, report)` and `outside(settings, root)`."""
    name = "webvision" if settings.format == "mini_webvision" else settings.format
    return importlib.import_module(f"smelt.data.formats.{name}")


def fingerprint(settings: FormatSettings, root: Path) -> str:
    """Identity of what lies below `root`, as hex: file lists by content, archives and folders by listing.

    Listings hold names and sizes: no time stamp, no absolute path. Imports neither torch nor pyarrow (but for
    a list that is Parquet). Of the images that a CSV names the sizes count, unless `check_files` is off;
    images that a published file list names are not looked at one by one. Raises DataError where the folder
    or a list is missing.
    """
    from smelt.data.formats.identity import identity_of

    if not root.is_dir():
        raise DataError(f"{root} is not a folder: set `root` to the folder of the data set")
    module = reader(settings)
    contents, listed = cast(tuple[list[Path], list[Path]], module.outside(settings, root))
    images = module.listed_images(settings, root) if hasattr(module, "listed_images") else ()
    return identity_of(root, contents, listed, images)
