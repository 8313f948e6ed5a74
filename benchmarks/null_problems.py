"""Does the guard keep its promise? Problems whose truth is known, fused, and valued on fresh images.

    python benchmarks/null_problems.py --quick --json       a few problems of each family, some minutes
    python benchmarks/null_problems.py --trials 40          the table of docs/log.md
    python benchmarks/null_problems.py --family one_good --images 2000

Each line: n problems; the gain over the plain average of probabilities that `held_out` promises, and the
gain of the fusion that was chosen on FRESH images that nobody has seen, in points of class-averaged top-1,
mean ± standard error; their difference with its interval of 95 %; and how often something else than the
plain average was chosen.

Families: `exchangeable` results are equally good and nothing can be gained; `sharp` ones are so too, but
some are far surer of themselves; `ties`: scores are rounded to a few levels; `imbalanced`: three classes,
of which one has four fifths of the images; `copies`: every image is there several times; `one_good`: one
result of many is good, and weights do help; `real` (with --real LOGITS LABELS) fuses half of real results
and is valued on the other half.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.fusion.apply import Fusion, plain_hits
from smelt.fusion.config import FuseSettings
from smelt.fusion.procedure import fuse
from smelt.fusion.scores.sources import Held
from smelt.metrics import class_averaged

FRESH = 20_000
Drawn = tuple[NDArray[np.float32], NDArray[np.int32]]  # scores (M, N, C), labels (N,)
Draw = Callable[[int], Drawn]


def shared_noise(
    random: np.random.Generator,
    results: int = 8,
    classes: int = 10,
    noise: float | NDArray[Any] = 1.5,
    shares: NDArray[Any] | None = None,
) -> Draw:
    """Scores of one image's classes: raised for the label, noise that all results share and noise of each."""

    def draw(images: int) -> Drawn:
        labels = random.choice(classes, images, p=shares).astype(np.int32)
        base = random.normal(size=(images, classes))
        base[np.arange(images), labels] += 1.5
        own = random.normal(size=(results, images, classes))
        return (base + own * np.reshape(noise, (-1, 1, 1))).astype(np.float32), labels

    return draw


def sharp(random: np.random.Generator) -> Draw:
    """Equally good results, some far surer of themselves than others."""
    draw, scale = shared_noise(random), np.exp(0.7 * random.normal(size=(8, 1, 1)))

    def scaled(images: int) -> Drawn:
        scores, labels = draw(images)
        return (scores * scale).astype(np.float32), labels

    return scaled


def ties(random: np.random.Generator) -> Draw:
    """Scores of a few levels, so that often several classes are best."""
    draw = shared_noise(random)

    def rounded(images: int) -> Drawn:
        scores, labels = draw(images)
        return np.round(scores), labels

    return rounded


