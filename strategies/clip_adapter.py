"""CLIP-Adapter: a bottleneck on the frozen features, blended with what it was given.

Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters", IJCV 2024, arXiv 2110.04544.
With image embedding v, the prompts' embeddings p+ and p- of label c, and a residual ratio r,

    A(v) = r ReLU(v W_1) W_2 + (1 - r) v        W_1: d to d / 4, W_2: d / 4 to d, no biases
    z_c  = (cos(A(v), mean p+_c) - cos(A(v), mean p-_c)) / temperature.

The paper has a few images of each of several classes that exclude each other: a softmax over one prompt per
class, and W_2 begins at random. It finds r = .2 best on ImageNet, an adaptor of images better than one of
texts, and of both no better. Its code has another ReLU after W_2.
Here findings are independent: each has a two-way softmax, present against absent, which is the sigmoid of
z_c, and its loss is over the known labels. W_2 begins at zero, so that learning starts from zero-shot, and
has no ReLU behind it, which would never let it leave zero. Features have length sqrt(d), whatever the
backbone's are.
The adaptor has no part that belongs to one label: what a new label changes, every label feels.
Scores lie within 2 / temperature, which is far enough for rare labels: on three other sets of phantom's images
those below 10 % of the training images end .002 below zero-shot class-incremental and .001 above it
data-incremental, the others .019 and .037 above; of rare labels thinned out to 2 %, .005 and .017 are lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from retune.methods.adaptors import count_parameters, normalised
from retune.methods.given import Context, Images, Training
from retune.methods.losses import masked_bce
from retune.methods.per_step import PerStep
from retune.methods.strategy import Figure, State, Strategy
from retune.methods.training import seeded, train
from retune.prompts.embeddings import PromptEmbeddings
from retune.settings import Count, Positive, Unit

Placement = Literal["image", "text", "double"]


class Blend(nn.Module):
    """A(v): a bottleneck beside its input."""

    def __init__(self, dim: int, reduction: int, ratio: float) -> None:
        super().__init__()
        width = max(1, dim // reduction)
        self.down, self.up = nn.Linear(dim, width, bias=False), nn.Linear(width, dim, bias=False)
        self.ratio = ratio

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Adapted vectors of (N, d), of any length."""
        given = normalised(vectors)
        bottleneck: torch.Tensor = self.up(self.down(given).relu())
        return self.ratio * bottleneck + (1 - self.ratio) * given


class Blends(nn.Module):
    """One for images, one for texts, or the identity on one side."""

    def __init__(self, placement: Placement, dim: int, reduction: int, ratio: float) -> None:
        super().__init__()
        self.image = nn.Identity() if placement == "text" else Blend(dim, reduction, ratio)
        self.text = nn.Identity() if placement == "image" else Blend(dim, reduction, ratio)

    def score(self, features: torch.Tensor, prompts: PromptEmbeddings) -> torch.Tensor:
        """Differences of cosines, (N, C)."""
        return prompts.map(self.text).score(self.image(features), "embeddings", "difference")


@dataclass
class ClipAdapter(Strategy):
    """One residual bottleneck, fine-tuned through the stream; zero-shot before any training.

    The default temperature, learning rate and epochs were chosen on phantom's validation patients.

    Args:
        placement: An adaptor of images, of texts, or of both.
        ratio: r, the share of the bottleneck's output.
        reduction: How many times narrower the bottleneck is.
        start: The bottleneck's second layer: zero-shot begins at zero, random is the paper's.
        temperature: What differences of cosines are divided by; CLIP starts at .07 and ends at .01.
        lr: Learning rate of Adam.
        epochs: Passes over each experience.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "clip-adapter"
    paper: ClassVar[str] = "Gao et al., IJCV 2024, arXiv 2110.04544"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"start": "random", "temperature": 0.01, "lr": 1e-5, "epochs": 200, "batch_size": 32}
    }

    placement: Placement = "image"
    ratio: Unit = 0.2
    reduction: Count = 4
    start: Literal["zero-shot", "random"] = "zero-shot"
    temperature: Positive = 0.07
    lr: Positive = 1e-3
    epochs: Count = 10
    batch_size: Count = 64

    def setup(self, context: Context) -> None:
        """Begin without an adaptor; see :meth:`Strategy.setup`."""
        self.context = context
        self.learnt = PerStep("adaptor", "shared", self._new)

    def fit(self, experience: Training) -> None:
        """Train the adaptor on the observed labels of this experience's images."""
        generator, features, observed = (
            experience.generator(),
            experience.images.features,
            experience.observed,
        )
        # Nothing is known of the other labels: their prompts would be adapted for nothing.
        prompts, targets = self.context.prompts.of(observed), experience.targets[:, list(observed)]
        with seeded(int(torch.randint(2**62, (), generator=generator))):
            adaptors = self.learnt.begin(observed, self._new)

        def loss(batch: torch.Tensor) -> torch.Tensor:
            scores = adaptors.score(features[batch], prompts)
            return masked_bce(scores / self.temperature, targets[batch])

        train(
            adaptors.parameters(), loss, len(experience), epochs=self.epochs, lr=self.lr,
            batch_size=self.batch_size, generator=generator,
        )  # fmt: skip

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C)."""
        features, prompts = images.features, self.context.prompts
        scores = self.learnt.score(
            lambda adaptors, columns: adaptors.score(features, prompts)[:, list(columns)],
            otherwise=lambda: prompts.score(features, "embeddings", "difference"),
            n_labels=len(self.context.labels),
        )
        return scores / self.temperature

    def state_dict(self) -> State:
        """The adaptor's weights."""
        return self.learnt.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Take up the adaptor's weights."""
        self.learnt.load_state_dict(state)

    def trainable_parameters(self) -> int:
        """Of the adaptor, once there is one."""
        return self.learnt.trainable_parameters()

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """Of each placement, however many labels there are."""
        placements: tuple[Placement, ...] = ("image", "text", "double")
        with torch.device("meta"):
            return {p: count_parameters(Blends(p, dim, cls.reduction, cls.ratio)) for p in placements}

    @classmethod
    def published_figures(cls) -> Sequence[Figure]:
        """At the 1,024 dimensions of CLIP's ResNet-50."""
        ours = cls.parameter_counts(1024, 1)["image"]
        return [Figure("adaptor, d = 1024", 524_288, ours, "the authors' code")]

    def _new(self) -> Blends:
        adaptors = Blends(self.placement, self.context.dim, self.reduction, self.ratio)
        if self.start == "zero-shot":
            for blend in (adaptors.image, adaptors.text):
                if isinstance(blend, Blend):
                    nn.init.zeros_(blend.up.weight)
        return adaptors.to(self.context.device)
