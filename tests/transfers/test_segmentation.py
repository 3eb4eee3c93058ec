"""``--transfer segmentation`` on pictures whose outlines are known, from the first moment to the result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_discs import DiscImages
from safetensors.numpy import load_file
from sklearn.metrics import f1_score

import retune
from retune.cli.main import main
from retune.errors import BadSetting, UnknownName, UserError
from retune.runner.run import prepare
from retune.runner.spec import Spec

DISCS = str(Path(__file__).parents[1] / "made_discs.py")
MOVING = '''
import os
from dataclasses import dataclass

import torch

from retune.methods.strategy import Strategy


@dataclass
class Moving(Strategy):
    """Its maps are the backbone's tokens, of which each experience destroys a share."""

    name = "moving"
    needs = frozenset({"features", "tokens"})
    harm: float = 0.0

    def setup(self, context):
        super().setup(context)
        self.step = 0

    def fit(self, experience):
        if self.step == 1 and os.environ.get("STOP_MOVING"):
            raise KeyboardInterrupt
        self.step += 1

    def score(self, images):
        return images.features[:, : len(self.context.labels)]

    def dense(self, images):
        if not self.step:
            return None
        tokens = images.tokens[torch.arange(len(images))]
        maps = tokens.transpose(1, 2).reshape(len(tokens), -1, 4, 4)
        ruined = int(self.harm * self.step * maps.shape[1])
        maps[:, :ruined] = 0
        return maps

    def state_dict(self):
        return {"step": self.step}

    def load_state_dict(self, state):
        self.step = state["step"]
