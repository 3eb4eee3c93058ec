"""Whatever is global is seen to change, and put back."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from retune.check.world import WORLD, changed, restored, snapshot

CHANGES: dict[str, Callable[[], object]] = {
    "Python's random generator": random.random,
    "NumPy's random generator": np.random.rand,
    "PyTorch's random generator": lambda: torch.rand(1),
    "the default dtype": lambda: torch.set_default_dtype(torch.float64),
    "the default device": lambda: torch.set_default_device("meta"),
    "the number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "the gradient mode": lambda: torch.set_grad_enabled(False),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "anomaly detection": lambda: torch.set_anomaly_enabled(True),
    "the precision of products": lambda: torch.set_float32_matmul_precision("high"),
    "NumPy's error handling": lambda: np.seterr(under="raise"),
    "the working directory": lambda: os.chdir(Path.cwd().parent),
    "the environment": lambda: os.environ.update(RETUNE_TEST_OF_CHECK="1"),
    "the warning filters": lambda: warnings.simplefilter("ignore"),
    "the import path": lambda: sys.path.append("nowhere"),
}


@pytest.mark.parametrize("name", WORLD)
def test_a_change_is_seen_by_name_and_put_back(name: str) -> None:
    with restored():
        CHANGES[name]()  # what this imports for the first time changes more
    before = snapshot()
    with restored():
        CHANGES[name]()
        assert changed(before) == [name]
    assert changed(before) == []
