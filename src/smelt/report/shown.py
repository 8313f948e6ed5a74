"""Text that others wrote, as a page can show it: a line of bounded length that turns nothing else around.

Escaping is the business of the template and of `charts.escape`; this is about what HTML has no escape for:
control characters, characters that set the direction of writing for all that follows, and sheer length.
"""

from __future__ import annotations

import unicodedata

from smelt.errors import short

LONGEST = 160  # characters of a name or a path
BRIEF = 40  # of one under a small picture
NAME = 80  # of the name of a class or a source, among others
TITLE = 300  # of a title in a gallery
_MARKS = (
    0x061C,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x2070),
    *range(0xFFF9, 0xFFFC),
    0xFEFF,
)
_BREAKS = (0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029)
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000))
# the last of them wins: breaks of lines are controls too
_PLAIN: dict[int, str] = {
    **dict.fromkeys(_CONTROLS, "\N{REPLACEMENT CHARACTER}"),
    **dict.fromkeys(_MARKS, ""),
}
_LINE: dict[int, str] = {**_PLAIN, **dict.fromkeys(_BREAKS, " ")}
_LINES: dict[int, str] = {code: words for code, words in _PLAIN.items() if code not in (0x09, 0x0A)}
_APART, _END = "\u2068", "\u2069"  # what is between them has a direction of its own
_PAIRED: dict[int, str] = {code: words for code, words in _LINES.items() if chr(code) not in (_APART, _END)}


def shown(words: object, width: int = LONGEST) -> str:
    """`words` in at most `width` characters of one line; what reads from right to left is set apart."""
    text = str(words)
    if len(text) > 4 * width:  # look at no more of it than could be shown
        text = f"{text[: 2 * width]} … {text[-2 * width :]}"
    text = short(text.translate(_LINE), width)
    if text.isascii() or not any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text):
        return text
    return f"{_APART}{text}{_END}"


def crawled(words: str) -> str:
    """A crawled title: its beginning."""
    text = words[: 4 * TITLE].translate(_LINE).strip()
    return text if len(text) <= TITLE else text[: TITLE - 1] + "…"


def lines(words: str) -> str:
    """Text of several lines, of any length, without controls; what `shown` set apart stays so."""
    if words.isascii() and words.isprintable():
        return words
    return words.translate(_PAIRED if _closes(words) else _LINES)


def _closes(words: str) -> bool:
    """Whether every part that is set apart ends, and ends after it begins."""
    open_ = 0
    for letter in words if _APART in words or _END in words else "":
        open_ += (letter == _APART) - (letter == _END)
        if open_ < 0:
            return False
    return open_ == 0
