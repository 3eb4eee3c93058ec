"""From finished runs to submissions: several seeds of one method on one track, written whole or not at all.

Folders, names of images and labels stay at home.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from retune.backbones.names import without_folder
from retune.errors import RetuneError, UserError, mistake
from retune.files import PARTIAL, make_folder, storing, write_whole
from retune.leaderboard.board import DEFAULT, Board
from retune.leaderboard.entry import (
    ENTRY_FILE,
    SCHEMA,
    SCORES_FILE,
    Backbone,
    Cost,
    Data,
    Entry,
    Prompts,
    Scenario,
    Strategy,
    Transfer,
)
from retune.leaderboard.fields import Part, slug
from retune.leaderboard.intake import read
from retune.leaderboard.numbers import BOOTSTRAP, Floats, Numbers, dice_of, differences, measure, rounded
from retune.leaderboard.scores import OUTLINES, TOLERANCE, Outlines, Scores, pack, unpack
from retune.leaderboard.tracks import Track, TransferTask
from retune.plugins import BUILT_IN, registry
from retune.results.collect import finished, unfinished
from retune.results.image_digests import salted
from retune.results.result import SCORES_FILE as RUN_SCORES
from retune.results.result import Record, Result, StrategyRecord
from retune.results.scores import Arrays, read_scores
from retune.results.transfers import measured

if TYPE_CHECKING:
    from retune.progress import Progress


@dataclass(frozen=True)
class Said:
    """What only the submitter knows.

    Args:
        method: Name of the method; the strategy's where left out.
        version: Of the entry.
        authors: Of the method.
        paper: Link to it.
        code: Link to it.
        note: A line of one's own.
    """

    method: str | None = None
    version: str = "1"
    authors: Sequence[str] = ()
    paper: str | None = None
    code: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Submitted:
    """One submission that was written.

    Args:
        entry: What it says.
        folder: Where it stands.
        bits: Of a score.
        existed: Whether just this stood there already.
        silent: Whether runs have a transfer of which the entry says nothing.
    """

    entry: Entry
    folder: Path
    bits: int
    existed: bool
    silent: bool


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
    made: dict[tuple[str, str], tuple[Entry, bytes, int, bool]] = {}
    for k, ((track, _), group) in enumerate(sorted(groups.items())):
        tell("preparing entries", k, len(groups))
        group.sort(key=lambda one: one[0].run.seed)
        entry, packed, bits = assemble(place.tracks[track], group, said)
        if (entry.track, entry.name) in made:
            origins = {made[entry.track, entry.name][0].strategy.origin, entry.strategy.origin}
            different = "settings or code" if len(origins) == 1 else f"origins ({', '.join(sorted(origins))})"
            raise UserError(
                f"two methods with different {different} would both be called {entry.name} on {entry.track}",
                fix="submit the runs of one, and name it with --method",
            )
        silent = entry.transfer is None and any(result.transfer for result, _ in group)
        made[entry.track, entry.name] = entry, packed, bits, silent
    tell("preparing entries", len(groups), len(groups))
    standing = {key: _standing(place.folder(*key), entry) for key, (entry, *_) in made.items()}
    submitted = []
    for key, (entry, packed, bits, silent) in made.items():
        if not standing[key]:
            _write(place.folder(*key), entry, packed)
        submitted.append(Submitted(entry, place.folder(*key), bits, standing[key], silent))
    return submitted


def _method_of(result: Result) -> str:
    """Whatever runs that differ only in their seed have in common."""
    strategy = result.strategy
    settings = {} if strategy.search else strategy.settings
    return repr(
        (strategy.name, strategy.version, strategy.origin, strategy.code, sorted(settings.items()), bool(strategy.search),
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
        half = Path(tempfile.mkdtemp(dir=folder.parent, prefix=PARTIAL))
    try:
        write_whole(half / SCORES_FILE, packed)
        write_whole(half / ENTRY_FILE, entry.to_json().encode())
        half.chmod(0o755)
        with storing(folder):
            half.rename(folder)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise


def assemble(track: Track, group: Sequence[tuple[Result, Path]], said: Said) -> tuple[Entry, bytes, int]:
    """An entry, its scores in as few bits as its numbers allow, and how many these are.

    Args:
        track: The track that all runs are on.
        group: Runs of one method with their folders, by seed.
        said: What only the submitter knows.

    Raises:
        UserError: If two runs have one seed, have different test images, or lack what an entry needs.
    """
    results = [result for result, _ in group]
    seeds = [r.run.seed for r in results]
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        same = [str(folder) for result, folder in group if result.run.seed == twice]
        raise UserError(f"two runs have seed {twice}: {same[0]} and {same[1]}", fix="submit one of them")
    arrays = [_arrays(result, folder) for result, folder in group]
    salt = hashlib.sha256("\0".join(r.run.id for r in results).encode()).hexdigest()[:32]
    items = salted(arrays[0]["items"], salt)
    for (_, folder), one in zip(group, arrays, strict=True):
        for name in ("items", "targets", "patients"):
            if not np.array_equal(one[name], arrays[0][name], equal_nan=name == "targets"):
                raise UserError(
                    "has other test images than the other runs",
                    where=str(folder),
                    fix="submit runs on one test set",
                )
    # The test set's own order decides how patients are resampled, that of the items how scores are written.
    every = [r.facts for r in results]
    exact = np.stack([one["scores"] for one in arrays])
    transfer, outlines, dice = _transfer(track.transfer, results, arrays)
    numbers = measure(every, exact, arrays[0]["targets"], arrays[0]["patients"], dice)
    order = np.lexsort(items.T[::-1])
    with np.errstate(over="ignore"):
        scores = Scores(items[order], np.ascontiguousarray(exact[:, :, order], dtype=np.float32), outlines)
    for bits in (16, 32) if np.isfinite(scores.values).all() else ():
        packed = pack(scores, exact=bits == 32)
        entry = _entry(track.id, results, numbers, said, salt, packed, transfer)
        back = np.empty(exact.shape, dtype=np.float32)
        back[:, :, order] = unpack(packed, entry, SCORES_FILE).values
        again = measure(every, back, arrays[0]["targets"], arrays[0]["patients"], dice)
        if max(by for _, by in differences(entry, again)) <= TOLERANCE:
            return entry, packed, bits
    if exact.dtype == np.float64:
        raise UserError(
            "its numbers do not follow from its scores in the 32 bits that an entry has",
            where=str(group[0][1]),
            fix="let the strategy give scores that differ by more, as logits do, and run it again",
        )
    raise RetuneError("the numbers of these runs do not follow from their scores; run them again")


def _transfer(
    task: TransferTask | None, results: Sequence[Result], arrays: Sequence[Arrays]
) -> tuple[dict[str, Any], Outlines, list[tuple[Floats, Floats]]]:
    """What an entry says of its track's transfer, the sums that it follows from, and the Dice of each run.

    Nothing where not all runs have it.

    Raises:
        UserError: If runs have different images of it.
    """
    records = [of for of in map(measured, results) if of is not None and task is not None and task.is_of(of)]
    if len(records) < len(results):
        return {}, {}, []
    told = [_told(Transfer, of, prior=rounded(of.trivial["prior"][of.headline])) for of in records]
    if any(of != told[0] for of in told):
        raise UserError("the runs have other images of their transfer", fix="submit runs on one copy of it")
    sums = np.stack([one["transfer.sums"] for one in arrays]).astype(np.uint32)
    # Sorted by these very sums, so that neither the data set's order nor that of its patients' names is told.
    order = np.lexsort(np.moveaxis(sums, 3, -1).reshape(-1, sums.shape[3]))
    _, first, codes = np.unique(arrays[0]["transfer.patients"][order], return_index=True, return_inverse=True)
    patients = first.argsort().argsort()[codes].astype(np.uint32)
    sums = np.ascontiguousarray(sums[:, :, :, order])
    positives = told[0]["positives_train"]
    dice = [
        dice_of(one, patients, positives, of.kept[of.headline]) for of, one in zip(records, sums, strict=True)
    ]
    return {"transfer": told[0]}, dict(zip(OUTLINES, (sums, patients), strict=True)), dice


def _arrays(result: Result, folder: Path) -> Arrays:
    arrays = read_scores(result, folder)
    missing = sorted({"scores", "targets", "patients", "items"} - arrays.keys())
    if missing:
        raise UserError(
            f"holds no {missing[0]}: it was written by an older version",
            where=str(folder / RUN_SCORES),
            fix="remove the run's folder and run it again",
        )
    return arrays


def _entry(
    track: str,
    results: list[Result],
    numbers: Numbers,
    said: Said,
    salt: str,
    packed: bytes,
    transfer: dict[str, Any],
) -> Entry:
    one = results[0]
    strategy, backbone, data = one.strategy, one.backbone, one.dataset
    document = {
        "schema": SCHEMA,
        "track": track,
        "method": {
            "name": said.method or _called(strategy),
            "version": said.version,
            "authors": list(said.authors),
            "paper": said.paper or (None if said.method else _paper_of(strategy.name, strategy.origin)),
            "code": said.code,
            "note": said.note,
        },
        "strategy": _told(
            Strategy,
            strategy,
            settings={} if strategy.search else strategy.settings,
            searched=strategy.search is not None,
        ),
        "backbone": _told(Backbone, backbone, name=without_folder(backbone.name)),
        "prompts": _told(Prompts, one.prompts, name=Path(one.prompts.name).name),
        "data": _told(Data, data, unreadable_images=len(data.unreadable_images)),
        "scenario": _told(Scenario, one.scenario, steps=len(one.scenario.experiences)),
        **transfer,
        "salt": salt,
        "bootstrap": BOOTSTRAP.model_dump(),
        "metrics": rounded(numbers.metrics),
        "scores": {"sha256": hashlib.sha256(packed).hexdigest(), "bytes": len(packed)},
        "runs": [_run(*of) for of in zip_longest(results, numbers.matrices, numbers.values, numbers.dice)],
    }
    try:
        return Entry.model_validate(document)
    except ValidationError as error:
        given = error.errors()[0]["input"]
        shown = f" (given: {given!r})" if isinstance(given, str) else ""
        raise UserError(f"{mistake(error)}{shown}"[:300], where="the entry") from None


def _told(part: type[Part], record: Record, **otherwise: Any) -> dict[str, Any]:
    """What a part of an entry says that the result's record says too, under the same names."""
    return {name: getattr(record, name) for name in part.model_fields if name not in otherwise} | otherwise


