"""RE-tune against its published counts, hand-worked examples and the published training written out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from retune import Context, Images, Strategy, Training, registry
from retune.cli.main import main
from retune.methods.adaptors import adaptor, count_parameters
from retune.methods.training import train
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
    plain = {"adaptor": "dense", "placement": "image", "adaptors": "shared", "zero_shot_share": 0.0}
    strategy = ReTune(**{**plain, "temperature": 1.0, **settings})
    strategy.setup(context)
    strategy.load_state_dict(
        {"observed": [[0]], "pair.0.image.weight": torch.eye(2), "pair.0.image.bias": torch.zeros(2)}
    )
    return strategy, experience


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.07])
def test_logit_is_the_difference_of_cosines_over_the_temperature(temperature: float) -> None:
    strategy, experience = identity(temperature=temperature)
    # cos 30 - cos 60 degrees; the prompts' lengths 2 and 3 do not matter.
    logit = (0.8660254 - 0.5) / temperature
    assert strategy.score(experience.images).item() == pytest.approx(logit, rel=1e-5)
    # Before any training it is zero-shot on the same scale.
    untrained = ReTune(temperature=temperature)
    untrained.setup(hand_worked()[0])
    assert untrained.score(experience.images).item() == pytest.approx(logit, rel=1e-5)


def test_a_share_of_the_score_stays_zero_shot_on_the_same_scale() -> None:
    strategy, experience = identity(zero_shot_share=0.25, temperature=0.5)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    strategy.load_state_dict(
        {"observed": [[0]], "pair.0.image.weight": swap, "pair.0.image.bias": torch.zeros(2)}
    )
    # The adaptor turns 30 degrees into 60: -.3660254, of which three quarters; one of +.3660254; over a half.
    assert strategy.score(experience.images).item() == pytest.approx(-0.3660254, abs=1e-6)


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


def test_the_temperature_divides_the_logit_in_training() -> None:
    strategy, experience = identity(temperature=0.5, optimizer="sgd", lr=0.1, epochs=1)
    strategy.fit(experience)
    # As above with z / .5 = .7320508: (sigmoid(.7320508) - 1) / .5 = -.6494897, so that .06494897 dz/dy is added.
    bias = torch.tensor([0.0443610, -0.0768355])
    torch.testing.assert_close(strategy.state_dict()["pair.0.image.bias"], bias, rtol=0, atol=2e-6)


def made(n: int = 50, dim: int = 6) -> tuple[Context, Training]:
    """Two labels with four prompts of either kind; both are observed."""
    generator = torch.Generator().manual_seed(3)
    index = torch.arange(2).repeat_interleave(4)
    sides = [torch.randn(8, dim, generator=generator) for _ in range(2)]
    features = torch.randn(n, dim, generator=generator)
    prompts = PromptEmbeddings(sides[0], index, sides[1], index, ("A", "B"))
    images = Images(n, {"features": lambda: features})
    targets = (features[:, :2] > 0).float()
    return Context(("A", "B"), dim, prompts, 0), Training(images, targets, (0, 1), 1, None, torch.arange(n))


def fitted(context: Context, experience: Training, **settings: object) -> Strategy:
    strategy = ReTune(**settings)
    strategy.setup(context)
    strategy.fit(experience)
    return strategy


@pytest.mark.parametrize("kind", ["dense", "mlp"])
@pytest.mark.parametrize("placement", ["double", "shared", "image", "text"])
def test_the_identity_scores_as_zero_shot_to_the_bit(kind: str, placement: str) -> None:
    context, experience = made()
    zero_shot = context.prompts.score(experience.images.features, "embeddings", "difference") / 0.07
    # A step of 1e-30 leaves what it trains where it was.
    settings = {"adaptor": kind, "placement": placement, "lr": 1e-30, "epochs": 1}
    for share in (0.0, 0.3):
        strategy = ReTune(**settings, zero_shot_share=share)
        strategy.setup(context)
        assert torch.equal(strategy.score(experience.images), zero_shot)
        strategy.fit(experience)
        assert strategy.trainable_parameters() > 0
        assert torch.equal(strategy.score(experience.images), zero_shot)
    moved = fitted(context, experience, **{**settings, "init": "random"}).score(experience.images)
    assert not torch.allclose(moved, zero_shot, atol=0.1)


def test_the_identity_s_weights() -> None:
    """relu(x) - relu(-x) = x."""
    first, _, second = adaptor("mlp", 2, init="identity").children()
    assert first.weight.tolist() == [[1, 0], [0, 1], [-1, 0], [0, -1]]
    assert second.weight.tolist() == [[1, 0, -1, 0], [0, 1, 0, -1]]
    assert (first.bias.tolist(), second.bias.tolist()) == ([0] * 4, [0] * 2)
    dense = adaptor("dense", 2, init="identity")
    assert (dense.weight.tolist(), dense.bias.tolist()) == ([[1, 0], [0, 1]], [0, 0])


PAPER = {
    "adaptors": "shared", "init": "random", "temperature": 1.0, "zero_shot_share": 0.0, "scoring": "positive",
    "lr": 1e-4, "epochs": 10, "batch_size": 6144,
}  # fmt: skip


def test_presets_are_as_published() -> None:
    assert {name: dict(values) for name, values in ReTune.presets.items()} == {
        "paper": PAPER,
        "paper-steps": {**PAPER, "steps": 80},
        "paper-sgd": {**PAPER, "optimizer": "sgd", "lr": 0.1},
    }


def published(context: Context, experience: Training, steps: int) -> torch.Tensor:
    """Scores of the paper's settings after some steps on whole experiences, in plain PyTorch."""
    generator = experience.generator()

    def uniform(*shape: int, inputs: int) -> torch.Tensor:
        return torch.empty(shape).uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator)

    def weights(d: int) -> list[torch.Tensor]:
        shapes = ((2 * d, d), d), ((2 * d,), d), ((d, 2 * d), 2 * d), ((d,), 2 * d)
        return [uniform(*shape, inputs=n).requires_grad_() for shape, n in shapes]

    image, text = weights(context.dim), weights(context.dim)

    def cosine(x: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        def adapted(v: torch.Tensor, w: list[torch.Tensor]) -> torch.Tensor:
            return torch.relu(v @ w[0].T + w[1]) @ w[2].T + w[3]

        unit = torch.nn.functional.normalize(adapted(texts, text), dim=1)
        means = torch.stack([unit[:4].mean(0), unit[4:].mean(0)])
        return torch.nn.functional.cosine_similarity(adapted(x, image)[:, None], means[None], dim=2)

    features, prompts = experience.images.features, context.prompts
    optimizer = torch.optim.Adam([*image, *text], lr=1e-4)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = cosine(features, prompts.positive) - cosine(features, prompts.negative)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, experience.targets).backward()
        optimizer.step()
    return cosine(features, prompts.positive).detach()


