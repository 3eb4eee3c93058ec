"""Rules agreed beforehand, read from a TOML file, each met, violated, or not decidable with these test patients."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from retune.audit.evidence import FEWEST, Evidence, Sampled, Slice
from retune.audit.flips import PER, Flips, Update, flips, updates
from retune.audit.groups import comparable, excess
from retune.audit.testing import counts_needed, holm, p_above, patients_needed, quantile, standard_error
from retune.audit.versions import Versions
from retune.errors import UnknownName, UserError, mistake
from retune.files import read_small

Verdict = Literal["met", "violated", "not decidable"]
FALLS: Final = {"auc_fall": "auc", "sensitivity_fall": "sensitivity", "specificity_fall": "specificity"}
LEVELS: Final = ("auc", "sensitivity", "specificity", "retention")
COUNTS: Final = ("negative_flips", "net_flips_lost")
KEYS: Final = {
    **dict.fromkeys((*FALLS, "group_excess"), "margin"),
    **dict.fromkeys(LEVELS, "at_least"),
    **dict.fromkeys(COUNTS, "at_most"),
}
"""Metrics, and the key that each is limited by."""
SCOPES: Final = ("every", "mean", "any")


class Criterion(BaseModel):
    """One rule."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    metric: str
    label: str = "every"
    """``every`` label by itself, their ``mean``, for flips ``any`` of them, or a label's name."""
    group: str = ""
    """Nothing for all patients; ``sex`` for every group of a kind, ``sex=F`` for one, ``every`` for all kinds."""
    update: Literal["each", "last", "first-to-last"] = "each"
    margin: float | None = Field(default=None, allow_inf_nan=False)
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    at_most: float | None = Field(default=None, allow_inf_nan=False)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    must_show: Literal["that it holds", "that it fails"] = "that it holds"
    """Whether it must be shown that the limit is kept (non-inferiority), or only a shown violation counts."""

    @field_validator("margin", "at_most")
    @classmethod
    def _no_gain(cls, value: float | None) -> float | None:
        if value is not None and value < 0:
            raise ValueError(f"{value:g} has the wrong sign: it is how much may be lost, from 0 up")
        return value

    @field_validator("at_least")
    @classmethod
    def _share(cls, value: float | None) -> float | None:
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{value:g} is not from 0 to 1")
        return value

    @property
    def limit(self) -> float:
        """That its metric is held against."""
        return float(getattr(self, KEYS[self.metric]))

    @property
    def told(self) -> str:
        """The rule in words: its name, or what it says."""
        word = {"margin": "at most", "at_least": "at least", "at_most": "at most"}[KEYS[self.metric]]
        per = f" per {PER:,}" if self.metric in COUNTS else ""
        where = f" by {self.group}" if self.group else ""
        return self.name or f"{self.metric} {word} {self.limit:g}{per}, {self.label} label{where}"


@dataclass(frozen=True)
class Comparison:
    """One number that a rule is about.

    Args:
        where: Update, label and group.
        value: What was measured.
        bound: How bad it may be, at the rule's confidence.
        verdict: Of this one; violations are by Holm over all of the rule's comparisons.
        needed: How many test patients would decide it with 80 % power; None where it is decided, or none would do.
        detectable: The smallest excess over the limit that these patients would show, with 80 % power.
    """

    where: str
    value: float
    bound: float
    verdict: Verdict
    needed: int | None
    detectable: float


@dataclass(frozen=True)
class Finding:
    """What a rule comes to; it is violated by one comparison, and met by all."""

    criterion: Criterion
    verdict: Verdict
    comparisons: list[Comparison]
    note: str = ""

    @property
    def fails(self) -> bool:
        """Whether the update may not go live by this rule."""
        shown = self.criterion.must_show == "that it holds"
        return self.verdict == "violated" or (shown and self.verdict == "not decidable")

    @property
    def worst(self) -> Comparison | None:
        """The comparison that decides: of those of its verdict, the one that is worst."""
        sign = -1 if KEYS[self.criterion.metric] == "at_least" else 1
        found = [c for c in self.comparisons if c.verdict == self.verdict and c.value == c.value]
        return max(found, key=lambda c: sign * c.value, default=None)

    @property
    def needed(self) -> int | None:
        """How many patients would decide every comparison; None where it is decided, or no number would do."""
        found = [c.needed for c in self.comparisons if c.verdict == "not decidable"]
        return (
            None
            if self.verdict != "not decidable" or None in found
            else max(n for n in found if n is not None)
        )


