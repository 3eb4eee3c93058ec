"""Every metric of a label equals scikit-learn's, on ordinary and on degenerate input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from retune.metrics import auroc, average_precision, best_f1_threshold, expected_calibration_error, f1

N = 400


def _scores(kind: str, rng: np.random.Generator, y):
    s = rng.normal(size=len(y)) + y
    return {
        "plain": s,
        "tied": np.round(s),
        "two values": (s > 0.5).astype(float),
        "constant": np.full_like(s, 0.3),
        "huge": s * 1e307,
        "denormal": np.round(s * 3) * 5e-324,
        "adjacent": 1 + np.round(s * 3) * np.finfo(float).eps,
        "signed zeros": np.where(s > 1, 1.0, np.where(rng.random(len(y)) < 0.5, 0.0, -0.0)),
        "float32": s.astype(np.float32),
        "float32 tied": np.round(s, 1).astype(np.float32),
        "perfect": y * 2 - 1.0,
        "inverted": -y,
    }[kind]


KINDS = ["plain", "tied", "two values", "constant", "huge", "denormal", "adjacent", "signed zeros", "float32",
         "float32 tied", "perfect", "inverted"]  # fmt: skip


def _targets(kind: str, rng: np.random.Generator):
    y = (rng.random(N) < 0.3).astype(float)
    if kind in ("one positive", "one negative"):
        y = np.zeros(N)
        y[7] = 1
    return 1 - y if kind == "one negative" else y


def _weights(kind: str | None, rng: np.random.Generator):
    return {
        None: None,
        "counts": rng.integers(0, 4, N),
        "real": rng.random(N) + 0.01,
        "zeros": np.where(rng.random(N) < 0.7, 0.0, rng.random(N)),
        "far apart": 10.0 ** rng.integers(-6, 6, N),
    }[kind]


@pytest.mark.parametrize("weighting", [None, "counts", "real", "zeros", "far apart"])
@pytest.mark.parametrize("prevalence", ["ordinary", "one positive", "one negative"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")  # scikit-learn's own, on undefined and extreme input
def test_ranking_metrics_equal_scikit_learn(kind, prevalence, weighting):
    rng = np.random.default_rng([KINDS.index(kind), len(prevalence), len(weighting or "")])
    y, w = _targets(prevalence, rng), _weights(weighting, rng)
    s = _scores(kind, rng, y)
    used = y if w is None else y[w > 0]
    if used.min() == used.max():
        assert np.isnan(auroc(y, s, w))
        assert np.isnan(average_precision(y, s, w))
        return
    area, precision = (m(y, s, sample_weight=w) for m in (roc_auc_score, average_precision_score))
    assert auroc(y, s, w) == pytest.approx(area, abs=1e-9)
    assert average_precision(y, s, w) == pytest.approx(precision, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_f1_and_its_best_threshold_equal_scikit_learn(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    y = _targets("ordinary", rng)
    s = _scores(kind, rng, y)
    for t in (*np.quantile(s, [0, 0.5, 0.9, 1]), s.max() + 1, s.min() - 1):
        assert f1(y, s, t) == pytest.approx(f1_score(y, s >= t, zero_division=0), abs=1e-12)
    best = best_f1_threshold(y, s)
    precision, recall, thresholds = precision_recall_curve(y, s)
    curve = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    assert f1(y, s, best) == pytest.approx(curve.max(), abs=1e-12)
    ties = [t for t in thresholds if f1(y, s, t) == f1(y, s, best)]
    assert best == max(ties)


def test_best_threshold_prefers_the_fewest_calls():
    # >= 3 calls one of two positives: 2/3. >= 1 calls both and two negatives: 2*2/(4+2) = 2/3 as well.
    assert best_f1_threshold([1, 0, 0, 1], [3, 2, 2, 1]) == 3


def test_calibration_error_worked_by_hand():
    # Two bins. [0, .5]: p .2 .4 .5 0, y 0 1 0 0 -> sums 1.1 and 1, gap .1. (.5, 1]: p .9 .7, y 1 0 -> gap .6.
    p, y = [0.2, 0.4, 0.5, 0.0, 0.9, 0.7], [0, 1, 0, 0, 1, 0]
    assert expected_calibration_error(y, p, bins=2) == pytest.approx(0.7 / 6, abs=1e-12)
    # One bin: |mean p - share present| = |2.7 - 2| / 6.
    assert expected_calibration_error(y, p, bins=1) == pytest.approx(0.7 / 6, abs=1e-12)
    # Three bins, up to 1/3: .2 0 / y 0 0 -> .2; up to 2/3: .4 .5 / 1 0 -> .1; above: .9 .7 / 1 0 -> .6.
    assert expected_calibration_error(y, p, bins=3) == pytest.approx(0.9 / 6, abs=1e-12)


METRICS = [
    auroc,
    average_precision,
    best_f1_threshold,
    lambda y, s: f1(y, s, 0.4),
    expected_calibration_error,
]


@pytest.mark.parametrize("metric", METRICS)
def test_columns_are_independent_and_unknown_rows_have_no_influence(metric):
    rng = np.random.default_rng(3)
    y = (rng.random((N, 4)) < 0.4).astype(float)
    s = np.round(rng.random((N, 4)), 2)
    unknown = rng.random((N, 4)) < 0.3
    y[unknown] = np.nan
    expected = [metric(y[~unknown[:, c], c], s[~unknown[:, c], c]) for c in range(4)]
    assert metric(y, s) == pytest.approx(expected, abs=1e-12)
    s[unknown] = rng.random(unknown.sum())
    assert metric(y, s) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("column", [0.0, 1.0, np.nan])
def test_label_without_both_classes_is_nan(metric, column):
    y = np.tile([0.0, 1.0], (10, 1)).T.reshape(20, 1).repeat(2, axis=1)
    y[:, 1] = column
    s = np.linspace(0, 1, 20)[:, None].repeat(2, axis=1)
    assert np.isnan(metric(y, s)).tolist() == [False, True]
    assert np.isnan(metric(y[:, 1], s[:, 1]))


def test_f1_threshold_per_label():
    y, s = np.tile([[1.0], [0.0], [1.0]], 3), np.tile([[0.9], [0.5], [0.1]], 3)
    # >= .8 calls one, a hit: 2/(1+2). >= .1 calls all: 4/(3+2).
    assert f1(y, s, [0.8, 0.1, np.nan]) == pytest.approx([2 / 3, 0.8, np.nan], nan_ok=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", METRICS[:4])
def test_score_without_a_rank_names_its_column(metric, bad):
    y, s = np.tile([[1.0], [0.0]], 3), np.zeros((2, 3))
    s[1, 2] = bad
    with pytest.raises(ValueError, match="scores: column 2, row 1 has a value that is NaN or infinite"):
        metric(y, s)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: auroc([0, 2], [0.1, 0.2]), "targets: row 1 has a value other than 0, 1 and NaN"),
        (lambda: auroc([0, 1], [0.1, 0.2, 0.3]), r"targets \(2,\) and scores \(3,\)"),
        (lambda: auroc([0, 1], [0.1, 0.2], [1, -1]), "not negative"),
        (lambda: auroc([0, 1], [0.1, 0.2], [1, np.nan]), "finite"),
        (lambda: auroc([0, 1], [0.1, 0.2], [1]), r"weights \(1,\) must be \(2,\)"),
        (lambda: expected_calibration_error([0, 1], [0.1, 1.2]), r"row 1 has a value outside \[0, 1\]"),
        (lambda: expected_calibration_error([0, 1], [0.1, 0.2], bins=0), "bins must be at least 1"),
    ],
)
def test_bad_input_is_told(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_published_aurocs_of_nih(chexnet):
    assert auroc(chexnet.targets, chexnet.scores) == pytest.approx(chexnet.published, abs=1e-6)
