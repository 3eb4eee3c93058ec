"""A strategy's state in a file: tensors under ``state.``, the rest as JSON beside them, sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from retune.errors import StrategyError, UserError, gist
from retune.files import parse_json
from retune.methods.strategy import State
from retune.prompts import PromptBank, names
from retune.prompts import load as load_bank
from retune.results.result import PROMPTS_FILE, Result
from retune.sealed import DIGEST, Untrusted, seal_tensors, unsealed_tensors

STATE: Final = "state."
"""Before the name of a tensor of the state."""


@dataclass(frozen=True)
class Kept:
    """What was read of such a file.

    Args:
        state: The strategy's.
        about: What else the file says, as JSON values.
        beside: Its other tensors.
        digest: Of the whole file.
    """

    state: State
    about: dict[str, Any]
    beside: dict[str, torch.Tensor]
    digest: str


def pack(
    state: State, about: Mapping[str, Any], beside: Mapping[str, torch.Tensor] | None = None
) -> tuple[bytes, str]:
    """The bytes of a file that holds a state, and their digest.

    Args:
        state: The strategy's.
        about: What else is to be said, as JSON values.
        beside: Other tensors.

    Raises:
        StrategyError: If the state cannot be stored.
    """
    tensors = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
    plain = {k: v for k, v in state.items() if k not in tensors}
    try:
        # Clones: the format refuses tensors that share memory.
        arrays = {f"{STATE}{k}": v.detach().clone().contiguous() for k, v in tensors.items()}
        arrays |= {k: v.contiguous() for k, v in (beside or {}).items()}
        data = save(arrays, {"retune": json.dumps({**about, "state": plain})})
    except (SafetensorError, RuntimeError, TypeError, ValueError, KeyError) as error:
        raise StrategyError(f"the state cannot be stored ({gist(error)})") from error
    return seal_tensors(data)


def unpack(data: bytes, path: Path, what: str, *, fix: str) -> Kept:
    """What :func:`pack` made.

    Args:
        data: What was read.
        path: Of which file.
        what: What it should be, for messages.
        fix: What to do where it is not.

    Raises:
        Untrusted: If it is not as it was written, or something else.
    """
    metadata = unsealed_tensors(data, path, fix=fix)
    try:
        about, tensors = parse_json(metadata["retune"]), load(data)
        plain = dict(about.pop("state"))
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        raise Untrusted(f"is no {what}", where=str(path), fix=fix) from None
    state = {key.removeprefix(STATE): value for key, value in tensors.items() if key.startswith(STATE)}
    beside = {key: value for key, value in tensors.items() if not key.startswith(STATE)}
    return Kept({**state, **plain}, about, beside, metadata[DIGEST])


def keep_prompts(bank: PromptBank, folder: Path) -> None:
    """Write a bank into a run's folder, unless retune brings it."""
    if bank.name not in names() or load_bank(bank.name).fingerprint != bank.fingerprint:
        bank.write(folder / PROMPTS_FILE)


def kept_prompts(result: Result, folder: Path) -> PromptBank:
    """The prompts of a run.

    Raises:
        UserError: If they are not here as they were.
    """
    file, told = folder / PROMPTS_FILE, result.prompts
    bank = PromptBank.read(file, told.name) if file.exists() else load_bank(told.name)
    if bank.fingerprint != told.fingerprint:
        raise UserError(
            f"the prompts '{told.name}' here are not those that it used",
            where=str(folder),
            fix="run it again with this version of retune",
        )
    return bank
