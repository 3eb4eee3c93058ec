"""Low-rank updates of a frozen tower's attention."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, Final

import torch
from torch import nn

from retune.errors import MissingPackage, UserError, install

INPUTS: Final = frozenset({"c_attn", "query", "key", "value", "q_proj", "k_proj", "v_proj", "qkv"})
"""What models call the projections that attention begins with: GPT-2, BERT, CLIP and SigLIP, timm's transformers."""

PACKED: Final = "in_proj_weight"
"""PyTorch's own attention keeps the three in one matrix instead."""


def add_lora(
    module: nn.Module, *, rank: int, alpha: float, dropout: float, used: Collection[str] | None = None
) -> dict[str, nn.Parameter]:
    """Put low-rank updates where attention begins and freeze all else, in evaluation mode.

    Where there is no attention, they are in the pointwise convolutions.

    Args:
        module: Changed in place; may be on the meta device.
        rank: r.
        alpha: The update's scale is alpha / r.
        dropout: On what A is given.
        used: Names of the parts of ``module`` to look at; by default all.

    Returns:
        The updates by their names.

    Raises:
        MissingPackage: If ``peft`` is not installed.
        UserError: If there is neither of the two.
    """
    peft: Any = _peft()
    parts = {name: part for name, part in module.named_modules() if used is None or name in used}
    layers = [name for name in parts if name.rpartition(".")[2] in INPUTS]
    packed = [
        f"{name}.{PACKED}"
        for name, part in parts.items()
        if isinstance(part, nn.MultiheadAttention) and part.in_proj_weight is not None
    ]
    if not layers and not packed:
        layers = [name for name, part in parts.items() if _pointwise(part)]
    if not layers and not packed:
        raise UserError("the tower has no attention that LoRA knows", fix="choose another backbone")
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0 if packed else dropout,
        # A GPT-2 layer keeps its matrix the other way round.
        fan_in_fan_out=any(name.endswith("c_attn") for name in layers),
        target_modules="|".join(map(re.escape, layers)) if layers else [],
        # Not peft's layer for MultiheadAttention: it adds to the frozen weights and takes off again, with rounding.
        target_parameters=packed or None,
    )
    module.requires_grad_(False)
    peft.inject_adapter_in_model(config, module)
    # New layers are made in training mode.
    module.eval()
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


def _pointwise(part: nn.Module) -> bool:
    return isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.groups == 1


def parts_used(module: nn.Module, run: Callable[[], object]) -> set[str]:
    """Names of the parts that an input which ``run`` passes goes through: a model may hold another tower beside."""
    names: set[str] = set()
    hooks = [
        part.register_forward_hook(lambda *_, name=name: names.add(name))
        for name, part in module.named_modules()
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return names


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise MissingPackage(
            "LoRA needs the package peft, which is not installed", fix=install("peft")
        ) from None
    return peft
