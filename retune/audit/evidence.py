"""What an audit goes by: the stored scores of a run, the calls they make, and of whom the images are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retune.errors import UserError
from retune.metrics import auroc, bootstrap_auroc, patient_weights
from retune.metrics.continual import nan_mean
from retune.metrics.distinct import distinct
from retune.results.result import SCORES_FILE, Result
from retune.results.scores import COLUMNS, OF, as_text, read_scores

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
FEWEST: Final = 10
"""Positive and negative images of a label that a slice needs to be judged by it."""
MOST: Final = 100_000
"""Resamples that any run has."""
BANDS: Final = (40, 60, 80)
"""Years of age at which a band begins."""
GROUPS: Final = ("sex", "age", "view", "site", "race", "dataset", "year")
"""What patients and images are grouped by."""


@dataclass(frozen=True)
class Sampled:
    """A quantity, and what it is on every resample of the test patients: ``(...)`` and ``(B, ...)``."""

    value: Floats
    replicates: Floats

    def __sub__(self, other: Sampled) -> Sampled:
        return Sampled(self.value - other.value, self.replicates - other.replicates)

    def at(self, *index: Any) -> Sampled:
        """Part of it."""
        return Sampled(self.value[index], self.replicates[(slice(None), *index)])

    def mean(self, labels: Bools | NDArray[np.intp]) -> Sampled:
        """The mean over some labels, the last axis; NaN over none."""
        return Sampled(*(np.asarray(nan_mean(of[..., labels])) for of in (self.value, self.replicates)))


@dataclass(frozen=True)
class Slice:
    """Some test images, and how every version does on them.

    Args:
        name: Of the slice.
        images: How many.
        patients: Of how many patients.
        positives: Of each label, ``(C,)``.
        negatives: Of each label, ``(C,)``.
        auc: ``(T+1, C)``; NaN where a label lacks a class.
        sensitivity: The same at the frozen threshold; NaN before a label is in use.
        specificity: The same.
    """

    name: str
    images: int
    patients: int
    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]
    auc: Sampled
    sensitivity: Sampled
    specificity: Sampled

    @property
    def judged(self) -> Bools:
        """Which labels it has enough images of, (C,)."""
        return np.minimum(self.positives, self.negatives) >= FEWEST


@dataclass(frozen=True)
class Evidence:
    """One run's.

    Args:
        result: The run.
        folder: Where it lies.
        scores: ``(T+1, N, C)`` before training and after each experience.
        targets: ``(N, C)``, NaN where unknown.
        patients: ``(N,)`` number of each image's patient.
        groups: By what images are grouped, the group of each, ``(N,)``; empty text where unknown.
        missing: What cannot be told, a line each.
        resampled: Whether intervals are wanted; else the one resample is the test set itself.
    """

    result: Result
    folder: Path
    scores: Floats
    targets: Floats
    patients: NDArray[np.int64]
    groups: dict[str, NDArray[np.str_]]
    missing: tuple[str, ...]
    resampled: bool = True

    @property
    def versions(self) -> int:
        """T: how many versions there are after zero-shot."""
        return len(self.scores) - 1

    @property
    def labels(self) -> list[str]:
        """Names of the C labels."""
        return self.result.labels

    @cached_property
    def thresholds(self) -> Floats:
        """Frozen when a label was first learnt, (C,); NaN where it has none."""
        return np.array(self.result.thresholds, dtype=np.float64)

    @cached_property
    def in_use(self) -> Bools:
        """Whether a label is called by a version, ``(T+1, C)``: from the version on that froze its threshold."""
        first = np.array(self.result.first)
        moments = np.arange(self.versions + 1)[:, None]
        return np.asarray((first > 0) & (moments >= first) & ~np.isnan(self.thresholds))

    @cached_property
    def right(self) -> Bools:
        """Whether a call is right, ``(T+1, N, C)``; false where nothing is known."""
        return np.asarray((self.scores >= self.thresholds) == (self.targets == 1))

    @cached_property
    def weights(self) -> NDArray[Any]:
        """How often each image is drawn, ``(B, N)``: the resamples of the run's own intervals."""
        if not self.resampled:
            return np.ones((1, len(self.targets)), dtype=np.uint8)
        made = self.result.bootstrap
        return patient_weights(self.patients, made.replicates, made.seed)

    @cached_property
    def plain(self) -> Evidence:
        """The same without resamples, for what is told without an interval."""
        return replace(self, resampled=False)

    @cached_property
    def whole(self) -> Slice:
        """All test images."""
        return self.slice("all", np.ones(len(self.targets), dtype=bool))

    def slice(self, name: str, rows: Bools) -> Slice:
        """How every version does on some images.

        Args:
            name: Of the slice.
            rows: Which images, ``(N,)``.
        """
        y, s = self.targets[rows], self.scores[:, rows]
        w = np.ascontiguousarray(self.weights[:, rows])
        columns, label, place = distinct(s)
        auc = Sampled(
            np.asarray(auroc(y[:, label], columns))[place],
            bootstrap_auroc(y[:, label], columns, w).take(place, axis=1),
        )
        return Slice(
            name,
            images=len(y),
            patients=len(np.unique(self.patients[rows])),
            positives=(y == 1).sum(axis=0),
            negatives=(y == 0).sum(axis=0),
            auc=auc,
            sensitivity=self._rate(s, y, w, present=True),
            specificity=self._rate(s, y, w, present=False),
        )

    def _rate(self, s: Floats, y: Floats, w: NDArray[Any], *, present: bool) -> Sampled:
        """Share of the images with (or without) a label for which it is called right."""
        of = y == (1 if present else 0)
        hits = ((s >= self.thresholds) == present) & of
        flat = np.moveaxis(hits, 1, 0).reshape(len(y), -1).astype(np.float32)
        counts = w.astype(np.float32)
        total = counts @ of.astype(np.float32)
        shape = (len(self.scores), y.shape[1])
        use = self.in_use

        def share(hits: NDArray[Any], total: NDArray[Any]) -> Floats:
            found = hits.astype(np.float64) / np.maximum(total, 1)
            return np.where(use & (total > 0), found, np.nan)

        return Sampled(
            share(hits.sum(axis=1), of.sum(axis=0)),
            share((counts @ flat).reshape(len(w), *shape), total[:, None, :]),
        )


