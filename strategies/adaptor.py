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

Scores by prompts are differences of cosines, which the softmax of a batch ranks and no prevalence pushes; scoring
by prompts is ours, the paper trains a classifier (scores=head). It begins at random, also where towers share a
space: what the prompts knew is lost and found again for an experience's own labels alone. On two other draws of
phantom, against zero-shot of .785, that gives .660 class-, .787 label- and .757 data-incremental (labels below
10 % of the training images -.130, -.005, -.047; the others -.121, +.008, -.013). From the identity and at 3e-5
instead of 1e-4 it gives .799, .796 and .781 (+.015, +.010, -.018; +.014, +.012, +.006). What still falls short,
data-incremental, is the paper's: reports are matched, single sentences are asked; pairs=captions gives .800
(+.013, +.017). Leaving out, too, whatever other captions are true of an image changes nothing (.797, not .800).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

import torch
from torch import nn
from torch.nn.functional import dropout, linear, normalize

from retune.backbones.towers import as_maps
from retune.errors import BadSetting, StrategyError
from retune.methods.adaptors import count_parameters, isometry, load_prefixed, prefixed
from retune.methods.captions import Pairs, captions_of
from retune.methods.given import Context, Images, Need, Training
from retune.methods.linear import LabelHeads
from retune.methods.losses import info_nce
from retune.methods.strategy import CODE, Figure, State, Strategy
from retune.methods.towers import Towers
from retune.methods.training import seeded, train_adamw
from retune.prompts.bank import POLARITIES
from retune.prompts.embeddings import Combine, PromptEmbeddings
from retune.settings import Count, NonNegative, Positive, Share, Unit

RIVALS: Final = {"GLoRIA": 134_178_368, "ConVIRT": 138_048_064, "MGCA": 172_734_208}
"""Trainable parameters of the methods that the paper compares itself with."""


InputKind = Literal["pooled", "tokens"]
"""One vector per image and text, or one per patch and word."""
Texts = tuple[torch.Tensor, torch.Tensor | None]
"""Texts as vectors (P, d), or as words (P, L, w) and which of the L are words, bool (P, L)."""
CHUNK: Final = 64
"""Images adapted at a time."""
HEAD_WIDTH: Final = 64
"""Dimensions of an attention head: 12 heads at width 768."""
LARGEST_SCALE: Final = 100.0
"""The inverse temperature stops here, as in CLIP (Radford et al., 2021)."""


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
        init: identity, for pooled vectors that share a space: both projections begin as one isometry and the
            layers add nothing, so that it begins near zero-shot; random, as published, and for all others.
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
    version: ClassVar[str] = "2"
    paper: ClassVar[str] = "Qin et al., arXiv 2401.01179"
    needs: ClassVar[frozenset[Need]] = frozenset({"features", "texts"})
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"init": "random", "width": 768, "epochs": 50, "batch_size": 1024, "lr": 2e-5}
    }

    inputs: InputKind = "pooled"
    scores: Literal["prompts", "head"] = "prompts"
    pairs: Pairs = "auto"
    combine: Combine = "embeddings"
    init: Literal["identity", "random"] = "identity"
    width: Count = 256
    layers: Count = 2
    dropout: Share = 0.1
    text_weight: Unit = 0.75
    lr: Positive = 3e-5
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
            return self.heads.scores(adapted, otherwise=prompts.score(adapted, self.combine, "difference"))
        if self.joint:
            return self.context.prompts.score(images.features, self.combine, "difference")
        return torch.zeros(len(images), len(self.context.labels), device=self.context.device)

    @torch.no_grad()
    def dense(self, images: Images) -> torch.Tensor | None:
        """The adapted patches; None before any training, and where one vector stands for an image."""
        if self.adaptor is None or self.inputs == "pooled":
            return None
        return as_maps(self.adaptor.patches(images.tokens[torch.arange(len(images))]))

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
        published = {512: 12_011_009, 384: 11_912_705, 768: 12_207_617}
        with torch.device("meta"):
            built = {dim: CrossModalAdaptor(dim, 768) for dim in published}
        ours = {dim: count_parameters(adaptor) for dim, adaptor in built.items()}
        layer = count_parameters(built[768].layers[0])
        return [
            *(Figure(f"images of d = {dim}", count, ours[dim], CODE) for dim, count in published.items()),
            Figure("one layer", 5_513_984, layer, CODE),
            *(
                Figure(f"below {name}, d = 768", _below(published[768], n), _below(ours[768], n), CODE, "%")
                for name, n in RIVALS.items()
            ),
        ]

    def _new(self) -> CrossModalAdaptor:
        made = self.given.adaptor(self.width, self.layers, self.dropout)
        if self.init == "identity" and self.joint and self.inputs == "pooled":
            made.begin_as_identity(torch.Generator().manual_seed(self.context.seed))
        return made

    def _learnt(self) -> dict[str, torch.nn.Module]:
        if self.adaptor is None:
            return {}
        return {"adaptor": self.adaptor} | ({"heads": self.heads} if self.scores == "head" else {})


