"""Images by ids, classes by names, results by names: aligned as a dictionary would, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smelt.errors import ArtifactError, ResultError
from smelt.fusion.scores.identity import columns, in_order, known_names, match, placed, unique
from smelt.fusion.scores.usual import stripped


@given(st.permutations(list("abcdefgh")), st.permutations(list("abcdefgh")), st.integers(1, 8))
def test_match_is_a_dictionary(wanted: list[str], have: list[str], count: int) -> None:
    order, said = match(wanted[:count], have, "A", "B", extras=True)
    assert [have[place] for place in order] == wanted[:count] and said == ""


@pytest.mark.parametrize(
    "wanted, have",
    [
        (["0001", "0002"], ["val/0002.jpg", "val/0001.jpg"]),
        (["./a/x.png", "a/y.png"], ["a\\y.png", "a/x.png"]),
        (["x.JPG", "y.jpeg"], ["y", "x"]),
        (["1", "2"], ["0002.jpg", "0001.jpg"]),
        (["d/x.jpg", "e/x.jpg"], ["e/x", "d/x"]),
        (["caf\u00e9.jpg", "b.jpg"], ["b.jpg", "cafe\u0301.jpg"]),
    ],
)
def test_ids_that_differ_in_writing_are_joined_and_it_is_said(wanted: list[str], have: list[str]) -> None:
    for ours, theirs in ((wanted, have), (have, wanted)):
        order, said = match(ours, theirs, "A.npy", "B.csv")
        assert order.tolist() == [1, 0] and "B.csv and A.npy differ" in said


def test_ambiguous_ids_are_refused() -> None:
    with pytest.raises(ResultError, match="several images would be one"):
        match(["x", "y"], ["a/x.jpg", "b/x.jpg"], "A", "B", extras=True)
    with pytest.raises(ResultError, match="several images would be one"):
        match(["a/x.jpg", "b/x.jpg"], ["x", "y"], "A", "B")


def test_missing_extra_and_repeated_images_are_counted_and_named() -> None:
    with pytest.raises(ResultError, match=r"B lacks 2 images of A \(c, d\); it has 1 that A lacks \(z\)"):
        match(list("abcd"), list("abz"), "A", "B")
    with pytest.raises(ResultError, match="B lacks image d of A"):
        match(list("abcd"), list("abcz"), "A", "B", extras=True)
    with pytest.raises(
        ResultError, match=r"B does not agree with A; it has 5 that A lacks \(v, w, x and 2 more\)"
    ):
        match(list("ab"), list("abvwxyz"), "A", "B")
    with pytest.raises(ResultError, match="no image in common"):
        match(list("ab"), list("xy"), "A", "B", extras=True)
    with pytest.raises(ResultError, match=r"B has image a twice \(2 of its 4 lines"):
        match(list("ab"), list("aaab"), "A", "B")


def test_classes_are_permuted_or_the_odd_ones_named() -> None:
    order = columns(list("abc"), list("cab"), "A", "B")
    assert order is not None and [list("cab")[place] for place in order] == list("abc")
    assert columns(list("abc"), list("abc"), "A", "B") is None
    with pytest.raises(
        ResultError, match=r"B and A have different lists of classes: it lacks 1 \(c\), .*1 others \(x\)"
    ):
        columns(list("abc"), list("abx"), "A", "B")
    order = columns(["0", "1", "2"], ["class_2", "class_0", "class_1"], "A", "B")
    assert order is not None and order.tolist() == [1, 2, 0]
    with pytest.raises(ResultError, match="different lists"):
        columns(["0", "1"], ["class_1", "class_2"], "A", "B")
    with pytest.raises(ResultError, match="B has class a twice"):
        columns(list("abc"), list("aab"), "A", "B")


@pytest.mark.parametrize(
    ("have", "order"),
    [
        (["prob_dog", "prob_cat", "prob_sea lion"], [1, 0, 2]),
        (["Cat (score)", "Dog (score)", "Sea lion (score)"], [0, 1, 2]),
        (["SEA_LION", "CAT", "DOG"], [1, 2, 0]),
        (["P(cat)", "P(sea-lion)", "P(dog)"], [0, 2, 1]),
    ],
)
def test_classes_called_otherwise_are_the_same_where_each_is_found_once(
    have: list[str], order: list[int]
) -> None:
    wanted = ["cat", "dog", "sea lion"]
    for ours, theirs in ((wanted, have), (have, wanted)):
        found = columns(ours, theirs, "A", "B")
        assert found is not None
        assert found.tolist() == (order if ours is wanted else np.argsort(order).tolist())


@pytest.mark.parametrize(
    ("wanted", "have"),
    [
        (["cat", "dog"], ["prob_cat", "score_dog"]),  # not the same around both
        (["cat", "dog"], ["prob_cat", "prob_dog", "prob_fox"]),
        (["cat", "Cat"], ["CAT", "cAt"]),  # written otherwise, they are one
        (["cat", "dog"], ["cats", "dog"]),
        (["a", "b"], ["xa", "xc"]),
        (["aa", "aaa"], ["aaaa", "aaaaaa"]),
    ],
)
def test_classes_that_could_be_others_are_refused(wanted: list[str], have: list[str]) -> None:
    for ours, theirs in ((wanted, have), (have, wanted)):
        with pytest.raises(ResultError, match="different lists of classes"):
            columns(ours, theirs, "A", "B")


@given(
    st.lists(st.text("abAB_ ", min_size=1, max_size=4), min_size=2, max_size=6, unique=True),
    st.text("abAB_ ", max_size=3), st.text("abAB_ ", max_size=3), st.randoms(),
)  # fmt: skip
def test_a_word_around_all_classes_never_exchanges_two(
    names: list[str], before: str, behind: str, random
) -> None:  # type: ignore[no-untyped-def]
    """Whatever the names are: each is found at its own place, or all are refused."""
    order = list(range(len(names)))
    random.shuffle(order)
    have = [f"{before}{names[place]}{behind}" for place in order]
    try:
        found = columns(names, have, "A", "B")
    except ResultError:
        return
    places = list(range(len(names))) if found is None else found.tolist()
    if sorted(have) == sorted(names):  # the names themselves say which is which
        assert [have[place] for place in places] == names
    else:
        assert [order[place] for place in places] == list(range(len(names)))


def test_numbers_as_names_are_put_in_their_order() -> None:
    lexical = sorted(map(str, range(12)))
    assert in_order(lexical) == tuple(map(str, range(12)))
    assert in_order(["p_1", "p_3", "p_2"]) == ("p_1", "p_2", "p_3")
    # other numbers are names and no places: who numbers labels by columns means the order of the file
    assert in_order(["n30", "n10", "n20"]) == ("n30", "n10", "n20") and in_order(["5", "3"]) == ("5", "3")
    assert in_order(["b", "1", "a"]) == ("b", "1", "a") and in_order(["1", "01"]) == ("1", "01")


def test_names_are_told_apart_by_their_folders() -> None:
    paths = [Path("x/r50/val.npy"), Path("x/b4/val.npy"), Path("other.npy")]
    assert unique(["val", "val", "other"], paths) == ["r50/val", "b4/val", "other"]
    assert unique(["a", "a"], [Path("a.npy"), Path("a.npz")]) == ["a", "a (2)"]


@pytest.mark.parametrize(
    "name, bare",
    [
        ("A-test", "A"),
        ("A_val", "A"),
        ("test_r50", "r50"),
        ("r50/test", "r50"),
        ("r50.validation", "r50"),
        ("stack-test[3]", "stack[3]"),
        ("pair_test:x", "pair:x"),
        ("contest", "contest"),
        ("test", ""),
        ("a-test-b", "a-b"),
        ("good", "good"),
    ],
)
def test_words_for_a_split_are_stripped(name: str, bare: str) -> None:
    assert stripped(name) == bare


def test_results_are_placed_by_name_never_by_position() -> None:
    assert placed(["a", "b"], ["a", "b"], "f") == ([0, 1], [])
    order, notes = placed(["a", "b"], ["b", "a"], "f")
    assert order == [1, 0] and "another order" in notes[0]
    order, notes = placed(["a-val", "b-val"], ["b-test", "a-test"], "f")
    assert order == [1, 0] and "a-test is a-val" in notes[0] and "another order" in notes[1]
    with pytest.raises(
        ResultError, match=r"f weighs 2 results, 2 are given; not given: b; not known to it: x.*--as b="
    ):
        placed(["a", "b"], ["a", "x"], "f")
    with pytest.raises(ResultError, match="not given: b"):
        placed(["a", "b"], ["a"], "f")
    with pytest.raises(ResultError):  # two would be one
        placed(["a-val", "a-test"], ["a", "b"], "f")


def test_a_fusion_without_names_is_none() -> None:
    assert known_names({"results": [{"name": "a"}]}, "f") == ["a"]
    for record in ({}, {"names": "ab"}, {"names": [1]}, {"results": [1]}):
        with pytest.raises(ArtifactError, match=r"f is not a fusion\.json"):
            known_names(record, "f")


def test_order_arrays_are_whole_numbers() -> None:
    order, _ = match(["a"], ["a"], "A", "B")
    assert order.dtype == np.int64
