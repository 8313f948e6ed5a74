"""Settings of the data set: which format it has, what to take of it, how to split what is not split.

`FormatSettings` is what decides the catalogue and so goes into the key of the stage `index`;
`DataSettings` adds the folder, which does not: what lies in it counts by `fingerprint`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from smelt.data.formats.registry import AUTO, formats, used_by
from smelt.settings import Disagreement, NotInKey, Settings

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[(AUTO, *formats())]

Column = Literal[
    "path", "label", "split", "source", "query", "title", "description", "tags", "true_label", "noise",
    "confidence",
]  # fmt: skip

CLASS_FROM = re.compile(r"leaf|path|name|depth:[1-9][0-9]?")


class FormatSettings(Settings):
    """What decides the rows of the catalogue, given the files."""

    format: FormatName = Field(
        default=AUTO,
        description="Layout of the data set. `auto` looks at the folder, takes what it recognises and says "
        "so; name a format where it takes the wrong one. "
        + "; ".join(f"`{name}`: {one.summary}" for name, one in formats().items())
        + ".",
    )
    lists: dict[str, str] = Field(
        default={},
        description="File lists by name (`train`, `val`, `test`, `all`, `classes`, or a format's own), "
        "relative to `root`, where they are not where the format has them.",
    )
    folders: dict[str, str] = Field(
        default={},
        description="Image folders by name, where they are not called as the format has them; those that are "
        "not given are looked for.",
    )
    check_files: bool = Field(
        default=True,
        description="Whether to look if every listed file is there, and what else lies in the folder (one "
        "listing a folder). Switch it off for millions of files on a slow disk that are known to be whole.",
    )

    class_from: str | None = Field(
        default=None,
        description="Which folder of `a/b/c/x.jpg` names the class: `depth:1` the first (`a`), `depth:2` the "
        "second, `leaf` the last (`c`), `path` all of them (`a/b/c`); `name` takes what the file's name "
        "begins with (`cat.12.jpg`: `cat`). Left out: the first, with a warning where folders lie in it.",
    )
    links: Literal["inside", "anywhere"] = Field(
        default="inside",
        description="Links to files and folders that are followed: those whose target lies below `root`, or "
        "`anywhere` on this machine. Only for data of your own making: a link may lead to any file.",
    )
    prefix: str = Field(
        default="",
        description="Text set before every path of a list, such as `train/` where the list holds bare names.",
    )
    suffix: str = Field(
        default="",
        description="Text set behind every path of a list, such as `.jpg` where the list holds ids.",
    )
    paths_from: Literal["auto", "root", "list"] = Field(
        default="auto",
        description="Folder that the paths of a list start from: `root`, or the `list`'s own folder. `auto` "
        "takes the one where the files are.",
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        default=None,
        description='What parts the columns of a list in text form (`;`, a tab as "\\t"). Left out: found '
        "from its first lines.",
    )
    header: bool | None = Field(
        default=None,
        description="Whether the first line of a list names its columns. Left out: found. Without one, "
        '`columns` counts from 0: `{path: "0", label: "1"}`.',
    )
    encoding: str | None = Field(
        default=None,
        description="Encoding of a list in text form, or of the names of class folders, as Python names "
        "it (`utf-16`, `latin-1`, `cp932` for Shift-JIS, `gb18030`, `euc_kr`). Left out: by its byte order "
        "mark, else UTF-8; labels that are neither UTF-8 nor surely latin-1 are refused.",
    )
    unlabelled: Literal["leave_out", "keep", "refuse"] = Field(
        default="leave_out",
        description="Images of training or validation without a label: counted and left out, kept in the "
        "catalogue without being learnt from, or refused. Test images need none.",
    )
    split_words: dict[str, Literal["train", "val", "test"]] = Field(
        default={},
        description="What words of a list's column of splits mean, beside the usual ones, in any case "
        "(`{fold9: test}`).",
    )
    no_label: tuple[str, ...] = Field(
        default=(),
        description="Words of a list that say that an image has no label, as they are written there "
        "(`[unknown, TODO]`); `unlabelled` then says what becomes of it. `?`, `-`, `\\N` and `[]` always do, "
        "and so does -1 beside names.",
    )
    label_is: Literal["auto", "name"] = Field(
        default="auto",
        description="What the labels of a list are: `auto` takes whole numbers from 0 on for the numbers of "
        "the classes, and other whole numbers for their names; `name` takes every label as the name of a "
        "class, as it is written (`1.5`, `-1`, `01` beside `1`).",
    )
    multi_label: Literal["refuse", "first", "split", "whole"] = Field(
        default="refuse",
        description="Images with more than one label: refused, under their `first` one, or `split` into a "
        "row for each. smelt learns one label an image. `whole` takes a text such as `hot dog; mustard` as "
        "the name of one class, whatever parts it; what has several all the same is refused.",
    )
    min_confidence: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Rows of a list whose column `confidence` is less are left out. Left out: those of 0, "
        "which say that the image is not of the class. 0 takes every row.",
    )
    test_labels: Literal["auto", "given", "none"] = Field(
        default="auto",
        description="Labels of test images: as `given`, or `none`, however they are listed. `auto` takes for "
        "none what stands in for one: the same word for all images of the test.",
    )

    sources: tuple[Literal["google", "flickr"], ...] | None = Field(
        default=None,
        min_length=1,
        description="Sources of WebVision to take. Left out: all that have a file list.",
    )
    num_classes: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Take the first so many classes of WebVision only."
    )
    text: bool = Field(
        default=True,
        description="Whether to join title, description, tags and rank from the JSON beside the images; it "
        "is only shown. Switch it off for a quicker index.",
    )

    seed: int = Field(
        default=0,
        ge=0,
        lt=1_000_000_000_000,
        description="Draws the images that are held out. Another seed, another validation.",
    )
    val_fraction: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of each class that is held out for validation where the data set has none.",
    )
    val_from: Literal["train", "test"] = Field(
        default="train", description="Split that a validation that is not there is taken from."
    )
    test_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of each class that is held out for a test where the data set has none.",
    )
    test_from: Literal["train", "val"] = Field(
        default="train", description="Split that a test that is not there is taken from."
    )

    labels: Literal[
        "clean", "noisy", "noisy_aggre", "noisy_random1", "noisy_random2", "noisy_random3", "noisy_worst"
    ] = Field(default="noisy_worst", description="Set of annotations of CIFAR-N that is learnt.")
    val_labels: Literal["clean", "noisy"] = Field(
        default="noisy",
        description="Labels of CIFAR-N's held-out validation: `noisy` as in training (what one has in life), "
        "or the true ones.",
    )
    subset: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Take so many of CIFAR-N's training images only."
    )
    subset_balanced: bool = Field(
        default=False,
        description="Whether `subset` takes equally many of each (noisy) class; else any, at random.",
    )

    columns: dict[Column, str] = Field(
        default={},
        description="smelt's name of a column (path, label, split, source, query, title, description, tags, "
        "true_label, noise, confidence) → its name in your lists, or the field of a sample's JSON (`a.b` for "
        "one inside another). `label` takes several columns of 0 and 1, parted by commas, as classes "
        "(`label: cat,dog`; csv only). Left out: usual names are recognised.",
    )

    @field_validator("no_label", mode="before")
    @classmethod
    def _as_words(cls, value: Any) -> Any:
        """One word alone, and numbers, as texts."""
        values = [value] if isinstance(value, (str, int, float)) else value
        if not isinstance(values, (list, tuple)) or not all(isinstance(word, (str, int)) for word in values):
            raise ValueError('takes words, such as [unknown, "null"]; null, 1.5 and the like in quotes')
        return tuple(str(word) for word in values)

    @field_validator("class_from")
    @classmethod
    def _known_class_from(cls, value: str | None) -> str | None:
        if value is not None and not CLASS_FROM.fullmatch(value):
            raise ValueError("takes leaf, path, name, or depth:1, depth:2, … (the first, second, … folder)")
        return value

    @model_validator(mode="after")
    def _only_what_is_used(self) -> Self:
        for name, taking in used_by().items():
            if self.format in (AUTO, *taking):
                continue
            if getattr(self, name) != type(self).model_fields[name].default:
                raise Disagreement(
                    {name: getattr(self, name), "format": self.format},
                    f"`{name}` says nothing to format {self.format} (only to {', '.join(taking)})",
                    f"leave {{{name}}} out, or take another {{format}}",
                )
        return self

    @property
    def draws(self) -> bool:
        """Whether the format may hold images out, so that `seed` means something to it."""
        return self.format == AUTO or formats()[self.format].draws

    @property
    def validation_labels(self) -> str:
        """`checked` where people looked at the labels of the format's validation; `crawled` where it is held
        out of the same crawl, or nobody says otherwise: one's own images."""
        if self.format == AUTO:
            return "crawled"
        own = formats()[self.format]
        checked = any(getattr(self, name) == value for name, value in own.checked_if.items())
        return "checked" if checked else own.validation


class DataSettings(FormatSettings):
    """A data set of a recipe."""

    root: Annotated[str | None, NotInKey("what lies in it counts by `fingerprint`")] = Field(
        default=None,
        description="Folder of the data set; every path is relative to it, and nothing in it is changed. "
        "Left out only where `synthesise` makes the images.",
    )

    def key_settings(self) -> FormatSettings:
        """The same without the folder: the settings of the stage `index`, that go into its key."""
        return FormatSettings.model_validate(self.model_dump(exclude={"root"}))
