"""Outlines of phantom's findings and organs: where the table says, where the picture changes, what the reader gives."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import retune.data.readers.phantom as reading
from retune.backbones.load import load_backbone
from retune.cli.main import main
from retune.data.dataset import Dataset
from retune.data.findings import CHEXPERT
from retune.data.phantom import BENCHMARK_SITES, OUTLINED, SIDES, Exams, exams, masks, regions
from retune.data.readers.phantom import Phantom
from retune.data.source import DataSource
from retune.errors import BadSetting
from retune.features.masks import encode_masks

AT = {name: k for k, name in enumerate(OUTLINED)}
LABEL = [CHEXPERT.index(name) for name in OUTLINED[:5]]
ALL = np.arange(300)


@lru_cache
def table() -> Exams:
    return exams(2_000_003, len(ALL), BENCHMARK_SITES)


@lru_cache
def outlines() -> np.ndarray:
    return regions(table(), ALL)


@lru_cache
def transfer() -> Dataset:
    return DataSource.make("phantom/regions", None).read()


def test_a_finding_has_a_mask_where_it_is_present_and_organs_always() -> None:
    filled = outlines().any(axis=(2, 3))
    np.testing.assert_array_equal(filled[:, :5], table().labels[:, LABEL] > 0)
    assert filled[:, 5:].all()
    assert (filled[:, :5].sum(axis=0) >= 10).all()


def test_lungs_and_heart_lie_beside_each_other_inside_the_frame() -> None:
    lungs, heart = outlines()[:, AT["Lungs"]], outlines()[:, AT["Heart"]]
    assert not (lungs & heart).any()
    both = lungs | heart
    assert not both[:, [0]].any()
    assert not both[:, :, [0, -1]].any()
    area = lungs.mean(axis=(1, 2))
    assert area.min() > 0.1
    assert area.max() < 0.4


def widths(mask: np.ndarray) -> np.ndarray:
    columns = mask.any(axis=1)
    return columns.shape[1] - columns[:, ::-1].argmax(axis=1) - columns.argmax(axis=1)


def test_a_large_heart_is_wide_against_the_chest() -> None:
    ratio = widths(outlines()[:, AT["Heart"]]) / widths(outlines()[:, AT["Lungs"]])
    large = table().labels[:, CHEXPERT.index("Cardiomegaly")] > 0
    assert roc_auc_score(large, ratio) > 0.97
    assert 0.35 < np.median(ratio[~large]) < 0.5 < np.median(ratio[large])


@pytest.mark.parametrize("name", ["Pleural Effusion", "Pneumothorax", "Consolidation"])
def test_a_finding_lies_on_the_side_that_the_table_names(name: str) -> None:
    side = table().side[:, CHEXPERT.index(name)]
    mask = outlines()[:, AT[name]]
    lungs = outlines()[:, AT["Lungs"]].any(axis=1)
    for code, sign in ((SIDES.index("right"), -1), (SIDES.index("left"), 1)):
        for row in np.flatnonzero(side == code):
            chest = np.flatnonzero(lungs[row])
            found = np.flatnonzero(mask[row].any(axis=0))
            assert sign * (found.mean() - chest.mean()) > 0


def test_fluid_lies_in_the_chest_and_low() -> None:
    rows = np.flatnonzero(table().labels[:, CHEXPERT.index("Pleural Effusion")] > 0)
    for row in rows:
        high, across = np.nonzero(outlines()[row, AT["Pleural Effusion"]])
        tall, wide = np.nonzero(outlines()[row, AT["Lungs"]])
        assert wide.min() - 2 <= across.min()
        assert across.max() <= wide.max() + 2
        assert high.mean() > tall.mean()
        # The recess below the dome goes a tenth of the half side deeper than the lungs.
        assert tall.min() < high.min()
        assert high.max() <= tall.max() + 10


def test_gas_consolidation_and_oedema_lie_in_the_lungs() -> None:
    lungs = outlines()[:, AT["Lungs"]]
    for name, share in (("Pneumothorax", 0.8), ("Consolidation", 1.0), ("Edema", 1.0)):
        mask = outlines()[:, AT[name]]
        assert (mask & lungs).sum() >= share * mask.sum()


def test_the_picture_changes_where_the_outline_is() -> None:
    # Fluid hides what is behind it.
    fluid = table().labels[:, LABEL[0]] > 0
    rows = [np.flatnonzero((table().labels[:, k] > 0) & (fluid == (k == LABEL[0])))[:5] for k in LABEL]
    rows = np.concatenate(rows)
    changed = masks(table(), rows, size=64)[:, LABEL]
    outlined = regions(table(), rows, size=64)[:, :5]
    inside = (changed & outlined).sum(axis=(0, 2, 3)) / outlined.sum(axis=(0, 2, 3))
    assert (inside > 0.9).all()


def test_rows_one_by_one_are_rows_together() -> None:
    rows = np.array([17, 3, 3, 250])
    alone = np.concatenate([regions(table(), [row]) for row in rows])
    np.testing.assert_array_equal(alone, regions(table(), rows))
    np.testing.assert_array_equal(alone, outlines()[rows])
    assert regions(table(), []).shape == (0, len(OUTLINED), 128, 128)


@pytest.mark.parametrize(("rows", "size"), [([300], 128), ([-1], 128), ([0], 31)])
def test_no_outline_of_what_is_not_drawn(rows: list[int], size: int) -> None:
    with pytest.raises(BadSetting):
        regions(table(), rows, size=size)


def test_reading_outlines_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(reading, "regions", refuse)
    found = Phantom(images=60).read(None).regions
    assert found is not None
    assert found.findings == OUTLINED
    assert found.known(np.arange(60)).all()
    assert len(found.keys(np.arange(60))) == 60


def test_the_reader_outlines_the_truth_at_the_pictures_size() -> None:
    dataset = Phantom(images=200, size=40, label_noise=0.3).read(None)
    assert dataset.regions is not None
    rows = np.arange(200)
    found = dataset.regions.masks(rows)
    assert {mask.shape for mask in found} == {(len(OUTLINED), 40, 40)}
    filled = np.stack(found).any(axis=(2, 3))[:, :5]
    judged = dataset.split != "train"
    targets = dataset.targets[:, LABEL] > 0
    np.testing.assert_array_equal(filled[judged], targets[judged])
    assert (filled[~judged] != targets[~judged]).any()


def test_rows_taken_keep_their_outlines() -> None:
    dataset = Phantom(images=60, size=40).read(None)
    rows = np.array([40, 2, 11])
    taken = dataset.take(rows).take(np.array([2, 0]))
    assert dataset.regions is not None
    assert taken.regions is not None
    for mine, whole in zip(
        taken.regions.masks(np.arange(2)), dataset.regions.masks(rows[[2, 0]]), strict=True
    ):
        np.testing.assert_array_equal(mine, whole)
    assert taken.regions.keys(np.arange(2)) == dataset.regions.keys(rows[[2, 0]])


def test_keys_say_what_determines_an_outline(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys(**settings: object) -> list[bytes]:
        dataset = Phantom(**{"images": 30, **settings}).read(None)
        assert dataset.regions is not None
        return dataset.regions.keys(np.arange(30))

    plain = keys()
    assert len(set(plain)) == 30
    assert keys(images=40) == keys(label_noise=0.1) == keys(findings=("Edema",)) == plain
    others = [keys(size=64), keys(seed=1), keys(sites=("A", "B"))]
    for name in ("REGIONS_VERSION", "GENERATOR_VERSION"):
        with monkeypatch.context() as patch:
            patch.setattr(reading, name, "0")
            others.append(keys())
    for other in others:
        assert not set(other) & set(plain)


def test_the_transfers_patients_are_not_the_streams(capsys: pytest.CaptureFixture[str]) -> None:
    mine, stream = transfer(), Phantom().read(None)
    assert len(mine) == 1250
    assert {split: len(mine.rows(split)) for split in ("train", "valid", "test")} == {
        "train": 723,
        "valid": 124,
        "test": 403,
    }
    pictures = [set(of.images.keys(np.arange(len(of)))) for of in (mine, stream)]
    assert not pictures[0] & pictures[1]
    # Patients of two draws have the same names, and so are on the same side of each split, whoever mistakes them.
    of = dict(zip(stream.patient_id.tolist(), stream.split.tolist(), strict=True))
    assert all(of[patient] == split for patient, split in zip(mine.patient_id, mine.split, strict=True))
    assert main(["show", "dataset", "phantom"]) == 0
    card = " ".join(capsys.readouterr().out.split())
    assert "transfer phantom/regions" in card
    assert "Preset phantom/regions: images=1250, seed=2000003" in card


@pytest.mark.parametrize("size", [96, 128, 300])
def test_a_mask_goes_the_pictures_way_through_a_backbone(
    size: int, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the picture's size, what the backbone sees of its mask is the geometry at the backbone's size."""
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path))
    dataset = Phantom(images=24, seed=2_000_003, size=size).read(None)
    seen = encode_masks(load_backbone("phantom-clip"), dataset, np.arange(24), 128)
    assert not seen.areas()[..., 1].any()
    got, true = seen[np.arange(24)], outlines()[:24]
    both, either = (x.sum(axis=(0, 2, 3)) for x in (got & true, got | true))
    assert (both > (1.0 if size == 128 else 0.88) * either - 1).all()
