"""What crawled names may hold never reaches a terminal as a command."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from smelt.errors import printable
from smelt.flowchart.progress import Progress


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_only_what_can_be_seen_is_printed(text: str) -> None:
    shown = printable(text)
    assert all(character == "\n" or character.isprintable() for character in shown)
    assert printable(shown) == shown == shown.encode().decode()
    assert not text.isprintable() or shown == text


def test_a_class_name_cannot_speak_to_the_terminal() -> None:
    stream = io.StringIO()
    Progress(stream)({"event": "warning", "id": "index", "text": "class \x1b]0;owned\x07\u202etac"})
    assert stream.getvalue() == "index: class \\x1b]0;owned\\x07\\u202etac\n"
