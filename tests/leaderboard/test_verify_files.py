"""An entry on data that only who has its files can recompute."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_boards import put

from retune.cli.main import main
from retune.leaderboard.check import check
from retune.leaderboard.submit import submit
from retune.runner.run import prepare
from retune.runner.spec import Spec

LABELS = ("Edema", "Pneumonia", "Fracture")
TRACK = """
[hospital-v1]
title = "a hospital's table"
version = 1
data = "csv"
scenario = "class-incremental"
scenario_settings = { steps = 3, order = "dataset" }
"""


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 240 images without pictures, their features, and a board with an entry on them."""
    folder = tmp_path_factory.mktemp("hospital")
    rng = np.random.default_rng(0)
    truth = (rng.random((240, 3)) < (0.4, 0.3, 0.2)).astype(int)
    patients = rng.integers(0, 120, 240)
    split = np.where(patients % 3 == 0, "test", "train")
    truth[split == "test", 2] = 0
    names = [f"images/{k:04}.png" for k in range(240)]
    (folder / "data").mkdir()
    with (folder / "data" / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "patient", "split", *LABELS])
        rows = zip(names, patients, split, truth.tolist(), strict=True)
        writer.writerows([name, f"P{patient}", part, *row] for name, patient, part, row in rows)
    vectors = (rng.normal(size=(240, 8)) + truth @ rng.normal(size=(3, 8))).astype(np.float32)
    np.savez(folder / "features.npz", image_ids=np.array(names), image_features=vectors)
    (folder / "board").mkdir()
    (folder / "board" / "tracks.toml").write_text(TRACK)
    for seed in range(3):
        spec = Spec(
            strategy="nearest-class-mean",
            settings={"start": "zeros"},
            scenario="class-incremental",
            steps=3,
            data="csv",
            root=folder / "data",
            backbone=f"features:{folder / 'features.npz'}",
            seed=seed,
            replicates=5,
            device="cpu",
        )
        prepare(spec, folder / "runs" / str(seed)).execute()
    submit([folder / "runs"], board=folder / "board")
    return folder


def test_with_the_files_it_is_recomputed(hospital: Path, verify) -> None:
    for root in (str(hospital / "data"), f"csv={hospital / 'data'}"):
        code, (told,), _ = verify(hospital / "board", "--root", root, "--no-record")
        assert (code, told["tier"], told["reason"]) == (0, "recomputed", "")
    assert any(line == "labels without an AUC: Fracture" for line in told["remarks"])
    assert any(line.startswith("features were looked up") for line in told["remarks"])


@pytest.mark.parametrize("roots", [None, {}, {"nih": "/nowhere"}])
def test_without_them_it_is_only_read(roots: dict[str, str] | None, hospital: Path) -> None:
    (verdict,) = check(hospital / "board", roots=roots)
    assert (verdict.tier, verdict.reason) == (
        "self-reported",
        "not recomputed: give the folder of csv with --root",
    )


def test_features_of_the_submitter_s_are_not_run_again(hospital: Path) -> None:
    (verdict,) = check(hospital / "board", roots={"csv": hospital / "data", "nih": "/nowhere"}, again=True)
    assert verdict.tier == "recomputed"
    assert verdict.reason == "not run again: backbone features:features.npz is not a named one"


@pytest.mark.parametrize("change", [("P1,", "P2,"), (",1,", ",0,"), ("images/0000.png", "images/9999.png")])
def test_with_other_files_it_is_not_recomputed(
    change: tuple[str, str], hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.csv").write_text((hospital / "data" / "table.csv").read_text().replace(*change, 1))
    words = ["--root", str(tmp_path), "--no-record"]
    assert main(["leaderboard", "verify", "--board", str(hospital / "board"), *words]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("self-reported")
    assert "the copy of the data that is here has another fingerprint than the entry's" in told


def test_a_wrong_folder_is_the_verifier_s_mistake(
    hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["leaderboard", "verify", "--board", str(hospital / "board"), "--root", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_what_is_left_out_cannot_be_recomputed(hospital: Path, tmp_path: Path) -> None:
    board = Path(shutil.copytree(hospital / "board", tmp_path / "board"))
    put(board / "submissions" / "hospital-v1" / "nearest-class-mean-1", "data.unreadable_images", 2)
    (verdict,) = check(board, roots=hospital / "data")
    assert verdict.tier == "self-reported"
    assert "it left out images that could not be read" in verdict.reason
