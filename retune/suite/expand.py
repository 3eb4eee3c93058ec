"""From a suite to its cells: every combination once, and what is left out with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from retune.errors import StrategyError, UserError
from retune.plugins import registry
from retune.runner.resolve import find_strategy, require_capabilities
from retune.runner.shared import Shared
from retune.runner.spec import DEFAULTS, Spec
from retune.settings import make
from retune.suite.cells import Cell
from retune.suite.grid import ALL, DataRow, Root, StrategyRow, Suite
from retune.suite.known import data_names, require_known, require_told_apart
from retune.suite.lookup import Lookup, display, names_of, stem


@dataclass(frozen=True)
class Skipped:
    """What a suite leaves out.

    Args:
        what: The combination.
        reason: Why.
    """

    what: str
    reason: str


@dataclass(frozen=True)
class Failure:
    """A cell that gave no result.

    Args:
        cell: Which one.
        reason: Why, in a line.
    """

    cell: Cell
    reason: str


@dataclass
class Expanded:
    """The cells of a suite.

    Args:
        cells: What is to be run, in order.
        skipped: What is left out.
        failures: Cells whose plugin cannot even be imported.
    """

    cells: list[Cell] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def expand(suite: Suite, shared: Shared) -> Expanded:
    """Every combination of a suite once: seeds outside, strategies inside.

    Args:
        suite: What a user wrote.
        shared: Where backbones are kept.

    Raises:
        UserError: If a name or a setting is wrong. A plugin that cannot be imported is a failure of its cells.
    """
    return _Expansion(suite, shared).run()


class _Expansion:
    """One suite on its way to cells."""

    def __init__(self, suite: Suite, shared: Shared) -> None:
        self.suite, self.shared = suite, shared
        self.found = Expanded()
        self.names = Lookup()

    def run(self) -> Expanded:
        suite = self.suite
        explicit = [row for row in suite.strategies if row.strategy != ALL]
        for row in explicit:
            self.names.look("strategies", row.strategy, lambda name: find_strategy(name)[0])
        for scenario in suite.scenarios:
            self.names.look("scenarios", scenario, registry("scenarios").load)
        for name in data_names(suite):
            self.names.look("datasets", name, registry("datasets").load)
        for name in suite.backbones:
            self.names.look("backbones", name, lambda name: self._backbone(name).capabilities)
        require_known(suite, self.names)
        strategies = {name: list(self._strategies(name)) for name in suite.backbones}
        self._require_carried(explicit, strategies)
        cells: dict[str, Cell] = {}
        for seed in dict.fromkeys(suite.seeds):
            for scenario in dict.fromkeys(suite.scenarios):
                for data in self._data(scenario):
                    for backbone in dict.fromkeys(suite.backbones):
                        for order in self._orders(scenario):
                            for row in strategies[backbone]:
                                cell = self._cell(row, scenario, data, backbone, order, seed)
                                cells.setdefault(repr(cell), cell)
        require_told_apart(cells.values())
        for cell in cells.values():
            reason = self._broken(cell)
            if reason is None:
                self.found.cells.append(cell)
            else:
                self.found.failures.append(Failure(cell, reason))
        return self.found

    def _backbone(self, name: str) -> Any:
        return self.shared.backbone(name, device=self.suite.device, precision=self.suite.precision)

    def _broken(self, cell: Cell) -> str | None:
        spec = cell.spec
        wanted = [("strategies", spec.strategy), ("scenarios", spec.scenario), ("backbones", spec.backbone)]
        wanted += [("datasets", name) for name in names_of(spec.data or "")]
        return next((self.names.broken[key] for key in wanted if key in self.names.broken), None)

    def _strategies(self, backbone: str) -> Iterator[StrategyRow]:
        """The rows that a backbone can carry; of those that it cannot, why not."""
        for row in self.suite.strategies:
            if row.strategy != ALL:
                if self._carried(row, backbone):
                    yield row
                continue
            known = registry("strategies")
            for entry in known.entries:
                built_in = row.model_copy(update={"strategy": entry.name})
                if entry.origin == "retune" and self._carried(built_in, backbone):
                    yield built_in

    def _carried(self, row: StrategyRow, backbone: str) -> bool:
        if ("strategies", row.strategy) in self.names.broken or ("backbones", backbone) in self.names.broken:
            return True
        cls, name, preset = find_strategy(row.strategy)
        settings = {**preset, **self._settings_of(row)}
        plain = {k.removeprefix("strategy."): v for k, v in settings.items()}
        try:
            strategy = make(cls, plain, owner=f"strategy {name}")
        except UserError:
            raise
        except Exception:  # A plugin's own fault is told when its cells are planned.
            return True
        try:
            require_capabilities(strategy, row.strategy, self._backbone(backbone))
        except StrategyError:  # Likewise.
            return True
        except UserError as error:
            self.found.skipped.append(Skipped(f"{display(row)} with {backbone}", str(error)))
            return False
        return True

    def _require_carried(
        self, explicit: Iterable[StrategyRow], carried: Mapping[str, list[StrategyRow]]
    ) -> None:
        for row in explicit:
            if not any(row in rows for rows in carried.values()):
                reason = next(s.reason for s in self.found.skipped if s.what.startswith(display(row)))
                raise UserError(reason)
        if not any(carried.values()):
            raise UserError("no strategy can be run with these backbones")

    def _settings_of(self, row: StrategyRow) -> dict[str, Any]:
        """Settings of a strategy: those for all that have them, then its own, then its row's."""
        found: dict[str, Any] = {}
        for key, value in self.suite.settings.items():
            plain = key.removeprefix("strategy.")
            if "." not in plain and self.names.has("strategies", row.strategy, plain):
                found[plain] = value
        own = self.suite.strategy
        return found | own.get(row.strategy, {}) | own.get(display(row), {}) | dict(row.settings)

    def _search_of(self, row: StrategyRow) -> dict[str, Any]:
        every = self.suite.search
        return {**every.get(row.strategy, {}), **every.get(display(row), {}), **row.search}

    def _data(self, scenario: str) -> Iterator[DataRow]:
        """The data sets of a scenario, with settings of all that are for them."""
        cls = self.names.find("scenarios", scenario)
        own = (cls.data if cls else "") or DEFAULTS["data"]
        for row in self.suite.data or [DataRow(data=own)]:
            root = row.root if row.root is not None else self._root(row)
            names = names_of(row.data)
            settings = {}
            for key, value in self.suite.settings.items():
                if key.startswith("data."):
                    name = key.removeprefix("data.")
                    head, dot, _ = name.partition(".")
                    if (dot and head in names) or any(self.names.has("datasets", n, name) for n in names):
                        settings[name] = value
            policies = {
                policy: getattr(row, policy) or getattr(self.suite, policy)
                for policy in ("uncertain", "blank")
                if getattr(row, policy) or any(self.names.has("datasets", n, policy) for n in names)
            }
            yield row.model_copy(update={"root": root, "settings": {**settings, **row.settings}, **policies})

    def _root(self, row: DataRow) -> Root:
        """The part of the folders that is for one data set."""
        names, root = names_of(row.data), self.suite.root
        if isinstance(root, dict):
            return {name: folder for name, folder in root.items() if name in names} or None
        classes = [self.names.find("datasets", name) for name in names]
        return root if any(cls is not None and cls.takes_root for cls in classes) else None

    def _orders(self, scenario: str) -> list[str]:
        has = self.suite.orders and self.names.has("scenarios", scenario, "order")
        return list(dict.fromkeys(self.suite.orders)) if has else [""]

    def _cell(
        self, row: StrategyRow, scenario: str, data: DataRow, backbone: str, order: str, seed: int
    ) -> Cell:
        suite = self.suite
        settings = self._settings_of(row) | {f"data.{k}": v for k, v in data.settings.items()}
        for key, value in suite.settings.items():
            if key.startswith("scenario.") and self.names.has("scenarios", scenario, key[len("scenario.") :]):
                settings[key] = value
        if order:
            settings["scenario.order"] = order
        spec = Spec(
            scenario=scenario,
            strategy=row.strategy,
            data=data.data,
            root=data.root,
            backbone=backbone,
            prompts=suite.prompts,
            steps=suite.steps if self.names.has("scenarios", scenario, "steps") else None,
            seed=seed,
            uncertain=data.uncertain,
            blank=data.blank,
            settings=settings,
            device=suite.device,
            precision=suite.precision,
            skip_bad_images=suite.skip_bad_images,
            replicates=suite.replicates,
            search=self._search_of(row),
            time_limit=suite.time_limit,
        )
        return Cell(display(row), stem(scenario), data.name or data.data, backbone, order, spec)
