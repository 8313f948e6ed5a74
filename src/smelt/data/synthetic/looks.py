"""What each class looks like and is called: shape × texture × colour, in groups alike but for one.

With G groups, n = ⌈G^(1/3)⌉ families of each attribute are used and the groups are combinations of them, so
that no one attribute, nor two, tell a class from all others. The four classes of a group share two
attributes and are the four variants of the third. The last classes may be 'abstract': pictures of anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smelt.data.synthetic.config import GROUP_SIZE, SyntheticSettings
from smelt.data.synthetic.shapes import SHAPES, TEXTURES

VARIANTS = GROUP_SIZE
ACCENTS = (55.0, 120.0, 180.0, 285.0)  # degrees from the main hue to the accent's
# twelve hues, 30° apart, each with its four accents
COLOURS: tuple[tuple[str, str, str, str], ...] = (
    ("scarlet", "crimson", "cherry", "ruby"),
    ("orange", "tangerine", "amber", "apricot"),
    ("yellow", "lemon", "saffron", "straw"),
    ("lime", "chartreuse", "pear", "moss"),
    ("green", "leaf", "clover", "fern"),
    ("emerald", "jade", "mint", "malachite"),
    ("cyan", "turquoise", "teal", "aqua"),
    ("azure", "sky", "cornflower", "cerulean"),
    ("blue", "cobalt", "sapphire", "navy"),
    ("violet", "indigo", "iris", "lavender"),
    ("purple", "magenta", "orchid", "plum"),
    ("pink", "rose", "fuchsia", "blush"),
)
ABSTRACT = ("serendipity", "kindness", "progress", "novelty", "melancholy", "harmony", "irony", "freedom")


@dataclass(frozen=True)
class Look:
    """Family and variant of shape, texture and colour."""

    shape: int
    shape_variant: int
    texture: int
    texture_variant: int
    colour: int
    accent: int

    @property
    def name(self) -> str:
        shape = SHAPES[self.shape][1][self.shape_variant][0]
        return (
            f"{COLOURS[self.colour][self.accent]} {TEXTURES[self.texture][1][self.texture_variant]} {shape}"
        )


@dataclass(frozen=True)
class ClassTable:
    """looks: one per class that can be learnt; names: of all classes. By label, the abstract ones last."""

    looks: tuple[Look, ...]
    names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.names)


def class_table(settings: SyntheticSettings) -> ClassTable:
    """The classes of a data set; a function of seed, `classes` and `abstract_classes`."""
    rng = np.random.default_rng([settings.seed, 1])
    concrete = settings.classes - settings.abstract_classes
    groups = -(-concrete // GROUP_SIZE)
    families = next(n for n in range(2, 13) if n**3 >= groups)
    shapes, textures = (rng.permutation(12)[:families] for _ in range(2))
    # hues evenly around the circle, or two of three families of colour would be told apart by a shade
    colours = (rng.integers(12) + np.round(np.arange(families) * 12 / families).astype(int)) % 12
    looks = []
    for group, cell in enumerate(rng.permutation(families**3)[:groups]):
        s, t, c = np.unravel_index(int(cell), (families,) * 3)
        # a full shape where texture or colour must tell: a slender one shows too little of them
        fixed = rng.integers((2, 0, 0), VARIANTS)
        for variant in range(GROUP_SIZE):
            v = fixed.copy()
            v[group % 3] = variant
            looks.append(
                Look(int(shapes[s]), int(v[0]), int(textures[t]), int(v[1]), int(colours[c]), int(v[2]))
            )
    looks = looks[:concrete]
    abstract = [
        ABSTRACT[i % len(ABSTRACT)] + (f" {i // len(ABSTRACT) + 1}" if i >= len(ABSTRACT) else "")
        for i in range(settings.abstract_classes)
    ]
    return ClassTable(tuple(looks), (*(look.name for look in looks), *abstract))
