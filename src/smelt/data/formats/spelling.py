"""How the paths of a list lead to files: they were written on another machine, system, folder.

`fit` tries ways to read the first paths, the plainest first, and takes the one by which most of the files are
there: backslashes, `file://`, a root elsewhere, the list's own folder, a folder before bare names, a suffix
behind ids, another case or Unicode form. What was taken is said; what cannot be told apart is not taken.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from urllib.parse import unquote_to_bytes

from smelt.artifacts.bytestrings import decode, encode
from smelt.data.formats.columns import looks_like_image
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.layout import Glimpse
from smelt.data.formats.names import first_few, normalised, split_of, told
from smelt.errors import short

SAMPLE = 256  # paths that are looked at
_TRIED = 32  # of them, with every folder and suffix that may be meant
_MOST_FOLDERS = 60
_ABSOLUTE = re.compile(rb"/|[A-Za-z]:/")
_URL = re.compile(rb"(?i)(https?|ftp|s3|gs|hdfs|az)://")
_ESCAPED = re.compile(rb"%[0-9A-Fa-f]{2}")


class Loose:
    """Names of files that differ from the wanted ones in case or Unicode form; each folder listed once."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._known: dict[bytes, tuple[set[bytes], dict[str, bytes]]] = {}

    def find(self, path: bytes) -> bytes:
        """The path of a file that is there, if there is exactly one; else `path` itself."""
        found: list[bytes] = []
        for part in path.split(b"/"):
            names, alike = self._listing(b"/".join(found))
            name = part if part in names else alike.get(_form(part), b"")
            if not name:
                return path
            found.append(name)
        return b"/".join(found)

    def _listing(self, folder: bytes) -> tuple[set[bytes], dict[str, bytes]]:
        if folder not in self._known:
            try:
                names = os.listdir(os.path.join(self.root, folder))
            except (OSError, ValueError):
                names = []
            count = Counter(map(_form, names))
            self._known[folder] = set(names), {_form(n): n for n in names if count[_form(n)] == 1}
        return self._known[folder]


def _form(name: bytes) -> str:
    return unicodedata.normalize("NFC", decode(name)).casefold()


@dataclass(frozen=True)
class Spelling:
    """A way to read the paths of a list as paths below the root.

    base: folder that they start from. roots: what stands before absolute paths below the root. folders: how
    many of their first folders are not there. ways: what is done to them, by name. note: all that in words,
    for the user. hint: what could be meant, where it cannot be told. refused: why such paths are none.
    """

    base: bytes = b""
    prefix: bytes = b""
    suffix: bytes = b""
    roots: tuple[bytes, ...] = ()
    folders: int = 0
    ways: frozenset[str] = frozenset()
    loose: Loose | None = None
    note: str = ""
    hint: str = ""
    refused: str = ""

    @property
    def plain(self) -> bool:
        """Whether paths are taken as they stand, but for their one form."""
        return not (self.prefix or self.suffix or self.folders or self.ways or self.loose or self.roots)

    def __call__(self, path: bytes) -> bytes:
        """The path below the root, in its one form; as far as it can be such a path."""
        if not path:
            return path
        if self.ways:
            path = self._rewritten(path)
        for root in self.roots:
            if path.startswith(root):
                path = path[len(root) :]
                break
        if self.folders:
            parts = [part for part in path.split(b"/") if part not in (b"", b".")]
            path = b"/".join(parts[self.folders :]) or path
        path = self.prefix + path + self.suffix
        if self.base and not _ABSOLUTE.match(path):
            path = _joined(self.base, path)
        path = normalised(path)
        return self.loose.find(path) if self.loose else path

    def _rewritten(self, path: bytes) -> bytes:
        ways = self.ways
        if "latin-1" in ways:
            try:
                path.decode()
            except UnicodeDecodeError:
                path = path.decode("latin-1").encode()
        if "blanks" in ways:
            path = path.strip()
        if "file://" in ways and path[:5].lower() == b"file:":
            path = re.sub(rb"(?i)^file:(//(localhost)?(?=/)|//)?", b"", path, count=1)
            path = unquote_to_bytes(path)
            if re.match(rb"/[A-Za-z]:[/\\]", path):
                path = path[1:]
        elif "%" in ways:
            path = unquote_to_bytes(path)
        if "backslashes" in ways:
            path = path.replace(b"\\", b"/")
        return path


