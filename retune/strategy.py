"""The contract of a strategy: what it is given, and what it must answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from retune.errors import StrategyError
from retune.streams.stream import Experience

if TYPE_CHECKING:
    import torch

    from retune.prompts import PromptBank
    from retune.prompts.embeddings import PromptEmbeddings
    from retune.towers import Towers

Need = Literal[
    "features", "joint", "texts", "tokens", "pixels", "text-gradients", "trainable-tower", "prompted-tower"
]
"""What a strategy may ask of a backbone; see :data:`retune.backbones.base.MEANINGS`."""
State = dict[str, Any]


class Lazy(Protocol):
    """Values too large to be in memory at once: rows are copied out when they are asked for."""

    shape: tuple[int, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Images:
    """Images as a strategy may see them: only what it declared to need.

    Args:
        n: Number of images.
        sources: How to get each kind of input; called when it is asked for.
    """

    n: int
    sources: Mapping[str, Callable[[], Any]]

    def __len__(self) -> int:
        return self.n

    @property
    def features(self) -> torch.Tensor:
        """Backbone embeddings, float32 (N, d), not normalised; copied at every access.

        Raises:
            StrategyError: If the strategy did not declare the need ``features``.
        """
        found: torch.Tensor = self._get("features")
        return found

    @property
    def tokens(self) -> Lazy:
        """Embedded patches of shape (N, T, w): ``tokens[index]`` copies rows (k,) to float32 (k, T, w).

        Raises:
            StrategyError: If the strategy did not declare the need ``tokens``.
        """
        found: Lazy = self._get("tokens")
        return found

    @property
    def pixels(self) -> Lazy:
        """Preprocessed pictures of shape (N, S, S): ``pixels[index]`` copies rows (k,) to uint8 (k, S, S).

        Raises:
            StrategyError: If the strategy did not declare the need ``pixels``.
        """
        found: Lazy = self._get("pixels")
        return found

    def _get(self, kind: str) -> Any:
        if kind not in self.sources:
            raise StrategyError(f"the strategy asks for {kind} without declaring it in 'needs'")
        return self.sources[kind]()


@dataclass(frozen=True)
class Training:
    """One experience with its images, as handed to :meth:`Strategy.fit`.

    Args:
        images: The n training images.
        targets: float32 (n, C); NaN where a label is not observed or unknown.
        observed: Columns of the labels observed in this experience.
        seed: Seed of every random draw made while fitting this experience.
        reports: The n images' reports, ``""`` where one has none; None where the data set has none, or
            where the experience hides a label: a report would give it away.
        patients: Whose each image is, int64 (n,) on the CPU: a number that stands for the same patient
            throughout the stream and says nothing else.
    """

    images: Images
    targets: torch.Tensor
    observed: tuple[int, ...]
    seed: int
    reports: tuple[str, ...] | None
    patients: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def generator(self) -> torch.Generator:
        """A fresh random generator, on the CPU, that depends on the run's seed and the step only."""
        import torch

        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class Context:
    """What a strategy knows before the first experience.

    Args:
        labels: Names of the C labels that scores are wanted for.
        dim: Dimension d of an image's vector.
        prompts: Embedded positive and negative prompts of every label; of no rows where the backbone
            embeds no texts.
        seed: The run's seed.
        device: Where features are, and where parameters belong: ``"cpu"``, ``"cuda:0"`` ...
        bank: The prompts as texts.
        towers: What else the backbone can do, as far as the strategy declared to need it.
    """

    labels: tuple[str, ...]
    dim: int
    prompts: PromptEmbeddings
    seed: int
    device: str = "cpu"
    bank: PromptBank | None = None
    towers: Towers | None = None


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
    keeps_samples: ClassVar[bool] = False
    """Whether anything of single past images is kept. It then stands in :meth:`state_dict` under keys that
    start with ``memory.``, where the runner meters it; see :mod:`retune.memory`."""

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
            float32 (N, C) logits; higher means more likely present.
        """

    def state_dict(self) -> State:
        """Everything learnt, as tensors and JSON values."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Take up what :meth:`state_dict` gave.

        Args:
            state: As returned by :meth:`state_dict`.
        """

    def trainable_parameters(self) -> int:
        """How many parameters have been trained so far."""
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


def training(
    experience: Experience,
    images: Images,
    seed: int,
    device: str = "cpu",
    reports: tuple[str, ...] | None = None,
    patients: npt.NDArray[np.int64] | None = None,
) -> Training:
    """Pair an experience with its images.

    Args:
        experience: From a stream.
        images: Its images in the order of ``experience.rows``.
        seed: The run's seed.
        device: Where the targets belong.
        reports: The images' reports; withheld where the experience hides a label.
        patients: A number for each image's patient, (n,); each image is its own patient where left out.
    """
    import torch

    step_seed = int(np.random.SeedSequence([seed, experience.step]).generate_state(1, np.uint64)[0] >> 1)
    # A copy: whatever a strategy does to its targets must not reach the stream.
    targets = torch.from_numpy(experience.targets.copy()).to(device)
    hides = len(experience.observed) < experience.targets.shape[1]
    whose = torch.arange(len(targets)) if patients is None else torch.from_numpy(patients)
    return Training(images, targets, experience.observed, step_seed, None if hides else reports, whose)
