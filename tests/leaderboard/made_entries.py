"""Leaderboards of made-up entries: right in form, quick to make, about nothing."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from retune.leaderboard.board import Board
from retune.leaderboard.entry import ENTRY_FILE, SCHEMA, SCORES_FILE, Entry
from retune.leaderboard.numbers import BOOTSTRAP, rounded
from retune.leaderboard.records import Record, Tier
from retune.leaderboard.tracks import Tracks
from retune.metrics.facts import LabelFacts
from retune.metrics.table import COMPARED

CLASS: Final = "phantom-class-incremental-v1"
DATA: Final = "phantom-data-incremental-v1"
NIH: Final = "nih-class-incremental-v1"
LABELS: Final = ("No Finding", "Cardiomegaly", "Edema", "Consolidation", "Pneumonia", "Atelectasis",
                 "Pneumothorax", "Pleural Effusion", "Fracture", "Support Devices")  # fmt: skip
PREVALENCE: Final = (0.4, 0.3, 0.2, 0.15, 0.12, 0.1, 0.05, 0.04, 0.02, 0.01)
STEPS: Final = 5
SHA: Final = "ab" * 32
# A shell reads some of these: where quoting fails, they may leave a file and no worse.
HOSTILE: Final = (
    '" onmouseover="alert(1)', "' autofocus onfocus='alert(1)", "{{ 7 * 7 }}", "{% raw %}", "&lt;script&gt;alert(1)",
    "--help", "$(touch pwned)", "; touch pwned #", "\\u003cscript", "https://example.org/%22%3E", "]]", "Ünïcödé ﷽",
)  # fmt: skip


@cache
def packaged() -> Tracks:
    """The packaged tracks."""
    return Tracks.read()


@cache
def settings(track: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """All settings of a track's data and scenario."""
    return packaged()[track].settings()


def document(
    track: str = CLASS,
    name: str = "method",
    *,
    auc: float | None = 0.8,
    seeds: tuple[int, ...] = (0, 1, 2),
    bound: bool = False,
    stored: int = 0,
    trained: int = 1806,
    fit: float = 1.0,
    backbone: str = "phantom-clip",
    contaminated: str = "no",
    one_order: bool = True,
    method: dict[str, Any] | None = None,
    strategy: dict[str, Any] | None = None,
    draw: int = 0,
) -> dict[str, Any]:
    """What ``entry.json`` holds."""
    of = packaged()[track]
    data, scenario = settings(track)
    rng = np.random.default_rng([draw, *name.encode()])
    runs = [_run(rng, seed, auc, bound, stored, trained, fit, one_order) for seed in seeds]
    return {
        "schema": SCHEMA,
        "track": track,
        "method": {
            "name": name, "version": "1", "authors": [], "paper": None, "code": None, "note": None, **(method or {}),
        },
        "strategy": {
            "name": "ridge", "version": "1", "origin": "retune", "settings": {"penalty": None, "start": "zero-shot"},
            "sees_everything": bound, "keeps_samples": stored > 0, "searched": False, **(strategy or {}),
        },
        "backbone": {
            "name": backbone, "fingerprint": SHA, "pretraining_data": ["phantom"], "licence": "Apache-2.0",
            "dim": 128, "contaminated": contaminated, "synthetic": False, "looked_up": False, "precision": "fp32",
        },
        "prompts": {"name": "language-model", "fingerprint": SHA},
        "data": {
            "name": of.data, "fingerprint": of.fingerprint or SHA, "settings": data, "labels": list(LABELS),
            "n_train": 2407, "n_test": of.n_test or 1000, "n_test_patients": 874,
            "synthetic": of.data == "phantom", "repeated_images": 0, "unreadable_images": 0,
        },
        "scenario": {"name": of.scenario, "settings": scenario, "steps": STEPS},
        "salt": "0123456789abcdef",
        "bootstrap": BOOTSTRAP.model_dump(),
        "metrics": {key: _estimate([run["values"][key] for run in runs]) for key in runs[0]["values"]},
        "scores": {"sha256": SHA, "bytes": 1},
        "runs": runs,
    }  # fmt: skip


def add(board: Path, made: dict[str, Any], tier: Tier | None = "recomputed", **known: Any) -> Entry:
    """Put an entry on a leaderboard, with a record of its tier unless that is None."""
    entry = Entry.model_validate(made)
    place = Board(board)
    folder = place.folder(entry.track, entry.name)
    folder.mkdir(parents=True)
    content = entry.to_json().encode()
    (folder / ENTRY_FILE).write_bytes(content)
    (folder / SCORES_FILE).write_bytes(b"x")
    if tier is not None:
        record = Record(
            entry=hashlib.sha256(content).hexdigest(),
            tier=tier,
            **{
                "difference": None if tier == "self-reported" else 5e-8,
                "rerun_difference": 0.0 if tier == "re-run" else None,
                "remarks": [],
                "replicates": []
                if tier == "self-reported"
                else replicates(entry.metrics.final_auc.mean, own=sum(entry.name.encode())),
                **known,
            },
        )
        record.write(place.record(entry.track, entry.name))
    return entry


