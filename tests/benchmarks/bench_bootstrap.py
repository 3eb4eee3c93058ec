"""How much faster the patient bootstrap is than resampling the rows and asking scikit-learn.

Run it as ``python tests/benchmarks/bench_bootstrap.py [--rows N] [--replicates B]``. Both sides run in this
process on the same replicates, on one thread, in CPU seconds; scikit-learn takes minutes for all of them, so it is
timed on a few and the time is scaled. Goal: 200 times.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from retune.metrics import bootstrap_auroc, patient_weights

GOAL = 200
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def public_predictions():
    """Targets, scores and patients of a DenseNet-121 on NIH ChestX-ray14, or None where absent."""
    predictions = DATA / "chexnet-predictions" / "preds.csv.gz"
    labels = DATA / "nih-labels" / "Data_Entry_2017_v2020.csv.gz"
    if not (predictions.exists() and labels.exists()):
        return None
    with gzip.open(labels, "rt", newline="") as file:
        table = list(csv.DictReader(file))
    truth = {r["Image Index"]: (r["Finding Labels"].split("|"), r["Patient ID"]) for r in table}
    with gzip.open(predictions, "rt", newline="") as file:
        head, *rows = csv.reader(file)
    names = [name.removeprefix("prob_") for name in head[1:]]
    targets = np.array([[float(name in truth[row[0]][0]) for name in names] for row in rows])
    return targets, np.array([row[1:] for row in rows], dtype=float), [truth[row[0]][1] for row in rows]


def random_predictions(rows):
    """Data of the same kind: 14 labels of 0.2 % to 20 %, seven images a patient."""
    rng = np.random.default_rng(0)
    targets = (rng.random((rows, 14)) < np.geomspace(0.002, 0.2, 14)).astype(float)
    return targets, rng.normal(size=targets.shape) + targets, rng.integers(0, rows // 7 + 1, rows).tolist()


def lines(rows: int | None = None, replicates: int = 1000, few: int = 5) -> Iterator[str]:
    """Time both sides, check that they agree, tell the ratio."""
    data, source = public_predictions(), "public CheXNet predictions on NIH"
    if data is None or (rows or 0) > len(data[0]):
        data, source = random_predictions(rows or 22_433), "random predictions"
    targets, scores, patients = (part[:rows] for part in data)
    yield f"{source}: {len(targets):,} images, {len(set(patients)):,} patients, {targets.shape[1]} labels"

    bootstrap_auroc(
        targets[:9], scores[:9], patient_weights(patients[:9], 2, seed=0)
    )  # imports what it needs
    started = time.process_time()
    weights = patient_weights(patients, replicates, seed=0)
    ours = bootstrap_auroc(targets, scores, weights)
    fast = time.process_time() - started
    yield f"retune       {replicates:6,} replicates, drawing included: {fast:9.2f} CPU s"

    few = min(few, replicates)
    samples = [np.repeat(np.arange(len(targets)), row) for row in weights[:few]]
    theirs = np.full((few, targets.shape[1]), np.nan)
    started = time.process_time()
    for b, drawn in enumerate(samples):
        for c in range(targets.shape[1]):
            y = targets[drawn, c]
            if y.min() != y.max():
                theirs[b, c] = roc_auc_score(y, scores[drawn, c])
    slow = (time.process_time() - started) / few * replicates
    yield f"scikit-learn {replicates:6,} replicates, scaled from {few:3d}:     {slow:9.2f} CPU s"
    alike = np.array_equal(np.isnan(ours[:few]), np.isnan(theirs))
    yield f"largest difference {np.nanmax(np.abs(ours[:few] - theirs)):.1e}, NaN alike: {alike}"
    yield f"ratio {slow / fast:.0f}x; goal {GOAL}: {'met' if slow / fast >= GOAL else 'not met'}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="how many images (default: all of the public predictions)")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--slow-replicates", type=int, default=5, help="how many scikit-learn is timed on")
    args = parser.parse_args()
    for line in lines(args.rows, args.replicates, args.slow_replicates):
        print(line, flush=True)


if __name__ == "__main__":
    main()
