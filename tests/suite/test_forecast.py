"""A suite that is not run yet says its grid, what of it is done, and how long the rest takes by earlier runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_features import SETTINGS, dataset, features_file
from made_runs import made_run, made_scores, made_targets

from retune.cli.main import main
from retune.suite.watch import spoken


def test_a_dry_run_tells_the_grid_and_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    backbone = features_file(tmp_path)
    words = [
        "suite",
        "--strategy",
        "ridge",
        "--strategy",
        "nearest-class-mean",
        "--scenario",
        "class-incremental",
    ]
    words += [
        "--scenario",
        "label-incremental",
        "--backbone",
        backbone,
        "--seeds",
        "2",
        "--replicates",
        "5",
        "--dry-run",
    ]
    words += [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    words += ["--set", "strategy.start=zeros", "--jobs", "1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ridge +0 of 2 done +0 of 2 done *$", out, re.MULTILINE)
    assert "8 runs, 8 of them left: 2 methods, 2 streams, 2 seeds." in out
    assert "no image has to be encoded" in out
    assert "cannot be told: there is no earlier run" in out
    assert not Path("suite").exists()
    # What could not be run at all is no plan to go by.
    Path("mine.py").write_text("import nothing_of_that_name")
    assert main(["suite", "--strategy", "mine.py", "--seeds", "1", "--dry-run"]) == 1
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == "0 runs, 0 of them left: 0 methods, 0 streams, 0 seeds."
    assert "Failed, 3 runs: mine.py, line 1: cannot be imported" in " ".join(lines)
    # Two earlier runs with another backbone, of 30 training images in 3 s and in 6 s; what is broken tells nothing.
    targets, patients = made_targets()
    scores = made_scores(targets, 1.0, 0)
    for seed, seconds in enumerate((3.0, 6.0)):
        made_run(tmp_path / "runs", "ridge", seed, scores, targets, patients, cost={"fit_seconds": seconds})
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "result.json").write_text("{")
    assert main(words) == 0
    told = " ".join(capsys.readouterr().out.split())
    train = len(dataset().rows("train"))
    about = spoken(4 * train * (3 / 30 + 6 / 30) / 2)
    assert f"About {about} to learn and score, 1 at a time, going by 2 earlier runs" in told
    assert "Not in it, for never run here: nearest-class-mean." in told
