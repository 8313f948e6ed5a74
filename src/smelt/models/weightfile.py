"""Tensors in a file of somebody's weights: safetensors, or what torch.save wrote; nothing in it is run.

What other tools put around the weights (`state_dict`, `model_ema`, optimisers, …) is taken off here; which
tensor is which is `matching`'s.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smelt.errors import ArtifactError, DataError, printable, short
from smelt.files.atomic import read_json
from smelt.files.opening import open_file, read_head

if TYPE_CHECKING:
    from torch import Tensor

MODEL = "model.json"  # in the folder of a train artefact
MAX_HEADER = 100 << 20  # bytes of a safetensors header; what safetensors itself allows
MAX_PICKLE = 256 << 20  # bytes of the pickle in torch's zip: names and shapes, no values
DEPTH = 4  # of mappings within mappings
# Where weights lie in other tools' files, best first: an average of weights before the last ones
WRAPPERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "teacher", "state_dict", "model_state_dict",
    "model_state", "model", "net", "network", "module", "backbone", "encoder", "params", "weights", "student",
)  # fmt: skip
NO_WEIGHTS = re.compile(r"optim|scheduler|scaler|callbacks|loops|criterion", re.IGNORECASE)
MEND = (
    "save its weights alone with the tool that wrote it: torch.save(model.state_dict(), FILE), or safetensors"
)


@dataclass(frozen=True)
class Held:
    """tensors: by name, of one group; where: what was around it, "" where nothing was."""

    tensors: Mapping[str, Tensor]
    where: str


def kind_of(path: Path) -> str:
    """What the file is by its first bytes: "safetensors", "zip" or "pickle" (both torch's). Imports no torch.

    DataError where it is neither, or not there.
    """
    try:
        head = read_head(path, 64)
        size = os.path.getsize(path)
    except OSError as error:
        raise DataError(f"{path}: no weights can be read there ({error.strerror})") from error
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    # protocol 2 to 5, then torch's magic number, or a mapping right away
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "pickle"
    if len(head) >= 9 and struct.unpack("<Q", head[:8])[0] <= min(size - 8, MAX_HEADER) and head[8:9] == b"{":
        return "safetensors"
    what = "it is empty" if not size else "its first bytes are those of neither"
    if head.startswith(b"version https://git-lfs"):
        what = "it is a pointer of Git LFS: `git lfs pull` fetches the file itself"
    raise DataError(f"{path}: weights are safetensors or what torch.save wrote, and {what}")


def weights_in(folder: Path) -> Path:
    """The weights that a train artefact predicts with."""
    averaged = read_json(folder / MODEL).get("weights") == "ema"
    return folder / ("ema.safetensors" if averaged else "model.safetensors")


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself (`__metadata__`); {} for the others. Imports no torch."""
    if kind_of(path) != "safetensors":
        return {}
    with open_file(path) as file:
        length = struct.unpack("<Q", file.read(8))[0]
        try:
            told = json.loads(file.read(length)).get("__metadata__", {})
        except (ValueError, AttributeError) as error:
            raise DataError(f"{path} is damaged: its header cannot be read") from error
    return {str(k): str(v) for k, v in told.items()} if isinstance(told, dict) else {}


def read(path: Path) -> list[Held]:
    """The groups of tensors in a file, the likeliest weights first; on the CPU.

    DataError where nothing can be read, or where reading would run code.
    """
    kind = kind_of(path)
    if kind == "safetensors":
        from smelt.artifacts.checkpoint import read_tensors

        try:
            return [Held(read_tensors(path), "")]
        except ArtifactError as error:
            raise DataError(str(error)) from error
    if kind == "zip":
        _refuse_packed(path)
    groups = list(_groups(_loaded(path), "", 0))
    if not groups:
        raise DataError(f"{path} holds no tensors by name; {MEND}")
    return sorted(groups, key=lambda held: _rank(held.where))  # stable: in the file's order otherwise


def _refuse_packed(path: Path) -> None:
    """torch never compresses: what is compressed could be of any size unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise DataError(f"{path} is a compressed archive, which torch.save does not write; {MEND}")
    pickles = [member for member in members if Path(member.filename).name == "data.pkl"]
    if not pickles:
        raise DataError(f"{path} is an archive without weights of torch; unpack it, and name the file inside")
    if max(member.file_size for member in pickles) > MAX_PICKLE:
        raise DataError(f"{path} holds a pickle of more than {MAX_PICKLE >> 20} MiB; {MEND}")


def _loaded(path: Path) -> Any:
    import pickle

    import torch

    try:
        # what timm and others keep beside the weights, and harmless: it only holds values
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({asked[1]})" if asked else ""
        raise DataError(
            f"{path} is a pickle that needs code{what} to be read, and code of files is not run; {MEND}"
        ) from error
    except Exception as error:  # of whatever a damaged file makes torch stumble over
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"{path} cannot be read: {printable(short(first))}") from error


def _groups(value: Any, where: str, depth: int) -> Iterator[Held]:
    """Every mapping that holds tensors by name, the outer ones first."""
    from torch import Tensor

    if not isinstance(value, Mapping) or depth > DEPTH:
        return
    tensors = {name: one for name, one in value.items() if isinstance(name, str) and _usable(one, Tensor)}
    if tensors:
        yield Held({name: one.detach() for name, one in tensors.items()}, where)
    for name, inner in value.items():
        if isinstance(name, str) and not NO_WEIGHTS.search(name):
            yield from _groups(inner, f"{where}.{name}" if where else name, depth + 1)


def _usable(value: Any, kind: type) -> bool:
    """A dense tensor whose values are in the file: strides of 0 could claim any size."""
    import torch

    if not isinstance(value, kind) or not isinstance(value, torch.Tensor):
        return False
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _rank(where: str) -> int:
    last = where.rpartition(".")[2]
    return WRAPPERS.index(last) if last in WRAPPERS else (-1 if not where else len(WRAPPERS))
