"""``check_strategy``: a good strategy passes, and each broken one fails its check by name."""

from __future__ import annotations

import os
import re

import broken_strategies as broken
import pytest

import retune
from retune import Strategy
from retune.check.checks import made
from retune.check.lab import Lab
from retune.check.strategy import CHECKS
from retune.check.subject import Subject
from retune.errors import BadSetting, UnknownName

ANSWERS = "scores-every-label-at-every-moment"
MAPS = "maps-belong-to-their-image"
MEMORY = "memory-declared-equals-memory-used"
BROKEN: list[tuple[type[Strategy], dict[str, str]]] = [
    (broken.LacksScore, {"runs": "abstract method '?score'?"}),
    (broken.Fails, {"runs": r"raised ValueError: no such luck \(broken_strategies.py, line"}),
    (broken.HasNoName, {"says-what-it-is": "lacks a name"}),
    (broken.HasNoVersion, {"says-what-it-is": "lacks a version"}),
    (broken.LivesElsewhere, {"says-what-it-is": "'../good' does not fit a path"}),
    (broken.NeedsWhatNobodyHas, {"says-what-it-is": "unknown need 'clairvoyance'"}),
    (broken.MistypesItsNeeds, {"says-what-it-is": "unknown need 'featurs'; did you mean features"}),
    (broken.NeedsAText, {"says-what-it-is": "needs 'features', which is no set of names"}),
    (broken.ForgetsTheDataclass, {"says-what-it-is": "rate, which is no setting; write @dataclass above"}),
    (broken.TakesArguments, {"says-what-it-is": "rate, depth, which are no setting; write @dataclass above"}),
    (broken.HasAListOfItsOwn, {"says-what-it-is": r"setting layers can be changed in place: \[1, 2\]"}),
    (broken.HasATensorForASetting, {"says-what-it-is": "setting start is not JSON"}),
    (broken.LetsItsNameBeSet, {"says-what-it-is": "name is a setting"}),
    (broken.HasABadPreset, {"says-what-it-is": "unknown setting 'no_such_setting'"}),
    (broken.TellsASet, {"tells-what-it-learnt": "not plain JSON"}),
    (broken.SaysItTrainedNothing, {"tells-what-it-learnt": "says 0, while fit changed 768 numbers"}),
    (broken.SaysItTrainedABillion, {"tells-what-it-learnt": "says 1,000,000,000, while fit changed 768"}),
    (broken.MapsABatch, {MAPS: "another alone than among others"}),
    (broken.LeavesALabelOut, {ANSWERS: r"before any training: shape \(12, 5\), not \(12, 6\)"}),
    (
        broken.ScoresInWholeNumbers,
        {
            ANSWERS: "torch.int64, not floating-point numbers",
            "unknown-labels-have-no-influence": "raised NotImplementedError",
        },
    ),
    (
        broken.KeepsTargetsAsHandedOver,
        {
            "takes-labels-with-one-class": "'memory.targets' of state_dict holds targets .* SampleMemory",
            "takes-labels-that-are-all-unknown": "'memory.targets' of state_dict holds targets .* SampleMemory",
        },
    ),
    (
        broken.ScoresNothingUntrained,
        {ANSWERS: "before any training: NaN or infinity for Cardiomegaly, Edema, "},
    ),
    (broken.ScoresDiffer, {ANSWERS: "scored twice, the scores differ"}),
    (
        broken.DrawsFromTheClock,
        {
            "same-seed-same-result": "score differently",
            # Whatever compares two runs to the bit sees it too.
            "resumed-equals-uninterrupted": "after the experience that follows",
            "unknown-labels-have-no-influence": "what lies under the mask",
        },
    ),
    (broken.ForgetsOnResuming, {"resumed-equals-uninterrupted": "after the experience that follows"}),
    (broken.KeepsAnArray, {"state-round-trips": "'sums' of state_dict is neither a tensor nor JSON"}),
    (broken.KeepsATuple, {"state-round-trips": "'labels' of state_dict is neither"}),
    (broken.StoresTheTower, {"state-is-what-it-learnt": "weights or prompts of the backbone"}),
    (broken.TakesUnknownForAbsent, {"unknown-labels-have-no-influence": "unknown labels as absent"}),
    (broken.PeeksUnderTheMask, {"unknown-labels-have-no-influence": "what lies under the mask"}),
    (broken.DividesByTheClasses, {"takes-labels-with-one-class": "NaN or infinity"}),
    (broken.DividesByTheKnown, {"takes-labels-that-are-all-unknown": "NaN or infinity"}),
    (broken.TakesTheSpread, {"takes-experiences-of-one-and-two-images": "after an experience of 1"}),
    (broken.CentresTheBatch, {"batch-mates-do-not-matter": "alone than among others"}),
    (broken.RereadsThePast, {"past-images-are-out-of-reach": "images of an earlier call"}),
    (broken.KeepsAGraph, {"past-images-are-out-of-reach": "tensors it was lent are kept"}),
    (broken.KeepsCopies, {MEMORY: "16 more images make it keep 8,192 bytes more"}),
    (broken.KeepsCopiesElsewhere, {MEMORY: "bytes more than declared"}),
    (broken.KeepsAFew, {MEMORY: "vectors of single images"}),
    (broken.KeepsTargetsInItsState, {MEMORY: "bytes more than declared"}),
    (broken.DeclaresWhatItDoesNotKeep, {MEMORY: "declares keeps_samples"}),
    (broken.KeepsWhatItDoesNotDeclare, {MEMORY: "without declaring keeps_samples"}),
    (broken.ChangesItsTargets, {"leaves-its-targets-alone": "changed the targets"}),
    (broken.TrainsTheFrozenTower, {"leaves-the-backbone-as-it-is": "changed in the text tower"}),
    (broken.UnfreezesTheTower, {"leaves-the-backbone-as-it-is": "changed in the text tower"}),
    (broken.SetsTheDefaultDtype, {"changes-nothing-global": "changed: the default dtype$"}),
    (broken.SeedsEverything, {"changes-nothing-global": "Python's random generator, PyTorch's random"}),
    (broken.SetsTheEnvironment, {"changes-nothing-global": "changed: the environment$"}),
    (broken.WritesAFile, {"changes-nothing-global": "wrote sums.pt into the working directory"}),
    (broken.Prints, {"prints-nothing": r"printed 'fitting ... 33 Counter\(\)"}),
]

