"""Settings of strategies, scenarios and data sets: their typed dataclass fields.

They are what ``--set`` validates, what ``retune show`` prints and what a result records.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Lt

from retune.errors import BadSetting, UnknownName
from retune.files import parse_json

T = TypeVar("T")

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Lt(1)]
Unit = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1)]

LATER: Final = MappingProxyType({"later": True})
"""Metadata of a field that a class did not have from the start: at its default :func:`values_of` leaves it out, so
that a run that does not use it is the run that it was."""

SEARCH: Final = "write --search lr=1e-4,1e-3"
"""How a search of settings is mended."""


@dataclass(frozen=True)
class Setting:
    """One setting of a class.

    Args:
        name: The field's name.
        type: How a user would spell its type, e.g. ``"dense | mlp"``.
        default: The default value, or None where one must be given.
        doc: Its line in the class's docstring.
    """

    name: str
    type: str
    default: Any
    doc: str


def _once(read: Callable[[type[Any]], T]) -> Callable[[type[Any]], T]:
    """Remember what was read of a class; ``cache`` by itself wants what mypy may not take a class for, hashable."""
    return typing.cast("Callable[[type[Any]], T]", cache(read))


@_once
def settings_of(cls: type[Any]) -> tuple[Setting, ...]:
    """The settings of a dataclass in order of definition, then those that it says are given beside them."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):  # what is inherited is told where it is written
        docs |= _argument_docs(inspect.cleandoc(base.__doc__ or ""))
    hints = _hints(cls)
    own = {
        f.name: Setting(f.name, _spell(hints[f.name]), _default(f), docs.get(f.name, ""))
        for f in _fields(cls)
    }
    beside = settings_of(cls.beside) if hasattr(cls, "beside") else ()
    return (*own.values(), *(setting for setting in beside if setting.name not in own))


def make(cls: type[T], given: Mapping[str, Any], *, owner: str) -> T:
    """Build a dataclass from settings, which may be text from a command line.

    Args:
        cls: A dataclass.
        given: Values by name; text is read as the field's type.
        owner: Whose settings they are, for messages.

    Raises:
        UnknownName: If a name is no setting of ``cls``.
        BadSetting: If a value has the wrong type or is out of range.
    """
    fields = {f.name: f for f in _fields(cls)}
    hints = _hints(cls)
    values: dict[str, Any] = {}
    for name, value in given.items():
        key = name.replace("-", "_")
        if key not in fields:
            raise UnknownName("setting", name, fields, where=owner)
        values[key] = read_value(hints[key], value, where=f"{owner}, setting {key}")
    return cls(**values)


def values_of(instance: Any) -> dict[str, Any]:
    """The settings of an instance as JSON values, but for those at their default that came later (:data:`LATER`)."""
    values = {
        f.name: value
        for f in _fields(type(instance))
        if (value := getattr(instance, f.name)) != f.default or not f.metadata.get("later")
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def read_value(hint: Any, value: Any, *, where: str) -> Any:
    """Read one value as a type.

    Raises:
        BadSetting: If it cannot be read so.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    if isinstance(value, str) and value.lower() in ("none", "null") and type(None) in typing.get_args(hint):
        return None
    base = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    # A bare True must not pass as the number 1.
    if isinstance(value, bool) and base in (int, float):
        raise BadSetting(f"{value!r} is not {_spell(hint)}", where=where, fix="give a number")
    adapter = TypeAdapter(
        hint, config=None if dataclasses.is_dataclass(hint) else ConfigDict(allow_inf_nan=False)
    )
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        if isinstance(value, str) and value[:1] in "[{":
            try:
                return adapter.validate_json(value)
            except ValidationError:
                pass
        literal = typing.get_origin(hint) is Literal
        several = typing.get_origin(hint) is tuple
        reason = error.errors()[0]["msg"]
        more = "" if literal or several else f" ({reason[0].lower()}{reason[1:]})"
        raise BadSetting(
            f"{value!r} is not {_spell(hint)}{more}",
            where=where,
            fix="""write it as '["one", "two"]'""" if several else None,
        ) from None


def typed(value: Any) -> str:
    """What :func:`read_value` reads from a command line: a setting as it is typed."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def parse_assignments(assignments: list[str] | tuple[str, ...]) -> dict[str, str]:
    """Read ``key=value`` texts, later ones winning.

    Raises:
        BadSetting: If one has no ``=`` or no key.
    """
    values: dict[str, str] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise BadSetting(f"'{text}' is not key=value", where="--set", fix="write --set lr=1e-3")
        values[key.strip()] = value.strip()
    return values


def parse_search(assignments: Sequence[str]) -> dict[str, list[Any]]:
    """Read ``key=value,value`` texts, or ``key=[...]`` in JSON; later ones win.

    Raises:
        BadSetting: If one has no ``=``, no key or no value.
    """
    grid: dict[str, list[Any]] = {}
    for text in assignments:
        key, _, given = (part.strip() for part in text.partition("="))
        values: Any = [value.strip() for value in given.split(",")]
        if given.startswith("["):
            try:
                values = parse_json(given)
            except ValueError as error:
                raise BadSetting(f"'{given}' is no JSON ({error})", where="--search", fix=SEARCH) from None
        if not key or "" in values:
            raise BadSetting(f"'{text}' is not key=value,value", where="--search", fix=SEARCH)
        grid[key] = values
    return grid


def searched(name: str, values: Sequence[Any]) -> str:
    """What :func:`parse_search` reads: one setting and its values."""
    texts = [typed(value) for value in values]
    plain = all(text and text == text.strip() and not set(text) & set(",[{") for text in texts)
    return f"{name}={','.join(texts) if plain else json.dumps(list(values))}"


def _fields(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    if not dataclasses.is_dataclass(cls):  # a plugin without settings need not be one
        return []
    return [f for f in dataclasses.fields(cls) if f.init and not f.name.startswith("_")]


@_once
def _hints(cls: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception as error:  # A name that is not there, or whatever else stands for a type.
        what = f"the types of its settings cannot be read ({type(error).__name__}: {error})"
        raise BadSetting(what, where=f"class {cls.__name__}") from error


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _spell(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = {Gt: ">", Ge: ">=", Lt: "<", Le: "<="}
        limits = [
            f"{sign} {getattr(m, k.__name__.lower()):g}"
            for m in args[1:]
            for k, sign in bounds.items()
            if isinstance(m, k)
        ]
        return " ".join([_spell(args[0]), " and ".join(limits)]).strip()
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin in (typing.Union, types.UnionType):
        return " | ".join("none" if a is type(None) else _spell(a) for a in args)
    if origin is tuple:
        return f"list of {_spell(args[0])}"
    return {"str": "text", "bool": "true | false", "int": "whole number", "float": "number"}.get(
        getattr(hint, "__name__", ""), str(hint)
    )


def _argument_docs(doc: str) -> dict[str, str]:
    section = re.search(r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)", doc, flags=re.MULTILINE)
    if not section:
        return {}
    docs: dict[str, str] = {}
    name = ""
    for line in section.group(1).splitlines():
        start = re.match(r"^ {4}(\w+)(?: \([^)]*\))?: (.*)$", line)
        if start:
            name = start.group(1)
            docs[name] = start.group(2).strip()
        elif name and line.strip():
            docs[name] += " " + line.strip()
    return docs
