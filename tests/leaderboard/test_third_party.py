"""A strategy of somebody else's distribution goes the same path, from a run to an entry that is run again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_boards import TRACKS, edit

Retune = Callable[..., subprocess.CompletedProcess[str]]
PLUGIN = Path(__file__).parents[1] / "check" / "fixture_plugin"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A folder with the installed distribution, three runs of its strategy and a board with their entry."""
    folder = tmp_path_factory.mktemp("third-party")
    # A copy: building leaves its traces beside the source.
    source = shutil.copytree(PLUGIN, folder / "source")
    install = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target"]
    subprocess.run(
        [sys.executable, "-m", "pip", *install, str(folder / "site"), str(source)], check=True, timeout=300
    )
    (folder / "board").mkdir()
    (folder / "board" / "tracks.toml").write_text(TRACKS)
    retune = calling(folder, cache)
    small = ["--steps", "2", "--set", "data.images=300", "--set", "data.size=64", "--replicates", "10"]
    done = retune("run", "--strategy", "positive-mean/cautious", "--seeds", "3", *small, "--out", "runs")
    assert done.returncode == 0, done.stderr
    done = retune("submit", "runs", "--board", "board", "--author", "Somebody Else")
    assert done.returncode == 0, done.stderr
    return folder


def calling(folder: Path, cache: Path, site: str = "site") -> Retune:
    """The command line in a process of its own."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "retune", *words],
            env={**os.environ, "PYTHONPATH": str(folder / site), "RETUNE_CACHE": str(cache)},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return call


def test_it_is_run_again_where_it_is_installed(home: Path, cache: Path) -> None:
    done = calling(home, cache)("leaderboard", "verify", "--board", "board", "--rerun", "--json")
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["entry"], told["tier"], told["reason"]) == (
        "small-v1/positive-mean-cautious-1",
        "re-run",
        "",
    )
    entry = json.loads((home / "board" / "submissions" / told["entry"] / "entry.json").read_text())
    assert entry["strategy"]["origin"] == "retune-fixture-plugin"
    assert entry["strategy"]["settings"] == {"prior": 10.0}
    assert [run["seed"] for run in entry["runs"]] == [0, 1, 2]


def test_it_is_recomputed_where_it_is_not(home: Path, cache: Path) -> None:
    words = ["leaderboard", "verify", "--board", "board", "--rerun", "--json", "--no-record"]
    done = calling(home, cache, site="nothing")(*words)
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    assert told["tier"] == "recomputed"
    assert told["reason"] == "not run again: no strategy positive-mean of retune-fixture-plugin is installed"


def test_another_setting_than_it_had_is_found(home: Path, cache: Path) -> None:
    shutil.copytree(home / "board", home / "changed", ignore=shutil.ignore_patterns("verified"))
    folder = home / "changed" / "submissions" / "small-v1" / "positive-mean-cautious-1"
    edit(folder, lambda entry: entry["strategy"].update(settings={"prior": -5.5}))
    done = calling(home, cache)("leaderboard", "verify", "--board", "changed", "--rerun", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "an AUC differs by 0." in json.loads(done.stdout)[0]["reason"]
