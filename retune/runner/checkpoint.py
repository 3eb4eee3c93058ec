"""What a run has done so far, in one file that is replaced whole after every experience."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from retune.files import write_whole
from retune.methods.strategy import State
from retune.results.result import CHECKPOINT_FILE
from retune.runner.kept import pack, unpack
from retune.sealed import AGAIN, Untrusted


@dataclass(frozen=True)
class Checkpoint:
    """A run after some experience.

    Args:
        run_id: Of which run.
        scores: Test scores before training and after each experience so far, float32 or float64 (t+1, N, C).
        state: The strategy's state.
        progress: Further JSON values: frozen thresholds, seconds.
        transfer: What was measured of a transfer so far.
    """

    run_id: str
    scores: torch.Tensor
    state: State
    progress: dict[str, Any]
    transfer: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """How many experiences are done."""
        return len(self.scores) - 1

    def write(self, folder: Path) -> None:
        """Replace the checkpoint in a run's folder.

        Raises:
            StrategyError: If the state cannot be stored.
        """
        beside = {f"transfer.{k}": v for k, v in self.transfer.items()} | {"scores": self.scores}
        sealed, _ = pack(self.state, {"run_id": self.run_id, "progress": self.progress}, beside)
        write_whole(folder / CHECKPOINT_FILE, sealed)

    @classmethod
    def read(cls, folder: Path, run_id: str) -> Checkpoint | None:
        """The checkpoint in a run's folder; None if there is none.

        Raises:
            Untrusted: If it is not as it was written, no checkpoint, or another run's.
        """
        path = folder / CHECKPOINT_FILE
        if not path.exists():
            return None
        found = unpack(path.read_bytes(), path, "checkpoint", fix=AGAIN)
        try:
            of, progress, scores = found.about["run_id"], found.about["progress"], found.beside.pop("scores")
        except KeyError:
            raise Untrusted("is no checkpoint", where=str(path), fix=AGAIN) from None
        if of != run_id:
            raise Untrusted(f"is of another run ({of})", where=str(path), fix=AGAIN)
        transfer = {key.removeprefix("transfer."): value for key, value in found.beside.items()}
        return cls(run_id, scores, found.state, progress, transfer)
