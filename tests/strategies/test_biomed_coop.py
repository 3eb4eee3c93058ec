"""BiomedCoOp's two regularisers against hand-worked values and SciPy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from retune.strategies.biomed_coop import distillation, select
from scipy.stats import entropy, median_abs_deviation
from torch.nn.functional import normalize

from retune import registry
from retune.methods.losses import masked_bce

if TYPE_CHECKING:
    from conftest import Lab

BiomedCoOp = registry("strategies").load("biomed-coop")


def test_published_parameters() -> None:
    (figure,) = BiomedCoOp.published_figures()
    assert figure.published == figure.ours == 3072


def test_outliers_are_dropped_as_by_scipy() -> None:
    generator = torch.Generator().manual_seed(4)
    unit, sentences = (normalize(torch.randn(n, 8, generator=generator), dim=1) for n in (5, 11))
    cosines = (unit @ sentences.T).mean(dim=0).numpy()
    away = np.abs(cosines - np.median(cosines)) / median_abs_deviation(cosines)
    kept = torch.from_numpy(away <= 1.5)
    assert 2 < int(kept.sum()) < 11
    expected = normalize(sentences[kept].mean(dim=0), dim=0)
    # Beside a label of two sentences, of which none can be an outlier.
    pair = torch.cat([sentences[:2], torch.zeros(9, 8)])
    chosen = select(unit, torch.stack([sentences, pair]), 1.5)
    torch.testing.assert_close(chosen[0], expected)
    torch.testing.assert_close(chosen[1], normalize(sentences[:2].mean(dim=0), dim=0))


def test_distillation_is_the_mean_divergence_of_two_way_softmaxes() -> None:
    student, teacher = torch.tensor([[0.3, -2.0]]), torch.tensor([[1.0, 0.5]])
    pairs = zip(teacher[0].tolist(), student[0].tolist(), strict=True)

    def both(z: float) -> list[float]:
        p = 1 / (1 + math.exp(-z))
        return [p, 1 - p]

    divergences = [float(entropy(both(t), both(s))) for t, s in pairs]
    assert distillation(student, teacher).item() == pytest.approx(sum(divergences) / 4, rel=1e-5)
    assert distillation(teacher, teacher).item() == pytest.approx(0, abs=1e-7)


def test_the_loss_is_the_sum_of_three(lab: Lab) -> None:
    strategy = lab.make("biomed-coop", sccm=3.0, kdsp=2.0)
    columns, generator = [1, 4], torch.Generator().manual_seed(2)
    unit = normalize(torch.randn(6, 128, generator=generator), dim=1)
    targets = (torch.rand(6, 2, generator=generator) > 0.5).float()
    texts = strategy.texts(columns).detach()
    prompts = lab.prompts[True]
    # Of two sentences neither is an outlier: the teacher's are the means that SCCM pulls to.
    sides = ((prompts.positive, prompts.positive_label), (prompts.negative, prompts.negative_label))
    means = torch.stack(
        [
            torch.stack([normalize(normalize(p[of == c], dim=1).mean(dim=0), dim=0) for c in columns])
            for p, of in sides
        ]
    )
    student, teacher = (unit @ (t[0] - t[1]).T / strategy.temperature for t in (texts, means))
    expected = (
        masked_bce(student, targets)
        + 3.0 * ((texts - means) ** 2).mean()
        + 2.0 * distillation(student, teacher)
    )
    torch.testing.assert_close(strategy.loss(unit, texts, targets, columns), expected)


def test_weights_hold_the_prompts_near_the_sentences(lab: Lab) -> None:
    distances = []
    for weight in (0.0, 1000.0):
        strategy = lab.make("biomed-coop", quick=False, sccm=weight, kdsp=0.0)
        lab.fit(strategy, [lab.experience(strategy, 200, (0, 1), 1)])
        mean = normalize(strategy.sentences[:, :2].sum(dim=2), dim=2)
        distances.append((strategy.texts([0, 1]) - mean).norm().item())
    assert distances[1] < 0.9 * distances[0]
