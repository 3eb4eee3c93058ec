"""Every number that an entry publishes, from scores and the labels of the test images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from retune.leaderboard.entry import Bootstrap, Entry
from retune.metrics import dense, distinct, expected_calibration_error, patient_weights
from retune.metrics.binary import ranking
from retune.metrics.continual import over_time
from retune.metrics.facts import LabelFacts
from retune.metrics.table import DECIDES, DENSE, PUBLISHED
from retune.results.compare import Comparison, Estimate, Sample

Floats = npt.NDArray[np.float64]
BOOTSTRAP: Final = Bootstrap(replicates=1000, level=0.95, seed=0)
"""The same for every entry: resamples of two entries can be compared one by one."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """Everything that is published.

    Args:
        matrices: ``(T+1, C)`` AUROC of each run.
        values: By run, then by name; NaN where undefined.
        dice: ``(2, T+1, K)`` of each run's transfer; empty where there is none.
        metrics: Over runs: mean, deviation, number, interval; None where undefined.
        replicates: ``(B,)`` final AUC on every resample of the test patients, mean over runs.
    """

    matrices: list[Floats]
    values: list[dict[str, float]]
    dice: list[Floats]
    metrics: dict[str, dict[str, Any]]
    replicates: Floats


def measure(
    every: Sequence[LabelFacts],
    scores: npt.NDArray[Any],
    targets: npt.NDArray[np.float32],
    patients: npt.NDArray[Any],
    transfer: Iterable[tuple[Floats, Floats]] = (),
) -> Numbers:
    """Work out every number.

    Args:
        every: Of each run, what its training images say of each label.
        scores: ``(R, T+1, N, C)``.
        targets: ``(N, C)`` of the test images: 1, 0, or NaN where unknown.
        patients: ``(N,)`` whose each image is.
        transfer: Of each run, what :func:`dice_of` gives; none where there is no transfer.
    """
    weights = patient_weights(patients, BOOTSTRAP.replicates, BOOTSTRAP.seed)
    matrices, values, samples, dice = [], [], [], []
    for facts, run, outlined in zip_longest(every, scores, transfer):
        columns, label, place = distinct(run)
        matrix, ap = (x[place] for x in ranking(targets[:, label], columns))
        sample = Sample.of(matrix, facts, targets, run, weights)
        if outlined is not None:
            found, resampled = (over_time(of[..., 0, :, :], of[..., 1, :, :]) for of in outlined)
            numbers = {key: float(value) for key, value in found.items()}
            sample = Sample({**sample.values, **numbers}, {**sample.replicates, **resampled})
            dice.append(outlined[0])
        probabilities = 0.5 * (1 + np.tanh(run[-1].astype(np.float64) / 2))
        bases = {
            "ap": ap,
            "ece": np.asarray(expected_calibration_error(targets, probabilities)),
        }
        beside = {m.key: float(m.of(bases[m.basis], facts)) for m in PUBLISHED if not m.compared}
        matrices.append(matrix)
        values.append({**sample.values, **beside})
        samples.append(sample)
    compared = Comparison({"": dict(enumerate(samples))}, BOOTSTRAP.level)
    metrics = {
        m.key: compared.estimate("", m.key) if m.compared else Estimate.of([v[m.key] for v in values])
        for m in PUBLISHED
    } | {m.key: compared.estimate("", m.key) for m in (DENSE if dice else ())}
    replicates = np.mean([sample.replicates[DECIDES.key] for sample in samples], axis=0)
    return Numbers(
        matrices, values, dice, {key: one.model_dump() for key, one in metrics.items()}, replicates
    )


def dice_of(
    sums: dense.Sums, patients: npt.NDArray[Any], train: Sequence[int], kept: Sequence[Sequence[float | None]]
) -> tuple[Floats, Floats]:
    """Pooled Dice of one run's transfer, NaN where undefined.

    Args:
        sums: ``(2, T+1, N, K, 3)``.
        patients: ``(N,)`` whose each image is.
        train: Training images that have each finding.
        kept: ``(T+1, K)`` as it is told, of the probe that was kept: it has no number before it was.

    Returns:
        ``(2, T+1, K)``, and the same on every resample of the patients.
    """
    few = dense.too_few(train, (sums[0, 0, ..., dense.TRUE] > 0).sum(axis=0))
    since = int((~np.isnan(np.array(kept, dtype=np.float64))).any(axis=1).argmax())
    hidden = dense.undefined(few, since, sums.shape[1])
    weights = patient_weights(patients, BOOTSTRAP.replicates, BOOTSTRAP.seed)
    found, resampled = (np.where(hidden, np.nan, dense.pooled_dice(sums, w)) for w in (None, weights))
    return found, resampled


def rounded(value: Any) -> Any:
    """Numbers to seven decimals, null for what is undefined."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 7)
    return value


def differences(entry: Entry, numbers: Numbers) -> Iterator[tuple[str, float]]:
    """By how much each published number differs from the one that was worked out; infinite where one is undefined."""
    for k, run in enumerate(entry.runs):
        yield f"runs.{k}.auc_matrix", apart(run.auc_matrix, numbers.matrices[k])
        if run.dice is not None:
            yield f"runs.{k}.dice", apart(run.dice, numbers.dice[k])
        for name, value in run.values.model_dump(exclude_unset=True).items():
            yield f"runs.{k}.values.{name}", apart(value, numbers.values[k][name])
    for name, estimate in entry.metrics.model_dump(exclude_unset=True).items():
        for key, value in estimate.items():
            yield f"metrics.{name}.{key}", apart(value, numbers.metrics[name][key])


def apart(published: Any, found: Any) -> float:
    """By how much two numbers, or lists of them, differ at most; infinite where only one is undefined."""
    a, b = np.array(published, dtype=np.float64), np.array(found, dtype=np.float64)
    if (np.isnan(a) != np.isnan(b)).any():
        return float("inf")
    return float(np.nan_to_num(np.abs(a - b)).max())
