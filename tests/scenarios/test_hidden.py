"""What a label that an experience does not observe looks like: masked, or absent as much of the field has it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import retune
from retune import Dataset, Images, Scenario, Stream
from retune.check.scenario import check_scenario
from retune.check.tables import NoImages, several
from retune.cli.main import main
from retune.methods.given import training
from retune.plugins import registry
from retune.report.groups import sections
from retune.results.cautions import cautions
from retune.settings import make, settings_of, values_of
from retune.streams.cuts import masked

CLASSES: dict[str, type[Scenario]] = {
    name: registry("scenarios").load(name) for name in registry("scenarios").names()
}
HIDING = [name for name, cls in CLASSES.items() if "hidden" in {s.name for s in settings_of(cls)}]


def cut(name: str, **settings: object) -> Stream:
    return make(CLASSES[name], settings, owner=name).stream(several(), 3)


def tiny() -> Dataset:
    """Three patients of an image each, two labels; the second image's first label is unknown."""
    targets = np.array([[1, 0], [np.nan, 1], [0, 1]], dtype=np.float32)
    names = np.array(["a", "b", "c"])
    split = np.array(["train", "train", "test"])
    return Dataset("tiny", ("X", "Y"), names, names, split, targets, NoImages())


def test_every_scenario_whose_labels_arrive_has_the_choice() -> None:
    assert set(CLASSES) - set(HIDING) == {"data-incremental", "label-noise"}


@pytest.mark.parametrize("name", [name for name, cls in CLASSES.items() if not cls.alters_labels])
def test_a_masked_stream_keeps_the_fingerprint_and_the_settings_it_always_had(name: str) -> None:
    made = cut(name)
    digest = hashlib.sha256(made.dataset.fingerprint.encode())
    for e in made.experiences:
        digest.update(np.array(e.observed, dtype=np.int64).tobytes() + b"|" + e.rows.tobytes() + b";")
    digest.update(made.test.tobytes())
    assert made.fingerprint == digest.hexdigest()
    assert not {"hidden", "task_order"} & set(values_of(CLASSES[name]()))


@pytest.mark.parametrize("name", HIDING)
def test_an_absent_stream_differs_in_hidden_labels_alone(name: str) -> None:
    plain, absent = cut(name), cut(name, hidden="absent")
    assert absent.fingerprint != plain.fingerprint
    assert values_of(make(CLASSES[name], {"hidden": "absent"}, owner=""))["hidden"] == "absent"
    assert absent.first.tolist() == plain.first.tolist()
    assert np.array_equal(absent.targets, plain.targets, equal_nan=True)
    assert np.array_equal(absent.joint().targets, plain.joint().targets, equal_nan=True)
    for one, other in zip(plain.experiences, absent.experiences, strict=True):
        hidden = np.setdiff1d(np.arange(len(plain.labels)), one.observed)
        assert (one.observed, one.shown) == (other.observed, one.observed)
        assert other.shown == tuple(range(len(plain.labels)))
        assert np.array_equal(one.rows, other.rows)
        assert np.isnan(one.targets[:, hidden]).all()
        assert not other.targets[:, hidden].any()
        shown = list(one.observed)
        assert np.array_equal(one.targets[:, shown], other.targets[:, shown], equal_nan=True)
    assert check_scenario(name, {"hidden": "absent"}).failed == {}


def test_targets_by_hand_and_what_a_learner_is_told() -> None:
    table = tiny()
    experiences = (masked(table, 1, np.array([0, 1]), [0]), masked(table, 2, np.array([0, 1]), [1]))
    first, second = Stream(table, experiences, np.array([2]), "absent").experiences
    assert np.array_equal(first.targets, [[1, 0], [np.nan, 0]], equal_nan=True)  # unknown stays unknown
    assert np.array_equal(second.targets, [[0, 0], [0, 1]])
    told = training(second, Images(2, {}), 0, reports=("one", "two"))
    assert (told.observed, told.annotated, told.reports) == ((0, 1), (1,), None)
    plain = training(experiences[1], Images(2, {}), 0, reports=("one", "two"))
    assert (plain.observed, plain.annotated, plain.reports) == ((1,), (1,), None)


