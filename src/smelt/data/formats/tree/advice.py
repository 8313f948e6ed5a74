"""What was probably meant, where a tree of folders makes no sense as classes: said with the option to give.

`on_tree` looks at the tree before it is read and refuses what would be nonsense to learn; `on_classes` warns
of what a person should look at. A `class_from` that is given is believed.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from smelt.artifacts.bytestrings import decode
from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.tree.census import LEADS_OUT, NOWHERE, what_is
from smelt.data.formats.tree.elsewhere import (
    WRITE,
    as_given,
    class_counts,
    elsewhere,
    has_classes,
    names_of,
    no_classes,
    pictures_in,
    readings,
)
from smelt.data.formats.tree.folders import Tree, class_of
from smelt.data.formats.tree.names import (
    aside,
    first_few,
    no_class,
    one_word,
    part_of_a_class,
    split_of,
)

_SHARD = re.compile(rb"[0-9]{4,}(\.tar)?")
_FEW = 10
FIRST = 5  # files of a class that are opened
TAKEN = "If the folders {} are meant: -o data.class_from=depth:1"


def on_tree(settings: FormatSettings, root: Path, tree: Tree, report: Report) -> bool:
    """Whether the tree can be read as classes; what is wrong, and what was meant goes to `report`."""
    if why := _nonsense(settings, root, tree):
        passed_over = _passed_over(tree)
        report.problem(f"{passed_over}Without them: {why}" if passed_over else why)
        return False
    _tell_of_half(settings, tree, report)
    return True


def _nonsense(settings: FormatSettings, root: Path, tree: Tree) -> str:
    """Why a tree cannot be read as classes, with what was meant; "" where it can."""
    total = sum(map(len, tree.images.values()))
    if not total:
        rest = [(why, count) for why, count in tree.odd.most_common(3) if why not in tree.links]
        odd = "; ".join(f"{count} × {why}" for why, count in rest)
        return f"{as_given(root)} has no images that smelt reads in it or in the folders below" + (
            f". Passed over: {odd}" if odd else ""
        )
    if links := _links_for_training(tree):
        return (
            f"there is nothing to learn from, as {as_given(root)} has no folder of training but "
            f"{names_of(links)}"
        )
    if settings.class_from is None and (why := _shards(tree)):
        return why
    found = class_counts(settings, tree)
    if len(found) < 2:
        return _one_class(settings, root, tree, found, total)
    if settings.class_from is not None:
        return ""
    if why := _aside(root, tree):
        return why
    if why := no_classes(found):
        return f"{why} {elsewhere(root, tree)}{TAKEN.format(names_of(found))}"
    return _same_within(root, tree, found) or _wrapped(root, tree)


def _passed_over(tree: Tree) -> str:
    """The links that were not followed: what they lead to may be what is missing."""
    told = ""
    for why, what, mend in (
        (LEADS_OUT, "lead out of the data set's folder and are not followed",
         "If they are yours: -o data.links=anywhere."),
        (NOWHERE, "lead to nothing", "Is the disk there that they lead to?"),
    ):  # fmt: skip
        if why in tree.links:
            told += f"{tree.odd[why]} link(s) {what}: {names_of(tree.links[why], tree.odd[why])}. {mend} "
    return told


def _links_for_training(tree: Tree) -> list[bytes]:
    """Links of the root, not followed, that are called as training is, where no folder is."""
    links = [link for found in tree.links.values() for link in found if b"/" not in link]
    there = {split_of(decode(top)) for top in tree.tops}
    return [] if "train" in there else [link for link in links if split_of(decode(link)) == "train"]


def _tell_of_half(settings: FormatSettings, tree: Tree, report: Report) -> None:
    """A problem for empty class folders of training that have images in validation or test."""
    there: dict[bytes, set[str]] = {}
    for folder in tree.images:
        split, parts = tree.parts(folder)
        there.setdefault(class_of(settings.class_from, parts, b""), set()).add(split)
    for folder in _empty(tree):
        others = sorted(there.get(folder.rpartition(b"/")[2], set()) - {"train", ""})
        if tree.parts(folder)[0] == "train" and others:
            report.problem(
                f"{decode(folder)}/ holds no image, and {' and '.join(others)} has such images: was it "
                f"copied in part? Fill it, or take the class out of {' and '.join(others)}"
            )


def on_no_validation(tree: Tree, count: int, report: Report) -> None:
    """Warn that the images given for validation cannot be used, as they have no label."""
    tops = [decode(top) for top, split in tree.splits.items() if split == "val"]
    where = f"{first_few(tops, len(tops))}/" if tops else "val/"
    report.warn(
        f"{count:,} images of {where} lie in no class folder and are left out: validation needs labels. "
        f"Another validation is cut from training instead (data.val_fraction). Move them into {where}CLASS/, "
        f"or {WRITE}: -o data.format=csv reads it. If they are there to be predicted, call the folder test"
    )


def on_classes(settings: FormatSettings, root: Path, tree: Tree, report: Report) -> None:
    """Warn of empty class folders, of folders in class folders, of one image a class."""
    found = class_counts(settings, tree)
    if empty := _empty(tree):
        linked = {link.rpartition(b"/")[0] for links in tree.links.values() for link in links} & {*empty}
        report.warn(
            f"{len(empty)} class folder(s) hold no image, and are no classes: "
            f"{first_few(map(decode, empty), len(empty), _FEW)}"
            + (f". {_passed_over(tree)}".rstrip() if linked else "")
        )
    if tree.splits:
        said = ", ".join(
            f"{decode(top)}/ is {split or 'left out'}" for top, split in sorted(tree.splits.items())
        )
        if tree.among:
            report.note(
                f"beside folders of classes, {said} by its name; -o data.class_from=depth:1 takes every "
                f"folder as a class"
            )
        elif any(decode(top) != split for top, split in tree.splits.items()):
            report.note(f"folders of splits: {said}")
    elif tree.within:
        report.note("the folders below the classes are splits: class/train/…, class/val/…")
    if settings.class_from is not None:
        return
    _warn_of_folders_within(root, tree, found, report)
    if odd := [name for name in found if split_of(decode(name))]:
        report.warn(
            f"{names_of(odd)} is taken as a class, though it is called as a split is: as there is no folder "
            f"for training, folders are classes"
        )
    if odd := [name for name in found if aside(decode(name), few=True)]:
        report.warn(
            f"{names_of(odd)} is taken as a class, though it is called after what lies beside images: if it "
            f"is none, move it out of {as_given(root)}"
        )
    single = sum(count == 1 for count in found.values())
    if len(found) > _FEW and single > 0.9 * len(found):
        report.warn(
            f"{single} of {len(found)} classes have one image: is the folder of each image its class, or one "
            f"above it (-o data.class_from=depth:1, depth:2, …)?"
        )


def on_contents(root: Path, rows: list[tuple[bytes, int, bytes]], report: Report) -> None:
    """Warn of classes none of whose files is an image by its content; a problem where none of all is.

    Where some of a class are none, that is said as well. rows: (path, split code, class). Of each class the
    first FIRST files are opened, and all where none of those is an image: pages of errors, empty files and
    what Git LFS leaves are called `.jpg` as well.
    """
    by_class: dict[bytes, list[bytes]] = {}
    for path, _, name in rows:
        by_class.setdefault(name, []).append(path)
    hollow: dict[bytes, Counter[str]] = {}
    some: Counter[str] = Counter()
    for name, paths in by_class.items():
        kinds = Counter(what_is(root, path) for path in paths[:FIRST])
        if "" not in kinds and "" not in (kinds := Counter(what_is(root, path) for path in paths)):
            hollow[name] = kinds
        else:
            some += kinds
    opened = some.total()
    del some[""]
    report.no_images = some.total() + sum(kinds.total() for kinds in hollow.values())
    if some:
        report.warn(
            f"{some.total()} of {opened} files that were opened, the first of each class, are no image by "
            f"content: {_kinds(some)}. The others are counted by their names; check opens each, and leaves "
            f"such out"
        )
    if not hollow:
        return
    total = sum(hollow.values(), Counter[str]())
    shown = _kinds(total)
    if len(hollow) == len(by_class):
        report.problem(
            f"none of the {total.total()} files below {as_given(root)} is an image, by content: {shown}"
        )
        return
    names = first_few([f"{decode(name) or 'no class'}" for name in hollow], len(hollow), _FEW)
    report.warn(f"{len(hollow)} class(es) hold no image, by content ({shown}): {names}")


def _kinds(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common(3))


def _shards(tree: Tree) -> str:
    """That the classes are a downloader's shards, `00000/`, `00001/`, …; "" where they are not."""
    inside = [(parts[0], names) for folder, names in tree.images.items() if (parts := tree.parts(folder)[1])]
    numbers = sorted({number for number, _ in inside})
    if not numbers or not all(map(_SHARD.fullmatch, numbers)) or len(set(map(len, numbers))) > 1:
        return ""
    what = f"the folders {names_of(numbers)} are numbered as a downloader's shards are"
    if len(numbers[0]) == 5 and (tree.beside[b".json"] or tree.beside[b".txt"]):
        return (
            f"{what}, with .json or .txt beside the images: their numbers are no classes. Probably meant: "
            f"-o data.format=img2dataset"
        )
    in_a_row = all(
        int(one) + 1 == int(next_) for one, next_ in pairwise(n.removesuffix(b".tar") for n in numbers)
    )
    if len(numbers) < 2 or not in_a_row or not all(_counted(*item) for item in inside):
        return ""
    return (
        f"{what}, and the images after them: their numbers are no classes. The .json or .txt that say what "
        f"each image is are not here: fetch them, or write a list with the columns path and label "
        f"(-o data.lists.all=FILE). {TAKEN.format('so called')}"
    )


