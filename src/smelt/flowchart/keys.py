"""The key of a stage: a hash of all that decides its bytes, and of nothing else.

No clock, no path, no host, no name given by people. A key holds the keys of its inputs, so it stands for the
whole history of an artefact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smelt.files.atomic import sha256_text
from smelt.settings import canonical

KEY_LENGTH = 20  # hex digits: 80 bits, so that even a million artefacts meet with a chance below 1e-12


def key_of(
    stage: str,
    version: int,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Sequence[str]],
    external: Mapping[str, str],
    device: str = "",
) -> str:
    """The key; `inputs` are keys by port (the order on a port counts), `external` content fingerprints.

    `device` is the kind of processor (`cpu`, `cuda`) where the bytes depend on it, else "".
    """
    identity = {
        "stage": stage,
        "version": version,
        "settings": dict(settings),
        "inputs": {port: list(keys) for port, keys in inputs.items() if keys},
        "external": dict(external),
        **({"device": device} if device else {}),
    }
    return sha256_text(canonical(identity))[:KEY_LENGTH]
