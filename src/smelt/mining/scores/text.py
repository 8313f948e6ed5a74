"""Whether what was written beside an image speaks for its class or for another one: see `textscore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from smelt.mining.textscore import TextEvidence


def score(texts: TextEvidence) -> NDArray[np.float64]:
    """The odds of the row's own class against the best other, summed over its fields, (N,)."""
    return texts.score_N
