"""LoRA in the image tower: its weights are learnt as small updates of low rank, together with linear heads.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang & Chen, "LoRA: Low-Rank Adaptation of Large Language Models",
ICLR 2022, arXiv 2106.09685. A frozen matrix W, d x k, becomes

    W + (alpha / r) B A,    B of d x r, A of r x k,    A random, B zero at first,

so that the model starts as it was. The paper adapts the queries' and values' projections of language
models, trains with AdamW and a linear schedule, and claims what full fine-tuning gives with 10,000 times
fewer parameters and no cost at inference.
We: the image tower of the backbone, and for label c the logit z_c = <w_c, v> + b_c of the image's vector v of
length sqrt(d), where w_c starts as the zero-shot classifier: label c's positive minus its negative prompts.
Updates and the observed labels' heads are trained by binary cross-entropy over known labels. One model
goes through the stream and nothing protects old labels; a label that no experience has observed is scored by
its prompts on the tower as it has become. Where we differ: attention's three input projections are adapted,
since towers pack them in one matrix; a tower without attention, as phantom-clip's, is adapted in its pointwise
convolutions, which the paper allows ("any subset of weight matrices") and did not try; LoRA has no dropout;
the tower's own dropout and batch statistics stay off, so that no score depends on batch mates.
Logits are bounded by nothing and have offsets. What hurts in a class-incremental stream is that nothing protects the
tower: the faster it learns, the more it forgets. 3e-3 is the best learning rate after one experience, not after
five. On two other draws of phantom, where zero-shot is at .796, .796 and .782, it ends at .763, .738 and .752 (labels
below 10 % of the training images -.055 on average, the others -.029), and 1e-3, the default, at .808, .802 and .765
(-.014, +.011); data-incremental, one draw, at .832 and .830 of .796.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from retune.methods.adaptors import normalised
from retune.methods.given import Context, Images, Need, Training
from retune.methods.linear import LinearStrategy
from retune.methods.lora import add_lora, parts_used
from retune.methods.losses import masked_bce
from retune.methods.strategy import State
from retune.methods.towers import tower_maps
from retune.methods.training import seeded, train_adamw
from retune.settings import Count, NonNegative, Positive, Share

CHUNK = 64


@dataclass
class Lora(LinearStrategy):
    """Low-rank updates of the image tower and a linear classifier per label, trained on pictures.

    Args:
        start: zero-shot begins with each label's prompt direction, zeros with no knowledge.
        rank: r.
        alpha: The updates are scaled by alpha / rank.
        lr: Highest learning rate of AdamW, decaying linearly to 0 in every experience.
        warmup: Share of the steps in which the learning rate rises.
        weight_decay: Of AdamW.
        epochs: Passes over each experience.
        batch_size: Images a step.
    """

    name: ClassVar[str] = "lora"
    version: ClassVar[str] = "2"
    paper: ClassVar[str] = "Hu et al., ICLR 2022, arXiv 2106.09685"
    needs: ClassVar[frozenset[Need]] = frozenset({"pixels", "trainable-tower", "texts", "joint"})
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # RoBERTa base on MNLI.
        "paper": {"lr": 5e-4, "warmup": 0.06, "weight_decay": 0.01, "epochs": 30, "batch_size": 16}
    }

    rank: Count = 8
    alpha: Positive = 8.0
    lr: Positive = 1e-3
    warmup: Share = 0.0
    weight_decay: NonNegative = 0.0
    epochs: Count = 2
    batch_size: Count = 32

    def requires(self) -> frozenset[Need]:
        """Pictures and a tower to train on them; prompts are used by the zero-shot start only."""
        return self.needs if self.start == "zero-shot" else frozenset({"pixels", "trainable-tower"})

    def setup(self, context: Context) -> None:
        """Put LoRA into a copy of the image tower; see :meth:`Strategy.setup`."""
        super().setup(context)
        assert context.towers is not None
        self.tower, self.learnt = context.towers.image_tower(), False
        self.updates = image_lora(
            self.tower, rank=self.rank, alpha=self.alpha, side=context.towers.backbone.card.image_size,
            generator=torch.Generator().manual_seed(context.seed),
        )  # fmt: skip
        self._train_updates(False)

    def fit(self, experience: Training) -> None:
        """Train the updates and the observed labels' classifiers."""
        columns, pixels = list(experience.observed), experience.images.pixels
        targets = experience.targets[:, columns]

        def loss(batch: torch.Tensor) -> torch.Tensor:
            vectors = normalised(self.tower(pixels[batch]))
            return masked_bce(nn.functional.linear(vectors, weight, bias), targets[batch])

        self._train_updates(True)
        with self.linear.trained(columns) as (weight, bias):
            train_adamw(
                [weight, bias, *self.updates.values()], loss, len(experience), epochs=self.epochs,
                batch_size=self.batch_size, lr=self.lr, weight_decay=self.weight_decay, warmup=self.warmup,
                generator=experience.generator(),
            )  # fmt: skip
        self._train_updates(False)
        self.learnt = True

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C)."""
        pixels, chunks = images.pixels, torch.arange(len(images)).split(CHUNK)
        return torch.cat([self.logits(normalised(self.tower(pixels[chunk]))) for chunk in chunks])

    @torch.no_grad()
    def dense(self, images: Images) -> torch.Tensor | None:
        """The tower's patches with its updates, once they were trained."""
        if not self.learnt:
            return None
        return tower_maps(self.tower, images.pixels[torch.arange(len(images))])

    def state_dict(self) -> State:
        """Classifiers and the updates A and B by their names; nothing of the frozen tower."""
        updates = {f"lora.{name}": update.data for name, update in self.updates.items()}
        return {"learnt": self.learnt, **super().state_dict(), **updates}

    def load_state_dict(self, state: State) -> None:
        """Take up what was learnt."""
        super().load_state_dict(state)
        self.learnt = state["learnt"]
        for name, update in self.updates.items():
            update.data.copy_(state[f"lora.{name}"])

    def trainable_parameters(self) -> int:
        """Of updates and classifiers, once they were trained."""
        updates = sum(update.numel() for update in self.updates.values())
        return super().trainable_parameters() + updates if self.learnt else 0

    def diagnostics(self) -> Mapping[str, Any]:
        """How many matrices of the tower are adapted, and with how many parameters."""
        return {
            "adapted matrices": len(self.updates) // 2,
            "LoRA parameters": sum(update.numel() for update in self.updates.values()),
        }

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """Classifiers; the updates depend on the image tower."""
        return {"classifiers": n_labels * (dim + 1)}

    def _train_updates(self, wanted: bool) -> None:
        for update in self.updates.values():
            update.requires_grad_(wanted)


def image_lora(
    tower: nn.Module, *, rank: int, alpha: float, side: int, generator: torch.Generator
) -> dict[str, nn.Parameter]:
    """Put low-rank updates into an image tower, and freeze all else, in evaluation mode.

    They are where attention begins. A tower without attention has them in its pointwise convolutions: each
    is one matrix W, applied at every position, that is learnt as W + (alpha / r) B A.

    Args:
        tower: uint8 (B, S, S) to (B, d); changed in place.
        rank: r.
        alpha: The update's scale is alpha / r.
        side: S.
        generator: Source of A's initial weights; B is zero.

    Returns:
        The updates by their names.

    Raises:
        MissingPackage: If ``peft`` is not installed.
        UserError: If the tower has neither.
    """
    picture = torch.zeros(1, side, side, dtype=torch.uint8)
    used = parts_used(tower, lambda: tower(picture))
    with seeded(int(torch.randint(2**62, (), generator=generator))):
        return add_lora(tower, rank=rank, alpha=alpha, dropout=0.0, used=used)
