"""How many parameters a strategy trained is counted, whether it says so or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from retune import Context, Images, Strategy, Training
from retune.avalanche_bridge import names as avalanche
from retune.check.lab import Lab
from retune.check.subject import Subject
from retune.cli.main import main
from retune.plugins import BUILT_IN, registry
from retune.runner.resolve import find_strategy
from retune.runner.trained import Trained

WIDE = 6 * 128
"""A weight for each of the lab's labels and dimensions."""

KEPT_AND_TRAINED = ("tip-adapter",)
"""What it trains are the samples that it keeps, which are counted as samples: it says so itself."""


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab()


def counted(lab: Lab, strategy: Strategy, *, resumed: bool = False) -> int:
    """After the made-up stream; where asked, with the last experience learnt by another that takes up the state."""
    lab.prepared(strategy)
    trained, parts = Trained(strategy), lab.stream(strategy)
    for k, part in enumerate(parts):
        if resumed and k == len(parts) - 1:
            state = {
                k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in strategy.state_dict().items()
            }
            strategy = lab.prepared(type(strategy)())
            trained = Trained(strategy)
            with trained.watched():
                strategy.load_state_dict(state)
        with trained.watched():
            lab.fit(strategy, [part])
        lab.score(strategy)
    return trained.count(strategy.state_dict())


def built_in() -> list[str]:
    own = [entry.name for entry in registry("strategies").entries if entry.origin == BUILT_IN]
    presets = [f"{name}/{preset}" for name in own for preset in find_strategy(name)[0].presets]
    return [*own, *presets, *(avalanche.PREFIX + name for name in avalanche.SUPPORTED)]


@pytest.mark.parametrize("name", built_in())
def test_what_a_built_in_strategy_says_is_what_its_fit_changes(lab: Lab, name: str) -> None:
    if name.startswith(avalanche.PREFIX):
        pytest.importorskip("avalanche")
    few = {"iterations": 5} if name.startswith("joint") else {}
    strategy = Subject.of(name, few, lab).unprepared()
    found = counted(lab, strategy)
    if name.partition("/")[0] in KEPT_AND_TRAINED:
        assert strategy.trainable_parameters() > found == 0
    else:
        assert strategy.trainable_parameters() == found


class Plugin(Strategy):
    """Scores zeros: only what it learns matters."""

    name = "plugin"

    def score(self, images: Images) -> torch.Tensor:
        return torch.zeros(len(images), len(self.context.labels))


class ALinear(Plugin):
    """An nn.Linear trained by Adam, beside one that stays frozen; all of it in self alone."""

    def setup(self, context: Context) -> None:
        super().setup(context)
        self.frozen, self.linear = nn.Linear(128, 128).requires_grad_(False), nn.Linear(128, 6)
        self.adam = torch.optim.Adam(self.linear.parameters())

    def fit(self, experience: Training) -> None:
        for _ in range(2):
            loss = self.linear(self.frozen(experience.images.features)).square().mean()
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()


class WithANorm(Plugin):
    """The running statistics of a batch normalisation are none of its parameters."""

    def setup(self, context: Context) -> None:
        super().setup(context)
        self.body = nn.Sequential(nn.Linear(128, 8), nn.BatchNorm1d(8))

    def fit(self, experience: Training) -> None:
        adam = torch.optim.SGD(self.body.parameters(), lr=0.1)
        # Not the mean: a normalised batch has none.
        (self.body.train()(experience.images.features) * torch.arange(8.0)).pow(3).mean().backward()
        adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {f"body.{key}": value for key, value in self.body.state_dict().items()}


class InTheState(Plugin):
    """A dictionary of tensors that is the state."""

    def setup(self, context: Context) -> None:
        super().setup(context)
        self.state: dict[str, Any] = {}

    def fit(self, experience: Training) -> None:
        self.state = {"weight": torch.randn(6, 128), "bias": torch.randn(6), "step": torch.tensor(1)}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


class ComposedInTheState(Plugin):
    """Lists of numbers, of which the state makes a tensor."""

    def fit(self, experience: Training) -> None:
        self.means = experience.images.features.mean(dim=0).tolist()

    def state_dict(self) -> dict[str, Any]:
        return {"means": torch.tensor(self.means)}


class Arrays(Plugin):
    """NumPy, with a view of the same weights."""

    def fit(self, experience: Training) -> None:
        self.weights = np.random.default_rng(experience.seed).normal(size=(6, 128))
        self.turned, self.seen = self.weights.T, np.arange(6)


class ScikitLearn(Plugin):
    """An estimator in self."""

    def fit(self, experience: Training) -> None:
        from sklearn.linear_model import LogisticRegression

        features = experience.images.features.numpy()
        self.model = LogisticRegression().fit(features, features[:, 0] > 0)


