"""What a data set refuses, what its fingerprint covers, and splits by patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retune.data.dataset import SPLITS, Dataset, split_by_patient
from retune.data.images import FileImages
from retune.errors import BadTable, UserError


def table(**changes: Any) -> Dataset:
    fields: dict[str, Any] = {
        "name": "toy",
        "labels": ("Mass", "Edema"),
        "image_id": np.array(["a", "b", "c", "d"]),
        "patient_id": np.array(["p1", "p1", "p2", "p3"]),
        "split": np.array(["train", "train", "valid", "test"]),
        "targets": np.array([[0, 1], [1, np.nan], [0, 0], [1, 1]], dtype=np.float32),
        "images": FileImages(np.array(["a.png", "b.png", "c.png", "d.png"])),
        "columns": {"age": np.array([1.0, 2, 3, 4], dtype=np.float32)},
        "dropped": {"lateral": 2},
    }
    return Dataset(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"targets": np.zeros((4, 3), np.float32)}, ("label matrix is (4, 3), not (4, 2)",)),
        ({"targets": np.zeros((3, 2), np.float32)}, ("label matrix is (3, 2), not (4, 2)",)),
        ({"targets": np.full((4, 2), -1, np.float32)}, ("labels must be 1, 0 or NaN",)),
        ({"targets": np.full((4, 2), 0.5, np.float32)}, ("labels must be 1, 0 or NaN",)),
        ({"patient_id": np.array(["p1", "p2", "p3"])}, ("patient_id has 3 rows, not 4",)),
        ({"split": np.array(["train"])}, ("split has 1 rows, not 4",)),
        ({"columns": {"age": np.zeros(5)}}, ("age has 5 rows, not 4",)),
        ({"image_id": np.array(["a", "b", "b", "d"])}, ("'b'", "2 times", "one row per image")),
        ({"split": np.array(["train", "train", "val", "test"])}, ("'val'", "train, valid, test")),
        ({"split": np.array(["train", "test", "valid", "test"])}, ("'p1' is in test and train", "one split")),
        (
            {"patient_id": np.array(["p1", "p2", "p1", "p2"])},
            ("'p1' is in train and valid, and so are 1 others",),
        ),
    ],
)
def test_bad_tables_are_refused_in_one_line(changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(BadTable) as caught:
        table(**changes)
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)
    for part in ("toy", *parts):
        assert part in str(caught.value)


def test_empty_table_is_allowed() -> None:
    assert len(table().take(np.array([], dtype=np.int64))) == 0


def test_rows_of_a_split() -> None:
    data = table(split=np.array(["test", "test", "train", "test"]))
    assert data.rows("test").tolist() == [0, 1, 3]
    assert data.rows("test").dtype == np.int64
    assert data.rows("valid").tolist() == []


def test_take_moves_every_column_and_counts_what_went() -> None:
    taken = table().take(np.array([3, 0]), dropped={"young": 2})
    assert taken.image_id.tolist() == ["d", "a"]
    assert taken.patient_id.tolist() == ["p3", "p1"]
    assert taken.split.tolist() == ["test", "train"]
    assert taken.targets.tolist() == [[1, 1], [0, 1]]
    assert taken.columns["age"].tolist() == [4, 1]
    assert [taken.images.describe(row) for row in (0, 1)] == ["d.png", "a.png"]
    assert taken.dropped == {"lateral": 2, "young": 2}
    again = taken.take(np.array([1]))
    assert again.images.describe(0) == "a.png"
    assert again.dropped == taken.dropped


def test_taken_pictures_are_those_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "c.png").write_bytes(b"not a picture")
    data = table(images=FileImages(np.array(["a.png", "b.png", "c.png", "d.png"]), tmp_path))
    taken = data.take(np.array([3, 2])).take(np.array([1, 0]))
    here, missing = taken.images.keys(np.array([0, 1]))
    assert here == data.images.keys(np.array([2]))[0]
    assert here is not None
    assert missing is None
    broken, absent = taken.images.load(np.array([0, 1]))
    assert "c.png" in str(broken)
    assert "d.png" in str(absent)


def test_fingerprint_ignores_paths_and_columns() -> None:
    elsewhere = FileImages(np.array(["x", "y", "z", "w"]), Path("/elsewhere"))
    assert table(images=elsewhere, columns={}, dropped={}, source="me").fingerprint == table().fingerprint


def test_fingerprint_of_nan_is_one_whatever_its_bits() -> None:
    targets = table().targets.copy()
    targets.view(np.uint32)[1, 1] = 0xFFC00001
    assert np.isnan(targets[1, 1])
    assert table(targets=targets).fingerprint == table().fingerprint


def _label(data: Dataset) -> Dataset:
    targets = data.targets.copy()
    targets[2, 0] = 1
    return replace(data, targets=targets)


def _unknown(data: Dataset) -> Dataset:
    targets = data.targets.copy()
    targets[2, 0] = np.nan
    return replace(data, targets=targets)


@pytest.mark.parametrize(
    "change",
    [
        _label,
        _unknown,
        lambda data: replace(data, name="other"),
        lambda data: replace(data, labels=("Mass", "Nodule")),
        lambda data: replace(data, image_id=np.array(["a", "b", "c", "e"])),
        lambda data: replace(data, patient_id=np.array(["p1", "p1", "p2", "p4"])),
        lambda data: replace(data, split=np.array(["train", "train", "test", "test"])),
        lambda data: data.take(np.array([1, 0, 2, 3])),
        lambda data: data.take(np.array([0, 1, 2])),
    ],
)
def test_fingerprint_covers(change: Callable[[Dataset], Dataset]) -> None:
    assert change(table()).fingerprint != table().fingerprint


def test_fingerprint_is_the_same_tomorrow() -> None:
    assert table().fingerprint == "84fc71ada371503669e02447ce6b65c3bb64787dc27a86011810e9fc39bf4f0e"


def test_split_by_patient_keeps_patients_together_and_shares_about_right() -> None:
    patients = np.repeat(np.arange(20_000), 3)
    split = split_by_patient(patients.tolist(), valid=0.1, test=0.2)
    assert split.shape == (60_000,)
    assert set(split.tolist()) == set(SPLITS)
    assert (split.reshape(-1, 3) == split[::3, None]).all()
    # Four standard deviations of a binomial share.
    for name, share in {"train": 0.7, "valid": 0.1, "test": 0.2}.items():
        assert abs(float((split == name).mean()) - share) < 4 * np.sqrt(share * (1 - share) / 20_000)


def test_split_by_patient_is_stable_when_rows_are_added() -> None:
    before = ["7", "12", "7", "99"]
    after = ["1", "99", "12", "5000", "7", "12"]
    first = dict(zip(before, split_by_patient(before).tolist(), strict=True))
    second = dict(zip(after, split_by_patient(after).tolist(), strict=True))
    assert all(first[patient] == second[patient] for patient in first)
    many = [str(k) for k in range(500)]
    whole = dict(zip(many, split_by_patient(many).tolist(), strict=True))
    assert all(whole[patient] == name for patient, name in first.items())


def test_split_by_patient_ignores_the_type_and_hears_the_salt() -> None:
    numbers = list(range(200))
    split = split_by_patient(numbers)
    assert (split == split_by_patient([str(k) for k in numbers])).all()
    assert (split != split_by_patient(numbers, salt="another")).any()


@pytest.mark.parametrize(("valid", "test", "names"), [(0, 0, {"train"}), (0, 1, {"test"}), (1, 0, {"valid"})])
def test_split_by_patient_extremes(valid: float, test: float, names: set[str]) -> None:
    assert set(split_by_patient(list(range(300)), valid=valid, test=test).tolist()) == names
