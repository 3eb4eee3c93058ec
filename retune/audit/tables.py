"""The tables of an audit, as text: a terminal, a page and a Markdown file show the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from retune.audit.criteria import Finding
from retune.audit.flips import PER
from retune.audit.groups import ranged
from retune.audit.one import Audit, Step, told_range
from retune.audit.several import Methods, Row
from retune.results.text import count, number, seconds, size, stored

PLAN: Final = (
    "Rules agreed beforehand are what the FDA's guidance on predetermined change control plans (August 2025) calls a "
    "modification protocol. That they are met here is no claim of compliance with it."
)


@dataclass(frozen=True)
class Table:
    """One.

    Args:
        title: Above it.
        heads: Of its columns; the first is of text.
        rows: Its cells.
        note: Below it.
        brief: Whether a terminal shows it.
        wordy: Columns of text after the first.
    """

    title: str
    heads: list[str]
    rows: list[list[str]]
    note: str = ""
    brief: bool = True
    wordy: tuple[int, ...] = ()


def tables(audit: Audit | Methods) -> list[Table]:
    """All of an audit, in the order in which it is read.

    Args:
        audit: Of one run, or of several.
    """
    if isinstance(audit, Methods):
        return [_methods(audit.rows)]
    found = [_rules(audit), _versions(audit), _flips(audit), _labels(audit)]
    overall = audit.steps[-1]
    steps = [*(s for s in audit.steps if s.harmed and s is not overall), overall]
    found += [_groups(s) for s in steps] + [_groups(s, brief=False) for s in audit.steps if s not in steps]
    found += [_falls(audit), _thresholds(audit), _cost(audit), _identified(audit), _dossier(audit)]
    return [table for table in found if table.rows]


def _rules(audit: Audit) -> Table:
    rows = []
    for f in audit.findings:
        worst = f.worst
        told = (
            f"{_of(f.criterion.metric, worst.value)} ({_of(f.criterion.metric, worst.bound)})"
            if worst
            else "-"
        )
        needed = count(f.needed) if f.needed else "-"
        where = worst.where if worst else f.note or "too few images"
        rows.append(
            [
                f.criterion.told,
                _verdict(f),
                _of(f.criterion.metric, f.criterion.limit),
                told,
                where,
                needed,
            ]
        )
    heads = ["rule", "verdict", "limit", "value (bound)", "where", "patients needed"]
    note = (
        "The limit that the rule sets, the value that decides, and how bad it may be at the rule's confidence; how many "
        "test patients would decide it with 80 % power."
    )
    return Table("Agreed rules", heads, rows, f"{note} {PLAN}", wordy=(1, 4))


def _verdict(f: Finding) -> str:
    """What a rule comes to; of one that only a shown violation fails, whether it was shown to hold."""
    if f.verdict == "met" and f.worst is not None:
        over = (
            f.worst.bound < f.criterion.limit
            if f.criterion.at_least is not None
            else f.worst.bound > f.criterion.limit
        )
        return "met, no violation shown" if over else "met"
    return f"{f.verdict}, fails" if f.fails and f.verdict != "violated" else f.verdict


def _of(metric: str, value: float) -> str:
    return ("-" if value != value else f"{value:.0f}") if "flips" in metric else number(value)


def _versions(audit: Audit) -> Table:
    found, level = audit.versions, audit.evidence.result.bootstrap.level
    names = (
        found.names
        if found.by not in ("labels", "nothing")
        else [str(j + 1) for j in range(len(found.names))]
    )
    shown = names if found.by != "nothing" else ["AUC"]
    rows = []
    for v in range(audit.evidence.versions + 1):
        cells = [number(x) for x in found.scores.value[v, : len(shown)]]
        kinds = [ranged(m.at(v - 1), level)[0] if v else None for m in found.measures.values()]
        rows.append(
            [f"{v}" if v else "zero-shot", *cells, *(number(k, signed=j < 2) for j, k in enumerate(kinds))]
        )
    sets = {
        "labels": "Sets: " + "; ".join(f"{j}: {name}" for j, name in enumerate(found.names, 1)) + ".",
        "nothing": "",
    }.get(found.by, f"Sets are the test images of each {found.by}.")
    note = (
        "Mean AUC. Learning: on its own set, against the version before; potential: how much harder the new set is than "
        "the one before for who did not learn from it; retention: decayed mean over earlier sets (Burgon et al., "
        "arXiv 2604.04878)."
    )
    return Table(
        "Every version on every evaluation set",
        ["version", *shown, *found.measures],
        rows,
        f"{note} {sets}".strip(),
    )


def _flips(audit: Audit) -> Table:
    rows = [[_named(s), *_turned(audit, s, -1)] for s in audit.steps if s.flips.patients[-1]]
    note = (
        f"Of {PER:,} patients: for how many some right call of any label becomes wrong at its frozen threshold, and the "
        "reverse, on test images, which no version trained on. Zero-shot has no threshold: it makes no calls."
    )
    heads = ["update", "patients", "right to wrong", "wrong to right", "net"]
    return Table("Calls that turn, any label", heads, rows, note)


def _labels(audit: Audit) -> Table:
    step = audit.steps[-1]
    rows = [
        [label, *_turned(audit, step, c)]
        for c, label in enumerate(audit.evidence.labels)
        if step.flips.patients[c]
    ]
    heads = ["label", "patients", "right to wrong", "wrong to right", "net"]
    note = "Labels that only one of the two versions calls are left out."
    return Table(f"Calls that turn, label by label, {_named(step)}", heads, rows, note, brief=False)


def _turned(audit: Audit, step: Step, c: int) -> list[str]:
    level, f = audit.evidence.result.bootstrap.level, step.flips

    def told(value: tuple[float, float, float], sign: str = "") -> str:
        middle, low, high = (f"{x:{sign}.0f}" for x in value)
        return f"{middle} ({low} to {high})"

    turned = [told(ranged(x.at(c), level)) for x in (f.negative, f.positive)]
    return [count(f.patients[c]), *turned, told(ranged(f.net.at(c), level), "+")]


def _named(step: Step) -> str:
    return f"{step.update.name}{', first to last' if step.update.last else ''}"


def _groups(step: Step, *, brief: bool = True) -> Table:
    rows = []
    for g in step.groupings:
        for c in g.changes:
            mark = " harmed" if c.harmed else " lowest" if c is g.worst else ""
            turned = "-" if c.flips != c.flips else f"{c.flips:.0f}"
            changed = [number(c.sensitivity, signed=True), number(c.specificity, signed=True)]
            moved = [told_range(x, signed=True) for x in (c.auc, c.excess)]
            tested = [_p(c.p), number(c.detectable)]
            rows.append(
                [f"{g.by} {c.group}{mark}", number(c.before + c.auc[0]), *moved, *tested, *changed, turned]
            )
    heads = ["group", "AUC", "change", "against the others", "p", "detectable", "sens.", "spec.", "turned"]
    note = (
        "AUC: mean after the update over labels that all groups of a kind can be judged by. Against the others: its "
        "change minus the mean change of the other groups of its kind; p by Holm over all groups; detectable: the "
        "smallest such difference that these patients would show. Sens., spec.: change at the frozen thresholds. "
        f"Turned: of {PER:,} patients, with some right call turned wrong."
    )
    gaps = "; ".join(f"{g.by} {number(g.gap[0])} to {number(g.gap[1])}" for g in step.groupings)
    return Table(
        f"Groups, {_named(step)}", heads, rows, f"{note} Largest gap, before to after: {gaps}.", brief
    )


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else number(value)


def _falls(audit: Audit) -> Table:
    rows = [
        [_named(s), f"{f.by} {f.group}", f.label, told_range(f.change, signed=True), _p(f.p)]
        for s in audit.steps
        for f in s.falls
    ]
    note = (
        "AUC of a label in a group, shown to have fallen: p by Holm over every label and group of the update."
    )
    return Table(
        "Labels that fell in a group",
        ["update", "group", "label", "change", "p"],
        rows,
        note,
        brief=False,
        wordy=(1, 2),
    )


def _thresholds(audit: Audit) -> Table:
    rows = [
        [d.label, str(d.since), *(f"{number(a)} → {number(b)}" for a, b in (d.sensitivity, d.specificity, d.calibration)),
         number(d.rarer), f"{d.threshold:.2f} → {d.restoring[0]:.2f}", number(d.restoring[1])]
        for d in audit.drifts
    ]  # fmt: skip
    heads = [
        "label",
        "since",
        "sens.",
        "spec.",
        "calib.",
        "if rarer",
        "threshold",
        "spec. left",
    ]
    note = (
        "From the version that froze a threshold to the last. Calibration error of scores as logits; if rarer: the last "
        "version's were the label half as common. Threshold: the frozen one, and the one that would give its first "
        "sensitivity back on these images, with the specificity it leaves: how far it is off, not one to use, for it is "
        "read off the test images."
    )
    return Table("The threshold in use", heads, rows, note)


def _cost(audit: Audit) -> Table:
    cost = audit.evidence.result.cost
    kept = stored(cost.stored_images, cost.stored_features, cost.stored_bytes) or "nothing"
    rows = [
        ["trained parameters", count(cost.trainable_parameters)],
        ["fitting", seconds(cost.fit_seconds)],
        ["scoring", seconds(cost.score_seconds)],
        ["peak memory", size(cost.peak_memory_bytes)],
        *([name, f"{used:,.0f} J"] for name, used in audit.evidence.result.energy.items()),
        ["kept of past patients", kept],
    ]
    return Table("What it cost", ["", "all updates"], rows, brief=False)


def _identified(audit: Audit) -> Table:
    titles = {"kept": "what the method keeps", "backbone": "the backbone's features"}
    rows = [
        [
            titles[name],
            count(of.queries),
            count(of.gallery),
            f"{of.rank_one:.1%} ({of.low:.1%} to {of.high:.1%})",
            f"{of.chance:.1%}",
        ]
        for name, of in audit.evidence.result.identification.items()
    ]
    note = (
        "How often the closest picture is of the same patient. What the method keeps: looked up with other training "
        "pictures of patients it keeps. The backbone's features: each test image among all others."
    )
    heads = ["looked up in", "pictures", "among", "rank 1", "by chance"]
    return Table("Whom it tells", heads, rows, note)


def _dossier(audit: Audit) -> Table:
    rows = [
        [
            str(link["version"]) if link["version"] else "zero-shot",
            count(link.get("images", 0)),
            ", ".join(link.get("labels", [])) or "-",
            "; ".join(f"{by}: {_counted(of)}" for by, of in link.get("holds", {}).items()) or "-",
            link["digest"][:16],
        ]
        for link in audit.links
    ]
    result = audit.evidence.result
    note = (
        f"Run {result.run.id} of {result.strategy.called}, seed {result.run.seed}. Each digest is over all that "
        "audit.json tells of a version, its scores, and the digest before: an edit breaks the chain."
    )
    heads = ["version", "images", "labels", "of whom", "digest"]
    return Table("What changed between versions", heads, rows, note, brief=False, wordy=(2, 3))


def _counted(of: dict[str, int]) -> str:
    return ", ".join(f"{value or 'unknown'} {n:,}" for value, n in of.items())


def _methods(rows: list[Row]) -> Table:
    judged = any(row.failed is not None for row in rows)
    cells = [
        [
            r.method,
            *_counts(r.negative, r.update, r.positive),
            number(r.retention),
            number(r.final),
            f"{r.worst} {number(r.worst_auc)}".strip(),
            f"{r.loser} {number(r.loser_change, signed=True)}".strip(),
            *([_met(r)] if judged else []),
        ]
        for r in rows
    ]
    heads = [
        "method",
        "right to wrong",
        "worst update",
        "wrong to right",
        "retention",
        "final AUC",
        "lowest group",
        "least gain",
        *(["rules"] * judged),
    ]
    note = (
        f"From the first version to the last. Of {PER:,} patients, for how many some right call becomes wrong, among "
        "labels that both call, the same of the worst single update, and the reverse; retention of the last version; the "
        "group that ends lowest; the group whose AUC rose least or fell most. Means over seeds."
    )
    return Table(
        "Methods, fewest right calls lost first",
        heads,
        cells,
        note + (f" {PLAN}" if judged else ""),
        wordy=(6, 7, 8),
    )


def _counts(*values: Any) -> list[str]:
    return ["-" if v != v else f"{v:.0f}" for v in values]


def _met(row: Row) -> str:
    if not row.failed:
        return "met"
    return "not met" if row.seeds == 1 else f"not met, {row.failed} of {row.seeds} seeds"
