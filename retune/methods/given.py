"""What a strategy is given: images, an experience, a context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from retune.errors import StrategyError
from retune.streams.stream import Experience

if TYPE_CHECKING:
    import torch

    from retune.methods.towers import Towers
    from retune.prompts import PromptBank
    from retune.prompts.embeddings import PromptEmbeddings


Need = Literal[
    "features",
    "joint",
    "texts",
    "tokens",
    "pixels",
    "text-gradients",
    "trainable-tower",
    "prompted-tower",
    "table",
]
"""What a strategy may ask of a backbone; see :data:`retune.backbones.base.MEANINGS`. The last is the data set's."""

OF_DATA: Final[frozenset[Need]] = frozenset({"table"})
"""What no backbone gives: view, sex and age, as the data set's table has them."""

PLACED: Final[frozenset[Need]] = frozenset({"tokens", "pixels"})
"""What shows where in a picture something is: maps can be made of it, and of one vector they cannot."""


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

    @property
    def table(self) -> torch.Tensor:
        """View, sex and age, float32 (N, 10), in the order of :data:`retune.data.attributes.ATTRIBUTES`.

        Raises:
            StrategyError: If the strategy did not declare the need ``table``.
        """
        found: torch.Tensor = self._get("table")
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
        observed: Columns of the labels that have targets in this experience. In a stream whose hidden labels read as
            absent that is every label, and a target of 0 may be of one that nobody looked for.
        seed: Seed of every random draw made while fitting this experience.
        reports: The n images' reports, ``""`` where one has none; None where the data set has none, or
            where the experience hides a label: a report would give it away.
        patients: Whose each image is, int64 (n,) on the CPU: a number that stands for the same patient
            throughout the stream and says nothing else.
        hidden: Columns among the observed that nobody looked for: hidden labels that read as absent.
    """

    images: Images
    targets: torch.Tensor
    observed: tuple[int, ...]
    seed: int
    reports: tuple[str, ...] | None
    patients: torch.Tensor
    hidden: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def annotated(self) -> tuple[int, ...]:
        """Columns of the labels that were looked for: a task's labels, which methods of the field are told, too."""
        return tuple(c for c in self.observed if c not in self.hidden)

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
    told, shown = None if hides else reports, experience.shown
    absent = tuple(c for c in shown if c not in experience.observed)
    return Training(images, targets, shown, step_seed, told, whose, absent)
