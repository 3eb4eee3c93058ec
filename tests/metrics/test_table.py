"""A metric is added in one place, and what was made before it stays valid."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from made_runs import FIRST, made_run, made_scores, made_targets

from retune.metrics.facts import LabelFacts
from retune.metrics.table import METRICS
from retune.results.result import Result
from retune.results.text import number

CHECKOUT = Path(__file__).parents[2]
ADDED = """
import sys
import numpy as np
import retune.metrics.table as table
from retune.metrics.continual import nan_mean
formula = lambda r, facts: nan_mean(r[..., -1, :] - r[..., 1, :])
rise = table.Metric("rise", "rise since", "the first experience", "auc", formula, "R[T, c] - R[1, c]", low=-1,
    compared=True, published=True, shown=table.EVERYWHERE, later=True)
table.METRICS += (rise,)
import retune.metrics.report
retune.metrics.report.METRICS = table.METRICS
table.COMPARED += (rise,)
table.PUBLISHED += (rise,)
table.BY_KEY["rise"] = rise
from pathlib import Path
from retune.cli.main import main
from retune.cli.tables import print_run
from retune.metrics import continual_report
from retune.results.result import Result
old = Path(sys.argv[1])
print_run(Result.read(old), old)
assert main(["report", str(old), "--out", "page"]) == 0
assert main(["leaderboard", "verify", "--no-record", "--board", sys.argv[2], "phantom-class-incremental-v1/ridge-1"]) == 0
targets = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
scores = np.stack([targets * 0.0, targets * 0.0, targets * 1.0])
print("RISE", continual_report(targets, scores, np.array([1, 1]), np.arange(4), replicates=5).metrics["rise"].value)
"""


def test_every_metric_is_its_formula_by_hand() -> None:
    matrix = np.array([[0.5, 0.6], [0.9, 0.5], [0.7, 0.8]])
    facts = LabelFacts.of([1, 2], [0.101, 0.1])
    by_hand = {
        "final_auc": 0.75,
        "zero_shot_auc": 0.55,
        "gain": 0.2,
        "learning": (0.4 + 0.3) / 2,
        "final_auc_head": 0.7,
        "final_auc_medium": 0.8,
        "final_auc_tail": np.nan,
        "average_auc": (0.9 + 0.75) / 2,
        "forgetting": 0.2,
        "backward_transfer": -0.2,
        "forward_transfer": -0.1,
    }
    for metric in METRICS:
        if metric.key in by_hand:
            np.testing.assert_allclose(metric.of(matrix, facts), by_hand[metric.key], err_msg=metric.key)
    assert by_hand.keys() == {metric.key for metric in METRICS if metric.compared}


def test_one_that_is_added_shows_everywhere_and_refuses_nothing_made_before(tmp_path: Path) -> None:
    targets, patients = made_targets()
    old = made_run(tmp_path, "made", 0, made_scores(targets, 1.0, 0), targets, patients, first=FIRST).folder
    done = subprocess.run(
        [sys.executable, "-c", ADDED, old, CHECKOUT / "leaderboard"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("rise since")]
    auc = Result.read(old).array("auc_matrix")
    value = float(np.mean(auc[-1] - auc[1]))
    assert row[2] == number(value), "worked out from what a result holds that was made before"
    assert row[3:] == ["the", "first", "experience"], "without an interval"
    assert "RISE 0.5" in done.stdout
    assert "1 entry: 1 recomputed" in done.stdout
    assert "rise since" in (tmp_path / "page" / "report.html").read_text()
