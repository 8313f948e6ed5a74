"""What scores are written with: the visits of a training step, and the columns that they are booked in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from smelt.artifacts.dynamics import OTHER_BITS
from smelt.mining.config import score_modules

if TYPE_CHECKING:
    from torch import Tensor

Value = Callable[..., "Tensor"]
RIGHT = 1 << OTHER_BITS  # this bit of the column `last`: the newest visit was right


@dataclass(frozen=True)
class Visits:
    """The visits of one step; each tensor is (B,), on the device where columns are kept.

    label_B: logit of the label, NaN where nothing may be recorded. largest_B: the largest other logit.
    log_share_B: log of its share of Σ exp over all other logits. other_B: its class. step: from 1.
    observed: by column, what `Column.observe` gave.
    """

    rows_B: Tensor
    label_B: Tensor
    largest_B: Tensor
    log_share_B: Tensor
    other_B: Tensor
    step: int
    observed: Mapping[str, Tensor]
    _known: dict[Value, Tensor] = field(default_factory=dict)

    def of(self, value: Value) -> Tensor:
        """`value` of these visits, computed once for all scores that go by it."""
        if value not in self._known:
            self._known[value] = value(self)
        return self._known[value]


@dataclass(frozen=True)
class Column:
    """A number that is kept of each row; a name is one column, whoever declares it.

    dtype: int32, int64 or float32. value: of the visits, (B,) numbers; with `of` it is also given these
    columns at the visited rows, by name, before and after the step's plain sums. Without a value it is what
    `observe` says of the raw logits (B, C) and the labels (B,): (B,) float32.
    how: each visit's number is added; or the largest is kept; or it is added once for a step, however often
    the row comes in it (the number is then the same for all visits of a row). start: of rows never seen.
    """

    name: str
    dtype: Literal["int32", "int64", "float32"]
    value: Value | None = None
    how: Literal["add", "largest", "once"] = "add"
    of: tuple[str, ...] = ()
    start: int = 0
    observe: Callable[[Tensor, Tensor], Tensor] | None = None

    def book(
        self, column_N: Tensor, visits: Visits, recorded_B: Tensor | None, *at: Mapping[str, Tensor]
    ) -> None:
        """Change the column in place by the visits that are `recorded_B`; None: all of them."""
        value = self.value or partial(_observed, self.name)
        nothing = self.start if self.how == "largest" else 0
        found = value(visits, *at) if at else visits.of(value)
        found = (found if recorded_B is None else found.where(recorded_B, nothing)).to(column_N.dtype)
        if self.how == "largest":
            column_N.scatter_reduce_(0, visits.rows_B, found, "amax")
        elif self.how == "once":  # every copy of a row in this step writes the same value
            found = found + column_N.index_select(0, visits.rows_B)
            column_N.index_copy_(0, visits.rows_B, found)
        else:
            column_N.index_add_(0, visits.rows_B, found)


def _observed(name: str, visits: Visits) -> Tensor:
    return visits.observed[name]


def lead(visits: Visits) -> Tensor:
    """How far the label's logit is above the largest other, (B,)."""
    return visits.label_B - visits.largest_B


def recorded(visits: Visits) -> Tensor:
    """Whether a visit may be recorded: its lead is finite, (B,)."""
    return visits.of(lead).isfinite()


def newest(visits: Visits) -> Tensor:
    """Step, whether the label had the strictly largest logit, and the largest other class, packed: (B,)."""
    right_B = visits.of(lead) > 0
    return (visits.step << (OTHER_BITS + 1)) + right_B.long() * RIGHT + visits.other_B


# Kept whatever the scores need: without `seen` no sum has a mean, `last` knows what a row was taken for
SEEN = Column("seen", "int32", recorded)
LAST = Column("last", "int64", newest, how="largest", start=-1)


def declared(scores: Iterable[ModuleType] | None = None) -> dict[str, Column]:
    """The columns of these scores, by default of all that there are, by name."""
    found = {SEEN.name: SEEN, LAST.name: LAST}
    for module in score_modules().values() if scores is None else scores:
        columns: tuple[Column, ...] = getattr(module, "COLUMNS", ())  # none: it goes by features or texts
        for column in columns:
            if found.setdefault(column.name, column) != column:
                raise ValueError(f"{module.__name__} declares {column.name} otherwise than another score")
    return found


def book(columns: Mapping[str, Any], kinds: Mapping[str, Column], visits: Visits) -> None:
    """Add the visits of one step to `columns` (name → (N,) tensor), each as its kind says."""
    recorded_B: Tensor | None = visits.of(recorded)
    if recorded_B is not None and recorded_B.device.type == "cpu" and bool(recorded_B.all()):
        recorded_B = None  # a GPU is not asked: that would wait for it
    wanted = {name for name in columns for name in kinds[name].of}

    def here() -> dict[str, Tensor]:
        return {name: columns[name].index_select(0, visits.rows_B) for name in wanted}

    before = here()
    for name in columns:
        if not kinds[name].of:
            kinds[name].book(columns[name], visits, recorded_B)
    after = here()
    for name in columns:
        if kinds[name].of:
            kinds[name].book(columns[name], visits, recorded_B, before, after)
