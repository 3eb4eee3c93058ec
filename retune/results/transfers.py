"""What a run's transfer says, in numbers that methods are compared by and in words that must stand beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from retune.metrics.binary import Floats
from retune.metrics.continual import nan_mean
from retune.results.result import Result, TransferRecord
from retune.results.text import listed, number

HEADS: Final = {
    "positives": "positives' Dice",
    "auroc": "presence AUROC",
    "false_alarm": "false alarms",
    "published": "published rule",
}
"""What numbers are called in tables."""
TASK: Final = {"name", "data", "fingerprint", "settings", "findings", "n_train", "n_test", "n_test_patients"}
STILL: Final = "The image side does not move: measured once, so nothing is forgotten and nothing drifts."


def measured(result: Result) -> TransferRecord | None:
    """A run's transfer, where it has one."""
    return result.transfer[0] if result.transfer else None


def same_task(results: Iterable[Result]) -> bool:
    """Whether the transfers among some runs are all of the same images, outlines and settings."""
    return len({task_key(of) for of in map(measured, results) if of is not None}) == 1


def task_key(record: TransferRecord) -> str:
    """Text that is equal for transfers whose numbers may be set beside each other."""
    return json.dumps(record.model_dump(include=TASK), sort_keys=True, default=str)


def misfit(record: TransferRecord, moments: int) -> str | None:
    """What does not fit in a transfer of so many moments; None where everything does: what is drawn relies on it."""
    n, needed = len(record.findings), {record.headline + end for end in ("", "_low", "_high")}
    for part in (record.refit, record.kept):
        if not needed <= part.keys():
            return f"transfer lacks {', '.join(sorted(needed - part.keys()))}"
        if any(len(rows) != moments or any(len(row) != n for row in rows) for rows in part.values()):
            return f"transfer must have {moments} rows of {n} findings"
    columns: list[Sequence[Any]] = [record.positives_train, record.positives_test]
    columns += [values for of in record.trivial.values() for values in of.values()]
    return (
        None if all(len(values) == n for values in columns) else f"transfer must have numbers of {n} findings"
    )


def headline(record: TransferRecord, end: str = "") -> Floats:
    """The number that metrics are worked out from, ``(2, T+1, K)``: refitted and kept; NaN where undefined."""
    return np.array([of[record.headline + end] for of in (record.refit, record.kept)], dtype=np.float64)


def title(record: TransferRecord) -> str:
    """What was measured, on what."""
    return f"{record.name} on {record.data}{' (synthetic)' if record.synthetic else ''}"


def sizes(record: TransferRecord) -> str:
    """How much was learnt from and judged on."""
    return (
        f"learnt from {record.n_train:,} images, thresholds from {record.n_valid:,}, judged on {record.n_test:,} of "
        f"{record.n_test_patients:,} patients"
    )


def without_a_picture(record: TransferRecord) -> dict[str, float]:
    """Mean over the findings that are defined of what each trivial predictor scores, by its name."""
    known = ~np.isnan(headline(record)[0, -1])
    found = {}
    for name, of in record.trivial.items():
        if record.headline in of:
            values = np.array(of[record.headline], dtype=np.float64)
            found[name] = float(nan_mean(np.where(known, values, np.nan)))
    return found


def beside(record: TransferRecord) -> list[tuple[str, list[float | None]]]:
    """Every number but the headline, at the end, each followed by what trivial predictors score by it.

    Returns:
        Name and a value for each finding; of predictors that score nothing at all there is none.
    """
    found: list[tuple[str, list[float | None]]] = []
    for key, rows in record.refit.items():
        if key == record.headline or key.endswith(("_low", "_high")):
            continue
        name = HEADS.get(key, key.replace("_", " "))
        found.append((name, rows[-1]))
        found += [(predictor, of[key]) for predictor, of in record.trivial.items() if any(of.get(key, []))]
    return found


def words(record: TransferRecord) -> list[str]:
    """What must be said of a transfer wherever its numbers stand."""
    notes = [f"{line}." for line in record.notes]
    if record.contaminated != "no":
        seen = "has seen" if record.contaminated == "yes" else "may have seen"
        notes.append(f"The backbone {seen} {record.data} in pre-training.")
    return notes


def across(methods: Mapping[str, Iterable[Result]]) -> list[str]:
    """What must be said of the transfers of several methods' runs on one stream, by their names, each thing once."""
    by_method = {name: [r for r in map(measured, of) if r is not None] for name, of in methods.items()}
    lines = []
    for record in (record for of in by_method.values() for record in of):
        trivial = ", ".join(f"{name} {number(value)}" for name, value in without_a_picture(record).items())
        lines.append(
            f"Dense: {record.headline} of {title(record)}, mean over {listed(record.findings)}; {sizes(record)}. "
            f"Without looking at a picture: {trivial}."
        )
        lines += words(record)
    still = [name for name, of in by_method.items() if of and not any(record.moves for record in of)]
    if still:
        lines.append(f"The image side does not move, and is measured once: {', '.join(still)}.")
    return list(dict.fromkeys(lines))
