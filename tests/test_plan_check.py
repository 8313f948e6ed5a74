"""What cannot work is said before anything is done: nets and sizes, the machine, the disk."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from conftest import smelt
from smelt.errors import ArtifactError, RecipeError
from smelt.flowchart.work import Work
from smelt.models import lineup, trial
from smelt.models.backbones import build
from smelt.models.pretrained import missing
from smelt.models.trial import Net, judge
from smelt.recipe import loading as recipes
from smelt.recipe.schema import Recipe
from smelt.recipe.unfolding import unfold
from smelt.verbs.checks import disk, machine, precheck, startweights, trials, tried
from smelt.verbs.checks.asked import Asked
from smelt.verbs.checks.tried import Tried

VIT, FIXED = "vit_tiny_patch16_224", "beit_base_patch16_224"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of a user who has run nothing yet."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nets are tried in this process, which has torch already."""
    monkeypatch.setattr(trials, "_ask", lambda question: json.loads(json.dumps(trial.answer(question))))
    monkeypatch.setattr(startweights, "_ask", missing)


def asked(folder: Path, *overrides: str, recipe: str = "folder") -> Asked:
    """What `smelt plan RECIPE -o …` asks, of a folder with two classes."""
    data = folder / "crawl"
    for number, name in enumerate(("cat", "dog")):
        (data / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 90 * number, np.uint8)).save(data / name / "a.png")
    root = [f"data.root={data}"] if recipe != "demo" else []
    read, places = recipes.load(recipe, [*root, *overrides])
    settings = recipes.validate(Recipe, read, places)
    return Asked(settings, unfold(settings), Work(folder / "work"), places)


def refusal(folder: Path, *overrides: str, recipe: str = "folder") -> str:
    with pytest.raises(RecipeError) as caught:
        precheck.check(asked(folder, *overrides, recipe=recipe))
    return str(caught.value)


# Nets


@pytest.mark.parametrize(
    ("net", "wrong"),
    [
        (Net(VIT, 5, 112, train=(80, 96, 112), shown=(112, 144)), []),
        (Net("swin_tiny_patch4_window7_224", 5, 112, train=(96, 112), shown=(144,)), []),
        (Net("resnet18", 5, 112, train=(1, 112), shown=(144,), batch=64), []),
        (Net("resnet8", 100, 8, train=(8,), shown=(8, 9)), []),
        (Net(VIT, 5, 112, train=(112,), shown=(100,)), [("shown", 100)]),
        (Net(FIXED, 5, 112, train=(96, 112), shown=(112, 144)), [("train", 96), ("shown", 144)]),
        (Net("densenet121", 5, 8, train=(8,)), [("train", 8)]),
        # one image of one pixel: a norm has nothing to norm by
        (Net("resnet18", 5, 224, train=(32,), batch=1), [("train", 32)]),
    ],
    ids=lambda value: value.backbone if isinstance(value, Net) else str(len(value)),
)
def test_nets_and_sizes(net: Net, wrong: list[tuple[str, int]]) -> None:
    (verdict,) = judge([net])
    assert not verdict.build and [(mode, size) for mode, size, _ in verdict.sizes] == wrong
    assert all(why for _, _, why in verdict.sizes)


@pytest.mark.parametrize(
    ("net", "kept"),
    [
        (Net(VIT, 5, 112, train=(80, 96, 112), shown=(100, 144)), ([80, 96, 112], [144])),
        (Net("densenet121", 5, 8, train=(8,), shown=(8,)), ([32], [])),
        (Net("levit_128s", 5, 112, shown=(96, 112)), ([], [112])),  # it has its weights
    ],
    ids=lambda value: value.backbone if isinstance(value, Net) else "",
)
def test_sizes_that_are_offered_are_taken(net: Net, kept: tuple[list[int], list[int]]) -> None:
    found = trial.mend([net])
    assert found and (found.train, found.shown) == ([kept[0]], kept[1])
    model = build(net.backbone, 5, image_size=max(kept[0], default=net.image_size))
    for size in (found.size, *kept[0], *kept[1]):
        assert model(torch.zeros(2, 3, size, size)).shape == (2, 5)


