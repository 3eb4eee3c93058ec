"""What every strategy must keep to; a new file under strategies/ is tested by existing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

from retune import Experience, Images, Strategy
from retune.check.checks import Check, made
from retune.check.strategy import CHECKS
from retune.check.subject import Subject
from retune.errors import StrategyError
from retune.methods.adaptors import normalised
from retune.methods.given import OF_DATA, Need, training
from retune.methods.towers import Towers
from retune.plugins import registry
from retune.runner.checkpoint import Checkpoint
from retune.runner.resolve import find_strategy

if TYPE_CHECKING:
    from conftest import Lab

NAMES = registry("strategies").names()
SMALL: dict[str, dict[str, Any]] = {
    "adaptor": {"width": 64},
    "m-flag": {"hidden": 32, "joint": 16},
    "floor-pixels": {"side": 8},
}
"""Widths that no other demand depends on than that for a small state."""
QUICK: dict[str, dict[str, Any]] = {
    "cleft/paper": {"context_length": 6},
    "joint": {"iterations": 5},
    "ranpac": {"projections": 32},
    "re-tune/paper-steps": {"steps": 3},
}
"""Steps, projections and words that no demand depends on."""
ENOUGH = {
    **dict.fromkeys(("m-flag", "floor-pixels"), 600),
    **dict.fromkeys(("adaptor", "cleft", "l2p", "lora"), 400),
}
"""Images that the slower methods learn from, where that is enough."""
BOLD: dict[str, dict[str, Any]] = {"adaptor": {"lr": 1e-3}, "cleft": {"lr": 3e-3, "prompt_lr": 0.1}}
"""Steps with which so few are enough."""


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


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize(("name", "settings"), list(variants()))
def test_keeps_the_contract(lab: Lab, name: str, settings: dict[str, Any], check: Check[Subject]) -> None:
    # How large a state is depends on them.
    full = check.name == "state-is-what-it-learnt"
    plain = name.partition("/")[0]
    small = QUICK.get(name) or QUICK.get(plain) or ({} if full else SMALL.get(plain, {}))
    outcome, reason, _ = made(check, Subject.of(name, {**small, **settings}, lab), limit=60)
    assert (outcome, reason) == ("passed", "")


@pytest.mark.parametrize(
    ("name", "choice"),
    [pytest.param(n, c, id=f"{n},{spelt(c)}") for n in NAMES for c in choices(find_strategy(n)[0])],
)
def test_every_choice_of_a_setting_learns_and_resumes(
    lab: Lab, name: str, choice: dict[str, Any], tmp_path: Path
) -> None:
    whole, resumed = (lab.make(name, **QUICK.get(name, SMALL.get(name, {})), **choice) for _ in range(2))
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
    # What learns in the image tower is given pictures, and starts with what the tower makes of them.
    given = "features" in strategy.requires()
    vectors = images.features if given else lab.backbone.encode_images(images.pixels[torch.arange(30)])
    prompts = lab.prompts[True].score(vectors, "embeddings", "difference")
    ranks = [
        np.argsort(np.argsort(s.numpy(), axis=0), axis=0) for s in (lab.score(strategy, images), prompts)
    ]
    assert np.array_equal(ranks[0], ranks[1])


@pytest.mark.parametrize("name", NAMES)
def test_learns_unless_it_is_zero_shot(lab: Lab, name: str) -> None:
    from sklearn.metrics import roc_auc_score

    strategy = lab.make(name, quick=False, **BOLD.get(name, {}))
    everything = tuple(range(len(lab.labels)))
    test, truth = lab.pictures(strategy, 500, 50), lab.truth(500, 50).numpy()
    before = lab.score(strategy, test)
    lab.fit(strategy, [lab.experience(strategy, ENOUGH.get(name, 1200), everything, 51)])
    after = lab.score(strategy, test)
    if name == "floor-shuffled":
        assert abs(roc_auc_score(truth, after) - 0.5) < 0.1
    elif strategy.trainable_parameters() == 0:
        assert torch.equal(before, after)
    else:
        assert roc_auc_score(truth, after) > roc_auc_score(truth, before) + 0.05


@pytest.mark.parametrize("kind", ["features", "tokens", "pixels", "table"])
def test_images_give_only_what_was_declared(kind: str) -> None:
    others = {
        other: lambda: torch.zeros(3, 1)
        for other in ("features", "tokens", "pixels", "table")
        if other != kind
    }
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
    assert set(get_args(Need)) == lab.backbone.capabilities | OF_DATA
    assert (towers.token_dim, lab.backbone.card.dim, lab.backbone.card.image_size) == (320, 128, 128)
    assert lab.prompts[True].positive.shape == (2 * len(lab.labels), 128)
    assert lab.prompts[False].positive.shape == (0, 128)


def test_normalised_rows_have_length_root_d() -> None:
    rows: Any = normalised(torch.randn(4, 9, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(rows.norm(dim=1), torch.full((4,), 3.0))