def _counted(number: bytes, names: list[bytes]) -> bool:
    """Whether images are called after their shard, with a number of four digits: `00012/000120034.jpg`."""
    return all(re.fullmatch(re.escape(number) + rb"[0-9]{4}\.[^.]+", name) for name in names[:50])


def _one_class(settings: FormatSettings, root: Path, tree: Tree, found: dict[bytes, int], total: int) -> str:
    """That there are no two classes, what there is, and what was probably meant."""
    if found:
        name, count = next(iter(found.items()))
        here = (
            f"the training images are of one class only, {decode(name)!r} ({count} of {total} images below "
            f"{as_given(root)})"
        )
    elif tree.images.keys() <= {b"", *tree.splits}:
        names = next(iter(tree.images.values()))
        where = "in the folder itself" if b"" in tree.images else f"in {names_of(tree.images)} itself"
        here = f"{total} images lie {where} and none in a folder of its class (such as {decode(names[0])!r})"
    else:
        here = f"no training image lies in a class folder (of {total} images below {root}: {_places(tree)})"
    told = f"learning needs two classes, and {here}."
    guess = "" if tree.links else elsewhere(root, tree).rstrip()
    empty = [
        folder
        for folder in _empty(tree)
        if not no_class(decode(folder.rpartition(b"/")[2])) and not _holds_files(root, folder)
    ]
    if empty and not guess.startswith("Probably"):
        return (
            f"{len(empty)} class folder(s) hold no image: {first_few(map(decode, empty), len(empty), _FEW)}. "
            f"Was a download or a copy cut short? As it is, {told}"
        )
    return f"{told} {guess}".rstrip()


