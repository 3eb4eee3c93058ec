"""A strategy of somebody else's distribution goes the same path, from a run to an entry that is run again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from made_boards import TRACKS, edit

from retune.cli.main import main
from retune.plugins import registry

pytestmark = pytest.mark.slow

ENTRY = "small-v1/positive-mean-cautious-1"
VERIFY = ["leaderboard", "verify", "--rerun", "--json", "--board"]


@contextmanager
def installed(site: Path) -> Iterator[None]:
    """As if this process had begun where the distribution is installed."""
    try:
        with pytest.MonkeyPatch.context() as path:
            path.syspath_prepend(site)
            registry.cache_clear()
            yield
    finally:
        registry.cache_clear()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, plugin_site: Path) -> Path:
    """A folder with three runs of its strategy and a board with their entry."""
    folder = tmp_path_factory.mktemp("third-party")
    board, runs = folder / "board", str(folder / "runs")
    board.mkdir()
    (board / "tracks.toml").write_text(TRACKS)
    small = ["--steps", "2", "--set", "data.images=300", "--set", "data.size=64", "--replicates", "10"]
    with installed(plugin_site):
        assert (
            main(["run", "--strategy", "positive-mean/cautious", "--seeds", "3", *small, "--out", runs]) == 0
        )
        assert main(["submit", runs, "--board", str(board), "--author", "Somebody Else"]) == 0
    return folder


def test_it_is_run_again_where_it_is_installed(
    home: Path, plugin_site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with installed(plugin_site):
        assert main([*VERIFY, str(home / "board")]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["entry"], told["tier"], told["reason"]) == (ENTRY, "re-run", "")
    entry = json.loads((home / "board" / "submissions" / ENTRY / "entry.json").read_text())
    assert entry["strategy"]["origin"] == "retune-fixture-plugin"
    assert entry["strategy"]["settings"] == {"prior": 10.0}
    assert [run["seed"] for run in entry["runs"]] == [0, 1, 2]


def test_it_is_recomputed_where_it_is_not(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*VERIFY, str(home / "board"), "--no-record"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["tier"] == "recomputed"
    assert told["reason"] == "not run again: no strategy positive-mean of retune-fixture-plugin is installed"


def test_another_setting_than_it_had_is_found(
    home: Path, plugin_site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home / "board", home / "changed", ignore=shutil.ignore_patterns("verified"))
    edit(
        home / "changed" / "submissions" / ENTRY,
        lambda entry: entry["strategy"].update(settings={"prior": -5.5}),
    )
    with installed(plugin_site):
        assert main([*VERIFY, str(home / "changed")]) == 1
    assert "an AUC differs by 0." in json.loads(capsys.readouterr().out)[0]["reason"]
