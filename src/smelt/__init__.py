"""smelt: learn, mine, fuse. Strong image classifiers from large, noisy collections of web images.

The names below are the library; docs/library.md shows each in three lines. They are loaded when they are
first asked for, so that `import smelt` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smelt.artifacts.catalogue import Catalogue as Catalogue
    from smelt.artifacts.dynamics import Dynamics as Dynamics
    from smelt.errors import SmeltError as SmeltError
    from smelt.flowchart.work import Work as Work
    from smelt.fusion.apply import Fusion as Fusion
    from smelt.fusion.procedure import fuse as fuse
    from smelt.fusion.scores.inputs import read_scores as read_scores
    from smelt.metrics import class_averaged_topk as class_averaged_topk
    from smelt.mining.choosing import select as select
    from smelt.mining.estimate import noise_rate as noise_rate
    from smelt.mining.rankings import rank as rank
    from smelt.mining.recorder import Recorder as Recorder

__version__ = "0.1.0"

_WHERE = {
    "Catalogue": "artifacts.catalogue",
    "Dynamics": "artifacts.dynamics",
    "Fusion": "fusion.apply",
    "Recorder": "mining.recorder",
    "SmeltError": "errors",
    "Work": "flowchart.work",
    "class_averaged_topk": "metrics",
    "fuse": "fusion.procedure",
    "noise_rate": "mining.estimate",
    "rank": "mining.rankings",
    "read_scores": "fusion.scores.inputs",
    "select": "mining.choosing",
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    """A public name, from the module that has it."""
    if name not in _WHERE:
        raise AttributeError(f"module 'smelt' has no attribute {name!r}; it has {', '.join(_WHERE)}")
    value = getattr(importlib.import_module(f"smelt.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
