"""What verifying finds, says and keeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_boards import TRACKS, edit, entry, put, runs_of
from made_runs import change_scores

from retune.cli.main import main
from retune.leaderboard.board import Board
from retune.leaderboard.entry import Entry
from retune.leaderboard.intake import read
from retune.leaderboard.records import suspicions
from retune.leaderboard.submit import Said, submit
from retune.leaderboard.verify import Verifier
from retune.metrics.table import BY_KEY, PUBLISHED

VALID = "small-v1/valid-1"
ORDER = "one label order: every seed learns the labels in the same order"


@pytest.fixture(scope="module")
def verifier(small_board: Path) -> Verifier:
    """Reads the data once."""
    return Verifier(Board(small_board))


def test_an_honest_entry_holds(board: Path, verify) -> None:
    code, (told,), errors = verify(board)
    assert (code, told["entry"], told["outcome"], told["tier"], told["reason"]) == (
        0, VALID, "holds", "recomputed", "",
    )  # fmt: skip
    assert 0 < told["difference"] < 1e-4
    assert told["remarks"] == [ORDER]
    assert "Traceback" not in errors
    kept = json.loads((board / "verified" / f"{VALID}.json").read_text())
    assert len(kept["replicates"]) == 1000
    said = entry(board / "submissions" / VALID)["metrics"]["final_auc"]
    assert np.mean(kept["replicates"]) == pytest.approx(said["mean"], abs=0.02)
    assert np.quantile(kept["replicates"], [0.025, 0.975]) == pytest.approx(
        [said["low"], said["high"]], abs=1e-3
    )


NUMBERS = [
    "runs.1.auc_matrix.0.3", "runs.2.auc_matrix.2.13", "runs.0.values.final_auc", "runs.1.values.average_auc",
    "runs.2.values.forgetting", "runs.0.values.backward_transfer", "runs.0.values.forward_transfer",
    "runs.0.values.final_ap", "runs.1.values.average_ap", "runs.0.values.calibration_error",
    *(f"metrics.{name}.{key}" for name in ("final_auc", "forgetting") for key in ("mean", "sd", "low", "high")),
    "metrics.final_ap.mean", "metrics.calibration_error.sd",
]  # fmt: skip
UNTAUGHT = ("learning", "average_auc", "forgetting", "backward_transfer", "forward_transfer")
"""Undefined where no label can be learnt."""


@pytest.mark.parametrize("path", NUMBERS)
def test_a_number_changed_by_little_is_found_and_named(path: str, folder: Path, verifier: Verifier) -> None:
    at: Any = entry(folder)
    for word in path.split("."):
        at = at[int(word) if word.isdigit() else word]
    put(folder, path, round(at + 2e-4, 7))
    verdict = verifier.verify(folder)
    assert (verdict.outcome, verdict.tier) == ("false", None)
    named = (
        path.split("auc_matrix")[0] + "auc_matrix"
        if "auc_matrix" in path
        else path.rpartition(".mean")[0] or path
    )
    assert verdict.reason.startswith(named)
    # What rounding does is not found.
    put(folder, path, round(at + 2e-5, 7))
    assert verifier.verify(folder).outcome == "holds"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("runs.0.auc_matrix.0.0", None, "runs.0.values.zero_shot_auc does not follow from its auc_matrix"),
        ("runs.0.prevalence", [0.001] * 14, "runs.0.values.final_auc_head does not follow from its auc_matrix"),
        ("runs.1.prevalence.0", 0.9, "runs.1.prevalence: labels are not as common in the data that is here"),
        ("runs.0.values.final_ap", None, "metrics.final_ap is not the mean over its runs"),
        ("metrics.final_ap.sd", None, "metrics.final_ap.sd does not follow"),
        ("metrics.final_ap.low", 0.5, "metrics.final_ap.low does not follow"),
        ("metrics.final_auc.mean", None, "metrics.final_auc is not the mean"),
        ("metrics.final_auc.n", 2, "metrics.final_auc is not the mean"),
        ("runs.1.first", [1] * 14, "does not follow from its auc_matrix"),
        ("runs.1.stream", "0" * 64, "runs.1.stream: seed 1 gives another stream"),
        ("runs.1.images", [1, 1], "runs.1.images: experiences are not of the sizes"),
        ("runs.1.seed", 9, "runs.1.stream: seed 9 gives another stream"),
        ("data.n_train", 1, "data.n_train is 1, on the data that is here"),
        ("data.n_test_patients", 1, "data.n_test_patients is 1, on the data that is here"),
        ("data.synthetic", False, "data.synthetic is False, on the data that is here True"),
        ("data.fingerprint", "0" * 64, "data.fingerprint: the data set that is here is another"),
        ("data.unreadable_images", 1, ""),
    ],
)  # fmt: skip
def test_what_is_said_beside_the_scores_is_checked(
    path: str, value: Any, reason: str, folder: Path, verifier: Verifier
) -> None:
    put(folder, path, value)
    verdict = verifier.verify(folder)
    assert verdict.outcome == ("false" if reason else "holds")
    assert reason in verdict.reason


@pytest.mark.parametrize("added", ["null", "absent"])
def test_an_entry_made_before_there_was_prevalence_or_gain_holds(
    folder: Path, verifier: Verifier, added: str
) -> None:
    groups = ("final_auc_head", "final_auc_medium", "final_auc_tail")
    if added == "null":  # of runs that were made before
        undefined = {"mean": None, "sd": None, "n": 0, "low": None, "high": None}

        def change(document: dict[str, Any]) -> None:
            document["metrics"].update(dict.fromkeys(groups, undefined))
            for run in document["runs"]:
                run["prevalence"] = None
                run["values"].update(dict.fromkeys(groups))

    else:

        def change(document: dict[str, Any]) -> None:
            later = [metric.key for metric in PUBLISHED if metric.later]
            for part in (document["metrics"], *(run["values"] for run in document["runs"])):
                for key in later:
                    del part[key]
            for run in document["runs"]:
                del run["prevalence"]

    edit(folder, change)
    verdict = verifier.verify(folder)
    assert (verdict.outcome, verdict.tier, verdict.reason) == ("holds", "recomputed", "")
    old = read(folder).entry
    final, zero_shot, gain, head = (
        old.estimate(BY_KEY[key]) for key in ("final_auc", "zero_shot_auc", "gain", "final_auc_head")
    )
    assert gain.mean == pytest.approx(final.mean - zero_shot.mean, abs=1e-6)
    assert (gain.low is None) == (added == "absent")
    assert head.mean is None


def test_every_label_learnt_at_once_is_another_stream(folder: Path, verifier: Verifier) -> None:
    """Numbers that agree with each other, and an order of labels that is not the stream's."""

    def change(document: dict[str, Any]) -> None:
        order = [3 - first for first in document["runs"][0]["first"]]
        for run in document["runs"]:
            run["first"] = order
            for key in UNTAUGHT:
                run["values"][key] = None
        for key in UNTAUGHT:
            document["metrics"][key] = {"mean": None, "sd": None, "n": 0, "low": None, "high": None}

    edit(folder, change)
    verdict = verifier.verify(folder)
    assert verdict.outcome == "false"
    assert "does not follow from its auc_matrix" in verdict.reason


