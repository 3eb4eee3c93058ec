"""Texts to pair the images of an experience with: their reports, or captions made of the prompt bank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from retune.errors import StrategyError, UserError

if TYPE_CHECKING:
    import torch

    from retune.methods.given import Context, Training
    from retune.prompts import PromptBank

Pairs = Literal["auto", "reports", "captions"]
"""Where an image's text comes from: reports where there are any, reports or nothing, always captions."""

NEUTRAL: Final = "A chest X-ray."
"""What is said of an image of which no observed label is known."""


@dataclass(frozen=True)
class Captions:
    """The texts that the n images of an experience are paired with.

    Args:
        texts: Distinct texts.
        index: int64 (n,) on the device of the targets; image k's text is ``texts[index[k]]``.
    """

    texts: tuple[str, ...]
    index: torch.Tensor


def captions_of(experience: Training, context: Context, pairs: Pairs = "auto") -> Captions:
    """A text for every image of an experience, the same whenever it is asked for.

    A report is taken as it stands. A caption says a positive prompt of each observed label that is
    present or, where none is, a negative one of one that is absent; which ones is drawn by the
    experience's generator. A label that was not looked for, or is not known of an image, is never mentioned.

    Args:
        experience: Its targets, observed labels and reports.
        context: Labels and prompt bank.
        pairs: ``auto`` takes reports where the experience has them; ``reports`` insists on them;
            ``captions`` leaves them aside. An image whose report is empty gets a caption.

    Raises:
        UserError: If reports are insisted on and there are none, or the bank lacks an observed label.
    """
    import torch

    reports = None if pairs == "captions" else experience.reports
    if pairs == "reports" and (reports is None or not any(map(str.strip, reports))):
        raise UserError(
            "pairs=reports, but the experience has no reports: the data set has none, or a label is hidden "
            "that they would give away",
            fix="choose pairs=auto, or data with reports in the scenario data-incremental",
        )
    said = list(map(str.strip, reports)) if reports else [""] * len(experience)
    if not all(said):
        composed = _composed(experience, context)
        said = [report or caption for report, caption in zip(said, composed, strict=True)]
    place = {text: i for i, text in enumerate(dict.fromkeys(said))}
    index = torch.tensor([place[text] for text in said], dtype=torch.int64)
    return Captions(tuple(place), index.to(experience.targets.device))


def _composed(experience: Training, context: Context) -> list[str]:
    """A caption per image; each distinct choice of sentences is put together once."""
    import torch

    observed = list(experience.annotated)
    if not observed:
        return [NEUTRAL] * len(experience)
    sentences = _sentences(context, observed)
    targets = experience.targets[:, observed].cpu()
    present, absent = targets == 1, targets == 0
    # Drawn for every label, mentioned or not, so that what is drawn for one hangs on no other.
    generator = experience.generator()
    drawn, turn = (torch.rand(*targets.shape, generator=generator) for _ in range(2))
    one = torch.zeros_like(absent).scatter_(1, turn.masked_fill(~absent, -1.0).argmax(1, keepdim=True), True)
    denied = one & absent & ~present.any(1, keepdim=True)
    # Which sentence of each label: those of both polarities in a row, -1 for none.
    choice = torch.full(targets.shape, -1)
    for column, (positive, negative) in enumerate(sentences):
        affirmation = (drawn[:, column] * len(positive)).long()
        denial = len(positive) + (drawn[:, column] * len(negative)).long()
        choice[:, column] = torch.where(denied[:, column], denial, choice[:, column])
        choice[:, column] = torch.where(present[:, column], affirmation, choice[:, column])
    distinct, which = choice.unique(dim=0, return_inverse=True)
    texts = [positive + negative for positive, negative in sentences]
    captions = [
        " ".join(texts[column][k] for column, k in enumerate(row) if k >= 0) or NEUTRAL
        for row in distinct.tolist()
    ]
    return [captions[i] for i in which.tolist()]


def _sentences(context: Context, observed: list[int]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Positive and negative prompts of each observed label, as whole sentences."""
    bank: PromptBank | None = context.bank
    if bank is None:
        raise StrategyError("there is no prompt bank to make captions of")
    labels = [context.labels[c] for c in observed]
    bank.require(labels)
    return [
        (tuple(map(_sentence, bank.positive(label))), tuple(map(_sentence, bank.negative(label))))
        for label in labels
    ]


def _sentence(prompt: str) -> str:
    return prompt if prompt[-1] in ".!?" else f"{prompt}."
