"""Whatever is wrong with a model is told in one line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from retune.backbones.load import load_backbone
from retune.errors import BadSetting, MissingFiles, UnknownName, UserError


def use(name: str) -> None:
    """Everything that a run asks of a backbone."""
    backbone = load_backbone(name, device="cpu")
    assert backbone.card.dim
    assert backbone.fingerprint
    backbone.encode_images(backbone.preprocess(Image.new("L", (40, 40)))[None])
    backbone.encode_texts(["edema"])


def edit(folder: Path, *keys: str, value: Any) -> None:
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    section = config
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    path.write_text(json.dumps(config))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def replace_by_pickle(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    (folder / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil()}))


class Evil:
    """A pickle that runs code when it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil-ran"),)


TEXT = ("model_cfg", "text_cfg")
SPOILT: dict[str, tuple[Callable[[Path], Any], type[UserError], str]] = {
    "no config": (lambda f: (f / "open_clip_config.json").unlink(), MissingFiles, "holds no open_clip_config.json"),
    "no weights": (lambda f: (f / "open_clip_model.safetensors").unlink(), MissingFiles, "holds no weights"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), MissingFiles, "holds no tokenizer"),
    "config no json": (lambda f: (f / "open_clip_config.json").write_text("{"), UserError, "is not JSON"),
    "config a list": (lambda f: (f / "open_clip_config.json").write_text("[]"), UserError, "no section 'model_cfg'"),
    "no dim": (lambda f: edit(f, "model_cfg", "embed_dim", value="12"), UserError, "no embed_dim"),
    "no towers": (lambda f: edit(f, "model_cfg", "vision_cfg", value=None), UserError, "no vision_cfg"),
    "odd size": (lambda f: edit(f, "model_cfg", "vision_cfg", "image_size", value="big"), UserError, "not a number"),
    "odd preprocessing": (lambda f: edit(f, "preprocess_cfg", value=3), UserError, "preprocess_cfg"),
    "odd resizing": (lambda f: edit(f, "preprocess_cfg", "resize_mode", value="fold"), UserError, "preprocess_cfg"),
    "unknown key": (lambda f: edit(f, *TEXT, "wings", value=2), UserError, "cannot build"),
    "other width": (lambda f: edit(f, *TEXT, "width", value=64), UserError, "does not fit"),
    "other depth": (lambda f: edit(f, "model_cfg", "vision_cfg", "layers", value=2), UserError, "does not fit"),
    "cut weights": (lambda f: cut(f / "open_clip_model.safetensors"), UserError, "does not fit"),
    "evil weights": (replace_by_pickle, UserError, "does not fit"),
    "cut tokenizer": (lambda f: cut(f / "tokenizer.json"), UserError, "tokenizer cannot be loaded"),
    "text tower gone": (lambda f: edit(f, *TEXT, "hf_model_name", value="nobody/nothing"), MissingFiles, "cache"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_folder_is_told_in_one_line(
    copied: Callable[..., Path], case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    spoil, kind, part = SPOILT[case]
    folder = copied()
    spoil(folder)
    with pytest.raises(UserError) as caught:
        use(f"local-dir:{folder}")
    assert type(caught.value) is kind
    message = str(caught.value)
    assert part in message
    assert "\n" not in message
    assert len(message) < 600
    assert not (tmp_path / "evil-ran").exists()


def test_a_configuration_cannot_allow_remote_code(
    copied: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = copied("bert")
    edit(folder, *TEXT, "tokenizer_kwargs", value={"trust_remote_code": True})
    code = "from pathlib import Path\nPath('evil-ran').touch()\n"
    (folder / "evil.py").write_text(code + "class EvilTokenizer: pass\n")
    (folder / "text-tower" / "evil.py").write_text(code + "class EvilConfig: pass\n")
    for path, key, name in (
        (folder / "tokenizer_config.json", "AutoTokenizer", "evil.EvilTokenizer"),
        (folder / "text-tower" / "config.json", "AutoConfig", "evil.EvilConfig"),
    ):
        about = json.loads(path.read_text())
        about["auto_map"] = {key: [None, name] if key == "AutoTokenizer" else name}
        about["model_type" if key == "AutoConfig" else "tokenizer_class"] = "evil"
        path.write_text(json.dumps(about))
    with pytest.raises(UserError):
        use(f"local-dir:{folder}")
    with pytest.raises(UserError):
        load_backbone(f"local-dir:{folder}").encode_texts(["edema"])
    assert not list(tmp_path.rglob("evil-ran"))


@pytest.mark.parametrize(
    ("name", "kind", "parts"),
    [
        ("local-dir:/no/such/folder", MissingFiles, ("no such folder",)),
        ("local-dir:", UserError, ("names no model",)),
        ("phantom-clipp", UnknownName, ("did you mean phantom-clip",)),
        ("open_clip:ViT-B-23/openai", UnknownName, ("ViT-B-32",)),
        ("open_clip:ViT-B-32/laion2b_s34b", UnknownName, ("laion2b_s34b_b79k",)),
        ("open_clip:ViT-B-32", UnknownName, ("tag", "openai")),
        ("hf-hub:no spaces/allowed", UserError, ("ORG/REPO",)),
    ],
)
def test_an_unusable_name_is_told_in_one_line(
    name: str, kind: type[UserError], parts: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        use(name)
    assert type(caught.value) is kind
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_network_the_message_tells_what_to_put_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("biomedclip", "hf-hub:someone/something", "open_clip:ViT-B-32/laion2b_s34b_b79k"):
        with pytest.raises(MissingFiles) as caught:
            use_fingerprint(name)
        for part in ("hf download", "open_clip_model.safetensors", "local-dir:FOLDER"):
            assert part in str(caught.value)


def use_fingerprint(name: str) -> None:
    assert load_backbone(name).fingerprint


def test_a_device_that_is_not_there(saved: dict[str, Path]) -> None:
    for device in ("cuda:99", "toaster"):
        with pytest.raises(BadSetting, match="there is no device"):
            load_backbone(f"local-dir:{saved['plain']}", device=device).encode_texts(["edema"])
