"""One linear classifier per label on frozen features, fine-tuned through the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from retune.methods.adaptors import normalised
from retune.methods.given import Training
from retune.methods.linear import DescendedLinear
from retune.methods.losses import masked_bce


@dataclass
class LinearProbe(DescendedLinear):
    """Sequential logistic regression on L2-normalised features; nothing protects old labels.

    The labels' weight vectors are independent of each other, so a label that is not observed any
    more keeps its own: forgetting can only come from seeing a label again in other data. ``linear-probe/trunk``
    is fine-tuning as the field means it: what all labels share is learnt anew for those that are observed.
    """

    name: ClassVar[str] = "linear-probe"

    def fit(self, experience: Training) -> None:
        """Descend the masked cross-entropy of this experience, for the observed labels only."""
        features, observed = normalised(experience.images.features), list(experience.observed)
        targets = experience.targets[:, observed]
        self.descend(
            experience,
            observed,
            lambda batch, logits: masked_bce(logits(features[batch]), targets[batch]),
            experience.generator(),
        )
