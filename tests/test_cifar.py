"""CIFAR-N from one file and as published, and files that would do harm."""

from __future__ import annotations

import io
import os
import pickle
import random
import resource
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from formats_toy import catalogue_of, put, refused, rows_of
from smelt.data.formats.cifar_n import _chosen as cifar_chosen
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.npz import Arrays
from smelt.data.formats.containers.pickles import load
from smelt.data.formats.containers.standins import UnreadableError
from smelt.data.formats.tree.fingerprint import fingerprint
from smelt.errors import SmeltError


def test_cifar_keeps_the_only_image_of_a_class() -> None:
    labels = np.array([0] * 30 + [1] + [2] * 2, np.int32)
    for seed in range(20):
        wanted = FormatSettings(format="cifar_n", val_fraction=0.9, seed=seed)
        train, val = cifar_chosen(wanted, labels)
        assert sorted([*train.tolist(), *val.tolist()]) == list(range(33))
        assert set(labels[train].tolist()) == {0, 1, 2}


def cifar_npz(root: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Two sheets for training, one for test."""

    def sheet(images: np.ndarray) -> np.ndarray:
        tiles = images.reshape(50, 50, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(1600, 1600, 3)
        file = io.BytesIO()
        Image.fromarray(tiles).save(file, "PNG", compress_level=0)
        return np.frombuffer(file.getvalue(), np.uint8)

    images = (np.arange(7500, dtype=np.uint32)[:, None] // np.array([1, 256]) % 256).astype(np.uint8)
    pixels = np.zeros((7500, 32, 32, 3), np.uint8)
    pixels[:, 0, 0, :2] = images  # the number of the image
    clean = rng.integers(0, 10, 5000).astype(np.uint8)
    worst = np.where(rng.random(5000) < 0.4, (clean + 1) % 10, clean).astype(np.uint8)
    data = {
        "train_sheet_00": sheet(pixels[:2500]), "train_sheet_01": sheet(pixels[2500:5000]),
        "test_sheet_00": sheet(pixels[5000:]), "train_labels_clean": clean, "noisy_worst": worst,
        "test_labels": rng.integers(0, 10, 2500).astype(np.uint8),
        "class_names": np.array([f"class {i}" for i in range(10)]),
    }  # fmt: skip
    root.mkdir()
    np.savez(root / "cifar10n.npz", **data)
    return data


def test_cifar_n(tmp_path: Path) -> None:
    data = cifar_npz(tmp_path / "data", np.random.default_rng(0))
    c = catalogue_of(tmp_path / "data", tmp_path / "out", format="cifar_n", subset=1003, subset_balanced=True)
    assert [len(c.rows(split)) for split in c.splits] == [1003, 500, 2500]
    counts = np.bincount(c.labels_N[c.rows("train")])
    assert counts.sum() == 1003 and counts.max() - counts.min() <= 1
    truth = c.column("true_label")
    assert truth is not None
    pixels = np.load(c.folder / "images.npy", mmap_mode="r")
    assert pixels.shape == (4003, 32, 32, 3)
    for row in [0, 500, 1002, 1003, 1502, 1503, 4002]:
        place = c.location(row)
        assert place.inside and place.raw_shape == (32, 32, 3) and place.shard == "images.npy"
        raw = (c.folder / "images.npy").read_bytes()[place.offset : place.offset + place.size]
        assert np.array_equal(np.frombuffer(raw, np.uint8).reshape(32, 32, 3), pixels[row])
        part, number = place.path.split("/")
        original = int(number) + (5000 if part == "test" else 0)
        assert raw[0] + 256 * raw[1] == original
        if part == "train":
            assert (
                c.labels_N[row] == data["noisy_worst"][original]
                and truth[row] == data["train_labels_clean"][original]
            )
        else:
            assert c.labels_N[row] == truth[row] == data["test_labels"][original - 5000]
    train = c.rows("train")
    assert (np.array(c.strings("noise", train)) == "flip").tolist() == (
        c.labels_N[train] != truth[train]
    ).tolist()
    paths = {c.path(row) for row in range(c.num_rows)}
    assert len(paths) == c.num_rows


def test_cifar_n_settings(tmp_path: Path) -> None:
    cifar_npz(tmp_path / "data", np.random.default_rng(0))
    whole = catalogue_of(
        tmp_path / "data", tmp_path / "a", format="cifar_n", val_labels="clean", val_fraction=0.2
    )
    part = catalogue_of(tmp_path / "data", tmp_path / "b", format="cifar_n", subset=300, val_fraction=0.2)
    assert [len(whole.rows(s)) for s in whole.splits] == [4000, 1000, 2500]
    val = {whole.path(row) for row in whole.rows("val").tolist()}
    assert val == {part.path(row) for row in part.rows("val").tolist()}, (
        "validation is the same for any subset"
    )
    truth = whole.column("true_label")
    assert truth is not None and (truth == whole.labels_N)[whole.rows("val")].all()
    assert {path for path, _ in rows_of(part, "train")} <= {path for path, _ in rows_of(whole, "train")}
    assert "has no labels `noisy_aggre`" in refused(
        tmp_path / "data", tmp_path / "c", format="cifar_n", labels="noisy_aggre"
    )
    assert "more than the 4500" in refused(tmp_path / "data", tmp_path / "d", format="cifar_n", subset=4999)


@pytest.mark.parametrize("kind", ["zip", "legacy", "npy"])
@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_n_as_published(tmp_path: Path, kind: str, hundred: bool) -> None:
    rng = np.random.default_rng(1)
    root = tmp_path / "data"
    base = root / ("cifar-100-python" if hundred else "cifar-10-batches-py")
    base.mkdir(parents=True)
    labels_key, classes = (b"fine_labels", 100) if hundred else (b"labels", 10)
    batches = {"train": 500} if hundred else {f"data_batch_{i}": 100 for i in range(1, 6)}
    clean: list[int] = []
    pixels = []
    for name, count in {**batches, ("test" if hundred else "test_batch"): 100}.items():
        data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = [int(y) for y in rng.permutation(np.arange(count) % classes)]
        (base / name).write_bytes(
            pickle.dumps({b"data": data, labels_key: labels, b"filenames": [b"x"] * count}, 2)
        )
        if not name.startswith("test"):
            clean += labels
            pixels.append(data)
    noisy = (np.array(clean) + (rng.random(500) < 0.3)) % classes
    human = {"clean_label": np.array(clean), "noisy_label" if hundred else "worse_label": noisy}
    stem = "CIFAR-100_human" if hundred else "CIFAR-10_human"
    if kind == "npy":
        np.save(root / f"{stem}_ordered.npy", human, allow_pickle=True)
    else:
        torch.save(human, root / f"{stem}.pt", _use_new_zipfile_serialization=kind == "zip")
    name = "noisy" if hundred else "noisy_worst"
    c = catalogue_of(root, tmp_path / "out", format="cifar_n", labels=name, val_fraction=0.0)
    truth = c.column("true_label")
    assert truth is not None and c.num_classes == classes and len(c.rows("train")) == 500
    assert c.labels_N[:500].tolist() == noisy.tolist() and truth[:500].tolist() == clean
    stored = np.load(c.folder / "images.npy", mmap_mode="r")
    assert np.array_equal(stored[:500].transpose(0, 3, 1, 2).reshape(500, 3072), np.concatenate(pixels))
    assert len(fingerprint(FormatSettings(format="cifar_n", labels=name), root)) == 32
    human["clean_label"] = human["clean_label"][::-1].copy()
    torch.save(human, root / f"{stem}.pt")
    assert "another order" in refused(root, tmp_path / "bad", format="cifar_n", labels=name)


def test_cifar_pickles_run_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/canary",)

    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        put(tmp_path / "data", {f"cifar-10-batches-py/{name}": pickle.dumps({b"data": Evil()})})
    assert "cannot be read as a file of arrays" in refused(
        tmp_path / "data", tmp_path / "out", format="cifar_n"
    )
    assert not (tmp_path / "canary").exists()


@pytest.mark.shared
@pytest.mark.slow
def test_cifar_n_for_real(tmp_path: Path, shared_data: Path) -> None:
    c = catalogue_of(shared_data, tmp_path / "out", format="cifar_n", val_fraction=0.0)
    truth = c.column("true_label")
    assert truth is not None and len(c.rows("train")) == 50_000 and len(c.rows("test")) == 10_000
    assert abs(float((truth != c.labels_N)[:50_000].mean()) - 0.402) < 0.001
    assert np.bincount(truth).tolist() == [6000] * 10


# ---- hostile ones


def uint32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def uint64(number: int) -> bytes:
    return number.to_bytes(8, "little")


def numpy_array(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    """A pickled array whose state says these things: pieces of pickle."""
    return (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\1btR(K\1" + shape +
            b"cnumpy\ndtype\n(X\2\0\0\0" + dtype + b"K\0K\1tR\x89" + data + b"tb")  # fmt: skip


DEEP = 200_000
BOMBS = {
    "seven bytes that ask for 4 GiB of memo": b"Nr" + uint32(0xFFFFFFFF) + b".",
    "bytes of 2^62": b"\x8e" + uint64(1 << 62) + b".",
    "bytearray of 2^62": b"\x96" + uint64(1 << 62) + b".",
    "text of 2^62": b"\x8d" + uint64(1 << 62) + b".",
    "bytes of 2^31": b"B" + uint32(1 << 31) + b".",
    "string of -1": b"T" + uint32(0xFFFFFFFF) + b".",
    "frame of 2^62": b"\x80\4\x95" + uint64(1 << 62) + b"N.",
    "number of 2^31 bytes": b"\x8b" + uint32(1 << 31) + b".",
    "number of 100,000 bytes": b"\x8b" + uint32(100_000) + bytes(100_000) + b".",
    "number of 5,000 digits": b"I" + b"9" * 5000 + b"\n.",
    "long of 5,000 digits": b"L" + b"9" * 5000 + b"L\n.",
    "deep lists": b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "deep tuples": b")" + b"\x85" * DEEP + b".",
    "deep marks": b"(" * DEEP + b"t" * DEEP + b".",
    "deep keys": b"})" + b"\x85" * DEEP + b"Ns.",
    "a key of doubled tuples": b"})" + b"2\x86" * 60 + b"Ns.",
    "a key that is large": b"}\x8a\x10" + b"\xff" * 15 + b"\x7fNs.",
    "a list of itself": b"]q\0h\0a.",
    "a dictionary of itself": b"}q\0X\4\0\0\0datah\0s.",
    "more than there is": b"NN\x87.", "nothing": b"", "no end": b"NNNN", "memo that is not there": b"h\5.",
    "an opcode of objects": b"(ismtplib\nSMTP\n.", "a new object": b"N)\x81.", "an extension": b"\x82\1.",
    "a function": b"cos\nsystem\n(S'true'\ntR.", "getattr": b"cbuiltins\ngetattr\n.",
    "numpy's own way to load": b"cnumpy\nload\n.", "an array in tensors": b"N(Q.",
    "array of 2^60": b"}X\4\0\0\0data" +
    numpy_array(b"\x8a\x08" + uint64(1 << 60) + b"\x85", b"u1", b"C\1x") + b"s.",
    "array of 2^39 elements of none":
    numpy_array(b"\x8a\x08" + uint64(1 << 39) + b"\x85", b"S0", b"C\0") + b".",
    "array of texts of 10^9": numpy_array(b"K\1\x85", b"V9", b"C\1x") + b".",
    "array of a negative side": numpy_array(b"J\xff\xff\xff\xff\x85", b"u1", b"C\1x") + b".",
    "array of objects": numpy_array(b"K\1\x85", b"O8", b"C\1x") + b".",
    "array made of nothing": b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",
    "frombuffer of 2^60": b"cnumpy.core.numeric\n_frombuffer\n(C\1xcnumpy\ndtype\n(X\2\0\0\0u1tR"
    b"\x8a\x08" + uint64(1 << 60) + b"\x85X\1\0\0\0CtR.",
    "the same text made bytes again and again": b"X\0\0\1\0" + b"x" * 65536 + b"q\0" +
    b"0c_codecs\nencode\n(h\0X\6\0\0\0latin1tR" * 20_000 + b".",
    "a text that is no latin-1": b"c_codecs\nencode\n(X\3\0\0\0\xe2\x82\xactR.",
    "opcodes without end": b"N0" * 1_500_000 + b"N.",
    "keys of one hash": b"}" + b"".join(
        b"\x8a\x09" + (k * (2**61 - 1)).to_bytes(9, "little") + b"Ns" for k in range(1, 2000)) + b".",
}  # fmt: skip


def published(root: Path, **batches: bytes) -> Path:
    """CIFAR-10's folder of batches: sound ones, but for those that are given."""
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = {b"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), b"labels": [*range(10)] * 2}
        put(root, {f"cifar-10-batches-py/{name}": batches.get(name) or pickle.dumps(data, 2)})
    names = {b"label_names": [f"class {i}".encode() for i in range(10)]}
    put(root, {"cifar-10-batches-py/batches.meta": batches.get("meta") or pickle.dumps(names, 2)})
    return root


HARMLESS = {  # to a reader that believes no number
    "seven bytes that ask for 4 GiB of memo", "frame of 2^62", "deep lists", "deep tuples", "deep marks",
    "a list of itself", "a dictionary of itself",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_pickle_that_would_do_harm_is_refused(bomb: str) -> None:
    """In bounded memory (an address space little larger than what the test has) and time."""
    start = time.process_time()
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), before[1]))
    try:
        if bomb in HARMLESS:
            assert isinstance(load(BOMBS[bomb])[0], list | tuple | dict | None)
        else:
            with pytest.raises(UnreadableError):
                load(BOMBS[bomb])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("bomb", ["bytes of 2^62", "seven bytes that ask for 4 GiB of memo", "deep tuples",
                                  "a dictionary of itself", "a function", "array of 2^60"])  # fmt: skip
