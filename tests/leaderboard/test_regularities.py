"""Scores that contain the answers are told; honest ones, of whatever kind, are not accused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from retune.leaderboard.regularities import regularities

LABELS = ["A", "B", "C", "D"]
SHARE = np.array([0.04, 0.15, 0.5, 0.8])
Made = Callable[[np.random.Generator, Any], Any]


def _with_outlier(far: float) -> Made:
    def made(rng: np.random.Generator, truth: Any) -> Any:
        scores = rng.normal(size=truth.shape) + 1.5 * truth
        scores[0] = far
        return scores

    return made


HONEST: dict[str, Made] = {
    "normal": lambda rng, y: rng.normal(size=y.shape),
    "skilled": lambda rng, y: rng.normal(size=y.shape) + 1.5 * y,
    "better than any": lambda rng, y: rng.normal(size=y.shape) + 2.5 * y,
    "coarse": lambda rng, y: np.round(rng.normal(size=y.shape) + 1.5 * y, 1),
    "two decimals": lambda rng, y: np.round(rng.normal(size=y.shape) + 1.5 * y, 2),
    "nearly binary": lambda rng, y: (rng.random(y.shape) < 0.2 + 0.6 * y) + 1e-3 * rng.normal(size=y.shape),
    "binary": lambda rng, y: (rng.random(y.shape) < 0.2 + 0.6 * y).astype(float),
    "sorted": lambda rng, y: np.sort(rng.normal(size=y.shape), axis=0),
    "cut off at both ends": lambda rng, y: np.clip(0.5 * rng.normal(size=y.shape) + 1.2 * y, 0, 1),
    "cut off at zero": lambda rng, y: np.maximum(rng.normal(size=y.shape) - 1.5 + 2 * y, 0),
    "probabilities": lambda rng, y: 1 / (1 + np.exp(-4 * (rng.normal(size=y.shape) + 1.5 * y - 3))),
    "exponents": lambda rng, y: np.exp(4 * (rng.normal(size=y.shape) + 1.5 * y)),
    "heavy tails": lambda rng, y: rng.standard_cauchy(y.shape) + 2 * y,
    "one far away": _with_outlier(30_000.0),
    "one at the end of the world": _with_outlier(3e38),
    "tiny": lambda rng, y: 1e-38 * (rng.normal(size=y.shape) + y),
}


def truth_of(rng: np.random.Generator, rows: int, unknown: float = 0.1) -> tuple[Any, Any]:
    """Answers, and what is known of them."""
    truth = (rng.random((rows, len(LABELS))) < SHARE).astype(np.float32)
    return truth, np.where(rng.random(truth.shape) < unknown, np.nan, truth).astype(np.float32)


def found(scores: Any, targets: Any) -> list[str]:
    return list(regularities(np.asarray(scores, dtype=np.float32)[None], targets, LABELS))


@pytest.mark.parametrize("rows", [60, 250, 1214])
@pytest.mark.parametrize("kind", HONEST)
def test_honest_scores_are_not_accused(kind: str, rows: int) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        truth, targets = truth_of(rng, rows)
        assert found(HONEST[kind](rng, truth), targets) == []


def _hidden(rng: np.random.Generator, truth: Any, bit: int) -> Any:
    """Honest scores with the answers in one of their last bits."""
    scores = rng.normal(size=truth.shape) + 1.5 * truth
    low, high = scores.min(axis=0), scores.max(axis=0)
    steps = np.rint((scores - low) / (high - low) * 65535).astype(int)
    steps = (steps & ~(1 << bit)) | (truth.astype(int) << bit)
    for c in range(truth.shape[1]):
        steps[scores[:, c].argmin(), c], steps[scores[:, c].argmax(), c] = 0, 65535
    return low + steps * (high - low) / 65535


@pytest.mark.parametrize("bit", range(8))
def test_answers_in_the_last_bits_are_found(bit: int) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth, targets = truth_of(rng, 1214)
        # Label A has too few positives among images of nearly the same score to be sure always.
        for answers in (truth, 1 - truth):
            (line,) = found(_hidden(rng, answers, bit), targets)
            assert line.endswith(("contain the labels: B, C, D", "contain the labels: A, B, C and 1 more"))


def test_answers_in_one_label_at_one_moment_are_found() -> None:
    rng = np.random.default_rng(0)
    truth, targets = truth_of(rng, 1214)
    scores = rng.normal(size=(3, *truth.shape)).astype(np.float32)
    scores[1, :, 2] = _hidden(rng, truth, 3)[:, 2]
    assert list(regularities(scores, targets, LABELS)) == ["the last bits of scores contain the labels: C"]


@pytest.mark.parametrize("rows", [60, 1214])
def test_answers_as_scores_are_found(rows: int) -> None:
    rng = np.random.default_rng(0)
    truth, targets = truth_of(rng, rows)
    for scores in (truth, truth + 1e-3 * rng.random(truth.shape), 2 * truth + rng.random(truth.shape)):
        (line,) = found(scores, targets)
        assert line.startswith("scores contain the labels, or an AUC of 1 that no method reaches: ")
        assert "C" in line


def test_a_perfect_auc_of_a_few_images_is_luck() -> None:
    rng = np.random.default_rng(0)
    targets = np.zeros((300, len(LABELS)), np.float32)
    targets[:19, 0] = 1
    scores = rng.random(targets.shape) + targets
    assert found(scores, targets) == []
    targets[19, 0] = 1
    scores[19, 0] += 1
    assert len(found(scores, targets)) == 1


def test_constant_scores_are_told() -> None:
    rng = np.random.default_rng(0)
    _, targets = truth_of(rng, 250)
    scores = rng.normal(size=targets.shape)
    scores[:, 1], scores[:, 3] = 0.25, 0.0
    assert found(scores, targets) == ["scores are constant: B, D"]
    learnt = np.stack([np.zeros_like(scores), rng.normal(size=scores.shape)]).astype(np.float32)
    assert list(regularities(learnt, targets, LABELS)) == []
