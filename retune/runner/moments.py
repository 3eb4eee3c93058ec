"""A transfer measured at every moment of a run: the masks, the maps, and whether the image side moves at all."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from retune.backbones.towers import as_maps
from retune.data.dataset import SPLITS, IntArray, Split
from retune.errors import StrategyError
from retune.features.masks import MaskRows, encode_masks
from retune.methods.given import PLACED, Need
from retune.methods.strategy import Strategy
from retune.progress import Progress
from retune.results.scores import REPLICATES
from retune.runner.guard import Guard
from retune.runner.images import Lent, lend
from retune.runner.plan import Plan
from retune.transfers.base import Maps, Part, Task

LEVEL: Final = 0.95
"""Coverage of a run's intervals."""
TOKENS: Final[frozenset[Need]] = frozenset({"tokens"})


@dataclass(frozen=True)
class BackboneMaps:
    """Maps of the frozen backbone: its tokens, in their places."""

    lent: Lent
    rows: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        with self.lent.view(self.rows[index.numpy()], TOKENS) as images:
            return as_maps(images.tokens[torch.arange(len(images))]).cpu()


@dataclass
class StrategyMaps:
    """Maps of what a strategy has made of the image side."""

    lent: Lent
    rows: IntArray
    learner: Guard
    step: int
    shape: tuple[int, ...] = ()
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        maps = self.ask(index)
        if maps is None or maps.shape[1:] != self.shape:
            other = "none" if maps is None else f"others of shape {tuple(maps.shape[1:])}"
            raise StrategyError(
                f"strategy {self.learner.strategy.name}: dense gave maps of shape {self.shape} of one image and {other} "
                f"of {len(index)}"
            )
        return maps

    def ask(self, index: torch.Tensor) -> torch.Tensor | None:
        """Some maps; None where they are the backbone's own."""
        start = time.perf_counter()
        with self.lent.view(self.rows[index.numpy()], self.learner.strategy.requires()) as images:
            maps = self.learner.dense(images, self.step)
        self.seconds += time.perf_counter() - start
        return maps


