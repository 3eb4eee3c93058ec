"""Every number that an entry publishes, from scores and the labels of the test images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from retune.leaderboard.entry import Bootstrap, Entry
from retune.metrics import (
    auroc,
    average_precision,
    expected_calibration_error,
    mean_and_sd,
    patient_weights,
)
from retune.metrics.table import PUBLISHED
from retune.results.compare import Comparison, Sample, distinct

Floats = npt.NDArray[np.float64]
BOOTSTRAP: Final = Bootstrap(replicates=1000, level=0.95, seed=0)
"""The same for every entry: resamples of two entries can be compared one by one."""


@dataclass(frozen=True, eq=False)
class Run:
    """One run to be measured.

    Args:
        seed: Of every random draw.
        first: ``(C,)`` the first experience that observes each label.
        scores: ``(T+1, N, C)``.
    """

    seed: int
    first: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Numbers:
    """Everything that is published.

    Args:
        matrices: ``(T+1, C)`` AUROC of each run.
        values: By run, then by name; NaN where undefined.
        metrics: Over runs: mean, deviation, number, interval; None where undefined.
        replicates: ``(B,)`` final AUC on every resample of the test patients, mean over runs.
    """

    matrices: list[Floats]
    values: list[dict[str, float]]
    metrics: dict[str, dict[str, Any]]
    replicates: Floats


def measure(
    runs: Sequence[Run], targets: npt.NDArray[np.float32], patients: npt.NDArray[Any], bootstrap: Bootstrap
) -> Numbers:
    """Work out every number.

    Args:
        runs: At least one, with distinct seeds.
        targets: ``(N, C)`` of the test images: 1, 0, or NaN where unknown.
        patients: ``(N,)`` whose each image is.
        bootstrap: How intervals are made.
    """
    weights = patient_weights(patients, bootstrap.replicates, bootstrap.seed)
    matrices, values, samples = [], [], {}
    for run in runs:
        columns, label, place = distinct(run.scores)
        matrix = np.asarray(auroc(targets[:, label], columns))[place]
        precision = np.asarray(average_precision(targets[:, label], columns))[place]
        sample = Sample.of(matrix, run.first, targets, run.scores, weights)
        matrices.append(matrix)
        values.append({**sample.values, **_beside_auc(run, precision, targets)})
        samples[run.seed] = sample
    compared = Comparison({"": samples}, bootstrap.level)
    metrics = {
        m.key: compared.estimate("", m.key).model_dump()
        if m.compared
        else over_runs([v[m.key] for v in values])
        for m in PUBLISHED
    }
    replicates = np.mean([sample.replicates["final_auc"] for sample in samples.values()], axis=0)
    return Numbers(matrices, values, metrics, replicates)


def over_runs(values: Sequence[float]) -> dict[str, Any]:
    """Mean and deviation of a number that has no interval."""
    mean, sd = (None if np.isnan(x) else float(x) for x in mean_and_sd(values))
    return {"mean": mean, "sd": sd, "n": int(np.isfinite(values).sum()), "low": None, "high": None}


def rounded(value: Any) -> Any:
    """Numbers to seven decimals, null for what is undefined."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 7)
    return value


def _beside_auc(run: Run, precision: Floats, targets: npt.NDArray[np.float32]) -> dict[str, float]:
    probabilities = 0.5 * (1 + np.tanh(run.scores[-1].astype(np.float64) / 2))
    bases = {"ap": precision, "ece": np.asarray(expected_calibration_error(targets, probabilities))}
    return {m.key: float(m.of(bases[m.basis], run.first)) for m in PUBLISHED if not m.compared}


def differences(entry: Entry, numbers: Numbers) -> Iterator[tuple[str, float]]:
    """By how much each published number differs from the one that was worked out; infinite where one is undefined."""
    for k, run in enumerate(entry.runs):
        yield f"runs.{k}.auc_matrix", _largest(run.auc_matrix, numbers.matrices[k])
        published = run.values.model_dump()
        for name in (metric.key for metric in PUBLISHED):
            yield f"runs.{k}.values.{name}", _largest(published[name], numbers.values[k][name])
    over = entry.metrics.model_dump()
    for name in (metric.key for metric in PUBLISHED):
        yield from _of_estimate(name, over[name], numbers.metrics[name])


def _of_estimate(
    name: str, published: Mapping[str, Any], found: Mapping[str, Any]
) -> Iterator[tuple[str, float]]:
    for key in published:
        yield f"metrics.{name}.{key}", _largest(published[key], found[key])


def _largest(published: Any, found: Any) -> float:
    a, b = np.array(published, dtype=np.float64), np.array(found, dtype=np.float64)
    if (np.isnan(a) != np.isnan(b)).any():
        return float("inf")
    return float(np.nan_to_num(np.abs(a - b)).max())
