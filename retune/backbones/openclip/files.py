"""Where an open_clip model's configuration, weights and tokenizer lie, found without importing torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from retune.backbones.files import local_folder, read_json
from retune.backbones.hf.files import TOKENIZER_CONFIG, refuse_elsewhere, refuse_tokenizer_elsewhere
from retune.backbones.hub import cached, fetched, from_hub
from retune.backbones.quiet import quiet
from retune.errors import MissingFiles, UnknownName, UserError

CONFIG: Final = "open_clip_config.json"
SAFE_WEIGHTS: Final = "open_clip_model.safetensors"
PICKLED_WEIGHTS: Final = "open_clip_pytorch_model.bin"
NEEDS: Final = f"{CONFIG}, {SAFE_WEIGHTS} (or {PICKLED_WEIGHTS}) and the tokenizer's files"

# The order in which open_clip itself prefers the weights of a folder.
_WEIGHTS: Final = (
    SAFE_WEIGHTS,
    "open_clip_pytorch_model.safetensors",
    PICKLED_WEIGHTS,
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_TOKENIZER_SETTINGS: Final = (
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)
# Read only where there is no tokenizer.json, which holds all of them.
_VOCABULARIES: Final = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
TOKENIZER: Final = "tokenizer/"
"""How the names of a tokenizer's parts begin."""
TEXT_TOWER: Final = "text tower/config.json"

Json = dict[str, Any]


@dataclass(frozen=True)
class ModelFiles:
    """An open_clip model, found but not read.

    Args:
        where: What to name in messages: the configuration file or the model's name.
        architecture: What ``open_clip.create_model`` is asked for: ``local-dir:FOLDER`` or a built-in name.
        model_cfg: open_clip's description of the two towers.
        preprocess_cfg: Mean, standard deviation, interpolation and resizing.
        weights: The checkpoint.
        tokenizer: Folder of a Hugging Face tokenizer; None for open_clip's own.
        text_tower: Folder with the ``config.json`` of a Hugging Face text tower; None for open_clip's own.
        parts: The files that, with the configuration, make the features what they are.
    """

    where: str
    architecture: str
    model_cfg: Json
    preprocess_cfg: Json
    weights: Path
    tokenizer: Path | None = None
    text_tower: Path | None = None
    parts: dict[str, Path] = field(default_factory=dict)


def find_files(name: str) -> ModelFiles:
    """Find the files of ``open_clip:NAME/TAG``, ``hf-hub:ORG/REPO`` or ``local-dir:PATH``.

    Files of the hub are downloaded unless they are in its cache already.

    Raises:
        MissingFiles: If files are missing and cannot be downloaded.
        UnknownName: If open_clip knows no such name or tag.
        UserError: If the name or the configuration is malformed.
    """
    scheme, _, rest = name.partition(":")
    if not rest:
        raise UserError(
            "names no model", where=name, fix="write open_clip:NAME/TAG, hf-hub:ORG/REPO or local-dir:PATH"
        )
    if scheme == "local-dir":
        folder = Path(rest).expanduser()
        return _in_folder(local_folder(rest, f"local-dir:{folder}"))
    if scheme == "hf-hub":
        return _on_hub(rest)
    if scheme == "open_clip":
        return _built_in(rest)
    raise UnknownName("model scheme", scheme, ("hf-hub", "local-dir", "open_clip"))


