"""M-FLAG: a frozen language model teaches an image tower whose latent space is kept from collapsing.

Liu, Cheng, Chen, Qiao, Zhang, Shah, Bai & Arcucci, "M-FLAG: Medical Vision-Language Pre-training with
Frozen Language Models and Latent Space Geometry Optimization", MICCAI 2023, arXiv 2307.08347. An image
tower f gives the latent z = f(x); the frozen language model gives a text's vector e; two projectors g and h,
each Linear, BatchNorm, ReLU, Linear, BatchNorm without affine part, give v = g(z) and t = h(e). No negatives:

    L = L_align + w L_orth,    L_align = mean_i [ (2 - 2 cos(v_i, t_i)) + (2 - 2 cos(t_i, v_i)) ],
    C = Z'Z / B,               L_orth = 1/2 [ sum_i (C_ii - 1)^2 + 0.0051 sum_{i != j} C_ij^2 ],    w = 1.

The paper claims: 78 % fewer parameters than GLoRIA, better linear classification, segmentation and
detection, and that L_orth on the raw Z is what keeps an unfrozen tower with a frozen text side stable.
Its code: ResNet-50 from ImageNet, CXR-BERT's first token, AdamW with warm restarts, MIMIC-CXR reports; it
adds the two directions of L_align and stops no gradient, so both are the same number.
We: one model goes through the stream and nothing protects old labels. After aligning, a linear head is
trained on the latent, the paper's own evaluation. Where they differ: a linearly decaying learning rate; texts are
reports where no label is hidden, else captions of the prompt bank; on cached features one linear layer,
begun as the identity, stands for the tower; on pixels the backbone's tower is trained, whose own batch
statistics and dropout stay off, so that no score depends on batch mates; classification only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from retune.methods.adaptors import count_parameters, linear, load_prefixed, normalised, prefixed
from retune.methods.captions import Pairs, captions_of
from retune.methods.given import Context, Images, Need, Training
from retune.methods.linear import LabelHeads
from retune.methods.strategy import CODE, Figure, State, Strategy
from retune.methods.towers import tower_maps
from retune.methods.training import seeded, train_adamw
from retune.prompts.embeddings import Combine
from retune.settings import Count, NonNegative, Positive

CHUNK = 256
PAPER = {"tower": "pixels", "hidden": 2048, "joint": 1024, "lr": 2e-5, "epochs": 50, "batch_size": 1024}
TRAINED = {"features": "a linear layer on cached features, in the tower's place", "pixels": "the image tower"}


@dataclass
class MFlag(Strategy):
    """A trained image tower aligned with frozen texts, its latent dimensions kept apart, and a linear head.

    Before any training it scores zero-shot, or 0 where the backbone has no joint space. A label that no
    experience has observed yet is scored by prompts even with ``scores=head``.

    Args:
        tower: features, a linear layer on cached features stands for the tower; pixels, the tower is trained.
        scores: head, a linear classifier on the latent, as the paper evaluates; prompts, cosine to the
            projected positive prompts minus that to the negative ones.
        orthogonality: Weight of the orthogonality loss; 0 turns it off.
        pairs: Where an image's text comes from: auto, reports or captions.
        combine: How the prompts of one label are combined: embeddings, scores or max.
        hidden: Width inside the projectors; the paper's is 2048.
        joint: Dimension of the projected space; the paper's is 1024.
        lr: Highest learning rate of AdamW on tower and projectors, decaying linearly to 0.
        epochs: Passes over each experience.
        batch_size: Pairs a step; a batch of one takes the running statistics of the BatchNorms.
        weight_decay: Of AdamW.
        head_lr: Learning rate of the head, with Adam.
        head_epochs: Passes of the head over each experience.
    """

    name: ClassVar[str] = "m-flag"
    paper: ClassVar[str] = "Liu et al., MICCAI 2023, arXiv 2307.08347"
    needs: ClassVar[frozenset[Need]] = frozenset({"features", "texts"})
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": PAPER}

    tower: Literal["features", "pixels"] = "features"
    scores: Literal["head", "prompts"] = "head"
    orthogonality: NonNegative = 1.0
    pairs: Pairs = "auto"
    combine: Combine = "embeddings"
    hidden: Count = 256
    joint: Count = 128
    lr: Positive = 1e-3
    epochs: Count = 10
    batch_size: Count = 64
    weight_decay: NonNegative = 0.05
    head_lr: Positive = 1e-3
    head_epochs: Count = 30

    def requires(self) -> frozenset[Need]:
        """Cached features, or pictures and a tower to train on them."""
        return self.needs if self.tower == "features" else frozenset({"pixels", "trainable-tower", "texts"})

    def setup(self, context: Context) -> None:
        """Make tower, projectors and head; see :meth:`Strategy.setup`."""
        self.context = context
        self.measured: dict[str, Any] = {}
        dim, text_dim, towers = context.dim, context.prompts.positive.shape[1], context.towers
        if self.tower == "pixels":
            assert towers is not None
            tower: nn.Module = towers.image_tower()
        else:
            tower = linear(dim, dim)
            nn.init.eye_(tower.weight)
            nn.init.zeros_(tower.bias)
        with seeded(context.seed):
            image, text = (projector(inputs, self.hidden, self.joint) for inputs in (dim, text_dim))
        parts = {"tower": tower, "image": image, "text": text}
        if self.scores == "head":
            parts["head"] = LabelHeads(dim, len(context.labels))
        self.parts = nn.ModuleDict(parts).to(context.device).eval()

    def fit(self, experience: Training) -> None:
        """Align images with their texts; then measure the latent and train the head on it."""
        if not len(experience):
            return
        generator = experience.generator()
        self._align(experience, generator)
        # The head gains no time from half precision, and loses small differences to it.
        with torch.autocast(torch.device(self.context.device).type, enabled=False):
            latent = self._latent(experience.images)
            self.measured = geometry(latent)
            if self.scores == "head":
                learn = {"epochs": self.head_epochs, "batch_size": self.batch_size, "lr": self.head_lr}
                head, targets = self.parts["head"], experience.targets
                head.learn(latent, targets, experience.observed, generator=generator, **learn)

    def _align(self, experience: Training, generator: torch.Generator) -> None:
        assert self.context.towers is not None
        inputs = self._inputs(experience.images)
        tower, image, text = aligned = [self.parts[part] for part in ("tower", "image", "text")]
        captions = captions_of(experience, self.context, self.pairs)
        texts = normalised(self.context.towers.texts(captions.texts))

        def loss(batch: torch.Tensor) -> torch.Tensor:
            for side in (image, text):
                side.train(len(batch) > 1)
            latent = tower(inputs[batch])
            pulled = alignment(image(latent), text(texts[captions.index[batch]]))
            return pulled + self.orthogonality * orthogonality(latent)

        train_adamw(
            [parameter for part in aligned for parameter in part.parameters()], loss, len(experience),
            epochs=self.epochs, batch_size=self.batch_size, lr=self.lr, weight_decay=self.weight_decay,
            warmup=0.0, generator=generator,
        )  # fmt: skip
        self.parts.eval()

    def _inputs(self, images: Images) -> Any:
        """What the tower takes, to be indexed: features of coordinates about 1, or pictures."""
        return normalised(images.features) if self.tower == "features" else images.pixels

    @torch.no_grad()
    def _latent(self, images: Images) -> torch.Tensor:
        """Z, (N, D)."""
        inputs, everything = self._inputs(images), torch.arange(len(images), device=self.context.device)
        return torch.cat([self.parts["tower"](inputs[chunk]) for chunk in everything.split(CHUNK)])

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Logits of the head, or differences of cosines, float32 (N, C)."""
        prompts, parts, latent = self.context.prompts, self.parts, self._latent(images)
        if not self.measured:
            assert self.context.towers is not None
            if "joint" in self.context.towers.backbone.capabilities:
                return prompts.score(latent, self.combine, "difference")
            return latent.new_zeros(len(latent), len(self.context.labels))
        projected = prompts.map(lambda texts: parts["text"](normalised(texts)))
        scores = projected.score(parts["image"](latent), self.combine, "difference")
        return parts["head"].scores(latent, scores) if self.scores == "head" else scores

    @torch.no_grad()
    def dense(self, images: Images) -> torch.Tensor | None:
        """The trained tower's patches; None where features were aligned, which have no places."""
        if self.tower != "pixels" or not self.measured:
            return None
        return tower_maps(self.parts["tower"], images.pixels[torch.arange(len(images))])

    def diagnostics(self) -> Mapping[str, Any]:
        """Which tower was trained, and the geometry of the last experience's training images in its latent space.

        Compare runs with ``orthogonality=1`` and ``orthogonality=0``.
        """
        return {"trained_tower": TRAINED[self.tower], **self.measured}

    def state_dict(self) -> State:
        """Tower, projectors, their batch statistics and head; nothing before any training."""
        if not self.measured:
            return {}
        return {"measured": self.measured, **prefixed("parts", self.parts)}

    def load_state_dict(self, state: State) -> None:
        """Take up what was learnt."""
        if state:
            self.measured = dict(state["measured"])
            load_prefixed("parts", self.parts, state)

    def trainable_parameters(self) -> int:
        """Of tower, projectors and head."""
        return count_parameters(self.parts) if self.measured else 0

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """By default, with texts of the images' dimension."""
        with torch.device("meta"):
            projectors = 2 * count_parameters(projector(dim, cls.hidden, cls.joint))
        prompts = dim * (dim + 1) + projectors
        return {"features, head": prompts + n_labels * (dim + 1), "features, prompts": prompts}

    @classmethod
    def published_figures(cls) -> Sequence[Figure]:
        """ResNet-50, both projectors, and the image side against GLoRIA."""
        from torchvision.models import resnet50

        with torch.device("meta"):
            resnet = resnet50()
            resnet.fc = nn.Identity()
            parts = resnet, projector(2048, 2048, 1024), projector(768, 2048, 1024)
            tower, image, text = map(count_parameters, parts)
        gloria = 134_178_368
        less = 100 * (1 - (tower + image) / gloria)
        return [
            Figure("image tower, ResNet-50 without classifier", 23_508_032, tower, CODE),
            Figure("image projector", 6_298_624, image, CODE),
            Figure("text projector", 3_677_184, text, CODE),
            Figure(f"image tower and projector below GLoRIA's {gloria:,}", 77.8, less, "abstract: 78 %", "%"),
        ]


