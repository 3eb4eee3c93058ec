"""What a suite names must be there, be for something, and be told apart: all seen before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from retune.data.source import DataSource
from retune.errors import BadSetting, UnknownName
from retune.plugins import Kind, registry
from retune.runner.spec import DEFAULTS
from retune.settings import settings_of
from retune.suite.cells import Cell
from retune.suite.grid import ALL, Suite
from retune.suite.lookup import Lookup, display, names_of

GROUPS: Final[dict[str, Kind]] = {
    "strategy": "strategies",
    "scenario": "scenarios",
    "data": "datasets",
}


def data_names(suite: Suite) -> Iterator[str]:
    """Names of the data sets that a suite itself names."""
    for row in suite.data or ():
        yield from names_of(row.data)


def _all_data(suite: Suite, names: Lookup) -> list[str]:
    """Names of the data sets, those included that published streams bring with them."""
    if suite.data is not None:
        return list(dict.fromkeys(data_names(suite)))
    classes = [names.find("scenarios", scenario) for scenario in suite.scenarios]
    return list(
        dict.fromkeys(n for c in classes for n in names_of((c.data if c else "") or DEFAULTS["data"]))
    )


def require_known(suite: Suite, names: Lookup) -> None:
    """See that every setting, order, folder and table is for something that is there."""
    datasets = _all_data(suite, names)
    for setting, given, where in (
        ("order", bool(suite.orders), "key orders"),
        ("steps", suite.steps is not None, "--steps"),
    ):
        if given and not any(names.has("scenarios", name, setting) for name in suite.scenarios):
            raise BadSetting(f"no scenario here has the setting {setting}", where=where, fix="leave it out")
    for policy in ("uncertain", "blank"):
        if getattr(suite, policy) and not any(names.has("datasets", name, policy) for name in datasets):
            raise BadSetting(f"no data set here has {policy} labels", where=f"--{policy}", fix="leave it out")
    classes = [names.find("datasets", name) for name in datasets]
    if isinstance(suite.root, str) and not any(cls is None or cls.takes_root for cls in classes):
        raise BadSetting(
            f"{', '.join(datasets)} has no files", where="--root", fix="name a data set with --data"
        )
    for name in suite.root if isinstance(suite.root, dict) else ():
        if name not in datasets:
            raise UnknownName("data set", name, datasets, where="key root")
    for row in suite.data or ():
        if not any(("datasets", name) in names.broken for name in names_of(row.data)):
            DataSource.make(row.data, None, row.settings)
    _require_settings(suite, names, datasets)


def _require_settings(suite: Suite, names: Lookup, datasets: list[str]) -> None:
    rows = [row for row in suite.strategies if row.strategy != ALL]
    called = [row.strategy for row in rows]
    if len(rows) < len(suite.strategies):
        called += [entry.name for entry in registry("strategies").entries if entry.origin == "retune"]
    owners: dict[Kind, list[str]] = {
        "strategies": called,
        "scenarios": suite.scenarios,
        "datasets": datasets,
    }
    for key in suite.settings:
        group, dot, setting = key.partition(".")
        if dot and group not in GROUPS:
            raise BadSetting(f"'{key}' starts with none of {', '.join(g + '.' for g in GROUPS)}", where="set")
        kind, setting = (GROUPS[group], setting) if dot else ("strategies", key)
        if kind == "datasets" and setting.partition(".")[0] in datasets:
            continue
        if not any(names.has(kind, owner, setting) for owner in owners[kind]):
            classes = [names.find(kind, owner) for owner in owners[kind]]
            known = {s.name for cls in classes if cls is not None for s in settings_of(cls)}
            raise UnknownName("setting", setting, known, where=f"set, for the {kind}")
    tables = {*called, *(display(row) for row in rows)}
    for table, given in (("strategy", suite.strategy), ("search", suite.search)):
        for name in given:
            if name not in tables:
                raise UnknownName("strategy", name, tables, where=f"key {table}")


def require_told_apart(cells: Iterable[Cell]) -> None:
    """See that no two runs would stand in the same place of a table."""
    found: dict[str, Cell] = {}
    for cell in cells:
        if found.setdefault(cell.name, cell) != cell:
            raise BadSetting(
                f"two different runs are called '{cell.name}'",
                fix='give one of the two a name of its own, in a TOML file: { strategy = ..., name = "...", ... }',
            )
