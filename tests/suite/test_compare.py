"""Paired intervals are those of an explicit loop over resampled patients with scikit-learn's AUROC."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_runs import FIRST, change_scores, made_run, made_scores, made_targets
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from retune.errors import UserError
from retune.metrics import patient_weights
from retune.metrics.table import COMPARED
from retune.results.compare import Comparison, Sample
from retune.results.result import SCORES_FILE
from retune.suite.compare import compare

REPLICATES = 8


@pytest.fixture
def made(tmp_path):
    """Two methods, three seeds, one of them only with the second method."""
    targets, patients = made_targets()
    scores = {
        ("good", 0): made_scores(targets, 2.0, 10, lost=0.3),
        ("good", 1): made_scores(targets, 1.8, 11, lost=0.3),
        ("poor", 0): made_scores(targets, 1.2, 20, lost=0.5),
        ("poor", 1): made_scores(targets, 1.0, 21, lost=0.5),
        ("poor", 2): made_scores(targets, 1.1, 22, lost=0.5),
    }
    scores["good", 1][2, :, :2] = scores["good", 1][1, :, :2]  # not changed by the second step
    runs = [made_run(tmp_path, name, seed, s, targets, patients) for (name, seed), s in scores.items()]
    return targets, patients, scores, runs


def _by_hand(targets, scores):
    """Every metric, term by term, from scikit-learn's AUROC."""
    r = np.empty(scores.shape[::2])
    for i, moment in enumerate(scores):
        for c in range(targets.shape[1]):
            known = ~np.isnan(targets[:, c])
            r[i, c] = roc_auc_score(targets[known, c], moment[known, c])
    last = len(r) - 1
    early = [c for c in range(len(FIRST)) if FIRST[c] < last]
    return {
        "final_auc": r[last].mean(),
        "zero_shot_auc": r[0].mean(),
        "gain": r[last].mean() - r[0].mean(),
        "learning": np.mean([r[i, c] - r[i - 1, c] for c, i in enumerate(FIRST)]),
        # One label each.
        "final_auc_head": r[last, 0],
        "final_auc_medium": r[last, 1],
        "final_auc_tail": r[last, 2],
        "average_auc": np.mean([r[i, i >= FIRST].mean() for i in range(1, last + 1)]),
        "forgetting": np.mean([r[FIRST[c] : last, c].max() - r[last, c] for c in early]),
        "backward_transfer": np.mean([r[last, c] - r[FIRST[c], c] for c in early]),
        "forward_transfer": np.mean(
            [r[FIRST[c] - 1, c] - r[0, c] for c in range(len(FIRST)) if FIRST[c] > 1]
        ),
    }


def test_paired_differences_are_those_of_an_explicit_loop(made):
    targets, patients, scores, runs = made
    compared = compare(runs, replicates=REPLICATES, level=0.9, seed=3)

    whole = {key: _by_hand(targets, s) for key, s in scores.items()}
    looped = []
    for counts in patient_weights(patients, REPLICATES, 3):
        rows = np.repeat(np.arange(len(targets)), counts)
        looped.append({key: _by_hand(targets[rows], s[:, rows]) for key, s in scores.items()})

    for metric in (metric.key for metric in COMPARED):
        each = [whole["good", seed][metric] - whole["poor", seed][metric] for seed in (0, 1)]
        resampled = [
            np.mean([r["good", seed][metric] - r["poor", seed][metric] for seed in (0, 1)]) for r in looped
        ]
        found = compared.difference("good", "poor", metric)
        assert found.n == 2
        assert found.mean == pytest.approx(np.mean(each), abs=1e-12)
        assert found.sd == pytest.approx(np.std(each, ddof=1), abs=1e-12)
        assert [found.low, found.high] == pytest.approx(np.percentile(resampled, [5, 95]), abs=1e-12)
        error = np.std(resampled, ddof=1)
        assert found.detectable == pytest.approx((norm.ppf(0.975) + norm.ppf(0.8)) * error, abs=1e-12)

        alone = compared.estimate("poor", metric)
        values = [whole["poor", seed][metric] for seed in (0, 1, 2)]
        resampled = [np.mean([r["poor", seed][metric] for seed in (0, 1, 2)]) for r in looped]
        assert alone.n == 3
        assert [alone.mean, alone.sd] == pytest.approx([np.mean(values), np.std(values, ddof=1)], abs=1e-12)
        assert [alone.low, alone.high] == pytest.approx(np.percentile(resampled, [5, 95]), abs=1e-12)


