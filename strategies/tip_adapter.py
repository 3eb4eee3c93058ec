"""Tip-Adapter: a cache of training features that a test image is compared with; F fine-tunes its keys.

Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022, arXiv
2207.09519. With image vector v of length 1, cached vectors k_j of length 1 (the keys) and their labels y_j
(the values),

    a_j(v) = exp(-beta (1 - <v, k_j>))
    present, absent = means of a_j(v) over the j with y_jc = 1, over the j with y_jc = 0
    z_c(v) = zero-shot_c(v) / temperature + alpha shots (present - absent) / (present + absent).

The paper has a few shots of each of several classes that exclude each other; its values are one-hot, so that
a class gets the sum of its own shots' affinities. alpha and beta are searched on validation data, beta = 5.5
on ImageNet. Tip-Adapter-F trains the keys, as a layer's weights, for 20 epochs on the cached images,
augmented.
Here an image may have many findings and its labels may be unknown: a label looks at the cached images for
which it is known, and weighs both polarities against each other. Means, because they are of unlike numbers; a
share of their sum, because affinities are tiny wherever a backbone spreads its vectors out, and alpha would
depend on it. A label that lacks a polarity stays zero-shot. Every experience adds shots of each polarity of
each label it observes, drawn at random, one image of each patient first; an image drawn for one label tells
of all the labels known there. beta is the paper's, alpha was chosen on phantom's validation patients. F
trains the keys that an experience added, on all of its images without augmentation, and leaves earlier ones
alone; trained keys may have any length, as in the authors' code.
Votes lie within alpha shots, beside zero-shot scores that do not change: on three other sets of phantom's images
labels below 10 % of the training images end .012 below zero-shot class-incremental and .012 above it
data-incremental, the others .019 and .027 above, and thinned out to 2 % rare ones lose no more (-.009, +.005).
The cache is the model: vectors of past patients are kept for as long as it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn.functional import normalize

from retune.methods.given import Context, Images, Training
from retune.methods.losses import masked_bce
from retune.methods.strategy import Figure, State, Strategy
from retune.methods.training import train_adamw
from retune.settings import Count, NonNegative, Positive

CHUNK = 2048
"""Images compared with the whole cache at a time."""


@dataclass
class TipAdapter(Strategy):
    """A cache that grows with the stream beside zero-shot scores.

    Args:
        variant: training-free, or f: the keys added in an experience are trained in it.
        shots: Images cached for each polarity of each label that an experience observes, where it has them.
        alpha: Weight of the cache, for each shot.
        beta: How quickly an affinity falls with the distance.
        temperature: What zero-shot differences of cosines are divided by; CLIP's is .01.
        lr: Highest learning rate of F's AdamW, decaying linearly to 0.
        epochs: Passes of F over each experience.
        batch_size: Images a step of F.
        weight_decay: Of F's AdamW.
    """

    name: ClassVar[str] = "tip-adapter"
    paper: ClassVar[str] = "Zhang et al., ECCV 2022, arXiv 2207.09519"
    keeps_samples: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"f": {"variant": "f"}}

    variant: Literal["training-free", "f"] = "training-free"
    shots: Count = 16
    alpha: NonNegative = 2.0
    beta: Positive = 5.5
    temperature: Positive = 0.01
    lr: Positive = 1e-3
    epochs: Count = 20
    batch_size: Count = 256
    weight_decay: NonNegative = 0.01

    def setup(self, context: Context) -> None:
        """Begin with an empty cache; see :meth:`Strategy.setup`."""
        self.context = context
        self.keys = torch.zeros(0, context.dim, device=context.device)
        self.values = torch.zeros(0, len(context.labels), dtype=torch.int8, device=context.device)

    def fit(self, experience: Training) -> None:
        """Cache some images of this experience, and train their keys if asked to."""
        generator = experience.generator()
        drawn = self._draw(experience, generator).to(self.context.device)
        features, targets = normalize(experience.images.features, dim=1), experience.targets
        earlier, new = self.keys, nn.Parameter(features[drawn])
        signs = (targets[drawn] == 1).to(torch.int8) - (targets[drawn] == 0).to(torch.int8)
        self.values = torch.cat([self.values, signs])
        if self.variant == "f":
            zero_shot = self._zero_shot(features)

            def loss(batch: torch.Tensor) -> torch.Tensor:
                votes = self._votes(features[batch], torch.cat([earlier, new]))
                return masked_bce(zero_shot[batch] + votes, targets[batch])

            n = len(experience) if len(drawn) else 0
            train_adamw(
                [new], loss, n, epochs=self.epochs, batch_size=self.batch_size, lr=self.lr,
                weight_decay=self.weight_decay, warmup=0.0, generator=generator,
            )  # fmt: skip
        self.keys = torch.cat([earlier, new.data])

    def _draw(self, experience: Training, generator: torch.Generator) -> torch.Tensor:
        """Which images to cache, ascending."""
        order = torch.randperm(len(experience), generator=generator)
        # Every patient's first image in this order stands before anybody's second.
        patients = experience.patients[order]
        grouped = patients.argsort(stable=True)
        _, sizes = patients.unique(return_counts=True)
        turn = torch.empty_like(order)
        turn[grouped] = torch.arange(len(order)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        order = order[turn.argsort(stable=True)]
        known = experience.targets.cpu()[order]
        wanted = torch.zeros(len(order), dtype=torch.bool)
        for polarity in (known == 1, known == 0):
            wanted |= (polarity & (polarity.cumsum(0) <= self.shots)).any(dim=1)
        return order[wanted].sort().values

    def _zero_shot(self, unit: torch.Tensor) -> torch.Tensor:
        return self.context.prompts.score(unit, "embeddings", "difference") / self.temperature

    def _votes(self, unit: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """What the cache adds to the logits of unit vectors, (N, C)."""
        affinity = (self.beta * (unit @ keys.T - 1)).exp()
        sides = self.values > 0, self.values < 0
        present, absent = (affinity @ (side / side.sum(dim=0).clamp(min=1)) for side in sides)
        share = (present - absent) / (present + absent).clamp(min=torch.finfo(affinity.dtype).tiny)
        return self.alpha * self.shots * torch.where(self._both(), share, 0.0)

    def _both(self) -> torch.Tensor:
        """Of which labels present and absent images are cached, (C,)."""
        return (self.values > 0).any(dim=0) & (self.values < 0).any(dim=0)

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C)."""
        unit = normalize(images.features, dim=1)
        return self._zero_shot(unit) + torch.cat([self._votes(u, self.keys) for u in unit.split(CHUNK)])

    def state_dict(self) -> State:
        """Of past images: keys (K, d); values (K, C), 1 present, -1 absent, 0 unknown."""
        return {"memory.features": self.keys, "memory.targets": self.values}

    def load_state_dict(self, state: State) -> None:
        """Take up the cache."""
        device = self.context.device
        self.keys, self.values = (state[f"memory.{of}"].to(device) for of in ("features", "targets"))

    def trainable_parameters(self) -> int:
        """The keys: set to features, and trained by F alone."""
        return self.keys.numel()

    def diagnostics(self) -> Mapping[str, Any]:
        """How much is cached, and of how many labels both polarities are."""
        return {"cached": len(self.keys), "labels with both polarities": int(self._both().sum())}

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """At most, where no image serves two labels and every label is observed once."""
        return {"keys, largest cache": 2 * cls.shots * n_labels * dim}

    @classmethod
    def published_figures(cls) -> Sequence[Figure]:
        """Keys of the 16 shots of ImageNet's 1,000 classes at the 1,024 dimensions of CLIP's ResNet-50."""
        shots = cls.parameter_counts(1024, 1000)["keys, largest cache"] // 2
        return [Figure("keys, one polarity, 1,000 classes", 16_384_000, shots, "the authors' code")]
