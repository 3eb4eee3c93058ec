"""What a method keeps of past patients, and how much of it: privacy is part of a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

PREFIX: Final = "memory."
"""Keys of :meth:`retune.Strategy.state_dict` that hold something of single past images."""
PRIME: Final = 2**31 - 1
UNKNOWN: Final = -1


@dataclass(frozen=True)
class Stored:
    """What of single past images a state holds.

    Args:
        images: How many are kept as pictures, under ``memory.pixels``.
        features: How many are kept as vectors or tokens, under ``memory.features`` or ``memory.tokens``.
        bytes: Size of everything under ``memory.``, labels and scores of past images included.
    """

    images: int = 0
    features: int = 0
    bytes: int = 0

    def most(self, other: Stored) -> Stored:
        """The larger of each count."""
        return Stored(
            max(self.images, other.images),
            max(self.features, other.features),
            max(self.bytes, other.bytes),
        )


def metered(state: Mapping[str, Any]) -> Stored:
    """Count what a strategy's state keeps of single past images.

    Args:
        state: As given by :meth:`retune.Strategy.state_dict`.
    """
    kept = {k: v for k, v in state.items() if k.startswith(PREFIX) and isinstance(v, torch.Tensor)}
    rows = {kind: len(kept.get(PREFIX + kind, ())) for kind in ("pixels", "features", "tokens")}
    size = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    return Stored(rows["pixels"], max(rows["features"], rows["tokens"]), size)


class SampleMemory:
    """A fixed number of past samples, as evenly from all past patients as they allow.

    Every patient has a place in a random order that never changes, and every sample a random turn within
    its patient. What is kept is what would be dealt by going round the patients in their order, taking one
    sample of each a round, until the memory is full. So no patient has two samples more than another one
    who could have had one more; every patient, and every sample of a patient, has the same chance; and what
    is kept depends on the samples only, not on how they were parted over time: whoever has lost a sample
    could not get it back, so that nothing needs to be known of what is gone. Samples of a patient who comes
    back are added to those that are there, and share that patient's places with them.

    Args:
        capacity: Most samples that are kept.
        seed: Of the patients' order.
        **nothing: What is kept of a sample: tensors of no rows, by name, of the shape and on the device that
            are wanted; ``targets`` among them.
    """

    def __init__(self, capacity: int, seed: int, **nothing: torch.Tensor) -> None:
        self.capacity = capacity
        # a p + b modulo a prime is another order of the numbers below it, of pairwise independent places
        # (Carter & Wegman, 1979): patients who are gone need no entry.
        draw = np.random.default_rng(seed).integers(1, PRIME, size=2)
        self._factor, self._offset = (int(number) for number in draw)
        self._kept = {
            "patients": torch.zeros(0, dtype=torch.int64),
            "turns": torch.zeros(0, dtype=torch.float64),
            **nothing,
            "targets": nothing["targets"].to(torch.int8),
        }

    def __len__(self) -> int:
        return len(self._kept["patients"])

    def add(
        self,
        patients: torch.Tensor,
        generator: torch.Generator,
        *,
        targets: torch.Tensor,
        **more: torch.Tensor,
    ) -> None:
        """Offer samples; some are kept and others make room.

        Args:
            patients: Whose each is, int64 (n,), below 2^31 - 1.
            generator: Source of their turns within their patients, on the CPU.
            targets: (n, C); 1, 0 or NaN.
            **more: The other tensors that are kept, of n rows.
        """
        turns = torch.rand(len(patients), generator=generator, dtype=torch.float64)
        coded = torch.where(targets.isnan(), UNKNOWN, targets).to(torch.int8)
        offered = {"patients": patients.cpu(), "turns": turns, "targets": coded, **more}
        everything = {name: torch.cat([values, offered[name]]) for name, values in self._kept.items()}
        kept = self._dealt(everything["patients"], everything["turns"])
        self._kept = {name: values[kept.to(values.device)] for name, values in everything.items()}

    def _dealt(self, patients: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        """Which samples are kept, in the order in which they were offered."""
        _, patient, size = patients.unique(return_inverse=True, return_counts=True)
        order = np.lexsort((turns.numpy(), patient.numpy()))
        first = (size.cumsum(0) - size)[patient[order]].numpy()
        rounds = np.empty(len(order), dtype=np.int64)
        rounds[order] = np.arange(len(order)) - first
        place = (patients * self._factor + self._offset) % PRIME
        return torch.from_numpy(np.sort(np.lexsort((place.numpy(), rounds))[: self.capacity]))

    def draw(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Places of n samples drawn with replacement, (n,); none where nothing is kept.

        Args:
            n: How many.
            generator: On the CPU.
        """
        drawn = torch.randint(max(1, len(self)), (n if len(self) else 0,), generator=generator)
        return drawn.to(self._kept["targets"].device)

    def __getitem__(self, name: str) -> torch.Tensor:
        """What is kept under a name, (k, ...); targets are float32 with NaN where unknown."""
        values = self._kept[name]
        return torch.where(values == UNKNOWN, torch.nan, values.float()) if name == "targets" else values

    def fill(self, targets: torch.Tensor) -> None:
        """Take up targets of labels that are unknown; those that are known stay.

        Args:
            targets: For every sample kept, (k, C); NaN where still unknown.
        """
        own = self["targets"]
        filled = torch.where(own.isnan(), targets, own)
        self._kept["targets"] = torch.where(filled.isnan(), UNKNOWN, filled).to(torch.int8)

    def state(self) -> dict[str, torch.Tensor]:
        """All that is kept, each under ``memory.`` and its name; an unknown target is -1."""
        return {PREFIX + name: values for name, values in self._kept.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` gave."""
        self._kept = {name: state[PREFIX + name].to(values.device) for name, values in self._kept.items()}
