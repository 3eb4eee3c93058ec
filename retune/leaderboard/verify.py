"""How much of an entry is true: every number recomputed from its scores and from labels of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from retune.backbones.contamination import Contaminated, contamination
from retune.data.dataset import Dataset
from retune.data.source import DataSource
from retune.errors import RetuneError, UserError
from retune.leaderboard.board import Board
from retune.leaderboard.entry import Entry
from retune.leaderboard.fields import in_ascii, shortened
from retune.leaderboard.intake import Submission, read
from retune.leaderboard.numbers import BOOTSTRAP, Floats, Numbers, dice_of, differences, measure, rounded
from retune.leaderboard.records import Record, Tier, suspicions
from retune.leaderboard.scores import OUTLINES, TOLERANCE, Scores
from retune.leaderboard.tracks import Track
from retune.metrics.table import COMPARED, DENSE
from retune.plugins import registry
from retune.results.image_digests import digests, salted
from retune.runner.shared import Shared
from retune.settings import make
from retune.streams.stream import Scenario, Stream

Roots = str | Path | Mapping[str, str | Path] | None


@dataclass(frozen=True)
class Verdict:
    """What verifying one entry gave.

    Args:
        name: ``TRACK/ENTRY``.
        outcome: ``refused``: it is no submission; ``false``: its numbers do not hold; else ``holds``.
        reason: Why it is refused or false; where it holds but was not recomputed, why not.
        record: What is known of it, unless it is refused.
    """

    name: str
    outcome: Literal["holds", "false", "refused"]
    reason: str = ""
    record: Record | None = None

    @property
    def tier(self) -> Tier | None:
        """How far it was checked, where it holds."""
        return self.record.tier if self.record and self.outcome == "holds" else None


class Wrong(RetuneError):
    """An entry's numbers do not hold."""


class NoData(RetuneError):
    """The verifier has no copy of the data that an entry needs."""


