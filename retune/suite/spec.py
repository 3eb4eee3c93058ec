"""A suite as a user asks for it, in a TOML file or as options."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from retune.backbones.precision import Precision
from retune.data.chexpert_labels import Blank, Uncertain
from retune.errors import BadSetting, UnknownName, UserError
from retune.files import read_small
from retune.parts import part
from retune.plugins import Kind, is_file, path_of
from retune.runner.spec import MOST_SEEDS
from retune.streams.arrival import MOST_ORDERS, TaskOrder
from retune.streams.cuts import LabelOrder

ALL: Final = "all"
MOST: Final = 2**20
"""Bytes of a suite's file."""
DOTS: Final = 1000
"""In a line of it."""
DEPTH: Final = 32
OPTIONS: Final[dict[Kind, str]] = {
    "strategies": "strategies",
    "scenarios": "scenarios",
    "datasets": "data",
    "backbones": "backbones",
    "metrics": "metrics",
    "transfers": "transfer",
}
"""The keys that hold names of parts."""
FILES: Final = ("features", "local-dir")
"""Schemes of backbones that name a path."""


def _listed(value: Any) -> Any:
    """One for a list of one: ``data = "nih"``."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _unset(kind: Kind, given: Any) -> Any:
    """A name for a class, or for an instance that is set to nothing: its settings would have no place."""
    if given is None:
        return None
    found = part(kind, given, OPTIONS[kind], elsewhere=True)
    if found.settings:
        told = ", ".join(f"{key}={value!r}" for key, value in found.settings.items())
        what = f"{found.name} is set to {told}, and a suite sets that for all of its runs"
        raise UserError(what, where=OPTIONS[kind], fix="give its class, and the settings to the suite")
    return found.name


def _named(kind: Kind) -> BeforeValidator:
    """Names for classes and instances; what an instance is set to has no place here."""

    def named(value: Any) -> list[str]:
        return [_unset(kind, one) for one in _listed(value)]

    return BeforeValidator(named)


def _flat(value: Any, prefix: str = "") -> Any:
    """Settings by dotted names, however the tables were nested."""
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, one in value.items():
        found |= _flat(one, f"{prefix}{key}.") if isinstance(one, dict) else {f"{prefix}{key}": one}
    return found


def _counted(value: Any) -> Any:
    """Seeds 0 to n-1 where only their number is given."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(f"{value} is below 1")
        if value > MOST_SEEDS:
            raise ValueError(f"{value:,} is more than {MOST_SEEDS:,}")
        return list(range(value))
    return value


def _numbered(value: Any) -> Any:
    """Task orders 1 to n where only their number is given; names are label orders."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MOST_ORDERS:
            raise ValueError(f"{value:,} is not from 1 to {MOST_ORDERS:,}")
        return list(range(1, value + 1))
    return _listed(value)


Settings = Annotated[dict[str, Any], BeforeValidator(_flat)]
Seeds = Annotated[
    list[Annotated[int, Field(ge=0)]],
    BeforeValidator(_counted),
    Field(min_length=1, max_length=MOST_SEEDS),
]
Root = str | dict[str, str] | None
Values = Annotated[list[Any], Field(min_length=1)]


class Part(BaseModel):
    """What is written in a suite: no key but those that are known."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Choice(Part):
    """A part of runs with settings and a name of its own.

    Attributes:
        name: What tables call it; by default what it calls itself, with the settings that tell it from others of it.
        settings: Its settings; written ``set``.
    """

    name: str | None = None
    settings: Settings = Field(default_factory=dict, alias="set")

    @property
    def asked(self) -> str:
        """What it is chosen by."""
        raise NotImplementedError


class StrategyChoice(Choice):
    """A strategy with settings and a name of its own.

    Attributes:
        strategy: Its name, ``NAME/PRESET``, ``avalanche:NAME`` or a Python file.
        search: Values to choose from on held-out patients of the first experience.
    """

    strategy: str
    search: dict[str, Values] = {}

    @property
    def asked(self) -> str:
        """What it is chosen by."""
        return self.strategy

    @property
    def called(self) -> str:
        """What it is addressed by, if not by what it is chosen by."""
        return self.name or stem(self.strategy)


class ScenarioChoice(Choice):
    """A scenario with settings and a name of its own.

    Attributes:
        scenario: Its name, or a Python file.
    """

    scenario: str

    @property
    def asked(self) -> str:
        """What it is chosen by."""
        return self.scenario


class DataChoice(Choice):
    """A data set with its folder and settings of its own, these without ``data.``.

    Attributes:
        data: Its name, or a preset's as ``phantom/large``, or several with commas between, which are one data set then.
        root: Folder of its files, or one for each of several.
        uncertain: What labels marked uncertain count as.
        blank: What labels not mentioned count as.
    """

    data: str
    root: Root = None
    uncertain: Uncertain | None = None
    blank: Blank | None = None

    @property
    def asked(self) -> str:
        """What it is chosen by."""
        return self.data


