"""What the pages show: the entries of a leaderboard, checked, compared and sorted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from retune.errors import UserError
from retune.leaderboard.board import Board
from retune.leaderboard.entry import Entry, Estimate
from retune.leaderboard.intake import read
from retune.leaderboard.records import Record, Tier, suspicions
from retune.leaderboard.site.ties import tie_groups
from retune.leaderboard.tracks import Track
from retune.leaderboard.verify import Verifier, Wrong, require_arithmetic
from retune.metrics.table import DECIDES
from retune.plugins import registry
from retune.results import text

if TYPE_CHECKING:
    from retune.progress import Progress


@dataclass(frozen=True, eq=False)
class Shown:
    """An entry as it is shown.

    Args:
        entry: What it says.
        track: The track it is on.
        tier: How far it was checked.
        record: What verifying it found, if anybody has.
        remarks: What a reader should know.
        synthetic: Whether no patient stands behind its numbers.
    """

    entry: Entry
    track: Track
    tier: Tier
    record: Record | None
    remarks: list[str]
    synthetic: bool

    @property
    def href(self) -> str:
        """Its page, from the site's root: the permanent link."""
        return f"entries/{self.track.id}/{self.entry.name}.html"

    @property
    def bound(self) -> bool:
        """Whether it sees all data at once: an upper bound, not a continual method."""
        return self.entry.strategy.sees_everything

    @property
    def final(self) -> Estimate:
        """What entries are sorted by."""
        found: Estimate = getattr(self.entry.metrics, DECIDES.key)
        return found

    @property
    def error(self) -> float:
        """Standard error of that over seeds; 0 where one seed tells nothing of it."""
        return (self.final.sd or 0.0) / math.sqrt(max(self.final.n, 1))

    @property
    def stores(self) -> bool:
        """Whether anything of past patients is kept."""
        return self.entry.strategy.keeps_samples or any(
            run.cost.stored_images or run.cost.stored_features or run.cost.stored_bytes
            for run in self.entry.runs
        )

    @property
    def stored(self) -> str:
        """What is kept of past patients, mean over seeds."""
        told = text.stored(*(self.cost(f"stored_{kind}") for kind in ("images", "features", "bytes")))
        return told or ("some" if self.stores else "nothing")

    def cost(self, key: str) -> float:
        """A cost, mean over seeds."""
        return fmean(getattr(run.cost, key) for run in self.entry.runs)


@dataclass(frozen=True, eq=False)
class TrackShown:
    """A track with its entries.

    Args:
        track: What all of them have in common.
        entries: The best first, those without a number after them, upper bounds last.
        groups: Of entries that are statistically tied, by an entry's name.
        synthetic: Whether no patient stands behind its numbers.
    """

    track: Track
    entries: list[Shown]
    groups: Mapping[str, int | None]
    synthetic: bool

    @property
    def href(self) -> str:
        """Its page, from the site's root."""
        return f"tracks/{self.track.id}.html"

    @property
    def best(self) -> Shown | None:
        """The best entry that was compared, else the best that somebody reports."""
        ranked = [s for s in self.entries if not s.bound]
        compared = [s for s in ranked if self.groups[s.entry.name] is not None]
        return next(iter(compared or ranked), None)

    @property
    def tied_with_best(self) -> int:
        """How many are statistically tied with the best."""
        return list(self.groups.values()).count(1) - 1

    def rank(self, shown: Shown) -> str:
        """Rank of an entry: ``3=`` where two are better and it is tied with others, nothing where it is not compared."""
        group = self.groups[shown.entry.name]
        if group is None:
            return ""
        known = [g for g in self.groups.values() if g is not None]
        return f"{1 + sum(g < group for g in known)}{'=' if known.count(group) > 1 else ''}"

    @property
    def compared(self) -> int:
        """How many entries are ranked."""
        return sum(group is not None for group in self.groups.values())


@dataclass(frozen=True, eq=False)
class Site:
    """Everything that is shown.

    Args:
        tracks: By their order in the list of tracks.
        refused: What was left out, a line each.
        notes: What else is wrong, a line each.
    """

    tracks: list[TrackShown]
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def entries(self) -> list[Shown]:
        """Of all tracks."""
        return [shown for track in self.tracks for shown in track.entries]


def collect(board: Board, progress: Progress) -> Site:
    """Read a leaderboard.

    Args:
        board: The leaderboard.
        progress: Told what is done.

    Raises:
        UserError: If there are no submissions, or the list of tracks is at fault.
    """
    folders = list(board.folders())
    verifier = Verifier(board)
    refused: list[str] = []
    notes: list[str] = []
    synthetic = {track.id: _synthetic(track) for track in board.tracks.values()}
    by_track: dict[str, list[Shown]] = defaultdict(list)
    for k, folder in enumerate(folders):
        progress("reading entries", k, len(folders))
        try:
            shown = _shown(board, verifier, folder, synthetic, notes)
        except UserError as error:
            refused.append(str(error))
        else:
            by_track[shown.track.id].append(shown)
    progress("reading entries", len(folders), len(folders))
    tracks = []
    for track in board.tracks.values():
        entries = sorted(by_track[track.id], key=_order)
        ranked = [s for s in entries if not s.bound]
        groups = tie_groups(
            [s.final.mean for s in ranked],
            [s.record.replicates if s.record else [] for s in ranked],
            [s.error for s in ranked],
        )
        found = dict.fromkeys((s.entry.name for s in entries), None) | {
            s.entry.name: group for s, group in zip(ranked, groups, strict=True)
        }
        tracks.append(TrackShown(track, entries, found, synthetic[track.id]))
    return Site(tracks, refused, notes)


def _shown(
    board: Board, verifier: Verifier, folder: Path, synthetic: Mapping[str, bool], notes: list[str]
) -> Shown:
    submission = read(folder, scores=False)
    entry = submission.entry
    track = board.tracks.find(entry.track)
    try:
        record = Record.read(board.record(entry.track, entry.name), submission.digest)
    except UserError as error:
        notes.append(str(error))
        record = None
    fault = record.fault if record else None
    if record is None:
        # What was verified fits its track and itself; of the others it is seen here, as far as can be without data.
        verifier.track_of(entry)
        try:
            require_arithmetic(entry)
        except Wrong as error:
            fault = str(error)
    if fault is not None:
        raise UserError(f"does not hold: {fault}", where=f"{entry.track}/{entry.name}")
    return Shown(
        entry,
        track,
        record.tier if record else "self-reported",
        record,
        list(record.remarks) if record else suspicions(entry),
        synthetic[track.id] or entry.data.synthetic,
    )


def _order(shown: Shown) -> tuple[bool, bool, float, str]:
    final = shown.final.mean
    return shown.bound, final is None, -(final or 0), shown.entry.name


def _synthetic(track: Track) -> bool:
    """Whether any of a track's data sets is computed: its reader knows, an entry could lie."""
    return any(_is_synthetic(name) for name in track.data.split(","))


def _is_synthetic(name: str) -> bool:
    try:
        found: bool = registry("datasets").load(name).synthetic
    except UserError:  # A plugin's that is not installed where the page is made.
        return False
    return found
