"""The bootstrap equals resampling the rows and asking scikit-learn, and takes patients whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

import retune.metrics.bootstrap as bootstrap_module
from retune.metrics import (
    bootstrap_auroc,
    bootstrap_calibration,
    bootstrap_f1,
    bootstrap_ranking,
    detectable,
    expected_calibration_error,
    interval,
    patient_weights,
)


def _data(kind: str, rows: int = 300, labels: int = 4, moments: int = 3):
    rng = np.random.default_rng(len(kind))
    y = (rng.random((rows, labels)) < [0.02, 0.1, 0.5, 0.9]).astype(float)
    s = rng.normal(size=(moments, rows, labels)) + y
    if kind == "tied":
        s = np.round(s)
    elif kind == "constant":
        s[:] = 0.5
    elif kind == "float32":
        s = np.round(s, 1).astype(np.float32)
    elif kind == "masked":
        y[rng.random(y.shape) < 0.3] = np.nan
    elif kind == "denormal":
        s = np.round(s * 2) * 5e-324
    return y, s, rng.integers(0, rows // 4, rows)


def _resampled(y, s, weights, metric):
    """One replicate, the slow way: repeat the rows, drop the unknown, ask for each label."""
    rows = np.repeat(np.arange(len(y)), weights)
    out = np.full(y.shape[1], np.nan)
    for c in range(y.shape[1]):
        t, p = y[rows, c], s[rows, c]
        t, p = t[~np.isnan(t)], p[~np.isnan(t)]
        if len(np.unique(t)) == 2:
            out[c] = metric(t, p)
    return out


@pytest.mark.parametrize("kind", ["plain", "tied", "constant", "float32", "masked", "denormal"])
@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (bootstrap_auroc, roc_auc_score),
        (lambda *given: bootstrap_ranking(*given)[1], average_precision_score),
    ],
)
def test_equals_resampling_and_scikit_learn(kind, fast, slow):
    y, s, patients = _data(kind)
    weights = patient_weights(patients, 10, seed=1)
    expected = [[_resampled(y, moment, w, slow) for moment in s] for w in weights]
    got = fast(y, s, weights)
    assert got.shape == (10, 3, 4)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(fast(y, s[1], weights), got[:, 1], rtol=0, atol=0)


def test_real_predictions_equal_scikit_learn(chexnet):
    weights = patient_weights(chexnet.patients, 3, seed=0)
    expected = [_resampled(chexnet.targets, chexnet.scores, w, roc_auc_score) for w in weights]
    got = bootstrap_auroc(chexnet.targets, chexnet.scores, weights)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


def test_f1_equals_resampling_and_scikit_learn():
    y, s, patients = _data("masked")
    s = np.round(s, 1)  # so that scores equal to the threshold occur
    weights = patient_weights(patients, 8, seed=1)
    limits = np.array([0.2, 0.5, 9.0, np.nan])
    got = bootstrap_f1(y, s, limits, weights)
    for c in range(3):
        expected = [[_resampled(y, m, w, lambda t, p, c=c: f1_score(t, p >= limits[c], zero_division=0))[c]
                     for m in s] for w in weights]  # fmt: skip
        np.testing.assert_allclose(got[:, :, c], expected, rtol=0, atol=1e-12)
    assert np.isnan(got[:, :, 3]).all()
    np.testing.assert_array_equal(bootstrap_f1(y, s[0], limits, weights), got[:, 0])


def test_calibration_equals_resampling():
    y, s, patients = _data("masked")
    p = 1 / (1 + np.exp(-s[0]))
    weights = patient_weights(patients, 8, seed=1)
    expected = [_resampled(y, p, w, expected_calibration_error) for w in weights]
    np.testing.assert_allclose(bootstrap_calibration(y, p, weights), expected, rtol=0, atol=1e-12)


def test_unknown_targets_have_no_influence():
    y, s, patients = _data("masked")
    weights = patient_weights(patients, 8, seed=1)
    before = bootstrap_ranking(y, s, weights)
    s = np.where(np.isnan(y), np.random.default_rng(9).normal(size=s.shape), s)
    np.testing.assert_array_equal(bootstrap_ranking(y, s, weights), before)


def test_how_much_is_done_at_a_time_does_not_matter(monkeypatch):
    y, s, patients = _data("tied")
    weights = patient_weights(patients, 50, seed=1)
    whole = bootstrap_ranking(y, s, weights)
    for name, size in (("_WIDE", 7), ("_BLOCK", 1), ("_CELLS", 1)):  # some replicates, fewer of them, a label
        monkeypatch.setattr(bootstrap_module, name, size)
        np.testing.assert_array_equal(bootstrap_ranking(y, s, weights), whole)


def test_the_layout_of_counts_does_not_matter():
    y, s, patients = _data("masked")
    weights = patient_weights(patients, 50, seed=1)
    np.testing.assert_array_equal(
        bootstrap_ranking(y, s, np.ascontiguousarray(weights)), bootstrap_ranking(y, s, weights)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
def test_counts_of_any_type_and_sums_too_long_for_sixteen_bits(dtype):
    y, s, patients = _data("tied")
    weights = patient_weights(patients, 7, seed=1).astype(dtype)
    small = bootstrap_ranking(y, s, weights)
    weights = weights.astype(np.int64) * 1000  # 300,000 images a replicate
    large = bootstrap_ranking(y, s, weights)
    np.testing.assert_allclose(large, small, rtol=0, atol=1e-12)


def test_a_replicate_without_a_class_is_nan_for_that_label():
    y = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    s = np.array([[0.9, 0.9], [0.5, 0.5], [0.1, 0.1]])
    weights = np.array([[0, 2, 1], [1, 1, 1]])
    np.testing.assert_array_equal(bootstrap_auroc(y, s, weights), [[np.nan, 0.0], [1.0, 0.5]])
    got = bootstrap_ranking(y, s, weights)[1]
    np.testing.assert_allclose(got, [[np.nan, 1 / 3], [1.0, (1 + 2 / 3) / 2]], atol=1e-12)


def test_patients_are_drawn_whole_and_as_often_as_there_are():
    patients = np.array([3, 1, 3, 2, 2, 3, 7])
    weights = patient_weights(patients, 200, seed=4)
    assert weights.shape == (200, 7)
    assert weights.dtype == np.uint8
    for patient in np.unique(patients):
        rows = weights[:, patients == patient]
        assert (rows == rows[:, :1]).all()
    first = [int(np.flatnonzero(patients == p)[0]) for p in np.unique(patients)]
    assert (weights[:, first].sum(axis=1) == 4).all()
    assert weights[:, first].mean(axis=0) == pytest.approx([1, 1, 1, 1], abs=0.2)
    assert len(np.unique(weights, axis=0)) > 20


def test_draws_depend_on_seed_and_not_on_spelling_or_number():
    patients = np.array([3, 1, 3, 2, 2, 3, 7])
    weights = patient_weights(patients, 30, seed=4)
    spelt = patient_weights(["c", "z", "c", ("b", 2), ("b", 2), "c", 0.5], 30, seed=4)
    np.testing.assert_array_equal(spelt, weights)
    np.testing.assert_array_equal(patient_weights(patients, 60, seed=4)[:30], weights)
    assert (patient_weights(patients, 30, seed=5) != weights).any()
    # Fixed for good: a published interval must come out the same again.
    fixed = [[2, 1, 0, 1, 1], [0, 0, 1, 2, 2], [2, 0, 0, 1, 2]]
    assert patient_weights([0, 1, 2, 3, 4], 3, seed=0).tolist() == fixed


def test_interval_is_numpys_percentiles_of_what_is_defined():
    x = np.random.default_rng(0).normal(size=(101, 3, 2))
    x[::3, 0, 0] = np.nan
    x[:, 2, 1] = np.nan
    x[1:, 1, 1] = np.nan
    low, high = interval(x, level=0.9)
    for at in np.ndindex(3, 2):
        known = x[:, *at][~np.isnan(x[:, *at])]
        expected = np.percentile(known, [5, 95]) if len(known) else [np.nan, np.nan]
        np.testing.assert_allclose([low[at], high[at]], expected, rtol=0, atol=1e-12)
    low, high = interval(np.arange(1001.0))
    assert (float(low), float(high)) == pytest.approx((25.0, 975.0))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: patient_weights(np.array([1.0, np.nan]), 5, 0), "missing identifier"),
        (lambda: patient_weights(["a", None], 5, 0), "missing identifier"),
        (lambda: patient_weights([], 5, 0), "at least one replicate"),
        (lambda: patient_weights(["a"], 0, 0), "at least one replicate"),
        (lambda: bootstrap_auroc(np.eye(2), np.eye(2), np.ones((5, 2))), "integer counts"),
        (lambda: bootstrap_auroc(np.eye(2), np.eye(2), np.ones((5, 3), int)), r"\(B, 2\)"),
        (lambda: bootstrap_auroc(np.eye(2), np.eye(2), -np.ones((5, 2), int)), "negative"),
        (lambda: bootstrap_auroc(np.eye(2), np.eye(3), np.ones((5, 2), int)), r"scores \(3, 3\)"),
        (lambda: bootstrap_auroc(np.eye(2), np.eye(2) * np.inf, np.ones((5, 2), int)), "column 0"),
        (lambda: bootstrap_auroc(np.eye(2), np.eye(2), np.full((1, 2), 1 << 31)), r"2\*\*32"),
        (lambda: interval(np.empty((0, 3))), "at least one sample"),
        (lambda: interval([1.0], level=1.5), "level"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # 0 * inf of the test itself
def test_bad_input_is_told(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_detectable_is_the_formula_of_bloom():
    samples = np.array([0.01, 0.03, 0.02, np.nan, 0.06])
    error = np.std([0.01, 0.03, 0.02, 0.06], ddof=1)
    assert detectable(samples) == pytest.approx((norm.ppf(0.975) + norm.ppf(0.8)) * error, rel=1e-9)
    assert detectable(samples) == pytest.approx(2.8016 * error, rel=1e-4)
    assert detectable(samples, alpha=0.01, power=0.9) == pytest.approx((2.5758 + 1.2816) * error, rel=1e-4)
    assert detectable([0.1] * 5) == pytest.approx(0, abs=1e-15)
    assert np.isnan(detectable([0.1, np.nan]))


def test_a_difference_as_large_as_detectable_is_found_four_times_in_five():
    """Whole experiments: patients drawn anew, their mean difference resampled, its interval seen to leave 0 out."""
    patients, experiments = 120, 500
    rng = np.random.default_rng(0)
    weights = patient_weights(np.arange(patients), 400, 0)
    noise = rng.normal(size=(patients, experiments))
    told = np.median([detectable(weights @ noise[:, k] / patients) for k in range(40)])
    low, high = interval(weights @ (noise + told) / patients, 0.95)
    assert told == pytest.approx(2.80 / np.sqrt(patients), rel=0.05)
    assert np.mean((low > 0) | (high < 0)) == pytest.approx(0.8, abs=0.05)
