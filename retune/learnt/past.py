"""What is left of a run that is continued: a model, labels that were learnt, and digests of its test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
from PIL import Image

from retune.backbones.base import Backbone
from retune.data.dataset import BoolArray, Dataset, IntArray
from retune.data.several import combine
from retune.errors import BadImage, UserError
from retune.learnt.write import ANEW
from retune.methods.strategy import Strategy
from retune.progress import Progress
from retune.results.image_digests import digests
from retune.results.result import Result
from retune.results.scores import OF, Arrays, as_text
from retune.runner.content import PERSON, with_people
from retune.runner.images import lend
from retune.streams.cuts import known_labels, masked
from retune.streams.stream import Experience, Scenario, Stream

EARLIER: Final = "earlier"
"""Name of the test images of the run that is continued, beside those of the data that arrive."""


@dataclass(frozen=True)
class Continued(Scenario):
    """One experience after all that was learnt before, of which only the model is left.

    Args:
        learnt: Labels that were learnt before.
        step: Which experience it is, counted from the first run on: its random draws hang on it.
    """

    name: ClassVar[str] = "continued"

    learnt: tuple[str, ...] = ()
    step: int = 2

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """Everything before as one experience without images, then all training images with every label they know."""
        rows = dataset.rows("train")
        before = tuple(c for c, label in enumerate(dataset.labels) if label in self.learnt)
        nothing = np.zeros((0, len(dataset.labels)), dtype=np.float32)
        gone = Experience(1, before, np.zeros(0, dtype=np.int64), nothing)
        arrived = masked(dataset, 2, rows, known_labels(dataset, rows))
        return Resumed(dataset, (gone, arrived), dataset.rows("test"))


@dataclass(frozen=True)
class Resumed(Stream):
    """A stream whose first experience is what was learnt before: its labels count as learnt in it."""

    @property
    def taught(self) -> tuple[Experience, ...]:
        """The new experience alone."""
        return self.experiences[1:]

    @property
    def first(self) -> IntArray:
        """As of any stream, and 1 for the labels learnt before."""
        found = super().first.copy()
        found[list(self.experiences[0].observed)] = 1
        return found


@dataclass(frozen=True)
class Forgone:
    """Pictures of which nothing is left but their digests, and features by these; an ``ImageSource``."""

    digests: Sequence[bytes]

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
        """None can be loaded."""
        return [BadImage("is not here any more", where=self.describe(row)) for row in rows.tolist()]

    def keys(self, rows: IntArray) -> list[bytes | None]:
        """Digest of each row's image content."""
        return [self.digests[row] for row in rows.tolist()]

    def exists(self, rows: IntArray) -> BoolArray:
        """None is there."""
        return np.zeros(len(rows), dtype=bool)

    def describe(self, row: int) -> str:
        """A number."""
        return f"test image {row + 1} of the earlier run"


def past(earlier: Result, arrays: Arrays, where: str) -> Dataset:
    """The test images of a run, as far as it keeps them: digests, targets, and of whom they are.

    Args:
        earlier: The run.
        arrays: Its scores, and what lies beside them.
        where: Its folder, for messages.

    Raises:
        UserError: If it did not keep digests.
    """
    if "keys" not in arrays:
        raise UserError("its run did not keep the digests of its test images", where=where, fix=ANEW)
    n = len(arrays["targets"])
    columns: dict[str, Any] = {
        name.removeprefix(OF): as_text(values) for name, values in arrays.items() if name.startswith(OF)
    }
    if "age" in columns:
        columns["age"] = np.array([float(age) if age else np.nan for age in columns["age"].tolist()])
    found = Dataset(
        name=EARLIER,
        labels=tuple(earlier.labels),
        image_id=np.array([f"{k}" for k in range(n)], dtype=str),
        patient_id=np.array([f"{p}" for p in arrays["patients"].tolist()], dtype=str),
        split=np.full(n, "test"),
        targets=arrays["targets"].astype(np.float32),
        images=Forgone([row.tobytes() for row in arrays["keys"]]),
        columns=columns,
        synthetic=earlier.dataset.synthetic,
        partly_synthetic=earlier.dataset.partly_synthetic,
        source=earlier.dataset.source,
    )
    # Without the data set's name no name that arrives is like it: of older runs nobody knows who they are of.
    unknown = digests(found.patient_id.tolist())
    return with_people(found, arrays.get("people", unknown))


def lost(images: Dataset, encoder: Backbone, method: Strategy, progress: Progress) -> int:
    """Of how many of such images the feature store lacks what a method needs.

    Args:
        images: From :func:`past`.
        encoder: The backbone.
        method: The strategy.
        progress: Told what is done.
    """
    rows = np.arange(len(images), dtype=np.int64)
    lent = lend(
        encoder,
        images,
        rows,
        method.requires(),
        images.images.keys(rows),
        skip_bad_images=True,
        progress=progress,
    )
    return int((lent.place < 0).sum())


def joined(old: Dataset, arrived: Dataset) -> Dataset:
    """Both as one data set, in which who is in the test images of both is one patient.

    Args:
        old: From :func:`past`.
        arrived: The data that arrive.
    """
    found = combine([old, with_people(arrived)])
    people, ids = found.columns[PERSON].tolist(), found.patient_id.tolist()
    n, rows = len(old), found.rows("test").tolist()
    names = {people[row]: ids[row] for row in rows if row >= n}
    ids[:n] = [names.get(person, name) for person, name in zip(people[:n], ids[:n], strict=True)]
    return replace(found, patient_id=np.array(ids, dtype=str))


def require_apart(stream: Stream, content: Sequence[bytes | None], old: Dataset, where: str) -> None:
    """See that nothing is learnt from that the run is judged on, and that no image is judged twice.

    Args:
        stream: Of both.
        content: Digests of its images: of those that are learnt from, then of the test images.
        old: From :func:`past`, with all test images of the run.
        where: Its folder, for messages.

    Raises:
        UserError: If images or patients are in both.
    """
    n, every = len(stream.joint()), np.arange(len(old), dtype=np.int64)
    keys = [key for key in old.images.keys(every) if key is not None]
    of = stream.dataset.columns["dataset"][stream.test]
    asked = [key for key, name in zip(content[n:], of.tolist(), strict=True) if name != EARLIER]
    same = len(set(keys) & set(content[:n]))
    if same:
        raise UserError(
            f"{same:,} of its test images are training images of the data that arrive", where=where,
            fix="leave them out of these, or nothing can be said of what it keeps",
        )  # fmt: skip
    twice = len(set(keys) & set(asked))
    if twice and len(asked) < len(of):
        raise UserError(
            f"{twice:,} of its test images are test images of the data that arrive, too", where=where,
            fix="leave them out of these, or they are counted twice",
        )  # fmt: skip
    column = stream.dataset.columns[PERSON]
    both = set(column[stream.joint().rows].tolist()) & set(old.columns[PERSON].tolist())
    if both:
        name = stream.dataset.patient_id[stream.joint().rows[column[stream.joint().rows] == min(both)][0]]
        raise UserError(
            f"{len(both):,} of its test patients are in the training images of the data that arrive, as {name}",
            where=where, fix="leave them out of these; if they are other people, let their ids differ",
        )  # fmt: skip
