"""Many runs of one stream, method by method: flips, worst group, retention."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from retune.audit.criteria import Criterion, judge
from retune.audit.evidence import Evidence
from retune.audit.flips import flips, updates
from retune.audit.groups import comparable, slices_of
from retune.audit.versions import versions
from retune.errors import UserError
from retune.progress import Progress, silent


@dataclass(frozen=True)
class Row:
    """One method: means over its seeds, of the first version against the last.

    Args:
        method: Its name.
        seeds: How many.
        final: Mean AUC of the last version over labels that are judged.
        negative: Patients per 1,000 for whom a right call becomes wrong, among labels that both versions call.
        update: The same of the worst single update.
        positive: The reverse.
        retention: Of the last version.
        worst: The group that ends lowest, as ``site remote``.
        worst_auc: Its mean AUC.
        loser: The group whose AUC changed least to its favour.
        loser_change: By how much.
        failed: How many seeds do not meet the rules; None without rules.
    """

    method: str
    seeds: int
    final: float
    negative: float
    update: float
    positive: float
    retention: float
    worst: str
    worst_auc: float
    loser: str
    loser_change: float
    failed: int | None


@dataclass(frozen=True)
class Methods:
    """Many runs of one stream.

    Args:
        rows: One for each method, fewest negative flips first.
        notes: What cannot be told, and why.
        title: What it is a table of.
        synthetic: ``synthetic`` where the pictures are of no patient, ``partly synthetic`` where some are, else nothing.
    """

    rows: list[Row]
    notes: list[str]
    title: str
    synthetic: str

    @property
    def fails(self) -> bool:
        """Whether a run does not meet a rule."""
        return any(row.failed for row in self.rows)


def _require_one_stream(found: Sequence[Evidence]) -> None:
    """See that runs can stand in one table.

    Raises:
        UserError: If two are of other data, another backbone, or a stream that was cut otherwise.
    """
    first = found[0]
    for other in found[1:]:
        a, b = first.result, other.result
        same = {
            "another data set": a.dataset.fingerprint == b.dataset.fingerprint,
            "another scenario": a.scenario.name == b.scenario.name,
            "a stream cut otherwise": a.scenario.settings == b.scenario.settings
            and a.scenario.hidden == b.scenario.hidden
            and len(a.scenario.experiences) == len(b.scenario.experiences),
            "another backbone": a.backbone.fingerprint == b.backbone.fingerprint,
            "other test images": np.array_equal(first.targets, other.targets, equal_nan=True),
        }
        for difference, agrees in same.items():
            if not agrees:
                raise UserError(
                    f"cannot be audited with {first.folder}, which has {difference}",
                    where=str(other.folder),
                    fix="audit the runs of one stream at a time",
                )


def audit_several(
    found: Sequence[Evidence],
    names: Sequence[str],
    criteria: Sequence[Criterion] = (),
    progress: Progress = silent,
) -> Methods:
    """Set methods beside each other.

    Args:
        found: Runs of one stream.
        names: The method of each.
        criteria: Rules to hold every run against.
        progress: Told what is done.

    Raises:
        UserError: If two are of different streams, or a rule names a label or group that a run does not have.
    """
    _require_one_stream(found)
    seeds: dict[str, list[Evidence]] = defaultdict(list)
    for name, one in zip(names, found, strict=True):
        # Rules need intervals; the table has none.
        seeds[name].append(replace(one, resampled=bool(criteria)))
    table = []
    for name, of in seeds.items():
        table.append(_row(name, of, criteria))
        progress("auditing", len(table), len(seeds))
    table.sort(key=lambda row: (np.nan_to_num(row.negative, nan=np.inf), -row.final))
    result = found[0].result
    notes = dict.fromkeys(line for one in found for line in one.missing)
    many = max(row.seeds for row in table)
    title = (
        f"Audit of {len(table)} methods on {result.dataset.marked}, {result.scenario.name}, "
        f"backbone {result.backbone.name}, {many} {'seed' if many == 1 else 'seeds'}"
    )
    return Methods(table, list(notes), title, result.dataset.synthetic_word)


def _row(name: str, seeds: Sequence[Evidence], criteria: Sequence[Criterion]) -> Row:
    numbers, ends, changes, failed = [], defaultdict(list), defaultdict(list), 0
    for one in seeds:
        slices = slices_of(one)
        matrix = versions(one, slices)
        turning = {update: flips(one, update) for update in updates(one.versions)}
        overall, turned = list(turning.items())[-1]
        single = [of.negative.value[-1] for update, of in turning.items() if not update.last]
        worst = max((float(x) for x in single if x == x), default=float("nan"))
        for by, of in slices.items():
            judged, labels = comparable(of)
            for group in judged:
                auc = group.auc.value[:, labels].mean(axis=1)
                ends[f"{by} {group.name}"].append(auc[-1])
                changes[f"{by} {group.name}"].append(auc[overall.after] - auc[overall.before])
        final = one.whole.auc.at(one.versions).mean(one.whole.judged).value
        kept = matrix.measures["retention"].value[-1]
        numbers.append([final, turned.negative.value[-1], worst, turned.positive.value[-1], kept])
        failed += any(judge(rule, one, slices, matrix).fails for rule in criteria)
    final, negative, update, positive, kept = np.mean(numbers, axis=0).tolist()
    ends_low, rises_least = _lowest(ends), _lowest(changes)
    unmet = failed if criteria else None
    return Row(name, len(seeds), final, negative, update, positive, kept, *ends_low, *rises_least, unmet)


def _lowest(groups: dict[str, list[float]]) -> tuple[str, float]:
    means = {name: float(np.mean(values)) for name, values in groups.items()}
    return min(means.items(), key=lambda pair: pair[1], default=("", float("nan")))
