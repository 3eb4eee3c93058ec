"""How tables in the wild spell the canonical findings."""

from __future__ import annotations

import re
from typing import Final

from retune.data.findings import FINDINGS

ALIASES: Final = {
    "airspace opacity": "Lung Opacity",
    "effusion": "Pleural Effusion",
    "infiltrate": "Infiltration",
    "infiltrates": "Infiltration",
    "lung opacities": "Lung Opacity",
    "nodules": "Nodule",
    "normal": "No Finding",
    "oedema": "Edema",
    "pleural effusions": "Pleural Effusion",
    "pulmonary edema": "Edema",
    "pulmonary fibrosis": "Fibrosis",
    "pulmonary oedema": "Edema",
    "support device": "Support Devices",
}
"""Spellings besides the canonical ones, folded."""


def canonical(name: str) -> str | None:
    """The canonical finding that a name means; None where it means none of them.

    Args:
        name: In any case, with spaces, ``_`` or ``-`` between its words.
    """
    return SPELLINGS.get(_fold(name))


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


SPELLINGS: Final = {**{_fold(name): name for name in FINDINGS}, **ALIASES}
"""Every known spelling, folded, to its finding."""
