"""What a result shows, in plain sentences made from its numbers and their intervals."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist
from typing import Final

import numpy as np

from retune.errors import UserError
from retune.metrics.table import DENSE
from retune.plugins import registry
from retune.results.collect import load
from retune.results.own import NOT_OURS, problems
from retune.results.result import MetricRecord, Result, TransferRecord
from retune.results.text import listed, number
from retune.results.text import seconds as in_seconds
from retune.results.transfers import STILL, sizes, title, without_a_picture, words
from retune.results.verdict import standings, verdict

POWER: Final = 0.8
"""How often a difference is to be found that is told as one these patients could show."""


def explain(run: str | Path | Result) -> dict[str, list[str]]:
    """Say what a run shows and what it cannot show, for who reads no tables.

    Args:
        run: A result, or a run's folder or its ``result.json``.

    Returns:
        Sentences under their headings, in the order in which they are to be read.

    Raises:
        UserError: If there is no result, or more than one.
    """
    result = run if isinstance(run, Result) else _one(run)
    found = {
        "What was run": _run(result),
        "In short": [told] if (told := verdict(result)) else [],
        "What was learnt": _learnt(result),
        "What was forgotten": _forgotten(result),
        "What these test patients can show": _shown(result),
        "Beside it": [line for of in result.transfer for line in _transfer(of, result)],
        "Metrics of your own": _own(result),
        "To be read with care": [
            line.rstrip(".") + "." for line in (*result.dataset.notes, *result.cautions)
        ],
        "What it cost": _cost(result),
    }
    return {heading: lines for heading, lines in found.items() if lines}


def _one(run: str | Path) -> Result:
    found = load(run)
    if isinstance(found, Result):
        return found
    raise UserError(
        f"holds {len(found)} runs",
        where=str(run),
        fix="give the folder of one; retune report tells of several",
    )


def _run(result: Result) -> list[str]:
    cut, data, backbone = result.scenario, result.dataset, result.backbone
    steps = len(cut.experiences)
    kind = data.synthetic_word
    data_name = f"{data.name} ({kind} pictures)" if kind else data.name
    lines = [
        f"{result.strategy.called} learnt {len(result.labels)} labels from {data.n_train:,} images of {data_name} in "
        f"{_counted(steps, 'experience')} of {cut.name}, on top of {backbone.name}; it was judged on {data.n_test:,} "
        f"images of {data.n_test_patients:,} other patients.",
    ]
    lines += [f"{cut.name}: {told}" for told in _summary("scenarios", cut.name)]
    lines += [f"{result.strategy.called}: {told}" for told in _summary("strategies", result.strategy.name)]
    if result.strategy.sees_everything:
        lines.append(
            "It is an upper bound: it sees all images and all labels at once, as no continual method may."
        )
    return lines


def _summary(kind: str, name: str) -> list[str]:
    """What a built-in says of itself in a line; nothing of others, whose files may be gone."""
    found = [
        entry for entry in registry(kind).entries if entry.name == name and isinstance(entry.target, Path)
    ]
    return [entry.summary for entry in found]


def _learnt(result: Result) -> list[str]:
    start, end = result.array("auc_matrix")[[0, -1]]
    low, high = result.array("auc_low")[-1], result.array("auc_high")[-1]
    final, before = result.metric("final_auc"), result.metric("zero_shot_auc")
    often = "-" if final.value is None else f"{100 * final.value:.0f} %"
    lines = [
        f"At the end an image with a finding is ranked above one without it {often} of the time, the mean over the "
        f"labels (final AUC {_with_interval(final)}); before any training it was {number(before.value)}, and a coin "
        "would give .5."
    ]
    rise = end - start
    groups = {"above": low > start, "below": high < start}
    for side, order in (("above", -rise), ("below", rise)):
        chosen = [c for c in np.argsort(order) if groups[side][c]]
        names = [f"{result.labels[c]} ({number(start[c])} to {number(end[c])})" for c in chosen]
        if names:
            lines.append(
                f"{_counted(len(names), 'label')} ended {side} where {'it' if len(names) == 1 else 'they'} began by the "
                f"whole interval: {listed(names)}."
            )
    known = ~np.isnan(rise)
    unsure = int((known & ~groups["above"] & ~groups["below"]).sum())
    if unsure:
        lines.append(
            f"Of {_counted(unsure, 'label')} it cannot be said: the interval of the end holds the start."
        )
    chance = [
        name for name, of in zip(result.labels, standings(result), strict=True) if of in ("at", "below")
    ]
    if chance:
        lines.append(f"No better than a coin at the end, as far as these patients show: {', '.join(chance)}.")
    return lines


def _forgotten(result: Result) -> list[str]:
    """Which label lost most since its best, and in which experience."""
    lost = np.array(result.forgetting, dtype=np.float64)
    if result.strategy.sees_everything:
        return []
    if np.isnan(lost).all():
        return ["Nothing can be forgotten: no label is learnt before the last experience."]
    matrix = result.array("auc_matrix")
    mean = result.metric("forgetting")
    lines = [
        f"At the end a label that was learnt before the last experience has lost {_with_interval(mean)} of its best "
        f"until then, on average{' (below 0: it gained)' if mean.value is not None and mean.value < 0 else ''}."
    ]
    if not (np.nan_to_num(lost) > 0).any():
        return ["No label that was learnt lost anything afterwards.", *lines[1:]]
    c = int(np.nanargmax(lost))
    since = matrix[result.first[c] :, c]
    best = int(np.nanargmax(since[:-1]))
    falls = since[best:-1] - since[best + 1 :]
    worst = result.first[c] + best + int(np.nanargmax(falls)) + 1
    showed = listed(result.scenario.experiences[worst - 1].labels)
    lines.append(
        f"Most was forgotten of {result.labels[c]}: {number(since[best])} after experience {result.first[c] + best}, "
        f"{number(since[-1])} at the end. It fell most in experience {worst} (from {number(matrix[worst - 1, c])} to "
        f"{number(matrix[worst, c])}), which showed {showed}."
    )
    kept = int((np.nan_to_num(lost, nan=np.inf) <= 0).sum())
    if kept:
        lines.append(f"{_counted(kept, 'label')} lost nothing.")
    return lines


def _shown(result: Result) -> list[str]:
    level = f"{100 * result.bootstrap.level:g} %"
    lines = [
        f"An interval holds what {level} of the resamples of these patients gave; it says nothing of other seeds, orders "
        "of labels or hospitals."
    ]
    gain = result.metric("gain")
    if gain.low is not None and gain.high is not None and gain.high > gain.low:
        normal = NormalDist()
        z = normal.inv_cdf(0.5 + result.bootstrap.level / 2)
        least = (normal.inv_cdf(0.975) + normal.inv_cdf(POWER)) * (gain.high - gain.low) / (2 * z)
        lines.append(
            f"A true change against zero-shot below about {number(least)} would mostly be missed on these "
            f"{result.dataset.n_test_patients:,} patients (80 % power, two-sided 5 % level)."
        )
    wide = result.array("auc_high")[-1] - result.array("auc_low")[-1]
    if not np.isnan(wide).all():
        c = int(np.nanargmax(wide))
        low, high = result.auc_low[-1][c], result.auc_high[-1][c]
        lines.append(
            f"Least is known of {result.labels[c]}: its final AUC lies between {number(low)} and {number(high)}. A "
            "label with few positive test images has a wide interval."
        )
    lines.append("One run says nothing of luck: repeat it with --seeds 5.")
    return lines


def _transfer(record: TransferRecord, result: Result) -> list[str]:
    trivial = ", ".join(f"{name} {number(value)}" for name, value in without_a_picture(record).items())
    measured = {metric.key: record.metrics[metric.key] for metric in DENSE if metric.key in record.metrics}
    told = [
        f"{m.heading} {_with_interval(measured[m.key])} ({m.meaning})" for m in DENSE if m.key in measured
    ]
    lines = [f"{title(record)}, {sizes(record)}: {'; '.join(told)}."]
    if trivial:
        lines.append(f"By the same number, {record.headline}, who looks at no picture scores: {trivial}.")
    return [*lines, *([] if record.moves else [STILL]), *words(record)]


def _own(result: Result) -> list[str]:
    told = [f"{n} is {number(one.value)}: {one.meaning}" for n, one in result.own.items() if not one.problem]
    return [*([f"These are {NOT_OURS}."] if told else []), *told, *(f"{line}." for line in problems(result))]


def _cost(result: Result) -> list[str]:
    """Of the method, and of whoever's pictures it keeps."""
    cost = result.cost
    kept = [(cost.stored_images, "past images"), (cost.stored_features, "past images' features")]
    told = " and ".join(f"{n:,} {what}" for n, what in kept if n) or "nothing"
    share = (
        f" ({100 * cost.trainable_parameters / cost.total_parameters:.1f} % of all)"
        if cost.total_parameters
        else ""
    )
    lines = [
        f"It trained {cost.trainable_parameters:,} parameters{share} in {in_seconds(cost.fit_seconds)} and kept {told} "
        "of past patients."
    ]
    tells = result.identification.get("kept")
    if tells:
        lines.append(
            f"What it keeps tells whom it is of: looked up with {tells.queries:,} other pictures of the same patients, "
            f"the closest is of the right one {100 * tells.rank_one:.1f} % of the time ({100 * tells.low:.1f} to "
            f"{100 * tells.high:.1f}; by chance {100 * tells.chance:.1f} %)."
        )
    return lines


def _with_interval(measured: MetricRecord) -> str:
    if measured.low is None:
        return number(measured.value)
    return f"{number(measured.value)}, {number(measured.low)} to {number(measured.high)}"


def _counted(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'s' * (n != 1)}"
