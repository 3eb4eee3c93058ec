"""Class-incremental without clean borders: some labels are told of a few images before and after their own turn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from retune.data.dataset import BoolArray, Dataset, FloatArray
from retune.settings import Count, Unit
from retune.streams.arrival import LabelArrival
from retune.streams.cuts import LabelOrder, group_labels, order_labels, split_patients
from retune.streams.stream import Altered, Experience, Stream


@dataclass(frozen=True)
class Blurry(LabelArrival):
    """The parts and label groups of class-incremental, with labels told beyond their own experience.

    As in i-Blurry, a share of the labels is disjoint: told in one experience only. Of every other label a share ``blur``
    of what is told lies elsewhere, spread evenly over the other experiences, and as much less in its own. It is told
    image by image, present and absent in proportion: where an image does not tell an observed label, the target is NaN.

    The paper has one label an image and moves images between experiences; here patients stay where they are and
    what is told of them moves. Its single pass over the data is no part of this. Reports are withheld.

    Args:
        steps: Number of experiences T.
        order: Order in which labels enter: dataset, frequency or random.
        disjoint: Share of the labels, drawn by the seed, that are told in one experience only, from 0 to 1.
        blur: Share of what is told of every other label that is told outside of its own experience, from 0 to 1.
    """

    name: ClassVar[str] = "blurry"
    paper: ClassVar[str] = (
        "Koh et al., Online Continual Learning on Class Incremental Blurry Task Configuration with Anytime Inference, "
        "ICLR 2022, arXiv:2110.10031"
    )
    alters_labels: ClassVar[Altered] = "withheld"

    steps: Count = 5
    order: LabelOrder = "dataset"
    disjoint: Unit = 0.5
    blur: Unit = 0.1

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """Cut the data set; see :meth:`retune.streams.stream.Scenario.stream`."""
        rng = np.random.default_rng(seed)
        groups = self.in_order(group_labels(order_labels(dataset, self.order, rng), self.steps))
        parts = split_patients(dataset, self.steps, rng)
        n = len(dataset.labels)
        # Half a label is rounded up.
        disjoint = rng.permutation(n)[: math.floor(self.disjoint * n + 0.5)]
        experiences = []
        for step, (rows, group) in enumerate(zip(parts, groups, strict=True), start=1):
            own, blurred = np.isin(np.arange(n), group), ~np.isin(np.arange(n), disjoint)
            blur = self.blur if self.steps > 1 else 0.0
            shares = np.where(blurred & own, 1 - blur, np.where(blurred, blur / max(1, self.steps - 1), own))
            targets = dataset.targets[rows]
            targets[~told(targets, shares, rng)] = np.nan
            # Of its own group an experience observes everything, though nothing may be known of it.
            seen = np.flatnonzero(~np.isnan(targets).all(axis=0) | (own & (shares > 0)))
            experiences.append(Experience(step, tuple(seen.tolist()), rows, targets))
        return Stream(dataset, tuple(experiences), dataset.rows("test"), self.hidden, self.alters_labels)


def told(targets: FloatArray, shares: FloatArray, rng: np.random.Generator) -> BoolArray:
    """Which known targets (n, C) are told: of each label this share (C,) of the present and of the absent, rounded up."""
    chosen = np.zeros(targets.shape, dtype=bool)
    lots = rng.random(targets.shape)
    for value in (0, 1):
        there = targets == value
        place = np.where(there, lots, 2).argsort(axis=0).argsort(axis=0)
        chosen |= there & (place < np.ceil(shares * there.sum(axis=0) - 1e-9))
    return chosen
