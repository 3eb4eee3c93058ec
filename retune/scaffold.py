"""Starting points for plugins of one's own."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Final

from retune.errors import BadSetting, UserError
from retune.files import write_whole
from retune.plugins import Kind, registry

TEMPLATES: Final[dict[Kind, str]] = {
    "strategies": "mean-shift",
    "scenarios": "young-to-old",
    "datasets": "our-hospital",
    "backbones": "two-towers",
    "metrics": "worst-label",
}
"""One that works of each kind, in ``retune/templates``."""
WITH_MEMORY: Final = "keeps-some"
"""A strategy that keeps samples of past patients."""


def starting_point(name: str, template: str = TEMPLATES["strategies"]) -> str:
    """The text of a new plugin, which works as it is.

    Args:
        name: Of the plugin, e.g. ``my-method``.
        template: Name of the template.
    """
    text = files("retune.templates").joinpath(f"{_module(template)}.py").read_text(encoding="utf-8")
    return (
        text.replace(template, name)
        .replace(_module(template), _module(name))
        .replace(_class(template), _class(name))
    )


def new_strategy(name: str, out: str | Path | None = None, *, memory: bool = False) -> Path:
    """Write a starting point for a strategy of one's own; see :func:`new`.

    Args:
        name: In lower case with dashes, e.g. ``my-method``.
        out: The file; ``my_method.py`` where left out.
        memory: Whether it keeps samples of past patients.
    """
    return new("strategies", name, out, template=WITH_MEMORY if memory else TEMPLATES["strategies"])


def new_scenario(name: str, out: str | Path | None = None) -> Path:
    """Write a starting point for a scenario of one's own; see :func:`new`."""
    return new("scenarios", name, out)


def new_dataset(name: str, out: str | Path | None = None) -> Path:
    """Write a starting point for a reader of one's own; see :func:`new`."""
    return new("datasets", name, out)


def new_backbone(name: str, out: str | Path | None = None) -> Path:
    """Write a starting point for a backbone of one's own; see :func:`new`."""
    return new("backbones", name, out)


def new_metric(name: str, out: str | Path | None = None) -> Path:
    """Write a starting point for a metric of one's own; see :func:`new`."""
    return new("metrics", name, out)


def new(kind: Kind, name: str, out: str | Path | None = None, *, template: str | None = None) -> Path:
    """Write a starting point for a plugin of one's own.

    Args:
        kind: Of the plugin.
        name: In lower case with dashes, e.g. ``my-method``.
        out: The file; ``my_method.py`` where left out.
        template: Name of the template; the kind's where left out.

    Returns:
        The file.

    Raises:
        UserError: If the name is none or taken, or the file is there already or cannot be written.
    """
    noun = registry(kind).noun
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        meant = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789") or TEMPLATES[kind]
        raise BadSetting(f"'{name}' is no name of a {noun}", fix=f"write it like {meant}, in lower case")
    if name in registry(kind).names():
        raise UserError(f"there is a {noun} called '{name}'", fix="choose another name")
    file = Path(out or f"{_module(name)}.py").expanduser()
    if file.suffix != ".py":
        raise BadSetting(f"'{file}' is no Python file", where="--out", fix="let it end in .py")
    if file.exists():
        raise UserError("is there already", where=str(file), fix="give another file with --out")
    if not file.parent.is_dir():
        raise UserError(f"there is no folder {file.parent}", where="--out", fix="make it first")
    write_whole(file, starting_point(name, template or TEMPLATES[kind]).encode())
    return file


def _module(name: str) -> str:
    return name.replace("-", "_")


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))