def copies(random: np.random.Generator) -> Draw:
    """Every image there five times; fresh images are single."""
    draw = shared_noise(random)

    def repeated(images: int) -> Drawn:
        if images == FRESH:
            return draw(images)
        scores, labels = draw(images // 5)
        return np.repeat(scores, 5, axis=1), np.repeat(labels, 5)

    return repeated


FAMILIES: dict[str, Callable[[np.random.Generator], Draw]] = {
    "exchangeable": shared_noise,
    "sharp": sharp,
    "ties": ties,
    "imbalanced": lambda random: shared_noise(random, classes=3, shares=np.array([0.8, 0.15, 0.05])),
    "copies": copies,
    "one_good": lambda random: shared_noise(random, noise=np.array([0.3] + [3.0] * 7)),
}


def held(scores_MNC: NDArray[Any]) -> list[Held]:
    return [Held(f"m{index}", "logits", one, one.shape[1]) for index, one in enumerate(scores_MNC)]


def accuracy(fusion: Fusion, sources: list[Held], labels_N: NDArray[np.int32]) -> float:
    """Class-averaged top-1 of a fusion."""
    lines = np.arange(len(labels_N))
    return class_averaged(plain_hits(fusion, sources, labels_N, lines, (1,))[1], labels_N)


def tried(known: Drawn, fresh: Drawn, settings: FuseSettings) -> dict[str, Any]:
    """One problem: what is promised and what is true, in points."""
    outcome = fuse(held(known[0]), known[1], settings, num_classes=known[0].shape[2])
    sources = held(fresh[0])
    plain = next(f for f in outcome.fusions if f.method == "mean_probability")
    true = accuracy(outcome.chosen, sources, fresh[1]) - accuracy(plain, sources, fresh[1])
    return {
        "chosen": outcome.chosen.method,
        "promised": 100 * outcome.record["held_out"]["gain"],
        "true": 100 * true,
    }


def halves(paths: tuple[Path, Path], images: int, seed: int) -> tuple[Drawn, Drawn]:
    """Real results: `images` of them to fuse, the others to value the fusion on."""
    scores, labels = np.load(paths[0]), np.load(paths[1]).astype(np.int32)
    order = np.random.default_rng(seed).permutation(len(labels))
    one, other = order[:images], order[images:]
    return (scores[:, one], labels[one]), (scores[:, other], labels[other])


def family(
    name: str, images: int, trials: int, paths: tuple[Path, Path] | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """All problems of a family, and the line about them."""
    rows = []
    begun = time.perf_counter()
    for trial in range(trials):
        settings = FuseSettings(metric="top1", seed=trial)
        if name == "real":
            assert paths is not None
            rows.append(tried(*halves(paths, images, trial), settings))
            continue
        draw = FAMILIES[name](np.random.default_rng([trial, len(name), images]))
        rows.append(tried(draw(images), draw(FRESH), settings))
    promised, true = (np.array([row[key] for row in rows]) for key in ("promised", "true"))
    error = np.std(promised - true, ddof=1) / trials**0.5
    chosen = [row["chosen"] for row in rows]
    found = {
        "family": name, "images": images, "trials": trials,
        "promised": float(promised.mean()), "promised_error": float(promised.std(ddof=1) / trials**0.5),
        "true": float(true.mean()), "true_error": float(true.std(ddof=1) / trials**0.5),
        "worst": float(true.min()), "difference": float((promised - true).mean()),
        "interval": [float((promised - true).mean() + sign * 1.96 * error) for sign in (-1, 1)],
        "not_plain": sum(method != "mean_probability" for method in chosen) / trials,
        "chosen": {method: chosen.count(method) for method in sorted(set(chosen))},
        "seconds": (time.perf_counter() - begun) / trials,
    }  # fmt: skip
    say(
        f"{name:>13} N={images:<5} n={trials:<3} promised {found['promised']:+.3f} ± "
        f"{found['promised_error']:.3f}, true {found['true']:+.3f} ± {found['true_error']:.3f} "
        f"(worst {found['worst']:+.2f}), "
        f"difference {found['difference']:+.3f} ({found['interval'][0]:+.3f} … {found['interval'][1]:+.3f}), "
        f"other than plain {found['not_plain']:.0%}, {found['seconds']:.1f} s each {found['chosen']}"
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few problems of 500 images")
    parser.add_argument("--json", action="store_true", help="one JSON line at the end")
    parser.add_argument("--trials", type=int, help="problems of each family (default 20, --quick 6)")
    parser.add_argument("--images", type=int, nargs="*", help="labelled images (default 500 and 2000)")
    parser.add_argument("--family", nargs="*", choices=[*FAMILIES, "real"])
    parser.add_argument("--real", nargs=2, type=Path, metavar=("LOGITS", "LABELS"))
    arguments = parser.parse_args()
    stream = sys.stderr if arguments.json else sys.stdout
    names = arguments.family or [*FAMILIES, *(["real"] if arguments.real else [])]
    trials = max(2, arguments.trials or (6 if arguments.quick else 20))
    sizes = arguments.images or ([500] if arguments.quick else [500, 2000])
    rows = [
        family(name, images, trials, arguments.real, lambda text: print(text, file=stream, flush=True))
        for name in names
        for images in sizes
    ]
    if arguments.json:
        print(json.dumps({"families": rows}))


if __name__ == "__main__":
    main()
