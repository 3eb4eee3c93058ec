"""CoOp: the words before a label's name are learnt, through the frozen text tower.

Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, arXiv 2109.01134. With image vector
v, the text tower g and a context u = [u_1] ... [u_M] of word embeddings,

    z_c = (cos(v, g(u, "c")) - cos(v, g(u, "no c"))) / temperature.

The paper has a few images of each of several classes that exclude each other: a softmax over one prompt per
class. Its context is unified, one for all classes, or class-specific; of 16 words from a normal distribution,
or of 4 from "a photo of a". It trains up to 200 epochs by SGD with momentum .9 and a cosine schedule.
Here findings are independent: each has a prompt that affirms it and one that denies it, with a two-way
softmax, which is the sigmoid of z_c, and its loss is over the known labels. The class's name stands at the
end. The default begins with words and takes Adam for few steps; the preset paper takes 16 random words, SGD
without momentum at ten times the rate instead of it, a constant rate, and 50 epochs, as the paper for one
shot.
The unified context has no part that belongs to one label: what a new label changes, every label feels, those
not yet observed included. Class-specific contexts of other labels stay as they are.
Scores lie within 2 / temperature, far enough for rare labels (below 10 % of the training images here). What
ruined one context for a class-incremental stream is its start, ours, and its sharing, the paper's: the sentence
alone scores .731 where the bank scores .786, and a label is lost again once the next ones move the words. On two
other draws of phantom, against zero-shot of .785: one context .707 (rare -.025, common -.118), data-incremental
.802 (-.011, +.039); class-specific, the default, .809 (-.002, +.044) and .827 (+.022, +.058). With
zero_shot_share=0.3, which is no part of the method, .819 (+.020, +.045) and .827 (+.026, +.055).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn.functional import normalize

from retune.methods.given import Context, Images, Need, Training
from retune.methods.learnt_context import LearntContext, affirmed_and_denied
from retune.methods.losses import masked_bce
from retune.methods.strategy import Figure, State, Strategy
from retune.methods.training import Optimizer, train
from retune.settings import Count, Positive, Unit


@dataclass
class CoOp(Strategy):
    """A context learnt through the stream; before any training, the bank's prompts are scored.

    So are labels not yet observed where contexts are class-specific. The text tower sees two short
    texts for each label that a step trains. The default temperature, learning rate and epochs were chosen on
    phantom's validation patients.

    Args:
        contexts: unified, one for all labels; class-specific, one for each label and polarity.
        context_length: M, how many words are learnt; none means as many as ``base`` has.
        start: words of ``base``, or random, normal with standard deviation .02.
        base: The sentence that a context starts from.
        temperature: What differences of cosines are divided by; CLIP starts at .07 and ends at .01.
        zero_shot_share: How much of every score stays zero-shot by the bank's prompts, 0 to 1.
        lr: Learning rate.
        epochs: Passes over each experience.
        batch_size: Images a step.
        optimizer: adam or sgd.
    """

    name: ClassVar[str] = "coop"
    version: ClassVar[str] = "2"
    paper: ClassVar[str] = "Zhou et al., IJCV 2022, arXiv 2109.01134"
    needs: ClassVar[frozenset[Need]] = frozenset({"features", "joint", "text-gradients"})
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "contexts": "unified", "context_length": 16, "start": "random", "temperature": 0.01,
            "lr": 0.02, "epochs": 50, "batch_size": 32, "optimizer": "sgd",
        },
        "unified": {"contexts": "unified"},
    }  # fmt: skip

    contexts: Literal["unified", "class-specific"] = "class-specific"
    context_length: Count | None = 4
    start: Literal["words", "random"] = "words"
    base: str = "Chest radiograph with findings of"
    temperature: Positive = 0.07
    zero_shot_share: Unit = 0.0
    lr: Positive = 3e-3
    epochs: Count = 5
    batch_size: Count = 64
    optimizer: Optimizer = "adam"

    def setup(self, context: Context) -> None:
        """Embed the labels' names; see :meth:`Strategy.setup`."""
        assert context.towers is not None
        self.context = context
        self.prompt = LearntContext(
            context.towers.text_path(), affirmed_and_denied(context.labels), self.base,
            length=self.context_length, device=context.device,
        )  # fmt: skip
        self.words = self.prompt.start()
        self.seen = torch.zeros(len(context.labels), dtype=torch.bool, device=context.device)

    def fit(self, experience: Training) -> None:
        """Learn the context from the observed labels of this experience's images."""
        generator = experience.generator()
        if not self.seen.any():
            self.words = self._begin(generator)
        unit, observed = normalize(experience.images.features, dim=1), list(experience.observed)
        targets = experience.targets[:, observed]
        self.seen[observed] = True

        def loss(batch: torch.Tensor) -> torch.Tensor:
            return self.loss(unit[batch], self.texts(observed), targets[batch], observed)

        train(
            [self.words], loss, len(experience) if observed else 0, epochs=self.epochs, lr=self.lr,
            batch_size=self.batch_size, optimizer=self.optimizer, generator=generator,
        )  # fmt: skip

    def loss(
        self, unit: torch.Tensor, texts: torch.Tensor, targets: torch.Tensor, columns: list[int]
    ) -> torch.Tensor:
        """What is minimised, over unit vectors (B, d), texts (2, k, d) and targets (B, k) of k labels."""
        return masked_bce(self.logits(unit, texts), targets)

    def texts(self, columns: list[int]) -> torch.Tensor:
        """Unit vectors of the prompts that affirm, then deny, k labels; (2, k, d)."""
        labels = torch.tensor(columns, device=self.words.device)
        classes = torch.cat([labels, labels + len(self.context.labels)])
        words = self.words if self.words.ndim == 2 else self.words[classes]
        vectors = normalize(self.prompt.encode(words, classes), dim=1)
        return vectors.unflatten(0, (2, len(columns)))

    def logits(self, unit: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Logits z (N, k) of unit vectors (N, d) and texts (2, k, d)."""
        return unit @ (texts[0] - texts[1]).T / self.temperature

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C)."""
        unit = normalize(images.features, dim=1)
        zero_shot = self.context.prompts.score(unit, "embeddings", "difference") / self.temperature
        if not self.seen.any():
            return zero_shot
        logits = self.logits(unit, self.texts(list(range(len(self.seen)))))
        learnt = logits if self.contexts == "unified" else torch.where(self.seen, logits, zero_shot)
        return torch.lerp(learnt, zero_shot, self.zero_shot_share)

    def state_dict(self) -> State:
        """The context, (M, w) or (2 C, M, w), and which labels it has been learnt from."""
        return {"words": self.words.data, "seen": self.seen}

    def load_state_dict(self, state: State) -> None:
        """Take up the context."""
        device = self.context.device
        self.words, self.seen = nn.Parameter(state["words"].to(device)), state["seen"].to(device)

    def trainable_parameters(self) -> int:
        """Of the unified context, or of the contexts of the labels observed so far."""
        share = self.seen.any() if self.words.ndim == 2 else self.seen.float().mean()
        return round(self.words.numel() * float(share))

    def diagnostics(self) -> Mapping[str, Any]:
        """How many words are learnt."""
        return {"words learnt": self.words.shape[-2]}

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """With words of d dimensions: how many they have depends on the text tower."""
        words = {length: length * dim for length in (4, 16)}
        return {
            **{f"unified, {length} words": count for length, count in words.items()},
            **{f"class-specific, {length} words": 2 * n_labels * count for length, count in words.items()},
        }

    @classmethod
    def published_figures(cls) -> Sequence[Figure]:
        """With the words of CLIP, of 512 dimensions."""
        ours = cls.parameter_counts(512, 1)["unified, 4 words"]
        return [Figure("4 words, w = 512", 2048, ours, "Khattak et al., CVPR 2023, arXiv 2210.03117")]

    def _begin(self, generator: torch.Generator) -> nn.Parameter:
        """A new context, or one for each of the 2 C texts."""
        start = self.prompt.start().data
        many = (2 * len(self.seen), *start.shape) if self.contexts == "class-specific" else start.shape
        if self.start == "random":
            return nn.Parameter(0.02 * torch.randn(many, generator=generator).to(start.device))
        return nn.Parameter(start.expand(many).clone())
