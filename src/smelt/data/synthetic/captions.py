"""What the web says around an image: queries, titles, descriptions, tags; some hostile, some missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from smelt.data.synthetic.config import SyntheticSettings
from smelt.data.synthetic.plan import OUT_OF_VOCABULARY, SOURCES, UNKNOWN, Plan

Rng = np.random.Generator

_QUERIES = ("{}", "{} photo", "wild {}", "{} close up", "{} nature")
_TITLES = (
    "{}", "{} – free stock photo", "A {} in the garden", "The {} (2014)", "{} | Museum of Things", "my {}!",
    "Photo of {}, Basel", "{} by the sea", "{} · macro", "Bild: {} – Übersicht", "{}写真", "{} &amp; friends",
)  # fmt: skip
_PLACES = (
    "market stall", "old harbour", "workshop", "kitchen table", "winter fair", "attic", "school yard",
    "train",
)  # fmt: skip
_STRAYS = (
    "holiday 2011", "DSC_0132", "IMG_4471.JPG", "untitled", "new shoes", "price list", "our cat",
    "map of Lyon",
)  # fmt: skip
_SENTENCES = (
    "Taken at the {place}. It took three tries to get the light right.",
    "You searched for {query}. See more pictures like this one.",
    "{query}: size, habitat, price. Buy now, ships in 2 days.",
    "We saw this {shown} near the {place} and had to stop.",
    "Part of the series “{query}”, no. {number}.",
)
_TAGS = ("macro", "nikon", "2012", "square", "art", "colour", "bokeh", "summer", "étude", "花", "canoneos")
HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "\u202egnp.exe \u2066 turned around \u2069",
    "👩‍👩‍👧‍👦🏳️‍🌈 e\u0301\u0323 Z͑ͫ̓ͪ̂ͫ̽͏̴̙a",
    "line\nbreak\tand \\ \"quotes\" 'single' & ampersand",
    "javascript:alert(1)//" + "long" * 60,
    "<!-- --> ]]> <style>*{display:none}</style>",
)


def _pick(options: tuple[str, ...], rng: Rng) -> str:
    return options[rng.integers(len(options))]


def query_text(plan: Plan, query: int) -> str:
    """The text that was typed for a query; the first of a class is the class's name."""
    before = int(np.searchsorted(plan.queries, plan.queries[query]))
    return _QUERIES[query - before].format(plan.table.names[plan.queries[query]])


def entry(plan: Plan, settings: SyntheticSettings, row: int, rank: int) -> dict[str, Any]:
    """The JSON object of a training row; `rank` counts from 1 within its query and source.

    Titles mostly name what is shown, descriptions what was searched for. Any key may be absent but `id`.
    """
    rng = np.random.default_rng([settings.seed, 6, row])
    source = SOURCES[plan.source_N[row]]
    query = query_text(plan, int(plan.query_N[row]))
    shown = _shown(plan, row, rng)
    title = _pick(_TITLES, rng).format(shown)
    fields = {"place": _pick(_PLACES, rng), "query": query, "shown": shown, "number": rng.integers(1, 40)}
    description = _pick(_SENTENCES, rng).format(**fields)
    if rng.random() < settings.hostile:
        title = f"{title} {_pick(HOSTILE, rng)}"
    if rng.random() < settings.hostile:
        description = f"{_pick(HOSTILE, rng)} {description}"
    name = str(plan.names_N[row])
    found: dict[str, Any] = {"id": name, "title": title, "description": description}
    if source == "google":
        found |= {"rank": str(rank), "url": f"http://www.example.com/{plan.query_N[row] + 1}/{name}.jpg"}
    else:
        tags = [*rng.permutation(_TAGS)[: rng.integers(0, 5)].tolist(), *shown.split()[-2:]]
        found["tags"] = tags if rng.random() < 0.5 else " ".join(tags)
    for key in ("title", "description", "tags", "url"):
        if key in found and rng.random() < 0.07:
            del found[key]
    return found


def _shown(plan: Plan, row: int, rng: Rng) -> str:
    """What a person would say the picture shows; often what was searched for, even where that is wrong."""
    truth = int(plan.truth["train"][row])
    if truth == UNKNOWN or rng.random() < 0.25:
        truth = int(plan.labels["train"][row])
    return _pick(_STRAYS, rng) if truth == OUT_OF_VOCABULARY else plan.table.names[truth]