def _joined(base: bytes, path: bytes) -> bytes:
    """`path` from the folder `base`; `..` goes up as far as the root, and stays where it leads out of it."""
    parts = base.split(b"/")
    for part in path.split(b"/"):
        if part == b".." and parts and parts[-1] != b"..":
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


@dataclass
class _Search:
    """Looks below `root` how many of `sample` are there when they are read in some way."""

    root: bytes
    sample: Sequence[bytes]
    seen: dict[bytes, bool] = field(default_factory=dict)

    def there(self, path: bytes) -> bool:
        if path not in self.seen:
            try:
                os.stat(os.path.join(self.root, path))
                self.seen[path] = not _ABSOLUTE.match(path) and b".." not in path.split(b"/")
            except (OSError, ValueError):
                self.seen[path] = False
        return self.seen[path]

    def count(self, spelling: Spelling, most: int = SAMPLE) -> int:
        return sum(self.there(spelling(path)) for path in self.sample[:most])


def fit(
    paths: Iterable[bytes], root: Path, base: bytes, settings: FormatSettings, where: str, split: str = "all"
) -> Spelling:
    """The way to read the paths of a list, by its first ones.

    base: the list's own folder below the root. where: the list, for messages. split: the one it is of.
    """
    sample = [path for _, path in zip(range(SAMPLE), (path for path in paths if path.strip()))]
    if refused := _addresses(sample, where):
        return Spelling(refused=refused)
    search = _Search(os.fsencode(root), sample)
    bases = {"root": [b""], "list": [base], "auto": [b"", base] if base else [b""]}[settings.paths_from]
    start = Spelling(bases[0], encode(settings.prefix), encode(settings.suffix))
    best, count = _best_of(search, _plain_ways(start, sample, root, bases))
    if count == len(sample):
        return _told(best, sample, search, where)
    if not count and settings.check_files:
        full = _plain_ways(start, sample, root, bases)[-1]
        best, count = _best_of(search, [best, *_without_folders(full, bases)])
        if not count and not settings.prefix and not settings.suffix:
            best = _with_folder(search, replace(full, base=b""), split, root)
            count = search.count(best)
    if count < len(sample):
        loose = replace(best, loose=Loose(search.root))
        if search.count(loose) > count:
            best = loose
    return _told(best, sample, search, where)


def _addresses(sample: Sequence[bytes], where: str) -> str:
    """What is wrong with paths that are addresses of the web; "" where they are none."""
    urls = [path for path in sample if _URL.match(path)]
    if 2 * len(urls) <= len(sample):
        return ""
    return (
        f"{where}: {short(decode(urls[0]), 100)!r} is an address of the web, and smelt downloads nothing: "
        "download the images first (img2dataset does; -o data.format=img2dataset reads what it gives), "
        "or name the column with the files: -o data.columns.path=NAME"
    )


def _plain_ways(
    start: Spelling, sample: Sequence[bytes], root: Path, bases: Sequence[bytes]
) -> list[Spelling]:
    """All ways that only read the same path otherwise, the plainest first and the fullest last."""
    joined = b"\n".join(sample)
    present = []
    if b"\\" in joined:
        present.append("backslashes")
    if any(path != path.strip() for path in sample):
        present.append("blanks")
    if _ESCAPED.search(joined):
        present.append("%")
    try:
        joined.decode()
    except UnicodeDecodeError:
        present.append("latin-1")
    always = {"file://"} if any(path[:5].lower() == b"file:" for path in sample) else set()
    given = [encode(str(root.absolute())), encode(str(root.resolve()))]
    roots = tuple(dict.fromkeys(name.rstrip(b"/") + b"/" for name in given))
    far = bool(always) or any(_ABSOLUTE.match(path.replace(b"\\", b"/")) for path in sample)
    found = []
    for chosen in product((False, True), repeat=len(present)):
        ways = frozenset(always | {way for way, on in zip(present, chosen) if on})
        for base in bases:
            found.append(replace(start, base=base, ways=ways, roots=roots if far else ()))
    return found


def _best_of(search: _Search, ways: Iterable[Spelling]) -> tuple[Spelling, int]:
    """The first of those that find most."""
    best, most = Spelling(), -1
    for way in ways:
        count = search.count(way)
        if count > most:
            best, most = way, count
        if count == len(search.sample):
            break
    return best, most


