"""Whether nets can be built and take images of the sizes that they will be shown: on torch's meta device.

A process of its own (`python -m smelt.models.trial`, JSON in and out): who asks need not import torch.
A net is refused only for what it says itself; where the meta device cannot tell, it is tried on the CPU.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

LOOK_SECONDS = 4.0  # for sizes that a net would take
STEPS = (32, 16, 14, 8, 1)
# What the meta device has no kernel for, or no values: nothing that the net itself says
META_CANNOT = ("meta", "Meta", "fake tensor", "data-dependent")


@dataclass(frozen=True)
class Net:
    """A net to try. outputs: classes; train: input sizes it learns from, `batch` images at once (of one
    process); shown: input sizes of views; start: the place in the list of the net whose weights it takes."""

    backbone: str
    outputs: int
    image_size: int
    small_stem: bool | Literal["auto"] = "auto"
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    pretrained: bool = False
    batch: int = 2
    train: tuple[int, ...] = ()
    shown: tuple[int, ...] = ()
    start: int | None = None


@dataclass
class Verdict:
    """What came of a net.

    build: why it cannot be built, "" if it can. sizes: (train or shown, size, why not). fits: sizes near
    those that it does take. weights, values: how many numbers its parameters have, and all of its state.
    start: why it cannot take up the weights of the other.
    """

    build: str = ""
    sizes: list[tuple[str, int, str]] = field(default_factory=list)
    fits: list[int] = field(default_factory=list)
    weights: int = 0
    values: int = 0
    start: str = ""


def judge(nets: Sequence[Net]) -> list[Verdict]:
    """A verdict on every net, in order."""
    shapes: list[dict[str, tuple[int, ...]]] = []
    verdicts: list[Verdict] = []
    for net in nets:
        verdict, known = _try(net)
        if net.start is not None and not verdict.build and not verdicts[net.start].build:
            verdict.start = _differs(known, shapes[net.start])
        shapes.append(known)
        verdicts.append(verdict)
    return verdicts


def _try(net: Net) -> tuple[Verdict, dict[str, tuple[int, ...]]]:
    from smelt.models.backbones import head_names, num_parameters, require_weights

    verdict = Verdict()
    try:
        if net.pretrained:
            require_weights(net.backbone)
        model = _built(net)
    except Exception as error:  # whatever a constructor finds wrong
        verdict.build = _words(error)
        return verdict, {}
    state = model.state_dict()
    verdict.weights = num_parameters(model)
    verdict.values = sum(value.numel() for value in state.values())
    asked = [("train", size) for size in net.train] + [("shown", size) for size in net.shown]
    for mode, size in dict.fromkeys(asked):
        if why := _refused(model, net, mode, size):
            verdict.sizes.append((mode, size, why))
    if verdict.sizes:
        verdict.fits = _fitting(model, net, [size for _, size, _ in verdict.sizes])
    heads = head_names(model)
    return verdict, {name: tuple(value.shape) for name, value in state.items() if name not in heads}


def _built(net: Net) -> Any:
    """The net on the meta device, or on the CPU where its constructor needs values."""
    import torch

    try:
        with torch.device("meta"):
            return _made(net)
    except Exception as error:
        if not _meta_cannot(error):
            raise
        return _made(net)


def _made(net: Net) -> Any:
    from smelt.models.backbones import build

    return build(
        net.backbone,
        net.outputs,
        small_stem=net.small_stem,
        image_size=net.image_size,
        drop_rate=net.drop_rate,
        drop_path_rate=net.drop_path_rate,
    )


def _refused(model: Any, net: Net, mode: str, size: int) -> str:
    """Why the net does not take images of that size; "" if it does."""
    try:
        return _pass(model, net, mode, size)
    except Exception as error:
        if not _meta_cannot(error):
            return _words(error)
    try:
        return _pass(_made(net), net, mode, size)
    except Exception as error:
        return _words(error)


def _pass(model: Any, net: Net, mode: str, size: int) -> str:
    import torch

    device = next(model.parameters()).device
    model.train(mode == "train")
    count = min(net.batch, 2) if mode == "train" else 1
    with torch.no_grad():
        logits = model(torch.empty(count, 3, size, size, device=device))
    if not isinstance(logits, torch.Tensor):
        return f"it gives {type(logits).__name__}, not the scores of classes"
    if tuple(logits.shape) != (count, net.outputs):
        given = tuple(logits.shape[1:])
        return f"it is no classifier: it gives {given} values for an image, not ({net.outputs},)"
    return ""


def _fitting(model: Any, net: Net, wrong: Sequence[int]) -> list[int]:
    """Sizes that the net takes in training and at test time: the next below and above each of `wrong`.

    Where it cannot take the size that it is made for, it is made anew for each that is tried.
    """
    until = time.monotonic() + LOOK_SECONDS
    found: set[int] = set()
    anew = net.image_size in wrong

    def fits(size: int) -> bool:
        if size < 1 or time.monotonic() > until:
            return False
        try:
            tried = _built(replace(net, image_size=size)) if anew else model
        except Exception:
            return False
        return not any(_refused(tried, net, mode, size) for mode in ("train", "shown"))

    for size in dict.fromkeys(wrong):
        for step in STEPS:
            below = (size - 1) // step * step
            above = size // step * step + step
            near = [other for other in (below, above, above + step) if fits(other)]
            found.update(near[:2])
            if near:
                break
    if not found:
        found.update(next(([size] for size in (net.image_size, 64, 128, 224, 256) if fits(size)), []))
    return sorted(found - set(wrong))


def _differs(own: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]]) -> str:
    """Why a net cannot take up the weights of another; heads are left out, they may differ."""
    if strange := sorted(set(own) ^ set(other)):
        return f"one has {strange[0]}, the other has not"
    if unequal := [name for name in own if own[name] != other[name]]:
        name = unequal[0]
        return f"{name} has the shape {own[name]}, and {other[name]} in the other"
    return ""


def _meta_cannot(error: Exception) -> bool:
    return isinstance(error, NotImplementedError) or any(word in str(error) for word in META_CANNOT)


def _words(error: Exception) -> str:
    """The first line of an error, without the shapes of everything."""
    text = str(error).strip().partition("\n")[0]
    return text[:300] or type(error).__name__


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """What `main` writes: the verdicts on `nets`, and how many GPUs torch sees if `gpus` is asked."""
    nets = [
        Net(**{**net, "train": tuple(net.get("train", ())), "shown": tuple(net.get("shown", ()))})
        for net in question.get("nets", ())
    ]
    told: dict[str, Any] = {"verdicts": [asdict(verdict) for verdict in judge(nets)]}
    if question.get("gpus"):
        import torch

        told["gpus"] = torch.cuda.device_count()
    return told


def main() -> None:
    """Read a question from standard input, write the answer to standard output."""
    warnings.simplefilter("ignore")
    out = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no part of the answer
    told = answer(json.load(sys.stdin))
    with os.fdopen(out, "w") as file:
        json.dump(told, file)


if __name__ == "__main__":
    main()
