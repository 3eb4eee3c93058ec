"""What is wrong with a pair of towers is told in one line."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_towers import Towers, pictures, save_pooling
from safetensors.torch import save_file

from retune.backbones.pair.model import Pair
from retune.errors import MissingFiles, UnknownName, UserError


def use(backbone: Pair) -> None:
    """Everything that a run asks of a backbone."""
    assert backbone.card.dim
    assert backbone.fingerprint
    assert backbone.parameters
    backbone.encode_images(backbone.preprocess(pictures()[0])[None])
    backbone.encode_texts(["edema"])


def edit(path: Path, **values: Any) -> None:
    about = json.loads(path.read_text())
    path.write_text(json.dumps({key: v for key, v in {**about, **values}.items() if v is not ...}))


class Evil:
    """A pickle that runs code when it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil-ran"),)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil()}))


def without(folder: Path, *keys: str) -> None:
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    save_file(
        {key: v for key, v in load_file(path).items() if key not in keys}, path, metadata={"format": "pt"}
    )


def blank(path: Path) -> None:
    path.write_text("{}")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def unknown_piece(folder: Path) -> None:
    about = json.loads((folder / "tokenizer.json").read_text())
    about["model"]["vocab"]["edema"] = 40
    (folder / "tokenizer.json").write_text(json.dumps(about))


