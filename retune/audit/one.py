"""The audit of one run: everything that is told of it, and what it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retune.audit.criteria import Criterion, Finding, judge
from retune.audit.dossier import Link, chain
from retune.audit.evidence import Evidence, Sampled, Slice
from retune.audit.flips import PER, Flips, Update, flips, updates
from retune.audit.groups import Fall, Grouping, falls, groupings, ranged, slices_of, unjudged
from retune.audit.in_use import Drift, drifts
from retune.audit.several import Methods
from retune.audit.versions import Versions, versions
from retune.results.text import listed, number


@dataclass(frozen=True)
class Step:
    """One update."""

    update: Update
    flips: Flips
    groupings: list[Grouping]
    falls: list[Fall]

    @property
    def harmed(self) -> list[tuple[str, str]]:
        """Groups that it is shown to cost more than the others, each with its kind."""
        return [(g.by, c.group) for g in self.groupings for c in g.changes if c.harmed]


@dataclass(frozen=True)
class Audit:
    """One run's."""

    evidence: Evidence
    slices: dict[str, dict[str, Slice]]
    versions: Versions
    steps: list[Step]
    drifts: list[Drift]
    findings: list[Finding]
    links: list[Link]

    @property
    def title(self) -> str:
        """What it is the audit of."""
        result = self.evidence.result
        stream = f"{result.scenario.name}, backbone {result.backbone.name}, seed {result.run.seed}"
        return f"Audit of {result.strategy.called} on {result.dataset.marked}, {stream}"

    @property
    def synthetic(self) -> str:
        """``synthetic`` where the pictures are of no patient, ``partly synthetic`` where some are, else nothing."""
        return self.evidence.result.dataset.synthetic_word

    @property
    def fails(self) -> bool:
        """Whether a rule is not met."""
        return any(finding.fails for finding in self.findings)

    @property
    def notes(self) -> list[str]:
        """What cannot be told, and why."""
        notes = [*self.evidence.missing, *unjudged(self.slices)]
        if self.versions.by == "nothing":
            notes.append(
                "Experiences differ neither by site nor by labels: every evaluation set is all test images."
            )
        uncalled = [self.evidence.labels[c] for c in np.flatnonzero(~self.evidence.in_use[-1])]
        if uncalled:
            notes.append(f"No threshold was learnt for {listed(uncalled)}: no call, no flip.")
        return notes

    @property
    def verdict(self) -> str:
        """One sentence: by the rules where there are some, then what the updates cost whom."""
        told = []
        if self.findings:
            kinds = {
                k: [f for f in self.findings if f.verdict == k] for k in ("met", "violated", "not decidable")
            }
            counts = [f"{len(found)} {kind}" for kind, found in kinds.items() if found]
            lead = "May not replace" if self.fails else "May replace"
            many = len(self.findings)
            told.append(
                f"{lead} the version in use by {many} agreed {'rule' if many == 1 else 'rules'}: {', '.join(counts)}"
            )
        overall, labels = self.steps[-1], self.evidence.labels
        lost, won = (float(x.value[-1]) for x in (overall.flips.negative, overall.flips.positive))
        if lost == lost:
            both = int(np.count_nonzero(overall.flips.patients[:-1]))
            of = f" of {both} of {len(labels)} labels, those that both call," if both < len(labels) else ""
            told.append(
                f"from version {overall.update.before} to {overall.update.after} some right call{of} becomes wrong for "
                f"{lost:.0f} of {PER:,} test patients, some wrong one right for {won:.0f}"
            )
            worst = max(self.steps, key=lambda step: np.nan_to_num(step.flips.negative.value[-1], nan=-1.0))
            if worst is not overall:
                turned = worst.flips.negative.value[-1]
                told.append(f"update {worst.update.name} alone turns one wrong for {turned:.0f}")
        harmed = [
            f"update {step.update.name} costs {listed([f'{by} {group}' for by, group in step.harmed])} "
            "more than other groups"
            for step in self.steps
            if step.harmed
        ]
        grouped = any(step.groupings for step in self.steps)
        told += harmed or ["no group is shown to lose more than others"] * grouped
        text = "; ".join(told)
        return f"{text[:1].upper()}{text[1:]}." if text else "Nothing can be told of calls or groups."


