"""A run, said in names and settings and turned into the objects that do it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from retune.backbones.base import Backbone
from retune.backbones.load import load_backbone
from retune.data.readers.base import Reader
from retune.errors import BadSetting, UserError
from retune.plugins import is_file, registry
from retune.prompts import PromptBank
from retune.prompts import load as load_bank
from retune.settings import make, settings_of, values_of
from retune.strategy import Strategy
from retune.stream import Scenario

DEFAULTS: Final = {
    "scenario": "class-incremental",
    "strategy": "re-tune",
    "data": "phantom",
    "backbone": "phantom-clip",
    "prompts": "language-model",
}


@dataclass(frozen=True)
class Spec:
    """What a user asks for.

    Args:
        scenario: Name of a scenario, or a Python file.
        strategy: Name of a strategy, or a Python file.
        data: Name of a data set.
        root: Folder of the data set's files.
        backbone: Name of a backbone, or ``open_clip:``, ``hf-hub:`` or ``local-dir:`` and a model.
        prompts: Name of a prompt bank, or a JSONL file.
        steps: Number of experiences, where the scenario has that setting.
        seed: Of every random draw.
        settings: By name: plain ones go to the strategy, ``scenario.order`` and ``data.size`` style ones
            to the scenario and the data set. Values may be text.
        skip_bad_images: Leave out images that are missing or cannot be decoded.
        replicates: Bootstrap replicates behind each interval.
    """

    scenario: str = DEFAULTS["scenario"]
    strategy: str = DEFAULTS["strategy"]
    data: str = DEFAULTS["data"]
    root: Path | None = None
    backbone: str = DEFAULTS["backbone"]
    prompts: str = DEFAULTS["prompts"]
    steps: int | None = None
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    skip_bad_images: bool = False
    replicates: int = 1000

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise BadSetting(f"{self.seed} is below 0", where="--seed", fix="give a whole number from 0")
        if self.replicates < 1:
            raise BadSetting(
                f"{self.replicates} is below 1", where="--replicates", fix="give a whole number from 1"
            )


@dataclass(frozen=True)
class Parts:
    """The objects of a run, made and checked before anything is read or encoded."""

    reader: Reader
    scenario: Scenario
    strategy: Strategy
    origin: str
    backbone: Backbone
    bank: PromptBank

    def identity(self) -> dict[str, Any]:
        """Whatever names and settings determine a result; data and seed are added by the runner."""
        return {
            "data": {"name": self.reader.name, "settings": values_of(self.reader)},
            "scenario": {"name": self.scenario.name, "settings": values_of(self.scenario)},
            "strategy": {
                "name": self.strategy.name,
                "version": self.strategy.version,
                "origin": self.origin,
                "settings": values_of(self.strategy),
            },
            "backbone": self.backbone.fingerprint,
            "prompts": self.bank.fingerprint,
        }


def resolve(spec: Spec) -> Parts:
    """Turn names and settings into objects.

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
    scenario_class = registry("scenarios").load(spec.scenario)
    if spec.steps is not None:
        if "steps" not in {s.name for s in settings_of(scenario_class)}:
            raise BadSetting(
                f"scenario {spec.scenario} has no setting steps", where="--steps", fix="leave it out"
            )
        groups["scenario"]["steps"] = spec.steps
    strategy_class = registry("strategies").load(spec.strategy)
    strategy = make(strategy_class, groups["strategy"], owner=f"strategy {spec.strategy}")
    backbone = load_backbone(spec.backbone)
    lacking = sorted(strategy.needs - backbone.capabilities)
    if lacking:
        raise UserError(
            f"strategy {spec.strategy} needs {', '.join(lacking)}, which backbone {spec.backbone} does not give"
        )
    return Parts(
        reader=make(registry("datasets").load(spec.data), groups["data"], owner=f"data set {spec.data}"),
        scenario=make(scenario_class, groups["scenario"], owner=f"scenario {spec.scenario}"),
        strategy=strategy,
        origin=_origin(spec.strategy),
        backbone=backbone,
        bank=load_bank(spec.prompts),
    )


def run_id(identity: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of the SHA-256 of whatever determines a result."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _origin(name: str) -> str:
    if not is_file(name):
        return registry("strategies").origin(name)
    path = Path(name.partition(".py")[0] + ".py").expanduser()
    return f"file sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
