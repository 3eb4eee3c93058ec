"""What the names in a suite stand for, and which of them are plugins that cannot be imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from retune.errors import RetuneError, UserError
from retune.plugins import Kind, is_file, registry
from retune.runner.resolve import find_strategy
from retune.settings import settings_of
from retune.suite.grid import StrategyRow


class Lookup:
    """Finds classes by name.

    Attributes:
        broken: By kind and name, why a plugin cannot be imported.
    """

    def __init__(self) -> None:
        self.broken: dict[tuple[Kind, str], str] = {}

    def look(self, kind: Kind, name: str, load: Callable[[str], Any]) -> None:
        """Import what a name stands for; what is unknown is the user's mistake, what is broken the plugin's."""
        try:
            load(name)
        except SystemExit as error:
            self.broken[kind, name] = f"{name}: ends the program when it is imported (code {error.code})"
        except RetuneError as error:
            if not _foreign(kind, name):
                raise
            self.broken[kind, name] = str(error)

    def find(self, kind: Kind, name: str) -> type[Any] | None:
        """The class of a name; None where it cannot be imported."""
        if (kind, name) in self.broken:
            return None
        if kind == "strategies":
            return find_strategy(name)[0]
        return registry(kind).load(name)

    def has(self, kind: Kind, name: str, setting: str) -> bool:
        """Whether what a name stands for has a setting."""
        cls = self.find(kind, name)
        return cls is not None and setting.replace("-", "_") in {s.name for s in settings_of(cls)}


def names_of(data: str) -> list[str]:
    """The data sets of a name with commas."""
    return [name.strip() for name in data.split(",") if name.strip()]


def display(row: StrategyRow) -> str:
    """What tables call a strategy."""
    return row.name or stem(row.strategy)


def stem(name: str) -> str:
    """A name; of a file, the file's without its folder."""
    return Path(name.partition(".py")[0]).name if is_file(name) else name


def _foreign(kind: Kind, name: str) -> bool:
    """Whether a name stands for a plugin that is there, so that whatever is wrong with it is its own fault."""
    if is_file(name):
        return Path(name.partition(".py")[0] + ".py").expanduser().is_file()
    try:
        return registry(kind).find(name).origin != "retune"
    except UserError:
        return False
