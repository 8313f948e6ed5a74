"""What training, the range test and prediction have in common: numerics, data and models from artefacts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.checkpoint import read_tensors
from smelt.artifacts.selection import Selection, for_its_score
from smelt.data.images.loader import Loader
from smelt.data.images.sampler import ClassBalancedSampler
from smelt.data.images.store import ImageStore
from smelt.errors import ArtifactError, DataError
from smelt.files.atomic import read_json
from smelt.learning.config import TrainSettings
from smelt.learning.optimisation import load_weights
from smelt.learning.trainingdata import TrainingData
from smelt.models.backbones import build, clear_heads, head_names, require_weights
from smelt.models.pair import Pair
from smelt.models.preprocessing import Inputs, said
from smelt.models.weightfile import MODEL
from smelt.models.weights import Loaded, inputs_of, load

MOST_NETWORKS = 2  # of one model
CACHE_MIB = 256  # decoded pixels kept in memory; small sets fit, large ones are read anew


def fix_numerics(threads: int, deterministic: bool, device: torch.device) -> None:
    """Threads and algorithms such that equal work gives equal bits."""
    torch.set_num_threads(max(1, threads))  # never the machine's number: it is in no key
    # on a GPU a few operations have no deterministic form: they warn, and the rest still is
    torch.use_deterministic_algorithms(deterministic, warn_only=device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself, not by way of float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def training_data(
    catalogue: Catalogue, selection: Selection, loader: Loader, settings: TrainSettings
) -> TrainingData:
    """The kept rows of a selection, with their labels and weights, and the labelled validation rows.

    DataError if nothing is kept or a label is outside the classes.
    """
    kept = selection.kept & (selection.weights > 0)
    rows, labels = selection.rows[kept], selection.labels[kept]
    if not len(rows):
        raise DataError("the selection keeps no image to learn from")
    wrong = (labels < 0) | (labels >= selection.num_classes)
    if wrong.any():
        row = int(rows[wrong][0])
        raise DataError(
            f"the selection keeps {int(wrong.sum())} labels not in 0..{selection.num_classes - 1}; "
            f"the first is row {row} ({catalogue.path(row)}), label {int(labels[wrong][0])}"
        )
    if selection.soft is not None and bool((selection.soft.classes_NK >= selection.num_classes).any()):
        raise DataError(
            f"the selection teaches some rows softly as class {int(selection.soft.classes_NK.max())}, and "
            f"its classes are 0..{selection.num_classes - 1}: select again"
        )
    labels_N = np.full(catalogue.num_rows, -1, np.int32)
    labels_N[rows] = labels
    weights_N = None
    if (selection.weights[kept] != 1.0).any():
        weights_N = np.zeros(catalogue.num_rows, np.float32)
        weights_N[rows] = selection.weights[kept]
    validation = catalogue.rows("val")
    validation = validation[catalogue.labels_N[validation] >= 0]
    return TrainingData(
        loader=loader,
        sampler=ClassBalancedSampler(
            rows, labels, images_per_class=settings.images_per_class, seed=settings.seed
        ),
        labels_N=labels_N,
        weights_N=weights_N,
        validation_rows=validation,
        validation_labels=catalogue.labels_N[validation],
        num_classes=len(catalogue.classes),
        num_outputs=selection.num_classes,
        soft=selection.soft,
    )


def unlabelled(selection: Selection, seed: int) -> ClassBalancedSampler | None:
    """The rows that were dropped as probably wrong: their images are of some class, and only their labels are
    in doubt. None where there are none."""
    codes = [code for code, word in enumerate(selection.words) if for_its_score(word) and word != "outside"]
    rows = selection.rows[~selection.kept & np.isin(selection.reasons, codes)]
    if not len(rows):
        return None
    return ClassBalancedSampler(rows, np.zeros(len(rows), np.int32), images_per_class=None, seed=seed)


def make_loader(
    catalogue: Catalogue, root: Path | None, *, workers: int, seed: int = 0, max_bad: float = 0.01
) -> Loader:
    """A loader of the catalogue's images below `root`."""
    store = ImageStore(catalogue, root)
    return Loader(store, workers=workers, seed=seed, cache_mib=CACHE_MIB, max_bad=max_bad)


