"""Who is who: images by their ids, classes by their names, results by their own names.

What names something either aligns or is refused; what only the order tells is said. Two ids that differ by
folder or suffix (`val/0001.jpg` and `0001`) are one image where that leaves nothing ambiguous.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.errors import ArtifactError, ResultError
from smelt.fusion.scores.usual import few, stripped


@dataclass(frozen=True)
class Told:
    """What is said of what was read, each thing once. notes: what was done; alarms: what may be wrong."""

    notes: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    def note(self, *words: str) -> None:
        """Say what was done; "" is nothing."""
        self.notes.extend(dict.fromkeys(one for one in words if one and one not in self.notes))

    def alarm(self, *words: str) -> None:
        """Warn of what may be wrong."""
        self.alarms.extend(dict.fromkeys(one for one in words if one and one not in self.alarms))


# Images


def _path(name: str) -> str:
    return re.sub(r"^(\./)+", "", unicodedata.normalize("NFC", name).replace("\\", "/").strip())


def _last(name: str) -> str:
    return _path(name).rstrip("/").rpartition("/")[2]


def _without_suffix(name: str) -> str:
    return re.sub(r"\.[A-Za-z][A-Za-z0-9]{1,4}$", "", name)


def _without_zeros(name: str) -> str:
    return str(int(name)) if re.fullmatch(r"\d{1,18}", name) else name


def _without_point(name: str) -> str:
    """`55.0`, as tables with gaps write a number, as `55`."""
    return re.sub(r"^(\d+)\.0+$", r"\1", name)


def _all_at_once(name: str) -> str:
    return _without_zeros(_without_point(_without_zeros(_without_suffix(_last(name))).casefold()))


LEVELS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("", lambda name: name),
    ("in the way paths are written", _path),
    ("by suffix", lambda name: _without_suffix(_path(name))),
    ("by folder", _last),
    ("by folder and suffix", lambda name: _without_suffix(_last(name))),
    ("by folder, suffix and leading zeros", lambda name: _without_zeros(_without_suffix(_last(name)))),
    ("by capitals", lambda name: _path(name).casefold()),
    ("by folder, suffix and capitals", lambda name: _without_suffix(_last(name)).casefold()),
    ("by .0 behind numbers", lambda name: _without_point(_path(name))),
    ("by folder, suffix, capitals, leading zeros and .0", _all_at_once),
)


def in_its_order(
    wanted: Sequence[str], have: Sequence[str], whose: str, path: Path, told: Told, extras: bool = False
) -> NDArray[np.int64] | None:
    """As `match`, and said; None where nothing has to be moved. path: of the file that has the ids `have`."""
    order, said = match(wanted, have, whose, str(path), extras)
    told.note(said)
    if np.array_equal(order, np.arange(len(have))):
        return None
    if len(order) < len(have):
        told.note(f"{path}: {len(order):,} of its {len(have):,} images are used, those of {whose}")
    if not np.array_equal(order, np.arange(len(order))):
        told.note(f"{path}: lines are put into the order of {whose} by id")
    return order


def match(
    wanted: Sequence[str], have: Sequence[str], of_wanted: str, of_have: str, extras: bool = False
) -> tuple[NDArray[np.int64], str]:
    """Where in `have` each wanted image is, (N,), and what must be said of it ("" where ids are equal).

    extras: `have` may have images that nobody wants. ResultError names duplicates, missing and extra images
    with their counts.
    """
    refuse_twice(wanted, of_wanted)
    refuse_twice(have, of_have)
    ambiguous = ""
    for how, level in LEVELS:
        ours, theirs = ([level(name) for name in names] for names in (wanted, have))
        places = dict(zip(theirs, range(len(theirs))))
        if len(places) < len(theirs) or len(set(ours)) < len(ours):
            ambiguous = ambiguous or f"; taken without what differs {how}, several images would be one"
            continue
        if all(name in places for name in ours) and (extras or len(ours) == len(theirs)):
            order = np.array([places[name] for name in ours], np.int64)
            if not how:
                return order, ""
            odd = next(i for i, place in enumerate(order.tolist()) if wanted[i] != have[place])
            said = f"ids of {of_have} and {of_wanted} differ {how} ({have[order[odd]]} is {wanted[odd]})"
            return order, f"{said}; each is found once"
    raise ResultError(_differ(wanted, have, of_wanted, of_have, extras) + ambiguous)


def _differ(wanted: Sequence[str], have: Sequence[str], of_wanted: str, of_have: str, extras: bool) -> str:
    """How two sets of images differ, in words."""
    ours, theirs = set(wanted), set(have)
    missing = [name for name in wanted if name not in theirs]
    extra = [name for name in have if name not in ours]
    if len(missing) == len(wanted):
        return f"{of_have} and {of_wanted} have no image in common ({few(have)}; {few(wanted)})"
    lacks = f"image {missing[0]}" if len(missing) == 1 else f"{len(missing):,} images"
    words = [f"{of_have} lacks {lacks} of {of_wanted}" + (f" ({few(missing)})" if len(missing) > 1 else "")]
    if not missing:
        words = [f"{of_have} does not agree with {of_wanted}"]
    if extra and not extras:
        words.append(f"it has {len(extra):,} that {of_wanted} lacks ({few(extra)})")
    return "; ".join(words)


def refuse_twice(names: Sequence[str], of: str) -> None:
    """ResultError where an image is there twice."""
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    count = f" ({len(twice):,} of its {len(names):,} lines repeat an image)" if len(twice) > 1 else ""
    raise ResultError(f"{of} has image {twice[0]} twice{count}")


def ids_hash(ids: Sequence[str]) -> str:
    """Hash of ids in their order."""
    return hashlib.sha256("\n".join(ids).encode(errors="surrogatepass")).hexdigest()


# Classes


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """Class names in the order of columns: by number where they count classes, else as they are."""
    numbers = numbered(names)
    if numbers is None or sorted(numbers) not in [list(range(n, n + len(names))) for n in (0, 1)]:
        return tuple(names)
    return tuple(names[numbers.index(number)] for number in sorted(numbers))


def numbered(names: Sequence[str]) -> list[int] | None:
    """The numbers of names that are different numbers behind one word (`7`, `class_7`); else None."""
    parts = [re.fullmatch(r"(\D*)(\d{1,18})", name) for name in names]
    found = [(part.group(1), int(part.group(2))) for part in parts if part is not None]
    if len(found) < len(names) or len({word for word, _ in found}) != 1 or len(set(found)) < len(found):
        return None
    return [number for _, number in found]


def columns(
    wanted: Sequence[str], have: Sequence[str], of_wanted: str, of_have: str
) -> NDArray[np.int64] | None:
    """Which column of `have` each wanted class is, (C,); None where the order is equal.

    Names that differ only in the way they are written (`Great Dane`, `great_dane`), or by words that all
    names of one side have around them (`prob_cat`, `cat_score`), are one class where each is found once.
    ResultError names the classes that only one side has, or has twice.
    """
    for names, of in ((wanted, of_wanted), (have, of_have)):
        if len(set(names)) < len(names):
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise ResultError(f"{of} has class {twice} twice")
    if list(wanted) == list(have):
        return None
    numbers = numbered(wanted), numbered(have)
    if set(wanted) != set(have) and numbers[0] and numbers[1] and sorted(numbers[0]) == sorted(numbers[1]):
        # `class_7` and `7`: the numbers tell which is which
        return np.array([numbers[1].index(number) for number in numbers[0]], np.int64)
    places = {name: place for place, name in enumerate(have)}
    missing = [name for name in wanted if name not in places]
    extra = [name for name in have if name not in set(wanted)]
    if missing and len(wanted) == len(have):
        ours, theirs = [_written(name) for name in wanted], [_written(name) for name in have]
        if (order := _around(ours, theirs)) is not None:
            return order
    if missing or extra:
        parts = [f"it lacks {len(missing):,} ({few(missing)})"] * bool(missing)
        parts += [f"it has {len(extra):,} others ({few(extra)})"] * bool(extra)
        raise ResultError(f"{of_have} and {of_wanted} have different lists of classes: {', '.join(parts)}")
    return np.array([places[name] for name in wanted], np.int64)


def _written(name: str) -> str:
    """A name without what differs between ways to write it: capitals, blanks, signs between words."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def spelt(names: Sequence[str]) -> dict[str, str]:
    """Each name by the way in which `_written` has it, where no two are equal then; else nothing."""
    found = {_written(name): name for name in names}
    return found if len(found) == len(names) else {}