def test_seeds_with_the_same_scores_hold_and_are_remarked(
    small_runs: Path, tmp_path: Path, verifier: Verifier
) -> None:
    (tmp_path / "tracks.toml").write_text(TRACKS)
    runs = Path(shutil.copytree(small_runs, tmp_path / "runs"))
    for file in runs.rglob("scores.safetensors"):

        def same(arrays: dict[str, np.ndarray]) -> None:
            arrays["scores"][:] = np.random.default_rng(0).normal(size=arrays["scores"].shape)

        change_scores(file.parent, same)
    (one,) = submit([runs], board=tmp_path)
    record = verifier.verify(one.folder).record
    assert record is not None
    assert record.remarks == [ORDER, "seeds 0 and 1 have the same scores: the seed decides nothing"]


def test_two_seeds_of_a_bound_are_few_and_alike_of_right(
    more_runs: Path, tmp_path: Path, verifier: Verifier
) -> None:
    (tmp_path / "tracks.toml").write_text(TRACKS)
    remarks = {}
    for one in submit([more_runs], board=tmp_path):
        record = verifier.verify(one.folder).record
        assert record is not None
        remarks[one.entry.strategy.name] = record.remarks
    few = "2 seeds only; 3 or more tell how results vary"
    assert remarks == {"joint": [few, ORDER], "ridge": [few, ORDER]}


def test_random_orders_are_not_one_order(tmp_path: Path, verifier: Verifier) -> None:
    (tmp_path / "tracks.toml").write_text(TRACKS)
    (one,) = submit([runs_of(tmp_path / "runs", "ridge", order="random")], board=tmp_path)
    assert one.entry.track == "small-random-v1"
    verdict = verifier.verify(one.folder)
    assert (verdict.tier, verdict.record.remarks if verdict.record else None) == ("recomputed", [])


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (
            lambda e: e["backbone"].update(contaminated="yes"),
            "contaminated: phantom-clip was pre-trained on this data",
        ),
        (lambda e: e["backbone"].update(contaminated="possibly"), "may have been pre-trained on this data"),
        (
            lambda e: e["data"].update(repeated_images=1200),
            "of the test images, 1,200 are training images too",
        ),
        (
            lambda e: e["data"].update(unreadable_images=3),
            "images that could not be read and were left out: 3",
        ),
        (lambda e: e["backbone"].update(looked_up=True), "features were looked up by image id"),
        (
            lambda e: [r["auc_matrix"][-1].__setitem__(2, None) for r in e["runs"]],
            "labels without an AUC: Cardiomegaly",
        ),
        (
            lambda e: [r["first"].__setitem__(2, 0) for r in e["runs"]],
            "labels without a positive or without a negative training image: Cardiomegaly",
        ),
        (lambda e: e.update(runs=e["runs"][:1]), "1 seed only; 3 or more tell how results vary"),
    ],
)
def test_what_a_reader_should_know(
    change: Callable[[dict[str, Any]], object], remark: str, small_board: Path
) -> None:
    document = entry(small_board / "submissions" / VALID)
    plain = suspicions(Entry.model_validate(document))
    change(document)
    (line,) = set(suspicions(Entry.model_validate(document))) - set(plain)
    assert remark in line


