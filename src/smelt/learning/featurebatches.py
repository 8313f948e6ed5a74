"""Features of many images through a view, in batches: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smelt.data.config import ViewSettings
from smelt.data.images.loader import Loader
from smelt.errors import ArtifactError
from smelt.learning.pixels import Normaliser, autocast


def dim_of(net: nn.Module, size: int, normalise: Normaliser) -> int:
    """D: how many numbers `net` gives of images of `size` pixels; ArtifactError where it gives no (B, D)."""
    net.eval()
    with torch.inference_mode():
        found = net(normalise(torch.zeros(1, 3, size, size, dtype=torch.uint8)))
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != 1:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ArtifactError(f"the net gives {shape} of an image, not a line of features (1, D)")
    return int(found.shape[1])


def feature_batches(
    net: nn.Module,
    loader: Loader,
    rows_N: NDArray[np.int64],
    view: ViewSettings,
    flip: bool,
    batch_size: int,
    normalise: Normaliser,
    precision: str,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """(values_BD float32, known_B) in the order of `rows_N`; at most `batch_size` crops are computed at once.

    values are the mean over the view's crops, with `flip` over these and their mirror images; those of an
    image that cannot be read are zeros, and known is False.
    """
    net.eval()
    for batch in loader.views(rows_N, view, max(1, batch_size // view.crops)):
        with torch.inference_mode(), autocast(normalise.device, precision):
            images = normalise(batch.images.flatten(0, 1))
            values = net(images).float()
            if flip:
                values = (values + net(images.flip(3)).float()) / 2
        mean_BD = values.unflatten(0, (len(batch.valid_B), view.crops)).mean(dim=1).cpu()
        yield mean_BD.masked_fill(~batch.valid_B[:, None], 0.0).numpy(), batch.valid_B.numpy()
