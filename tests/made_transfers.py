"""Transfers made up for a test: sums of images, and the record that follows from them."""

from __future__ import annotations

import numpy as np

from retune.metrics import dense, interval, patient_weights
from retune.results.scores import REPLICATES, TRANSFER

FINDINGS = ["Pneumothorax", "Edema", "Heart"]
NOBODY = 2
"""A finding that nobody has often enough."""


def made_transfer(
    seed: int = 0, hits: tuple[float, ...] = (0.8, 0.8, 0.4, 0.6), moves: bool = True, **changed
):
    """A record, what scores hold of it, sums and patients; of what is true a share is found.

    Args:
        seed: Of the areas.
        hits: The share that is found at each moment.
        moves: Whether the image side does.
        **changed: Fields of the record that are other.
    """
    rng = np.random.default_rng(seed)
    n = 60
    patients = np.sort(np.random.default_rng(5).integers(0, 25, n)).astype(np.int64)
    true = np.random.default_rng(6).integers(50, 400, (n, 3)) * (
        np.random.default_rng(7).random((n, 3)) < 0.5
    )
    share = (
        np.array([hits, np.array(hits) * np.linspace(1, 0.3, len(hits))]) if moves else np.array([hits, hits])
    )
    noise = rng.uniform(0.7, 1.2, (n, 3))
    both = np.minimum(true, (true * share[..., None, None] * noise)).astype(np.uint32)
    wrong = rng.integers(0, 90, (n, 3)) * (rng.random((n, 3)) < 0.4)
    sums = np.stack(np.broadcast_arrays(both, both + wrong, true), axis=-1).astype(np.uint32)
    undefined = np.where(np.arange(3) == NOBODY, np.nan, 0.0)
    known = np.ones((n, 3), dtype=bool)
    samples = dense.pooled_dice(sums, patient_weights(patients, 5, 0)) + undefined
    low, high = interval(samples, 0.95)
    found = {
        "dice": dense.pooled_dice(sums), "dice_low": low, "dice_high": high,
        "positives": dense.positive_dice(sums), "auroc": np.full((*share.shape, 3), 0.75),
        "false_alarm": dense.false_alarms(sums, known), "published": dense.published_dice(sums, known),
    }  # fmt: skip
    refit, kept = ({key: _listed(of[i] + undefined) for key, of in found.items()} for i in range(2))
    dice = found["dice"] + undefined
    metrics = dense.over_time_measured(dice[0], dice[1], dense.over_time(samples[:, 0], samples[:, 1]))
    record = {
        "name": "segmentation", "data": "made", "fingerprint": "fp", "synthetic": True, "contaminated": "no",
        "settings": {"size": 128}, "findings": FINDINGS, "n_train": 90, "n_valid": 20, "n_test": n,
        "n_test_patients": len(set(patients.tolist())), "positives_train": [40, 40, 2],
        "positives_test": (true > 0).sum(0).tolist(), "grid": 4, "cropped": [0.0] * 3, "moves": moves,
        "headline": "dice", "refit": refit, "kept": kept,
        "trivial": {
            "empty": {"dice": [0.0, 0.0, None], "published": [0.55, 0.45, 0.5]},
            "prior": {"dice": [0.061, 0.062, None], "positives": [0.5, 0.6, None], "published": [0.1, 0.2, None]},
        },
        "metrics": {k: {"value": m.value, "low": m.low, "high": m.high} for k, m in metrics.items()},
        "notes": ["Undefined, with fewer than 5 positives to learn from or to be judged on: Heart"],
        "cost": {"probe_seconds": 1.0},
        **changed,
    }  # fmt: skip
    replicates = dense.over_time(samples[:, 0], samples[:, 1])
    return record, {TRANSFER + REPLICATES + key: values for key, values in replicates.items()}, sums, patients


def _listed(values):
    return [[None if np.isnan(v) else float(v) for v in row] for row in values]
