"""Which tensor of somebody's file is which of a net: by names, by known other names, by order of shapes.

Names and shapes only; nothing here knows torch. A net's own last layers (its head) may be missing or of
another number of classes; everything else has to be there, in its shape.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

COUNTED = "num_batches_tracked"  # of batch norms: older files lack it, and it decides nothing
# last layers, as other tools call them
HEAD = re.compile(
    r"(^|\.)(_?fc|classifier(\.\d+)?|heads?(\.(head|fc|l))?|last_linear|linear|logits|output)\.(weight|bias)$"
)
KINDS = {
    "weight": "weight", "gamma": "weight", "bias": "bias", "beta": "bias", "running_mean": "running_mean",
    "moving_mean": "running_mean", "running_var": "running_var", "moving_variance": "running_var",
}  # fmt: skip
# of two that fit alike, the average or the teacher is what is used; the key of momentum contrast is not
BETTER = ("ema", "teacher")
WORSE = ("encoder_k", "momentum", "student", "target")

# torchvision's VisionTransformer (its other nets fit by order, or have timm's names)
_TORCHVISION_VIT = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:linear_1|0)\.", r"blocks.\1.mlp.fc1."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:linear_2|3)\.", r"blocks.\1.mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.head\.", "head."),
)
# lukemelas' and pytorchcv's way with batch norms and the like is left to the order
RENAMINGS: Mapping[str, tuple[tuple[str, str], ...]] = {"torchvision's names": _TORCHVISION_VIT}


@dataclass(frozen=True)
class Match:
    """pairs: own name → name in the file. left: own names that stay as they are → why. how: in words.

    Where `problem` is not empty the file does not fit; `fitting` is how many tensors would, of `wanted`.
    """

    pairs: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    how: str = ""
    problem: str = ""
    fitting: int = 0
    wanted: int = 0


def match(found: Shapes, own: Shapes, heads: Collection[str], may_differ: Collection[str] = ()) -> Match:
    """The first way in which everything of `own` but its heads is `found`; else how near the best one came.

    may_differ: own names that may be of another shape, as the first layer is under a stem for small images.
    """
    best = Match(problem="it holds no tensor" if not found else "no name in it is one of the net's")
    for prefix in _prefixes(found, own):
        names = {name.removeprefix(prefix): name for name in found if name.startswith(prefix)}
        how = "by name" + (f", below {prefix!r}" if prefix else "")
        one = _by_name(names, found, own, heads, may_differ, how)
        if not one.problem:
            return one
        best = max(best, one, key=lambda found: found.fitting)
    for said, rules in RENAMINGS.items():
        for prefix in _tops(found):
            names = {
                _renamed(name.removeprefix(prefix), rules): name for name in found if name.startswith(prefix)
            }
            one = _by_name(names, found, own, heads, may_differ, f"by {said}")
            if not one.problem:
                return one
    for prefix in _tops(found):
        if ordered := _by_order(found, own, heads, may_differ, prefix):
            return ordered
    return best


def same(one: Shape, other: Shape) -> bool:
    """Whether shapes agree but for axes of length 1: a linear layer is a convolution of one pixel."""
    return one == other or _squeezed(one) == _squeezed(other)


def _squeezed(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


def _prefixes(found: Shapes, own: Shapes) -> list[str]:
    """What stands before the names of `own` in `found`: the prefix under which most fit comes first."""
    counts: Counter[str] = Counter()
    for name, shape in found.items():
        for at in (0, *(dot.end() for dot in re.finditer(r"\.", name))):
            rest = name[at:]
            if rest in own and same(own[rest], shape):
                counts[name[:at]] += 1
    order = {prefix: place for place, prefix in enumerate(counts)}
    return sorted(counts, key=lambda prefix: (-counts[prefix], _liking(prefix), order[prefix]))[:8]


def _liking(prefix: str) -> int:
    if any(word in prefix for word in BETTER):
        return 0
    return 2 if any(word in prefix for word in WORSE) else 1


def _tops(found: Shapes) -> Iterator[str]:
    """Prefixes that a whole net may stand behind: none, and the beginnings that most names have."""
    yield ""
    counts = Counter(
        ".".join(parts[:depth]) + "."
        for parts in (name.split(".") for name in found)
        for depth in (1, 2)
        if len(parts) > depth
    )
    likely = [prefix for prefix, count in counts.items() if 2 * count > len(found) or _liking(prefix) != 1]
    yield from sorted(likely, key=lambda prefix: (_liking(prefix), -counts[prefix]))[:6]


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, to in rules:
        name, changed = re.subn(pattern, to, name)
        if changed:
            break
    return name


def _by_name(
    names: Mapping[str, str],
    found: Shapes,
    own: Shapes,
    heads: Collection[str],
    may_differ: Collection[str],
    how: str,
) -> Match:
    """names: name as the net would have it → name in the file."""
    pairs: dict[str, str] = {}
    left: dict[str, str] = {}
    missing: list[str] = []
    differing: list[str] = []
    trunk = [name for name in own if name not in heads and not name.endswith(COUNTED)]
    for name in own:
        there = names.get(name)
        if there is not None and same(found[there], own[name]):
            pairs[name] = there
        elif name in heads:
            continue
        elif there is not None and name in may_differ:
            left[name] = f"{list(found[there])} there, {list(own[name])} here"
        elif not name.endswith(COUNTED):
            (missing if there is None else differing).append(name)
    fitting = sum(name in pairs for name in trunk)
    more = _more(names, pairs, trunk)
    if missing or differing or more:
        said = [f"{fitting:,} of {len(trunk):,} tensors fit by name"]
        if missing:
            said.append(f"it lacks {_named(missing)}")
        if differing:
            name = differing[0]
            said.append(f"{name} is {list(found[names[name]])} there and {list(own[name])} here")
        if more:
            said.append(f"it has {_named(more)}, which the net has not")
        return Match(problem="; ".join(said), fitting=fitting, wanted=len(trunk))
    _heads(pairs, left, found, own, heads)
    return Match(pairs, left, how, "", fitting, len(trunk))


def _more(names: Mapping[str, str], pairs: Mapping[str, str], trunk: list[str]) -> list[str]:
    """What a larger net has in the parts that the smaller one has too: not what is beside the net."""
    parts = {name.partition(".")[0] for name in trunk}
    return [
        name
        for name in names
        if name not in pairs
        and name.rpartition(".")[2] in KINDS
        and name.partition(".")[0] in parts
        and not HEAD.search(name)
    ]


def _by_order(
    found: Shapes, own: Shapes, heads: Collection[str], may_differ: Collection[str], prefix: str
) -> Match | None:
    """Where as many tensors as the net has come in its order, all of its shapes and kinds."""
    mine = [name for name in own if name not in heads and not name.endswith(COUNTED)]
    theirs = [name for name in found if name.startswith(prefix) and not name.endswith(COUNTED)]
    called = [name for name in theirs if HEAD.search(name)]
    last = [name for name in theirs[-2:] if name in called]  # what is called so may have hidden layers
    for head in (last, called, []):
        trunk = [name for name in theirs if name not in head]
        if not mine or len(trunk) != len(mine):
            continue
        both = list(zip(mine, trunk, strict=True))
        left = {
            name: f"{list(found[there])} there, {list(own[name])} here"
            for name, there in both
            if not same(own[name], found[there])
        }
        if set(left) <= set(may_differ) and all(_kind(name) == _kind(there) for name, there in both):
            pairs = {name: there for name, there in both if name not in left}
            _counters(pairs, found, own)
            _heads(pairs, left, found, own, heads)
            return Match(pairs, left, "by the order of their shapes", "", len(mine), len(mine))
    return None


def _kind(name: str) -> str:
    """What a tensor is by the end of its name; "weight" for a scale that has a name of its own."""
    last = name.rpartition(".")[2]
    return KINDS.get(last, "bias" if last.endswith("bias") else "weight")


def _counters(pairs: dict[str, str], found: Shapes, own: Shapes) -> None:
    """The counters of batch norms go where the norms' means went."""
    for name, there in list(pairs.items()):
        mine = f"{name.rpartition('.')[0]}.{COUNTED}"
        theirs = f"{there.rpartition('.')[0]}.{COUNTED}"
        if mine in own and theirs in found:
            pairs[mine] = theirs


def _heads(
    pairs: dict[str, str], left: dict[str, str], found: Shapes, own: Shapes, heads: Collection[str]
) -> None:
    """Pair the net's head with the file's, whatever it is called there; say why where it is left."""
    rest = {name: shape for name, shape in found.items() if name not in set(pairs.values())}
    theirs = [name for name in rest if HEAD.search(name)]
    for name in heads:
        if name in pairs:
            continue
        kind = _kind(name)
        alike = [
            there for there in theirs if _kind(there) == kind and _width(rest[there]) == _width(own[name])
        ]
        if len(heads) == 2 and len(alike) == 1 and same(rest[alike[0]], own[name]):
            pairs[name] = alike[0]
        elif alike:
            left[name] = f"{rest[alike[0]][0]:,} classes there, {own[name][0]:,} here"
        else:
            left[name] = "it has no such head"
    both = [name for name in heads if name in pairs]
    if both and len(both) < len(heads):  # half a head is none
        for name in both:
            del pairs[name]
            left[name] = "the rest of the head does not fit"


def _width(shape: Shape) -> Shape:
    """What a last layer reads: its shape without the classes."""
    return _squeezed(shape)[1:]


def _named(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")