def _aside(root: Path, tree: Tree) -> str:
    """That a folder called after what is no image holds folders as its neighbours do; "" for none.

    `images/cat`, `masks/cat`; `cat/`, `dog/`, `masks/cat`.
    """
    if tree.splits or tree.within:
        return ""
    asides = [top for top in tree.tops if aside(decode(top))]
    others = [top for top in tree.tops if top not in asides]
    inner = set().union(*map(tree.below, others), others)
    same = [top for top in asides if tree.below(top) <= inner and tree.below(top) != {b""}]
    if not same or not others:
        return ""
    told = (
        f"{names_of(same)}/ is called after what is no image, and holds the same folders as the images do. "
    )
    if len(others) == 1 and (better := has_classes(root, others[0])):
        return f"{told}Probably meant: {better}. {TAKEN.format(names_of(tree.tops))}"
    return f"{told}Move it out of {as_given(root)}. {TAKEN.format(names_of(tree.tops))}"


def _same_within(root: Path, tree: Tree, found: dict[bytes, int]) -> str:
    """That every class folder holds the same folders, two or more, and what may be meant; "" where not so.

    `fold0/cat`, `fold0/dog`, `fold1/cat`, …: one of both is the class, and nobody can tell which.
    """
    within: dict[bytes, set[bytes]] = {}
    for folder in tree.images:
        parts = tree.parts(folder)[1]
        if len(parts) > 1:
            within.setdefault(parts[0], set()).add(parts[1])
    inner = next(iter(within.values()), set())
    if len(within) < len(found) or len(inner) < 2 or any(names != inner for names in within.values()):
        return ""
    told = (
        f"the folders {names_of(found)} all hold the same folders, {names_of(sorted(inner))}: which are the "
        f"classes? "
    )
    outer, names = [decode(name) for name in found], [decode(name) for name in inner]
    outer_parts = one_word(outer) or all(
        part_of_a_class(name) or no_class(name) or aside(name) for name in outer
    )
    inner_parts = one_word(names) or all(map(part_of_a_class, names))
    if outer_parts and not inner_parts:
        return f"{told}{elsewhere(root, tree)}{TAKEN.format(names_of(found))}"
    if inner_parts and not outer_parts:
        return f"{told}Probably meant: {readings(tree, 'depth:1')}. Else: {readings(tree, 'leaf', 'path')}"
    return f"{told}Choose: {readings(tree, 'depth:1', 'leaf', 'path')}"