def replicates(
    mean: float | None, spread: float = 0.008, own: int = 0, many: int = 200
) -> list[float | None]:
    """A number on resamples of the test patients: what is hard for one entry is hard for all."""
    if mean is None:
        return [None] * many
    common = np.random.default_rng(7).normal(0, spread, many)
    alone = np.random.default_rng([8, own]).normal(0, spread / 10, many)
    return [round(float(x), 7) for x in np.clip(mean + common + alone, 0, 1)]


def empty(board: Path) -> Path:
    """A leaderboard without entries."""
    (board / "submissions").mkdir(parents=True)
    return board


def small(board: Path) -> Path:
    """A leaderboard with something of everything."""
    empty(board)
    said = {
        "paper": "https://example.org/paper",
        "code": "https://example.org/code",
        "authors": ["A. Author"],
    }
    add(board, document(name="best", auc=0.83, fit=2.0, method=said), "re-run")
    add(board, document(name="close", auc=0.8295, trained=659200, fit=5.0))
    add(board, document(name="replayed", auc=0.78, stored=200, fit=0.5))
    add(board, document(name="cheap", auc=0.79, trained=0, fit=0.01))
    add(board, document(name="other backbone", auc=0.81, backbone="biomed-clip", contaminated="possibly"))
    add(board, document(name="claimed", auc=0.95), "self-reported")
    add(board, document(name="joint", auc=0.86, bound=True))
    add(board, document(name="undefined", auc=None))
    add(board, document(DATA, name="best", auc=0.85))
    add(board, document(NIH, name="real", auc=0.75, one_order=False), None)
    return board


def large(board: Path, many: int = 1000, tracks: tuple[str, ...] = (CLASS,), seeds: int = 5) -> Path:
    """A leaderboard with very many entries."""
    empty(board)
    rng = np.random.default_rng(0)
    for k in range(many):
        auc = float(rng.uniform(0.7, 0.88))
        made = document(
            tracks[k % len(tracks)],
            name=f"method {k}",
            auc=auc,
            seeds=tuple(range(seeds)),
            stored=int(rng.integers(0, 2) * 200),
            trained=int(10 ** rng.uniform(0, 7)),
            fit=float(10 ** rng.uniform(-2, 3)),
            backbone=f"backbone-{k % 7}",
            contaminated=("no", "possibly", "yes")[k % 3],
        )
        tier: Tier = "recomputed" if k % 4 else "self-reported"
        known = {} if tier == "self-reported" else {"replicates": replicates(auc, own=k, many=1000)}
        add(board, made, tier, **known)
    return board


def spoil(board: Path, track: str, name: str, text: str, by: str) -> None:
    """Change the text of an entry that stands."""
    file = Board(board).folder(track, name) / ENTRY_FILE
    content = file.read_text(encoding="utf-8")
    assert text in content
    file.write_text(content.replace(text, by), encoding="utf-8")


def published(board: Path, track: str, name: str) -> dict[str, Any]:
    """What an entry says."""
    found: dict[str, Any] = json.loads((Board(board).folder(track, name) / ENTRY_FILE).read_text("utf-8"))
    return found


def _run(
    rng: np.random.Generator,
    seed: int,
    auc: float | None,
    bound: bool,
    stored: int,
    trained: int,
    fit: float,
    one_order: bool,
) -> dict[str, Any]:
    labels = len(LABELS)
    first = np.repeat(np.arange(1, STEPS + 1), 2)
    if not one_order:
        first = np.random.default_rng(seed).permutation(first)
    final = None if auc is None else auc + 0.002 * (seed % 3 - 1)
    matrix = np.clip((final or 0.5) + rng.normal(0, 0.08, (STEPS + 1, labels)), 0, 1)
    if final is None:
        matrix[:] = np.nan
    else:
        spread = rng.uniform(-1, 1, labels) * min(0.1, 1 - final)
        matrix[-1] = final + spread - spread.mean()
        matrix = np.clip(matrix, 0, 1)
    facts = LabelFacts.of(first, PREVALENCE)
    values = {metric.key: float(metric.of(matrix, facts)) for metric in COMPARED}
    values |= {"final_ap": 0.5, "average_ap": 0.6, "calibration_error": 0.04}
    cells: list[list[float | None]] = rounded(matrix.tolist())
    return {
        "seed": seed, "id": f"{seed:012x}", "stream": SHA, "device": "cpu", "threads": 1,
        "versions": {"torch": "2.9.0", "retune": "0.1.0"}, "settings": None,
        "first": first.tolist(), "prevalence": list(PREVALENCE),
        "images": [481] * STEPS, "auc_matrix": cells, "values": rounded(values),
        "cost": {
            "trainable_parameters": trained, "total_parameters": 3_257_091, "search_seconds": 0.0,
            "fit_seconds": fit, "score_seconds": 0.1, "encode_seconds": 0.2, "images_encoded": 4000,
            "peak_memory_bytes": 800_000_000, "stored_images": 0, "stored_features": stored,
            "stored_bytes": stored * 512,
        },
    }  # fmt: skip


def _estimate(values: list[float | None]) -> dict[str, Any]:
    known = [v for v in values if v is not None]
    mean = round(float(np.mean(known)), 7) if known else None
    return {
        "mean": mean,
        "sd": round(float(np.std(known, ddof=1)), 7) if len(known) > 1 else None,
        "n": len(known),
        "low": None if mean is None else max(-1.0, mean - 0.015),
        "high": None if mean is None else min(1.0, mean + 0.015),
    }
