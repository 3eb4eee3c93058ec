"""The grid of a suite: every combination once, and what is left out with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from retune.errors import BadSetting, StrategyError, UserError
from retune.plugins import BUILT_IN, registry
from retune.runner.resolve import find_strategy, require_capabilities
from retune.runner.shared import Shared
from retune.runner.spec import Spec
from retune.settings import make
from retune.suite.names import Names
from retune.suite.runs import Wanted
from retune.suite.spec import ALL, DataChoice, Root, ScenarioChoice, StrategyChoice, Suite, split


@dataclass(frozen=True)
class Skipped:
    """A combination that a suite leaves out, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Failure:
    """A run that gave no result, and why, in a line."""

    run: Wanted
    reason: str


@dataclass
class Grid:
    """The runs of a suite.

    Args:
        runs: What is to be run, in order.
        skipped: What is left out.
        failures: Runs whose plugin cannot even be imported.
    """

    runs: list[Wanted] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def expand(suite: Suite, shared: Shared) -> Grid:
    """Every combination of a suite once: seeds outside, strategies inside.

    Args:
        suite: What a user wrote.
        shared: Where backbones are kept.

    Raises:
        UserError: If a name or a setting is wrong. A plugin that cannot be imported is a failure of its runs.
    """
    return _Expansion(suite, shared).grid()


