"""Tip-Adapter against hand-worked votes; what it caches, and what F trains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn.functional import normalize

from retune import Context, Images, Training, registry
from retune.prompts.embeddings import PromptEmbeddings

if TYPE_CHECKING:
    from conftest import Lab

TipAdapter = registry("strategies").load("tip-adapter")


def made(features: torch.Tensor, targets: torch.Tensor, whose: torch.Tensor | None = None) -> Training:
    patients = torch.arange(len(features)) if whose is None else whose
    images = Images(len(features), {"features": lambda: features})
    return Training(images, targets, tuple(range(targets.shape[1])), 3, None, patients)


def started(n_labels: int, dim: int, **settings: Any) -> Any:
    """With prompts that say nothing: zero-shot is 0."""
    index, side = torch.arange(n_labels), torch.ones(n_labels, dim)
    labels = tuple("ABCDEFGH"[:n_labels])
    strategy = TipAdapter(**settings)
    strategy.setup(Context(labels, dim, PromptEmbeddings(side, index, side, index, labels), 0))
    return strategy


def test_votes_by_hand() -> None:
    strategy = started(2, 2, shots=4, alpha=0.5, beta=2.0)
    keys = torch.tensor([[3.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])
    nan = float("nan")
    # A: present at 0 degrees, absent at 90 and 180. B: present at 0 only.
    strategy.fit(made(keys, torch.tensor([[1.0, 1.0], [0.0, nan], [0.0, nan]])))
    image = torch.tensor([[math.cos(math.pi / 3), math.sin(math.pi / 3)]])
    (scores,) = strategy.score(Images(1, {"features": lambda: image}))
    present = math.exp(-2 * (1 - 0.5))
    absent = (math.exp(-2 * (1 - math.sqrt(0.75))) + math.exp(-2 * (1 + 0.5))) / 2
    expected = 0.5 * 4 * (present - absent) / (present + absent)
    torch.testing.assert_close(scores, torch.tensor([expected, 0.0]), rtol=1e-5, atol=1e-6)


def test_it_caches_so_many_of_each_polarity_and_every_patient_first() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(60, 4, generator=generator)
    targets = torch.full((60, 2), float("nan"))
    targets[:30, 0], targets[30:, 0], targets[:2, 1] = 1, 0, 1
    # Of those present, twenty-seven images are one patient's and three are of one each.
    whose = torch.cat([torch.zeros(27), torch.arange(1, 34)]).long()
    strategy = started(2, 4, shots=4)
    strategy.fit(made(features, targets, whose))
    state = strategy.state_dict()
    keys, values = state["memory.features"], state["memory.targets"]
    assert (values[:, 0] == -1).sum() == 4
    place = [int((normalize(features, dim=1) - key).abs().sum(dim=1).argmin()) for key in keys]
    assert {27, 28, 29} <= set(place)
    # Both of label B, whoever else is cached; its unknown images say nothing.
    assert {0, 1} <= set(place)
    assert values[:, 1].tolist() == [int(k < 2) for k in place]
    assert (values[:, 0] == 1).sum() <= 6


def test_f_trains_the_new_keys_alone(lab: Lab) -> None:
    cache: dict[str, torch.Tensor] = {}
    for variant in ("training-free", "f"):
        strategy = lab.make("tip-adapter", variant=variant)
        everything = tuple(range(len(lab.labels)))
        lab.fit(strategy, [lab.experience(strategy, 60, everything, 1)])
        first = strategy.state_dict()["memory.features"].clone()
        lab.fit(strategy, [lab.experience(strategy, 60, everything, 2)])
        cache[variant] = strategy.state_dict()["memory.features"]
        assert torch.equal(cache[variant][: len(first)], first)
    changed = (cache["f"] != cache["training-free"]).any(dim=1)
    assert changed.all()
    norms = cache["training-free"].norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize("variant", ["training-free", "f"])
def test_labels_without_cached_images_stay_zero_shot(lab: Lab, variant: str) -> None:
    strategy = lab.make("tip-adapter", variant=variant)
    before = lab.score(strategy)
    lab.fit(strategy, [lab.experience(strategy, 60, (0, 1), 1)])
    after = lab.score(strategy)
    assert torch.equal(after[:, 2:], before[:, 2:])
    assert ((after[:, :2] - before[:, :2]).abs().amax(dim=0) > 0.1).all()
