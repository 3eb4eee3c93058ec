"""What is left of a run that is continued: a model, labels that were learnt, and digests of its test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from PIL import Image

from retune.backbones.base import Backbone
from retune.data.dataset import BoolArray, Dataset, IntArray
from retune.errors import BadImage, UserError
from retune.learnt.write import ANEW
from retune.methods.strategy import Strategy
from retune.progress import Progress
from retune.results.result import Result
from retune.results.scores import OF, Arrays, as_text
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
    return Dataset(
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
