"""A small board with a track of its own, and runs on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from leaderboard.browser import Browser, browsing, require_browser
from leaderboard.made_entries import add, document, small
from made_boards import TRACKS, copied, runs_of

from retune.cli.main import main
from retune.leaderboard.site import build
from retune.leaderboard.submit import Said, submit

Verify = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of a method on the small track."""
    return runs_of(tmp_path_factory.mktemp("runs"), "linear-probe")


@pytest.fixture(scope="session")
def more_runs(tmp_path_factory: pytest.TempPathFactory, small_runs: Path) -> Path:
    """Two seeds of two other methods, one of which is a bound that no seed changes."""
    folder = tmp_path_factory.mktemp("more")
    runs_of(folder, "ridge", seeds=2)
    return runs_of(folder, "joint", seeds=2)


@pytest.fixture(scope="session")
def small_board(tmp_path_factory: pytest.TempPathFactory, small_runs: Path) -> Path:
    """A board with two entries of the same runs; copy it before you change it."""
    board = tmp_path_factory.mktemp("board")
    (board / "tracks.toml").write_text(TRACKS)
    for name in ("valid", "hostile"):
        submit([small_runs], Said(name, authors=["A. Author"], note="a note"), board=board)
    return board


@pytest.fixture(scope="session")
def single_board(tmp_path_factory: pytest.TempPathFactory, small_runs: Path) -> Path:
    """A board with an entry of one seed, which is soon run again; copy it before you change it."""
    board = tmp_path_factory.mktemp("single")
    (board / "tracks.toml").write_text(TRACKS)
    submit([small_runs / "linear-probe-dataset-1"], Said("valid"), board=board)
    return board


@pytest.fixture
def single(single_board: Path, tmp_path: Path) -> Path:
    """A board with an entry of one seed, to be changed."""
    return copied(single_board, tmp_path / "single")


@pytest.fixture
def board(small_board: Path, tmp_path: Path) -> Path:
    """A board with one entry, to be changed."""
    board = copied(small_board, tmp_path / "board")
    shutil.rmtree(board / "submissions" / "small-v1" / "hostile-1")
    return board


@pytest.fixture
def folder(board: Path) -> Path:
    """The entry."""
    return board / "submissions" / "small-v1" / "valid-1"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of some made-up entries; copy it before you change it."""
    folder = tmp_path_factory.mktemp("site")
    build(small(folder / "board"), folder / "site")
    return folder / "site"


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """``retune leaderboard verify --json``: its exit code, its document, and what it wrote on standard error."""

    def run(board: Path, *words: str) -> tuple[int, list[dict[str, Any]], str]:
        capsys.readouterr()
        code = main(["leaderboard", "verify", "--board", str(board), "--json", *words])
        told = capsys.readouterr()
        return code, json.loads(told.out) if told.out else [], told.err

    return run


@pytest.fixture(scope="session")
def wide_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of more made-up entries, one of which says as much as it may."""
    require_browser()
    folder = tmp_path_factory.mktemp("site")
    board = small(folder / "board")
    long = "A very long name of a method " + "x" * 31
    add(board, document(name=long[:60], auc=0.74, method={"note": "y" * 300, "authors": ["z" * 300]}))
    build(board, folder / "site")
    return folder / "site"


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests of this process."""
    require_browser()
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser) -> Iterator[Browser]:
    """A browser that has said nothing yet, and in the end must have said nothing."""
    chromium.screen(1280)
    chromium.driver.get("about:blank")
    chromium.asked()
    chromium.driver.get_log("browser")
    yield chromium
    assert chromium.complaints() == []
