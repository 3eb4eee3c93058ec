"""Zero-shot scores, shifted towards the mean of each label's positive images."""

from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from retune import Context, Images, Strategy, Training
from retune.settings import Unit


@dataclass
class MeanShift(Strategy):
    """What ``retune show`` prints, with a line for each setting that ``--set`` reads.

    Args:
        weight: How much the images count, from 0 (prompts only) to 1.
    """

    name = "mean-shift"
    needs = frozenset({"features", "joint"})  # joint: prompts in the images' space

    weight: Unit = 0.5

    def setup(self, context: Context) -> None:  # before any training: C labels, dimension d, prompts
        self.context = context
        self.sums = torch.zeros(len(context.labels), context.dim, device=context.device)

    def fit(self, experience: Training) -> None:  # one experience; anything random: experience.generator()
        positive = (experience.targets == 1).float()  # (n, C), NaN where not observed or not known
        self.sums = self.sums + positive.T @ normalize(experience.images.features)

    def score(self, images: Images) -> torch.Tensor:  # (N, C), every label at every moment
        features = images.features
        prompts = self.context.prompts.score(features, "embeddings", "difference")
        return (1 - self.weight) * prompts + self.weight * normalize(features) @ normalize(self.sums).T

    def state_dict(self) -> dict[str, torch.Tensor]:  # all that was learnt: tensors and JSON, to resume from
        return {"sums": self.sums}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.sums = state["sums"].to(self.context.device)
