"""Whatever is changed in a model's folder: the features stay, or the fingerprint goes, or it is refused in one line.

Of every family some changes are tried, drawn with a seed; ``RETUNE_TEST_CHANGES=100000`` tries them all.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from made_towers import pictures, save_tower
from safetensors.torch import load_file, save_file

from retune.backbones.hf.files import find_hf_files
from retune.backbones.hf.load import load_tokenizer
from retune.backbones.load import load_backbone
from retune.cli.main import main
from retune.errors import UserError

CHANGES = int(os.environ.get("RETUNE_TEST_CHANGES", "8"))
TEXTS = ["no pleural effusion", "The heart is large edema"]
HALF = {"dtype": "float16", "torch_dtype": "bfloat16"}
ADDED: dict[str, Any] = {
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
    "tokenizer_class": "BertTokenizer",
    "quick_gelu": True,
    "hidden_act": "relu",
    "pool_type": "last",
    "fixed_input_size": True,
    "crop_pct": 0.5,
    "padding_side": "left",
    "do_lower_case": False,
    "model_max_length": 7,
    "do_normalize": False,
    "vocab_file": "elsewhere/vocab.txt",
    "added_tokens_decoder": {"5": {"content": "heart is", "special": True}},
}
REFUSED: dict[str, Any] = {
    "auto_map": {"AutoModel": "evil.Evil"},
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "transformers_weights": "other.safetensors",
    "configuration_files": ["config.4.0.0.json"],
    "attn_implementation": "someone/kernels",
    "_attn_implementation": {"vision_config": "someone/kernels@v1", "text_config": "sdpa"},
}
BESIDE: dict[str, Any] = {
    "generation_config.json": {"max_length": 3, "do_sample": True},
    "modules.json": [{"idx": 0, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}],
    "sentence_bert_config.json": {"max_seq_length": 2, "do_lower_case": False},
    "chat_template.json": {"chat_template": "{{ messages }}"},
    "special_tokens_map.json": {"cls_token": "heart", "pad_token": "edema"},
    "added_tokens.json": {"pleural effusion": 13},
    "processor_config.json": {"image_processor": {"do_resize": False}},
    "preprocessor_config.json": {"do_resize": False},
    "tokenizer_config.json": {"do_lower_case": False, "model_max_length": 5},
    "vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\nlarge\nis\nheart\n",
    "vocab.json": {"heart": 0, "is": 1},
    "merges.txt": "#version: 0.2\nh e\n",
    "model.safetensors.index.json": {"weight_map": {"a": "other.safetensors"}},
    "pytorch_model.bin": "not read",
    "config.json": {"model_type": "gpt2"},
    "config.4.0.0.json": {},
    "tokenizer.4.0.0.json": {},
}  # fmt: skip
OLD_BERT = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 16}


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is changed may be another model's on the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


class Change(NamedTuple):
    """One file of a folder, and how what it holds instead is made; None takes it away."""

    what: str
    file: str
    data: Callable[[], bytes] | None


def seen(name: str, half: str = "") -> tuple[str, bytes]:
    """The fingerprint, and the bits of images' and texts' features, or of one half's."""
    backbone = load_backbone(name, device="cpu")
    found: list[torch.Tensor] = []
    if half != "text":
        pixels = torch.stack([backbone.preprocess(picture) for picture in pictures()])
        found += [backbone.encode_images(pixels), backbone.encode_tokens(pixels)]
    if half != "image":
        found += [backbone.encode_texts(TEXTS), *backbone.encode_words(TEXTS)]
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


def wrong(value: Any) -> Any:
    """Of another kind."""
    return ["x"] if isinstance(value, str | dict) else "x"


