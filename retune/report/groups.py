"""What may stand in one table, and what may be averaged.

One table: the same data set and backbone. One mean: the same stream but for the seed, and the same method.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from retune.errors import UserError
from retune.metrics.continual import check_first, nan_mean
from retune.metrics.seeds import mean_and_sd
from retune.metrics.table import DECIDES
from retune.results.compare import Estimate
from retune.results.result import BOUNDS, Bound, Result
from retune.results.transfers import measured, title
from retune.settings import typed
from retune.suite.runs import order_words

if TYPE_CHECKING:
    from retune.suite.summary import Row, Setting

Floats = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)
Compare = Callable[[Mapping[str, Sequence[Result]]], "Setting | None"]
"""A suite's table of one stream, from the runs of each method on it, by its label."""
UNNAMED: Final[Mapping[str, str]] = {}


@dataclass(frozen=True)
class Method:
    """A strategy with its settings, and whatever else but the seed makes it another.

    Args:
        strategy: Its name.
        name: The same, with the preset that it was asked for by, if any.
        settings: All of them.
        circumstances: What else tells two methods of one name apart, most telling first.
        bound: Whether it is an upper bound or a floor, beside the methods; empty for a method.
        label: What its suite calls it; else its name, with the settings that tell it from others of this name. No
            two methods of a section share one.
        short: The same for narrow places: of settings that are words, the word alone.
    """

    strategy: str
    name: str
    settings: dict[str, Any]
    circumstances: dict[str, Any]
    bound: Bound
    label: str = ""
    short: str = ""

    @classmethod
    def of(cls, result: Result) -> Method:
        """The method that gave a result."""
        strategy = result.strategy
        circumstances = {
            "prompts": result.prompts.name,
            "device": result.backbone.device,
            "replicates": result.bootstrap.replicates,
            "level": result.bootstrap.level,
            "version": strategy.version,
            "origin": strategy.origin,
            "code": strategy.code,
            "prompt bank": result.prompts.fingerprint[:12],
        }
        record = measured(result)
        if record is not None:
            circumstances["transfer"] = title(record)
            circumstances["transfer's settings"] = record.settings
        # Seeds may choose different values: it is the search that makes the method.
        searched = dict.fromkeys(strategy.search.chosen, "searched") if strategy.search else {}
        settings = {**strategy.settings, **searched}
        return cls(strategy.name, strategy.called, settings, circumstances, strategy.bound)

    @property
    def upper_bound(self) -> bool:
        """Whether it sees what no continual method may."""
        return self.bound == "upper bound"

    @property
    def key(self) -> str:
        """Text that is equal for equal methods."""
        return _text([self.strategy, self.settings, self.circumstances, self.upper_bound])


@dataclass(frozen=True)
class MethodGroup:
    """Runs of one method on one stream.

    Args:
        method: Which.
        runs: One for every seed.
        row: What a suite's table says of it, where it can be compared with the others.
    """

    method: Method
    runs: tuple[Result, ...]
    row: Row | None = None

    @property
    def averaged(self) -> bool:
        """Whether intervals are no more than the seeds' own, their ends averaged."""
        return self.row is None and len(self.runs) > 1

    def metric(self, name: str) -> Estimate:
        """A metric over seeds; without an interval of its mean the ends of the seeds' own are averaged."""
        if self.row is not None and name in self.row.metrics:
            return self.row.metrics[name]
        found = [run.metric(name) for run in self.runs]
        (low, high), _ = mean_and_sd(np.array([[one.low, one.high] for one in found], dtype=np.float64))
        return Estimate.of([one.value for one in found], low, high)

    @property
    def final(self) -> float | None:
        """What methods are ranked by, mean over seeds."""
        return self.metric(DECIDES.key).mean

    def curve(self) -> tuple[Floats, Floats]:
        """Mean AUC over the labels seen so far, and its standard deviation over seeds: (T,) each."""
        return mean_and_sd(np.stack([mean_seen(run) for run in self.runs]))

    @property
    def one_order(self) -> bool:
        """Whether labels come in the same order for every seed."""
        orders = [[shown.labels for shown in run.scenario.experiences] for run in self.runs]
        return all(order == orders[0] for order in orders)

    @property
    def shown(self) -> tuple[Result, ...]:
        """Runs whose matrices may be averaged: all, or the first seed's where the label order differs."""
        return self.runs if self.one_order else self.runs[:1]

    def matrix(self, which: str = "auc_matrix") -> Floats:
        """Mean over seeds of a matrix: (T+1, C)."""
        stack = np.array([getattr(run, which) for run in self.shown], dtype=np.float64)
        return mean_and_sd(stack)[0]

    def forgetting(self) -> tuple[Floats, Floats]:
        """What each label lost since its best, and the standard deviation over seeds: (C,) each."""
        return mean_and_sd(np.array([run.forgetting for run in self.runs], dtype=np.float64))

    def cost(self, name: str) -> float:
        """Mean over seeds of a cost."""
        return float(np.mean([getattr(run.cost, name) for run in self.runs]))


