"""How much nearer an image lies to its class's words than to any other class's: see `image_words`.

Of features by a net of images and words (`image_text`); no label is fitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from smelt.mining.image_words import Worded


def score(words: Worded) -> NDArray[np.float64]:
    """The margin of log p of the label over the largest other, (N,)."""
    return words.score()
