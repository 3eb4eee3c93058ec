"""What an update does to whom: against scikit-learn, loops over patients, hand-worked cases, and published test cases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_runs import LABELS, change_json, made_run
from safetensors.numpy import load_file
from sklearn.metrics import recall_score, roc_auc_score

from retune.audit import audit
from retune.audit.criteria import NEW
from retune.audit.evidence import Evidence, age_bands
from retune.audit.in_use import calibration_error, restoring
from retune.audit.testing import holm
from retune.audit.versions import learning, potential, retention
from retune.cli.main import main
from retune.metrics import expected_calibration_error
from retune.results.result import RESULT_FILE, SCORES_FILE, Result
from retune.results.scores import OF, as_bytes, as_text, write_finished

SEXES, SITES = ("F", "M"), ("east", "west")
N, THRESHOLDS = 400, [0.5, 0.4, 0.6]


def made(
    folder: Path, strategy: str = "made", *, harmed: float = 0.0, columns=("sex", "age", "site"), **more
) -> Path:
    """A run of three updates over two sites whose last one costs the women among its patients ``harmed`` of skill."""
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(N // 2), 2)
    sex = np.array(SEXES)[rng.integers(0, 2, N // 2)][patients]
    targets = (rng.random((N, 3)) < [0.5, 0.4, 0.3]).astype(np.float32)
    targets[rng.random((N, 3)) < 0.05] = np.nan
    skill = np.array([0.5, 2.0, 2.0, 2.0])[:, None, None] * np.ones((1, N, 3))
    skill[3, sex == "F"] -= harmed
    noise = rng.normal(size=(N, 3)) + 0.3 * rng.normal(size=(4, N, 3))
    scores = (noise + skill * np.nan_to_num(targets)).astype(np.float32)
    first = more.pop("first", np.array([1, 1, 1]))
    place = made_run(folder, strategy, 0, scores, targets, patients, first=first, **more).folder
    known = {
        "sex": as_bytes(sex),
        "age": as_bytes(rng.integers(20, 90, N // 2).astype(np.float32)[patients]),
        "site": as_bytes(np.array(SITES)[rng.integers(0, 2, N)]),
        "race": as_bytes(np.where(patients % 3 == 0, "Black", "White")),
    }
    held = [{"site": {SITES[k % 2]: 10}} for k in range(3)]

    def told(document: dict) -> None:
        document["thresholds"] = THRESHOLDS
        document["bootstrap"]["replicates"] = 200
        for experience, of in zip(document["scenario"]["experiences"], held, strict=True):
            experience["holds"] = of

    change_json(place / RESULT_FILE, told)
    arrays = load_file(place / SCORES_FILE) | {OF + name: known[name] for name in columns}
    write_finished(Result.read(place), arrays, place)
    return place


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("one"), harmed=1.5)


def test_measures_of_versions_are_those_published() -> None:
    # Rows are versions, columns their sets: the test cases of DIDSR/VIGILANT, zero-shot before them.
    published = np.array([[0, 0, 0], [0.5, 0.4, 0.3], [0.4, 0.7, 0.4], [0.2, 0.4, 0.6]])
    assert learning(published) == pytest.approx([0.5, 0.3, 0.2], abs=1e-12)
    assert potential(published)[1:] == pytest.approx([0.1, 0.3], abs=1e-12)
    by_hand = (0.2 * np.exp(-0.5) + 0.4) / (1 + np.exp(-0.5))
    assert retention(published)[1:] == pytest.approx([0.4, by_hand], abs=1e-12)
    assert by_hand == pytest.approx(0.3245, abs=5e-5)
    assert np.isnan([potential(published)[0], retention(published)[0]]).all()


def test_flips_are_those_counted_patient_by_patient(one: Path) -> None:
    found, arrays = audit([one]), load_file(one / SCORES_FILE)
    scores, targets = arrays["scores"].astype(float), arrays["targets"]
    for step in found.steps[1:]:
        lost, won = set(), set()
        lost_of = [set() for _ in LABELS]
        for i, patient in enumerate(arrays["patients"].tolist()):
            for c, limit in enumerate(THRESHOLDS):
                if np.isnan(targets[i, c]):
                    continue
                before, after = (
                    (scores[v, i, c] >= limit) == (targets[i, c] == 1)
                    for v in (step.update.before, step.update.after)
                )
                if before and not after:
                    lost.add(patient)
                    lost_of[c].add(patient)
                if after and not before:
                    won.add(patient)
        assert (step.flips.lost[-1], step.flips.won[-1]) == (len(lost), len(won))
        assert step.flips.lost[:-1].tolist() == list(map(len, lost_of))
        assert step.flips.negative.value[-1] == pytest.approx(1000 * len(lost) / (N // 2))
    assert np.isnan(found.steps[0].flips.negative.value).all()  # zero-shot makes no calls


def test_a_label_counts_once_it_is_in_use(tmp_path: Path) -> None:
    found = audit([made(tmp_path, first=np.array([1, 2, 3]))])
    assert [(step.flips.patients > 0).tolist() for step in found.steps[:3]] == [
        [False, False, False, False],
        [True, False, False, True],
        [True, True, False, True],
    ]
    assert found.versions.by == "site" or found.versions.by == "labels"
    # A threshold that calls as many as when it was frozen is not off.
    frozen_last = found.drifts[-1]
    assert (frozen_last.since, frozen_last.restoring[0]) == (3, THRESHOLDS[2])
    assert frozen_last.restoring[1] == pytest.approx(frozen_last.specificity[1])
    # The first version calls one label: what it says to the last is of that one, and the worst update stands beside.
    steps = {step.update.name: step.flips.negative.value[-1] for step in found.steps}
    assert steps["2 → 3"] > steps["1 → 3"]
    assert "some right call of 1 of 3 labels, those that both call, becomes wrong" in found.verdict
    assert f"update 2 → 3 alone turns one wrong for {steps['2 → 3']:.0f}" in found.verdict


def test_groups_are_measured_as_scikit_learn_does(one: Path) -> None:
    found, arrays = audit([one]), load_file(one / SCORES_FILE)
    for name, of in found.slices["sex"].items():
        rows = as_text(arrays["of.sex"]) == name
        for c, limit in enumerate(THRESHOLDS):
            known = rows & ~np.isnan(arrays["targets"][:, c])
            y, s = arrays["targets"][known, c], arrays["scores"][3, known, c].astype(float)
            assert of.auc.value[3, c] == pytest.approx(roc_auc_score(y, s), abs=1e-12)
            assert of.sensitivity.value[3, c] == pytest.approx(recall_score(y, s >= limit), abs=1e-12)
            assert of.specificity.value[3, c] == pytest.approx(
                recall_score(y, s >= limit, pos_label=0), abs=1e-12
            )
    step = found.steps[-1]
    sex = next(g for g in step.groupings if g.by == "sex")
    ends = {name: of.auc.value[3].mean() for name, of in found.slices["sex"].items()}
    assert sex.gap[1] == pytest.approx(abs(ends["F"] - ends["M"]))
    assert sex.worst.group == "F"


def test_gaps_agree_with_fairlearn(one: Path) -> None:
    metrics = pytest.importorskip("fairlearn.metrics", reason="needs fairlearn, an oracle")
    found, arrays = audit([one]), load_file(one / SCORES_FILE)
    known = ~np.isnan(arrays["targets"][:, 0])
    frame = metrics.MetricFrame(
        metrics=recall_score,
        y_true=arrays["targets"][known, 0],
        y_pred=arrays["scores"][3, known, 0] >= THRESHOLDS[0],
        sensitive_features=as_text(arrays["of.sex"])[known],
    )
    values = [of.sensitivity.value[3, 0] for of in found.slices["sex"].values()]
    assert np.ptp(values) == pytest.approx(frame.difference())


def test_the_harmed_group_is_found_and_no_other(one: Path, tmp_path: Path) -> None:
    assert ("sex", "F") in audit([one]).steps[2].harmed
    assert "sex F" in audit([one]).verdict
    assert not any(step.harmed for step in audit([made(tmp_path)]).steps)


def test_holm_is_worked_by_hand() -> None:
    # .005*4, .01*3, .03*2, then .04*1 may not fall below .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([np.nan, 0.6, 0.9])[1:] == pytest.approx([1, 1])


def test_calibration_under_another_prevalence_is_that_of_such_images() -> None:
    rng = np.random.default_rng(1)
    logits, present = rng.normal(size=300), np.arange(300) < 100
    p = 1 / (1 + np.exp(-logits))
    assert calibration_error(logits, present) == pytest.approx(
        expected_calibration_error(present.astype(float), p)
    )
    # Half as common as 1 in 3 is 1 in 6: five negatives for each positive, not two.
    some = np.r_[np.tile(np.arange(100), 2), np.tile(np.arange(100, 300), 5)]
    expected = expected_calibration_error(present[some].astype(float), p[some])
    assert calibration_error(logits, present, 0.5) == pytest.approx(expected)
    assert restoring(np.array([4.0, 3, 2, 1, 9]), np.array([1, 1, 1, 1, 0], bool), 0.75) == 2


def test_ages_fall_into_bands_and_text_survives() -> None:
    ages = as_text(as_bytes(np.array([39.0, 40.0, 79.0, 80.0, np.nan])))
    assert age_bands(ages).tolist() == ["under 40", "40 to 59", "60 to 79", "80 and over", ""]
    assert as_text(as_bytes(np.array(["Köln", None, " a "], dtype=object))).tolist() == ["Köln", "", "a"]


def rules(folder: Path, *lines: str) -> Path:
    file = folder / "criteria.toml"
    file.write_text("\n".join(("[[criterion]]", *lines)))
    return file


@pytest.mark.parametrize(
    ("lines", "verdict", "code"),
    [
        (('metric="group_excess"', 'group="sex"', "margin=0.03", 'must_show="that it fails"'), "violated", 3),
        (('metric="auc"', 'label="mean"', "at_least=0.6"), "met", 0),
        (('metric="auc"', 'label="mean"', 'update="last"', "at_least=0.99"), "violated", 3),
        (('metric="sensitivity"', f'label="{LABELS[0]}"', 'group="sex=M"', "at_least=0.5"), "met", 0),
        (('metric="retention"', "at_least=0.5"), "met", 0),
    ],
)
def test_a_rule_is_met_or_violated(one: Path, tmp_path: Path, capsys, lines, verdict, code) -> None:
    assert main(["audit", str(one), "--accept", str(rules(tmp_path, *lines)), "--json"]) == code
    assert json.loads(capsys.readouterr().out)["criteria"][0]["verdict"] == verdict


def test_what_cannot_be_shown_fails_only_where_it_must_be(one: Path, tmp_path: Path, capsys) -> None:
    # No patient in 200 flips where nothing moves: 95 % sure of fewer than 1 - .05 ** (1 / 200) = 14.9 per 1,000.
    still = made(tmp_path / "still")
    arrays = load_file(still / SCORES_FILE)
    arrays["scores"][2:] = arrays["scores"][1]
    write_finished(Result.read(still), arrays, still)
    lines = ('metric="negative_flips"', f'label="{LABELS[0]}"', 'update="last"')
    for limit, verdict, shown, code in (
        (14, "not decidable", "that it holds", 3),
        (15.5, "met", "that it holds", 0),
        (14, "met", "that it fails", 0),
    ):
        file = rules(tmp_path, *lines, f"at_most={limit}", f'must_show="{shown}"')
        out = tmp_path / f"{limit}, {shown}"
        audit([still], accept=file, out=out)
        told = (out / "audit.md").read_text()
        assert ("met, no violation shown" in told) == (shown == "that it fails")
        assert main(["audit", str(still), "--accept", str(file), "--json"]) == code
        found = json.loads(capsys.readouterr().out)["criteria"][0]
        assert found["verdict"] == verdict
        n = found["comparisons"][0]
        assert n["bound"] == pytest.approx(1000 * (1 - 0.05 ** (1 / 200)), rel=0.02)
        assert (found["patients_needed"] or 0) > 200 or verdict == "met"


def test_the_page_holds_the_same_and_an_edit_breaks_the_chain(one: Path, tmp_path: Path, capsys) -> None:
    out, file = tmp_path / "out", tmp_path / "new.toml"
    assert main(["audit", "--new", str(file)]) == 0
    assert file.read_text() == NEW
    assert main(["audit", str(one), "--accept", str(file), "--out", str(out)]) == 3
    assert main(["audit", str(one), "--out", str(out)]) == 0
    page, text = (out / "audit.html").read_text(), (out / "audit.md").read_text()
    for told in ("Groups, 2 → 3", "sex F harmed", "retention", "Signed off by"):
        assert told in page
        assert told in text
    assert "<script" not in page
    change_json(out / "audit.json", lambda d: d["dossier"][1].update(images=11))
    capsys.readouterr()
    assert main(["audit", str(one), "--out", str(out)]) == 2
    assert "version 1 is not as it was signed off" in capsys.readouterr().err


def test_many_runs_are_a_table_of_methods(one: Path, tmp_path: Path, capsys) -> None:
    made(tmp_path / "runs", "steady")
    made(tmp_path / "runs", "costly", harmed=1.5)
    assert main(["audit", str(tmp_path / "runs"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["methods"]
    assert [row["method"] for row in rows] == ["steady", "costly"]
    assert rows[1]["loser"] == "sex F"
    whole = audit([one])
    assert rows[1]["negative"] == pytest.approx(whole.steps[-1].flips.negative.value[-1])
    assert rows[1]["update"] == pytest.approx(max(s.flips.negative.value[-1] for s in whole.steps[1:3]))
    assert rows[1]["retention"] == pytest.approx(whole.versions.measures["retention"].value[-1])


def test_a_run_from_before_says_what_is_missing(tmp_path: Path) -> None:
    found = audit([made(tmp_path, columns=())])
    assert not found.slices
    assert "before runs kept of whom" in found.notes[0]
    assert np.isfinite(found.steps[1].flips.negative.value).all()
    without_sex = audit([made(tmp_path / "b", columns=("age", "site", "race"))])
    assert {g.by for g in without_sex.steps[-1].groupings} == {"age", "site", "race"}
    assert any("sex" in note and "left out" in note for note in without_sex.notes)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (('metric="auc_fal"', "margin=0.1"), "did you mean auc_fall"),
        (('metric="auc_fall"', "margin=-0.1"), "wrong sign"),
        (('metric="auc_fall"', "at_least=0.1"), "limited by margin alone"),
        (('metric="auc_fall"', "margin=0.1", 'group="sx"'), "did you mean sex"),
        (('metric="auc_fall"', "margin=0.1", 'group="sex=X"'), "unknown group of sex 'X'"),
        (('metric="auc_fall"', "margin=0.1", 'label="Edemaa"'), "did you mean Edema"),
        (('metric="auc_fall"', "margins=0.1"), "did you mean margin"),
        (('metric="auc_fall"', "margin=nan"), "finite"),
        (("metric=",), "is not TOML"),
    ],
)
def test_a_bad_rule_is_one_line(one: Path, tmp_path: Path, capsys, lines, told) -> None:
    assert (
        main(["audit", str(one), "--accept", str(rules(tmp_path, *lines)), "--out", str(tmp_path / "o")]) == 2
    )
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(err) == 1
    assert told in err[0]
    assert not (tmp_path / "o").exists()


def test_what_cannot_be_audited_is_one_line(one: Path, tmp_path: Path, capsys) -> None:
    rules = tmp_path / "rules.toml"
    assert main(["audit", "--new", str(rules)]) == 0
    no_thresholds = made(tmp_path / "a")
    change_json(no_thresholds / RESULT_FILE, lambda d: d.update(thresholds=[None] * 3))
    other = made(tmp_path / "b", scenario="data-incremental")
    strange = made(tmp_path / "c")
    write_finished(
        Result.read(strange),
        load_file(strange / SCORES_FILE) | {"of.sex": np.zeros((3, 1), np.uint8)},
        strange,
    )
    greedy = made(tmp_path / "d")
    change_json(greedy / RESULT_FILE, lambda d: d["bootstrap"].update(replicates=10**9))
    for runs, told in (
        ([no_thresholds], "has no thresholds"),
        ([rules], "rules come with --accept"),
        ([one, other], "another scenario"),
        ([strange], "of.sex is of other images"),
        ([greedy], "not of its result"),
        ([], "no run is named"),
        ([tmp_path / "nowhere"], "no such folder"),
    ):
        assert main(["audit", *map(str, runs)]) == 2
        assert told in capsys.readouterr().err


def test_without_resamples_values_are_the_same(one: Path) -> None:
    whole: Evidence = audit([one]).evidence
    plain = replace(whole, resampled=False).slice("all", np.ones(N, dtype=bool))
    for kind in ("auc", "sensitivity", "specificity"):
        np.testing.assert_allclose(getattr(plain, kind).value, getattr(whole.whole, kind).value)
        np.testing.assert_allclose(getattr(plain, kind).replicates[0], getattr(plain, kind).value, rtol=1e-12)
