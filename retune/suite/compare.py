"""How far apart methods are on one stream, measured on the same test patients.

The test patients are resampled once for all runs of a stream. Two methods are then compared resample by resample,
so what makes a resample easy or hard for both cancels out, and the interval of a difference is mostly narrower
than those of the two methods suggest. Each run is resampled once, whatever it is compared with: the cost grows
with the number of runs, not of pairs.

An interval holds the runs as they are and resamples patients; it says nothing of other seeds. The standard
deviation over seeds does that, so the two always stand together with the number of seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.errors import UserError
from retune.metrics import (
    average_auc,
    backward_transfer,
    bootstrap_auroc,
    final_auc,
    forgetting,
    forward_transfer,
    interval,
    patient_weights,
)
from retune.result import SCORES_FILE, Number, Record

if TYPE_CHECKING:
    from retune.suite.cells import Finished

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]

METRICS: Final[dict[str, Callable[[ArrayLike, ArrayLike], Floats]]] = {
    "final_auc": lambda matrix, first: final_auc(matrix),
    "average_auc": average_auc,
    "forgetting": forgetting,
    "backward_transfer": backward_transfer,
    "forward_transfer": forward_transfer,
}
"""What is compared: functions of a matrix ``(..., T+1, C)`` of AUROC and the labels' first experiences."""


class Estimate(Record):
    """A value over seeds and patients; null where undefined.

    Attributes:
        mean: Mean over seeds.
        sd: Standard deviation over seeds; null for fewer than two.
        n: How many seeds it is defined for.
        low: Lower end of the patient-bootstrap interval of the mean over seeds.
        high: Upper end.
    """

    mean: Number
    sd: Number
    n: int
    low: Number
    high: Number


@dataclass(frozen=True, eq=False)
class Sample:
    """One run: each of :data:`METRICS` on the test set as it is, and on every resample of its patients.

    Args:
        values: Numbers; NaN where undefined.
        replicates: ``(B,)`` each.
    """

    values: Mapping[str, float]
    replicates: Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The runs of one stream setting, resampled alike.

    Args:
        samples: By strategy and seed.
        level: Coverage of the intervals.
    """

    samples: Mapping[str, Mapping[int, Sample]]
    level: float = 0.95

    def estimate(self, strategy: str, metric: str) -> Estimate:
        """A metric of one method over all of its seeds."""
        runs = self.samples[strategy].values()
        return self._over_seeds([(run.values[metric], run.replicates[metric]) for run in runs])

    def difference(self, strategy: str, other: str, metric: str) -> Estimate:
        """A metric of one method minus that of another, over the seeds that both were run with."""
        mine, theirs = self.samples[strategy], self.samples[other]
        pairs = [(mine[seed], theirs[seed]) for seed in sorted(mine.keys() & theirs.keys())]
        return self._over_seeds(
            [
                (a.values[metric] - b.values[metric], a.replicates[metric] - b.replicates[metric])
                for a, b in pairs
            ]
        )

    def _over_seeds(self, runs: Sequence[tuple[float, Floats]]) -> Estimate:
        known = [(value, replicates) for value, replicates in runs if not np.isnan(value)]
        if not known:
            return Estimate(mean=None, sd=None, n=0, low=None, high=None)
        values = np.array([value for value, _ in known])
        low, high = interval(np.mean([replicates for _, replicates in known], axis=0), self.level)
        sd = values.std(ddof=1) if len(values) > 1 else np.nan
        return Estimate(
            mean=float(values.mean()), sd=float(sd), n=len(values), low=float(low), high=float(high)
        )


def compare(
    cells: Sequence[Finished],
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Comparison:
    """Resample the test patients of one stream setting, and measure every run on every resample.

    Args:
        cells: Runs of one scenario, data set, backbone and order of labels: any strategies and seeds.
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
    for cell in cells:
        arrays = _read(cell)
        reference = reference or (cell, arrays)
        _require_paired(cell, arrays, *reference)
        _require_stream(cell, streams.setdefault(cell.seed, cell))
        if weights is None:
            weights = patient_weights(arrays["patients"], replicates, seed)
        seeds = samples.setdefault(cell.strategy, {})
        if cell.seed in seeds:
            raise UserError(
                f"{cell.strategy} with seed {cell.seed} stands there twice", where=str(cell.folder)
            )
        seeds[cell.seed] = _sample(cell, arrays, weights)
        progress()
    return Comparison(samples, level)


def _sample(cell: Finished, arrays: Arrays, weights: NDArray[Any]) -> Sample:
    whole, first = cell.result.array("auc_matrix"), np.array(cell.result.first)
    try:
        resampled = _resampled_auroc(arrays["targets"], arrays["scores"], weights)
        return Sample(
            {name: float(metric(whole, first)) for name, metric in METRICS.items()},
            {name: metric(resampled, first) for name, metric in METRICS.items()},
        )
    except ValueError as error:
        raise UserError(f"its scores do not fit: {error}", where=str(cell.folder / SCORES_FILE)) from error


def _resampled_auroc(targets: NDArray[Any], scores: NDArray[Any], weights: NDArray[Any]) -> Floats:
    """AUROC ``(B, T+1, C)`` of every resample; scores that did not change since are measured once."""
    moments, _, labels = scores.shape
    columns = np.ascontiguousarray(scores.transpose(2, 0, 1))  # (C, T+1, N)
    found: dict[tuple[int, bytes], int] = {}
    place = np.array(
        [
            [found.setdefault((c, columns[c, i].tobytes()), len(found)) for c in range(labels)]
            for i in range(moments)
        ]
    )
    _, one_of_each = np.unique(place, return_index=True)
    moment, label = np.unravel_index(one_of_each, place.shape)
    auroc = bootstrap_auroc(targets[:, label], columns[label, moment].T, weights)
    return auroc[:, place]


def _read(cell: Finished) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = cell.folder / SCORES_FILE
    try:
        arrays: Arrays = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot be read ({error})", where=str(file), fix="run it again") from error
    shape = arrays["scores"].shape if "scores" in arrays else ()
    fits = len(shape) == 3 and {"targets", "patients", "rows"} <= arrays.keys()
    if not fits or arrays["targets"].shape != shape[1:] or len(arrays["patients"]) != shape[1]:
        raise UserError("does not hold the scores of a run", where=str(file), fix="run it again")
    return arrays


def _require_paired(cell: Finished, arrays: Arrays, other: Finished, others: Arrays) -> None:
    same = {
        "another data set": cell.result.dataset.fingerprint == other.result.dataset.fingerprint,
        "other test images": np.array_equal(arrays["rows"], others["rows"]),
        "other test patients": np.array_equal(arrays["patients"], others["patients"]),
        "other test labels": np.array_equal(arrays["targets"], others["targets"], equal_nan=True),
    }
    for difference, agrees in same.items():
        if not agrees:
            raise UserError(
                f"cannot be compared with {other.folder}, which has {difference}",
                where=str(cell.folder),
                fix="compare runs on the same data",
            )


def _require_stream(cell: Finished, other: Finished) -> None:
    if cell.result.scenario.fingerprint != other.result.scenario.fingerprint:
        raise UserError(
            f"cannot be compared with {other.folder}, which saw another stream with seed {cell.seed}",
            where=str(cell.folder),
            fix="compare runs of one scenario with the same settings",
        )
