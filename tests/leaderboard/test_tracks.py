"""Tracks: which runs belong to them, and which files of tracks are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_boards import TRACKS, copied

from retune.cli.main import main
from retune.data.source import DataSource
from retune.errors import UserError
from retune.leaderboard.tracks import Tracks

GOOD = '[a-v1]\ntitle = "a"\nversion = 1\ndata = "phantom"\nscenario = "class-incremental"\n'


def write(folder: Path, text: str | bytes) -> Path:
    (folder / "tracks.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_packaged_tracks_say_every_setting_that_could_move() -> None:
    tracks = Tracks.read()
    assert len(tracks) > 10
    for name, track in tracks.items():
        assert name == track.id
        assert name.endswith(f"-v{track.version}")
        assert track.mismatch(*track.settings()) == []


def test_phantom_is_still_the_phantom_of_its_tracks() -> None:
    for track in Tracks.read().values():
        if track.data == "phantom":
            dataset = DataSource.make(track.data, None, track.data_settings).read()
            assert dataset.fingerprint == track.fingerprint
            assert len(dataset.rows("test")) == track.n_test
            break


def test_a_board_adds_its_own(tmp_path: Path) -> None:
    tracks = Tracks.read(write(tmp_path, TRACKS))
    assert {"small-v1", "small-random-v1", "files-v1", "phantom-class-incremental-v1"} <= set(tracks)
    assert (tracks["files-v1"].needs_files, tracks["small-v1"].needs_files) == (["nih"], [])
    with pytest.raises(UserError, match="unknown track 'smal-v1'; did you mean small-v1"):
        tracks.find("smal-v1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        ("x = " + "[" * 5000, "is not TOML"),
        ("x = 1", "is not a table of tracks: x"),
        (GOOD.replace("a-v1", "a-v2"), "does not end with its version, -v1"),
        (GOOD.replace("[a-v1]", "[phantom-class-incremental-v1]"), "is packaged already"),
        (GOOD.replace("[a-v1]", '["../a-v1"]'), "../a-v1.id"),
        (GOOD.replace("[a-v1]", '["A-v1"]'), "A-v1.id"),
        (GOOD + "more = 1\n", "a-v1.more"),
        (GOOD.replace("version = 1", "version = true"), "a-v1.version"),
        (GOOD.replace("version = 1", "version = 1.0"), "a-v1.version"),
        (GOOD.replace('"a"', '"<b>a</b>"'), "a-v1.title"),
        (GOOD + "data_settings = { seed = nan }\n", "a-v1.data_settings"),
        (GOOD + "data_settings = { seed = 2026-01-01 }\n", "a-v1.data_settings"),
        (GOOD + 'fingerprint = "0"\n', "a-v1.fingerprint"),
        (GOOD + "n_test = -1\n", "a-v1.n_test"),
    ],
)
def test_a_file_that_is_none_is_told_in_a_line(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        Tracks.read(write(tmp_path, text))
    assert message in str(told.value)
    assert str(tmp_path / "tracks.toml") in str(told.value)
    assert "\n" not in str(told.value)


def test_a_track_is_called_what_its_head_says(tmp_path: Path) -> None:
    assert Tracks.read(write(tmp_path, GOOD + 'id = "b-v1"\n'))["a-v1"].id == "a-v1"


@pytest.mark.parametrize(
    ("group", "change", "problem"),
    [
        ("data", {"images": 400}, "data.images is 400, the track's is 300"),
        ("data", {"images": 300.0}, "data.images is 300.0, the track's is 300"),
        ("data", {"seed": False}, "data.seed is false, the track's is 0"),
        ("data", {"seed": None}, "data.seed is null, the track's is 0"),
        ("data", {"sites": ["B", "A", "C", "D"]}, 'data.sites is ["B", "A", "C", "D"]'),
        ("data", {"more": None}, "the track has no setting data.more"),
        ("scenario", {"steps": 3}, "scenario.steps is 3, the track's is 2"),
        ("scenario", {"order": "\u202e" * 200}, 'scenario.order is "\\u202e'),
    ],
)
def test_what_differs_from_a_track_is_named(
    group: str, change: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    track = Tracks.read(write(tmp_path, TRACKS))["small-v1"]
    data, scenario = track.settings()
    assert track.mismatch(data, scenario) == []
    (told,) = track.mismatch(
        {**data, **(change if group == "data" else {})},
        {**scenario, **(change if group == "scenario" else {})},
    )
    assert told.startswith(problem)
    assert told.isascii()
    assert len(told) < 300


@pytest.mark.parametrize(
    "change", [("images = 300", "images = 301"), ("[small-random-v1]", "[small-other-v1]")]
)
def test_a_track_that_stands_never_changes(
    change: tuple[str, str], small_board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = copied(small_board, tmp_path / "board")
    words = ["leaderboard", "verify", "--board", str(board), "--no-record", "--against", str(small_board)]
    write(board, TRACKS + GOOD)
    assert main(words) == 0
    write(board, TRACKS.replace(*change))
    capsys.readouterr()
    assert main(words) == 2
    assert "is changed or gone; a track never changes" in capsys.readouterr().err


def test_a_bad_file_of_tracks_stops_before_any_entry(
    small_board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = write(copied(small_board, tmp_path / "board"), "[")
    assert main(["leaderboard", "verify", "--board", str(board), "--json"]) == 2
    told = capsys.readouterr()
    assert "is not TOML" in told.err
    assert not told.out or not json.loads(told.out)
