"""Real radiographs, looked up: what a CheXNet said of an image becomes features, prompts and a label table."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import retune
from retune.data import findings
from retune.data.source import DataSource

SCRIPT = Path(__file__).parent / "benchmarks" / "chexnet_features.py"
COLUMNS = [{"Pleural Effusion": "Effusion"}.get(name, name.replace(" ", "_")) for name in findings.NIH]


def test_zero_shot_by_axes_is_a_labels_share_of_its_log_likelihood_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    present = rng.random((400, 14)) < 0.25
    likely = np.clip(0.3 * present + 0.6 * rng.random(present.shape), 0.01, 0.99)
    names = [f"{k:05}.png" for k in range(400)]
    columns = {
        "Image Index": names,
        "Finding Labels": ["|".join(np.array(COLUMNS)[row]) or "No Finding" for row in present],
        "Follow-up #": 0,
        "Patient ID": np.arange(400) // 2,
        "Patient Age": 50,
        "Patient Gender": "F",
        "View Position": "PA",
    }
    pd.DataFrame(columns).to_csv(tmp_path / "labels.csv", index=False)
    # The last 100 are those that the network was trained on.
    predictions = pd.DataFrame(likely[:300], columns=[f"prob_{name}" for name in COLUMNS])
    predictions.insert(0, "Image Index", names[:300])
    predictions.to_csv(tmp_path / "preds.csv.gz", index=False)
    out = tmp_path / "out"
    words = [str(SCRIPT), *(str(tmp_path / name) for name in ("preds.csv.gz", "labels.csv", "out"))]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(SCRIPT), run_name="__main__")

    options = {
        "data": "nih",
        "root": out,
        "backbone": f"features:{out / 'chexnet.safetensors'}",
        "prompts": str(out / "axes.jsonl"),
        "scenario": "data-incremental",
        "replicates": 20,
    }
    shown = retune.run(strategy="zero-shot", out=tmp_path / "zero-shot", **options)

    share = present[300:].mean(axis=0)
    ratios = np.log(likely / (1 - likely)) - np.log(share / (1 - share))
    axis = ratios / np.linalg.norm(ratios, axis=1, keepdims=True)
    test = DataSource.make("nih", out, {}).read().rows("test")
    expected = np.mean([roc_auc_score(present[test, c], axis[test, c]) for c in range(14)])
    assert shown.metrics["final_auc"].value == pytest.approx(expected, abs=1e-6)
    # Captions of several findings are in the file, too.
    retune.run(strategy="m-flag", out=tmp_path / "m-flag", settings={"epochs": 1}, **options)
