"""Arrow's own file format (IPC): one record batch, written in one step, memory-mapped to be read.

All rows lie in one batch, so that each column is one stretch of the file: numbers are a view of it, and
processes that map it share one copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from smelt.errors import ArtifactError
from smelt.files.atomic import replacing


def write_batch(path: Path, batch: pa.RecordBatch) -> None:
    """Replace `path` by the batch in one step; its columns may themselves be mapped from files."""
    with replacing(path, batch.nbytes) as temporary, pa.ipc.new_file(str(temporary), batch.schema) as writer:
        writer.write_batch(batch)


def mapped(path: Path) -> pa.MemoryMappedFile:
    """A file of somebody's, mapped for reading. Raises what pyarrow raises."""
    return pa.memory_map(str(path))


def map_batch(path: Path) -> pa.RecordBatch:
    """The batch in `path`, mapped: only pages that are read take memory. Raises ArtifactError."""
    try:
        reader = pa.ipc.open_file(mapped(path))
        if reader.num_record_batches != 1:
            raise ArtifactError(f"{path} is not one of our files: it has {reader.num_record_batches} batches")
        batch = reader.get_batch(0)
        batch.validate()
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is not there") from error
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{path} is damaged or cut short: {error}") from error
    return batch


def open_stream(path: Path, compression: str) -> pa.CompressedInputStream:
    """Somebody's compressed file, to be read unpacked. Raises OSError."""
    return pa.CompressedInputStream(pa.OSFile(str(path)), compression)


def numbers(array: pa.Array) -> NDArray[Any]:
    """A column of numbers without nulls as a view; `to_numpy` would load pandas where that is installed."""
    dtype = np.dtype(array.type.to_pandas_dtype())
    if not len(array):
        return np.zeros(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)
