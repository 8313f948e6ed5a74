"""Whether pretrained weights can be had: from this machine's cache, else from where timm loads them.

A process of its own (`python -m smelt.models.pretrained`, names of backbones as JSON in, `{name: why not}`
out): who asks need not import torch. Asks a network only for what no cache has, for the head of a file, and
waits `LOOK_SECONDS` at most.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from smelt.errors import RecipeError, short
from smelt.models.replies import reply

LOOK_SECONDS = 10.0  # for all of them together
SAFE, PLAIN = "model.safetensors", "pytorch_model.bin"  # what timm looks for on the hub, in this order


def missing(names: Sequence[str], seconds: float = LOOK_SECONDS) -> dict[str, str]:
    """Why the weights of each backbone cannot be had; those that can, and those that nobody published (which
    `require_weights` says), are left out.

    seconds: for what has to be asked over a network. What libraries take to load does not count, nor what
    lies on this machine: on a busy one that alone may take longer.
    """
    import huggingface_hub  # noqa: F401  (here, and not in the threads whose time counts)

    from smelt.models.backbones import require_weights

    found: dict[str, str] = {}
    asked = []
    for name in dict.fromkeys(names):
        try:
            config = require_weights(name)
        except RecipeError:
            continue
        why = _here(config)
        if why is None:
            thread = threading.Thread(target=_look, args=(name, config, found), daemon=True)
            asked.append((name, thread))  # a name server may hang
        elif why:
            found[name] = why
    for _, thread in asked:
        thread.start()
    until = time.monotonic() + seconds
    for name, thread in asked:
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            found[name] = f"no answer within {seconds:g} s"
    return dict(found)


def _look(name: str, config: Any, found: dict[str, str]) -> None:
    if why := _on_hub(config) if config.hf_hub_id else _at_url(config.url):
        found[name] = why


def _here(config: Any) -> str | None:
    """Nothing to say ("") where the weights of timm's `config` are on this machine, why not where they can be
    nowhere else; None where a network has to be asked."""
    if config.state_dict or config.file:
        return "" if config.state_dict or Path(config.file).is_file() else f"there is no file {config.file}"
    old = os.environ.get("TIMM_USE_OLD_CACHE", "").lower() not in ("", "0", "false", "no", "off")
    if config.url and (old or not config.hf_hub_id) and _checkpoint(config.url).is_file():
        return ""
    return "" if config.hf_hub_id and _in_cache(config) else None


def _checkpoint(url: str) -> Path:
    """Where torch keeps what was loaded from `url`."""
    import torch

    return Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)


def _named(config: Any) -> tuple[str, str | None, list[str]]:
    """Repository on the hub, revision, and the files of which any will do."""
    repository, _, revision = str(config.hf_hub_id).partition("@")
    return repository, revision or None, [config.hf_hub_filename] if config.hf_hub_filename else [SAFE, PLAIN]


def _in_cache(config: Any) -> bool:
    import huggingface_hub as hub

    repository, revision, files = _named(config)
    held = (hub.try_to_load_from_cache(repository, file, revision=revision) for file in files)
    return any(isinstance(path, str) for path in held)


def _on_hub(config: Any) -> str:
    """Why the hub does not give the weights of `config`; "" if it does."""
    import huggingface_hub as hub

    repository, revision, files = _named(config)
    why = ""
    for file in files:
        try:
            hub.get_hf_file_metadata(
                hub.hf_hub_url(repository, file, revision=revision), timeout=LOOK_SECONDS / 2
            )
        except hub.errors.EntryNotFoundError:  # the hub answers, and may have the next
            why = why or f"{repository} has no {' or '.join(files)}"
        except Exception as error:  # of whatever library it goes over a network with
            return f"{_hub_says(repository, error)}; not in the cache {hub.constants.HF_HUB_CACHE}"
        else:
            return ""
    return why


def _hub_says(repository: str, error: Exception) -> str:
    import huggingface_hub as hub

    if isinstance(error, hub.errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, hub.errors.GatedRepoError):
        return f"{repository} asks for consent and a token"
    if isinstance(error, hub.errors.RepositoryNotFoundError):
        return f"{urlparse(hub.constants.ENDPOINT).netloc} has no {repository}"
    first = str(error).strip().partition("\n")[0]
    return f"{urlparse(hub.constants.ENDPOINT).netloc} cannot be reached ({short(first, 120)})"


def _at_url(url: str) -> str:
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, method="HEAD"), timeout=LOOK_SECONDS / 2):
            return ""
    except (OSError, ValueError) as error:
        return f"{urlparse(url).netloc} does not give them ({short(str(error), 120)})"


def main() -> None:
    """Read names from standard input, write why their weights cannot be had to standard output."""
    reply(missing)
    os._exit(0)  # threads that wait for a network wait no longer


if __name__ == "__main__":
    main()
