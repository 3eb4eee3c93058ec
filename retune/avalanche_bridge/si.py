"""Avalanche's plugin of synaptic intelligence, made to work where the weights are on a CPU."""

from __future__ import annotations

from typing import Any

from retune.avalanche_bridge.quiet import quietly

with quietly():
    from avalanche.training.plugins import SynapticIntelligencePlugin


class CopyingSI(SynapticIntelligencePlugin):  # type: ignore[misc]  # Avalanche has no types.
    """Notes copies of the weights, which Avalanche 0.6 does on a GPU only.

    On a CPU its notes share the weights' memory, so that what they were always equals what they are.
    """

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Note the weights that the penalty pulls to."""
        super().before_training_exp(strategy, **kwargs)
        _part(self.ewc_data[0])

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Note the weights before a step."""
        super().before_training_iteration(strategy, **kwargs)
        _part(self.syn_data["old_theta"])


def _part(notes: dict[str, Any]) -> None:
    for note in notes.values():
        note.data = note.data.clone()