'''


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("moving") / "moving.py"
    file.write_text(MOVING, encoding="utf-8")
    return str(file)


def spec(**options) -> Spec:
    chosen = {"data": DISCS, "steps": 2, "replicates": 20, "strategy": "ridge", "transfer": "segmentation"}
    return Spec(**{**chosen, **options})


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("still")
    return retune.run(spec(), out=folder / "run"), folder / "run"


def test_an_image_side_that_does_not_move_is_measured_once(still) -> None:
    found = still[0].transfer[0]
    assert (found.moves, found.findings, found.grid) == (False, ["Lung Lesion", "Heart"], 4)
    assert len(found.refit["dice"]) == 3
    assert all(row == found.refit["dice"][0] for row in found.refit["dice"] + found.kept["dice"])
    assert {key: metric.value for key, metric in found.metrics.items() if key != "dense_final"} == {
        "dense_transfer": 0, "dense_forgetting": 0, "head_drift": 0
    }  # fmt: skip


def test_the_probe_sees_discs_that_anatomy_alone_does_not(still) -> None:
    found = still[0].transfer[0]
    disc, heart = found.refit["dice"][0]
    assert disc > 0.5 > found.trivial["prior"]["dice"][0]
    # The square is at one place in every picture: anatomy is all there is to know.
    assert found.trivial["prior"]["dice"][1] == 1 > heart
    assert found.trivial["empty"]["published"] == [0.5, 0.0]
    assert found.trivial["empty"]["dice"] == [0, 0]
    # At random: half of the pictures have a disc; two of three are known to have a heart, of 39 x 47 pixels of 128 x 128.
    area = np.stack(DiscImages(96, np.arange(96) % 2 == 0).masks(np.flatnonzero(np.arange(96) % 8 >= 6)))[
        :, 0
    ].mean()
    assert found.trivial["random"]["dice"] == pytest.approx(
        [2 * area / (1 + area), 2 * 39 * 47 / (128**2 + 39 * 47)]
    )


def test_the_numbers_follow_from_the_sums_and_the_sums_from_the_masks(still) -> None:
    result, folder = still
    arrays = load_file(folder / "scores.safetensors")
    sums, known = arrays["transfer.sums"], arrays["transfer.known"]
    rows = np.flatnonzero(np.arange(96) % 8 >= 6)
    made = DiscImages(96, np.arange(96) % 2 == 0)
    assert (known == made.known(rows)).all()
    assert sums[0, 0, :, :, 2].tolist() == [mask.sum((1, 2)).tolist() for mask in made.masks(rows)]
    both, found, true = sums[0, 2, :, 0].astype(float).sum(0)
    assert result.transfer[0].refit["dice"][2][0] == pytest.approx(2 * both / (found + true), abs=1e-12)
    # Methods are compared on the very resamples that the intervals are of.
    drawn = arrays["transfer.replicates.dense_final"]
    metric = result.transfer[0].metrics["dense_final"]
    assert [metric.low, metric.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
    # Nobody outlined Heart in every third picture: what is unknown is neither hit nor false alarm.
    assert not sums[:, :, ~known].any()


def test_maps_that_are_destroyed_are_forgotten(moving: str, tmp_path: Path, still) -> None:
    same = retune.run(spec(strategy=moving), out=tmp_path / "same").transfer[0]
    ruined = retune.run(spec(strategy=moving, settings={"harm": 0.49}), out=tmp_path / "ruined").transfer[0]
    # What is handed back unchanged is the backbone's own, though it is asked for and measured anew.
    assert same.moves
    assert same.refit["dice"] == still[0].transfer[0].refit["dice"]
    assert same.metrics["head_drift"].value == 0
    assert ruined.metrics["dense_forgetting"].low > 0
    # A probe that was fitted before is lost sooner than one that may look for what is left.
    assert ruined.metrics["head_drift"].value > ruined.metrics["dense_forgetting"].value
    assert ruined.refit["dice"][0] == same.refit["dice"][0]


def test_an_interrupted_run_goes_on_to_the_same_bit(
    moving: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spec(strategy=moving, settings={"harm": 0.3})
    whole = retune.run(asked, out=tmp_path / "whole")
    monkeypatch.setenv("STOP_MOVING", "1")
    with pytest.raises(KeyboardInterrupt):
        retune.run(asked, out=tmp_path / "stopped")
    monkeypatch.delenv("STOP_MOVING")
    resumed = retune.run(asked, out=tmp_path / "stopped")
    told = [{**r.transfer[0].model_dump(), "cost": None} for r in (whole, resumed)]
    assert told[0] == told[1]
    arrays = [load_file(tmp_path / of / "scores.safetensors") for of in ("whole", "stopped")]
    assert all(arrays[0][key].tobytes() == arrays[1][key].tobytes() for key in arrays[0])


def test_too_few_positives_are_undefined_and_named(tmp_path: Path) -> None:
    found = retune.run(spec(settings={"data.rare": True}, steps=1), out=tmp_path / "run").transfer[0]
    assert found.refit["dice"][0][0] is None
    assert found.refit["published"][0][0] is None
    # Predicting nothing looks best exactly where nothing can be said.
    assert found.trivial["empty"]["published"][0] > 0.9
    assert any("Lung Lesion" in note for note in found.notes)
    assert found.metrics["dense_final"].value == found.refit["dice"][-1][1]


def test_without_the_option_a_run_is_the_run_that_it_was() -> None:
    without, with_it = (prepare(spec(transfer=of)).plan for of in (None, "segmentation"))
    assert without.id != with_it.id
    assert "transfer" not in without.parts.identity()
    larger = prepare(spec(settings={"transfer.size": 64})).plan
    assert larger.id != with_it.id


def test_test_images_that_the_stream_teaches_are_counted(tmp_path: Path) -> None:
    turned = tmp_path / "turned.py"
    turned.write_text(
        Path(DISCS)
        .read_text(encoding="utf-8")
        .replace('< 4, "train"', '>= 4, "train"')
        .replace("< 6", "< 2"),
        encoding="utf-8",
    )
    plan = prepare(spec(transfer=f"segmentation:{turned}")).plan
    assert plan.transfer is not None
    assert any(note.startswith("24 of 24 test images of the transfer are") for note in plan.transfer.notes)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"transfer": "segmentatio"}, "segmentation"),
        ({"transfer": "segmentation:nihh"}, "nih"),
        ({"settings": {"data.outlined": False}}, "outlines"),
        ({"settings": {"transfer.size": 4}}, "size"),
        ({"settings": {"transfer.sise": 64}}, "sise"),
        ({"transfer": None, "settings": {"transfer.size": 64}}, "--transfer"),
        ({"data": f"{DISCS},phantom", "scenario": "data-incremental"}, "which of"),
    ],
)
def test_bad_input_is_told_in_one_line(options: dict, what: str) -> None:
    with pytest.raises((UserError, BadSetting, UnknownName), match=what) as caught:
        prepare(spec(**{"steps": None if "scenario" in options else 2, **options}))
    assert "\n" not in str(caught.value)


def test_a_backbone_without_tokens_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.safetensors"
    assert main(["embed", "--data", DISCS, "--prompts", "language-model", "--out", str(file)]) == 0
    code = main(["run", "--data", DISCS, "--backbone", f"features:{file}", "--strategy", "ridge", "--steps", "2",
                 "--transfer", "segmentation", "--out", str(tmp_path / "run")])  # fmt: skip
    told = capsys.readouterr().err
    assert code == 2
    assert "needs tokens" in told
    assert not (tmp_path / "run").exists()


def test_transfers_are_listed_and_have_cards(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "transfers", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["transfers"]
    assert "segmentation" in [row["name"] for row in listed]
    assert main(["show", "transfer", "segmentation"]) == 0
    assert "--set transfer.NAME=VALUE" in capsys.readouterr().out


def test_pixels_are_compared_as_they_are(tmp_path: Path) -> None:
    """The probe's own maps, cut at its own threshold, against scikit-learn on the pixels."""
    import torch

    from retune.transfers.base import Part, Task
    from retune.transfers.segmentation import Segmentation

    rng = np.random.default_rng(0)
    truth = rng.random((30, 1, 16, 16)) < 0.3
    maps = torch.from_numpy(
        np.concatenate([truth + rng.normal(0, 0.3, truth.shape), rng.random(truth.shape)], 1)
    ).float()

    known = np.ones((30, 1), dtype=bool)
    part = Part(truth, known, truth.any((2, 3)), np.arange(30))
    task = Task(("Lung Lesion",), part, part, part, 0, 10, 0.95)
    measured = Segmentation(size=16).begin(task)
    measured.measure(maps, maps, maps)
    measured.repeat()
    dice = measured.numbers()["refit"]["dice"][0][0]
    # Ridge on two features is least squares: scikit-learn's own, with the best of all cuts.
    from sklearn.linear_model import Ridge

    cells = maps.permute(0, 2, 3, 1).reshape(-1, 2).numpy().astype(float)
    scaled = cells / cells.std(0)
    said = Ridge(alpha=1e-3 * len(cells)).fit(scaled, truth.ravel()).predict(scaled)
    best = max(f1_score(truth.ravel(), said >= cut) for cut in np.linspace(said.min(), said.max(), 400))
    assert dice == pytest.approx(best, abs=2e-3)
