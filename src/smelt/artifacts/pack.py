"""Images taken out of containers that cannot be read by offset: Parquet, Arrow.

They lie one after the other in `images-00000.pack`, … in the catalogue's own folder; the columns `shard`,
`offset` and `size` say where each is, as with tars.
"""

from __future__ import annotations

from typing import BinaryIO

from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.errors import ArtifactError
from smelt.files.atomic import new_file


class Pack:
    """Images taken out of a container that cannot be read by offset, one after the other in a shard inside.

    Used in a `with` statement. `add` gives where an image lies, for the columns `shard`, `offset`, `size`.
    """

    LIMIT = 1 << 32  # bytes a file: a damaged one is not all of them

    def __init__(self, writer: CatalogueWriter) -> None:
        self.writer = writer
        self._file: BinaryIO | None = None
        self._size = 0

    def __enter__(self) -> Pack:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, data: bytes) -> tuple[int, int, int]:
        """(shard, offset, size) of the bytes of an image, which are written. ArtifactError on a full disk."""
        if self._file is None or self._size >= self.LIMIT:
            self._next()
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError as error:
            name = self._file.name
            raise ArtifactError(f"cannot write {len(data)} bytes to {name}: {error.strerror}") from error
        offset, self._size = self._size, self._size + len(data)
        return len(self.writer.shards) - 1, offset, len(data)

    def _next(self) -> None:
        self.__exit__()
        name = f"images-{len(self.writer.inside):05d}.pack"
        self.writer.shards.append(name)
        self.writer.inside.add(name)
        self._file, self._size = new_file(self.writer.folder / name), 0