SHARED = '''
"""One small network for all labels, trained on whatever has a target."""
from dataclasses import dataclass
import torch
from retune import Strategy
from retune.methods.losses import masked_bce

@dataclass
class SharedNet(Strategy):
    name = "shared-net"
    needs = frozenset({"features"})

    def setup(self, context):
        torch.manual_seed(context.seed)
        d, c = context.dim, len(context.labels)
        self.net = torch.nn.Sequential(torch.nn.Linear(d, 16), torch.nn.ReLU(), torch.nn.Linear(16, c))

    def fit(self, experience):
        optimiser = torch.optim.Adam(self.net.parameters(), lr=1e-2)
        features = experience.images.features
        for _ in range(100):
            optimiser.zero_grad()
            masked_bce(self.net(features), experience.targets).backward()
            optimiser.step()

    @torch.no_grad()
    def score(self, images):
        return self.net(images.features)

    def state_dict(self):
        return dict(self.net.state_dict())

    def load_state_dict(self, state):
        self.net.load_state_dict(state)
'''


def hospital(folder: Path) -> list[str]:
    """240 patients whose four labels are the signs of four features."""
    labels, rng = ("Edema", "Pleural Effusion", "Pneumonia", "Fracture"), np.random.default_rng(1)
    features = rng.normal(size=(240, 6)).astype(np.float32)
    rows = [f"{k}.png,p{k},{('train', 'test')[k % 3 // 2]}" for k in range(240)]
    signs = [",".join(map(str, row)) for row in (features[:, :4] > 0).astype(int).tolist()]
    lines = [f"{row},{sign}" for row, sign in zip(rows, signs, strict=True)]
    (folder / "labels.csv").write_text(
        "\n".join([",".join(("image", "patient", "split", *labels)), *lines]) + "\n"
    )
    ids = [f"{k}.png" for k in range(240)]
    np.savez(folder / "have.npz", image_ids=ids, image_features=features)
    (folder / "shared_net.py").write_text(SHARED)
    words = ["run", "--data", "csv", "--root", str(folder), "--backbone", f"features:{folder / 'have.npz'}"]
    return [*words, "--strategy", str(folder / "shared_net.py"), "--steps", "2", "--replicates", "20"]


def test_a_shared_model_forgets_more_where_hidden_labels_read_as_absent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, found, told = hospital(tmp_path), {}, {}
    for hidden in ("masked", "absent"):
        out = tmp_path / hidden
        assert main([*words, "--set", f"scenario.hidden={hidden}", "--out", str(out)]) == 0
        found[hidden], told[hidden] = retune.Result.read(out), " ".join(capsys.readouterr().out.split())
        assert found[hidden].scenario.hidden == hidden
    lost = {hidden: result.metric("forgetting").value or 0.0 for hidden, result in found.items()}
    assert lost["absent"] > lost["masked"] + 0.05
    masked_, absent = found["masked"], found["absent"]
    assert absent.run.id != masked_.run.id
    # A threshold is that of a label's own experience: the first is the same for both.
    assert absent.first == masked_.first == [1, 1, 2, 2]
    assert None not in absent.thresholds
    assert "Hidden labels read as absent" in told["absent"].split("AUC on")[0]
    assert "read as absent" not in told["masked"]
    (section,) = sections([masked_, absent])
    assert sorted(stream.title for stream in section.streams) == [
        "class-incremental, hidden=absent",
        "class-incremental, hidden=masked",
    ]
    assert [line for line in cautions(absent, masked_) if "read as absent" in line]
    assert not [line for line in cautions(masked_) if "read as absent" in line]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (["--set", "scenario.hidden=other"], "setting hidden: 'other' is not masked | absent"),
        (
            ["--scenario", "data-incremental", "--set", "scenario.hidden=absent"],
            "unknown setting 'hidden'",
        ),
        (
            [
                "--scenario",
                "re-tune-chexpert-5",
                "--data",
                "phantom",
                "--set",
                "scenario.kind=data",
                "--set",
                "scenario.hidden=absent",
            ],
            "kind=data observes every label in every experience, so none is hidden",
        ),
    ],
    ids=["other", "no-such-setting", "nothing-hidden"],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], asked: list[str], line: str) -> None:
    assert main(["run", *asked]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("error") == 1
