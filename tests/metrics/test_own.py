"""A metric of one's own stands beside the benchmark's, marked; a broken one stops nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_features import SETTINGS, features_file
from made_runs import made_run, made_scores, made_targets

import retune
from retune.check import check_metric
from retune.cli.main import main
from retune.scaffold import starting_point
from retune.suite.layout import heads_of, notes
from retune.suite.summary import summarise
from retune.suite.tables import comma_separated, markdown

TEXT = starting_point("our-worst", "worst-label")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    file = tmp_path / "broken.py"
    file.write_text(TEXT.replace("our-worst", "broken").replace("matrix[-1]", "matrix['at the end']"))
    return file


def test_it_stands_in_a_run_and_a_broken_one_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "metric", "our-worst"]) == 0
    assert "retune check metric ./our_worst.py" in capsys.readouterr().out
    assert main(["check", "metric", "./our_worst.py"]) == 0
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    words = ["run", "--strategy", "ridge", "--backbone", features_file(tmp_path), *settings]
    words += ["--set", "start=zeros", "--replicates", "20", "--out", "run"]
    assert main([*words, "--metric", "our_worst.py", "--metric", str(broken)]) == 0
    out = capsys.readouterr().out
    result = retune.load("run")
    last = np.array(result.auc_matrix[-1], dtype=float)
    assert result.own["our-worst"].value == np.nanmin(last)
    assert result.own["broken"].value is None
    line = 1 + broken.read_text().splitlines().index("        last = matrix['at the end']")
    told = result.own["broken"].problem
    assert (f"(broken.py, line {line})" in told, told.endswith(f"retune check metric {broken}")) == (
        True,
        True,
    )
    assert main(["show", "metric", str(broken), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["better"] == "higher"
    # A long path is folded.
    assert f"metric{broken}givesnonumber:IndexError" in "".join(out.split())
    assert "not part of the benchmark" in out
    assert "final AUC" in out
    # It is no part of what the run is: the same without it, and a later one is added to what is shown alone.
    before = Path("run/result.json").read_bytes()
    Path("second.py").write_text(TEXT.replace("our-worst", "second").replace("nanmin(last)", "nanmax(last)"))
    assert main([*words, "--metric", "second.py", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["run"]["id"] == result.run.id
    assert shown["own"]["second"]["value"] == np.nanmax(last)
    assert shown["own"]["our-worst"]["value"] == np.nanmin(last)
    assert Path("run/result.json").read_bytes() == before
    # Two of one name cannot stand in one result.
    Path("again.py").write_text(Path("second.py").read_text())
    assert main([*words, "--metric", "second.py", "--metric", "again.py"]) == 2
    assert "second.py and again.py are both called 'second'" in capsys.readouterr().err
    assert main([*words, "--metric", "nowhere.py"]) == 2
    assert "there is no file nowhere.py" in capsys.readouterr().err


def test_it_stands_in_suites(tmp_path: Path, broken: Path) -> None:
    file = tmp_path / "our_worst.py"
    file.write_text(TEXT)
    targets, patients = made_targets()
    runs = [
        made_run(tmp_path / "runs", name, seed, made_scores(targets, skill, seed), targets, patients)
        for name, skill in (("good", 1.0), ("bad", 0.1))
        for seed in (0, 1)
    ]
    plain = summarise(runs)
    assert "own" not in json.dumps(plain.model_dump(by_alias=True))
    summary = summarise([replace(run, metrics=(str(file), str(broken))) for run in runs])
    (setting,) = summary.settings
    assert "our-worst *" in heads_of(setting)
    assert "broken *" not in heads_of(setting)
    assert any(line.startswith("our-worst * is not part of the benchmark") for line in notes(setting))
    assert sum("broken.py gives no number" in line for line in notes(setting)) == 1
    for row in setting.rows:
        of = [np.nanmin(np.array(r.result.auc_matrix[-1])) for r in runs if r.strategy == row.strategy]
        assert row.own["our-worst"].mean == pytest.approx(np.mean(of))
    assert {row.strategy: row.metrics for row in setting.rows} == {
        row.strategy: row.metrics for row in plain.settings[0].rows
    }
    assert "our-worst \\*" in markdown(summary)
    assert "own.our-worst_mean" in comma_separated(summary)


@pytest.mark.parametrize(
    ("demand", "right", "wrong"),
    [
        ("measures", "last = matrix[-1]", "last = matrix['x']"),
        ("measures", "np.nanmin(last)", "last"),
        ("says-what-it-is", '"our-worst"', '"forgetting"'),
        ("takes-unknown-targets", "np.nanmin(last)", "targets.mean()"),
        ("takes-what-is-undefined", "np.nanmin(last)", "np.divide(1.0, np.nansum(targets))"),
        ("same-run-same-number", "np.nanmin(last)", "np.random.random()"),
        ("leaves-what-it-is-given", "np.nanmin(last)", "float(targets.sort() is None)"),
        ("order-of-images-is-irrelevant", "np.nanmin(last)", "float(scores[-1, 0, 0])"),
        ("changes-nothing-global", "last = matrix[-1]", "last = matrix[-1]; np.random.seed(3)"),
    ],
    ids=lambda value: value if value.count("-") > 1 else "",
)
def test_a_broken_metric_fails_its_check(tmp_path: Path, demand: str, right: str, wrong: str) -> None:
    file = tmp_path / "mine.py"
    assert right in TEXT
    text = TEXT.replace(right, wrong, 1)
    if demand == "takes-what-is-undefined":
        text = text.replace("if np.isnan(last).all()", "if False")
    file.write_text(text)
    assert demand in check_metric(str(file)).failed
