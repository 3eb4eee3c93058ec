"""Captions say what is known of an image and nothing else, the same every time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from retune import Context, Images, PromptBank, Training
from retune.errors import UserError
from retune.methods.captions import NEUTRAL, captions_of
from retune.prompts import Prompt, Source
from retune.prompts.embeddings import PromptEmbeddings

LABELS = ("Edema", "Fracture", "Mass")
NAN = float("nan")
SOURCE = Source("somebody", "made up", "2026-01-01", "hand-written")


def bank(labels: Sequence[str] = LABELS) -> PromptBank:
    """Three prompts of either polarity; the third lacks its full stop."""
    return PromptBank(
        "made-up",
        tuple(
            Prompt(label, polarity, f"{label} {polarity} {k}" + "." * (k < 2), SOURCE)
            for label in labels
            for polarity in ("positive", "negative")
            for k in range(3)
        ),
    )


def context(prompts: PromptBank | None = None) -> Context:
    nothing, index = torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)
    return Context(
        LABELS, 2, PromptEmbeddings(nothing, index, nothing, index, LABELS), 0, bank=prompts or bank()
    )


def experience(
    targets: Sequence[Sequence[float]],
    observed: tuple[int, ...] = (0, 1, 2),
    seed: int = 5,
    reports: tuple[str, ...] | None = None,
) -> Training:
    values = torch.tensor(targets, dtype=torch.float32).reshape(len(targets), 3)
    return Training(Images(len(targets), {}), values, observed, seed, reports, torch.arange(len(targets)))


def said(part: Training, **options: str) -> list[str]:
    """The text of each image."""
    captions = captions_of(part, context(), **options)  # type: ignore[arg-type]
    assert len(set(captions.texts)) == len(captions.texts)
    assert captions.index.dtype == torch.int64
    return [captions.texts[i] for i in captions.index.tolist()]


EVERY_CASE = list(itertools.product([0.0, 1.0, NAN], repeat=3)) * 8


def test_every_present_label_is_affirmed_and_else_one_absent_label_denied() -> None:
    for row, text in zip(EVERY_CASE, said(experience(EVERY_CASE)), strict=True):
        sentences = [s.strip() for s in text.split(".") if s.strip()]
        present = [label for label, value in zip(LABELS, row, strict=True) if value == 1]
        absent = [label for label, value in zip(LABELS, row, strict=True) if value == 0]
        assert text.endswith(".")
        if present:
            assert [s.rsplit(" ", 1)[0] for s in sentences] == [f"{label} positive" for label in present]
        elif absent:
            assert len(sentences) == 1
            assert sentences[0].rsplit(" ", 1)[0] in [f"{label} negative" for label in absent]
        else:
            assert text == NEUTRAL


def test_unobserved_labels_are_never_mentioned() -> None:
    # Even where their values are in the table by mistake.
    texts = said(experience([(1, 0, 1), (0, 1, 0), (1, 1, 1)] * 20, observed=(0, 2)))
    assert not any("Fracture" in text for text in texts)
    assert all("positive" in text for text in texts[0::3])
    assert all("negative" in text for text in texts[1::3])


def test_all_prompts_and_all_absent_labels_have_their_turn() -> None:
    affirmed = said(experience([(1, 0, 0)] * 100))
    assert {text.rstrip(".") for text in affirmed} == {f"Edema positive {k}" for k in range(3)}
    denied = said(experience([(0, 0, 0)] * 200))
    assert {text.rstrip(".") for text in denied} == {f"{la} negative {k}" for la in LABELS for k in range(3)}


def test_the_same_every_time_and_another_with_another_seed() -> None:
    assert said(experience(EVERY_CASE)) == said(experience(EVERY_CASE))
    assert said(experience(EVERY_CASE)) != said(experience(EVERY_CASE, seed=6))


def test_no_global_randomness() -> None:
    torch.manual_seed(0)
    first, state = said(experience(EVERY_CASE)), torch.get_rng_state()
    torch.manual_seed(1)
    assert said(experience(EVERY_CASE)) == first
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("pairs", ["auto", "reports"])
def test_reports_stand_as_they_are_and_an_empty_one_is_made_up_for(pairs: str) -> None:
    part = experience([(1, 0, 0)] * 4, reports=("Lungs wet.", " ", "Lungs wet.", "Heart large"))
    texts = said(part, pairs=pairs)
    assert [texts[0], texts[2], texts[3]] == ["Lungs wet.", "Lungs wet.", "Heart large"]
    assert texts[1].startswith("Edema positive")


def test_captions_leave_reports_aside() -> None:
    part = experience(EVERY_CASE, reports=("A report.",) * len(EVERY_CASE))
    assert said(part, pairs="captions") == said(experience(EVERY_CASE))


@pytest.mark.parametrize("reports", [None, ("", " ")])
def test_reports_that_are_not_there_cannot_be_insisted_on(reports: tuple[str, ...] | None) -> None:
    with pytest.raises(UserError, match=r"no reports.*choose pairs=auto"):
        captions_of(experience([(1, 0, 0), (0, 0, 0)], reports=reports), context(), "reports")


def test_a_label_without_prompts_is_named() -> None:
    part = experience([(1, 0, 0)], observed=(0, 2))
    with pytest.raises(UserError, match="'Mass'"):
        captions_of(part, replace(context(), bank=bank(LABELS[:2])))
    # A label that is not observed needs none.
    assert captions_of(replace(part, observed=(0,)), replace(context(), bank=bank(LABELS[:2]))).texts


@pytest.mark.parametrize("observed", [(), (0,)])
def test_no_images_or_no_labels(observed: tuple[int, ...]) -> None:
    assert said(experience([], observed=observed)) == []
    assert said(experience([(NAN, NAN, NAN)] * 3, observed=observed)) == [NEUTRAL] * 3
