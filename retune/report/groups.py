"""What may stand in one table, and what may be averaged.

One table: the same data set and backbone. One mean: the same stream but for the seed, and the same method.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from retune.errors import UserError
from retune.metrics.continual import check_first, nan_mean
from retune.metrics.seeds import mean_and_sd
from retune.results.compare import Estimate
from retune.results.result import Result
from retune.settings import typed

Floats = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)
Intervals = Callable[[Sequence[Result]], Mapping[str, Estimate] | None]
"""Of the runs of one method on one stream, the intervals of their means."""
UNNAMED: Final[Mapping[str, str]] = {}


@dataclass(frozen=True)
class Method:
    """A strategy with its settings, and whatever else but the seed makes it another.

    Args:
        name: Of the strategy.
        settings: All of them.
        circumstances: What else tells two methods of one name apart, most telling first.
        upper_bound: Whether it sees what no continual method may.
        label: What its suite calls it; else its name, with the settings that tell it from others of this name.
        short: The same for narrow places: of settings that are words, the word alone.
        number: Its number in every table and figure of a section, from 1.
    """

    name: str
    settings: dict[str, Any]
    circumstances: dict[str, Any]
    upper_bound: bool
    label: str = ""
    short: str = ""
    number: int = 0

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
        # Seeds may choose different values: it is the search that makes the method.
        searched = dict.fromkeys(strategy.search.chosen, "searched") if strategy.search else {}
        settings = {**strategy.settings, **searched}
        return cls(strategy.name, settings, circumstances, strategy.sees_everything)

    @property
    def key(self) -> str:
        """Text that is equal for equal methods."""
        return _text([self.name, self.settings, self.circumstances, self.upper_bound])


@dataclass(frozen=True)
class MethodGroup:
    """Runs of one method on one stream.

    Args:
        method: Which.
        runs: One for every seed.
        spans: Have the intervals of the means over seeds, by metric, where they are known.
    """

    method: Method
    runs: tuple[Result, ...]
    spans: Mapping[str, Estimate] | None = None

    @property
    def averaged(self) -> bool:
        """Whether intervals are no more than the seeds' own, their ends averaged."""
        return self.spans is None and len(self.runs) > 1

    def metric(self, name: str) -> Estimate:
        """A metric over seeds; without an interval of its mean the ends of the seeds' own are averaged."""
        found = [run.metric(name) for run in self.runs]
        if self.spans is None or name not in self.spans:
            (low, high), _ = mean_and_sd(np.array([[one.low, one.high] for one in found], dtype=np.float64))
        else:
            low, high = self.spans[name].low, self.spans[name].high
        return Estimate.of([one.value for one in found], low, high)

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
    """Runs on one stream, or on the streams that one scenario gives for several seeds."""

    title: str
    groups: tuple[MethodGroup, ...]

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
    """One data set, one backbone."""

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
    intervals: Intervals = lambda runs: None,
) -> tuple[Section, ...]:
    """Put runs apart wherever they differ in more than method, scenario and seed.

    Args:
        results: The runs.
        names: What a suite calls their methods, by run id.
        intervals: Of the means over seeds.

    Raises:
        UserError: If two runs have everything in common, the seed too, and are not the same run.
    """
    groups = _grouped(results, _section_key)
    titles = _distinct(
        [f"{data} with {backbone}" for data, _, backbone, *_ in groups],
        [f"data {d[:8]}, backbone {b[:8]}, {precision}" for _, d, _, b, precision in groups],
    )
    return tuple(
        _section(title, found, names, intervals) for title, found in zip(titles, groups.values(), strict=True)
    )


def _section_key(result: Result) -> tuple[str, str, str, str, str]:
    data, backbone = result.dataset, result.backbone
    return data.name, data.fingerprint, backbone.name, backbone.fingerprint, backbone.precision


def _section(title: str, results: list[Result], names: Mapping[str, str], intervals: Intervals) -> Section:
    methods = _methods(results, names)
    pairs = _grouped(
        results, lambda r: (r.scenario.name, _text([r.scenario.settings, r.labels, len(r.auc_matrix)]))
    )
    found = [(key, family) for key, runs in pairs.items() for family in _families(runs)]
    titles = _distinct(
        [name for (name, _), _ in found],
        [_telling(family, [f for (n, _), f in found if n == name]) for (name, _), family in found],
    )
    streams = [
        StreamGroup(title, _of_methods(family, methods, intervals))
        for title, (_, family) in zip(titles, found, strict=True)
    ]
    return Section(title, tuple(methods.values()), tuple(streams))


def _of_methods(
    runs: list[Result], methods: dict[str, Method], intervals: Intervals
) -> tuple[MethodGroup, ...]:
    by_method = _grouped(runs, lambda r: methods[Method.of(r).key].number)
    by_number = {m.number: m for m in methods.values()}
    groups = []
    for number, same in by_method.items():
        same.sort(key=lambda r: r.run.seed)
        for one, other in pairwise(same):
            if one.run.seed == other.run.seed:
                raise UserError(
                    f"runs {one.run.id} and {other.run.id} differ in nothing that a result tells, but are two",
                    where=f"{by_number[number].name}, {one.scenario.name}, seed {one.run.seed}",
                    fix="report one of them",
                )
        groups.append(MethodGroup(by_number[number], tuple(same), intervals(same)))
    return tuple(groups)


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
        | {"stream": min((r.run.seed, r.scenario.fingerprint) for r in f)[1][:8]}
        for f in families
    ]
    differing = _differing(told[families.index(family)], told, last=["stream"])
    return ", ".join(f"{key}={typed(value)}" for key, value in differing.items())


def _methods(results: Sequence[Result], names: Mapping[str, str]) -> dict[str, Method]:
    """Methods by key: by name and what tells them apart, upper bounds last, numbered."""
    found = {method.key: method for method in map(Method.of, results)}
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
    labelled.sort(key=lambda m: (m.upper_bound, m.label, m.key))
    return {m.key: replace(m, number=k + 1) for k, m in enumerate(labelled)}


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