@dataclass(frozen=True)
class StreamGroup:
    """Runs on one stream, or on the streams that one scenario gives for several seeds.

    Args:
        title: Of the stream.
        groups: By final AUC, the best first; bounds last.
        setting: The same as a suite's table has it, where the methods can be compared.
    """

    title: str
    groups: tuple[MethodGroup, ...]
    setting: Setting | None = None

    @property
    def roles(self) -> dict[str, str]:
        """Whether each method is the best, tied with it or worse, by its label; nothing of one that stands alone."""
        rows = self.setting.rows if self.setting and len(self.ranks) > 1 else []
        return {row.strategy: row.role for row in rows}

    @property
    def ranks(self) -> dict[str, int]:
        """Of each continual method by its label, 1 for the best; equal values share a rank."""
        finals = {g.method.label: g.final for g in self.groups if not g.method.bound}
        known = {label: value for label, value in finals.items() if value is not None}
        return {label: 1 + sum(other > value for other in known.values()) for label, value in known.items()}

    @property
    def example(self) -> Result:
        """A result that tells what all of them share."""
        return self.groups[0].runs[0]

    @property
    def labels(self) -> list[str]:
        """Columns of every matrix."""
        return self.example.labels

    @property
    def steps(self) -> int:
        """Number of experiences."""
        return len(self.example.scenario.experiences)


@dataclass(frozen=True)
class Section:
    """One data set, one backbone; methods by their mean rank over its streams, bounds last."""

    title: str
    methods: tuple[Method, ...]
    streams: tuple[StreamGroup, ...]

    @property
    def results(self) -> list[Result]:
        """Every run, by stream, method and seed."""
        return [run for stream in self.streams for group in stream.groups for run in group.runs]


@dataclass(frozen=True)
class Runs:
    """Everything a report is about.

    Args:
        sections: Runs, put apart.
        notes: What must be said of how they were found.
    """

    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()

    @property
    def results(self) -> list[Result]:
        """Every run."""
        return [run for section in self.sections for run in section.results]


def sections(
    results: Iterable[Result],
    names: Mapping[str, str] = UNNAMED,
    compare: Compare = lambda methods: None,
) -> tuple[Section, ...]:
    """Put runs apart wherever they differ in more than method, scenario and seed.

    Args:
        results: The runs.
        names: What a suite calls their methods, by run id.
        compare: Sets the methods of one stream against each other.

    Raises:
        UserError: If two runs have everything in common, the seed too, and are not the same run.
    """
    groups = _grouped(results, _section_key)
    titles = _distinct(
        [f"{_data_name(found[0])} with {found[0].backbone.name}" for found in groups.values()],
        [f"data {d[:8]}, backbone {b[:8]}, {precision}" for _, d, _, b, precision in groups],
    )
    return tuple(
        _section(title, found, names, compare) for title, found in zip(titles, groups.values(), strict=True)
    )


