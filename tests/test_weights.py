"""Pretrained weights that cannot be had are told before the first stage; no network is asked without need."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from smelt.models import backbones, pretrained
from smelt.models.backbones import require_weights
from smelt.verbs.checks import startweights as verb
from smelt.verbs.checks.asked import Found
from test_plan_check import asked

REPOSITORY = "timm/resnet18.a1_in1k"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An empty cache, and a hub that notes what it is asked for and cannot be reached."""
    addresses: list[str] = []

    def unreachable(url: str, **_: Any) -> None:
        addresses.append(url)
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    return addresses


def cached(folder: Path, file: str) -> None:
    """Put a file where the hub's own library looks for what it has fetched."""
    place = folder / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    (place / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (place / "snapshots" / ("0" * 40) / file).write_bytes(b"x")


def test_no_network(hub: list[str]) -> None:
    told = pretrained.missing(["resnet18"])["resnet18"]
    assert told.startswith("huggingface.co cannot be reached (Name or service not known); not in the cache /")
    assert hub == [f"https://huggingface.co/{REPOSITORY}/resolve/main/model.safetensors"]


@pytest.mark.parametrize("file", [pretrained.SAFE, pretrained.PLAIN])
def test_what_is_in_the_cache_is_not_asked_for(hub: list[str], tmp_path: Path, file: str) -> None:
    cached(tmp_path, file)
    assert pretrained.missing(["resnet18"]) == {} and hub == []


def error(kind: str) -> Exception:
    """One of the hub's errors, without the response that they are made of."""
    found = getattr(huggingface_hub.errors, kind)
    return found.__new__(found)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("OfflineModeIsEnabled", "HF_HUB_OFFLINE is set; not in the cache"),
        ("RepositoryNotFoundError", f"huggingface.co has no {REPOSITORY}; not in the cache"),
        ("GatedRepoError", "asks for consent and a token"),
        ("EntryNotFoundError", f"{REPOSITORY} has no model.safetensors or pytorch_model.bin"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_says(kind: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(url: str, **_: Any) -> None:
        raise error(kind)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuses)
    assert words in pretrained.missing(["resnet18"])["resnet18"]


@pytest.mark.usefixtures("hub")
def test_a_hub_that_has_only_the_older_form(monkeypatch: pytest.MonkeyPatch) -> None:
    def has(url: str, **_: Any) -> None:
        if not url.endswith(pretrained.PLAIN):
            raise error("EntryNotFoundError")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", has)
    assert pretrained.missing(["resnet18"]) == {}


@pytest.mark.usefixtures("hub")
def test_a_network_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them together are waited for no longer than is said, by a clock that only waiting moves."""
    now = [1000.0]
    answers = threading.Event()

    class Hanging(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            assert timeout is not None  # it would wait for ever
            now[0] += timeout

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, **_: answers.wait())
    monkeypatch.setattr(pretrained, "threading", SimpleNamespace(Thread=Hanging))
    monkeypatch.setattr(pretrained, "time", SimpleNamespace(monotonic=lambda: now[0]))
    try:
        said = pretrained.missing(["resnet18", "resnet34"], 7.0)
    finally:
        answers.set()
    assert said == dict.fromkeys(["resnet18", "resnet34"], "no answer within 7 s") and now == [1007.0]


@pytest.mark.usefixtures("hub")
def test_what_takes_long_on_a_busy_machine_is_not_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries that load slowly, and a cache that does: neither counts, and nobody is asked."""

    def slow(name: str) -> Any:
        time.sleep(0.3)
        return require_weights(name)

    monkeypatch.setattr(backbones, "require_weights", slow)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: time.sleep(0.3) or "here")
    assert pretrained.missing(["resnet18"], 0.05) == {}


def test_weights_at_an_address(hub: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Config:
        state_dict = file = hf_hub_id = hf_hub_filename = None
        url = "https://nowhere.invalid/net-0123.pth"

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert pretrained._here(Config) is None and "nowhere.invalid does not give them" in pretrained._at_url(
        Config.url
    )
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "net-0123.pth").write_bytes(b"x")
    assert pretrained._here(Config) == "" and hub == []


def test_the_field_that_asks_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(backbones: list[str]) -> dict[str, str]:
        assert backbones == ["resnet50", "resnet18"]
        return {"resnet50": "HF_HUB_OFFLINE is set"}

    monkeypatch.setattr(verb, "_ask", none)
    wanted = ("train.pretrained=true", "rounds.0.models.0.train.backbone=resnet50")
    assert verb.about_weights(asked(tmp_path, *wanted)).problems == [
        "train.pretrained (-o train.pretrained=true): the model raw/resnet18: the pretrained weights of "
        "resnet50 cannot be had: HF_HUB_OFFLINE is set. Run it once where there is a network, or "
        "copy the cache from such a machine, or -o train.pretrained=false"
    ]


def test_nothing_is_asked_where_nothing_is_pretrained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "_ask", lambda backbones: pytest.fail("somebody was asked"))
    assert verb.about_weights(asked(tmp_path)) == Found()
    recipe = asked(tmp_path, "train.pretrained=true")
    monkeypatch.setattr(type(recipe), "todo", [])  # all is done
    assert verb.about_weights(recipe) == Found()


def test_the_process_that_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    told = verb._ask(["resnet18", "se_resnet154"])  # of the second nobody published any, which others say
    assert list(told) == ["resnet18"] and told["resnet18"].startswith("HF_HUB_OFFLINE is set; not in the")


def test_a_machine_too_busy_to_look_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing torch took longer than the limit, and weights that are in the cache could not be had."""
    monkeypatch.setattr(verb, "LIMIT_SECONDS", 0.01)
    found = verb.about_weights(asked(tmp_path, "train.pretrained=true"))
    assert found.problems == []
    assert found.notes == ["pretrained weights could not be looked for beforehand (no answer within 0 s)"]
