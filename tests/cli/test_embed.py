"""``retune embed``: what it writes, and that a run on it is the run on the backbone itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from retune.backbones.load import load_backbone
from retune.backbones.lookup.model import Precomputed
from retune.cli.main import main
from retune.data.readers.phantom import Phantom
from retune.errors import UserError
from retune.features.encode import encode_images, encode_texts
from retune.prompts import load as load_bank

DATA = ["--set", "data.images=60", "--set", "data.size=64"]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    """Six radiographs of three patients as the NIH publishes them; the third is damaged."""
    root = tmp_path / "nih"
    (root / "images").mkdir(parents=True)
    rows = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"]
    random = np.random.default_rng(0)
    for k in range(6):
        name = f"{k // 2:08d}_{k % 2:03d}.png"
        rows.append(
            f"{name},{'Edema' if k % 2 else 'No Finding'},{k % 2},{k // 2},{40 + k},M,{'PA' if k < 4 else 'AP'}"
        )
        Image.fromarray(random.integers(0, 256, (40, 40), dtype=np.uint8)).save(root / "images" / name)
    (root / "Data_Entry_2017.csv").write_text("\n".join(rows) + "\n")
    damaged = root / "images" / "00000001_000.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    return root


def load(path: Path) -> Precomputed:
    backbone = load_backbone(f"features:{path}")
    assert isinstance(backbone, Precomputed)
    return backbone


def test_the_file_holds_the_backbone_s_own_features(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "new" / "phantom.safetensors"
    code, out, _ = call("embed", *DATA, "--prompts", "language-model", "--out", path)
    assert code == 0
    bank = load_bank("language-model")
    texts = list(dict.fromkeys(prompt.text for prompt in bank.prompts))
    assert "60 images" in out
    assert f"{len(texts)} texts in 128 dimensions" in out
    assert str(path) in out
    backbone, written = load_backbone("phantom-clip"), load(path)
    dataset = Phantom(images=60, size=64).read(None)
    expected = encode_images(backbone, dataset, np.arange(60, dtype=np.int64)).features
    np.testing.assert_array_equal(written.features_of(dataset.image_id), expected)
    np.testing.assert_array_equal(written.encode_texts(texts).numpy(), encode_texts(backbone, texts))
    assert written.about == {
        "backbone": "phantom-clip",
        "fingerprint": backbone.fingerprint,
        "licence": "Apache-2.0",
        "pretraining_data": list(backbone.card.pretraining_data),
        "may_include": [],
        "preprocessing": "8-bit grey, 128 x 128 pixels, as the backbone wants it",
        "precision": "fp32",
        "dataset": "phantom",
        "dataset_fingerprint": dataset.fingerprint,
        "origins": ["phantom"],
        "split": "all",
    }
    assert written.card.pretraining_data == backbone.card.pretraining_data
    with safe_open(path, framework="np") as file:
        assert sorted(file.keys()) == ["image_features", "image_ids", "sha256", "text_features", "texts"]
    assert list(path.parent.iterdir()) == [path]


def test_the_same_command_again_encodes_nothing_and_changes_nothing(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    code, out, _ = call("embed", *DATA, "--out", path, "--json")
    assert code == 0
    first, data, written = json.loads(out), path.read_bytes(), path.stat().st_mtime_ns
    assert (first["images"], first["dim"], first["texts"], first["unreadable"]) == (60, 128, 0, 0)
    assert first["bytes"] == len(data)
    assert first["fingerprint"] == load(path).fingerprint
    code, out, _ = call("embed", *DATA, "--out", path, "--json")
    assert code == 0
    assert json.loads(out)["images_encoded"] == 0
    assert path.stat().st_mtime_ns == written
    assert load(path).capabilities == {"features"}
    # Another folder, the same bytes.
    assert call("embed", *DATA, "--out", tmp_path / "y.safetensors")[0] == 0
    assert (tmp_path / "y.safetensors").read_bytes() == data


def test_a_file_of_other_content_is_not_overwritten(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    assert call("embed", *DATA, "--out", path)[0] == 0
    before = path.read_bytes()
    other_size = ["--set", "data.images=60", "--set", "data.size=48"]
    for options, reason in (
        ([*DATA, "--split", "test"], "another split"),
        (["--set", "data.images=50"], "another dataset fingerprint"),
        ([*DATA, "--precision", "bf16"], "another precision"),
        (other_size, "other features"),
    ):
        code, _, err = call("embed", *options, "--out", path)
        assert code == 2
        assert reason in err
        assert "--force" in err
        assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert call("embed", *other_size, "--out", path, "--force")[0] == 0
    assert path.read_bytes() != before
    notes = tmp_path / "notes.safetensors"
    notes.write_text("mine")
    code, _, err = call("embed", *DATA, "--out", notes)
    assert (code, notes.read_text()) == (2, "mine")
    assert "holds something else" in err


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_one_split(call: Call, tmp_path: Path, split: str) -> None:
    path = tmp_path / "x.safetensors"
    assert call("embed", *DATA, "--split", split, "--out", path)[0] == 0
    dataset = Phantom(images=60, size=64).read(None)
    there = load(path).rows_of(dataset.image_id) >= 0
    np.testing.assert_array_equal(there, dataset.split == split)


def test_a_damaged_image_stops_it_or_is_left_out(call: Call, tmp_path: Path, nih: Path) -> None:
    path = tmp_path / "x.safetensors"
    options = ["--data", "nih", "--root", nih, "--out", path]
    code, _, err = call("embed", *options)
    assert code == 2
    assert "00000001_000.png" in err
    assert "--skip-bad-images" in err
    assert not path.exists()
    code, out, _ = call("embed", *options, "--skip-bad-images")
    assert code == 0
    assert "5 images, 1 left out" in out
    ids = np.array([f"{k // 2:08d}_{k % 2:03d}.png" for k in range(6)])
    assert load(path).rows_of(ids).tolist() == [0, 1, -1, 2, 3, 4]
    # No path of this machine is in the file.
    assert str(tmp_path).encode() not in path.read_bytes()
    # Settings of the data set decide which images there are.
    filtered = tmp_path / "pa.safetensors"
    code, *_ = call("embed", *options[:4], "--skip-bad-images", "--set", "data.views=PA", "--out", filtered)
    assert code == 0
    assert load(filtered).rows_of(ids).tolist() == [0, 1, -1, 2, -1, -1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--out"),
        (["--out", "x.npz"], "does not end in .safetensors"),
        (["--out", "x.safetensors", "--split", "all of it"], "all of it"),
        (["--out", "x.safetensors", "--backbone", "phantom-clipp"], "did you mean phantom-clip"),
        (["--out", "x.safetensors", "--data", "phantomm"], "did you mean phantom"),
        (["--out", "x.safetensors", "--prompts", "none.jsonl"], "no such prompt bank"),
        (["--out", "x.safetensors", "--set", "lr=1"], "does not start with data."),
        (["--out", "x.safetensors", "--set", "data.wings=2"], "wings"),
        (["--out", "x.safetensors", "--root", "."], "has no files"),
        (["--out", "x.safetensors", "--backbone", "features:none.safetensors"], "no such file of features"),
        (["--out", "x.safetensors", "--precision", "int4"], "int4"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call("embed", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code, _, err = call("embed", *DATA, "--out", tmp_path / "file" / "x.safetensors")
    assert code == 2
    assert "cannot write here" in err
    assert (tmp_path / "file").read_text() == "x"


def test_a_model_s_folder_is_named_without_its_path(call: Call, tmp_path: Path) -> None:
    import retune.backbones.phantom_clip as package

    folder = shutil.copytree(Path(package.__file__).parent, tmp_path / "my-clip")
    path = tmp_path / "x.safetensors"
    small = ["--set", "data.images=10", "--set", "data.size=64"]
    assert call("embed", *small, "--backbone", f"local-dir:{folder}", "--out", path)[0] == 0
    assert load(path).about["backbone"] == "local-dir:my-clip"
    assert str(tmp_path).encode() not in path.read_bytes()


def test_features_are_not_embedded_again(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    assert call("embed", *DATA, "--out", path)[0] == 0
    code, _, err = call("embed", *DATA, "--backbone", f"features:{path}", "--out", tmp_path / "y.safetensors")
    assert code == 2
    assert "holds features already" in err


def test_a_run_on_the_file_is_the_run_on_the_backbone(call: Call, tmp_path: Path) -> None:
    """The round trip: the same scores to the bit, by way of the feature store and by way of the file."""
    path = tmp_path / "x.safetensors"
    data = ["--set", "data.images=150", "--set", "data.size=64"]
    assert call("embed", *data, "--prompts", "language-model", "--out", path)[0] == 0
    scores = {}
    for name in ("phantom-clip", f"features:{path}"):
        out = tmp_path / name.partition(":")[0]
        options = [
            "--steps",
            "2",
            "--set",
            "epochs=1",
            "--replicates",
            "10",
            "--backbone",
            name,
            "--out",
            out,
        ]
        code, _, err = call("run", *data, *options)
        assert code == 0, err
        scores[name] = load_file(out / "scores.safetensors")
        result = json.loads((out / "result.json").read_text())
        assert result["backbone"]["name"] == name
    direct, by_file = scores.values()
    assert direct.pop("keys").shape[1] == 32  # A file of features knows no pictures.
    assert direct.keys() == by_file.keys()
    assert direct["scores"].shape[0] == 3
    for key in direct:
        np.testing.assert_array_equal(by_file[key], direct[key])
    assert result["cost"]["images_encoded"] == 0


def test_a_run_says_which_prompts_or_images_the_file_lacks(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    data = ["--set", "data.images=150", "--set", "data.size=64"]
    assert call("embed", *data, "--split", "train", "--prompts", "language-model", "--out", path)[0] == 0
    backbone = f"features:{path}"
    code, _, err = call("run", *data, "--backbone", backbone, "--out", tmp_path / "run")
    assert code == 2
    assert "images" in err
    with pytest.raises(UserError, match="--prompts BANK"):
        load(path).encode_texts(["Nobody ever wrote this."])