def test_nets_that_take_no_size_in_common_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_candidates", lambda nets: [112, 224])
    one, other = Net("mixer_s32_224", 5, 112, shown=(224,)), Net("mixer_s32_224", 5, 224, shown=(112,))
    assert trial.mend([one]) and trial.mend([other]) and trial.mend([one, other]) is None


def test_what_the_meta_device_says_the_processor_says_too() -> None:
    """Refused or not, each net and size for real."""
    for name, size in (("densenet121", 8), ("inception_v3", 32), (FIXED, 144), ("resnet18", 8), (VIT, 48)):
        (verdict,) = judge([Net(name, 3, 112, shown=(size,))])
        model = build(name, 3, image_size=112).eval()
        try:
            with torch.no_grad():
                real = model(torch.zeros(1, 3, size, size)).shape == (1, 3)
        except (RuntimeError, AssertionError):
            real = False
        assert real == (not verdict.sizes), name


def test_a_net_that_is_no_classifier() -> None:
    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    assert "no classifier" in trial._pass(Features(), Net("x", 5, 8), "shown", 8)


def test_the_processor_decides_where_the_meta_device_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    class NeedsValues(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.sum().item() == x.sum().item()  # no item() on the meta device
            return self.layer(x.mean((2, 3)))

    monkeypatch.setattr(trial, "_made", lambda net: NeedsValues())
    (verdict,) = judge([Net("x", 5, 8, shown=(8,))])
    assert not verdict.build and [(m, s) for m, s, _ in verdict.sizes] in ([], [("shown", 8)])
    monkeypatch.setattr(torch, "empty", torch.zeros)  # NaN is not equal to itself
    assert not judge([Net("x", 5, 8, shown=(8,))])[0].sizes


@pytest.mark.parametrize("name", [VIT, "deit3_small_patch16_224", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_flexible_net_gives_the_same_bits_at_its_own_size(name: str, precision: str) -> None:
    def trained(model: torch.nn.Module) -> list[torch.Tensor]:
        torch.manual_seed(1)
        images = torch.randn(2, 3, 112, 112)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model.train()(images)
        logits.float().logsumexp(1).sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        return [logits.detach(), *gradients]

    with torch.random.fork_rng():
        torch.set_num_threads(1)
        torch.manual_seed(0)
        plain = timm.create_model(name, num_classes=7, img_size=112)
        torch.manual_seed(0)
        flexible = build(name, 7, image_size=112)
        assert list(plain.state_dict()) == list(flexible.state_dict())
        assert all(map(torch.equal, trained(plain), trained(flexible)))
        flexible.eval()
        assert flexible(torch.randn(1, 3, 144, 144)).shape == (1, 7)


def test_a_net_that_takes_no_option_is_made_as_before() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = timm.create_model("vit_relpos_small_patch16_224", num_classes=7, img_size=112)
        torch.manual_seed(0)
        made = build("vit_relpos_small_patch16_224", 7, image_size=112)
        assert all(map(torch.equal, plain.state_dict().values(), made.state_dict().values()))


def test_weights_of_another_net() -> None:
    verdicts = judge(
        [Net("resnet18", 5, 96), Net("resnet18", 9, 112, start=0), Net("resnet34", 5, 96, start=0)]
    )
    assert not verdicts[1].start and "layer1.2" in verdicts[2].start
    same = judge([Net(VIT, 5, 96), Net(VIT, 5, 112, start=0)])
    assert "pos_embed has the shape" in same[1].start


# Names and tags


def test_every_name_and_tag_of_timm_is_known() -> None:
    unknown = [name for name in timm.list_models() + timm.list_pretrained() if lineup.unknown(name)]
    assert not unknown


@pytest.mark.parametrize(
    ("name", "words"),
    [("resnet50.a1_in2k", "did you mean resnet50.a1_in1k?"), ("resnet50.zzz", "there are a1_in1k"),
     ("resnet5O", "did you mean 'resnet50' or "), ("zzzzqq", "presets: resnet50")],
)  # fmt: skip
def test_names_and_tags_that_do_not_exist(name: str, words: str) -> None:
    told = lineup.unknown(name)
    assert words in told
    quoted = [word for word in told.replace("?", "").split() if word.startswith("'resnet")]
    assert len(set(quoted)) == len(quoted), "the same suggestion twice"


def test_a_tag_is_refused_with_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"^-o train.backbone=resnet50.zzz: train.backbone: timm has resnet50"
    ):
        asked(tmp_path, "train.backbone=resnet50.zzz")
    with pytest.raises(RecipeError, match=r"rounds\.0\.models\.0.*tag 'zzz'"):
        asked(tmp_path, "rounds.0.models.0.train.backbone=resnet50.zzz")


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("backbone", ["resnet20", "swinv2_cr_large_224"])
def test_weights_that_nobody_published(tmp_path: Path, backbone: str) -> None:
    told = refusal(
        tmp_path, f"train.backbone={backbone}", "train.pretrained=true", "train.augment.sizes=[224]",
        "predict.views=[{size: 224}]",
    )  # fmt: skip
    assert "no pretrained weights exist" in told and "pretrained: false" in told


# The recipe's own words


@pytest.mark.usefixtures("in_process")
def test_a_net_of_a_fixed_size_is_refused_by_name_size_and_place(tmp_path: Path) -> None:
    told = refusal(tmp_path, f"train.backbone={FIXED}")
    training, view, last = told.splitlines()[1:]
    assert training.startswith("train.augment.sizes: the model raw/resnet18 and 2 more:")
    assert f"{FIXED} cannot learn from images of 80, 96 px" in training
    assert "predict.views.2: " in view and "cannot be shown images of 144 px" in view
    assert f"another net than train.backbone (-o train.backbone={FIXED})" in view
    assert (
        last == "sizes that were tried, and that all its nets take: -o 'train.augment.sizes=[112]' "
        "-o 'predict.views=[{size: 112, crops: 1}, {size: 112, crops: 10}]'"
    )


def pasted(told: str) -> list[str]:
    """The options of the last line, as a shell would give them."""
    return shlex.split(told.splitlines()[-1].partition(": ")[2])[1::2]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    "backbone",
    ["levit_128s", "mixer_s32_224", "tnt_s_patch16_224", "maxvit_tiny_rw_224", "coat_tiny",
     "crossvit_tiny_240"],
)  # fmt: skip
def test_what_is_proposed_passes_when_pasted(tmp_path: Path, backbone: str) -> None:
    net = f"train.backbone={backbone}"
    options = pasted(refusal(tmp_path, net))
    assert options and "1 net tried" in precheck.check(asked(tmp_path, net, *options)).notes[0]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    "overrides",
    [
        (
            f"rounds.0.models=[{{name: a}}, {{name: b, train: {{backbone: {FIXED}}}}}]",
            "rounds.1.start=null",
            "rounds.1.select={method: lowest_fraction}",
            "rounds.2.select=null",
        ),
        ("rounds.1.train.backbone=levit_128s", "train.validation_view={size: 120}"),
        (f"train.backbone={FIXED}", "rounds.2.teacher={round: raw, view: {size: 50, crops: 5}}"),
        ("rounds.2.train.augment.sizes=[64, 96]", "rounds.2.train.backbone=coat_tiny"),
    ],
    ids=["one model", "one round", "teacher", "sizes of a round"],
)
def test_a_proposal_speaks_to_the_fields_that_matter(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    options = pasted(refusal(tmp_path, *overrides))
    mended = asked(tmp_path, *overrides, *options)
    assert precheck.check(mended).notes
    first = mended.recipe.training(mended.recipe.rounds[0], mended.recipe.rounds[0].models[0], 0)
    if first.backbone == "resnet18":  # it took all sizes
        assert first.augment.sizes == (80, 96, 112)


@pytest.mark.usefixtures("in_process")
def test_a_vit_of_timm_runs_under_every_view_of_the_recipe(tmp_path: Path) -> None:
    assert precheck.check(asked(tmp_path, f"train.backbone={VIT}")).notes


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["predict.views=[{size: 112}, {size: 100}]", f"train.backbone={VIT}"],
         "predict.views.1 (-o predict.views=[{size: 112}, {size: 100}]): "),
        (["rounds.1.models.0.train.backbone=densenet121", "rounds.1.train.augment.sizes=[8]"],
         "rounds.1.train.augment.sizes (-o rounds.1.train.augment.sizes=[8]): the model filtered/resnet18: "),
        (["train.validation_view={size: 90}", f"train.backbone={VIT}"],
         "train.validation_view (-o train.validation_view={size: 90}): the model raw/resnet18 and 2 more"),
        (["rounds.2.teacher={round: raw, view: {size: 50}}", f"train.backbone={VIT}"],
         "rounds.2.teacher.view (-o rounds.2.teacher={round: raw, view: {size: 50}}): the model raw/"),
        (["rounds.1.start=raw", "rounds.1.models.0.train={backbone: resnet34}"],
         "rounds.1.start (-o rounds.1.start=raw): the model filtered/resnet18 cannot go on from raw/"),
        (["rounds.0.models.0.train.world_size=100000"], "takes a whole number from 1 to 4,096"),
        (["train.world_size=4000", "train.batch_size=4000"], "train.world_size (-o train.world_size=4000)"),
        (["runtime.device=cuda:7"], "runtime.device (-o runtime.device=cuda:7): cuda:7 is asked for"),
    ],
    ids=lambda value: value[0].partition("=")[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_the_place_that_is_to_be_mended(
    tmp_path: Path, overrides: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert words in refusal(tmp_path, *overrides)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("device", "gpus", "words"),
    [("cuda", 0, "torch sees no GPU here"), ("cuda:0", 0, "torch sees no GPU here"),
     ("cuda:1", 1, "torch sees cuda:0 here, no cuda:1"), ("cuda:0,9", 4, "cuda:0 to cuda:3 here, no cuda:9")],
)  # fmt: skip
def test_gpus_that_are_not_there(
    tmp_path: Path, device: str, gpus: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert words in refusal(tmp_path, f"runtime.device={device}")


@pytest.mark.usefixtures("in_process")
def test_more_ranks_than_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert precheck.check(asked(tmp_path, "runtime.device=cuda", "train.world_size=2")).gpus == 2
    told = refusal(tmp_path, "runtime.device=cuda", "train.world_size=3")
    assert (
        "3 processes, and up to 2 for the 2 GPUs that torch sees here; at most -o train.world_size=2" in told
    )
    told = refusal(tmp_path, "runtime.device=cuda:1", "train.world_size=2")
    assert "2 processes, and up to 1 for runtime.device (-o runtime.device=cuda:1)" in told


def test_a_gpu_that_is_named_twice(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="names a GPU twice"):
        asked(tmp_path, "runtime.device=cuda:0,0")


# The machine


def test_work_folders_that_cannot_be(tmp_path: Path) -> None:
    base = asked(tmp_path)
    (tmp_path / "file").write_text("x")

    def told(folder: Path) -> str:
        return "".join(machine.about_machine(Asked(base.recipe, base.graph, Work(folder), base.places)))

    assert "is a file" in told(tmp_path / "file")
    assert f"would lie in {tmp_path / 'file'}, which is a file" in told(tmp_path / "file" / "work" / "x")
    with pytest.raises(ArtifactError, match="File name too long") as error:
        told(tmp_path / ("n" * 3000))
    assert len(str(error.value)) < 500 and "--work" in str(error.value)
    assert not told(tmp_path / "new" / "deep")


def test_a_work_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be made in" in "".join(machine.about_machine(asked(tmp_path)))


def finish(one: Asked, keep: Callable[[str], bool] = lambda stage: True) -> None:
    """Artefact folders as if the stages had run."""
    for node in one.graph:
        if keep(node.stage):
            one.work.artifact(node.stage, one.graph.key(node)).mkdir(parents=True)


def test_what_is_done_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = asked(tmp_path, f"train.backbone={FIXED}", "runtime.device=cuda")
    finish(one, lambda stage: stage in ("train", "predict"))
    monkeypatch.setattr(trials, "_ask", lambda question: pytest.fail("nothing is to be asked"))
    assert trials.about_models(one).gpus is None
    only_index = asked(tmp_path / "other", f"train.backbone={FIXED}")
    part = Asked(only_index.recipe, only_index.graph.until("check"), only_index.work, only_index.places)
    assert not precheck.check(part).problems


def test_a_model_that_has_only_to_predict_is_shown_the_views_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = asked(tmp_path)
    finish(one, lambda stage: stage == "train")
    seen: list[Mapping[str, Any]] = []
    monkeypatch.setattr(trials, "_ask", lambda question: seen.append(question) or {"error": "x"})
    assert "could not be tried beforehand (x)" in trials.about_models(one).notes[0]
    assert [(net["train"], net["shown"]) for net in seen[0]["nets"]] == [([], [112, 144])]


def test_torch_that_cannot_be_asked_for_gpus_is_no_reason_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_ask", lambda question: {"error": "exit code -9"})
    assert "could not be asked for its GPUs" in refusal(tmp_path, "runtime.device=cuda")


def test_nets_that_could_not_be_tried_in_time_are_no_reason_to_refuse_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many nets on a busy machine: the GPUs are asked for by themselves."""
    answers: dict[str, Any] = {"gpus": 1}

    def busy(question: Mapping[str, Any]) -> dict[str, Any]:
        return {"error": "no answer within 600 s"} if question.get("nets") else answers

    monkeypatch.setattr(trials, "_ask", busy)
    found = trials.about_models(asked(tmp_path, "runtime.device=cuda"))
    assert (found.gpus, found.problems) == (1, [])
    assert found.notes == ["the models could not be tried beforehand (no answer within 600 s)"]
    answers["gpus"] = 0
    assert "torch sees no GPU here" in refusal(tmp_path, "runtime.device=cuda")


def test_the_process_that_is_asked_answers(tmp_path: Path) -> None:
    answer = trials._ask({"nets": [{"backbone": "resnet8", "outputs": 3, "image_size": 8, "train": [8]}]})
    assert answer["verdicts"][0]["sizes"] == [] and answer["verdicts"][0]["values"] > 1000
    assert "exit code 1" in trials._ask({"nets": [{"nonsense": 1}]})["error"]


# What is remembered of them


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What is asked of torch, which is asked in this process."""
    seen: list[Mapping[str, Any]] = []

    def ask(question: Mapping[str, Any]) -> dict[str, Any]:
        seen.append(question)
        answer: dict[str, Any] = json.loads(json.dumps(trial.answer(question)))
        return answer

    monkeypatch.setattr(trials, "_ask", ask)
    return seen


def test_nets_that_were_found_to_work_are_not_built_again(
    tmp_path: Path, questions: list[Mapping[str, Any]]
) -> None:
    first = trials.about_models(asked(tmp_path))
    again = trials.about_models(asked(tmp_path / "other"))  # another work folder
    assert len(questions) == 1 and again.values == first.values
    assert again.notes == [f"{first.notes[0]}, 1 of them in runs before"]
    fewer = trials.about_models(asked(tmp_path, "predict.views=[{size: 112}]"))
    assert len(questions) == 1 and not fewer.problems
    trials.about_models(asked(tmp_path, "predict.views=[{size: 120}]"))
    assert 120 in questions[1]["nets"][0]["shown"]
    trials.about_models(asked(tmp_path, "predict.views=[{size: 112}, {size: 120}, {size: 144}]"))
    trials.about_models(asked(tmp_path, "train.drop_rate=0.1"))
    assert [len(question["nets"]) for question in questions] == [1, 1, 1]


def test_whoever_is_refused_is_asked_again(tmp_path: Path, questions: list[Mapping[str, Any]]) -> None:
    views = "predict.views=[{size: 120}]"
    told = [trials.about_models(asked(tmp_path, f"train.backbone={FIXED}", views)).problems for _ in "12"]
    assert told[0] and told[0] == told[1] and len(questions) == 2


def test_a_net_that_goes_on_from_another_is_remembered_as_a_pair(tmp_path: Path) -> None:
    memory = Tried(tmp_path / "nets.json")
    was, now = {"backbone": "resnet8"}, {"backbone": "resnet8", "image_size": 32}
    assert not memory.goes_on(was, now)
    memory.keep([], [(was, now)])
    again = Tried(tmp_path / "nets.json")
    assert again.goes_on(was, now) and not again.goes_on(now, was)
    assert again.verdict(was) is None  # it has not been tried by itself


@pytest.mark.parametrize(
    "content", ["", "[", "{}", "[1]", '[["a", {}]]', '[["a", {"weights": 1e400, "values": 1, "sizes": []}]]',
                "[" * 100_000, "\ud800", '[["a", {"weights": 1, "values": 1, "sizes": [[]]}]]',
                '[["NET", {"weights": 1, "values": -1, "sizes": ["train 32"]}]]',
                '[["NET", {"weights": 1, "values": 1%s, "sizes": ["train 32"]}]]' % ("0" * 400)],
)  # fmt: skip
def test_a_memory_that_is_not_ours_is_no_memory(tmp_path: Path, content: str) -> None:
    path = tmp_path / "nets.json"
    net = {"backbone": "resnet8", "train": [32], "shown": []}
    path.write_bytes(content.replace("NET", tried._name(net)).encode("utf-8", "surrogatepass"))
    memory = Tried(path)
    assert memory.verdict(net) is None
    memory.keep([(net, {"build": "", "sizes": [], "weights": 5, "values": 7})], [])
    assert (Tried(path).verdict(net) or {})["values"] == 7


@pytest.mark.timeout(30)
@pytest.mark.parametrize("what", ["pipe", "folder", "link to itself", "link to nowhere"])
def test_what_is_no_file_in_place_of_the_memory_is_no_memory(tmp_path: Path, what: str) -> None:
    path = tmp_path / "nets.json"
    if what == "pipe":
        os.mkfifo(path)  # it was waited for, for ever
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if what == "link to itself" else tmp_path / "nowhere")
    net = {"backbone": "resnet8", "train": [32], "shown": []}
    memory = Tried(path)
    assert memory.verdict(net) is None
    memory.keep([(net, {"build": "", "sizes": [], "weights": 5, "values": 7})], [])
    assert memory.verdict(net)
    assert bool(Tried(path).verdict(net)) == (what != "folder")


def test_a_user_without_a_home_gets_no_folder_called_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")  # relative: counts for nothing
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    memory = Tried.here()
    memory.keep([({"backbone": "resnet8"}, {"build": "", "sizes": [], "weights": 5, "values": 7})], [])
    assert memory.verdict({"backbone": "resnet8"}) and not list(tmp_path.iterdir())


def test_a_memory_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    memory = Tried(tmp_path / "file" / "smelt" / "nets.json")
    net = {"backbone": "resnet8", "train": [32], "shown": []}
    memory.keep([(net, {"build": "", "sizes": [], "weights": 5, "values": 7})], [])
    assert memory.verdict(net)


def test_what_is_remembered(tmp_path: Path) -> None:
    """Neither what was refused, nor nets with weights to fetch, nor what cannot be built."""
    one, two = Tried(tmp_path / "nets.json"), Tried(tmp_path / "nets.json")
    plain = {"backbone": "resnet8", "train": [32, 7], "shown": [40]}
    fine = {"build": "", "sizes": [], "weights": 5, "values": 7}
    one.keep([(plain, {**fine, "sizes": [["train", 7, "too small"]]})], [])
    two.keep([({**plain, "pretrained": True}, fine), ({"backbone": "x"}, {**fine, "build": "none"})], [])
    two.keep([({"backbone": "resnet14", "train": [32]}, fine)], [])
    both = Tried(tmp_path / "nets.json")
    assert both.verdict(plain) is None
    assert both.verdict({**plain, "train": [32]}) and both.verdict({"backbone": "resnet14"})
    assert both.verdict({**plain, "train": [32], "pretrained": True}) is None
    assert both.verdict({"backbone": "x"}) is None


# The disk


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=count))


