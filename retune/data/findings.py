"""The one vocabulary of findings that every data set's labels are mapped onto."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

CHEXPERT: Final = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The 14 labels of CheXpert (Irvin et al., 2019), in the order of its table."""

COMPETITION: Final = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
"""The five labels that CheXpert's competition was judged by."""

NIH: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Pleural Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural Thickening",
    "Hernia",
)
"""The 14 labels of NIH ChestX-ray14 (Wang et al., 2017), in the order of CheXNet."""

OTHERS: Final = (
    "Aortic Enlargement",
    "Calcification",
    "Enlarged Pulmonary Artery",
    "Interstitial Lung Disease",
    "Lung Cavity",
    "Lung Cyst",
    "Mediastinal Shift",
    "COPD",
    "Lung Tumor",
    "Tuberculosis",
)
"""Labels that neither has; all are VinDr-CXR's (Nguyen et al., 2022), PadChest has most. Calcification is of the lung."""

FINDINGS: Final = CHEXPERT + tuple(name for name in NIH if name not in CHEXPERT) + OTHERS
"""Every canonical finding: CheXpert's labels, then those only NIH has, then the others."""

CODES: Final = {
    "No Finding": "NoF",
    "Enlarged Cardiomediastinum": "ECm",
    "Cardiomegaly": "Card",
    "Lung Opacity": "Opac",
    "Lung Lesion": "Lesi",
    "Edema": "Edem",
    "Consolidation": "Cons",
    "Pneumonia": "Pnm",
    "Atelectasis": "Atel",
    "Pneumothorax": "Ptx",
    "Pleural Effusion": "Effu",
    "Pleural Other": "PlO",
    "Fracture": "Frac",
    "Support Devices": "Dev",
    "Infiltration": "Infi",
    "Mass": "Mass",
    "Nodule": "Nodu",
    "Emphysema": "Emph",
    "Fibrosis": "Fibr",
    "Pleural Thickening": "PlT",
    "Hernia": "Hern",
    "Aortic Enlargement": "Aort",
    "Calcification": "Calc",
    "Enlarged Pulmonary Artery": "EPA",
    "Interstitial Lung Disease": "ILD",
    "Lung Cavity": "Cavi",
    "Lung Cyst": "Cyst",
    "Mediastinal Shift": "Shif",
    "COPD": "COPD",
    "Lung Tumor": "Tumo",
    "Tuberculosis": "TB",
    # Outside the vocabulary, and of one beginning.
    "Cardiomyopathy": "CMyo",
    "Pneumomediastinum": "PMed",
    "Pneumoperitoneum": "PPer",
    "Pulmonary Embolism": "PulE",
    "Pulmonary Hypertension": "PulH",
}
"""At most four letters for the head of a narrow column."""


def codes(labels: Sequence[str]) -> list[str]:
    """Distinct short heads for labels: known codes, else the first letters or a number."""
    short = [CODES.get(label, label.replace(" ", "")[:4]) for label in labels]
    return [code if short.count(code) == 1 else str(i + 1) for i, code in enumerate(short)]


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