def test_share_of_the_way_is_the_quotient_on_every_resample(made, tmp_path):
    targets, patients, scores, runs = made
    for seed in (0, 1):
        scores["joint", seed] = made_scores(targets, 4.0, 90 + seed)
        runs.append(made_run(tmp_path, "joint", seed, scores["joint", seed], targets, patients, bound=True))
    found = compare(runs, replicates=REPLICATES, level=0.9, seed=3).share("poor", "joint")

    def quotient(targets, scores):
        of = {key: _by_hand(targets, s) for key, s in scores.items()}
        start, end = "zero_shot_auc", "final_auc"
        gone = [of["poor", seed][end] - of["joint", seed][start] for seed in (0, 1)]
        way = np.mean([of["joint", seed][end] - of["joint", seed][start] for seed in (0, 1)])
        return np.array(gone) / way

    each, looped = quotient(targets, scores), []
    for counts in patient_weights(patients, REPLICATES, 3):
        rows = np.repeat(np.arange(len(targets)), counts)
        looped.append(quotient(targets[rows], {key: s[:, rows] for key, s in scores.items()}).mean())
    assert (found.n, found.mean) == (2, pytest.approx(each.mean(), abs=1e-12))
    assert found.sd == pytest.approx(each.std(ddof=1), abs=1e-12)
    assert [found.low, found.high] == pytest.approx(np.percentile(looped, [5, 95]), abs=1e-12)
    assert 0 < found.low < found.high < 1


def test_no_way_has_no_share(made, tmp_path):
    """An upper bound about as good as zero-shot would make any share."""
    targets, patients, _, runs = made
    for seed in (0, 1):
        scores = made_scores(targets, 0.05, 90 + seed)
        runs.append(made_run(tmp_path, "joint", seed, scores, targets, patients, bound=True))
    compared = compare(runs, replicates=200)
    share = compared.share("good", "joint")
    assert (share.n, share.mean, share.low, share.high) == (0, None, None, None)
    assert compared.estimate("good", "final_auc").low > 0.6
    # Nor is there a way from zero-shot where the upper bound began without an opinion.
    blank = made_scores(targets, 4.0, 80)
    blank[0] = 0.0
    runs = [*runs[:1], made_run(tmp_path, "blank", 0, blank, targets, patients, bound=True)]
    assert compare(runs, replicates=5).share("good", "blank").n == 0


def test_a_method_that_began_at_chance_went_no_longer_way(made, tmp_path):
    targets, patients, scores, runs = made
    blank = scores["good", 0].copy()
    blank[0] = 0.0
    runs = [*runs[:1], made_run(tmp_path, "blank", 0, blank, targets, patients)]
    runs.append(made_run(tmp_path, "joint", 0, made_scores(targets, 4.0, 90), targets, patients, bound=True))
    compared = compare(runs, replicates=20)
    assert compared.share("blank", "joint") == compared.share("good", "joint")


def test_a_method_that_shares_no_seed_with_the_upper_bound_has_no_share(made, tmp_path):
    targets, patients, _, runs = made
    runs.append(made_run(tmp_path, "joint", 0, made_scores(targets, 4.0, 90), targets, patients, bound=True))
    alone = compare(
        [run for run in runs if (run.strategy, run.seed) in (("poor", 2), ("joint", 0))], replicates=5
    )
    assert alone.share("poor", "joint").n == 0


def test_resamples_without_a_way_count_against_both_ends():
    start = {"zero_shot_auc": np.zeros(200)}
    mine = Sample(
        {"final_auc": 0.05, "zero_shot_auc": 0.0}, {"final_auc": np.linspace(0.04, 0.06, 200), **start}
    )
    ends = np.full(200, 0.1)
    ends[:3] = -1e-4  # not one in forty, or the whole would be undefined
    bound = Sample({"final_auc": 0.1, "zero_shot_auc": 0.0}, {"final_auc": ends, **start})
    share = Comparison({"mine": {0: mine}, "joint": {0: bound}}).share("mine", "joint")
    known = np.sort(mine.replicates["final_auc"][3:] / 0.1)
    assert share.mean == pytest.approx(0.5)
    # 200 values of which three are lost: at 2.5 % of the way from below, and from above.
    assert share.low == pytest.approx(np.interp(0.025 * 199, np.arange(3, 200), known))
    assert share.high == pytest.approx(np.interp(0.975 * 199, np.arange(197), known))
    ends[:5] = -1e-4  # as many as leave the share defined, and no end of its interval
    share = Comparison({"mine": {0: mine}, "joint": {0: bound}}).share("mine", "joint")
    assert (share.mean, share.low, share.high) == (pytest.approx(0.5), None, None)


def test_values_are_those_of_the_results(made):
    runs = made[-1]
    compared = compare(runs, replicates=1)
    for run in runs:
        for metric in (metric.key for metric in COMPARED):
            told = run.result.metrics[metric].value
            assert compared.samples[run.strategy][run.seed].values[metric] == told