def called(word: str, names: Mapping[str, str]) -> str:
    """The class that `word` means by `spelt` names; itself where it is none of them."""
    return names.get(_written(word), word)


def _around(ours: Sequence[str], theirs: Sequence[str]) -> NDArray[np.int64] | None:
    """Where in `theirs` each of `ours` is, if one side has the other's names between words that all share (or
    none); None where that leaves any without its own, or could be read in two ways."""
    found: set[tuple[int, ...]] = set()
    for inner, outer, turned in ((ours, theirs, False), (theirs, ours, True)):
        places = {name: place for place, name in enumerate(outer)}
        if len(places) < len(outer) or len(set(inner)) < len(inner):
            return None
        name = inner[0]
        for around in outer:
            for at in (match.start() for match in re.finditer(f"(?={re.escape(name)})", around)):
                before, behind = around[:at], around[at + len(name) :]
                if all(f"{before}{one}{behind}" in places for one in inner):
                    order = [places[f"{before}{one}{behind}"] for one in inner]
                    found.add(tuple(np.argsort(order).tolist() if turned else order))
    return np.array(found.pop(), np.int64) if len(found) == 1 else None


# Results


def unique(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Names, with as many folders before them as it takes to tell equal ones apart."""
    found = list(names)
    for depth in range(1, max((len(path.parts) for path in paths), default=1)):
        twice = {name for name in found if found.count(name) > 1}
        if not twice:
            break
        for place, name in enumerate(names):
            if found[place] in twice:
                folders = [part for part in paths[place].parent.parts if part not in ("/", ".", "..")]
                found[place] = "/".join([*folders[-depth:], name])
    return [f"{name} ({found[:place].count(name) + 1})" if name in found[:place] else name
            for place, name in enumerate(found)]  # fmt: skip


def placed(wanted: Sequence[str], given: Sequence[str], fusion: str) -> tuple[list[int], list[str]]:
    """Which given result each of a fusion's is, and what must be said of it.

    By name; else, where that is one to one, by name without the words for a split. ResultError otherwise.
    """
    if len(set(wanted)) < len(wanted):
        raise ArtifactError(f"{fusion} has two results of one name")
    for level in (str, stripped):
        ours, theirs = [level(name) for name in wanted], [level(name) for name in given]
        if sorted(ours) != sorted(theirs) or len(set(ours)) < len(ours):
            continue
        order = [theirs.index(name) for name in ours]
        notes = []
        if level is stripped:
            pairs = [
                f"{given[place]} is {name}" for name, place in zip(wanted, order) if given[place] != name
            ]
            notes.append(f"results are known by their names without the split: {', '.join(pairs)}")
        if order != sorted(order):
            notes.append(f"the results are given in another order than {fusion} has: weights go by name")
        return order, notes
    missing = [name for name in wanted if stripped(name) not in set(map(stripped, given))]
    extra = [name for name in given if stripped(name) not in set(map(stripped, wanted))]
    if not missing and not extra:  # several are one without the split
        missing, extra = [n for n in wanted if n not in given], [n for n in given if n not in wanted]
    words = [f"{fusion} weighs {len(wanted)} results, {len(given)} are given"]
    words += [f"not given: {few(missing)}"] * bool(missing) + [f"not known to it: {few(extra)}"] * bool(extra)
    hint = (
        f"; if it is one of them under another name say --as {(missing or ['NAME'])[0]}=FILE" if extra else ""
    )
    raise ResultError("; ".join(words) + hint)


def described(
    names: Sequence[str], kinds: Sequence[str], num_classes: int, classes: Sequence[str] | None,
    ids: Sequence[str] | None,
) -> dict[str, Any]:  # fmt: skip
    """What `fusion.json` keeps of the results, classes and images that it was made from."""
    return {
        "names": list(names), "kinds": list(kinds), "num_classes": num_classes,
        "classes": None if classes is None else list(classes),
        "ids": None if ids is None else {"count": len(ids), "sha256": ids_hash(ids)},
    }  # fmt: skip


def known_names(record: Mapping[str, Any], fusion: str) -> list[str]:
    """The names of a fusion's results; ArtifactError where it has none."""
    try:
        names = record["names"] if "names" in record else [one["name"] for one in record["results"]]
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{fusion} is not a fusion.json") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArtifactError(f"{fusion} is not a fusion.json: its results have no names")
    return names
