"""Avalanche's methods in our runner: they keep the contract, and are Avalanche's to the bit."""

from __future__ import annotations

import inspect
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import retune
from retune.avalanche_bridge import rehearsal
from retune.avalanche_bridge.benchmark import as_dataset, as_experience
from retune.avalanche_bridge.names import REFUSED, SUPPORTED
from retune.avalanche_bridge.penalties import EWC
from retune.avalanche_bridge.quiet import quietly
from retune.check.checks import run_checks
from retune.check.lab import LABELS, Lab
from retune.check.strategy import CHECKS
from retune.check.subject import Subject
from retune.cli.main import main
from retune.errors import BadSetting, MissingPackage, UnknownName, UserError
from retune.methods.adaptors import normalised
from retune.methods.linear import Head
from retune.methods.losses import masked_bce
from retune.methods.memory import metered
from retune.methods.training import seeded
from retune.runner.checkpoint import Checkpoint
from retune.runner.resolve import find_strategy

with quietly():
    from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
    from avalanche.training import supervised
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.storage_policy import ClassBalancedBuffer
    from avalanche.training.templates import SupervisedTemplate


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab()


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("EWC", {}),
        ("Replay", {"mem_size": 20}),
        slow("EWC/trunk", {"mode": "online"}),
        slow("Replay/trunk", {"mem_size": 20}),
        slow("AGEM/trunk", {"patterns_per_exp": 12, "sample_size": 10}),
        slow("Cumulative/trunk", {}),
        slow("GEM/trunk", {}),
        slow("LwF/trunk", {}),
        slow("MAS/trunk", {"start": "zeros"}),
        slow("Naive/trunk", {"optimizer": "sgd"}),
        slow("SynapticIntelligence/trunk", {"si_lambda": 1000.0}),
    ],
)
def test_it_keeps_the_contract(lab: Lab, name: str, settings: dict[str, Any]) -> None:
    if name.startswith("GEM"):
        pytest.importorskip("quadprog")
    findings = run_checks(CHECKS, Subject.of(f"avalanche:{name}", settings, lab), limit=20)
    assert {f.name: f.reason for f in findings if f.outcome != "passed"} == {}


def test_a_trunk_changes_no_score_before_it_is_trained(lab: Lab) -> None:
    linear, trunk = (lab.make(name) for name in ("avalanche:EWC", "avalanche:EWC/trunk"))
    assert torch.equal(lab.score(linear), lab.score(trunk))


OWN: dict[str, dict[str, Any]] = {
    "Naive": {},
    "EWC": {"ewc_lambda": 30.0},
    "MAS": {"lambda_reg": 3.0},
    "Replay": {"mem_size": 11},
    "AGEM": {"patterns_per_exp": 9, "sample_size": 8},
    "Cumulative": {},
}


@pytest.mark.parametrize("name", OWN)
def test_it_is_avalanche_called_directly(lab: Lab, name: str) -> None:
    """The same weights as a user of Avalanche gets with the same head, loss, images and seeds."""
    strategy = lab.make(f"avalanche:{name}", head="trunk", start="zeros", lr=0.01, **OWN[name])
    parts = lab.stream(strategy)
    lab.fit(strategy, parts)
    model = Head("trunk", 128, len(LABELS))
    own = {**OWN[name], **({"alpha": 0.5} if name == "MAS" else {})}
    with quietly():
        theirs = getattr(supervised, name)(
            model=model,
            optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
            criterion=masked_bce,
            train_mb_size=16,
            evaluator=EvaluationPlugin(loggers=[]),
            **own,
        )
        for part in parts:
            shown = as_experience(as_dataset(normalised(part.images.features), part.targets))
            with seeded(part.seed):
                random.seed(part.seed)
                theirs.train(shown)
    mine = strategy.state_dict()
    assert all(torch.equal(mine[f"model.{key}"], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "settings", "weight"),
    [
        ("EWC", {"ewc_lambda": 1e6}, "ewc_lambda"),
        ("MAS", {"lambda_reg": 1e4}, "lambda_reg"),
        ("SynapticIntelligence", {"si_lambda": 1e6}, "si_lambda"),
    ],
)
def test_a_large_penalty_holds_the_weights(
    lab: Lab, name: str, settings: dict[str, Any], weight: str
) -> None:
    """How far the shared weights move in the second experience, with the penalty and without."""
    moved = []
    for more in (settings, {**settings, weight: 0.0}):
        strategy = lab.make(f"avalanche:{name}", head="trunk", optimizer="sgd", lr=0.01, epochs=3, **more)
        everything = tuple(range(len(LABELS)))
        first, second = (lab.experience(strategy, 40, everything, k) for k in (1, 2))
        lab.fit(strategy, [first])
        # A penalty as strong as this would overshoot at this rate.
        strategy.agent.optimizer.param_groups[0]["lr"] = 1e-5  # type: ignore[attr-defined]
        before = strategy.state_dict()["model.weight"].clone()
        for _ in range(5):
            lab.fit(strategy, [second])
        moved.append((strategy.state_dict()["model.weight"] - before).norm().item())
    assert moved[0] < 0.97 * moved[1]