@pytest.mark.parametrize("where", ["data_batch_1", "test_batch", "meta", "human"])
def test_a_bomb_among_cifars_files_is_refused_with_the_file(tmp_path: Path, bomb: str, where: str) -> None:
    root = published(tmp_path / "data", **({} if where == "human" else {where: BOMBS[bomb]}))
    name = "batches.meta" if where == "meta" else where
    if where == "human":
        name = "CIFAR-10_human.pt"
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x/data.pkl", BOMBS[bomb])
        put(root, {name: file.getvalue()})
    if (where in ("meta", "human")) and bomb == "a dictionary of itself":  # without names or labels, so what?
        catalogue_of(root, tmp_path / "out", format="cifar_n", labels="clean")
        return
    assert name in refused(root, tmp_path / "out", format="cifar_n", labels="clean")


def test_pickles_of_every_protocol_give_what_python_gives() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "u1": rng.integers(0, 256, (3, 4), dtype=np.uint8), "i8": np.arange(7) - 3,
        "f4": rng.random(5, np.float32),
        "big": np.arange(4, dtype=">i4"), "columns": np.asfortranarray(rng.random((3, 2))),
        "empty": np.zeros((0, 3)), "texts": np.array([b"ab", b"c"]), "words": np.array(["é", "xyz"]),
        "bool": np.array([True, False]), "scalar": np.array(5),
    }  # fmt: skip
    plain = {"n": None, "t": True, "i": -5, "big": 1 << 100, "f": 1.5, "s": "é\n\ud800", "b": b"\xff\0",
             "list": [1, [2, (3, 4)], {}], "tuple": (), 7: "seven", b"key": "v"}  # fmt: skip
    for protocol in range(6):
        value, end = load(pickle.dumps(plain, protocol) + b"more", 0)
        assert value == plain and end == len(pickle.dumps(plain, protocol))
        found, _ = load(pickle.dumps(arrays, protocol))
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array), (protocol, name)
    assert load(pickle.dumps({"a": np.int64(5), "b": np.float32(0.5)}, 2))[0] == {"a": 5, "b": 0.5}