class _Expansion:
    """One suite on its way to runs."""

    def __init__(self, suite: Suite, shared: Shared) -> None:
        self.suite, self.shared = suite, shared
        self.skipped: list[Skipped] = []
        self.names = Names(suite, self._backbone)

    def grid(self) -> Grid:
        suite = self.suite
        self.names.require_use()
        strategies = {name: list(self._strategies(name)) for name in suite.backbones}
        self._require_carried(strategies)
        found: dict[str, Wanted] = {}
        for seed in dict.fromkeys(suite.seeds):
            for scenario in suite.scenarios:
                for data in self._data(scenario.scenario):
                    for backbone in dict.fromkeys(suite.backbones):
                        for order in self._orders(scenario.scenario):
                            for choice in strategies[backbone]:
                                run = self._run(choice, scenario, data, backbone, order, seed)
                                found.setdefault(repr(run), run)
        _require_told_apart(found.values())
        reasons = {key: self._broken(run) for key, run in found.items()}
        return Grid(
            [run for key, run in found.items() if reasons[key] is None],
            self.skipped,
            [Failure(found[key], reason) for key, reason in reasons.items() if reason is not None],
        )

    def _backbone(self, name: str) -> Any:
        return self.shared.backbone(name, device=self.suite.device, precision=self.suite.precision)

    def _broken(self, run: Wanted) -> str | None:
        spec = run.spec
        wanted = [("strategies", spec.strategy), ("scenarios", spec.scenario), ("backbones", spec.backbone)]
        wanted += [("datasets", name) for name in split(spec.data or "")]
        return next((self.names.broken[key] for key in wanted if key in self.names.broken), None)

    def _strategies(self, backbone: str) -> Iterator[StrategyChoice]:
        """The strategies that a backbone can carry; of those that it cannot, why not."""
        built_in = [entry.name for entry in registry("strategies").entries if entry.origin == BUILT_IN]
        for choice in self.suite.strategies:
            for name in built_in if choice.strategy == ALL else [choice.strategy]:
                one = choice.model_copy(update={"strategy": name})
                if self._carried(one, backbone):
                    yield one

    def _carried(self, choice: StrategyChoice, backbone: str) -> bool:
        if ("strategies", choice.strategy) in self.names.broken or (
            "backbones",
            backbone,
        ) in self.names.broken:
            return True
        cls, name, preset = find_strategy(choice.strategy)
        settings = {**preset, **self._settings_of(choice)}
        plain = {k.removeprefix("strategy."): v for k, v in settings.items()}
        try:
            strategy = make(cls, plain, owner=f"strategy {name}")
        except UserError:
            raise
        except Exception:  # A plugin's own fault is told when its runs are planned.
            return True
        try:
            require_capabilities(strategy, choice.strategy, self._backbone(backbone))
        except StrategyError:  # Likewise.
            return True
        except UserError as error:
            self.skipped.append(
                Skipped(f"{self.names.called('strategies', choice)} with {backbone}", str(error))
            )
            return False
        return True

    def _require_carried(self, carried: Mapping[str, list[StrategyChoice]]) -> None:
        for choice in self.suite.strategies:
            if choice.strategy != ALL and not any(choice in choices for choices in carried.values()):
                raise UserError(
                    next(
                        s.reason
                        for s in self.skipped
                        if s.what.startswith(self.names.called("strategies", choice))
                    )
                )
        if not any(carried.values()):
            raise UserError("no strategy can be run with these backbones")

    def _settings_of(self, choice: StrategyChoice) -> dict[str, Any]:
        """Settings of a strategy: those for all that have them, then its own, then its choice's."""
        found: dict[str, Any] = {}
        for key, value in self.suite.settings.items():
            plain = key.removeprefix("strategy.")
            if "." not in plain and self.names.has("strategies", choice.strategy, plain):
                found[plain] = value
        return found | self._of(self.suite.strategy, choice) | choice.settings

    def _search_of(self, choice: StrategyChoice) -> dict[str, Any]:
        return self._of(self.suite.search, choice) | choice.search

    def _of(self, table: Mapping[str, dict[str, Any]], choice: StrategyChoice) -> dict[str, Any]:
        """What a table of strategies has for one, by how it is asked for or by what it is called."""
        found: dict[str, Any] = {}
        for name in (choice.strategy, choice.called, self.names.called("strategies", choice)):
            found |= table.get(name, {})
        return found

    def _data(self, scenario: str) -> Iterator[DataChoice]:
        """The data sets of a scenario, with settings of all that are for them."""
        for choice in self.suite.data or [DataChoice(data=self.names.data_of(scenario))]:
            called = self.names.called("datasets", choice)
            root = choice.root if choice.root is not None else self._root(choice)
            names = split(choice.data)
            settings = {}
            for key, value in self.suite.settings.items():
                if key.startswith("data."):
                    name = key.removeprefix("data.")
                    head, dot, _ = name.partition(".")
                    if (dot and head in names) or any(self.names.has("datasets", n, name) for n in names):
                        settings[name] = value
            policies = {
                policy: getattr(choice, policy) or getattr(self.suite, policy)
                for policy in ("uncertain", "blank")
                if getattr(choice, policy) or any(self.names.has("datasets", n, policy) for n in names)
            }
            yield choice.model_copy(
                update={"name": called, "root": root, "settings": {**settings, **choice.settings}, **policies}
            )

    def _root(self, choice: DataChoice) -> Root:
        """The part of the folders that is for one data set."""
        names, root = [*split(choice.data), *self.suite.outlined], self.suite.root
        if isinstance(root, dict):
            return {name: folder for name, folder in root.items() if name in names} or None
        classes = [self.names.find("datasets", name) for name in names]
        return root if any(cls is not None and cls.takes_root for cls in classes) else None

    def _orders(self, scenario: str) -> list[str]:
        has = self.suite.orders and self.names.has("scenarios", scenario, self.suite.order_setting)
        return [str(order) for order in dict.fromkeys(self.suite.orders)] if has else [""]

    def _run(
        self,
        choice: StrategyChoice,
        cut: ScenarioChoice,
        data: DataChoice,
        backbone: str,
        order: str,
        seed: int,
    ) -> Wanted:
        suite, scenario = self.suite, cut.scenario
        settings = self._settings_of(choice) | {f"data.{k}": v for k, v in data.settings.items()}
        for key, value in suite.settings.items():
            if key.startswith("scenario.") and self.names.has("scenarios", scenario, key[len("scenario.") :]):
                settings[key] = value
            if key.startswith("transfer."):
                settings[key] = value
        settings |= {f"scenario.{key}": value for key, value in cut.settings.items()}
        if order:
            settings[f"scenario.{suite.order_setting}"] = int(order) if order.isdigit() else order
        steps = "steps" not in cut.settings and self.names.has("scenarios", scenario, "steps")
        spec = Spec(
            scenario=scenario,
            strategy=choice.strategy,
            data=data.data,
            root=data.root,
            backbone=backbone,
            prompts=suite.prompts,
            steps=suite.steps if steps else None,
            seed=seed,
            uncertain=data.uncertain,
            blank=data.blank,
            settings=settings,
            device=suite.device,
            precision=suite.precision,
            skip_bad_images=suite.skip_bad_images,
            replicates=suite.replicates,
            search=self._search_of(choice),
            transfer=suite.transfer,
            metrics=suite.metrics,
            time_limit=suite.time_limit,
        )
        called = self.names.called("strategies", choice), self.names.called("scenarios", cut)
        return Wanted(*called, data.name or data.data, backbone, order, spec)


def _require_told_apart(runs: Iterable[Wanted]) -> None:
    """See that no two runs would stand in the same place of a table."""
    found: dict[str, Wanted] = {}
    for run in runs:
        if found.setdefault(run.name, run) != run:
            raise BadSetting(
                f"two different runs are called '{run.name}'",
                fix='give one of the two a name of its own: { strategy = ..., name = "...", ... } in a TOML file, '
                '{"strategy": ..., "name": "...", ...} from Python',
            )
