"""Keys: what changes them, what does not, and that every process computes the same."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from smelt.flowchart.graph import Graph, Node
from smelt.flowchart.keys import key_of
from toy import chart, node

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-99, 99)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
settings = st.dictionaries(st.text(min_size=1), json_values, max_size=5)


def shuffled(value: Any, seed: int) -> Any:
    """The same JSON value with the keys of every mapping in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(item, seed)) for key, item in value.items()]
        random.Random(seed).shuffle(items)
        return dict(items)
    return [shuffled(item, seed) for item in value] if isinstance(value, list) else value


def test_against_the_definition() -> None:
    inputs, settings = '{"x":["k1","k2"]}', '{"a":1,"b":[0.5,null]}'
    text = f'{{"external":{{"data":"f"}},"inputs":{inputs},"settings":{settings},"stage":"s","version":2}}'
    expected = hashlib.sha256(text.encode()).hexdigest()[:20]
    assert key_of("s", 2, {"b": [0.5, None], "a": 1}, {"x": ["k1", "k2"], "y": []}, {"data": "f"}) == expected


@given(settings, st.integers(0, 1000))
def test_the_order_of_settings_does_not_matter(values: dict[str, Any], seed: int) -> None:
    assert key_of("s", 1, values, {}, {}) == key_of("s", 1, shuffled(values, seed), {}, {})


@given(settings, settings)
def test_equal_keys_mean_equal_settings(a: dict[str, Any], b: dict[str, Any]) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (key_of("s", 1, a, {}, {}) == key_of("s", 1, b, {}, {})) == same


def test_everything_that_counts_changes_the_key() -> None:
    keys = [
        key_of("s", 1, {"a": 1}, {"p": ["x", "y"]}, {"data": "f"}),
        key_of("t", 1, {"a": 1}, {"p": ["x", "y"]}, {"data": "f"}),
        key_of("s", 2, {"a": 1}, {"p": ["x", "y"]}, {"data": "f"}),
        key_of("s", 1, {"a": 2}, {"p": ["x", "y"]}, {"data": "f"}),
        key_of("s", 1, {"a": 1}, {"p": ["y", "x"]}, {"data": "f"}),  # the order on a port counts
        key_of("s", 1, {"a": 1}, {"q": ["x", "y"]}, {"data": "f"}),
        key_of("s", 1, {"a": 1}, {"p": ["x"], "q": ["y"]}, {"data": "f"}),
        key_of("s", 1, {"a": 1}, {"p": ["x", "y"]}, {"data": "g"}),
        key_of("s", 1, {"a": 1}, {"p": ["x", "y"]}, {"data": "f"}, "cpu"),
        key_of("s", 1, {"a": 1}, {"p": ["x", "y"]}, {"data": "f"}, "cuda"),
    ]
    assert len(set(keys)) == len(keys)


def test_names_threads_devices_and_labels_do_not_change_the_key() -> None:
    a = Graph([Node("one", "s", settings={"x": 1})])
    b = Graph([Node("two", "s", settings={"x": 1}, threads=8, devices=2, label="Two")])
    assert a.key("one") == b.key("two")


def test_settings_outside_the_key_reach_the_stage_and_no_key() -> None:
    a = Node("a", "s", settings={"x": 1, "deep": {"every": 3, "y": 2}}, outside=("deep.every",))
    b = Node("a", "s", settings={"x": 1, "deep": {"every": 9, "y": 2}}, outside=("deep.every",))
    assert Graph([a]).keys == Graph([b]).keys
    assert Graph([a]).identity(a)["settings"] == {"x": 1, "deep": {"y": 2}}
    again = Graph.from_json(json.loads(json.dumps(Graph([b]).to_json())))
    assert again["a"].settings["deep"]["every"] == 9 and again.keys == Graph([a]).keys


def test_a_key_holds_the_history() -> None:
    def keys(fraction: float) -> dict[str, str]:
        nodes = [node("a"), node("b", settings={"f": fraction}, x="a"), node("c", x="b"), node("d", x="a")]
        return Graph(nodes).keys

    before, after = keys(0.2), keys(0.3)
    assert {name for name in before if before[name] != after[name]} == {"b", "c"}


def test_keys_are_the_same_in_another_process() -> None:
    code = "from toy import chart; import json; print(json.dumps(chart().keys))"
    for seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        )
        assert json.loads(result.stdout) == chart().keys
