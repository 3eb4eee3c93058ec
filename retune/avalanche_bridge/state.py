"""What Avalanche's plugins learn, as tensors by name and back: never a pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch

SEPARATOR: Final = "/"
"""Between the steps of a path; parameters' own names have dots."""


def dumped(path: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a plugin's nested parameters, each with its path.

    Args:
        path: Of ``value``.
        value: Avalanche's ParamData, or mappings and sequences of such; None holds nothing.
    """
    steps: Any = ()
    if isinstance(value, Mapping):
        steps = value.items()
    elif isinstance(value, Sequence):
        steps = enumerate(value)
    elif value is not None:
        yield path, value.data.detach()
    for step, inner in steps:
        yield from dumped(f"{path}{SEPARATOR}{step}", inner)


def loaded(path: str, state: Mapping[str, Any], device: str) -> dict[Any, Any]:
    """Nested dictionaries of ParamData from what :func:`dumped` gave; sequences become numbered keys.

    Args:
        path: As given to :func:`dumped`.
        state: Tensors by path, among other things.
        device: Where they belong.
    """
    from avalanche.training.utils import ParamData

    tree: dict[Any, Any] = {}
    for key, tensor in state.items():
        if not key.startswith(path + SEPARATOR):
            continue
        *steps, name = (int(s) if s.isdigit() else s for s in key.split(SEPARATOR)[1:])
        place = tree
        for step in steps:
            place = place.setdefault(step, {})
        place[name] = ParamData(str(name), init_tensor=tensor.to(device, copy=True), device=device)
    return tree


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimiser's running averages, parameter by parameter."""
    return {
        f"optimizer.{i}.{key}": value
        for i, of in optimizer.state_dict()["state"].items()
        for key, value in of.items()
        if isinstance(value, torch.Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Take up what :func:`optimizer_state` gave."""
    found: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            found.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": found})
