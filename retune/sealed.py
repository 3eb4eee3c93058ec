"""Files that carry a digest of what they say, so that what is read back is what was written, or is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from retune.errors import UserError
from retune.files import parse_json, read_small

DIGEST: Final = "digest"
AGAIN: Final = "remove that file and issue the run's command again"


class Untrusted(UserError):
    """A file of retune's own that is not as it was written, or not of what it lies with."""


def seal_json(document: Mapping[str, Any], *, indent: int | None = 1) -> bytes:
    """A document as JSON whose last key is the digest of everything else.

    Args:
        document: Values that JSON knows.
        indent: Blanks before what stands in it; None for all in one line.
    """
    # Through JSON first: a tuple there is a list, and a key a text.
    plain = json.loads(json.dumps(document, allow_nan=False))
    plain.pop(DIGEST, None)
    return (json.dumps({**plain, DIGEST: _of_json(plain)}, indent=indent, ensure_ascii=False) + "\n").encode()


def open_json(path: Path, *, fix: str = AGAIN) -> dict[str, Any]:
    """A sealed document, without its digest.

    Args:
        path: The file.
        fix: What to do where it cannot be trusted.

    Raises:
        Untrusted: If it is not what was written.
        OSError: If it cannot be read.
    """
    try:
        document = parse_json(read_small(path).decode(), once=True)
    except ValueError:
        raise _damaged(path, fix) from None
    return unsealed(document, path, fix=fix)


def unsealed(document: Any, path: Path, *, fix: str) -> dict[str, Any]:
    """What was read of a sealed document, without its digest.

    Args:
        document: What was read.
        path: Of which file.
        fix: What to do where it cannot be trusted.

    Raises:
        Untrusted: If it is not what was written.
    """
    plain = dict(document) if isinstance(document, dict) else {}
    digest = plain.pop(DIGEST, None)
    try:
        found = _of_json(plain)
    except (ValueError, RecursionError):
        raise _damaged(path, fix) from None
    _require(path, digest, found, fix)
    return plain


def seal_tensors(data: bytes) -> tuple[bytes, str]:
    """The bytes of a safetensors file with the digest of all of it in its metadata, and that digest."""
    header, values = _parts(data)
    told = {key: value for key, value in header.get("__metadata__", {}).items() if key != DIGEST}
    header["__metadata__"] = told
    digest = _of_tensors(header, values)
    header["__metadata__"] = {**told, DIGEST: digest}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    # The format wants values to begin at a multiple of eight.
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, values)), digest


def open_tensors(path: Path, *, fix: str = AGAIN) -> tuple[bytes, dict[str, str]]:
    """The bytes of a sealed safetensors file, and its metadata.

    Args:
        path: The file.
        fix: What to do where it cannot be trusted.

    Raises:
        Untrusted: If it is not what was written.
        OSError: If it cannot be read.
    """
    data = path.read_bytes()
    return data, unsealed_tensors(data, path, fix=fix)


def unsealed_tensors(data: bytes, path: Path, *, fix: str) -> dict[str, str]:
    """The metadata of what was read of a sealed safetensors file.

    Args:
        data: What was read.
        path: Of which file.
        fix: What to do where it cannot be trusted.

    Raises:
        Untrusted: If it is not what was written.
    """
    try:
        header, values = _parts(data)
        metadata = header.get("__metadata__", {})
        digest = metadata.pop(DIGEST, None)
        header["__metadata__"] = metadata
        found = _of_tensors(header, values)
    except (ValueError, RecursionError, AttributeError, TypeError):
        raise _damaged(path, fix) from None
    _require(path, digest, found, fix)
    return {**metadata, DIGEST: found}


def _of_json(document: Any) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _of_tensors(header: Mapping[str, Any], values: memoryview) -> str:
    digest = hashlib.sha256(_of_json(header).encode())
    digest.update(values)
    return digest.hexdigest()


def _parts(data: bytes) -> tuple[dict[str, Any], memoryview]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 + length:
        raise ValueError("cut short")
    header: dict[str, Any] = parse_json(data[8 : 8 + length].decode(), once=True)
    return header, memoryview(data)[8 + length :]


def _require(path: Path, digest: object, found: str, fix: str) -> None:
    if digest is None:
        raise Untrusted("made by an earlier version, or damaged: it has no digest", where=str(path), fix=fix)
    if digest != found:
        raise _damaged(path, fix)


def _damaged(path: Path, fix: str) -> Untrusted:
    return Untrusted("is not as it was written: it was changed or damaged", where=str(path), fix=fix)
