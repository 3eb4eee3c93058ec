"""What every strategy must keep to; a new file under strategies/ is tested by existing."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

from retune import Experience, Images, Strategy
from retune.adaptors import normalised
from retune.checkpoint import Checkpoint
from retune.errors import StrategyError
from retune.memory import Stored, metered
from retune.plugins import registry
from retune.spec import find_strategy
from retune.strategy import training
from retune.towers import Towers

if TYPE_CHECKING:
    from conftest import Lab

NAMES = registry("strategies").names()
MEGABYTE = 2**20


def variants() -> Iterator[Any]:
    """Each strategy by default, every preset of it, and every choice that changes what it needs."""
    for name in NAMES:
        cls, _, _ = find_strategy(name)
        yield pytest.param(name, {}, id=name)
        for preset in cls.presets:
            yield pytest.param(f"{name}/{preset}", {}, id=f"{name}/{preset}")
        seen = {cls().requires(), *(cls(**values).requires() for values in cls.presets.values())}
        for choice in choices(cls):
            needs = cls(**choice).requires()
            if needs not in seen:
                seen.add(needs)
                yield pytest.param(name, choice, id=f"{name},{spelt(choice)}")


def choices(cls: type[Strategy]) -> Iterator[dict[str, Any]]:
    """Every other value of every setting that has a handful of them."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        hint = hints[field.name]
        values = get_args(hint) if get_origin(hint) is Literal else (False, True) if hint is bool else ()
        yield from ({field.name: value} for value in values if value != field.default)


def spelt(choice: dict[str, Any]) -> str:
    """As for --set."""
    return ",".join(f"{key}={value}" for key, value in choice.items())


def tensors(state: Any) -> Iterator[torch.Tensor]:
    """The tensors of a nested state."""
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from tensors(value)
    elif isinstance(state, (list, tuple)):
        for value in state:
            yield from tensors(value)


