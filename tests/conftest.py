"""Fixtures that every test may use."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# One thread each: two workers with two threads would wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A job in the background ignores Ctrl-C, and whatever it starts does, too; tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Collecting six thousand tests makes objects that stay: looking through them for garbage takes seconds.
gc.disable()

PLUGIN = Path(__file__).parent / "check" / "fixture_plugin"
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_finish() -> None:
    """Go on as Python does."""
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A feature store of this test session's own, handed to subprocesses too."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("RETUNE_CACHE")
    os.environ["RETUNE_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["RETUNE_CACHE"]
    else:
        os.environ["RETUNE_CACHE"] = before


@pytest.fixture(scope="session")
def plugin_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed distribution of somebody else's; all workers share it."""
    from filelock import FileLock

    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    site, half = root / "plugin-site", root / "plugin-half"
    with FileLock(root / "plugin-lock"):
        if not site.exists():
            # A copy: building leaves its traces beside the source.
            source = shutil.copytree(PLUGIN, root / "plugin-source")
            install = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target"]
            words = [sys.executable, "-m", "pip", *install, str(half), str(source)]
            subprocess.run(words, check=True, timeout=300)
            half.rename(site)
    return site


@pytest.fixture(scope="session")
def nih_sample() -> Path:
    """621 real radiographs; they are not part of the repository."""
    folder = SHARED_DATA / "nih-sample"
    if not folder.is_dir():
        pytest.skip("needs the sample of NIH ChestX-ray14 in ../shared/data/nih-sample")
    return folder


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder of each kind of small tower, made when it is first asked for; tests copy before they change."""
    root = tmp_path_factory.mktemp("towers")

    @functools.cache
    def get(kind: str) -> Path:
        from made_towers import save_tower

        save_tower(kind, root / kind)
        return root / kind

    return get