def audit_one(evidence: Evidence, criteria: Sequence[Criterion] = ()) -> Audit:
    """Audit a run.

    Args:
        evidence: What it left behind.
        criteria: Rules to hold it against.

    Raises:
        UserError: If a rule names a label or group that the run does not have.
    """
    slices = slices_of(evidence)
    matrix = versions(evidence, slices)
    steps = [
        Step(u, flips(evidence, u), groupings(evidence, slices, u), falls(evidence, slices, u))
        for u in updates(evidence.versions)
    ]
    findings = [judge(rule, evidence, slices, matrix) for rule in criteria]
    return Audit(evidence, slices, matrix, steps, drifts(evidence), findings, chain(evidence))


def document(audit: Audit | Methods) -> dict[str, Any]:
    """All of it as JSON knows it; numbers that are undefined are null.

    Args:
        audit: Of one run, or of several.
    """
    if isinstance(audit, Methods):
        return {
            "schema": "retune.audits/1",
            "notes": audit.notes,
            "methods": plain([vars(row) for row in audit.rows]),
        }
    result, level = audit.evidence.result, audit.evidence.result.bootstrap.level
    names = [*audit.evidence.labels, "any"]
    return {
        "schema": "retune.audit/1",
        "run": result.run.id,
        "method": result.strategy.called,
        "data": result.dataset.name,
        "synthetic": result.dataset.synthetic,
        "verdict": audit.verdict,
        "level": level,
        "notes": audit.notes,
        "versions": {
            "by": audit.versions.by,
            "sets": audit.versions.names,
            "auc": plain(audit.versions.scores.value),
            **{name: _intervals(found, level) for name, found in audit.versions.measures.items()},
        },
        "updates": [_step(step, names, level) for step in audit.steps],
        "thresholds": [plain(vars(d)) for d in audit.drifts],
        "criteria": [
            {
                **f.criterion.model_dump(exclude_none=True),
                "verdict": f.verdict,
                "fails": f.fails,
                "patients_needed": f.needed,
                "note": f.note,
                "comparisons": [plain(vars(c)) for c in f.comparisons],
            }
            for f in audit.findings
        ],
        "cost": plain(dict(vars(result.cost))),
        "energy": result.energy,
        "identification": {name: vars(of) for name, of in result.identification.items()},
        "dossier": audit.links,
    }


def _step(step: Step, names: list[str], level: float) -> dict[str, Any]:
    found = step.flips
    return {
        "update": step.update.name,
        "first_to_last": step.update.last,
        "flips": [
            {
                "label": name,
                "patients": int(found.patients[c]),
                "lost": int(found.lost[c]),
                "won": int(found.won[c]),
                "negative_per_1000": plain(ranged(found.negative.at(c), level)),
                "net_per_1000": plain(ranged(found.net.at(c), level)),
            }
            for c, name in enumerate(names)
            if found.patients[c]
        ],
        "groups": [
            {
                "by": g.by,
                "labels": g.labels,
                "gap": plain(g.gap),
                "groups": [plain(vars(c)) for c in g.changes],
            }
            for g in step.groupings
        ],
        "falls": [plain(vars(fall)) for fall in step.falls],
    }


def _intervals(sampled: Sampled, level: float) -> list[Any]:
    return [plain(ranged(sampled.at(k), level)) for k in range(len(sampled.value))]


def plain(value: Any) -> Any:
    """Values that JSON knows."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def told_range(value: tuple[float, float, float], *, signed: bool = False) -> str:
    """A number with its interval, as text."""
    middle, low, high = (number(x, signed=signed) for x in value)
    return f"{middle} ({low} to {high})"
