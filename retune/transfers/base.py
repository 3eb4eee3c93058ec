"""What retune asks of a measurement on what a strategy's image side has become."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Protocol

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Le

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

BLOCK: Final = 64
"""Images whose maps are in memory at a time."""


class Maps(Protocol):
    """Maps of features, too many to be in memory at once: rows (k,) are copied out as float32 (k, D, g, g)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor: ...


class Masks(Protocol):
    """Masks of K findings: rows (k,) are copied out as bool (k, K, size, size)."""

    def __getitem__(self, index: IntArray) -> BoolArray: ...


@dataclass(frozen=True)
class Part:
    """The n images of one role.

    Args:
        masks: Theirs; empty where a finding is absent or unknown.
        known: Which findings somebody looked for on which images, bool (n, K).
        present: Which of these have it, bool (n, K).
        patients: Whose each image is, (n,).
    """

    masks: Masks
    known: BoolArray
    present: BoolArray
    patients: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.known)


@dataclass(frozen=True)
class Task:
    """Images with masks, by role.

    Args:
        findings: Names of the K findings.
        train: What a decoder learns from.
        valid: What its thresholds are chosen on.
        test: What it is judged on.
        seed: Of every random draw.
        replicates: Bootstrap replicates behind each interval.
        level: Coverage of the intervals.
        device: Where a network is trained.
    """

    findings: tuple[str, ...]
    train: Part
    valid: Part
    test: Part
    seed: int
    replicates: int
    level: float
    device: str = "cpu"


class Decoder(ABC):
    """What makes outlines of maps of D features."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be said of it."""
        return ()

    @abstractmethod
    def alike(self, other: Decoder) -> bool:
        """Whether both are of features of one dimension."""

    @abstractmethod
    def predict(self, values: torch.Tensor) -> torch.Tensor:
        """How much each place is covered, the more the higher: float32 (b, K, h, h) of maps (b, D, g, g)."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """Whatever its outlines follow from."""


class Measurement(ABC):
    """One task, measured moment after moment: before training, and after each experience."""

    @abstractmethod
    def measure(self, train: Maps, valid: Maps, test: Maps) -> None:
        """Take in a moment: maps of every image of each role, as the image side gives them now."""

    @abstractmethod
    def repeat(self) -> None:
        """Take in a moment at which the image side is what it was at the moment before."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """Everything measured so far, so that an interrupted run goes on to the same bit."""

    @abstractmethod
    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what :meth:`state` gave."""

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """``headline``, ``refit``, ``kept``, ``trivial``, ``metrics`` and ``notes`` of a result's ``transfer``.

        And ``replicates``: the metrics on every resample of the test patients, (B,) each, which methods are compared by.
        """

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the numbers follow from, to be kept beside the scores: sums of images, no mask."""


@dataclass
class Transfer(ABC):
    """A measurement on maps of features; a dataclass whose fields are its settings.

    Args:
        size: Side in pixels at which masks are compared.
    """

    name: ClassVar[str]

    size: Annotated[int, Ge(16), Le(1024)] = 128

    @abstractmethod
    def begin(self, task: Task) -> Measurement:
        """Prepare to measure a task."""


def blocks(n: int) -> Iterator[torch.Tensor]:
    """Places 0 to n-1, some at a time."""
    import torch

    yield from torch.arange(n).split(BLOCK) if n else ()
