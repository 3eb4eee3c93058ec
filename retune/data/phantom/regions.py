"""Where findings and organs lie in the pictures, as a reader would outline them: from their shapes alone.

``masks`` says where a finding changes the picture. That is more than the finding: with air in the pleural space
heart and mediastinum move, and light is scattered everywhere. Here nothing is drawn.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from retune.data.phantom.body import Chest, chest, heart
from retune.data.phantom.drawing import batches, checked
from retune.data.phantom.frame import COARSE, Batch, enlarge
from retune.data.phantom.opacities import EDEMA, Filling, consolidation, flooding, lesions, unevenness
from retune.data.phantom.pleura import Pleura, effusion, pneumothorax
from retune.data.phantom.table import Exams

REGIONS_VERSION: Final = "1"
"""Changes whenever an outline does."""

OUTLINED: Final = (
    "Pleural Effusion", "Pneumothorax", "Consolidation", "Edema", "Lung Lesion", "Lungs", "Heart",
)  # fmt: skip
"""The findings, and the organs, that ``regions`` outlines."""

_Mask = npt.NDArray[np.bool_]


def regions(exams: Exams, rows: npt.ArrayLike, *, size: int = 128) -> npt.NDArray[np.bool_]:
    """Outlines findings and organs.

    A finding that is present has a mask that is not empty; one that is absent, an empty one. (At 32 pixels the least
    fluid may be lost.) Findings may overlap, and one may hide another: a consolidation behind fluid is outlined still.

    - Lungs: as far as they have some depth of air, without what heart and mediastinum hide, whatever fills them.
    - Heart: both ventricles and the right atrium, without great vessels.
    - Pleural Effusion: fluid, where there was lung; a veil in a lying patient is not outlined.
    - Pneumothorax: the gas between lung and chest wall.
    - Consolidation: where a fifth or more of the lung's air is gone, in the lungs as outlined.
    - Edema: where a twentieth or more of it is, in the same; at its mildest it takes little more anywhere.
    - Lung Lesion: the whole of each ball.

    Args:
        exams: The table, from ``exams``.
        rows: (m,) rows of it.
        size: Side of the images in pixels, at least 32.

    Returns:
        (m, 7, size, size) in the order of ``OUTLINED``, pixel for pixel those of ``render`` at this size.

    Raises:
        BadSetting: ``size`` too small, or a row that is not in the table.
    """
    chosen = checked(exams, rows, size)
    out = np.empty((len(chosen), len(OUTLINED), size, size), dtype=np.bool_)
    for part, group in batches(exams, chosen, size):
        found = _outlined(group, chest(group))
        for k, name in enumerate(OUTLINED):
            out[part, k] = found[name]
    return out


def _outlined(group: Batch, body: Chest) -> dict[str, _Mask]:
    """(n, size, size) of everything that is outlined, each as if it were alone."""
    clear = body.solid <= 0.5
    lungs = (body.air > 0.3) & clear
    ones, zeros = np.ones_like(body.air), np.zeros_like(body.air)
    space = Pleura(gas=zeros.copy(), line=zeros.copy())
    pneumothorax(group, body, space)
    wet, full = (Filling(ones.copy(), ones[:, :1, :1], zeros.copy(), zeros.copy()) for _ in range(2))
    effusion(group, body, wet)
    consolidation(group, body, full)
    lesions(group, body, full)
    return {
        # Its first sign is in the recess below the dome, where there is little air.
        "Pleural Effusion": (wet.open < 0.5) & (body.air > 0.05) & clear,
        "Pneumothorax": (space.gas > 0.5) & clear,
        "Consolidation": (full.dense > 0.2) & lungs,
        "Edema": (_edema(group, body) > 0.05) & lungs,
        "Lung Lesion": full.extra > 0,
        "Lungs": lungs,
        "Heart": heart(body.shape, body.x, body.y) > 0.5,
    }


def _edema(group: Batch, body: Chest) -> npt.NDArray[np.float32]:
    """(n, size, size) share of the lung's air that oedema takes."""
    taken = np.zeros_like(body.air)
    rows = group.having(EDEMA)
    if len(rows):
        x, y = body.pose.to_body(COARSE)
        taken[rows] = enlarge(flooding(group, rows, x, y, unevenness(group)), group.size)
    return taken
