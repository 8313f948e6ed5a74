"""What a training learns from: its images, their labels and weights, and the rows that validate it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts.softlabels import SoftLabels
from smelt.data.images.loader import Loader
from smelt.data.images.sampler import ClassBalancedSampler


@dataclass(frozen=True)
class TrainingData:
    """What is learnt from. labels_N, weights_N are by catalogue row; validation rows may be none.

    num_classes: real classes, by which validation is judged; num_outputs: of the model, one more where
    threshold samples have a class of their own. soft: what rows are taught as beside their label.
    unlabelled: sampler of the rows that are shown without one, for `semi`.
    """

    loader: Loader
    sampler: ClassBalancedSampler
    labels_N: NDArray[np.int32]
    weights_N: NDArray[np.float32] | None
    validation_rows: NDArray[np.int64]
    validation_labels: NDArray[np.int32]
    num_classes: int
    num_outputs: int
    soft: SoftLabels | None = None
    unlabelled: ClassBalancedSampler | None = None
