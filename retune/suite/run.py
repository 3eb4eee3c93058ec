"""A suite from Python: the same runs, folders and tables as the command's, and a table to go on with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.errors import UnknownName, UserError
from retune.metrics.table import BY_KEY, DECIDES, DENSE, in_table
from retune.progress import Progress
from retune.results.collect import Results
from retune.results.text import number
from retune.suite.compare import compare, own_difference
from retune.suite.document import write_suite
from retune.suite.execute import Outcome, execute
from retune.suite.grid import expand
from retune.suite.plans import Plans, plan_suite
from retune.suite.runs import Finished
from retune.suite.spec import Suite, read_suite
from retune.suite.summary import Summary, summarise
from retune.suite.tables import write_tables
from retune.suite.work import shared

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


@dataclass(frozen=True)
class Table:
    """What a suite found: every method on every stream.

    Attributes:
        summary: As in ``table.json``.
        runs: The finished runs.
        failures: Why the others gave no result, a line each.
        folder: Where everything is.
    """

    summary: Summary
    runs: Sequence[Finished] = field(repr=False)
    failures: tuple[str, ...]
    folder: Path

    @property
    def results(self) -> Results:
        """The finished runs' results."""
        return Results(run.result for run in self.runs)

    def to_frame(self) -> pd.DataFrame:
        """A row for each stream and method: mean over seeds of every compared metric.

        Returns:
            Rows ``scenario``, ``data``, ``backbone``, ``order``, ``strategy``, ``role``, ``n`` (seeds), and for each
            metric its mean and, under ``KEY_sd``, ``KEY_low`` and ``KEY_high``, deviation over seeds and interval;
            metrics of one's own stand under ``own.NAME``.
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "scenario": setting.scenario,
                "data": setting.data,
                "backbone": setting.backbone,
                "order": setting.order,
                "strategy": row.strategy,
                "role": row.role,
                "n": len(row.seeds),
                **{
                    f"{key}{end}": getattr(one, of)
                    for key, one in (
                        row.metrics | {f"own.{name}": of for name, of in row.own.items()}
                    ).items()
                    for end, of in (("", "mean"), ("_sd", "sd"), ("_low", "low"), ("_high", "high"))
                },
            }
            for setting in self.summary.settings
            for row in setting.rows
        )

    def best(self) -> dict[str, str]:
        """The continual method with the highest mean final AUC, by stream."""
        rows = {setting.name: setting.rows for setting in self.summary.settings}
        return {name: row.strategy for name, of in rows.items() for row in of if row.role == "best"}

    def compare(self, strategy: str, other: str, metric: str = DECIDES.key) -> pd.DataFrame:
        """One method minus another on the same test patients and seeds, a row for each stream that both were run on.

        Args:
            strategy: As the table calls it.
            other: Likewise.
            metric: Key of a metric that methods are compared by; or a metric of one's own by its name, whose
                differences have no interval.

        Returns:
            Rows ``stream``, ``difference``, ``low``, ``high`` (95 % over patients), ``detectable`` (the smallest
            difference that these patients could show) and ``n`` (seeds).

        Raises:
            UnknownName: If there is no such method or metric.
        """
        import pandas as pd

        names = dict.fromkeys(run.strategy for run in self.runs)
        for name in (strategy, other):
            if not isinstance(name, str):
                raise UserError(
                    f"takes names of methods, not {type(name).__name__}",
                    where="compare",
                    fix=f"write one of {', '.join(names)}",
                )
            if name not in names:
                raise UnknownName("method", name, names)
        metric = metric.removeprefix("own.")
        rows_of = [row for setting in self.summary.settings for row in setting.rows]
        own = {name for row in rows_of for name in row.own}
        measured = {key for row in rows_of for key in row.metrics}
        if metric not in measured | own:
            raise UnknownName("metric", metric, measured | own)
        drawn, rows = self.summary.bootstrap, []
        for setting in self.summary.settings:
            there = {row.strategy for row in setting.rows}
            if {strategy, other} <= there:
                of = (setting.scenario, setting.data, setting.backbone, setting.order)
                runs = [
                    run for run in self.runs
                    if (run.scenario, run.data, run.backbone, run.order) == of and run.strategy in (strategy, other)
                ]  # fmt: skip
                if metric in own:
                    found = own_difference(runs, strategy, other, metric)
                else:
                    both = compare(runs, replicates=drawn.replicates, level=drawn.level, seed=drawn.seed)
                    found = both.difference(strategy, other, metric)
                rows.append((setting.name, found.mean, found.low, found.high, found.detectable, found.n))
        numbers = ["difference", "low", "high", "detectable"]
        return pd.DataFrame(rows, columns=["stream", *numbers, "n"]).astype(dict.fromkeys(numbers, float))

    def plot(self) -> Any:
        """Draw the mean AUC of each method after each experience, by stream; see :func:`retune.plot`."""
        import retune

        return retune.plot(self.results, {run.result.run.id: run.strategy for run in self.runs})

    def __repr__(self) -> str:
        return self._shown().to_string(index=False, float_format=number, na_rep="-")

    def _repr_html_(self) -> str:
        table: str = self._shown().to_html(index=False, float_format=number, na_rep="-")
        return table

    def _shown(self) -> pd.DataFrame:
        whole = self.to_frame()
        keys = [metric.key for metric in (*in_table("suite"), *DENSE) if whole.get(metric.key) is not None]
        heads = {key: BY_KEY[key].heading for key in keys if whole[key].notna().any()}
        own = dict.fromkeys(name for of in self.summary.settings for row in of.rows for name in row.own)
        heads |= {f"own.{name}": f"{name} *" for name in own if whole[f"own.{name}"].notna().any()}
        names = [name for name in ("scenario", "data", "backbone", "order") if whole[name].nunique() > 1]
        return whole[[*names, "strategy", "n", *heads]].rename(columns=heads)


def suite(
    file: str | Path | None = None,
    *,
    out: str | Path | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Table:
    """Run strategies x scenarios x data sets x backbones x seeds; the same call again continues or reads it.

    Args:
        file: A TOML file, as the command takes it; not needed.
        out: Folder of the suite; ``suite``, or the file's name, where left out.
        jobs: How many runs at the same time; one for each core where left out.
        progress: Called with a stage, what is done of it and what there is to do.
        **options: Keys of a suite's file, as ``help(retune.suite)`` tells them: ``strategies=["re-tune", "ridge"],
            seeds=3``; ``settings`` is its ``set``. Classes and instances of imported files may stand for names.

    Returns:
        The table; what could not be run is in its ``failures``.

    Raises:
        UserError: If the input is at fault.
    """
    from rich.console import Console

    known = {*Suite.model_fields, "set"}
    for name in options:
        if name not in known:
            raise UnknownName("option", name, {*known, "out", "jobs", "progress"}, where="retune.suite")
    given = {("set" if name == "settings" else name): value for name, value in options.items()}
    folder = Path(out) if out else Path(Path(file).stem if file else "suite")
    read = read_suite(file, given, caller="retune.suite")
    plans = plan_suite(expand(read, shared), folder, shared=shared, progress=progress)
    outcome = finish(read, plans, folder, Console(quiet=True), workers=jobs, progress=progress)
    summary = tabulate(outcome, folder, progress)
    if summary is None:
        summary = summarise([])
    failures = tuple(f"{failure.run.name}: {failure.reason}" for failure in outcome.failures)
    return Table(summary, outcome.finished, failures, folder)


def finish(
    read: Suite,
    plans: Plans,
    folder: Path,
    console: Console,
    *,
    workers: int | None = None,
    dask: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Do what is left of a suite, with its document beside it before and after.

    Args:
        read: What was asked for.
        plans: What it came to.
        folder: Of the suite.
        console: Shows what is going on.
        workers: How many runs at the same time; one for each core where left out.
        dask: Address of a Dask scheduler that runs them instead.
        progress: Told what is done before the first run.
    """
    write_suite(read, plans, folder)
    outcome = execute(plans, folder, console, workers=workers, dask=dask, progress=progress)
    write_suite(read, plans, folder, outcome)
    return outcome


def tabulate(outcome: Outcome, folder: Path, progress: Progress | None) -> Summary | None:
    """Compare what is finished and write the tables; None where nothing is."""
    if not outcome.finished:
        return None
    failed = Counter(failure.run.strategy for failure in outcome.failures)
    summary = summarise(outcome.finished, failed=failed, progress=progress)
    write_tables(summary, folder)
    return summary
