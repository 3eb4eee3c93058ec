"""Whatever is changed in a model's folder: the features stay, or the fingerprint goes, or it is refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_towers import pictures, save_tower
from safetensors.torch import load_file, save_file

from retune.backbones.load import load_backbone
from retune.errors import UserError

TEXTS = ["no pleural effusion", "The heart is large edema"]
HALF = {"dtype": "float16", "torch_dtype": "bfloat16"}
ADDED: dict[str, Any] = {
    **HALF,
    "output_attentions": True,
    "output_hidden_states": True,
    "return_dict": False,
    "use_cache": False,
    "id2label": {"0": "a", "1": "b", "2": "c"},
    "_name_or_path": "somewhere/else",
    "architectures": ["Other"],
    "attn_implementation": "eager",
    "_attn_implementation": "eager",
    "tie_word_embeddings": False,
    "torchscript": True,
    "chunk_size_feed_forward": 1,
    "pruned_heads": {"0": [0]},
}
REFUSED: dict[str, Any] = {
    "auto_map": {"AutoModel": "evil.Evil"},
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "transformers_weights": "other.safetensors",
    "configuration_files": ["config.4.0.0.json"],
    "attn_implementation": "someone/kernels",
    "_attn_implementation": {"vision_config": "someone/kernels@v1", "text_config": "sdpa"},
}
BESIDE = {
    "generation_config.json": {"max_length": 3, "do_sample": True},
    "modules.json": [{"idx": 0, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}],
    "sentence_bert_config.json": {"max_seq_length": 2, "do_lower_case": False},
    "chat_template.json": {"chat_template": "{{ messages }}"},
    "special_tokens_map.json": {"cls_token": "heart", "pad_token": "edema"},
    "added_tokens.json": {"pleural effusion": 5, "heart is": 6},
    "processor_config.json": {"image_processor": {"do_resize": False}},
    "model.safetensors.index.json": {"weight_map": {"a": "other.safetensors"}},
    "config.4.0.0.json": {},
    "tokenizer.4.0.0.json": {},
}  # fmt: skip


def seen(name: str) -> tuple[str, bytes]:
    """The fingerprint, and the bits of images' and texts' features."""
    backbone = load_backbone(name, device="cpu")
    pixels = torch.stack([backbone.preprocess(picture) for picture in pictures()])
    found = backbone.encode_images(pixels), backbone.encode_texts(TEXTS)
    return backbone.fingerprint, b"".join(np.asarray(part).tobytes() for part in found)


def other(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value * 2 + 1
        case str():
            return value + "x"
        case None:
            return 1
        case list():
            return [other(item) for item in value]
    return {}


def keys(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    for key, item in value.items() if isinstance(value, dict) else ():
        yield (*path, key)
        yield from keys(item, *path, key)


def changed(document: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    found = json.loads(json.dumps(document))
    at = found
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = change(at.get(path[-1]))
    return found


def holds(name: str, folder: Path, file: str, data: bytes, before: tuple[str, bytes], what: str) -> str:
    """Write a file, look, put the old one back; says what happened."""
    path = folder / file
    old = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    try:
        after = seen(name)
    except UserError:
        return "refused"
    except (RuntimeError, ValueError, IndexError):
        return "fails"  # Loudly, when it first encodes: what the file says and the weights contradict each other.
    finally:
        path.unlink() if old is None else path.write_bytes(old)
    assert after[0] != before[0] or after[1] == before[1], f"{what}: other features, same fingerprint"
    return "same" if after[1] == before[1] else "differs"


def spoilt_weights(path: Path) -> bytes:
    """The weights, with one value of each tensor changed."""
    tensors = load_file(path)
    for tensor in tensors.values():
        if tensor.is_floating_point():
            tensor.view(-1)[:1] += 0.5
    save_file(tensors, path.with_name("spoilt"))
    data = path.with_name("spoilt").read_bytes()
    path.with_name("spoilt").unlink()
    return data


def try_everything(name: str, folder: Path, beside: dict[str, Any]) -> None:
    before = seen(name)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        file = str(path.relative_to(folder))
        if path.suffix == ".safetensors":
            assert holds(name, folder, file, spoilt_weights(path), before, file) == "differs"
        elif path.suffix == ".json" and path.name not in ("tokenizer.json", "vocab.json"):
            document = json.loads(path.read_text())
            for key in keys(document):
                data = json.dumps(changed(document, key, other)).encode()
                holds(name, folder, file, data, before, f"{file} {key}")
        elif path.suffix in (".txt", ".json"):
            holds(name, folder, file, path.read_bytes().replace(b"e", b"a"), before, file)
    for file, content in beside.items():
        if not (folder / file).exists():
            holds(name, folder, file, json.dumps(content).encode(), before, f"with {file}")


def try_config(name: str, folder: Path) -> None:
    """Keys that no saved configuration has, at the top and in each half."""
    before = seen(name)
    document = json.loads((folder / "config.json").read_text())
    for part in [(), *((half,) for half in ("vision_config", "text_config") if half in document)]:
        for key, value in ADDED.items():
            data = json.dumps(changed(document, (*part, key), lambda _, value=value: value)).encode()
            found = holds(name, folder, "config.json", data, before, f"config.json {part} {key}")
            assert found == "same" or key not in HALF, key
    for key, value in REFUSED.items():
        data = json.dumps({**document, key: value}).encode()
        assert holds(name, folder, "config.json", data, before, key) == "refused"
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert holds(name, folder, file, b"{}", before, file) == "refused"


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_dual_encoders_of_transformers(kind: str, dual: Callable[..., Path]) -> None:
    folder = dual(kind)
    try_everything(f"local-dir:{folder}", folder, BESIDE)
    try_config(f"local-dir:{folder}", folder)


@pytest.mark.parametrize("half", ["dinov2", "bert", "test_vit"])
def test_halves_of_a_pair(half: str, tmp_path: Path) -> None:
    image, text = tmp_path / "image", tmp_path / "text"
    save_tower("dinov2" if half == "bert" else half, image)
    save_tower("bert", text)
    scheme = "timm:local-dir" if half.startswith("test_") else "local-dir"
    name = f"pair:{scheme}:{image}+local-dir:{text}"
    folder = text if half == "bert" else image
    try_everything(name, folder, BESIDE)
    if not half.startswith("test_"):
        try_config(name, folder)


@pytest.mark.parametrize("kind", ["plain", "bert"])
def test_folders_of_open_clip(kind: str, copied: Callable[..., Path]) -> None:
    folder = copied(kind)
    try_everything(f"local-dir:{folder}", folder, BESIDE)


def test_weights_that_transformers_would_not_take_change_nothing(dual: Callable[..., Path]) -> None:
    folder = dual("clip")
    before = seen(f"local-dir:{folder}")
    torch.save({"logit_scale": torch.tensor(1.0)}, folder / "pytorch_model.bin")
    shutil.copy(folder / "pytorch_model.bin", folder / "adapter.bin")
    assert seen(f"local-dir:{folder}") == before


def test_attention_of_a_text_tower_of_open_clip_is_not_fetched(copied: Callable[..., Path]) -> None:
    folder = copied("bert")
    path = folder / "text-tower" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "attn_implementation": "someone/kernels"}))
    with pytest.raises(UserError, match=r"attention 'someone/kernels'.*never runs it"):
        _ = load_backbone(f"local-dir:{folder}").fingerprint


def test_a_pickle_that_would_run_code_is_refused_without_advice(dual: Callable[..., Path]) -> None:
    folder = dual("clip")
    (folder / "model.safetensors").unlink()
    torch.save({"logit_scale": Path("x")}, folder / "pytorch_model.bin")
    with pytest.raises(UserError) as told:
        seen(f"local-dir:{folder}")
    assert "weights_only" not in str(told.value)