@pytest.mark.usefixtures("in_process")
def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 10_000_000)
    told = refusal(tmp_path, recipe="demo")
    assert "10.0 MB free in" in told and "synthesise.train_images" in told and "--work FOLDER" in told
    large = ["synthesise.test_images=900000", "synthesise.val_images=5000"]
    one = asked(tmp_path, *large, "synthesise.classes=5000", "synthesise.train_images=5000", recipe="demo")
    finish(one, lambda stage: stage == "synthesise")
    need = disk.estimate(one, {})
    assert max(need.parts, key=lambda part: part.kept).what == "results"
    # 6 models × 3 views × 905,000 images × 5,000 classes in half precision, and 4 tries on validation alone
    results = next(part.kept for part in need.parts if part.what == "results")
    assert results == pytest.approx((6 * 3 * 905_000 + 4 * 5000) * 5000 * 2, rel=0.001)
    assert "predict.topk" in need.problem()[0]


def test_what_an_attempt_has_written_counts_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1000)
    one = asked(tmp_path, recipe="demo")
    node = next(node for node in one.graph if node.stage == "synthesise")
    attempt = one.work.attempt("synthesise", one.graph.key(node))
    attempt.mkdir(parents=True)
    (attempt / "part").write_bytes(b"x" * 4000)
    assert disk.estimate(one, {}).free == 5000


