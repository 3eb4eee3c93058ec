"""Whatever a strategy does wrong is one line that names it; it is told, and nothing is half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_features import SETTINGS, features_file
from safetensors.numpy import load_file

import retune
from retune.cli.main import main
from retune.errors import StrategyError
from retune.methods.memory import Stored

START = """
import sys, torch
from dataclasses import dataclass, field
from pathlib import Path
from retune import Strategy

class Mine(Strategy):
    name = "mine"
    needs = frozenset({"features"})
    learnt = 0
    def fit(self, experience):
        self.learnt += 1
    def score(self, images):
        return images.features[:, :14] * (self.learnt + 1)
    def state_dict(self):
        return {"learnt": self.learnt}
    def load_state_dict(self, state):
        self.learnt = state["learnt"]
"""


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return features_file(tmp_path_factory.mktemp("features"))


def written(folder: Path, more: str) -> str:
    """A strategy that is well but for what is added to it."""
    file = folder / "mine.py"
    file.write_text(START + "".join(f"    {line}\n" for line in more.splitlines()))
    return str(file)


def run(folder: Path, backbone: str, more: str, **options: Any) -> retune.Result:
    return retune.run(
        strategy=written(folder, more),
        backbone=backbone,
        out=folder / "out",
        **{"settings": SETTINGS, "steps": 2, "replicates": 20, **options},
    )


SCORE = "def score(self, images):\n    "
STATE = "def state_dict(self):\n    "
FIT = "def fit(self, experience):\n    "

MISTAKES = {
    "shape": (SCORE + "return torch.zeros(len(images), 3)", "of shape (96, 3), not floating-point numbers of shape"),
    "whole numbers": (SCORE + "return torch.zeros(len(images), 14, dtype=int)", "returned torch.int64 of shape"),
    "nan": (
        SCORE + "s = torch.zeros(len(images), 14)\n    s[3, 2] = float('nan')\n    return s",
        "returned NaN or infinity for Cardiomegaly; 'retune check ",
    ),
    "too large": (SCORE + "return torch.full((len(images), 14), 1e30).half()", "NaN or infinity for No Fin"),
    "no tensor": (SCORE + "return [1, 2, 3]", "score returned list, not a tensor"),
    "nowhere": (SCORE + "return torch.zeros(len(images), 14, device='meta')", "score before training"),
    "score": (
        SCORE + "raise ValueError('boom,\\n boom')",
        "failed in score before training: ValueError: boom, boom (mine.py, line 20)",
    ),
    "deep": (SCORE + "return torch.nn.Linear(2, 3)(torch.zeros(5))", "(mine.py, line 20)"),
    "exit": (FIT + "sys.exit(0)", "failed in fit of experience 1: SystemExit: 0"),
    "undeclared": (FIT + "experience.images.pixels", "fit of experience 1: the strategy asks for pixels without"),
    "setup": ("def setup(self, context):\n    1 / 0", "failed in setup: ZeroDivisionError"),
    "state": (STATE + "1 / 0", "failed in state_dict: ZeroDivisionError"),
    "state is none": (STATE + "return None", "state_dict returned no dictionary whose keys are text"),
    "state by number": (STATE + "return {1: 2}", "state_dict returned no dictionary whose keys are text"),
    "state is a set": (STATE + "return {'seen': {1, 2}}", "'seen' of state_dict is not JSON (Object of type set"),
    "state is nested": (STATE + "return {'all': {'w': torch.zeros(1)}}", "'all' of state_dict is not JSON"),
    "state is nan": (STATE + "return {'best': float('nan')}", "'best' of state_dict is not JSON"),
    "state is a tuple": (STATE + "return {'seen': (1, 2)}", "'seen' of state_dict comes back from JSON as something"),
    "state is sparse": (STATE + "return {'w': torch.eye(3).to_sparse()}", "the state cannot be stored (RuntimeError"),
    "memory": (STATE + "return {'memory.x': torch.zeros(2)}", "holds 'memory.x' though keeps_samples is False"),
    "trained": ("def trainable_parameters(self):\n    1 / 0", "failed in trainable_parameters"),
    "trained text": ("def trainable_parameters(self):\n    return 'many'", "trainable_parameters returned str"),
    "diagnostics": ("def diagnostics(self):\n    1 / 0", "failed in diagnostics: ZeroDivisionError"),
    "diagnostics tensor": ("def diagnostics(self):\n    return {'w': torch.zeros(1)}", "diagnostics is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_and_leaves_nothing(tmp_path: Path, backbone: str, mistake: str) -> None:
    more, words = MISTAKES[mistake]
    with pytest.raises(StrategyError) as caught:
        run(tmp_path, backbone, more)
    assert str(caught.value).startswith("strategy mine")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


PLANNED = {
    "requires": ("def requires(self):\n    1 / 0", 1, "strategy mine failed in requires: ZeroDivisionError"),
    "needs": (
        "def requires(self):\n    return ['features']",
        2,
        "needs ['features'], which is no set of names",
    ),
    "need": ("needs = frozenset({'feature'})", 2, "unknown need 'feature'"),
    "name": ("name = None", 2, "Mine lacks a name; add name = 'text'"),
    "version": ("version = 2", 2, "Mine lacks a version"),
    "made": ("def __init__(self):\n    1 / 0", 1, "strategy mine failed in __init__: ZeroDivisionError"),
    "default": ("x: float = float('inf')\nMine = dataclass(Mine)", 2, "setting x is not JSON"),
}


@pytest.mark.parametrize("mistake", PLANNED)
def test_a_mistake_seen_beforehand_is_told(
    tmp_path: Path, backbone: str, capsys: pytest.CaptureFixture[str], mistake: str
) -> None:
    more, code, words = PLANNED[mistake]
    file = Path(written(tmp_path, more))
    # What stands below the class belongs to the module.
    file.write_text(file.read_text().replace("    Mine", "Mine"))
    out = ["--out", str(tmp_path / "out"), "--set", "data.images=300"]
    assert main(["run", "--strategy", str(file), "--backbone", backbone, *out]) == code
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_was_learnt_before_a_mistake_is_kept(tmp_path: Path, backbone: str) -> None:
    flag = tmp_path / "mended"
    more = f"def fit(self, experience):\n    self.learnt += 1\n    assert self.learnt < 2 or Path({str(flag)!r}).exists()"
    with pytest.raises(StrategyError, match="failed in fit of experience 2: AssertionError"):
        run(tmp_path, backbone, more)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"run.json", "checkpoint.safetensors"}
    flag.touch()
    assert len(run(tmp_path, backbone, more).auc_matrix) == 3


def test_a_state_that_cannot_be_taken_up_is_told(tmp_path: Path, backbone: str) -> None:
    more = "def fit(self, experience):\n    self.learnt += 1\n    assert self.learnt < 2\n"
    more += "def load_state_dict(self, state):\n    state['weight']"
    for words in (
        "failed in fit of experience 2",
        r"failed in load_state_dict: KeyError: 'weight' \(mine.py",
    ):
        with pytest.raises(StrategyError, match=words):
            run(tmp_path, backbone, more)


LOUD = """
print("imported")
def setup(self, context):
    print("set up")
