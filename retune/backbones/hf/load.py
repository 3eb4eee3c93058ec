"""Models, image processors and tokenizers of transformers, loaded offline, whole and without foreign code."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from retune.backbones.hf.files import HfFiles, shown
from retune.backbones.quiet import quiet
from retune.backbones.told import told
from retune.errors import UserError, install

_SAFE: Final[dict[str, Any]] = {"local_files_only": True, "trust_remote_code": False}
Loaded = TypeVar("Loaded")


def load_config(files: HfFiles) -> Any:
    """The configuration with all its defaults filled in.

    Raises:
        UserError: If transformers cannot use it.
    """

    def load(folder: Path) -> Any:
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(folder, **_SAFE)

    return with_files(load, "transformers cannot use its config.json", files)


def load_model(files: HfFiles) -> Any:
    """The model with float32 weights, frozen, in evaluation mode, on the CPU.

    Raises:
        UserError: If the weights are damaged, do not fit the configuration or do not fill it.
    """
    model, report = loaded(class_of("AutoModel", files), files, config=load_config(files))
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        raise UserError(
            f"its weights do not fit its configuration: {len(missing)} are missing, e.g. {missing[0]}",
            where=files.where,
        )
    return model.float().eval().requires_grad_(False)


def load_strictly(model: Any, files: HfFiles, **options: Any) -> Any:
    """As :func:`load_model`, with a class of transformers; masks of pre-training alone may be missing.

    Args:
        model: The class.
        files: Where its weights lie.
        options: Further arguments of ``from_pretrained``.

    Raises:
        UserError: If weights are missing, damaged, or of other shapes.
    """
    model, report = loaded(model, files, **options)
    missing = sorted(key for key in report["missing_keys"] if not key.endswith("mask_token"))
    if missing or report["mismatched_keys"]:
        names = ", ".join(missing[:3] or sorted(str(key) for key in report["mismatched_keys"])[:3])
        raise UserError(f"its weights do not fit its configuration (no {names})", where=files.where)
    return model.float().eval().requires_grad_(False)


def loaded(model: Any, files: HfFiles, **options: Any) -> tuple[Any, dict[str, Any]]:
    """What ``from_pretrained`` makes of a class and these files, and its notes on the weights."""

    def load(folder: Path) -> tuple[Any, dict[str, Any]]:
        import torch

        # weights_only: a pickle that would run code is refused.
        found: tuple[Any, dict[str, Any]] = model.from_pretrained(
            folder,
            output_loading_info=True,
            weights_only=True,
            dtype=torch.float32,
            **_SAFE,
            **options,
        )
        return found

    return with_files(load, "its weights do not fit its configuration or are damaged", files)


def class_of(name: str, files: HfFiles) -> Any:
    """A class of transformers.

    Raises:
        UserError: If the installed version lacks it.
    """
    with quiet():
        import transformers

        found = getattr(transformers, name, None)
    if found is None:
        raise UserError(
            f"needs {name}, which transformers {transformers.__version__} lacks",
            where=files.where,
            fix="pip install --upgrade transformers",
        )
    return found


def config_of(model: Any, files: HfFiles) -> Any:
    """A model's configuration as its class in transformers understands it.

    Raises:
        UserError: If it has impossible values.
    """
    return with_files(
        lambda folder: model.config_class.from_pretrained(folder, local_files_only=True),
        "transformers cannot use its config.json",
        files,
    )


def kind_of(files: HfFiles, kinds: dict[str, Any], noun: str) -> Any:
    """The entry of a model's type in a table of known ones.

    Raises:
        UserError: If the type is not among them.
    """
    kind = files.config.get("model_type")
    if kind not in kinds:
        raise UserError(
            f"is no {noun} that retune knows: its model_type is {kind!r}",
            where=files.where,
            fix=f"give one of {', '.join(kinds)}",
        )
    return kinds[kind]


def refuse_code(files: HfFiles, *settings: str) -> None:
    """See that no processor or tokenizer brings its own code: transformers would quietly take another.

    Args:
        files: The model.
        settings: Names of the files that could ask for it.

    Raises:
        UserError: If one does.
    """
    for path in (files.parts[name] for name in settings if name in files.parts):
        if '"auto_map"' in path.read_text(encoding="utf-8", errors="replace"):
            raise UserError(
                "needs Python code that comes with the model (auto_map), which retune never runs",
                where=str(path),
                fix="use one whose processor and tokenizer are part of transformers",
            )


def load_image_processor(files: HfFiles) -> Any:
    """The image processor that works with Pillow, whose resizing is the same everywhere.

    Raises:
        UserError: If transformers cannot use its settings.
    """

    def load(folder: Path) -> Any:
        import transformers

        newer = int(transformers.__version__.split(".")[0]) >= 5
        pillow: dict[str, Any] = {"backend": "pil"} if newer else {"use_fast": False}
        return transformers.AutoImageProcessor.from_pretrained(folder, **pillow, **_SAFE)

    return with_files(load, "transformers cannot use its image processor's settings", files)


def load_tokenizer(files: HfFiles) -> Any:
    """The tokenizer.

    Raises:
        UserError: If its files are damaged or it needs a package that is not there.
    """

    def load(folder: Path) -> Any:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, **_SAFE)
        settle(tokenizer, files.folder)
        tokenizer(["a"])
        for name in tokenizer.vocab_files_names.values():
            if (files.folder / name).is_file() and name not in files.parts:
                raise UserError(
                    f"its tokenizer reads {name}, which retune does not know",
                    where=files.where,
                    fix="save it with tokenizer.json",
                )
        return tokenizer

    try:
        return with_files(load, "its tokenizer cannot be loaded", files)
    except UserError:
        trained = [name for name in files.parts if name.endswith(".model")]
        if trained and importlib.util.find_spec("sentencepiece") is None:
            raise UserError(
                f"its tokenizer ({trained[0]}) needs the package sentencepiece",
                where=files.where,
                fix=install("sentencepiece"),
            ) from None
        raise


def settle(tokenizer: Any, home: Path) -> None:
    """See that a tokenizer gives the same words every time, and can be copied.

    Args:
        tokenizer: Of transformers, just loaded.
        home: Where its files lie.

    Raises:
        UserError: If it draws lots, as it may in training.
    """
    fast = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    lots = {name: getattr(fast, name, None) for name in ("dropout", "alpha", "nbest_size")}
    lots |= getattr(tokenizer, "sp_model_kwargs", None) or {}
    for name in ("dropout", "alpha", "nbest_size", "enable_sampling"):
        if lots.get(name):
            raise UserError(
                f"its tokenizer cuts a text otherwise every time ({name} = {lots[name]})",
                where=str(home),
                fix=f"take {name} out of its tokenizer's files",
            )
    if isinstance(file := getattr(tokenizer, "vocab_file", None), str):
        # A copy of SentencePiece's reads it again.
        tokenizer.vocab_file = str(home / Path(file).name)


def with_files(load: Callable[[Path], Loaded], what: str, files: HfFiles) -> Loaded:
    """Let transformers work in silence on what the fingerprint knows of a model, and tell in one line what it raises.

    Args:
        load: Makes something of a folder.
        what: What to say where it cannot.
        files: The model.

    Raises:
        UserError: With ``what`` and the gist of the error.
    """
    with quiet(), _no_bars(), shown(files) as folder, told(what, files.where, behind=folder):
        return load(folder)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Let transformers draw no progress bars."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()