Spoil = Callable[[Path], Any]
SPOILT: dict[str, tuple[str, Spoil, type[UserError], str]] = {
    "vision gone": ("dinov2", shutil.rmtree, MissingFiles, "no such folder"),
    "no config": ("dinov2", lambda f: (f / "config.json").unlink(), MissingFiles, "holds no config.json"),
    "no weights": ("dinov2", lambda f: (f / "model.safetensors").unlink(), MissingFiles, "holds no weights"),
    "no processor": ("dinov2", lambda f: (f / "preprocessor_config.json").unlink(), MissingFiles, "image processor"),
    "text as vision": ("bert", lambda f: blank(f / "preprocessor_config.json"), UserError, "is no vision tower"),
    "remote code": ("dinov2", lambda f: edit(f / "config.json", auto_map={"AutoModel": "evil.M"}), UserError, "auto_map"),
    "remote processor": (
        "dinov2",
        lambda f: edit(f / "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.P"}),
        UserError,
        "preprocessor_config.json: needs Python code",
    ),
    "cut weights": ("dinov2", lambda f: cut(f / "model.safetensors"), UserError, "damaged"),
    "evil weights": ("dinov2", pickled, UserError, "damaged"),
    "other width": ("dinov2", lambda f: edit(f / "config.json", hidden_size=64), UserError, "do not fit"),
    "other depth": ("dinov2", lambda f: edit(f / "config.json", num_hidden_layers=3), UserError, "do not fit"),
    "a weight missing": ("dinov2", lambda f: without(f, "layernorm.weight"), UserError, "layernorm.weight"),
    "odd heads": ("dinov2", lambda f: edit(f / "config.json", num_attention_heads=5), UserError, "do not fit"),
    "odd pictures": (
        "dinov2",
        lambda f: edit(f / "preprocessor_config.json", do_center_crop=False),
        UserError,
        "square pictures",
    ),
    "unknown processor": (
        "dinov2",
        lambda f: edit(f / "preprocessor_config.json", crop_size={"depth": 3}),
        UserError,
        "image processor",
    ),
    "other pictures": (
        "vit",
        lambda f: edit(f / "preprocessor_config.json", size={"height": 64, "width": 64}),
        UserError,
        "64 x 64",
    ),
    "timm: no config": ("test_vit", lambda f: (f / "config.json").unlink(), MissingFiles, "holds no config.json"),
    "timm: no weights": ("test_vit", lambda f: (f / "model.safetensors").unlink(), MissingFiles, "holds no weights"),
    "timm: no JSON": ("test_vit", lambda f: cut(f / "config.json"), UserError, "is not a configuration of timm"),
    "timm: unknown": ("test_vit", lambda f: edit(f / "config.json", architecture="test_vitt"), UnknownName, "test_vit"),
    "timm: other": ("test_vit", lambda f: edit(f / "config.json", architecture="test_vit2"), UserError, "do not fit"),
    "timm: cut weights": ("test_vit", lambda f: cut(f / "model.safetensors"), UserError, "damaged"),
    "timm: evil weights": ("test_vit", pickled, UserError, "damaged"),
    "timm: a weight missing": ("test_vit", lambda f: without(f, "norm.weight"), UserError, "do not fit"),
    "text: vision as text": ("dinov2", lambda f: (f / "vocab.txt").write_text("a"), UserError, "is no text tower"),
    "text: no tokenizer": (
        "bert",
        lambda f: [p.unlink() for p in (f / "tokenizer.json", f / "vocab.txt") if p.exists()],
        MissingFiles,
        "tokenizer",
    ),
    "text: cut tokenizer": ("bert", lambda f: cut(f / "tokenizer.json"), UserError, "tokenizer cannot be loaded"),
    "text: remote code": ("bert", lambda f: edit(f / "config.json", auto_map={"A": "evil.M"}), UserError, "auto_map"),
    "text: remote tokenizer": (
        "bert",
        lambda f: edit(f / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "evil.T"]}, tokenizer_class="T"),
        UserError,
        "tokenizer_config.json",
    ),
    "text: cut weights": ("bert", lambda f: cut(f / "model.safetensors"), UserError, "damaged"),
    "text: evil weights": ("bert", pickled, UserError, "damaged"),
    "text: other width": ("bert", lambda f: edit(f / "config.json", hidden_size=64), UserError, "do not fit"),
    "text: small vocabulary": ("bert", unknown_piece, UserError, "word piece 40"),
    "text: odd heads": ("bert", lambda f: edit(f / "config.json", num_attention_heads=5), UserError, "cannot build"),
    "text: half a pooler": ("bert", lambda f: without(f, "pooler.dense.bias"), UserError, "pooler.dense.bias"),
    "text: further layers": ("bert", lambda f: save_pooling(f, {}, "Dense", "Normalize"), UserError, "Dense"),
    "text: unknown pooling": ("bert", lambda f: save_pooling(f, {"pooling_mode": "max"}), UserError, "pools words by"),
    "text: no pooling": (
        "sentences",
        lambda f: (f / "1_Pooling" / "config.json").unlink(),
        MissingFiles,
        "holds no 1_Pooling/config.json",
    ),
    "text: no eos": ("gpt2", lambda f: edit(f / "tokenizer_config.json", eos_token=None), UserError, "eos_token"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_tower_is_told_in_one_line(
    towers: Towers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    kind, spoil, error, part = SPOILT[case]
    folder = tmp_path / "spoilt"
    shutil.copytree(towers(kind), folder)
    (folder / "evil.py").write_text(
        "from pathlib import Path\nPath('evil-ran').touch()\nclass M: pass\nclass T: pass\n"
    )
    spoil(folder)
    if case.startswith("text:"):
        backbone = Pair(f"pair:local-dir:{towers('dinov2')}+local-dir:{folder}")
    else:
        scheme = "timm:local-dir" if case.startswith("timm:") else "local-dir"
        backbone = Pair(f"pair:{scheme}:{folder}+local-dir:{towers('bert')}")
    with pytest.raises(UserError) as caught:
        use(backbone)
    message = str(caught.value)
    assert type(caught.value) is error
    assert part in message
    assert "\n" not in message
    assert len(message) < 700
    assert not list(tmp_path.rglob("evil-ran"))


@pytest.mark.parametrize(
    ("vision", "error", "part"),
    [
        ("xrv:densenet121-res224-al", UnknownName, "did you mean densenet121-res224-all"),
        ("xrv:resnetae-101-elastic@/no/such.pt", MissingFiles, "state_dict"),
        ("timm:a:b", UserError, "names no model of timm"),
        ("timm:no_such_net", UnknownName, "unknown timm model"),
        ("timm:local-dir:/no/such", MissingFiles, "no such folder"),
        ("timm:vit_small_patch14_reg4_dinov2.lvd142m", MissingFiles, "hf download timm/vit_small"),
        ("hf-hub:someone/something", MissingFiles, "hf download someone/something"),
    ],
)
def test_a_tower_that_is_not_there_is_told_in_one_line(
    towers: Towers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vision: str,
    error: type[UserError],
    part: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        use(Pair(f"pair:{vision}+local-dir:{towers('bert')}"))
    assert type(caught.value) is error
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
