"""What was crawled beside WebVision's images: query, title, description, tags and rank from the JSON files.

`train_meta_list_*.txt` names for every line of the file list a JSON file and a row in it, from 1. Any key
may be absent, tags may be a list or a string, and a rank is a string. Whatever is missing is empty, and so is
what cannot be read (which is said): text helps to look at the data and is never needed to learn from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.bytestrings import ByteStrings, decode, encode
from smelt.artifacts.catalogue import UNKNOWN
from smelt.artifacts.catalogue_writer import Block, Paths
from smelt.data.formats.base import Report
from smelt.data.formats.containers.jsons import kind_of, parse
from smelt.data.formats.lists.pathlists import Entries, read_lines, read_list
from smelt.data.formats.lists.sidecars import text_of
from smelt.data.formats.webcopy import Copy
from smelt.errors import DataError

TEXTS = ("title", "description", "tags")
_NO_LIMIT = 1 << 30
_MAX_JSON = 1 << 24  # bytes of one file; those of WebVision have a few million at most
_DIGITS = 9  # of the number of a query


class MetaText:
    """Joins text to the blocks of one source, in the order of its file list."""

    def __init__(self, layout: Copy, source: str, report: Report, *, join: bool) -> None:
        self.layout, self.source, self.report, self.join_json = layout, source, report, join
        self.queries = self._read_queries()
        meta = layout.list_file(f"{source}_meta") if join else None
        self.meta = meta
        self._entries: Iterator[Entries] = (
            read_list(meta, report, labelled=True, num_classes=_NO_LIMIT) if meta else iter(())
        )
        self._held: Entries | None = None
        self._last: tuple[bytes, list[Any]] = (b"", [])
        self._folders: dict[str, list[str]] = {}
        self.num_unread, self.first_unread = 0, ""
        self.seen = False  # whether any JSON file was there

    def _read_queries(self) -> dict[int, bytes]:
        """Query number → its text."""
        part = self.layout.list_file(f"{self.source}_queries")
        queries = {}
        for line in read_lines(part) if part else []:
            number, _, text = line.strip().partition(b" ")
            if (query := _query_number(number)) >= 0:
                queries[query] = text.strip()
        return queries

    def join(self, block: Block, listed: Paths) -> None:
        """Add the columns query, rank, title, description and tags. `listed` are the paths as listed."""
        words = [self.queries.get(_query_number(folder), b"") for folder in listed.folders]
        block.words["query"] = (listed.folder_codes, words)
        if not self.join_json or not len(block):
            return
        assert not isinstance(block.entries, int)
        (files, codes), numbers = self._places(block.entries, listed)
        texts: dict[str, list[bytes]] = {name: [b""] * len(block) for name in TEXTS}
        ranks = np.full(len(block), UNKNOWN, np.int32)
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(codes[order]) != 0])
        for rows in np.split(order, starts[1:]):
            found = self._records(files[int(codes[rows[0]])])
            if not found:
                continue
            self.seen = True
            for row, entry in zip(rows.tolist(), _pick(found, numbers[rows].tolist(), listed.names, rows)):
                for name, column in texts.items():
                    if value := entry.get(name):
                        column[row] = text_of(value)
                ranks[row] = _rank(entry.get("rank"))
        if self.seen:
            block.fixed["rank"] = ranks
            block.strings.update((name, ByteStrings.of(parts)) for name, parts in texts.items())

    def _places(
        self, entries: NDArray[np.int64], listed: Paths
    ) -> tuple[tuple[list[bytes], NDArray[Any]], NDArray[np.int64]]:
        """((JSON files, code of each row's), number of its entry from 1; 0: look for it by id)."""
        if self.meta is None:
            return (list(listed.folders), listed.folder_codes), np.zeros(len(entries), np.int64)
        names: list[bytes] = [b""]
        codes, numbers = np.zeros(len(entries), np.int64), np.zeros(len(entries), np.int64)
        done = 0
        while done < len(entries) and (held := self._lines_at(int(entries[done]))) is not None:
            stop = int(np.searchsorted(entries, held.first + len(held)))
            here = entries[done:stop] - held.first
            _, firsts, code = np.unique(held.paths.hashes()[here], return_index=True, return_inverse=True)
            codes[done:stop] = code + len(names)
            names += [held.paths[int(here[first])] for first in firsts]
            numbers[done:stop] = held.labels[here]
            done = stop
        return (names, codes), numbers

    def _lines_at(self, entry: int) -> Entries | None:
        """The block of the meta list that has this entry; None if the list ends before it."""
        while self._held is None or entry >= self._held.first + len(self._held):
            self._held = next(self._entries, None)
            if self._held is None:
                return None
        return self._held

    def _records(self, file: bytes) -> list[Any]:
        """The array in a JSON file as listed; the last one is kept, since blocks may cut a query in two."""
        if self._last[0] != file:
            self._last = (file, self._load(file))
        return self._last[1]

    def _bases(self, head: str) -> list[str]:
        """Folders in which the files listed below `head` may be: of the known ones those that are there."""
        if head not in self._folders:
            own = self.layout.settings.folders.get(f"{self.source}_meta")
            known = [own] if own else [
                head, self.source, f"meta/{self.source}", f"{self.source}_meta", "meta", f"meta/{head}",
                f"{self.source}_meta/{head}", f"info/{head}", f"{self.source}_images_resized",
            ]  # fmt: skip
            files = self.layout.files
            self._folders[head] = [base for base in known if not base or files.has_folder(encode(base))]
        return self._folders[head]

    def _load(self, file: bytes) -> list[Any]:
        head, _, name = decode(file).rpartition("/")
        name = name if name.endswith(".json") else f"{name}.json"
        tried = (self.layout.files.find(encode(f"{base}/{name}".strip("/"))) for base in self._bases(head))
        part = next((part for part in tried if part is not None), None)
        if part is None:
            return []
        try:
            found = parse(part.read(0, _MAX_JSON + 1), str(part), _MAX_JSON)
        except DataError as error:
            self._unread(str(error))
            return []
        if not isinstance(found, list):
            self._unread(f"{part}: {kind_of(found)}, where a list of what was crawled should be")
            return []
        return found

    def _unread(self, why: str) -> None:
        self.num_unread += 1
        self.first_unread = self.first_unread or why

    def finish(self) -> None:
        """Say what could not be read, when all blocks are joined."""
        if self.num_unread:
            self.report.warn(
                f"{self.num_unread:,} JSON file(s) of {self.source} cannot be read, so their images have no "
                f"text; the first: {self.first_unread}"
            )


def _pick(
    found: list[Any], numbers: list[int], names: ByteStrings, rows: NDArray[Any]
) -> list[dict[str, Any]]:
    """The record of each row: the one with its number (from 1), or where that is 0 the one with its id."""
    if all(numbers):
        picked = [found[n - 1] if 0 < n <= len(found) else {} for n in numbers]
    else:
        by_id = {
            str(entry["id"]): entry
            for entry in found
            if isinstance(entry, dict) and isinstance(entry.get("id"), str | int)
        }
        picked = [by_id.get(decode(names[row].rpartition(b".")[0]), {}) for row in rows.tolist()]
    return [entry if isinstance(entry, dict) else {} for entry in picked]


def _query_number(folder: bytes) -> int:
    digits = folder.rpartition(b"/")[2].lstrip(b"q")
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS else -1


def _rank(value: Any) -> int:
    try:
        return max(UNKNOWN, min(int(value), 2**31 - 1))
    except (TypeError, ValueError, OverflowError):
        return UNKNOWN
