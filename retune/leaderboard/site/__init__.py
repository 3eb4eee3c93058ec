"""The page of a leaderboard: a folder of files that needs no server and no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retune.leaderboard.board import DEFAULT, Board

if TYPE_CHECKING:
    from retune.progress import Progress

__all__ = ["Built", "build"]


@dataclass(frozen=True)
class Built:
    """A site that was written.

    Args:
        folder: Holds ``index.html``.
        entries: How many it shows.
        tracks: How many tracks have any.
        refused: Entries that were left out, a line each with the reason.
        notes: What else is wrong, a line each.
    """

    folder: Path
    entries: int
    tracks: int
    refused: tuple[str, ...]
    notes: tuple[str, ...]


def build(
    board: str | Path = DEFAULT, out: str | Path = "site", *, progress: Progress | None = None
) -> Built:
    """Write a leaderboard as a static site; the same leaderboard gives the same bytes.

    Neither data nor torch nor network is needed. Whatever an entry says is checked and escaped; one that is no
    submission is left out and named.

    Args:
        board: Folder of the leaderboard.
        out: Folder of the site; one that was built before is replaced, any other is left alone.
        progress: Called with a stage, what is done of it and what there is to do.

    Returns:
        What was written and what was left out.

    Raises:
        UserError: If there is no leaderboard, or something else than a site stands at ``out``.
        StorageError: If the disk is full.
    """
    from retune.files import storing
    from retune.leaderboard.site.folder import replacing
    from retune.leaderboard.site.pages import write
    from retune.leaderboard.site.view import collect

    tell = progress or (lambda stage, done, total: None)
    place = Path(out)
    with replacing(place) as folder:
        site = collect(Board(Path(board)), tell)
        with storing(place):
            write(site, folder, tell)
    used = sum(bool(track.entries) for track in site.tracks)
    return Built(place, len(site.entries), used, tuple(site.refused), tuple(site.notes))
