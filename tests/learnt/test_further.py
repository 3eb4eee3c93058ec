"""Data that arrive after a run: learnt on top of its model, judged beside what it was judged on, undone to the bit."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

import retune
from retune.cli.main import main

KNOWN = ("Cardiomegaly", "Edema")


@pytest.fixture(scope="module")
def here(own_table: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data that were there, data that arrive, and data that arrive with one more label."""
    home = tmp_path_factory.mktemp("here")
    own_table(home / "first", range(30), KNOWN)
    own_table(home / "more", range(30, 60), KNOWN)
    own_table(home / "third", range(60, 90), KNOWN)
    own_table(home / "wider", range(30, 60), (*KNOWN, "Pneumothorax"))
    own_table(home / "mixed", range(30), KNOWN, ("train", "test"))
    own_table(home / "again", range(30), KNOWN)
    own_table(home / "seen again", range(30, 60), KNOWN, shift=15)
    own_table(home / "same people", range(30, 60), KNOWN, ("train", "test", "train"), 15)
    for name, epochs in (("replay", 1), ("re-tune", 1), ("ridge", None), ("joint", None)):
        retune.run(
            strategy=name, data="csv", root=home / "first", steps=2, replicates=10, out=home / name,
            settings={"epochs": epochs} if epochs else {},
        )  # fmt: skip
    return home


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def go_on(run: Path, data: Path, *more: str) -> int:
    return main(["continue", str(run), "--data", "csv", "--root", str(data), *more])


