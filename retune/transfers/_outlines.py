"""What measurements of outlines share: the decoders, their thresholds, the moments, what is scored without a picture."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from retune.metrics import dense, interval, patient_weights
from retune.metrics.binary import Floats
from retune.metrics.continual import over_time
from retune.settings import Count
from retune.transfers.base import Decoder, Maps, Measurement, Part, Task, Transfer, blocks
from retune.transfers.decoders.ridge import Ridge
from retune.transfers.decoders.trained import Trained
from retune.transfers.decoders.unet import package

BINS: Final = 1024
"""Values between which a threshold is chosen."""
Counted = dict[str, torch.Tensor]
"""What is kept of a decoder's maps of all test images, by name: no map, no mask."""


@dataclass
class Outlines(Transfer):
    """A measurement on the outlines that a decoder makes of maps of the image side.

    Args:
        decoder: A linear probe in closed form, ``ridge``, or a network that is trained as in the papers, for a GPU or
            patience: ``setr`` as of Adaptor and MGCA, ``unet`` of segmentation-models-pytorch, without skips.
        epochs: How often ``setr`` and ``unet`` see every image.
    """

    decoder: Literal["ridge", "setr", "unet"] = "ridge"
    epochs: Count = 5

    def __post_init__(self) -> None:
        """Say before anything is encoded that a package is missing."""
        if self.decoder == "unet":
            package()

    def learn(self, maps: Maps, task: Task) -> Decoder:
        """A decoder of the training images."""
        if self.decoder == "ridge":
            return Ridge.fit(maps, task.train)
        return Trained.fit(
            self.decoder, maps, task.train, epochs=self.epochs, seed=task.seed, device=task.device
        )

    def take_up(self, state: Mapping[str, torch.Tensor], task: Task) -> Decoder:
        """A decoder that was kept."""
        return (
            Ridge.load(state) if self.decoder == "ridge" else Trained.load(self.decoder, state, task.device)
        )


