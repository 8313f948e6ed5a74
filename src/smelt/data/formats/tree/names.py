"""Names of files, folders and classes: which are hidden, which mean a split, which look like one another."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

# What systems and tools leave behind in folders; nobody means it as data.
_LEFT_BEHIND = frozenset(
    {b"__macosx", b"@eadir", b"#recycle", b"$recycle.bin", b"system volume information", b"lost+found",
     b"__pycache__", b"thumbs.db", b"ehthumbs.db", b"desktop.ini", b"icon\r"}
)  # fmt: skip
_SPLITS = {
    "train": "train", "training": "train", "tr": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip
# further words that say a split in a column of lists; a folder called so may be anything
SPLIT_WORDS = {
    "holdout": "test", "hold-out": "test", "hold_out": "test", "public": "test", "private": "test",
    "publictest": "val", "privatetest": "test", "tune": "val", "tuning": "val",
}  # fmt: skip
_FILLERS = frozenset(
    {"set", "data", "dataset", "images", "image", "imgs", "img", "seg", "folder", "split", "pics", "final"}
)
# Words that tell what kind of file lies in a folder, or which part of the images; not of what they are.
_NO_CLASS = frozenset(
    {"images", "image", "imgs", "img", "pics", "masks", "mask", "labels", "label", "annotations", "gt",
     "annotation", "ground", "truth", "groundtruth", "thumbnails", "thumbs", "jpegimages", "segmentation",
     "depth", "rgb", "originals", "original", "resized", "raw", "crops", "cropped", "trimaps", "part",
     "parts", "batch", "shard", "chunk", "fold", "vol", "set", "data", "dataset", "subset", "split",
     "folder", "size", "res"}
)  # fmt: skip
# Words of folders that lie beside the images and are none of them, though they may be drawn as such.
_ASIDE = frozenset(
    {"masks", "mask", "labels", "label", "annotations", "annotation", "gt", "groundtruth", "segmentation",
     "segmentations", "segmentationclass", "segmentationobject", "depth", "trimaps", "trimap",
     "thumbnails", "thumbs", "thumbnail", "thumb", "heatmaps", "edges", "previews", "preview"}
)  # fmt: skip
_OF_ASIDE = frozenset({"images", "image", "imgs", "img", "maps", "map", "png", "pngs", "ground", "truth"})
_FEW_OF_THEM = frozenset({"samples", "sample", "examples", "example", "demo"})
# Words, with a number or without, that part the images of one class; numbers alone do so too.
_PARTS = frozenset(
    {"part", "parts", "batch", "shard", "chunk", "fold", "vol", "set", "subset", "session", "day", "week",
     "month", "year", "seq", "sequence", "run", "page", "group", "date", "q"}
)  # fmt: skip
_MONTHS = frozenset(
    {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"}
)  # fmt: skip
_NO_LABELS = frozenset(
    {"predict", "prediction", "predictions", "inference", "unlabeled", "unlabelled", "submission"}
)
_SHORT = frozenset({"dev", "eval", "tr", "tst"})  # too short to be sure of beside folders of classes
# What systems and people call a copy of a folder: `cat (1)`, `cat - Copy (2)`, `cat_backup`, `cat.old`.
_COPY = re.compile(
    r"(.+?)(?: ?\(\d{1,2}\)|[\s_.\-]+\(?(?:copy|backup|bak|old|orig)(?:[\s_]?\d{1,2})?\)?(?: ?\(\d{1,2}\))?)",
    re.IGNORECASE,
)
_KEPT = re.compile(
    rb"(?:~|\.(?:part|partial|crdownload|download)|\.[a-z]{3,4}\.(?:tmp|temp|bak|old|orig|swp|aria2))$",
    re.IGNORECASE,
)
_INVISIBLE = re.compile(r"[\s_\-\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]+")
_AROUND = " \t'\"`\u2018\u2019\u201c\u201d.,;:"
# Cyrillic and Greek letters, in lower case, that look as Latin ones do in one case or the other; the dots of
# a Turkish i, of which casefold makes two characters
_LOOKS = str.maketrans(
    "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456\u0455\u0458\u0432\u043a\u043c\u043d\u0442"
    "\u03b1\u03bf\u03c1\u03bd\u03b9\u03ba\u03c4\u0131",
    "aceopxyisjbkmhtaopvikti",
    "\u0307",
)


def hidden(name: bytes) -> bool:
    """Whether a file or folder of this name is no data: `.…` (so `._x.jpg` too), `__MACOSX` and its like."""
    return name.startswith(b".") or name.lower() in _LEFT_BEHIND


def words_of(name: str) -> list[str]:
    """The words of a name, in small letters: what is no Latin letter parts them."""
    return re.findall(r"[a-z]+", name.lower())


def split_of(name: str) -> str:
    """The split that a folder or file of this name means ("" if none): `Valid`, `train_set`, `imgs-test`.

    All words of the name count: exactly one says a split, the others only that it is a set of images.
    """
    words = words_of(name)
    said = [_SPLITS[word] for word in words if word in _SPLITS]
    rest = [word for word in words if word not in _SPLITS]
    if len(words) == 1 and not said:
        glued = re.fullmatch(r"(train|val|valid|test)(?:set|data|images?)", words[0])
        return _SPLITS[glued[1]] if glued else ""
    return said[0] if len(said) == 1 and _FILLERS.issuperset(rest) else ""


def no_class(name: str) -> bool:
    """Whether a folder of this name says no class: `images_part_1`, `masks`, `fold0`, `train`."""
    words = words_of(name)
    return bool(words) and all(word in _NO_CLASS or word in _SPLITS for word in words)


def without_labels(name: str) -> bool:
    """Whether a folder of this name holds images to predict: `unlabeled`, `inference_images`."""
    words = words_of(name)
    return bool(_NO_LABELS.intersection(words)) and all(
        word in _NO_LABELS or word in _FILLERS or word in _SPLITS for word in words
    )


def split_beside_classes(name: str) -> str:
    """The split that a folder beside folders of classes means: `test`, `valid`, `predict`; "" for a class."""
    if without_labels(name):
        return "test"
    return "" if name.lower() in _SHORT else split_of(name)


def aside(name: str, few: bool = False) -> bool:
    """Whether a folder holds what belongs to the images and is none: `masks`, `depth_maps`, `gt`.

    few: `samples` and `examples` count as well.
    """
    words = words_of(name)
    said = _ASIDE | _FEW_OF_THEM if few else _ASIDE
    rest = [word for word in words if word not in said]
    return len(rest) < len(words) and all(word in _OF_ASIDE or word in _SPLITS for word in rest)


def part_of_a_class(name: str) -> bool:
    """Whether a folder parts the images of a class and is none: `2019`, `2020-01`, `batch_3`, `may`."""
    words = words_of(name)
    if not words:
        return any(character.isdigit() for character in name)
    return all(word in _PARTS or word in _MONTHS for word in words)


def one_word(names: Sequence[str]) -> bool:
    """Whether names are the same but for their numbers: `user0`, `user1`; `40X`, `100X`; `2019`, `2020`."""
    return len(names) > 1 and len({re.sub(r"[0-9]+", "0", name.lower()) for name in names}) == 1


def of_splits(names: Sequence[str]) -> list[str]:
    """Those of `names` that differ by a word for a split alone: `cars_train`, `cars_test`."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        words = words_of(name)
        if sum(word in _SPLITS for word in words) == 1:
            groups.setdefault(tuple(word for word in words if word not in _SPLITS), []).append(name)
    return next((group for group in groups.values() if len(group) > 1), [])


