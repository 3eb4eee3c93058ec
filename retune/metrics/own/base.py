"""What retune asks of a metric of one's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy.typing as npt

Array = npt.NDArray[Any]


class OwnMetric(ABC):
    """A number for a run, beside those of the benchmark and never among them.

    The first line of a subclass's docstring says what it means.
    """

    name: ClassVar[str]
    """Its heading: ``worst-label``."""
    better: ClassVar[Literal["higher", "lower"]] = "higher"

    @abstractmethod
    def measure(self, matrix: Array, scores: Array, targets: Array) -> float:
        """Work it out from the test images: a pure function of what it is given.

        Args:
            matrix: float64 ``(T+1, C)``, AUROC of a label before training and after each experience; NaN where undefined.
            scores: ``(T+1, N, C)``, float32 or float64; higher means more likely present.
            targets: float32 ``(N, C)``: 1 present, 0 absent, NaN unknown.

        Returns:
            A number; NaN where it is undefined.
        """
