"""Starting points for plugins of one's own."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Final

from retune.errors import BadSetting, UserError
from retune.files import write_whole
from retune.plugins import registry

TEMPLATE: Final = "mean-shift"
"""A strategy that works, in ``retune/templates``."""


def starting_point(name: str) -> str:
    """The text of a new strategy, which works as it is.

    Args:
        name: Of the strategy, e.g. ``my-method``.
    """
    text = files("retune.templates").joinpath(f"{_module(TEMPLATE)}.py").read_text(encoding="utf-8")
    return text.replace(TEMPLATE, name).replace(_class(TEMPLATE), _class(name))


def new_strategy(name: str, out: str | Path | None = None) -> Path:
    """Write a starting point for a strategy of one's own.

    Args:
        name: In lower case with dashes, e.g. ``my-method``.
        out: The file; ``my_method.py`` where left out.

    Returns:
        The file.

    Raises:
        UserError: If the name is none or taken, or the file is there already or cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise BadSetting(f"'{name}' is no name of a strategy", fix="write it like my-method, in lower case")
    if name in registry("strategies").names():
        raise UserError(f"there is a strategy called '{name}'", fix="choose another name")
    file = Path(out or f"{_module(name)}.py").expanduser()
    if file.suffix != ".py":
        raise BadSetting(f"'{file}' is no Python file", where="--out", fix="let it end in .py")
    if file.exists():
        raise UserError("is there already", where=str(file), fix="give another file with --out")
    if not file.parent.is_dir():
        raise UserError(f"there is no folder {file.parent}", where="--out", fix="make it first")
    write_whole(file, starting_point(name).encode())
    return file


def _module(name: str) -> str:
    return name.replace("-", "_")


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))
