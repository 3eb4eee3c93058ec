"""A part of a run as it is given from Python: by its name, as a class, or as an instance, whose settings then count."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final

from retune.errors import UserError
from retune.plugins import NOTEBOOK, Kind, is_file, is_ours, registry
from retune.settings import values_of

NEW: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        "strategies": "strategy",
        "scenarios": "scenario",
        "datasets": "dataset",
        "backbones": "backbone",
        "metrics": "metric",
    }
)
"""What ``retune new`` writes one of each kind with."""


@dataclass(frozen=True)
class Part:
    """A part by its name.

    Args:
        name: As on the command line; one of a notebook is known to this process alone.
        settings: What an instance is set to; of a backbone its device and its precision, where they were set.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def part(kind: Kind, given: object, where: str, *, elsewhere: bool = False) -> Part:
    """Turn a name, a class or an instance into a name and settings.

    Args:
        kind: Of the part.
        given: What stands for it.
        where: The option that it is given to, for messages.
        elsewhere: Whether other processes must find it, too.

    Raises:
        UserError: If it is none of this kind, or cannot be made anew from its name and settings.
    """
    if isinstance(given, str | PurePath):
        return Part(str(given))
    known = registry(kind)
    cls = given if isinstance(given, type) else type(given)
    if not known.has(cls):
        raise UserError(takes(kind, given), where=where, fix=begin(kind) if callable(given) else None)
    name = known.hold(cls)
    if is_file(name) and is_ours(cls):
        # One of a family, such as open_clip's models or Avalanche's strategies, says by what name it is made.
        name = str(getattr(given, "name", ""))
        if not name:
            raise UserError(f"{cls.__name__} is made from a name", where=where, fix="give that name")
    if kind == "transfers" and (is_file(name) or name.startswith(NOTEBOOK)):
        raise UserError(f"{cls.__name__} is not installed", where=where, fix="give its file: 'FILE.py'")
    if elsewhere and (name.startswith(NOTEBOOK) or cls.__module__ == "__main__"):
        raise UserError(
            f"{cls.__name__} is of this notebook or script alone, and a suite's runs have processes of their own",
            where=where,
            fix="write the class to a file of its own, and import it from there or give 'FILE.py'",
        )
    return Part(name, {} if isinstance(given, type) else _settings(kind, given, where))


def takes(kind: Kind, given: object) -> str:
    """What may be given for a part, where something else was."""
    what = f"class {given.__name__}" if isinstance(given, type) else type(given).__name__
    return f"takes a name, 'FILE.py', a {registry(kind).noun}'s class or an instance of one, not this {what}"


def begin(kind: Kind) -> str | None:
    """How one begins with a part of one's own."""
    return f"write one with 'retune new {NEW[kind]} NAME'" if kind in NEW else None


def _settings(kind: Kind, given: Any, where: str) -> dict[str, Any]:
    """What an instance is set to, where one like it can be made."""
    cls = type(given)
    if kind == "backbones":
        if not is_ours(cls) and inspect.signature(cls).parameters:
            raise UserError(
                f"{cls.__name__} takes arguments, and a run makes its backbone without any",
                where=where,
                fix=f"write a class that sets them: class Mine({cls.__name__})",
            )
        return {
            key: value
            for key in ("device", "precision")
            if (value := getattr(given, key)) != getattr(cls, key)
        }
    settings = values_of(given)
    if kind == "metrics":
        if settings != values_of(cls()):
            raise UserError(
                f"{cls.__name__} is set to {settings}, and a metric is a number without settings",
                where=where,
                fix=f"write a class for each: class Mine({cls.__name__})",
            )
        return {}
    return settings
