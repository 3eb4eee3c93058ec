"""A run, said in names and settings and turned into the objects that do it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from retune.avalanche_bridge import names as avalanche
from retune.backbones.base import MEANINGS, Backbone
from retune.backbones.load import load_backbone
from retune.backbones.precision import Precision
from retune.data.chexpert_labels import Blank, Uncertain
from retune.data.source import DataSource
from retune.errors import BadSetting, UnknownName, UserError
from retune.methods.given import Need
from retune.methods.strategy import Strategy
from retune.plugins import is_file, registry
from retune.prompts import PromptBank
from retune.prompts import load as load_bank
from retune.search import Search
from retune.settings import Positive, make, read_value, settings_of, values_of
from retune.streams.stream import Scenario
from retune.supervised import aside, blamed

DEFAULTS: Final = {
    "scenario": "class-incremental",
    "strategy": "re-tune",
    "data": "phantom",
    "backbone": "phantom-clip",
    "prompts": "language-model",
}
BY_DATASET: Final = "data-incremental"
"""The scenario of several data sets where none is named."""


@dataclass(frozen=True)
class Spec:
    """What a user asks for.

    Args:
        scenario: Name of a scenario, or a Python file; None for class-incremental, or data-incremental
            over several data sets.
        strategy: Name of a strategy, a Python file, or ``avalanche:`` and the name of one of Avalanche's.
        data: Name of a data set, or several with commas between; None for the scenario's own, else phantom.
        root: Folder of the data set's files. Of several data sets: a folder for each name, or one that
            holds a folder of each name.
        backbone: Name of a backbone, or ``open_clip:``, ``hf-hub:``, ``local-dir:``, ``pair:`` or
            ``features:`` and what to load.
        prompts: Name of a prompt bank, or a JSONL file.
        steps: Number of experiences, where the scenario has that setting.
        seed: Of every random draw.
        uncertain: What labels marked uncertain count as, where the data set knows such; None for its default.
        blank: What labels that are not mentioned count as; None for the data set's default.
        settings: By name: plain ones go to the strategy, ``scenario.order`` and ``data.size`` style ones
            to the scenario and the data set, ``data.nih.views`` to one of several. Values may be text.
        device: Where to encode and learn, e.g. ``cpu`` or ``cuda:1``; ``auto`` is a GPU where there is one.
        precision: Of the products in the backbone's towers: fp32 or bf16; maps on cached features learn in fp32.
        skip_bad_images: Leave out images that are missing or cannot be decoded.
        replicates: Bootstrap replicates behind each interval.
        search: Values to choose from, by the strategy's settings: those are taken that are best on patients held
            out of the first experience; see :mod:`retune.search`.
        time_limit: Seconds that a strategy may take to set up, to learn from one experience or to score; None for
            as long as it likes. It changes no result.
    """

    scenario: str | None = None
    strategy: str = DEFAULTS["strategy"]
    data: str | None = None
    root: str | Path | Mapping[str, str | Path] | None = None
    backbone: str = DEFAULTS["backbone"]
    prompts: str = DEFAULTS["prompts"]
    steps: int | None = None
    seed: int = 0
    uncertain: Uncertain | None = None
    blank: Blank | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    precision: Precision = "fp32"
    skip_bad_images: bool = False
    replicates: int = 1000
    search: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    time_limit: float | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise BadSetting(f"{self.seed} is below 0", where="--seed", fix="give a whole number from 0")
        if self.replicates < 1:
            raise BadSetting(
                f"{self.replicates} is below 1", where="--replicates", fix="give a whole number from 1"
            )
        for option, kind in (
            ("uncertain", Uncertain | None),
            ("blank", Blank | None),
            ("precision", Precision),
            ("time_limit", Positive | None),
        ):
            read_value(kind, getattr(self, option), where=f"--{option.replace('_', '-')}")


@dataclass(frozen=True)
class Parts:
    """The objects of a run, made and checked before anything is read or encoded."""

    source: DataSource
    scenario: Scenario
    strategy: Strategy
    origin: str
    backbone: Backbone
    bank: PromptBank
    search: Search | None = None

    @property
    def needs(self) -> frozenset[Need]:
        """What the strategy asks of the backbone, or any that is tried in a search."""
        tried = self.search.candidates if self.search else (self.strategy,)
        return frozenset().union(*(strategy.requires() for strategy in tried))

    def identity(self) -> dict[str, Any]:
        """Whatever names and settings determine a result; data and seed are added by the runner."""
        return {
            "data": {"name": self.source.name, "settings": self.source.settings},
            "scenario": {"name": self.scenario.name, "settings": values_of(self.scenario)},
            "strategy": {
                "name": self.strategy.name,
                "version": self.strategy.version,
                "origin": self.origin,
                "settings": values_of(self.strategy),
                **({"search": self.search.settings()} if self.search else {}),
            },
            "backbone": self.backbone.fingerprint,
            "prompts": self.bank.fingerprint,
        }


@aside()
def resolve(
    spec: Spec,
    *,
    backbone: Callable[..., Backbone] = load_backbone,
    bank: Callable[[str], PromptBank] = load_bank,
) -> Parts:
    """Turn names and settings into objects.

    Args:
        spec: What a user asks for.
        backbone: Makes the backbone; see :class:`retune.shelf.Shelf` for one that keeps what it made.
        bank: Makes the prompt bank.

    Raises:
        UserError: If a name, a setting or a value is wrong, or the backbone cannot do what the strategy needs.
    """
    groups: dict[str, dict[str, Any]] = {"data": {}, "scenario": {}, "strategy": {}}
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
    strategy, search = _strategies(strategy_class, plain_name, {**preset, **groups["strategy"]}, spec)
    encoder = backbone(spec.backbone, device=spec.device, precision=spec.precision)
    for tried in search.candidates if search else (strategy,):
        require_capabilities(tried, spec.strategy, encoder)
    return Parts(
        source=DataSource.make(data, spec.root, groups["data"], uncertain=spec.uncertain, blank=spec.blank),
        scenario=make(scenario_class, groups["scenario"], owner=f"scenario {scenario_name}"),
        strategy=strategy,
        origin=origin_of(plain_name),
        backbone=encoder,
        bank=bank(spec.prompts),
        search=search,
    )


def _strategies(
    cls: type[Strategy], name: str, settings: Mapping[str, Any], spec: Spec
) -> tuple[Strategy, Search | None]:
    """A strategy with these settings, and those that a search is to choose from."""
    for attribute in ("name", "version"):
        if not isinstance(getattr(cls, attribute, None), str):
            raise UserError(
                f"{cls.__name__} lacks a {attribute}",
                where=f"strategy {name}",
                fix=f"add {attribute} = 'text'",
            )

    def build(more: Mapping[str, Any]) -> Strategy:
        with blamed(cls, "__init__"):
            made: Strategy = make(cls, {**settings, **more}, owner=f"strategy {name}")
        for key, value in values_of(made).items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise UserError(f"setting {key} is not JSON ({error})", where=f"strategy {name}") from None
        return made

    strategy = build({})
    by_hand = {key.removeprefix("strategy."): value for key, value in spec.settings.items()}
    return strategy, Search.make(spec.search, build, given=by_hand) if spec.search else None


def find_strategy(name: str) -> tuple[type[Strategy], str, Mapping[str, Any]]:
    """The class of a strategy, its plain name, and the settings of the preset that the name asks for.

    Args:
        name: ``re-tune``, ``re-tune/paper``, ``distribution/name``, ``avalanche:EWC``, a Python file, or
            a preset of it: ``FILE.py/PRESET``.

    Raises:
        UserError: If there is no such strategy or preset.
    """
    if avalanche.is_bridged(name):
        return avalanche.load(name), name, {}
    known = registry("strategies")
    head, slash, preset = name.rpartition("/")
    of_file = is_file(head) and ".py" not in preset
    if not of_file and not any(slash and head in (e.name, f"{e.origin}/{e.name}") for e in known.entries):
        return known.load(name), name, {}
    found: type[Strategy] = known.load(head)
    if preset not in found.presets:
        raise UnknownName(f"preset of strategy {head}", preset, found.presets)
    return found, head, found.presets[preset]


def require_capabilities(strategy: Strategy, name: str, backbone: Backbone) -> None:
    """See that a backbone gives what a strategy needs; nothing is loaded for it.

    Raises:
        UserError: Says what is lacking, and which backbones would do.
    """
    with blamed(strategy, "requires"):
        needs = strategy.requires()
    if not isinstance(needs, Set) or not all(isinstance(need, str) for need in needs):
        raise UserError(f"needs {needs!r}, which is no set of names", where=f"strategy {name}")
    for need in sorted(needs - set(MEANINGS)):
        raise UnknownName("need", need, MEANINGS, where=f"strategy {name}")
    lacking = sorted(needs - backbone.capabilities)
    if not lacking:
        return
    if backbone.precomputed and lacking == ["joint"]:
        raise UserError(
            f"strategy {name} needs prompts, and the file holds no texts",
            where=backbone.name,
            fix="make it again with 'retune embed ... --prompts BANK'",
        )
    known = registry("backbones")
    able = [n for n in known.names() if needs <= known.load(n)().capabilities]
    raise UserError(
        f"strategy {name} needs {' and '.join(f'{need} ({MEANINGS[need]})' for need in lacking)}, "
        f"which backbone {backbone.name} does not give",
        fix=f"these do: {', '.join(able)}" if able else "no packaged backbone gives that",
    )


def run_id(identity: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of whatever determines a result."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def origin_of(name: str) -> str:
    """Who brings a strategy: a distribution, or a file with the digest of its content."""
    if avalanche.is_bridged(name):
        return avalanche.origin()
    if not is_file(name):
        return registry("strategies").origin(name)
    path = Path(name.partition(".py")[0] + ".py").expanduser()
    return f"file sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
