"""Findings as objects that are found or missed: FROC, and average precision of boxes, from the same outlines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from retune.metrics import localisation as measures
from retune.metrics.binary import Floats
from retune.metrics.localisation import Found
from retune.transfers._outlines import Counted, Outlined, Outlines
from retune.transfers.base import Task


@dataclass
class Localisation(Outlines):
    """Connected pieces of what a decoder outlines are found objects: each has a point, a box and a score.

    The decoder and its threshold are those of ``segmentation``. ``froc`` is the mean sensitivity at 1/8 to 8 false
    positives per image, ``ap`` the average precision of boxes at overlaps of .40 to .75 over all images, ``published_ap``
    the same over images that have an object and on which something was found, as the papers' code has it.
    """

    name: ClassVar[str] = "localisation"

    def begin(self, task: Task) -> Localised:
        """Prepare to measure a task."""
        return Localised(task, self)


class Localised(Outlined):
    """What was found of every test image at every moment, and which of it hits, from which all numbers follow."""

    headline = "froc"
    trivially = ("froc", "ap", "published_ap")

    def count(self, predicted: torch.Tensor, limits: torch.Tensor) -> Counted:
        """A row for each piece, and how many objects there are to be found, (N, K)."""
        part, found = self.task.test, []
        for index, maps, masks in self.side_by_side(predicted, part):
            of = measures.find(maps.numpy(), limits.numpy(), masks.numpy(), part.known[index])
            found.append(replace(of, image=index[of.image]))
        names = (*measures.ROWS, "objects")
        return {name: torch.from_numpy(np.concatenate([getattr(of, name) for of in found])) for name in names}

    def values(self, counted: list[Counted]) -> dict[str, Floats]:
        """Every number, (U, K)."""
        once = np.ones((1, len(self.task.test)), dtype=np.int64)
        measured = {
            "froc": measures.froc,
            "ap": measures.average_precision,
            "published_ap": measures.published_precision,
            "sensitivity": measures.sensitivity,
            "false_positives": measures.false_positives,
        }
        return {name: self._each(measure, counted, once)[0] for name, measure in measured.items()}

    def resampled(self, counted: list[Counted], weights: npt.NDArray[Any]) -> dict[str, Floats]:
        """FROC and average precision, (B, U, K)."""
        measured = {"froc": measures.froc, "ap": measures.average_precision}
        return {name: self._each(measure, counted, weights) for name, measure in measured.items()}

    def _each(
        self, measure: Callable[..., Floats], counted: list[Counted], weights: npt.NDArray[Any]
    ) -> Floats:
        return np.stack([measure(_found(of), self.task.test.known, weights) for of in counted], axis=1)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What was found; ``places`` says which list of it is of which decoder at which moment, (2, T+1)."""
        found = measures.to_arrays([_found(of) for of in self.counted])
        return {**found, "places": np.array(self.places).T, "known": self.task.test.known}


def _found(counted: Counted) -> Found:
    return Found(**{name: values.numpy() for name, values in counted.items()})
