"""The one training loop over cached inputs that strategies share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch

Optimizer = Literal["adam", "sgd"]


def train(
    parameters: Iterable[torch.nn.Parameter],
    loss: Callable[[torch.Tensor], torch.Tensor],
    n: int,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    generator: torch.Generator,
    optimizer: Optimizer = "adam",
    weight_decay: float = 0.0,
) -> None:
    """Minimise a loss over shuffled mini-batches.

    Args:
        parameters: What is trained.
        loss: Scalar loss of the samples whose indices it is given, shape (b,), on the parameters' device.
        n: Number of samples; nothing happens where it is 0.
        epochs: Passes over the samples.
        batch_size: Samples a step.
        lr: Learning rate.
        generator: The only source of randomness.
        optimizer: ``adam`` or ``sgd``.
        weight_decay: L2 penalty.
    """
    trained = list(parameters)
    make = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    optim = make(trained, lr=lr, weight_decay=weight_decay)
    device = trained[0].device
    for _ in range(epochs if n else 0):
        for batch in torch.randperm(n, generator=generator).to(device).split(batch_size):
            optim.zero_grad(set_to_none=True)
            loss(batch).backward()
            optim.step()
