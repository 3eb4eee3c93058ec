"""Where a page is written: whole, the same each time, and over nothing that is not a page."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from leaderboard.made_entries import (
    CLASS,
    DATA,
    add,
    document,
    empty,
    published,
    small,
)
from leaderboard.site_pages import built, content, parsed, rows

from retune.cli.main import main
from retune.errors import StorageError, UserError
from retune.leaderboard.site import build
from retune.leaderboard.site.folder import replacing


def test_an_empty_leaderboard_has_a_page(tmp_path: Path) -> None:
    out, found = built(empty(tmp_path / "board"), tmp_path / "site")
    assert found.entries == 0
    assert "There are no entries yet." in parsed(out / "index.html").text
    assert "There are no entries yet." in parsed(out / f"tracks/{CLASS}.html").text


def test_undefined_numbers_and_long_names_are_shown(tmp_path: Path) -> None:
    board = empty(tmp_path / "board")
    add(board, document(name="n" * 60, auc=None, seeds=(4,), method={"version": "1.22222222222222222"}))
    out, found = built(board, tmp_path / "site")
    assert found.entries == 1
    assert rows(out / f"tracks/{CLASS}.html")[0][2] == "–"


def test_a_board_that_is_none_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "site"
    assert main(["leaderboard", "build", "--board", str(tmp_path), "--out", str(out)]) == 2
    assert "no submissions here" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_the_same_leaderboard_gives_the_same_bytes(tmp_path: Path, site: Path) -> None:
    board = small(tmp_path / "somewhere" / "else")
    out, _ = built(board, tmp_path / "other" / "site")
    assert content(out) == content(site)
    everything = b"".join(content(out).values())
    assert str(tmp_path).encode() not in everything


def test_a_site_is_replaced_whole(tmp_path: Path) -> None:
    board = empty(tmp_path / "board")
    add(board, document(name="a"))
    build(board, tmp_path / "site")
    add(board, document(name="b"))
    (board / "submissions" / CLASS / "a-1" / "entry.json").unlink()
    out, found = built(board, tmp_path / "site")
    assert [f.name for f in (out / "entries" / CLASS).iterdir()] == ["b-1.html"]
    assert len(found.refused) == 1
    assert {f.name for f in tmp_path.iterdir()} == {"board", "site"}


@pytest.mark.parametrize("kind", ["folder", "site with more", "file", "link", "folder in a site"])
def test_what_is_no_site_is_never_replaced(tmp_path: Path, kind: str) -> None:
    board, out = empty(tmp_path / "board"), tmp_path / "site"
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        (tmp_path / "mine").mkdir()
        out.symlink_to(tmp_path / "mine")
    elif kind == "folder":
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
    else:
        build(board, out)
        if kind == "site with more":
            (out / "CNAME").write_text("mine")
        else:
            (out / "assets" / ".git").mkdir()
    before = content(out) if out.is_dir() else out.read_bytes()
    with pytest.raises(UserError, match=r"site: (is|holds)"):
        build(board, out)
    assert (content(out) if out.is_dir() else out.read_bytes()) == before
    assert not list(tmp_path.glob(".partial-*"))


def test_an_empty_folder_may_become_a_site(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    out, _ = built(empty(tmp_path / "board"), tmp_path / "site")
    assert (out / "index.html").is_file()


def test_an_older_site_stands_where_building_fails(tmp_path: Path) -> None:
    board = empty(tmp_path / "board")
    out, _ = built(board, tmp_path / "site")
    before = content(out)
    (board / "tracks.toml").write_text("not toml")
    with pytest.raises(UserError, match="TOML"):
        build(board, out)
    assert content(out) == before
    assert not list(tmp_path.glob(".partial-*"))


def test_an_older_site_goes_back_where_its_place_cannot_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = empty(tmp_path / "board")
    out, _ = built(board, tmp_path / "site")
    before = content(out)
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.parent.name.startswith(".partial-") and self.name == "site":
            raise OSError(28, "no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(StorageError):
        build(board, out)
    assert content(out) == before


def test_help_loads_neither_torch_nor_templates_nor_charts() -> None:
    script = (
        "import sys; from retune.cli.main import main; main(['leaderboard', 'build', '--help']);"
        "found = {'torch', 'jinja2', 'altair', 'vl_convert', 'numpy'} & set(sys.modules);"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--out" in done.stdout


def test_building_needs_no_torch(tmp_path: Path) -> None:
    board = small(tmp_path / "board")
    script = (
        "import sys; from retune.cli.main import main; code = main(['leaderboard', 'build', '--board', sys.argv[1],"
        "'--out', sys.argv[2]]); sys.exit(code or ('torch' if 'torch' in sys.modules else 0))"
    )
    words = [sys.executable, "-c", script, str(board), str(tmp_path / "site")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "10 entries on 3 tracks" in done.stdout


def test_made_entries_are_what_a_submission_is(tmp_path: Path) -> None:
    board = small(tmp_path / "board")
    assert published(board, DATA, "best-1")["track"] == DATA


def killed(out: Path) -> None:
    """A build that dies half-way through, with no chance to tidy up."""
    child = os.fork()
    if not child:
        with replacing(out):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_what_a_killed_build_left_is_swept_by_the_next_of_the_same_site(tmp_path: Path) -> None:
    board = empty(tmp_path / "board")
    killed(tmp_path / "site")
    killed(tmp_path / "site-b")
    killed(tmp_path / "site")
    (tmp_path / ".partial-site-notmine").mkdir()
    busy = tmp_path / ".partial-site-abcd1234"
    busy.mkdir()
    left = sorted(p.name for p in tmp_path.glob(".partial-*"))
    assert len(left) == 5
    with FileLock(busy / ".lock"):
        build(board, tmp_path / "site")
    kept = sorted(p.name for p in tmp_path.glob(".partial-*"))
    assert len(kept) == 3
    assert {busy.name, ".partial-site-notmine"} <= set(kept)
    assert any(name.startswith(".partial-site-b-") for name in kept)
