"""What settings ask of the data that it has not, said as soon as the catalogue is there: splits, names.

Before `index` nobody knows; a data set that is drawn is known from its recipe.
"""

from __future__ import annotations

from collections.abc import Iterator

from smelt.errors import DataError
from smelt.verbs.checks import disk
from smelt.verbs.checks.asked import Asked


def about_data(asked: Asked) -> list[str]:
    """A line for each setting of a stage still to run that names what the data has not."""
    known = disk.counts(asked).images
    if known is None:
        return []
    images = {split: number for split, number in known.items() if number}
    stages = {node.stage for node in asked.todo}
    problems = [*_selections(asked, images)] if "select" in stages else []
    if "fuse" in stages:
        problems += _written(asked, images)
    if "submit" in stages:
        problems += _submitted(asked, images)
    return problems


def _there(images: dict[str, int]) -> str:
    return " and ".join(f"{split} ({number:,})" for split, number in images.items()) or "none"


def _submitted(asked: Asked, images: dict[str, int]) -> Iterator[str]:
    """The split that is to be submitted: whether it has images, and names that a submission can hold."""
    assert asked.recipe.submit
    split = asked.recipe.submit.split
    at = asked.said(("submit", "split"))
    if not images.get(split):
        other = " or -o submit.split=val" if split == "test" and images.get("val") else ""
        yield (
            f"{at}: {split} is to be submitted, and the data has no {split} images; it has {_there(images)}: "
            f"-o submit=null{other}{_held_out(asked, split)}"
        )
    elif names := _names(asked, split):
        from smelt.fusion.submission import names_of

        try:
            names_of(names)
        except DataError as error:
            yield f"{at}: {error}: rename the file, or -o submit=null"


def _held_out(asked: Asked, split: str) -> str:
    data = asked.recipe.data
    if split != "test" or asked.recipe.synthesise or not data.draws:
        return ""
    return "; -o data.test_fraction=0.1 holds some out, where the data set has none of its own"


def _names(asked: Asked, split: str) -> list[str]:
    """Paths of the images of a split; [] where the catalogue is not there yet."""
    from smelt.artifacts.catalogue import Catalogue

    whole = asked.graph.whole
    index = next((node for node in whole if node.stage == "index"), None)
    folder = asked.work.artifact("index", whole.key(index)) / "catalogue" if index else None
    if folder is None or not folder.is_dir():
        return []
    catalogue = Catalogue.open(folder)
    return [catalogue.path(int(row)) for row in catalogue.rows(split)]


def _written(asked: Asked, images: dict[str, int]) -> Iterator[str]:
    wanted = asked.recipe.fuse.write_scores
    if missing := [split for split in wanted if not images.get(split)]:
        left = ", ".join(split for split in wanted if split not in missing)
        yield (
            f"{asked.said(('fuse', 'write_scores'))}: fused scores of {' and '.join(missing)} are to be "
            f"written, and the data has no such images; it has {_there(images)}: "
            f"-o 'fuse.write_scores=[{left}]'"
        )


def _selections(asked: Asked, images: dict[str, int]) -> Iterator[str]:
    """`worst_classes` goes by validation."""
    for number, one in enumerate(asked.recipe.rounds):
        if one.select and one.select.method == "worst_classes" and not images.get("val"):
            yield (
                f"{asked.said(('rounds', number, 'select', 'method'))}: worst_classes goes by validation, "
                f"and the data has no val images; it has {_there(images)}: another method, or hold some out "
                "(data.val_fraction)"
            )
