"""Outlines of findings from maps of features, beside what predicting nothing and anatomy alone would score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch

from retune.metrics import dense
from retune.metrics.binary import Floats
from retune.transfers._outlines import Counted, Outlined, Outlines
from retune.transfers.base import Task

TOP: Final = 0.01
"""Share of a map's pixels, the highest, whose mean tells whether a finding is there at all."""


@dataclass
class Segmentation(Outlines):
    """A decoder outlines findings on maps of the image side, as it is before training and after each experience.

    It is fitted anew at every moment (``refit``: is the information still there?) and once for good (``kept``: does
    last year's decoder still work on the updated model?). Its threshold is that of the best pooled Dice on the
    validation patients. Settings of the data set with the masks, as ``share`` and ``draw``, are written
    ``--set transfer.share=0.1``, too.
    """

    name: ClassVar[str] = "segmentation"

    def begin(self, task: Task) -> Segmented:
        """Prepare to measure a task."""
        return Segmented(task, self)


class Segmented(Outlined):
    """Sums of every test image at every moment, from which all numbers follow."""

    headline = "dice"
    trivially = ("dice", "positives", "published")
    always = ("published",)

    def count(self, predicted: torch.Tensor, limits: torch.Tensor) -> Counted:
        """Sums (N, K, 3) and scores (N, K) of the test images."""
        part, sums, scores = self.task.test, [], []
        for index, maps, masks in self.side_by_side(predicted, part):
            known = torch.from_numpy(part.known[index])[:, :, None, None]
            found = (maps >= limits[:, None, None]) & known
            sums.append(
                torch.stack([(masks & found).sum((2, 3)), found.sum((2, 3)), masks.sum((2, 3))], dim=-1)
            )
            flat = maps.flatten(2)
            scores.append(flat.topk(max(1, round(TOP * flat.shape[-1])), dim=-1).values.mean(-1))
        return {"sums": torch.cat(sums).int(), "scores": torch.cat(scores)}

    def values(self, counted: list[Counted]) -> dict[str, Floats]:
        """Every number, (U, K)."""
        sums, known = _sums(counted), self.task.test.known
        scores = torch.stack([of["scores"] for of in counted]).numpy().astype(np.float64)
        return {
            "dice": dense.pooled_dice(sums),
            "positives": dense.positive_dice(sums),
            "auroc": dense.presence(sums, scores, known),
            "false_alarm": dense.false_alarms(sums, known),
            "published": dense.published_dice(sums, known),
        }

    def resampled(self, counted: list[Counted], weights: npt.NDArray[Any]) -> dict[str, Floats]:
        """Pooled Dice, (B, U, K)."""
        return {"dice": dense.pooled_dice(_sums(counted), weights)}

    def trivial(self, few: npt.NDArray[np.bool_]) -> dict[str, dict[str, list[float]]]:
        """And what an outline drawn at random scores at best.

        Of a share p of all pixels it is expected to score 2pA / (pP + A), A of P pixels being true: most where p is 1.
        """
        true = _sums(self.counted[:1])[0, ..., dense.TRUE].sum(0, dtype=np.float64)
        pixels = self.task.test.known.sum(0) * self.size**2
        dice = np.where(few, np.nan, 2 * true / (pixels + true))
        return {**super().trivial(few), "random": {"dice": dice.tolist()}}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Sums and scores of each image at each moment, and which findings are known on it."""
        at = np.array(self.places).T
        scores = torch.stack([of["scores"] for of in self.counted]).numpy()
        return {"sums": _sums(self.counted)[at], "presence": scores[at], "known": self.task.test.known}


def _sums(counted: list[Counted]) -> npt.NDArray[np.uint32]:
    return torch.stack([of["sums"] for of in counted]).numpy().astype(np.uint32)