def test_synaptic_intelligence_of_avalanche_alone_is_naive_on_a_cpu(lab: Lab) -> None:
    """Why its plugin is made to copy: the day this fails, the copying can go."""
    strategy = lab.make("avalanche:Naive", head="trunk")
    parts = lab.stream(strategy)
    weights = []
    for kind, settings in ((supervised.Naive, {}), (supervised.SynapticIntelligence, {"si_lambda": 1e6})):
        model = Head("trunk", 128, len(LABELS))
        with quietly():
            theirs = kind(
                model=model,
                optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
                criterion=masked_bce,
                train_mb_size=16,
                evaluator=EvaluationPlugin(loggers=[]),
                **settings,
            )
            for part in parts:
                with seeded(0):
                    dataset = as_dataset(normalised(part.images.features), part.targets)
                    theirs.train(as_experience(dataset))
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*weights)
    ours = lab.make("avalanche:SynapticIntelligence", head="trunk", si_lambda=1e3)
    assert not torch.equal(lab.scores_after(ours, parts), lab.scores_after(strategy, parts))


@pytest.mark.parametrize(("seen", "same"), [((1,), True), ((0, 1), False)])
def test_lwf_distils_between_labels_and_so_nothing_of_one(
    lab: Lab, seen: tuple[int, ...], same: bool
) -> None:
    scores = []
    for name in ("LwF", "Naive"):
        strategy = lab.make(f"avalanche:{name}", epochs=3, head="trunk", lr=0.01)
        parts = [lab.experience(strategy, 30, of, k) for k, of in enumerate((seen, (2, 3)), start=1)]
        scores.append(lab.scores_after(strategy, parts))
    assert torch.allclose(*scores, atol=1e-6) is same


@pytest.mark.parametrize(("size", "expected"), [(10, [4, 3, 3]), (1, [1])])
def test_replay_remembers_so_many_of_each_experience_as_they_were_shown(
    lab: Lab, size: int, expected: list[int], tmp_path: Path
) -> None:
    whole, resumed = (lab.make("avalanche:Replay", mem_size=size) for _ in range(2))
    parts = lab.stream(whole)
    lab.fit(whole, parts)
    state = whole.state_dict()
    assert torch.bincount(state["memory.group"]).tolist() == expected
    assert metered(state).features == size
    for row, targets, group in zip(
        *(state[f"memory.{k}"] for k in ("features", "targets", "group")), strict=True
    ):
        part = parts[int(group)]
        (place,) = (normalised(part.images.features) == row).all(dim=1).nonzero().flatten().tolist()
        assert torch.equal(targets, part.targets[place].nan_to_num(-1))
    Checkpoint("id", lab.score(whole), state, {}).write(tmp_path)
    found = Checkpoint.read(tmp_path, "id")
    assert found is not None
    resumed.load_state_dict(found.state)
    assert torch.equal(lab.scores_after(resumed, parts[:1]), lab.scores_after(whole, parts[:1]))


