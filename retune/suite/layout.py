"""The words and numbers of a suite's tables, whatever they are written in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from retune.metrics.table import DECIDES, DENSE, Metric, in_table
from retune.results.compare import Estimate
from retune.results.result import Bootstrap
from retune.results.text import number
from retune.suite.ranks import Ranks
from retune.suite.runs import prompts_words
from retune.suite.summary import BoundCheck, Row, Setting, Summary

NAMES: Final = ("method", "n", "")
"""First columns of a table; the third says which methods are best, tied or bounds."""
FINAL: Final = len(NAMES)
"""Which column holds what methods are ranked by."""
STANDING: Final = ("to best", "detectable", "share of the way")
"""How what methods are ranked by stands to that of others."""
COSTS: Final = ("trained", "fit", "kept")
"""Last columns."""
MARKS: Final = {"best": "best", "tied": "tied", "upper bound": "bound", "floor": "floor"}
RANK_HEADS: Final = ("method", "mean rank", "tied with")


@dataclass(frozen=True)
class Cell:
    """A value and, where it has one, the interval that belongs to it."""

    value: str
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.value} ({self.interval})" if self.interval else self.value


def heads_of(setting: Setting) -> list[str]:
    """Columns of a table."""
    beside = (metric.heading for metric in _beside(setting))
    standing = STANDING[: None if _shares(setting) else -1]
    return [*NAMES, DECIDES.heading, *standing, *beside, *(f"{name} *" for name in _own(setting)), *COSTS]


def _shares(setting: Setting) -> bool:
    """Whether there is an upper bound to go a share of the way to."""
    return any(row.share for row in setting.rows)


def _beside(setting: Setting) -> list[Metric]:
    """What stands beside that by which methods are ranked, but for what is undefined for every one of them."""
    able = [metric for metric in (*in_table("suite"), *DENSE) if metric != DECIDES]
    return [m for m in able if any(_of(row, m).mean is not None for row in setting.rows)]


def _own(setting: Setting) -> list[str]:
    """Metrics of one's own that are defined for some method."""
    able = dict.fromkeys(name for row in setting.rows for name in row.own)
    return [n for n in able if any(n in row.own and row.own[n].mean is not None for row in setting.rows)]


def _of(row: Row, metric: Metric) -> Estimate:
    """Undefined in a table that was made before there was such a metric."""
    return row.metrics.get(metric.key) or Estimate.of([])


def cells_of(row: Row, setting: Setting) -> list[Cell]:
    """The cells of a row, one for each column; what is undefined is a dash."""
    to_best = row.to_best.get(DECIDES.key)
    return [
        Cell(row.strategy),
        Cell(str(len(row.seeds))),
        Cell(MARKS.get(row.role, "")),
        over_seeds(row.metrics[DECIDES.key]),
        Cell(number(to_best.mean, signed=True), span(to_best, signed=True)) if to_best else Cell("-"),
        Cell(number(to_best.detectable)) if to_best else Cell("-"),
        *([over_seeds(row.share) if row.share else Cell("-")] if _shares(setting) else []),
        *(over_seeds(_of(row, metric)) for metric in _beside(setting)),
        *(over_seeds(row.own.get(name) or Estimate.of([])) for name in _own(setting)),
        Cell(f"{row.trained_parameters:,}"),
        Cell(f"{row.fit_seconds:.1f} s"),
        Cell(kept(row)),
    ]


def over_seeds(estimate: Estimate) -> Cell:
    """Mean and standard deviation over seeds, and the interval over patients."""
    if estimate.mean is None:
        return Cell("-")
    return Cell(f"{number(estimate.mean)} ± {number(estimate.sd)}", span(estimate))


def span(estimate: Estimate, *, signed: bool = False) -> str:
    """The ends of an interval; nothing where there is none."""
    if estimate.low is None:
        return ""
    return f"{number(estimate.low, signed=signed)} to {number(estimate.high, signed=signed)}"


def kept(row: Row) -> str:
    """What was kept of past patients: pictures, features, and how much room all of it takes."""
    kinds = [(row.stored_images, "images"), (row.stored_features, "features")]
    counted = [f"{n:,} {kind}" for n, kind in kinds if n]
    return ", ".join([*counted, f"{row.stored_bytes / 1000:,.0f} kB"]) if row.stored_bytes else "0"


def title(setting: Setting) -> str:
    """What a table is of: scenario, data, backbone, order, test images and seeds."""
    counts = sorted({len(row.seeds) for row in setting.rows})
    return (
        f"{setting.scenario} in {setting.steps} {'step' if setting.steps == 1 else 'steps'} "
        f"on {setting.data}{' (synthetic data)' if setting.synthetic else ''}, "
        f"backbone {setting.backbone}{' (contaminated)' if setting.contaminated == 'yes' else ''}"
        f"{' (possibly contaminated)' if setting.contaminated == 'possibly' else ''}"
        f"{prompts_words(setting.prompts)}, "
        f"{_order(setting.order)}"
        f"{counted(setting.n_test, 'test image')} of {counted(setting.n_test_patients, 'patient')}, "
        f"{counted(counts[0], 'seed') if len(counts) == 1 else f'{counts[0]} to {counts[-1]} seeds'}"
    )


