"""The trunk: one word for every method whose labels may share something, and what sharing does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from sklearn.metrics import roc_auc_score

from retune import Images, Strategy, Training
from retune.plugins import registry
from retune.runner.resolve import find_strategy
from retune.settings import make, values_of

if TYPE_CHECKING:
    from conftest import Lab

OWN = [n for n in registry("strategies").names() if "trunk" in find_strategy(n)[0].presets]
CURVED = 2
"""The label of :func:`shown` that no plane tells."""


def shown(lab: Lab, n: int, observed: tuple[int, ...], seed: int) -> Training:
    """Label c is whether feature c is positive; but label CURVED, whether its feature is far from zero."""
    features = torch.randn(n, 128, generator=torch.Generator().manual_seed(seed))
    features[:, 6:] = 0
    truth = features[:, : len(lab.labels)] > 0
    truth[:, CURVED] = features[:, CURVED].abs() > 0.7
    targets = torch.full(truth.shape, torch.nan)
    targets[:, observed] = truth[:, observed].float()
    images = Images(n, {"features": lambda: features})
    return Training(images, targets, observed, seed, None, torch.arange(n) + 1000 * seed)


def learnt(lab: Lab, name: str, parts: list[Training], **settings: Any) -> Strategy:
    strategy = lab.make(name, quick=False, **settings)
    for part in parts:
        strategy.fit(part)
    return strategy


def test_who_has_a_trunk() -> None:
    assert {"linear-probe", "lwf", "replay", "der++", "pseudo-label-replay", "joint"} == set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_it_changes_no_score_before_it_is_trained(lab: Lab, name: str) -> None:
    linear, trunk = (lab.make(name, head=head) for head in ("linear", "trunk"))
    images = lab.pictures(linear, 20)
    assert torch.equal(lab.score(linear, images), lab.score(trunk, images))
    # d (2d) + 2d + (2d) d + d numbers more.
    assert trunk.trainable_parameters() - linear.trainable_parameters() == 4 * 128**2 + 3 * 128
    counts = type(trunk).parameter_counts(128, len(lab.labels))
    assert counts == {"linear": linear.trainable_parameters(), "trunk": trunk.trainable_parameters()}


@pytest.mark.parametrize("name", OWN)
def test_by_default_a_run_is_the_run_that_it_was(name: str) -> None:
    cls = find_strategy(name)[0]
    assert "head" not in values_of(cls())
    assert values_of(make(cls, {"head": "trunk"}, owner=name))["head"] == "trunk"


def test_only_what_is_shared_is_forgotten_and_distillation_holds_it(lab: Lab) -> None:
    """What two experiences of another label do to the scores of label 0."""
    parts = [shown(lab, 200, (0,), 1), shown(lab, 200, (1, CURVED), 2), shown(lab, 200, (1, CURVED), 3)]
    test = shown(lab, 300, (0,), 9)
    moved = {}
    for name in ("linear-probe", "linear-probe/trunk", "lwf/trunk"):
        after = [learnt(lab, name, parts[:n], start="zeros").score(test.images)[:, 0] for n in (1, 3)]
        moved[name] = (after[1] - after[0]).abs().mean().item()
    assert moved["linear-probe"] == 0
    assert moved["lwf/trunk"] < 0.5 * moved["linear-probe/trunk"]


def test_labels_not_yet_learnt_move_with_it(lab: Lab) -> None:
    part = shown(lab, 200, (0,), 1)
    before, after = (learnt(lab, "linear-probe/trunk", parts).score(part.images) for parts in ([], [part]))
    assert not torch.equal(before[:, 5], after[:, 5])


def test_without_its_weight_distillation_is_fine_tuning(lab: Lab) -> None:
    parts = [shown(lab, 60, (0,), 1), shown(lab, 60, (1,), 2)]
    quick: dict[str, Any] = {"weight_decay": 0.0, "epochs": 3, "head": "trunk"}
    tuned, distilled = (
        learnt(lab, name, parts, **quick, **more)
        for name, more in (("linear-probe", {}), ("lwf", {"alpha": 0}))
    )
    assert torch.allclose(tuned.score(parts[0].images), distilled.score(parts[0].images), atol=1e-5)


def test_the_bound_of_a_trunk_bends_and_takes_features_as_they_are(lab: Lab) -> None:
    everything = tuple(range(len(lab.labels)))
    part, test = (shown(lab, 600, everything, k) for k in (1, 2))
    truth = test.targets[:, CURVED].numpy()
    auc = [
        roc_auc_score(
            truth, learnt(lab, name, [part], l2=1e-3, iterations=40).score(test.images)[:, CURVED].numpy()
        )
        for name in ("joint", "joint/trunk")
    ]
    assert auc[0] < 0.65
    assert auc[1] > 0.9