def read_criteria(path: Path) -> list[Criterion]:
    """Rules of a TOML file: an array of tables ``criterion``.

    Raises:
        UserError: If it is not there, not TOML, or a rule of it cannot be.
    """
    where = str(path)
    try:
        document = tomllib.loads(read_small(path).decode())
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", where=where, fix="retune audit --new FILE writes one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not TOML: {error}", where=where) from error
    rules = document.get("criterion")
    if set(document) != {"criterion"} or not isinstance(rules, list) or not rules:
        raise UserError("must hold tables [[criterion]] and nothing else", where=where)
    return [_criterion(rule, f"{where}, criterion {k}") for k, rule in enumerate(rules, 1)]


def _criterion(rule: Any, where: str) -> Criterion:
    if isinstance(rule, dict):
        for key in rule:
            if key not in Criterion.model_fields:
                raise UnknownName("key", key, Criterion.model_fields, where=where)
        if isinstance(rule.get("metric"), str) and rule["metric"] not in KEYS:
            raise UnknownName("metric", rule["metric"], KEYS, where=where)
    try:
        found = Criterion.model_validate(rule)
    except ValidationError as error:
        raise UserError(mistake(error), where=where) from None
    given = [key for key in ("margin", "at_least", "at_most") if getattr(found, key) is not None]
    if given != [KEYS[found.metric]]:
        raise UserError(f"{found.metric} is limited by {KEYS[found.metric]} alone", where=where)
    if found.metric in ("group_excess",) and not found.group:
        raise UserError("group_excess needs a group, as group = 'sex'", where=where)
    if found.metric == "retention" and (found.group or found.label not in ("every", "mean")):
        raise UserError("retention is of all labels and patients: leave label and group out", where=where)
    if found.label == "any" and found.metric not in COUNTS:
        raise UserError(f"label 'any' is for {' and '.join(COUNTS)}", where=where)
    if found.label == "mean" and found.metric in COUNTS:
        raise UserError(
            "flips have no mean: label = 'any' counts patients with a flip of any label", where=where
        )
    return found


@dataclass(frozen=True)
class _Case:
    """A number of a rule, signed so that more is worse; ``counted`` are patients with it and patients in all."""

    where: str
    sampled: Sampled
    patients: int
    counted: tuple[int, int] | None = None
    few: int | None = None
    """Images of the rarer class, where they are too few to judge."""


