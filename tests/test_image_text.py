"""Images and words in one space: a tiny net, its weights from a file, and what the score makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from learning_toy import make_data, run_stage
from smelt.artifacts.catalogue import Catalogue
from smelt.artifacts.featurestore import Features
from smelt.errors import DataError, RecipeError
from smelt.files.parquet import read_table
from smelt.learning import featuretrial
from smelt.mining import image_words
from smelt.mining.image_words import zero_shot_score
from smelt.models import image_text
from smelt.stages.config import FeaturesSettings

open_clip = pytest.importorskip("open_clip")

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """Weights of the architecture "tiny-for-tests", which open_clip knows for as long as the test."""
    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(TINY))
    before = dict(open_clip.factory._MODEL_CONFIGS)
    open_clip.add_model_config(tmp_path / "tiny-for-tests.json")
    torch.manual_seed(3)
    net = open_clip.create_model("tiny-for-tests", load_weights=False)
    save_file(net.state_dict(), tmp_path / "tiny.safetensors")
    yield tmp_path / "tiny.safetensors"
    open_clip.factory._MODEL_CONFIGS.clear()
    open_clip.factory._MODEL_CONFIGS.update(before)


def test_both_sides_are_those_of_the_net(tiny: Path) -> None:
    both = image_text.load("tiny-for-tests", tiny)
    net = open_clip.create_model("tiny-for-tests", load_weights=False)
    net.load_state_dict(torch.load(_as_torch(tiny), weights_only=True))
    net.eval()
    images = torch.randn(3, 3, 32, 32)
    assert torch.equal(both.features(images), net.encode_image(images))
    assert both.inputs.size == 32
    assert both.inputs.mean == image_text.MEAN
    assert both.scale == pytest.approx(float(net.logit_scale.detach().exp()))
    found = both.words(["cat, felis catus", "red_star"], ["a {}.", "{} here"])
    tokeniser = open_clip.get_tokenizer("tiny-for-tests")
    for line, sentences in zip(found, (
        ["a cat.", "cat here", "a felis catus.", "felis catus here"], ["a red star.", "red star here"],
    )):  # fmt: skip
        each = net.encode_text(tokeniser(sentences))
        mean = sum(one / one.norm() for one in each)
        assert torch.allclose(line, mean / mean.norm(), atol=1e-6)


def _as_torch(path: Path) -> Path:
    from safetensors.torch import load_file

    torch.save(load_file(path), path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def test_weights_of_torch_and_with_a_wrapper(tiny: Path) -> None:
    from safetensors.torch import load_file

    tensors = {f"module.{name}": value for name, value in load_file(tiny).items()}
    torch.save({"epoch": 3, "state_dict": tensors}, tiny.with_suffix(".pt"))
    images = torch.randn(2, 3, 32, 32)
    one, other = (image_text.load("tiny-for-tests", path) for path in (tiny, tiny.with_suffix(".pt")))
    assert torch.equal(one.features(images), other.features(images))


def test_what_lies_beside_the_weights_says_the_colours(tiny: Path) -> None:
    told = {"model_cfg": TINY, "preprocess_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1], "size": [32, 32]}}
    (tiny.parent / "open_clip_config.json").write_text(json.dumps(told))
    both = image_text.load("tiny-for-tests", tiny)
    assert both.inputs.mean == (0, 0, 0)
    assert both.inputs.std == (1, 1, 1)


def test_what_does_not_fit_is_said(tiny: Path) -> None:
    with pytest.raises(RecipeError, match=r"has no 'tiny-for-test'; near it: tiny-for-tests"):
        image_text.load("tiny-for-test", tiny)
    with pytest.raises(RecipeError, match="what a hub has"):
        image_text.load("ViT-B-16-SigLIP", tiny)
    save_file({"visual.proj": torch.zeros(2, 2), "other": torch.zeros(1)}, tiny)
    with pytest.raises(
        DataError, match=r"missing.*1 of another shape \(visual.proj\).*no place for \(other\)"
    ):
        image_text.load("tiny-for-tests", tiny)


def test_names_of_classes() -> None:
    assert image_text.names_of("tench, Tinca tinca") == ["tench", "Tinca tinca"]
    assert image_text.names_of("siamese_cat") == ["siamese cat"]
    assert image_text.names_of("a\u202e, b, c, d, e, a") == ["a", "b", "c", "d"]
    assert image_text.names_of("") == [""]


def test_the_score_is_the_margin_of_the_log_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_words, "BLOCK", 7)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 9)).astype(np.float16)
    words = rng.normal(size=(5, 9)).astype(np.float32)
    labels = rng.integers(-1, 5, 40)
    known = rng.random(40) < 0.8
    features[4] = 0
    found = zero_shot_score(features, words, labels, scale=13.0, known_N=known)
    for row in range(40):
        if labels[row] < 0 or not known[row] or row == 4:
            assert np.isnan(found[row])
            continue
        image = torch.from_numpy(features[row].astype(np.float64))
        cosine = torch.nn.functional.cosine_similarity(image[None], torch.from_numpy(words).double())
        log_p = (13.0 * cosine).log_softmax(0)
        others = [float(log_p[k]) for k in range(5) if k != labels[row]]
        assert found[row] == pytest.approx(float(log_p[labels[row]]) - max(others), abs=1e-4)


def test_lines_of_some_rows() -> None:
    rng = np.random.default_rng(2)
    features, words = rng.normal(size=(30, 6)), rng.normal(size=(4, 6))
    places, labels = np.array([3, 9, 27]), np.array([0, 3, 1])
    found = zero_shot_score(features, words, labels, places_N=places)
    assert np.array_equal(found, zero_shot_score(features[places], words, labels))


def test_images_at_their_words_are_clean_and_swapped_ones_are_not() -> None:
    rng = np.random.default_rng(1)
    words = rng.normal(size=(10, 32))
    truth = rng.integers(0, 10, 500)
    labels = np.where(rng.random(500) < 0.2, (truth + 1) % 10, truth)
    features = words[truth] + 0.5 * rng.normal(size=(500, 32))
    found = zero_shot_score(features, words, labels)
    assert ((found < 0) == (labels != truth)).mean() > 0.99


def test_wrong_arguments() -> None:
    features, words = np.ones((3, 4)), np.ones((2, 4))
    with pytest.raises(ValueError, match=r"\(N, D\) of labels \(2,\)"):
        zero_shot_score(features, words, [0, 1])
    with pytest.raises(ValueError, match=r"must be \(C ≥ 2, 4\)"):
        zero_shot_score(features, np.ones((2, 5)), [0, 1, 0])
    with pytest.raises(ValueError, match="a label is 2"):
        zero_shot_score(features, words, [0, 1, 2])


def test_the_stage_keeps_both_sides(tiny: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    settings = {"name": "clip", "image_text": "tiny-for-tests", "weights": str(tiny), "precision": "fp32"}
    found = Features.open(run_stage(tmp_path / "out", "features", settings, {"catalogue": [data]}))
    both = image_text.load("tiny-for-tests", tiny)
    assert found.dim == 24
    assert found.known_N.all()
    assert found.info["scale"] == pytest.approx(both.scale)
    assert found.text_CD is not None
    classes = Catalogue.open(data / "catalogue").classes
    assert np.array_equal(found.text_CD, both.words(classes).numpy())
    labels = Catalogue.open(data / "catalogue").labels_N
    scores = zero_shot_score(found.values_ND, found.text_CD, labels, scale=found.info["scale"])
    assert np.array_equal(np.isfinite(scores), labels >= 0)
    ports = {"catalogue": [data], "features": [tmp_path / "out"]}
    ranked = run_stage(tmp_path / "rank", "rank", {"score": "zero_shot"}, ports)
    table = read_table(ranked / "ranking.parquet")
    assert np.allclose(table["cleanness"].to_numpy(), scores[table["row"].to_numpy()])
    assert "score_centroid" in table.column_names
    assert featuretrial.answer(
        [{"source": str(tiny), "backbone": None, "size": None, "image_text": "tiny-for-tests"}]
    ) == [{"dim": 24, "words": both.said}]


def test_the_recipe_says_which_net(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="a size that they were made for"):
        FeaturesSettings(name="a", weights="x.pth", image_text="ViT-B-32", size=64)
    with pytest.raises(RecipeError, match="must be a file, and 'resnet50' is none"):
        image_text.load("ViT-B-32", "resnet50")