class ClosedForm(Plugin):
    """Weights that are solved for anew after each experience, from sums that it calls statistics."""

    statistics = frozenset({"gram"})

    def setup(self, context: Context) -> None:
        super().setup(context)
        self.gram = torch.eye(128)

    def fit(self, experience: Training) -> None:
        features = experience.images.features
        self.gram = self.gram + features.T @ features
        self.weight = torch.linalg.solve(self.gram, features.T @ experience.targets.nan_to_num()).T

    def state_dict(self) -> dict[str, Any]:
        return {"gram": self.gram, "weight": self.weight.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.gram, self.weight = state["gram"], state["weight"]


class OneMoreEachTime(Plugin):
    """A module an experience; what was learnt earlier still counts."""

    def setup(self, context: Context) -> None:
        super().setup(context)
        self.modules: list[torch.Tensor] = []

    def fit(self, experience: Training) -> None:
        self.modules.append(torch.randn(10, generator=experience.generator()))

    def state_dict(self) -> dict[str, Any]:
        return {f"module.{k}": module for k, module in enumerate(self.modules)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.modules = list(state.values())


class Remembers(Plugin):
    """Samples that it keeps, and a bias."""

    keeps_samples = True

    def fit(self, experience: Training) -> None:
        self.kept, self.bias = [experience.images.features.clone()], torch.randn(6)

    def state_dict(self) -> dict[str, Any]:
        return {"memory.features": torch.cat(self.kept), "bias": self.bias}


class CachesWhatItScores(Plugin):
    """A table that scoring fills, and nothing learnt."""

    def fit(self, experience: Training) -> None: ...

    def score(self, images: Images) -> torch.Tensor:
        self.table = torch.randn(50)
        return super().score(images)


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (ALinear, WIDE + 6),
        (WithANorm, 128 * 8 + 8 + 2 * 8),
        (InTheState, WIDE + 6),
        (ComposedInTheState, 128),
        (Arrays, WIDE),
        (ScikitLearn, 128 + 1),
        (ClosedForm, WIDE),
        (OneMoreEachTime, 3 * 10),
        (Remembers, 6),
        (CachesWhatItScores, 0),
    ],
)
def test_a_plugin_that_says_nothing_is_counted(lab: Lab, cls: type[Strategy], expected: int) -> None:
    assert counted(lab, cls()) == expected


@pytest.mark.parametrize("cls", [InTheState, ClosedForm, OneMoreEachTime])
def test_a_resumed_plugin_counts_like_one_that_was_never_stopped(lab: Lab, cls: type[Strategy]) -> None:
    assert counted(lab, cls(), resumed=True) == counted(lab, cls())


FILE = '''"""Mine."""
import torch
from dataclasses import dataclass
from retune import Strategy

{decorator}
class Mine(Strategy):
    name = "mine"
    needs = frozenset({{"{need}"}})
    rate: float = 0.5

    def fit(self, experience):
        self.linear = torch.nn.Linear(self.context.dim, len(self.context.labels))

    def score(self, images):
        scores = torch.zeros(len(images), len(self.context.labels))
        return self.linear(images.features) if hasattr(self, "linear") else scores
{more}
'''
SMALL = ["--steps", "2", "--set", "data.images=120", "--set", "data.size=64", "--replicates", "2", "--json"]


@pytest.mark.parametrize(("says", "recorded"), [(None, 14 * 129), (1, 14 * 129), (10_000, 10_000)])
def test_the_larger_of_what_is_said_and_counted_is_recorded(
    says: int | None, recorded: int, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "" if says is None else f"    def trainable_parameters(self):\n        return {says}\n"
    file = tmp_path / "mine.py"
    file.write_text(FILE.format(decorator="@dataclass", need="features", more=more))
    assert main(["run", "--strategy", str(file), *SMALL, "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    cost = json.loads((tmp_path / "out" / "result.json").read_text())["cost"]
    assert cost["trainable_parameters"] == recorded
    assert cost["total_parameters"] > recorded


@pytest.mark.parametrize(
    ("decorator", "need", "message"),
    [
        ("", "features", "Mine has rate, which is no setting; write @dataclass above class Mine"),
        ("@dataclass", "featurs", "unknown need 'featurs'; did you mean features"),
    ],
)
def test_a_run_refuses_what_the_check_complains_of(
    decorator: str, need: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FILE.format(decorator=decorator, need=need, more=""))
    assert main(["run", "--strategy", str(file), *SMALL, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert message in " ".join(told.split())
    assert not (tmp_path / "out").exists()
    assert main(["check", str(file), "--json"]) == 1
    first, *others = json.loads(capsys.readouterr().out)["checks"]
    assert (first["name"], first["outcome"]) == ("says-what-it-is", "failed")
    assert message in first["reason"]
    assert {check["outcome"] for check in others} == {"not tried"}
