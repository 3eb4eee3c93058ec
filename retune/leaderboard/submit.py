"""From finished runs to submissions: several seeds of one method on one track, written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retune.errors import UserError
from retune.files import make_folder, storing, write_whole
from retune.leaderboard.assemble import Said, assemble
from retune.leaderboard.board import DEFAULT, Board
from retune.leaderboard.entry import ENTRY_FILE, SCORES_FILE, Entry
from retune.leaderboard.intake import read
from retune.results.collect import finished, unfinished
from retune.results.result import Result

if TYPE_CHECKING:
    from retune.progress import Progress


@dataclass(frozen=True)
class Submitted:
    """One submission that was written.

    Args:
        entry: What it says.
        folder: Where it stands.
        bits: Of a score.
        existed: Whether just this stood there already.
    """

    entry: Entry
    folder: Path
    bits: int
    existed: bool


def submit(
    runs: Iterable[str | Path],
    said: Said | None = None,
    *,
    board: str | Path = DEFAULT,
    progress: Progress | None = None,
) -> list[Submitted]:
    """Write a submission for each method and track that runs are of; all of them or none.

    Args:
        runs: Folders of runs, or folders that hold runs at any depth.
        said: What only the submitter knows; with more than one method only version, authors and note.
        board: Folder of the leaderboard.
        progress: Told what is done.

    Raises:
        UserError: If runs are on no track, do not belong together, or an entry of that name is there already.
    """
    tell = progress or (lambda stage, done, total: None)
    said, place = said or Said(), Board(Path(board))
    paths = list(runs)
    found, left = finished(paths, tell), unfinished(paths)
    if left:
        raise UserError(
            f"{len(left)} {'run' if len(left) == 1 else 'runs'} here not finished: no seed is left out by accident",
            where=str(left[0]),
            fix="finish with the command that began it, or name the folders of the runs that count",
        )
    groups: dict[tuple[str, str], list[tuple[Result, Path]]] = defaultdict(list)
    for result, folder in found:
        groups[place.tracks.of(result).id, _method_of(result)].append((result, folder))
    methods = sorted({method for _, method in groups})
    if len(methods) > 1 and (said.method or said.paper or said.code):
        raise UserError(
            f"these runs are of {len(methods)} methods",
            where="--method, --paper and --code",
            fix="submit the runs of one method, or leave these out",
        )
    made: dict[tuple[str, str], tuple[Entry, bytes, int]] = {}
    for k, ((track, _), group) in enumerate(sorted(groups.items())):
        tell("preparing entries", k, len(groups))
        entry, packed, bits = assemble(track, sorted(group, key=lambda one: one[0].run.seed), said)
        if (entry.track, entry.name) in made:
            raise UserError(
                f"two methods with different settings would both be called {entry.name} on {entry.track}",
                fix="submit the runs of one, and name it with --method",
            )
        made[entry.track, entry.name] = entry, packed, bits
    tell("preparing entries", len(groups), len(groups))
    standing = {key: _standing(place.folder(*key), entry) for key, (entry, _, _) in made.items()}
    submitted = []
    for key, (entry, packed, bits) in made.items():
        if not standing[key]:
            _write(place.folder(*key), entry, packed)
        submitted.append(Submitted(entry, place.folder(*key), bits, standing[key]))
    return submitted


def _method_of(result: Result) -> str:
    """Whatever runs that differ only in their seed have in common."""
    strategy = result.strategy
    settings = {} if strategy.search else strategy.settings
    return repr(
        (strategy.name, strategy.version, strategy.origin, sorted(settings.items()), bool(strategy.search),
         result.backbone.fingerprint, result.backbone.precision, result.prompts.fingerprint, result.dataset.fingerprint)
    )  # fmt: skip


def _standing(folder: Path, entry: Entry) -> bool:
    """Whether just this entry stands there already.

    Raises:
        UserError: If another does.
    """
    if not folder.exists():
        return False
    if read(folder, scores=False).entry == entry:
        return True
    raise UserError(
        "another entry of that name and version stands there; entries are never overwritten",
        where=str(folder),
        fix=f"give this one another --version than {entry.method.version}, or another --method",
    )


def _write(folder: Path, entry: Entry, packed: bytes) -> None:
    """Write a submission whole or not at all."""
    make_folder(folder.parent)
    with storing(folder):
        half = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        write_whole(half / SCORES_FILE, packed)
        write_whole(half / ENTRY_FILE, entry.to_json().encode())
        half.chmod(0o755)
        with storing(folder):
            half.rename(folder)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