def test_replicates_that_a_run_keeps_are_those_that_would_be_measured(tmp_path):
    targets, patients = made_targets()
    scores = made_scores(targets, 2.0, 10, lost=0.3)
    scores[2, :, :2] = scores[1, :, :2]
    kept, bare = (
        made_run(tmp_path, name, 0, scores, targets, patients, keep_replicates=keep)
        for name, keep in (("kept", True), ("bare", False))
    )
    for replicates, seed in ((5, 0), (5, 3), (7, 0)):  # those that are kept; other draws; more of them
        samples = compare([kept, bare], replicates=replicates, seed=seed).samples
        for metric in COMPARED:
            mine, other = (samples[name][0] for name in ("kept", "bare"))
            np.testing.assert_array_equal(mine.replicates[metric.key], other.replicates[metric.key])
            assert mine.values == other.values

    # They are read: what a run keeps is what it is compared by.
    change_scores(kept.folder, lambda a: {**a, "replicates.final_auc": np.full(5, 0.25)})
    found = compare([replace(kept)], replicates=5).estimate("kept", "final_auc")
    assert (found.low, found.high) == (0.25, 0.25)


def test_a_method_does_not_differ_from_itself_and_signs_are_its_own(made):
    compared = compare(made[-1], replicates=REPLICATES)
    same = compared.difference("poor", "poor", "final_auc")
    assert (same.mean, same.sd, same.low, same.high) == (0, 0, 0, 0)

    there, back = (compared.difference(*pair, "final_auc") for pair in (("good", "poor"), ("poor", "good")))
    assert (there.mean, there.low) == (-back.mean, pytest.approx(-back.high, abs=1e-15))


def test_one_seed_has_no_deviation_and_no_common_seed_no_difference(made):
    runs = [run for run in made[-1] if (run.strategy, run.seed) in (("good", 0), ("poor", 2))]
    compared = compare(runs, replicates=10)
    alone = compared.estimate("good", "final_auc")
    assert (alone.n, alone.sd) == (1, None)
    assert alone.low < alone.mean < alone.high
    nothing = compared.difference("good", "poor", "final_auc")
    assert (nothing.n, nothing.mean, nothing.low, nothing.high) == (0, None, None, None)


def test_one_experience_has_no_forgetting(tmp_path):
    targets, patients = made_targets()
    scores = made_scores(targets, 1.0, 0)[:2]
    run = made_run(tmp_path, "one", 0, scores, targets, patients, first=np.array([1, 1, 1]))
    found = compare([run], replicates=10).estimate("one", "forgetting")
    assert (found.n, found.mean, found.low) == (0, None, None)


@pytest.mark.parametrize("spoilt", ["rows", "targets", "patients"])
def test_other_test_data_are_refused(made, spoilt):
    runs = made[-1]

    def spoil(arrays):
        if spoilt == "targets":
            arrays["targets"][:, 0] = 1 - arrays["targets"][:, 0]
        else:
            arrays[spoilt] = np.roll(arrays[spoilt], 1)

    change_scores(runs[3].folder, spoil)
    with pytest.raises(UserError, match=r"cannot be compared with .*good-0") as error:
        compare(runs, replicates=2)
    assert str(runs[3].folder) in str(error.value)


def test_other_data_sets_and_streams_are_refused(tmp_path):
    targets, patients = made_targets()
    scores = made_scores(targets, 1.0, 0)
    one = made_run(tmp_path, "one", 0, scores, targets, patients)
    other_data = made_run(tmp_path, "two", 0, scores, targets, patients, dataset={"fingerprint": "other"})
    other_stream = made_run(tmp_path, "three", 0, scores, targets, patients, stream="other")
    with pytest.raises(UserError, match="which has another data set"):
        compare([one, other_data], replicates=2)
    with pytest.raises(UserError, match="which saw another stream with seed 0"):
        compare([one, other_stream], replicates=2)
    with pytest.raises(UserError, match="one with seed 0 stands there twice"):
        compare([one, one], replicates=2)


def test_scores_that_cannot_be_read_are_named(made):
    runs = made[-1]
    file = runs[0].folder / SCORES_FILE
    change_scores(runs[0].folder, lambda _: {"scores": np.zeros((4, 150, 3), np.float32)})
    with pytest.raises(UserError, match="does not hold the scores of a run"):
        compare(runs)
    file.write_bytes(b"no such thing")
    with pytest.raises(UserError, match=r"good-0/scores\.safetensors: is not as it was written"):
        compare(runs)
    file.unlink()
    with pytest.raises(UserError, match=r"good-0/scores\.safetensors: cannot be read"):
        compare(runs)
