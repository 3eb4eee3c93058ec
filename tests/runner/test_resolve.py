"""What a strategy needs, a preset sets and a backbone gives: checked before a run, recorded after it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import retune
from retune.cli.main import main
from retune.data.readers.phantom import Phantom
from retune.errors import UnknownName, UserError
from retune.settings import settings_of

DATA: dict[str, Any] = {"data.images": 300, "data.size": 64}
ARGUMENTS = ["--set", "data.images=300", "--set", "data.size=64", "--replicates", "20"]


def run(out: Path, **options: Any) -> retune.Result:
    settings = {**DATA, **options.pop("settings", {})}
    return retune.run(out=out, replicates=20, settings=settings, **options)


def scores(folder: Path) -> Any:
    return load_file(folder / "scores.safetensors")["scores"]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Features without texts that show the labels of the phantom's images."""
    dataset = Phantom(images=300, size=64).read(None)
    noise = np.random.default_rng(0).standard_normal((300, 14))
    path = tmp_path_factory.mktemp("features") / "phantom.safetensors"
    ids = np.frombuffer("\n".join(dataset.image_id.tolist()).encode(), np.uint8)
    shown = np.nan_to_num(dataset.targets) * 6 + noise
    save_file({"image_ids": ids, "image_features": shown.astype(np.float32)}, path, {"about": "{}"})
    return f"features:{path}"


def strategy_file(folder: Path, needs: str, more: str = "") -> str:
    """A strategy that imports nothing heavy until it scores."""
    file = folder / "mine.py"
    file.write_text(
        "from retune import Strategy\n\nclass Mine(Strategy):\n    name = 'mine'\n"
        f"    needs = frozenset({needs})\n"
        "    def fit(self, experience):\n        pass\n"
        f"    def score(self, images):\n        import torch\n        return torch.zeros(len(images), 14)\n{more}"
    )
    return str(file)


def test_what_a_backbone_lacks_is_told_before_anything_is_loaded(tmp_path: Path, features: str) -> None:
    name = strategy_file(tmp_path, "{'features', 'tokens', 'texts'}")
    arguments = ["run", "--strategy", name, "--backbone", features, *ARGUMENTS]
    code = (
        "import sys\nfrom retune.cli.main import main\n"
        f"code = main({arguments!r})\n"
        "print([m for m in ('torch', 'transformers', 'open_clip', 'timm') if m in sys.modules])\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == "[]\n"
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: strategy {name} needs texts (one vector per text) and tokens (")
    assert f"which backbone {features} does not give; these do: biomedclip, " in done.stderr
    assert all(able in done.stderr for able in ("phantom-clip", "rad-dino-cxr-bert"))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.py"]


def test_only_the_backbones_that_would_do_are_offered() -> None:
    with pytest.raises(UserError, match="re-tune needs joint") as caught:
        retune.plan(retune.Spec(backbone="rad-dino-cxr-bert"))
    offered = str(caught.value).partition("these do: ")[2].split(", ")
    known = retune.registry("backbones")
    joint = [name for name in known.names() if "joint" in known.load(name)().capabilities]
    assert offered == joint
    assert "dinov2-biomedbert" not in offered


def test_needs_follow_the_settings(features: str) -> None:
    spec: dict[str, Any] = {"strategy": "linear-probe", "backbone": features, "settings": DATA}
    with pytest.raises(
        UserError, match="strategy linear-probe needs prompts, and the file holds no texts; begin"
    ):
        retune.plan(retune.Spec(**spec))
    with pytest.raises(
        UserError, match=r"begin without prompts \(--set start=zeros\), or choose another: these do"
    ):
        retune.plan(retune.Spec(strategy="ridge", backbone="rad-dino-cxr-bert"))
    planned = retune.plan(retune.Spec(**{**spec, "settings": {**DATA, "start": "zeros"}}))
    assert planned.parts.strategy.requires() == {"features"}


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        (
            "run --set hidden=absent",
            "strategy re-tune: unknown setting 'hidden'; did you mean scenario.hidden?",
        ),
        ("run --set label-noise=0.1", "unknown setting 'label-noise'; did you mean data.label_noise?"),
        (
            "suite --strategy ridge --set hidden=absent",
            "unknown setting 'hidden'; did you mean scenario.hidden?",
        ),
        ("run --set epoch=3", "strategy re-tune: unknown setting 'epoch'; did you mean epochs?"),
        ("run --set xyz=3", "strategy re-tune: unknown setting 'xyz'; known: "),
    ],
    ids=["scenario", "data", "suite", "own", "none"],
)
def test_a_setting_of_the_scenario_or_the_data_is_named_as_such(
    capsys: pytest.CaptureFixture[str], asked: str, hint: str
) -> None:
    assert main(asked.split()) == 2
    assert hint in capsys.readouterr().err


def test_unknown_presets_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"did you mean paper-steps") as caught:
        run(tmp_path / "out", strategy="re-tune/papersteps")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"strategy zero-shot has no presets; leave '/paper' out"):
        run(tmp_path / "out", strategy="zero-shot/paper")
    assert not (tmp_path / "out").exists()


