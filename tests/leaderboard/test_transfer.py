"""Entries of runs that have their track's transfer: the Dice that is told follows from sums, and from the method."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_boards import SETTINGS, SHELF, TRACKS, copied, edit, entry, put, resign
from made_runs import change_scores
from made_transfers import FINDINGS, NOBODY, made_transfer
from safetensors.numpy import load, load_file, save

from retune.cli.main import main
from retune.leaderboard.board import Board
from retune.leaderboard.rerun import rerun
from retune.leaderboard.site import build
from retune.leaderboard.submit import Said, submit
from retune.leaderboard.verify import Verdict, Verifier
from retune.results.result import RESULT_FILE, Result, TransferRecord
from retune.results.scores import write_finished
from retune.runner.run import prepare
from retune.runner.spec import Spec

Arrays = dict[str, np.ndarray]


def board_of(runs: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "tracks.toml").write_text(TRACKS)
    submit([runs], Said("valid"), board=folder)
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the track's transfer."""
    asked = Spec(
        strategy="ridge", scenario="class-incremental", transfer="segmentation", replicates=1000, device="cpu",
        settings={**SETTINGS, "scenario.steps": 2, "scenario.order": "dataset", "transfer.images": 60,
                  "transfer.size": 16},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("real") / "run"
    prepare(asked, folder, shared=SHELF).execute()
    return folder


def grafted(runs: Path, folder: Path, **changed: Any) -> Path:
    """Three runs with a made-up transfer of an image side that moves, as the runner would have written them."""
    for seed in range(3):
        run = Path(shutil.copytree(runs / f"linear-probe-dataset-{seed}", folder / str(seed)))
        record, _, sums, patients = made_transfer(seed, (0.8, 0.7, 0.5), data="phantom/regions")
        task = Board(folder.parent / "board").tracks["small-v1"].transfer
        assert task is not None
        record |= {"settings": task.settings, **changed}
        arrays = load_file(run / "scores.safetensors")
        arrays |= {"transfer.sums": sums, "transfer.patients": patients}
        result = Result.read(run / RESULT_FILE)
        result = result.model_copy(update={"transfer": [TransferRecord.model_validate(record)]})
        write_finished(result, arrays, run)
    return folder


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory, small_runs: Path) -> Path:
    """A board with an entry of three such runs; copy it before you change it."""
    place = tmp_path_factory.mktemp("moving")
    (place / "board").mkdir()
    (place / "board" / "tracks.toml").write_text(TRACKS)
    submit([grafted(small_runs, place / "runs")], Said("valid"), board=place / "board")
    return place / "board"


@pytest.fixture
def folder(moving: Path, tmp_path: Path) -> Path:
    """That entry, to be changed."""
    return copied(moving, tmp_path / "board") / "submissions" / "small-v1" / "valid-1"


def judged(folder: Path) -> Verdict:
    return Verifier(Board(folder.parents[2]), shared=SHELF).verify(folder)


def again(folder: Path) -> Verdict:
    verifier = Verifier(Board(folder.parents[2]), shared=SHELF)
    verdict = verifier.verify(folder)
    assert verdict.tier == "recomputed", verdict.reason
    return rerun(verifier, folder, verdict)


def test_its_numbers_are_the_run_s_and_are_found_again(real: Path, tmp_path: Path) -> None:
    folder = board_of(real, tmp_path / "board") / "submissions" / "small-v1" / "valid-1"
    mine, told = json.loads((real / "result.json").read_text())["transfer"][0], entry(folder)
    run = told["runs"][0]
    wanted = np.array([mine[part]["dice"] for part in ("refit", "kept")], dtype=float)
    np.testing.assert_allclose(np.array(run["dice"], dtype=float), wanted, atol=1e-6)
    for key, of in mine["metrics"].items():
        assert run["values"][key] == told["metrics"][key]["mean"] == pytest.approx(of["value"], abs=1e-6)
        # The same patients stand in another order, and are drawn otherwise.
        assert told["metrics"][key]["low"] == pytest.approx(of["low"], abs=0.03)
    assert told["transfer"]["prior"] == pytest.approx(mine["trivial"]["prior"]["dice"], abs=1e-6)
    found = again(folder)
    assert (found.tier, found.reason) == ("re-run", "")
    assert found.record is not None
    assert found.record.rerun_difference <= 1e-7


def test_sums_that_were_made_up_do_not_stand_running_it_again(real: Path, tmp_path: Path) -> None:
    def perfect(arrays: Arrays) -> None:
        arrays["transfer.sums"][..., :2] = arrays["transfer.sums"][..., 2:]

    change_scores(Path(shutil.copytree(real, tmp_path / "run")), perfect)
    folder = board_of(tmp_path / "run", tmp_path / "board") / "submissions" / "small-v1" / "valid-1"
    assert entry(folder)["metrics"]["dense_final"]["mean"] == 1
    found = again(folder)
    assert (found.outcome, "a Dice differs by" in found.reason) == ("false", True)


