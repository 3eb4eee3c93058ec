"""Prompt banks: for every finding, sentences that say it is there and sentences that say it is not."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retune.prompts.bank import Prompt, PromptBank, Source, load, names

__all__ = ["Prompt", "PromptBank", "Source", "load", "names"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("retune.prompts.bank"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
