"""Bytes of images: a fact about a file is a reason, the machine's fault stops; no descriptor is left open."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.catalogue_writer import Block, CatalogueWriter, Paths
from smelt.data.images import store as module
from smelt.data.images.store import ImageStore
from smelt.errors import BadImageError, DataError, StorageError

FACTS = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EILSEQ)
PASSING = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.ENOSPC)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def catalogue_of(folder: Path, names: list[str], shards: tuple[str, ...] = (), **fixed: Any) -> Catalogue:
    with CatalogueWriter(folder) as writer:
        writer.shards = list(shards)
        paths = Paths.of(os.fsencode(name) for name in names)
        writer.add(Block("train", "", paths, np.zeros(len(names), np.int32), fixed=fixed))
        writer.classes = ["one"]
        return Catalogue.open(writer.finish())


@pytest.fixture
def files(tmp_path: Path) -> ImageStore:
    (tmp_path / "root" / "a").mkdir(parents=True)
    for name in ("a/0.jpg", "a/1.jpg"):
        (tmp_path / "root" / name).write_bytes(name.encode())
    catalogue = catalogue_of(tmp_path / "c", ["a/0.jpg", "a/1.jpg", "a/2.jpg"])
    catalogue.location(0)  # its files are mapped before a test breaks the calls of the system
    return ImageStore(catalogue, tmp_path / "root")


@pytest.fixture
def shards(tmp_path: Path) -> ImageStore:
    """20 shards of 10 images; image i of shard s has the bytes s, i."""
    names = tuple(f"{number}.tar" for number in range(20))
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([x for i in range(10) for x in (number, i)]))
    images = [f"{s}/{i}.jpg" for s in range(20) for i in range(10)]
    fixed = {"shard": np.repeat(np.arange(20), 10), "offset": np.tile(2 * np.arange(10), 20)}
    catalogue = catalogue_of(tmp_path / "c", images, names, size=np.full(200, 2), **fixed)
    catalogue.location(0)
    return ImageStore(catalogue, tmp_path)


def broken(monkeypatch: pytest.MonkeyPatch, call: str, number: int, times: int = 1 << 30) -> list[Any]:
    """Let `os.<call>` fail so many times with an error number; what it was asked for then."""
    original, asked = getattr(os, call), []

    def failing(*args: Any, **options: Any) -> Any:
        if len(asked) < times:
            asked.append(args[0])
            name = args[0] if isinstance(args[0], str | bytes | Path) else None
            raise OSError(number, os.strerror(number), name)
        return original(*args, **options)

    monkeypatch.setattr(os, call, failing)
    return asked


@pytest.mark.parametrize("call", ["open", "pread", "fstat"])
@pytest.mark.parametrize("number", PASSING)
def test_a_passing_error_is_no_fact_about_a_file(
    files: ImageStore, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    with monkeypatch.context() as patch:
        broken(patch, call, number, times=2)
        assert files.read(0) == b"a/0.jpg"
        broken(patch, call, number)
        with pytest.raises(StorageError, match=rf"a/1\.jpg.*{errno.errorcode[number]}"):
            files.read(1)
    assert files.read(1) == b"a/1.jpg"


@pytest.mark.parametrize("call", ["open", "pread"])
@pytest.mark.parametrize("number", PASSING)
def test_nor_about_a_member_of_a_shard(
    shards: ImageStore, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    with monkeypatch.context() as patch:
        broken(patch, call, number, times=2)
        assert shards.read(35) == bytes([3, 5])
        broken(patch, call, number)
        with pytest.raises(StorageError, match=rf"7\.tar.*{errno.errorcode[number]}"):
            shards.read(75)
    assert shards.read(75) == bytes([7, 5])


@pytest.mark.parametrize("number", FACTS)
def test_what_is_not_there_is_missing(
    files: ImageStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    asked = broken(monkeypatch, "open", number)
    with pytest.raises(BadImageError, match="missing"):
        files.read(0)
    assert len(asked) == 1, "a fact was tried again"


def test_links_that_go_round_and_sockets_are_missing(files: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "root/a/2.jpg").symlink_to("2.jpg")
    with pytest.raises(BadImageError, match="missing"):
        files.read(2)
    (tmp_path / "root/a/2.jpg").unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(tmp_path / "root/a/2.jpg"))
        with pytest.raises(BadImageError, match="missing"):
            files.read(2)


@pytest.mark.parametrize("which", ["files", "shards"])
def test_a_permission_stops_at_once(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    store = request.getfixturevalue(which)
    asked = broken(monkeypatch, "open", errno.EACCES)
    with pytest.raises(StorageError, match=r"(0\.jpg|0\.tar).*Permission denied.*chmod"):
        store.read(0)
    assert len(asked) == 1


def test_a_link_is_not_outside_because_the_disk_stuttered(
    files: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root/b").symlink_to(tmp_path / "root/a")
    store = ImageStore(catalogue_of(tmp_path / "d", ["b/0.jpg"]), tmp_path / "root")
    broken(monkeypatch, "lstat", errno.EIO, times=2)
    assert store.read(0) == b"a/0.jpg"


def test_when_the_root_is_gone_no_image_is_missing(files: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match="missing"):
        files.read(2)
    shutil.move(tmp_path / "root", tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"root.*mount it") as caught:
        files.read(0)
    assert not isinstance(caught.value, BadImageError)


def test_what_is_too_large_is_said_before_it_is_read(
    files: ImageStore, shards: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1)
    broken(monkeypatch, "pread", errno.EIO)
    for store in (files, shards):
        with pytest.raises(BadImageError, match="too_large"):
            store.read(0)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_no_descriptor_is_left_open(files: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "root/a/2.jpg").mkdir()
    before = descriptors()
    for _ in range(20):
        assert files.read(0) == b"a/0.jpg"
        with pytest.raises(BadImageError, match="missing"):
            files.read(2)
    assert descriptors() == before


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_any_number_of_shards_is_read_with_few_open(
    shards: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads open and drop shards under one another's hands; each reads its own bytes."""
    monkeypatch.setattr(module, "MOST_OPEN", 3)
    before = descriptors()
    rows = np.random.default_rng(0).integers(0, 200, 3000).tolist()
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(shards.read, rows))
    assert read == [bytes(divmod(row, 10)) for row in rows]
    assert descriptors() <= before + 3
    del shards._shards
    assert descriptors() == before


