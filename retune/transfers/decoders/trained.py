"""Networks that are trained on maps as the papers train their decoders: a few epochs of AdamW on the mixed loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from retune.transfers.base import Decoder, Maps, Part
from retune.transfers.decoders.setr import setr
from retune.transfers.decoders.unet import unet

LR: Final = 5e-4
DECAY: Final = 1e-4
BATCH: Final = 16
FOCAL: Final = 10.0
"""Weight of the focal loss beside the logarithm of Dice."""
GAMMA: Final = 2.0
Network = Callable[[int, int, int, int], nn.Module]
"""Of features, findings, cells and pixels of a side: the network."""
NETWORKS: Final[Mapping[str, Network]] = {"setr": setr, "unet": unet}


class Trained(Decoder):
    """A network from maps (b, D, g, g) to logits (b, K, h, h).

    Args:
        kind: Its name.
        network: On its device.
        made: Features, findings, cells and pixels of a side that it was made for.
    """

    def __init__(self, kind: str, network: nn.Module, made: tuple[int, int, int, int]) -> None:
        self.kind, self.network, self.made = kind, network.eval(), made

    @classmethod
    def fit(cls, kind: str, maps: Maps, part: Part, *, epochs: int, seed: int, device: str) -> Trained:
        """Train one.

        Args:
            kind: One of :data:`NETWORKS`.
            maps: Of the n images, (n, D, g, g).
            part: Their masks.
            epochs: How often each image is seen.
            seed: Of the first weights and of the order.
            device: Where.
        """
        shape = maps[torch.arange(1)].shape
        made = (shape[1], part.known.shape[1], shape[-1], _side(part))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = NETWORKS[kind](*made).to(device)
        train(network, maps, part, epochs=epochs, seed=seed)
        return cls(kind, network, made)

    @property
    def notes(self) -> tuple[str, ...]:
        """How many numbers are trained, and what the network lacks."""
        n = sum(p.numel() for p in self.network.parameters())
        lacks = "; it has no skips, as the last stage's map is all that is given" * (self.kind == "unet")
        return (f"The decoder {self.kind} has {n:,} trained parameters{lacks}",)

    def alike(self, other: Decoder) -> bool:
        """Whether both are of maps of one shape."""
        return isinstance(other, Trained) and self.made == other.made

    def predict(self, values: torch.Tensor) -> torch.Tensor:
        """Probability of each place, float32 (b, K, h, h), at most at the size of the masks."""
        device = next(self.network.parameters()).device
        with torch.no_grad():
            logits = self.network(values.to(device))
            if logits.shape[-1] > self.made[-1]:
                logits = _resized(logits, self.made[-1])
            return torch.sigmoid(logits).float().cpu()

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, running means, and what it was made for."""
        weights = {f"network.{key}": value.detach().cpu() for key, value in self.network.state_dict().items()}
        return {"made": torch.tensor(self.made), **weights}

    @classmethod
    def load(cls, kind: str, state: Mapping[str, torch.Tensor], device: str) -> Trained:
        """One that was kept."""
        features, findings, cells, pixels = map(int, state["made"])
        made = (features, findings, cells, pixels)
        network = NETWORKS[kind](*made)
        network.load_state_dict(
            {key.removeprefix("network."): value for key, value in state.items() if key != "made"}
        )
        return cls(kind, network.to(device), made)


def train(network: nn.Module, maps: Maps, part: Part, *, epochs: int, seed: int) -> None:
    """Train a network in place; its batch statistics are frozen afterwards.

    Args:
        network: From maps (b, D, g, g) to logits (b, K, h, h).
        maps: Of the n images; asked for anew in every epoch.
        part: Their masks; images of which nothing is known are left out.
        epochs: How often each image is seen.
        seed: Of the order.
    """
    device = next(network.parameters()).device
    rows, size = torch.from_numpy(part.known.any(axis=1)).nonzero()[:, 0], _side(part)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=DECAY)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    with torch.enable_grad():
        for _ in range(epochs):
            for index in rows[torch.randperm(len(rows), generator=generator)].split(BATCH):
                places = index.numpy()
                masks = torch.from_numpy(part.masks[places]).to(device)
                known = torch.from_numpy(part.known[places]).to(device)
                logits = _resized(network(maps[index].to(device)), size)
                optimiser.zero_grad()
                mixed_loss(logits, masks, known).backward()
                optimiser.step()
    network.eval()


def mixed_loss(logits: torch.Tensor, masks: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Ten times the focal loss minus the logarithm of soft Dice over the batch, as GLoRIA and MGCA have it.

    Of several findings it is the mean; images on which a finding is unknown take no part in that finding's.

    Args:
        logits: (b, K, h, h).
        masks: Bool (b, K, h, h).
        known: Bool (b, K).
    """
    targets = masks.to(logits.dtype)
    cross = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    focal = torch.exp(GAMMA * functional.logsigmoid(-logits * (2 * targets - 1))) * cross
    probability = torch.sigmoid(logits)
    weight = known[:, :, None, None].to(logits.dtype)

    def total(values: torch.Tensor) -> torch.Tensor:
        return (values * weight).sum((0, 2, 3))

    pixels = total(torch.ones_like(logits))
    dice = (2 * total(probability * targets) + 1) / (total(probability) + total(targets) + 1)
    losses = FOCAL * total(focal) / pixels.clamp(min=1) - torch.log(dice)
    return losses[pixels > 0].mean()


def _side(part: Part) -> int:
    return int(part.masks[torch.arange(1).numpy()].shape[-1])


def _resized(logits: torch.Tensor, size: int) -> torch.Tensor:
    if logits.shape[-1] == size:
        return logits
    return functional.interpolate(logits, (size, size), mode="bilinear", align_corners=False)