def test_pickle_mutants_are_read_or_refused() -> None:
    rng = random.Random(0)
    ends = {"read": 0, "refused": 0}
    bases = [
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2], b"n": [b"a", "b"]}, protocol)
        for protocol in range(5)
    ]
    for _ in range(5000):
        data = bytearray(rng.choice(bases))
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(len(data)) if rng.random() < 0.3 else rng.randrange(200)
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        try:
            load(bytes(data))
            ends["read"] += 1
        except UnreadableError:
            ends["refused"] += 1
    assert min(ends.values()) > 300, ends


def test_batches_of_wrong_types_are_refused(tmp_path: Path) -> None:
    data = np.zeros((20, 3072), np.uint8)
    labels = [*range(10)] * 2
    wrong: list[Any] = [
        {}, {b"data": data}, {b"data": data, b"labels": labels[:-1]}, [], 5, None, (data, labels),
        {b"data": data[:, :9], b"labels": labels},
        {b"data": data.astype(float), b"labels": labels}, {b"data": [1, 2], b"labels": labels},
        {b"data": data, b"labels": [*labels[:-1], 100]}, {b"data": data, b"labels": [*labels[:-1], "cat"]},
        {b"data": data, b"labels": [labels] * 20}, {b"data": data, b"labels": None},
        {b"data": data, b"labels": np.array(labels) * 0.5}, {b"data": None, b"labels": labels},
    ]  # fmt: skip
    for number, value in enumerate(wrong):
        root = published(tmp_path / str(number), data_batch_1=pickle.dumps(value, 2))
        assert "data_batch_1" in refused(root, tmp_path / f"out{number}", format="cifar_n", labels="clean")
    root = published(tmp_path / "human")
    humans: list[Any] = [{"worse_label": [1]}, {"worse_label": np.zeros(100)}, {"worse_label": None},
                         {"worse_label": np.full(100, 10)}, {"clean_label": [[1]]}]  # fmt: skip
    for number, human in enumerate(humans):
        torch.save(human, root / "CIFAR-10_human.pt")
        assert "CIFAR-10_human.pt" in refused(
            root, tmp_path / f"human{number}", format="cifar_n", labels="clean"
        )
    torch.save({"worse_label": torch.zeros(100)}, root / "CIFAR-10_human.pt")
    assert "tensors" in refused(root, tmp_path / "tensors", format="cifar_n")