def test_a_stale_shard_is_opened_anew(shards: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shards.read(0) == bytes([0, 0])
    stale, original = shards._shards._descriptor(shards.root / "0.tar").number, os.pread  # type: ignore[operator]
    opened: list[Any] = []
    original_open = os.open
    monkeypatch.setattr(os, "open", lambda *args: opened.append(args) or original_open(*args))

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if descriptor == stale and not opened:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return original(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert shards.read(4) == bytes([0, 4])
    assert len(opened) == 1


PRELOADED = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* opening what has EIO_SUBSTR in its path fails with EIO_ERRNO, EIO_TIMES times */
static int hit(const char *path) {
    static int done;
    const char *part = getenv("EIO_SUBSTR");
    return part && strstr(path, part) && done++ < atoi(getenv("EIO_TIMES"));
}
#define FAULTY(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name); \
        if (hit(path)) { errno = atoi(getenv("EIO_ERRNO")); return -1; } \
        return real(path, flags, mode); \
    }
FAULTY(open)
FAULTY(open64)
"""
CHECK = """
import sys
from pathlib import Path
from smelt.errors import SmeltError
from smelt.data.images.config import CheckSettings
from smelt.stages import check
from smelt.stages.config import Runtime
from smelt.stages.context import Context
out = Path(sys.argv[1]) / "out"
out.mkdir(exist_ok=True)
context = Context(CheckSettings(), {"catalogue": [Path(sys.argv[1])]}, out, out / "scratch",
                  Runtime(root=sys.argv[2]))
try:
    check.run(context)
except SmeltError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.skipif(not shutil.which("gcc") or sys.platform != "linux", reason="needs gcc and LD_PRELOAD")
@pytest.mark.parametrize(
    ("number", "times", "said"),
    [(errno.EIO, 2, ""), (errno.EMFILE, 99, "StorageError: "), (errno.EACCES, 1, "StorageError: ")],
)
def test_check_on_a_disk_that_fails_beneath_python(
    tmp_path: Path, number: int, times: int, said: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    Image.new("RGB", (9, 9)).save(root / "good.jpg")
    catalogue_of(tmp_path / "catalogue", ["bad.jpg", "good.jpg"])
    (tmp_path / "faulty.c").write_text(PRELOADED)
    library = tmp_path / "faulty.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "faulty.c", "-ldl"], check=True)
    fault = {"EIO_SUBSTR": "good.jpg", "EIO_ERRNO": str(number), "EIO_TIMES": str(times)}
    done = subprocess.run(
        [sys.executable, "-c", CHECK, tmp_path, root], capture_output=True, text=True, check=False,
        env={**os.environ, **fault, "LD_PRELOAD": str(library)},
    )  # fmt: skip
    assert done.stderr.startswith(said) and (done.returncode == 0) == (not said), done.stderr
    assert (tmp_path / "out" / "images.parquet").exists() == (not said)
    if said:
        assert "good.jpg" in done.stderr and errno.errorcode[number] in done.stderr
    else:
        assert (tmp_path / "out" / "bad_files.csv").read_text() == "file,reason\nbad.jpg,truncated\n"


class OddFiles:
    """Files that are none, below a root: name → how to make it; devices only where the user may make them."""

    NAMES = ("folder", "pipe", "socket", "loop", "nowhere", "device", "empty", "through a file")

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "folder").mkdir()
        os.mkfifo(root / "pipe")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(os.path.relpath(root / "socket"))
        (root / "loop").symlink_to("loop")
        (root / "nowhere").symlink_to("not there")
        with contextlib.suppress(PermissionError):
            os.mknod(root / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
        (root / "empty").write_bytes(b"")
        (root / "through a file").symlink_to("empty/deeper")


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[OddFiles]:
    (tmp_path / "root").mkdir()
    made = OddFiles(tmp_path / "root")
    yield made
    made.socket.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
@pytest.mark.timeout(60)
def test_what_is_no_file_blocks_nothing_and_leaves_nothing_open(odd: OddFiles, tmp_path: Path) -> None:
    names = list(odd.NAMES)
    files = ImageStore(catalogue_of(tmp_path / "c", names), odd.root)
    shards = ImageStore(catalogue_of(tmp_path / "d", ["in it.jpg"] * len(names), tuple(names),
                                     size=np.full(len(names), 9), shard=np.arange(len(names)),
                                     offset=np.zeros(len(names), np.int64)), odd.root)  # fmt: skip
    files.catalogue.location(0), shards.catalogue.location(0)
    before = descriptors()
    for _ in range(30):
        for row, name in enumerate(odd.NAMES):
            if name == "empty":
                assert files.read(row) == b""
                with pytest.raises(BadImageError, match="truncated"):
                    shards.read(row)
                continue
            with pytest.raises(BadImageError, match="empty" if name in ("pipe", "device") else "missing"):
                files.read(row)
            with pytest.raises((DataError, StorageError)):
                shards.read(row)
    assert descriptors() <= before + 1, "but for the shard that can be read from"
    del shards._shards
    assert descriptors() == before


def test_what_is_no_file_is_named(odd: OddFiles, tmp_path: Path) -> None:
    files = ImageStore(catalogue_of(tmp_path / "c", list(odd.NAMES)), odd.root)
    for row, word in ((0, "folder"), (1, "named pipe"), (2, "socket")):
        with pytest.raises(BadImageError, match=word):
            files.read(row)
