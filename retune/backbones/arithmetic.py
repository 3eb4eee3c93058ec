"""Where and in which precision numbers are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from retune.errors import BadSetting

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]


def choose_device(name: str) -> torch.device:
    """The device of a name; ``"auto"`` is a GPU where there is one.

    Raises:
        BadSetting: If there is no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadSetting(f"there is no device '{name}'", where="--device", fix="use cpu") from error
    return device


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Do products in a precision; weights stay float32.

    Args:
        device: Where they are done.
        precision: ``fp32``, or ``bf16`` for automatic mixed precision.
    """
    import torch

    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield
