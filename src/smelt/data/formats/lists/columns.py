"""Which column of a list is what: by the names that people give them, and by what stands in them.

The names count in any case and spelling (`Image ID`, `image_id`, `ImageId`). What was taken is noted; where
it cannot be told, the error shows the columns that there are and the option that was probably meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from smelt.data.formats.base import IMAGE_SUFFIXES
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.hotcolumns import CLEAR, Hot, hot_among, that_hold_it
from smelt.data.formats.tree.names import SPLIT_WORDS, first_few, split_of
from smelt.errors import DataError, some

SUFFIXES = (*IMAGE_SUFFIXES, ".jfif", ".jpe", ".tif", ".tiff", ".heic", ".heif", ".ppm")

# By rank: an earlier one is taken before a later one. Letters and digits only, in small letters.
_PATH = (
    "path", "filepath", "imagepath", "imgpath", "relativepath", "relpath", "filename", "imagefilename",
    "imagefile", "imagename", "imgname", "imgfile", "fname", "file", "files", "fullpath", "localpath",
    "image", "images", "img", "picture", "photo", "imageid", "imgid", "photoid", "fileid", "pictureid",
    "idcode", "isicid", "imageindex", "id", "uuid", "key", "name", "uri", "imageuri", "fileuri", "imageurl",
    "url", "filenames", "sourceref", "imagegcsuri", "gcsuri", "imagecontent",
)  # fmt: skip
_LABEL = (
    "label", "labelname", "classname", "class", "categoryname", "category", "target", "targetname", "breed",
    "species", "labels", "classes", "categories", "tag", "y", "ylabel", "annotation", "groundtruth", "gt",
    "truth", "diagnosis", "dx", "findinglabels", "individualid", "variety", "type", "choice", "subcategory",
    "articletype", "style", "expression", "emotion", "cls", "classlabel", "labelid", "classid", "categoryid",
    "targetid", "labelidx", "classidx", "labelindex", "classindex", "landmarkid", "givenlabel", "displayname",
    "accept",
)  # fmt: skip
_SPLIT = ("split", "dataset", "set", "datasplit", "subset", "partition", "phase", "isvalid", "isval",
          "istest", "istrain", "usage", "fold", "mluse")  # fmt: skip
# how sure the label of a row is; 0 says that the image is not of its class
_CONFIDENCE = ("confidence", "labelconfidence", "conf", "ispositive", "positive", "ispresent", "present",
               "presence", "answer", "assignmentstatus",
               "probability", "prob", "score", "labelscore")  # fmt: skip
_SAME = ("source", "query", "title", "description", "tags", "noise")
_RANKS = {
    "path": {name: rank for rank, name in enumerate(_PATH)},
    "label": {name: rank for rank, name in enumerate(_LABEL)},
    "split": {name: rank for rank, name in enumerate(_SPLIT)},
    "true_label": {"truelabel": 0},
    **{name: {name: 0} for name in _SAME},
}
# what the columns of a split say, by their name
_FLAGS = {
    "isvalid": {"true": "val", "1": "val", "false": "train", "0": "train"},
    "isval": {"true": "val", "1": "val", "false": "train", "0": "train"},
    "istest": {"true": "test", "1": "test", "false": "train", "0": "train"},
    "istrain": {"true": "train", "1": "train", "false": "val", "0": "val"},
    "partition": {"0": "train", "1": "val", "2": "test"},  # as CelebA has it
}
_OPEN = frozenset({"unassigned", "all", "trainval"})  # words for images of no split, which may be held out
_SHOWN = 5


def last(name: str) -> str:
    """The last part of the name of a field in fields: `my-job-metadata.class-name` is `class-name`."""
    return re.split(r"[./](?=[^./]*$)", name)[-1]


def plain(name: str) -> str:
    """A name of a column without case, blanks and signs."""
    return re.sub(r"[\W_]+", "", name.strip().lower())


def usual(name: str) -> str:
    """Ours for a usual name of a column; "" where it is none."""
    known = plain(name)
    return next((ours for ours, ranks in _RANKS.items() if known in ranks), "")


def looks_like_image(cell: str) -> bool:
    """Whether a cell ends as names of images do."""
    return cell.rstrip().lower().endswith(SUFFIXES)


@dataclass(frozen=True)
class Columns:
    """Places of the columns by our names; `hot`: those whose names are classes, with cells of yes and no.

    hot_as: what these hold, for messages. notes: what was taken for what. flags: what the words of the column
    `split` mean where its name says it.
    """

    places: dict[str, int]
    hot: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    flags: dict[str, str] | None = None
    hot_as: str = "0 and 1"


class Chooser:
    """Chooses among the columns of one list: their names, and the cells of the first rows."""

    def __init__(
        self, path: Path, names: Sequence[str], sample: Sequence[Sequence[str]], header: bool,
        settings: FormatSettings,
    ) -> None:  # fmt: skip
        self.path, self.names, self.sample, self.header = path, list(names), sample, header
        self.settings = settings
        self.named = {str(ours): name for ours, name in settings.columns.items()}
        self.notes: list[str] = []
        self._taken: set[int] = set()  # places of the columns that are known

    def choose(self, labelled: bool) -> Columns:
        """The columns; DataError where there is none for the path, or for the label though `labelled`."""
        needed = {"path", "label"} if labelled else {"path"}
        hot = self._hot_by_name()
        wanted = {ours: name for ours, name in self.named.items() if ours in needed or self._at(name)}
        if hot.places:
            wanted.pop("label", None)
        places = {ours: self._named(ours, name) for ours, name in wanted.items()}
        if "path" not in places:
            places["path"] = self._path(set(places.values()))
        for ours in ("split", "true_label", *_SAME):
            if ours not in places and (place := self._usual(ours, set(places.values()))) is not None:
                places[ours] = place
        self._taken = set(places.values())
        if "label" not in places and not hot.places:
            label = self._label(set(places.values()))
            hot = Hot() if label is not None else self._hot(set(places.values()))
            if label is None and not self.header and "split" not in places:
                label = self._without_names(places)
            if label is None and len(self.names) == 2 and "tags" in places:
                label = places.pop("tags")  # nothing else can be meant
            if label is not None:
                places["label"] = label
            elif not hot.places and labelled:
                raise self._error("label")
        elif "label" in self.named and not hot.places:
            self._say_hot(places)
        # beside a label only: alone, such a column is itself the label, or one class of several
        if "label" in places and "confidence" not in places and not hot.places:
            self._confidence(places)
        self._say(places)
        flags = _FLAGS.get(plain(self.names[places["split"]])) if "split" in places else None
        if flags:
            meant = ", ".join(f"{word} is {split}" for word, split in flags.items())
            self.notes.append(f"column {self.names[places['split']]!r}: {meant}")
        return Columns(places, hot.places, tuple(self.notes), flags, hot.words)

    # by the settings

    def _at(self, name: str) -> list[int]:
        exact = [place for place, found in enumerate(self.names) if found == name]
        return exact or [place for place, found in enumerate(self.names) if plain(found) == plain(name)]

    def _named(self, ours: str, name: str) -> int:
        places = self._at(name)
        if len(places) == 1:
            return places[0]
        if places:
            raise DataError(
                f"{self.path}: the column {name!r} is there {len(places)} times (columns "
                f"{', '.join(str(place + 1) for place in places)}): give each a name of its own"
            )
        raise self._error(ours)

    def _hot_by_name(self) -> Hot:
        """The columns of classes that are named as the label, parted by commas."""
        names = self.named.get("label", "")
        parts = [self._at(name.strip()) for name in names.split(",")]
        if len(parts) < 2 or self._at(names) or not all(len(part) == 1 for part in parts):
            return Hot()
        places = tuple(part[0] for part in parts)
        return Hot(places, that_hold_it(places, self.sample).words)

    # by usual names and by what stands in them

    def cells(self, place: int) -> list[str]:
        """The cells of a column in the first rows, without empty ones."""
        return [row[place].strip() for row in self.sample if len(row) > place and row[place].strip()]

    def _ranked(self, ours: str, taken: set[int]) -> list[int]:
        ranks = _RANKS[ours]
        found = [
            place for place, name in enumerate(self.names) if plain(name) in ranks and place not in taken
        ]
        if not found and ours in ("path", "label", "split"):
            return self._within(ranks, taken)
        return sorted(found, key=lambda place: (ranks[plain(self.names[place])], place))

    def _within(self, ranks: dict[str, int], taken: set[int]) -> list[int]:
        """Fields in fields whose own name is a usual one."""
        dotted = [(plain(last(name)), place) for place, name in enumerate(self.names) if "." in name]
        known = [(ranks[name], place) for name, place in dotted if name in ranks and place not in taken]
        return [place for _, place in sorted(known)]

    def _path(self, taken: set[int]) -> int:
        found = self._ranked("path", taken)
        images = [place for place in range(len(self.names)) if place not in taken and self._of_images(place)]
        best = [place for place in found if place in images]
        if best:
            return self._first("path", best, "path")
        if not found and len(images) == 1:
            self.notes.append(f"column {self._called(images[0])} holds names of images")
            return images[0]
        if not found and images:
            raise self._error("path", images)
        if found:
            full = [place for place in found if self.cells(place)] or found
            return self._first("path", full, "path")
        if not self.header and len(self.names) <= 2:
            return 0
        raise self._error("path")

    def _of_images(self, place: int) -> bool:
        cells = self.cells(place)
        return bool(cells) and sum(map(looks_like_image, cells)) > 0.5 * len(cells)

    def _label(self, taken: set[int]) -> int | None:
        found = self._ranked("label", taken)
        if found and plain(self.names[found[0]]) != "label" and len(found) > 1:
            texts = [place for place in found if not all(map(_is_number, self.cells(place)))]
            found = texts or found
        if found:
            return self._first("label", found, "label")
        rest = [
            place for place in range(len(self.names)) if place not in taken and usual(self.names[place]) == ""
        ]
        if len(rest) == 1 and len(self.names) == 2 and not self._of_images(rest[0]):
            if self.header:
                self.notes.append(f"column {self._called(rest[0])} is the only other one: it is the label")
            return rest[0]
        return None

    def _confidence(self, places: dict[str, int]) -> None:
        called = {plain(name): place for place, name in reversed(list(enumerate(self.names)))}
        found = [
            called[name] for name in _CONFIDENCE if name in called and called[name] not in places.values()
        ]
        if found and self.header:
            places["confidence"] = found[0]

    def _without_names(self, places: dict[str, int]) -> int | None:
        """The label of a list without names of columns, once its split is told by its words."""
        splits = [place for place in range(len(self.names)) if place not in places.values()]
        splits = [place for place in splits if self._of_splits(place)]
        rest = [place for place in range(len(self.names)) if place not in (*places.values(), *splits)]
        if len(splits) != 1 or len(rest) != 1:
            return None
        places["split"] = splits[0]
        return rest[0]

    def _hot(self, taken: set[int]) -> Hot:
        """Columns of classes among all that is not taken; said which of them are no classes."""
        free = [place for place in range(len(self.names)) if place not in taken and self.names[place]]
        hot = hot_among(free, self.sample, self._may_be_label) if self.header else Hot()
        if not hot.places or any(usual(self.names[place]) for place in hot.places):
            return Hot()
        if hot.beside:
            shown = first_few([repr(self.names[place]) for place in hot.beside], len(hot.beside), _SHOWN)
            self.notes.append(f"beside the columns of classes, {shown} says nothing that is used")
        return hot

    def _may_be_label(self, place: int) -> bool:
        """Whether a column holds words, some of them more than once."""
        cells = self.cells(place)
        return not all(map(_is_number, cells)) and 1 < len(set(cells)) < len(cells)

    def _say_hot(self, places: dict[str, int]) -> None:
        """A column of 0 and 1 was named as the label, and there are more of its kind."""
        place = places["label"]
        free = [i for i in range(len(self.names)) if i == place or i not in places.values()]
        hot = hot_among(free, self.sample, lambda _: True)
        if place in hot.places:
            shown = ", ".join(
                repr(self.names[at]) for at in (place, *(p for p in hot.places if p != place))[:_SHOWN]
            )
            self.notes.append(
                f"columns {shown} hold {hot.words}, and only {self.names[place]!r} is taken: without "
                "data.columns.label all of them are classes"
            )

    def _usual(self, ours: str, taken: set[int]) -> int | None:
        for place in self._ranked(ours, taken):
            if ours != "split" or plain(self.names[place]) == "split" or self._of_splits(place):
                return place
            if words := sorted(set(self.cells(place)))[:_SHOWN]:
                self.notes.append(
                    f"column {self.names[place]!r} is not taken for the split: {', '.join(map(repr, words))} "
                    "are not train, val or test"
                )
        return None

    def _of_splits(self, place: int) -> bool:
        flags = _FLAGS.get(plain(self.names[place]), {})
        words = {cell.lower() for cell in self.cells(place)}
        known = {*flags, *_OPEN, *SPLIT_WORDS, *(word.lower() for word in self.settings.split_words)}
        return bool(words) and all(word in known or split_of(word) for word in words)

    def _first(self, ours: str, found: list[int], option: str) -> int:
        names = [self.names[place] for place in found]
        if names.count(names[0]) > 1:
            raise DataError(
                f"{self.path}: the column {names[0]!r} is there {names.count(names[0])} times: give each a "
                "name of its own"
            )
        if len(found) > 1 and plain(names[0]) != ours:
            other = next(name for name in names[1:])
            self.notes.append(
                f"column {names[0]!r} is taken for the {ours} "
                f"(-o data.columns.{option}={other} takes another)"
            )
        return found[0]

    def _called(self, place: int) -> str:
        return repr(self.names[place]) if self.header else f"{place} (from 0)"

    def _say(self, places: dict[str, int]) -> None:
        said = " ".join(self.notes)
        told = [
            f"{self.names[place]!r} is the {ours}" for ours, place in places.items()
            if ours not in self.named and self.names[place] != ours and repr(self.names[place]) not in said
        ]  # fmt: skip
        if told and self.header:
            self.notes.append(f"column {', '.join(told)}")
        elif not self.header:
            numbers = [f"{place} is the {ours}" for ours, place in places.items() if ours not in self.named]
            if numbers:
                self.notes.append(f"it has no names of columns: column {', '.join(numbers)} (from 0)")

    def _error(self, ours: str, candidates: list[int] | None = None) -> DataError:
        """What is wrong, the columns that there are, and the option that was probably meant."""
        name = self.named.get(ours)
        shown = ", ".join(some([repr(name) for name in self.names], len(self.names)))
        if name is not None:
            what = f"has no column {name!r} for the {ours}"
        elif candidates:
            what = f"has {len(candidates)} columns that may be the {ours}"
        else:
            what = f"has no column that is known as the {ours}"
        columns = f"it has {shown}" if self.header else f"without names it has the columns {shown}"
        return DataError(f"{self.path} {what}; {columns}: {self._meant(ours, name, candidates)}")

    def _in_folders(self) -> bool:
        """Whether the paths lead into more than one folder."""
        cells = [cell for place in self._taken if self._of_images(place) for cell in self.cells(place)]
        return len({cell.replace("\\", "/").rpartition("/")[0] for cell in cells}) > 1

    def _of_yes_and_no(self) -> str:
        """How columns that may be classes are named as such; "" where there are none."""
        free = [place for place in range(len(self.names)) if place not in self._taken]
        hot = that_hold_it(free, self.sample) if self.header else Hot()
        if len(hot.places) < CLEAR:
            return ""
        names = ",".join(self.names[place].strip() for place in hot.places)
        return (
            f"some hold {hot.words}, but not one {hot.words.split()[0]} in each row: "
            f"-o 'data.columns.label={names}' takes them for classes, -o data.columns.label=NAME one column"
        )

    def _meant(self, ours: str, name: str | None, candidates: list[int] | None) -> str:
        if ours == "label" and name is None and (several := self._of_yes_and_no()):
            return several
        free = [own for place, own in enumerate(self.names) if usual(own) in ("", ours)] or self.names
        if candidates:
            free = [self.names[place] for place in candidates]
        near = get_close_matches(plain(name or ours), [plain(own) for own in free], 1, 0.6)
        best = next((own for own in free if near and plain(own) == near[0]), None)
        if best is None and ours == "path":
            best = next((self.names[i] for i in range(len(self.names)) if self._of_images(i)), None)
        rest = [
            own
            for own in free
            if not self._of_images(self.names.index(own)) and self.names.index(own) not in self._taken
        ]
        texts = [own for own in rest if not all(map(_is_number, self.cells(self.names.index(own))))]
        if best is None and ours == "label" and len(texts or rest) == 1:
            best = (texts or rest)[0]
        if best is not None:
            quote = "'" if re.search(r"[^\w.=/-]", best) else ""
            return f"-o {quote}data.columns.{ours}={best}{quote} takes one of them"
        if ours == "label" and not rest and self._in_folders():
            return (
                f"-o data.columns.{ours}=NAME takes one; where the folders are the classes: "
                "-o data.format=imagefolder"
            )
        if ours == "label" and rest and not texts:
            return (
                f"-o data.columns.{ours}=NAME takes one of them (numbers in several columns, such as "
                "probabilities, are no labels)"
            )
        return f"-o data.columns.{ours}=NAME takes one of them"


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", cell) is not None
