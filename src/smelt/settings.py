"""The base class of every settings class, and the canonical form that keys are hashed from.

Nothing here, nor in any module that defines settings, imports torch: `smelt plan` must be quick.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen, checked settings; an unknown key is refused. Each component defines its own subclass."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal settings give equal text, whatever their order."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
