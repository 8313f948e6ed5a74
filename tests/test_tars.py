"""Tars: what is read by its offset, and what hostile ones may do: nothing, in bounded time."""

from __future__ import annotations

import errno
import io
import os
import random
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats_toy import tar
from smelt.data.formats.base import Report
from smelt.data.formats.containers import tarheaders
from smelt.data.formats.containers.tars import read_members
from smelt.data.formats.tree.files import Part
from smelt.errors import DataError, SmeltError, StorageError


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_members_by_offset(tmp_path: Path, form: int) -> None:
    rng = random.Random(0)
    names = ["a.jpg", "d/b c.jpg", "d/é😀.jpg", "d" * 80 + "/" + "n" * 80 + ".jpg", "d/e.jpg"]
    if form != tarfile.USTAR_FORMAT:
        names += ["x" * 255, "/".join(["long" * 20] * 5)]
    members = {name: rng.randbytes(rng.choice([0, 1, 511, 512, 513, 3000])) for name in names}
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w", format=form) as archive:
        folder = tarfile.TarInfo("d")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    report = Report()
    found = read_members(path, report)
    data = path.read_bytes()
    assert [found.paths[i] for i in range(len(found))] == [os.fsencode(name) for name in names]
    for i, content in enumerate(members.values()):
        assert data[found.offsets[i] : found.offsets[i] + found.sizes[i]] == content
    assert not report.problems and not report.warnings


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_tar_refuses_what_is_no_file(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        info = tarfile.TarInfo("evil.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
        archive.addfile(tarfile.TarInfo("good.jpg"), io.BytesIO())
    report = Report()
    assert [*read_members(tmp_path / "t.tar", report).paths.names] == [b"good.jpg"]
    assert (
        len(report.problems) == 1
        and "evil.jpg" in report.problems[0]
        and "only plain files" in report.problems[0]
    )


@pytest.mark.parametrize("name", ["../up.jpg", "/abs.jpg", "a/../../up.jpg"])
def test_tar_refuses_names_that_leave(tmp_path: Path, name: str) -> None:
    report = Report()
    read_members(tar(tmp_path / "t.tar", {name: b"x"}), report)
    assert len(report.problems) == 1 and name in report.problems[0]


def test_tar_damage(tmp_path: Path) -> None:
    whole = tar(tmp_path / "t.tar", {f"{i}.jpg": b"x" * 2000 for i in range(5)}).read_bytes()
    cut, bad, packed = tmp_path / "cut.tar", tmp_path / "bad.tar", tmp_path / "t.tar.gz"
    cut.write_bytes(whole[: 512 + 2048 + 512 + 100])
    report = Report()
    assert len(read_members(cut, report)) == 1 and "ends within its member '1.jpg'" in report.warnings[0]
    bad.write_bytes(whole[: 2560 + 10] + b"?" + whole[2560 + 11 :])
    with pytest.raises(DataError, match="no valid header at byte 2560"):
        read_members(bad, Report())
    packed.write_bytes(b"\x1f\x8b" + bytes(600))
    with pytest.raises(DataError, match="compressed"):
        read_members(packed, Report())


def pax(*records: tuple[bytes, bytes], end: bytes = b"") -> bytes:
    """A pax header of these records and what follows them, then its member `short.jpg` of three bytes."""

    def record(key: bytes, value: bytes) -> bytes:
        rest = b" " + key + b"=" + value + b"\n"
        length = next(n for n in range(len(rest), len(rest) + 9) if n == len(rest) + len(str(n)))
        return str(length).encode() + rest

    def member(name: str, kind: bytes, data: bytes) -> bytes:
        info = tarfile.TarInfo(name)
        info.size, info.type = len(data), kind
        return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)

    body = b"".join(record(*pair) for pair in records) + end
    return member("p", b"x", body) + member("short.jpg", b"0", b"abc") + bytes(1024)


@pytest.mark.parametrize("digits", [20, 21, 4300, 4301, 100_000])
def test_a_number_of_very_many_digits_in_a_tar_is_damage(tmp_path: Path, digits: int) -> None:
    path = tmp_path / "t.tar"
    path.write_bytes(pax((b"size", b"9" * digits)))
    if digits == 20:  # a number, if a large one: the member it is of ends beyond the archive
        assert len(read_members(path, Report())) == 0
        return
    with pytest.raises(DataError, match=r"t\.tar has a damaged pax header"):
        read_members(path, Report())
    path.write_bytes(pax((b"path", b"y"), end=b"9" * digits + b" path=x\n"))
    with pytest.raises(DataError, match=r"t\.tar has a damaged pax header"):
        read_members(path, Report())


def test_a_tar_header_of_very_many_records_is_read(tmp_path: Path) -> None:
    path, report = tmp_path / "t.tar", Report()
    path.write_bytes(pax(*[(b"k", b"v")] * 150_000, (b"path", b"long.jpg"), (b"size", b"2")))
    found = read_members(path, report)
    assert [found.paths[i] for i in range(len(found))] == [b"long.jpg"] and found.sizes.tolist() == [2]


def broken(monkeypatch: pytest.MonkeyPatch, call: str, number: int, times: int) -> None:
    """Let `os.<call>` fail so many times."""
    original, left = getattr(os, call), [times]

    def failing(*args: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, os.strerror(number))
        return original(*args)

    monkeypatch.setattr(os, call, failing)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_a_tar_that_cannot_be_read_now_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tar(tmp_path / "t.tar", {f"{i}.jpg": b"xyz" for i in range(5)})
    path.write_bytes(path.read_bytes()[: 4 * 1024 + 512])  # of which a warning tells, once
    report = Report()
    broken(monkeypatch, "pread", errno.EIO, 1)
    assert len(read_members(path, report)) == 4 and len(report.warnings) == 1
    broken(monkeypatch, "pread", errno.EIO, 99)
    with pytest.raises(StorageError, match="EIO"):
        read_members(path, Report())


@given(st.binary(max_size=3000))
@settings(max_examples=60, deadline=None)
def test_tar_of_noise_ends_in_order(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.mktemp("t") / "t.tar"
    path.write_bytes(noise)
    try:
        assert len(read_members(path, Report())) == 0
    except DataError as error:
        assert str(path) in str(error)


def test_tar_members_beyond_four_gibibytes(tmp_path: Path) -> None:
    """A sparse archive: one member of five GiB, and one behind it."""
    big, small = tarfile.TarInfo("big.jpg"), tarfile.TarInfo("small.jpg")
    big.size, small.size = 5 << 30, 5
    with open(tmp_path / "train.tar", "wb") as file:
        file.write(big.tobuf())
        file.seek((5 << 30) + 512)
        file.write(small.tobuf() + b"hello".ljust(512, b"\0") + bytes(1024))
    found = read_members(tmp_path / "train.tar", Report())
    assert found.sizes.tolist() == [5 << 30, 5] and found.offsets.tolist() == [512, (5 << 30) + 1024]
    part = Part(tmp_path / "train.tar", int(found.offsets[1]), int(found.sizes[1]))
    assert part.read() == b"hello"


# ---- hostile ones, by the byte

END = bytes(1024)
DATA = b"picture" * 100


def header(
    name: bytes, size: int = 0, kind: bytes = b"0", field: bytes | None = None, *, signed: bool = False
) -> bytes:
    """One header; `field` stands for the size as it is written."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:124] = b"0000644\0" + 2 * b"0000000\0"
    block[124:136] = b"%011o\0" % size if field is None else field
    block[136:156] = b"00000000000\0" + 8 * b" "
    block[156:157] = kind
    block[257:265] = b"ustar\00000"
    total = sum(byte - 256 if signed and byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(name: bytes, data: bytes = DATA, kind: bytes = b"0") -> bytes:
    return header(name, len(data), kind) + padded(data)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = next(n for n in range(len(rest), len(rest) + 9) if n == len(rest) + len(str(n)))
    return str(length).encode() + rest


def scan(path: Path, *parts: bytes) -> tuple[list[bytes], Report]:
    """(names of the members, what was noted) of a tar made of these bytes; every member has DATA."""
    path.write_bytes(b"".join(parts))
    report = Report()
    found = read_members(path, report)
    whole = path.read_bytes()
    for offset, size in zip(found.offsets.tolist(), found.sizes.tolist()):
        assert whole[offset : offset + size] == DATA
    return [found.paths[i] for i in range(len(found))], report


GOOD = member(b"good.jpg")


def old_sparse(blocks: int) -> bytes:
    """GNU's old sparse member whose map goes on for so many blocks."""
    head = bytearray(header(b"sparse.jpg", len(DATA), b"S"))
    head[482] = 1 if blocks else 0
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    more = [bytes(504) + bytes([number + 1 < blocks]) + bytes(7) for number in range(blocks)]
    return bytes(head) + b"".join(more) + padded(DATA)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([old_sparse(0)], "sparse"),
        ([old_sparse(3)], "sparse"),
        ([member(b"p", record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.name", b"real.jpg"), b"x"),
          member(b"GNUSparseFile.0/s.jpg")], "'real.jpg' is stored as a sparse file"),
        ([member(b"p", record(b"GNU.sparse.size", b"99") + record(b"GNU.sparse.numblocks", b"0"), b"x"),
          member(b"s.jpg")], "sparse"),
        ([member(b"p", record(b"path", b"../x.jpg"), b"x"), member(b"s")], "leads out of its folder"),
        ([member(b"p", record(b"path", b"a\0b.jpg"), b"x"), member(b"s")], "NUL"),
        ([member(b"p", record(b"path", b"n" * 5000), b"x"), member(b"s")], "a name of 5,000 bytes"),
        ([member(b"long", b"../../../etc/passwd\0", b"L"), member(b"s")], "leads out"),
        ([member(b"/etc/passwd")], "absolute"),
        ([member(b"a/../../b.jpg")], "leads out"),
        ([member(b"")], "has no name"),
        ([header(b"l.jpg", 0, b"1")], "a hard link"),
        ([header(b"l.jpg", 0, b"2")], "a symbolic link"),
        ([member(b"long link", b"/etc/passwd\0", b"K"), header(b"l.jpg", 0, b"2")], "a symbolic link"),
        ([header(b"l.jpg", 0, b"3")], "a device"), ([header(b"l.jpg", 0, b"6")], "a pipe"),
        ([member(b"rest.jpg", DATA, b"M")], "another volume"), ([header(b"z", 0, b"Z")], "unknown kind"),
    ],
)  # fmt: skip
def test_a_member_that_is_no_plain_file_is_refused_and_the_next_is_read(
    tmp_path: Path, parts: list[bytes], said: str
) -> None:
    names, report = scan(tmp_path / "t.tar", *parts, GOOD, END)
    assert names == [b"good.jpg"]
    assert report.num_problems == 1 and said in report.problems[0], report.problems
    assert str(tmp_path / "t.tar") in report.problems[0]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([header(b"a.jpg", field=b"\xff" * 12)], "below 0"),
        ([header(b"a.jpg", field=b"-0000000100\0")], "no valid header"),
        ([header(b"a.jpg", field=b"0_000000100\0")], "no valid header"),
        ([header(b"a.jpg", field=b"+0000000100\0")], "no valid header"),
        ([header(b"a.jpg", field=b"0o100\0\0\0\0\0\0\0")], "no valid header"),
        ([header(b"a.jpg", field=b"99999999999\0")], "no valid header"),
        ([header(b"name", 1 << 21, b"L")], "a name of 2,097,152 bytes"),
        ([member(b"name", b"n", b"L")] * 20, "more than 16 names for one member"),
        ([member(b"p", record(b"path", b"x"), b"g")], "one name or size for all members"),
        ([member(b"p", record(b"size", b"1"), b"g")], "one name or size for all members"),
        ([member(b"p", record(b"size", b"\xb2"), b"x")], "damaged pax header"),
        ([member(b"p", record(b"size", b"-1"), b"x")], "damaged pax header"),
        ([member(b"p", b"9" * 5000 + b" path=x\n", b"x")], "damaged pax header"),
        ([member(b"p", b"0 path=x\n", b"x")], "damaged pax header"),
    ],
)
def test_numbers_and_chains_beyond_measure_are_damage(tmp_path: Path, parts: list[bytes], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        scan(tmp_path / "t.tar", GOOD, *parts, GOOD, END)
    assert str(tmp_path / "t.tar") in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x1f\x8b" + bytes(600), "is compressed"), (b"BZh9" + bytes(600), "is compressed"),
        (b"\xfd7zXZ\0" + bytes(600), "is compressed"), (b"\x28\xb5\x2f\xfd" + bytes(600), "is compressed"),
        (b"<!DOCTYPE html><html>no such file</html>", "a web page"), (b"PK\3\4" + bytes(600), "zip"),
        (b"\xff\xd8\xff\xe0" + bytes(700), "no tar but JPEG"), (b"\1" * 5000, "no valid header at byte 0"),
        (b"plain text\n" * 3, "text"), (b"\1\2", "damaged or not a tar"),
    ],
)  # fmt: skip
def test_what_is_no_tar_is_called_by_its_name(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "t.tar").write_bytes(data)
    with pytest.raises(DataError, match=said):
        read_members(tmp_path / "t.tar", Report())


