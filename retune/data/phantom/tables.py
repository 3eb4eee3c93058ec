"""How often findings occur and which occur together: published counts, as one table each."""

from __future__ import annotations

from typing import Final

import numpy as np

from retune.data.findings import CHEXPERT
from retune.data.phantom.rng import F64

CHEXPERT_IMAGES: Final = 223_414
"""Images in CheXpert's train.csv (Irvin et al., AAAI 2019)."""

CHEXPERT_POSITIVES: Final = {
    "No Finding": 22_381,
    "Enlarged Cardiomediastinum": 10_798,
    "Cardiomegaly": 27_000,
    "Lung Opacity": 105_581,
    "Lung Lesion": 9_186,
    "Edema": 52_246,
    "Consolidation": 14_783,
    "Pneumonia": 6_039,
    "Atelectasis": 33_376,
    "Pneumothorax": 19_448,
    "Pleural Effusion": 86_187,
    "Pleural Other": 3_523,
    "Fracture": 9_040,
    "Support Devices": 116_001,
}
"""Images labelled 1.0 in CheXpert's train.csv (Irvin et al., AAAI 2019)."""

RARE_FLOOR: Final = 0.04
"""Rarer findings are raised to this share, so that a test set of 1,000 to 2,000 images measures them.

This departs from CheXpert: it concerns Pneumonia (2.7 %) and Pleural Other (1.6 %).
"""

PREVALENCE: Final = {name: max(n / CHEXPERT_IMAGES, RARE_FLOOR) for name, n in CHEXPERT_POSITIVES.items()}
"""Share of images with each finding. "No Finding" is not drawn: it follows from the others."""

OPACITY_CHILDREN: Final = ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis")
"""The findings below Lung Opacity in CheXpert's hierarchy."""

OPACITY_GIVEN_CHILD: Final = 0.92
"""Chance that an image with one of them is also labelled Lung Opacity (reports do not always name it)."""

_NIH_NAMES: Final = (
    "Cardiomegaly", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax",
    "Pleural Effusion", "Pleural Other",
)  # fmt: skip

# Tetrachoric correlations over the 112,120 images of NIH's Data_Entry_2017_v2020.csv (Wang et al., 2017);
# Lung Lesion = Mass or Nodule, Pleural Other = Pleural_Thickening. Lower triangle, without the diagonal.
_NIH_TETRACHORIC: Final = (
    (-0.08,),
    (0.16, 0.01),
    (0.08, 0.21, 0.11),
    (0.02, -0.03, 0.56, 0.15),
    (0.07, 0.02, -0.02, 0.31, 0.14),
    (-0.17, 0.09, -0.20, 0.00, -0.09, 0.10),
    (0.39, 0.14, 0.23, 0.28, 0.12, 0.37, 0.15),
    (0.06, 0.24, -0.01, 0.13, 0.02, 0.10, 0.14, 0.23),
)

# Findings NIH does not label: assumed. Enlarged Cardiomediastinum is Cardiomegaly's parent in CheXpert's
# hierarchy; devices go with the sick chest they treat (drains with pneumothorax, tubes with oedema);
# fractures go with trauma's companions.
_ASSUMED: Final = {
    ("Enlarged Cardiomediastinum", "Cardiomegaly"): 0.35,
    ("Enlarged Cardiomediastinum", "Pleural Effusion"): 0.15,
    ("Support Devices", "Edema"): 0.25,
    ("Support Devices", "Pneumothorax"): 0.25,
    ("Support Devices", "Pleural Effusion"): 0.20,
    ("Support Devices", "Atelectasis"): 0.15,
    ("Support Devices", "Cardiomegaly"): 0.15,
    ("Fracture", "Pneumothorax"): 0.25,
    ("Fracture", "Pleural Other"): 0.15,
}

DRAWN: Final = tuple(name for name in CHEXPERT if name not in ("No Finding", "Lung Opacity"))
"""The findings drawn from the copula; Lung Opacity and No Finding follow from them."""


def correlations() -> F64:
    """(12, 12) correlation matrix of the latent normals, in the order of ``DRAWN``."""
    matrix = np.eye(len(DRAWN))

    def put(a: str, b: str, value: float) -> None:
        i, j = DRAWN.index(a), DRAWN.index(b)
        matrix[i, j] = matrix[j, i] = value

    for row, values in enumerate(_NIH_TETRACHORIC, start=1):
        for column, value in enumerate(values):
            put(_NIH_NAMES[row], _NIH_NAMES[column], value)
    for (a, b), value in _ASSUMED.items():
        put(a, b, value)
    return matrix
