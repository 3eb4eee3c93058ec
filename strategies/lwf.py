"""Learning without forgetting: what old labels were told before an experience is what they should be told after it.

Li & Hoiem, "Learning without Forgetting", ECCV 2016, arXiv 1606.09282, with each label a question of its own, as
multi-label continual learning has it (Ceccon et al., arXiv 2404.06859). With s the model and s' the one before this
experience, over the labels that s' had learnt, on the new images,

    L = BCE(s, targets) + alpha T^2 BCE(s / T, sigmoid(s' / T)).

No past image is kept. Li & Hoiem distil a softmax over the classes of a past task, which exclude each other; findings
do not (``avalanche:LwF`` distils so). They train the whole network, with a phase of warming up for new heads; here
the backbone is frozen, and new heads begin as zero-shot. A label counts as learnt once it was shown both present and
absent. With a linear head nothing moves the old labels unless they are observed again: ``lwf/trunk`` is the method in
a stream whose labels come once. To hold on to answers on remembered images, too, see ``der++``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from retune.methods.adaptors import normalised
from retune.methods.given import Context, Training
from retune.methods.linear import DescendedLinear, Logits
from retune.methods.losses import masked_bce
from retune.methods.strategy import State
from retune.settings import NonNegative, Positive


@dataclass
class LwF(DescendedLinear):
    """Sequential logistic regression that distils its own earlier answers on the new images.

    Args:
        alpha: Weight of the distillation.
        temperature: T, at which old and new answers are compared.
    """

    name: ClassVar[str] = "lwf"
    paper: ClassVar[str] = "Li & Hoiem, ECCV 2016, arXiv 1606.09282"
    statistics: ClassVar[frozenset[str]] = frozenset({"shown"})

    alpha: NonNegative = 1.0
    temperature: Positive = 2.0

    def setup(self, context: Context) -> None:
        """No label has been shown; see :meth:`Strategy.setup`."""
        super().setup(context)
        self.shown = torch.zeros(2, len(context.labels), dtype=torch.bool, device=context.device)

    def fit(self, experience: Training) -> None:
        """Descend on targets and on what the model said before, then note what was shown."""
        learnt = self.shown.all(0)
        columns = sorted({*experience.observed, *learnt.nonzero().flatten().tolist()})
        new, wanted = normalised(experience.images.features), experience.targets[:, columns]
        before = torch.sigmoid(self.logits(new) / self.temperature)
        told = torch.where(learnt, before, torch.nan)[:, columns]

        def loss(batch: torch.Tensor, logits: Logits) -> torch.Tensor:
            given = logits(new[batch])
            distilled = masked_bce(given / self.temperature, told[batch])
            return masked_bce(given, wanted[batch]) + self.alpha * self.temperature**2 * distilled

        self.descend(experience, columns, loss, experience.generator())
        self.shown = self.shown | torch.stack([(experience.targets == value).any(0) for value in (0, 1)])

    def state_dict(self) -> State:
        """Weights, biases, and which labels were shown absent and present, (2, C)."""
        return {**super().state_dict(), "shown": self.shown}

    def load_state_dict(self, state: State) -> None:
        """Take them up."""
        super().load_state_dict(state)
        self.shown = state["shown"].to(self.context.device)
