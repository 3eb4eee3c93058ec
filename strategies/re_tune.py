"""RE-tune: small adaptors on a frozen dual encoder, trained against positive and negative prompts.

Mistretta & Bagdanov, "RE-tune: Incremental Fine Tuning of Biomedical Vision-Language Models for
Multi-label Chest X-ray Classification", arXiv 2410.17827. With image embedding v, the prompts'
embeddings p+ and p- of label c, and adaptors A and B, its logit is

    s_c(v) = cos(A(v), mean B(p+_c)) - cos(A(v), mean B(p-_c)),

without a temperature, and the loss is binary cross-entropy over the labels observed in the
experience. No past image is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from retune.adaptors import AdaptorKind, adaptor, count_parameters, load_prefixed, prefixed
from retune.losses import masked_bce
from retune.prompts.combine import Combine, PromptEmbeddings, Scoring
from retune.settings import Count, Positive
from retune.strategy import Context, Figure, Images, State, Strategy, Training
from retune.training import Optimizer, train

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
    adaptors: Literal["per-step", "shared"] = "per-step"
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
        self.pairs: list[Pair] = []
        self.observed: list[list[int]] = []

    def fit(self, experience: Training) -> None:
        """Train this experience's pair on its images and observed labels."""
        generator = experience.generator()
        if self.adaptors == "per-step" or not self.pairs:
            self.pairs.append(self._pair(generator))
            self.observed.append([])
            if self.start == "previous" and len(self.pairs) > 1:
                self.pairs[-1].load_state_dict(self.pairs[-2].state_dict())
        pair, features, targets = self.pairs[-1], experience.images.features, experience.targets
        self.observed[-1] = sorted({*self.observed[-1], *experience.observed})

        def loss(batch: torch.Tensor) -> torch.Tensor:
            logits = pair.logits(features[batch], self.context.prompts, self.combine, "difference")
            return masked_bce(logits, targets[batch])

        train(
            pair.parameters(),
            loss,
            len(experience),
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            optimizer=self.optimizer,
            generator=generator,
        )

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C), between -2 and 2."""
        features, prompts = images.features, self.context.prompts
        if self.adaptors == "shared" and self.pairs:
            return self.pairs[0].logits(features, prompts, self.combine, self.scoring)
        scores = prompts.score(features, self.combine, self.scoring)
        total, count = torch.zeros_like(scores), scores.new_zeros(scores.shape[1])
        for pair, observed in zip(self.pairs, self.observed, strict=True):
            total[:, observed] += pair.logits(features, prompts, self.combine, self.scoring)[:, observed]
            count[observed] += 1
        return torch.where(count > 0, total / count.clamp(min=1), scores)

    def state_dict(self) -> State:
        """Every pair's weights, and which labels it observed."""
        weights = (prefixed(str(i), pair) for i, pair in enumerate(self.pairs))
        return {"observed": self.observed, **{k: v for part in weights for k, v in part.items()}}

    def load_state_dict(self, state: State) -> None:
        """Rebuild the pairs."""
        self.observed = [list(columns) for columns in state["observed"]]
        self.pairs = [self._pair(None) for _ in self.observed]
        for i, pair in enumerate(self.pairs):
            load_prefixed(str(i), pair, state)

    def trainable_parameters(self) -> int:
        """Over all pairs made so far."""
        return sum(map(count_parameters, self.pairs))

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """Parameters of one pair in every variant."""
        return {f"{kind}, {placement}": count_parameters(pair) for kind, placement, pair in _variants(dim)}

    @classmethod
    def published_figures(cls) -> Sequence[Figure]:
        """One adaptor, and a pair of them, at the 128 dimensions of BioViL's joint space."""
        counts = cls.parameter_counts(128, 5)
        published = {"dense, shared": 16_512, "mlp, shared": 65_920, "mlp, double": 131_840}
        return [
            Figure(f"{variant}, d = 128", count, counts[variant], "the authors' code")
            for variant, count in published.items()
        ]

    def _pair(self, generator: torch.Generator | None) -> Pair:
        return Pair(self.adaptor, self.placement, self.context.dim, generator).to(self.context.device)


def _variants(dim: int) -> Iterator[tuple[AdaptorKind, Placement, Pair]]:
    kinds: tuple[AdaptorKind, ...] = ("dense", "mlp")
    placements: tuple[Placement, ...] = ("double", "shared", "image", "text")
    with torch.device("meta"):
        for kind, placement in itertools.product(kinds, placements):
            yield kind, placement, Pair(kind, placement, dim, None)