def test_what_is_told_follows_from_the_sums_and_no_image_is_named(folder: Path) -> None:
    told = entry(folder)
    finals = []
    for seed, run in enumerate(told["runs"]):
        sums = made_transfer(seed, (0.8, 0.7, 0.5))[2].astype(float).sum(-3)
        dice = 2 * sums[..., 0] / (sums[..., 1] + sums[..., 2])
        dice[..., NOBODY] = np.nan
        np.testing.assert_allclose(np.array(run["dice"], dtype=float), dice, atol=1e-6)
        finals.append(np.nanmean(dice[0, -1]))
    final = told["metrics"]["dense_final"]
    assert (final["mean"], final["sd"]) == pytest.approx((np.mean(finals), np.std(finals, ddof=1)), abs=1e-6)
    assert final["low"] < final["mean"] < final["high"]
    arrays = load((folder / "scores.safetensors").read_bytes())
    assert set(arrays) == {"items", "scores", "range", "transfer.sums", "transfer.patients"}
    assert (np.diff(arrays["transfer.sums"][0, 0, 0, :, NOBODY, 2].astype(int)) >= 0).all()
    assert (np.diff(np.unique(arrays["transfer.patients"], return_index=True)[1]) > 0).all()
    assert judged(folder).tier == "recomputed"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("runs.0.dice.0.1.1", 0.5),
        ("runs.0.dice.1.2.0", None),
        ("runs.1.values.head_drift", 0.5),
        ("metrics.dense_final.low", 0.1),
        ("metrics.dense_forgetting.mean", 0.0),
        ("transfer.positives_train.0", 2),
    ],
)
def test_a_number_that_does_not_follow_is_named(folder: Path, path: str, value: Any) -> None:
    put(folder, path, value)
    found = judged(folder)
    assert found.outcome == "false", found.reason
    assert path[:7] in found.reason or "dice" in found.reason


def _set(at: tuple[Any, ...], value: int) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays["transfer.sums"][at] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set((0, 0, 0, 0, 0, 0), 2**32 - 1), "more pixels right"),
        (_set((1, 1, 1, slice(None), 1, slice(1, 3)), 256), "other outlines"),
        (lambda arrays: arrays["transfer.patients"].fill(0), "transfer.patients are 1"),
        (lambda arrays: arrays.update({"transfer.patients": arrays["transfer.patients"][1:]}), "must be U32 [60]"),
        (lambda arrays: arrays.pop("transfer.sums"), "nothing else"),
    ],
    ids=["right", "outlines", "patients", "short", "gone"],
)  # fmt: skip
def test_sums_that_cannot_be_are_refused(folder: Path, change: Callable[[Arrays], Any], reason: str) -> None:
    arrays = load((folder / "scores.safetensors").read_bytes())
    change(arrays)
    resign(folder, save(arrays))
    found = judged(folder)
    assert (found.outcome, reason in found.reason) == ("refused", True), found.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.pop("transfer"), "left out"),
        (lambda d: d["runs"][1].pop("dice"), "runs.1.dice is not 2 x 3 x 3"),
        (lambda d: d["runs"][1]["dice"][1].pop(), "dice"),
        (lambda d: d["transfer"]["findings"].append("Edema"), "4 findings"),
        (lambda d: d["transfer"].update(n_test=10**9), "n_test"),
        (lambda d: d["metrics"].pop("head_drift"), "each number of a transfer"),
        (lambda d: d.update(track="small-random-v1"), "another folder"),
    ],
    ids=["none", "no-dice", "ragged", "twice", "many", "metric", "track"],
)
def test_what_no_entry_says_is_refused_in_a_line(
    folder: Path, change: Callable[[Any], Any], reason: str
) -> None:
    edit(folder, change)
    found = judged(folder)
    assert (found.outcome, reason in found.reason, "\n" in found.reason) == ("refused", True, False), (
        found.reason
    )


def test_another_transfer_than_the_track_s_is_left_out_and_said(
    small_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "tracks.toml").write_text(TRACKS)
    runs = grafted(small_runs, tmp_path / "runs", name="localisation")
    assert main(["submit", str(runs), "--board", str(tmp_path / "board")]) == 0
    assert "says nothing of a transfer" in capsys.readouterr().out
    told = entry(tmp_path / "board" / "submissions" / "small-v1" / "linear-probe-1")
    assert "transfer" not in told
    assert not {"dense_final", "head_drift"} & told["metrics"].keys()


def test_the_page_has_columns_and_findings_where_an_entry_has_a_transfer(
    folder: Path, small_board: Path, tmp_path: Path
) -> None:
    for name, board in (("with", folder.parents[2]), ("without", small_board)):
        build(board, tmp_path / name)
    found = [
        (tmp_path / name / page).read_text()
        for name in ("with", "without")
        for page in ("tracks/small-v1.html", "entries/small-v1/valid-1.html")
    ]
    assert ["dense forgetting" in page for page in found] == [True, True, False, False]
    assert ["mean training mask" in page for page in found] == [True, True, False, False]
    row = found[1].rsplit(f'<th scope="row">{FINDINGS[0]}</th>', 1)[1].split("</tr>")[0]
    dice = np.array([run["dice"] for run in entry(folder)["runs"]], dtype=float).mean(0)[..., 0]
    for value in (0.061, dice[0, 0], dice[0, -1], dice[1, -1]):
        assert f"{value:.3f}".lstrip("0") in row
