"""What a DICOM file's header says is in the picture, where that is no radiograph of a chest as wanted."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from retune.data.dicom import BEGINNING, dicom_header, is_dicom
from retune.data.views import KEPT, view_of
from retune.errors import BadImage

RADIOGRAPHS: Final = ("CR", "DX", "DR", "RG", "RF", "XR", "OT", "SC")
"""Modalities (0008,0060) of plain radiographs, and of pictures of which no more is said: other, secondary capture."""
CHEST: Final = re.compile(r"chest|cxr|thora|torax|t\u00f3rax|lung|pulm|rib|stern|heart|card", re.IGNORECASE)
"""What a body part (0018,0015) holds that shows lungs."""


def not_wanted(path: Path, views: Collection[str]) -> str | None:
    """Why a file's header says that it is not to be scored; None where it does not say, or is no DICOM header.

    Args:
        path: A file of any kind.
        views: Projections that are wanted, as :mod:`retune.data.views` spells them; one frontal one stands for all.
    """
    try:
        with path.open("rb") as file:
            if not is_dicom(file.read(BEGINNING)):
                return None
        header = dicom_header(path, ("Modality", "BodyPartExamined", "ViewPosition"))
    except (OSError, BadImage):  # Whoever decodes it says what is wrong.
        return None
    modality, part, position = (
        str(header.get(tag) or "").strip() for tag in ("Modality", "BodyPartExamined", "ViewPosition")
    )
    if modality and modality.upper() not in RADIOGRAPHS:
        return f"its header says modality {modality}, not a radiograph"
    if view_of(part) != "" and not CHEST.search(part):
        return f"its header says body part {part}, not a chest"
    view = view_of(position)
    if view and _kind(view) not in set(map(_kind, views)):
        return f"its header says view {position}, and none was learnt from"
    return None


def _kind(view: str) -> str:
    return "frontal" if view in KEPT["frontal"] else view