def test_an_experience_without_a_known_label_is_left_out(lab: Lab) -> None:
    strategy = lab.make("avalanche:MAS")
    first, second, third = lab.stream(strategy)
    lab.fit(strategy, [first])
    before = strategy.state_dict()
    second.targets[:] = torch.nan
    lab.fit(strategy, [second])
    after = strategy.state_dict()
    assert after["experiences"] == before["experiences"] == 1
    assert all(torch.equal(after[key], v) for key, v in before.items() if isinstance(v, torch.Tensor))
    third.targets[:16] = torch.nan
    assert torch.isfinite(lab.scores_after(strategy, [third])).all()


def test_a_sample_too_small_for_its_experiences_is_told(lab: Lab) -> None:
    strategy = lab.make("avalanche:AGEM", sample_size=2)
    with pytest.raises(BadSetting, match="2 is fewer than the experiences of the stream"):
        lab.fit(strategy, lab.stream(strategy))


def test_every_strategy_of_avalanche_runs_or_is_refused() -> None:
    """By their code, not by their name: helpers and plugins are no strategies."""
    found = {
        name
        for name, kind in vars(supervised).items()
        if inspect.isclass(kind)
        and kind.__module__.startswith("avalanche.training.supervised.")
        and hasattr(kind, "train")
        and not issubclass(kind, torch.nn.Module)
        and kind is not SupervisedTemplate
    }
    assert found - SUPPORTED.keys() - REFUSED.keys() == set()
    assert SUPPORTED.keys() & REFUSED.keys() == set()
    assert SUPPORTED.keys() <= found


@pytest.mark.parametrize("name", ["GDumb", "MIR", "DER", "ER_ACE", "BiC", "ICaRL", "JointTraining"])
def test_what_cannot_be_run_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(UserError) as told:
        find_strategy(f"avalanche:{name}")
    assert REFUSED[name] in str(told.value)
    assert "these are: AGEM, Cumulative, EWC" in str(told.value)


def test_memories_balanced_by_class_do_raise_on_rows_of_findings() -> None:
    targets = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    rows = torch.utils.data.TensorDataset(torch.zeros(3, 2), targets)
    dataset = AvalancheDataset([rows], data_attributes=[DataAttribute(list(targets), "targets")])
    with pytest.raises((ValueError, RuntimeError, TypeError)):
        ClassBalancedBuffer(2).update_from_dataset(dataset)


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean avalanche:EWC"):
        find_strategy("avalanche:ewc")
    assert find_strategy("avalanche:EWC/trunk") == (*find_strategy("avalanche:EWC")[:2], EWC.presets["trunk"])
    with pytest.raises(UnknownName, match=r"preset of strategy avalanche:EWC 'trunc'; did you mean trunk"):
        find_strategy("avalanche:EWC/trunc")


def test_gem_says_what_it_lacks(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install .*\[gem\]'"):
        lab.make("avalanche:GEM")


@pytest.mark.parametrize("name", SUPPORTED)
def test_its_card_explains_every_setting(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["show", "strategy", f"avalanche:{name}", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["origin"].startswith("avalanche-lib 0.")
    assert [s["name"] for s in card["settings"]][:3] == ["head", "start", "optimizer"]
    assert all(s["doc"] for s in card["settings"])
    assert card["trainable_parameters"] == {"linear": 1806, "trunk": 1806 + 65_920}


def test_it_runs_from_the_command_line_and_prints_only_ours(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["data.images=250", "data.size=64", "ewc_lambda=2", "epochs=2"]
    options = [word for setting in settings for word in ("--set", setting)]
    command = ["run", "--strategy", "avalanche:EWC", *options, "--replicates", "5", "--steps", "2", "--json"]
    assert main(command) == 0
    shown = capfd.readouterr()
    result = json.loads(shown.out)
    assert "Warning" not in shown.err
    assert result["strategy"]["name"] == "avalanche:EWC"
    assert result["strategy"]["origin"].startswith("avalanche-lib 0.")
    assert result["strategy"]["settings"]["ewc_lambda"] == 2.0
    assert np.isfinite(result["metrics"]["final_auc"]["value"])
    (folder,) = Path("runs/class-incremental").iterdir()
    assert folder.name.startswith("avalanche-EWC-phantom-seed0-")
    assert retune.Result.read(folder).strategy.name == "avalanche:EWC"
