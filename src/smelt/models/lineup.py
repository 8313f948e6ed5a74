"""Names of backbones, known without importing torch or timm: a misspelt one is refused before any work."""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import cache
from pathlib import Path

from smelt.files.opening import read_text

# What `backbones.py` builds by names of its own
PRESETS = (
    "resnet50", "resnet101", "resnet152", "resnext152", "resnest269", "se_resnet154", "senet154",
    "se_resnext152", "efficientnet_b0", "efficientnet_b4",
    "resnet8", "resnet14", "resnet20", "se_resnet14", "resnext20",
)  # fmt: skip


def unknown(name: str) -> str:
    """Why no backbone has this name, with the nearest ones; "" for one that exists."""
    if name in PRESETS:
        return ""
    names, deprecated, tags = _of_timm()
    architecture, dot, tag = name.partition(".")
    if architecture in names:
        known = tags.get(architecture, ())
        if not dot or not known or tag in known:
            return ""
        near = difflib.get_close_matches(tag[:100], known, n=1, cutoff=0.5)
        told = f"did you mean {architecture}.{near[0]}?" if near else f"there are {', '.join(known[:8])}"
        return f"timm has {architecture}, and no weights of it with the tag {tag!r}: {told}"
    if architecture.isidentifier() and f"'{architecture}'" in deprecated:
        return ""
    known = tuple(dict.fromkeys([*PRESETS, *sorted(names)]))
    near = difflib.get_close_matches(name[:100], known, n=3, cutoff=0.5)
    if near:
        return f"no backbone is called {name!r}, did you mean {' or '.join(map(repr, near))}?"
    return f"no backbone is called {name!r} (presets: {', '.join(PRESETS)}; or any name of timm's)"


@cache
def _of_timm() -> tuple[frozenset[str], str, dict[str, tuple[str, ...]]]:
    """Functions that timm registers as models, its text about names of old, and the tags of weights by model,
    as far as they are written out; from its source files."""
    found = importlib.util.find_spec("timm")
    folders = (found.submodule_search_locations if found else None) or ()
    texts = [read_text(path) for folder in folders for path in sorted(Path(folder, "models").glob("*.py"))]
    names = [name for text in texts for name in re.findall(r"^@register_model\s+def (\w+)\(", text, re.M)]
    old = [part for text in texts for part in text.split("register_model_deprecations(")[1:]]
    tags: dict[str, list[str]] = {}
    for text in texts:
        for name, tag in re.findall(r"""['"](\w+)\.([\w.-]+)['"]\s*:""", text):
            tags.setdefault(name, []).append(tag)
    return frozenset(names), "\n".join(old), {name: tuple(known) for name, known in tags.items()}