def read(result: Result, folder: Path) -> Evidence:
    """What a finished run left behind.

    Args:
        result: Of the run.
        folder: Of the run.

    Raises:
        UserError: If it has no scores, no thresholds, or fewer than two moments.
    """
    where = str(folder)
    if not (folder / SCORES_FILE).is_file():
        raise UserError(f"has no {SCORES_FILE}", where=where, fix="run it again")
    arrays = read_scores(result, folder)
    shape = arrays["scores"].shape if "scores" in arrays else ()
    fits = len(shape) == 3 and {"targets", "patients"} <= arrays.keys()
    if not fits or arrays["targets"].shape != shape[1:] or arrays["patients"].shape != shape[1:2]:
        raise UserError(
            "does not hold the scores of a run", where=str(folder / SCORES_FILE), fix="run it again"
        )
    if shape[0] < 2:
        raise UserError(f"has {shape[0]} version to audit: an update needs two", where=where)
    labels = len(result.labels)
    of_result = shape[0] == len(result.auc_matrix) and {shape[2], len(result.thresholds)} == {labels}
    sound = (
        np.isfinite(arrays["scores"]).all()
        and np.isin(np.nan_to_num(arrays["targets"], posinf=2), (0, 1)).all()
    )
    if not (of_result and sound and 0 < result.bootstrap.replicates <= MOST):
        raise UserError(
            "its scores are not of its result", where=str(folder / SCORES_FILE), fix="run it again"
        )
    if all(t is None for t in result.thresholds):
        raise UserError(
            "has no thresholds, so no version of it makes a call",
            where=where,
            fix="run it again, or audit another",
        )
    groups, missing = _groups(arrays, str(folder / SCORES_FILE))
    return Evidence(
        result,
        folder,
        arrays["scores"].astype(np.float64),
        arrays["targets"].astype(np.float64),
        arrays["patients"].astype(np.int64),
        groups,
        tuple(missing),
    )


def _groups(arrays: dict[str, NDArray[Any]], where: str) -> tuple[dict[str, NDArray[np.str_]], list[str]]:
    """By what images can be grouped, and what cannot be told."""
    found: dict[str, NDArray[np.str_]] = {}
    for name in COLUMNS:
        if OF + name in arrays:
            try:
                values = as_text(arrays[OF + name])
            except ValueError as error:
                raise UserError(str(error), where=where, fix="run it again") from error
            if len(values) != len(arrays["targets"]):
                raise UserError(f"{OF}{name} is of other images", where=where, fix="run it again")
            found[name] = values
    if not found:
        return {}, [
            "The run was made before runs kept of whom their images are: no groups, no sites. Run it again."
        ]
    if "age" in found:
        found["age"] = age_bands(found["age"])
    if "date" in found:
        found["year"] = found.pop("date").astype("<U4")
    known = {name: values for name, values in found.items() if len(np.unique(values[values != ""])) > 1}
    absent = [name for name in GROUPS[:4] if name not in known]
    lines = [f"The data set does not tell {' or '.join(absent)} apart: left out."] if absent else []
    return {name: known[name] for name in GROUPS if name in known}, lines


def age_bands(ages: NDArray[np.str_]) -> NDArray[np.str_]:
    """The band of each age in years, given as text; empty where unknown."""
    years = np.array([float(a) if a.replace(".", "", 1).isdigit() else np.nan for a in ages.tolist()])
    low, mid, high = BANDS
    names = np.array([f"under {low}", f"{low} to {mid - 1}", f"{mid} to {high - 1}", f"{high} and over", ""])
    band = np.searchsorted(BANDS, np.nan_to_num(years), side="right")
    return names[np.where(np.isnan(years), len(names) - 1, band)]