@pytest.mark.parametrize("data", [b"", END, END * 20])
def test_an_empty_tar_is_told_of(tmp_path: Path, data: bytes) -> None:
    names, report = scan(tmp_path / "t.tar", data)
    assert not names and len(report.warnings) == 1 and "t.tar" in report.warnings[0]


@pytest.mark.parametrize("between", [bytes(512), END, bytes(10240), bytes(3 << 20)])
def test_what_follows_an_end_mark_is_read(tmp_path: Path, between: bytes) -> None:
    """As `cat a.tar b.tar` makes it, or a single block of zeros."""
    names, report = scan(tmp_path / "t.tar", GOOD, between, member(b"more.jpg"), END)
    assert names == [b"good.jpg", b"more.jpg"] and not report.num_problems
    assert len(report.warnings) == 1 and "goes on behind it" in report.warnings[0]


def test_what_follows_an_end_mark_and_is_no_tar_is_left_alone(tmp_path: Path) -> None:
    names, report = scan(tmp_path / "t.tar", GOOD, END, b"garbage" * 200)
    assert names == [b"good.jpg"]
    assert "the 1,400 bytes behind its end mark are no tar" in report.warnings[0]


def test_a_hole_of_a_terabyte_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with open(path, "wb") as file:
        file.write(GOOD)
        file.seek(1 << 40)
        file.write(member(b"far.jpg") + END)
    start, report = time.process_time(), Report()
    assert len(read_members(path, report)) == 2 and "goes on behind it" in report.warnings[0]
    assert time.process_time() - start < 2


