"""Fixtures that several tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

# The whole method on a data set so small that it runs in half a minute: what comes out is of no meaning
TINY = (
    "synthesise.classes=6", "synthesise.abstract_classes=1", "synthesise.train_images=180",
    "synthesise.val_images=60", "synthesise.test_images=60", "synthesise.leak=0.03",
    "synthesise.hostile=0.5", "synthesise.broken=0.02", "train.epochs=2", "train.warmup_epochs=0",
    "train.images_per_class=null", "train.backbone=resnet8", "train.max_bad_fraction=1.0",
    "predict.views=[{size: 32}, {size: 40}]",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """A cache folder of this run's own: what it remembers of nets is neither the user's nor left to them."""
    folder = tempfile.mkdtemp(prefix="smelt-test-cache-")
    os.environ["XDG_CACHE_HOME"] = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def smelt(*arguments: str, cwd: Path | None = None, timeout: float = 250) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "smelt", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def overrides(*extra: str) -> list[str]:
    """`-o key=value` for every setting of the tiny run and `extra`."""
    return [word for value in (*TINY, *extra) for word in ("-o", value)]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("the real data (../shared/data) is not here")
    return SHARED


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of a tiny run of the whole demo, finished. Do not change it."""
    work = tmp_path_factory.mktemp("finished") / "tiny"
    done = smelt("run", "demo", "--work", str(work), "--quiet", *overrides())
    assert done.returncode == 0, done.stderr[-3000:]
    return work
