"""RanPAC: a random projection with a ReLU, then ridge regression in closed form.

McDonnell, Gong, Parvaneh, Abbasnejad & van den Hengel, "RanPAC: Random Projections and Pre-trained Models for
Continual Learning", NeurIPS 2023, arXiv 2307.02251. With features x, W of independent standard normal
numbers drawn once and never trained, and G and Q the sums of h h' and h y' over all images so far,

    h(x) = ReLU(W'x)    scores(x) = h(x)' (G + penalty I)^-1 Q.

Interactions of features become linear, and as G and Q are sums, nothing is forgotten. The paper has M = 10,000
random features; raw features; classes instead of labels, so no intercept; one penalty for all classes, chosen
on a fifth of the current experience's images; and, before the first experience, fine-tuning of the backbone.

Here the backbone stays frozen and M = 500 (on phantom's validation patients 1,000 gives the same at four times
the cost); features are normalised and h is divided by the root of d; every label has an intercept that is
not penalised and sums over the images on which it is known, which labels with the same history share; each
label's penalty is chosen by generalised cross-validation from the sums. So the result after the last
experience is that of joint training, which with the paper's choice it is not.

The paper's M is ``--set projections=10000``: 0.8 GB of sums for each group of labels with one history (in
the class-incremental scenario, for each experience; 11 GB where 14 labels have gaps of their own), written
to disk after every experience, and eigenvalues that are work for a GPU. So it is no preset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from retune.methods.given import Context
from retune.methods.ridge import RidgeStrategy
from retune.settings import Count


@dataclass
class RanPac(RidgeStrategy):
    """Ridge regression on random nonlinear features, exact under any split of the data.

    Args:
        start: What a label scores until both a positive and a negative image have been seen:
            zero-shot by prompts, or zeros without them.
        penalty: Of the squared norm of each label's weights; none chooses it for each label by
            generalised cross-validation on all training images so far.
        projections: M, how many random features; the paper's number is 10000.
    """

    name: ClassVar[str] = "ranpac"
    paper: ClassVar[str] = "McDonnell et al., NeurIPS 2023, arXiv 2307.02251"

    projections: Count = 500

    def setup(self, context: Context) -> None:
        """Draw the projection from the run's seed; see :meth:`Strategy.setup`."""
        super().setup(context)
        generator = torch.Generator().manual_seed(context.seed)
        drawn = torch.randn(context.dim, self.projections, generator=generator, dtype=torch.float64)
        self.projection = drawn.to(context.device) / math.sqrt(context.dim)

    def lift(self, unit: torch.Tensor) -> torch.Tensor:
        """ReLU of the projected features, (N, M)."""
        return torch.relu(unit @ self.projection)

    def width(self) -> int:
        """M."""
        return self.projections

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """What is solved for; the projection is drawn, not learnt."""
        return {f"M = {m:,}": n_labels * (m + 1) for m in (cls.projections, 10_000)}