@pytest.mark.parametrize("cut", range(0, 2560, 100))
def test_a_tar_that_was_cut_short_anywhere_is_told_of(tmp_path: Path, cut: int) -> None:
    whole = GOOD + member(b"d" * 10, b"n" * 150 + b".jpg\0", b"L") + member(b"second.jpg")
    names, report = scan(tmp_path / "t.tar", GOOD, whole[len(GOOD) :][:cut])
    assert names[:1] == [b"good.jpg"] and len(report.warnings) == 1
    assert "cut short" in report.warnings[0] and not report.num_problems


def test_of_members_of_one_name_the_last_counts(tmp_path: Path) -> None:
    """As `tar --append` and `--update` leave them."""
    path = tmp_path / "t.tar"
    path.write_bytes(member(b"a/x.jpg", b"old") + member(b"y.jpg") + member(b"./a//x.jpg", b"newer") + END)
    report = Report()
    found = read_members(path, report)
    assert [found.paths[i] for i in range(2)] == [b"y.jpg", b"a/x.jpg"] and found.sizes[1] == 5
    assert "1 members have the path of a later one, such as 'a/x.jpg'" in report.warnings[0]


def test_checksums_of_signed_bytes_and_numbers_in_base_256(tmp_path: Path) -> None:
    field = b"\x80" + len(DATA).to_bytes(11, "big")
    other = header("é.jpg".encode("latin1"), len(DATA), signed=True) + padded(DATA)
    names, report = scan(tmp_path / "t.tar", other, header(b"b.jpg", field=field) + padded(DATA), END)
    assert names == [b"\xe9.jpg", b"b.jpg"] and not report.warnings
    huge = header(b"c.jpg", field=b"\x80" + b"\x7f" * 11)
    names, report = scan(tmp_path / "t.tar", GOOD, huge, GOOD, END)
    assert names == [b"good.jpg"] and "ends within its member 'c.jpg'" in report.warnings[0]