def _order(order: str) -> str:
    if order.isdigit():
        return f"task order {order}, "
    return f"labels in order {order}, " if order else ""


def notes(setting: Setting) -> list[str]:
    """What belongs below a table: methods with other seeds, and the check of the upper bounds."""
    lines = []
    groups: dict[tuple[int, ...], list[str]] = {}
    for row in setting.rows:
        groups.setdefault(tuple(row.seeds), []).append(row.strategy)
    if len(groups) > 1:
        usual, *others = sorted(groups, key=lambda seeds: -len(groups[seeds]))
        found = [f"{', '.join(groups[seeds])} with {_listed(seeds)}" for seeds in others]
        lines.append(
            f"Not run with the same seeds: {'; '.join(found)}; all others with {_listed(usual)}. "
            "Differences are over the seeds in common."
        )
    searched = [row.strategy for row in setting.rows if row.searched]
    if searched:
        chosen = "Settings chosen on held-out training patients of the first experience"
        lines.append(f"{chosen}: {', '.join(searched)}.")
    return [*lines, _bounds_line(setting.joint_check), *setting.transfer, *setting.own]


def _bounds_line(check: BoundCheck) -> str:
    """Whether the upper bounds hold."""
    names = " and ".join(check.upper_bounds)
    if not check.upper_bounds:
        return (
            "No upper bound was run, so none was checked and there is no share of the way: add joint to the "
            "strategies (--strategy joint)."
        )
    if not check.pairs:
        return f"Upper bound {names}: there is no continual method to check it against."
    if not check.exceptions:
        return f"Upper bound {names}: no continual method is better beyond the interval ({check.pairs} compared)."
    found = [
        f"{e.strategy} beats {e.upper_bound} by {number(e.difference.mean)} "
        f"({span(e.difference)}; detectable {number(e.difference.detectable)})"
        for e in check.exceptions
    ]
    return f"Better than an upper bound in {len(found)} of {check.pairs} comparisons: {'; '.join(found)}."


def failed_lines(summary: Summary) -> list[str]:
    """Which methods have runs that failed, in a line; none where none has."""
    counts = ", ".join(f"{name} ({n} {'run' if n == 1 else 'runs'})" for name, n in summary.failed.items())
    return (
        [f"Failed, and so in no table: {counts}. The suite's suite.json has the reasons."] if counts else []
    )


def reading(bootstrap: Bootstrap) -> list[str]:
    """How to read the tables."""
    level = f"{100 * bootstrap.level:g} %"
    return [
        f"Mean ± standard deviation over n seeds, then the {level} interval of the mean from "
        f"{bootstrap.replicates:,} resamples of the test patients; that interval says nothing of other seeds. "
        "A dash is undefined.",
        "best: the continual method with the highest mean final AUC. to best: final AUC minus that of the best, on "
        "the same seeds and the same resampled patients. tied: the interval of that difference includes 0; intervals "
        "are not corrected for the number of methods. Best and tied are bold alike.",
        "detectable: the smallest difference to the best that these test patients could show with 80 % power at the "
        "two-sided 5 % level, 2.80 bootstrap standard errors of that difference (Bloom, 1995). A tie rules out no "
        "smaller one.",
        "share of the way: (final AUC - zero-shot AUC) / (upper bound's final AUC - zero-shot AUC), with the interval "
        "of the quotient; undefined where the upper bound is not above zero-shot beyond its interval.",
        "bound: an upper bound, which sees all images and all labels at once, as no continual method may; never best.",
        "floor: no method, but what is reached without the picture (view, sex, age), without a backbone (32 x 32 grey "
        "values) or without the labels (shuffled); never best, and not ranked.",
        "Forgetting subtracts from a maximum over time, which noise raises: its interval lies somewhat high.",
        "trained: parameters. fit: wall time of all experiences, mean over seeds. kept: the most kept at any time of "
        "single past images.",
    ]


def rank_rows(ranks: Ranks) -> list[tuple[str, str, str]]:
    """Method, mean rank, and the letters of the groups it is tied in, best first."""
    return [
        (
            m.strategy,
            f"{m.rank:.2f}",
            " ".join(_letter(i) for i, group in enumerate(ranks.tied) if m.strategy in group),
        )
        for m in ranks.methods
    ]


def rank_lines(ranks: Ranks) -> list[str]:
    """What belongs below the ranks, or the reason why there are none."""
    lines = [ranks.reason] if ranks.reason else []
    if ranks.p is not None and ranks.friedman is not None and ranks.critical_difference is not None:
        lines += [
            f"Mean rank by final AUC over {len(ranks.streams)} streams, each by its mean over seeds; 1 is best. "
            "Methods that share a letter are not told apart.",
            f"Friedman's chi-squared {ranks.friedman:.2f}, p = {ranks.p:.3f} by permutation; Nemenyi's critical "
            f"difference at the 5 % level {ranks.critical_difference:.2f} (Demšar, 2006).",
        ]
    if ranks.left_out:
        lines.append(f"Not ranked, for not run on every stream: {', '.join(ranks.left_out)}.")
    return [*lines, *ranks.notes]


def _letter(i: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[i % 26] * (1 + i // 26)


def _listed(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def counted(n: int, thing: str) -> str:
    """A number of things in words."""
    return f"{n:,} {thing}{'s' * (n != 1)}"