def new_model(settings: TrainSettings, num_classes: int, networks: int = 1) -> nn.Module:
    """A freshly initialised model; the same for the same seed. A Pair of two `networks`."""
    torch.manual_seed(settings.seed)
    nets = [_new_net(settings, num_classes) for _ in range(networks)]
    return nets[0] if networks == 1 else Pair(nets)


def _new_net(settings: TrainSettings, num_classes: int) -> nn.Module:
    return build(
        settings.backbone,
        num_classes,
        small_stem=settings.small_stem,
        image_size=settings.image_size,
        drop_rate=settings.drop_rate,
        drop_path_rate=settings.drop_path_rate,
        pretrained=settings.pretrained,
    )


def begun_model(
    settings: TrainSettings, num_classes: int, start: Path | None = None, networks: int = 1
) -> tuple[nn.Module, Inputs, Loaded | None]:
    """A model as its training begins, what it is to be shown, and what was loaded from elsewhere.

    start: a train artefact to fine-tune from; it goes before `weights`. Images are shown as the weights want
    it; those of a net without any as ImageNet's custom is. A head of other classes begins at zero. DataError
    for weights that do not fit.
    """
    model = new_model(settings, num_classes, networks)
    if start is not None:
        return model, saved_inputs(start), None
    if settings.weights is not None:
        weights = Path(settings.weights) if os.path.isabs(settings.weights) else settings.weights
        loaded = load(model, settings.backbone, weights)
        if head_names(model) & set(loaded.left):
            clear_heads(model)
        return model, loaded.inputs, loaded
    if settings.pretrained:
        if require_weights(settings.backbone).num_classes != num_classes:
            clear_heads(model)
        return model, inputs_of(settings.backbone), None
    return model, Inputs(), None


def saved_inputs(folder: Path) -> Inputs:
    """How the model of a train artefact was shown its images."""
    info = read_json(folder / MODEL)
    return Inputs().with_said({"size": info.get("image_size", Inputs().size), **said(info)})


def model_json(
    settings: TrainSettings, num_classes: int, weights: str, inputs: Inputs | None = None
) -> dict[str, Any]:
    """What `saved_model` needs to build the model again, and how it is shown images."""
    shown = (inputs or Inputs()).to_json()
    return {
        "backbone": settings.backbone,
        "name": f"{settings.backbone}-{settings.seed}",
        "image_size": settings.image_size,
        "num_classes": num_classes,
        "small_stem": settings.small_stem,
        "weights": weights,
        "mean": shown["mean"],
        "std": shown["std"],
        "interpolation": shown["interpolation"],
        **({"networks": settings.semi.networks} if settings.semi and settings.semi.networks > 1 else {}),
    }


def saved_model(folder: Path, weights: str = "default") -> nn.Module:
    """The model of a train artefact, with its "raw" or "ema" weights, or the ones it names ("default")."""
    info = read_json(folder / "model.json")
    try:
        nets = [
            build(
                info["backbone"],
                info["num_classes"],
                small_stem=info["small_stem"],
                image_size=info["image_size"],
            )
            for _ in range(min(int(info.get("networks", 1)), MOST_NETWORKS))
        ]
        model = nets[0] if len(nets) == 1 else Pair(nets)
        path = weights_file(folder, info["weights"] if weights == "default" else weights)
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{folder / 'model.json'} does not describe a model: {error!r}") from error
    left = load_weights(model, read_tensors(path), str(path))
    if left:
        raise ArtifactError(f"{path} holds other shapes than {folder / 'model.json'} says: {left[0]}")
    return model


def weights_file(folder: Path, weights: str) -> Path:
    """The file with the "raw" or "ema" weights of a train artefact; ArtifactError if it has none."""
    path = folder / ("ema.safetensors" if weights == "ema" else "model.safetensors")
    if not path.is_file():
        raise ArtifactError(f"{folder} has no {weights} weights: it was trained without ema_decay")
    return path


def start_from(model: nn.Module, folder: Path) -> bool:
    """Take up the weights of a train artefact for fine-tuning. A head of another number of classes stays as
    it was initialised: True then. ArtifactError if it is another model."""
    path = weights_file(folder, str(read_json(folder / "model.json")["weights"]))
    left = load_weights(model, read_tensors(path), str(path))
    other = set(left) - head_names(model)
    if other:
        raise ArtifactError(f"{path} holds another model: {sorted(other)[0]} has another shape")
    return bool(left)
