"""The main job on real radiographs: 621 of NIH ChestX-ray14, where they are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import retune
from retune.cli.main import main
from retune.data import findings
from retune.plugins import registry
from retune.settings import make

SCENARIOS = [name for name in registry("scenarios").names() if not registry("scenarios").load(name).data]


@pytest.mark.parametrize("steps", range(2, 15))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_label_and_no_image_is_lost(nih_sample: Path, scenario: str, steps: int) -> None:
    dataset = registry("datasets").load("nih")().read(nih_sample)
    assert (len(dataset), dataset.labels) == (621, findings.NIH)
    stream = make(registry("scenarios").load(scenario), {"steps": steps}, owner="").stream(dataset, 0)
    rows = np.concatenate([e.rows for e in stream.experiences])
    assert np.array_equal(np.sort(rows), dataset.rows("train"))
    assert {c for e in stream.experiences for c in e.observed} == set(range(14))
    if scenario == "class-incremental":
        assert sum(len(e.observed) for e in stream.experiences) == 14


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_runs_to_the_end(nih_sample: Path, scenario: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["run", "--scenario", scenario, "--data", "nih", "--root", str(nih_sample), "--out", str(out)]
    assert main(arguments) == 0
    result = retune.Result.read(out)
    assert result.dataset.labels == list(findings.NIH)
    assert not result.dataset.synthetic
    assert len(result.auc_matrix) == 6
    assert sum(e.n_train for e in result.scenario.experiences) == result.dataset.n_train
    assert result.metrics["final_auc"].value is not None


@pytest.mark.slow
def test_damaged_and_missing_images(
    nih_sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "nih"
    (root / "images").mkdir(parents=True)
    (root / "Data_Entry_2017_v2020.csv").write_bytes((nih_sample / "Data_Entry_2017_v2020.csv").read_bytes())
    for picture in sorted((nih_sample / "images").iterdir()):
        (root / "images" / picture.name).symlink_to(picture)
    dataset = registry("datasets").load("nih")().read(root)
    names = [str(dataset.image_id[row]) for row in dataset.rows("train")[:5]]
    arguments = ["run", "--data", "nih", "--root", str(root), "--strategy", "zero-shot"]

    damaged = root / "images" / names[0]
    damaged.unlink()
    damaged.write_bytes((nih_sample / "images" / names[0]).read_bytes()[:1000])
    assert main([*arguments, "--out", str(tmp_path / "damaged")]) == 2
    complaint = capsys.readouterr().err.strip().splitlines()[-1]
    assert complaint.startswith("error: ")
    assert names[0] in complaint
    assert "--skip-bad-images" in complaint
    assert not (tmp_path / "damaged").exists()

    for name in names[1:]:
        (root / "images" / name).unlink()
    assert main([*arguments, "--out", str(tmp_path / "missing")]) == 2
    complaint = capsys.readouterr().err
    assert "4 of" in complaint
    assert all(name in complaint for name in names[1:4])
    assert names[4] not in complaint
    assert "--skip-bad-images" in complaint
    assert not (tmp_path / "missing").exists()

    assert main([*arguments, "--out", str(tmp_path / "skipped"), "--skip-bad-images"]) == 0
    result = retune.Result.read(tmp_path / "skipped")
    assert result.dataset.dropped["unreadable images"] == 5
    assert "5 images left out" in capsys.readouterr().out
