"""Names of backbones, known without importing torch or timm: a misspelt one is refused before any work."""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import cache
from pathlib import Path

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
    names, deprecated = _of_timm()
    architecture = name.partition(".")[0]
    if architecture in names or (architecture.isidentifier() and f"'{architecture}'" in deprecated):
        return ""
    known = list(dict.fromkeys([*PRESETS, *sorted(names)]))
    near = difflib.get_close_matches(name[:100], known, n=3, cutoff=0.5)
    if near:
        return f"no backbone is called {name!r}, did you mean {' or '.join(map(repr, near))}?"
    return f"no backbone is called {name!r} (presets: {', '.join(PRESETS)}; or any name of timm's)"


@cache
def _of_timm() -> tuple[frozenset[str], str]:
    """Functions that timm registers as models, and its text about names of old; from its source files."""
    found = importlib.util.find_spec("timm")
    folders = (found.submodule_search_locations if found else None) or ()
    texts = [
        path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted(Path(folder, "models").glob("*.py"))
    ]
    names = [name for text in texts for name in re.findall(r"^@register_model\s+def (\w+)\(", text, re.M)]
    old = [part for text in texts for part in text.split("register_model_deprecations(")[1:]]
    return frozenset(names), "\n".join(old)
