"""What files of models in every format are asked: JSON, digests, the number of parameters."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from retune.cache import file_digests
from retune.errors import MissingFiles, UserError
from retune.files import parse_json, read_small

if TYPE_CHECKING:
    import torch

_BUFFERS: Final = (
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "position_ids",
    "token_type_ids",
    "attn_mask",
)
"""How the names of tensors end that are no parameters."""


def local_folder(path: str, where: str) -> Path:
    """The folder of a model on this machine.

    Raises:
        MissingFiles: If there is none.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise MissingFiles("there is no such folder", where=where)
    return folder


def read_json(path: Path) -> Any:
    """What a file of JSON holds.

    Raises:
        UserError: If it is none, or cannot be read.
    """
    try:
        return parse_json(read_small(path))
    except (OSError, ValueError) as error:
        raise UserError(f"is not JSON ({error})", where=str(path)) from error


def digests(parts: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file, 64 hex digits.

    Raises:
        MissingFiles: If one cannot be read.
    """
    found: dict[str, str] = {}
    for (part, path), digest in zip(parts.items(), file_digests(list(parts.values())), strict=True):
        if digest is None:
            raise MissingFiles("cannot be read", where=str(path))
        found[part] = digest.hex()
    return found


@contextmanager
def folder_of(parts: Mapping[str, Path], written: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A folder of what a fingerprint knows of a model, and no more: nothing else can act on its features.

    Libraries look for many more files beside a model's than are listed here, others in every version.

    Args:
        parts: Files by the names that the library looks for.
        written: Texts of further files.
    """
    with TemporaryDirectory(prefix="retune-") as name:
        folder = Path(name)
        for part, path in parts.items():
            (folder / part).symlink_to(path.absolute())
        for part, text in (written or {}).items():
            (folder / part).write_text(text, encoding="utf-8")
        yield folder


def fingerprint(about: Mapping[str, Any]) -> str:
    """SHA-256 of what a backbone is, as JSON."""
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()


def tensor_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of tensors with their names, shapes and types."""
    from safetensors.torch import save

    return hashlib.sha256(save({name: one.contiguous() for name, one in weights.items()})).hexdigest()


def is_parameter(name: str) -> bool:
    """Whether a tensor of a checkpoint, by its name, is a parameter rather than a buffer."""
    return not name.endswith(_BUFFERS)


def count_parameters(weights: Path) -> int:
    """Parameters in a safetensors file, by its header.

    Raises:
        UserError: If it is none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="np") as file:
            names = filter(is_parameter, file.keys())
            return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except (SafetensorError, OSError) as error:
        raise UserError("is not a safetensors file", where=str(weights), fix="download it again") from error
