"""What was audited, version by version, each link bound by its digest to the one before."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from retune.audit.evidence import Evidence
from retune.errors import UserError

Link = dict[str, Any]


def chain(evidence: Evidence) -> list[Link]:
    """A link for every version: what it learnt from, by which settings, its scores' digest, and the link before.

    Args:
        evidence: Of the run.
    """
    result = evidence.result
    ground = {
        "version": 0,
        "run": result.run.id,
        "data": {"name": result.dataset.name, "fingerprint": result.dataset.fingerprint},
        "backbone": {"name": result.backbone.name, "fingerprint": result.backbone.fingerprint},
        "prompts": {"name": result.prompts.name, "fingerprint": result.prompts.fingerprint},
        "method": {
            "name": result.strategy.called,
            "version": result.strategy.version,
            "origin": result.strategy.origin,
            "settings": result.strategy.settings,
        },
        "stream": {"name": result.scenario.name, "fingerprint": result.scenario.fingerprint},
        "seed": result.run.seed,
    }
    learnt = [
        {
            "version": v,
            "images": e.n_train,
            "labels": e.labels,
            "holds": e.holds,
            "thresholds": _frozen(evidence, v),
        }
        for v, e in enumerate(result.scenario.experiences, 1)
    ]
    links: list[Link] = []
    for v, facts in enumerate([ground, *learnt]):
        scores = hashlib.sha256(evidence.scores[v].astype("<f8").tobytes()).hexdigest()
        link = {**facts, "scores": scores, "previous": links[-1]["digest"] if links else None}
        links.append({**link, "digest": _digest(link)})
    return links


def require_chained(links: object, where: str) -> None:
    """See that no link was edited since.

    Raises:
        UserError: If one was: it names the version.
    """
    previous, again = None, "audit the run again into another folder"
    if not isinstance(links, list) or not all(isinstance(link, dict) for link in links):
        raise UserError("holds no dossier", where=where, fix=again)
    for link in links:
        told = {key: value for key, value in link.items() if key != "digest"}
        if link.get("previous") != previous or _digest(told) != link.get("digest"):
            raise UserError(
                f"version {link.get('version')} is not as it was signed off",
                where=where,
                fix=again,
            )
        previous = link["digest"]


def _frozen(evidence: Evidence, version: int) -> dict[str, float]:
    """Thresholds of labels that come into use with a version."""
    new = evidence.in_use[version] & ~evidence.in_use[version - 1]
    return {evidence.labels[c]: float(evidence.thresholds[c]) for c in new.nonzero()[0]}


def _digest(link: Link) -> str:
    return hashlib.sha256(json.dumps(link, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
