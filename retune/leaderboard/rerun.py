"""The strictest check: an entry's method run again, by name, from its recorded settings."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from retune.avalanche_bridge import names as avalanche
from retune.backbones.precision import threads
from retune.errors import RetuneError
from retune.leaderboard.command import LONG, spec_of
from retune.leaderboard.entry import Entry, Run, Transfer
from retune.leaderboard.fields import shortened
from retune.leaderboard.intake import read
from retune.leaderboard.numbers import Floats, apart
from retune.leaderboard.verify import Verdict, Wrong
from retune.metrics.facts import LabelFacts
from retune.metrics.table import COMPARED, DENSE
from retune.plugins import registry
from retune.prompts import names as banks
from retune.results.transfers import headline, measured
from retune.runner.resolve import origin_of
from retune.runner.run import prepare
from retune.system import cores

if TYPE_CHECKING:
    from collections.abc import Iterable

    from retune.leaderboard.tracks import Track
    from retune.leaderboard.verify import Verifier
    from retune.metrics.table import Metric
    from retune.progress import Progress
    from retune.results.result import Result
    from retune.runner.shared import Shared
    from retune.runner.spec import Spec

TOLERANCE: Final = 2e-2
"""By how much an AUC of a label at a moment may differ in a repeated run. On the machine it was made on a run repeats to
the last bit; elsewhere the last bits of products differ, and learning carries them on: one thread more moves a label's
AUC by .006 with some methods."""
MEAN_TOLERANCE: Final = 5e-3
"""By how much the mean over labels may, at the end and over time: there such differences cancel."""
REPEATABLE: Final = (
    "trainable_parameters",
    "total_parameters",
    "stored_images",
    "stored_features",
    "stored_bytes",
)
"""Costs that are the same on every machine."""
TRANSFERRED: Final = tuple(name for name in Transfer.model_fields if name != "prior")
"""What a transfer says of its images, which is the same on every machine, too."""


class CannotRepeat(RetuneError):
    """What an entry was made with is not here."""


def rerun(
    verifier: Verifier,
    folder: Path,
    verdict: Verdict,
    *,
    time_limit: float = LONG,
    progress: Progress | None = None,
) -> Verdict:
    """Run every seed of a recomputed entry again and compare the AUC of each label at each moment.

    Only what is installed or built in is run; nothing that an entry names is loaded from a path or fetched.

    Args:
        verifier: Has verified it.
        folder: ``.../TRACK/ENTRY``.
        verdict: What that gave.
        time_limit: Seconds that a method may take for an experience.
        progress: Told what is done.

    Returns:
        The verdict with the tier ``re-run``; as it was, with the reason, where what the entry was made with is not
        here; ``false`` where the repeated run differs.
    """
    if verdict.tier != "recomputed" or verdict.record is None:
        return verdict
    submission = read(folder, scores=False)
    if submission.digest != verdict.record.entry:
        return Verdict(verdict.name, "refused", f"{verdict.name}: changed while it was verified")
    entry = submission.entry
    track = verifier.track_of(entry)
    largest = 0.0
    try:
        for k, run in enumerate(entry.runs):
            if progress:
                progress(f"{entry.name} again", k, len(entry.runs))
            spec = _asked(entry, run, track, verifier, time_limit)
            largest = max(largest, _repeated(spec, entry, run, verifier.shared))
    except CannotRepeat as error:
        return replace(verdict, reason=f"not run again: {error}")
    except Wrong as error:
        fault = {"tier": "re-run", "fault": shortened(str(error))}
        return Verdict(verdict.name, "false", str(error), verdict.record.model_copy(update=fault))
    except RetuneError as error:
        return replace(verdict, reason=f"not run again: {error}")
    difference = float(f"{largest:.1e}")
    return replace(
        verdict, record=verdict.record.model_copy(update={"tier": "re-run", "rerun_difference": difference})
    )


def _asked(entry: Entry, run: Run, track: Track, verifier: Verifier, time_limit: float) -> Spec:
    """What to run.

    Raises:
        CannotRepeat: If it needs something that has no name, or is not installed.
    """
    if entry.backbone.name not in registry("backbones").names():
        raise CannotRepeat(f"backbone {entry.backbone.name} is not a named one")
    if entry.prompts.name not in banks():
        raise CannotRepeat(f"prompt bank {entry.prompts.name} is not a packaged one")
    beside = [track.transfer.reader] if entry.transfer and track.transfer else []
    return replace(
        spec_of(entry, run, track),
        strategy=_address(entry),
        root=verifier.roots_of(track, *beside),
        replicates=1,
        time_limit=time_limit,
    )


def _address(entry: Entry) -> str:
    """The name under which the very strategy can be run here."""
    name, origin = entry.strategy.name, entry.strategy.origin
    if entry.strategy.is_file:
        raise CannotRepeat("its strategy is a file of the submitter's; publish it as a distribution")
    if avalanche.is_bridged(name):
        if origin_of(name) != origin:
            raise CannotRepeat(f"it was made with {origin}, here is {origin_of(name)}")
        return name
    if not any((e.name, e.origin) == (name, origin) for e in registry("strategies").entries):
        raise CannotRepeat(f"no strategy {name} of {origin} is installed")
    return f"{origin}/{name}"


def _repeated(spec: Spec, entry: Entry, run: Run, shared: Shared) -> float:
    """By how much the AUC of a label at a moment differs at most when a run is repeated."""
    with tempfile.TemporaryDirectory(prefix="retune-rerun-") as folder, threads(run.threads or cores()):
        ready = prepare(spec, Path(folder) / "run", shared=shared)
        parts = ready.plan.parts
        here = {
            "backbone": (parts.backbone.fingerprint, entry.backbone.fingerprint),
            "prompt bank": (parts.bank.fingerprint, entry.prompts.fingerprint),
            "version of the strategy": (parts.strategy.version, entry.strategy.version),
        }
        for what, (mine, theirs) in here.items():
            if mine != theirs:
                raise CannotRepeat(f"the {what} here is another ({mine[:12]}, the entry's is {theirs[:12]})")
        result = ready.execute()
    _require_facts(entry, run, result)
    pairs: list[tuple[str, Any, Floats, tuple[Metric, ...]]]
    pairs = [("an AUC", run.auc_matrix, result.array("auc_matrix"), COMPARED)]
    of = measured(result)
    if of is not None and run.dice is not None:
        pairs.append(("a Dice", run.dice, headline(of), DENSE))
    return max(_difference(run, *pair) for pair in pairs)


def _difference(run: Run, what: str, told: Any, matrix: Floats, metrics: Iterable[Metric]) -> float:
    """By how much a number of a label, or of a finding, differs at most from the published one.

    Raises:
        Wrong: If it, or a mean over them, differs by more than is allowed.
    """
    published = np.array(told, dtype=np.float64)
    # Without prevalence no group of labels is compared: in the mean of a few differences do not cancel.
    facts = LabelFacts.of(run.first)
    if matrix.shape != published.shape or (np.isnan(matrix) != np.isnan(published)).any():
        raise Wrong(f"run again with seed {run.seed}, others have {what}")
    largest = float(np.nan_to_num(np.abs(matrix - published)).max())
    differences = {what: (largest, TOLERANCE)}
    # What cannot lie below 0 is a mean of these numbers; the others are differences of such.
    for metric in (m for m in metrics if m.low == 0):
        here, there = (float(metric.of(one, facts)) for one in (matrix, published))
        differences[metric.key] = float(np.nan_to_num(abs(here - there))), MEAN_TOLERANCE
    for what, (by, allowed) in differences.items():
        if by > allowed:
            raise Wrong(f"run again with seed {run.seed}, {what} differs by {by:.4f} (allowed: {allowed})")
    return largest


def _require_facts(entry: Entry, run: Run, result: Result) -> None:
    """See that what an entry says of its method beside numbers is what running it says.

    Raises:
        Wrong: Names the first thing that is not.
    """
    facts = {
        "strategy": (entry.strategy, result.strategy, ("sees_everything", "keeps_samples")),
        "backbone": (entry.backbone, result.backbone, ("contaminated", "synthetic", "looked_up", "dim")),
        "data": (entry.data, result.dataset, ("repeated_images",)),
        "cost": (run.cost, result.cost, REPEATABLE),
    }
    of = measured(result)
    if entry.transfer is not None and of is not None:
        facts["transfer"] = (entry.transfer, of, TRANSFERRED)
        if apart(entry.transfer.prior, of.trivial["prior"][of.headline]) > TOLERANCE:
            raise Wrong(f"run again with seed {run.seed}, transfer.prior differs")
    for part, (told, found, names) in facts.items():
        for name in names:
            mine, theirs = getattr(found, name), getattr(told, name)
            if mine != theirs:
                raise Wrong(
                    f"run again with seed {run.seed}, {part}.{name} is {mine}, the entry says {theirs}"
                )
