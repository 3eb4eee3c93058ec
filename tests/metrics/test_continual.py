"""The continual-learning metrics against a matrix worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from retune.metrics import (
    average_auc,
    backward_transfer,
    final_auc,
    first_learnt,
    forgetting,
    forgetting_per_label,
    forward_transfer,
    gain,
    learning,
    zero_shot,
)

# Three experiences, five labels: a first seen in 1, b in 2, c in 3, d never, e in 1.
FIRST = np.array([1, 2, 3, 0, 1])
R = np.array(
    [  # a     b     c     d     e
        [0.50, 0.50, 0.60, 0.55, 0.95],
        [0.90, 0.55, 0.50, 0.50, 0.60],
        [0.80, 0.70, 0.75, 0.60, 0.80],
        [0.70, 0.75, 0.80, 0.90, 0.70],
    ]
)
NAN = float("nan")
# final: (.70 + .75 + .80 + .90 + .70) / 5
FINAL = 0.77
# after 1: (.90 + .60) / 2 = .75; after 2: (.80 + .70 + .80) / 3 = .766667
# after 3: (.70 + .75 + .80 + .70) / 4 = .7375
AVERAGE = 2.2541666666666667 / 3
# a: max(.90, .80) - .70 = .20; b: .70 - .75 = -.05; c: first seen last; d: never
# e: max(.60, .80) - .70 = .10
LOST = [0.20, -0.05, NAN, NAN, 0.10]
FORGETTING = 0.25 / 3
# a: .70 - .90 = -.20; b: .75 - .70 = .05; e: .70 - .60 = .10
BACKWARD = -0.05 / 3
# b: .55 - .50 = .05; c: .75 - .60 = .15
FORWARD = 0.10
# zero-shot: (.50 + .50 + .60 + .55 + .95) / 5
ZERO_SHOT = 0.62
# a: .90 - .50 = .40; b: .70 - .55 = .15; c: .75 - .50 = .25; d: never; e: .60 - .95 = -.35
LEARNING = 0.45 / 4


def test_worked_example():
    assert final_auc(R) == pytest.approx(FINAL, abs=1e-12)
    assert average_auc(R, FIRST) == pytest.approx(AVERAGE, abs=1e-12)
    assert forgetting_per_label(R, FIRST) == pytest.approx(LOST, abs=1e-12, nan_ok=True)
    assert forgetting(R, FIRST) == pytest.approx(FORGETTING, abs=1e-12)
    assert backward_transfer(R, FIRST) == pytest.approx(BACKWARD, abs=1e-12)
    assert forward_transfer(R, FIRST) == pytest.approx(FORWARD, abs=1e-12)
    assert zero_shot(R) == pytest.approx(ZERO_SHOT, abs=1e-12)
    assert gain(R) == pytest.approx(FINAL - ZERO_SHOT, abs=1e-12)
    assert learning(R, FIRST) == pytest.approx(LEARNING, abs=1e-12)


def test_both_moments_of_a_difference_have_the_same_labels():
    r = R.copy()
    r[0, 4] = np.nan  # the last label is left out of the end too
    assert gain(r) == pytest.approx((0.20 + 0.25 + 0.20 + 0.35) / 4, abs=1e-12)
    assert learning(r, FIRST) == pytest.approx((0.40 + 0.15 + 0.25) / 3, abs=1e-12)
    r[2, 1] = np.nan
    assert learning(r, FIRST) == pytest.approx((0.40 + 0.25) / 2, abs=1e-12)


def test_in_one_experience_learning_is_the_gain_of_what_can_be_learnt():
    assert learning(R[:2], np.array([1, 1, 1, 1, 1])) == pytest.approx(gain(R[:2]), abs=1e-12)
    assert learning(R[:2], np.array([1, 0, 0, 0, 0])) == pytest.approx(0.40, abs=1e-12)
    assert np.isnan(learning(R, np.zeros(5, dtype=int)))


def test_undefined_label_is_left_out_of_every_mean():
    r = R.copy()
    r[:, 0] = np.nan
    assert final_auc(r) == pytest.approx((0.75 + 0.80 + 0.90 + 0.70) / 4, abs=1e-12)
    # after 1: .60; after 2: (.70 + .80) / 2 = .75; after 3: (.75 + .80 + .70) / 3 = .75
    assert average_auc(r, FIRST) == pytest.approx(0.70, abs=1e-12)
    assert forgetting(r, FIRST) == pytest.approx((-0.05 + 0.10) / 2, abs=1e-12)
    assert backward_transfer(r, FIRST) == pytest.approx((0.05 + 0.10) / 2, abs=1e-12)
    r[:, 1] = np.nan
    assert forward_transfer(r, FIRST) == pytest.approx(0.15, abs=1e-12)


def test_missing_zero_shot_row_only_undoes_forward_transfer():
    r = R.copy()
    r[0] = np.nan
    assert np.isnan(forward_transfer(r, FIRST))
    assert average_auc(r, FIRST) == pytest.approx(AVERAGE, abs=1e-12)
    assert forgetting(r, FIRST) == pytest.approx(FORGETTING, abs=1e-12)
    assert backward_transfer(r, FIRST) == pytest.approx(BACKWARD, abs=1e-12)


@pytest.mark.parametrize("metric", [forgetting, backward_transfer])
def test_nothing_to_forget_is_nan(metric):
    assert np.isnan(metric(R[:2], np.array([1, 1, 1, 1, 1])))  # one experience
    assert np.isnan(metric(R, np.array([3, 3, 3, 0, 0])))  # everything learnt last, or never


def test_nothing_left_is_nan_without_a_warning():
    empty = np.full_like(R, np.nan)
    assert np.isnan(final_auc(empty))
    for metric in (average_auc, forgetting, backward_transfer, forward_transfer):
        assert np.isnan(metric(empty, FIRST))
        assert np.isnan(metric(R, np.zeros(5, dtype=int)))


def test_experience_before_any_label_is_not_counted():
    # Label b alone, first seen in 2: only the rows after 2 and 3 count.
    assert average_auc(R, np.array([0, 2, 0, 0, 0])) == pytest.approx((0.70 + 0.75) / 2, abs=1e-12)


def test_leading_axes_are_kept():
    rng = np.random.default_rng(0)
    stack = rng.random((3, 2, 4, 5))
    stack[1, 0, :, 0] = np.nan
    for metric in (average_auc, forgetting, backward_transfer, forward_transfer, learning):
        each = [[metric(m, FIRST) for m in row] for row in stack]
        assert metric(stack, FIRST) == pytest.approx(np.array(each), abs=1e-15)
    for whole in (final_auc, zero_shot, gain):
        assert whole(stack) == pytest.approx(np.array([[whole(m) for m in row] for row in stack]))
    assert forgetting_per_label(stack, FIRST).shape == (3, 2, 5)


@pytest.mark.parametrize(
    ("matrix", "first", "says"),
    [
        (R[:1], FIRST, "T at least 1"),
        (R[0], FIRST, "T at least 1"),
        (R, FIRST[:4], "first must hold 5 integers"),
        (R, FIRST.astype(float), "first must hold 5 integers"),
        (R, FIRST + 1, "to 3, the number of experiences"),
        (R, FIRST - 1, "within 0"),
    ],
)
def test_bad_input_is_told(matrix, first, says):
    with pytest.raises(ValueError, match=says):
        forgetting(matrix, first)


def test_a_label_is_learnt_once_it_was_shown_present_and_absent():
    # Columns: both in 1; absence in 1, presence in 2; presence in 1 and 3, absence in 3; absence only; presence
    # only; not observed.
    positive = [[1, 0, 1, 0, 1, 0], [0, 1, 0, 0, 1, 0], [1, 0, 1, 0, 1, 0]]
    negative = [[1, 1, 0, 1, 0, 0], [1, 0, 0, 1, 0, 0], [1, 1, 1, 1, 0, 0]]
    assert first_learnt(positive, negative).tolist() == [1, 2, 3, 0, 0, 0]


def test_what_cannot_be_learnt_counts_at_the_end_only():
    r, first = np.array([[0.5, 0.2], [0.9, 0.3], [0.8, 0.1]]), np.array([1, 0])
    assert final_auc(r) == pytest.approx((0.8 + 0.1) / 2)
    assert average_auc(r, first) == pytest.approx((0.9 + 0.8) / 2)
    assert forgetting(r, first) == pytest.approx(0.9 - 0.8)
    assert backward_transfer(r, first) == pytest.approx(0.8 - 0.9)
    assert np.isnan(forward_transfer(r, first))
