"""The checks of a scenario: what every stream must keep to, shown on a made-up table."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from retune.check.checks import Check, ContractReport, Plugin, checked, require
from retune.check.tables import several
from retune.check.world import changed, snapshot
from retune.data.dataset import Dataset, FloatArray, IntArray
from retune.methods.training import isolated
from retune.progress import Progress
from retune.streams.stream import Experience, Scenario, Stream


@dataclass(frozen=True)
class Cut(Plugin[Scenario]):
    """A scenario to check."""

    def table(self) -> Dataset:
        """A table that it can cut; a new one at every call, as a scenario could change it."""
        return several([name.strip() for name in self.cls.data.split(",") if name.strip()])

    def stream(self, seed: int = 0) -> Stream:
        """A stream of such a table."""
        return self.made().stream(self.table(), seed)


def cuts(cut: Cut) -> None:
    """It cuts a table into experiences 1, 2, ... and test images, and looks at no picture."""
    stream = cut.stream()
    require(isinstance(stream, Stream), f"gives {type(stream).__name__}, not a Stream")
    steps = [experience.step for experience in stream.experiences]
    require(bool(steps), "the stream has no experience")
    require(steps == list(range(1, len(steps) + 1)), f"its steps are {steps}, not 1, 2, ...")


def says_what_it_is(cut: Cut) -> None:
    """It has a name, and a published stream says where it comes from and which data sets it needs."""
    require(isinstance(getattr(cut.cls, "name", None), str) and bool(cut.cls.name), "the class has no name")
    require(bool(cut.cls.paper) or not cut.cls.data, "it says which 'data' it is defined on, and no 'paper'")


def same_seed_same_stream(cut: Cut) -> None:
    """One seed gives one stream, whatever the global random generators hold."""
    prints = set()
    for seed in (1, 2):
        with isolated(seed):
            prints.add(cut.stream(3).fingerprint)
    require(len(prints) == 1, "two streams of one seed differ")


def every_label_is_seen(cut: Cut) -> None:
    """Every label is observed in some experience; only a published stream may leave labels out."""
    stream, table = cut.stream(), cut.table()
    observed = {c for e in stream.experiences for c in e.observed}
    lost = [label for c, label in enumerate(stream.labels) if c not in observed]
    if not cut.cls.data:
        lost += [label for label in table.labels if label not in stream.labels]
    require(not lost, f"never observed: {', '.join(lost)}")
    odd = [
        e.step for e in stream.experiences if not e.observed or list(e.observed) != sorted(set(e.observed))
    ]
    require(not odd, f"labels of experience {odd} are none, or not ascending, or twice")
    for e in stream.experiences:
        empty = [stream.labels[c] for c in e.observed if np.isnan(e.targets[:, c]).all()]
        require(not empty, f"experience {e.step} observes {', '.join(empty)} and knows it of no image")


def every_image_stands_once(cut: Cut) -> None:
    """No experience is empty or shows an image twice; only a published stream may leave images out."""
    stream, table = cut.stream(), cut.table()
    for e in stream.experiences:
        require(len(e) > 0, f"experience {e.step} is empty")
        require(len(np.unique(e.rows)) == len(e), f"experience {e.step} shows an image twice")
    if not cut.cls.data:
        lost = len(np.setdiff1d(stream.dataset.rows("train"), stream.joint().rows))
        lost += len(table) - len(stream.dataset)
        require(not lost, f"{lost} images are in no experience")


def no_patient_comes_again(cut: Cut) -> None:
    """No patient stands in two experiences, unless 'recurs' says so."""
    stream = cut.stream()
    patients = [set(stream.dataset.patient_id[e.rows].tolist()) for e in stream.experiences]
    again = sum(map(len, patients)) - len(set().union(*patients))
    require(not again or cut.cls.recurs, f"patients come again {again} times")


def trains_on_no_test_patient(cut: Cut) -> None:
    """Only training images are shown, the test images are the table's, and no patient has both."""
    stream = cut.stream()
    table = stream.dataset
    rows = stream.joint().rows
    require(
        set(table.split[rows].tolist()) == {"train"}, "it shows images that are not of the training split"
    )
    require(len(stream.test) > 0, "it has no test images")
    require(
        np.array_equal(stream.test, table.rows("test")), "its test images are not those of the test split"
    )
    held_out = set(table.patient_id[table.split != "train"].tolist())
    shared = held_out & set(table.patient_id[rows].tolist())
    require(not shared, f"{len(shared)} patients are trained on and held out")


def unobserved_labels_are_masked(cut: Cut) -> None:
    """A label that an experience does not observe is NaN for every image of it; or 0, where that is asked for."""
    stream, asked = cut.stream(), getattr(cut.made(), "hidden", "masked")
    require(stream.hidden == asked, f"hidden={asked} was asked for, and its stream says {stream.hidden}")
    for e in stream.experiences:
        shape = (len(e), len(stream.labels))
        require(
            e.targets.shape == shape, f"targets of experience {e.step} are {e.targets.shape}, not {shape}"
        )
        require(e.targets.dtype == np.float32, f"targets of experience {e.step} are {e.targets.dtype}")
        hidden = np.setdiff1d(np.arange(shape[1]), e.observed)
        given = ~np.isnan(e.targets) if stream.hidden == "masked" else e.targets != 0
        shown = [stream.labels[c] for c in hidden if given[:, c].any()]
        require(not shown, f"experience {e.step} gives away {', '.join(shown)}")


