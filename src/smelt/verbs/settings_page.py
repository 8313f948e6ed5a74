"""The page docs/settings.md, from the settings classes (`make settings` writes it)."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from smelt.recipe.fields import Entry, walk
from smelt.recipe.schema import Recipe
from smelt.settings import InKey
from smelt.verbs.explain import key_of, where

HEAD = """# Every setting of a recipe

Made from the settings classes by `make settings`. `smelt explain FIELD` prints the same of one field, with
the value that a recipe gives it (`--recipe`), and `smelt schema` gives it to editors. A recipe is YAML
([own data](own-data.md) shows one); any field can be changed with `-o FIELD=VALUE`. `N` is a place in a
list, counted from 0.

"Key" says which stages run again when the field changes, where that is not simply the stage of the section;
what is in no key changes no result ([flowchart](flowchart.md)).

`rounds.N.train` and `rounds.N.models.N.train` take every field of `train`, over those of the recipe and of
the round.
"""


def page() -> str:
    """The whole page as Markdown."""
    sections: dict[str, list[Entry]] = {}
    for entry in walk(Recipe):
        sections.setdefault(entry.path[0], []).append(entry)
    single = [entries[0] for entries in sections.values() if len(entries) == 1]
    parts = [HEAD, "## The recipe\n", *_table(single)]
    for name, entries in sections.items():
        if len(entries) > 1:
            first, *rest = entries
            parts += [f"\n## {name}\n", f"{first.description} {_takes(first)}\n", *_table(rest)]
    return "\n".join(parts) + "\n"


def _table(entries: list[Entry]) -> Iterator[str]:
    yield "| field | takes | default | what it is |"
    yield "|---|---|---|---|"
    for entry in entries:
        default = "needed" if entry.info.is_required() else f"`{entry.default}`"
        yield f"| `{entry.name}` | {_cell(entry.takes)} | {_cell(default)} | {_cell(_words(entry))} |"


def _takes(entry: Entry) -> str:
    return f"({entry.takes}; {'needed' if entry.info.is_required() else f'default `{entry.default}`'})"


def _words(entry: Entry) -> str:
    told = [entry.description]
    if entry.limit:
        told.append(f"Bounds: {entry.limit}.")
    if not isinstance(entry.rule, InKey) or len(entry.path) == 1:
        told.append(f"Key: {key_of(entry)}.")
    if formats := where(entry):
        told.append(f"For {formats}.")
    return " ".join(told)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(page())
