"""What every stream must keep to, as far as it shows in the stream: ``retune check`` demands it, and a run tells it.

Each demand gives the reasons why it is not met; its name and the first line of its docstring are what a check prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from retune.data.dataset import Dataset, FloatArray, IntArray
from retune.streams.stream import Scenario, Stream

Demand = Callable[[Stream, Scenario, Dataset], Iterator[str]]
"""Of a stream, the scenario that cut it, and the table that was cut."""


def every_label_is_seen(stream: Stream, of: Scenario, table: Dataset) -> Iterator[str]:
    """Every label is observed in some experience; only a published stream may leave labels out."""
    observed = {c for e in stream.experiences for c in e.observed}
    lost = [label for c, label in enumerate(stream.labels) if c not in observed]
    if not of.data:
        lost += [label for label in table.labels if label not in stream.labels]
    if lost:
        yield f"never observed: {', '.join(lost)}"
    odd = [
        e.step for e in stream.experiences if not e.observed or list(e.observed) != sorted(set(e.observed))
    ]
    if odd:
        yield f"labels of experience {odd} are none, or not ascending, or twice"
    for e in stream.experiences:
        empty = [stream.labels[c] for c in e.observed if np.isnan(e.targets[:, c]).all()]
        if empty:
            yield f"experience {e.step} observes {', '.join(empty)} and knows it of no image"


def every_image_stands_once(stream: Stream, of: Scenario, table: Dataset) -> Iterator[str]:
    """No experience is empty or shows an image twice; only a published stream may leave images out."""
    for e in stream.experiences:
        if not len(e):
            yield f"experience {e.step} is empty"
        if len(np.unique(e.rows)) != len(e):
            yield f"experience {e.step} shows an image twice"
    if not of.data:
        lost = len(np.setdiff1d(stream.dataset.rows("train"), stream.joint().rows))
        lost += len(table) - len(stream.dataset)
        if lost:
            yield f"{lost} images are in no experience"


def no_patient_comes_again(stream: Stream, of: Scenario, table: Dataset) -> Iterator[str]:
    """No patient stands in two experiences, unless 'recurs' says so."""
    patients = [set(stream.dataset.patient_id[e.rows].tolist()) for e in stream.experiences]
    again = sum(map(len, patients)) - len(set().union(*patients))
    if again and not of.recurs:
        yield f"patients come again {again} times"


def trains_on_no_test_patient(stream: Stream, of: Scenario, table: Dataset) -> Iterator[str]:
    """Only training images are shown, the test images are the table's, and no patient has both."""
    own, rows = stream.dataset, stream.joint().rows
    if set(own.split[rows].tolist()) != {"train"}:
        yield "it shows images that are not of the training split"
    if not len(stream.test):
        yield "it has no test images"
    if not np.array_equal(stream.test, own.rows("test")):
        yield "its test images are not those of the test split"
    shared = set(own.patient_id[own.split != "train"].tolist()) & set(own.patient_id[rows].tolist())
    if shared:
        yield f"{len(shared)} patients are trained on and held out"


def unobserved_labels_are_masked(stream: Stream, of: Scenario, table: Dataset) -> Iterator[str]:
    """A label that an experience does not observe is NaN for every image of it; or 0, where that is asked for."""
    asked = getattr(of, "hidden", "masked")
    if stream.hidden != asked:
        yield f"hidden={asked} was asked for, and its stream says {stream.hidden}"
    for e in stream.experiences:
        shape = (len(e), len(stream.labels))
        if e.targets.shape != shape:
            yield f"targets of experience {e.step} are {e.targets.shape}, not {shape}"
        if e.targets.dtype != np.float32:
            yield f"targets of experience {e.step} are {e.targets.dtype}"
        hidden = np.setdiff1d(np.arange(shape[1]), e.observed)
        given = ~np.isnan(e.targets) if stream.hidden == "masked" else e.targets != 0
        shown = [stream.labels[c] for c in hidden if given[:, c].any()]
        if shown:
            yield f"experience {e.step} gives away {', '.join(shown)}"


def observed_labels_are_true(stream: Stream, of: Scenario, table: Dataset) -> Iterator[str]:
    """A label that an experience observes is as in the table, but for what 'alters_labels' declares."""
    declared = of.alters_labels
    if stream.altered != declared:
        yield f"its class declares alters_labels={declared!r}, and its stream altered={stream.altered!r}"
    for e in stream.experiences:
        truth = _truth(table, stream, e.rows)[:, list(e.observed)]
        given = e.targets[:, list(e.observed)].copy()
        if declared == "withheld":
            given[np.isnan(given)] = truth[np.isnan(given)]
        if declared == "flipped":
            given = np.where(given == 1 - truth, truth, given)
        if not np.array_equal(given, truth, equal_nan=True):
            yield f"targets of experience {e.step} are not the table's{f' with some {declared}' if declared else ''}"


def its_table_is_the_table(stream: Stream, of: Scenario, table: Dataset) -> Iterator[str]:
    """Labels of test images, and of all images that an upper bound is shown, are as in the table."""
    for what, rows in (("test", stream.test), ("training", stream.joint().rows)):
        if not np.array_equal(stream.dataset.targets[rows], _truth(table, stream, rows), equal_nan=True):
            yield f"its table has other labels of {what} images"


DEMANDS: Final[tuple[Demand, ...]] = (
    every_label_is_seen, every_image_stands_once, no_patient_comes_again, trains_on_no_test_patient,
    unobserved_labels_are_masked, observed_labels_are_true, its_table_is_the_table,
)  # fmt: skip


def breaches(stream: Stream, of: Scenario, table: Dataset) -> list[str]:
    """What a stream does not keep to, a line for each demand; none of one that keeps the contract."""
    found = []
    for demand in DEMANDS:
        try:
            reason = next(demand(stream, of, table), "")
        except Exception as error:  # whatever is so far off that it cannot even be looked at
            reason = f"{type(error).__name__}: {error}"
        if reason:
            found.append(f"{demand.__name__.replace('_', '-')}: {reason}")
    return found


def _truth(table: Dataset, stream: Stream, rows: IntArray) -> FloatArray:
    """What a table says of a stream's labels and some of its images, (n, C)."""
    order = np.argsort(table.image_id, kind="stable")
    found = order[np.searchsorted(table.image_id, stream.dataset.image_id[rows], sorter=order)]
    columns = [table.labels.index(label) for label in stream.labels]
    return np.asarray(table.targets[found][:, columns])
