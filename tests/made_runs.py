"""Finished runs with scores made up for a test, written as the runner writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from retune.metrics import continual_report, forgetting_per_label
from retune.results.result import RESULT_FILE, SCORES_FILE, Result
from retune.results.scores import REPLICATES, write_finished
from retune.sealed import seal_json
from retune.suite.runs import Finished

LABELS = ["Edema", "Fracture", "Pneumonia"]
FIRST = np.array([1, 2, 3])
PREVALENCE = [0.5, 0.05, 0.01]


def made_targets(rows: int = 150, seed: int = 0, unknown: float = 0.1):
    """Targets ``(N, 3)``, some unknown, and about three images of each patient."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((rows, len(LABELS))) < [0.5, 0.3, 0.2]).astype(np.float32)
    targets[rng.random(targets.shape) < unknown] = np.nan
    return targets, rng.integers(0, rows // 3, rows)


def made_scores(targets, skill: float, seed: int, lost: float = 0.0):
    """Scores ``(4, N, 3)`` that know a label by ``skill`` once it is learnt, and lose ``lost`` of it with each step."""
    rng = np.random.default_rng(seed)
    steps = np.arange(4)[:, None] - FIRST
    known = np.where(steps >= 0, skill - lost * np.maximum(steps, 0), 0.0)
    noise = rng.normal(size=(4, *targets.shape))
    return np.round(noise + known[:, None] * np.nan_to_num(targets), 2).astype(np.float32)


def made_run(
    folder: Path,
    strategy: str,
    seed: int,
    scores,
    targets,
    patients,
    *,
    scenario: str = "class-incremental",
    data: str = "made",
    first=FIRST,
    stream: str = "",
    bound: bool = False,
    dataset: dict | None = None,
    backbone: dict | None = None,
    cost: dict | None = None,
    search: dict | None = None,
    keep_replicates: bool = False,
    prevalence=PREVALENCE,
    transfer=None,
) -> Finished:
    """Write ``result.json`` and ``scores.safetensors`` of a run, and say where."""
    report = continual_report(targets, scores, first, patients, replicates=5, prevalence=prevalence)
    nothing = [[None] * len(LABELS)] * len(scores)
    document = {
        "run": {
            "id": f"{scenario}-{data}-{strategy}-{seed}{stream}", "created": "", "command": "", "seed": seed,
            "versions": {},
        },
        "dataset": {
            "name": data, "fingerprint": f"fp-{data}", "labels": LABELS, "n_train": 30, "n_test": len(targets),
            "n_test_patients": len(set(patients.tolist())), "synthetic": False, "source": "made", "settings": {},
            "dropped": {}, "unreadable_images": [], "repeated_images": 0, "notes": [], "undefined_labels": [],
            **(dataset or {}),
        },
        "scenario": {
            "name": scenario, "fingerprint": f"{scenario}-{data}-{seed}{stream}", "settings": {},
            "experiences": [{"labels": LABELS, "n_train": 10}] * (len(scores) - 1),
        },
        "backbone": {
            "name": "made-clip", "fingerprint": "fp", "pretraining_data": ["MIMIC-CXR"], "licence": "", "dim": 4,
            "contaminated": "no", "synthetic": False, "looked_up": False, "precision": "fp32", "device": "cpu",
            **(backbone or {}),
        },
        "prompts": {"name": "made", "fingerprint": "fp"},
        "strategy": {
            "name": strategy, "version": "1", "origin": "made", "settings": {}, "sees_everything": bound,
            "keeps_samples": False, "diagnostics": {}, "search": search,
        },
        "first": first.tolist(),
        "prevalence": prevalence or [],
        "auc_matrix": report.auc_matrix.tolist(),
        "auc_low": report.auc_low.tolist(),
        "auc_high": report.auc_high.tolist(),
        "ap_matrix": report.ap_matrix.tolist(),
        "f1_matrix": nothing,
        "thresholds": [None] * len(LABELS),
        "forgetting": forgetting_per_label(report.auc_matrix, first).tolist(),
        "metrics": {n: {"value": m.value, "low": m.low, "high": m.high} for n, m in report.metrics.items()},
        "bootstrap": {"replicates": 5, "level": 0.95, "seed": 0},
        "cost": {
            "trainable_parameters": 1806, "total_parameters": 2000, "fit_seconds": 1.25, "score_seconds": 0.0,
            "encode_seconds": 0.0, "images_encoded": 0, "peak_memory_bytes": 0, "stored_images": 0,
            "stored_features": 0, "stored_bytes": 0, **(cost or {}),
        },
        **({"transfer": [transfer[0]]} if transfer else {}),
    }  # fmt: skip
    folder = folder / f"{scenario}-{data}-{strategy.replace('/', '_')}-{seed}{stream}"
    folder.mkdir(parents=True)
    arrays = {
        "scores": scores,
        "targets": targets.astype(np.float32),
        "patients": patients.astype(np.int64),
        "rows": np.arange(len(targets)),
    }
    if keep_replicates:
        arrays |= {REPLICATES + key: values for key, values in report.replicates.items()}
    arrays |= transfer[1] if transfer else {}
    write_finished(Result.model_validate(document), arrays, folder)
    return Finished(strategy, scenario, data, "made-clip", "", seed, folder)


def change_json(file: Path, how, *, into: Path | None = None) -> None:
    """A sealed document with something changed, as if it had been written so."""
    document = json.loads(file.read_text())
    how(document)
    (into or file).write_bytes(seal_json(document))


def change_scores(folder: Path, how) -> None:
    """A run's scores with something changed, as if the run had given them."""
    arrays = load_file(folder / SCORES_FILE)
    write_finished(Result.read(folder / RESULT_FILE), how(arrays) or arrays, folder)