# ---- zips


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + data


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1152921504606846976,)}"), "of an odd shape"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}", b"x"), "of an odd shape, (-1,)"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"x" * 8), "not numbers"),
        (npy("{'descr': '|V1000000000', 'fortran_order': False, 'shape': (0,)}"), "not numbers"),
        (npy("{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (0,)}"), "not numbers"),
        (npy("(" * 100), "cannot be read"), (npy("9" * 110), "no header"), (b"", "no array of NumPy"),
        (b"\x93NUMPY\1\0\xff\xff", "cannot be read"), (b"\x93NUMPY\2\0\xff\xff\xff\xff", "cannot be read"),
        (bytes(300 << 20), "314,572,800 bytes when unpacked"),
    ],
)  # fmt: skip
def test_an_array_that_is_none_is_refused_with_its_name(tmp_path: Path, member: bytes, said: str) -> None:
    put(tmp_path / "data", {"cifar10n.npz": zipped(class_names=member)})
    text = refused(tmp_path / "data", tmp_path / "out", format="cifar_n")
    assert "cifar10n.npz" in text and "'class_names'" in text and said in text


def test_a_zip_that_is_none_is_refused(tmp_path: Path) -> None:
    whole = zipped(class_names=npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", b"a\0\0\0"))
    end = whole.rindex(b"PK\5\6")
    for number, data in enumerate([
        b"", b"PK\3\4", whole[:40], whole[:-5], b"x" * 500,
        whole[: end + 12] + uint32(1 << 30) + whole[end + 16 :],
        whole[: end + 12] + uint32(0xFFFFFFF0) + whole[end + 16 :],
    ]):  # fmt: skip
        put(tmp_path / "data", {"cifar10n.npz": data})
        assert "cifar10n.npz" in refused(tmp_path / "data", tmp_path / f"out{number}", format="cifar_n")
    put(tmp_path / "data", {"cifar10n.npz": whole})
    assert "train_labels_clean" in refused(tmp_path / "data", tmp_path / "out", format="cifar_n")


def test_zip_mutants_are_read_or_refused(tmp_path: Path) -> None:
    rng, ends = random.Random(0), {"read": 0, "refused": 0}
    file = io.BytesIO()
    np.savez_compressed(file, a=np.arange(50), b=np.zeros((3, 3), np.uint8))
    whole, path = file.getvalue(), tmp_path / "a.npz"
    with open(path, "wb", buffering=0) as out:
        for _ in range(2000):
            data = bytearray(whole)
            for _ in range(rng.choice((1, 1, 2, 8))):
                at = rng.randrange(len(data))
                data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
            os.pwrite(out.fileno(), data, 0)
            out.truncate(len(data))
            try:
                with Arrays(path) as arrays:
                    for name in arrays.names:
                        arrays[name]
                ends["read"] += 1
            except SmeltError as error:
                assert "a.npz" in str(error)
                ends["refused"] += 1
    assert min(ends.values()) > 50, ends


def test_a_sheet_of_another_size_is_not_decoded(tmp_path: Path) -> None:
    cifar_npz(tmp_path / "data", np.random.default_rng(0))
    path = tmp_path / "data/cifar10n.npz"
    with np.load(path) as arrays:
        members = dict(arrays)
    for number, image in enumerate(
        [Image.new("RGB", (1600, 1599)), Image.new("RGB", (12_000, 12_000)), None]
    ):
        file = io.BytesIO()
        if image is not None:
            image.save(file, "PNG")
        np.savez(
            path, **{**members, "train_sheet_01": np.frombuffer(file.getvalue() or b"no image", np.uint8)}
        )
        text = refused(tmp_path / "data", tmp_path / f"out{number}", format="cifar_n")
        assert "train_sheet_01 is no sheet of images" in text
    np.savez(path, **{**members, "noisy_worst": members["noisy_worst"][:-1]})
    text = refused(tmp_path / "data", tmp_path / "labels", format="cifar_n")
    assert "not as many labels (noisy_worst: 4999)" in text
