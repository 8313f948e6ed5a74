"""Finds how the paths of a list lead to files, by its first ones: the plainest way by which most are there.

Tried are backslashes, `file://`, a root elsewhere, the list's own folder, a folder before bare names, a
suffix behind ids, another case or Unicode form. What was taken is said; what cannot be told apart is not
taken.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from smelt.artifacts.bytestrings import decode, encode
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.lists.columns import looks_like_image
from smelt.data.formats.tree.layout import Glimpse
from smelt.data.formats.tree.named import WAYS, Anywhere, Loose, Near, near
from smelt.data.formats.tree.names import normalised, numbered, split_of, told
from smelt.data.formats.tree.spelling import ABSOLUTE, Spelling
from smelt.errors import short

SAMPLE = 256  # paths that are looked at
_TRIED = 32  # of them, with every folder and suffix that may be meant
_MOST_FOLDERS = 60
_URL = re.compile(rb"(?i)(https?|ftp|s3|gs|hdfs|az)://")
_ESCAPED = re.compile(rb"%[0-9A-Fa-f]{2}")


@dataclass
class _Search:
    """Looks below `root` how many of `sample` are there when they are read in some way."""

    root: bytes
    sample: Sequence[bytes]
    seen: dict[bytes, bool] = field(default_factory=dict)

    def there(self, path: bytes) -> bool:
        if path not in self.seen:
            try:
                mode = os.stat(os.path.join(self.root, path)).st_mode
                inside = not ABSOLUTE.match(path) and b".." not in path.split(b"/")
                self.seen[path] = inside and stat.S_ISREG(mode)
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
    search = _Search(os.fsencode(root), sample)
    if refused := _addresses(sample, where):
        # images that were fetched keep the end of their address; two of one name would be taken for one
        here, count = _best_of(search, _without_folders(Spelling(), [base, b""]))
        sure = 2 * count > len(sample) and len(set(map(here, sample))) == len(set(sample))
        return _told(here, sample, search, where) if sure else Spelling(refused=refused)
    bases = {"root": [b""], "list": [base], "auto": [b"", base] if base else [b""]}[settings.paths_from]
    start = Spelling(
        bases[0], encode(settings.prefix), encode(settings.suffix), encoding=settings.encoding or ""
    )
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
        elif not count and settings.check_files and not (settings.prefix or settings.suffix or best.hint):
            best = _nearly(search, replace(start, base=b""), sample, root, split) or best
    return _told(best, sample, search, where)


def _nearly(
    search: _Search, start: Spelling, sample: Sequence[bytes], root: Path, split: str
) -> Spelling | None:
    """By names that are nearly those of files, where each is found once."""
    full = _plain_ways(start, sample, root, [b""])[-1]
    found = near(search.root, [full(path) for path in sample], split)
    return replace(full, loose=found) if found else None


def _addresses(sample: Sequence[bytes], where: str) -> str:
    """What is wrong with paths that are addresses of the web; "" where they are none."""
    urls = [path for path in sample if _URL.match(path)]
    if 2 * len(urls) <= len(sample):
        return ""
    return (
        f"{where}: {short(decode(urls[0]), 100)!r} is an address of the web, smelt downloads nothing, and no "
        "file below the folder is called by the end of it: download the images first (img2dataset does; "
        "-o data.format=img2dataset reads what it gives), or name the column with the files: "
        "-o data.columns.path=NAME"
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
    if start.encoding and not joined.isascii():
        present.append("raw")
    always = {"file://"} if any(path[:5].lower() == b"file:" for path in sample) else set()
    given = [encode(str(root.absolute())), encode(str(root.resolve()))]
    roots = tuple(dict.fromkeys(name.rstrip(b"/") + b"/" for name in given))
    far = bool(always) or any(ABSOLUTE.match(path.replace(b"\\", b"/")) for path in sample)
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
    full = _with_suffix(search, full, suffixes[""]) if named else full
    found: list[tuple[int, Spelling]] = []
    for folder, likely in suffixes.items():
        for suffix in [""] if named else [*likely, ""]:
            way = replace(full, prefix=encode(f"{folder}/" if folder else ""))
            way = way if named else replace(way, suffix=encode(suffix))
            if count := search.count(way, _TRIED):
                found.append((count, way))
    if not found:
        return _by_name(search, full)
    most = max(count for count, _ in found)
    best = [way for count, way in found if count == most]
    wanted = "train" if split == "all" else split
    meant = [way for way in best if split_of(decode(way.prefix).strip("/")) == wanted]
    if len(best) > 1 and len(meant) == 1:
        best = meant
    if rest := [way for _, way in found if _finds_others(search, way, best[0])]:
        tops = {decode(way.prefix).partition("/")[0] for way in [best[0], *rest]}
        anywhere = replace(full, loose=Anywhere(search.root))
        if numbered(sorted(tops)) and search.count(anywhere) > most:
            return anywhere  # parts of one folder: `images_001/`, `images_002/`
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


def _by_name(search: _Search, full: Spelling) -> Spelling:
    """By their names alone where these are bare, and most are files somewhere in deeper folders."""
    anywhere = replace(full, loose=Anywhere(search.root))
    bare = not any(b"/" in path or b"\\" in path for path in search.sample)
    return anywhere if bare and 2 * search.count(anywhere) > len(search.sample) else full


def _with_suffix(search: _Search, full: Spelling, suffixes: Sequence[str]) -> Spelling:
    """With another suffix in place of the listed one, where files are there by it."""
    for suffix in suffixes:
        way = replace(full, suffix=encode(suffix), ways=full.ways | {"suffix"})
        if search.count(way, _TRIED):
            return way
    return full


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
        "raw": f"files are called in {best.encoding}",
        "suffix": f"with the suffix {decode(best.suffix)}, that the files have",
    }  # fmt: skip
    words += [texts[way] for way in sorted(best.ways) if texts[way]]
    if best.folders:
        words.append(f"without its first {best.folders} folder(s), which are not there")
    if best.base:
        words.append("from the list's own folder (-o data.paths_from=root takes the root)")
    if best.prefix or (best.suffix and "suffix" not in best.ways):
        words.append(f"as with {_options(best)}")
    if isinstance(best.loose, Anywhere):
        words.append("the only file that is called so, in whichever of several folders")
    elif isinstance(best.loose, Near):
        words.append(WAYS[best.loose.way])
    elif best.loose:
        words.append("files are called otherwise in case or Unicode form only")
    given, became = decode(shown), decode(best(shown))
    text = f"{where}: {told(short(given, 100))} is read as {told(short(became, 100))}"
    return replace(best, note=f"{text} ({'; '.join(words)})" if words else text)
