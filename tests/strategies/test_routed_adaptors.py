"""Routed adaptors: the router against scikit-learn's discriminant analysis, and who answers for a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from retune import Images, Training, registry
from retune.methods.adaptors import normalised

if TYPE_CHECKING:
    from conftest import Lab

Routed = registry("strategies").load("routed-adaptors")


def test_shares_are_the_posterior_of_discriminant_analysis(lab: Lab) -> None:
    strategy = lab.make("routed-adaptors", shrinkage=0.3)
    everything = tuple(range(len(lab.labels)))
    parts = [lab.experience(strategy, n, everything, k) for k, n in ((1, 150), (2, 90), (3, 40))]
    lab.fit(strategy, parts)
    given = [normalised(part.images.features).double().numpy() for part in parts]
    images, steps = np.concatenate(given), np.repeat([0, 1, 2], [150, 90, 40])
    # The same covariance, computed apart: within experiences, shrunk towards its mean variance.
    within = np.concatenate([x - x.mean(axis=0) for x in given])
    covariance = within.T @ within / len(within)
    shrunk = 0.7 * covariance + 0.3 * np.trace(covariance) / 128 * np.eye(128)

    class Given:
        """What scikit-learn asks for a class's covariance; weighted by priors that sum to 1."""

        def fit(self, _: np.ndarray) -> None:
            self.covariance_ = shrunk

    analysis = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Given()).fit(images, steps)
    test = normalised(lab.tests(strategy).features)
    shares = strategy._shares(test)[:, :, 0].T.numpy()
    np.testing.assert_allclose(shares, analysis.predict_proba(test.double().numpy()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("routing", ["soft", "hard", "even"])
def test_only_those_who_know_a_label_are_asked(lab: Lab, routing: str) -> None:
    strategy = lab.make("routed-adaptors", routing=routing)
    first, second, last = lab.stream(strategy)
    before = lab.scores_after(strategy, [first])
    after = lab.scores_after(strategy, [second])
    assert torch.equal(before[:, :2], after[:, :2])
    assert not after[:, 4:].any()
    assert not torch.equal(lab.scores_after(strategy, [last])[:, :2], after[:, :2])
    shares = strategy._shares(normalised(lab.tests(strategy).features)).sum(dim=0)
    torch.testing.assert_close(shares, torch.ones_like(shares))


def test_images_of_another_place_are_sent_to_its_adaptor(lab: Lab) -> None:
    strategy = lab.make("routed-adaptors", routing="hard", quick=False)
    there = torch.zeros(128)
    there[10] = 8.0

    def images(n: int, seed: int, shift: torch.Tensor) -> Images:
        features = lab.pictures(strategy, n, seed).features + shift
        return Images(n, {"features": lambda: features})

    # The label means the contrary there: one classifier could not serve both.
    for k, shift in enumerate((0 * there, there)):
        targets = torch.full((300, len(lab.labels)), float("nan"))
        targets[:, 0] = (lab.truth(300, k)[:, 0] ^ bool(k)).float()
        strategy.fit(Training(images(300, k, shift), targets, (0,), k, None, torch.arange(300)))
    for k, shift in enumerate((0 * there, there)):
        test, truth = images(300, 9, shift), lab.truth(300, 9)[:, 0] ^ bool(k)
        assert strategy._shares(normalised(test.features))[k, :, 0].mean() > 0.95
        assert roc_auc_score(truth, strategy.score(test)[:, 0].detach()) > 0.7


def test_nothing_of_single_images_is_kept(lab: Lab) -> None:
    sizes = []
    for n in (20, 200):
        strategy = lab.make("routed-adaptors")
        lab.fit(strategy, [lab.experience(strategy, n, (0, 1), 1)])
        state = strategy.state_dict()
        sizes.append(sum(v.numel() for v in state.values() if isinstance(v, torch.Tensor)))
    assert sizes[0] == sizes[1]
    # Bottleneck, its biases, two heads; a count, a mean, a scatter.
    assert strategy.trainable_parameters() == 2 * 128 * 32 + 32 + 128 + 2 * 129
    assert sizes[0] == strategy.trainable_parameters() + 1 + 128 + 128 * 128
