"""Ridge regression in closed form: sequential and joint training are the same thing.

Hoerl & Kennard, "Ridge Regression", Technometrics 1970; for continual learning on frozen features, Zhuang et
al., "ACIL: Analytic Class-Incremental Learning", NeurIPS 2022, arXiv 2205.14922. For each label c, over the
images x on which it is known, with targets y of 1 and -1,

    w_c, b_c = argmin sum (w'x + b - y)^2 + penalty |w|^2.

The solution depends on the images through sums alone. These are kept and no image is, so what has been
learnt after the last experience equals the regression on all images at once, whatever the parts and their
order; a label whose images are all in one experience is never forgotten. Labels are independent of each
other and each has its own masked sums. The intercept is not penalised, hence 0 and 1 as targets, or any
other two numbers, would give the same ranking, and the share of positive images shifts scores only.

The penalty is chosen for each label by generalised cross-validation from the same sums, so the choice too is
that of joint training; no held-out image is needed. The sums of a single image tell that image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from retune.methods.ridge import RidgeStrategy


@dataclass
class Ridge(RidgeStrategy):
    """Least squares on L2-normalised features, exact under any split of the data.

    Args:
        start: What a label scores until both a positive and a negative image have been seen:
            zero-shot by prompts, or zeros without them.
        penalty: Of the squared norm of each label's weights; none chooses it for each label by
            generalised cross-validation on all training images so far.
    """

    name: ClassVar[str] = "ridge"
    paper: ClassVar[str] = "Zhuang et al., NeurIPS 2022, arXiv 2205.14922"

    def lift(self, unit: torch.Tensor) -> torch.Tensor:
        """The features themselves."""
        return unit

    def width(self) -> int:
        """D."""
        return self.context.dim
