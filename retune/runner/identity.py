"""How far what a method keeps of past patients tells who they are, beside what any feature of the backbone tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from retune.data.dataset import IntArray
from retune.features.encode import ImageKind
from retune.methods.memory import PREFIX
from retune.metrics import interval, patient_weights
from retune.runner.images import KINDS, Inputs
from retune.runner.moments import LEVEL

AT_ONCE: Final = 1024
"""Images that are compared at a time."""
SAME: Final = 1 - 1e-5
"""Cosine from which on a kept row is held for the image itself: storing it as a half moves it by less."""


def identification(
    inputs: Inputs, state: Mapping[str, Any], replicates: int
) -> dict[str, dict[str, float | int]]:
    """Rank-1 re-identification: for how many pictures of a patient the closest one is of the same patient.

    Closeness is the cosine between rows as the backbone gives them. ``kept``: whoever holds what a method keeps looks
    up other training pictures of the same patients, none of them kept. ``backbone``: each test image among all others,
    whatever a method does (25.9 % is published for foundation models of chest X-rays: npj Digital Medicine 8:469,
    2025). Pictures of patients with a single one are looked for by nobody.

    Args:
        inputs: The images of the stream.
        state: Of the strategy, after the last experience.
        replicates: Of the bootstrap over patients.

    Returns:
        By ``kept`` and ``backbone``, as :class:`retune.results.result.IdentificationRecord` says it; without what
        cannot be measured, and empty where nothing of single images is kept.
    """
    held = {kind: state[PREFIX + need] for need, kind in KINDS.items() if len(state.get(PREFIX + need, ()))}
    kind = next((kind for kind in held if kind in inputs.encoded), None)
    if kind is None:
        return {}
    stream, rows = inputs.stream, inputs.stream.joint().rows
    _, patients = np.unique(stream.dataset.patient_id, return_inverse=True)
    kept, shape = held[kind], _taken(inputs, kind, rows[:1]).shape
    found: dict[str, dict[str, float | int]] = {}
    if kept.shape[1:] == shape[1:]:
        nearest, source = _matched(inputs, kind, rows, _unit(kept))
        owners = np.where(source < 0, -1, patients[rows[source]])
        asked = ~np.isin(np.arange(len(rows)), source) & np.isin(patients[rows], owners)
        of = patients[rows[asked]]
        of_each = np.bincount(owners[source >= 0], minlength=patients.max() + 1)
        found["kept"] = _rate(
            owners[nearest[asked]] == of, of_each[of] / len(kept), of, len(kept), replicates
        )
    of = patients[stream.test]
    _, group, size = np.unique(of, return_inverse=True, return_counts=True)
    asked = size[group] > 1
    others = max(1, len(of) - 1)
    hit = of[_nearest_other(inputs, kind, stream.test)[asked]] == of[asked]
    found["backbone"] = _rate(hit, (size[group][asked] - 1) / others, of[asked], others, replicates)
    return {name: told for name, told in found.items() if told["queries"]}


def _rate(
    hit: npt.NDArray[np.bool_], chance: npt.NDArray[Any], patients: IntArray, gallery: int, replicates: int
) -> dict[str, float | int]:
    told: dict[str, float | int] = {
        "queries": len(hit),
        "patients": len(np.unique(patients)),
        "gallery": gallery,
    }
    if len(hit):
        weights = patient_weights(patients, replicates, 0).astype(np.float64)
        low, high = interval(weights @ hit / weights.sum(axis=1), LEVEL)
        rates = {"rank_one": hit.mean(), "low": low, "high": high, "chance": chance.mean()}
        told |= {name: float(rate) for name, rate in rates.items()}
    return told


def _unit(values: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(values.flatten(1).float().cpu(), dim=1)


def _taken(inputs: Inputs, kind: ImageKind, rows: IntArray) -> torch.Tensor:
    return torch.from_numpy(inputs.encoded[kind].take(inputs.place[rows]))


def _matched(
    inputs: Inputs, kind: ImageKind, rows: IntArray, kept: torch.Tensor
) -> tuple[IntArray, IntArray]:
    """Of each image the closest of the kept, and of each of the kept the place of the image that it is; -1 for none."""
    nearest, best, source = [], torch.full((len(kept),), SAME), torch.full((len(kept),), -1)
    for first in range(0, len(rows), AT_ONCE):
        close = _unit(_taken(inputs, kind, rows[first : first + AT_ONCE])) @ kept.T
        nearest.append(close.argmax(dim=1))
        highest, place = close.max(dim=0)
        source = torch.where(highest > best, place + first, source)
        best = torch.maximum(best, highest)
    return torch.cat(nearest).numpy(), source.numpy()


def _nearest_other(inputs: Inputs, kind: ImageKind, rows: IntArray) -> IntArray:
    """Of each image the place of the closest of the others."""
    blocks = [rows[first : first + AT_ONCE] for first in range(0, len(rows), AT_ONCE)]
    found = []
    for i, block in enumerate(blocks):
        own = _unit(_taken(inputs, kind, block))
        best, place = torch.full((len(own),), -2.0), torch.zeros(len(own), dtype=torch.int64)
        for j, other in enumerate(blocks):
            close = own @ _unit(_taken(inputs, kind, other)).T
            if i == j:
                close.fill_diagonal_(-2.0)
            highest, at = close.max(dim=1)
            place = torch.where(highest > best, at + j * AT_ONCE, place)
            best = torch.maximum(best, highest)
        found.append(place)
    return torch.cat(found).numpy()