def test_a_long_name_and_a_long_link_belong_to_one_member(tmp_path: Path) -> None:
    long = b"d/" * 100 + b"x.jpg"
    parts = [member(b"n", long + b"\0", b"L"), member(b"k", b"target\0", b"K"), member(b"short")]
    assert scan(tmp_path / "t.tar", *parts, GOOD, END)[0] == [long, b"good.jpg"]
    folder = member(b"n", b"other/\0", b"L") + header(b"o", 0, b"5")
    assert scan(tmp_path / "t.tar", folder, GOOD, END)[0] == [b"good.jpg"], "a folder uses up its name"


def test_records_without_end_are_refused_in_time(tmp_path: Path) -> None:
    body = record(b"path", b"x") + b"5 a=\n" * 200_000
    start = time.process_time()
    with pytest.raises(DataError, match="no archive needs so many"):
        scan(tmp_path / "t.tar", *[member(b"p", body, b"x") + GOOD] * 30, END)
    assert time.process_time() - start < 5


def test_members_by_the_ten_thousand(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    blocks = [bytearray(header(b"000000")) for _ in range(30_000)]
    for number, block in enumerate(blocks):
        block[:6] = b"%06d" % number
        block[148:155] = b"%06o\0" % (int(blocks[0][148:154], 8) + sum(block[:6]) - sum(b"000000"))
    path.write_bytes(b"".join(blocks) + END)
    start = time.process_time()
    assert len(read_members(path, Report())) == 30_000
    assert time.process_time() - start < 5


def mutated(rng: random.Random, base: bytes) -> bytes:
    """A tar with some of its fields, blocks or bytes changed, and most checksums mended."""
    data = bytearray(base)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = 512 * rng.randrange(max(1, len(data) // 512))
        kind = rng.randrange(5)
        if kind == 0:
            data[min(len(data) - 1, at + rng.randrange(512))] = rng.randrange(256)
        elif kind == 1:
            data[at + 156 : at + 157] = bytes([rng.choice(b"01234567LKxgXSMNDVA\0Z")])
        elif kind == 2:
            fields = [b"\xff" * 12, b"\x80" + b"\x7f" * 11, b"7" * 11 + b"\0", b"\x80" + bytes(10) + b"\5",
                      b"0_0        \0", bytes(12), b" " * 12, b"9" * 12]  # fmt: skip
            data[at + 124 : at + 136] = rng.choice(fields)
        elif kind == 3:
            del data[at : at + 512 * rng.randrange(1, 4)]
        else:
            data[at:at] = rng.choice(
                [bytes(512), bytes(data[at : at + 512]), rng.randbytes(rng.randrange(600))]
            )
        head = data[at : at + 512]
        if rng.random() < 0.8 and len(head) == 512:
            head[148:156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(head)
    return bytes(data)


def test_mutants_are_read_or_refused(tmp_path: Path) -> None:
    """4,000 with a fixed seed; whatever is read lies within the file."""
    rng, ends = random.Random(0), {"read": 0, "refused": 0}
    bases = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        long = "x" * (150 if form != tarfile.USTAR_FORMAT else 90)
        members = {f"{long if i % 2 else 'y'}/{i}.jpg": b"z" * 700 * i for i in range(4)}
        bases.append(tar(tmp_path / "base.tar", members, form=form).read_bytes()[: 9 * 1024])
    path = tmp_path / "t.tar"
    with open(path, "wb", buffering=0) as file:  # once: a file emptied and written anew is slow on some disks
        for _ in range(4000):
            data = mutated(rng, rng.choice(bases))
            os.pwrite(file.fileno(), data, 0)
            file.truncate(len(data))
            try:
                found = read_members(path, Report())
                assert (found.offsets >= 0).all() and (found.offsets + found.sizes <= len(data)).all()
                assert all(found.paths[i] for i in range(len(found)))
                ends["read"] += 1
            except SmeltError:
                ends["refused"] += 1
    assert min(ends.values()) > 500, ends


def test_a_number_is_octal_digits_or_base_256() -> None:
    assert tarheaders.number(b"00000000017\0") == tarheaders.number(b"       17 \0  ") == 15
    assert tarheaders.number(bytes(12)) == tarheaders.number(b" " * 12) == 0
    assert tarheaders.number(b"\x80" + (1 << 40).to_bytes(11, "big")) == 1 << 40
