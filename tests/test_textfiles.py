"""Delimited text: delimiters, headers, quotes, marks and line ends as programs write them."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from smelt.errors import ArtifactError, ResultError
from smelt.fusion.scores import textfiles

ROWS = [["a.jpg", "1", "2"], ["b c.jpg", "3", "4"]]


def rows(path: Path) -> list[list[str]]:
    return list(textfiles.read(path))


@pytest.mark.parametrize("sign", [",", ";", "\t", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("quote", ["", '"'])
def test_one_table_in_every_writing(tmp_path: Path, sign: str, end: str, mark: bytes, quote: str) -> None:
    path = tmp_path / "a.csv"
    for header in ([], [["image_id", "cat", "dog"]]):
        text = end.join(sign.join(f"{quote}{cell}{quote}" for cell in row) for row in [*header, *ROWS]) + end
        path.write_bytes(mark + text.encode())
        assert rows(path) == ROWS
        assert textfiles.read(path).header == (header[0] if header else None)


def test_wide_text_and_cells_that_hold_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,é\nx,1\n".encode("utf-16"))
    assert textfiles.read(path).header == ["id", "é"]
    path.write_text('id,label\n"a,b.jpg","x ""y"""\n')
    assert rows(path) == [["a,b.jpg", 'x "y"']]


@pytest.mark.parametrize(
    "text, header",
    [
        ("id,label\nx,cat\n", True),
        ("picture,what\nx,3\n", True),
        ("x,3\ny,4\n", False),
        (",0,1\nx,.5,.5\n", True),
        ("picture,0,1,2\nx,.2,.3,.5\n", True),
        ("x,0,1,2\ny,2,1,0\n", False),
        ("0.1,0.9\n0.3,0.7\n", False),
        ("cat,dog\n0.1,0.9\n", True),
        ("x,cat\ny,dog\n", False),
    ],
)
def test_headers(tmp_path: Path, text: str, header: bool) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert (textfiles.read(tmp_path / "a.csv").header is not None) == header


def test_line_numbers_count_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,a\n\nx,1\n\n\ny,2\n")
    assert textfiles.read(tmp_path / "a.csv").lines == [3, 6]


def test_numbers() -> None:
    cells = ("1e-3", "0,25", "-1,5", "4.5 %", "x", "")
    assert [textfiles.number(cell) for cell in cells] == [1e-3, 0.25, -1.5, 4.5, None, None]


def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,a\nx,1\n\xff\xe9,2\n")
    with pytest.raises(ArtifactError, match=r"a\.csv:3 is not UTF-8"):
        textfiles.read(path)
    path.write_bytes(b"id\0,a\n")
    with pytest.raises(ArtifactError, match="zero bytes"):
        textfiles.read(path)
    path.write_text("\n\n")
    with pytest.raises(ResultError, match="empty"):
        textfiles.read(path)
