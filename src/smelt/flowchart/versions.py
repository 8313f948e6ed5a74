"""What an artefact was made with, and where different versions meet. Imports none of what it names."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from typing import Any

from smelt import __version__
from smelt.files.opening import read_text
from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.work import Work

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pyarrow",
    "pillow",
    "simplejpeg",
    "pillow-heif",
    "pi-heif",
)
# What arithmetic libraries choose their code by, the strongest first (names of Linux and of macOS)
CLASSES = (
    ("amx_bf16", "amx"), ("avx512_bf16", "avx512_bf16"), ("avx512f", "avx512"), ("avx2", "avx2"),
    ("sve", "sve"), ("asimd", "neon"),
)  # fmt: skip


@cache
def here() -> dict[str, str]:
    """Versions of smelt, Python and the libraries that are installed, and the class of processor."""
    found = {"smelt": __version__, "python": platform.python_version(), "processor": processor()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Architecture and widest vector unit, `x86_64 avx512`: what decides the last bits, and no more."""
    machine = platform.machine()
    try:
        text = read_text("/proc/cpuinfo", "replace")
    except OSError:
        return machine
    flags = {
        word
        for line in text.splitlines()
        if line.lower().startswith(("flags", "features"))
        for word in line.split(":", 1)[-1].split()
    }
    return next((f"{machine} {name}" for flag, name in CLASSES if flag in flags), machine)


def made_with(node: Node) -> dict[str, Any]:
    """What the manifest of `node` says made it: `here`, the library that decodes, device and threads."""
    from PIL import features

    decoder = features.version("libjpeg_turbo") or features.version("jpg")
    found: dict[str, Any] = {**here(), **({"libjpeg_turbo": decoder} if decoder else {})}
    if node.device:
        found |= {"device": _device(node.device), "threads": node.threads}
    return found


def _device(kind: str) -> str:
    """The kind of device, and which one where torch has one in use."""
    torch = sys.modules.get("torch")
    if kind != "cuda" or torch is None or not torch.cuda.is_available():
        return kind
    return f"{kind} ({torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda})"


def meetings(graph: Graph, work: Work, done: Iterable[str]) -> list[str]:
    """Where what one version made goes into what another makes: a line for each pair of versions.

    `done` are the ids of nodes whose artefact is there; the others would be made with what is here.
    """
    made: dict[str, Mapping[str, Any]] = {}
    for name in done:
        manifest = work.identity(graph[name].stage, graph.key(name)) or {}
        made[name] = manifest.get("made_with", {})
    pairs: dict[tuple[str, str, str], list[str]] = {}
    for node in graph:
        for parent in node.parents():
            old, new = made.get(parent, here()), made.get(node.id, here())
            for name in ("smelt", "python", "processor", *LIBRARIES):
                if name in old and name in new and old[name] != new[name]:
                    pairs.setdefault((name, old[name], new[name]), []).append(f"{parent} → {node.id}")
    return [
        f"{name} {old} meets {new}: {edges[0]}" + (f" and {len(edges) - 1} more" if len(edges) > 1 else "")
        for (name, old, new), edges in pairs.items()
    ]
