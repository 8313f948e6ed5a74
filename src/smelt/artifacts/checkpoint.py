"""Weights and checkpoints: safetensors and JSON only, whole or not there, the last two kept.

A checkpoint is a folder `<step>/` with `tensors.safetensors` and, written last, `state.json`, which holds
the tensors' hash. Reading falls back to the one before where the last is damaged.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from smelt.errors import ArtifactError
from smelt.files.atomic import read_json, replacing, sync_folder, write_json
from smelt.files.failpoints import reach
from smelt.files.opening import open_file

if TYPE_CHECKING:
    from torch import Tensor

TENSORS, STATE = "tensors.safetensors", "state.json"
MAX_HEADER = 100 << 20  # bytes; what safetensors itself allows


@dataclass(frozen=True)
class Checkpoint:
    """tensors: by name. state: JSON values; `step` among them."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors in one step: a reader sees the old file or the new one.

    They are copied to the CPU and made contiguous. ArtifactError tells the bytes that were needed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    needed = sum(tensor.nbytes for tensor in plain.values())
    try:
        with replacing(path, needed) as temporary:
            save_file(plain, temporary)
            reach("checkpoint:written", path.name)
    except SafetensorError as error:
        raise ArtifactError(f"cannot write {path} ({needed} bytes): {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in the safetensors file `path`, on the CPU; ArtifactError if missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(8)
        if len(head) < 8 or struct.unpack("<Q", head)[0] > min(size - 8, MAX_HEADER):
            raise ArtifactError(f"{path} is damaged: its header is longer than the file or the limit")
        loaded: dict[str, Tensor] = load_file(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is not there") from error
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} is damaged: {error}") from error
    return loaded


class Checkpoints:
    """The checkpoints in one folder, by step."""

    def __init__(self, folder: Path, warn: Callable[[str], None], keep: int = 2) -> None:
        self.folder, self.warn, self.keep = folder, warn, keep

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write the checkpoint of `step` and delete all but the last `keep`."""
        folder = self.folder / f"{step:012d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_tensors(folder / TENSORS, tensors)
        reach("checkpoint:tensors", str(step))
        write_json(folder / STATE, {**state, "step": step, "hash": _hash(folder / TENSORS)})
        sync_folder(self.folder)
        for old in self._steps()[: -self.keep]:
            shutil.rmtree(self.folder / f"{old:012d}", ignore_errors=True)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None if there is none. Damaged ones are warned of, deleted."""
        for step in reversed(self._steps()):
            folder = self.folder / f"{step:012d}"
            try:
                return self._read(folder)
            except ArtifactError as error:
                if (folder / STATE).exists():  # else its writing was cut short, which is no damage
                    self.warn(f"checkpoint of step {step} cannot be used, going back one: {error}")
                shutil.rmtree(folder, ignore_errors=True)
        return None

    def _steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def _read(self, folder: Path) -> Checkpoint:
        state = read_json(folder / STATE)
        if not isinstance(state, dict) or state.get("hash") != _hash(folder / TENSORS):
            raise ArtifactError(f"{folder / TENSORS} has other content than was saved")
        return Checkpoint(read_tensors(folder / TENSORS), state)


def _hash(path: Path) -> str:
    digest = xxhash.xxh3_128()
    try:
        with open_file(path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is not there") from error
    return digest.hexdigest()
