"""The training loops over cached inputs that strategies share, and their randomness."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Literal

import numpy as np
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
    steps: int | None = None,
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
        steps: As many steps instead of ``epochs``, over as many passes as they take.
    """
    trained = list(parameters)
    make = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    optim = make(trained, lr=lr, weight_decay=weight_decay, fused=True)
    passes = epochs if steps is None else steps
    order = (torch.randperm(n, generator=generator).to(trained[0].device) for _ in range(passes if n else 0))
    for batch in islice((batch for one in order for batch in one.split(batch_size)), steps):
        optim.zero_grad(set_to_none=True)
        loss(batch).backward()
        optim.step()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights and dropout from a seed alone; PyTorch's global generators are put back after.

    Args:
        seed: Of the CPU's generator and of every GPU's.
    """
    cards = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=cards):
        # Where there is no accelerator, seeding every kind of them costs a millisecond, and each call of a method pays.
        (torch if cards or torch.backends.mps.is_available() else torch.default_generator).manual_seed(seed)
        yield


def train_adamw(
    parameters: Iterable[torch.nn.Parameter],
    loss: Callable[[torch.Tensor], torch.Tensor],
    n: int,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    warmup: float,
    generator: torch.Generator,
) -> None:
    """Minimise a loss with AdamW, a linear warm-up and a linear decay to 0.

    Args:
        parameters: What is trained.
        loss: Scalar loss of the samples whose indices it is given, (b,), on the parameters' device.
        n: Number of samples; nothing happens where it is 0.
        epochs: Passes over the samples.
        batch_size: Samples a step.
        lr: Highest learning rate.
        weight_decay: Decoupled weight decay.
        warmup: Share of the steps in which the rate rises.
        generator: Source of the order of samples.
    """
    trained = list(parameters)
    steps = epochs * math.ceil(n / batch_size)
    rising = math.ceil(warmup * steps)

    def share(step: int) -> float:
        return min((step + 1) / (rising + 1), (steps - step) / max(1, steps - rising))

    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    for _ in range(epochs if n else 0):
        for batch in torch.randperm(n, generator=generator).to(trained[0].device).split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss(batch).backward()
            optimizer.step()
            schedule.step()


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed the global random generators for a plugin that uses them, and put them back after.

    Args:
        seed: Of Python's, NumPy's and PyTorch's.
    """
    python, numpy = random.getstate(), np.random.get_state()
    with seeded(seed):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
