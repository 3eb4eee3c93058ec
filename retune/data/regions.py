"""Where findings are in a data set's pictures: what it must tell for a segmentation to be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


class Regions(Protocol):
    """The outlines of findings in the pictures of a data set, row by row of its table."""

    @property
    def findings(self) -> tuple[str, ...]:
        """Names of the K findings or organs that have been outlined."""
        ...

    def known(self, rows: IntArray) -> BoolArray:
        """Which findings somebody looked for on which pictures, bool (n, K).

        A finding that was looked for and has an empty mask is absent; one that nobody looked for is unknown.
        """
        ...

    def masks(self, rows: IntArray) -> list[BoolArray]:
        """Where each finding is, a bool array (K, H, W) for each row, of the picture's own proportions.

        Raises:
            BadTable: If an outline is none, or does not lie in the picture: says which, and where it is written.
        """
        ...

    def keys(self, rows: IntArray) -> list[bytes]:
        """Digest (32 bytes) of whatever determines the masks of each row, the version of the drawing included."""
        ...


@dataclass(frozen=True)
class SomeRegions:
    """Some rows of other regions."""

    regions: Regions
    index: IntArray

    @property
    def findings(self) -> tuple[str, ...]:
        """Names of the K findings."""
        return self.regions.findings

    def known(self, rows: IntArray) -> BoolArray:
        """Which findings were looked for, bool (n, K)."""
        return self.regions.known(self.index[rows])

    def masks(self, rows: IntArray) -> list[BoolArray]:
        """Where each finding is, (K, H, W) for each row."""
        return self.regions.masks(self.index[rows])

    def keys(self, rows: IntArray) -> list[bytes]:
        """Digest of each row's masks."""
        return self.regions.keys(self.index[rows])
