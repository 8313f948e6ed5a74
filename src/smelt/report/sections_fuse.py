"""Section on fusion: what each way of it holds out, gain over the number of results, weights, similarity."""

from __future__ import annotations

from smelt.flowchart.work import Work
from smelt.report import charts
from smelt.report.blocks import Block, Section, chart, paragraph, section, table
from smelt.report.findings import Fused

MOST = 40  # results in the table; fusion.json holds all
NOTE = "Lines: intervals by bootstrap over classes and images. In the second colour: what was chosen."


def fusion(work: Work) -> Section | None:
    """Everything in `fusion.json`."""
    record = work.one("fuse").json("fusion.json")
    if not record:
        return None
    found = Fused(record)
    said = [record["words"][:1].upper() + record["words"][1:] + ".", found.held_out()]
    said += [f"Warning: {text}." for text in record.get("warnings", [])]
    blocks = [paragraph(words) for words in said if words]
    blocks += _methods(found)
    if record.get("curve"):
        points = [(float(point["results"]), float(point["accuracy"])) for point in record["curve"]]
        picture = charts.lines(
            {"plain average": points}, "results averaged, best first", f"{found.metric}, %", percent=True
        )
        blocks.append(chart(picture, f"Gain over the number of results ({found.metric} on validation)"))
    blocks += _results(found, _names(work, found))
    intro = (
        "Weights are fitted on some folds of the validation images and judged on the others. Which fusion is "
        "used is a choice too: the whole of it is made again without each fold and judged on that one, for "
        "the best of several figures is always too good."
    )
    return section("fusion", "Fusion", blocks, intro)


def _methods(found: Fused) -> list[Block]:
    judged = found.judged
    if not judged:
        return []
    bars = [(one["title"], one["gain"], (one["interval"][0], one["interval"][1])) for one in judged]
    if held := found.record.get("held_out"):
        bars.append(("the whole choice", held["gain"], (held["gain_interval"][0], held["gain_interval"][1])))
    best = next((i for i, one in enumerate(judged) if one["method"] == found.record["chosen"]), None)
    title = f"Held-out gain over the plain average, points of {found.metric}"
    return [chart(charts.gains(bars, best=best), title, note=NOTE), *table(found.methods())]


def _names(work: Work, found: Fused) -> list[str]:
    """Names of the results for people: results know their model by its key, people by its round."""
    known = {item.key[:8]: item.name for item in work.of("train") if item.path}
    names = []
    for one in found.record.get("results", []):
        model, _, view = one["name"].rpartition("/")
        names.append(f"{known.get(model.rpartition('-')[2], model)} {view}")
    return names


def _results(found: Fused, names: list[str]) -> list[Block]:
    blocks: list[Block] = []
    results = found.record.get("results", [])
    worth = found.results(names, MOST) if results and "accuracy" in results[0] else None
    if worth:
        blocks += [paragraph(words) for words in [found.by_class()] if words]
        blocks += table(worth)
    similarity = found.record.get("likeness")
    if similarity and len(similarity) > 1:
        picture = charts.heatmap(names, similarity, "how alike the results are")
        note = "Correlation of being wrong on the same images; the stronger the colour, the more alike."
        blocks.append(chart(picture, "How alike the results are", note=note))
    return blocks
