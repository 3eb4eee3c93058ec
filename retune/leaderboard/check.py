"""Verify many entries: each on its own, a bad one stops no other; and see that none took another's place."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Final

from retune.errors import UserError
from retune.files import storing
from retune.leaderboard.board import Board
from retune.leaderboard.command import LONG
from retune.leaderboard.entry import ENTRY_FILE, SCORES_FILE
from retune.leaderboard.fields import in_ascii
from retune.leaderboard.records import TIERS, Record
from retune.leaderboard.tracks import TRACKS_FILE
from retune.leaderboard.verify import Roots, Verdict, Verifier
from retune.system import keep_freed_memory

if TYPE_CHECKING:
    from retune.progress import Progress

HELD: Final = "verifying"


def check(
    board: str | Path,
    entries: Sequence[str | Path] = (),
    *,
    roots: Roots = None,
    again: bool = False,
    time_limit: float = LONG,
    against: str | Path | None = None,
    record: bool = False,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Verify entries of a leaderboard.

    Args:
        board: Its folder.
        entries: Folders of entries, or ``TRACK/ENTRY``; all where left out.
        roots: Folder of a data set's files, or one by name; without it, entries on data that needs files are
            only read.
        again: Run every method again that is installed here.
        time_limit: Seconds that a method run again may take for an experience.
        against: A leaderboard whose entries must stand here unchanged.
        record: Keep what was found of the entries that stand there, and forget what was found before.
        progress: Told what is done.

    Raises:
        UserError: If there is no leaderboard or no such entry.
    """
    place = Board(Path(board))
    base = Board(Path(against)) if against is not None else None
    # Before any entry: a fault here is no entry's.
    _ = place.tracks
    if base is not None:
        _require_tracks(base, place)
    folders = [_named(place, one) for one in entries] or list(place.folders())
    verifier = Verifier(place, roots)
    # Every resample asks for the same few large arrays.
    keep_freed_memory()
    verdicts = []
    for k, folder in enumerate(folders):
        if progress:
            progress(HELD, k, len(folders))
        verdict = verifier.verify(folder)
        if base is not None and verdict.outcome == "holds":
            verdict = _beside(base, folder) or verdict
        file = place.record(folder.parent.name, folder.name) if _stands(place, folder) else None
        try:
            before = Record.read(file, verdict.record.entry) if file and verdict.record else None
        except UserError as error:
            # Kept as it is: whether what was found before may be forgotten is for who keeps the board to say.
            verdicts.append(Verdict(verdict.name, "refused", in_ascii(str(error), 600)))
            continue
        if again:
            # Needs torch, which recomputing does not.
            from retune.leaderboard.rerun import rerun

            verdict = rerun(verifier, folder, verdict, time_limit=time_limit, progress=progress)
        if file is not None:
            earlier = _stricter(before, verdict)
            if record:
                _keep(verdict, earlier, file)
            verdict = _remembered(verdict, earlier)
        verdicts.append(verdict)
    if progress:
        progress(HELD, len(folders), len(folders))
    if base is not None and not entries:
        verdicts += _missing(base, folders)
    return verdicts


def _named(board: Board, name: str | Path) -> Path:
    """The folder of an entry, given as a path or as TRACK/ENTRY."""
    path = Path(name)
    found = path if path.is_dir() else board.submissions / path
    if not found.is_dir():
        known = [f"{folder.parent.name}/{folder.name}" for folder in board.folders()]
        close = get_close_matches(str(name), known, n=2, cutoff=0.8)
        fix = f"did you mean {' or '.join(close)}?" if close else "give its folder, or TRACK/ENTRY"
        raise UserError(f"no such entry in {board.submissions}", where=str(name), fix=fix)
    # Only names count, and `.` and `..` are none.
    return Path(os.path.abspath(found))


def _stands(board: Board, folder: Path) -> bool:
    """Whether a folder is an entry's of this leaderboard, and not one that lies elsewhere."""
    return board.submissions.is_dir() and os.path.samefile(folder.parent.parent, board.submissions)


def _stricter(before: Record | None, verdict: Verdict) -> Record | None:
    """What a stricter check found of the very entry before."""
    now = verdict.record
    return before if before and now and TIERS.index(before.tier) > TIERS.index(now.tier) else None


def _remembered(verdict: Verdict, earlier: Record | None) -> Verdict:
    """The verdict; false where a stricter check found the entry so before."""
    if earlier is None or earlier.fault is None or verdict.outcome != "holds":
        return verdict
    return Verdict(verdict.name, "false", f"{earlier.fault} (found before, {earlier.tier})", earlier)


def _keep(verdict: Verdict, earlier: Record | None, file: Path) -> None:
    """Write down what is false, and what holds unless more was found before; forget what is refused now."""
    if verdict.record is not None:
        if earlier is None or verdict.outcome == "false":
            verdict.record.write(file)
    elif not file.parent.is_symlink():
        with storing(file):
            file.unlink(missing_ok=True)


def _require_tracks(base: Board, board: Board) -> None:
    """See that no track has changed its meaning.

    Raises:
        UserError: If one has.
    """
    for name, track in base.tracks.items():
        if board.tracks.get(name) != track:
            raise UserError(
                f"track {name} is changed or gone",
                where=str(board.root / TRACKS_FILE),
                fix="a track never changes; give a new one the next version",
            )


def _beside(base: Board, folder: Path) -> Verdict | None:
    """Refuse an entry that takes the place of another one."""
    name = in_ascii(f"{folder.parent.name}/{folder.name}")
    standing = base.folder(folder.parent.name, folder.name)
    if not standing.is_dir():
        return None
    files = [ENTRY_FILE, SCORES_FILE]
    same, _, _ = filecmp.cmpfiles(standing, folder, files, shallow=False)
    if set(same) == set(files):
        return None
    return Verdict(name, "refused", f"{name}: takes the place of an entry that stands; give it a new version")


def _missing(base: Board, folders: Iterable[Path]) -> list[Verdict]:
    """Entries of the base that are not here any more."""
    here = {(folder.parent.name, folder.name) for folder in folders}
    gone = [f for f in base.folders() if (f.parent.name, f.name) not in here]
    names = [in_ascii(f"{folder.parent.name}/{folder.name}") for folder in gone]
    return [Verdict(name, "refused", f"{name}: an entry that stood is gone") for name in names]