def effective_rank(latent: torch.Tensor) -> float:
    """How many directions a matrix uses (Roy & Vetterli, "The effective rank", EUSIPCO 2007).

    exp(-sum_k p_k log p_k) with p_k = s_k / sum_j s_j of the singular values s. It is 1 for a matrix of
    rank one and r where r singular values are equal and the rest 0. The rows are not centred: a mean
    far from the origin is a direction too.

    Args:
        latent: Z, one row per image, (N, D).

    Returns:
        Between 1 and min(N, D); 0 where nothing but zeros is there.
    """
    values = torch.linalg.svdvals(latent.detach().double())
    total = values.sum()
    if not total > 0:
        return 0.0
    shares = values / total
    return float(torch.special.entr(shares).sum().exp())


def off_diagonal_correlation(latent: torch.Tensor) -> float:
    """Mean absolute Pearson correlation between two different dimensions of a latent space.

    Args:
        latent: Z, one row per image, (N, D). Dimensions that are the same for every image have no
            correlation and are left out.

    Returns:
        Between 0 and 1; NaN where fewer than two dimensions vary.
    """
    values = latent.detach().double()
    varying = (values != values[:1]).any(0)
    n = int(varying.sum())
    if n < 2:
        return float("nan")
    centred = values[:, varying] - values[:, varying].mean(0)
    unit = centred / torch.linalg.vector_norm(centred, dim=0)
    correlation = (unit.T @ unit).abs()
    return float((correlation.sum() - correlation.trace()) / (n * (n - 1)))


