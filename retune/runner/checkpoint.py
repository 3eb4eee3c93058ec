"""What a run has done so far, in one file that is replaced whole after every experience."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from retune.errors import StrategyError, gist
from retune.files import parse_json, write_whole
from retune.methods.strategy import State
from retune.results.result import CHECKPOINT_FILE
from retune.sealed import AGAIN, Untrusted, open_tensors, seal_tensors


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
        tensors = {k: v for k, v in self.state.items() if isinstance(v, torch.Tensor)}
        plain = {k: v for k, v in self.state.items() if k not in tensors}
        about = {"run_id": self.run_id, "state": plain, "progress": self.progress}
        try:
            # Clones: the format refuses tensors that share memory.
            arrays = {f"state.{k}": v.detach().clone().contiguous() for k, v in tensors.items()}
            arrays |= {f"transfer.{k}": v.contiguous() for k, v in self.transfer.items()}
            data = save({**arrays, "scores": self.scores.contiguous()}, {"retune": json.dumps(about)})
        except (SafetensorError, RuntimeError, TypeError, ValueError, KeyError) as error:
            raise StrategyError(f"the state cannot be stored ({gist(error)})") from error
        sealed, _ = seal_tensors(data)
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
        data, metadata = open_tensors(path)
        try:
            about, tensors = parse_json(metadata["retune"]), load(data)
            of, plain, progress, scores = (
                about["run_id"],
                about["state"],
                about["progress"],
                tensors.pop("scores"),
            )
        except (ValueError, KeyError, TypeError):
            raise Untrusted("is no checkpoint", where=str(path), fix=AGAIN) from None
        if of != run_id:
            raise Untrusted(f"is of another run ({of})", where=str(path), fix=AGAIN)
        of_kind = {
            kind: {key.removeprefix(kind): value for key, value in tensors.items() if key.startswith(kind)}
            for kind in ("state.", "transfer.")
        }
        return cls(run_id, scores, {**of_kind["state."], **plain}, progress, of_kind["transfer."])
