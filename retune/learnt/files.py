"""Which pictures are meant by files, folders and lists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from retune.errors import MissingFiles, UserError
from retune.files import read_small

LIST: Final = ".txt"
"""A file of this ending holds the paths of images, a line each; a line that begins with ``# `` is a comment."""


def listed(given: Sequence[Path], out: Path | None) -> list[Path]:
    """Every file once, however it is named; those of a folder by name; hidden ones and the output are none.

    Args:
        given: Files, folders, and lists of files.
        out: What will be written.

    Raises:
        MissingFiles: If something named is not there, or nothing is left.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
            found += [p for p in inside if not _hidden(p.relative_to(path))]
        elif not path.exists():
            raise MissingFiles("is not there", where=str(path), fix="give files or folders of pictures")
        elif path.suffix == LIST:
            found += _named(path)
        else:
            found.append(path)
    if out is not None and out.exists():
        found = [path for path in found if not (path.exists() and path.samefile(out))]
    if not found:
        raise MissingFiles("holds no file", where=", ".join(map(str, given)) or "IMAGES", fix="name pictures")
    once: dict[str, Path] = {}
    for path in found:
        once.setdefault(os.path.abspath(path), path)
    return list(once.values())


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _named(path: Path) -> list[Path]:
    """The paths that a file names, relative to its folder."""
    if not path.is_file():
        raise UserError("is not a file but a pipe or a device", where=str(path))
    try:
        lines = read_small(path).decode().splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError("is no text", where=str(path), fix="write a path in each line, as UTF-8") from None
    named = [line.strip() for line in lines if not f"{line} ".startswith("# ")]
    return [path.parent / name for name in named if name]