def _data_name(result: Result) -> str:
    """What a run's data set is called: with its preset, where its command names one."""
    name = result.dataset.name
    asked = re.search(r"--data[ =]([\w.:,/-]+)", result.run.command)
    return asked[1] if asked and asked[1].startswith(f"{name}/") else name


def _section_key(result: Result) -> tuple[str, str, str, str, str]:
    data, backbone = result.dataset, result.backbone
    return data.name, data.fingerprint, backbone.name, backbone.fingerprint, backbone.precision


def _section(title: str, results: list[Result], names: Mapping[str, str], compare: Compare) -> Section:
    methods = _methods(results, names)
    pairs = _grouped(
        results,
        lambda r: (
            r.scenario.name,
            _task_order(r),
            _text([r.scenario.settings, r.labels, len(r.auc_matrix)]),
        ),
    )
    found = [(name, family) for (name, *_), runs in pairs.items() for family in _families(runs)]
    titles = _distinct(
        [name for name, _ in found],
        [_telling(family, [f for n, f in found if n == name]) for name, family in found],
    )
    streams = [
        _stream(title, family, methods, compare) for title, (_, family) in zip(titles, found, strict=True)
    ]
    ranks = [stream.ranks for stream in streams]

    def standing(method: Method) -> tuple[int, float, str]:
        mine = [of[method.label] for of in ranks if method.label in of]
        return BOUNDS.index(method.bound), float(np.mean(mine)) if mine else np.inf, method.label

    return Section(title, tuple(sorted(methods.values(), key=standing)), tuple(streams))


def _stream(title: str, runs: list[Result], methods: dict[str, Method], compare: Compare) -> StreamGroup:
    by_label = {m.label: m for m in methods.values()}
    by_method = _grouped(runs, lambda r: methods[Method.of(r).key].label)
    for label, same in by_method.items():
        same.sort(key=lambda r: r.run.seed)
        for one, other in pairwise(same):
            if one.run.seed == other.run.seed:
                raise UserError(
                    f"runs {one.run.id} and {other.run.id} differ in nothing that a result tells, but are two",
                    where=f"{by_label[label].name}, {one.scenario.name}, seed {one.run.seed}",
                    fix="report one of them",
                )
    setting = compare(by_method)
    rows = {row.strategy: row for row in setting.rows} if setting else {}
    groups = [MethodGroup(by_label[label], tuple(same), rows.get(label)) for label, same in by_method.items()]
    groups.sort(key=lambda g: (BOUNDS.index(g.method.bound), -(g.final or 0.0), g.method.label))
    return StreamGroup(title, tuple(groups), setting)


def _families(runs: list[Result]) -> list[list[Result]]:
    """Runs whose streams belong together: one stream a seed.

    A scenario that was changed between runs gives other streams under its old name. Then the streams that one
    method ran on belong together; where that still leaves two for one seed, every stream stands alone.
    """
    if _one_a_seed(runs):
        return [runs]
    families: list[set[str]] = []
    for same in _grouped(runs, lambda r: Method.of(r).key).values():
        joined = {r.scenario.fingerprint for r in same}
        for family in [f for f in families if f & joined]:
            families.remove(family)
            joined |= family
        families.append(joined)
    found = []
    for family in families:
        members = [r for r in runs if r.scenario.fingerprint in family]
        apart = _grouped(members, lambda r: r.scenario.fingerprint).values()
        found += [members] if _one_a_seed(members) else list(apart)
    return sorted(found, key=lambda f: min((r.run.seed, r.scenario.fingerprint) for r in f))


def _one_a_seed(runs: list[Result]) -> bool:
    streams = {(r.run.seed, r.scenario.fingerprint) for r in runs}
    return len(streams) == len({seed for seed, _ in streams})


def _telling(family: list[Result], families: list[list[Result]]) -> str:
    """What tells a stream from others of its name: settings, number of experiences, or the fingerprint."""
    told = [
        {"steps": len(f[0].scenario.experiences), **f[0].scenario.settings, "hidden": f[0].scenario.hidden}
        | {"task_order": _task_order(f[0])}
        | {"stream": min((r.run.seed, r.scenario.fingerprint) for r in f)[1][:8]}
        for f in families
    ]
    differing = _differing(told[families.index(family)], told, last=["stream"])
    return ", ".join(
        order_words(str(value)) if key == "task_order" else f"{key}={typed(value)}"
        for key, value in differing.items()
    )


