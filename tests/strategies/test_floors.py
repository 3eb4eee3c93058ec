"""Floors: what is reached from the table, from a thumbnail, or with labels shuffled; no methods, and marked so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize as normalise

import retune
from retune.check.lab import Lab
from retune.data.attributes import ATTRIBUTES, attributes
from retune.suite.runs import Finished
from retune.suite.summary import summarise
from retune.suite.tables import markdown
from retune.suite.verdict import verdict

N = 240
LABELS = ["Edema", "Cardiomegaly", "Atelectasis"]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Edema is of portable pictures, Cardiomegaly of old women; features tell Atelectasis, which the table does not."""
    folder, rng = tmp_path_factory.mktemp("hospital"), np.random.default_rng(0)
    view, sex = rng.choice(["PA", "AP"], N), rng.choice(["F", "M", ""], N)
    age = rng.integers(20, 90, N).astype(object)
    age[:6] = ["", "414", "", "414", "", "414"]  # as tables have them
    old = np.array([str(a).isdigit() and 60 < int(a) < 120 for a in age])
    truth = np.stack([view == "AP", old & (sex == "F"), rng.random(N) < 0.5], axis=1).astype(int)
    ids = [f"i{k}.png" for k in range(N)]
    split = np.where(np.arange(N) % 3 == 0, "test", "train")
    frame = pd.DataFrame({"image": ids, "patient": ids, "split": split, "view": view, "sex": sex, "age": age})
    table = pd.concat([frame, pd.DataFrame(truth, columns=LABELS)], axis=1)
    table.to_csv(folder / "labels.csv", index=False)
    (folder / "bare").mkdir()
    table.drop(columns=["view", "sex", "age"]).to_csv(folder / "bare" / "labels.csv", index=False)
    features = rng.standard_normal((N, 8)).astype(np.float32)
    features[:, 0] += 4 * truth[:, 2]
    np.savez(folder / "features.npz", image_ids=np.array(ids), image_features=features)
    return folder


def test_they_reach_what_the_table_tells_and_stand_below_the_methods_unranked(
    hospital: Path, tmp_path: Path
) -> None:
    backbone = f"features:{hospital / 'features.npz'}"
    finals, runs = {}, []
    for name in ("floor-view", "floor-shuffled", "ridge"):
        settings = {"start": "zeros"} if name == "ridge" else {}
        folder = tmp_path / name
        result = retune.run(
            strategy=name, data="csv", root=hospital, backbone=backbone, steps=3, settings=settings,
            replicates=50, out=folder,
        )  # fmt: skip
        finals[name] = dict(zip(result.labels, result.auc_matrix[-1], strict=True))
        assert result.strategy.floor == (name != "ridge")
        runs.append(Finished(name, "class-incremental", "csv", "features", "", 0, folder))
    assert finals["floor-view"]["Edema"] > 0.999
    assert finals["floor-view"]["Cardiomegaly"] > 0.85
    assert abs(finals["floor-view"]["Atelectasis"] - 0.5) < 0.15
    assert finals["ridge"]["Atelectasis"] > 0.95
    assert finals["ridge"]["Edema"] < 0.65
    summary = summarise(runs)
    assert {row.strategy: row.role for row in summary.settings[0].rows} == {
        "ridge": "best",
        "floor-view": "floor",
        "floor-shuffled": "floor",
    }
    assert summary.settings[0].rows[0].strategy == "ridge"
    assert [method.strategy for method in summary.ranks.methods] in ([], ["ridge"])
    # Ridge reads one label off the features, floor-view another off the table.
    assert re.fullmatch(
        r"ridge ends at .* ridge is not told from a floor: floor-view \(\.\d+\)\.",
        verdict(summary.settings[0]),
    )
    assert "| floor-view | 1 | floor |" in markdown(summary)


def test_a_table_that_tells_nothing_is_said(hospital: Path, tmp_path: Path) -> None:
    backbone = f"features:{hospital / 'features.npz'}"
    result = retune.run(
        strategy="floor-view", data="csv", root=hospital / "bare", backbone=backbone, steps=3,
        replicates=5, out=tmp_path / "out",
    )  # fmt: skip
    assert set(result.auc_matrix[-1]) == {0.5}
    assert any("no view, no sex and no age" in note for note in result.dataset.notes)


def test_what_the_table_tells_as_numbers() -> None:
    columns = {
        "view": np.array(["AP", "PA", "", "oblique"]),
        "sex": np.array(["F", "M", "", "x"]),
        "age": np.array([50, np.nan, 414, 0], np.float32),
    }
    found = attributes(columns, np.array([0, 1, 2, 3]))
    told = [{n for n, v in zip(ATTRIBUTES, row, strict=True) if v} for row in found.tolist()]
    assert told == [{"AP", "F", "age known", "age", "age squared"}, {"PA", "M"}, set(), {"age known"}]
    assert found[0, -2:].tolist() == [0.5, 0.25]
    assert not attributes({}, np.array([0])).any()


def test_shuffled_labels_are_ridge_on_other_images(lab: Lab) -> None:
    """As scikit-learn solves it for the same order."""
    floor = lab.make("floor-shuffled", penalty=3.0)
    part = lab.experience(floor, 60, range(len(lab.labels)), 5)
    lab.fit(floor, [part])
    test = lab.tests(floor)
    order = torch.randperm(60, generator=part.generator())
    unit = normalise(part.images.features.double().numpy()), normalise(test.features.double().numpy())
    scale = np.sqrt(unit[0].shape[1])  # rows of length root d
    model = Ridge(alpha=3.0).fit(unit[0] * scale, 2 * part.targets[order].double().numpy() - 1)
    np.testing.assert_allclose(lab.score(floor, test), model.predict(unit[1] * scale), atol=1e-4)