@dataclass
class Moments:
    """A measurement on its way through a stream.

    Args:
        task: The images and their masks.
        lent: The images.
        rows: Of the data set, by role.
        masks: Theirs, by role.
        encode_seconds: Wall time of encoding the images and making the masks.
        moves: Whether the image side was another than the backbone's at any moment.
        maps_seconds: Wall time in which the strategy made maps.
        seconds: Wall time of all measuring, over interruptions.
    """

    plan: Plan
    task: Task
    lent: Lent
    rows: Mapping[Split, IntArray]
    masks: Mapping[Split, MaskRows]
    encode_seconds: float
    moves: bool = False
    maps_seconds: float = 0.0
    seconds: float = 0.0
    _moved: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        assert self.plan.parts.transfer is not None
        self.measurement = self.plan.parts.transfer.transfer.begin(self.task)

    @classmethod
    def of(cls, plan: Plan, progress: Progress) -> Moments | None:
        """Encode what is needed; None where nothing is to be measured."""
        asked, arranged = plan.parts.transfer, plan.transfer
        if asked is None or arranged is None:
            return None
        start, dataset, backbone = time.perf_counter(), arranged.dataset, plan.parts.backbone
        # An image side that never moves is measured on the backbone's tokens alone.
        needs = plan.parts.needs if any(map(_says, plan.parts.tried)) else frozenset[Need]()
        lent = lend(
            backbone, dataset, arranged.every, TOKENS | needs, arranged.content,
            skip_bad_images=plan.spec.skip_bad_images, progress=progress,
        )  # fmt: skip
        rows = {split: of[lent.place[of] >= 0] for split, of in arranged.rows.items()}
        every = encode_masks(
            backbone, dataset, np.concatenate(list(rows.values())), asked.transfer.size, progress
        )
        ends = np.cumsum([0, *(len(of) for of in rows.values())])
        masks = {s: every.take(np.arange(*ends[i : i + 2])) for i, s in enumerate(rows)}
        assert dataset.regions is not None
        parts = {}
        for split, of in rows.items():
            known = dataset.regions.known(of)
            parts[split] = Part(masks[split], known, masks[split].present() & known, dataset.patient_id[of])
        task = Task(
            dataset.regions.findings, parts["train"], parts["valid"], parts["test"],
            plan.spec.seed, plan.spec.replicates, LEVEL, lent.device,
        )  # fmt: skip
        return cls(plan, task, lent, rows, masks, time.perf_counter() - start)

    def take(self, learner: Guard, step: int) -> None:
        """Measure the image side as it is after experience number ``step``."""
        start = time.perf_counter()
        own = {split: StrategyMaps(self.lent, of, learner, step) for split, of in self.rows.items()}
        first = own["test"].ask(torch.arange(1)) if _says(learner.strategy) else None
        moved = first is not None
        if first is not None:
            for of in own.values():
                of.shape = tuple(first.shape[1:])
        if step and not moved and not self._moved:
            self.measurement.repeat()
        else:
            frozen = {split: BackboneMaps(self.lent, of) for split, of in self.rows.items()}
            maps: Mapping[Split, Maps] = own if moved else frozen
            self.measurement.measure(*(maps[split] for split in SPLITS))
        self._moved, self.moves = moved, self.moves or moved
        self.maps_seconds += sum(of.seconds for of in own.values())
        self.seconds += time.perf_counter() - start

    def repeat(self) -> None:
        """The moment before once more: nothing has been learnt since."""
        self.measurement.repeat()

    def state(self) -> dict[str, torch.Tensor]:
        """Everything measured so far."""
        told = torch.tensor([self.moves, self._moved, self.maps_seconds, self.seconds], dtype=torch.float64)
        return {"moments": told, **self.measurement.state()}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on after what was measured."""
        moves, moved, self.maps_seconds, self.seconds = state["moments"].tolist()
        self.moves, self._moved = bool(moves), bool(moved)
        self.measurement.load({key: value for key, value in state.items() if key != "moments"})

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """What was measured, worked out once, when all of it is."""
        return self.measurement.numbers()

    def document(self) -> dict[str, Any]:
        """What a result holds of it."""
        asked, arranged, task = self.plan.parts.transfer, self.plan.transfer, self.task
        assert asked is not None
        assert arranged is not None
        areas = self.masks["test"].areas().sum(axis=0)
        lost = sum(len(of) for of in arranged.rows.values()) - sum(len(of) for of in self.rows.values())
        unread = [f"{lost:,} images of the transfer cannot be read and are left out"] if lost else []
        return {
            "name": asked.transfer.name,
            "data": asked.called,
            "fingerprint": arranged.dataset.fingerprint,
            "synthetic": arranged.dataset.synthetic,
            "contaminated": arranged.contaminated,
            "settings": asked.identity()["settings"] | {"data": asked.source.settings},
            "findings": list(task.findings),
            **{f"n_{split}": len(of) for split, of in self.rows.items()},
            "n_test_patients": len(np.unique(task.test.patients)),
            "positives_train": task.train.present.sum(axis=0).tolist(),
            "positives_test": task.test.present.sum(axis=0).tolist(),
            "cropped": [float(cut / area) if area else None for area, cut in areas],
            "moves": self.moves,
            **{key: value for key, value in self.numbers.items() if key != "replicates"},
            "notes": [*arranged.notes, *unread, *self.numbers["notes"]],
            "cost": {
                "encode_seconds": round(self.encode_seconds, 3),
                "maps_seconds": round(self.maps_seconds, 3),
                "probe_seconds": round(self.seconds - self.maps_seconds, 3),
            },
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What its numbers follow from, by name."""
        _, patients = np.unique(self.task.test.patients, return_inverse=True)
        replicates = {REPLICATES + key: values for key, values in self.numbers["replicates"].items()}
        return {"patients": patients.astype(np.int64), **replicates, **self.measurement.arrays()}


def _says(strategy: Strategy) -> bool:
    """Whether a strategy can say that its image side moves: on cached vectors it cannot, whatever its class can."""
    return type(strategy).dense is not Strategy.dense and bool(strategy.requires() & PLACED)
