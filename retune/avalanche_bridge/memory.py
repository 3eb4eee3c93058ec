"""Remembered images between Avalanche's data sets and a strategy's state, as features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch

from retune.avalanche_bridge.benchmark import as_dataset
from retune.methods.memory import PREFIX
from retune.methods.strategy import State

FEATURES: Final = f"{PREFIX}features"
TARGETS: Final = f"{PREFIX}targets"
GROUP: Final = f"{PREFIX}group"

UNKNOWN: Final = -1.0
"""What stands for NaN among remembered targets: a state is finite."""

Remembered = tuple[torch.Tensor, torch.Tensor]
"""Features (n, d) and targets (n, C)."""


def rows_of(dataset: Any) -> Remembered:
    """The rows of an Avalanche data set that is not empty."""
    from avalanche.training.utils import load_all_dataset

    features, targets, *_ = load_all_dataset(dataset)
    return features, targets


def kept(groups: Sequence[Remembered]) -> Iterator[tuple[str, torch.Tensor]]:
    """A memory as entries of a state, each row with the number of its group; nothing where it is empty.

    Args:
        groups: The images remembered of each experience.
    """
    if groups:
        yield FEATURES, torch.cat([features for features, _ in groups])
        yield TARGETS, torch.cat([targets for _, targets in groups]).nan_to_num(UNKNOWN)
        yield GROUP, torch.cat([torch.full((len(x),), g) for g, (x, _) in enumerate(groups)])


def groups_of(state: State) -> list[Remembered]:
    """What :func:`kept` was given."""
    if GROUP not in state:
        return []
    features, targets, group = (state[key].cpu() for key in (FEATURES, TARGETS, GROUP))
    targets = torch.where(targets == UNKNOWN, torch.nan, targets)
    return [(features[group == g], targets[group == g]) for g in range(int(group.max()) + 1)]


def datasets_of(state: State) -> list[Any]:
    """The same as Avalanche data sets."""
    return [as_dataset(*rows) for rows in groups_of(state)]
