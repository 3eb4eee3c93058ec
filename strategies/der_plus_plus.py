"""DER++: replay that also holds on to what was answered, not only to what was true.

Buzzega, Boschini, Porrello, Abati & Calderara, "Dark Experience for General Continual Learning: a Strong,
Simple Baseline", NeurIPS 2020, arXiv 2004.07211. The memory keeps a sample's features x, its targets y and the
logits z that it was given when it was stored; with two independent draws from it,

    L = BCE(new images) + alpha |s(x') - z'|^2 + beta BCE(s(x''), y'').

The paper fills its memory image by image while it learns, so that it replays within an experience too; it
keeps images; and it trains the whole network, with one of several classes for each image. Here the backbone
is frozen and features are kept; the memory is patient-balanced and filled after each experience, with the
logits of its end; labels are known or not for each sample; the squared error is a mean over logits.

As in the paper the logits of every label take part, those given before the label was first observed included:
they say what its start said, zero-shot by default, and hold the label near it once it is learnt. On phantom's
validation patients it makes no difference to leave them out. A label not observed so far is not trained.
The defaults of alpha and beta are the authors' for CIFAR-10 with 200 samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import mse_loss

from retune.methods.adaptors import normalised
from retune.methods.given import Training
from retune.methods.linear import Logits, RehearsedLinear
from retune.methods.losses import masked_bce
from retune.settings import NonNegative


@dataclass
class DerPlusPlus(RehearsedLinear):
    """Sequential logistic regression with a memory of features, targets and logits.

    Args:
        batch_size: New images a step; each draw from the memory has as many.
        alpha: Weight of the squared error to stored logits.
        beta: Weight of the stored targets.
    """

    name: ClassVar[str] = "der++"
    paper: ClassVar[str] = "Buzzega et al., NeurIPS 2020, arXiv 2004.07211"
    also_kept: ClassVar[tuple[str, ...]] = ("logits",)

    alpha: NonNegative = 0.1
    beta: NonNegative = 0.5

    def fit(self, experience: Training) -> None:
        """Descend on new samples and both draws, then offer the new ones with their logits to the memory."""
        features, generator, memory = experience.images.features, experience.generator(), self.memory
        columns = sorted({*experience.observed, *self.remembered()})
        new, old = normalised(features), normalised(memory["features"])
        wanted, known, given = (
            of[:, columns] for of in (experience.targets, memory["targets"], memory["logits"])
        )

        def loss(batch: torch.Tensor, logits: Logits) -> torch.Tensor:
            total = masked_bce(logits(new[batch]), wanted[batch])
            if len(memory):
                dark, labelled = (memory.draw(len(batch), generator) for _ in range(2))
                total = total + self.alpha * mse_loss(logits(old[dark]), given[dark])
                total = total + self.beta * masked_bce(logits(old[labelled]), known[labelled])
            return total

        self.descend(experience, columns, loss, generator)
        memory.add(
            experience.patients,
            generator,
            targets=experience.targets,
            features=features,
            logits=self.logits(new),
        )
