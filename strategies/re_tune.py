"""RE-tune: small adaptors on a frozen dual encoder, trained against positive and negative prompts.

Mistretta & Bagdanov, "RE-tune: Incremental Fine Tuning of Biomedical Vision-Language Models for
Multi-label Chest X-ray Classification", arXiv 2410.17827. With image embedding v, the prompts'
embeddings p+ and p- of label c, and adaptors A and B, its logit is

    s_c(v) = cos(A(v), mean B(p+_c)) - cos(A(v), mean B(p-_c)),

without a temperature, and the loss is binary cross-entropy over the labels observed in the
experience. No past image is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from retune.methods.adaptors import AdaptorKind, adaptor, count_parameters
from retune.methods.given import Context, Images, Training
from retune.methods.losses import masked_bce
from retune.methods.per_step import PerStep, Through
from retune.methods.strategy import CODE, Figure, State, Strategy
from retune.methods.training import Optimizer, train
from retune.prompts.embeddings import Combine, PromptEmbeddings, Scoring
from retune.settings import Count, Positive

Placement = Literal["double", "shared", "image", "text"]


class Pair(nn.Module):
    """The adaptors of both modalities: two, one for both, or the identity on one side."""

    def __init__(
        self, kind: AdaptorKind, placement: Placement, dim: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.image = nn.Identity() if placement == "text" else adaptor(kind, dim, generator=generator)
        if placement == "shared":
            self.text = self.image
        else:
            self.text = nn.Identity() if placement == "image" else adaptor(kind, dim, generator=generator)

    def logits(
        self, features: torch.Tensor, prompts: PromptEmbeddings, combine: Combine, scoring: Scoring
    ) -> torch.Tensor:
        """Adapted similarity of (N, d) images to every label's prompts, (N, C)."""
        return prompts.map(self.text).score(self.image(features), combine, scoring)


@dataclass
class ReTune(Strategy):
    """Per-step or shared adaptors over frozen image and prompt embeddings.

    With ``adaptors=per-step`` every experience trains a new pair and freezes the earlier ones; a
    label's score is the mean over the pairs that observed it, and plain zero-shot before any did.
    With ``adaptors=shared`` one pair is fine-tuned through the stream and scores every label.

    Args:
        adaptor: mlp is Linear(d, 2d), ReLU, Linear(2d, d); dense is Linear(d, d).
        placement: double, one adaptor for images and one for texts; shared, one for both; image or text only.
        adaptors: per-step, a new pair each experience; shared, one pair through the stream.
        start: Where a new pair starts: as a copy of the previous one, or fresh.
        scoring: difference of positive and negative similarity, or the positive one alone. Training
            always uses the difference.
        combine: How the adapted prompts of one label are combined: embeddings, scores or max.
        lr: Learning rate.
        epochs: Passes over each experience.
        batch_size: Images a step; the paper's code uses 6144.
        optimizer: adam or sgd.
    """

    name: ClassVar[str] = "re-tune"
    paper: ClassVar[str] = "Mistretta & Bagdanov, arXiv 2410.17827"

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # The authors' development code: one pair through the stream, judged by the positive cosine.
        "paper": {"adaptors": "shared", "scoring": "positive", "batch_size": 6144, "lr": 1e-4, "epochs": 10},
        "per-step": {"adaptors": "per-step"},
    }

    adaptor: AdaptorKind = "mlp"
    placement: Placement = "double"
    adaptors: Through = "per-step"
    start: Literal["previous", "fresh"] = "previous"
    scoring: Scoring = "difference"
    combine: Combine = "embeddings"
    lr: Positive = 1e-4
    epochs: Count = 10
    batch_size: Count = 64
    optimizer: Optimizer = "adam"

    def setup(self, context: Context) -> None:
        """Begin without any adaptor; see :meth:`Strategy.setup`."""
        self.context = context
        self.pairs = PerStep("pair", self.adaptors, lambda: self._pair(None))

    def fit(self, experience: Training) -> None:
        """Train this experience's pair on its images and observed labels."""
        generator, features, observed = (
            experience.generator(),
            experience.images.features,
            experience.observed,
        )
        # Nothing is known of the other labels: their prompts would be adapted for nothing.
        prompts, targets = self.context.prompts.of(observed), experience.targets[:, list(observed)]
        pair = self.pairs.begin(observed, lambda: self._pair(generator), copy=self.start == "previous")

        def loss(batch: torch.Tensor) -> torch.Tensor:
            logits = pair.logits(features[batch], prompts, self.combine, "difference")
            return masked_bce(logits, targets[batch])

        train(
            pair.parameters(), loss, len(experience), epochs=self.epochs, batch_size=self.batch_size,
            lr=self.lr, optimizer=self.optimizer, generator=generator,
        )  # fmt: skip

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C), between -2 and 2."""
        features, prompts, how = images.features, self.context.prompts, (self.combine, self.scoring)
        return self.pairs.score(
            lambda pair, columns: pair.logits(features, prompts, *how)[:, list(columns)],
            otherwise=lambda: prompts.score(features, *how),
            n_labels=len(self.context.labels),
        )

    def state_dict(self) -> State:
        """Every pair's weights, and which labels it observed."""
        return self.pairs.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Rebuild the pairs."""
        self.pairs.load_state_dict(state)

    def trainable_parameters(self) -> int:
        """Over all pairs made so far."""
        return self.pairs.trainable_parameters()

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """Parameters of one pair in every variant."""
        with torch.device("meta"):
            return {
                f"{kind}, {placement}": count_parameters(Pair(kind, placement, dim, None))
                for kind in get_args(AdaptorKind)
                for placement in get_args(Placement)
            }

    @classmethod
    def published_figures(cls) -> Sequence[Figure]:
        """One adaptor, and a pair of them, at the 128 dimensions of BioViL's joint space."""
        counts = cls.parameter_counts(128, 5)
        published = {"dense, shared": 16_512, "mlp, shared": 65_920, "mlp, double": 131_840}
        return [Figure(f"{name}, d = 128", n, counts[name], CODE) for name, n in published.items()]

    def _pair(self, generator: torch.Generator | None) -> Pair:
        return Pair(self.adaptor, self.placement, self.context.dim, generator).to(self.context.device)