def require_width(width: int) -> None:
    """Refuse a width that cannot be cut into heads.

    Raises:
        BadSetting: If it is no multiple of 64.
    """
    if width % HEAD_WIDTH:
        fix = "give 256, 512 or 768"
        raise BadSetting(f"{width} is no multiple of {HEAD_WIDTH}", where="setting width", fix=fix)


class CrossModalAdaptor(nn.Module):
    """Projections into one space, then transformer layers shared by images and texts.

    From Qin et al., "Freeze the backbones", arXiv 2401.01179. Every sample is a sequence of its own:
    it never attends to another sample or to the other modality.

    Args:
        image_dim: Dimension of an image's vector or patch.
        text_dim: Dimension of a text's vector or word.
        width: Dimension of the shared space, a multiple of 64. There are width / 64 heads and 8/3 width
            units in a feed-forward layer: 12 and 2,048 at 768.
        layers: Number of post-norm transformer layers.
        dropout: Share of activations dropped in training.
        temperature: Where the learnt temperature starts.
    """

    def __init__(
        self,
        image_dim: int,
        text_dim: int,
        width: int = 768,
        layers: int = 2,
        dropout: float = 0.1,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        self.image = nn.Linear(image_dim, width, bias=False)
        self.text = nn.Linear(text_dim, width, bias=False)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, width // HEAD_WIDTH, width * 8 // 3, dropout, batch_first=True)
            for _ in range(layers)
        )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @torch.no_grad()
    def begin_as_identity(self, generator: torch.Generator) -> None:
        """Set weights with which cosines within and across modalities stay what they are, but for the norms.

        Images and texts must be of one dimension.

        Args:
            generator: Source of the isometry that both are projected by.
        """
        basis = isometry(self.image.in_features, self.image.out_features, generator)
        for projection in (self.image, self.text):
            projection.weight.copy_(basis)
        for name, parameter in self.layers.named_parameters():
            if ".out_proj." in name or ".linear2." in name:
                parameter.zero_()

    def images(self, vectors: torch.Tensor) -> torch.Tensor:
        """Adapted images of length 1, (B, width).

        Args:
            vectors: One vector per image, (B, d), or one per patch, (B, T, w).
        """
        return self._adapted(self.image(vectors), None)

    def patches(self, vectors: torch.Tensor) -> torch.Tensor:
        """Adapted patches, (B, T, w) to (B, T, width): what becomes of the places beside the mean."""
        return self._sequence(self.image(vectors), None)[:, 1:]

    def texts(self, vectors: torch.Tensor, words: torch.Tensor | None = None) -> torch.Tensor:
        """Adapted texts of length 1, (P, width).

        Args:
            vectors: One vector per text, (P, d), or one per word, (P, L, w).
            words: Which of the L are words, bool (P, L); None where all are.
        """
        return self._adapted(self.text(vectors), words)

    def scale(self) -> torch.Tensor:
        """The inverse temperature."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    def _adapted(self, projected: torch.Tensor, words: torch.Tensor | None) -> torch.Tensor:
        if projected.ndim == 2:
            vectors = normalize(projected, dim=-1)
            for layer in self.layers:
                vectors = _alone(layer, vectors)
            return normalize(vectors, dim=-1)
        return normalize(self._sequence(projected, words)[:, 0], dim=-1)

    def _sequence(self, projected: torch.Tensor, words: torch.Tensor | None) -> torch.Tensor:
        """What the layers make of a sequence (B, T, width) and of its mean: (B, 1 + T, width), the mean first."""
        # Towers need not have a class token: the mean goes first and is what comes out.
        used = projected.new_ones(projected.shape[:2]) if words is None else words.to(projected.dtype)
        mean = (projected * used[..., None]).sum(1) / used.sum(1, keepdim=True).clamp(min=1)
        sequence = normalize(torch.cat([mean[:, None], projected], 1), dim=-1)
        padding = None if words is None else torch.cat([words.new_zeros(len(words), 1), ~words], 1)
        for layer in self.layers:
            sequence = layer(sequence, src_key_padding_mask=padding)
        return sequence


def _alone(layer: nn.TransformerEncoderLayer, vectors: torch.Tensor) -> torch.Tensor:
    """A layer on sequences of length 1, (B, width): attention to oneself alone is one's value, whatever the keys."""
    attention = layer.self_attn
    weight, bias = (p[2 * attention.embed_dim :] for p in (attention.in_proj_weight, attention.in_proj_bias))
    values = linear(vectors, weight, bias).unflatten(1, (attention.num_heads, -1))
    if layer.training and attention.dropout:
        # Where attention is dropped, a head's whole value is.
        values = values * dropout(values.new_ones(*values.shape[:2], 1), attention.dropout)
    vectors = layer.norm1(vectors + layer.dropout1(attention.out_proj(values.flatten(1))))
    inner = layer.dropout(layer.activation(layer.linear1(vectors)))
    added: torch.Tensor = layer.norm2(vectors + layer.dropout2(layer.linear2(inner)))
    return added


