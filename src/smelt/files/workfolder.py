"""The work folder as such: which flowchart readers speak of, and that nothing in it leads out of it.

The folder itself may be a link, to a larger disk for one. Below it smelt writes, renames and deletes by name,
so what has one of its names must be what smelt makes there: no link, no pipe, no device.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from smelt.errors import ArtifactError, short
from smelt.files.atomic import read_json

FOLDERS = ("artifacts", "attempts", "audit", "damaged", "logs")
ON_DEMAND = ("audit", "damaged")  # folders that are made when something is put there
MEMORY = "verified.txt"  # see `files.verified`
FILES = (
    "flowchart.json", "finished.json", "recipe.yaml", "events.jsonl", "lock", MEMORY, "report.html",
)  # fmt: skip
MODE = 0o700  # of a work folder that is made: crawled images and what was learnt of them are nobody else's
FLOWCHART = "flowchart.json"  # the last that was begun
FINISHED = "finished.json"  # the last of which every stage was done, with its recipe


def make(work: Path) -> None:
    """Make the work folder and the folders in it. Raises OSError.

    Only its owner can enter a new one, or nobody where the umask says so; one that is there keeps its mode.
    """
    Path(os.path.realpath(work)).mkdir(MODE, parents=True, exist_ok=True)
    for name in FOLDERS:
        if name not in ON_DEMAND:
            (work / name).mkdir(exist_ok=True)


def refuse_strange(work: Path) -> None:
    """ArtifactError by name where something below the work folder is not what smelt makes there.

    Looks at its own names and at what lies directly in its folders; `committed.first_link` looks into those.
    """
    for name in (*FOLDERS, *FILES):
        _refuse_other(work / name, folder=name in FOLDERS)
    for name in FOLDERS:
        try:
            with os.scandir(work / name) as entries:
                found = sorted(entry.path for entry in entries if entry.is_symlink())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ArtifactError(f"cannot look into {work / name}: {error.strerror}") from error
        if found:
            raise ArtifactError(_is_link(Path(found[0])))


def _refuse_other(path: Path, *, folder: bool) -> None:
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        shown = short(str(path))
        raise ArtifactError(
            f"cannot look at {shown}: {error.strerror}; --work FOLDER names another work folder"
        ) from error
    if stat.S_ISLNK(mode):
        raise ArtifactError(_is_link(path))
    if path.name == MEMORY and stat.S_ISDIR(mode):
        return  # it cannot be written then, and a run does without
    if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
        raise ArtifactError(
            f"{path} is no {'folder' if folder else 'file'}: move it away, smelt uses its name"
        )


def _is_link(path: Path) -> str:
    return (
        f"{path} is a link (to {os.readlink(path)}), and smelt writes and deletes nothing through links that "
        f"lead out of its work folder: remove it. The work folder itself may be a link to another disk"
    )


def chart_file(work: Path) -> Path:
    """The file of the flowchart to show of the work folder; ArtifactError where there is none."""
    if not work.is_dir():
        raise ArtifactError(f"{work} is not a folder; `smelt run RECIPE --work {work}` would make it")
    refuse_strange(work)
    for name in (FINISHED, FLOWCHART):
        if (work / name).is_file():
            return work / name
    raise ArtifactError(f"{work} is not a work folder (no {FLOWCHART}): give the folder of a run")


def read_chart(work: Path) -> dict[str, Any]:
    """The flowchart to show: `nodes` with keys, `runtime`, and `recipe` where it is known."""
    path = chart_file(work)
    chart = read_json(path)
    if not isinstance(chart, dict) or not isinstance(chart.get("nodes"), list):
        raise ArtifactError(f"{path} is damaged: it holds no flowchart; run the recipe again")
    if "recipe" not in chart and (work / "recipe.yaml").is_file():
        chart["recipe"] = (work / "recipe.yaml").read_text(encoding="utf-8")
    return chart


def under_way(work: Path) -> bool:
    """Whether another flowchart than the finished one has been begun since."""
    if not ((work / FINISHED).is_file() and (work / FLOWCHART).is_file()):
        return False
    keys = [{node["key"] for node in read_json(work / name)["nodes"]} for name in (FINISHED, FLOWCHART)]
    return keys[0] != keys[1]


def catalogue_of(indexed: Path, deduped: Path | None) -> Path:
    """The folder of the catalogue to read: that of `dedupe`, where it drew the hold-out again, by groups of
    copies; else that of `index`."""
    redrawn = deduped / "catalogue" if deduped else None
    return redrawn if redrawn and redrawn.is_dir() else indexed / "catalogue"
