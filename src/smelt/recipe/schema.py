"""The recipe as a whole: its parts, the sections of further stages, and that they go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model, model_validator

from smelt.recipe.agreement import refuse
from smelt.recipe.parts import Parts
from smelt.stages.table import STAGES


class Whole(Parts):
    """Everything of one run."""

    @model_validator(mode="after")
    def _agreed(self) -> Whole:
        refuse(self)
        return self


def _sections() -> dict[str, Any]:
    """A section for each stage that comes last and has none above."""
    return {
        row.name: (row.settings | None, Field(default=None, description=f"{row.summary} null: not."))
        for row in STAGES.values()
        if row.last and row.name not in Parts.model_fields
    }


if TYPE_CHECKING:
    Recipe = Whole
else:
    Recipe = create_model("Recipe", __base__=Whole, __doc__=Whole.__doc__, __module__=__name__, **_sections())
