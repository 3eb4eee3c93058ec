"""A run as it is typed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from retune.search import searched
from retune.settings import typed
from retune.spec import Spec

OPTIONS = {"settings": "set"}
"""Fields of a run that the command line calls otherwise."""


def run_words(spec: Spec) -> list[str]:
    """The words of the command that does a run; options at their defaults are left out.

    Args:
        spec: The run.
    """
    words = ["retune", "run"]
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        default = field.default if field.default is not dataclasses.MISSING else {}
        always = field.name in ("scenario", "strategy", "seed")
        if value is not None and (always or value != default):
            words += _option(OPTIONS.get(field.name, field.name.replace("_", "-")), value)
    return words


def _option(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from (f"--{name}", searched(key, one) if name == "search" else f"{key}={typed(one)}")
    elif value is True:
        yield f"--{name}"
    else:
        yield from (f"--{name}", str(value))