def keys(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    for key, item in value.items() if isinstance(value, dict) else ():
        yield (*path, key)
        # Words have their own change.
        yield from keys(item, *path, key) if key not in ("vocab", "weight_map") else ()


def changed(document: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    found = json.loads(json.dumps(document))
    at = found
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = change(at.get(path[-1]))
    return found


def spoilt_weights(path: Path) -> bytes:
    """The weights, with one value of each tensor changed."""
    tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path)
    for tensor in tensors.values():
        if tensor.is_floating_point():
            tensor.view(-1)[:1] += 0.5
    spoilt = path.with_name("spoilt")
    if path.suffix == ".safetensors":
        save_file(tensors, spoilt, metadata={"format": "pt"})
    else:
        torch.save(tensors, spoilt)
    data = spoilt.read_bytes()
    spoilt.unlink()
    return data


def in_json(path: Path, file: str) -> Iterator[Change]:
    document = json.loads(path.read_text())

    def with_key(key: tuple[Any, ...], change: Callable[[Any], Any], how: str) -> Change:
        return Change(
            f"{file} {key} {how}", file, lambda: json.dumps(changed(document, key, change)).encode()
        )

    known = list(keys(document))
    for key in known:
        for how, change in (("other", other), ("wrong", wrong), ("null", lambda _: None)):
            yield with_key(key, change, how)
    parts = [(), *(key for key in known if isinstance(changed_at(document, key), dict))]
    for part in parts if "config" in file else ():
        for key, value in ADDED.items():
            yield with_key((*part, key), lambda _, value=value: value, f"= {value}")


def changed_at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def single_changes(folder: Path) -> Iterator[Change]:
    """Every file spoilt or taken away, every key changed or added, every file that a library may look for added."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        file = str(path.relative_to(folder))
        yield Change(f"no {file}", file, None)
        if path.suffix == ".json":
            yield from in_json(path, file)
        if path.suffix in (".txt", ".json", ".model"):
            data = path.read_bytes().replace(b"e", b"a")
            yield Change(f"{file} with other letters", file, lambda data=data: data)
    for file, content in BESIDE.items():
        if not (folder / file).exists():
            text = content if isinstance(content, str) else json.dumps(content)
            yield Change(f"with {file}", file, text.encode)


def happens(name: str, folder: Path, change: Change, before: tuple[str, bytes], half: str = "") -> str:
    """Make a change, look, and take it back; says what happened."""
    path = folder / change.file
    old = path.read_bytes() if path.exists() else None
    if change.data is None:
        path.unlink()
    else:
        path.write_bytes(change.data())
    refused = None
    try:
        fingerprint, features = seen(name, half)
    except UserError as error:
        refused = str(error)
    except BaseException as error:
        raise AssertionError(f"{change.what}: {type(error).__name__}: {error}") from error
    finally:
        path.unlink(missing_ok=True)
        if old is not None:
            path.write_bytes(old)
    if refused is not None:
        assert "retune-" not in refused, f"{change.what}: names a folder that nobody knows"
        assert len(refused) < 3000, f"{change.what}: {refused}"
        return "refused"
    if fingerprint != before[0]:
        return "differs"
    assert features == before[1], f"{change.what}: other features, same fingerprint"
    return "same"


def old_bert(folder: Path) -> None:
    """A tokenizer as it was saved for years: words in a text file, special ones in another."""
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(words, key=words.get)) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(OLD_BERT))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


def in_shards(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shard = {key: f"model-0000{k % 2}-of-00002.safetensors" for k, key in enumerate(sorted(tensors))}
    for file in set(shard.values()):
        part = {key: tensors[key] for key in tensors if shard[key] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    about = {"metadata": {"total_size": 1}, "weight_map": shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps(about))


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def legacy_timm(folder: Path) -> None:
    """As timm's models lay on the hub at first: one level, without arguments."""
    about = json.loads((folder / "config.json").read_text())
    flat = {**about.pop("pretrained_cfg"), **about}
    del flat["model_args"]
    (folder / "config.json").write_text(json.dumps(flat))


MADE: dict[str, Callable[[Path], None]] = {
    "old": old_bert,
    "shards": in_shards,
    "pickle": pickled,
    "legacy": legacy_timm,
}
DUALS = ("clip", "siglip", "chinese_clip", "clip shards", "clip pickle", "chinese_clip old")
OPEN_CLIP = ("plain", "timm", "bert", "plain old", "bert old")
IMAGES = (
    *("dinov2", "registers", "vit", "resnet", "swin", "clip", "siglip"),
    *("test_vit", "test_resnet", "test_resnet legacy", "swin_tiny_patch4_window7_224"),
)
TEXT_TOWERS = ("bert", "masked", "roberta", "gpt2", "bert old")


@pytest.fixture(scope="module")
def plain_halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The other half of each pair."""
    root = tmp_path_factory.mktemp("halves")
    for kind in ("vit", "bert"):
        save_tower(kind, root / kind)
    return {"text": root / "vit", "image": root / "bert"}


def pair_of(half: str, kind: str, folder: Path, other_half: Path) -> str:
    if half == "text":
        return f"pair:local-dir:{other_half}+local-dir:{folder}"
    scheme = "timm:local-dir" if kind.startswith(("test_", "swin_")) else "local-dir"
    return f"pair:{scheme}:{folder}+local-dir:{other_half}"


@pytest.fixture
def model(
    request: pytest.FixtureRequest, tmp_path: Path, plain_halves: dict[str, Path]
) -> tuple[str, Path, str]:
    """A model of a family: its name, its folder, and which half of it lies there."""
    family, _, full = request.param.partition(" ")
    kind, _, made = full.partition(" ")
    folder = tmp_path / "model"
    if family in ("dual", "open_clip"):
        saved = request.getfixturevalue("duals" if family == "dual" else "saved")
        shutil.copytree(saved[kind], folder)
        half, name = "", f"local-dir:{folder}"
    else:
        save_tower(kind, folder)
        half, name = family, pair_of(family, kind, folder, plain_halves[family])
    if made:
        MADE[made](folder)
    return name, folder, half


FAMILIES = (
    *(f"dual {kind}" for kind in DUALS),
    *(f"open_clip {kind}" for kind in OPEN_CLIP),
    *(f"image {kind}" for kind in IMAGES),
    *(f"text {kind}" for kind in TEXT_TOWERS),
)


@pytest.mark.parametrize("model", FAMILIES, indirect=True)
def test_no_single_change_gives_other_features_under_one_fingerprint(
    model: tuple[str, Path, str], request: pytest.FixtureRequest
) -> None:
    name, folder, half = model
    before = seen(name, half)
    everything = list(single_changes(folder))
    drawn = random.Random(request.node.name).sample(everything, min(CHANGES, len(everything)))
    found = Counter(happens(name, folder, change, before, half) for change in drawn)
    for path in [p for p in folder.rglob("*") if p.suffix in (".safetensors", ".bin")]:
        spoilt = Change(path.name, path.name, lambda path=path: spoilt_weights(path))
        found[what := happens(name, folder, spoilt, before, half)] += 1
        assert what == "differs"
    print(f"{sum(found.values())} of {len(everything)} changes: {dict(found)}")


@pytest.mark.parametrize(
    "model",
    ["dual clip", "dual siglip", "image dinov2", "image vit", "text bert", "text gpt2"],
    indirect=True,
)
def test_what_transformers_would_follow_elsewhere_is_refused_and_weights_are_float32(
    model: tuple[str, Path, str],
) -> None:
    name, folder, half = model
    before = seen(name, half)
    document = json.loads((folder / "config.json").read_text())

    def happens_with(key: str, value: Any, *part: str) -> str:
        data = json.dumps(changed(document, (*part, key), lambda _: value)).encode()
        return happens(name, folder, Change(f"{part} {key}", "config.json", lambda: data), before, half)

    for part in [(), *((half,) for half in ("vision_config", "text_config") if half in document)]:
        for key, value in HALF.items():
            assert happens_with(key, value, *part) == "same"
    for key, value in REFUSED.items():
        assert happens_with(key, value) == "refused"
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert happens(name, folder, Change(file, file, lambda: b"{}"), before, half) == "refused"


def test_a_timm_model_whose_positions_are_fitted_otherwise_is_another(tmp_path: Path) -> None:
    save_tower("test_vit", tmp_path / "image")
    save_tower("bert", tmp_path / "text")
    path, name = tmp_path / "image" / "config.json", f"timm:local-dir:{tmp_path / 'image'}"
    pair = f"pair:{name}+local-dir:{tmp_path / 'text'}"
    before = load_backbone(pair, device="cpu").fingerprint
    document = json.loads(path.read_text())
    document["pretrained_cfg"]["fixed_input_size"] ^= True
    path.write_text(json.dumps(document))
    assert load_backbone(pair, device="cpu").fingerprint != before


def edit(path: Path, **values: Any) -> None:
    """Set keys of a file of JSON, each ``a__b`` within another."""
    document = json.loads(path.read_text())
    for place, value in values.items():
        *within, key = place.split("__")
        changed_at(document, tuple(within))[key] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("kind", ["plain", "plain old"])
def test_words_that_were_added_to_a_tokenizer_of_open_clip_are_told(
    kind: str, copied: Callable[..., Path]
) -> None:
    folder = copied("plain")
    old_bert(folder)
    if kind == "plain":
        shutil.copy(copied("plain", "again") / "tokenizer.json", folder)
    # The last word is left to be added.
    if kind == "plain":
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        edit(folder / "tokenizer.json", model__vocab={k: v for k, v in vocabulary.items() if k != "large"})
    else:
        words = (folder / "vocab.txt").read_text().split()
        (folder / "vocab.txt").write_text("\n".join(words[:-1]) + "\n")
    before = seen(f"local-dir:{folder}")
    (folder / "added_tokens.json").write_text(json.dumps({"large": 12}))
    after = seen(f"local-dir:{folder}")
    assert before[1] != after[1]
    assert before[0] != after[0]


@pytest.mark.parametrize(
    ("kind", "file", "values", "told"),
    [
        (
            "timm",
            "open_clip_config.json",
            {"model_cfg__vision_cfg__timm_model_name": "local-dir:/elsewhere"},
            r"open_clip_config\.json: vision_cfg\.timm_model_name names another model's files",
        ),
        (
            "plain",
            "open_clip_config.json",
            {"model_cfg__text_cfg__tokenizer_kwargs": {"vocab_file": "/elsewhere/vocab.txt"}},
            r"open_clip_config\.json: .*tokenizer_kwargs names a file to read \(vocab_file\)",
        ),
        (
            "plain",
            "tokenizer_config.json",
            {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]},
            r"tokenizer_config\.json: names other files to read \(fast_tokenizer_files\)",
        ),
        (
            "bert",
            "open_clip_config.json",
            {"model_cfg__text_cfg__hf_model_name": "gone"},
            "hf_model_name names no",
        ),
    ],
)
def test_what_open_clip_would_read_elsewhere_is_refused(
    kind: str, file: str, values: dict[str, Any], told: str, copied: Callable[..., Path]
) -> None:
    folder = copied(kind)
    edit(folder / file, **values)
    with pytest.raises(UserError, match=told):
        seen(f"local-dir:{folder}")


def test_a_tokenizer_that_draws_lots_is_refused(
    dual: Callable[..., Path], copied: Callable[..., Path]
) -> None:
    folder = dual("siglip")
    edit(folder / "tokenizer_config.json", sp_model_kwargs={"enable_sampling": True, "alpha": 0.1})
    with pytest.raises(UserError, match="cuts a text otherwise every time"):
        load_backbone(f"local-dir:{folder}", device="cpu").encode_texts(TEXTS)
    folder = dual("clip", "generic")
    edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    edit(folder / "tokenizer.json", model__dropout=0.5)
    with pytest.raises(UserError, match=r"cuts a text otherwise every time \(dropout = 0\.5\)"):
        load_backbone(f"local-dir:{folder}", device="cpu").encode_texts(TEXTS)


def test_weights_that_timm_would_fill_with_chance_are_refused(tmp_path: Path) -> None:
    save_tower("test_vit", tmp_path / "image")
    save_tower("bert", tmp_path / "text")
    edit(tmp_path / "image" / "config.json", model_args={"pretrained_strict": False, "depth": 8})
    name = f"pair:timm:local-dir:{tmp_path / 'image'}+local-dir:{tmp_path / 'text'}"
    with pytest.raises(UserError, match=r"config\.json: model_args says how weights are read"):
        _ = load_backbone(name).fingerprint


def test_of_two_formats_of_weights_the_safe_one_is_read_and_told(dual: Callable[..., Path]) -> None:
    folder = dual("clip")
    before = seen(f"local-dir:{folder}")
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    assert seen(f"local-dir:{folder}") == before
    # A link counts for what it leads to.
    (folder / "model.safetensors").rename(folder.parent / "weights")
    (folder / "model.safetensors").symlink_to(folder.parent / "weights")
    assert seen(f"local-dir:{folder}") == before
    (folder.parent / "others").write_bytes(spoilt_weights(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder.parent / "others")
    after = seen(f"local-dir:{folder}")
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_a_copy_of_a_tokenizer_of_sentencepiece_reads_its_own_words(dual: Callable[..., Path]) -> None:
    folder = dual("siglip")
    tokenizer = load_tokenizer(find_hf_files(f"local-dir:{folder}"))
    assert copy.deepcopy(tokenizer)(TEXTS) == tokenizer(TEXTS)


def test_files_that_contradict_each_other_are_told_in_one_line(
    dual: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = dual("clip")
    edit(folder / "config.json", vision_config__num_attention_heads=-2)
    command = ["embed", "--data", "phantom", "--backbone", f"local-dir:{folder}"]
    assert main([*command, "--out", str(tmp_path / "features.safetensors")]) == 2
    _, _, told = capsys.readouterr().err.strip().rpartition("error: ")
    assert told.startswith(f"local-dir:{folder}: cannot encode pictures (RuntimeError: invalid shape")
    assert "see that its configuration and its image processor's settings" in told
    assert "\n" not in told
    assert not (tmp_path / "features.safetensors").exists()


@pytest.mark.parametrize("family", ["dual", "open_clip"])
def test_a_tokenizer_with_more_words_than_the_weights_is_told(
    family: str, dual: Callable[..., Path], copied: Callable[..., Path]
) -> None:
    folder = dual("siglip") if family == "dual" else copied("plain")
    if family == "dual":
        shutil.copy(copied("plain") / "tokenizer.json", folder)
        edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    edit(folder / "tokenizer.json", model__vocab__heart=5000)
    with pytest.raises(UserError, match="its tokenizer gives word piece 5000, its weights know"):
        load_backbone(f"local-dir:{folder}", device="cpu").encode_texts(TEXTS)


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