def test_it_learns_on_keeps_its_memory_and_is_undone_to_the_bit(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, on = here / "replay", here / "replay+1"
    before = digests(run)
    assert go_on(run, here / "more") == 0
    assert digests(run) == before
    told = capsys.readouterr().out
    assert "earlier" in told
    result, earlier = retune.Result.read(on), retune.Result.read(run)
    assert result.continued is not None
    assert result.continued.run == earlier.run.id
    arrays, old = load_file(on / "scores.safetensors"), load_file(run / "scores.safetensors")
    n = len(old["targets"])
    assert arrays["scores"].shape == (3, 2 * n, 2)
    # The moments are before any training, as the run ended, and now; on its own images those are the run's.
    np.testing.assert_allclose(arrays["scores"][0, :n], old["scores"][0], atol=1e-6)
    np.testing.assert_allclose(arrays["scores"][1, :n], old["scores"][-1], atol=1e-6)
    assert (arrays["scores"][2] != arrays["scores"][1]).any()
    for name, of in (("earlier", slice(0, n)), ("csv", slice(n, None))):
        part = result.continued.parts[name]
        auc = [roc_auc_score(arrays["targets"][of], scores[of], average=None) for scores in arrays["scores"]]
        np.testing.assert_allclose(part.auc_matrix, auc)
        change = part.metrics["backward_transfer"]
        assert change.value == pytest.approx(np.mean(auc[2]) - np.mean(auc[1]))
        assert change.low <= change.value <= change.high
    assert result.thresholds == earlier.thresholds, "frozen"
    assert result.cost.stored_features == 2 * earlier.cost.stored_features, "nothing of what it kept is lost"
    kept, had = (load_file(folder / "model.safetensors") for folder in (on, run))
    patients = kept["state.memory.patients"].tolist()
    assert set(had["state.memory.patients"].tolist()) < set(patients)
    assert len(set(patients)) == len(patients) // 2, "who arrives is nobody who was there"
    assert result.dataset.n_train == 2 * earlier.dataset.n_train
    # The same command shows it; another one goes on from there.
    stamp = digests(on)
    assert go_on(run, here / "more") == 0
    assert digests(on) == stamp
    assert go_on(on, here / "third") == 0
    last = here / "replay+2"
    assert retune.Result.read(last).steps == 4
    assert main(["export", str(last), "--out", str(here / "model"), "--with-samples"]) == 0
    card = (here / "model" / "README.md").read_text()
    assert "Learnt from: csv, 60 images in 4 experiences one after the other" in card
    assert card.count("\n- csv\n") == 1
    assert "earlier: earlier" not in card
    assert "--seeds" not in " ".join(line for lines in retune.explain(last).values() for line in lines)
    assert f"retune continue {on} --data csv --root DIR" == retune.Result.read(last).run.command
    # What another one stands on stays, and what is not the run's own stays, too.
    assert main(["continue", str(on), "--undo"]) == 2
    assert f"{last} stands on it; undo {last} first" in capsys.readouterr().err
    (last / "notes.txt").touch()
    assert main(["continue", str(last), "--undo"]) == 0
    assert "The folder stays" in capsys.readouterr().out
    assert [path.name for path in last.iterdir()] == ["notes.txt"]
    # So much is left of one that was killed early.
    marker = (on / "run.json").read_bytes()
    assert main(["continue", str(on), "--undo"]) == 0
    on.mkdir()
    (on / "run.json").write_bytes(marker)
    assert main(["continue", str(on), "--undo"]) == 0
    assert "never finished" in capsys.readouterr().out
    assert not on.exists()
    assert digests(run) == before
    assert go_on(run, here / "more") == 0
    again = digests(on)
    assert [again[name] == stamp[name] for name in ("model.safetensors", "scores.safetensors")] == [
        True,
        True,
    ]


def test_a_label_that_arrives_is_learnt_where_a_method_can(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go_on(here / "re-tune", here / "wider") == 0
    told = capsys.readouterr().out
    assert "Newly learnt: Pneumothorax (AUC " in told
    assert "Chosen csv split: " in told
    result = retune.Result.read(here / "re-tune+1")
    assert (result.labels, result.first) == ([*KNOWN, "Pneumothorax"], [1, 1, 2])
    assert result.thresholds[:2] == retune.Result.read(here / "re-tune").thresholds
    assert result.thresholds[2] is not None
    assert go_on(here / "ridge", here / "wider") == 2
    assert "ridge cannot take on a label later, and the data have Pneumothorax" in capsys.readouterr().err
    assert not (here / "ridge+1").exists()
    assert go_on(here / "ridge", here / "wider", "--same-labels") == 0
    assert retune.Result.read(here / "ridge+1").labels == list(KNOWN)


def test_a_patient_of_both_tests_is_one_patient(here: Path, tmp_path: Path) -> None:
    assert go_on(here / "ridge", here / "seen again", "--out", str(tmp_path / "on")) == 0
    data = retune.Result.read(tmp_path / "on").dataset
    assert (data.n_test, data.n_test_patients) == (20, 5)


def test_without_features_of_the_earlier_images_it_says_what_is_not_measured(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "another store"))
    assert go_on(here / "ridge", here / "more", "--out", str(tmp_path / "on")) == 0
    result = retune.Result.read(tmp_path / "on")
    n = retune.Result.read(here / "ridge").dataset.n_test
    assert result.dataset.n_test == n
    assert list(result.continued.parts) == ["csv"]
    told = " ".join(capsys.readouterr().out.split())
    assert f"is not measured: {n} of the earlier test images have no features in the store any more" in told


def test_what_cannot_go_on_is_told_and_nothing_is_written(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = Path(shutil.copytree(here / "ridge", tmp_path / "half"))
    (half / "result.json").unlink()
    cases: list[tuple[Callable[[], int], str]] = [
        (lambda: go_on(here / "joint", here / "more", "--out", str(tmp_path / "on")), "cannot go on"),
        (lambda: go_on(here / "ridge", here / "mixed", "--out", str(tmp_path / "on")), "are training images of the data"),
        (lambda: go_on(here / "ridge", here / "again", "--out", str(tmp_path / "on")), "10 of its test images are test"),
        (lambda: go_on(here / "ridge", here / "same people", "--out", str(tmp_path / "on")), "5 of its test patients"),
        (lambda: go_on(half, here / "more", "--out", str(tmp_path / "on")), "the run is not finished"),
        (lambda: go_on(tmp_path / "none", here / "more", "--out", str(tmp_path / "on")), "no result here"),
        (lambda: go_on(here / "ridge", here / "nowhere", "--out", str(tmp_path / "on")), "nowhere"),
        (lambda: go_on(here / "ridge", here / "more", "--out", str(here / "re-tune")), "holds a different run"),
        (lambda: main(["continue", str(here / "ridge")]), "nothing arrives"),
        (lambda: main(["continue", str(here / "ridge"), "--undo"]), "was not continued"),
    ]  # fmt: skip
    before = digests(here / "ridge")
    for do, told in cases:
        capsys.readouterr()
        assert do() == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ")
        assert told in error
        assert not (tmp_path / "on").exists()
    assert digests(here / "ridge") == before
    assert main(["export", str(here / "joint"), "--out", str(tmp_path / "bound")]) == 0
    assert "Upper bound: it sees all images" in (tmp_path / "bound" / "README.md").read_text()