BROKEN_MAPS: list[tuple[type[Strategy], str, str]] = [
    (broken.MapsNoSquare, MAPS, r"torch.float32 \(12, 8, 2, 3\), not float32 \(12, D, g, g\)"),
    (broken.MapsInDoubles, MAPS, r"torch.float64 \(12, 8, 2, 2\), not float32"),
    (broken.MapsAnArray, MAPS, "dense gave ndarray, not float32"),
    (broken.MapsNothingNumbers, MAPS, "NaN or infinity in what dense gave"),
    (broken.MapsLargerForMany, MAPS, "the shape of a map depends on how many images"),
    (broken.MapsSome, MAPS, "the shape of a map depends on how many images are asked for: .*None"),
    (broken.MapsVectors, MAPS, "though it needs neither tokens nor pixels"),
    (broken.LearnsWhileItMaps, MAPS, "dense changed its state or what it scores"),
    (broken.KeepsWhatItMaps, "past-images-are-out-of-reach", "tensors it was lent are kept"),
    (broken.PrintsWhileItMaps, "prints-nothing", r"printed 'mapping"),
    (broken.ForgetsItsMapsOnResuming, "resumed-equals-uninterrupted", "dense gives other maps right after"),
    (broken.WritesWhileItMaps, "changes-nothing-global", "wrote maps.pt into the working directory"),
]


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab()


@pytest.mark.parametrize(
    ("cls", "name", "reason"), BROKEN_MAPS, ids=lambda value: getattr(value, "__name__", "")
)
def test_broken_maps_are_told_in_one_line(cls: type[Strategy], name: str, reason: str, lab: Lab) -> None:
    check = next(check for check in CHECKS if check.name == name)
    outcome, told, _ = made(check, Subject.of(cls, {}, lab), limit=20)
    assert outcome == "failed"
    assert re.search(reason, told), told
    assert "\n" not in told


def test_a_good_strategy_passes() -> None:
    told: list[tuple[str, int, int]] = []
    report = retune.check_strategy(broken.Good, progress=lambda *args: told.append(args))
    assert report.failed == {}
    assert report.passed
    assert [f.name for f in report.findings] == [check.name for check in CHECKS]
    assert told[-1] == ("checking", len(CHECKS), len(CHECKS))
    assert "0.51 before" in report.remarks[0]


def test_scores_in_doubles_pass() -> None:
    assert retune.check_strategy(broken.ScoresInDoubles).failed == {}


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "expected"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_strategy_fails_its_check_and_no_other(
    cls: type[Strategy], expected: dict[str, str]
) -> None:
    report = retune.check_strategy(cls)
    assert not report.passed
    assert list(report.failed) == list(expected)
    for name, reason in expected.items():
        assert re.search(reason, report.failed[name]), report.failed[name]


def test_every_check_is_failed_by_something() -> None:
    failed = {name for _, expected in BROKEN for name in expected}
    assert failed == {check.name for check in CHECKS}


def test_what_never_returns_is_stopped_and_named() -> None:
    report = retune.check_strategy(broken.NeverReturns, limit=0.5)
    assert report.failed == {"runs": "did not return within 0.5 seconds"}
    assert {f.outcome for f in report.findings[2:]} == {"not tried"}
    assert {f.reason for f in report.findings[2:]} == {"runs failed"}


def test_time_runs_out_for_what_hangs_again_and_again() -> None:
    report = retune.check_strategy(broken.HangsOnUnknownLabels, limit=1)
    outcomes = [finding.outcome for finding in report.findings]
    assert "did not return within" in report.failed["same-seed-same-result"]
    assert outcomes[0] == "passed"
    assert outcomes[-1] == "not tried"


def test_one_check_s_damage_is_not_another_s() -> None:
    report = retune.check_strategy(broken.SetsTheEnvironment)
    assert "OMP_NUM_THREADS_OF_MINE" not in os.environ
    assert report.failed


def test_settings_are_those_of_the_command_line() -> None:
    assert retune.check_strategy(broken.Good, {"weight": "0.1"}).passed
    with pytest.raises(BadSetting, match="setting weight: 'much' is not number"):
        retune.check_strategy(broken.Good, {"weight": "much"})
    with pytest.raises(UnknownName, match="unknown setting 'heavy'"):
        retune.check_strategy(broken.Good, {"heavy": 1})
    with pytest.raises(UnknownName, match="did you mean linear-probe"):
        retune.check_strategy("linear-prob")
