"""Which columns of a list are classes, a column each, with cells that say which one an image is of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# What people write for yes and no, in small letters and without `.0`; a blank cell is no in all of them.
_WAYS = (
    ("0 and 1", frozenset({"1"}), frozenset({"0"})),
    ("True and False", frozenset({"true", "t"}), frozenset({"false", "f"})),
    ("yes and no", frozenset({"yes", "y"}), frozenset({"no", "n"})),
    ("1 and -1", frozenset({"1"}), frozenset({"-1"})),
    ("x and nothing", frozenset({"x"}), frozenset({""})),
)
ON = frozenset(word.encode() for _, on, _ in _WAYS for word in on)
OFF = frozenset(word.encode() for _, _, off in _WAYS for word in off) - {b"-1"} | {b""}
MINUS = b"-1"  # no where a column has no 0; beside 0 and 1 it says that nobody knows
CLEAR = 3  # columns from which on one yes in each row is no chance, whatever stands beside them
_MOST = 64  # columns among which some are looked for


@dataclass(frozen=True)
class Hot:
    """Places of the columns that are classes, what they hold, and those of the columns beside them."""

    places: tuple[int, ...] = ()
    words: str = "0 and 1"
    beside: tuple[int, ...] = ()


def word_of(cell: str) -> str:
    """A cell in small letters, without blanks around it, `1.0` as `1`."""
    return cell.strip().lower().removesuffix(".0")


def hot_among(free: Sequence[int], rows: Sequence[Sequence[str]], may_be_label: Callable[[int], bool]) -> Hot:
    """The columns among `free` that are classes, by the first `rows`; none where that cannot be told.

    All of them where all hold nothing but yes and no. Else those, side by side, with exactly one yes in each
    row: three or more, or two where no other column could be the label (`may_be_label`).
    """
    cells = _cells(free, rows)
    found = _of_yes_and_no(cells)
    if len(found.places) < 2 or not _filled(found, cells):
        return Hot()
    on = next(yes for words, yes, _ in _WAYS if words == found.words)
    if not found.beside:
        return found
    yes = {place: [word in on for word in cells[place]] for place in found.places}
    least = CLEAR if any(map(may_be_label, found.beside)) else 2
    places = _one_each([place for place in found.places if any(cells[place])], yes, least)
    return Hot(places, found.words, tuple(p for p in free if p not in places)) if places else Hot()


def _cells(free: Sequence[int], rows: Sequence[Sequence[str]]) -> dict[int, list[str]]:
    return {place: [word_of(row[place]) if len(row) > place else "" for row in rows] for place in free}


def _of_yes_and_no(cells: dict[int, list[str]]) -> Hot:
    """All columns that hold yes and no in one way, the way of most of them."""
    return max((_held(cells, *way) for way in _WAYS), key=lambda hot: _filled(hot, cells))


def that_hold_it(free: Sequence[int], rows: Sequence[Sequence[str]]) -> Hot:
    """The columns among `free` that hold nothing but yes and no, whether or not they are classes."""
    found = _of_yes_and_no(_cells(free, rows))
    return found if len(found.places) > 1 else Hot()


def _held(cells: dict[int, list[str]], words: str, on: frozenset[str], off: frozenset[str]) -> Hot:
    """Columns that hold nothing but such a yes and no; none where they never say no."""
    held = {place: set(own) for place, own in cells.items() if on | off | {""} >= set(own)}
    if not any(off & own for own in held.values()) or not any(on & own for own in held.values()):
        return Hot(words=words)
    return Hot(tuple(held), words, tuple(place for place in cells if place not in held))


def _filled(hot: Hot, cells: dict[int, list[str]]) -> int:
    return sum(any(cells[place]) for place in hot.places)


def _one_each(places: list[int], yes: dict[int, list[bool]], least: int) -> tuple[int, ...]:
    """The longest run of columns, `least` or more, with exactly one yes in each row; () for none."""
    if len(places) < least or not places:
        return ()
    if all(sum(row) == 1 for row in zip(*(yes[place] for place in places))):
        return tuple(places)
    best: tuple[int, ...] = ()
    for first in range(len(places) if len(places) <= _MOST else 0):
        counts = [0] * len(yes[places[0]])
        for stop in range(first, len(places)):
            counts = [count + one for count, one in zip(counts, yes[places[stop]])]
            run = tuple(places[first : stop + 1])
            if len(run) > max(len(best), least - 1) and all(count == 1 for count in counts):
                best = run
    return best
