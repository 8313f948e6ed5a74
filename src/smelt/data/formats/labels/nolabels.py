"""Words that people write where an image has no label, taken for none where that is sure or is said.

`?` and its like name no class; neither does -1 among names. A class may well be called `unknown` or `none`
(speech commands have one), so such words stay names, with a warning that says how to take them for none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import yaml

from smelt.artifacts.bytestrings import decode
from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.classes import NO_LABEL, Classes, is_number
from smelt.data.formats.labels.labelcolumn import VAL, Columns
from smelt.errors import short

_NEVER = frozenset({b"?", b"??", b"???", b"-", b"--", b"---", b"\\N", b"[]", b"{}", b"()"})
_MAY_BE = NO_LABEL | {
    b"unknown", b"unlabeled", b"unlabelled", b"not labeled", b"not labelled", b"unannotated", b"no label",
    b"nolabel", b"no_label", b"undefined", b"todo", b"tbd", b"skip", b"skipped", b"unclear", b"unsure",
    b"not sure", b"undecided", b"missing", b"placeholder", b"n.a.", b"not available", b"to be labeled",
    b"to be labelled", b"xxx",
}  # fmt: skip
_MINUS = re.compile(rb"-1(\.0*)?")


def without_no_labels(
    columns: Columns, known: Classes | None, settings: FormatSettings, report: Report
) -> Columns:
    """The labels of all tables, "" for those that say that there is none; that is said.

    known: the classes, where a list says which there are: what it names is one.
    """
    counts: Counter[bytes] = Counter()
    for column in columns:
        rows = np.bincount(column.codes, minlength=len(column.words)).tolist()
        for word, count in zip(column.words, rows):
            counts[word] += count
    named = frozenset(known.numbers) if known else frozenset()
    chosen = {word.encode("utf-8", "surrogateescape") for word in settings.no_label}
    names = {word for word in counts if word and not is_number(word)} - _NEVER - chosen
    sure = {word for word in counts.keys() - named - chosen if word in _NEVER}
    plain = {word for word in names if word.lower() not in NO_LABEL and not _MINUS.fullmatch(word)}
    if not known and settings.label_is == "auto" and any(not _is_float(word) for word in plain):
        sure |= {word for word in counts if _MINUS.fullmatch(word)}
    _refuse_empty_validation(columns, sure, report)
    _tell(counts, chosen & counts.keys(), sure, report)
    if not known and plain:
        _warn(counts, {word for word in names if word.lower() in _MAY_BE}, settings, report)
    if not sure and not chosen & counts.keys():
        return columns
    none = sure | chosen
    return [replace(one, words=[b"" if word in none else word for word in one.words]) for one in columns]


def _refuse_empty_validation(columns: Columns, sure: Collection[bytes], report: Report) -> None:
    """A validation whose labels all say that there is none measures nothing; one without labels is drawn."""
    found = [(column, word) for column in columns for word in column.counts(VAL)]
    if found and all(word in sure for _, word in found):
        column, word = found[0]
        report.problem(
            f"{column.first(VAL, word)}: label {decode(word)!r} of validation is none of training: it "
            "stands for no label, so nothing can be measured by it; -o data.lists.train=FILE alone holds out "
            "a part of it"
        )


def _is_float(word: bytes) -> bool:
    return re.fullmatch(rb"[+-]?[0-9][0-9.,eE+-]*", word) is not None


def _tell(counts: Counter[bytes], chosen: Collection[bytes], sure: Collection[bytes], report: Report) -> None:
    if sure:
        report.warn(
            f"{_some(counts, sure)} is taken to say that there is no label"
            + (
                " (-o data.label_is=name takes -1 as the name of a class)"
                if any(map(_MINUS.fullmatch, sure))
                else ""
            )
        )
    if chosen:
        report.note(f"{_some(counts, chosen)} says that there is no label (data.no_label)")


def _warn(counts: Counter[bytes], found: Collection[bytes], settings: FormatSettings, report: Report) -> None:
    if found:
        report.warn(
            f"{_some(counts, found)} is taken as the name of a class: {option(found, settings.no_label)} "
            "takes it for no label"
        )


def option(words: Collection[bytes], before: Sequence[str] = ()) -> str:
    """The option that takes `words`, and those `before`, for no label, to be pasted into a shell."""
    texts = [*before, *(decode(word) for word in sorted(words, key=bytes.lower))]
    shown = ", ".join(map(quoted, texts))
    return f"-o 'data.no_label=[{shown}]'"


def quoted(text: str) -> str:
    """A word as YAML takes it for text, to stand in single quotes of a shell."""
    told = text if _bare(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return told.replace("'", "'\\''")


def _bare(text: str) -> bool:
    """Whether YAML reads a word of a list as it stands, as text."""
    try:
        return bool(yaml.safe_load(f"[{text}]") == [text] and ":" not in text)
    except yaml.YAMLError:
        return False


def _some(counts: Counter[bytes], words: Collection[bytes]) -> str:
    shown = sorted(words, key=lambda word: (-counts[word], word))[:5]
    rest = f" and {len(words) - 5} more" if len(words) > 5 else ""
    return ", ".join(f"{short(decode(word), 40)!r} ({counts[word]:,} rows)" for word in shown) + rest
