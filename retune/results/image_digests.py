"""Names of images that tell nothing to who does not have them: digests, salted before they are published."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

WIDTH: Final = 16
"""Bytes of a digest: two of a million images agree with a probability of 1e-27."""

Digests = npt.NDArray[np.uint8]


def digests(image_ids: Sequence[object]) -> Digests:
    """What a run keeps of its images' identifiers: the beginning of their SHA-256; uint8 (N, WIDTH)."""
    return _stacked([hashlib.sha256(str(name).encode()).digest() for name in image_ids])


def salted(plain: Digests, salt: str) -> Digests:
    """What is published instead, so that lists of different origin cannot be matched by looking.

    Whoever has the images can tell which they are. Identifiers that can be counted through can be tried by anyone
    who knows the salt: this hides names from readers, it does not make a secret of a public test set.

    Args:
        plain: uint8 (N, WIDTH), of :func:`digests`.
        salt: Any text.
    """
    return _stacked([hashlib.sha256(salt.encode() + b"\0" + row.tobytes()).digest() for row in plain])


def _stacked(found: Sequence[bytes]) -> Digests:
    cut = b"".join(digest[:WIDTH] for digest in found)
    return np.frombuffer(cut, dtype=np.uint8).reshape(len(found), WIDTH).copy()
