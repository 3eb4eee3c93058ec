"""Low-rank updates of a frozen tower's attention."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from retune.errors import MissingPackage, UserError, install
from retune.methods.training import seeded

if TYPE_CHECKING:
    from retune.backbones.base import TextPath

INPUTS: Final = frozenset({"c_attn", "query", "key", "value", "q_proj", "k_proj", "v_proj", "qkv"})
"""What models call the projections that attention begins with: GPT-2, BERT, CLIP and SigLIP, timm's transformers."""

PACKED: Final = "in_proj_weight"
"""PyTorch's own attention keeps the three in one matrix instead."""


class LoraTexts:
    """A text tower whose attention's input projections W are learnt as W + (alpha / r) B A.

    Hu et al., "LoRA", arXiv 2106.09685, by ``peft``. B starts at zero, so that the tower starts as it
    was; W is never written to. It is a :class:`retune.backbones.base.TextPath` like the one it adapts.

    Args:
        path: A copy of a text tower; its ``module`` is changed.
        rank: r.
        alpha: The update's scale is alpha / r.
        dropout: On what A is given, while training. PyTorch's own attention, as in open_clip's towers,
            keeps its projection in a matrix that is no layer: there nothing can be dropped.
        generator: Source of A's initial weights.

    Raises:
        MissingPackage: If ``peft`` is not installed.
        UserError: If the tower has no attention that is known here.
    """

    def __init__(
        self, path: TextPath, *, rank: int, alpha: float, dropout: float, generator: torch.Generator
    ) -> None:
        self.path = path
        self.width = path.width
        with seeded(int(torch.randint(2**62, (), generator=generator))):
            used = _used(path.module, lambda: path.encode(*path.embed(["heart"])))
            self.weights = add_lora(path.module, rank=rank, alpha=alpha, dropout=dropout, used=used)

    @property
    def module(self) -> nn.Module:
        """What holds the tower's weights and the updates."""
        return self.path.module

    def embed(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Word embeddings of P texts, (P, L, w), and which of them are words, bool (P, L)."""
        return self.path.embed(texts)

    def encode(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Vectors of P texts, (P, d_text), with gradients to the words and to the updates."""
        return self.path.encode(words, mask)

    @contextmanager
    def dropping(self, generator: torch.Generator) -> Iterator[None]:
        """With the updates' dropout, drawn by a generator; the tower's own stays off.

        Args:
            generator: The source of randomness.
        """
        layers = [m for name, m in self.module.named_modules() if name.endswith(".lora_dropout.default")]
        try:
            with seeded(int(torch.randint(2**62, (), generator=generator))):
                for layer in layers:
                    layer.train()
                yield
        finally:
            for layer in layers:
                layer.eval()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The updates A and B by their names, and nothing of the frozen tower."""
        return {name: weight.data for name, weight in self.weights.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what :meth:`state_dict` gave."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state[name])


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
    used = _used(tower, lambda: tower(picture))
    with seeded(int(torch.randint(2**62, (), generator=generator))):
        return add_lora(tower, rank=rank, alpha=alpha, dropout=0.0, used=used)


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


def _used(module: nn.Module, run: Callable[[], object]) -> set[str]:
    """Names of the parts that an input goes through: a model may hold another tower beside.

    Args:
        module: The model.
        run: Passes an input through it.
    """
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
