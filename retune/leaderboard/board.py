"""Where a leaderboard keeps what: submissions, and what verifying found of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from retune.errors import UserError
from retune.leaderboard.tracks import Tracks

SUBMISSIONS: Final = "submissions"
RECORDS: Final = "verified"
DEFAULT: Final = Path("leaderboard")


@dataclass(frozen=True)
class Board:
    """The folder of a leaderboard.

    Args:
        root: Holds ``submissions/TRACK/ENTRY/``, ``verified/TRACK/ENTRY.json`` and perhaps ``tracks.toml``.
    """

    root: Path

    @cached_property
    def tracks(self) -> Tracks:
        """Its tracks: the packaged ones and its own."""
        return Tracks.read(self.root)

    @property
    def submissions(self) -> Path:
        """Folder of submissions."""
        return self.root / SUBMISSIONS

    def folder(self, track: str, name: str) -> Path:
        """Where an entry stands."""
        return self.submissions / track / name

    def record(self, track: str, name: str) -> Path:
        """Where it is kept what verifying an entry found."""
        return self.root / RECORDS / track / f"{name}.json"

    def folders(self) -> Iterator[Path]:
        """Every folder that may be an entry, sorted; whatever stands in the way comes too, to be refused.

        Raises:
            UserError: If there are no submissions.
        """
        if not self.submissions.is_dir():
            raise UserError(
                "no submissions here",
                where=str(self.root),
                fix="give the folder of a leaderboard with --board",
            )
        for track in sorted(self.submissions.iterdir()):
            if track.is_symlink() or not track.is_dir():
                yield track
            else:
                yield from sorted(track.iterdir())
