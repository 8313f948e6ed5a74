"""Whether nets can be built and take images of the sizes that they will be shown: on torch's meta device.

A process of its own (`python -m smelt.models.trial`, JSON in and out): who asks need not import torch.
A net is refused only for what it says itself; where the meta device cannot tell, it is tried on the CPU.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from smelt.models.replies import reply

LOOK_SECONDS = 30.0  # for sizes that all nets would take
GRID = 32  # pixels: most nets halve the image five times
USUAL = (64, 128, 160, 192, 224, 256)
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
    frozen_stages: int = 0
    networks: int = 1  # of a pair that learns together
    layers: bool = False  # whether its layers are to have rates of their own


@dataclass
class Verdict:
    """What came of a net.

    build: why it cannot be built, "" if it can. sizes: (train or shown, size, why not). weights, values: how
    many numbers its parameters have, and all of its state. start: why it cannot take up the weights of the
    other.
    """

    build: str = ""
    sizes: list[tuple[str, int, str]] = field(default_factory=list)
    weights: int = 0
    values: int = 0
    start: str = ""


@dataclass
class Mend:
    """Sizes that nets have been tried with and take, all of them together.

    train: sizes that each is to learn from, in order; it is made for the largest; [] for one that learns
    nothing. shown: the sizes asked for that each can be shown then. size: one for all views of other sizes.
    """

    train: list[list[int]]
    shown: list[int]
    size: int


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
    from smelt.models.layers import first_stages, layers

    verdict = Verdict()
    try:
        if net.pretrained:
            require_weights(net.backbone)
        model = _built(net)
        first_stages(model, net.frozen_stages)
        if net.layers:
            layers(model)
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
    from smelt.models.pair import Pair

    nets = [
        build(
            net.backbone,
            net.outputs,
            small_stem=net.small_stem,
            image_size=net.image_size,
            drop_rate=net.drop_rate,
            drop_path_rate=net.drop_path_rate,
        )
        for _ in range(net.networks)
    ]
    return nets[0] if len(nets) == 1 else Pair(nets)


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


def mend(nets: Sequence[Net]) -> Mend | None:
    """Sizes that all nets take: what was asked for as far as it goes, and one size for the rest.

    A net that does not take the size that it is made for is made anew for each that is tried, since the sizes
    that it takes go by that one. None where no size was found in time.
    """
    until = time.monotonic() + LOOK_SECONDS
    asked = [_as_asked(net) for net in nets]
    for size in _candidates(nets):
        made: list[tuple[Any, Net]] = []
        for net, (model, learnt) in zip(nets, asked, strict=True):
            if time.monotonic() > until:
                return None
            if (one := _made_to_take(size, net, model, learnt)) is None:
                break
            made.append(one)
        if len(made) == len(nets):
            views = sorted({size for net in nets for size in net.shown})
            shown = [v for v in views if not any(_refused(model, net, "shown", v) for model, net in made)]
            return Mend([list(net.train) for _, net in made], shown, size)
    return None


def _as_asked(net: Net) -> tuple[Any, tuple[int, ...]]:
    """The net (None where it cannot be built) and the sizes asked for that it can learn from; none where it
    does not take the one that it is made for."""
    try:
        model = _built(net)
    except Exception:
        return None, ()
    learnt = tuple(size for size in net.train if not _refused(model, net, "train", size))
    takes = net.image_size in learnt and not _refused(model, net, "shown", net.image_size)
    return model, learnt if takes else ()


def _made_to_take(size: int, net: Net, model: Any, learnt: tuple[int, ...]) -> tuple[Any, Net] | None:
    """(net, what it is) that takes `size` at test time: as it was asked for, or made anew for `size`."""
    if model is not None and (learnt or not net.train) and not _refused(model, net, "shown", size):
        return model, replace(net, train=learnt)
    if not net.train:
        return None  # it has its weights already
    anew = replace(net, image_size=size, train=(size,))
    try:
        model = _built(anew)
    except Exception:
        return None
    return None if any(_refused(model, anew, mode, size) for mode in ("train", "shown")) else (model, anew)


def _candidates(nets: Sequence[Net]) -> list[int]:
    """Sizes to try: those that nets are made for, those next to them, their own of timm, the usual ones."""
    made_for = list(dict.fromkeys(net.image_size for net in nets))
    next_to = [near for size in made_for for near in ((size - 1) // GRID * GRID, size // GRID * GRID + GRID)]
    own = [size for net in nets if (size := _own_size(net.backbone))]
    rest = sorted(USUAL, key=lambda size: abs(size - made_for[0]) if made_for else size)
    return [size for size in dict.fromkeys([*made_for, *next_to, *own, *rest]) if size > 0]


def _own_size(backbone: str) -> int:
    """The size that timm made the net for; 0 where it does not say."""
    import timm

    config = timm.models.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    return int(config.input_size[-1]) if config is not None else 0


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
    """What `main` writes: the verdicts on `nets`; how many GPUs torch sees if `gpus` is asked; if one of them
    was refused, sizes that all nets in `together` take."""
    verdicts = judge(_nets(question.get("nets", ())))
    told: dict[str, Any] = {"verdicts": [asdict(verdict) for verdict in verdicts]}
    if any(verdict.build or verdict.sizes for verdict in verdicts):
        found = mend(together) if (together := _nets(question.get("together", ()))) else None
        told["mend"] = asdict(found) if found else None
    if question.get("gpus"):
        import torch

        told["gpus"] = torch.cuda.device_count()
    return told


def _nets(given: Sequence[Mapping[str, Any]]) -> list[Net]:
    return [
        Net(**{**net, "train": tuple(net.get("train", ())), "shown": tuple(net.get("shown", ()))})
        for net in given
    ]


def main() -> None:
    """Read a question from standard input, write the answer to standard output."""
    reply(answer)


if __name__ == "__main__":
    main()