def _in_folder(folder: Path) -> ModelFiles:
    config = folder / CONFIG
    if not config.is_file():
        raise MissingFiles(f"holds no {CONFIG}", where=str(folder), fix="give a folder in open_clip's format")
    model_cfg, preprocess_cfg = _read_config(config)
    weights = _weights_in(folder)
    if weights is None:
        raise MissingFiles("holds no weights", where=str(folder), fix=f"put {SAFE_WEIGHTS} there")
    text_cfg = model_cfg["text_cfg"]
    text_tower = tokenizer = None
    if text_cfg.get("hf_model_name"):
        beside = folder / text_cfg["hf_model_name"]
        try:
            text_tower = beside if beside.is_dir() else _text_tower_on_hub(text_cfg["hf_model_name"])
        except UserError as error:
            raise MissingFiles(
                f"text_cfg.hf_model_name names no folder beside it, and {error}", where=str(config)
            ) from error
        if not (text_tower / "config.json").is_file():
            raise MissingFiles("holds no config.json of the text tower", where=str(text_tower))
    if text_cfg.get("hf_tokenizer_name"):
        tokenizer = folder
        if not any((folder / name).is_file() for name in ("tokenizer.json", *_VOCABULARIES)):
            raise MissingFiles("holds no tokenizer", where=str(folder), fix="put tokenizer.json there")
    return _with_parts(
        str(config), f"local-dir:{folder}", model_cfg, preprocess_cfg, weights, tokenizer, text_tower
    )


def _on_hub(repository: str) -> ModelFiles:
    config = from_hub(repository, (CONFIG,), needs=NEEDS)
    model_cfg, preprocess_cfg = _read_config(config)
    weights = from_hub(repository, (SAFE_WEIGHTS, PICKLED_WEIGHTS), needs=NEEDS)
    if weights.parent != config.parent:
        raise MissingFiles(
            "its configuration and its weights in the local cache are of two revisions",
            where=f"hf-hub:{repository}",
            fix=f"download both again with 'hf download {repository}'",
        )
    tokenizer, text_tower = _text_side(model_cfg)
    return _with_parts(
        f"hf-hub:{repository}",
        f"local-dir:{config.parent}",
        model_cfg,
        preprocess_cfg,
        weights,
        tokenizer,
        text_tower,
    )


def _built_in(name: str) -> ModelFiles:
    with quiet():
        import open_clip

    model, _, tag = name.rpartition("/")
    model = model or tag
    pairs = open_clip.list_pretrained()
    tags = [known_tag for known, known_tag in pairs if known == model]
    if not tags:
        raise UnknownName("open_clip model", model, {known for known, _ in pairs})
    if not open_clip.is_pretrained_cfg(model, tag):
        raise UnknownName(f"tag of open_clip model {model}", tag if "/" in name else "", tags)
    source = dict(open_clip.get_pretrained_cfg(model, tag))
    model_cfg = open_clip.get_model_config(model)
    if source.get("hf_hub"):
        repository, _, file = source["hf_hub"].rpartition("/")
        safe = Path(file).with_suffix(".safetensors").name if file else SAFE_WEIGHTS
        weights = from_hub(repository, (safe, file or PICKLED_WEIGHTS), needs=NEEDS)
    else:
        weights = _from_url(source["url"], f"open_clip:{name}")
    preprocess_cfg = {
        key: source[key] for key in ("mean", "std", "interpolation", "resize_mode") if source.get(key)
    }
    tokenizer, text_tower = _text_side(model_cfg)
    return _with_parts(f"open_clip:{name}", model, model_cfg, preprocess_cfg, weights, tokenizer, text_tower)


def _with_parts(
    where: str,
    architecture: str,
    model_cfg: Json,
    preprocess_cfg: Json,
    weights: Path,
    tokenizer: Path | None,
    text_tower: Path | None,
) -> ModelFiles:
    parts = {"weights": weights}
    if tokenizer is not None:
        vocabulary = ("tokenizer.json",) if (tokenizer / "tokenizer.json").is_file() else _VOCABULARIES
        for name in (*_TOKENIZER_SETTINGS, *vocabulary):
            if (tokenizer / name).is_file():
                parts[f"{TOKENIZER}{name}"] = tokenizer / name
        refuse_tokenizer_elsewhere(parts.get(f"{TOKENIZER}{TOKENIZER_CONFIG}"))
    if text_tower is not None:
        of_tower = parts[TEXT_TOWER] = text_tower / "config.json"
        if isinstance(config := read_json(of_tower), dict):
            refuse_elsewhere(config, of_tower)
    return ModelFiles(where, architecture, model_cfg, preprocess_cfg, weights, tokenizer, text_tower, parts)