def _run(result: Result, matrix: Floats, values: dict[str, float], dice: Floats | None) -> dict[str, Any]:
    return {
        **{name: getattr(result.run, name) for name in ("seed", "id", "threads", "versions")},
        "stream": result.scenario.fingerprint,
        "device": result.backbone.device,
        "settings": result.strategy.settings if result.strategy.search else None,
        "first": result.first,
        "prevalence": result.prevalence or None,
        "images": [e.n_train for e in result.scenario.experiences],
        "auc_matrix": rounded(matrix.tolist()),
        **({} if dice is None else {"dice": rounded(dice.tolist())}),
        "values": rounded(values),
        "cost": _told(Cost, result.cost),
    }


def _called(strategy: StrategyRecord) -> str:
    """A strategy's name as a method's: of a file its stem; with a preset as entries are called."""
    name = Path(strategy.name).stem if strategy.name.endswith(".py") else strategy.name
    return slug(f"{name}/{strategy.preset}") if strategy.preset else name


def _paper_of(name: str, origin: str) -> str | None:
    """Where the paper can be read that a built-in strategy names, if it says."""
    if origin != BUILT_IN:
        return None
    found = re.search(r"arXiv[: ](\d{4}\.\d{4,5})", registry("strategies").load(name).paper)
    return f"https://arxiv.org/abs/{found[1]}" if found else None
