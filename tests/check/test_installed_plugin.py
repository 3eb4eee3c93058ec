"""A distribution of somebody else, built and installed, brings its names; and so does a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from retune.cli.main import main
from retune.scaffold import new_strategy

SMALL = ["--set", "data.images=200", "--set", "data.size=64", "--replicates", "10", "--json"]
RUN = ["run", "--scenario", "halves", "--strategy", "positive-mean/cautious", *SMALL, "--out", "out"]
QUESTIONS = {
    "list": ["list", "strategies", "--json"],
    "show": ["show", "strategy", "positive-mean", "--json"],
    "run": RUN,
    "check strategy": ["check", "positive-mean", "--json"],
    "check scenario": ["check", "scenario", "halves", "--json"],
    "check unfinished": ["check", "unfinished"],
    "run missing": ["run", "--strategy", "missing"],
}
ASK = """
import contextlib, io, json, sys
from retune.cli.main import main
told = {}
for name, words in json.loads(sys.argv[1]).items():
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(words)
    told[name] = [code, out.getvalue(), err.getvalue()]
print(json.dumps(told))
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Told:
    """What the command line answered."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the installed distribution is asked."""
    return tmp_path_factory.mktemp("plugin")


@pytest.fixture(scope="module")
def told(folder: Path, plugin_site: Path, cache: Path) -> dict[str, Told]:
    """Every answer of the command line, in one process of its own that sees the installed distribution."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(QUESTIONS)],
        env={**os.environ, "PYTHONPATH": str(plugin_site), "RETUNE_CACHE": str(cache)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return {name: Told(*answer) for name, answer in json.loads(done.stdout).items()}


def test_its_names_are_listed_and_shown(told: dict[str, Told]) -> None:
    listed = {row["name"]: row["origin"] for row in json.loads(told["list"].out)["strategies"]}
    assert listed["positive-mean"] == "retune-fixture-plugin"
    assert listed["zero-shot"] == "retune"
    assert json.loads(told["show"].out)["presets"] == {"cautious": {"prior": 10.0}}


def test_its_strategy_runs_on_its_scenario(told: dict[str, Told], folder: Path) -> None:
    assert told["run"].code == 0, told["run"].err
    result = json.loads((folder / "out" / "result.json").read_text())
    assert result["strategy"]["origin"] == "retune-fixture-plugin"
    assert result["strategy"]["settings"] == {"prior": 10.0}
    # Its metric is asked in every run, and the one that cannot be imported is told.
    rises = [
        end - start
        for start, end in zip(result["auc_matrix"][0], result["auc_matrix"][-1], strict=True)
        if end
    ]
    rise = result["own"]["rise"]
    assert (rise["origin"], rise["value"]) == ("retune-fixture-plugin", pytest.approx(max(rises)))
    assert "of retune-fixture-plugin" in result["own"]["gone"]["problem"]
    assert len(result["auc_matrix"]) == 3


@pytest.mark.parametrize("kind", ["strategy", "scenario"])
def test_it_is_checked(told: dict[str, Told], kind: str) -> None:
    answer = told[f"check {kind}"]
    assert answer.code == 0, answer.out + answer.err
    assert json.loads(answer.out)["passed"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "check unfinished",
            "strategy 'unfinished' of retune-fixture-plugin: Unfinished lacks score",
        ),
        ("run missing", "strategy 'missing' of retune-fixture-plugin: cannot be imported"),
    ],
)
def test_what_is_broken_names_its_distribution(told: dict[str, Told], name: str, message: str) -> None:
    assert told[name].code == 2
    assert message in told[name].err
    assert "Traceback" not in told[name].err


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
