"""Whether a backbone saw, in pre-training, the data it is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from retune.backbones.base import BackboneCard

Contaminated = Literal["no", "possibly", "yes"]


def contamination(card: BackboneCard, origins: Sequence[str], *, synthetic: bool = False) -> Contaminated:
    """Compare a backbone's pre-training data with the data sets of a run.

    A data set counts as seen whichever of its splits was: test patients of one release have been
    training patients of another.

    Args:
        card: The backbone's.
        origins: Names of the data sets whose images the run uses.
        synthetic: Whether the images were computed by retune, so that nobody else's model saw them.

    Returns:
        ``yes`` where a data set is known to be among them, ``possibly`` where it may be or nobody says.
    """
    if any(name in card.pretraining_data for name in origins):
        return "yes"
    if synthetic:
        return "no"
    if "unknown" in card.pretraining_data or any(name in card.may_include for name in origins):
        return "possibly"
    return "no"