@dataclass(frozen=True)
class PairedInputs:
    """The frozen vectors of images and texts that a :class:`CrossModalAdaptor` takes.

    Args:
        kind: ``pooled``, one vector for each; ``tokens``, one for each patch and each word.
        context: The towers.
    """

    kind: InputKind
    context: Context

    def adaptor(self, width: int, layers: int, dropout: float) -> CrossModalAdaptor:
        """A new adaptor that fits, in evaluation mode; its weights depend on the run's seed only."""
        context, towers = self.context, self._towers
        tokens = self.kind == "tokens"
        image_dim = towers.token_dim if tokens else context.dim
        text_dim = towers.word_dim if tokens else towers.text_dim
        with seeded(context.seed):
            made = CrossModalAdaptor(image_dim, text_dim, width, layers, dropout)
        return made.to(context.device).eval()

    def images(self, images: Images) -> Callable[[torch.Tensor], torch.Tensor]:
        """What gives the vectors of the images of some indices, (k,) to (k, d) or (k, T, w)."""
        return (images.tokens if self.kind == "tokens" else images.features).__getitem__

    def texts(self, texts: Sequence[str]) -> Texts:
        """The vectors of P texts."""
        return self._towers.words(texts) if self.kind == "tokens" else (self._towers.texts(texts), None)

    @property
    def _towers(self) -> Towers:
        if self.context.towers is None:
            raise StrategyError("there are no towers to encode texts")
        return self.context.towers

    @torch.no_grad()
    def adapted(self, adaptor: CrossModalAdaptor, images: Images) -> torch.Tensor:
        """All N images, adapted, (N, width)."""
        rows = self.images(images)
        return torch.cat([adaptor.images(rows(k)) for k in torch.arange(len(images)).split(CHUNK)])

    @torch.no_grad()
    def prompts(self, adaptor: CrossModalAdaptor, texts: Mapping[str, Texts]) -> PromptEmbeddings:
        """The context's prompts, adapted; ``texts`` holds the vectors of both polarities."""
        positive, negative = (adaptor.texts(*texts[polarity]) for polarity in POLARITIES)
        return replace(self.context.prompts, positive=positive, negative=negative)

    def bank(self) -> dict[str, Texts]:
        """Vectors of the prompts of both polarities, in the order of the context's."""
        if self.context.bank is None:
            raise StrategyError("there is no prompt bank")
        bank, labels = self.context.bank, self.context.labels
        return {
            polarity: self.texts([text for label in labels for text in bank.texts(label, polarity)])
            for polarity in POLARITIES
        }


def _below(count: int, rival: int) -> float:
    return round(100 * (1 - count / rival), 1)
