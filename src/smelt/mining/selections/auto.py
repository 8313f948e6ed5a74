"""Several selections are tried, each by a training, and the one that validation finds best is used, or none.

The flowchart unfolds it (`smelt.recipe.tries`) and the stage `decide` judges; it has no ranking of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smelt.errors import RecipeError

if TYPE_CHECKING:
    from smelt.mining.draft import Draft, Known

NEEDS = ()
READS = ()


def select(draft: Draft, known: Known) -> dict[str, Any]:
    """RecipeError: without trainings there is nothing to decide by."""
    raise RecipeError("select: auto compares trainings, as a flowchart does (smelt run); name a method here")
