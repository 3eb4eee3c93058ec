"""Names and settings, turned into the objects that do a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retune.avalanche_bridge import names as avalanche
from retune.backbones.base import MEANINGS, Backbone
from retune.data.source import DataSource
from retune.errors import BadSetting, UnknownName, UserError
from retune.methods.declared import require_declared, require_needs
from retune.methods.given import Need
from retune.methods.strategy import Strategy
from retune.plugins import blamed, code_of, code_of_file, is_file, preset_of, registry
from retune.prompts import PromptBank
from retune.results.own import asked_for
from retune.runner.candidates import Candidates
from retune.runner.guard import attributed, stdout_to_stderr
from retune.runner.shared import Shared
from retune.runner.spec import BY_DATASET, DEFAULTS, Spec
from retune.runner.transfer import Asked, ask
from retune.settings import make, settings_of, values_of
from retune.streams.stream import Scenario


@dataclass(frozen=True)
class Parts:
    """The objects of a run, made and checked before anything is read or encoded.

    Of plugins there are digests of their code: of a scenario, and of a strategy whose origin does not hold it.
    The preset is a name only: a run with the same settings by hand is the same run.
    """

    source: DataSource
    scenario: Scenario
    strategy: Strategy
    origin: str
    backbone: Backbone
    bank: PromptBank
    search: Candidates | None = None
    strategy_code: str = ""
    scenario_code: str = ""
    preset: str = ""
    transfer: Asked | None = None

    @property
    def tried(self) -> Sequence[Strategy]:
        """The strategy, or all that a search tries."""
        return self.search.strategies if self.search else (self.strategy,)

    @property
    def needs(self) -> frozenset[Need]:
        """What the strategy asks of the backbone, or any that is tried in a search."""
        return frozenset().union(*(strategy.requires() for strategy in self.tried))

    def identity(self) -> dict[str, Any]:
        """Whatever names and settings determine a result; data and seed are added by the runner."""
        return {
            "data": {"name": self.source.name, "settings": self.source.settings},
            "scenario": {
                "name": self.scenario.name,
                "settings": values_of(self.scenario),
                **({"code": self.scenario_code} if self.scenario_code else {}),
            },
            "strategy": {
                "name": self.strategy.name,
                "version": self.strategy.version,
                "origin": self.origin,
                "settings": values_of(self.strategy),
                **({"code": self.strategy_code} if self.strategy_code else {}),
                **({"search": self.search.settings()} if self.search else {}),
            },
            "backbone": self.backbone.fingerprint,
            "prompts": self.bank.fingerprint,
            **({"transfer": self.transfer.identity()} if self.transfer else {}),
        }


@stdout_to_stderr()
def resolve(spec: Spec, shared: Shared | None = None) -> Parts:
    """Turn names and settings into objects.

    Args:
        spec: What a user asks for.
        shared: What earlier runs of this process have left to be used again.

    Raises:
        UserError: If a name, a setting or a value is wrong, or the backbone cannot do what the strategy needs.
    """
    shared = shared or Shared()
    for metric in spec.metrics:
        registry("metrics").load(metric)
    asked_for(spec.metrics)
    groups: dict[str, dict[str, Any]] = {"data": {}, "scenario": {}, "strategy": {}, "transfer": {}}
    for key, value in spec.settings.items():
        group, dot, name = key.partition(".")
        if dot and group not in groups:
            known = ", ".join(f"{g}." for g in groups)
            raise BadSetting(f"'{key}' starts with none of {known}", where="--set")
        groups[group if dot else "strategy"][name if dot else key] = value
    several = "," in (spec.data or "")
    scenario_name = spec.scenario or (BY_DATASET if several else DEFAULTS["scenario"])
    scenario_class = registry("scenarios").load(scenario_name)
    if spec.steps is not None:
        if "steps" not in {s.name for s in settings_of(scenario_class)}:
            raise BadSetting(
                f"scenario {scenario_name} has no setting steps", where="--steps", fix="leave it out"
            )
        groups["scenario"]["steps"] = spec.steps
    data = spec.data or scenario_class.data or DEFAULTS["data"]
    strategy_class, plain_name, preset = find_strategy(spec.strategy)
    try:
        strategy, search = _strategies(strategy_class, plain_name, {**preset, **groups["strategy"]}, spec)
    except UnknownName as error:
        datasets = [registry("datasets").load_preset(name.strip())[0] for name in data.split(",")]
        meant = dotted(error.name, [scenario_class], datasets)
        if not meant:
            raise
        raise UnknownName("setting", error.name, (), where=error.where, elsewhere=meant) from None
    backbone = shared.backbone(spec.backbone, device=spec.device, precision=spec.precision)
    for tried in search.strategies if search else (strategy,):
        require_capabilities(tried, spec.strategy, backbone)
    root, asked = spec.root, None
    if spec.transfer is not None:
        marked = {"uncertain": spec.uncertain, "blank": spec.blank}
        beside = groups["data"] | {key: value for key, value in marked.items() if value is not None}
        asked, root = ask(spec.transfer, data, spec.root, groups["transfer"], beside)
        require(frozenset({"tokens"}), f"transfer {asked.transfer.name}", backbone)
    elif groups["transfer"]:
        key = next(iter(groups["transfer"]))
        raise BadSetting(
            f"transfer.{key} is set, and nothing is transferred", where="--set", fix="add --transfer"
        )
    source = DataSource.make(data, root, groups["data"], uncertain=spec.uncertain, blank=spec.blank)
    with blamed(scenario_class, "scenario", "__init__"):
        scenario: Scenario = make(scenario_class, groups["scenario"], owner=f"scenario {scenario_name}")
    return Parts(
        source=source,
        scenario=scenario,
        strategy=strategy,
        origin=origin_of(plain_name),
        backbone=backbone,
        bank=shared.bank(spec.prompts or source.prompts or DEFAULTS["prompts"]),
        search=search,
        strategy_code=code_beside(plain_name, strategy_class),
        scenario_code=code_of("scenarios", scenario_name, scenario_class),
        preset=spec.strategy.removeprefix(plain_name).removeprefix("/"),
        transfer=asked,
    )


def _strategies(
    cls: type[Strategy], name: str, settings: Mapping[str, Any], spec: Spec
) -> tuple[Strategy, Candidates | None]:
    """A strategy with these settings, and those that a search is to choose from."""
    require_declared(cls, name)

    def build(more: Mapping[str, Any]) -> Strategy:
        with attributed(cls, "__init__"):
            made: Strategy = make(cls, {**settings, **more}, owner=f"strategy {name}")
        for key, value in values_of(made).items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise UserError(f"setting {key} is not JSON ({error})", where=f"strategy {name}") from None
        return made

    strategy = build({})
    by_hand = {key.removeprefix("strategy."): value for key, value in spec.settings.items()}
    return strategy, Candidates.make(spec.search, build, given=by_hand) if spec.search else None


def dotted(setting: str, scenarios: Iterable[type[Any]], datasets: Iterable[type[Any]]) -> list[str]:
    """A setting's names for ``--set`` where it is no strategy's, but a scenario's or a data set's."""
    name = setting.replace("-", "_")
    owners = {"scenario": scenarios, "data": datasets}
    return [
        f"{group}.{name}"
        for group, classes in owners.items()
        if any(name in {s.name for s in settings_of(cls)} for cls in classes)
    ]


def find_strategy(name: str) -> tuple[type[Strategy], str, Mapping[str, Any]]:
    """The class of a strategy, its plain name, and the settings of the preset that the name asks for.

    Args:
        name: ``re-tune``, ``re-tune/paper``, ``distribution/name``, ``avalanche:EWC``, ``avalanche:EWC/trunk``,
            a Python file, or a preset of it: ``FILE.py/PRESET``.

    Raises:
        UserError: If there is no such strategy or preset.
    """
    if not avalanche.is_bridged(name):
        return registry("strategies").load_preset(name)
    head, slash, preset = name.rpartition("/")
    if not slash:
        return avalanche.load(name), name, {}
    found = avalanche.load(head)
    return found, head, preset_of(found, preset, f"strategy {head}")


def require_capabilities(strategy: Strategy, name: str, backbone: Backbone) -> None:
    """See that a backbone gives what a strategy needs; nothing is loaded for it.

    Raises:
        UserError: Says what is lacking, and which backbones would do.
    """
    with attributed(strategy, "requires"):
        needs = strategy.requires()
    require_needs(needs, name)
    plain = "start" in {setting.name for setting in settings_of(type(strategy))}
    instead = "begin without prompts (--set start=zeros), or " if plain else ""
    if backbone.precomputed and sorted(needs - backbone.capabilities) == ["joint"]:
        raise UserError(
            f"strategy {name} needs prompts, and the file holds no texts",
            where=backbone.name,
            fix=f"{instead}make it again with 'retune embed ... --prompts BANK'",
        )
    require(needs, f"strategy {name}", backbone, instead)


def require(needs: frozenset[Need], who: str, backbone: Backbone, instead: str = "") -> None:
    """See that a backbone gives what somebody needs.

    Args:
        needs: What is needed.
        who: By whom.
        backbone: Which one.
        instead: What to do where images and texts have no joint space.

    Raises:
        UserError: Says what is lacking, and which backbones would do.
    """
    # What the data set gives is asked of no backbone.
    asked = {capability for capability in MEANINGS if capability in needs}
    lacking = sorted(asked - backbone.capabilities)
    if not lacking:
        return
    known = registry("backbones")
    able = [n for n in known.names() if asked <= known.load(n)().capabilities]
    other = f"these do: {', '.join(able)}" if able else "no packaged backbone gives that"
    raise UserError(
        f"{who} needs {' and '.join(f'{need} ({MEANINGS[need]})' for need in lacking)}, "
        f"which backbone {backbone.name} does not give",
        fix=f"{instead}choose another: {other}" if instead and lacking == ["joint"] else other,
    )


def origin_of(name: str) -> str:
    """Who brings a strategy: a distribution, or a file with the digest of it and its helpers."""
    if avalanche.is_bridged(name):
        return avalanche.origin()
    if not is_file(name):
        return registry("strategies").origin(name)
    return f"file sha256:{code_of_file(name)}"


def code_beside(name: str, cls: type[Strategy]) -> str:
    """Digest of a strategy's code; empty where its origin tells it."""
    told = is_file(name) or avalanche.is_bridged(name)
    return "" if told else code_of("strategies", name, cls)
