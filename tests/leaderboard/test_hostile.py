"""Whatever a submission is made of, it is refused in one line, and nothing else happens."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from leaderboard.hostile import TEXTS, Hostile
from leaderboard.hostile_files import FILES
from made_boards import ENTRY, SCORES, copied, put

from retune.cli.main import main
from retune.errors import UserError
from retune.leaderboard.board import Board
from retune.leaderboard.fields import in_ascii
from retune.leaderboard.intake import read
from retune.leaderboard.verify import Verifier
from retune.runner.time_limit import limited

CASES: dict[str, Hostile] = {**TEXTS, **FILES}
VALID = "small-v1/valid-1"
LONG = 300
"""Seconds after which a test hangs."""


def snapshot(folder: Path) -> dict[bytes, Any]:
    """Everything below a folder, without following links or waiting for pipes."""
    found: dict[bytes, Any] = {}
    for here, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            path = os.path.join(here, name)
            told = os.lstat(path)
            plain = os.path.isfile(path) and not os.path.islink(path) and told.st_size < 2**22
            found[path] = (
                told.st_mode,
                told.st_size,
                Path(os.fsdecode(path)).read_bytes() if plain else None,
            )
    return found


@dataclass
class Seen:
    """What verifying a board with all of them gave.

    Args:
        code: The exit code.
        entries: How many.
        verdicts: By the name that is printed.
        names: Those of the cases.
        before: All files before.
        after: All files after, but for records.
        records: Records that were written.
        errors: What was written on standard error.
    """

    code: int
    entries: int
    verdicts: dict[str, dict[str, Any]]
    names: dict[str, str]
    before: dict[bytes, Any]
    after: dict[bytes, Any]
    records: list[str]
    errors: str


@pytest.fixture(scope="module")
def hostile_board(small_board: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """One board with every hostile submission, and what each is called there."""
    board = copied(small_board, tmp_path_factory.mktemp("hostile") / "board")
    track = board / "submissions" / "small-v1"
    names = {}
    for k, (name, case) in enumerate(CASES.items()):
        known = set(Board(board).folders())
        folder = track / f"case-{k}-1"
        shutil.copytree(track / "hostile-1", folder)
        put(folder, "method.name", f"case {k}")
        case.change(folder)
        (place,) = set(Board(board).folders()) - known
        names[name] = in_ascii(f"{place.parent.name}/{place.name}")
    shutil.rmtree(track / "hostile-1")
    return board, names


@pytest.fixture(scope="module")
def seen(hostile_board: tuple[Path, dict[str, str]]) -> Seen:
    board, names = hostile_board
    before = snapshot(board.parent)
    with limited(LONG), pytest.MonkeyPatch.context() as patch:
        out, err = (
            board.parent.parent / f"{board.parent.name}-out",
            board.parent.parent / f"{board.parent.name}-err",
        )
        with out.open("w") as one, err.open("w") as other:
            patch.setattr("sys.stdout", one)
            patch.setattr("sys.stderr", other)
            code = main(["leaderboard", "verify", "--board", str(board), "--json", "--record"])
    told = json.loads(out.read_text())
    records = os.fsencode(board / "verified")
    after = {path: what for path, what in snapshot(board.parent).items() if not path.startswith(records)}
    return Seen(
        code,
        len(told),
        {one["entry"]: one for one in told},
        names,
        before,
        after,
        [file.name for file in (board / "verified").rglob("*") if file.is_file()],
        err.read_text(),
    )


@pytest.mark.parametrize("name", CASES, ids=ascii)
def test_it_is_refused_in_one_line(name: str, seen: Seen) -> None:
    case, found = CASES[name], seen.verdicts[seen.names[name]]
    assert (found["outcome"], found["tier"]) == (case.outcome, None)
    assert case.words in found["reason"]
    assert re.fullmatch(r"[ -~]{1,620}", found["reason"])
    assert re.fullmatch(r"[ -~]+", found["entry"])
    if case.outcome == "refused":
        # Some are known by the track that holds them.
        assert found["reason"].startswith((seen.names[name], "name of folder", "case-", "unknown track"))


def test_nothing_else_happens(seen: Seen) -> None:
    assert seen.entries == len(CASES) + 1
    assert seen.verdicts[VALID]["tier"] == "recomputed"
    assert seen.code == 2
    assert seen.after == seen.before
    # What is false is remembered, what is refused is not.
    known = {name for name, told in seen.verdicts.items() if told["outcome"] != "refused"}
    assert {f"small-v1/{name.removesuffix('.json')}" for name in seen.records} == known
    assert "Traceback" not in seen.errors


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("a better AUC", 1),
        ("a line break in the note", 2),
        ("the entry is a link", 2),
        ("trailing bytes", 2),
        ("a folder called 'hostile-1\\n'", 2),
    ],
)
def test_the_exit_code_tells_untrue_from_broken(
    name: str, code: int, small_board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = copied(small_board, tmp_path / "board")
    case = CASES[name]
    case.change(board / "submissions" / "small-v1" / "hostile-1")
    assert main(["leaderboard", "verify", "--board", str(board)]) == code
    told = capsys.readouterr()
    assert case.words in " ".join(told.out.split())
    assert f"  {VALID} " in told.out
    assert "2 entries: 1 recomputed, 1 " in told.out
    assert "Traceback" not in told.out + told.err


@pytest.mark.parametrize("name", [*CASES][:: len(CASES) // 12], ids=ascii)
def test_one_named_alone_is_refused_too(name: str, small_board: Path, tmp_path: Path) -> None:
    board = copied(small_board, tmp_path / "board")
    known = {*Board(board).folders()} - {board / "submissions" / "small-v1" / "hostile-1"}
    CASES[name].change(board / "submissions" / "small-v1" / "hostile-1")
    (place,) = set(Board(board).folders()) - known
    # A name that begins with a dash must not be taken for an option.
    code = main(["leaderboard", "verify", "--board", str(board), "--record", "--", str(place)])
    assert code == (2 if CASES[name].outcome == "refused" else 1)
    assert (board / "verified").exists() == (CASES[name].outcome == "false")


@pytest.mark.parametrize(
    "name",
    [
        "giant",
        "a hundred thousand brackets",
        "a string that never ends",
        "a late duplicate among many",
        "a shape that overflows",
        "a length of 2^63",
        "offsets of 2^70",
        "a sparse file of four gigabytes",
        "entry.json is a link to a device",
    ],
)
def test_it_takes_no_memory(name: str, small_board: Path, tmp_path: Path) -> None:
    board = copied(small_board, tmp_path / "board")
    folder = board / "submissions" / "small-v1" / "hostile-1"
    CASES[name].change(folder)
    tracemalloc.start()
    try:
        with pytest.raises(UserError), limited(LONG):
            read(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**26


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _doubled(content: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(content))
    end = begin + rng.randrange(1, 200)
    return content[:end] + content[begin:end] + content[end:]


@pytest.mark.parametrize("change", [_flipped, _cut, _doubled])
@pytest.mark.parametrize("file", [ENTRY, SCORES])
@pytest.mark.parametrize("signed", [False, True])
def test_random_damage_is_never_more_than_a_verdict(
    change: Callable[[bytes, random.Random], bytes],
    file: str,
    signed: bool,
    small_board: Path,
    tmp_path: Path,
) -> None:
    board = copied(small_board, tmp_path / "board")
    folder = board / "submissions" / "small-v1" / "hostile-1"
    verifier, rng = Verifier(Board(board)), random.Random(f"{change.__name__} {file} {signed}")
    entry, scores = (folder / ENTRY).read_bytes(), (folder / SCORES).read_bytes()
    said = json.loads(entry)["scores"]
    outcomes = set()
    for _ in range(25):
        changed = change(entry if file == ENTRY else scores, rng)
        if file == SCORES:
            # Damage at both ends is rare: half of it goes to the header.
            head = change(scores[:400], rng) + scores[400:] if rng.random() < 0.5 else changed
            (folder / SCORES).write_bytes(head)
            digest = hashlib.sha256(head).hexdigest()
            text = entry.replace(said["sha256"].encode(), digest.encode())
            text = text.replace(f'"bytes": {said["bytes"]}'.encode(), f'"bytes": {len(head)}'.encode())
            (folder / ENTRY).write_bytes(text if signed else entry)
        else:
            (folder / ENTRY).write_bytes(changed)
        with limited(LONG):
            verdict = verifier.verify(folder)
        assert verdict.outcome in ("holds", "false", "refused")
        assert re.fullmatch(r"[ -~]*", verdict.reason)
        outcomes.add(verdict.outcome)
    assert "refused" in outcomes
