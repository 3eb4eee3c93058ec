"""Models, image processors and tokenizers of transformers, loaded offline, whole and without foreign code."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from retune.backbones.hf.files import HfFiles
from retune.backbones.quiet import quiet
from retune.errors import UserError, gist, install

_SAFE: Final[dict[str, Any]] = {"local_files_only": True, "trust_remote_code": False}
Loaded = TypeVar("Loaded")


def load_config(files: HfFiles) -> Any:
    """The configuration with all its defaults filled in.

    Raises:
        UserError: If transformers cannot use it.
    """

    def load() -> Any:
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(files.folder, **_SAFE)

    return _told(load, "transformers cannot use its config.json", files.where)


def load_model(files: HfFiles) -> Any:
    """The model with float32 weights, frozen, in evaluation mode, on the CPU.

    Raises:
        UserError: If the weights are damaged, do not fit the configuration or do not fill it.
    """

    def load() -> tuple[Any, dict[str, Any]]:
        from transformers import AutoModel

        # weights_only: a pickle that would run code is refused.
        model, report = AutoModel.from_pretrained(
            files.folder, output_loading_info=True, weights_only=True, **_SAFE
        )
        return model, report

    model, report = _told(load, "its weights do not fit its configuration or are damaged", files.where)
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        raise UserError(
            f"its weights do not fit its configuration: {len(missing)} are missing, e.g. {missing[0]}",
            where=files.where,
        )
    return model.float().eval().requires_grad_(False)


def load_image_processor(files: HfFiles) -> Any:
    """The image processor that works with Pillow, whose resizing is the same everywhere.

    Raises:
        UserError: If transformers cannot use its settings.
    """

    def load() -> Any:
        import transformers

        newer = int(transformers.__version__.split(".")[0]) >= 5
        pillow: dict[str, Any] = {"backend": "pil"} if newer else {"use_fast": False}
        return transformers.AutoImageProcessor.from_pretrained(files.folder, **pillow, **_SAFE)

    return _told(load, "transformers cannot use its image processor's settings", files.where)


def load_tokenizer(files: HfFiles) -> Any:
    """The tokenizer.

    Raises:
        UserError: If its files are damaged or it needs a package that is not there.
    """

    def load() -> Any:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(files.folder, **_SAFE)
        tokenizer(["a"])
        return tokenizer

    try:
        return _told(load, "its tokenizer cannot be loaded", files.where)
    except UserError:
        trained = [name for name in files.parts if name.endswith(".model")]
        if trained and importlib.util.find_spec("sentencepiece") is None:
            raise UserError(
                f"its tokenizer ({trained[0]}) needs the package sentencepiece",
                where=files.where,
                fix=install("sentencepiece"),
            ) from None
        raise


def _told(load: Callable[[], Loaded], what: str, where: str) -> Loaded:
    try:
        with quiet(), _no_bars():
            return load()
    except Exception as error:
        raise UserError(f"{what} ({gist(error)})", where=where) from error


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
