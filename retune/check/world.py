"""What is global to a process: nothing of it is a plugin's to change."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch


def _set_environment(then: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(then):
        del os.environ[name]
    os.environ.update(then)


def _set_filters(then: list[Any]) -> None:
    if list(warnings.filters) != then:
        warnings.resetwarnings()
        for kept in reversed(then):
            warnings.filters.insert(0, kept)  # type: ignore[attr-defined]


def _set_device(then: torch.device) -> None:
    # None rather than the CPU: a device that is set costs every call a little.
    torch.set_default_device(None if then.type == "cpu" else then)


def _set_path(then: list[str]) -> None:
    sys.path[:] = then


def _numpy_generator() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()
    return (kind, tuple(np.asarray(keys).tolist()), *rest)


Read = Callable[[], Any]
Write = Callable[[Any], object]

WORLD: Final[Mapping[str, tuple[Read, Write]]] = {
    "Python's random generator": (random.getstate, random.setstate),
    "NumPy's random generator": (_numpy_generator, np.random.set_state),
    "PyTorch's random generator": (
        lambda: torch.get_rng_state().numpy().tobytes(),
        lambda then: torch.set_rng_state(torch.frombuffer(bytearray(then), dtype=torch.uint8)),
    ),
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "the default device": (torch.get_default_device, _set_device),
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "the gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "anomaly detection": (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    "the precision of products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "NumPy's error handling": (np.geterr, lambda then: np.seterr(**then)),
    "the working directory": (os.getcwd, os.chdir),
    "the environment": (lambda: dict(os.environ), _set_environment),
    "the warning filters": (lambda: list(warnings.filters), _set_filters),
    "the import path": (lambda: list(sys.path), _set_path),
}
"""What is compared, and put back, by name: how to read it, and how to set it."""


def snapshot() -> dict[str, Any]:
    """Everything of :data:`WORLD` as it is now."""
    return {name: read() for name, (read, _) in WORLD.items()}


def changed(before: Mapping[str, Any]) -> list[str]:
    """What is not as it was, by name."""
    return [name for name, value in snapshot().items() if value != before[name]]


@contextmanager
def restored() -> Iterator[None]:
    """Put back whatever changes inside, so that one check's damage is not another's."""
    before = snapshot()
    try:
        yield
    finally:
        for name in changed(before):
            WORLD[name][1](before[name])