@dataclass(frozen=True)
class Verifier:
    """Verifies entries one after another, with data that is read once.

    Args:
        board: The leaderboard.
        roots: Folder of a data set's files, or one by name.
        shared: Keeps what was read.
    """

    board: Board
    roots: Roots = None
    shared: Shared = field(default_factory=partial(Shared, backbones=False))

    def verify(self, folder: Path) -> Verdict:
        """Verify one entry as far as there is data; nothing is written.

        Args:
            folder: ``.../TRACK/ENTRY``.
        """
        name = in_ascii(f"{folder.parent.name}/{folder.name}")
        try:
            submission = read(folder)
            track = self.track_of(submission.entry)
        except UserError as error:
            return Verdict(name, "refused", in_ascii(str(error), 600))
        try:
            require_arithmetic(submission.entry)
            quiet = understated(submission.entry, track)
            if quiet:
                raise Wrong(quiet)
            try:
                streams = self.streams(submission.entry, track)
            except NoData as error:
                return Verdict(name, "holds", str(error), _record(submission, "self-reported"))
            scores = scores_of(submission, streams[0])
            numbers = recompute(submission, scores, streams)
        except Wrong as error:
            return Verdict(name, "false", str(error), _record(submission, "recomputed", fault=str(error)))
        return Verdict(name, "holds", "", _record(submission, "recomputed", numbers, scores))

    def track_of(self, entry: Entry) -> Track:
        """The track of an entry, whose settings it has.

        Raises:
            UserError: If it has others, or there is no such track.
        """
        track = self.board.tracks.find(entry.track)
        named = (entry.data.name, entry.scenario.name)
        if named != (track.data, track.scenario):
            raise UserError(f"is on {' and '.join(named)}, which is not track {track.id}", where=entry.name)
        problem = next(iter(track.mismatch(entry.data.settings, entry.scenario.settings)), None)
        if problem is None and track.fingerprint not in (None, entry.data.fingerprint):
            problem = "the data set has another fingerprint than the track's"
        if problem is None and track.n_test not in (None, entry.data.n_test):
            problem = f"its test set has {entry.data.n_test:,} images, the track's has {track.n_test:,}"
        if problem is None and entry.transfer and not track.transfer:
            problem = "it has a transfer, and the track has none"
        if problem is None and entry.bootstrap != BOOTSTRAP:
            problem = "its intervals are not made as all entries' are"
        if problem:
            raise UserError(problem, where=f"{entry.track}/{entry.name}")
        return track

    def streams(self, entry: Entry, track: Track) -> list[Stream]:
        """The stream of each run, cut anew from the verifier's own data.

        Raises:
            NoData: If there is none.
            Wrong: If an entry's stream is another.
        """
        dataset, scenario = self._dataset(track), self._scenario(track)
        if entry.data.unreadable_images and track.needs_files:
            raise NoData("not recomputed: it left out images that could not be read, and does not say which")
        if list(dataset.labels) != entry.labels:
            raise Wrong("its labels are not those of the data set")
        if dataset.fingerprint != entry.data.fingerprint:
            if not track.needs_files:
                raise Wrong("data.fingerprint: the data set that is here is another")
            raise NoData(
                "not recomputed: the copy of the data that is here has another fingerprint than the entry's"
            )
        found = []
        for k, run in enumerate(entry.runs):
            cut = partial(scenario.stream, dataset, run.seed)
            stream: Stream = self.shared.kept("stream", (track.id, run.seed), cut)
            if stream.first.tolist() != run.first:
                raise Wrong(f"runs.{k}.first: labels are not learnt in the order that seed {run.seed} gives")
            told = run.facts.prevalence
            if run.prevalence is not None and not np.array_equal(told, stream.prevalence, equal_nan=True):
                raise Wrong(f"runs.{k}.prevalence: labels are not as common in the data that is here")
            if stream.fingerprint != run.stream:
                raise Wrong(f"runs.{k}.stream: seed {run.seed} gives another stream on the data that is here")
            if [len(e) for e in stream.experiences] != run.images:
                raise Wrong(f"runs.{k}.images: experiences are not of the sizes that seed {run.seed} gives")
            found.append(stream)
        here = {
            "n_train": len(found[0].joint()),
            "n_test_patients": len(np.unique(found[0].patients)),
            "synthetic": dataset.synthetic,
        }
        for key, value in here.items():
            if getattr(entry.data, key) != value:
                raise Wrong(f"data.{key} is {getattr(entry.data, key)}, on the data that is here {value}")
        return found

    def roots_of(self, track: Track, *beside: str) -> Roots:
        """Where the files of a track's data are, and of other data sets by their names.

        Raises:
            NoData: If it needs files and nobody says where they are.
        """
        roots = self.roots
        if isinstance(roots, Mapping):
            roots = {
                n: folder for n, folder in roots.items() if n in (*track.data.split(","), *beside)
            } or None
        elif not track.needs_files:
            roots = None
        if track.needs_files and roots is None:
            raise NoData(f"not recomputed: give the folder of {' and '.join(track.needs_files)} with --root")
        return roots

    def _dataset(self, track: Track) -> Dataset:
        roots = self.roots_of(track)
        try:
            return self.shared.dataset(DataSource.make(track.data, roots, track.data_settings))
        except UserError as error:
            if roots is not None:
                raise
            # What is fetched where it is not there yet.
            raise NoData(f"not recomputed: {error}") from None

    def _scenario(self, track: Track) -> Scenario:
        cls = registry("scenarios").load(track.scenario)
        made: Scenario = make(cls, track.scenario_settings, owner=f"track {track.id}")
        return made


def recompute(submission: Submission, scores: npt.NDArray[np.float32], streams: Sequence[Stream]) -> Numbers:
    """Every number of an entry from its scores and the labels of rebuilt streams, and from sums of its transfer.

    Raises:
        Wrong: If a published number differs by more than :data:`retune.leaderboard.scores.TOLERANCE`.
    """
    # What an entry says of its training images was seen to be true of the streams; an old one says less.
    entry, every = submission.entry, [run.facts for run in submission.entry.runs]
    numbers = measure(every, scores, streams[0].targets, streams[0].patients, _dice(submission))
    for where, by in differences(entry, numbers):
        if by > TOLERANCE:
            told = "one of the two is undefined" if by == float("inf") else f"they differ by {by:.4f}"
            raise Wrong(f"{where} does not follow from the scores: {told}")
    return numbers


