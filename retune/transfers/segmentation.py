"""Outlines of findings from maps of features, beside what predicting nothing and anatomy alone would score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from retune.metrics import dense, interval, patient_weights
from retune.transfers.base import Maps, Measurement, Part, Task, Transfer, blocks
from retune.transfers.decoders.ridge import Ridge

BINS: Final = 1024
"""Values between which a threshold is chosen."""
TOP: Final = 0.01
"""Share of a map's pixels, the highest, whose mean tells whether a finding is there at all."""


@dataclass
class Segmentation(Transfer):
    """A linear probe outlines findings on maps of the image side, as it is before training and after each experience.

    The probe is fitted anew at every moment (``refit``: is the information still there?) and once for good (``kept``:
    does last year's probe still work on the updated model?). Its threshold is that of the best pooled Dice on the
    validation patients.
    """

    name: ClassVar[str] = "segmentation"

    def begin(self, task: Task) -> Segmented:
        """Prepare to measure a task."""
        return Segmented(task, self.size)


class Segmented(Measurement):
    """Sums of every test image at every moment, from which all numbers follow.

    Args:
        task: What is measured.
        size: Side of the masks in pixels.
    """

    def __init__(self, task: Task, size: int) -> None:
        self.task, self.size = task, size
        n, k = task.test.known.shape
        # Of the probe fitted anew and of the one that was kept, moment by moment.
        self.sums = torch.zeros(0, 2, n, k, 3, dtype=torch.int32)
        self.scores = torch.zeros(0, 2, n, k)
        self.kept: tuple[Ridge, torch.Tensor] | None = None
        self.since = self.grid = 0

    def measure(self, train: Maps, valid: Maps, test: Maps) -> None:
        """Fit the probe and count what it finds; see :meth:`Measurement.measure`."""
        task, moment = self.task, len(self.sums)
        probe = Ridge.fit(train, task.train)
        limits = self._thresholds(_predicted([probe], valid)[0])
        if self.kept is None or not self.kept[0].alike(probe):
            # A strategy may give maps of its own kind only once it has learnt: then the probe that is kept is of these.
            self.since, self.kept = moment, (probe, limits)
        judged = [(probe, limits)] if self.since == moment else [(probe, limits), self.kept]
        predicted = _predicted([probe for probe, _ in judged], test)
        self.grid = predicted[0].shape[-1]
        counted = [self._counted(maps, limits) for maps, (_, limits) in zip(predicted, judged, strict=True)]
        sums, scores = (torch.stack([counted[0][i], counted[-1][i]])[None] for i in range(2))
        self.sums, self.scores = torch.cat([self.sums, sums]), torch.cat([self.scores, scores])

    def repeat(self) -> None:
        """The same sums once more."""
        self.sums = torch.cat([self.sums, self.sums[-1:]])
        self.scores = torch.cat([self.scores, self.scores[-1:]])

    def state(self) -> dict[str, torch.Tensor]:
        """Sums so far, and the probe that was kept."""
        found = {"sums": self.sums, "scores": self.scores, "told": torch.tensor([self.since, self.grid])}
        if self.kept:
            probe, limits = self.kept
            found |= {"limits": limits, **{f"kept.{key}": value for key, value in probe.state().items()}}
        return found

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what was measured."""
        self.sums, self.scores = state["sums"], state["scores"]
        self.since, self.grid = map(int, state["told"])
        if "limits" in state:
            kept = {
                key.removeprefix("kept."): value for key, value in state.items() if key.startswith("kept.")
            }
            self.kept = Ridge.load(kept), state["limits"]

    def numbers(self) -> dict[str, Any]:
        """Every number and its interval."""
        task = self.task
        sums = self.sums.numpy().astype(np.uint32).swapaxes(0, 1)
        scores = self.scores.numpy().astype(np.float64).swapaxes(0, 1)
        few = (task.train.present.sum(0) < dense.FEWEST) | (task.test.present.sum(0) < dense.FEWEST)
        before = np.zeros((2, len(self.sums), 1), dtype=bool)
        before[1, : self.since] = True
        undefined = few | before
        known = task.test.known
        weights = patient_weights(task.test.patients, task.replicates, 0)
        samples = np.where(undefined, np.nan, dense.pooled_dice(sums, weights))
        low, high = interval(samples, task.level)
        found = {
            "dice": dense.pooled_dice(sums), "dice_low": low, "dice_high": high,
            "positives": dense.positive_dice(sums), "auroc": dense.presence(sums, scores, known),
            "false_alarm": dense.false_alarms(sums, known), "published": dense.published_dice(sums, known),
        }  # fmt: skip
        found = {key: np.where(undefined, np.nan, values) for key, values in found.items()}
        refit, kept = ({key: values[i].tolist() for key, values in found.items()} for i in range(2))
        metrics = dense.over_time_measured(
            found["dice"][0], found["dice"][1], (samples[:, 0], samples[:, 1]), task.level
        )
        names = [name for name, out in zip(task.findings, few, strict=True) if out]
        notes = [f"Undefined, with fewer than {dense.FEWEST} positives to learn from or to be judged on: "
                 f"{', '.join(names)}"] if names else []  # fmt: skip
        return {
            "headline": "dice", "grid": self.grid, "refit": refit, "kept": kept,
            "trivial": self._trivial(few), "notes": notes,
            "metrics": {key: asdict(value) for key, value in metrics.items()},
        }  # fmt: skip

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Sums and scores of each image at each moment, and which findings are known on it."""
        sums = self.sums.numpy().astype(np.uint32).swapaxes(0, 1)
        return {"sums": sums, "presence": self.scores.numpy().swapaxes(0, 1), "known": self.task.test.known}

    def _trivial(self, few: npt.NDArray[np.bool_]) -> dict[str, dict[str, list[float]]]:
        """What is scored without looking at a picture."""
        known = self.task.test.known
        prior = self._prior().numpy().astype(np.uint32)
        empty = np.where(np.arange(3) == dense.TRUE, prior, 0)
        found = {}
        for name, sums in (("empty", empty), ("prior", prior)):
            values = {
                "dice": dense.pooled_dice(sums),
                "positives": dense.positive_dice(sums),
                "published": dense.published_dice(sums, known),
            }
            # What predicting nothing scores by the published rule stands even where nothing else can be said.
            kept = {"published"} if name == "empty" else set()
            found[name] = {
                k: (v if k in kept else np.where(few, np.nan, v)).tolist() for k, v in values.items()
            }
        return found

    def _prior(self) -> torch.Tensor:
        """Sums (N, K, 3) of the mean mask of the training positives: anatomy alone, the same for every picture."""
        task = self.task
        total = torch.zeros(len(task.findings), self.size, self.size, dtype=torch.float64)
        for index in blocks(len(task.train)):
            total += torch.from_numpy(task.train.masks[index.numpy()]).double().sum(0)
        positives = torch.from_numpy(task.train.present.sum(0)).clamp(min=1)
        mean = (total / positives[:, None, None]).float()
        limits = self._thresholds(mean[None].expand(len(task.valid), -1, -1, -1))
        return self._counted(mean[None].expand(len(task.test), -1, -1, -1), limits)[0]

    def _thresholds(self, predicted: torch.Tensor) -> torch.Tensor:
        """Of each finding the value from which on it is predicted, (K,), best on the validation patients."""
        part = self.task.valid
        low, high = predicted.amin((0, 2, 3)), predicted.amax((0, 2, 3))
        width = (high - low).clamp(min=1e-12) / BINS
        counts = torch.zeros(len(low), 2, BINS, dtype=torch.int64)
        for index, maps, masks in self._side_by_side(predicted, part):
            known = torch.from_numpy(part.known[index])
            place = ((maps - low[:, None, None]) / width[:, None, None]).long().clamp(0, BINS - 1)
            place = place + BINS * masks
            for k in range(len(low)):
                counts[k] += torch.bincount(place[known[:, k], k].flatten(), minlength=2 * BINS).view(2, BINS)
        edges = low[:, None] + width[:, None] * torch.arange(BINS)
        found = [
            dense.best_threshold(c.numpy(), e.double().numpy()) for c, e in zip(counts, edges, strict=True)
        ]
        return torch.tensor(found, dtype=torch.float32)

    def _counted(self, predicted: torch.Tensor, limits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums (N, K, 3) and scores (N, K) of the test images."""
        part, sums, scores = self.task.test, [], []
        for index, maps, masks in self._side_by_side(predicted, part):
            known = torch.from_numpy(part.known[index])[:, :, None, None]
            found = (maps >= limits[:, None, None]) & known
            sums.append(
                torch.stack([(masks & found).sum((2, 3)), found.sum((2, 3)), masks.sum((2, 3))], dim=-1)
            )
            flat = maps.flatten(2)
            scores.append(flat.topk(max(1, round(TOP * flat.shape[-1])), dim=-1).values.mean(-1))
        return torch.cat(sums).int(), torch.cat(scores)

    def _side_by_side(
        self, predicted: torch.Tensor, part: Part
    ) -> Iterator[tuple[npt.NDArray[np.int64], torch.Tensor, torch.Tensor]]:
        """Places, maps (b, K, size, size) and masks, some images at a time."""
        for index in blocks(len(part)):
            maps = predicted[index]
            if maps.shape[-1] != self.size:
                maps = functional.interpolate(
                    maps, (self.size, self.size), mode="bilinear", align_corners=False
                )
            places = index.numpy()
            yield places, maps, torch.from_numpy(part.masks[places])


def _predicted(probes: list[Ridge], maps: Maps) -> list[torch.Tensor]:
    """What each probe says of all images, (N, K, g, g); every image's maps are worked out once."""
    found: list[list[torch.Tensor]] = [[] for _ in probes]
    for index in blocks(len(maps)):
        values = maps[index]
        for of, probe in zip(found, probes, strict=True):
            of.append(probe.predict(values))
    return [torch.cat(of) for of in found]
