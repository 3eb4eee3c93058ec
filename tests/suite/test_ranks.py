"""Ranks, Friedman's test and the critical difference, against Demšar's tables and worked example, and scipy."""

from __future__ import annotations

from itertools import permutations, product
from math import sqrt

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from retune.suite.ranks import critical_difference, friedman, rank_methods, ranks_within, tied_groups

# Demšar, JMLR 7 (2006), table 6: AUC of C4.5 with neither, m, cf or both tuned, on 14 data sets. He ranks the third
# above the fourth on the data set before the last, where both are printed as 0.975.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)
# Table 5(a): critical values of the two-tailed Nemenyi test, for 2 to 10 methods.
Q_05 = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
Q_10 = {2: 1.645, 3: 2.052, 4: 2.291, 5: 2.459, 6: 2.589, 7: 2.693, 8: 2.780, 9: 2.855, 10: 2.920}


def _streams(values, names="abcdefgh"):
    return {f"stream {i:02}": dict(zip(names, row, strict=False)) for i, row in enumerate(values)}


@pytest.mark.parametrize(("alpha", "published"), [(0.05, Q_05), (0.10, Q_10)])
def test_critical_values_are_the_published_ones(alpha, published):
    found = {k: critical_difference(k, 6, alpha) / sqrt(k * (k + 1) / 36) for k in published}
    assert found == pytest.approx(published, abs=1.1e-3)  # the table is cut, not rounded, in places


def test_demsar_s_worked_example():
    ranks = ranks_within(DEMSAR)
    assert ranks.mean(axis=0).round(3) == pytest.approx([3.143, 2.000, 2.893, 1.964])
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    statistic, _ = friedman(ranks)
    ties = sum((n**3 - n) for row in DEMSAR for n in np.unique(row, return_counts=True)[1])
    assert statistic * (1 - ties / (14 * 4 * (4**2 - 1))) == pytest.approx(9.28, abs=0.005)

    found = rank_methods(_streams(DEMSAR, ["C4.5", "m", "cf", "m+cf"]))
    assert [m.strategy for m in found.methods] == ["m+cf", "m", "cf", "C4.5"]
    assert found.p < 0.05
    # He concludes that the difference between best and worst is smaller than the critical difference.
    assert found.tied == (("m+cf", "m", "cf", "C4.5"),)


def test_friedman_is_scipy_s_and_exact_for_few_streams():
    many = np.random.default_rng(0).normal(size=(60, 5)) + np.linspace(0, 0.4, 5)
    many[::7, 1] = many[::7, 0]
    statistic, p = friedman(ranks_within(many))
    expected = friedmanchisquare(*many.T)
    assert statistic == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=0.01)

    few = ranks_within([[3, 2, 1], [3, 1, 2], [3, 2, 1]])
    observed = (few.sum(axis=0) ** 2).sum()
    all_ways = [np.sum(ways, axis=0) for ways in product(permutations([1, 2, 3]), repeat=3)]
    exact = np.mean([(ways**2).sum() >= observed for ways in all_ways])
    assert friedman(few)[1] == pytest.approx(exact, abs=0.015)


def test_groups_are_maximal_and_a_critical_difference_apart_is_told_apart():
    def groups(ranks, cd):
        return [list(g) for g in tied_groups(ranks, cd)]

    assert groups([1.0, 1.5, 2.2, 4.0, 4.1], 1.0) == [[0, 1], [1, 2], [3, 4]]
    assert groups([1.0, 1.5, 1.9, 4.0], 1.0) == [[0, 1, 2]]
    assert groups([1.0, 2.0, 3.0], 1.0) == []
    assert groups([2.0, 2.0], 1.0) == [[0, 1]]


def test_a_clear_order_over_many_streams_parts_the_ends():
    rng = np.random.default_rng(1)
    values = [0.1, 0.4, 0.7, 0.72] + 0.1 * rng.random((30, 4))
    found = rank_methods(_streams(values))
    assert {found.methods[0].strategy, found.methods[1].strategy} == {"c", "d"}
    assert found.tied == (tuple(m.strategy for m in found.methods[:2]),)
    assert [m.rank for m in found.methods[2:]] == [3, 4]
    assert found.notes == ()


def test_equal_methods_are_tied_and_share_a_rank():
    found = rank_methods(_streams([[0.7, 0.7, 0.7]] * 4))
    assert [m.rank for m in found.methods] == [2, 2, 2]
    assert (found.friedman, found.p) == (0, 1)
    assert found.tied == (("a", "b", "c"),)
    assert any("no difference" in note for note in found.notes)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "at least two streams, and there is none"),
        ([[0.7, 0.6, 0.5]], "at least two streams, and there is 1"),
        ([[0.7, 0.6]] * 5, "at least three methods run on every stream, and there are 2"),
        ([[0.7, 0.6, np.nan]] * 5, "at least three methods run on every stream, and there are 2"),
    ],
)
def test_too_little_gives_a_reason_and_no_number(values, reason):
    found = rank_methods(_streams(values))
    assert reason in found.reason
    assert found.methods == found.tied == ()
    assert found.friedman is found.p is found.critical_difference is None


def test_a_method_not_run_everywhere_is_left_out_by_name():
    values = _streams([[0.9, 0.7, 0.6, 0.5]] * 3)
    del values["stream 01"]["a"]
    found = rank_methods(values)
    assert found.left_out == ("a",)
    assert [(m.strategy, m.rank) for m in found.methods] == [("b", 1), ("c", 2), ("d", 3)]
    assert any("3 streams are few" in note for note in found.notes)