@pytest.mark.parametrize(("name", "settings"), list(variants()))
class TestEveryStrategy:
    def test_scores_every_label_at_every_moment(self, lab: Lab, name: str, settings: dict[str, Any]) -> None:
        strategy = lab.make(name, **settings)
        for part in [None, *lab.stream(strategy)]:
            lab.fit(strategy, [part] if part else [])
            scores = lab.score(strategy)
            assert scores.shape == (lab.tested, len(lab.labels))
            assert scores.dtype == torch.float32
            assert torch.isfinite(scores).all()
            assert torch.equal(lab.score(strategy), scores)

    def test_same_seed_same_scores(self, lab: Lab, name: str, settings: dict[str, Any]) -> None:
        made = [lab.make(name, **settings) for _ in range(2)]
        first, second = (lab.scores_after(strategy, lab.stream(strategy)) for strategy in made)
        assert torch.equal(first, second)

    def test_resumed_equals_uninterrupted(
        self, lab: Lab, name: str, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        whole, resumed = (lab.make(name, **settings) for _ in range(2))
        *begun, last = lab.stream(whole)
        lab.fit(whole, begun)
        halfway = lab.score(whole)
        state = whole.state_dict()
        plain = {k: v for k, v in state.items() if not isinstance(v, torch.Tensor)}
        assert json.loads(json.dumps(plain)) == plain
        Checkpoint("id", halfway, state, {}).write(tmp_path)
        found = Checkpoint.read(tmp_path, "id")
        assert found is not None
        resumed.load_state_dict(found.state)
        assert torch.equal(lab.score(resumed), halfway)
        assert torch.equal(lab.scores_after(resumed, [last]), lab.scores_after(whole, [last]))
        assert resumed.trainable_parameters() == whole.trainable_parameters()
        assert metered(resumed.state_dict()) == metered(whole.state_dict())
        assert resumed.diagnostics() == whole.diagnostics()

    def test_its_state_is_what_it_learnt(self, lab: Lab, name: str, settings: dict[str, Any]) -> None:
        strategy = lab.make(name, **settings)
        lab.fit(strategy, lab.stream(strategy))
        state = list(tensors(strategy.state_dict()))
        assert sum(t.numel() * t.element_size() for t in state) < 60 * MEGABYTE
        module = lab.backbone.text_path().module
        frozen = [*module.parameters(), *module.buffers(), lab.prompts[True].positive]
        places = {t.untyped_storage().data_ptr() for t in frozen}
        assert not any(t.untyped_storage().data_ptr() in places for t in state)
        # Nor are frozen weights carried along as copies.
        large = [t for t in frozen if t.numel() > 1000]
        assert not [t.shape for t in state for f in large if t.shape == f.shape and torch.equal(t, f)]

    def test_leaves_the_backbone_as_it_is(self, lab: Lab, name: str, settings: dict[str, Any]) -> None:
        strategy = lab.make(name, **settings)
        lab.scores_after(strategy, lab.stream(strategy))
        # As it was before any test: a change would stay, and pass unseen the second time.
        for then, now in zip(lab.untouched, lab.tower(), strict=True):
            assert now.keys() == then.keys()
            assert all(torch.equal(now[key], value) for key, value in then.items())
        assert all(p.grad is None for p in lab.backbone.text_path().module.parameters())

    def test_unknown_labels_have_no_influence(self, lab: Lab, name: str, settings: dict[str, Any]) -> None:
        made = [lab.make(name, **settings) for _ in range(2)]
        scores = []
        # A NaN of another bit pattern is still a NaN.
        for strategy, nothing in zip(made, (float("nan"), -float("nan")), strict=True):
            parts = lab.stream(strategy)
            for part in parts:
                part.targets[: len(part) // 2, part.observed[0]] = nothing
                part.targets[torch.isnan(part.targets)] = nothing
            scores.append(lab.scores_after(strategy, parts))
        assert torch.equal(*scores)
        assert torch.isfinite(scores[0]).all()

    def test_a_score_does_not_depend_on_batch_mates(
        self, lab: Lab, name: str, settings: dict[str, Any]
    ) -> None:
        strategy = lab.make(name, **settings)
        together = lab.scores_after(strategy, lab.stream(strategy))
        alone = [lab.score(strategy, lab.tests(strategy, torch.tensor([i]))) for i in range(3)]
        torch.testing.assert_close(torch.cat(alone), together[:3], rtol=1e-5, atol=2e-6)
        turned = lab.score(strategy, lab.tests(strategy, torch.arange(lab.tested).flip(0)))
        torch.testing.assert_close(turned.flip(0), together, rtol=1e-5, atol=2e-6)

    @pytest.mark.parametrize("n", [1, 2])
    def test_takes_tiny_experiences(self, lab: Lab, name: str, settings: dict[str, Any], n: int) -> None:
        strategy = lab.make(name, **settings)
        for observed in ((0, 1), range(len(lab.labels))):
            lab.fit(strategy, [lab.experience(strategy, n, tuple(observed), 1)])
            assert torch.isfinite(lab.score(strategy)).all()

    @pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
    def test_takes_labels_with_one_class_or_none(
        self, lab: Lab, name: str, settings: dict[str, Any], value: float
    ) -> None:
        strategy = lab.make(name, **settings)
        for observed in ((0, 1), range(len(lab.labels))):
            part = lab.experience(strategy, 20, tuple(observed), 1)
            part.targets[:, list(observed)] = value
            lab.fit(strategy, [part])
            assert torch.isfinite(lab.score(strategy)).all()
            assert all(torch.isfinite(t).all() for t in tensors(strategy.state_dict()))

    def test_changes_nothing_global(
        self, lab: Lab, name: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)

        def world() -> tuple[Any, ...]:
            return (
                torch.get_default_dtype(),
                torch.get_num_threads(),
                torch.is_grad_enabled(),
                torch.are_deterministic_algorithms_enabled(),
                torch.is_anomaly_enabled(),
                torch.get_float32_matmul_precision(),
                np.geterr(),
                Path.cwd(),
                dict(os.environ),
                list(tmp_path.iterdir()),
            )

        before = world()
        strategy = lab.make(name, **settings)
        lab.scores_after(strategy, lab.stream(strategy))
        assert world() == before

    def test_leaves_its_targets_alone(self, lab: Lab, name: str, settings: dict[str, Any]) -> None:
        strategy = lab.make(name, **settings)
        parts = lab.stream(strategy)
        before = [part.targets.clone() for part in parts]
        lab.fit(strategy, parts)
        for kept, part in zip(before, parts, strict=True):
            torch.testing.assert_close(part.targets, kept, rtol=0, atol=0, equal_nan=True)

    def test_says_what_it_is(self, lab: Lab, name: str, settings: dict[str, Any]) -> None:
        strategy = lab.make(name, **settings)
        assert strategy.name == name.split("/")[0]
        assert strategy.version
        lab.fit(strategy, lab.stream(strategy))
        assert (metered(strategy.state_dict()) == Stored()) is not strategy.keeps_samples
        told = dict(strategy.diagnostics())
        assert json.loads(json.dumps(told, allow_nan=False)) == told


@pytest.mark.parametrize(
    ("name", "choice"),
    [pytest.param(n, c, id=f"{n},{spelt(c)}") for n in NAMES for c in choices(find_strategy(n)[0])],
)
def test_every_choice_of_a_setting_learns_and_resumes(
    lab: Lab, name: str, choice: dict[str, Any], tmp_path: Path
) -> None:
    whole, resumed = lab.make(name, **choice), lab.make(name, **choice)
    everything = tuple(range(len(lab.labels)))
    first, second = (lab.experience(whole, n, everything, k) for k, n in ((1, 18), (2, 17)))
    lab.fit(whole, [first])
    Checkpoint("id", lab.score(whole), whole.state_dict(), {}).write(tmp_path)
    found = Checkpoint.read(tmp_path, "id")
    assert found is not None
    resumed.load_state_dict(found.state)
    expected = lab.scores_after(whole, [second])
    assert torch.isfinite(expected).all()
    assert torch.equal(lab.scores_after(resumed, [second]), expected)


def starts() -> list[str]:
    """Strategies that are given prompts: before any training, every one of them is zero-shot."""
    return [name for name in NAMES if find_strategy(name)[0]().requires() & {"joint", "texts"}]


@pytest.mark.parametrize("name", starts())
def test_starts_as_zero_shot(lab: Lab, name: str) -> None:
    strategy = lab.make(name)
    images = lab.pictures(strategy, 30)
    prompts = lab.prompts[True].score(images.features, "embeddings", "difference")
    ranks = [
        np.argsort(np.argsort(s.numpy(), axis=0), axis=0) for s in (lab.score(strategy, images), prompts)
    ]
    assert np.array_equal(ranks[0], ranks[1])


@pytest.mark.parametrize("name", NAMES)
def test_learns_unless_it_is_zero_shot(lab: Lab, name: str) -> None:
    from sklearn.metrics import roc_auc_score

    strategy = lab.make(name, quick=False)
    everything = tuple(range(len(lab.labels)))
    test, truth = lab.pictures(strategy, 500, 50), lab.truth(500, 50).numpy()
    before = lab.score(strategy, test)
    lab.fit(strategy, [lab.experience(strategy, 1200, everything, 51)])
    after = lab.score(strategy, test)
    if strategy.trainable_parameters() == 0:
        assert torch.equal(before, after)
    else:
        assert roc_auc_score(truth, after) > roc_auc_score(truth, before) + 0.05


@pytest.mark.parametrize("kind", ["features", "tokens", "pixels"])
def test_images_give_only_what_was_declared(kind: str) -> None:
    others = {other: lambda: torch.zeros(3, 1) for other in ("features", "tokens", "pixels") if other != kind}
    with pytest.raises(StrategyError, match=f"asks for {kind} without declaring it"):
        getattr(Images(3, others), kind)


def test_reports_are_withheld_where_a_label_is_hidden(lab: Lab) -> None:
    images, reports = Images(2, {}), ("Edema.", "No edema.")

    def given(observed: tuple[int, ...]) -> tuple[str, ...] | None:
        step = Experience(1, observed, np.arange(2), np.zeros((2, 3), dtype=np.float32))
        return training(step, images, 0, reports=reports).reports

    assert given((0, 1, 2)) == reports
    assert given((0, 1)) is None
    strategy = lab.make("zero-shot")
    assert [part.reports is None for part in lab.stream(strategy)] == [True, True, False]


def test_a_strategy_cannot_change_the_stream_s_targets() -> None:
    step = Experience(1, (0,), np.arange(2), np.zeros((2, 1), dtype=np.float32))
    training(step, Images(2, {}), 0).targets.fill_(1)
    assert not step.targets.any()


def test_the_lab_offers_all_that_can_be_declared(lab: Lab) -> None:
    """Without this, a strategy that needs more would be tested by nothing."""
    towers = Towers(lab.backbone, lab.backbone.capabilities)
    assert {"features", "joint", "texts", "tokens", "pixels", "text-gradients", "trainable-tower"} == set(
        lab.backbone.capabilities
    )
    assert (towers.token_dim, lab.backbone.card.dim, lab.backbone.card.image_size) == (320, 128, 128)
    assert lab.prompts[True].positive.shape == (2 * len(lab.labels), 128)
    assert lab.prompts[False].positive.shape == (0, 128)


def test_normalised_rows_have_length_root_d() -> None:
    rows: Any = normalised(torch.randn(4, 9, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(rows.norm(dim=1), torch.full((4,), 3.0))
