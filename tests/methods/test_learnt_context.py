"""Learnt words of a prompt: where they stand, what they start from, and what is refused."""

from __future__ import annotations

import pytest
import torch

from retune import load_backbone
from retune.backbones.base import TextPath
from retune.errors import UserError
from retune.methods.learnt_context import LearntContext, affirmed_and_denied

BASE = "Chest radiograph with findings of"


@pytest.fixture(scope="module")
def path() -> TextPath:
    return load_backbone("phantom-clip", device="cpu").text_path()


def test_untrained_it_is_the_base_sentence_before_each_class(path: TextPath) -> None:
    prompt = LearntContext(path, ["edema", "no pneumothorax"], BASE)
    start = prompt.start()
    assert start.shape == (5, path.width)
    # [BOS] and [EOS] stand around the base's five words.
    words, mask = path.embed([BASE])
    assert torch.equal(start, words[0][mask[0]][1:-1])
    whole = [f"{BASE} edema", f"{BASE} no pneumothorax"]
    found, there = prompt.prompts(start)
    expected, expected_mask = path.embed(whole)
    assert torch.equal(there, expected_mask)
    assert torch.equal(found[there], expected[expected_mask])
    torch.testing.assert_close(prompt.encode(start), path.encode(expected, expected_mask))
    torch.testing.assert_close(prompt.encode(start, torch.tensor([1])), path.encode(*path.embed(whole[1:])))


@pytest.mark.parametrize("length", [1, 4, 5, 12])
def test_a_base_is_repeated_or_cut_to_length(path: TextPath, length: int) -> None:
    start = LearntContext(path, ["edema"], BASE, length=length).start()
    once = LearntContext(path, ["edema"], BASE).start()
    assert start.shape == (length, path.width)
    assert all(torch.equal(start[k], once[k % 5]) for k in range(length))


def test_only_the_context_gets_a_gradient(path: TextPath) -> None:
    prompt = LearntContext(path, ["edema", "no edema"], BASE)
    module = path.module.requires_grad_(False)
    context = prompt.start()
    prompt.encode(context).square().sum().backward()
    assert context.grad is not None
    assert (context.grad.abs().sum(dim=1) > 0).all()
    assert all(p.grad is None for p in module.parameters())


def test_starts_are_independent_of_each_other(path: TextPath) -> None:
    prompt = LearntContext(path, ["edema"], BASE)
    first = prompt.start()
    with torch.no_grad():
        first.zero_()
    assert prompt.start().abs().max() > 0


def test_a_prompt_that_is_too_long_is_refused_at_once(path: TextPath) -> None:
    with pytest.raises(UserError, match="the text tower takes 64"):
        LearntContext(path, ["edema", "no pleural effusion is seen"], BASE, length=60)


@pytest.mark.parametrize("base", ["", "  "])
def test_a_base_without_words_is_refused(path: TextPath, base: str) -> None:
    with pytest.raises(UserError, match="starts from has no words; give it some"):
        LearntContext(path, ["edema"], base, length=3)


def test_classes_are_affirmed_and_denied() -> None:
    found = affirmed_and_denied(["No Finding", "Pleural Effusion"])
    assert found == ["no finding", "pleural effusion", "finding", "no pleural effusion"]
