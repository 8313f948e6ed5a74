"""Section on fusion: what each way of it holds out, gain over the number of results, weights, likeness."""

from __future__ import annotations

from typing import Any

from smelt.report import charts
from smelt.report.blocks import Block, Section, chart, paragraph, percent, section, table
from smelt.report.collect import Run
from smelt.report.shown import NAME, shown

SHIFTED = 4  # classes that are shown of those that such a fusion raises, and lowers
MOST = 40  # results in the table; fusion.json holds all
NOTE = "Lines: intervals by bootstrap over classes and images. In the second colour: what was chosen."


def fusion(run: Run) -> Section | None:
    """Everything in `fusion.json`."""
    found = run.one("fuse").json("fusion.json")
    if not found:
        return None
    blocks: list[Block] = [paragraph(found["words"][:1].upper() + found["words"][1:] + ".")]
    blocks += _held_out(found)
    blocks += [paragraph(f"Warning: {text}.") for text in found.get("warnings", [])]
    blocks += _methods(found)
    if found.get("curve"):
        points = [(float(point["results"]), float(point["accuracy"])) for point in found["curve"]]
        picture = charts.lines(
            {"plain average": points}, "results averaged, best first", f"{_words(found)}, %", percent=True
        )
        blocks.append(chart(picture, f"Gain over the number of results ({_words(found)} on validation)"))
    blocks += _results(found, _names(run, found))
    intro = (
        "Weights are fitted on some folds of the validation images and judged on the others. Which fusion is "
        "used is a choice too: the whole of it is made again without each fold and judged on that one, for "
        "the best of several figures is always too good."
    )
    return section("fusion", "Fusion", blocks, intro)


def _words(found: dict[str, Any]) -> str:
    """The metric as people write it: top-1."""
    return str(found["metric"]).replace("top", "top-")


def _held_out(found: dict[str, Any]) -> list[Block]:
    """The honest figure of the choice, its interval, and how many images stand behind it."""
    held, metric = found.get("held_out"), found["metric"]
    if not held:
        return []
    text = f"The whole choice holds out {percent(held[metric])} % ({_words(found)})"
    if held.get("interval"):
        low, high = held["interval"][metric]
        text += f", 95 % interval {percent(low)} … {percent(high)}"
    text += f", on {held['images']} images"
    if held["groups"] < held["images"]:
        text += (
            f" of which {held['groups']} are different (worth {held['effective']:.0f} equally frequent ones)"
        )
    low, high = held["gain_interval"]
    text += (
        f". Over the plain average: {100 * held['gain']:+.2f} points ({100 * low:+.2f} … {100 * high:+.2f})."
    )
    return [paragraph(text)]


def _methods(found: dict[str, Any]) -> list[Block]:
    metric = found["metric"]
    methods = [entry for entry in found["methods"] if "held_out" in entry]
    if not methods:
        return []
    bars = [
        (entry["title"], entry["gain"], (entry["interval"][0], entry["interval"][1])) for entry in methods
    ]
    if held := found.get("held_out"):
        bars.append(("the whole choice", held["gain"], (held["gain_interval"][0], held["gain_interval"][1])))
    best = next((i for i, entry in enumerate(methods) if entry["method"] == found["chosen"]), None)
    picture = charts.gains(bars, best=best)
    rows = [
        [
            entry["title"],
            percent(entry["chosen_by"][metric]),
            percent(entry["held_out"][metric]),
            f"{100 * entry['gain']:+.2f}",
            f"{100 * entry['interval'][0]:+.2f} … {100 * entry['interval'][1]:+.2f}",
            percent(entry["sure"], 0),
        ]
        for entry in methods
    ]
    header = ["way of fusing", "fitted on, %", "held out, %", "gain, points", "interval", "sure, %"]
    return [
        chart(picture, f"Held-out gain over the plain average, points of {_words(found)}", note=NOTE),
        table(header, rows, "Each way by itself: the best of these figures is not what the choice holds out"),
    ]


def _names(run: Run, found: dict[str, Any]) -> list[str]:
    """Names of the results for people: results know their model by its key, people by its round."""
    known = {item.path.name.rpartition("-")[2][:8]: item.name for item in run.of("train") if item.path}
    names = []
    for entry in found.get("results", []):
        model, _, view = entry["name"].rpartition("/")
        names.append(f"{known.get(model.rpartition('-')[2], model)} {view}")
    return names


def _by_class(found: dict[str, Any]) -> list[Block]:
    """Where the chosen fusion has weights of each class: the classes that it raises and lowers most."""
    chosen = [entry for entry in found["methods"] if entry["method"] == found["chosen"]]
    biases = next((entry.get("biases") for entry in chosen), None)
    if not biases:
        return []
    names = found.get("classes") or [str(number) for number in range(len(biases))]
    ordered = sorted(zip(biases, names), key=lambda pair: -pair[0])
    raised = [f"{shown(name, NAME)} {bias:+.2f}" for bias, name in ordered[:SHIFTED] if bias > 0]
    last = ordered[: -SHIFTED - 1 : -1]
    lowered = [f"{shown(name, NAME)} {bias:+.2f}" for bias, name in last if bias < 0]
    text = (
        "Every class has weights and a bias of its own (fusion.json); the weights below are their means. "
        f"Biases, in logits: {', '.join([*raised, *lowered]) or 'none'}."
    )
    return [paragraph(text)]


def _results(found: dict[str, Any], names: list[str]) -> list[Block]:
    metric = found["metric"]
    results = found.get("results", [])
    blocks: list[Block] = []
    if results and "accuracy" in results[0]:
        ordered = sorted(zip(names, results), key=lambda pair: -pair[1]["weight"])[:MOST]
        rows = [
            [
                name + (" (set aside)" if e.get("set_aside") else ""),
                f"{e['weight']:.4f}",
                percent(e["accuracy"][metric]),
                f"{100 * e['without']:+.2f}",
            ]
            for name, e in ordered
        ]
        by_class = _by_class(found)
        blocks += by_class
        weight = "mean weight" if by_class else "weight"
        header = ["result", weight, f"own {_words(found)}, %", "lost without it, points"]
        blocks.append(table(header, rows, "What each result is worth to the chosen fusion"))
    likeness = found.get("likeness")
    if likeness and len(likeness) > 1:
        picture = charts.heatmap(names, likeness, "how alike the results are")
        note = "Correlation of being wrong on the same images; the stronger the colour, the more alike."
        blocks.append(chart(picture, "How alike the results are", note=note))
    return blocks
