"""Numbers of outlines against scikit-learn on the pixels themselves, and against cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from retune.metrics import dense, patient_weights

RNG = np.random.default_rng(5)
N, K, SIDE = 12, 3, 10
TRUTH = RNG.random((N, K, SIDE, SIDE)) < 0.2
TRUTH[::3, 0] = False
TRUTH[:, 2] = False
FOUND = RNG.random((N, K, SIDE, SIDE)) < np.where(TRUTH, 0.6, 0.1)
FOUND[:5, 1] = False


def sums_of(truth, found):
    return np.stack([(truth & found).sum((2, 3)), found.sum((2, 3)), truth.sum((2, 3))], -1).astype(np.uint32)


SUMS = sums_of(TRUTH, FOUND)


def test_pooled_dice_is_f1_of_all_pixels() -> None:
    expected = [f1_score(TRUTH[:, k].ravel(), FOUND[:, k].ravel()) for k in range(2)]
    assert dense.pooled_dice(SUMS)[:2] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(dense.pooled_dice(SUMS)[2])


def test_a_resample_is_the_dice_of_the_images_that_were_drawn() -> None:
    weights = patient_weights(np.arange(N) // 2, 20, 3)
    samples = dense.pooled_dice(np.stack([SUMS, SUMS[::-1]]), weights)
    assert samples.shape == (20, 2, K)
    for b in (0, 7, 19):
        drawn = np.repeat(np.arange(N), weights[b])
        for k in range(2):
            expected = f1_score(TRUTH[drawn, k].ravel(), FOUND[drawn, k].ravel())
            assert samples[b, 0, k] == pytest.approx(expected, abs=1e-12)


def test_dice_on_positives_and_by_the_published_rule_image_by_image() -> None:
    known = np.ones((N, K), dtype=bool)
    known[1] = False
    sums = np.where(known[..., None], SUMS, 0)
    for k in range(2):
        images = [i for i in range(N) if known[i, k]]
        positive = [f1_score(TRUTH[i, k].ravel(), FOUND[i, k].ravel()) for i in images if TRUTH[i, k].any()]
        empty = [float(not FOUND[i, k].any()) for i in images if not TRUTH[i, k].any()]
        assert dense.positive_dice(sums)[k] == pytest.approx(np.mean(positive), abs=1e-12)
        assert dense.published_dice(sums, known)[k] == pytest.approx(np.mean(positive + empty), abs=1e-12)
    assert dense.false_alarms(sums, known)[0] == 1.0


def test_predicting_nothing_scores_what_is_empty_by_the_published_rule_and_0_by_the_pooled() -> None:
    nothing = sums_of(TRUTH, np.zeros_like(FOUND))
    share = [1 - TRUTH[:, k].any((1, 2)).mean() for k in range(K)]
    assert dense.published_dice(nothing, np.ones((N, K), dtype=bool)).tolist() == pytest.approx(share)
    assert dense.pooled_dice(nothing)[:2].tolist() == [0, 0]


def test_presence_is_the_auroc_of_one_score_an_image() -> None:
    scores = RNG.normal(size=(2, N, K))
    known = np.ones((N, K), dtype=bool)
    known[4, 0] = False
    found = dense.presence(np.stack([SUMS, SUMS]), scores, known)
    there = TRUTH[:, 0].any((1, 2))
    assert found[1, 0] == pytest.approx(
        roc_auc_score(there[known[:, 0]], scores[1, known[:, 0], 0]), abs=1e-12
    )
    assert np.isnan(found[0, 2])


def test_the_threshold_is_the_best_of_all() -> None:
    values, truth = RNG.random(500).round(2), RNG.random(500) < 0.3
    edges = np.arange(100) / 100
    counts = np.stack(
        [np.histogram(values[truth == inside], np.append(edges, 2))[0] for inside in (False, True)]
    )
    dices = [f1_score(truth, values >= edge) for edge in edges]
    assert f1_score(truth, values >= dense.best_threshold(counts, edges)) == pytest.approx(max(dices))
    assert dense.best_threshold(counts * [[1], [0]], edges) == np.inf


def test_over_time_by_hand() -> None:
    refit = np.array([[0.5, np.nan], [0.7, np.nan], [0.4, np.nan]])
    kept = np.array([[np.nan, np.nan], [0.7, np.nan], [0.1, np.nan]])
    found = {key: float(value) for key, value in dense.over_time(refit, kept).items()}
    assert found == pytest.approx(
        {"dense_final": 0.4, "dense_transfer": -0.1, "dense_forgetting": 0.3, "head_drift": 0.6}
    )


def test_an_interval_holds_its_value() -> None:
    weights = patient_weights(np.arange(N), 200, 0)
    refit = np.stack([SUMS, sums_of(TRUTH, FOUND & (RNG.random(FOUND.shape) < 0.5))])
    refit_dice, samples = dense.pooled_dice(refit), dense.pooled_dice(refit, weights)
    found = dense.over_time_measured(refit_dice, refit_dice, dense.over_time(samples, samples))
    assert found["dense_forgetting"].value > 0
    for measured in found.values():
        assert measured.low <= measured.value <= measured.high
        assert measured.low < measured.high
