"""From what a run gave to the result that is written."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from retune import __version__
from retune.backbones.contamination import contamination
from retune.data.dataset import IntArray
from retune.files import write_whole
from retune.metrics import ContinualReport, continual_report, forgetting_per_label
from retune.progress import Progress
from retune.results.cautions import cautions
from retune.results.image_digests import digests
from retune.results.own import own_metrics
from retune.results.result import CHECKPOINT_FILE, MODEL_FILE, Result
from retune.results.scores import COLUMNS, OF, REPLICATES, TRANSFER, as_bytes, as_text, write_finished
from retune.runner.kept import keep_prompts, pack
from retune.runner.loop import Outcome
from retune.runner.moments import LEVEL
from retune.runner.plan import Plan
from retune.settings import values_of
from retune.streams.stream import Stream

MANY: Final = 50
"""Values of a column that are counted, at most."""
PACKAGES: Final = ("torch", "numpy", "scikit-learn", "open_clip_torch", "transformers")


def record(
    plan: Plan,
    outcome: Outcome,
    folder: Path,
    command: str,
    progress: Progress,
    amend: Callable[[dict[str, Any]], None] = lambda document: None,
) -> Result:
    """Work out every metric, write what was learnt, the scores, then the result, then forget the checkpoint.

    Args:
        plan: The run.
        outcome: What learning gave.
        folder: Where to write.
        command: How the run is said on a command line.
        progress: Told what is done.
        amend: Adds to the result what the run alone does not tell.
    """
    progress("computing intervals", 0, 1)
    stream = outcome.stream
    report = continual_report(
        stream.targets,
        outcome.scores.numpy(),
        stream.first,
        stream.patients,
        outcome.thresholds,
        replicates=plan.spec.replicates,
        level=LEVEL,
        prevalence=stream.prevalence,
    )
    progress("computing intervals", 1, 1)
    document = _document(plan, outcome, report, command)
    amend(document)
    result = Result.model_validate(document)
    own = own_metrics(plan.spec.metrics, report.auc_matrix, outcome.scores.numpy(), stream.targets)
    # What was learnt stays, too: it can be exported, and new data can be learnt on top of it.
    model, digest = pack(outcome.state, {"run_id": plan.id})
    write_whole(folder / MODEL_FILE, model)
    keep_prompts(plan.parts.bank, folder)
    told = {"own": own, "cautions": cautions(result), "model_digest": digest}
    result = result.model_copy(update=told)
    _, patients = np.unique(stream.patients, return_inverse=True)
    items = digests(stream.dataset.image_id[stream.test].tolist())
    arrays = {
        "scores": outcome.scores.numpy(),
        "targets": stream.targets,
        "patients": patients.astype(np.int64),
        "rows": stream.test,
        "items": items,
        **_keys(plan, stream),
        # Who an image is of, for an audit by groups: it stays in the run's folder.
        **{OF + name: as_bytes(_told(stream, name)) for name in _columns(stream)},
        # Methods are compared on the same resamples: they are not measured again for it.
        **{REPLICATES + key: values for key, values in report.replicates.items()},
        **{
            TRANSFER + key: values
            for key, values in (outcome.moments.arrays() if outcome.moments else {}).items()
        },
    }
    result = write_finished(result, {name: np.ascontiguousarray(a) for name, a in arrays.items()}, folder)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    return result


def _document(plan: Plan, outcome: Outcome, report: ContinualReport, command: str) -> dict[str, Any]:
    stream, parts = outcome.stream, plan.parts
    dataset, strategy, card = stream.dataset, outcome.strategy, parts.backbone.card
    labels = stream.labels
    f1 = report.f1_matrix if report.f1_matrix is not None else np.full_like(report.auc_matrix, np.nan)
    return {
        "run": {
            "id": plan.id,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "seed": plan.spec.seed,
            "versions": versions(),
            "threads": outcome.threads,
        },
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "labels": list(labels),
            "n_train": len(stream.joint()),
            "n_test": len(stream.test),
            "n_test_patients": len(np.unique(stream.patients)),
            "synthetic": dataset.synthetic,
            "partly_synthetic": dataset.partly_synthetic,
            "source": dataset.source,
            "settings": parts.source.settings,
            "dropped": dict(dataset.dropped),
            "unreadable_images": outcome.unreadable,
            "repeated_images": plan.repeated,
            "choices": dict(dataset.choices),
            "notes": list(dataset.remarks),
            "undefined_labels": [labels[c] for c in report.undefined],
            "unlearnable_labels": list(stream.unlearnable),
        },
        "scenario": {
            "name": parts.scenario.name,
            "fingerprint": stream.fingerprint,
            "settings": values_of(parts.scenario),
            "hidden": stream.hidden,
            "altered": stream.altered,
            "breaches": list(plan.breaches),
            "experiences": [
                {
                    "labels": [labels[c] for c in e.observed],
                    "n_train": len(e),
                    "holds": _holds(stream, e.rows),
                }
                for e in stream.experiences
            ],
        },
        "backbone": {
            "name": parts.backbone.name,
            "fingerprint": parts.backbone.fingerprint,
            "pretraining_data": list(card.pretraining_data),
            "licence": card.licence,
            "dim": card.dim,
            "contaminated": contamination(card, parts.source.origins, synthetic=dataset.synthetic),
            "synthetic": card.synthetic,
            "looked_up": parts.backbone.precomputed,
            "precision": plan.spec.precision,
            "device": parts.backbone.torch_device.type,
        },
        "prompts": {"name": parts.bank.name, "fingerprint": parts.bank.fingerprint},
        "strategy": {
            "name": strategy.name,
            "version": strategy.version,
            "origin": parts.origin,
            "code": parts.strategy_code,
            "settings": values_of(strategy),
            "sees_everything": strategy.sees_everything,
            "floor": strategy.floor,
            "keeps_samples": strategy.keeps_samples,
            "diagnostics": outcome.diagnostics,
            "search": asdict(outcome.search) if outcome.search else None,
            "preset": parts.preset,
        },
        "first": stream.first.tolist(),
        "prevalence": stream.prevalence.tolist(),
        "auc_matrix": report.auc_matrix.tolist(),
        "auc_low": report.auc_low.tolist(),
        "auc_high": report.auc_high.tolist(),
        "ap_matrix": report.ap_matrix.tolist(),
        "f1_matrix": f1.tolist(),
        "thresholds": outcome.thresholds.tolist(),
        "forgetting": forgetting_per_label(report.auc_matrix, stream.first).tolist(),
        "metrics": {name: asdict(measured) for name, measured in report.metrics.items()},
        "bootstrap": {"replicates": plan.spec.replicates, "level": LEVEL, "seed": 0},
        "cost": _cost(plan, outcome),
        "energy": {name: round(used, 3) for name, used in outcome.energy.joules.items()},
        "identification": outcome.identification,
        "transfer": [outcome.moments.document()] if outcome.moments else [],
    }


def _keys(plan: Plan, stream: Stream) -> dict[str, npt.NDArray[np.uint8]]:
    """Digests of the test images' content, uint8 (N, 32), by which their features are found again without them."""
    if plan.content is None:
        return {}
    names = plan.stream.dataset.image_id[plan.stream.rows].tolist()
    digest = dict(zip(names, plan.content, strict=True))
    found = b"".join(digest[name] or b"" for name in stream.dataset.image_id[stream.test].tolist())
    return {"keys": np.frombuffer(found, np.uint8).reshape(len(stream.test), -1).copy()}


