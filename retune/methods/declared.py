"""What a strategy's class says of itself, seen before anything is made of it: a slip there is silent later on."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Set
from typing import Any, Final

from retune.backbones.base import MEANINGS
from retune.errors import UnknownName, UserError
from retune.methods.given import OF_DATA
from retune.methods.strategy import Strategy
from retune.settings import settings_of

NOT_IN_A_PATH: Final = re.compile(r"""[\x00-\x1f\x7f/\\<>"|?*]|^[\s.-]|\s$""")
LONGEST: Final = 100
"""Letters of a name, which stands in the names of folders beside others."""

ABOUT: Final = (
    "name",
    "version",
    "paper",
    "needs",
    "presets",
    "sees_everything",
    "floor",
    "keeps_samples",
    "statistics",
)
"""Of a class, and no setting of it."""


def require_declared(cls: type[Strategy], owner: str) -> None:
    """See that a strategy's class is in order: its name, its version, its needs, its settings.

    Args:
        cls: The class.
        owner: How it was asked for.

    Raises:
        UserError: Says what is not.
    """
    where = f"strategy {owner}"
    for attribute in ("name", "version"):
        value = getattr(cls, attribute, None)
        if not isinstance(value, str) or not value:
            raise UserError(
                f"{cls.__name__} lacks a {attribute}", where=where, fix=f"add {attribute} = 'text'"
            )
    if NOT_IN_A_PATH.search(cls.name) or len(cls.name.encode()) > LONGEST:
        raise UserError(
            f"its name {cls.name!r} does not fit a path", where=where, fix="write it like name = 'my-method'"
        )
    require_needs(cls.needs, owner)
    lost = list(_lost(cls))
    if lost:
        raise UserError(
            f"{cls.__name__} has {', '.join(lost)}, which {'is' if len(lost) == 1 else 'are'} no setting",
            where=where,
            fix=f"write @dataclass above class {cls.__name__}, or ClassVar where it is none",
        )
    for setting in settings_of(cls):
        _require_setting(setting.name, setting.default, where)


def require_needs(needs: object, owner: str) -> None:
    """See that what a strategy needs is something that there is.

    Raises:
        UserError: If it is not; the nearest names are told.
    """
    where = f"strategy {owner}"
    if not isinstance(needs, Set) or not all(isinstance(need, str) for need in needs):
        raise UserError(
            f"needs {needs!r}, which is no set of names",
            where=where,
            fix='write needs = frozenset({"features"})',
        )
    known = {*MEANINGS, *OF_DATA}
    for need in sorted(needs - known):
        raise UnknownName("need", need, known, where=where)


def described(cls: type[Strategy]) -> bool:
    """Whether there is a docstring, of the file or of the class, for ``retune show`` to print."""
    # A dataclass without one is given its signature.
    own = (
        k.__doc__
        for k in _own(cls)
        if k.__doc__ and not (dataclasses.is_dataclass(k) and k.__doc__.startswith(f"{k.__name__}("))
    )
    return any(own) or bool(inspect.getdoc(inspect.getmodule(cls)))


def _own(cls: type[Strategy]) -> list[type[Any]]:
    """A class and what it builds on, short of the contract."""
    return [k for k in cls.__mro__ if issubclass(k, Strategy) and k is not Strategy]


def _lost(cls: type[Strategy]) -> Iterator[str]:
    """What looks like a setting and is none: fields and arguments of a class that is no dataclass."""
    known: set[str] = {f.name for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    of_class = [
        name
        for k in _own(cls)
        for name, hint in vars(k).get("__annotations__", {}).items()
        if name in vars(k) and not name.startswith("_") and name not in ABOUT and not _is_constant(hint)
    ]
    maker = next(k for k in cls.__mro__ if "__init__" in vars(k))
    by_hand = maker is not object and not ("__dataclass_fields__" in vars(maker) and _generated(maker))
    arguments = list(inspect.signature(vars(maker)["__init__"]).parameters.values())[1:] if by_hand else []
    of_init = [a.name for a in arguments if a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD)]
    yield from dict.fromkeys(name for name in (*of_class, *of_init) if name not in known)


def _generated(cls: type[Any]) -> bool:
    """Whether a dataclass was given its ``__init__``."""
    return bool(cls.__dataclass_params__.init)


def _is_constant(hint: Any) -> bool:
    text = hint if isinstance(hint, str) else str(hint)
    return re.match(r"(\w+\.)*(ClassVar|Final)\b", text) is not None


def _require_setting(name: str, default: Any, where: str) -> None:
    if name in ABOUT:
        raise UserError(
            f"{name} is a setting, which it must not be",
            where=where,
            fix=f"write {name} = ... without its type, or ClassVar[...]",
        )
    if isinstance(default, (list, dict, set, bytearray)):
        raise UserError(
            f"the default of setting {name} can be changed in place: {default!r}",
            where=where,
            fix="give a tuple",
        )
    try:
        json.dumps(default, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"setting {name} is not JSON ({error})", where=where, fix="give numbers, texts or tuples of them"
        ) from None