def _on_files(folder: Path, change: Callable[[dict[str, Any]], object] = lambda e: None) -> Path:
    """The entry on the track whose data needs files."""
    moved = folder.parent.parent / "files-v1" / folder.name
    moved.parent.mkdir()
    folder.rename(moved)
    settings, _ = Board(folder.parents[2]).tracks["files-v1"].settings()

    def on_track(document: dict[str, Any]) -> None:
        document["track"] = "files-v1"
        document["data"].update(name="nih", settings=settings)
        change(document)

    edit(moved, on_track)
    return moved


def test_without_the_files_an_entry_is_only_read(folder: Path, board: Path, tmp_path: Path, verify) -> None:
    _on_files(folder)
    for words in ([], ["--root", f"csv={tmp_path}"], ["--rerun"]):
        code, (told,), _ = verify(board, *words)
        assert (code, told["tier"]) == (0, "self-reported")
        assert told["reason"] == "not recomputed: give the folder of nih with --root"
        assert told["difference"] is None
    assert main(["leaderboard", "verify", "--board", str(board), "--root", f"nih={tmp_path}"]) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e: e["metrics"]["final_auc"].update(mean=0.99), "metrics.final_auc is not the mean"),
        (lambda e: e["runs"][0]["values"].update(final_auc=0.99), "runs.0.values.final_auc does not follow"),
        (
            lambda e: [r["values"].update(final_ap=None) for r in e["runs"]],
            "metrics.final_ap is not the mean",
        ),
        (
            lambda e: (
                [r["values"].update(final_ap=None) for r in e["runs"]],
                e["metrics"]["final_ap"].update(n=0, sd=None),
            ),
            "metrics.final_ap is not the mean",
        ),
    ],
)
def test_numbers_that_disagree_are_found_without_data(
    change: Callable[[dict[str, Any]], object], reason: str, folder: Path, verifier: Verifier
) -> None:
    verdict = verifier.verify(_on_files(folder, change))
    assert verdict.outcome == "false"
    assert verdict.reason.startswith(reason)


@pytest.mark.parametrize(
    ("backbone", "said", "found"),
    [
        ("rad-dino-cxr-bert", "no", "yes"),
        ("rad-dino-cxr-bert", "possibly", "yes"),
        ("rad-dino-cxr-bert", "yes", None),
        ("xray-siglip", "no", "possibly"),
        ("xray-siglip", "yes", None),
        ("biomedclip", "no", None),
        ("local-dir:mine", "no", None),
    ],
)
def test_nobody_keeps_quiet_about_what_a_card_says(
    backbone: str, said: str, found: str | None, folder: Path, verifier: Verifier
) -> None:
    verdict = verifier.verify(
        _on_files(folder, lambda e: e["backbone"].update(name=backbone, contaminated=said))
    )
    if found is None:
        assert verdict.outcome == "holds"
    else:
        assert verdict.outcome == "false"
        assert verdict.reason == f"backbone.contaminated is {said}, the card of {backbone} says {found}"


def test_long_names_make_no_remark_too_long(folder: Path, verifier: Verifier) -> None:
    def change(document: dict[str, Any]) -> None:
        document["data"]["labels"] = [f"{k} " + "x" * 290 for k in range(14)]
        document["backbone"].update(name="b" * 300, contaminated="yes")
        for run in document["runs"]:
            run["first"] = [0] * 14
            for key in UNTAUGHT:
                run["values"][key] = None
        for key in UNTAUGHT:
            document["metrics"][key] = {"mean": None, "sd": None, "n": 0, "low": None, "high": None}

    verdict = verifier.verify(_on_files(folder, change))
    assert verdict.tier == "self-reported"
    assert verdict.record is not None
    assert len(verdict.record.remarks) == 2
    assert all(len(line) == 300 for line in verdict.record.remarks)


def test_the_same_scores_by_another_name_are_another_entry(small_runs: Path, board: Path, verify) -> None:
    submit([small_runs], Said("copy"), board=board)
    code, told, _ = verify(board)
    assert (code, [one["tier"] for one in told]) == (0, ["recomputed", "recomputed"])
