"""What an object holds on to: everything that can be reached from it."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from retune.methods.given import Images, Training


def held(
    roots: Iterable[Any], *, ends: tuple[type, ...] = (), but: frozenset[str] = frozenset()
) -> Iterator[Any]:
    """Everything that can be reached from some objects, each once; classes, modules and images lent end it.

    Args:
        roots: Where to begin.
        ends: Further types that end it.
        but: Names of attributes, and keys of dictionaries, that are passed over.
    """
    seen: dict[int, Any] = {}
    todo = list(roots)
    ends = (type, ModuleType, Images, Training, *ends)
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, ends):
            continue
        seen[id(item)] = item
        yield item
        if isinstance(item, FunctionType):
            # Not its globals, which lead everywhere.
            todo += [*(item.__closure__ or ()), *(item.__defaults__ or ())]
        elif isinstance(item, dict):
            todo += [*item.keys(), *(value for key, value in item.items() if not but or key not in but)]
        elif isinstance(item, (list, tuple, set, frozenset)):
            todo += item
        else:
            passed = {id(value) for key, value in _attributes(item).items() if key in but} if but else set()
            todo += [one for one in gc.get_referents(item) if id(one) not in passed]


def _attributes(item: Any) -> dict[str, Any]:
    """Its own attributes; no code of its class is run for them."""
    try:
        found: dict[str, Any] = object.__getattribute__(item, "__dict__")
    except AttributeError:
        return {}
    return found
