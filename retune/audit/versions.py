"""Every version on every evaluation set, and what that says of learning, potential and retention.

The measures are those of Burgon, Sahiner, Petrick, Pennello and Samala, "Learning, Potential, and Retention"
(arXiv 2604.04878, code: DIDSR/VIGILANT). Its README sums retention without normalising; its code divides by the sum of
the weights, over earlier sets only in one version and with the present set among them in another; its test cases, which
ours repeat, follow the first. Here it is the decayed, normalised mean over earlier sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from retune.audit.evidence import Evidence, Floats, Sampled, Slice

DECAY: Final = 0.5
"""Of the weight of a set with every version since, as VIGILANT has it."""
SHARE: Final = 0.9
"""Share of an experience's training images that a site must have for the experience to be of it, unless the scenario
says that it cuts by sites: a patient who was seen at several is in one experience."""


def learning(scores: Floats) -> Floats:
    """``S(M_v | D_v) - S(M_{v-1} | D_v)`` of every version.

    Args:
        scores: ``(..., T+1, T)``: version 0 to T on evaluation set 1 to T.

    Returns:
        ``(..., T)``.
    """
    k = np.arange(scores.shape[-1])
    return np.asarray(scores[..., k + 1, k] - scores[..., k, k])


def potential(scores: Floats) -> Floats:
    """``S(M_{v-1} | D_{v-1}) - S(M_{v-1} | D_v)``: how much harder the new set is for who did not learn from it.

    Args:
        scores: ``(..., T+1, T)``.

    Returns:
        ``(..., T)``; NaN for the first version.
    """
    found = np.full((*scores.shape[:-2], scores.shape[-1]), np.nan)
    k = np.arange(1, scores.shape[-1])
    found[..., 1:] = scores[..., k, k - 1] - scores[..., k, k]
    return found


def retention(scores: Floats, decay: float = DECAY) -> Floats:
    """The mean of ``S(M_v | D_j)`` over ``j < v``, weighted by ``exp(-decay * (v - 1 - j))``.

    Args:
        scores: ``(..., T+1, T)``.
        decay: How fast older sets count for less.

    Returns:
        ``(..., T)``; NaN for the first version.
    """
    found = np.full((*scores.shape[:-2], scores.shape[-1]), np.nan)
    for v in range(2, scores.shape[-1] + 1):
        weights = np.exp(-decay * np.arange(v - 2, -1, -1))
        found[..., v - 1] = scores[..., v, : v - 1] @ (weights / weights.sum())
    return found


@dataclass(frozen=True)
class Versions:
    """Every version on every evaluation set.

    Args:
        by: What the sets are cut by: ``site``, ``view``, ..., ``labels``, or ``nothing``.
        names: Of the sets, one for each experience.
        scores: ``(T+1, T)`` mean AUC.
    """

    by: str
    names: list[str]
    scores: Sampled

    @property
    def measures(self) -> dict[str, Sampled]:
        """Learning, potential and retention of every version, (T,)."""
        kinds = {"learning": learning, "potential": potential, "retention": retention}
        return {
            name: Sampled(of(self.scores.value), of(self.scores.replicates)) for name, of in kinds.items()
        }


def cut_by(evidence: Evidence) -> tuple[str, list[str]]:
    """What tells the experiences apart whose training images they hold, and its value in each; empty where nothing."""
    scenario = evidence.result.scenario
    experiences, said = scenario.experiences, scenario.settings.get("by")
    for name in evidence.groups:
        held = [e.holds.get("date" if name == "year" else name, {}) for e in experiences]
        if all(held):
            most = [max(h, key=lambda value, h=h: h[value]) for h in held]  # type: ignore[misc]
            mostly = all(h[m] >= SHARE * sum(h.values()) for h, m in zip(held, most, strict=True))
            if (mostly or name == said) and len(set(most)) == len(most):
                return name, most
    return "", []


def versions(evidence: Evidence, slices: dict[str, dict[str, Slice]]) -> Versions:
    """The matrix of a run.

    In a stream cut by site (or view, year, data set) set j is the test images of that site, and the mean is over labels
    that every set has enough images of. Where experiences differ by labels, set j is all test images with the labels
    first learnt in j. Where they do not differ at all, every set is all test images.

    Args:
        evidence: Of the run.
        slices: By what images are grouped, each group's.
    """
    first, t = np.array(evidence.result.first), evidence.versions
    by, values = cut_by(evidence)
    if by and all(value in slices.get(by, {}) for value in values):
        sets = [slices[by][value] for value in values]
        judged = np.logical_and.reduce([one.judged for one in sets])
        return Versions(by, values, _beside([one.auc.mean(judged) for one in sets]))
    whole = evidence.whole
    if len(set(first[first > 0])) > 1:
        learnt = [np.flatnonzero((first == j) & whole.judged) for j in range(1, t + 1)]
        names = [", ".join(evidence.labels[c] for c in group) or "none" for group in learnt]
        return Versions("labels", names, _beside([whole.auc.mean(group) for group in learnt]))
    return Versions("nothing", ["all"] * t, _beside([whole.auc.mean(whole.judged)] * t))


def _beside(columns: list[Sampled]) -> Sampled:
    return Sampled(
        np.stack([c.value for c in columns], axis=-1), np.stack([c.replicates for c in columns], axis=-1)
    )
