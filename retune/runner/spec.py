"""A run as a user asks for it: in names and settings, and as it is typed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from retune.backbones.precision import Precision
from retune.data.chexpert_labels import Blank, Uncertain
from retune.errors import BadSetting
from retune.parts import part
from retune.plugins import Kind
from retune.settings import Positive, read_value, searched, typed

DEFAULTS: Final = {
    "scenario": "class-incremental",
    "strategy": "re-tune",
    "data": "phantom",
    "backbone": "phantom-clip",
    "prompts": "language-model",
}
BY_DATASET: Final = "data-incremental"
"""The scenario of several data sets where none is named."""
OPTIONS: Final = {"settings": "set", "metrics": "metric"}
"""Fields that are options of another name."""
PARTS: Final[dict[str, Kind]] = {
    "strategy": "strategies",
    "scenario": "scenarios",
    "data": "datasets",
    "transfer": "transfers",
    "backbone": "backbones",
}
"""Fields that name a part of a run."""
MOST_SEEDS: Final = 10_000
"""More than anyone runs; a slip of the pen would keep a machine for years."""


@dataclass(frozen=True)
class Spec:
    """What a user asks for.

    From Python a class or an instance may stand for the name of a strategy, scenario, data set, backbone, transfer or
    metric: its name then takes its place, and what an instance is set to counts where ``settings`` does not say.

    Args:
        scenario: Name of a scenario, or a Python file; None for class-incremental, or data-incremental
            over several data sets.
        strategy: Name of a strategy, a Python file, or ``avalanche:`` and the name of one of Avalanche's.
        data: Name of a data set, of a preset of one as ``phantom/large``, or several with commas between; None for the
            scenario's own, else phantom.
        root: Folder of the data set's files. Of several data sets: a folder for each name, or one that
            holds a folder of each name.
        backbone: Name of a backbone, or ``open_clip:``, ``hf-hub:``, ``local-dir:``, ``pair:`` or
            ``features:`` and what to load.
        prompts: Name of a prompt bank, or a JSONL file; None for that of the data's preset, else language-model.
        steps: Number of experiences, where the scenario has that setting.
        seed: Of every random draw.
        uncertain: What labels marked uncertain count as, where the data set knows such; None for its default.
        blank: What labels that are not mentioned count as; None for the data set's default.
        settings: By name: plain ones go to the strategy, ``scenario.order`` and ``data.size`` style ones
            to the scenario and the data set, ``data.nih.views`` to one of several; ``transfer.size`` to the transfer,
            or, if it is none of its settings, to its data set. Values may be text.
        device: Where to encode and learn, e.g. ``cpu`` or ``cuda:1``; ``auto`` is a GPU where there is one.
        precision: Of the products in the backbone's towers: fp32 or bf16; maps on cached features learn in fp32.
        skip_bad_images: Leave out images that are missing or cannot be decoded.
        replicates: Bootstrap replicates behind each interval.
        search: Values to choose from, by the strategy's settings: those are taken that are best on patients held
            out of the first experience; see :mod:`retune.runner.search`.
        transfer: What is measured beside classification at every moment: ``segmentation``, or ``segmentation:DATA``
            for the data set with the masks; None for nothing.
        metrics: Metrics of one's own beside those that are installed: names, or Python files. They change no result.
        time_limit: Seconds that a strategy may take to set up, to learn from one experience or to score; None for
            as long as it likes. It changes no result.
    """

    scenario: str | None = None
    strategy: str = DEFAULTS["strategy"]
    data: str | None = None
    root: str | Path | Mapping[str, str | Path] | None = None
    backbone: str = DEFAULTS["backbone"]
    prompts: str | None = None
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
    transfer: str | None = None
    metrics: Sequence[str] = ()
    time_limit: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.settings, Mapping):
            raise BadSetting(
                f"is {type(self.settings).__name__}, not a dictionary",
                where="option settings",
                fix='write settings={"epochs": 5}',
            )
        self._name_parts()
        for option in ("seed", "replicates"):
            read_value(int, getattr(self, option), where=f"--{option}")
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

    def _name_parts(self) -> None:
        """Put names in place of classes and instances."""

        def put(option: str, value: Any) -> None:
            object.__setattr__(self, option, value)

        settings: dict[str, Any] = {}
        for option, kind in PARTS.items():
            if (given := getattr(self, option)) is None:
                continue
            found = part(kind, given, f"option {option}")
            put(option, found.name)
            prefix = "" if option == "strategy" else f"{option}."
            if kind == "backbones":
                for key, value in found.settings.items():
                    if getattr(self, key) == getattr(type(self), key):
                        put(key, value)
            else:
                settings |= {f"{prefix}{key}": value for key, value in found.settings.items()}
        if settings:
            put("settings", {**settings, **self.settings})
        given = () if self.metrics is None else self.metrics
        listed = given if isinstance(given, list | tuple) else [given]
        put("metrics", tuple(part("metrics", one, "option metrics").name for one in listed))

    def words(self, always: Collection[str] = ("scenario", "strategy", "seed")) -> list[str]:
        """The words of the command that does this run.

        Args:
            always: Options that are given at their defaults, too.
        """
        words = ["retune", "run"]
        for field_ in dataclasses.fields(self):
            value = getattr(self, field_.name)
            default = field_.default if field_.default is not dataclasses.MISSING else {}
            if value is not None and (field_.name in always or value != default):
                words += option(OPTIONS.get(field_.name, field_.name.replace("_", "-")), value)
        return words


def option(name: str, value: Any) -> Iterator[str]:
    """An option and its value as words; a table's or a list's as often as it is long."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from (f"--{name}", searched(key, one) if name == "search" else f"{key}={typed(one)}")
    elif isinstance(value, list | tuple):
        for one in value:
            yield from option(name, one)
    elif value is True:
        yield f"--{name}"
    elif str(value).startswith("-"):
        # Must not be read as another option.
        yield f"--{name}={value}"
    else:
        yield from (f"--{name}", str(value))
