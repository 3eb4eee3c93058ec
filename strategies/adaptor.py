"""Adaptor: one small transformer over frozen image and text features, trained to match their pairs.

Qin, Liu, Cheng, Guo & Arcucci, "Freeze the backbones", arXiv 2401.01179. With frozen features x of an
image and y of its text, bias-free projections P and Q, and one transformer F for both modalities,

    v = unit(F(unit(P x)))    t = unit(F(unit(Q y)))    L = .75 CE(text to image) + .25 CE(image to text)

over the cosines of a batch's pairs, divided by a learnt temperature.

The paper claims to come near fully trained models with over 90 % fewer trainable parameters. Its code gives
each modality one token, so that attention across them has nothing to add; with more it would show an image
its own text. Its classifier takes a batch for one sequence: an image's features depend on its neighbours.

Here a sample is a sequence of its own and of one modality: a pooled vector, or the mean of its tokens and
then these, and the first place is read out. Pairs of one text are no negatives of each other. The paper
trains once, on reports; here every experience trains, on reports where no label is hidden and else on
captions of its observed labels. The temperature is learnt through its logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from retune import published
from retune.cross_modal import CrossModalAdaptor, InputKind, PairedInputs, require_width
from retune.methods.adaptors import count_parameters, load_prefixed, prefixed
from retune.methods.captions import Pairs, captions_of
from retune.methods.given import Context, Images, Need, Training
from retune.methods.heads import LabelHeads
from retune.methods.losses import info_nce
from retune.methods.strategy import Figure, State, Strategy
from retune.methods.training import seeded, train_adamw
from retune.prompts.embeddings import Combine
from retune.settings import Count, NonNegative, Positive, Share, Unit


@dataclass
class Adaptor(Strategy):
    """One transformer adaptor, fine-tuned through the stream, over two towers in one space or not.

    Before any training, scores are plain zero-shot where the backbone has a joint space, else 0.

    Args:
        inputs: One pooled vector for each image and text, or their patches and words.
        scores: prompts, cosine to adapted positive prompts minus that to negative ones; head, a classifier
            of each label observed so far on adapted features, and prompts for the others.
        pairs: auto, reports where no label is hidden; reports, never without; captions, always composed.
        combine: How the adapted prompts of one label are combined: embeddings, scores or max.
        width: Dimension of the shared space, a multiple of 64; the paper's is 768.
        layers: Transformer layers.
        dropout: Share of activations dropped in training.
        text_weight: Weight of the direction text to image.
        lr: Highest learning rate of AdamW, decaying linearly to 0.
        epochs: Passes over each experience.
        batch_size: Pairs a step.
        weight_decay: Of AdamW.
        warmup: Share of the steps in which the rate rises.
        head_lr: Learning rate of the classifiers.
        head_epochs: Their passes over each experience, once the adaptor is trained.
    """

    name: ClassVar[str] = "adaptor"
    paper: ClassVar[str] = "Qin et al., arXiv 2401.01179"
    needs: ClassVar[frozenset[Need]] = frozenset({"features", "texts"})
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"width": 768, "epochs": 50, "batch_size": 1024, "lr": 2e-5}
    }

    inputs: InputKind = "pooled"
    scores: Literal["prompts", "head"] = "prompts"
    pairs: Pairs = "auto"
    combine: Combine = "embeddings"
    width: Count = 256
    layers: Count = 2
    dropout: Share = 0.1
    text_weight: Unit = 0.75
    lr: Positive = 1e-4
    epochs: Count = 10
    batch_size: Count = 64
    weight_decay: NonNegative = 0.01
    warmup: Share = 0.02
    head_lr: Positive = 1e-3
    head_epochs: Count = 30

    def __post_init__(self) -> None:
        require_width(self.width)

    def requires(self) -> frozenset[Need]:
        """Tokens come on top: scores before any training are those of pooled vectors."""
        return self.needs | {"tokens"} if self.inputs == "tokens" else self.needs

    def setup(self, context: Context) -> None:
        """Begin without an adaptor; see :meth:`Strategy.setup`."""
        self.context, self.given = context, PairedInputs(self.inputs, context)
        self.prompts = self.given.bank()
        self.joint = context.towers is not None and "joint" in context.towers.backbone.capabilities
        self.adaptor: CrossModalAdaptor | None = None
        self.heads = LabelHeads(self.width, len(context.labels)).to(context.device)

    def fit(self, experience: Training) -> None:
        """Train the adaptor on this experience's pairs, then the classifiers where they are wanted."""
        adaptor = self.adaptor = self.adaptor or self._new()
        captions = captions_of(experience, self.context, self.pairs)
        texts, words = self.given.texts(captions.texts)
        rows = self.given.images(experience.images)

        def loss(batch: torch.Tensor) -> torch.Tensor:
            caption = captions.index[batch]
            which, own = caption.unique(return_inverse=True)
            adapted = adaptor.texts(texts[which], None if words is None else words[which])[own]
            images = adaptor.images(rows(batch))
            return info_nce(images, adapted, adaptor.scale(), caption=caption, text_weight=self.text_weight)

        with seeded(experience.seed):
            train_adamw(
                adaptor.train().parameters(), loss, len(experience), epochs=self.epochs, lr=self.lr,
                batch_size=self.batch_size, weight_decay=self.weight_decay, warmup=self.warmup,
                generator=experience.generator(),
            )  # fmt: skip
        adaptor.eval()
        if self.scores == "head":
            self.heads.learn(
                self.given.adapted(adaptor, experience.images), experience.targets, experience.observed,
                epochs=self.head_epochs, batch_size=self.batch_size, lr=self.head_lr,
                generator=experience.generator(),
            )  # fmt: skip

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Float32 (N, C): differences of cosines, or logits of the classifiers."""
        if self.adaptor is not None:
            adapted = self.given.adapted(self.adaptor, images)
            prompts = self.given.prompts(self.adaptor, self.prompts)
            return self.heads(adapted, otherwise=prompts.score(adapted, self.combine, "difference"))
        if self.joint:
            return self.context.prompts.score(images.features, self.combine, "difference")
        return torch.zeros(len(images), len(self.context.labels), device=self.context.device)

    def state_dict(self) -> State:
        """The adaptor's weights, and the classifiers'."""
        return {k: v for name, part in self._learnt().items() for k, v in prefixed(name, part).items()}

    def load_state_dict(self, state: State) -> None:
        """Take up what was learnt, if anything was."""
        self.adaptor = self._new() if state else None
        for name, part in self._learnt().items():
            load_prefixed(name, part, state)

    def trainable_parameters(self) -> int:
        """Of the adaptor, and of the classifiers where they are wanted."""
        return sum(map(count_parameters, self._learnt().values()))

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """An adaptor between images and texts of one dimension, and the classifiers on it."""
        with torch.device("meta"):
            sizes = {w: count_parameters(CrossModalAdaptor(dim, dim, w)) for w in (cls.width, 768)}
        return {
            **{f"adaptor, width {w}": size for w, size in sizes.items()},
            **{f"heads, width {w}": n_labels * (w + 1) for w in sizes},
        }

    @classmethod
    def published_figures(cls) -> Sequence[Figure]:
        """With texts of 768 dimensions, and beside the methods that the paper compares with."""
        return published.adaptor()

    def _new(self) -> CrossModalAdaptor:
        return self.given.adaptor(self.width, self.layers, self.dropout)

    def _learnt(self) -> dict[str, torch.nn.Module]:
        if self.adaptor is None:
            return {}
        return {"adaptor": self.adaptor} | ({"heads": self.heads} if self.scores == "head" else {})