def observed_labels_are_true(cut: Cut) -> None:
    """A label that an experience observes is as in the table, but for what 'alters_labels' declares."""
    stream, declared = cut.stream(), cut.cls.alters_labels
    require(
        stream.altered == declared,
        f"its class declares alters_labels={declared!r}, and its stream altered={stream.altered!r}",
    )
    for e in stream.experiences:
        truth = _truth(cut, stream, e.rows)[:, list(e.observed)]
        given = e.targets[:, list(e.observed)].copy()
        if declared == "withheld":
            given[np.isnan(given)] = truth[np.isnan(given)]
        if declared == "flipped":
            given = np.where(given == 1 - truth, truth, given)
        right = np.array_equal(given, truth, equal_nan=True)
        more = f" with some {declared}" if declared else ""
        require(right, f"targets of experience {e.step} are not the table's{more}")


def its_table_is_the_table(cut: Cut) -> None:
    """Labels of test images, and of all images that an upper bound is shown, are as in the table."""
    stream = cut.stream()
    for what, rows in (("test", stream.test), ("training", stream.joint().rows)):
        right = np.array_equal(stream.dataset.targets[rows], _truth(cut, stream, rows), equal_nan=True)
        require(right, f"its table has other labels of {what} images")


def leaves_the_table_alone(cut: Cut) -> None:
    """The table it was given is not changed."""
    table, untouched = cut.table(), cut.table()
    cut.made().stream(table, 0)
    require(table.fingerprint == untouched.fingerprint, "it changed the table")


def changes_nothing_global(cut: Cut) -> None:
    """Random generators, working directory, environment and the like stay."""
    before = snapshot()
    cut.stream()
    found = changed(before)
    require(not found, f"changed: {', '.join(found)}")


def lost_images_change_nothing_else(cut: Cut) -> None:
    """Cut again without images that cannot be read, it loses these and no others."""
    before = cut.stream(1)
    lost = np.concatenate([before.joint().rows[::50], before.test[::40]])
    kept = np.setdiff1d(np.arange(len(before.dataset)), lost)
    again = cut.made().stream(before.dataset.take(kept, dropped={"unreadable images": len(lost)}), 1)
    require(again.labels == before.labels, "it has other labels then")
    require(_observed(again) == _observed(before), "its experiences observe other labels then")
    for what, old, new in (
        ("training", before.joint().rows, again.joint().rows),
        ("test", before.test, again.test),
    ):
        readable = before.dataset.image_id[np.setdiff1d(old, lost)]
        right = np.array_equal(again.dataset.image_id[new], readable)
        require(right, f"its {what} images are not those that were left")


def _truth(cut: Cut, stream: Stream, rows: IntArray) -> FloatArray:
    """What the table says of a stream's labels and some of its images, (n, C)."""
    table = cut.table()
    place = {image: row for row, image in enumerate(table.image_id.tolist())}
    columns = [table.labels.index(label) for label in stream.labels]
    found = [place[image] for image in stream.dataset.image_id[rows].tolist()]
    return np.asarray(table.targets[np.ix_(found, columns)])


def prints_nothing(cut: Cut) -> None:
    """Standard output stays empty: it belongs to results."""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        cut.stream()
    require(not told.getvalue(), f"printed {told.getvalue()[:40]!r}")


def _observed(stream: Stream) -> list[tuple[int, ...]]:
    experiences: tuple[Experience, ...] = stream.experiences
    return [experience.observed for experience in experiences]


CHECKS: Final = tuple(
    Check[Cut](demand)
    for demand in (
        cuts,
        says_what_it_is,
        same_seed_same_stream,
        every_label_is_seen,
        every_image_stands_once,
        no_patient_comes_again,
        trains_on_no_test_patient,
        unobserved_labels_are_masked,
        observed_labels_are_true,
        its_table_is_the_table,
        leaves_the_table_alone,
        changes_nothing_global,
        lost_images_change_nothing_else,
        prints_nothing,
    )
)
LIMIT: Final = 20.0
"""Seconds that a check may take."""


def check_scenario(
    scenario: str | type[Scenario],
    settings: Mapping[str, Any] | None = None,
    *,
    limit: float = LIMIT,
    progress: Progress | None = None,
) -> ContractReport:
    """See whether a scenario keeps the contract, in a few seconds on a made-up table.

    Args:
        scenario: Name of a scenario, a Python file, or a class.
        settings: Others than the default ones; values may be text.
        limit: Seconds that a check may take; all together take three times as long at most.
        progress: Called with what is done, how much of it and how much there is to do.

    Raises:
        UserError: If there is no such scenario or setting, or it cannot be imported.
    """
    subject = partial(Cut, settings=dict(settings or {}))
    return checked("scenarios", scenario, subject, CHECKS, limit=limit, progress=progress)
