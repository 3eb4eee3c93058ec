"""Ridge, RanPAC and nearest class mean against scikit-learn, and against themselves on other partings of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from retune import Context, Images, Strategy, Training
from retune.methods.ridge import PENALTIES
from retune.prompts.embeddings import PromptEmbeddings
from retune.runner.resolve import find_strategy
from retune.settings import make

D, C, N = 6, 4, 90
EXACT = ["ridge", "ranpac", "nearest-class-mean"]
Masks = dict[str, torch.Tensor]


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Features and all targets; the last label is rare."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(N, D, generator=generator) + 1
    noise = torch.randn(N, C, generator=generator)
    return features, (features[:, :C] + noise > torch.tensor([1.0, 0.5, 1.5, 2.8])).float()


def hidden(how: str) -> torch.Tensor:
    """Which targets are unknown, (N, C)."""
    part = torch.arange(N) * 3 // N
    first = torch.tensor([0, 0, 1, 2])
    return {
        "class": part[:, None] != first,
        "label": part[:, None] < first,
        "data": torch.zeros(N, C, dtype=torch.bool),
        "gaps": torch.rand(N, C, generator=torch.Generator().manual_seed(5)) < 0.4,
    }[how]


def made(name: str, **settings: Any) -> Strategy:
    cls, owner, _ = find_strategy(name)
    small = {"projections": 40} if name == "ranpac" else {}
    strategy: Strategy = make(cls, {"start": "zeros", **small, **settings}, owner=owner)
    index = torch.zeros(0, dtype=torch.int64)
    nothing = PromptEmbeddings(torch.zeros(0, D), index, torch.zeros(0, D), index, tuple("ABCD"))
    strategy.setup(Context(tuple("ABCD"), D, nothing, 3))
    return strategy


def images(features: torch.Tensor) -> Images:
    return Images(len(features), {"features": lambda: features})


def learnt(strategy: Strategy, targets: torch.Tensor, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Scores of all images after learning from some of them, part after part."""
    features, _ = data()
    for step, rows in enumerate(parts, start=1):
        seen = tuple((~targets[rows].isnan()).any(0).nonzero().flatten().tolist())
        strategy.fit(Training(images(features[rows]), targets[rows], seen, step, None, rows))
    return strategy.score(images(features))


def lifted(strategy: Strategy) -> np.ndarray:
    """What the regression is on, worked out anew."""
    unit = torch.nn.functional.normalize(data()[0].double(), dim=1) * math.sqrt(D)
    if strategy.name == "ranpac":
        generator = torch.Generator().manual_seed(3)
        unit = (unit @ torch.randn(D, 40, generator=generator, dtype=torch.float64) / math.sqrt(D)).relu()
    return unit.numpy()


@pytest.mark.parametrize("how", ["class", "label", "data", "gaps"])
@pytest.mark.parametrize("name", EXACT)
def test_learning_in_parts_is_learning_from_all_at_once(name: str, how: str) -> None:
    targets = data()[1].masked_fill(hidden(how), torch.nan)
    joint = learnt(made(name), targets, [torch.arange(N)])
    for parts in (
        torch.arange(N).split(30),
        torch.arange(N).flip(0).split([1, 2, 40, 47]),
        torch.randperm(N, generator=torch.Generator().manual_seed(1)).split(8),
    ):
        torch.testing.assert_close(learnt(made(name), targets, parts), joint, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["class", "label", "data", "gaps"])
@pytest.mark.parametrize("name", ["ridge", "ranpac"])
def test_the_result_is_scikit_learn_s_ridge_of_each_label(name: str, how: str) -> None:
    targets = data()[1].masked_fill(hidden(how), torch.nan)
    strategy = made(name, penalty=2.5)
    scores, x = learnt(strategy, targets, torch.arange(N).split(30)), lifted(strategy)
    for c in range(C):
        known = ~targets[:, c].isnan().numpy()
        reference = Ridge(alpha=2.5).fit(x[known], 2 * targets[known, c].numpy() - 1)
        np.testing.assert_allclose(scores[:, c].numpy(), reference.predict(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [12, N])
@pytest.mark.parametrize("name", ["ridge", "ranpac"])
def test_penalties_are_those_of_generalised_cross_validation(name: str, n: int) -> None:
    """With more images than features, and with fewer."""
    strategy, targets = made(name), data()[1]
    learnt(strategy, targets, torch.arange(n).split(5))
    x, y = lifted(strategy)[:n], 2 * targets[:n].numpy() - 1
    chosen = strategy.diagnostics()["penalty"]
    for c, label in enumerate("ABCD"):
        criterion = []
        for penalty in PENALTIES:
            # The hat matrix of all columns, the intercept's unpenalised.
            full = np.column_stack([np.ones(n), x])
            ridge = penalty * np.diag([0.0] + [1.0] * x.shape[1])
            hat = full @ np.linalg.solve(full.T @ full + ridge, full.T)
            rest = y[:, c] - hat @ y[:, c]
            criterion.append(n * rest @ rest / (n - np.trace(hat)) ** 2)
        assert criterion[PENALTIES.index(chosen[label])] == pytest.approx(min(criterion), rel=1e-4)


@pytest.mark.parametrize("name", EXACT)
def test_a_label_keeps_its_start_until_both_classes_are_there(name: str) -> None:
    strategy, targets = made(name), data()[1]
    positive = targets[:, 0] == 1
    only = targets.masked_fill(torch.tensor([False, True, True, True]), torch.nan)
    rows = torch.arange(N)
    assert not learnt(strategy, only, [rows[positive]]).any()
    after = learnt(strategy, only, [rows[~positive]])
    assert after[:, 0].abs().min() > 0
    assert not after[:, 1:].any()
    torch.testing.assert_close(after, learnt(made(name), only, [rows]), rtol=1e-5, atol=1e-6)


def test_labels_of_one_history_share_their_moments() -> None:
    strategy = made("ridge")
    learnt(strategy, data()[1].masked_fill(hidden("class"), torch.nan), torch.arange(N).split(30))
    state = strategy.state_dict()
    assert sorted(map(tuple, state["groups"])) == [(0, 1), (2,), (3,)]
    sizes = {tuple(g): state[f"moments.{i}"].shape for i, g in enumerate(state["groups"])}
    # An intercept, six features and the targets.
    assert sizes == {(0, 1): (9, 9), (2,): (8, 8), (3,): (8, 8)}


def test_nearest_class_mean_by_hand() -> None:
    strategy = made("nearest-class-mean")
    e = torch.eye(D)
    # Positive mean (1, 1, 0) / 2 of the directions, whatever their lengths; negative mean e3.
    features = torch.stack([3 * e[0], e[1], 5 * e[2], e[3]])
    targets = torch.tensor([[1.0], [1.0], [0.0], [torch.nan]]).expand(4, C).clone()
    strategy.fit(Training(images(features), targets, (0, 1, 2, 3), 1, None, torch.arange(4)))
    scores = strategy.score(images(torch.stack([e[0], 2 * e[2], e[0] + e[2], e[3]])))[:, 0]
    root = math.sqrt(D)
    expected = torch.tensor([math.sqrt(0.5), -1.0, (math.sqrt(0.5) - 1) * math.sqrt(0.5), 0.0]) * root
    torch.testing.assert_close(scores, expected)
