"""JSON from strangers: not large, not deep, every key once, every number a number."""

from __future__ import annotations

import json
import os
import re
import stat
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Final

from retune.errors import UserError
from retune.leaderboard.fields import in_ascii

DEPTH: Final = 16
DIGITS: Final = 40
"""Characters that a number may have."""
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""Text, to the end where it is not closed; possessive, so that nothing is read twice."""


def parse(content: bytes, where: str, *, most: int) -> Any:
    """Read a document.

    Args:
        content: Its bytes.
        where: Its name, for messages.
        most: How many bytes it may have.

    Raises:
        UserError: If it is larger or deeper than any honest one, repeats a key, holds NaN or infinity, or is no JSON.
    """
    if len(content) > most:
        raise UserError(f"is larger than {most:,} bytes", where=where)
    if _depth(content) > DEPTH:
        raise UserError(f"is nested more than {DEPTH} deep", where=where)
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=partial(_number, float),
            parse_int=partial(_number, int),
            parse_float=partial(_number, float),
        )
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 text: {error.reason} at byte {error.start:,}", where=where) from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}", where=where
        ) from None
    except ValueError as error:
        raise UserError(f"is not plain JSON: {error}", where=where) from None


def _depth(content: bytes) -> int:
    """How deep brackets are nested, wherever they stand outside of text."""
    depth = deepest = 0
    for byte in re.findall(rb"[\[\]{}]", _STRING.sub(b"", content)):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key '{in_ascii(name, 60)}' stands twice")
        found[name] = value
    return found


def _number(kind: type[int | float], text: str) -> int | float:
    if len(text) > DIGITS:
        raise ValueError(f"a number has {len(text):,} digits")
    value = kind(text)
    if not isfinite(value):
        raise ValueError(f"the number {text} is not finite")
    return value


def plain_content(file: Path, where: str, *, most: int) -> bytes | None:
    """A file's bytes; None where there is none.

    Opened first and looked at then, so that nothing can take its place in between; without waiting, so that a pipe
    that nobody writes to holds nothing up.

    Args:
        file: Where it is.
        where: Its name, for messages.
        most: How many bytes it may have.

    Raises:
        UserError: If it is no plain file, larger, or cannot be read.
    """
    try:
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = "it is a link" if file.is_symlink() else error.strerror
        raise UserError(f"cannot be read ({reason})", where=where) from None
    told = os.fstat(handle)
    if not stat.S_ISREG(told.st_mode):
        os.close(handle)
        raise UserError("is not a file but a folder, a pipe or a device", where=where)
    with open(handle, "rb") as opened:
        if told.st_size > most:
            raise UserError(f"is larger than {most:,} bytes", where=where)
        # No more than it had then: it may grow, and as much is set aside at once as is asked for.
        return opened.read(told.st_size)
