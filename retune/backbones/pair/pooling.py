"""How a model of sentence-transformers makes one vector of a text's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from retune.backbones.files import read_json
from retune.backbones.hf.files import SENTENCES
from retune.errors import MissingFiles, UserError

Vector = Literal["pooler", "first", "last", "mean"]
"""The pooler's output, the first or the last word's state, or the mean of all words' states."""

MODULES, POOLING = SENTENCES
_VECTORS: Final[dict[str, Vector]] = {"cls": "first", "lasttoken": "last", "mean": "mean"}


def pooling_of(folder: Path) -> Vector | None:
    """What a model's own files say; None where they are not of sentence-transformers.

    The closing normalisation is left out: vectors of a pair are not normalised.

    Args:
        folder: Where the model lies.

    Raises:
        UserError: If its vectors are made in a way that is not known here.
    """
    if not (folder / MODULES).is_file():
        return None
    modules = read_json(folder / MODULES)
    kinds = [_last(module.get("type")) for module in modules] if isinstance(modules, list) else []
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise UserError(
            f"makes vectors by {', '.join(kinds) or 'nothing'}; retune knows Transformer, Pooling and Normalize",
            where=str(folder / MODULES),
            fix="give a model that ends in its pooling",
        )
    if not (folder / POOLING).is_file():
        raise MissingFiles(f"holds no {POOLING}, which {MODULES} asks for", where=str(folder))
    mode = _mode(read_json(folder / POOLING))
    if mode not in _VECTORS:
        raise UserError(
            f"pools words by {mode}, which retune does not know",
            where=str(folder / POOLING),
            fix=f"give a model that pools by {', '.join(_VECTORS)}",
        )
    return _VECTORS[mode]


def _mode(about: Any) -> str:
    """The mode's name: newer files write it out, older ones have a switch for each."""
    about = about if isinstance(about, dict) else {}
    switches = [key for key, on in about.items() if key.startswith("pooling_mode_") and on is True]
    named = [
        key.removeprefix("pooling_mode_").removesuffix("_token").removesuffix("_tokens") for key in switches
    ]
    return str(about.get("pooling_mode", " and ".join(named) or "nothing"))


def _last(kind: object) -> str:
    return str(kind).rpartition(".")[2]