def _tables(key: str, kind: Kind) -> BeforeValidator:
    """Tables for names, classes and instances: ``data = ["nih", { data = "phantom" }]``."""

    def table(one: Any) -> Any:
        if isinstance(one, Part) or (isinstance(one, dict) and key not in one):
            return one
        given = one if isinstance(one, dict) else {key: one}
        found = part(kind, given[key], OPTIONS[kind], elsewhere=True)
        named = {**given, key: found.name}
        return (
            {**named, "set": {**found.settings, **_flat(given.get("set") or {})}} if found.settings else named
        )

    return BeforeValidator(lambda value: [table(one) for one in _listed(value)])


class Suite(Part):
    """Strategies x scenarios x data sets x backbones x seeds x label orders.

    Attributes:
        strategies: Names, or tables of :class:`StrategyChoice`; ``all`` stands for every built-in one.
        scenarios: Names, or tables of :class:`ScenarioChoice`.
        data: Names, or tables of :class:`DataChoice`; the scenario's own, else phantom, where left out.
        root: Folder of the data sets' files, or one for each by name.
        backbones: Names.
        prompts: Name of a prompt bank, or a JSONL file; that of a data set's preset, else language-model, where left out.
        seeds: How many, or which.
        orders: How many task orders, 1 being the scenario's own, or which, for scenarios with the setting ``task_order``;
            or label orders by name, for those with the setting ``order``.
        steps: Number of experiences, of the scenarios that have the setting.
        uncertain: As in a :class:`DataChoice`, for those that do not say.
        blank: Likewise.
        settings: For whatever has them: ``epochs``, ``data.images``, ``scenario.by``; written ``set``.
        strategy: Settings of single strategies, by the name that stands in ``strategies``.
        search: Values to choose from, by strategy and setting.
        replicates: Bootstrap replicates behind each interval.
        device: Where to encode and learn.
        precision: Of the products in the backbone's towers.
        transfer: What is measured beside classification in every run: ``segmentation``, or ``segmentation:DATA``.
        metrics: Of one's own, beside those that are installed: names, or Python files.
        time_limit: Seconds that a strategy may take for one experience.
        skip_bad_images: Leave out images that are missing or cannot be decoded.
    """

    strategies: Annotated[list[StrategyChoice], _tables("strategy", "strategies"), Field(min_length=1)] = [
        StrategyChoice(strategy=ALL)
    ]
    scenarios: Annotated[list[ScenarioChoice], _tables("scenario", "scenarios"), Field(min_length=1)] = [
        ScenarioChoice(scenario=f"{shown}-incremental") for shown in ("class", "label", "data")
    ]
    data: Annotated[list[DataChoice], _tables("data", "datasets"), Field(min_length=1)] | None = None
    root: Root = None
    backbones: Annotated[list[str], _named("backbones"), Field(min_length=1)] = ["phantom-clip"]
    prompts: str | None = None
    seeds: Seeds = list(range(5))
    orders: Annotated[list[TaskOrder] | list[LabelOrder], BeforeValidator(_numbered)] = []
    steps: Annotated[int, Field(ge=1)] | None = None
    uncertain: Uncertain | None = None
    blank: Blank | None = None
    settings: Settings = Field(default_factory=dict, alias="set")
    strategy: dict[str, Settings] = {}
    search: dict[str, dict[str, Values]] = {}
    replicates: Annotated[int, Field(ge=1)] = 1000
    device: str = "auto"
    precision: Precision = "fp32"
    transfer: Annotated[str, BeforeValidator(partial(_unset, "transfers"))] | None = None
    metrics: Annotated[list[str], _named("metrics")] = []
    time_limit: Annotated[float, Field(gt=0)] | None = None
    skip_bad_images: bool = False

    @property
    def order_setting(self) -> str:
        """The scenarios' setting that ``orders`` are values of."""
        return "task_order" if self.orders and isinstance(self.orders[0], int) else "order"

    @property
    def outlined(self) -> list[str]:
        """The data set that the transfer names, if it names one."""
        return split((self.transfer or "").partition(":")[2])


def split(data: str) -> list[str]:
    """The data sets of a name with commas."""
    return [name.strip() for name in data.split(",") if name.strip()]


def stem(name: str) -> str:
    """A name; of a file, the file's without its folder."""
    return path_of(name).stem if is_file(name) else name


