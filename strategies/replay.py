"""Replay: a linear probe that goes over some past images again, as evenly from all patients as they allow.

Experience replay as in Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", arXiv 1902.10486.
Each step joins a batch of new images with as many drawn from the memory and descends the cross-entropy over
all labels that are known of either, each sample having its own targets:

    L = BCE over the known labels of { B new images, B of the memory }.

The paper fills its memory as images stream by, uniformly over images, and passes over the stream once. Here
the backbone is frozen and features are kept, not images; the memory is filled after each experience, with
the rule of :class:`retune.methods.memory.SampleMemory`; and there are several passes. Linear classifiers share no
weights, so replay can only help them where a label is seen in several experiences: a label whose images are all in one
cannot be forgotten by a linear probe, and rehearsing it on fewer images than it was learnt on may cost a little.
With ``head=trunk`` they do share some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from retune.methods.adaptors import normalised
from retune.methods.given import Training
from retune.methods.linear import Logits, RehearsedLinear
from retune.methods.losses import masked_bce


@dataclass
class Replay(RehearsedLinear):
    """Sequential logistic regression with a patient-balanced memory of features.

    Args:
        batch_size: New images a step; as many of the memory are joined to them.
    """

    name: ClassVar[str] = "replay"
    paper: ClassVar[str] = "Chaudhry et al., arXiv 1902.10486"

    def fit(self, experience: Training) -> None:
        """Descend on new and remembered samples, then offer the new ones to the memory."""
        features, generator = experience.images.features, experience.generator()
        columns = sorted({*experience.observed, *self.remembered()})
        new, old = normalised(features), normalised(self.memory["features"])
        wanted, known = experience.targets[:, columns], self.memory["targets"][:, columns]

        def loss(batch: torch.Tensor, logits: Logits) -> torch.Tensor:
            drawn = self.memory.draw(len(batch), generator)
            joined = torch.cat([new[batch], old[drawn]])
            return masked_bce(logits(joined), torch.cat([wanted[batch], known[drawn]]))

        self.descend(experience, columns, loss, generator)
        self.memory.add(experience.patients, generator, targets=experience.targets, features=features)
