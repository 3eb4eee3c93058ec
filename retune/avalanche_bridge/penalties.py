"""Avalanche's methods that keep no image: fine-tuning, penalties on weights, distillation."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from retune.avalanche_bridge.base import Bridged
from retune.avalanche_bridge.state import dumped, loaded
from retune.methods.strategy import State
from retune.settings import NonNegative, Positive, Unit


@dataclass
class Naive(Bridged):
    """Fine-tuning through the stream; nothing protects old labels."""


@dataclass
class EWC(Bridged):
    """Elastic weight consolidation (Kirkpatrick et al., arXiv 1612.00796).

    A weight's importance is Avalanche's: the mean over batches of the squared gradient of a batch's mean
    loss, so it depends on the batch size. Squares of gradients of means over images and labels are small: at Avalanche's
    weight the penalty does nothing here. That of the preset was chosen on further draws of phantom.

    Args:
        ewc_lambda: Weight of the penalty.
        mode: separate, a penalty for each experience; online, one, decaying.
        decay_factor: What is left of old importances after an experience; of mode online only.
    """

    paper: ClassVar[str] = "Kirkpatrick et al., arXiv 1612.00796"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"trunk": {"head": "trunk", "ewc_lambda": 3e4}}

    ewc_lambda: NonNegative = 0.4
    mode: Literal["separate", "online"] = "separate"
    decay_factor: Unit = 0.1

    def own_settings(self) -> dict[str, Any]:
        """Avalanche refuses a decay where none is used."""
        online = self.mode == "online"
        return {**super().own_settings(), "decay_factor": self.decay_factor if online else None}

    def learnt(self) -> Iterator[tuple[str, Any]]:
        """Weights and importances after each experience."""
        yield from dumped("saved_params", self.plugin.saved_params)
        yield from dumped("importances", self.plugin.importances)

    def take_up(self, state: State) -> None:
        """Weights and importances."""
        self.plugin.saved_params.update(loaded("saved_params", state, self.context.device))
        self.plugin.importances.update(loaded("importances", state, self.context.device))


@dataclass
class SynapticIntelligence(Bridged):
    """Synaptic intelligence (Zenke et al., arXiv 1703.04200), as Maltoni & Lomonaco (arXiv 1806.08568) have it.

    Avalanche 0.6's plugin notes weights without copying them where they are on a CPU: they change under it,
    every step seems to be none, and its penalty is 0 whatever its weight. Here what it notes is copied, which
    makes it on a CPU what it is on a GPU. It clips importances at 0.001, so that si_lambda counts in thousands.

    Args:
        si_lambda: Weight of the penalty; Avalanche's class has no default and its examples 0.0001.
        eps: Damping of the importances.
    """

    paper: ClassVar[str] = "Zenke et al., arXiv 1703.04200"

    si_lambda: NonNegative = 1e-4
    eps: Positive = 1e-7

    def make(self, **common: Any) -> Any:
        """The plugin in place of the class that only wraps it."""
        from avalanche.training.templates import SupervisedTemplate

        from retune.avalanche_bridge.si import CopyingSI

        return SupervisedTemplate(**common, plugins=[CopyingSI(**self.own_settings())])

    def learnt(self) -> Iterator[tuple[str, Any]]:
        """Importances, and the paths that they are made from."""
        yield from dumped("ewc_data", self.plugin.ewc_data)
        yield from dumped("syn_data", self.plugin.syn_data)

    def take_up(self, state: State) -> None:
        """Avalanche keeps all of them on the CPU."""
        for step, values in loaded("ewc_data", state, "cpu").items():
            self.plugin.ewc_data[step].update(values)
        for step, values in loaded("syn_data", state, "cpu").items():
            self.plugin.syn_data[step].update(values)


@dataclass
class MAS(Bridged):
    """Memory aware synapses (Aljundi et al., arXiv 1711.09601).

    Importance is the gradient of the squared length of all labels' logits, the not yet seen ones included.

    Args:
        lambda_reg: Weight of the penalty.
        alpha: Share of old importances in the mean with new ones.
    """

    paper: ClassVar[str] = "Aljundi et al., arXiv 1711.09601"

    lambda_reg: NonNegative = 1.0
    alpha: Unit = 0.5

    def learnt(self) -> Iterator[tuple[str, Any]]:
        """Weights and importances."""
        yield from dumped("params", self.plugin.params)
        yield from dumped("importance", self.plugin.importance)

    def take_up(self, state: State) -> None:
        """Weights and importances."""
        self.plugin.params = loaded("params", state, self.context.device) or None
        self.plugin.importance = loaded("importance", state, self.context.device) or None


class _Targets(NamedTuple):
    """As Avalanche asks for the classes of a task: ``task_set[0].targets.uniques``."""

    uniques: frozenset[int]


class _Task(NamedTuple):
    targets: _Targets


@dataclass
class LwF(Bridged):
    """Learning without forgetting (Li & Hoiem, arXiv 1606.09282), distilling a softmax as Avalanche defines it.

    Beware: the softmax runs over the labels seen so far as if they excluded each other. It holds on to which
    finding is likelier than which in an image, not to how likely each is; of one label it holds nothing. The
    multi-label forms of LwF distil every sigmoid instead. Avalanche asks a data set for its classes, which
    are here the labels that the experience observes.

    Args:
        alpha: Weight of the distillation.
        temperature: Of the softmax.
    """

    paper: ClassVar[str] = "Li & Hoiem, arXiv 1606.09282"

    alpha: NonNegative = 1.0
    temperature: Positive = 2.0

    def prepare(self, dataset: Any, observed: tuple[int, ...]) -> None:
        """Answer what Avalanche asks: the classes of the one task of this experience."""
        dataset.task_set = {0: _Task(_Targets(frozenset(observed)))}

    def learnt(self) -> Iterator[tuple[str, Any]]:
        """Only which labels were seen: after an experience, the teacher is the head itself."""
        yield "classes", sorted(self.plugin.lwf.prev_classes_by_task.get(0, ()))

    def take_up(self, state: State) -> None:
        """Make the teacher again."""
        lwf = self.plugin.lwf
        lwf.expcount = state["experiences"]
        if lwf.expcount:
            lwf.prev_model, lwf.prev_classes_by_task[0] = copy.deepcopy(self.model), set(state["classes"])
