"""What the finished runs of a suite say: every method on every stream, and over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from retune.errors import UserError, mistake
from retune.metrics.table import DECIDES
from retune.results.cautions import cautions
from retune.results.compare import Comparison, Difference, Estimate
from retune.results.own import NOT_OURS, problems
from retune.results.result import BOUNDS, Bootstrap, Record, Result
from retune.results.transfers import across
from retune.sealed import open_json
from retune.suite.compare import compare
from retune.suite.ranks import Ranks, rank_methods

if TYPE_CHECKING:
    from retune.progress import Progress
    from retune.suite.runs import Finished

SCHEMA: Final = "retune.suite/1"

LEVEL: Final = 0.95
"""Coverage of the intervals."""

Role = Literal["best", "tied", "worse", "not compared", "floor", "upper bound"]


class _Sparse(Record):
    """What only some tables have is not written where it is empty: others stay as they were."""

    sparse: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _as_it_was(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        return {key: value for key, value in found.items() if value or key not in self.sparse}


class Row(_Sparse):
    """One method on one stream.

    Attributes:
        strategy: Its name.
        role: ``best`` of the continual methods by mean final AUC; ``worse`` if the interval of the paired
            difference to that lies below 0, else ``tied``; ``not compared`` if the two share no seed;
            ``upper bound`` if it sees everything at once, ``floor`` if it learns from what says next to nothing.
        seeds: It was run with.
        metrics: Of each metric, over seeds and patients.
        to_best: The same minus that of the best method, paired; empty for the best itself.
        share: Of the way from zero-shot to the setting's first upper bound; null for bounds, where there is none,
            and in older tables.
        trained_parameters: The most over seeds, as are the following three.
        stored_images: Past images kept as pictures.
        stored_features: Past images kept as vectors or tokens.
        stored_bytes: All that was kept of single past images.
        fit_seconds: Mean over seeds.
        searched: Whether its settings were chosen on held-out training patients of the first experience.
        own: Metrics of one's own, by name, over seeds; none is part of the benchmark.
    """

    sparse = ("own",)

    strategy: str
    role: Role
    seeds: list[int]
    metrics: dict[str, Estimate]
    to_best: dict[str, Difference]
    share: Estimate | None = None
    trained_parameters: int
    stored_images: int
    stored_features: int
    stored_bytes: int
    fit_seconds: float
    searched: bool
    own: dict[str, Estimate] = Field(default_factory=dict)

    @property
    def bound(self) -> bool:
        """Whether it is none of the methods that are compared."""
        return self.role in BOUNDS


class Beyond(Record):
    """A method that did better than an upper bound, beyond the interval of their paired difference."""

    strategy: str
    upper_bound: str
    difference: Difference


class BoundCheck(Record):
    """Whether upper bounds are at least as good as every continual method, by final AUC.

    Attributes:
        upper_bounds: Methods that see everything.
        pairs: How many pairs were compared.
        exceptions: Those in which the continual method is better beyond the interval.
    """

    upper_bounds: list[str]
    pairs: int
    exceptions: list[Beyond]


class Setting(_Sparse):
    """One stream with every method run on it, the best continual method first, then floors, upper bounds last."""

    sparse = ("transfer", "own")

    scenario: str
    data: str
    backbone: str
    order: str
    steps: int
    n_test: int
    n_test_patients: int
    synthetic: bool
    contaminated: Literal["no", "possibly", "yes"]
    prompts: list[str] = Field(default_factory=list)
    """Names of the prompt banks; none in a table that was made before they were told."""
    cautions: list[str]
    rows: list[Row]
    joint_check: BoundCheck
    transfer: list[str] = Field(default_factory=list)
    """What must be said of a transfer."""
    own: list[str] = Field(default_factory=list)
    """What must be said of metrics of one's own."""

    @property
    def name(self) -> str:
        """Scenario, data set, backbone, and the order of labels where it is not the scenario's own."""
        parts = [self.scenario, self.data, self.backbone]
        return ", ".join([*parts, f"order {self.order}"] if self.order else parts)


class Summary(Record):
    """All tables of a suite."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    schema_name: Literal["retune.suite/1"] = Field(default=SCHEMA, alias="schema")
    bootstrap: Bootstrap
    settings: list[Setting]
    ranks: Ranks
    failed: dict[str, int] = Field(default_factory=dict)
    """By method, how many of its runs failed and so are in no table."""

    @classmethod
    def read(cls, file: Path) -> Summary:
        """Read ``table.json``.

        Raises:
            UserError: If it is not there or not such a table.
        """
        try:
            return cls.model_validate(open_json(file, fix="issue the suite's command again"))
        except OSError as error:
            raise UserError(f"no table here ({error.strerror})", where=str(file)) from error
        except ValidationError as error:
            raise UserError(f"is not a table of a suite: {mistake(error)}", where=str(file)) from error


def summarise(
    runs: Sequence[Finished],
    *,
    replicates: int | None = None,
    failed: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Compare all methods on every stream, and rank them over the streams.

    Args:
        runs: Finished runs, in any order.
        replicates: How many times the test patients of a stream are resampled; by default as often as for
            the intervals of the single runs.
        failed: By method, how many runs gave no result.
        progress: Called with a stage, what is done of it and what there is to do.

    Raises:
        UserError: If runs of one stream cannot be compared, or cannot be read.
    """
    replicates = replicates or max((run.result.bootstrap.replicates for run in runs), default=1000)
    drawn = Bootstrap(replicates=replicates, level=LEVEL, seed=0)
    groups: dict[tuple[str, str, str, str], list[Finished]] = {}
    for run in sorted(runs, key=_place):
        groups.setdefault((run.scenario, run.data, run.backbone, run.order), []).append(run)
    tell, done = progress or (lambda stage, done, total: None), count(1)
    settings = []
    for group in groups.values():
        compared = compare(
            group,
            replicates=drawn.replicates,
            level=drawn.level,
            seed=drawn.seed,
            progress=lambda: tell("comparing runs", next(done), len(runs)),
        )
        settings.append(_setting(group, compared))
    return Summary(
        bootstrap=drawn,
        settings=settings,
        ranks=_ranks(settings),
        failed=dict(failed or {}),
    )


