"""What the names in a suite stand for: each must be there and be for something, which is seen before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from retune.data.source import DataSource
from retune.errors import BadSetting, RetuneError, UnknownName, UserError
from retune.plugins import BUILT_IN, Kind, is_file, path_of, registry
from retune.runner.resolve import dotted, find_strategy
from retune.runner.spec import DEFAULTS
from retune.settings import settings_of, typed
from retune.suite.spec import ALL, Choice, Suite, split, stem

GROUPS: Final[dict[str, Kind]] = {
    "strategy": "strategies",
    "scenario": "scenarios",
    "data": "datasets",
}


class Names:
    """The classes that a suite's names stand for, each imported once.

    Args:
        suite: What a user wrote.
        backbone: Makes a backbone.

    Attributes:
        broken: By kind and name, why a plugin cannot be imported.

    Raises:
        UserError: If a name is unknown.
    """

    def __init__(self, suite: Suite, backbone: Callable[[str], Any]) -> None:
        self.suite = suite
        self.broken: dict[tuple[Kind, str], str] = {}
        self._found: dict[tuple[Kind, str], type[Any]] = {}
        for choice in suite.strategies:
            if choice.strategy != ALL:
                self._look("strategies", choice.strategy, self.find)
        for scenario in suite.scenarios:
            self._look("scenarios", scenario.scenario, self.find)
        for data in suite.data or ():
            for name in split(data.data):
                self._look("datasets", name, self.find)
        for name in suite.outlined:
            self._look("datasets", name, self.find)
        if suite.transfer:
            registry("transfers").load(suite.transfer.partition(":")[0])
        for name in suite.metrics:
            registry("metrics").load(name)
        for name in suite.backbones:
            self._look("backbones", name, lambda kind, name: backbone(name).capabilities)

    def _look(self, kind: Kind, name: str, load: Callable[[Kind, str], Any]) -> None:
        """Import what a name stands for; what is unknown is the user's mistake, what is broken the plugin's."""
        try:
            load(kind, name)
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
        if (kind, name) not in self._found:
            load = find_strategy if kind == "strategies" else registry(kind).load_preset
            self._found[kind, name] = load(name)[0]
        return self._found[kind, name]

    def called(self, kind: Kind, choice: Choice) -> str:
        """What tables call a choice: the name it is given here, else its own, and what tells it from others.

        Two plugins that share a name are told apart by their files, two choices of one by their settings.
        """
        if choice.name:
            return choice.name
        one = [choice.asked] if kind == "strategies" else split(choice.asked)
        names = [self._own[kind].get(name) or self._own_name(kind, name) for name in one]
        return ",".join(names) + self._apart(kind, choice)

    def _apart(self, kind: Kind, choice: Choice) -> str:
        """The settings in which a choice is not like the others of what it is chosen by."""
        others = [c.settings for c in self._choices[kind] if not c.name and c.asked == choice.asked]
        cls = self.find(kind, choice.asked) if len(others) > 1 and "," not in choice.asked else None
        usual = {} if cls is None else {setting.name: setting.default for setting in settings_of(cls)}
        apart = ", ".join(
            f"{key}={typed(value)}"
            for key, value in choice.settings.items()
            if any(other.get(key, usual.get(key)) != value for other in others)
        )
        return f" ({apart})" if apart else ""

    @cached_property
    def _choices(self) -> dict[Kind, Sequence[Choice]]:
        suite = self.suite
        return {"strategies": suite.strategies, "scenarios": suite.scenarios, "datasets": suite.data or ()}

    @cached_property
    def _own(self) -> dict[Kind, dict[str, str]]:
        """By kind and by what a plugin is asked for, the name of its own that no other here has."""
        return {kind: self._own_of(kind) for kind in self._choices}

    def _own_of(self, kind: Kind) -> dict[str, str]:
        asked = dict.fromkeys(
            name
            for choice in self._choices[kind]
            if choice.asked != ALL and not choice.name
            for name in ([choice.asked] if kind == "strategies" else split(choice.asked))
        )
        names = {one: self._own_name(kind, one) for one in asked}
        taken = Counter(names.values())
        if any(choice.asked == ALL for choice in self._choices[kind]):
            taken.update(e.name for e in registry(kind).entries if e.origin == BUILT_IN)
        return {
            one: f"{name} ({_home(one, asked)})" if taken[name] > 1 and name != one else name
            for one, name in names.items()
        }

    def _own_name(self, kind: Kind, asked: str) -> str:
        """What a plugin calls itself, and the preset that is asked for; its file's name where it cannot be imported."""
        if self.find(kind, asked) is None:
            return stem(asked)
        cls, plain, _ = find_strategy(asked) if kind == "strategies" else registry(kind).load_preset(asked)
        own = getattr(cls, "name", None)
        return own + asked.removeprefix(plain) if isinstance(own, str) else stem(asked)

    def has(self, kind: Kind, name: str, setting: str) -> bool:
        """Whether what a name stands for has a setting."""
        cls = self.find(kind, name)
        return cls is not None and setting.replace("-", "_") in {s.name for s in settings_of(cls)}

    def data_of(self, scenario: str) -> str:
        """The data that a scenario is run on where none is named: a published stream brings its own."""
        cls = self.find("scenarios", scenario)
        return (cls.data if cls else "") or DEFAULTS["data"]

    def require_use(self) -> None:
        """See that every setting, order, folder and table is for something that is there."""
        suite, scenarios = self.suite, [choice.scenario for choice in self.suite.scenarios]
        named = [choice.data for choice in suite.data] if suite.data else map(self.data_of, scenarios)
        datasets = list(dict.fromkeys(name for data in named for name in split(data)))
        for setting, given, where in (
            (suite.order_setting, bool(suite.orders), "key orders"),
            ("steps", suite.steps is not None, "--steps"),
        ):
            if given and not any(self.has("scenarios", name, setting) for name in scenarios):
                raise BadSetting(
                    f"no scenario here has the setting {setting}", where=where, fix="leave it out"
                )
        order = f"scenario.{suite.order_setting}"
        if suite.orders and order in {key.replace("-", "_") for key in suite.settings}:
            raise BadSetting(f"orders and the setting {order} exclude each other", fix="give one of them")
        for policy in ("uncertain", "blank"):
            if getattr(suite, policy) and not any(self.has("datasets", name, policy) for name in datasets):
                raise BadSetting(
                    f"no data set here has {policy} labels", where=f"--{policy}", fix="leave it out"
                )
        # Folders may be the transfer's, too.
        rooted = list(dict.fromkeys([*datasets, *suite.outlined]))
        classes = [self.find("datasets", name) for name in rooted]
        if isinstance(suite.root, str) and not any(cls is None or cls.takes_root for cls in classes):
            raise BadSetting(
                f"{', '.join(datasets)} has no files", where="--root", fix="name a data set with --data"
            )
        for name in suite.root if isinstance(suite.root, dict) else ():
            if name not in rooted:
                raise UnknownName("data set", name, rooted, where="key root")
        for choice in suite.data or ():
            if not any(("datasets", name) in self.broken for name in split(choice.data)):
                DataSource.make(choice.data, None, choice.settings)
        self._require_settings(datasets)

    def _require_settings(self, datasets: list[str]) -> None:
        suite = self.suite
        choices = [choice for choice in suite.strategies if choice.strategy != ALL]
        named = [choice.strategy for choice in choices]
        if len(choices) < len(suite.strategies):
            named += [entry.name for entry in registry("strategies").entries if entry.origin == BUILT_IN]
        owners: dict[Kind, list[str]] = {
            "strategies": named,
            "scenarios": [choice.scenario for choice in suite.scenarios],
            "datasets": datasets,
        }
        for key in suite.settings:
            group, dot, setting = key.partition(".")
            if dot and group == "transfer" and suite.transfer:
                continue
            if dot and group not in GROUPS:
                known = ", ".join(f"{g}." for g in GROUPS)
                raise BadSetting(f"'{key}' starts with none of {known}", where="set")
            kind, setting = (GROUPS[group], setting) if dot else ("strategies", key)
            if kind == "datasets" and setting.partition(".")[0] in datasets:
                continue
            if not any(self.has(kind, owner, setting) for owner in owners[kind]):
                classes = {k: [c for o in owners[k] if (c := self.find(k, o)) is not None] for k in owners}
                settings = {s.name for cls in classes[kind] for s in settings_of(cls)}
                meant = [] if dot else dotted(setting, classes["scenarios"], classes["datasets"])
                raise UnknownName("setting", setting, settings, where=f"set, for the {kind}", elsewhere=meant)
        tables = {*named, *(c.called for c in choices), *(self.called("strategies", c) for c in choices)}
        for table, given in (("strategy", suite.strategy), ("search", suite.search)):
            for name in given:
                if name not in tables:
                    raise UnknownName("strategy", name, tables, where=f"key {table}")


def _home(asked: str, others: Iterable[str]) -> str:
    """What tells a plugin from others of its name: the end of its file's path, or its distribution."""
    parts, taken = Path(asked).parts, [Path(other).parts for other in others if other != asked]
    if ".py" not in asked:
        return parts[0]
    # The file's name, after as many of its folders as it takes.
    length = next((n for n in range(1, len(parts)) if all(t[-n:] != parts[-n:] for t in taken)), len(parts))
    return "/".join(parts[-length:])


def _foreign(kind: Kind, name: str) -> bool:
    """Whether a name stands for a plugin that is there, so that whatever is wrong with it is its own fault."""
    if is_file(name):
        return path_of(name).is_file()
    try:
        return registry(kind).find(name).origin != BUILT_IN
    except UserError:
        return False
