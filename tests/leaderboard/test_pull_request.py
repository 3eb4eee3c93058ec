"""What a pull request brings is verified by the base branch's code, and is data to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retune.leaderboard.submit import Said, submit

SCRIPT = Path(__file__).parents[2] / ".github" / "scripts" / "verify-submission"
ENTRY = "leaderboard/submissions/small-v1"

pytestmark = pytest.mark.slow


def git(repository: Path, *words: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *words], cwd=repository, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_board: Path, small_runs: Path) -> Path:
    """Folders of entries of one seed, by name."""
    board = tmp_path_factory.mktemp("made")
    shutil.copy(small_board / "tracks.toml", board)
    for name in ("standing", "another", "new", "later"):
        submit([small_runs / "linear-probe-dataset-0"], Said(name), board=board)
    return board / "submissions" / "small-v1"


def put_in(repository: Path, entry: Path) -> None:
    shutil.copytree(entry, repository / ENTRY / entry.name)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, small_board: Path, made: Path) -> Path:
    """A repository with the script and two entries."""
    repository = tmp_path_factory.mktemp("pull") / "repository"
    (repository / ".github" / "scripts").mkdir(parents=True)
    shutil.copy2(SCRIPT, repository / ".github" / "scripts")
    (repository / "leaderboard").mkdir()
    shutil.copy(small_board / "tracks.toml", repository / "leaderboard")
    for name in ("standing-1", "another-1"):
        put_in(repository, made / name)
    git(repository, "init", "--quiet", "--initial-branch", "main")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "base")
    return repository


@pytest.fixture
def verified(
    base: Path, tmp_path: Path, made: Path
) -> Callable[[Callable[[Path], object]], subprocess.CompletedProcess[str]]:
    """Change a copy of the repository on a branch, and let the base's script look at it."""

    def verify(change: Callable[[Path], object]) -> subprocess.CompletedProcess[str]:
        repository = tmp_path / "repository"
        shutil.copytree(base, repository, symlinks=True)
        git(repository, "switch", "--quiet", "--create", "theirs")
        change(repository)
        git(repository, "add", "--all", ".")
        git(repository, "commit", "--quiet", "--message", "change", "--allow-empty")
        git(repository, "switch", "--quiet", "main")
        # The base branch has moved on meanwhile.
        put_in(repository, made / "later-1")
        git(repository, "add", ".")
        git(repository, "commit", "--quiet", "--message", "later")
        return subprocess.run(
            [".github/scripts/verify-submission", "main", "theirs"],
            cwd=repository,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        )

    return verify


def test_a_good_submission_is_run_again(verified, made: Path) -> None:
    done = verified(lambda r: put_in(r, made / "new-1"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 entries: 3 recomputed" in done.stdout
    assert "1 entry: 1 re-run" in done.stdout


def test_nothing_to_do_where_nothing_is_submitted(verified) -> None:
    done = verified(lambda r: (r / "README.md").write_text("changed"))
    assert done.returncode == 0
    assert "no submission among what changed" in done.stdout


@pytest.mark.parametrize(
    "path", ["leaderboard/tracks.toml", "leaderboard/verified/small-v1/new-1.json", "conftest.py"]
)
def test_a_submission_changes_nothing_else(verified, made: Path, path: str) -> None:
    def change(repository: Path) -> None:
        put_in(repository, made / "new-1")
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text("# theirs\n")

    done = verified(change)
    assert done.returncode == 2
    assert f"this one changes {path}, too" in done.stderr


def test_links_are_text(verified, made: Path, tmp_path: Path) -> None:
    def change(repository: Path) -> None:
        put_in(repository, made / "new-1")
        file = repository / ENTRY / "new-1" / "entry.json"
        file.rename(tmp_path / "elsewhere.json")
        file.symlink_to(tmp_path / "elsewhere.json")

    done = verified(change)
    assert done.returncode == 2
    assert "small-v1/new-1/entry.json: is not JSON" in " ".join(done.stdout.split())


def test_entries_that_stand_stay(verified) -> None:
    def change(repository: Path) -> None:
        shutil.rmtree(repository / ENTRY / "another-1")
        file = repository / ENTRY / "standing-1" / "entry.json"
        file.write_bytes(file.read_bytes() + b"\n")

    done = verified(change)
    assert done.returncode == 2
    told = " ".join(done.stdout.split())
    assert "small-v1/another-1: an entry that stood is gone" in told
    assert "small-v1/standing-1: takes the place of an entry that stands" in told
