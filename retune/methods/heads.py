"""A logistic regression per label on features that somebody else makes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import linear

from retune.methods.adaptors import normalised
from retune.methods.losses import masked_bce
from retune.methods.training import train


class LabelHeads(nn.Module):
    """One weight vector and one bias per label, zero until the label is observed.

    Args:
        dim: Dimension d of the features.
        n_labels: Number of labels C.
    """

    seen: torch.Tensor

    def __init__(self, dim: int, n_labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_labels, dim))
        self.bias = nn.Parameter(torch.zeros(n_labels))
        self.register_buffer("seen", torch.zeros(n_labels, dtype=torch.bool))

    def forward(self, features: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
        """Logits of the labels observed so far, and other scores for the others, (N, C).

        Args:
            features: (N, d), of any length.
            otherwise: Scores (N, C) to give for labels that no head has learnt.
        """
        return torch.where(self.seen, linear(normalised(features), self.weight, self.bias), otherwise)

    def learn(
        self,
        features: torch.Tensor,
        targets: torch.Tensor,
        observed: tuple[int, ...],
        *,
        epochs: int,
        batch_size: int,
        lr: float,
        generator: torch.Generator,
    ) -> None:
        """Train the observed labels' heads and leave the others as they are.

        Args:
            features: (n, d), of any length; no gradient goes to them.
            targets: (n, C); NaN where unknown.
            observed: Columns to train.
            epochs: Passes over the features.
            batch_size: Samples a step.
            lr: Learning rate of Adam.
            generator: Source of the order of samples.
        """
        columns = list(observed)
        unit, wanted = normalised(features.detach()), targets[:, columns]
        weight, bias = (nn.Parameter(p.data[columns]) for p in (self.weight, self.bias))
        train(
            [weight, bias],
            lambda batch: masked_bce(linear(unit[batch], weight, bias), wanted[batch]),
            len(unit),
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            generator=generator,
        )
        self.weight.data[columns], self.bias.data[columns] = weight.data, bias.data
        self.seen[columns] = True
