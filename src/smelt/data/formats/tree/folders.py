"""The folders below a root as splits and classes: which folder is which, and what class an image is of."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from smelt.artifacts.bytestrings import decode
from smelt.data.formats.tree.census import LEADS_OUT, NOWHERE, SHOWN, Walk, is_image
from smelt.data.formats.tree.names import no_class, split_beside_classes, split_of, without_labels

_NUMBERED = re.compile(rb"(.*?)[-_. ]*\(?[0-9]*\)?\.[^.]*")  # `cat.12.jpg` → `cat`


@dataclass
class Tree:
    """The images below a root. splits: top folder → split, where the root has folders of splits.

    images: folder → names of the images in it; folders: all folders. within: the split is the folder below
    the class (`cat/train/x.jpg`). among: the other folders of the root are classes of training (`cat`, `dog`,
    `test`). beside: suffix → how many files that are no images have it. odd: why something was passed over →
    how often; links: the first of the links that were, by why.
    """

    images: dict[bytes, list[bytes]] = field(default_factory=dict)
    folders: list[bytes] = field(default_factory=list)
    beside: Counter[bytes] = field(default_factory=Counter)
    odd: Counter[str] = field(default_factory=Counter)
    splits: dict[bytes, str] = field(default_factory=dict)
    links: dict[str, list[bytes]] = field(default_factory=dict)
    within: bool = False
    among: bool = False

    @classmethod
    def of(cls, root: Path, links: str, all_classes: bool = False) -> Tree:
        """Walk the root. all_classes: folders beside those of classes are classes, whatever they are called.

        Raises StorageError where a folder cannot be listed.
        """
        tree = cls()
        for folder in Walk(root, links, tree._pass_over):
            tree.folders.append(folder.path)
            images = []
            for name, path in zip(folder.files, folder.paths()):
                if is_image(root, path):
                    images.append(name)
                else:
                    tree.beside[os.path.splitext(name)[1].lower()] += 1
            if images:
                tree.images[folder.path] = images
        tree.splits = tree._top_splits()
        tree.within = not tree.splits and tree._splits_within()
        if not tree.splits and not tree.within and not all_classes:
            tree.splits = tree._splits_beside_classes()
            tree.among = bool(tree.splits)
        return tree

    def _pass_over(self, why: str, path: bytes) -> None:
        self.odd[why] += 1
        if why in (LEADS_OUT, NOWHERE) and len(self.links.setdefault(why, [])) < SHOWN:
            self.links[why].append(path)

    @cached_property
    def tops(self) -> dict[bytes, int]:
        """Folders of the root → how many images lie in them and below."""
        counts: Counter[bytes] = Counter()
        for folder, names in self.images.items():
            if folder:
                counts[folder.partition(b"/")[0]] += len(names)
        return dict(counts)

    def _top_splits(self) -> dict[bytes, str]:
        """Folders of the root that are splits, if training is among them; else they are classes.

        A folder `train` full of images beside other full folders is a class of trains.
        """
        tops = [folder for folder in self.folders if folder and b"/" not in folder]
        found = {top: split for top in tops if (split := split_of(decode(top)))}
        if "train" not in found.values():
            return {}
        flat = all(folder in found for folder in self.images if folder.partition(b"/")[0] in found)
        others = [top for top in self.tops if top not in found]
        if flat and len(others) > 1:
            return {}
        if "test" not in found.values():
            found |= {top: "test" for top in others if without_labels(decode(top)) and self._loose(top)}
        return found

    def _splits_beside_classes(self) -> dict[bytes, str]:
        """Folders of the root that are a split, though the others are the classes of training.

        Their images lie in them as they are, or in folders called as the classes are.
        """
        called = {top: split for top in self.tops if (split := split_beside_classes(decode(top)))}
        classes = self.tops.keys() - called.keys()
        if len(classes) < 2 or "train" in called.values() or all(no_class(decode(top)) for top in classes):
            return {}
        inner = set().union(*map(self.below, classes), classes)
        found = {
            top: split for top, split in called.items()
            if self.below(top) - {b""} <= inner or (split == "test" and self._loose(top))
        }  # fmt: skip
        if any(split == "test" and not without_labels(decode(top)) for top, split in found.items()):
            for top in found:  # beside a test with or without labels they are no part of it
                if without_labels(decode(top)):
                    found[top] = ""
        return found

    @cached_property
    def _below(self) -> dict[bytes, set[bytes]]:
        found: dict[bytes, set[bytes]] = {}
        for folder in self.images:
            top, _, rest = folder.partition(b"/")
            found.setdefault(top, set()).add(rest.partition(b"/")[0])
        return found

    def below(self, top: bytes) -> set[bytes]:
        """The folders of a folder of the root with images in or below them; b"" where it has some itself."""
        return self._below[top]

    def _loose(self, top: bytes) -> bool:
        """Whether the images of a folder of the root lie in it as they are, or in one folder of no class."""
        below = self.below(top)
        return below == {b""} or (len(below) == 1 and no_class(decode(next(iter(below)))))

    def _splits_within(self) -> bool:
        """Whether the folders below every class are splits, training among them."""
        below = {folder.split(b"/")[1] for folder in self.images if folder.count(b"/")}
        plain = [folder for folder in self.images if folder.count(b"/") == 0]
        found = {split_of(decode(name)) for name in below}
        return bool(below) and not plain and "" not in found and "train" in found

    def parts(self, folder: bytes) -> tuple[str, list[bytes]]:
        """(split, "" where the folder lies in none; folders below it that may be the class)."""
        parts = folder.split(b"/") if folder else []
        if self.splits:
            if parts and parts[0] in self.splits:
                return self.splits[parts[0]], parts[1:]
            return ("train", parts) if self.among else ("", [])
        if self.within and len(parts) > 1:
            return split_of(decode(parts[1])), [parts[0], *parts[2:]]
        return "train", parts


def class_of(rule: str | None, parts: list[bytes], name: bytes) -> bytes:
    """The class of an image called `name` in the folders `parts`; b"" where there is none."""
    if rule == "name":
        found = _NUMBERED.fullmatch(name)
        return found[1] if found else b""
    if rule in ("leaf", "path"):
        return (parts[-1] if rule == "leaf" else b"/".join(parts)) if parts else b""
    depth = int(rule.partition(":")[2]) if rule else 1
    return parts[depth - 1] if len(parts) >= depth else b""


def classes_of(rule: str | None, parts: list[bytes], names: list[bytes]) -> Counter[bytes]:
    """The classes of images in the folders `parts` → how many are of each."""
    if rule == "name":
        return Counter(class_of(rule, parts, name) for name in names)
    return Counter({class_of(rule, parts, b""): len(names)})  # whatever they are called