def read_suite(
    file: str | Path | None = None, options: Mapping[str, Any] | None = None, *, caller: str = ""
) -> Suite:
    """Read a suite.

    Args:
        file: A TOML file; paths in it are relative to its folder.
        options: Keys of :class:`Suite` that count in place of the file's.
        caller: The function that they were given to; else it was the command.

    Raises:
        UserError: If the file cannot be read, or a key or a value is wrong.
    """
    document: dict[str, Any] = {}
    if file is not None:
        path = Path(file).expanduser()
        document = _placed(_toml(path), path.parent)
    given = {key: value for key, value in (options or {}).items() if value is not None}
    merged = {**document, **{k: v for k, v in given.items() if k != "set"}}
    if given.get("set"):
        merged["set"] = {**_flat(document.get("set", {})), **given["set"]}
    told = str(file) if file is not None else ""
    try:
        return Suite.model_validate(merged)
    except UserError as error:
        place = f"{caller}, option {error.where}" if error.where in given else f"{told}, key {error.where}"
        raise UserError(error.what, where=place, fix=error.fix) from None
    except ValidationError as error:
        raise _mistake(error, told, set(given), caller) from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        content = read_small(path, MOST)
        # A key of very many parts takes a time that grows with their square.
        if max(line.count(b".") for line in content.split(b"\n")) > DOTS:
            raise UserError(f"has a line of more than {DOTS:,} dots", where=str(path), fix="break the line")
        document = tomllib.loads(content.decode().replace("\r\n", "\n"))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path)) from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"is not TOML: {reason}", where=str(path)) from None
    inner: list[Any] = [document]
    for _ in range(DEPTH):
        inner = [v for one in inner for v in (one.values() if isinstance(one, dict) else one)]
        inner = [one for one in inner if isinstance(one, dict | list)]
    if inner:
        raise UserError(f"is nested more than {DEPTH} deep", where=str(path), fix="no suite needs as much")
    return document


def _mistake(error: ValidationError, file: str, options: set[str], caller: str) -> UserError:
    """The first thing that is wrong, with the key it stands under."""
    first = error.errors()[0]
    # What pydantic calls the branches of a union is no key.
    place = [str(p) for p in first["loc"] if not str(p).startswith(("function-", "constrained-", "list["))]
    key = ".".join(place)
    option = place and place[0] in options
    where = ", ".join(filter(None, [file, f"key {key}"]))
    if option:
        where = f"{caller}, option {key}" if caller else f"--{_option(place[0], first['input'])}"
    if place == ["strategy"] and first["type"] == "dict_type":
        kind = "option" if caller else "key"
        return UnknownName(kind, "strategy", (), where=caller or file, elsewhere=["strategies"])
    if first["type"] == "extra_forbidden":
        tables: dict[str, type[Part]] = {
            "strategies": StrategyChoice,
            "scenarios": ScenarioChoice,
            "data": DataChoice,
        }
        model = tables.get(place[0], Suite) if len(place) > 1 else Suite
        names = {field.alias or name for name, field in model.model_fields.items()}
        return UnknownName("key", place[-1], names, where=file or None)
    reason = str(first["msg"]).removeprefix("Value error, ")
    given = first["input"]
    shown = f" (given: {given!r})" if isinstance(given, str | int | float) else ""
    return BadSetting(f"{reason[:1].lower()}{reason[1:]}{shown}", where=where)


def _option(key: str, value: Any) -> str:
    """What the command line calls a key."""
    if key == "orders" and isinstance(value, str):
        return "order"
    plurals = {
        "strategies": "strategy",
        "scenarios": "scenario",
        "backbones": "backbone",
        "metrics": "metric",
    }
    return plurals.get(key, key.replace("_", "-"))


def _placed(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A file's document with its relative paths taken from its own folder."""
    if folder == Path():
        return document

    def path(text: str) -> str:
        return str(folder / Path(text).expanduser())

    def plugin(name: Any) -> Any:
        return path(name) if isinstance(name, str) and is_file(name) else name

    def root(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: root(one) for name, one in value.items()}
        return path(value) if isinstance(value, str) else value

    def backbone(name: Any) -> Any:
        scheme, colon, rest = str(name).partition(":")
        return f"{scheme}:{path(rest)}" if colon and scheme in FILES else plugin(name)

    def choice(value: Any, key: str) -> Any:
        if not isinstance(value, dict):
            return plugin(value)
        more = {"root": root(value["root"])} if "root" in value else {}
        return {**value, key: plugin(value.get(key)), **more}

    placed = dict(document)
    places: dict[str, Callable[[Any], Any]] = {
        "strategies": partial(choice, key="strategy"),
        "data": partial(choice, key="data"),
        "scenarios": partial(choice, key="scenario"),
        "metrics": plugin,
        "backbones": backbone,
    }
    for key, place in places.items():
        if key in placed and isinstance(_listed(placed[key]), list):
            placed[key] = [place(one) for one in _listed(placed[key])]
    if "root" in placed:
        placed["root"] = root(placed["root"])
    if str(placed.get("prompts", "")).endswith(".jsonl"):
        placed["prompts"] = path(placed["prompts"])
    for key in ("strategy", "search"):
        if isinstance(placed.get(key), dict):
            placed[key] = {plugin(name): one for name, one in placed[key].items()}
    return placed