def judge(
    criterion: Criterion, evidence: Evidence, slices: dict[str, dict[str, Slice]], matrix: Versions
) -> Finding:
    """Hold a run against a rule.

    That every number keeps the limit is shown where each of them shows it by itself: all must, so none is corrected
    for their number. That some number breaks it is shown after Holm's correction, for any of them could by chance.

    Args:
        criterion: The rule.
        evidence: Of the run.
        slices: Of :func:`retune.audit.groups.slices_of`.
        matrix: Of :func:`retune.audit.versions.versions`.

    Raises:
        UnknownName: If the run has no such label or group.
    """
    cases = list(_cases(criterion, evidence, slices, matrix))
    if not cases:
        return Finding(criterion, "not decidable", [], "the run has nothing that this rule is about")
    sign = -1.0 if KEYS[criterion.metric] == "at_least" else 1.0
    limit, alpha = sign * criterion.limit, 1 - criterion.confidence
    tested = [_tested(case, limit, alpha) for case in cases]
    broken = holm([p for p, *_ in tested])
    comparisons = []
    for case, q, (_, kept, bound, error) in zip(cases, broken, tested, strict=True):
        value = float(case.sampled.value)
        verdict: Verdict = "violated" if q < alpha else "met" if kept < alpha else "not decidable"
        if verdict == "not decidable" and criterion.must_show == "that it fails" and value <= limit:
            verdict = "met"
        needed = None
        if verdict == "not decidable":
            needed = patients_needed(case.patients, error, value - limit, criterion.confidence)
            if case.counted:
                needed = counts_needed(*case.counted, min(1.0, limit / PER), alpha)
            if case.few is not None:
                needed = -(-case.patients * FEWEST // case.few) if case.few else None
        detectable = (quantile(criterion.confidence) + quantile(0.8)) * error
        comparisons.append(Comparison(case.where, sign * value, sign * bound, verdict, needed, detectable))
    verdicts = {c.verdict for c in comparisons}
    order: tuple[Verdict, ...] = ("violated", "not decidable", "met")
    return Finding(criterion, next(v for v in order if v in verdicts), comparisons)


def _tested(case: _Case, limit: float, alpha: float) -> tuple[float, float, float, float]:
    """P-values of breaking and of keeping a limit, the bound at the confidence, and the standard error."""
    value, error = float(case.sampled.value), float(standard_error(case.sampled))
    if case.few is not None or np.isnan(value):
        return np.nan, np.nan, np.nan, np.nan
    if case.counted:
        # Patients are drawn one by one: their number is binomial, and exact where it is 0.
        from scipy.special import bdtr, bdtrc, betaincinv

        k, n = case.counted
        share = min(1.0, limit / PER)
        bound = PER * float(betaincinv(k + 1, n - k, 1 - alpha)) if k < n else float(PER)
        p = (k + 1) / (n + 2)
        error = max(error, PER * float(np.sqrt(p * (1 - p) / n)))
        above = float(bdtrc(k - 1, n, share)) if k else 1.0
        return above, float(bdtr(k, n, share)), bound, error
    bound = value + quantile(1 - alpha) * error
    return p_above(value, error, limit), p_above(-value, error, -limit), bound, error


def _cases(
    criterion: Criterion, evidence: Evidence, slices: dict[str, dict[str, Slice]], matrix: Versions
) -> Iterator[_Case]:
    if criterion.metric == "retention":
        found = matrix.measures["retention"]
        patients = evidence.whole.patients
        for update in _updates(criterion, evidence):
            if update.after > 1:
                yield _Case(f"version {update.after}", _worse(found.at(update.after - 1)), patients)
        return
    for update in _updates(criterion, evidence):
        if criterion.metric == "group_excess":
            yield from _excesses(criterion, evidence, slices, update)
            continue
        for by, one in _scope(criterion, evidence, slices):
            where = f"{update.name}, " + (f"{by} {one.name}, " if by else "")
            if criterion.metric in COUNTS:
                rows = evidence.groups[by] == one.name if by else None
                yield from _flipped(criterion, evidence, flips(evidence, update, rows), where)
            else:
                yield from _measured(criterion, evidence, one, update, where)


def _updates(criterion: Criterion, evidence: Evidence) -> list[Update]:
    found = updates(evidence.versions)
    steps = [u for u in found if not u.last]
    if criterion.update == "each":
        return steps
    return steps[-1:] if criterion.update == "last" else found[-1:]


def _scope(
    criterion: Criterion, evidence: Evidence, slices: dict[str, dict[str, Slice]]
) -> list[tuple[str, Slice]]:
    if not criterion.group:
        return [("", evidence.whole)]
    by, _, name = criterion.group.partition("=")
    if by == "every":
        return [(kind, one) for kind, of in slices.items() for one in of.values()]
    if by not in slices:
        raise UnknownName("group", by, ["every", *slices], where=f"criterion '{criterion.told}'")
    if name and name not in slices[by]:
        raise UnknownName(f"group of {by}", name, slices[by], where=f"criterion '{criterion.told}'")
    return [(by, one) for one in slices[by].values() if one.name == name or not name]


def _columns(criterion: Criterion, evidence: Evidence) -> list[int]:
    if criterion.label in SCOPES:
        return list(range(len(evidence.labels)))
    if criterion.label not in evidence.labels:
        raise UnknownName("label", criterion.label, evidence.labels, where=f"criterion '{criterion.told}'")
    return [evidence.labels.index(criterion.label)]


def _worse(sampled: Sampled) -> Sampled:
    """Signed so that more is worse."""
    return Sampled(-sampled.value, -sampled.replicates)


def _measured(
    criterion: Criterion, evidence: Evidence, one: Slice, update: Update, where: str
) -> Iterator[_Case]:
    kind = FALLS.get(criterion.metric, criterion.metric)
    rate: Sampled = getattr(one, kind)
    change = criterion.metric in FALLS
    found = rate.at(update.after) - rate.at(update.before) if change else rate.at(update.after)
    # What is not in use yet cannot be lost: a rule is about labels that are called, for falls by the version before.
    used = evidence.in_use[update.before if change else update.after]
    columns = [c for c in _columns(criterion, evidence) if used[c]]
    if criterion.label == "mean":
        chosen = np.array([c for c in columns if one.judged[c]], dtype=np.intp)
        if len(chosen):
            yield _Case(f"{where}mean of labels", _worse(found.mean(chosen)), one.patients)
        return
    for c in columns:
        few = None if one.judged[c] else int(min(one.positives[c], one.negatives[c]))
        yield _Case(f"{where}{evidence.labels[c]}", _worse(found.at(c)), one.patients, few=few)


def _flipped(criterion: Criterion, evidence: Evidence, found: Flips, where: str) -> Iterator[_Case]:
    columns = [-1] if criterion.label == "any" else _columns(criterion, evidence)
    for c in columns:
        n = int(found.patients[c])
        if not n:
            continue
        told = f"{where}{'any label' if c < 0 else evidence.labels[c]}"
        if criterion.metric == "negative_flips":
            yield _Case(told, found.negative.at(c), n, (int(found.lost[c]), n))
        else:
            yield _Case(told, _worse(found.net.at(c)), n)


def _excesses(
    criterion: Criterion, evidence: Evidence, slices: dict[str, dict[str, Slice]], update: Update
) -> Iterator[_Case]:
    wanted = {(by, one.name) for by, one in _scope(criterion, evidence, slices)}
    for by, of in slices.items():
        judged, labels = comparable(of)
        if criterion.label not in ("every", "mean"):
            labels = labels & (np.arange(len(labels)) == _columns(criterion, evidence)[0])
        change = [(one.auc.at(update.after) - one.auc.at(update.before)).mean(labels) for one in judged]
        for k, one in enumerate(judged):
            if (by, one.name) in wanted and len(judged) > 1 and labels.any():
                yield _Case(f"{update.name}, {by} {one.name}", _worse(excess(change, k)), one.patients)


NEW: Final = """\
# What an update must keep, agreed before it is made. Each [[criterion]] is one rule; retune audit RUN --accept FILE exits
# with 0 where all are met and with 3 where one is not.
#
# metric      auc_fall, sensitivity_fall, specificity_fall: how far it may fall with an update (margin, from 0 up)
#             group_excess: how much more AUC a group may lose than the others of its kind (margin)
#             negative_flips: patients per 1,000 for whom a right call becomes wrong (at_most)
#             net_flips_lost: the same minus those for whom a wrong one becomes right (at_most)
#             auc, sensitivity, specificity, retention: what it must be at least (at_least)
# label       "every" label by itself, their "mean", for flips "any" of them, or a label's name; of those in use, that is
#             with a threshold: for falls and flips before the update. Zero-shot has none.
# group       nothing for all patients; "sex" for every group of a kind, "sex=F" for one, "every" for all kinds
# update      "each" version against the one before, the "last" of these, or "first-to-last"
# confidence  of the one-sided test
# must_show   "that it holds": it counts as failing if the test patients cannot show that the limit is kept
#             "that it fails": only a shown violation counts

[[criterion]]
name = "No AUC of a label in use falls by more than .05 with an update"
metric = "auc_fall"
label = "every"
update = "each"
margin = 0.05
confidence = 0.95
must_show = "that it holds"

[[criterion]]
name = "For at most 50 in 1,000 some right call becomes wrong"
metric = "negative_flips"
label = "any"
update = "each"
at_most = 50
must_show = "that it fails"

[[criterion]]
name = "No group loses .03 more than the others of its kind"
metric = "group_excess"
group = "every"
update = "each"
margin = 0.03
must_show = "that it fails"

[[criterion]]
name = "Mean sensitivity at the frozen thresholds is at least .50"
metric = "sensitivity"
label = "mean"
update = "last"
at_least = 0.50
must_show = "that it holds"
"""
"""What ``retune audit --new`` writes."""
