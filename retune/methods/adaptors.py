"""Small trainable maps on top of frozen embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

AdaptorKind = Literal["dense", "mlp"]
Init = Literal["identity", "random"]


def adaptor(
    kind: AdaptorKind, dim: int, *, init: Init = "random", generator: torch.Generator | None = None
) -> nn.Module:
    """RE-tune's adaptor: no residual, no bottleneck (Mistretta & Bagdanov, arXiv 2410.17827).

    Args:
        kind: ``dense`` is Linear(d, d), 16,512 parameters at d = 128; ``mlp`` is Linear(d, 2d),
            ReLU, Linear(2d, d), 65,920 at d = 128.
        dim: d, the dimension of the joint space.
        init: ``random``, PyTorch's uniform default distribution; ``identity``, a map that gives back every
            vector to the bit: relu(x) - relu(-x) = x.
        generator: Source of random weights.
    """
    source = generator if init == "random" else None
    if kind == "dense":
        layers = [linear(dim, dim, source)]
    else:
        layers = [linear(dim, 2 * dim, source), linear(2 * dim, dim, source)]
    if init == "identity":
        eye = torch.eye(dim)
        weights = [eye] if kind == "dense" else [torch.cat([eye, -eye]), torch.cat([eye, -eye], dim=1)]
        with torch.no_grad():
            for layer, weight in zip(layers, weights, strict=True):
                layer.weight.copy_(weight)
                layer.bias.zero_()
    return layers[0] if kind == "dense" else nn.Sequential(layers[0], nn.ReLU(), layers[1])


def linear(inputs: int, outputs: int, generator: torch.Generator | None = None) -> nn.Linear:
    """A linear layer whose initial weights come from a generator, not from global state.

    Args:
        inputs: Input dimension.
        outputs: Output dimension.
        generator: Source of the weights; None leaves them uninitialised.
    """
    # Without the device it would be made on the CPU even where the default is another.
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, device=torch.get_default_device())
    if generator is not None:
        bound = inputs**-0.5
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
    return layer


def isometry(inputs: int, outputs: int, generator: torch.Generator | None) -> torch.Tensor:
    """A random matrix (outputs, inputs) that keeps every cosine, or nearly where ``outputs`` are fewer.

    Args:
        inputs: Dimension of what it maps.
        outputs: Dimension of where to.
        generator: Source of the directions; PyTorch's own where None.
    """
    drawn = torch.randn(max(outputs, inputs), min(outputs, inputs), generator=generator)
    basis: torch.Tensor = torch.linalg.qr(drawn).Q
    return basis if outputs >= inputs else basis.T


def normalised(features: torch.Tensor) -> torch.Tensor:
    """Rows of (N, d) scaled to length sqrt(d), so that a coordinate is about 1 whatever d is."""
    unit: torch.Tensor = nn.functional.normalize(features, dim=1)
    return unit * math.sqrt(features.shape[1])


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def prefixed(prefix: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's state with every key behind ``prefix.``, for :meth:`Strategy.state_dict`."""
    return {f"{prefix}.{key}": value for key, value in module.state_dict().items()}


def load_prefixed(prefix: str, module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Take up what :func:`prefixed` gave."""
    start = f"{prefix}."
    module.load_state_dict({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})