def _columns(stream: Stream) -> list[str]:
    return [name for name in COLUMNS if name in stream.dataset.columns]


def _told(stream: Stream, name: str) -> npt.NDArray[Any]:
    """A column of the test images; ages in whole years, for no band needs more."""
    values = stream.dataset.columns[name][stream.test]
    return np.floor(values) if name == "age" else values


def _holds(stream: Stream, rows: IntArray) -> dict[str, dict[str, int]]:
    """How many of some training images are of each sex, view, site and data set, and from each year."""
    found = {}
    for name in _columns(stream):
        if name != "age":
            told = as_text(as_bytes(stream.dataset.columns[name][rows]))
            values, counts = np.unique(told.astype("<U4") if name == "date" else told, return_counts=True)
            if len(values) <= MANY:
                found[name] = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return found


def _cost(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    trainable = outcome.trainable_parameters
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "trainable_parameters": trainable,
        "total_parameters": trainable + plan.parts.backbone.parameters,
        "search_seconds": round(outcome.search_seconds, 3),
        "fit_seconds": round(outcome.fit_seconds, 3),
        "score_seconds": round(outcome.score_seconds, 3),
        "encode_seconds": round(outcome.encode_seconds, 3),
        "images_encoded": outcome.images_encoded,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "stored_images": outcome.stored.images,
        "stored_features": outcome.stored.features,
        "stored_bytes": outcome.stored.bytes,
    }


def versions() -> dict[str, str]:
    """Versions of Python and the packages that numbers depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3])), "retune": __version__}
    return found | {package: _version(package) for package in PACKAGES}


@cache
def _version(package: str) -> str:
    """What is installed, looked for once in a process."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
