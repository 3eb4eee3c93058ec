"""Whom the samples that a method keeps tell, against scikit-learn's neighbours; and the energy that a machine counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_features import SETTINGS, dataset, features_file, vectors
from sklearn.neighbors import NearestNeighbors

import retune
from retune import Strategy
from retune.cli.main import main
from retune.methods.given import Images, Training
from retune.methods.strategy import State
from retune.runner.energy import Meter, Reading, packages

SEEN: list[np.ndarray] = []


class KeepsSome(Strategy):
    """Keeps every other image of the first experience, and a vector that is no image's."""

    name = "keeps-some"
    needs = frozenset({"features"})
    keeps_samples = True
    kept = torch.zeros(0, 14)

    def fit(self, experience: Training) -> None:
        if not len(self.kept):
            SEEN.append(experience.images.features[::2].numpy())
            # Longer than they were: only the direction counts.
            self.kept = torch.cat([experience.images.features[::2] * 3, torch.full((1, 14), -1.0)])

    def score(self, images: Images) -> torch.Tensor:
        return images.features

    def state_dict(self) -> State:
        return {"memory.features": self.kept}

    def load_state_dict(self, state: State) -> None:
        self.kept = state["memory.features"]


def nearest(gallery: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    found = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(gallery)
    return np.asarray(found.kneighbors(queries, return_distance=False)[:, k - 1])


def test_rank_one_of_what_is_kept_and_of_the_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Several blocks of images, none of them full.
    monkeypatch.setattr("retune.runner.identity.AT_ONCE", 37)
    result = retune.run(
        strategy=KeepsSome(), backbone=features_file(tmp_path), scenario="data-incremental",
        out=tmp_path / "out", settings=SETTINGS, steps=2, replicates=50,
    )  # fmt: skip
    table = dataset()
    features, patients = vectors(table), np.unique(table.patient_id, return_inverse=True)[1]
    train, test = (np.flatnonzero(table.split == split) for split in ("train", "test"))

    held = np.array([np.flatnonzero((features == row).all(axis=1))[0] for row in SEEN[-1]])
    told = result.identification["kept"]
    assert told.gallery == len(held) + 1

    asked = np.setdiff1d(train[np.isin(patients[train], patients[held])], held)
    gallery = np.concatenate([features[held] * 3, np.full((1, 14), -1.0, np.float32)])
    owners = np.append(patients[held], -1)
    assert told.queries == len(asked) > 10
    assert told.patients == len(np.unique(patients[asked]))
    hits = owners[nearest(gallery, features[asked], 1)] == patients[asked]
    assert told.rank_one == pytest.approx(hits.mean())
    assert told.chance == pytest.approx(np.mean([(owners == p).sum() / len(owners) for p in patients[asked]]))
    assert told.low <= told.rank_one <= told.high

    own = result.identification["backbone"]
    several = np.array([(patients[test] == p).sum() > 1 for p in patients[test]])
    second = nearest(features[test], features[test], 2)
    hits = (patients[test][second] == patients[test])[several]
    assert (own.queries, own.gallery) == (several.sum(), len(test) - 1)
    assert own.rank_one == pytest.approx(hits.mean())

    assert main(["audit", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "Whom it tells" in shown
    assert f"{told.rank_one:.1%} (" in shown
    assert f"{own.rank_one:.1%} (" in shown


def test_energy_is_added_up_over_the_end_of_a_counter(tmp_path: Path) -> None:
    zone = tmp_path / "intel-rapl:0"
    core = tmp_path / "intel-rapl:0:0"
    for folder, name in ((zone, "package-0"), (core, "core")):
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text("9000000\n")
        (folder / "max_energy_range_uj").write_text("9999999\n")
    meter = Meter(lambda: packages(tmp_path))
    with meter.running():
        (zone / "energy_uj").write_text("1500000\n")
    # From 9 J to the end at 10 J, and 1.5 J more; a core is part of its package.
    assert meter.joules == {"package-0": pytest.approx(2.5)}
    (zone / "energy_uj").unlink()
    with meter.running():
        pass
    assert meter.joules == {"package-0": pytest.approx(2.5)}


def test_a_machine_without_counters_counts_nothing(tmp_path: Path) -> None:
    nothing: dict[str, Reading] = packages(tmp_path / "absent")
    assert nothing == {}