def _task_order(result: Result) -> int:
    """Number of a stream's task order; no result names the scenario's own, which is the first."""
    order = result.scenario.settings.get("task_order", 1)
    return order if isinstance(order, int) else 1


def _methods(results: Sequence[Result], names: Mapping[str, str]) -> dict[str, Method]:
    """Methods by key, each with a label of its own."""
    # The same settings by hand and by a preset are one method, which has the preset's name.
    found = {method.key: method for method in sorted(map(Method.of, results), key=lambda m: m.name)}
    labelled = []
    for method in found.values():
        same = [m for m in found.values() if m.name == method.name]
        told = [{**m.settings, **m.circumstances} for m in same]
        detail = _differing(told[same.index(method)], told, last=list(method.circumstances))
        words = [
            value if isinstance(value, str) else f"{key}={typed(value)}" for key, value in detail.items()
        ]
        label = ", ".join([method.name, *(f"{key}={typed(value)}" for key, value in detail.items())])
        labelled.append(replace(method, label=label, short=", ".join([method.name, *words])))
    called = _called(results, names)
    taken = Counter(called.get(method.key, method.label) for method in labelled)
    # A name that two methods go by tells nothing.
    called = {key: name for key, name in called.items() if taken[name] == 1}
    labelled = [
        replace(m, label=called[m.key], short=called[m.key]) if m.key in called else m for m in labelled
    ]
    alike = Counter(m.label for m in labelled)
    labelled = [
        m if alike[m.label] == 1 else replace(m, label=f"{m.label}, {sha256(m.key.encode()).hexdigest()[:8]}")
        for m in labelled
    ]
    short = Counter(m.short for m in labelled)
    labelled = [m if short[m.short] == 1 else replace(m, short=m.label) for m in labelled]
    return {m.key: m for m in sorted(labelled, key=lambda m: (m.label, m.key))}


def _called(results: Iterable[Result], names: Mapping[str, str]) -> dict[str, str]:
    """What suites call a method, by its key, where all of its runs have the same name there."""
    found = defaultdict(set)
    for result in results:
        found[Method.of(result).key].add(names.get(result.run.id))
    return {key: name for key, (name, *more) in found.items() if name is not None and not more}


def _differing(
    mine: dict[str, Any], everyone: Sequence[dict[str, Any]], last: Sequence[str]
) -> dict[str, Any]:
    """What differs; keys in ``last`` only while the others do not yet tell all apart."""

    def different(keys: Sequence[str]) -> int:
        return len({_text([told.get(key) for key in keys]) for told in everyone})

    known = dict.fromkeys(key for told in everyone for key in told)
    chosen = [key for key in known if key not in last and different([key]) > 1]
    for key in last:
        if different(chosen) < len(everyone) and different([key]) > 1:
            chosen.append(key)
    return {key: mine[key] for key in chosen if key in mine}


def _distinct(names: list[str], details: list[str]) -> list[str]:
    return [n if names.count(n) == 1 else f"{n}, {d}" for n, d in zip(names, details, strict=True)]


def _grouped(results: Iterable[Result], key: Callable[[Result], Key]) -> dict[Key, list[Result]]:
    groups: dict[Key, list[Result]] = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    return {k: groups[k] for k in sorted(groups)}  # type: ignore[type-var]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def mean_seen(result: Result) -> Floats:
    """Mean AUC over the labels seen so far, after each experience: (T,); its mean is the average AUC."""
    matrix, first = check_first(result.array("auc_matrix"), np.array(result.first, dtype=np.int64))
    moment = np.arange(1, len(matrix))[:, None]
    return np.asarray(nan_mean(np.where((first >= 1) & (first <= moment), matrix[1:], np.nan)))
