"""Scores as fusion reads them: every number looked at once, their meaning found, top-K results made whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.artifacts import results
from smelt.errors import ResultError
from smelt.fusion.scores import meaning as meanings
from smelt.fusion.scores import suspects
from smelt.fusion.scores.arrayfiles import Raw
from smelt.fusion.scores.meaning import Found, Meaning, Stats
from smelt.fusion.scores.sources import Held

BLOCK = 1 << 22  # scores looked at at once
LIMIT = 1e15  # beyond it, squares of differences leave float32: no score means that much


def hold(
    raw: Raw, lines: NDArray[np.int64] | None, num_classes: int, said: Meaning | None
) -> tuple[Held, Found]:
    """The result as fusion reads it, and what it means. Lists become scores K … 1, 0 for the others."""
    if raw.lists_NK is not None:
        kept = raw.lists_NK.shape[1]
        found = Found("lists", f"the best {kept} classes of each image, without scores")
        scores = np.zeros((len(raw), num_classes), np.float16)
        np.put_along_axis(scores, raw.lists_NK, np.arange(kept, 0, -1, dtype=np.float16)[None], axis=1)
        return Held(raw.name, "logits", scores, num_classes, order=lines), found
    if isinstance(raw.scores, results.TopK):
        return _held_top(raw, raw.scores, lines, num_classes, said)
    assert raw.scores is not None
    stats = examine(raw, raw.scores)
    if said is not None or raw.kind is not None:
        because = "as --kind says" if said else raw.why
        found = meanings.said(said or raw.kind or "logits", stats, str(raw.path), because)
    else:
        found = meanings.find(stats)
    if stats.minus_inf and found.floor is None:
        raise ResultError(
            f"{raw.at(stats.cut_line)} is not finite (−inf, which only log-probabilities may have)"
        )
    scores = raw.scores
    if scores.dtype not in (np.float16, np.float32) or not scores.dtype.isnative:
        scores = np.asarray(scores, np.float32)  # what fusion computes in
    kept_as_it_is = found.meaning in ("logits", "log_probabilities", "probabilities") and not found.rescaled
    convert = None if kept_as_it_is and found.floor is None else found
    return Held(raw.name, found.kind, scores, num_classes, lines, raw.places, convert), found


def examine(raw: Raw, scores_NC: NDArray[Any]) -> Stats:
    """Ends and sums of all scores; ResultError with the line where one is not finite or beyond all sense."""
    step = max(1, BLOCK // scores_NC.shape[1])
    sums, low, high, cut = [], np.inf, -np.inf, -1
    for start in range(0, len(scores_NC), step):
        block = np.asarray(scores_NC[start : start + step])
        whole = block if block.dtype.itemsize >= 4 else block.astype(np.float32)
        wrong = np.isnan(whole) | (np.abs(whole) > LIMIT)
        if wrong.any():
            minus = np.isneginf(whole)
            if bool((wrong & ~minus).any()) or bool(minus.all(axis=1).any()):
                worst = (wrong & ~minus).any(axis=1) | minus.all(axis=1)
                _refuse_line(raw, start + int(worst.argmax()), whole[int(worst.argmax())])
            cut = cut if cut >= 0 else start + int(minus.any(axis=1).argmax())
            whole = np.where(minus, np.nan, whole)
        sums.append(np.nansum(whole, axis=1, dtype=np.float64))
        low, high = min(low, float(np.nanmin(whole))), max(high, float(np.nanmax(whole)))
    sample = np.unique(np.linspace(0, len(scores_NC) - 1, meanings.SAMPLE).astype(np.int64))
    picked = np.asarray(scores_NC[sample]).astype(np.float64)
    return Stats(low, high, np.concatenate(sums), picked, minus_inf=cut >= 0, cut_line=cut)


def _refuse_line(raw: Raw, line: int, row: NDArray[Any]) -> None:
    if np.isfinite(row).all():
        place = int(np.abs(row).argmax())
        raise ResultError(
            f"{raw.at(line)} holds {row[place]:.3g} (class {place}): "
            f"nothing can be computed with scores beyond {LIMIT:.0e}; clip or scale them"
        )
    raise ResultError(f"{raw.at(line)} is not finite (NaN or inf)")


def _held_top(
    raw: Raw, top: results.TopK, lines: NDArray[np.int64] | None, num_classes: int, said: Meaning | None
) -> tuple[Held, Found]:
    """A top-K result, the best first, in the common order, with bounds of what was cut."""
    examine(raw, np.asarray(top.scores_NK))
    found = meanings.of_topk(top)
    if said is not None or raw.kind is not None:
        found = Found(said or raw.kind or "logits", "as --kind says" if said else raw.why)
    if found.meaning not in ("logits", "log_probabilities", "probabilities", "percentages"):
        raise ResultError(
            f"{raw.path}: a top-K result cannot hold {found.meaning}: too much of a row is missing"
        )
    if found.meaning == "percentages":
        top = replace(top, scores_NK=np.asarray(top.scores_NK, np.float32) / np.float32(100))
    top = _sorted(top)
    if found.kind == "probabilities" and raw.kind is None:
        top = _bounded(top)
    if lines is not None:
        top = results.TopK(top.classes_NK[lines], top.scores_NK[lines], top.floor_N[lines], top.tail_N[lines])
    return Held(raw.name, found.kind, top, num_classes), found


def _sorted(top: results.TopK) -> results.TopK:
    """The best class first, among equals the lower number; scores as float16 or float32."""
    scores = top.scores_NK
    if scores.dtype not in (np.float16, np.float32):
        scores = np.asarray(scores, np.float32)
        top = replace(top, scores_NK=scores, floor_N=np.asarray(top.floor_N, np.float32))
    if not (scores[:, 1:] > scores[:, :-1]).any():
        return top
    numbers = np.asarray(top.classes_NK)
    order = np.lexsort((numbers, -np.asarray(scores, np.float32)), axis=1)
    return replace(
        top, classes_NK=np.take_along_axis(numbers, order, axis=1),
        scores_NK=np.take_along_axis(np.asarray(scores), order, axis=1),
    )  # fmt: skip


def _bounded(top: results.TopK) -> results.TopK:
    """Cut probabilities are not below 0, and share what the kept ones leave."""
    left = 1 - np.asarray(top.scores_NK, np.float64).sum(axis=1)
    floor = np.zeros(len(top), np.asarray(top.scores_NK).dtype)
    return replace(top, floor_N=floor, tail_N=np.clip(left + 1e-3, 0, 1).astype(np.float32))


def directed(
    held: list[Held], found: list[Found], labels_N: NDArray[np.int32] | None
) -> tuple[list[Held], list[Found]]:
    """Rankings with the end that labels, or else the other results, show to be the best."""
    sure = [one for one, what in zip(held, found) if not what.unsure]
    for place, what in enumerate(found):
        if not what.unsure:
            continue
        ends: dict[Meaning, float] = {}
        for meaning in ("ranks", "points"):
            told = replace(what, meaning=meaning, unsure=False)
            ends[meaning] = suspects.worth(replace(held[place], found=told), sure, labels_N)
        best: Meaning = "ranks" if ends["ranks"] > ends["points"] else "points"
        if ends["ranks"] == ends["points"]:
            raise ResultError(
                f"{held[place].name}: {what.why}, and nothing tells which end is the best: say --kind "
                f"{held[place].name}=ranks (the lowest is the best) or =points (the highest is)"
            )
        by = "labels" if labels_N is not None and (labels_N >= 0).any() else "the other results"
        end = "lowest" if best == "ranks" else "highest"
        found[place] = Found(best, f"{what.why}; by {by} the {end} is the best")
        held[place] = replace(held[place], found=found[place])
    return held, found
