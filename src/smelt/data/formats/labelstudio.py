"""Label Studio: the exports JSON, JSON-MIN, CSV and TSV of images with choices; one label an image.

JSON: a list of tasks {"data": {"image": …}, "annotations": [{"result": [{"type": "choices", "from_name": …,
"value": {"choices": [word]}}], "was_cancelled": false, "ground_truth": false}]}. JSON-MIN and CSV: a row for
each annotation, {"image": …, "choice": word or {"choices": [word, word]}, "annotator": …, "lead_time": …}.
Annotations that were cancelled, and those with nothing chosen, count for nothing. Those marked as ground
truth go before all others; where annotators disagree the majority counts, in a tie the first. Where nothing
was chosen but boxes or masks have labels, these are the labels. Which question (`from_name`) is the label
says `columns: {label: …}`, and which field the image `columns: {path: …}`.

Images are looked for below the root (see `finder`): `/data/local-files/?d=path` by that path, URLs of hosts
and buckets by theirs, `/data/upload/1/1a2b3c4d-name.jpg` also without the eight digits set before the name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from smelt.artifacts.catalogue_writer import CatalogueWriter
from smelt.data.formats.base import IMAGE_SUFFIXES, Report, as_bytes
from smelt.data.formats.config import FormatSettings
from smelt.data.formats.containers.jsons import name_bytes, parse, walk
from smelt.data.formats.lists.exported import (
    Known,
    Rows,
    add_rows,
    candidates,
    found_lists,
    images_named,
    refuse_many,
    text_or_number,
    wrong,
)  # fmt: skip
from smelt.data.formats.lists.sheets import rows_by_name
from smelt.data.formats.registry import Format
from smelt.data.formats.tree.finder import Finder, local
from smelt.data.formats.tree.layout import Glimpse
from smelt.errors import DataError, short

FORMAT = Format(
    "exports of Label Studio: JSON, JSON-MIN, CSV, TSV",
    order=90,
    takes="lists columns links prefix suffix paths_from delimiter encoding unlabelled split_words "
    "no_label label_is multi_label test_labels",
)

_TASKS = re.compile(rb'"(annotations|completions)"\s*:\s*\[')
_ANNOTATION = re.compile(rb'"(result|was_cancelled|completed_by|lead_time)"\s*:')
_MIN = re.compile(rb'"annotator"\s*:')
_OF_ROW = re.compile(rb'"(annotation_id|lead_time)"\s*:')
_META = frozenset(
    {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "project",
     "file_upload", "comments", "total_annotations", "inner_id"}
)  # fmt: skip
_IMAGES = ("image", "img", "url", "image_url", "picture", "photo")
_CHOICES = ("choice", "choices", "label", "class", "category")
_SERVED = re.compile(rb"[?&]d=([^&#]*)")
_UPLOADED = re.compile(rb"[0-9a-f]{8}-(.+)", re.DOTALL)


def recognise(glimpse: Glimpse) -> str:
    """A JSON of tasks or of rows, or a CSV with the columns of an export."""
    found = _found(glimpse)
    return f"Label Studio's {', '.join(found[:3])}" if found else ""


def _found(glimpse: Glimpse) -> list[str]:
    return [
        name
        for name in candidates(glimpse, (".json", ".csv", ".tsv"))
        if (_is_json if name.lower().endswith(".json") else _is_table)(glimpse.head(name))
    ]


def _is_json(head: bytes) -> bool:
    if not re.match(rb"(\xef\xbb\xbf)?\s*\[\s*\{", head):
        return False
    return bool(
        (_TASKS.search(head) and _ANNOTATION.search(head)) or (_MIN.search(head) and _OF_ROW.search(head))
    )


def _is_table(head: bytes) -> bool:
    names = {name.strip(b'" \r') for name in re.split(rb"[,\t;]", head.split(b"\n", 1)[0])}
    return b"annotator" in names and bool(names & {b"annotation_id", b"lead_time"})


def lists_of(settings: FormatSettings, root: Path) -> list[tuple[str, Path]]:
    """(split or "all", file) of the exports."""
    return found_lists(settings, root, _found(Glimpse(root)), "export of Label Studio (JSON, JSON-MIN, CSV)")


def outside(settings: FormatSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """The exports by content, and what lies in the folder by listing."""
    return images_named(settings, root, [path for _, path in lists_of(settings, root)])


def read(settings: FormatSettings, root: Path, writer: CatalogueWriter, report: Report) -> None:
    """Append the images of each export, in its order."""
    finder = Finder(settings, root, report)
    found, paths = [], []
    for split, path in lists_of(settings, root):
        report.used.add(as_bytes(path, root))
        export = _Export(path, settings, report)
        export.read()
        report.refuse()
        rows = export.rows(split)
        found.append(rows)
        paths.append(finder.locate(rows, finder.folders(rows), [other_names(name) for name in rows.names]))
    add_rows(found, paths, Known(), settings, root, writer, report)


@dataclass
class _Image:
    """An image with all its annotations, each (question → what was chosen, whether it is marked as right).

    place: of the first in the file.
    """

    place: int
    verdicts: list[tuple[dict[str, tuple[bytes, ...]], bool]] = field(default_factory=list)


class _Export:
    """One file, of whichever kind."""

    def __init__(self, path: Path, settings: FormatSettings, report: Report) -> None:
        self.path, self.settings, self.report = path, settings, report
        self.images: dict[bytes, _Image] = {}
        self.kinds: dict[str, Counter[str]] = {}  # question → types of its answers
        self.lines = False
        self._field = self._question = ""

    def read(self) -> None:
        """Take in all tasks. What cannot be right goes to the report with its place."""
        if self.path.suffix.lower() in (".csv", ".tsv", ".txt"):
            self.lines = True
            for line, row in rows_by_name(self.path, self.settings, self.report):
                refuse_many(self.report)
                self._row(row, line, f"{self.path}:{line}")
            return
        for within, place, value in walk(self.path):
            if within or not isinstance(place, int):
                raise DataError(
                    f"{self.path}: no export of Label Studio: it is an object, not a list of tasks"
                )
            refuse_many(self.report)
            where = f"{self.path}: [{place}]"
            if not isinstance(value, dict):
                wrong(where, "it", value, "a task", self.report)
            elif "annotations" in value or "completions" in value or isinstance(value.get("data"), dict):
                self._task(value, place, where)
            else:
                self._row(value, place, where)

    def _task(self, task: dict[str, Any], place: int, where: str) -> None:
        """A task of the export JSON."""
        data = task.get("data")
        if not isinstance(data, dict):
            wrong(where, "`data`", data, "an object with the image", self.report)
            return
        image = self._image(data, data, place, f"{where}: data")
        annotations = task.get("annotations", task.get("completions", []))
        if not isinstance(annotations, list):
            wrong(where, "`annotations`", annotations, "a list", self.report)
            return
        for number, annotation in enumerate(annotations):
            if not isinstance(annotation, dict):
                wrong(f"{where}: annotations[{number}]", "it", annotation, "an object", self.report)
            elif image is not None and annotation.get("was_cancelled") is not True:
                chosen = self._chosen(annotation.get("result"), f"{where}: annotations[{number}]")
                image.verdicts.append((chosen, annotation.get("ground_truth") is True))

    def _chosen(self, result: Any, where: str) -> dict[str, tuple[bytes, ...]]:
        if not isinstance(result, list):
            wrong(where, "`result`", result, "a list", self.report)
            return {}
        chosen: dict[str, tuple[bytes, ...]] = {}
        for number, item in enumerate(result):
            kind = item.get("type") if isinstance(item, dict) else None
            value = item.get("value") if isinstance(item, dict) else None
            if not isinstance(kind, str) or not isinstance(value, dict) or kind not in value:
                continue  # a relation, a rating, a text: no label
            name = str(item.get("from_name", kind))
            if words := self._words(value[kind], f"{where}: result[{number}]"):
                self.kinds.setdefault(name, Counter())[kind] += 1
                chosen[name] = chosen.get(name, ()) + words
        return chosen

    def _row(self, row: dict[str, Any], place: int, where: str) -> None:
        """A row of JSON-MIN or CSV: one annotation."""
        image = self._image(row, {k: v for k, v in row.items() if k not in _META}, place, where)
        if image is None:
            return
        if not self._question:
            self._question = self._question_of(row, where)
        value = row.get(self._question)
        if isinstance(value, str) and value.lstrip()[:2] in ('{"', "[{", '["', "[]", "{}"):
            value = parse(value.encode("utf-8", "replace"), f"{where}: {self._question}")
        words = self._words(value, f"{where}: {self._question}") if value is not None else ()
        if words:
            self.kinds.setdefault(self._question, Counter())["choices"] += 1
        image.verdicts.append(({self._question: words} if words else {}, False))

    def _image(self, row: dict[str, Any], data: dict[str, Any], place: int, where: str) -> _Image | None:
        if not self._field or self._field not in row:
            self._field = self._field_of(data, where)
        url = row.get(self._field)
        name = name_bytes(url) if isinstance(url, str) else None
        if not name or not name.strip():
            wrong(where, f"`{self._field}`", url, "the path or URL of an image", self.report)
            return None
        if name.startswith(b"data:"):
            self.report.problem(
                f"{where}: `{self._field}` holds the image itself (data:…); save it as a file"
            )
            return None
        return self.images.setdefault(name, _Image(place))

    def _field_of(self, data: dict[str, Any], where: str) -> str:
        """The field that holds the image."""
        if own := self.settings.columns.get("path"):
            if own not in data:
                raise DataError(f"{where}: there is no {own!r} (data.columns.path); there is {_shown(data)}")
            return own
        usual = [name for name in _IMAGES if isinstance(data.get(name), str)]
        looks = [
            name
            for name, value in data.items()
            if isinstance(value, str) and value.partition("?")[0].lower().endswith(IMAGE_SUFFIXES)
        ]
        found = usual[:1] or looks
        if len(found) != 1:
            raise DataError(
                f"{where}: which of {_shown(data)} is the image cannot be told: -o data.columns.path=NAME"
            )
        return found[0]

    def _question_of(self, row: dict[str, Any], where: str) -> str:
        """The column of a row that holds the label."""
        if own := self.settings.columns.get("label"):
            return own
        usual = [name for name in _CHOICES if name in row]
        rest = [name for name in row if name not in _META and name != self._field]
        found = usual[:1] or rest
        if len(found) != 1:
            raise DataError(
                f"{where}: which of {_shown(row)} is the label cannot be told: -o data.columns.label=NAME"
            )
        return found[0]

    def _words(self, value: Any, where: str) -> tuple[bytes, ...]:
        """All labels in a value: a word, a list of words, {"choices": […]}, or boxes with lists of labels."""
        found = []
        for item in _flat(value):
            word = text_or_number(item)
            if word is None:
                wrong(where, "a choice", item, "a word", self.report)
            elif word.strip():
                found.append(word.strip())
        return tuple(dict.fromkeys(found))

    def rows(self, split: str) -> Rows:
        """The images with the labels that the annotations come to."""
        rows = Rows(self.path, split, lines=self.lines)
        question = self._asked()
        torn = ties = 0
        for name, image in self.images.items():
            sure = [chosen for chosen, truth in image.verdicts if truth]
            sure = sure or [chosen for chosen, _ in image.verdicts]
            said = [chosen[question] for chosen in sure if chosen.get(question)]
            counts = Counter(frozenset(words) for words in said)
            most = max(counts.values(), default=0)
            torn += len(counts) > 1
            ties += sum(count == most for count in counts.values()) > 1
            rows.add(
                name, next((words for words in said if counts[frozenset(words)] == most), ()), image.place
            )
        if torn:
            self.report.warn(
                f"{self.path}: the annotators of {torn:,} images disagree: the majority counts, and where "
                f"there is none, of {ties:,} of them, the first annotation"
            )
        return rows

    def _asked(self) -> str:
        """The question whose answers are the labels."""
        own = self.settings.columns.get("label")
        if own is not None and own not in self.kinds:
            there = ", ".join(sorted(self.kinds)[:10]) or "none"
            raise DataError(f"{self.path}: no answers to {own!r} (data.columns.label); answered: {there}")
        chosen = [name for name, kinds in self.kinds.items() if "choices" in kinds]
        found = [own] if own else chosen or list(self.kinds)
        if len(found) > 1:
            raise DataError(
                f"{self.path}: {len(found)} questions are answered: {', '.join(sorted(found)[:10])}. Say "
                f"which is learnt: -o data.columns.label={min(found)}"
            )
        if found and not chosen and not own:
            kinds = ", ".join(self.kinds[found[0]])
            self.report.note(f"{self.path}: no choices; the labels are those of its {kinds}")
        return found[0] if found else ""


def _flat(value: Any) -> Iterator[Any]:
    """The words in a value, at most four levels deep; null is none. What else there is comes as it is."""
    level = [value]
    for _ in range(4):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                lists = [value for key, value in item.items() if key == "choices" or key.endswith("labels")]
                deeper += lists or [item.get("taxonomy", [])]
            elif isinstance(item, list):
                deeper += item
            elif item is not None:
                yield item
        level = deeper
    yield from level


def other_names(name: bytes) -> list[bytes]:
    """What the image of a URL may be called below the root, beside the path in it, the surest first."""
    found = []
    if served := _SERVED.search(name):
        found.append(local(unquote_to_bytes(served[1])))
    found += [local(unquote_to_bytes(name.partition(b"?")[0]))]
    for path in [local(name), *found]:
        if uploaded := _UPLOADED.fullmatch(path.rpartition(b"/")[2]):
            found.append(uploaded[1])
    return list(dict.fromkeys(path for path in found if path))


def _shown(row: dict[str, Any]) -> str:
    """The fields of a row with what they hold, for messages."""
    return ", ".join(f"{key} ({short(json.dumps(value), 40)})" for key, value in list(row.items())[:12])
