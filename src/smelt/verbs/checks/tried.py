"""What nets have been found to take already, so that another run need not build them again.

A file of this user's cache folder (`$XDG_CACHE_HOME/smelt`, or `~/.cache/smelt`), named by all that decides
the answer beside the net: versions of Python, torch and timm, and smelt's own modules that build nets. Only
what was found to work is kept: whoever is refused is asked again, and so are nets with weights to fetch,
which may be gone. Where the file cannot be read or written, or the user has no folder for it, every net is
tried, and that is all.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smelt.errors import SmeltError
from smelt.files.atomic import read_json, sha256_file, write_json
from smelt.flowchart.versions import here

MOST = 2000  # nets that are kept, the latest
LARGEST = 8 << 20  # bytes of a file that we wrote
HIGHEST = 1 << 48  # numbers in a net
SIZES = ("train", "shown")


class Tried:
    """Nets that were built and have taken their images. `net` is what models/trial.py reads as `Net`.

    path: the file; None to remember nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._nets = _read(path)

    @classmethod
    def here(cls) -> Tried:
        """Of this user, with what is installed."""
        folder = _folder()
        return cls(None if folder is None else folder / f"nets-{_made_with()}.json")

    def verdict(self, net: Mapping[str, Any]) -> dict[str, Any] | None:
        """The verdict on a net that takes all its sizes; None where it has to be tried."""
        known = self._nets.get(_name(net))
        if known is None or not set(_sizes(net)) <= set(known["sizes"]):
            return None
        return {
            "build": "", "sizes": [], "start": "",
            "weights": known["weights"], "values": known["values"],
        }  # fmt: skip

    def goes_on(self, was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
        """Whether `now` is known to take up the weights of `was`."""
        return _name(was, now) in self._nets

    def keep(
        self,
        nets: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
        pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    ) -> None:
        """Keep those of `nets` (net, verdict) that were found to work, and `pairs` (was, now) that go on."""
        found: dict[str, dict[str, Any]] = {}
        for net, verdict in nets:
            if not net.get("pretrained") and not verdict["build"]:
                name = _name(net)
                refused = {f"{mode} {size}" for mode, size, _ in verdict["sizes"]}
                known = found.get(name) or self._nets.get(name, {"sizes": []})
                sizes = sorted({*known["sizes"], *_sizes(net)} - refused)
                found[name] = {name: verdict[name] for name in ("weights", "values")} | {"sizes": sizes}
        found |= {_name(was, now): {"weights": 0, "values": 0, "sizes": []} for was, now in pairs}
        if all(self._nets.get(name) == one for name, one in found.items()):
            return
        latest = {**_read(self._path)}  # another run may have written since
        for name, one in found.items():
            latest.pop(name, None)
            latest[name] = one
        self._nets = dict(list(latest.items())[-MOST:])
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_json(self._path, list(self._nets.items()))
        except (OSError, ValueError, SmeltError):
            return  # a home that cannot be written to: the next run tries them again


def _folder() -> Path | None:
    """Where this user's caches lie; None for one without a home, for whom `~` is a name like any other.

    A relative $XDG_CACHE_HOME counts for nothing, says its specification.
    """
    places = (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache"))
    return next((Path(place, "smelt") for place in places if os.path.isabs(place)), None)


def _made_with() -> str:
    """A name for the code and the libraries that build nets."""
    import smelt.models

    parts = [f"{name} {version}" for name, version in here().items() if name in ("python", "torch", "timm")]
    modules = sorted(Path(smelt.models.__path__[0]).glob("*.py"))
    parts += [f"{path.name} {sha256_file(path)}" for path in modules]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _sizes(net: Mapping[str, Any]) -> list[str]:
    return [f"{mode} {size}" for mode in SIZES for size in net.get(mode, ())]


def _name(*nets: Mapping[str, Any]) -> str:
    """A net but for the sizes that it is shown, or a net and one that goes on from it."""
    plain = [{key: value for key, value in net.items() if key not in (*SIZES, "start")} for net in nets]
    text = json.dumps(plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _read(path: Path | None) -> dict[str, dict[str, Any]]:
    """What `keep` wrote; nothing where it is not there or somebody else's."""
    if path is None:
        return {}
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:  # a pipe would be waited for
            return {}
        pairs = read_json(path)
    except (OSError, SmeltError):
        return {}
    if not isinstance(pairs, list):
        return {}
    return {pair[0]: pair[1] for pair in pairs if _ours(pair)}


def _ours(pair: Any) -> bool:
    if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
        return False
    known = pair[1]
    return (
        isinstance(known, dict)
        and all(type(n := known.get(name)) is int and 0 <= n <= HIGHEST for name in ("weights", "values"))
        and isinstance(known.get("sizes"), list)
        and all(isinstance(size, str) for size in known["sizes"])
    )