@pytest.mark.parametrize(("preset", "steps"), [("paper", 10), ("paper-steps", 80)])
def test_the_paper_s_presets_train_as_published(preset: str, steps: int) -> None:
    """One shared pair, no temperature, Adam 1e-4, a batch of 6,144, which is more than there are."""
    context, experience = made()
    scores = fitted(context, experience, **ReTune.presets[preset]).score(experience.images)
    torch.testing.assert_close(scores, published(context, experience, steps), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("n", "steps", "sizes"), [(10, 5, [4, 4, 2, 4, 4]), (3, 4, [3, 3, 3, 3]), (0, 2, [])]
)
def test_so_many_steps_are_made_whatever_there_is(n: int, steps: int, sizes: list[int]) -> None:
    weight, seen = torch.nn.Parameter(torch.zeros(())), []

    def loss(batch: torch.Tensor) -> torch.Tensor:
        seen.append(len(batch))
        return weight * 1.0

    generator = torch.Generator().manual_seed(0)
    train([weight], loss, n, epochs=1, steps=steps, batch_size=4, lr=0.1, generator=generator)
    assert seen == sizes


@pytest.mark.parametrize(
    "given", ["temperature=0", "temperature=inf", "zero_shot_share=1.5", "init=other", "steps=0"]
)
def test_bad_settings_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--strategy", "re-tune", "--set", given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"strategy re-tune, setting {given.partition('=')[0]}" in line
    assert not list(tmp_path.iterdir())


def test_per_step_adaptors_leave_earlier_labels_alone() -> None:
    context, experience = made()
    images, targets, whose = experience.images, experience.targets, experience.patients

    def column(adaptors: str) -> tuple[torch.Tensor, torch.Tensor]:
        strategy = ReTune(adaptors=adaptors, lr=1e-2)
        strategy.setup(context)
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
