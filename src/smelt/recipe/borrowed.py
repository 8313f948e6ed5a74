"""Weights and audits from elsewhere that a recipe takes: what the stage is to read, and what is in its key.

A file counts by its bytes and by what is said beside it of its inputs, a model of another run by its
committed content, wherever they lie; a name of timm's by itself. Imports no torch: whether the weights fit a
net is for `plan` to say.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path

from smelt.errors import ArtifactError, RecipeError, short
from smelt.files import auditfolder
from smelt.files.atomic import read_json, sha256_file, sha256_text
from smelt.files.committed import MANIFEST, content_hash
from smelt.flowchart.work import Work
from smelt.models import lineup
from smelt.models.preprocessing import said_beside

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".tar", ".pkl", ".npz", ".onnx")  # meant as files
PROBABILITIES = "p_wrong.parquet"  # of an audit
TRAINED = "model.json"  # in the folder of a train artefact


def borrowed(text: str, field: str) -> tuple[str, str]:
    """(what the stage reads, what it counts by) of a file, of WORK:round/model-seed, or of a name of timm's.

    What is read is an absolute path, or the name. RecipeError names `field` where nothing is there.
    """
    path = Path(text).expanduser()
    try:
        if path.is_file():
            return os.path.abspath(path), _content(path)  # a link stays: JSON lies beside it, not its target
        if path.is_dir():
            return _artifact(path, field)
    except OSError as error:
        raise RecipeError(f"{field}: {short(text)} cannot be read: {error.strerror}") from error
    folder, colon, model = text.rpartition(":")
    if colon and Path(folder).expanduser().is_dir():
        return _of_run(Path(folder).expanduser(), model, field)
    why = lineup.unknown(text)
    if not why:
        return text, f"timm {text}"
    if path.suffix.lower() in SUFFIXES or "/" in text:
        what = f"there is no folder {folder}" if colon else "there is no such file"
        raise RecipeError(f"{field}: {short(text)}: {what} (seen from {Path.cwd()})")
    raise RecipeError(
        f"{field}: {short(text)} is no file, no model of another run (WORK:round/model-seed) and no name of "
        f"timm's: {why}"
    )


def audit_of(text: str, field: str) -> tuple[str, str]:
    """(the file that is read, hash of its bytes) of a folder or file that smelt audit wrote; RecipeError
    names `field` where there is none."""
    path = Path(text).expanduser()
    folders = [folder for folder in (path, path / auditfolder.FOLDER) if folder.is_dir()]
    names = (auditfolder.verdicts(Path(), "train").name, PROBABILITIES)
    files = [folder / name for folder in folders for name in names]
    found = path if path.is_file() else next((file for file in files if file.is_file()), None)
    if found is None:
        what = f"has neither {' nor '.join(names)}" if folders else "is not there"
        raise RecipeError(
            f"{field}: {short(text)} {what} (seen from {Path.cwd()}): smelt audit WORK writes an audit into "
            "WORK/audit"
        )
    try:
        status = found.stat()
        return os.path.abspath(found), _sha256(str(found), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise RecipeError(f"{field}: {short(text)} cannot be read: {error.strerror}") from error


def _content(path: Path) -> str:
    """Hash of a file's bytes, and of the mean and the like that JSON beside it says, if any."""
    status = path.stat()
    digest, told = _sha256(str(path), status.st_size, status.st_mtime_ns), said_beside(path)
    return sha256_text(json.dumps([digest, told], sort_keys=True)) if told else digest


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, changed: int) -> str:
    """size, changed: so that a file that was written anew is read anew, and others once."""
    return sha256_file(Path(path))


def _of_run(folder: Path, model: str, field: str) -> tuple[str, str]:
    """A model of the run in a work folder, by its name (with `train/` before it or without)."""
    name = f"train/{model.removeprefix('train/')}"
    try:
        work = Work(folder)
        there = [item.name for item in work.of("train") if item.path]
        if name not in work.items:
            known = f"it has {', '.join(there[:8])}" if there else "none of it is trained"
            raise RecipeError(f"{field}: {folder} has no model {model!r}; {known}")
        return _artifact(work.find(name), field)
    except ArtifactError as error:
        raise RecipeError(f"{field}: {error}") from error


def _artifact(folder: Path, field: str) -> tuple[str, str]:
    """The folder of a train artefact."""
    if not (folder / TRAINED).is_file():
        raise RecipeError(
            f"{field}: {short(str(folder))} is a folder, and no model that smelt trained; a file of weights, "
            "or WORK:round/model-seed"
        )
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    known = content_hash(manifest)
    if known is None:
        files = sorted(path for path in folder.glob("*.safetensors"))
        known = " ".join(f"{path.name} {sha256_file(path)}" for path in [*files, folder / TRAINED])
    return str(folder.resolve()), known
