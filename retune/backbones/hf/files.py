"""Where the files of a model in transformers' format lie, found without importing torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from retune.backbones.files import (
    count_parameters,
    digests,
    fingerprint,
    folder_of,
    is_parameter,
    local_folder,
    read_json,
)
from retune.backbones.hub import cached, fetched, from_hub, known_absent
from retune.errors import MissingFiles, UnknownName, UserError

CONFIG: Final = "config.json"
# The order in which transformers itself prefers them.
WEIGHTS: Final = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_PROCESSORS: Final = ("processor_config.json", "preprocessor_config.json")
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
_TOKENIZER_SETTINGS: Final = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json")
_VOCABULARIES: Final = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "tokenizer.json",
)
SENTENCES: Final = ("modules.json", "1_Pooling/config.json")
"""How a model of sentence-transformers, and only such a one, makes one vector of a text."""
NEEDS: Final = "config.json, model.safetensors (or pytorch_model.bin), preprocessor_config.json and the tokenizer's files"
# What a configuration says that no feature depends on: it is taken out before transformers sees it, and weights
# are read as float32.
_IDLE: Final = (
    "_name_or_path",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "architectures",
    "use_cache",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "id2label",
    "label2id",
    "problem_type",
    "task_specific_params",
)

_ADAPTERS: Final = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
# Keys by which a configuration sends transformers elsewhere than to the files listed here.
_ELSEWHERE: Final = ("transformers_weights", "configuration_files", "fast_tokenizer_files")
_ATTENTION: Final = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
_PLAIN_ATTENTION: Final = (None, "eager", "sdpa")


@dataclass(frozen=True)
class HfFiles:
    """A model in transformers' format, found but not read.

    Args:
        where: What to name in messages: ``hf-hub:ORG/REPO`` or the folder.
        folder: Local folder that transformers can load from without a network.
        config: Its ``config.json``.
        parts: The files that, with the configuration, make the features what they are, by name: weights with
            all their shards, the image processor's settings, the tokenizer's files.
        whole: Whether transformers is shown the whole folder, and not these files alone.
    """

    where: str
    folder: Path
    config: dict[str, Any]
    parts: dict[str, Path] = field(default_factory=dict)
    whole: bool = False


def find_hf_files(name: str, *, image: bool = True, text: bool = True, writes: bool = False) -> HfFiles:
    """Find the files of ``hf-hub:ORG/REPO`` or ``local-dir:PATH``.

    Files of the hub are downloaded, all from one revision, unless they are in its cache already.

    Args:
        name: The model.
        image: Whether an image processor's settings are needed.
        text: Whether a tokenizer is needed.
        writes: Whether it is a language model that writes: weights may be quantised, and whatever lies beside
            them, such as a template of conversations, may act.

    Raises:
        MissingFiles: If files are missing and cannot be downloaded.
        UserError: If the name or the configuration is malformed, the model needs code of its own, or something
            in it would change the features that no fingerprint tells of.
    """
    scheme, _, rest = name.partition(":")
    if not rest:
        raise UserError("names no model", where=name, fix="write hf-hub:ORG/REPO or local-dir:PATH")
    if scheme == "local-dir":
        folder = local_folder(rest, name)
        where = str(folder)
    elif scheme == "hf-hub":
        folder = from_hub(rest, (CONFIG,), needs=NEEDS).parent
        where = name
    else:
        raise UnknownName("model scheme", scheme, ("hf-hub", "local-dir"))
    config = read_config(folder / CONFIG)
    refuse_adapter(folder)
    if "quantization_config" in config and not writes:
        raise UserError(
            "asks for quantised weights (quantization_config), retune reads float32",
            where=str(folder / CONFIG),
            fix="use the model before it was quantised",
        )
    if scheme == "hf-hub":
        _download(rest, folder.name, image=image, text=text, pooled=text and not image and not writes)
    parts = _weights(where, folder)
    if image:
        parts |= _some(where, folder, _PROCESSORS, "image processor settings", "preprocessor_config.json")
    if text:
        parts |= _some(where, folder, _VOCABULARIES, "tokenizer", "tokenizer.json")
        parts |= _there(folder, _TOKENIZER_SETTINGS)
        if not writes:
            refuse_tokenizer_elsewhere(parts.get(TOKENIZER_CONFIG))
    return HfFiles(where, folder, config, parts, whole=writes)


def read_config(path: Path) -> dict[str, Any]:
    """Read a ``config.json``.

    Raises:
        MissingFiles: If there is none.
        UserError: If it is not a JSON object, the model brings its own code or has it fetched, or the
            configuration names other files.
    """
    if not path.is_file():
        raise MissingFiles(f"holds no {path.name}", where=str(path.parent))
    config = _read_object(path)
    if "auto_map" in config:
        raise UserError(
            "needs Python code that comes with the model (auto_map), which retune never runs",
            where=str(path),
            fix="use a model whose architecture is part of transformers",
        )
    refuse_elsewhere(config, path)
    return config


def refuse_elsewhere(config: dict[str, Any], path: Path) -> None:
    """See that a configuration sends transformers nowhere else, for files or for code.

    Raises:
        UserError: If it does.
    """
    for key in _ELSEWHERE:
        if key in config:
            raise UserError(
                f"names other files to read ({key})",
                where=str(path),
                fix=f"take {key} out, and give weights, configuration and tokenizer their usual names",
            )
    for key, value in _attentions(config):
        raise UserError(
            f"asks for the attention {value!r} ({key}), which transformers may fetch as code; retune never runs it",
            where=str(path),
            fix=f'take {key} out, or write "sdpa" or "eager"',
        )


def refuse_tokenizer_elsewhere(path: Path | None) -> None:
    """As :func:`refuse_elsewhere`, for a ``tokenizer_config.json`` where there is one."""
    if path is not None:
        refuse_elsewhere(_read_object(path), path)


def refuse_adapter(folder: Path) -> None:
    """See that no PEFT adapter lies beside a model: transformers adds it, where it can, without a word.

    Raises:
        UserError: If there is one.
    """
    for name in _there(folder, _ADAPTERS):
        raise UserError(
            f"holds an adapter of PEFT ({name}), which is not read here",
            where=str(folder),
            fix="merge it into the weights (merge_and_unload, save_pretrained), or take it out",
        )


@contextmanager
def shown(files: HfFiles) -> Iterator[Path]:
    """The folder that transformers is shown: what the fingerprint knows of a model, unless it is to be whole."""
    if files.whole:
        yield files.folder
        return
    with folder_of(files.parts, {CONFIG: json.dumps(_without_idle(files.config))}) as folder:
        yield folder


def fingerprint_of(adapter: str, files: HfFiles) -> str:
    """SHA-256 of weights, configuration, preprocessing and adapter; the same wherever the files lie.

    Args:
        adapter: Name and version of the code that turns these files into features.
        files: The model.

    Raises:
        MissingFiles: If one of the files cannot be read.
    """
    return fingerprint(
        {"adapter": adapter, "config": _without_idle(files.config), "parts": digests(files.parts)}
    )


def count_all_parameters(files: HfFiles) -> int:
    """Number of parameters, buffers left out: read off the headers of safetensors, else off the pickle.

    Raises:
        UserError: If the weights are damaged.
    """
    counts = {".safetensors": count_parameters, ".bin": _count_pickled}
    return sum(counts[path.suffix](path) for path in files.parts.values() if path.suffix in counts)


def _download(repository: str, revision: str, *, image: bool, text: bool, pooled: bool) -> None:
    """See that everything is in the local cache; the weights come last, so that they mark a whole model."""

    def is_there(names: Sequence[str]) -> bool:
        return cached(repository, names, revision=revision) is not None

    wanted: tuple[str, ...] = ("README.md",)
    groups: list[Sequence[str]] = [WEIGHTS]
    if image:
        wanted += _PROCESSORS
        groups.append(_PROCESSORS)
    if text:
        wanted += (*_TOKENIZER_SETTINGS, *_VOCABULARIES)
        groups.append(_VOCABULARIES)
    if not all(is_there(group) for group in groups):
        for name in wanted:
            if not known_absent(repository, name, revision=revision):
                fetched(repository, (name,), needs=NEEDS, revision=revision)
    if pooled and not all(is_there((name,)) for name in SENTENCES):
        # transformers, which may have fetched the rest, knows nothing of them; without a network there are none.
        with suppress(MissingFiles):
            for name in SENTENCES:
                if not known_absent(repository, name, revision=revision):
                    fetched(repository, (name,), needs=NEEDS, revision=revision)
    weights = from_hub(repository, WEIGHTS, needs=NEEDS, revision=revision)
    for shard in _shards(weights):
        from_hub(repository, (shard,), needs=NEEDS, revision=revision)


def _weights(where: str, folder: Path) -> dict[str, Path]:
    first = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if first is None:
        raise MissingFiles("holds no weights", where=where, fix=f"put {WEIGHTS[0]} there")
    parts = {first.name: first}
    for shard in _shards(first):
        parts[shard] = folder / shard
        if not parts[shard].is_file():
            raise MissingFiles(f"holds no {shard}, which {first.name} names", where=where)
    return parts


def _shards(weights: Path) -> list[str]:
    """Names of the files that an index lists; none for weights in one file."""
    if weights.suffix != ".json":
        return []
    names = _read_object(weights).get("weight_map")
    if not isinstance(names, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in names.values()
    ):
        raise UserError("has no weight_map that names files beside it", where=str(weights))
    return sorted(set(names.values()))


def _there(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    return {name: folder / name for name in names if (folder / name).is_file()}


def _some(where: str, folder: Path, names: Sequence[str], what: str, usual: str) -> dict[str, Path]:
    found = _there(folder, names)
    if not found:
        raise MissingFiles(f"holds no {what}", where=where, fix=f"put {usual} there")
    return found


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError("is not a JSON object", where=str(path))
    return content


def _attentions(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Whatever a configuration, at any depth, asks for that is no plain attention."""
    for part in _objects(config):
        for key in _ATTENTION:
            value = part.get(key)
            for wanted in value.values() if isinstance(value, dict) else [value]:
                if wanted not in _PLAIN_ATTENTION:
                    yield key, wanted


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _objects(item)


def _without_idle(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_idle(item) for key, item in value.items() if key not in _IDLE}
    return value


def _count_pickled(path: Path) -> int:
    import torch

    try:
        tensors = torch.load(path, map_location="meta", weights_only=True)
        return sum(tensor.numel() for name, tensor in tensors.items() if is_parameter(name))
    except Exception as error:
        raise UserError("is not a checkpoint of tensors alone", where=str(path)) from error
