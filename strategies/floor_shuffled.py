"""A floor, no method: ridge on the backbone's features, with every label dealt to another image of its experience.

Nothing can be learnt from it: over seeds its AUC is .5, and were it not, something would leak. A single run strays, for
a direction drawn at random among the features tells some findings a little: it shows how far chance goes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from retune.methods.adaptors import normalised
from retune.methods.given import Images, Need, Training
from retune.methods.ridge import RidgeRegression


@dataclass
class FloorShuffled(RidgeRegression):
    """Ridge regression on L2-normalised features of labels shuffled among the images of each experience.

    An image is dealt all of another's labels, so that labels come together as often as they do; the order is drawn from
    the run's seed.

    Args:
        penalty: Of the squared norm of each label's weights; none chooses it for each label by
            generalised cross-validation on all training images so far.
    """

    name: ClassVar[str] = "floor-shuffled"
    needs: ClassVar[frozenset[Need]] = frozenset({"features"})
    floor: ClassVar[bool] = True

    def fit(self, experience: Training) -> None:
        """Shuffle, then as ridge."""
        order = torch.randperm(len(experience), generator=experience.generator())
        super().fit(replace(experience, targets=experience.targets[order.to(experience.targets.device)]))

    def seen(self, images: Images) -> torch.Tensor:
        """Features (N, d)."""
        return images.features

    def regressors(self, seen: torch.Tensor) -> torch.Tensor:
        """Normalised, in double precision."""
        return normalised(seen.double())

    def width(self) -> int:
        """D."""
        return self.context.dim

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """One weight vector and one intercept per label."""
        return {"all labels": n_labels * (dim + 1)}
