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
from retune.plugins import is_file
from retune.runner.spec import MOST_SEEDS
from retune.streams.arrival import MOST_ORDERS, TaskOrder
from retune.streams.cuts import LabelOrder

ALL: Final = "all"
MOST: Final = 2**20
"""Bytes of a suite's file."""
DOTS: Final = 1000
"""In a line of it."""
DEPTH: Final = 32
FILES: Final = ("features", "local-dir")
"""Schemes of backbones that name a path."""


def _listed(value: Any) -> Any:
    """One for a list of one: ``data = "nih"``."""
    return [value] if isinstance(value, str | dict) else value


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
Listed = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
Root = str | dict[str, str] | None
Values = Annotated[list[Any], Field(min_length=1)]


class Part(BaseModel):
    """What is written in a suite: no key but those that are known."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class StrategyChoice(Part):
    """A strategy with settings and a name of its own.

    Attributes:
        strategy: Its name, ``NAME/PRESET``, ``avalanche:NAME`` or a Python file.
        name: What tables call it; by default the same.
        settings: Its settings; written ``set``.
        search: Values to choose from on held-out patients of the first experience.
    """

    strategy: str
    name: str | None = None
    settings: Settings = Field(default_factory=dict, alias="set")
    search: dict[str, Values] = {}

    @property
    def called(self) -> str:
        """What tables call it."""
        return self.name or stem(self.strategy)


class DataChoice(Part):
    """A data set with its folder and settings of its own.

    Attributes:
        data: Its name, or a preset's as ``phantom/large``, or several with commas between, which are one data set then.
        name: What tables call it; by default the same.
        root: Folder of its files, or one for each of several.
        uncertain: What labels marked uncertain count as.
        blank: What labels not mentioned count as.
        settings: Its settings, without ``data.``; written ``set``.
    """

    data: str
    name: str | None = None
    root: Root = None
    uncertain: Uncertain | None = None
    blank: Blank | None = None
    settings: Settings = Field(default_factory=dict, alias="set")


def _tables(key: str) -> BeforeValidator:
    """Names for tables of nothing but a name: ``data = ["nih", { data = "phantom" }]``."""

    def tables(value: Any) -> Any:
        listed = _listed(value)
        if not isinstance(listed, list):
            raise ValueError("is not a list")
        return [{key: one} if isinstance(one, str) else one for one in listed]

    return BeforeValidator(tables)


class Suite(Part):
    """Strategies x scenarios x data sets x backbones x seeds x label orders.

    Attributes:
        strategies: Names, or tables of :class:`StrategyChoice`; ``all`` stands for every built-in one.
        scenarios: Listed, or Python files.
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

    strategies: Annotated[list[StrategyChoice], _tables("strategy"), Field(min_length=1)] = [
        StrategyChoice(strategy=ALL)
    ]
    scenarios: Listed = ["class-incremental", "label-incremental", "data-incremental"]
    data: Annotated[list[DataChoice], _tables("data"), Field(min_length=1)] | None = None
    root: Root = None
    backbones: Listed = ["phantom-clip"]
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
    transfer: str | None = None
    metrics: Annotated[list[str], BeforeValidator(_listed)] = []
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
    return Path(name.partition(".py")[0]).name if is_file(name) else name


def read_suite(file: str | Path | None = None, options: Mapping[str, Any] | None = None) -> Suite:
    """Read a suite.

    Args:
        file: A TOML file; paths in it are relative to its folder.
        options: Keys of :class:`Suite` that count in place of the file's.

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
    try:
        return Suite.model_validate(merged)
    except ValidationError as error:
        raise _mistake(error, str(file) if file is not None else "", set(given)) from None


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


def _mistake(error: ValidationError, file: str, options: set[str]) -> UserError:
    """The first thing that is wrong, with the key it stands under."""
    first = error.errors()[0]
    # What pydantic calls the branches of a union is no key.
    place = [str(p) for p in first["loc"] if not str(p).startswith(("function-", "constrained-", "list["))]
    key = ".".join(place)
    option = place and place[0] in options
    where = (
        f"--{_option(place[0], first['input'])}" if option else ", ".join(filter(None, [file, f"key {key}"]))
    )
    if first["type"] == "extra_forbidden":
        tables: dict[str, type[Part]] = {"strategies": StrategyChoice, "data": DataChoice}
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
        "scenarios": plugin,
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