def _dice(submission: Submission) -> Iterator[tuple[Floats, Floats]]:
    """Of each run, what the sums of its transfer say; nothing where there is none."""
    entry, scores = submission.entry, submission.scores
    if entry.transfer and scores:
        sums, patients = (scores.outlines[key] for key in OUTLINES)
        for run, of in zip(entry.runs, sums, strict=True):
            assert run.dice is not None
            yield dice_of(of, patients, entry.transfer.positives_train, run.dice[1])


def scores_of(submission: Submission, stream: Stream) -> npt.NDArray[np.float32]:
    """Scores ``(R, T+1, N, C)`` in the order of the stream's test images.

    Raises:
        Wrong: If they are of other images.
    """
    scores: Scores | None = submission.scores
    assert scores is not None, "a submission is verified with its scores"
    names = stream.dataset.image_id[stream.test].tolist()
    mine = salted(digests(names), submission.entry.salt)
    place = {row.tobytes(): k for k, row in enumerate(scores.items)}
    order = [place.get(row.tobytes(), -1) for row in mine]
    common = sum(k >= 0 for k in order)
    if common < max(len(order), len(place)):
        raise Wrong(
            f"its test set is another: {len(place):,} images, here {len(order):,}, {common:,} of them in common"
        )
    return scores.values[:, :, order]


def _record(
    submission: Submission,
    tier: Tier,
    numbers: Numbers | None = None,
    scores: npt.NDArray[np.float32] | None = None,
    fault: str | None = None,
) -> Record:
    entry = submission.entry
    return Record(
        entry=submission.digest,
        tier=tier,
        difference=float(f"{max(by for _, by in differences(entry, numbers)):.1e}") if numbers else None,
        rerun_difference=None,
        remarks=list(map(shortened, suspicions(entry, scores))),
        replicates=rounded(numbers.replicates.tolist()) if numbers else [],
        fault=shortened(fault) if fault else None,
    )


def require_arithmetic(entry: Entry) -> None:
    """See that published numbers follow from each other as far as that can be told without scores.

    Raises:
        Wrong: Names the first that does not.
    """
    for k, run in enumerate(entry.runs):
        published: dict[str, Any] = run.values.model_dump(exclude_unset=True)
        for metric in (metric for metric in (*COMPARED, *DENSE) if metric.key in published):
            told_by = "dice" if metric.basis == "dense" else "auc_matrix"
            value = float(metric.of(np.array(getattr(run, told_by), dtype=np.float64), run.facts))
            told = np.nan if published[metric.key] is None else published[metric.key]
            if np.isnan(value) != np.isnan(told) or abs(np.nan_to_num(value - told)) > TOLERANCE:
                raise Wrong(f"runs.{k}.values.{metric.key} does not follow from its {told_by}")
    for name, estimate in entry.metrics.model_dump().items():
        values = [getattr(run.values, name) for run in entry.runs]
        known = [v for v in values if v is not None]
        mean, told = float(np.mean(known)) if known else None, estimate["mean"]
        far = (mean is None) != (told is None) or abs((mean or 0) - (told or 0)) > TOLERANCE
        if far or len(known) != estimate["n"]:
            raise Wrong(f"metrics.{name} is not the mean over its runs")


ORDER: Final[tuple[Contaminated, ...]] = ("no", "possibly", "yes")


def understated(entry: Entry, track: Track) -> str | None:
    """What a named backbone's card says of a track's data where an entry says less; None where it does not.

    Nothing of the backbone is loaded but its card; a name that only the submitter knows has none.

    Args:
        entry: Says whether its backbone is contaminated.
        track: Its track.
    """
    name = entry.backbone.name
    if name not in registry("backbones").names():
        return None
    try:
        card = registry("backbones").load(name)().card
    except RetuneError:
        # A plugin that is broken here says nothing of the entry.
        return None
    source = DataSource.make(track.data, None, track.data_settings)
    synthetic = all(reader.synthetic for reader in source.readers)
    found = contamination(card, source.origins, synthetic=synthetic)
    if ORDER.index(found) <= ORDER.index(entry.backbone.contaminated):
        return None
    return f"backbone.contaminated is {entry.backbone.contaminated}, the card of {name} says {found}"
