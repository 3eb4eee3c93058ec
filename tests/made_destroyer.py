"""A strategy that destroys its image tower on purpose: what is measured on maps must see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from retune import Context, Images, Strategy, Training
from retune.methods.given import Need
from retune.methods.strategy import State
from retune.methods.towers import tower_maps


@dataclass
class Destroyer(Strategy):
    """From the second experience on, its tower is blind; until then, its weights are the backbone's."""

    name: ClassVar[str] = "destroyer"
    needs: ClassVar[frozenset[Need]] = frozenset({"pixels", "trainable-tower"})
    optimises: ClassVar[bool] = False

    def setup(self, context: Context) -> None:
        """Take a copy of the tower."""
        assert context.towers is not None
        self.context, self.tower, self.steps = context, context.towers.image_tower(), 0

    def fit(self, experience: Training) -> None:
        """Learn nothing; destroy the tower."""
        self.steps += 1
        if self.steps == 2:
            self._destroy()

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Of no use."""
        return torch.zeros(len(images), len(self.context.labels), device=self.context.device)

    @torch.no_grad()
    def dense(self, images: Images) -> torch.Tensor | None:
        """Its tower's patches, once an experience has passed."""
        return tower_maps(self.tower, images.pixels[torch.arange(len(images))]) if self.steps else None

    def state_dict(self) -> State:
        """How far it is: the harm can be done again."""
        return {"steps": self.steps}

    def load_state_dict(self, state: State) -> None:
        """Do the harm again that was done."""
        self.steps = state["steps"]
        if self.steps >= 2:
            self._destroy()

    @torch.no_grad()
    def _destroy(self) -> None:
        # Random weights would not do: a random convolution still shows where something bright is.
        for weight in self.tower.parameters():
            weight.zero_()