def test_counts_come_from_the_catalogue_where_it_is_there(tmp_path: Path) -> None:
    one = asked(tmp_path)
    assert disk.counts(one) == disk.Counts()
    assert "which nobody knows yet" in disk.estimate(one, {(0, 0): 1}).words()
    index = next(node for node in one.graph if node.stage == "index")
    folder = one.work.artifact("index", one.graph.key(index))
    folder.mkdir(parents=True)
    splits = {"train": 100, "val": 20, "test": 0}
    (folder / "index.json").write_text(json.dumps({"num_classes": 7, "splits": splits}))
    assert disk.counts(one) == disk.Counts(7, splits)
    (folder / "index.json").write_text("[]")
    assert disk.counts(one) == disk.Counts()


@pytest.mark.slow
def test_the_estimate_is_near_what_a_run_takes(finished: Path, tmp_path: Path) -> None:
    """Within a factor of three, and not below what was written."""
    from conftest import TINY

    one = asked(tmp_path, *TINY, recipe="demo")
    nets = trials.about_models(one)
    need = disk.estimate(one, nets.values)
    written = sum(path.stat().st_size for path in (finished / "artifacts").rglob("*") if path.is_file())
    assert written / 1.5 <= need.total <= 5 * written, (need.words(), written)


def test_sizes_in_words() -> None:
    assert [disk.size(n) for n in (10, 5_000_000, 123_456_789_000, 3 * 10**12)] == [
        "0 kB", "5.0 MB", "123 GB", "3.0 TB",
    ]  # fmt: skip