def _read_config(path: Path) -> tuple[Json, Json]:
    config = read_json(path)
    model_cfg = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(model_cfg, dict):
        raise UserError("has no section 'model_cfg'", where=str(path), fix="give open_clip's own format")
    for key, kind in (("embed_dim", int), ("vision_cfg", dict), ("text_cfg", dict)):
        if not isinstance(model_cfg.get(key), kind):
            raise UserError(f"model_cfg has no {key} that is a {_JSON_NAMES[kind]}", where=str(path))
    size = model_cfg["vision_cfg"].get("image_size", 224)
    if not (isinstance(size, int) or (isinstance(size, list) and all(isinstance(s, int) for s in size))):
        raise UserError(f"vision_cfg.image_size is not a number but {size!r}", where=str(path))
    preprocess_cfg = config.get("preprocess_cfg", {})
    if not isinstance(preprocess_cfg, dict):
        raise UserError("preprocess_cfg is not an object", where=str(path))
    _refuse_elsewhere(model_cfg, path)
    return model_cfg, preprocess_cfg


def _refuse_elsewhere(model_cfg: Json, path: Path) -> None:
    """See that an image tower and a tokenizer are described here, and not by files that nothing tells of."""
    tower = model_cfg["vision_cfg"].get("timm_model_name")
    if tower and ":" in str(tower):
        raise UserError(
            f"vision_cfg.timm_model_name names another model's files ({tower})",
            where=str(path),
            fix="write the name of an architecture of timm",
        )
    options = model_cfg["text_cfg"].get("tokenizer_kwargs") or {}
    for key in options if isinstance(options, dict) else ():
        if key.endswith(("_file", "_path")):
            raise UserError(
                f"text_cfg.tokenizer_kwargs names a file to read ({key})",
                where=str(path),
                fix=f"take {key} out, and give the tokenizer's files their usual names",
            )


_JSON_NAMES: Final = {int: "whole number", dict: "JSON object"}


def _weights_in(folder: Path) -> Path | None:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    others = sorted(p for ext in ("*.safetensors", "*.bin", "*.pth") for p in folder.glob(ext))
    return min(others, key=lambda p: p.suffix != ".safetensors") if others else None


def _text_side(model_cfg: Json) -> tuple[Path | None, Path | None]:
    """Folders of the tokenizer and of the text tower's configuration that a model of the hub names."""
    text_cfg = model_cfg["text_cfg"]
    tokenizer = text_tower = None
    if text_cfg.get("hf_tokenizer_name"):
        tokenizer = _tokenizer_on_hub(text_cfg["hf_tokenizer_name"])
    if text_cfg.get("hf_model_name"):
        text_tower = _text_tower_on_hub(text_cfg["hf_model_name"])
    return tokenizer, text_tower


def _text_tower_on_hub(repository: str) -> Path:
    return from_hub(repository, ("config.json",), needs=NEEDS).parent


def _tokenizer_on_hub(repository: str) -> Path:
    vocabularies = ("tokenizer.json", *_VOCABULARIES)
    found = cached(repository, vocabularies)
    if found is not None:
        return found.parent
    # The vocabulary last: once it is there, so is the rest, and the hub is not asked again.
    for name in _TOKENIZER_SETTINGS:
        fetched(repository, (name,), needs=NEEDS)
    if fetched(repository, ("tokenizer.json",), needs=NEEDS) is None:
        for name in reversed(_VOCABULARIES):
            fetched(repository, (name,), needs=NEEDS)
    return from_hub(repository, vocabularies, needs=NEEDS).parent


def _from_url(url: str, where: str) -> Path:
    from open_clip import download_pretrained_from_url

    try:
        with quiet():
            return Path(download_pretrained_from_url(url))
    except (OSError, RuntimeError) as error:
        raise MissingFiles(
            f"its weights cannot be downloaded ({error})", where=where, fix=f"put {url} in ~/.cache/clip"
        ) from error