def test_a_preset_runs_and_records_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "paper")
    assert main(["run", "--strategy", "re-tune/paper", *ARGUMENTS, "--out", out, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    preset = {
        "adaptors": "shared", "scoring": "positive", "init": "random", "temperature": 1.0, "zero_shot_share": 0.0,
        "batch_size": 6144, "lr": 1e-4, "epochs": 10,
    }  # fmt: skip
    assert document["strategy"]["name"] == "re-tune"
    assert document["strategy"]["preset"] == "paper"
    assert document["strategy"]["origin"] == "retune"
    assert preset.items() <= document["strategy"]["settings"].items()
    assert document["strategy"]["settings"]["adaptor"] == "mlp"
    # One pair through the stream, not one for each experience.
    assert document["cost"]["trainable_parameters"] == 131_840
    # What is set by hand to the same is the same run, and is not done again.
    again = run(tmp_path / "paper", strategy="re-tune", settings=preset)
    assert again.model_dump(by_alias=True) == document
    assert again.strategy.called == "re-tune/paper"
    plain = retune.plan(retune.Spec(strategy="re-tune", settings=DATA, replicates=20))
    assert plain.id != document["run"]["id"]


def test_what_a_strategy_says_of_itself_is_recorded(tmp_path: Path) -> None:
    more = "    def diagnostics(self):\n        return {'rank': 3, 'kept': [0.5]}\n"
    name = strategy_file(tmp_path, "{'features'}", more)
    assert run(tmp_path / "out", strategy=name).strategy.diagnostics == {"rank": 3, "kept": [0.5]}
    assert run(tmp_path / "other", strategy="zero-shot").strategy.diagnostics == {}


def test_half_precision_is_recorded_and_near(tmp_path: Path) -> None:
    few = {
        "device": "cpu",
        "prompts": "chexzero",
        "settings": {"data.images": 120},
    }  # bf16 is slow on most CPUs.
    exact = run(tmp_path / "fp32", **few)
    rough = run(tmp_path / "bf16", precision="bf16", **few)
    assert (exact.backbone.precision, exact.backbone.device) == ("fp32", "cpu")
    assert (rough.backbone.precision, rough.backbone.device) == ("bf16", "cpu")
    assert exact.run.id != rough.run.id
    # Features of another precision are other features.
    assert rough.cost.images_encoded == rough.dataset.n_train + rough.dataset.n_test
    a, b = scores(tmp_path / "fp32"), scores(tmp_path / "bf16")
    assert b.dtype == np.float32
    assert not np.array_equal(a, b)
    # bfloat16 keeps 8 bits: cosines of up to 1 are off by hundredths.
    assert np.abs(a[0] - b[0]).max() < 0.05
    for metric in ("final_auc", "average_auc"):
        values = [result.metrics[metric].value for result in (exact, rough)]
        assert values[0] == pytest.approx(values[1], abs=0.05)


def test_features_without_texts_are_enough_without_prompts(tmp_path: Path, features: str) -> None:
    settings = {"start": "zeros", "lr": 0.05}
    result = run(tmp_path / "probe", strategy="linear-probe", backbone=features, settings=settings)
    assert np.nanmean(result.array("auc_matrix")[0]) == 0.5
    assert np.nanmedian(result.array("auc_matrix")[-1]) > 0.9
    assert result.backbone.name == features
    with pytest.raises(UserError, match=r"strategy re-tune needs prompts.* make it again with 'retune embed"):
        run(tmp_path / "re-tune", backbone=features)
    assert not (tmp_path / "re-tune").exists()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A DINOv2 and a BERT of random weights, two layers of 32 each."""
    import torch
    import transformers as tf

    root = tmp_path_factory.mktemp("pair")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    tf.Dinov2Model(tf.Dinov2Config(**small, image_size=56, patch_size=14)).save_pretrained(root / "vision")
    processor = tf.BitImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    (root / "vision" / "preprocessor_config.json").write_text(json.dumps(processor.to_dict()))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "edema", "effusion", "."]
    config = tf.BertConfig(**small, intermediate_size=64, vocab_size=len(words), max_position_embeddings=80)
    tf.BertModel(config).save_pretrained(root / "text")
    (root / "text" / "vocab.txt").write_text("\n".join(words))
    tf.BertTokenizer(str(root / "text" / "vocab.txt")).save_pretrained(root / "text")
    return f"pair:local-dir:{root / 'vision'}+local-dir:{root / 'text'}"


def test_a_pair_of_towers_learns_from_zeros(tmp_path: Path, pair: str) -> None:
    result = run(tmp_path / "out", strategy="linear-probe", backbone=pair, settings={"start": "zeros"})
    assert result.backbone.dim == 32
    assert result.cost.images_encoded == result.dataset.n_train + result.dataset.n_test
    assert result.cost.trainable_parameters == 14 * 33
    auc = result.array("auc_matrix")
    assert np.nanmean(auc[0]) == 0.5
    assert not np.array_equal(auc[0], auc[-1])
    with pytest.raises(UserError, match="strategy zero-shot needs joint"):
        run(tmp_path / "other", strategy="zero-shot", backbone=pair)


JOINTLESS = [
    name
    for name in retune.registry("strategies").names()
    if not retune.registry("strategies").load(name)().requires() & {"joint"}
]


@pytest.mark.parametrize("name", JOINTLESS)
def test_every_strategy_that_asks_for_no_joint_space_runs_on_a_pair(
    tmp_path: Path, pair: str, name: str
) -> None:
    settings = {
        s.name: 1 for s in settings_of(retune.registry("strategies").load(name)) if s.name.endswith("epochs")
    }
    result = run(tmp_path, strategy=name, backbone=pair, steps=2, settings={**settings, "data.images": 120})
    assert len(result.auc_matrix) == 3
    assert np.isfinite(scores(tmp_path)).all()
