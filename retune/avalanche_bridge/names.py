"""Which of Avalanche's strategies run here as ``avalanche:NAME``, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from retune.errors import UnknownName, UserError

if TYPE_CHECKING:
    from retune.methods.strategy import Strategy

PREFIX: Final = "avalanche:"
DISTRIBUTION: Final = "avalanche-lib"

SUPPORTED: Final[Mapping[str, str]] = {
    "AGEM": "Gradients projected so that the mean loss on remembered images does not rise.",
    "Cumulative": "Trains on the images of all experiences so far; keeps every one of them.",
    "EWC": "Elastic weight consolidation: weights that mattered are held by a quadratic penalty.",
    "GEM": "Gradients projected so that no earlier experience's loss rises; needs quadprog.",
    "LwF": "Learning without forgetting: distils the softmax over the labels seen so far.",
    "MAS": "Memory aware synapses: weights that the output is sensitive to are held.",
    "Naive": "Fine-tuning through the stream, nothing else.",
    "Replay": "Batches half of new and half of remembered images.",
    "SynapticIntelligence": "Weights that lowered the loss along the way are held.",
}
"""What each does, in a line."""

KEEPING: Final = frozenset({"AGEM", "Cumulative", "GEM", "Replay"})
"""Those that keep images."""

_ONE_CLASS = (
    "it asks each image for its one class (int(target)), and an image here has any number of findings"
)
_MEMORY = f"its memory is balanced by class: {_ONE_CLASS}"
_ARG_MAX = "it labels what it replays by arg-max, so that an image would have one finding, always"
_CROSS_ENTROPY = "its loss is a cross-entropy between classes that exclude each other"
_PIXELS = "it brings a network of its own that takes pictures"
_TASK = "it must be told which experience a test image belongs to"

REFUSED: Final[Mapping[str, str]] = {
    "AETraining": "it trains an auto-encoder, not a classifier",
    "AR1": _PIXELS,
    "BiC": _ONE_CLASS,
    "CWRStar": f"it counts examples by class: {_ONE_CLASS}",
    "CoPE": _MEMORY,
    "DER": _MEMORY,
    "ER_ACE": _MEMORY,
    "ER_AML": _MEMORY,
    "ExpertGateStrategy": _PIXELS,
    "FeatureReplay": _MEMORY,
    "FromScratchTraining": "it forgets everything before each experience",
    "GDumb": _MEMORY,
    "GSS_greedy": "its memory holds one whole number for each image, not a row of findings",
    "GenerativeReplay": _ARG_MAX,
    "ICaRL": "it classifies by the nearest mean of classes that exclude each other",
    "JointTraining": "it trains once, on a whole stream; take joint, or avalanche:Cumulative",
    "LFL": "it freezes the last layer after the first experience, and later labels would not be learnt",
    "LaMAML": "it needs the package higher, which torch has outgrown",
    "LearningToPrompt": f"{_PIXELS}, and {_CROSS_ENTROPY}",
    "MER": "its memory is read as one whole number for each image, not a row of findings",
    "MIR": _MEMORY,
    "OnlineNaive": "it is Naive with one epoch: take avalanche:Naive and --set epochs=1",
    "PNNStrategy": _TASK,
    "PackNet": _TASK,
    "SCR": _MEMORY,
    "StreamingLDA": _ONE_CLASS,
    "VAETraining": "it trains an auto-encoder, not a classifier",
}
"""Why the others are not run: most cannot be, on labels of which an image has any number."""


def is_bridged(name: str) -> bool:
    """Whether a strategy is addressed as one of Avalanche's."""
    return name.startswith(PREFIX)


def require_supported(name: str) -> str:
    """The plain name behind ``avalanche:``.

    Args:
        name: Such as ``avalanche:EWC``.

    Raises:
        UnknownName: If Avalanche has no such strategy, or none that is known here.
        UserError: If it has, but not one that can be run honestly; says why.
    """
    plain = name.removeprefix(PREFIX)
    if plain in REFUSED:
        raise UserError(
            f"Avalanche's {plain} is not run here: {REFUSED[plain]}",
            where=f"strategy {name}",
            fix=f"these are: {', '.join(SUPPORTED)}",
        )
    if plain not in SUPPORTED:
        raise UnknownName("strategy", name, (PREFIX + known for known in (*SUPPORTED, *REFUSED)))
    return plain


def load(name: str) -> type[Strategy]:
    """The class that runs one of Avalanche's strategies; Avalanche itself is not imported yet.

    Args:
        name: Such as ``avalanche:EWC``.

    Raises:
        UserError: If there is none.
    """
    plain = require_supported(name)
    module = "rehearsal" if plain in KEEPING else "penalties"
    found: type[Strategy] = getattr(import_module(f"retune.avalanche_bridge.{module}"), plain)
    return found


def origin() -> str:
    """The distribution that brings the implementations, with its version."""
    try:
        return f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    except PackageNotFoundError:
        return DISTRIBUTION
