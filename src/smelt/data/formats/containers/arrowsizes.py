"""What an Arrow file would unpack to, told from what it says of itself, before anything is unpacked.

Compressed buffers begin with the number of bytes that they unpack to, and Arrow makes room for as many (Arrow
columnar format, Serialization and Interprocess Communication, RecordBatch message). pyarrow tells neither;
the tables of a message are flatbuffers, of which the few fields that matter are read here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from smelt.errors import DataError
from smelt.files.bounded import refuse_beyond

_MAGIC = 8  # bytes before the stream in a file of the kind that has a footer
_HEADER, _BATCH, _DICTIONARY = 2, 3, 2  # Message.header; kinds of it: RecordBatch, DictionaryBatch
_DATA, _BUFFERS, _COMPRESSION = 1, 2, 3  # DictionaryBatch.data; RecordBatch.buffers, .compression


def refuse_bomb(path: Path, source: Any, whole: bool) -> None:
    """OutOfProportionError where a batch unpacks to more than its file speaks for.

    source: the mapped file; whole: it begins with ARROW1 and has a footer. DataError where it is damaged.
    """
    source.seek(_MAGIC if whole else 0)
    reader = pa.ipc.MessageReader.open_stream(source)
    number = 0
    while True:
        try:
            message = reader.read_next_message()
        except (StopIteration, EOFError):
            return
        number += 1
        try:
            needed = sum(_unpacked(memoryview(message.metadata), message.body))
        except (struct.error, IndexError) as error:
            raise DataError(f"{path} is damaged: its message {number} cannot be read") from error
        refuse_beyond(path, needed, f"unpacking its message {number}")


def _unpacked(metadata: memoryview, body: Any) -> Iterator[int]:
    """Bytes that each compressed buffer of a message unpacks to; nothing where it has none."""
    root = _at("<I", metadata, 0)
    kind = _field(metadata, root, 1)
    header = _table(metadata, root, _HEADER)
    if not kind or not header:
        return
    if metadata[kind] == _DICTIONARY:
        header = _table(metadata, header, _DATA)
    elif metadata[kind] != _BATCH:
        return
    if not header or not _field(metadata, header, _COMPRESSION):
        return
    buffers = _table(metadata, header, _BUFFERS)
    if not buffers or body is None:
        return
    content = memoryview(body)
    for place in range(_at("<I", metadata, buffers)):
        offset, length = struct.unpack_from("<qq", metadata, buffers + 4 + 16 * place)
        if length > 0:
            yield max(0, _at("<q", content, offset))  # -1: this one is not compressed


def _at(kind: str, content: memoryview, place: int) -> int:
    if place < 0:
        raise IndexError(place)
    return int(struct.unpack_from(kind, content, place)[0])


def _field(content: memoryview, table: int, number: int) -> int:
    """Where a field of a flatbuffer's table is, 0 where the table has it not."""
    entries = table - _at("<i", content, table)
    entry = 4 + 2 * number
    if entry >= _at("<H", content, entries):
        return 0
    offset = _at("<H", content, entries + entry)
    return table + offset if offset else 0


def _table(content: memoryview, table: int, number: int) -> int:
    """Where the table or vector that a field leads to is, 0 where there is none."""
    place = _field(content, table, number)
    return place + _at("<I", content, place) if place else 0
