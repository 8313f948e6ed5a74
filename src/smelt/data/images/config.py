"""Settings of images: what is made of those that cannot be read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from smelt.data.images import kinds
from smelt.errors import DataError
from smelt.settings import Settings


class CheckSettings(Settings):
    """What can be read is a fact and not set here, only what is made of it."""

    unreadable: Literal["stop", "warn"] = Field(
        default="stop",
        description="A class or a split of which not one image can be read: stop the run (it is most often a "
        "folder that is not mounted), or warn and do without it.",
    )
    heic: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="Whether HEIC files are read, or counted as `unsupported_format`. auto: where "
        "pillow-heif (or pi-heif) is installed; HEIC files are looked at again once it is.",
    )

    def resolved(self) -> CheckSettings:
        """These settings with `heic` as it is here; DataError where it is to be read and nothing can."""
        if self.heic == "yes" and kinds.heif_reader() is None:
            raise DataError(f"check.heic is yes, but no reader is installed here. {kinds.HEIC_HINT}")
        here: Literal["yes", "no"] = "no" if kinds.heif_reader() is None or self.heic == "no" else "yes"
        return self.model_copy(update={"heic": here})