def fit(self, experience):
    print("learning")
    sys.stdout.write("and learning")
def score(self, images):
    print("scoring")
    return images.features[:, :14]
"""


def test_what_a_strategy_prints_is_kept_out_of_results(
    tmp_path: Path, backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--backbone",
        backbone,
        "--set",
        "data.images=300",
        "--set",
        "data.size=64",
        "--replicates",
        "20",
    ]
    out = str(tmp_path / "out")
    assert main(["run", "--strategy", written(tmp_path, LOUD), *arguments, "--out", out, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["strategy"]["name"] == "mine"
    assert all(word in captured.err for word in ("imported", "set up", "learning", "and learning", "scoring"))


KEEPS = """
sees_everything = False
def fit(self, experience):
    if self.learnt:
        WHAT
    self.kept, self.learnt = experience.images, self.learnt + 1
def score(self, images):
    self.tests = images
    return images.features[:, :14]
"""


@pytest.mark.parametrize("what", ["self.kept.features", "self.tests.features"])
def test_images_are_lent_for_one_call(tmp_path: Path, backbone: str, what: str) -> None:
    with pytest.raises(
        StrategyError, match=r"strategy mine, fit of experience 2: asks for images of an earlier call"
    ):
        run(tmp_path, backbone, KEEPS.replace("WHAT", what))


def test_rows_that_were_handed_out_are_lent_too(tmp_path: Path) -> None:
    more = KEEPS.replace("WHAT", "self.rows[torch.arange(2)]").replace(
        "    self.kept,",
        "    self.rows = experience.images.pixels\n    self.rows[torch.arange(2)]\n    self.kept,",
    )
    with pytest.raises(StrategyError, match="experience 2: asks for images of an earlier call"):
        run(
            tmp_path,
            "phantom-clip",
            more.replace("images.features[:, :14]", "torch.zeros(len(images), 14)")
            + "\nneeds = frozenset({'pixels'})",
            settings={"data.images": 60, "data.size": 64},
        )


def test_an_upper_bound_may_look_again(tmp_path: Path, backbone: str) -> None:
    more = KEEPS.replace("= False", "= True").replace(
        "self.tests = images", "self.kept.features if self.learnt else 0"
    )
    assert len(run(tmp_path, backbone, more).auc_matrix) == 3


def test_labels_changed_by_a_strategy_change_nothing_else(tmp_path: Path, backbone: str) -> None:
    kept = []
    for name, more in (
        ("leaves", ""),
        ("changes", FIT + "experience.targets.fill_(1)\n    self.learnt += 1"),
    ):
        (tmp_path / name).mkdir()
        result = run(tmp_path / name, backbone, more)
        kept.append((load_file(tmp_path / name / "out" / "scores.safetensors"), result))
    (first, left), (second, changed) = kept
    assert all(np.array_equal(first[key], second[key], equal_nan=True) for key in first)
    # Thresholds are chosen on the training labels.
    assert left.thresholds == changed.thresholds
    assert left.scenario.fingerprint == changed.scenario.fingerprint


def test_what_is_declared_to_be_kept_is_metered(tmp_path: Path, backbone: str) -> None:
    more = "keeps_samples = True\n" + STATE + "return {'memory.features': torch.zeros(self.learnt, 8)}\n"
    cost = run(tmp_path, backbone, more + "def load_state_dict(self, state):\n    pass").cost
    assert Stored(cost.stored_images, cost.stored_features, cost.stored_bytes) == Stored(0, 2, 64)


@pytest.mark.parametrize(("needs", "many"), [("features", 1), ("pixels", 2)])
def test_maps_learn_on_one_thread_and_towers_on_what_there_is(
    tmp_path: Path, needs: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retune.backbones.precision.cores", lambda: 2)
    more = (
        f"needs = frozenset({{'features', '{needs}'}})\n"
        + FIT
        + "self.learnt = float(torch.get_num_threads())"
    )
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        small = {"data.images": "60", "data.size": "64"}
        result = run(tmp_path, "phantom-clip", more, settings=small, data="phantom", steps=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    scores = load_file(tmp_path / "out" / "scores.safetensors")["scores"]
    assert result.run.threads == many
    np.testing.assert_allclose(scores[1] / scores[0], many + 1)