def geometry(latent: torch.Tensor) -> dict[str, Any]:
    """Both, and of how much, as JSON values; a correlation that is not defined is None.

    Args:
        latent: Z, one row per image, (N, D).
    """
    correlation = off_diagonal_correlation(latent)
    return {
        "measured_images": len(latent),
        "latent_dimensions": latent.shape[1],
        "effective_rank": effective_rank(latent),
        "off_diagonal_correlation": None if math.isnan(correlation) else correlation,
    }


def projector(inputs: int, hidden: int, joint: int) -> nn.Sequential:
    """M-FLAG's: Linear, BatchNorm, ReLU, Linear, BatchNorm without affine part (Liu et al., arXiv 2307.08347).

    Args:
        inputs: Dimension of what is projected.
        hidden: Of what is inside.
        joint: Of what comes out.
    """
    first, norm = nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden)
    return nn.Sequential(
        first, norm, nn.ReLU(), nn.Linear(hidden, joint), nn.BatchNorm1d(joint, affine=False)
    )


def alignment(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Pull every image towards its own text, without negatives (Liu et al., M-FLAG, arXiv 2307.08347).

    With u and w the vectors scaled to length 1, |u - w|^2 = 2 - 2 cos(v, t). The authors' code adds the
    direction image to text and the direction text to image and stops no gradient in either; so they
    are the same number, and the loss is the mean over the batch of 4 - 4 cos(v_i, t_i).

    Args:
        images: Image vectors, not normalised, (B, d).
        texts: Their texts' vectors, not normalised, (B, d).

    Returns:
        Scalar in [0, 8].
    """
    return (4 - 4 * functional.cosine_similarity(images, texts, dim=1)).mean()


def orthogonality(latent: torch.Tensor, off_diagonal: float = 0.0051) -> torch.Tensor:
    """Keep the dimensions of a latent space apart and of one size (Liu et al., M-FLAG, arXiv 2307.08347).

    With the latent Z, B images by D dimensions, neither centred nor scaled, and C = Z'Z / B::

        1/2 [ sum_i (C_ii - 1)^2 + off_diagonal * sum_{i != j} C_ij^2 ]

    Args:
        latent: Z, (B, D).
        off_diagonal: Weight of what stands off the diagonal; Barlow Twins' (Zbontar et al., 2021).

    Returns:
        Scalar; a sum over dimensions, so it grows with D.
    """
    products = latent.T @ latent / len(latent)
    diagonal = products.diagonal()
    apart = products.square().sum() - diagonal.square().sum()
    return ((diagonal - 1).square().sum() + off_diagonal * apart) / 2
