"""What a run shows, in sentences: every number in them is the result's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_runs import FIRST, change_json, made_run, made_scores, made_targets
from made_transfers import made_transfer

import retune
from retune.cli.main import main
from retune.results.text import number


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that forgets with every step."""
    targets, patients = made_targets(rows=300)
    scores = made_scores(targets, 2.5, 0, lost=0.8)
    return made_run(tmp_path, "ridge", 0, scores, targets, patients, transfer=made_transfer()).folder


def test_it_says_what_was_learnt_and_when_most_was_forgotten(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = retune.load(folder)
    told = retune.explain(result)
    assert retune.explain(folder) == told
    matrix, lost = result.array("auc_matrix"), [x if x is not None else -1 for x in result.forgetting]
    c = lost.index(max(lost))
    of = matrix[FIRST[c] :, c]
    when = FIRST[c] + int(of[:-1].argmax())
    falls = {step: matrix[step - 1, c] - matrix[step, c] for step in range(when + 1, len(matrix))}
    worst = max(falls, key=lambda step: falls[step])
    forgotten = " ".join(told["What was forgotten"])
    assert (
        f"Most was forgotten of {result.labels[c]}: {number(of.max())} after experience {when}" in forgotten
    )
    assert f"{number(of[-1])} at the end. It fell most in experience {worst}" in forgotten
    assert f"final AUC {number(result.metrics['final_auc'].value)}, " in told["What was learnt"][0]
    assert "segmentation" in told["Beside it"][0]
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["explain", str(folder)]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert " ".join(told["What was forgotten"]) in " ".join(out.split())
    assert main(["explain", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == told


def test_cautions_stand_in_it_and_several_runs_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_json(
        folder / "result.json",
        lambda d: d.update(cautions=["Contaminated: yes"], forgetting=[0.0, 0.0, None]),
    )
    told = retune.explain(folder)
    assert told["To be read with care"] == ["Contaminated: yes."]
    assert told["What was forgotten"][0] == "No label that was learnt lost anything afterwards."
    assert main(["explain", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
    targets, patients = made_targets()
    made_run(tmp_path, "other", 0, made_scores(targets, 1.0, 0), targets, patients)
    assert main(["explain", str(tmp_path)]) == 2
    assert "holds 2 runs; give the folder of one" in capsys.readouterr().err
