"""Labels of validation and test beside those of training: stand-ins for none, other names, other numbers.

A test that is given out without its labels often has a column of them all the same, filled with one word. A
validation that calls the classes otherwise than training does measures nothing, and looks as if it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from smelt.artifacts.bytestrings import decode
from smelt.data.formats.base import Report
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.labels.classes import NO_LABEL, Classes, is_number
from smelt.data.formats.labels.labelcolumn import TEST, TRAIN, VAL, Columns, LabelColumn
from smelt.errors import short

_STAND_INS = NO_LABEL | {
    b"?", b"-", b"-1", b"unknown", b"unlabeled", b"unlabelled", b"placeholder", b"dummy", b"tbd", b"todo",
    b"test", b"missing", b"undefined", b"x", b"predict", b"to_predict",
}  # fmt: skip
ENOUGH = 10  # test images from which on one class for all of them is hardly meant
_CALLED = {VAL: "validation", TEST: "test"}


def _counts(parts: Columns, split: int) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for part in parts:
        for word, count in part.counts(split).items():
            found[word] = found.get(word, 0) + count
    return found


def _first(parts: Columns, split: int, word: bytes) -> str:
    places = (part.first(split, word) for part in parts if word in part.words)
    return next(place for place in places if place)


def without_stand_ins(parts: Columns, settings: FormatSettings, report: Report) -> Columns:
    """The labels of all tables, "" for those of the test that stand in for none (`test_labels`)."""
    training, test = _counts(parts, TRAIN), _counts(parts, TEST)
    if settings.test_labels == "given" or not test:
        return parts
    if settings.test_labels == "none":
        report.note(
            f"the labels of {sum(test.values()):,} test images are not looked at (data.test_labels=none)"
        )
    elif why := _stands_in(training, test):
        word = next(iter(test))
        report.warn(
            f"all {sum(test.values()):,} labels of the test are {short(decode(word), 80)!r} "
            f"({_first(parts, TEST, word)}), {why}: the test is read as one without labels "
            "(-o data.test_labels=given takes them as they stand)"
        )
    else:
        return parts
    return [_emptied(part) for part in parts]


def _stands_in(training: Mapping[bytes, int], test: Mapping[bytes, int]) -> str:
    """Why the labels of a test are none; "" where they may be some."""
    if len(test) > 1 or len(training) < 2:
        return ""
    word, count = next(iter(test.items()))
    if word not in training:
        if word == b"-1" and all(map(is_number, training)):
            return ""  # no label anywhere
        known = word.lower() in _STAND_INS or (
            count >= ENOUGH or is_number(word) != any(map(is_number, training))
        )
        return "which no training image has" if known else ""
    return f"one of {len(training):,} classes" if count >= ENOUGH else ""


def _emptied(part: LabelColumn) -> LabelColumn:
    """The labels of a table without those of its test; words that are left in no row are gone."""
    words = [*part.words, b""] if b"" not in part.words else part.words
    codes = np.where(part.splits == TEST, words.index(b""), part.codes)
    used, codes = np.unique(codes, return_inverse=True)
    return replace(part, codes=codes.astype(np.int64), words=[words[code] for code in used.tolist()])


def compare(
    parts: Columns, several: Mapping[bytes, Sequence[bytes]], classes: Classes, report: Report
) -> None:
    """Refuse validation or test with other labels than training has; warn of further classes."""
    training = _labels(_counts(parts, TRAIN), several, classes)
    for split in (VAL, TEST):
        counts = _counts(parts, split)
        found = _labels(counts, several, classes)
        if not training or not found:
            continue
        new = {label: word for label, word in found.items() if label not in training}
        if not new:
            continue
        where = _first(parts, split, next(iter(new.values())))
        shown = f"{where}: label {short(decode(next(iter(new.values()))), 80)!r}"
        names = [classes.names[label] for label in training]
        others = [classes.names[label] for label in found]
        if len(new) == len(found):
            report.problem(f"{shown} of {_CALLED[split]} is none of training: {_apart(names, others, split)}")
        elif step := _shifted(names, others):
            report.problem(
                f"{shown} of {_CALLED[split]} is none of training, which has {_few(names)} where "
                f"{_CALLED[split]} has {_few(others)}: one of them seems to count from {step}. Write both "
                f"alike; if they are, -o data.lists.classes=FILE says which classes there are, a name a line"
            )
        else:
            images = sum(counts[word] for word in set(new.values()))
            report.warn(
                f"{shown}: {images:,} image(s) of {_CALLED[split]} are of {len(new):,} class(es) of which "
                "training has none: a model can only get them wrong"
            )


def _labels(
    counts: Mapping[bytes, int], several: Mapping[bytes, Sequence[bytes]], classes: Classes
) -> dict[int, bytes]:
    """Label → a cell that has it."""
    found: dict[int, bytes] = {}
    for cell in counts:
        for word in several.get(cell, (cell,)):
            label = classes.label(word)
            if label is not None and label >= 0:
                found.setdefault(label, cell)
    return found


def _apart(names: Sequence[bytes], others: Sequence[bytes], split: int) -> str:
    """What is wrong where no class of a split is one of training, and how to mend it."""
    called = _CALLED[split]
    have = f"training has {_few(names)}, {called} {_few(others)}"
    if len(others) == 1 and others[0].lower() in _STAND_INS:
        return f"it stands for no label, so nothing can be measured by it{_unread(split)}"
    numbers = all(map(is_number, names)), all(map(is_number, others))
    if numbers[0] != numbers[1]:
        which = f"{called} has numbers" if numbers[1] else "training has numbers"
        return (
            f"{have}. {which} where the other has names: -o data.lists.classes=FILE, a name a line in the "
            f"order of the numbers, joins them{_unread(split)}"
        )
    if {decode(name).casefold().strip() for name in names} & {
        decode(name).casefold().strip() for name in others
    }:
        return f"{have}: they differ in case. Write both alike"
    return (
        f"{have}, so nothing that is learnt is right there. Splits for few-shot learning are made so; "
        f"-o data.lists.all=FILE learns one list of all{_unread(split)}"
    )


def _unread(split: int) -> str:
    if split == TEST:
        return "; -o data.test_labels=none reads it without labels"
    return "; -o data.lists.train=FILE alone holds out a part of it"


def _shifted(names: Sequence[bytes], others: Sequence[bytes]) -> str:
    """ "0 and the other from 1" where two runs of numbers are the same but for one; "" where they are not."""
    if len(names) < 3 or len(names) != len(others) or not all(map(is_number, [*names, *others])):
        return ""
    if max(map(len, [*names, *others])) > 9:
        return ""
    first, second = sorted(map(int, names)), sorted(map(int, others))
    runs = all(run == list(range(run[0], run[0] + len(run))) for run in (first, second))
    return "0 and the other from 1" if runs and {first[0], second[0]} == {0, 1} else ""


def _few(names: Sequence[bytes]) -> str:
    shown = ", ".join(repr(short(decode(name), 40)) for name in names[:3])
    return shown + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
