"""The runs of one stream setting of a suite, read and seen to belong together, then measured on the same patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retune.errors import UserError
from retune.metrics import patient_weights
from retune.metrics.table import COMPARED, DENSE
from retune.results.compare import Comparison, Difference, Estimate, Sample
from retune.results.result import SCORES_FILE
from retune.results.scores import REPLICATES, TRANSFER, Arrays, read_scores
from retune.results.transfers import same_task

if TYPE_CHECKING:
    from retune.suite.runs import Finished


def compare(
    runs: Sequence[Finished],
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Comparison:
    """Resample the test patients of one stream setting, and measure every run on every resample.

    Args:
        runs: Runs of one scenario, data set, backbone and order of labels: any strategies and seeds.
        replicates: How many resamples.
        level: Coverage of the intervals.
        seed: Of the resampling.
        progress: Called after each run.

    Raises:
        UserError: If runs cannot be paired: other data, other test images, or two streams under one seed; or
            if a run stands there twice, or its scores cannot be read.
    """
    samples: dict[str, dict[int, Sample]] = {}
    weights: NDArray[Any] | None = None
    reference: tuple[Finished, Arrays] | None = None
    streams: dict[int, Finished] = {}
    transfers = same_task(run.result for run in runs)
    for run in runs:
        arrays = _read(run)
        reference = reference or (run, arrays)
        _require_paired(run, arrays, *reference)
        _require_stream(run, streams.setdefault(run.seed, run))
        seeds = samples.setdefault(run.strategy, {})
        if run.seed in seeds:
            raise UserError(f"{run.strategy} with seed {run.seed} stands there twice", where=str(run.folder))
        sample = _resampled_before(run, arrays, replicates, seed)
        if sample is None:
            if weights is None:
                weights = patient_weights(arrays["patients"], replicates, seed)
            sample = _sample(run, arrays, weights)
        seeds[run.seed] = _and_transfer(run, arrays, sample, replicates, seed) if transfers else sample
        progress()
    return Comparison(samples, level)


def own_difference(runs: Sequence[Finished], strategy: str, other: str, metric: str) -> Difference:
    """A metric of one's own of one method minus that of another, over the seeds that both have a number of.

    What it is on resampled patients is not kept, so there is no interval.
    """

    def values(method: str) -> dict[int, float]:
        own = {run.seed: run.result.own.get(metric) for run in runs if run.strategy == method}
        return {seed: one.value for seed, one in own.items() if one is not None and one.value is not None}

    mine, theirs = values(strategy), values(other)
    found = Estimate.of([mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())])
    return Difference(**vars(found))


def _resampled_before(run: Finished, arrays: Arrays, replicates: int, seed: int) -> Sample | None:
    """A run whose own intervals come from the same resamples; None where they are not kept."""
    made = run.result.bootstrap
    kept = {m.key: arrays[REPLICATES + m.key] for m in COMPARED if REPLICATES + m.key in arrays}
    fits = len(kept) == len(COMPARED) and all(values.shape == (replicates,) for values in kept.values())
    if not fits or (made.replicates, made.seed) != (replicates, seed):
        return None
    return Sample.of_replicates(run.result.array("auc_matrix"), run.result.facts, kept)


def _and_transfer(run: Finished, arrays: Arrays, sample: Sample, replicates: int, seed: int) -> Sample:
    """A run's sample with the metrics of its transfer; without an interval where other resamples were kept."""
    values, resampled = dict(sample.values), dict(sample.replicates)
    made = run.result.bootstrap
    for key in (metric.key for metric in DENSE):
        value, kept = run.result.metric(key).value, arrays.get(TRANSFER + REPLICATES + key)
        fits = kept is not None and kept.shape == (replicates,) and made.seed == seed
        values[key] = np.nan if value is None else value
        resampled[key] = kept if kept is not None and fits else np.full(replicates, np.nan)
    return Sample(values, resampled)


def _sample(run: Finished, arrays: Arrays, weights: NDArray[Any]) -> Sample:
    whole, facts = run.result.array("auc_matrix"), run.result.facts
    try:
        return Sample.of(whole, facts, arrays["targets"], arrays["scores"], weights)
    except ValueError as error:
        raise UserError(f"its scores do not fit: {error}", where=str(run.folder / SCORES_FILE)) from error


def _read(run: Finished) -> Arrays:
    file = run.folder / SCORES_FILE
    arrays = read_scores(run.result, run.folder)
    shape = arrays["scores"].shape if "scores" in arrays else ()
    fits = len(shape) == 3 and {"targets", "patients", "rows"} <= arrays.keys()
    if not fits or arrays["targets"].shape != shape[1:] or len(arrays["patients"]) != shape[1]:
        raise UserError("does not hold the scores of a run", where=str(file), fix="run it again")
    return arrays


def _require_paired(run: Finished, arrays: Arrays, other: Finished, others: Arrays) -> None:
    same = {
        "another data set": run.result.dataset.fingerprint == other.result.dataset.fingerprint,
        "other test images": np.array_equal(arrays["rows"], others["rows"]),
        "other test patients": np.array_equal(arrays["patients"], others["patients"]),
        "other test labels": np.array_equal(arrays["targets"], others["targets"], equal_nan=True),
    }
    for difference, agrees in same.items():
        if not agrees:
            raise UserError(
                f"cannot be compared with {other.folder}, which has {difference}",
                where=str(run.folder),
                fix="compare runs on the same data",
            )


def _require_stream(run: Finished, other: Finished) -> None:
    if run.result.scenario.fingerprint != other.result.scenario.fingerprint:
        raise UserError(
            f"cannot be compared with {other.folder}, which saw another stream with seed {run.seed}",
            where=str(run.folder),
            fix="compare runs of one scenario with the same settings",
        )
