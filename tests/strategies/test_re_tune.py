"""RE-tune against its published counts and a hand-worked example."""

from __future__ import annotations

import math

import pytest
import torch

from retune import Context, Images, Strategy, Training, registry
from retune.methods.adaptors import adaptor, count_parameters
from retune.prompts.embeddings import PromptEmbeddings

ReTune = registry("strategies").load("re-tune")


def test_parameter_counts_are_the_published_ones() -> None:
    counts = ReTune.parameter_counts(128, 14)
    assert counts["dense, image"] == 16_512
    assert counts["mlp, image"] == 65_920
    assert counts["mlp, double"] == 131_840
    assert counts["mlp, shared"] == 65_920


def hand_worked() -> tuple[Context, Training]:
    """d = 2, an image at 30 degrees, a positive prompt at 0 degrees and a negative one at 90."""
    index = torch.zeros(1, dtype=torch.int64)
    prompts = PromptEmbeddings(torch.tensor([[2.0, 0.0]]), index, torch.tensor([[0.0, 3.0]]), index, ("X",))
    image = torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6)]])
    images = Images(1, {"features": lambda: image})
    return Context(("X",), 2, prompts, 0), Training(images, torch.ones(1, 1), (0,), 11, None, torch.zeros(1))


def identity(**settings: object) -> tuple[Strategy, Training]:
    """RE-tune whose dense image adaptor is the identity, so that numbers can be worked by hand."""
    context, experience = hand_worked()
    strategy = ReTune(adaptor="dense", placement="image", adaptors="shared", **settings)
    strategy.setup(context)
    strategy.load_state_dict(
        {"observed": [[0]], "pair.0.image.weight": torch.eye(2), "pair.0.image.bias": torch.zeros(2)}
    )
    return strategy, experience


def test_logit_is_the_difference_of_cosines_without_temperature() -> None:
    strategy, experience = identity()
    # cos 30 - cos 60 degrees; the prompts' lengths 2 and 3 do not matter.
    assert strategy.score(experience.images).item() == pytest.approx(0.8660254 - 0.5, abs=1e-6)


def test_positive_only_scoring_is_the_positive_cosine() -> None:
    strategy, experience = identity(scoring="positive")
    assert strategy.score(experience.images).item() == pytest.approx(0.8660254, abs=1e-6)


@pytest.mark.parametrize("scoring", ["difference", "positive"])
def test_first_gradient_step(scoring: str) -> None:
    strategy, experience = identity(scoring=scoring, optimizer="sgd", lr=0.1, epochs=1)
    strategy.fit(experience)
    # z = .3660254, dL/dz = sigmoid(z) - 1 = -.4095012. With u = (.8660254, .5) of length 1,
    # dz/dy = (1, -1) - z u = (.6830127, -1.1830127), and y = W u + b, so one step of .1 adds
    # .04095012 (.6830127, -1.1830127) to b and its outer product with u to W = I.
    state = strategy.state_dict()
    bias = torch.tensor([0.0279695, -0.0484445])
    weight = torch.tensor([[1.0242223, 0.0139847], [-0.0419542, 0.9757777]])
    torch.testing.assert_close(state["pair.0.image.bias"], bias, rtol=0, atol=2e-6)
    torch.testing.assert_close(state["pair.0.image.weight"], weight, rtol=0, atol=2e-6)


def test_per_step_adaptors_leave_earlier_labels_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    index = torch.arange(2).repeat_interleave(4)
    prompts = PromptEmbeddings(
        torch.randn(8, 6, generator=generator),
        index,
        torch.randn(8, 6, generator=generator),
        index,
        ("A", "B"),
    )
    features = torch.randn(50, 6, generator=generator)
    images = Images(50, {"features": lambda: features})
    targets, whose = (features[:, :2] > 0).float(), torch.arange(50)

    def column(adaptors: str) -> tuple[torch.Tensor, torch.Tensor]:
        strategy = ReTune(adaptors=adaptors, lr=1e-2)
        strategy.setup(Context(("A", "B"), 6, prompts, 0))
        nan = torch.full((50,), float("nan"))
        strategy.fit(Training(images, torch.stack([targets[:, 0], nan], 1), (0,), 1, None, whose))
        before = strategy.score(images)[:, 0]
        strategy.fit(Training(images, torch.stack([nan, targets[:, 1]], 1), (1,), 2, None, whose))
        return before, strategy.score(images)[:, 0]

    before, after = column("per-step")
    assert torch.equal(before, after)
    before, after = column("shared")
    assert (before - after).abs().max() > 0.01


def test_initial_weights_come_from_the_generator_alone() -> None:
    one, two = (adaptor("mlp", 8, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    weights = torch.cat(
        [p.flatten() for p in adaptor("mlp", 64, generator=torch.Generator().manual_seed(2)).parameters()]
    )
    assert weights.abs().max() <= 64**-0.5
    assert weights.std() > 0.04
    assert count_parameters(adaptor("dense", 8)) == 72
