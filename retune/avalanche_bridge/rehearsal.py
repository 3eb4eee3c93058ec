"""Avalanche's methods that keep images, here as features: replay, projected gradients, everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import torch

from retune.avalanche_bridge.base import Bridged
from retune.avalanche_bridge.memory import Remembered, datasets_of, groups_of, kept, rows_of
from retune.errors import BadSetting, MissingPackage, install
from retune.methods.given import Context, Training
from retune.methods.strategy import State
from retune.settings import Count, NonNegative


@dataclass
class Replay(Bridged):
    """Replay of random images, the same number of each experience; half of every batch is remembered.

    Args:
        mem_size: Images remembered.
    """

    keeps_samples: ClassVar[bool] = True

    mem_size: Count = 200

    def learnt(self) -> Iterator[tuple[str, Any]]:
        """The images of each experience; the places that they drew decide who goes first."""
        groups = [group for group in self._policy.buffer_groups.values() if len(group.buffer)]
        yield from kept([rows_of(group.buffer) for group in groups])
        if groups:
            yield "memory.places", torch.cat([group._buffer_weights for group in groups])

    def take_up(self, state: State) -> None:
        """Fill the buffers of all experiences so far."""
        from avalanche.training.storage_policy import ReservoirSamplingBuffer

        policy, done = self._policy, state["experiences"]
        policy._num_exps = done
        datasets = datasets_of(state)
        places = iter(state["memory.places"].split([len(d) for d in datasets]) if datasets else ())
        for g, size in enumerate(policy.get_group_lengths(done) if done else ()):
            policy.buffer_groups[g] = buffer = ReservoirSamplingBuffer(size)
            if g < len(datasets):
                buffer.buffer, buffer._buffer_weights = datasets[g], next(places).cpu()

    @property
    def _policy(self) -> Any:
        return self.plugin.storage_policy


@dataclass
class Cumulative(Bridged):
    """Trains on all images of all experiences so far: no continual method, for it keeps every one of them.

    Labels stay masked as they were shown.
    """

    keeps_samples: ClassVar[bool] = True

    def learnt(self) -> Iterator[tuple[str, Any]]:
        """Everything seen."""
        yield from kept([] if self.agent.dataset is None else [rows_of(self.agent.dataset)])

    def take_up(self, state: State) -> None:
        """Everything seen."""
        self.agent.dataset = next(iter(datasets_of(state)), None)


@dataclass
class AGEM(Bridged):
    """A-GEM (Chaudhry et al., arXiv 1812.00420).

    Args:
        patterns_per_exp: Images remembered of each experience.
        sample_size: Remembered images that a step's reference gradient is of.
    """

    paper: ClassVar[str] = "Chaudhry et al., arXiv 1812.00420"
    keeps_samples: ClassVar[bool] = True

    patterns_per_exp: Count = 256
    sample_size: Count = 256

    def fit(self, experience: Training) -> None:
        """See :meth:`Strategy.fit`; Avalanche takes the same number of images of every experience."""
        if self.sample_size <= len(self.plugin.buffers):
            raise BadSetting(
                f"{self.sample_size} is fewer than the experiences of the stream",
                where=f"strategy {self.name}, setting sample_size",
            )
        super().fit(experience)

    def learnt(self) -> Iterator[tuple[str, Any]]:
        """The images of each experience."""
        yield from kept([rows_of(buffer) for buffer in self.plugin.buffers])

    def take_up(self, state: State) -> None:
        """Let Avalanche take in the images of each experience again: so few are taken whole."""
        self.plugin.buffers.clear()
        for dataset in datasets_of(state):
            self.plugin.update_memory(dataset)


@dataclass
class GEM(Bridged):
    """Gradient episodic memory (Lopez-Paz & Ranzato, arXiv 1706.08840); needs the package quadprog.

    Args:
        patterns_per_exp: Images remembered of each experience.
        memory_strength: How far gradients are turned towards the remembered ones'.
    """

    paper: ClassVar[str] = "Lopez-Paz & Ranzato, arXiv 1706.08840"
    keeps_samples: ClassVar[bool] = True

    patterns_per_exp: Count = 256
    memory_strength: NonNegative = 0.5

    def setup(self, context: Context) -> None:
        """See :meth:`Strategy.setup`."""
        if find_spec("quadprog") is None:
            raise MissingPackage(
                "Avalanche's GEM solves its quadratic program with the package quadprog",
                where=f"strategy {self.name}",
                fix=install("gem"),
            )
        super().setup(context)

    def learnt(self) -> Iterator[tuple[str, Any]]:
        """The images of each experience."""
        memory: list[Remembered] = list(
            zip(self.plugin.memory_x.values(), self.plugin.memory_y.values(), strict=True)
        )
        yield from kept(memory)

    def take_up(self, state: State) -> None:
        """The images of each experience; all of one task."""
        for t, (features, targets) in enumerate(groups_of(state)):
            self.plugin.memory_x[t], self.plugin.memory_y[t] = features, targets
            self.plugin.memory_tid[t] = targets.new_zeros(len(targets), dtype=torch.int64)
