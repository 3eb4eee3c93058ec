"""A linear classifier for each label, trained on new images and on a few that are kept of past patients."""

from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from retune import Context, Images, Strategy, Training
from retune.methods.memory import SampleMemory
from retune.settings import Count


@dataclass
class KeepsSome(Strategy):
    """What ``retune show`` prints, with a line for each setting that ``--set`` reads.

    Args:
        memory: How many images are kept at most, as vectors.
        epochs: Passes over each experience.
    """

    name = "keeps-some"
    needs = frozenset({"features"})
    keeps_samples = True  # said here, so that every table tells what is kept of past patients

    memory: Count = 200
    epochs: Count = 10

    def setup(self, context: Context) -> None:
        self.context, labels, device = context, len(context.labels), context.device
        self.weight = torch.zeros(labels, context.dim, device=device, requires_grad=True)
        nothing = {"features": self.weight.detach()[:0], "targets": torch.zeros(0, labels, device=device)}
        self.kept = SampleMemory(self.memory, context.seed, **nothing)  # whose rows these are

    def fit(self, experience: Training) -> None:
        features, targets = normalize(experience.images.features), experience.targets
        generator, optimiser = experience.generator(), torch.optim.Adam([self.weight], lr=1e-2)
        for _ in range(self.epochs):
            for batch in torch.randperm(len(experience), generator=generator).split(64):
                old = self.kept.draw(len(batch), generator)
                x = torch.cat([features[batch], self.kept["features"][old]])
                y = torch.cat([targets[batch], self.kept["targets"][old]])
                known = ~y.isnan()  # a label that nobody looked for teaches nothing
                if known.any():
                    loss = binary_cross_entropy_with_logits((x @ self.weight.T)[known], y[known])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
        self.kept.add(experience.patients, generator, features=features, targets=targets)

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        return normalize(images.features) @ self.weight.T

    def state_dict(self) -> dict[str, torch.Tensor]:  # what is kept stands under "memory.", and is metered
        return {"weight": self.weight.detach(), **self.kept.state()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.weight.data.copy_(state["weight"])
        self.kept.load(state)