def _wrapped(root: Path, tree: Tree) -> str:
    """That one folder of the root holds the folders of classes, and others lie beside it; "" where not so."""
    wrapper = pictures_in(tree)
    others = [top for top in tree.tops if top != wrapper]
    if not wrapper or not (no_class(decode(wrapper)) or all(aside(decode(top), few=True) for top in others)):
        return ""
    if not (better := has_classes(root, wrapper)):
        return ""
    return (
        f"{decode(wrapper)}/ holds folders as classes are, and {names_of(others)} beside it none. Probably "
        f"meant: {better}. {TAKEN.format(names_of(tree.tops))}"
    )


def _warn_of_folders_within(root: Path, tree: Tree, found: dict[bytes, int], report: Report) -> None:
    """Warn where class folders hold folders with images: which one is the class?"""
    within = {folder: len(names) for folder, names in tree.images.items() if len(tree.parts(folder)[1]) > 1}
    last = {tree.parts(folder)[1][-1] for folder in within}
    if not within or len(last) == 1:  # class/images/x.jpg: nothing to choose from
        return
    count, total = sum(within.values()), sum(map(len, tree.images.values()))
    first = (
        f"class folders hold folders: {count} of {total} images lie in {names_of(sorted(within))}. The first "
        f"folder is taken as the class, which makes {len(found)} ({names_of(found)})"
    )
    if all(part_of_a_class(decode(name)) for name in last):
        report.note(f"{first}; if each of the others is one: -o data.class_from=path")
        return
    if all(aside(decode(name)) for name in last):
        report.warn(f"{first}. If those are no images to learn from, move them out of {as_given(root)}")
        return
    leaves = class_counts(FormatSettings(), tree, "leaf")
    below = has_classes(root, wrapper) if (wrapper := pictures_in(tree)) else ""
    report.warn(
        f"{first}; the last ones are {len(leaves)} ({names_of(leaves)}): -o data.class_from=leaf. "
        + (f"Those of {decode(wrapper)}/ alone: {below}. " if below else "")
        + "If the first is meant: -o data.class_from=depth:1"
    )


def _empty(tree: Tree) -> list[bytes]:
    """Class folders without an image in them or below."""
    full = set()
    for folder in tree.images:
        while folder and folder not in full:
            full.add(folder)
            folder = folder.rpartition(b"/")[0]

    def of_a_class(folder: bytes) -> bool:
        within = folder.partition(b"/")[0] in tree.splits
        return (
            folder.count(b"/") == within if within or tree.among else not tree.splits and b"/" not in folder
        )

    return sorted(folder for folder in tree.folders if folder and folder not in full and of_a_class(folder))


def _holds_files(root: Path, folder: bytes) -> bool:
    """Whether anything but folders lies in a folder without images: lists, annotations."""
    return any(files for _, _, files in os.walk(os.path.join(os.fsencode(root), folder)))


def _places(tree: Tree) -> str:
    shown = [
        f"{len(names)} in {decode(folder) or 'the folder itself'}" for folder, names in tree.images.items()
    ]
    return first_few(shown, len(shown), 4)
