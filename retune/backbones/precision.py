"""Where and in which precision numbers are made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from retune.errors import BadSetting
from retune.system import cores

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
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Do products in a precision; weights stay float32.

    Args:
        device: Where they are done.
        precision: ``fp32``, or ``bf16`` for automatic mixed precision.
    """
    import torch

    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Do products in as many threads: how many they are cut into decides their last bits on some processors.

    Args:
        number: At most this many; fewer where the process may use fewer cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(number, cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Ask a GPU for the same bits every time; processors give them anyway.

    Args:
        device: Where numbers are made.
    """
    import torch

    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
