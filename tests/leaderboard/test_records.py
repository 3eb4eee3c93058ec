"""What verifying keeps, what it does not, and entries that must stand as they stood."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from made_boards import ENTRY, put

from retune.cli.main import main
from retune.errors import UserError
from retune.leaderboard.board import Board
from retune.leaderboard.check import check
from retune.leaderboard.records import Record
from retune.leaderboard.site import build
from retune.sealed import seal_json

VALID = "small-v1/valid-1"


def test_a_record_is_bound_to_the_bytes(folder: Path, board: Path, verify) -> None:
    verify(board, "--no-record")
    assert not (board / "verified").exists()
    verify(board)
    file = Board(board).record("small-v1", "valid-1")
    digest = json.loads(file.read_text())["entry"]
    assert Record.read(file, digest) is not None
    (folder / ENTRY).write_bytes((folder / ENTRY).read_bytes() + b"\n")
    kept = file.read_bytes()
    (changed,) = check(board)
    assert changed.outcome == "refused"
    assert "is of another entry.json than the one that stands there now" in changed.reason
    assert file.read_bytes() == kept
    file.unlink()
    assert check(board)[0].tier == "recomputed"


def test_a_record_is_what_was_written(folder: Path, board: Path, verify) -> None:
    verify(board)
    file = Board(board).record("small-v1", "valid-1")
    whole = file.read_bytes()
    for spoilt, told in (
        (whole.replace(b'"tier": "recomputed"', b'"tier": "re-run"'), "was changed or damaged"),
        (whole.replace(b"0.8", b"0.9", 1), "was changed or damaged"),
        (whole.replace(b'"digest"', b'"digesu"'), "it has no digest"),
        (b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "is nested more than"),
    ):
        assert spoilt != whole
        file.write_bytes(spoilt)
        code, (verdict,), _ = verify(board)
        assert (code, verdict["outcome"]) == (2, "refused")
        assert told in verdict["reason"]
        assert str(file) in verdict["reason"]
        assert file.read_bytes() == spoilt
    file.write_bytes(whole)
    assert verify(board)[0] == 0


def test_what_was_found_once_of_these_bytes_is_not_forgotten(single: Path, verify) -> None:
    """Who verifies with less than others had takes nothing back; other bytes begin anew once they are to."""
    board, folder = single, single / "submissions" / VALID
    file = Board(board).record("small-v1", "valid-1")
    tiers = []
    for words in (["--rerun"], []):
        verify(board, *words)
        tiers.append(json.loads(file.read_text())["tier"])
    (folder / ENTRY).write_bytes((folder / ENTRY).read_bytes() + b"\n")
    assert verify(board)[0] == 2
    tiers.append(json.loads(file.read_text())["tier"])
    file.unlink()
    verify(board)
    tiers.append(json.loads(file.read_text())["tier"])
    assert tiers == ["re-run", "re-run", "re-run", "recomputed"]


def test_what_is_refused_loses_its_record(folder: Path, board: Path, verify) -> None:
    verify(board)
    file = Board(board).record("small-v1", "valid-1")
    found = json.loads(file.read_text())
    put(folder, "method.extra", 0.99)
    verify(board, "--no-record")
    assert json.loads(file.read_text()) == found
    verify(board)
    assert not file.exists()


def test_what_was_found_false_with_data_is_on_no_page(single: Path, tmp_path: Path, verify) -> None:
    board, folder = single, single / "submissions" / VALID
    put(folder, "metrics.final_auc.low", 0.5)  # Nothing but the scores contradicts it.
    built = build(board, tmp_path / "before")
    assert (built.entries, built.refused) == (1, ())
    code, (told,), _ = verify(board)
    assert (code, told["outcome"]) == (1, "false")
    built = build(board, tmp_path / "after")
    assert built.entries == 0
    assert built.refused == (f"{VALID}: does not hold: {told['reason']}",)
    # What says that these bytes once held does not stand against it.
    file = Board(board).record("small-v1", "valid-1")
    found = json.loads(file.read_text())
    held = {key: value for key, value in found.items() if key != "fault"}
    file.write_bytes(seal_json(held | {"tier": "re-run"}))
    assert verify(board)[0] == 1
    assert json.loads(file.read_text())["fault"] == found["fault"]
    put(folder, "metrics.final_auc.low", 0.6)  # Other bytes begin anew.
    assert build(board, tmp_path / "again").entries == 1


def test_what_a_stricter_check_found_false_stays_so(single: Path, verify) -> None:
    board = single
    verify(board)
    file = Board(board).record("small-v1", "valid-1")
    found = json.loads(file.read_text())
    file.write_bytes(seal_json(found | {"tier": "re-run", "fault": "run again, an AUC differs"}))
    for _ in range(2):
        code, (told,), _ = verify(board)
        assert (code, told["outcome"]) == (1, "false")
        assert told["reason"] == "run again, an AUC differs (found before, re-run)"
    # As strict a check has the last word.
    assert verify(board, "--rerun")[0] == 0
    assert "fault" not in json.loads(file.read_text())
    assert verify(board)[0] == 0


def test_records_are_not_written_through_links(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    for at in (board / "verified", board / "verified" / "small-v1"):
        at.parent.mkdir(exist_ok=True)
        at.symlink_to(tmp_path / "elsewhere")
        assert main(["leaderboard", "verify", "--board", str(board)]) == 2
        assert "is a link; records are written into plain folders" in capsys.readouterr().err
        assert not any((tmp_path / "elsewhere").iterdir())
        at.unlink()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: os.mkfifo(file), "is not a file but"),
        (lambda file: file.symlink_to("/dev/zero"), "it is a link"),
        (lambda file: file.mkdir(), "is not a file but"),
        (lambda file: file.write_text("{"), "is not JSON"),
        (lambda file: file.write_text("[]"), "it has no digest"),
        (lambda file: file.write_bytes(seal_json({"tier": "re-run\u202e"})), "is not what verifying writes"),
        (lambda file: file.write_bytes(b" " * (2**20 + 1)), "is larger than"),
    ],
)
def test_a_record_that_is_none_is_told_in_a_line(
    make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "record.json")
    with pytest.raises(UserError) as told:
        Record.read(tmp_path / "record.json", "0" * 64)
    assert message in str(told.value)
    assert str(told.value).isprintable()


def test_an_entry_that_lies_elsewhere_is_verified_and_not_recorded(
    folder: Path, board: Path, tmp_path: Path, verify
) -> None:
    elsewhere = tmp_path / "elsewhere" / "small-v1" / "valid-1"
    shutil.copytree(folder, elsewhere)
    code, (told,), _ = verify(board, str(elsewhere))
    assert (code, told["tier"]) == (0, "recomputed")
    assert not (board / "verified").exists()


def test_entries_are_named_in_every_way(
    folder: Path, board: Path, verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, here in (
        (VALID, "."),
        (str(folder), "."),
        (".", str(folder)),
        ("valid-1", str(folder.parent)),
    ):
        with monkeypatch.context() as patch:
            patch.chdir(here if here != "." else board)
            code, (told,), _ = verify(board, words, "--no-record")
        assert (code, told["entry"]) == (0, VALID)
    assert main(["leaderboard", "verify", "--board", str(board), "small-v1/none-1"]) == 2
    assert main(["leaderboard", "verify", "--board", str(board / "verified")]) == 2


def test_entries_that_stand_must_stand_unchanged(
    small_board: Path, board: Path, folder: Path, verify
) -> None:
    against = ["--against", str(small_board)]
    code, told, _ = verify(board, *against)
    assert (code, [one["outcome"] for one in told]) == (2, ["holds", "refused"])
    assert told[1]["reason"] == "small-v1/hostile-1: an entry that stood is gone"
    # A new one beside it is welcome.
    shutil.copytree(small_board / "submissions" / "small-v1" / "hostile-1", folder.parent / "hostile-1")
    shutil.copytree(folder, folder.parent / "new-1")
    put(folder.parent / "new-1", "method.name", "new")
    assert verify(board, *against)[0] == 0
    put(folder, "method.note", "better")
    code, told, _ = verify(board, *against)
    assert (code, [one["outcome"] for one in told]) == (2, ["holds", "holds", "refused"])
    assert "takes the place of an entry that stands; give it a new version" in told[2]["reason"]
    assert not Board(board).record("small-v1", "valid-1").exists()


def test_a_folder_in_a_record_s_place_is_told_in_a_line(
    folder: Path, board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Board(board).record("small-v1", "valid-1").mkdir(parents=True)
    for _ in range(2):
        assert main(["leaderboard", "verify", "--board", str(board)]) == 2
        assert "is not a file but a folder" in " ".join(capsys.readouterr().out.split())
        put(folder, "method.note", "other bytes")
        put(folder, "metrics.final_auc.mean", 0.99)


def test_a_name_mistyped_is_answered_with_the_one_meant(
    board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "verify", "small-v1/vaild-1", "--board", str(board)]) == 2
    assert "did you mean small-v1/valid-1?" in capsys.readouterr().err
