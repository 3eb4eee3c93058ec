"""The contract of a strategy: what it is given, and what it must answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from retune.methods.given import Context, Images, Need, Training

if TYPE_CHECKING:
    import torch


State = dict[str, Any]
CODE: Final = "the authors' code"
"""A source of published figures."""


@dataclass(frozen=True)
class Figure:
    """A published figure beside ours.

    Args:
        name: What it counts.
        published: As the paper or its code has it.
        ours: As counted on what we build.
        source: Where it was published.
        unit: ``parameters`` or ``%``.
    """

    name: str
    published: float
    ours: float
    source: str
    unit: str = "parameters"


class Strategy(ABC):
    """A method that learns over a stream; a dataclass whose fields are its settings.

    The runner calls :meth:`setup` once, then :meth:`fit` and :meth:`score` after each other for
    every experience. On resuming, :meth:`setup` is followed by :meth:`load_state_dict`.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    paper: ClassVar[str] = ""
    needs: ClassVar[frozenset[Need]] = frozenset({"features", "joint"})
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named settings: ``re-tune/paper`` is ``re-tune`` with the settings of its preset ``paper``."""
    sees_everything: ClassVar[bool] = False
    """An upper bound: it is given all training images and all labels at once, and marked so."""
    floor: ClassVar[bool] = False
    """A lower bound: what it learns from says nothing of a finding, or little, so that what it reaches is no merit. It
    stands in tables beside the methods, marked so, and is not ranked among them."""
    optimises: ClassVar[bool] = True
    """Whether ``fit`` may use an optimiser of PyTorch. The first of a process imports for a second, which is
    done before the time of learning is taken; closed forms are spared it."""
    keeps_samples: ClassVar[bool] = False
    """Whether anything of single past images is kept. It then stands in :meth:`state_dict` under keys that
    start with ``memory.``, where the runner meters it; see :mod:`retune.methods.memory`."""
    statistics: ClassVar[frozenset[str]] = frozenset()
    """Attributes, or keys of :meth:`state_dict`, that ``fit`` changes and that are no parameters: sums that
    parameters are worked out from, importances, the copy of an earlier model. They are not counted."""

    def requires(self) -> frozenset[Need]:
        """What these settings ask of a backbone; ``needs`` where they make no difference."""
        return self.needs

    def setup(self, context: Context) -> None:
        """Prepare for scoring before any training.

        Args:
            context: Labels, dimension, prompts, seed.
        """
        self.context = context

    @abstractmethod
    def fit(self, experience: Training) -> None:
        """Learn from one experience.

        Args:
            experience: Its images and masked targets, and no other experience's.
        """

    @abstractmethod
    def score(self, images: Images) -> torch.Tensor:
        """Score every label, the not yet learnt ones included.

        Args:
            images: N images. A row of the answer must not depend on the other rows.

        Returns:
            (N, C) logits, float32 or as precise as they are to be ranked; higher means more likely present.
        """

    def dense(self, images: Images) -> torch.Tensor | None:
        """What the image side has become: a map of features for each image, for ``--transfer``.

        Args:
            images: N images of whatever these settings require. It is asked only where that is tokens or pixels.

        Returns:
            float32 (N, D, g, g), patches row by row; a row must not depend on the other rows, nor the state change.
            None while the image side is the backbone's own, as it is where a method learns on cached vectors.
        """
        return None

    def state_dict(self) -> State:
        """Everything learnt, as tensors and JSON values."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Take up what :meth:`state_dict` gave.

        Args:
            state: As returned by :meth:`state_dict`.
        """

    def trainable_parameters(self) -> int:
        """How many parameters have been trained so far.

        There is no need to say it: the runner counts what :meth:`fit` changes, and the larger number is recorded.
        """
        return 0

    def diagnostics(self) -> Mapping[str, Any]:
        """Whatever else of its state a reader should know, as JSON values; it goes into the result."""
        return {}

    @classmethod
    def published_figures(cls) -> Sequence[Figure]:
        """The paper's figures beside those of the published architecture built here, without allocating it."""
        return ()

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """Trainable parameters of each variant, for the card.

        Args:
            dim: Dimension d of the joint space.
            n_labels: Number of labels C.
        """
        return {}