# From the command line


def crawl(folder: Path) -> Sequence[str]:
    asked(folder)
    return ("folder", "-o", f"data.root={folder / 'crawl'}")


def test_plan_check_says_what_was_looked_at(tmp_path: Path) -> None:
    shown = smelt("plan", *crawl(tmp_path), "--check", "--work", str(tmp_path / "w"))
    assert shown.returncode == 0, shown.stderr
    assert "models: 1 net tried at 5 sizes in all" in shown.stdout and "disk: about" in shown.stdout
    assert not (tmp_path / "w").exists()


def test_a_run_refuses_before_anything(tmp_path: Path) -> None:
    work = tmp_path / "w"
    shown = smelt("run", *crawl(tmp_path), "-o", f"train.backbone={FIXED}", "--work", str(work))
    assert shown.returncode == 2 and "cannot be shown images of 144 px" in shown.stderr
    assert "Traceback" not in shown.stderr and not work.exists()


def test_verbs_that_train_nothing_try_nothing(tmp_path: Path) -> None:
    work = tmp_path / "w"
    shown = smelt("index", *crawl(tmp_path), "-o", f"train.backbone={FIXED}", "--work", str(work))
    assert "cannot" not in shown.stderr and (work / "artifacts").is_dir()


def test_a_plan_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys; from smelt.cli import app; app(sys.argv[1:], standalone_mode=False); "
    code += "print('torch' in sys.modules, 'timm' in sys.modules, 'numpy' in sys.modules)"
    words = [*crawl(tmp_path), "--work", str(tmp_path / "w"), "-o", "train.backbone=resnet50.a1_in1k"]
    shown = subprocess.run(
        [sys.executable, "-c", code, "plan", *words], capture_output=True, text=True, timeout=60
    )
    assert shown.stdout.splitlines()[-1].startswith("False False"), shown