def numbered(names: Sequence[str]) -> bool:
    """Whether names are one with other numbers, and say that it is of parts: `ham_part_1`, `ham_part_2`."""
    forms = {tuple(words_of(name)) for name in names}
    return len(names) > 1 and len(forms) == 1 and not _NO_CLASS.isdisjoint(next(iter(forms)))


def alike(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that a person would take for one, or that are copies of one that is there as well
    (`cat (1)`, `cat - Copy`, `cat_backup` beside `cat`).

    They differ in case, blanks, quotes or a full stop around them, Unicode form, or letters of another script
    that look the same. `_` and `-` count as blanks. Groups in the order of their first name.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_form(name), []).append(name)
    for key in list(groups):
        copied = _COPY.fullmatch(groups[key][0])
        original = _form(copied[1]) if copied else ""
        if original and original != key and original in groups:
            groups[original] += groups.pop(key)
    return [group for key, group in groups.items() if key and len(group) > 1]


def _form(name: str) -> str:
    form = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())
    form = form.strip(_AROUND).translate(_LOOKS)
    minus = "-" * bool(re.match(r"-[0-9.]", form))  # -1 is not 1
    return minus + _INVISIBLE.sub("", form)


def left_by_a_program(name: bytes) -> bool:
    """Whether a file is half a download, or what a program kept of another: `x.jpg.part`, `x.jpg~`."""
    return _KEPT.search(name) is not None


def told(name: str) -> str:
    """A name in quotes, with what cannot be seen written out."""
    if name.isascii():
        return repr(name)
    mixed = any(letter.isascii() and letter.isalpha() for letter in name) and any(
        ord(letter) in _LOOKS for letter in name.casefold() if letter != "\u0307"
    )
    plain = not mixed and name.isprintable() and unicodedata.is_normalized("NFC", name)
    return repr(name) if plain else ascii(name)


def normalised(path: bytes) -> bytes:
    """The one form of a path: no `.`, no doubled or trailing slash; `..` stays and is refused elsewhere."""
    if b"//" not in path and b"./" not in path and not path.endswith((b"/", b"/.")):
        return path
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    return (b"/" if path.startswith(b"/") else b"") + b"/".join(parts)


def joined(folder: bytes, name: bytes) -> bytes:
    """`folder/name`; the one of both that there is, where the other is empty."""
    return folder + b"/" + name if folder and name else folder or name


def first_few(names: Iterable[str], total: int, most: int = 3) -> str:
    """`a, b, c` and how many more there are."""
    shown = [name for name, _ in zip(names, range(most))]
    return ", ".join(shown) + (f" and {total - len(shown):,} more" if total > len(shown) else "")
