"""``check_scenario``: each broken scenario fails its check by name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import broken_scenarios as broken
import pytest
from made_features import SETTINGS, features_file

import retune
from retune import Scenario, Stream
from retune.check.scenario import CHECKS
from retune.cli.main import main
from retune.errors import BadSetting, UnknownName
from retune.results.cautions import cautions

# Whatever cuts by position cuts otherwise where an image is lost.
SHIFTED = {"lost-images-change-nothing-else": "images are not those that were left"}
ONCE, SEEN = "every-image-stands-once", "every-label-is-seen"
TRUE = "observed-labels-are-true"
BROKEN: list[tuple[type[Scenario], dict[str, str]]] = [
    (broken.Fails, {"cuts": r"raised KeyError: 'site' \(broken_scenarios.py, line"}),
    (broken.LooksAtPictures, {"cuts": "a scenario opened a picture"}),
    (broken.CountsFromZero, {"cuts": r"its steps are \[0, 1\]"}),
    (broken.HasNoPaper, {"says-what-it-is": "which 'data' it is defined on, and no 'paper'"}),
    (broken.DrawsGlobally, {"changes-nothing-global": "changed: NumPy's random generator$"}),
    (broken.DependsOnTheGlobalState, {"same-seed-same-stream": "two streams of one seed differ"}),
    (broken.LosesALabel, {SEEN: "never observed: No Finding$"}),
    (broken.LosesImages, {ONCE: "5 images are in no experience", **SHIFTED}),
    (broken.ShowsAnImageTwice, {ONCE: "experience 1 shows an image twice"}),
    (broken.ShowsPatientsAgain, {"no-patient-comes-again": "come again [23] times"}),
    (broken.TrainsOnTheTest, {"trains-on-no-test-patient": "not of the training split", **SHIFTED}),
    (broken.TestsOnLess, {"trains-on-no-test-patient": "not those of the test split", **SHIFTED}),
    (broken.GivesLabelsAway, {"unobserved-labels-are-masked": "experience 1 gives away"}),
    (
        broken.HidesOtherwise,
        {"unobserved-labels-are-masked": "hidden=absent was asked for, and its stream says"},
    ),
    (broken.TakesUnknownForAbsent, {"observed-labels-are-true": "experience 1 are not the table's"}),
    (broken.FlipsUndeclared, {TRUE: "experience 1 are not the table's$"}),
    (broken.DeclaresAndDoesNotSay, {TRUE: "declares alters_labels='flipped', and its stream altered=''"}),
    (broken.FlipsWhereItWithholds, {TRUE: "experience 1 are not the table's with some withheld"}),
    (broken.WithholdsWhereItFlips, {TRUE: "experience 1 are not the table's with some flipped"}),
    (broken.FlipsTestLabels, {"its-table-is-the-table": "other labels of test images"}),
    (broken.FlipsTheTable, {TRUE: "", "its-table-is-the-table": "other labels of training images"}),
    (
        broken.ChangesTheTable,
        {"its-table-is-the-table": "other labels of test", "leaves-the-table-alone": "changed the table"},
    ),
    (broken.DependsOnUnreadableImages, {"lost-images-change-nothing-else": "other labels then"}),
    (broken.Prints, {"prints-nothing": "printed 'cut"}),
]


def test_a_good_scenario_passes() -> None:
    report = retune.check_scenario(broken.Good)
    assert report.failed == {}
    assert report.passed
    assert [f.name for f in report.findings] == [check.name for check in CHECKS]


@pytest.mark.parametrize(("cls", "expected"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_scenario_fails_its_check_and_no_other(
    cls: type[Scenario], expected: dict[str, str]
) -> None:
    report = retune.check_scenario(cls)
    assert not report.passed
    assert list(report.failed) == list(expected)
    for name, reason in expected.items():
        assert re.search(reason, report.failed[name]), report.failed[name]


def test_every_check_is_failed_by_something() -> None:
    failed = {name for _, expected in BROKEN for name in expected}
    assert failed == {check.name for check in CHECKS}


def test_a_run_says_above_its_numbers_that_its_stream_breaks_the_contract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    words += [
        "--backbone",
        features_file(tmp_path),
        "--strategy",
        "ridge",
        "--set",
        "start=zeros",
        "--replicates",
        "5",
    ]
    breach = {
        "Good": "nothing",
        "ShowsPatientsAgain": "no-patient-comes-again: patients come again",
        "Unseeded": "same-seed-same-stream: two streams of one seed differ, so no run can be repeated",
    }
    for name, reason in breach.items():
        scenario, out = f"{broken.__file__}:{name}", str(tmp_path / name)
        assert main(["run", "--scenario", scenario, *words, "--out", out]) == 0
        told = " ".join(capsys.readouterr().out.split("AUC on")[0].split())
        result = retune.load(out)
        assert (len(result.scenario.breaches) == 1) == (name != "Good")
        said = f"Scenario good breaks the contract of streams: {reason}"
        assert (said in told) == (name != "Good")
        assert (said in " ".join(cautions(result))) == (name != "Good")


def test_patients_may_come_again_where_that_is_declared() -> None:
    class Published(broken.ShowsPatientsAgain):
        recurs = True

    assert retune.check_scenario(Published).passed


def test_labels_may_be_altered_where_that_is_declared() -> None:
    class Declared(broken.FlipsUndeclared):
        alters_labels = "flipped"

        def changed(self, stream: Stream) -> Stream:
            return replace(super().changed(stream), altered="flipped")

    assert retune.check_scenario(Declared).failed == {}


def test_settings_are_those_of_the_command_line() -> None:
    assert retune.check_scenario("class-incremental", {"steps": "14"}).passed
    with pytest.raises(BadSetting, match="setting steps: 'many' is not whole number"):
        retune.check_scenario("class-incremental", {"steps": "many"})
    with pytest.raises(
        UnknownName, match="unknown scenario 'class-increment'; did you mean class-incremental"
    ):
        retune.check_scenario("class-increment")
    told = retune.check_scenario("class-incremental", {"steps": 100}).failed
    assert "100 steps need at least 100 labels" in told["cuts"]
