"""The lab with a small vision transformer in the place of phantom-clip's convolutions."""

from __future__ import annotations

import copy

from retune.check.lab import Lab
from retune.check.tower import SmallTower


class VitLab(Lab):
    """As the lab, with such a backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = SmallTower()
        self.backbone.device = "cpu"
        self.untouched = copy.deepcopy(self.tower())