def _without_folders(full: Spelling, bases: Sequence[bytes]) -> list[Spelling]:
    """Without the first folders of paths that start elsewhere, as few as may be."""
    return [
        replace(full, base=base, folders=count) for count in range(1, 16) for base in dict.fromkeys(bases)
    ]


def _with_folder(search: _Search, full: Spelling, split: str, root: Path) -> Spelling:
    """With a folder before bare names and a suffix behind ids, if only one such way finds files."""
    tree = Glimpse(root).tree[: _MOST_FOLDERS + 1]
    suffixes = {folder: _suffixes(files[:_TRIED]) for folder, files in tree}
    suffixes[""] = _suffixes([name for _, files in tree for name in files[:_TRIED]])
    tried = search.sample[:_TRIED]
    named = all(looks_like_image(decode(path)) for path in tried)
    found: list[tuple[int, Spelling]] = []
    for folder, likely in suffixes.items():
        for suffix in [""] if named else [*likely, ""]:
            way = replace(full, prefix=encode(f"{folder}/" if folder else ""), suffix=encode(suffix))
            if count := search.count(way, _TRIED):
                found.append((count, way))
    if not found:
        return full
    most = max(count for count, _ in found)
    best = [way for count, way in found if count == most]
    wanted = "train" if split == "all" else split
    meant = [way for way in best if split_of(decode(way.prefix).strip("/")) == wanted]
    if len(best) > 1 and len(meant) == 1:
        best = meant
    if rest := [way for _, way in found if _finds_others(search, way, best[0])]:
        places = ", ".join(dict.fromkeys(decode(way.prefix) or "the root" for way in [best[0], *rest[:3]]))
        return replace(
            full,
            hint=f"the files lie in several folders ({places}): write these before the names, or give a list "
            "for each split (-o data.lists.train=…, val, test)",
        )
    if len(best) == 1:
        return best[0]
    options = [_options(way) for way in best]
    return replace(full, hint="the files may be meant by " + " or by ".join(options[:3]))


def _suffixes(names: Sequence[str]) -> list[str]:
    """The usual suffixes of images among these names."""
    counts = Counter(os.path.splitext(name)[1] for name in names if looks_like_image(name))
    return [suffix for suffix, _ in counts.most_common(3)]


def _finds_others(search: _Search, way: Spelling, best: Spelling) -> bool:
    """Whether files are there by one way that are not by the best."""
    tried = search.sample[:_TRIED]
    return any(search.there(way(path)) and not search.there(best(path)) for path in tried)


def _options(way: Spelling) -> str:
    """The settings that say the same."""
    said = [("prefix", way.prefix), ("suffix", way.suffix)]
    return " ".join(f"-o data.{name}={decode(value)}" for name, value in said if value)


def _told(best: Spelling, sample: Sequence[bytes], search: _Search, where: str) -> Spelling:
    """The spelling with its note: an example, and what was done."""
    shown = next(
        (path for path in sample if search.there(best(path)) and best(path) != normalised(path)), None
    )
    if shown is None:
        return best
    words = []
    texts = {
        "backslashes": "backslashes part folders", "blanks": "without the blanks around it",
        "%": "%XX are letters", "latin-1": "its letters are latin-1", "file://": "",
    }  # fmt: skip
    words += [texts[way] for way in sorted(best.ways) if texts[way]]
    if best.folders:
        words.append(f"without its first {best.folders} folder(s), which are not there")
    if best.base:
        words.append("from the list's own folder (-o data.paths_from=root takes the root)")
    if best.prefix or best.suffix:
        words.append(f"as with {_options(best)}")
    if best.loose:
        words.append("files are called otherwise in case or Unicode form only")
    given, became = decode(shown), decode(best(shown))
    text = f"{where}: {told(short(given, 100))} is read as {told(short(became, 100))}"
    return replace(best, note=f"{text} ({'; '.join(words)})" if words else text)


def what_lies_there(root: Path, path: bytes) -> str:
    """What is in the deepest folder of `path` that is there, for a message that the file is not."""
    parts = path.split(b"/")[:-1]
    while parts and not os.path.isdir(os.path.join(os.fsencode(root), *parts)):
        parts.pop()
    folder = decode(b"/".join(parts))
    glimpse = Glimpse(root)
    names = [f"{name}/" for name in glimpse.folders(folder)] + glimpse.files(folder)
    place = f"{folder}/" if folder else "the root"
    return f"{place} has {first_few(names, len(names), 4)}" if names else f"{place} is empty"
