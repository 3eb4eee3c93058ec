"""The report holds what the single functions give, and its intervals what an explicit bootstrap gives."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from retune.metrics import (
    average_auc,
    backward_transfer,
    continual_report,
    expected_calibration_error,
    final_auc,
    forgetting,
    forward_transfer,
    interval,
    patient_weights,
)

FIRST = np.array([1, 2, 3, 1, 0])
LIMITS = np.array([0.0, 0.5, 0.2, 0.1, 1.0])
PREVALENCE = np.array([0.3, 0.02, 0.11, np.nan, 0.019])
FROM_AUC = ["final_auc", "average_auc", "forgetting", "backward_transfer", "forward_transfer"]
FROM_AUC += ["zero_shot_auc", "gain", "learning"]
FROM_AP = ["final_ap", "average_ap", "ap_forgetting", "ap_backward_transfer", "ap_forward_transfer"]
FROM_AP += ["zero_shot_ap", "ap_gain", "ap_learning"]
GROUPS = {"final_auc_head": [0, 2], "final_auc_medium": [1], "final_auc_tail": [4]}
REPLICATES = 12


def _run(rows: int = 240):
    rng = np.random.default_rng(5)
    y = (rng.random((rows, 5)) < [0.3, 0.2, 0.5, 0.1, 0.4]).astype(float)
    y[rng.random(y.shape) < 0.1] = np.nan
    learnt = (np.arange(4)[:, None] >= FIRST) + 0.5
    s = np.round(rng.normal(size=(4, rows, 5)) + np.nan_to_num(y) * learnt[:, None], 1)
    s[2, :, 1:3] = s[1, :, 1:3]  # labels that the second step did not change
    return y, s, rng.integers(0, rows // 3, rows)


def _matrix(metric, y, s):
    out = np.empty((len(s), y.shape[1]))
    for c in range(y.shape[1]):
        known = ~np.isnan(y[:, c])
        out[:, c] = [metric(y[known, c], moment[known, c], c) for moment in s]
    return out


def _eight(r):
    metrics = (average_auc, forgetting, backward_transfer, forward_transfer)
    learning = np.mean([r[i, c] - r[i - 1, c] for c, i in enumerate(FIRST) if i])
    return [final_auc(r), *(m(r, FIRST) for m in metrics), r[0].mean(), r[-1].mean() - r[0].mean(), learning]


def _everything(y, s):
    auc = _matrix(lambda t, p, c: roc_auc_score(t, p), y, s)
    ap = _matrix(lambda t, p, c: average_precision_score(t, p), y, s)
    f1 = _matrix(lambda t, p, c: f1_score(t, p >= LIMITS[c]), y, s)
    ece = _matrix(lambda t, p, c: expected_calibration_error(t, expit(p)), y, s)[-1]
    groups = [auc[-1, columns].mean() for columns in GROUPS.values()]
    values = [*_eight(auc), *_eight(ap), *groups, final_auc(f1), forgetting(f1, FIRST), ece.mean()]
    return values, (auc, ap, f1, ece)


def test_values_and_intervals_equal_the_slow_way():
    y, s, patients = _run()
    report = continual_report(
        y, s, FIRST, patients, LIMITS, replicates=REPLICATES, seed=3, level=0.8, prevalence=PREVALENCE
    )
    values, (auc, ap, f1, ece) = _everything(y, s)
    keys = [*FROM_AUC, *FROM_AP, *GROUPS, "final_f1", "f1_forgetting", "calibration_error"]
    assert set(report.metrics) == set(keys)
    assert [report.metrics[k].value for k in keys] == pytest.approx(values, abs=1e-9)
    np.testing.assert_allclose(report.auc_matrix, auc, atol=1e-9)
    np.testing.assert_allclose(report.ap_matrix, ap, atol=1e-9)
    np.testing.assert_allclose(report.f1_matrix, f1, atol=1e-9)
    np.testing.assert_allclose(report.ece, ece, atol=1e-9)
    assert report.undefined == ()

    replicates = []
    for weights in patient_weights(patients, REPLICATES, seed=3):
        rows = np.repeat(np.arange(len(y)), weights)
        replicates.append(_everything(y[rows], s[:, rows]))
    low, high = interval(np.array([values for values, _ in replicates]), level=0.8)
    assert [report.metrics[k].low for k in keys] == pytest.approx(low, abs=1e-9)
    assert [report.metrics[k].high for k in keys] == pytest.approx(high, abs=1e-9)
    low, high = interval(np.array([matrices[0] for _, matrices in replicates]), level=0.8)
    np.testing.assert_allclose(report.auc_low, low, atol=1e-9)
    np.testing.assert_allclose(report.auc_high, high, atol=1e-9)


def test_a_gain_is_measured_on_the_same_patients():
    y, s, patients = _run()
    s[3] = s[0] + 0.1 * s[3]
    report = continual_report(y, s, FIRST, patients, replicates=200)
    width = {key: m.high - m.low for key, m in report.metrics.items()}
    assert width["gain"] < 0.5 * np.hypot(width["final_auc"], width["zero_shot_auc"])
    paired = report.replicates["final_auc"] - report.replicates["zero_shot_auc"]
    np.testing.assert_allclose(report.replicates["gain"], paired, atol=1e-12)


def test_undefined_columns_are_named_and_left_out():
    y, s, patients = _run()
    y[:, 1], y[:, 4] = 0, np.nan
    report = continual_report(y, s, FIRST, patients, replicates=20, prevalence=PREVALENCE)
    assert report.undefined == (1, 4)
    kept = [0, 2, 3]
    rest = continual_report(
        y[:, kept], s[:, :, kept], FIRST[kept], patients, replicates=20, prevalence=PREVALENCE[kept]
    )
    for key, metric in rest.metrics.items():
        got = report.metrics[key]
        expected = [metric.value, metric.low, metric.high]
        assert [got.value, got.low, got.high] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert np.isnan(report.auc_matrix[:, [1, 4]]).all()
    assert np.isnan(report.auc_low[:, [1, 4]]).all()
    assert np.isnan(report.ece[[1, 4]]).all()


def test_without_thresholds_f1_is_undefined():
    y, s, patients = _run()
    report = continual_report(y, s, FIRST, patients, replicates=5)
    assert report.f1_matrix is None
    assert np.isnan(report.metrics["final_f1"].value)
    assert np.isnan(report.metrics["f1_forgetting"].high)


def test_same_to_the_bit_again():
    y, s, patients = _run()
    one, two = (
        continual_report(y, s, FIRST, patients, LIMITS, replicates=50, prevalence=PREVALENCE)
        for _ in range(2)
    )
    assert one.metrics == two.metrics
    np.testing.assert_array_equal(one.auc_low, two.auc_low)


def test_extreme_logits_do_not_overflow():
    y, s, patients = _run()
    report = continual_report(y, s * 1e300, FIRST, patients, replicates=5)
    assert 0 <= report.metrics["calibration_error"].value <= 1


def test_a_thousand_replicates_take_seconds():
    rng = np.random.default_rng(0)
    y = (rng.random((1500, 14)) < 0.1).astype(float)
    s = rng.normal(size=(6, 1500, 14)) + y
    started = time.perf_counter()
    continual_report(y, s, np.repeat([1, 2, 3, 4, 5], 3)[:14], rng.integers(0, 400, 1500), np.zeros(14))
    assert time.perf_counter() - started < 10  # about 0.3 s on two free cores; the margin is for busy ones


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda y, s, f, p: (y, s[0], f, p), r"\(T\+1, N, C\)"),
        (lambda y, s, f, p: (y, s[:1], f, p), "T at least 1"),
        (lambda y, s, f, p: (y, s, f + 1, p), "the number of experiences"),
        (lambda y, s, f, p: (y, s, f, p[:-1]), "patients: 239 identifiers for 240 rows"),
        (lambda y, s, f, p: (y + 1, s, f, p), "targets: column ., row"),
        (lambda y, s, f, p: (y, np.where(s == s[1, 0, 1], np.nan, s), f, p), "scores: column"),
    ],
)
def test_bad_input_is_told(change, says):
    y, s, patients = _run()
    with pytest.raises(ValueError, match=says):
        continual_report(*change(y, s, FIRST, patients), replicates=2)


def test_import_takes_neither_torch_nor_scikit_learn():
    heavy = "{'torch', 'sklearn', 'scipy', 'pandas'}"
    code = f"import sys, retune.metrics; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
