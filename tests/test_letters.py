"""Words that are not UTF-8: read by the encoding given, as latin-1 where that is sure, else refused."""

import os
from pathlib import Path
from typing import Any

import pytest

from formats_toy import catalogue_of, put, refused
from smelt.artifacts.catalogue import Catalogue
from smelt.data.formats.lists import letters
from smelt.errors import DataError

JPEG = b"\xff\xd8\xff"
WORDS = {
    "cp932": ["猫", "犬", "小鳥"],
    "gb18030": ["狗", "猫", "鸟类"],  # the second is UTF-8 too, by chance
    "euc_kr": ["고양이", "개", "새"],
    "big5": ["貓", "狗", "鳥類"],
    "cp1251": ["кошка", "собака", "птица"],
    "cp1253": ["γάτα", "σκύλος", "πουλί"],
}


def named(c: Catalogue) -> dict[str, str]:
    """Path → class, in the order of the paths."""
    found = {c.path(row): c.classes[int(c.labels_N[row])] for row in range(c.num_rows)}
    return dict(sorted(found.items()))


def table(words: list[str], encoding: str, names: list[str] | None = None) -> bytes:
    files = names or [f"i/{i}.jpg" for i in range(2 * len(words))]
    rows = [f"{file},{word}" for file, word in zip(files, words * 2)]
    return "\n".join(["path,label", *rows, ""]).encode(encoding)


@pytest.mark.parametrize("encoding", WORDS)
def test_a_list_whose_encoding_cannot_be_told_is_refused_with_line_and_mend(
    tmp_path: Path, encoding: str
) -> None:
    words = WORDS[encoding]
    files = {f"i/{i}.jpg": JPEG for i in range(6)}
    root = put(tmp_path / "d", {**files, "images.csv": table(words, encoding)})
    text = refused(root, tmp_path / "out")
    assert "images.csv:2: " in text and "is not UTF-8" in text and "-o data.encoding=" in text
    assert f"{encoding} reads it {words[0]!r}" in text
    read = catalogue_of(root, tmp_path / "o", encoding=encoding)
    assert list(named(read).values()) == words * 2


@pytest.mark.parametrize("encoding", WORDS)
def test_class_folders_likewise(tmp_path: Path, encoding: str) -> None:
    words = WORDS[encoding]
    raw = [os.fsdecode(word.encode(encoding)) for word in words]
    root = put(tmp_path / "d", {f"{name}/{i}.jpg": JPEG for name in raw for i in range(3)})
    text = refused(root, tmp_path / "out")
    assert "a class folder: " in text and f"{encoding} reads it" in text
    assert set(catalogue_of(root, tmp_path / "o", encoding=encoding).classes) == set(words)
    assert "is no text in ascii" in refused(root, tmp_path / "a", encoding="ascii")
    for unknown in (
        "klingon",
        "rot13",
        "base64",
    ):  # Python knows the last two, and they make no text of bytes
        assert "knows no encoding" in refused(root, tmp_path / "b", encoding=unknown)


@pytest.mark.parametrize("raw", [False, True])
def test_files_are_found_by_either_form_of_their_names(tmp_path: Path, raw: bool) -> None:
    """A list in Shift-JIS, whose files came with names in it, or were unpacked with names in UTF-8."""
    names = [f"写真/画像{i}.jpg" for i in range(6)]
    there = [os.fsdecode(name.encode("cp932")) if raw else name for name in names]
    content = table(WORDS["cp932"], "cp932", names)
    root = put(tmp_path / "d", {**dict.fromkeys(there, JPEG), "images.csv": content})
    read = catalogue_of(root, tmp_path / "o", encoding="cp932")
    assert list(named(read)) == there and not len(read.missing)


def test_latin_1_is_read_where_it_can_be_nothing_else() -> None:
    sure = ["café", "Größe", "grüßen", "créée", "château", "École", "ÉCOLE", "niño", "smørrebrød", "öl"]
    assert all(letters.western(word.encode("latin-1")) for word in sure)
    # every word of some length of the others is seen; a single sign is not always
    for encoding, words in WORDS.items():
        assert not all(letters.western(word.encode(encoding)) for word in words), encoding
    assert not letters.western("Ñ".encode("latin-1"))  # alone it may be half of anything
    assert letters.in_utf8([b"caf\xe9", b"dog"], None, str) == ["café".encode(), b"dog"]
    assert letters.shown("猫の写真".encode("cp932")).startswith(b"\\x94L")
    with pytest.raises(DataError, match="cp932"):
        letters.in_utf8([b"dog", "猫".encode("cp932")], None, lambda place: f"line {place}")


def test_only_encodings_that_make_words_of_all_are_named() -> None:
    """Signs alone, and what cannot be printed, are no words."""
    words = [word.encode("cp1251") for word in WORDS["cp1251"]]
    assert ("cp1251", "кошка") in letters.readings(words)
    assert "cp1251" not in dict(letters.readings([b"\xab\xbb", *words]))  # « and »


@pytest.mark.parametrize("where", ["label", "path", "header"])
def test_a_zero_byte_in_a_list_is_told(tmp_path: Path, where: str) -> None:
    rows = [f"i/{i}.jpg,{'ab'[i % 2]}" for i in range(6)]
    lines = ["path,label", *rows]
    place = {"label": (3, lines[3] + "\0"), "path": (3, "i/\0" + lines[3][2:]), "header": (0, "path,lab\0el")}
    at, line = place[where]
    lines[at] = line
    files: Any = {f"i/{i}.jpg": JPEG for i in range(6)}
    root = put(tmp_path / "d", {**files, "images.csv": "\n".join(lines).encode()})
    text = refused(root, tmp_path / "o", format="csv")
    assert f"images.csv:{at + 1}" in text and "\0" not in text


def test_a_zero_byte_in_free_text_is_text(tmp_path: Path) -> None:
    rows = [f"i/{i}.jpg,{'ab'[i % 2]},t\0{i},s\0" for i in range(6)]
    files: Any = {f"i/{i}.jpg": JPEG for i in range(6)}
    put(tmp_path / "d", {**files, "images.csv": "\n".join(["path,label,title,source", *rows]).encode()})
    c = catalogue_of(tmp_path / "d", tmp_path / "o", format="csv", val_fraction=0.0)
    assert c.num_rows == 6 and len(c.strings("title", [0])[0]) > 1
