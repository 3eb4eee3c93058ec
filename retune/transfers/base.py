"""What retune asks of a measurement on what a strategy's image side has become."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]


class Maps(Protocol):
    """Maps of features, too many to be in memory at once: rows (k,) are copied out as float32 (k, D, g, g)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: npt.NDArray[np.int64]) -> torch.Tensor: ...


@dataclass(frozen=True)
class Part:
    """Some images of a transfer set.

    Args:
        masks: Of the K findings: rows (k,) are copied out as bool (k, K, size, size).
        known: Which findings were looked for on which images, bool (n, K).
        patients: Whose each image is, (n,).
    """

    masks: Masks
    known: Masks
    patients: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.known)


@dataclass(frozen=True)
class Task:
    """What is measured: images with masks, by role.

    Args:
        findings: Names of the K findings.
        train: What a decoder learns from.
        valid: What its thresholds are chosen on.
        test: What it is judged on.
        seed: Of every random draw.
        replicates: Bootstrap replicates behind each interval.
    """

    findings: tuple[str, ...]
    train: Part
    valid: Part
    test: Part
    seed: int
    replicates: int


class Measurement(ABC):
    """One task, measured moment after moment."""

    @abstractmethod
    def measure(self, train: Maps, valid: Maps, test: Maps) -> None:
        """Take in one moment: maps of every image of each role, as the image side now gives them."""

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
    def numbers(self) -> Mapping[str, Any]:
        """``headline``, ``refit``, ``kept``, ``trivial``, ``metrics`` as in a result's ``transfer``."""


class Transfer(ABC):
    """A measurement on maps of features; a dataclass whose fields are its settings."""

    name: ClassVar[str]

    @abstractmethod
    def begin(self, task: Task) -> Measurement:
        """Prepare to measure a task."""
