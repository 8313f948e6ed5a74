"""Nothing is flagged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smelt.mining.draft import Draft, Known

NEEDS = ()
READS = ()


def select(draft: Draft, known: Known) -> dict[str, Any]:
    """Leave the draft as it is."""
    return {}
