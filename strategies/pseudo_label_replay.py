"""Pseudo-label replay (RCLP): old and new models tell each other what the labels say nothing about.

Ceccon, Dalle Pezze, Fabris & Susto, "Multi-Label Continual Learning for the Medical Domain: A Novel Benchmark"
(first "Pseudo-Label Replay", then "Replay Consolidation with Label Propagation"), WACV 2025, arXiv 2404.06859.
With s the model, s' the one before this experience, t_c the threshold of label c's best F1 when it was first
learnt, and y(s, x) = [s_c(x) >= t_c] for each label learnt so far:

    forward    a new image has y(s', x) for old labels;
    loss       L = 1/2 BCE(new images, all labels so far) + 1/2 BCE(memory, old labels);
    backward   an image of the memory gets y(s, x) for the new labels, once they are learnt.

New images enter the memory with their forward pseudo-labels. Replayed samples do not count for new labels
while these are learnt: they are known of none of them (the authors' masking).

The authors train a DenseNet-121 on pixels, keep 3 % of the stream's images in equal parts for each task, add
the squared distance of old and new intermediate features, take thresholds on validation images, and treat
every pseudo-label as sure. Here linear classifiers learn on frozen features, so that there are no features to
distil and no interference between labels for pseudo-labels to prevent, unless ``head=trunk`` makes them share. The
memory is patient-balanced, its size does not need the length of the stream, thresholds come from the
experience's own images, only labels that are unknown are made up, and those within ``margin`` logits of the
threshold stay unknown; 0, the default, is the authors' way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from retune.methods.adaptors import normalised
from retune.methods.given import Context, Training
from retune.methods.linear import Logits, RehearsedLinear
from retune.methods.losses import masked_bce
from retune.methods.strategy import State
from retune.metrics import best_f1_threshold
from retune.settings import NonNegative


@dataclass
class PseudoLabelReplay(RehearsedLinear):
    """Sequential logistic regression with a memory of features and forward and backward pseudo-labels.

    Args:
        batch_size: New images a step; as many of the memory are drawn.
        margin: Pseudo-labels of logits nearer to the threshold than this are masked.
    """

    name: ClassVar[str] = "pseudo-label-replay"
    paper: ClassVar[str] = "Ceccon et al., WACV 2025, arXiv 2404.06859"
    statistics: ClassVar[frozenset[str]] = frozenset({"threshold"})

    margin: NonNegative = 0.0

    def setup(self, context: Context) -> None:
        """No label has a threshold yet; see :meth:`Strategy.setup`."""
        super().setup(context)
        self.threshold = torch.zeros(len(context.labels), device=context.device)
        self.learnt = torch.zeros(len(context.labels), dtype=torch.bool, device=context.device)

    def fit(self, experience: Training) -> None:
        """Learn from true and forward pseudo-labels and the memory, then propagate backward and remember."""
        features, generator = experience.images.features, experience.generator()
        new, old = normalised(features), normalised(self.memory["features"])
        # Where hidden labels read as absent, a 0 that nobody looked for is as good as unknown.
        annotated = list(experience.annotated)
        truth = torch.full_like(experience.targets, torch.nan)
        truth[:, annotated] = experience.targets[:, annotated]
        targets = truth.where(~truth.isnan(), self.pseudo(new))
        columns = sorted({*annotated, *self.remembered(), *self.learnt.nonzero().flatten().tolist()})
        wanted, known = targets[:, columns], self.memory["targets"][:, columns]

        def loss(batch: torch.Tensor, logits: Logits) -> torch.Tensor:
            drawn = self.memory.draw(len(batch), generator)
            fresh = masked_bce(logits(new[batch]), wanted[batch])
            return (fresh + masked_bce(logits(old[drawn]), known[drawn])) / 2

        self.descend(experience, columns, loss, generator)
        self._set_thresholds(experience, new)
        made = torch.full_like(self.memory["targets"], torch.nan)
        made[:, annotated] = self.pseudo(old)[:, annotated]
        self.memory.fill(made)
        self.memory.add(experience.patients, generator, targets=targets, features=features)

    def pseudo(self, unit: torch.Tensor) -> torch.Tensor:
        """What the model takes for granted, (N, C): 1 or 0, NaN where it is unsure or the label not learnt.

        Args:
            unit: Normalised features, (N, d).
        """
        above = self.logits(unit) - self.threshold
        sure = self.learnt & (above.abs() >= self.margin)
        return torch.where(sure, (above >= 0).float(), torch.nan)

    def state_dict(self) -> State:
        """Weights, biases, the memory, and the thresholds (C,) of the labels that have one."""
        return {**super().state_dict(), "threshold": self.threshold, "learnt": self.learnt}

    def load_state_dict(self, state: State) -> None:
        """Take them up."""
        super().load_state_dict(state)
        device = self.context.device
        self.threshold, self.learnt = state["threshold"].to(device), state["learnt"].to(device)

    def _set_thresholds(self, experience: Training, unit: torch.Tensor) -> None:
        """Of labels that have none yet, where both classes are there; they stay from then on."""
        logits, targets = self.logits(unit).cpu().numpy(), experience.targets.cpu().numpy()
        for c in experience.annotated:
            threshold = float(best_f1_threshold(targets[:, c], logits[:, c]))
            if not self.learnt[c] and threshold == threshold:
                self.threshold[c], self.learnt[c] = threshold, True
