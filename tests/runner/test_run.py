"""One run, through the Python API: what is written, what is repeated, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score, roc_auc_score

import retune
from retune.data.source import DataSource
from retune.errors import MissingFiles, RetuneError, RunConflict, UnknownName, UserError
from retune.results.scores import as_text
from retune.runner.shared import Shared
from retune.sealed import seal_json

SMALL: dict[str, Any] = {"settings": {"data.images": 300, "data.size": 64}, "replicates": 50}


def run(out: Path, **options: Any) -> retune.Result:
    settings = {**SMALL["settings"], **options.pop("settings", {})}
    return retune.run(out=out, **{**SMALL, **options, "settings": settings})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[retune.Result, Path]:
    folder = tmp_path_factory.mktemp("finished")
    return run(folder), folder


def test_the_result_has_the_contracted_fields(finished: tuple[retune.Result, Path]) -> None:
    document = json.loads((finished[1] / "result.json").read_text())
    contract = {
        "run": {"id", "created", "command", "seed", "versions"},
        "dataset": {"name", "fingerprint", "labels", "n_train", "n_test"},
        "scenario": {"name", "fingerprint", "experiences"},
        "backbone": {"name", "fingerprint", "pretraining_data"},
        "strategy": {"name", "version", "origin", "settings"},
        "metrics": {"final_auc", "average_auc", "forgetting", "backward_transfer", "forward_transfer"},
        "cost": {
            "trainable_parameters", "total_parameters", "fit_seconds", "score_seconds", "encode_seconds",
            "images_encoded", "peak_memory_bytes", "stored_images", "stored_bytes",
        },
    }  # fmt: skip
    assert document["schema"] == "retune.result/1"
    for part, fields in contract.items():
        assert fields <= set(document[part]), part
    assert all({"value", "low", "high"} == set(m) for m in document["metrics"].values())
    assert all({"labels", "n_train"} <= set(e) for e in document["scenario"]["experiences"])
    assert np.array(document["auc_matrix"], dtype=float).shape == (6, 14)


def test_every_number_can_be_recomputed_from_the_scores(finished: tuple[retune.Result, Path]) -> None:
    result, folder = finished
    arrays = load_file(folder / "scores.safetensors")
    scores, targets = arrays["scores"], arrays["targets"]
    assert scores.shape == (6, result.dataset.n_test, 14)
    assert len(np.unique(arrays["patients"])) == result.dataset.n_test_patients
    auc, ap = result.array("auc_matrix"), result.array("ap_matrix")
    for i in range(6):
        for c in range(14):
            if len(np.unique(targets[:, c])) == 2:
                assert auc[i, c] == pytest.approx(roc_auc_score(targets[:, c], scores[i, :, c]), abs=1e-9)
                assert ap[i, c] == pytest.approx(
                    average_precision_score(targets[:, c], scores[i, :, c]), abs=1e-9
                )
            else:
                assert np.isnan(auc[i, c])
                assert result.labels[c] in result.dataset.undefined_labels
    final = result.metrics["final_auc"]
    assert final.value == pytest.approx(np.nanmean(auc[-1]), abs=1e-12)
    assert final.low < final.value < final.high


def test_it_keeps_of_whom_its_test_images_are(finished: tuple[retune.Result, Path]) -> None:
    result, folder = finished
    arrays = load_file(folder / "scores.safetensors")
    data = Shared(backbones=False).dataset(DataSource.make("phantom", None, {"images": 300, "size": 64}))
    for name in ("sex", "site", "view"):
        assert as_text(arrays["of." + name]).tolist() == data.columns[name][arrays["rows"]].tolist()
    assert (
        as_text(arrays["of.age"]).astype(float).tolist()
        == np.floor(data.columns["age"][arrays["rows"]]).tolist()
    )
    for experience in result.scenario.experiences:
        assert {sum(of.values()) for of in experience.holds.values()} == {experience.n_train}


def test_experiences_add_up(finished: tuple[retune.Result, Path]) -> None:
    result, _ = finished
    experiences = result.scenario.experiences
    assert [len(e.labels) for e in experiences] == [3, 3, 3, 3, 2]
    assert sum(e.n_train for e in experiences) == result.dataset.n_train
    assert result.dataset.synthetic


def test_a_finished_run_is_read_not_repeated(finished: tuple[retune.Result, Path]) -> None:
    result, folder = finished
    before = (folder / "result.json").stat().st_mtime_ns
    assert run(folder) == result
    assert (folder / "result.json").stat().st_mtime_ns == before
    assert not (folder / "checkpoint.safetensors").exists()


def test_images_are_encoded_once_ever(finished: tuple[retune.Result, Path], tmp_path: Path) -> None:
    other = run(tmp_path, strategy="zero-shot", scenario="data-incremental", seed=5)
    assert other.cost.images_encoded == 0


def test_one_seed_one_result_another_seed_another(
    finished: tuple[retune.Result, Path], tmp_path: Path
) -> None:
    again = run(tmp_path / "again")
    first = finished[0].model_dump()
    second = again.model_dump()
    for document in (first, second):
        document["run"].pop("created")
        document.pop("cost")
    assert first == second
    scores = [
        load_file(folder / "scores.safetensors")["scores"] for folder in (finished[1], tmp_path / "again")
    ]
    assert scores[0].tobytes() == scores[1].tobytes()
    other = run(tmp_path / "other", seed=1)
    assert other.auc_matrix != finished[0].auc_matrix
    assert other.scenario.fingerprint != finished[0].scenario.fingerprint


def test_another_run_in_the_folder_is_refused(finished: tuple[retune.Result, Path]) -> None:
    before = sorted(p.name for p in finished[1].iterdir())
    with pytest.raises(RunConflict, match="holds a different run"):
        run(finished[1], seed=3)
    with pytest.raises(RunConflict, match="holds a different run"):
        run(finished[1], settings={"lr": 0.5})
    assert sorted(p.name for p in finished[1].iterdir()) == before


def test_joint_is_the_same_after_every_experience(tmp_path: Path) -> None:
    result = run(tmp_path, strategy="joint")
    assert result.strategy.sees_everything
    assert all(row == result.auc_matrix[1] for row in result.auc_matrix[1:])
    assert result.metrics["forgetting"].value == 0


def test_zero_shot_never_changes(tmp_path: Path, finished: tuple[retune.Result, Path]) -> None:
    result = run(tmp_path, strategy="zero-shot")
    assert all(row == result.auc_matrix[0] for row in result.auc_matrix)
    assert result.cost.trainable_parameters == 0
    # Before any training every method is zero-shot.
    assert result.auc_matrix[0] == finished[0].auc_matrix[0]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scenario": "class-incrementa"}, UnknownName, "did you mean class-incremental"),
        ({"strategy": "retune"}, UnknownName, "did you mean re-tune"),
        ({"data": "phantoms"}, UnknownName, "did you mean phantom"),
        ({"backbone": "phantomclip"}, UnknownName, "did you mean phantom-clip"),
        ({"prompts": "language"}, UnknownName, "did you mean language-model"),
        ({"settings": {"lrr": "1"}}, UnknownName, "did you mean lr"),
        ({"settings": {"lr": "quick"}}, UserError, "setting lr"),
        ({"settings": {"data.image": "3"}}, UnknownName, "did you mean images"),
        ({"settings": {"stream.order": "x"}}, UserError, "data., scenario., strategy."),
        ({"steps": 15}, UserError, "give --steps 14 or fewer"),
        ({"steps": 0}, UserError, "setting steps"),
        ({"seed": -1}, UserError, "--seed"),
        ({"replicates": 0}, UserError, "--replicates"),
        ({"settings": {"data.images": 1}}, UserError, "has no"),
        ({"root": Path("somewhere")}, UserError, "name the data set with --data"),
        ({"data": "nih"}, UserError, "--root DIR is needed"),
        ({"data": "nih", "root": Path("/nowhere/at/all"), "settings": {}}, MissingFiles, "no such folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    options: dict[str, Any], error: type[RetuneError], words: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if options.get("data") == "nih":
        options = {**options, "settings": {}}
        with pytest.raises(error, match=words) as caught:
            retune.run(out=out, **options)
    else:
        with pytest.raises(error) as caught:
            run(out, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def write_strategy(folder: Path, body: str) -> str:
    file = folder / "mine.py"
    file.write_text(
        "import torch\nfrom retune import Strategy\n\nclass Mine(Strategy):\n    name = 'mine'\n"
        "    def fit(self, experience):\n        pass\n"
        f"    def score(self, images):\n        {body}\n"
    )
    return str(file)


def test_a_local_file_is_recorded_by_its_content(tmp_path: Path) -> None:
    name = write_strategy(tmp_path, "return images.features[:, :1].expand(-1, 14)")
    result = run(tmp_path / "out", strategy=name)
    assert result.strategy.name == "mine"
    assert result.strategy.origin.startswith("file sha256:")
    write_strategy(tmp_path, "return -images.features[:, :1].expand(-1, 14)")
    with pytest.raises(RunConflict):
        run(tmp_path / "out", strategy=name)
    # What an exported model or another's run consists of is not written over.
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"theirs")
    with pytest.raises(RunConflict, match=r"model: holds a model\.safetensors of another origin"):
        run(tmp_path / "model", strategy=name)
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["model.safetensors"]


def test_a_result_can_be_read_and_a_broken_one_is_refused(
    finished: tuple[retune.Result, Path], tmp_path: Path
) -> None:
    assert retune.Result.read(finished[1]) == finished[0]
    with pytest.raises(UserError, match="no result here"):
        retune.Result.read(tmp_path)
    broken = json.loads((finished[1] / "result.json").read_text())
    del broken["cost"]
    (tmp_path / "result.json").write_bytes(seal_json(broken))
    with pytest.raises(UserError, match="cost"):
        retune.Result.read(tmp_path)
