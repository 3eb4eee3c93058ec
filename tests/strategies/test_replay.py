"""Replay, DER++ and pseudo-label replay: what a remembered sample does to the classifiers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

from retune import Context, Images, Strategy, Training
from retune.methods.adaptors import normalised
from retune.prompts.embeddings import PromptEmbeddings
from retune.runner.resolve import find_strategy
from retune.settings import make

D, C = 8, 3
REHEARSING = ["replay", "der++", "pseudo-label-replay"]


def made(name: str, **settings: Any) -> Any:
    cls, owner, _ = find_strategy(name)
    strategy: Strategy = make(cls, {"start": "zeros", **settings}, owner=owner)
    index = torch.zeros(0, dtype=torch.int64)
    nothing = PromptEmbeddings(torch.zeros(0, D), index, torch.zeros(0, D), index, tuple("ABC"))
    strategy.setup(Context(tuple("ABC"), D, nothing, 3))
    return strategy


def images(features: torch.Tensor) -> Images:
    return Images(len(features), {"features": lambda: features})


def experience(n: int, observed: tuple[int, ...], seed: int, turned: bool = False) -> Training:
    """Label c is whether feature c is positive, or, ``turned``, negative."""
    features = torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    targets = torch.full((n, C), torch.nan)
    targets[:, observed] = ((features[:, observed] > 0) != turned).float()
    return Training(images(features), targets, observed, seed, None, torch.arange(n) + 1000 * seed)


@pytest.mark.parametrize("name", REHEARSING)
def test_a_label_that_turns_round_is_held_by_the_memory(name: str) -> None:
    """Its second experience says the opposite of the first: a memory holds it back."""
    quick = {"lr": 0.02, "batch_size": 20, "epochs": 20}
    whole, forgetful = made(name, capacity=200, **quick), made("linear-probe", **quick)
    for strategy in (whole, forgetful):
        strategy.fit(experience(200, (0,), 1))
        strategy.fit(experience(200, (0,), 2, turned=True))
    assert forgetful.state_dict()["weight"][0, 0] < -0.5
    assert whole.state_dict()["weight"][0, 0] > -0.3


@pytest.mark.parametrize("name", REHEARSING)
def test_the_first_experience_is_a_linear_probe_s(name: str) -> None:
    one, probe = made(name), made("linear-probe")
    for strategy in (one, probe):
        strategy.fit(experience(60, (0, 2), 1))
    torch.testing.assert_close(one.state_dict()["weight"], probe.state_dict()["weight"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", REHEARSING)
def test_labels_neither_observed_nor_remembered_stay_as_they_are(name: str) -> None:
    strategy = made(name)
    strategy.fit(experience(60, (0,), 1))
    strategy.fit(experience(60, (2,), 2))
    weight = strategy.state_dict()["weight"]
    assert not weight[1].any()
    assert weight[0].any()
    assert weight[2].any()


@pytest.mark.parametrize("name", REHEARSING)
def test_it_keeps_no_more_than_its_capacity_and_remembers_own_targets(name: str) -> None:
    strategy = made(name, capacity=30, **({"margin": 100.0} if name == "pseudo-label-replay" else {}))
    parts = [experience(40, (0,), 1), experience(25, (1, 2), 2)]
    for part in parts:
        strategy.fit(part)
    memory = strategy.memory
    assert len(memory) == 30
    assert all(len(v) == 30 for k, v in strategy.state_dict().items() if k.startswith("memory."))
    features = torch.cat([part.images.features for part in parts])
    targets = torch.cat([part.targets for part in parts])
    patients = torch.cat([part.patients for part in parts])
    for feature, target, patient in zip(
        memory["features"], memory["targets"], memory["patients"], strict=True
    ):
        row = (features == feature).all(1).nonzero().item()
        torch.testing.assert_close(target, targets[row], equal_nan=True)
        assert patient == patients[row]


def test_der_keeps_the_logits_of_the_end_of_an_experience_and_pulls_to_them() -> None:
    """The old label is not rehearsed without either term; the squared error alone brings it back."""
    quick = {"beta": 0.0, "weight_decay": 0.0, "lr": 0.02, "epochs": 100}
    strategy, held = made("der++", alpha=0.0, **quick), made("der++", alpha=1.0, **quick)
    strategy.fit(experience(60, (0,), 1))
    torch.testing.assert_close(strategy.memory["logits"], strategy.score(images(strategy.memory["features"])))
    state = {key: value.clone() for key, value in strategy.state_dict().items()}
    moved = {**state, "weight": state["weight"] + 0.5}
    for of in (strategy, held):
        of.load_state_dict(copy.deepcopy(moved))
        of.fit(experience(60, (1,), 2))
    torch.testing.assert_close(strategy.state_dict()["weight"][0], moved["weight"][0], rtol=0, atol=0)
    torch.testing.assert_close(held.state_dict()["weight"][0], state["weight"][0], rtol=0, atol=0.02)


def test_pseudo_labels_are_the_model_s_at_its_frozen_thresholds() -> None:
    strategy = made("pseudo-label-replay")
    unit = torch.eye(D)
    assert strategy.pseudo(unit).isnan().all()
    state = strategy.state_dict()
    state["weight"] = torch.zeros(C, D)
    state["weight"][0, :4] = torch.tensor([1.0, 0.4, 0.3, -1.0])
    state["threshold"], state["learnt"] = torch.tensor([0.4, 0.0, 0.0]), torch.tensor([True, False, False])
    for margin, expected in ((0.0, [1.0, 1.0, 0.0, 0.0]), (0.2, [1.0, torch.nan, torch.nan, 0.0])):
        strategy = made("pseudo-label-replay", margin=margin)
        strategy.load_state_dict(state)
        made_up = strategy.pseudo(unit)
        torch.testing.assert_close(made_up[:4, 0], torch.tensor(expected), equal_nan=True)
        assert made_up[:, 1:].isnan().all()


def test_pseudo_labels_go_forward_and_backward_and_thresholds_stay() -> None:
    strategy = made("pseudo-label-replay", capacity=100, lr=0.02)
    strategy.fit(experience(50, (0,), 1))
    before = {key: value.clone() for key, value in strategy.state_dict().items()}
    strategy.fit(experience(50, (1,), 2))
    memory, state = strategy.memory, strategy.state_dict()
    assert state["threshold"][0] == before["threshold"][0]
    assert state["learnt"].tolist() == [True, True, False]
    unit, old, targets = normalised(memory["features"]), memory["patients"] < 2000, memory["targets"]
    assert targets[:, :2].isfinite().all()
    assert targets[:, 2].isnan().all()
    # Forward: label 0 of new images, by the model that had not seen them.
    forward = functional.linear(unit, before["weight"], before["bias"]) >= before["threshold"]
    assert torch.equal(forward[~old, 0].float(), targets[~old, 0])
    # Backward: label 1 of remembered images, by the model that has learnt it.
    backward = functional.linear(unit, state["weight"], state["bias"]) >= state["threshold"]
    assert torch.equal(backward[old, 1].float(), targets[old, 1])
    # True labels are not made up: they stay.
    assert ((memory["features"][old, 0] > 0) == targets[old, 0]).all()
    assert ((memory["features"][~old, 1] > 0) == targets[~old, 1]).all()
    # Seen once more, labels keep the thresholds they have.
    kept = state["threshold"][:2].clone()
    strategy.fit(experience(50, (0, 1, 2), 3))
    assert torch.equal(strategy.state_dict()["threshold"][:2], kept)
    assert strategy.state_dict()["learnt"].all()