class Outlined(Measurement):
    """What a decoder outlines at every moment, fitted anew and as it was first; what of it counts is a subclass's.

    Args:
        task: What is measured.
        transfer: Its settings.
    """

    headline: ClassVar[str]
    """The number that the metrics are worked out from."""
    trivially: ClassVar[tuple[str, ...]]
    """Numbers that are told of predictors that look at no picture."""
    always: ClassVar[tuple[str, ...]] = ()
    """Of these, what predicting nothing scores even where nothing else can be said."""

    def __init__(self, task: Task, transfer: Outlines) -> None:
        self.task, self.transfer, self.size = task, transfer, transfer.size
        self.counted: list[Counted] = []
        # Of each moment, which of these are of the decoder fitted anew, and of the one that was kept.
        self.places: list[tuple[int, int]] = []
        self.kept: tuple[Decoder, torch.Tensor] | None = None
        self.since = self.grid = 0

    @abstractmethod
    def count(self, predicted: torch.Tensor, limits: torch.Tensor) -> Counted:
        """What is kept of maps of all test images, (N, K, g, g), of which a finding is predicted from its limit on."""

    @abstractmethod
    def values(self, counted: list[Counted]) -> dict[str, Floats]:
        """Numbers of each of what was counted by name, (U, K)."""

    @abstractmethod
    def resampled(self, counted: list[Counted], weights: npt.NDArray[Any]) -> dict[str, Floats]:
        """Those numbers that get an interval, on every resample, (B, U, K)."""

    def measure(self, train: Maps, valid: Maps, test: Maps) -> None:
        """Fit the decoder and count what it finds; see :meth:`Measurement.measure`."""
        decoder = self.transfer.learn(train, self.task)
        limits = self._thresholds(self._predicted([decoder], valid)[0])
        if self.kept is None or not self.kept[0].alike(decoder):
            # A strategy may give maps of its own kind only once it has learnt: then the decoder that is kept is of these.
            self.since, self.kept = len(self.places), (decoder, limits)
        judged = [(decoder, limits)] if self.kept[0] is decoder else [(decoder, limits), self.kept]
        predicted = self._predicted([decoder for decoder, _ in judged], test)
        first = len(self.counted)
        self.counted += [
            self.count(maps, limits) for maps, (_, limits) in zip(predicted, judged, strict=True)
        ]
        self.places.append((first, len(self.counted) - 1))

    def repeat(self) -> None:
        """The same once more."""
        self.places.append(self.places[-1])

    def state(self) -> dict[str, torch.Tensor]:
        """What was counted so far, and the decoder that was kept."""
        found = {"told": torch.tensor([self.since, self.grid]), "places": torch.tensor(self.places)}
        for i, counted in enumerate(self.counted):
            found |= {f"counted.{i}.{key}": value for key, value in counted.items()}
        if self.kept:
            decoder, limits = self.kept
            found |= {"limits": limits, **{f"kept.{key}": value for key, value in decoder.state().items()}}
        return found

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what was measured."""
        self.since, self.grid = map(int, state["told"])
        self.places = [(int(refit), int(kept)) for refit, kept in state["places"]]
        self.counted = [
            _below(f"counted.{i}.", state)
            for i in range(1 + max((i for at in self.places for i in at), default=-1))
        ]
        if "limits" in state:
            self.kept = self.transfer.take_up(_below("kept.", state), self.task), state["limits"]

    def numbers(self) -> dict[str, Any]:
        """Every number and its interval."""
        task = self.task
        few = dense.too_few(task.train.present.sum(0), task.test.present.sum(0))
        at = np.array(self.places).T
        undefined = dense.undefined(few, self.since, at.shape[1])
        weights = patient_weights(task.test.patients, task.replicates, 0)
        samples = {
            key: np.where(undefined, np.nan, of[:, at])
            for key, of in self.resampled(self.counted, weights).items()
        }
        found = {}
        for key, of in self.values(self.counted).items():
            found[key] = np.where(undefined, np.nan, of[at])
            if key in samples:
                found[f"{key}_low"], found[f"{key}_high"] = interval(samples[key], task.level)
        refit, kept = ({key: values[i].tolist() for key, values in found.items()} for i in range(2))
        main, resampled = found[self.headline], samples[self.headline]
        replicates = over_time(resampled[:, 0], resampled[:, 1])
        metrics = dense.over_time_measured(main[0], main[1], replicates, task.level)
        names = [name for name, out in zip(task.findings, few, strict=True) if out]
        notes = [f"Undefined, with fewer than {dense.FEWEST} positives to learn from or to be judged on: "
                 f"{', '.join(names)}"] if names else []  # fmt: skip
        notes += self.kept[0].notes if self.kept else ()
        return {
            "headline": self.headline, "grid": self.grid, "refit": refit, "kept": kept,
            "trivial": self.trivial(few), "notes": notes,
            "metrics": {key: asdict(value) for key, value in metrics.items()},
            "replicates": replicates,
        }  # fmt: skip

    def trivial(self, few: npt.NDArray[np.bool_]) -> dict[str, dict[str, list[float]]]:
        """What is scored without looking at a picture: by predicting nothing, and by anatomy alone."""
        prior = self._prior()
        limits = self._thresholds(prior.expand(len(self.task.valid), -1, -1, -1))
        every = prior.expand(len(self.task.test), -1, -1, -1)
        values = self.values(
            [self.count(every, torch.full_like(limits, torch.inf)), self.count(every, limits)]
        )
        return {
            name: {
                key: np.where(
                    few & (name != "empty" or key not in self.always), np.nan, values[key][i]
                ).tolist()
                for key in self.trivially
            }
            for i, name in enumerate(("empty", "prior"))
        }

    def _prior(self) -> torch.Tensor:
        """The mean mask of the training positives, (1, K, size, size)."""
        task = self.task
        total = torch.zeros(len(task.findings), self.size, self.size, dtype=torch.float64)
        for index in blocks(len(task.train)):
            total += torch.from_numpy(task.train.masks[index.numpy()]).double().sum(0)
        positives = torch.from_numpy(task.train.present.sum(0)).clamp(min=1)
        return (total / positives[:, None, None]).float()[None]

    def _predicted(self, decoders: list[Decoder], maps: Maps) -> list[torch.Tensor]:
        """What each decoder says of all images, (N, K, g, g); every image's maps are worked out once."""
        found: list[list[torch.Tensor]] = [[] for _ in decoders]
        for index in blocks(len(maps)):
            values = maps[index]
            self.grid = values.shape[-1]
            for of, decoder in zip(found, decoders, strict=True):
                of.append(decoder.predict(values))
        return [torch.cat(of) for of in found]

    def _thresholds(self, predicted: torch.Tensor) -> torch.Tensor:
        """Of each finding the value from which on it is predicted, (K,), best on the validation patients."""
        part = self.task.valid
        low, high = predicted.amin((0, 2, 3)), predicted.amax((0, 2, 3))
        width = (high - low).clamp(min=1e-12) / BINS
        counts = torch.zeros(len(low), 2, BINS, dtype=torch.int64)
        for index, maps, masks in self.side_by_side(predicted, part):
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

    def side_by_side(
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


def _below(prefix: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What is stored under names that begin so."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
