"""A run's model taken away: it scores pictures as the run did, and a folder that anyone may have made is not believed."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard, parse_eval_result_entries
from made_runs import change_json
from PIL import Image
from safetensors.numpy import load_file
from yaml import safe_load

import retune
from retune.cli.main import main
from retune.errors import UserError
from retune.learnt.files import listed
from retune.prompts import load

METHODS = {
    "zero-shot": {},
    "ridge": {},
    "re-tune": {"epochs": 1},
    "replay": {"epochs": 1},
    "m-flag": {"epochs": 1, "head_epochs": 1},
}
LABELS = ("Cardiomegaly", "Edema", "Pleural Effusion")


@pytest.fixture(scope="module")
def table(own_table: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty radiographs, those of every third patient for the test."""
    return own_table(tmp_path_factory.mktemp("own"), range(30), LABELS)


@pytest.fixture(scope="module")
def runs(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A finished run of each method, exported beside it; made when it is first asked for."""
    home = tmp_path_factory.mktemp("runs")

    def get(name: str) -> Path:
        run, out = home / name, home / f"{name} model"
        if not out.exists():
            retune.run(
                strategy=name, data="csv", root=table, steps=2, replicates=5, out=run, settings=METHODS[name]
            )
            assert (
                main(["export", str(run), "--out", str(out), *["--with-samples"] * (name == "replay")]) == 0
            )
        return run

    return get


def model_of(run: Path) -> Path:
    return run.with_name(f"{run.name} model")


@pytest.mark.parametrize("name", METHODS)
def test_scores_are_those_of_the_run_to_the_bit(
    runs: Callable[[str], Path], name: str, table: Path, tmp_path: Path
) -> None:
    run, out = runs(name), tmp_path / "scores.csv"
    pictures = [str(table / f"{k:02}.png") for k in range(30) if k // 2 % 3 == 0]
    assert main(["predict", str(model_of(run)), *pictures, "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    arrays = load_file(run / "scores.safetensors")
    scores = np.array([[row[label] for label in LABELS] for row in rows]).astype(arrays["scores"].dtype)
    assert scores.tobytes() == arrays["scores"][-1].tobytes()
    assert [row["image"] for row in rows] == pictures
    thresholds = retune.Result.read(run).thresholds
    for c, label in enumerate(LABELS):
        calls = [row[f"{label} called"] for row in rows]
        assert calls == [str(int(float(score) >= thresholds[c])) for score in scores[:, c]]
    assert {row["use"] for row in rows} == {"research use only"}
    assert {row["refused"] for row in rows} == {""}


def test_the_card_and_the_metrics_are_what_hugging_face_reads(runs: Callable[[str], Path]) -> None:
    run = runs("replay")
    result, model = retune.Result.read(run), model_of(run)
    card = ModelCard.load(model / "README.md")
    assert (card.data.license, card.data.datasets) == ("unknown", ["csv"])
    assert "research-use-only" in card.data.tags
    final = next(one for one in card.data.eval_results if one.metric_name == "final AUC")
    assert (final.metric_type, final.metric_value) == ("roc_auc", result.metrics["final_auc"].value)
    types = {one.metric_name: one.metric_type for one in card.data.eval_results}
    assert (types["gain"], types["forgetting"]) == ("gain", "forgetting")
    for told in (
        "Research use only",
        "Contamination: no",
        "on real radiographs its numbers mean nothing",
        "20 features",
    ):
        assert told in card.text
    entries = parse_eval_result_entries(safe_load((model / ".eval_results" / "retune.yaml").read_text()))
    values = {entry.task_id.rpartition("/")[2]: entry.value for entry in entries}
    assert values == {k: m.value for k, m in result.metrics.items() if k in values}
    assert {"final_auc", "forgetting"} <= values.keys()
    for name in ("README.md", "retune.json", ".eval_results/retune.yaml"):
        assert str(run.parent) not in (model / name).read_text()


def test_it_says_which_it_refuses_and_why(
    runs: Callable[[str], Path],
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = pytest.importorskip("pydicom.dataset")
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    grey = np.asarray(Image.open(table / "00.png").convert("L"))

    def dicom(name: str, pixels: Any = grey, **tags: str) -> None:
        ds = dataset.Dataset()
        ds.file_meta = dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        ds.Rows, ds.Columns = pixels.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.SamplesPerPixel, ds.PixelRepresentation = (
            8,
            8,
            7,
            1,
            0,
        )
        ds.PixelData = pixels.tobytes()
        for tag, value in {"PhotometricInterpretation": "MONOCHROME2", **tags}.items():
            setattr(ds, tag, value)
        ds.save_as(folder / name, enforce_file_format=False)

    dicom("ap.dcm", Modality="DX", BodyPartExamined="PORT CHEST", ViewPosition="AP")
    dicom("mono1.dcm", 255 - grey, PhotometricInterpretation="MONOCHROME1", BodyPartExamined="UNKNOWN")
    dicom("ct.dcm", Modality="CT")
    dicom("hand.dcm", Modality="CR", BodyPartExamined="HAND")
    dicom("side.dcm", Modality="CR", ViewPosition="LL")
    shutil.copy(table / "00.png", folder / "deep" / "=plain.png")
    (folder / "cut.png").write_bytes((table / "00.png").read_bytes()[:300])
    (folder / ".hidden").touch()
    os.mkfifo(folder / "pipe.png")
    Image.new("L", (200, 31)).save(folder / "small.png")
    (tmp_path / "list.txt").write_text("# ours\npictures/ap.dcm\n\npictures/gone.png\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    words = ["predict", str(model_of(runs("ridge"))), str(folder), str(tmp_path / "list.txt"), "pictures"]
    capsys.readouterr()
    assert main([*words, "--out", str(folder / "scores.csv")]) == 0
    told = capsys.readouterr().out
    rows = {Path(row["image"]).name: row for row in csv.DictReader((folder / "scores.csv").open())}
    refused = {name: row["refused"] for name, row in rows.items() if row["refused"]}
    reasons = {
        "ct.dcm": "modality CT", "hand.dcm": "body part HAND", "side.dcm": "view LL", "cut.png": "cannot be decoded",
        "gone.png": "cannot be read", "pipe.png": "a pipe or a device", "small.png": "200 x 31 pixels",
    }  # fmt: skip
    assert refused.keys() == reasons.keys()
    for name, why in reasons.items():
        assert why in refused[name]
        assert why in " ".join(told.split())
    assert "3 images scored, 7 refused" in told
    assert max(map(len, told.partition("Written to")[0].splitlines())) <= 80
    assert "Research use only" in told
    scores = {name: row["Edema"] for name, row in rows.items() if name not in refused}
    assert len(set(scores.values())) == 1, "one picture in three files"
    # Once more, and now the scores lie in the folder, too.
    first = (folder / "scores.csv").read_bytes()
    assert main([*words, "--out", str(folder / "scores.csv")]) == 0
    assert (folder / "scores.csv").read_bytes() == first
    capsys.readouterr()
    assert main([*words[:2], str(folder / "ct.dcm"), "--out", str(tmp_path / "none.csv")]) == 2
    assert "modality CT" in capsys.readouterr().err
    assert not (tmp_path / "none.csv").exists()
    plain, other = str(table / "00.png"), tmp_path / "patients.csv"
    other.write_text("image,patient\n")
    (tmp_path / "dir.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    for more, what in (
        (
            [plain, "--out", str(other)],
            "holds something else; choose another --out, or replace it with --force",
        ),
        ([plain, "--out", "dir.csv"], "'dir.csv' is a folder"),
        (["pipe.txt"], "is not a file but a pipe"),
    ):
        assert main([*words[:2], *more]) == 2
        assert what in capsys.readouterr().err
    assert other.read_text() == "image,patient\n"
    assert main([*words[:2], plain, "--out", str(other), "--force"]) == 0
    assert main(["predict", str(Path(words[1]) / "retune.json"), plain]) == 2
    assert f"give the folder of an exported model: {words[1]}" in capsys.readouterr().err


def _told(**changes: Any) -> Callable[[Path], None]:
    def change(document: dict[str, Any]) -> None:
        for place, value in changes.items():
            *outer, last = place.split("__")
            part = document
            for name in outer:
                part = part[name]
            part[last] = value

    return lambda folder: change_json(folder / "retune.json", change)


def _linked(folder: Path) -> None:
    elsewhere = shutil.move(folder / "model.safetensors", folder.with_name("elsewhere"))
    (folder / "model.safetensors").symlink_to(elsewhere)


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "name": (_told(strategy__name="rigde"), "unknown strategy 'rigde'; did you mean ridge?"),
    "path": (_told(strategy__name="./evil.py"), "--strategy FILE.py"),
    "file": (_told(strategy__origin="file sha256:0"), "--strategy FILE.py"),
    "plugin": (_told(strategy__origin="some-dist"), "'some-dist', which is not installed here"),
    "version": (_told(strategy__version="9"), "its version is '1', of the one that learnt '9'"),
    "setting": (_told(strategy__settings={"penalty": -1}), "setting penalty"),
    "tower name": (_told(backbone__name="mytower"), "'mytower' lies elsewhere; say where: --backbone NAME"),
    "tower file": (_told(backbone__name="./evil.py"), "--backbone NAME"),
    "tower": (_told(backbone__fingerprint="0" * 64), "is another one"),
    "precision": (_told(backbone__precision="fp1"), "precision"),
    "labels": (_told(labels=["Edema"]), "3 thresholds for 1 labels"),
    "schema": (_told(schema="retune.model/2"), "is not of the schema retune.model/1"),
    "use": (_told(use="any"), "research use only"),
    "no prompts": (lambda folder: (folder / "prompts.jsonl").unlink(), "is not there"),
    "other prompts": (lambda folder: (folder / "prompts.jsonl").write_text(""), "holds no prompts"),
    "a link": (_linked, "it is a link"),
    "a pickle": (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04N."), "changed or damaged"),
    "too large": (lambda folder: os.truncate(folder / "retune.json", 2**25), "is larger than"),
    "changed": (
        lambda folder: (folder / "retune.json").write_text((folder / "retune.json").read_text().replace("null", "0.5")),
        "changed or damaged",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_strangers_folder_is_told_in_one_line(
    runs: Callable[[str], Path], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    change, told = HOSTILE[what]
    folder = Path(shutil.copytree(model_of(runs("ridge")), tmp_path / "model"))
    (tmp_path / "evil.py").write_text("raise SystemExit('it was run')")
    if what == "changed":
        _told(thresholds=[None, 0.0, 0.0])(folder)
    change(folder)
    capsys.readouterr()
    out = tmp_path / "scores.csv"
    assert main(["predict", str(folder), str(table / "00.png"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("error: ") == 1
    assert error.strip().splitlines()[-1].startswith("error: ")
    assert not out.exists()


def test_weights_of_another_method_do_not_fit(
    runs: Callable[[str], Path], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(model_of(runs("ridge")), tmp_path / "model"))
    other = model_of(runs("re-tune"))
    shutil.copy(other / "model.safetensors", folder)
    _told(model_digest=json.loads((other / "retune.json").read_text())["model_digest"])(folder)
    assert main(["predict", str(folder), str(table / "00.png"), "--out", str(tmp_path / "a.csv")]) == 2
    assert "its weights do not fit" in capsys.readouterr().err


def test_what_cannot_be_exported_is_told_and_nothing_is_written(
    runs: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ridge, out = runs("ridge"), tmp_path / "out"

    def copied(name: str, change: Callable[[Path], Any]) -> Path:
        folder = Path(shutil.copytree(ridge, tmp_path / name))
        change(folder)
        return folder

    def without(document: dict[str, Any]) -> None:
        del document["model_digest"]

    def of_vectors(document: dict[str, Any]) -> None:
        document["backbone"]["looked_up"] = True

    def floor(document: dict[str, Any]) -> None:
        document["strategy"]["floor"] = True

    def told_of_people(document: dict[str, Any]) -> None:
        document["strategy"]["needs"] = ["features", "table"]

    cases = {
        copied("floor", lambda folder: change_json(folder / "result.json", floor)): "is a floor",
        copied("table", lambda folder: change_json(folder / "result.json", told_of_people)): "is told age, sex and view",
        runs("replay"): "keeps samples of 20 training images",
        tmp_path / "nowhere": "no result here",
        copied("half", lambda folder: (folder / "result.json").unlink()): "the run is not finished",
        copied("old", lambda folder: change_json(folder / "result.json", without)): "by an earlier version",
        copied("gone", lambda folder: (folder / "model.safetensors").unlink()): "cannot be read",
        copied("mixed", lambda folder: shutil.copy(runs("re-tune") / "model.safetensors", folder)): "is not what the run",
        copied("vectors", lambda folder: change_json(folder / "result.json", of_vectors)): "it can score no picture",
    }  # fmt: skip
    for run, told in cases.items():
        capsys.readouterr()
        assert main(["export", str(run), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
        assert not out.exists()
    assert main(["export", str(ridge), "--out", str(model_of(ridge))]) == 0
    assert "stood there already" in capsys.readouterr().out
    assert main(["export", str(ridge), "--out", str(model_of(runs("replay")))]) == 2
    assert "holds something else" in capsys.readouterr().err


def test_a_method_and_prompts_of_ones_own(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, bank, run, model = (tmp_path / name for name in ("mine.py", "mine.jsonl", "run", "model"))
    assert main(["new", "strategy", "mine", "--out", str(mine)]) == 0
    load("biovil").select(LABELS).write(bank)
    words = [
        "--strategy",
        str(mine),
        "--prompts",
        str(bank),
        "--data",
        "csv",
        "--root",
        str(table),
        "--steps",
        "2",
    ]
    assert main(["run", *words, "--replicates", "5", "--out", str(run)]) == 0
    bank.unlink()
    capsys.readouterr()
    assert main(["export", str(run), "--out", str(model)]) == 0
    assert f"IMAGES --strategy {mine} --out scores.csv" in capsys.readouterr().out
    predict = ["predict", str(model), str(table), "--out", str(tmp_path / "a.csv")]
    assert main(predict) == 2
    assert main([*predict, "--strategy", str(mine)]) == 0
    mine.write_text(mine.read_text() + "\n# changed\n")
    assert main([*predict, "--strategy", str(mine)]) == 2
    assert "its origin is" in capsys.readouterr().err


TOWERS = "pair:timm:local-dir:{0}tf_efficientnet_lite0+local-dir:{0}all-MiniLM-L6-v2"


def test_folders_of_both_towers_stay_at_home_and_are_asked_for(
    runs: Callable[[str], Path], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = Path(shutil.copytree(runs("ridge"), tmp_path / "run")), tmp_path / "model"
    here = TOWERS.format("/abs/my weights/")
    change_json(run / "result.json", lambda document: document["backbone"].update(name=here))
    assert main(["export", str(run), "--out", str(model)]) == 0
    assert f"IMAGES --backbone '{here}' --out scores.csv" in capsys.readouterr().out
    for name in ("README.md", "retune.json", ".eval_results/retune.yaml"):
        assert "/abs" not in (model / name).read_text()
    assert TOWERS.format("") in (model / "retune.json").read_text()
    words = ["predict", str(model), str(table / "00.png"), "--out", str(tmp_path / "a.csv")]
    assert main(words) == 2
    assert (
        f"its backbone '{TOWERS.format('')}' lies elsewhere; say where: --backbone" in capsys.readouterr().err
    )
    assert main([*words, "--backbone", "local-dir:/nowhere"]) == 2
    assert "on which it was learnt: --backbone NAME" in capsys.readouterr().err
    # Nothing of another model is looked for, on the Hub or anywhere.
    words[1] = str(model_of(runs("ridge")))
    assert main([*words, "--backbone", "hf-hub:org/none"]) == 2
    assert "was learnt on phantom-clip, not on hf-hub:org/none" in capsys.readouterr().err


def test_files_are_named_once_and_the_output_is_none(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "out.csv", ".DS_Store"):
        (tmp_path / name).touch()
    found = listed([tmp_path / "b.png", tmp_path], tmp_path / "out.csv")
    assert [path.name for path in found] == ["b.png", "a.png"]
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is no text"):
        listed([tmp_path / "bad.txt"], None)
