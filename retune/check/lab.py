"""All that a strategy may declare to need, small and made up; the text tower is phantom-clip's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from retune.backbones.base import Backbone
from retune.check.tower import SmallTower
from retune.data.attributes import ATTRIBUTES
from retune.methods.given import Context, Images, Training, training
from retune.methods.strategy import Strategy
from retune.methods.towers import Towers
from retune.methods.training import isolated
from retune.prompts import PromptBank
from retune.prompts import load as load_bank
from retune.runner.images import embed_prompts
from retune.runner.resolve import find_strategy
from retune.settings import make, settings_of
from retune.streams.stream import Experience

LABELS = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pneumothorax", "Pleural Effusion")
DIM, TOKENS, TOKEN_DIM, SIDE = 128, 16, 320, 128
SEED = 7


@dataclass(frozen=True)
class LazyRows:
    """Rows made when they are asked for; a :class:`retune.methods.given.Lazy`."""

    make: Callable[[torch.Tensor], torch.Tensor]
    chosen: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return (len(self), *self.make(self.chosen[:0]).shape[1:])

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        return self.make(self.chosen[index.cpu()])


def few(bank: PromptBank, n: int) -> PromptBank:
    """The first n prompts of either polarity of each label."""
    kept = [
        prompt
        for prompt in bank.select(LABELS).prompts
        if prompt.text in bank.texts(prompt.finding, prompt.polarity)[:n]
    ]
    return PromptBank(bank.name, tuple(kept))


def quick_settings(cls: type[Strategy]) -> dict[str, Any]:
    """Settings with which a strategy learns in one epoch of small batches, where it has such settings."""
    known = {setting.name for setting in settings_of(cls)}
    batches = {"batch_size": 16} if "batch_size" in known else {}
    return {**{name: 1 for name in known if name.endswith("epochs")}, **batches}


class Lab:
    """Makes strategies ready to learn, and what they learn from."""

    labels = LABELS
    tested = 12

    def __init__(self) -> None:
        self.backbone: Backbone = SmallTower()
        self.backbone.device = "cpu"
        self.bank = few(load_bank("language-model"), 2)
        self.prompts = {
            wanted: embed_prompts(self.bank, self.backbone, LABELS, wanted=wanted) for wanted in (True, False)
        }
        self.untouched = copy.deepcopy(self.tower())
        generator = torch.Generator().manual_seed(5)
        self.directions = torch.randn(len(LABELS), TOKEN_DIM, generator=generator)
        self.places = torch.randn(TOKENS, TOKEN_DIM, generator=generator)
        self.grain = torch.randint(0, 40, (SIDE, SIDE), generator=generator, dtype=torch.uint8)

    def tower(self) -> tuple[dict[str, torch.Tensor], ...]:
        """The frozen text tower: weights, which of them are trained, and which modules are in training mode."""
        module = self.backbone.text_path().module
        return (
            dict(module.state_dict()),
            {key: torch.tensor(p.requires_grad) for key, p in module.named_parameters()},
            {key: torch.tensor(m.training) for key, m in module.named_modules()},
        )

    def mend(self) -> None:
        """Put the frozen text tower back as it was."""
        module = self.backbone.text_path().module
        weights, trained, modes = self.untouched
        module.load_state_dict(weights)
        for key, parameter in module.named_parameters():
            parameter.grad = None
            parameter.requires_grad_(bool(trained[key]))
        for key, part in module.named_modules():
            part.training = bool(modes[key])

    def make(self, name: str, *, quick: bool = True, **settings: Any) -> Strategy:
        """A strategy after its setup.

        Args:
            name: As on the command line, with a preset or without.
            quick: Whether it may learn in one epoch, which is enough where not the score counts.
            settings: Others than the default ones.
        """
        cls, owner, preset = find_strategy(name)
        fast = quick_settings(cls) if quick else {}
        return self.prepared(make(cls, {**preset, **fast, **settings}, owner=f"strategy {owner}"))

    def prepared(self, strategy: Strategy) -> Strategy:
        """Set a strategy up, as the runner would."""
        with isolated(SEED):
            strategy.setup(self.context(strategy))
        return strategy

    def context(self, strategy: Strategy) -> Context:
        """What the runner would tell it."""
        needs = strategy.requires()
        return Context(
            LABELS,
            DIM,
            self.prompts[bool(needs & {"joint", "texts"})],
            SEED,
            bank=self.bank,
            towers=Towers(self.backbone, needs, "cpu"),
        )

    def truth(self, n: int, seed: int) -> torch.Tensor:
        """Which of the labels n images have; bool (n, C)."""
        return self._features(n, seed)[:, : len(LABELS)] > 0

    def tests(self, strategy: Strategy, chosen: torch.Tensor | None = None) -> Images:
        """The test images, or some of them."""
        return self.pictures(strategy, self.tested, 99, chosen)

    def pictures(
        self, strategy: Strategy, n: int, seed: int = 0, chosen: torch.Tensor | None = None
    ) -> Images:
        """Images as this strategy may see them; every kind of input shows which labels are there."""
        chosen = torch.arange(n) if chosen is None else chosen
        sources: dict[str, Callable[[], Any]] = {
            "features": lambda: self._features(n, seed)[chosen],
            "tokens": lambda: LazyRows(partial(self._tokens, n, seed), chosen),
            "pixels": lambda: LazyRows(partial(self._pixels, n, seed), chosen),
            "table": lambda: self._table(n, seed)[chosen],
        }
        needs = strategy.requires()
        return Images(len(chosen), {kind: get for kind, get in sources.items() if kind in needs})

    def experience(self, strategy: Strategy, n: int, observed: Sequence[int], seed: int) -> Training:
        """Targets of the observed labels; reports, which the contract withholds where a label is hidden."""
        truth = self.truth(n, seed)
        targets = np.full(truth.shape, np.nan, dtype=np.float32)
        targets[:, list(observed)] = truth[:, list(observed)]
        reports = tuple(
            " ".join(self.bank.positive(LABELS[c])[0] for c in row.nonzero().flatten().tolist())
            for row in truth
        )
        step = Experience(seed, tuple(observed), np.arange(n), targets)
        return training(step, self.pictures(strategy, n, seed), SEED, reports=reports)

    def stream(self, strategy: Strategy) -> list[Training]:
        """Two labels, two others, and at last all of them with reports."""
        # Batches are of sixteen where they are quick: the first and the last experience leave one image over.
        parts = ((33, (0, 1)), (20, (2, 3)), (17, range(len(LABELS))))
        return [self.experience(strategy, n, tuple(of), k) for k, (n, of) in enumerate(parts, start=1)]

    def fit(self, strategy: Strategy, seen: Sequence[Training]) -> None:
        """Learn as the runner lets it learn."""
        for part in seen:
            with isolated(part.seed):
                strategy.fit(part)

    def score(self, strategy: Strategy, images: Images | None = None) -> torch.Tensor:
        """Scores of some images, by default of all test images."""
        with torch.no_grad(), isolated(0):
            return strategy.score(images or self.tests(strategy)).detach()

    def dense(self, strategy: Strategy, images: Images | None = None) -> torch.Tensor | None:
        """Maps of some images, by default of all test images; None where the image side is the backbone's own."""
        with torch.no_grad(), isolated(0):
            return strategy.dense(images or self.tests(strategy))

    def scores_after(self, strategy: Strategy, seen: Sequence[Training]) -> torch.Tensor:
        """Scores of all test images after learning."""
        self.fit(strategy, seen)
        return self.score(strategy)

    def _features(self, n: int, seed: int) -> torch.Tensor:
        return torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)

    def _tokens(self, n: int, seed: int, chosen: torch.Tensor) -> torch.Tensor:
        signs = self.truth(n, seed)[chosen].float() * 2 - 1
        return (signs @ self.directions)[:, None] + self.places

    def _table(self, n: int, seed: int) -> torch.Tensor:
        """A column for each label, which tells it."""
        told = torch.zeros(n, len(ATTRIBUTES))
        told[:, : len(LABELS)] = self.truth(n, seed).float()
        return told

    def _pixels(self, n: int, seed: int, chosen: torch.Tensor) -> torch.Tensor:
        """A bright stripe for each label that is there."""
        bright = self.truth(n, seed)[chosen].to(torch.uint8) * 200
        stripes = bright.repeat_interleave(-(-SIDE // len(LABELS)), dim=1)[:, :SIDE]
        return stripes[:, :, None] + self.grain
