"""Nearest class mean: a label is present where an image is closer to its positive images than to its negative.

Mensink, Verbeek, Perronnin & Csurka, "Distance-Based Image Classification: Generalizing to New Classes at
Near-Zero Cost", TPAMI 2013, and the usual first baseline on frozen features. With unit features x and the
means m+ and m- of the images known to have and known not to have label c,

    s_c(x) = cos(x, m+_c) - cos(x, m-_c).

The originals choose one class of several, by distance or by cosine; with many labels at once each is a
contest of two means of its own. The cosine is taken and not the squared distance because it is the rule of
zero-shot with means of images in the place of prompts: labels learnt and not yet learnt are on one scale.

The sums behind the means are kept in double precision, so the result is the same however the images are
parted into experiences, and a label seen once is never forgotten. No past image is kept; but a mean of a
single image is that image, so the rarest labels are not as anonymous as the common ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import normalize

from retune.methods.given import Context, Training
from retune.methods.linear import LinearStrategy
from retune.methods.strategy import State


@dataclass
class NearestClassMean(LinearStrategy):
    """Running means of each label's positive and negative features, compared by cosine.

    Args:
        start: What a label scores until both a positive and a negative image have been seen:
            zero-shot by prompts, or zeros without them.
    """

    name: ClassVar[str] = "nearest-class-mean"
    paper: ClassVar[str] = "Mensink et al., TPAMI 2013"
    # The means are what is learnt; the classifier follows from them.
    statistics: ClassVar[frozenset[str]] = frozenset({"linear", "weight", "bias"})
    optimises: ClassVar[bool] = False

    def setup(self, context: Context) -> None:
        """Begin with empty means; see :meth:`Strategy.setup`."""
        super().setup(context)
        shape = (2, len(context.labels), context.dim)
        self.sums = torch.zeros(shape, dtype=torch.float64, device=context.device)
        self.counts = torch.zeros(shape[:2], dtype=torch.int64, device=context.device)

    def fit(self, experience: Training) -> None:
        """Add to the sums, then let the means of what has both classes be the classifier."""
        unit = normalize(experience.images.features.double(), dim=1)
        # Unknown is neither: a NaN equals nothing.
        member = torch.stack([experience.targets == 1, experience.targets == 0])
        self.sums = self.sums + member.double().mT @ unit
        self.counts = self.counts + member.sum(1)
        # A sum points where its mean points.
        positive, negative = normalize(self.sums, dim=2)
        both = (self.counts > 0).all(0)[:, None]
        weight = self.linear.weight
        weight.data = torch.where(both, (positive - negative).float(), weight.data)

    def state_dict(self) -> State:
        """The classifier, the sums (2, C, d) of positive and negative features and their counts (2, C)."""
        return {**super().state_dict(), "sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: State) -> None:
        """Take up the classifier, sums and counts."""
        super().load_state_dict(state)
        device = self.context.device
        self.sums, self.counts = state["sums"].to(device), state["counts"].to(device)

    def trainable_parameters(self) -> int:
        """2 C d: the means."""
        return self.sums.numel()

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """Two means per label."""
        return {"all labels": 2 * n_labels * dim}
