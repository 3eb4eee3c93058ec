"""A distribution of somebody else, built and installed, brings its names; and so does a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retune.cli.main import main
from retune.scaffold import new_strategy

Retune = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ["--set", "data.images=200", "--set", "data.size=64", "--replicates", "10", "--json"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def retune(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Retune:
    """The command line in a process of its own that sees the installed distribution."""
    folder = tmp_path_factory.mktemp("plugin")
    # A copy: building leaves its traces beside the source.
    source = shutil.copytree(Path(__file__).parent / "fixture_plugin", folder / "source")
    install = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target"]
    subprocess.run(
        [sys.executable, "-m", "pip", *install, str(folder / "site"), str(source)], check=True, timeout=300
    )

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "retune", *words],
            env={**os.environ, "PYTHONPATH": str(folder / "site"), "RETUNE_CACHE": str(cache)},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return call


def test_its_names_are_listed_and_shown(retune: Retune) -> None:
    listed = {
        row["name"]: row["origin"]
        for row in json.loads(retune("list", "strategies", "--json").stdout)["strategies"]
    }
    assert listed["positive-mean"] == "retune-fixture-plugin"
    assert listed["zero-shot"] == "retune"
    card = json.loads(retune("show", "strategy", "positive-mean", "--json").stdout)
    assert card["presets"] == {"cautious": {"prior": 10.0}}


def test_its_strategy_runs_on_its_scenario(retune: Retune, tmp_path: Path) -> None:
    words = ["run", "--scenario", "halves", "--strategy", "positive-mean/cautious", *SMALL]
    done = retune(*words, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["strategy"]["origin"] == "retune-fixture-plugin"
    assert result["strategy"]["settings"] == {"prior": 10.0}
    assert len(result["auc_matrix"]) == 3


def test_it_is_checked(retune: Retune) -> None:
    for words in (["positive-mean"], ["scenario", "halves"]):
        done = retune("check", *words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["passed"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "unfinished"], "strategy 'unfinished' of retune-fixture-plugin: Unfinished lacks score"),
        (["run", "--strategy", "missing"], "strategy 'missing' of retune-fixture-plugin: cannot be imported"),
    ],
)
def test_what_is_broken_names_its_distribution(retune: Retune, words: list[str], message: str) -> None:
    done = retune(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_preset_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = new_strategy("mine")
    file.write_text(
        file.read_text().replace("    weight:", '    presets = {"bold": {"weight": 0.9}}\n\n    weight:')
    )
    for name in ("./mine.py/bold", "mine.py:Mine/bold"):
        assert main(["run", "--strategy", name, *SMALL, "--out", f"out-{len(name)}"]) == 0
        assert json.loads(capsys.readouterr().out)["strategy"]["settings"] == {"weight": 0.9}
    assert main(["run", "--strategy", "./mine.py/timid", *SMALL]) == 2
    assert "unknown preset of strategy ./mine.py 'timid'; known: bold" in capsys.readouterr().err