def _place(run: Finished) -> tuple[str | int, ...]:
    """Where a run stands among others; task orders by their numbers."""
    number = int(run.order) if run.order.isdigit() else 0
    return run.scenario, run.data, run.backbone, number, run.order, run.strategy, run.seed


def _setting(runs: Sequence[Finished], compared: Comparison) -> Setting:
    by_strategy: dict[str, list[Result]] = {}
    for run in runs:
        by_strategy.setdefault(run.strategy, []).append(run.result)
    sides = {s: results[0].strategy.bound for s, results in by_strategy.items()}
    means = {s: compared.estimate(s, DECIDES.key).mean for s in by_strategy}
    ordered = sorted(by_strategy, key=lambda s: (BOUNDS.index(sides[s]), -(means[s] or 0.0), s))
    bounds = [s for s in ordered if sides[s] == "upper bound"]
    continual = [s for s in by_strategy if not sides[s]]
    best = next((s for s in ordered if s in continual and means[s] is not None), None)
    results = [run.result for run in runs]
    one = results[0]
    return Setting(
        scenario=runs[0].scenario,
        data=runs[0].data,
        backbone=runs[0].backbone,
        order=runs[0].order,
        steps=len(one.scenario.experiences),
        n_test=one.dataset.n_test,
        n_test_patients=one.dataset.n_test_patients,
        synthetic=one.dataset.synthetic,
        contaminated=one.backbone.contaminated,
        prompts=sorted({run.result.prompts.name for run in runs}),
        cautions=list(
            dict.fromkeys((*cautions(*results), *(n for one in results for n in one.dataset.notes)))
        ),
        rows=[_row(s, by_strategy[s], compared, best, bounds) for s in ordered],
        joint_check=_check(compared, bounds, continual),
        transfer=across(by_strategy),
        own=_told_of_own(run.result for run in runs),
    )


def _row(
    strategy: str, results: list[Result], compared: Comparison, best: str | None, bounds: Sequence[str]
) -> Row:
    side = results[0].strategy.bound
    to_best: dict[str, Difference] = {}
    if best is not None and strategy != best:
        to_best = {m.key: compared.difference(strategy, best, m.key) for m in compared.metrics}
    return Row(
        strategy=strategy,
        role=side or ("best" if strategy == best else _role(to_best)),
        seeds=sorted(compared.samples[strategy]),
        metrics={m.key: compared.estimate(strategy, m.key) for m in compared.metrics},
        to_best=to_best,
        share=compared.share(strategy, bounds[0]) if bounds and not side else None,
        trained_parameters=max(r.cost.trainable_parameters for r in results),
        stored_images=max(r.cost.stored_images for r in results),
        stored_features=max(r.cost.stored_features for r in results),
        stored_bytes=max(r.cost.stored_bytes for r in results),
        fit_seconds=mean(r.cost.fit_seconds for r in results),
        searched=any(r.strategy.search is not None for r in results),
        own={
            name: Estimate.of([r.own[name].value if name in r.own else None for r in results])
            for name in dict.fromkeys(name for r in results for name in r.own)
        },
    )


def _told_of_own(results: Iterable[Result]) -> list[str]:
    """What the metrics of one's own are, and which of them broke."""
    found = list(results)
    own = {name: one for result in found for name, one in result.own.items()}
    means = [
        f"{name} * is {NOT_OURS} ({one.origin}): {one.meaning}"
        for name, one in own.items()
        if not one.problem
    ]
    return list(dict.fromkeys([*means, *(f"{line}." for result in found for line in problems(result))]))


def _role(to_best: dict[str, Difference]) -> Role:
    high = to_best[DECIDES.key].high if to_best else None
    return "not compared" if high is None else "worse" if high < 0 else "tied"


def _check(compared: Comparison, bounds: Sequence[str], continual: Sequence[str]) -> BoundCheck:
    found = [
        Beyond(strategy=s, upper_bound=b, difference=compared.difference(s, b, DECIDES.key))
        for b in bounds
        for s in continual
    ]
    found = [pair for pair in found if pair.difference.low is not None]
    return BoundCheck(
        upper_bounds=list(bounds),
        pairs=len(found),
        exceptions=[pair for pair in found if pair.difference.low is not None and pair.difference.low > 0],
    )


def _ranks(settings: Sequence[Setting]) -> Ranks:
    values = {
        setting.name: {
            row.strategy: value
            for row in setting.rows
            if not row.bound and (value := row.metrics[DECIDES.key].mean) is not None
        }
        for setting in settings
    }
    ranks = rank_methods(values)
    if ranks.methods and len({setting.data for setting in settings}) < len(settings):
        note = (
            "Streams cut from one data set share its test patients: they are less independent than the test takes "
            "them to be."
        )
        ranks = ranks.model_copy(update={"notes": (*ranks.notes, note)})
    return ranks
