"""The CheXpert reader on tiny trees in the published layouts, against torchxrayvision and at full size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.data import findings
from retune.data.dataset import Dataset
from retune.data.readers.chexpert import CheXpert
from retune.errors import BadImage, BadSetting, BadTable, MissingFiles, UserError

SMALL, FULL = "CheXpert-v1.0-small", "CheXpert-v1.0"
NAN = float("nan")
HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(findings.CHEXPERT)
# No Finding, Enlarged Cardiomediastinum, Cardiomegaly, ..., Pleural Other, Fracture, Support Devices
ROWS = (
    "train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
    "train/patient00002/study1/view1_frontal.jpg,Male,0,Frontal,PA,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
    "train/patient00002/study1/view2_lateral.jpg,Male,87,Lateral,,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
    "train/patient00003/study2/view1_frontal.jpg,Unknown,,Frontal,LL,,0,1,-1,,,,,,,,,,",
)
VALID = (
    "valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0.0,1.0,1.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
)
# The columns of the test table are in another order, and five of them are not there.
TEST_HEADER = ",".join(["Path", *findings.CHEXPERT[1:], findings.CHEXPERT[0]])
TEST = (
    "test/patient64741/study1/view1_frontal.jpg,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
    "test/patient64741/study1/view2_lateral.jpg,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0",
)
ORDER = [row.split(",")[0] for row in ROWS]


def write(path: Path, rows: tuple[str, ...], prefix: str = SMALL, header: str = HEADER) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(f"{prefix}/{row}".removeprefix("/") for row in rows)]) + "\n")


def tree(root: Path, rows: tuple[str, ...] = ROWS, prefix: str = SMALL, *, test: bool = False) -> Path:
    write(root / "train.csv", rows, prefix)
    write(root / "valid.csv", VALID, prefix)
    if test:
        write(root / "test_labels.csv", TEST, "", TEST_HEADER)
    return root


def failure(root: Path | None, kind: type[UserError] = BadTable, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        CheXpert(**settings).read(root)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values_of(data: Dataset, row: int) -> dict[str, float]:
    """The known labels of an image."""
    return {
        label: value
        for label, value in zip(data.labels, data.targets[row].tolist(), strict=True)
        if not np.isnan(value)
    }


def test_labels_and_columns(tmp_path: Path) -> None:
    data = CheXpert(views="all", blank="ignore", valid=0).read(tree(tmp_path))
    assert data.name == "chexpert"
    assert data.labels == findings.CHEXPERT
    assert data.image_id.tolist() == [*ORDER, VALID[0].split(",")[0]]
    assert data.patient_id.tolist() == [
        *("patient00001", "patient00002", "patient00002", "patient00003", "patient64541")
    ]
    assert data.split.tolist() == ["train"] * 4 + ["test"]
    assert values_of(data, 0) == {"No Finding": 1, "Pneumothorax": 0, "Support Devices": 1}
    assert values_of(data, 1) == {"Lung Opacity": 1, "Fracture": 1}
    # Whole numbers are as good; -1 is uncertain.
    assert values_of(data, 3) == {"Enlarged Cardiomediastinum": 0, "Cardiomegaly": 1}
    positive = {"Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity"}
    assert values_of(data, 4) == {label: float(label in positive) for label in findings.CHEXPERT}
    assert data.targets.dtype == np.float32
    # LL on a frontal image: PA or AP, not known which.
    assert data.columns["view"].tolist() == ["AP", "PA", "lateral", "frontal", "AP"]
    assert data.columns["sex"].tolist() == ["F", "M", "M", "", "M"]
    # Age 0 and a blank are unknown.
    ages = np.array([68, NAN, 87, NAN, 73], dtype=np.float32)
    np.testing.assert_array_equal(data.columns["age"], ages)
    assert data.columns["age"].dtype == np.float32
    assert data.dropped == {}
    assert not data.synthetic
    assert "Irvin" in data.source


@pytest.mark.parametrize(
    ("uncertain", "blank", "cardiomegaly"),
    [
        ("ignore", "zeros", [0, NAN, NAN, 1]),
        ("zeros", "zeros", [0, 0, 0, 1]),
        ("ones", "zeros", [0, 1, 1, 1]),
        ("ones", "ignore", [NAN, 1, 1, 1]),
        ("ignore", "ignore", [NAN, NAN, NAN, 1]),
    ],
)
def test_policies(tmp_path: Path, uncertain: Any, blank: Any, cardiomegaly: list[float]) -> None:
    data = CheXpert(views="all", split="hash", uncertain=uncertain, blank=blank).read(tree(tmp_path))
    np.testing.assert_array_equal(data.targets[:, data.labels.index("Cardiomegaly")], cardiomegaly)


@pytest.mark.parametrize(
    ("views", "kept"),
    [("frontal", [0, 1, 3]), ("PA", [1]), ("AP", [0]), ("lateral", [2]), ("all", [0, 1, 2, 3])],
)
def test_views(tmp_path: Path, views: Any, kept: list[int]) -> None:
    data = CheXpert(views=views, split="hash").read(tree(tmp_path))
    assert data.image_id.tolist() == [ORDER[row] for row in kept]
    assert data.dropped == ({f"view is not {views}": 4 - len(kept)} if len(kept) < 4 else {})


def test_a_lateral_image_is_neither_pa_nor_ap(tmp_path: Path) -> None:
    root = tree(tmp_path, (ROWS[1].replace("Frontal", "Lateral"),))
    assert CheXpert(views="all", split="hash").read(root).columns["view"].tolist() == ["lateral"]


def test_no_image_is_left(tmp_path: Path) -> None:
    assert "no image is left with views=PA" in failure(tree(tmp_path, ROWS[:1]), views="PA")


@pytest.mark.parametrize(
    ("prefix", "tables", "pictures", "root"),
    [
        (SMALL, SMALL, SMALL, "."),
        (SMALL, SMALL, SMALL, SMALL),
        (FULL, FULL, FULL, "."),
        (FULL, FULL, FULL, FULL),
        # The tables above the folder of the pictures, another prefix in the table than on disk, and none.
        (FULL, ".", SMALL, "."),
        (SMALL, "renamed", "renamed", "renamed"),
        ("", SMALL, SMALL, "."),
    ],
)
def test_every_layout_is_the_same_data(
    tmp_path: Path, prefix: str, tables: str, pictures: str, root: str
) -> None:
    plain = CheXpert(views="all").read(tree(tmp_path / "plain", test=True))
    base = tmp_path / "base"
    tree(base / tables, prefix=prefix, test=True)
    picture = base / pictures / ORDER[0]
    picture.parent.mkdir(parents=True)
    Image.new("L", (8, 8), 200).save(picture)
    data = CheXpert(views="all").read(base / root)
    assert data.image_id[:4].tolist() == ORDER
    assert data.fingerprint == plain.fingerprint
    assert data.images.exists(np.arange(2)).tolist() == [True, False]
    assert data.images.describe(1) == ORDER[1]
    image = data.images.load(np.array([0]))[0]
    assert isinstance(image, Image.Image)
    assert image.getpixel((0, 0)) == pytest.approx(200, abs=1)


def test_two_releases_in_one_folder(tmp_path: Path) -> None:
    for release in (SMALL, FULL):
        tree(tmp_path / release, prefix=release)
    assert f"holds both {SMALL} and {FULL}; give one of them as --root" in failure(tmp_path, UserError)
    # Pictures right in the folder come first.
    picture = tree(tmp_path) / ORDER[0]
    picture.parent.mkdir(parents=True)
    picture.touch()
    assert CheXpert().read(tmp_path).images.exists(np.arange(1)).all()


@pytest.mark.parametrize("split", ["auto", "official"])
def test_official_split(tmp_path: Path, split: Any) -> None:
    data = CheXpert(views="all", split=split, valid=0.7).read(tree(tmp_path, test=True))
    assert data.split.tolist() == ["train"] * 4 + ["valid"] + ["test"] * 2
    assert data.image_id[5:].tolist() == [row.split(",")[0] for row in TEST]
    assert [[label for label, value in values_of(data, row).items() if value] for row in (5, 6)] == [
        ["Cardiomegaly"],
        ["No Finding"],
    ]
    assert data.columns["view"][5:].tolist() == ["frontal", "lateral"]
    assert data.columns["sex"][5:].tolist() == ["", ""]
    assert np.isnan(data.columns["age"][5:]).all()
    frontal = CheXpert(split=split).read(tmp_path)
    assert frontal.dropped == {"view is not frontal": 2}


def test_validation_patients_come_from_train_without_test_labels(tmp_path: Path) -> None:
    rows = tuple(
        f"train/patient{p:05}/study{s}/view1_frontal.jpg,Male,50,Frontal,AP" + "," * 14
        for p in range(1, 301)
        for s in (1, 2)
    )
    root = tree(tmp_path, rows)
    data = CheXpert(valid=0.25).read(root)
    train, test = data.split[:600], data.split[600:]
    assert test.tolist() == ["test"]
    assert set(train.tolist()) == {"train", "valid"}
    assert 0.15 < (train == "valid").mean() < 0.35
    hashed = CheXpert(split="hash", valid=0.25).read(root)
    assert len(hashed) == 600
    shares = [(hashed.split == name).mean() for name in ("train", "valid", "test")]
    assert np.allclose(shares, [0.55, 0.25, 0.2], atol=0.1)


def test_missing_tables_of_a_split(tmp_path: Path) -> None:
    root = tree(tmp_path)
    message = failure(root, MissingFiles, split="official")
    what = "there is no test_labels.csv, which split=official needs; put it there or choose split=hash"
    assert message == f"{root}: {what}"
    (root / "valid.csv").unlink()
    for split in ("auto", "official"):
        assert f"there is no valid.csv, which split={split} needs" in failure(root, MissingFiles, split=split)
    assert len(CheXpert(split="hash").read(root)) == 3


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path)
    write(root / "valid.csv", tuple(row.replace("patient64541", "patient00001") for row in VALID))
    assert "patient 'patient00001' is in test and train" in failure(root, valid=0)


def test_labels_of_visualchexbert(tmp_path: Path) -> None:
    root = tree(tmp_path / SMALL)
    rows = tuple(",".join(row.split(",")[:5]) + ",0.0" * 13 + ",1.0" for row in ROWS)
    message = failure(tmp_path, MissingFiles, labels_from="visualchexbert")
    assert "train_visualCheXbert.csv" in message
    # Published beside the folder of the pictures, of the full release.
    write(tmp_path / "train_visualCheXbert.csv", rows, FULL)
    (root / "train.csv").unlink()
    data = CheXpert(views="all", labels_from="visualchexbert", valid=0).read(tmp_path)
    assert data.image_id[:4].tolist() == ORDER
    assert all(values_of(data, row)["Support Devices"] == 1 for row in range(4))
    assert np.nansum(data.targets[:4]) == 4
    # The test labels are radiologists'.
    assert values_of(data, 4)["Cardiomegaly"] == 1
    assert "train.csv" in failure(tmp_path, MissingFiles)


@pytest.mark.parametrize(
    ("row", "column", "part"),
    [
        (ROWS[0].replace("1.0", "2.0", 1), "No Finding", "'2.0' is no label value"),
        (
            ROWS[0].replace("0.0", "yes", 1),
            "Pneumothorax",
            "'yes' is no label value (1.0, 0.0, -1.0 or blank)",
        ),
        (ROWS[0].replace("0.0", "nan", 1), "Pneumothorax", "'nan'"),
        (ROWS[0].replace("Female", "female"), "Sex", "'female' is not Male or Female"),
        (ROWS[0].replace(",68,", ",old,"), "Age", "'old' is not a number"),
        (ROWS[0].replace(",68,", ",-3,"), "Age", "'-3' is not an age"),
        (ROWS[0].replace("Frontal", "Oblique"), "Frontal/Lateral", "'Oblique' is not Frontal or Lateral"),
        (
            ROWS[0].replace("train/", "valid/"),
            "Path",
            "is not like train/patient00001/study1/view1_frontal.jpg",
        ),
        (ROWS[0].replace("train/", "../train/"), "Path", "is not like"),
        (ROWS[0].replace("train/", "train/../../train/"), "Path", "is not like"),
        (ROWS[0].replace("patient00001", "00001"), "Path", "is not like"),
        (ROWS[0].replace(".jpg", ".png"), "Path", "is not like"),
        (ROWS[3], "Path", "stands in the table twice"),
    ],
)
def test_bad_rows(tmp_path: Path, row: str, column: str, part: str) -> None:
    # The same image under the prefix of the other release is the same image.
    prefix = "" if row == ROWS[3] else SMALL
    write(
        tmp_path / "train.csv",
        (*(f"{SMALL}/{row}" for row in ROWS[1:]), f"{prefix}/{row}".strip("/")),
        "",
    )
    message = failure(tmp_path, split="hash")
    assert f"train.csv, row 5, column '{column}'" in message
    assert part in message


def test_bad_values_in_the_other_tables(tmp_path: Path) -> None:
    root = tree(tmp_path, test=True)
    write(root / "test_labels.csv", (TEST[0].replace("1.0", "?"),), "", TEST_HEADER)
    assert "test_labels.csv, row 2, column 'Cardiomegaly': '?'" in failure(root)
    write(root / "valid.csv", ROWS[:1])
    assert "valid.csv, row 2, column 'Path'" in failure(root)


def test_missing_columns(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(HEADER.replace("Lung Lesion", "Lesion") + "\n")
    assert "missing column 'Lung Lesion'" in failure(tmp_path, split="hash")
    write(tmp_path / "train.csv", ROWS[:1], header=HEADER.replace("AP/PA", "View"))
    assert "missing column 'AP/PA'" in failure(tmp_path, split="hash")


def test_no_known_label(tmp_path: Path) -> None:
    rows = tuple(",".join(row.split(",")[:5]) + "," * 14 for row in ROWS)
    message = failure(tree(tmp_path, rows), split="hash", blank="ignore")
    assert "train.csv: no label of any image is known with uncertain=ignore and blank=ignore" in message


def test_missing_root_and_table(tmp_path: Path) -> None:
    assert "--root DIR is needed" in failure(None, UserError)
    (tmp_path / "file").touch()
    told = {"": "no table here", "nowhere": "there is no such folder", "file": "is not a folder"}
    for name, what in told.items():
        message = failure(tmp_path / name, MissingFiles)
        for part in (str(tmp_path / name), what, "train.csv"):
            assert part in message


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"views": "PA and AP"}, "views is 'PA and AP'"),
        ({"uncertain": "soft"}, "choose ignore or zeros or ones"),
        ({"blank": "ones"}, "choose ignore or zeros"),
        ({"labels_from": "chexbert"}, "choose chexpert or visualchexbert"),
        ({"split": "random"}, "choose auto or official or hash"),
        ({"valid": 0.8}, "valid is 0.8"),
        ({"valid": NAN}, "valid is nan"),
    ],
)
def test_bad_settings(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(BadSetting) as caught:
        CheXpert(**settings)
    assert "data set chexpert" in str(caught.value)
    assert part in str(caught.value)


def test_a_truncated_picture_stands_in_its_place(tmp_path: Path) -> None:
    data = CheXpert(split="hash").read(tree(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    for name in data.image_id[:2].tolist():
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / name)
    broken = tmp_path / str(data.image_id[0])
    broken.write_bytes(broken.read_bytes()[:700])
    first, second, missing = data.images.load(np.arange(3))
    assert isinstance(first, BadImage)
    assert str(broken) in str(first)
    assert isinstance(second, Image.Image)
    assert isinstance(missing, BadImage)
    assert [key is None for key in data.images.keys(np.arange(3))] == [False, False, True]


@pytest.mark.parametrize(
    ("views", "theirs"), [("all", ["*"]), ("AP", ["AP"]), ("PA", ["PA"]), ("lateral", ["L"])]
)
def test_labels_equal_those_of_torchxrayvision(tmp_path: Path, views: Any, theirs: list[str]) -> None:
    xrv = pytest.importorskip("torchxrayvision.datasets")
    rng = np.random.default_rng(1)
    cells = np.array(["", "1.0", "0.0", "-1.0"])[rng.integers(4, size=(60, 14))]
    cells[:, 0] = np.where(np.arange(60) % 3 == 0, "1.0", "")
    sides = ["Frontal,AP", "Frontal,PA", "Lateral,", "Frontal,LL"]
    rows = tuple(
        f"train/patient{k // 2:05}/study1/view{k}_frontal.jpg,Male,50,{sides[k % 4]},{','.join(cells[k])}"
        for k in range(60)
    )
    root = tree(tmp_path, rows)
    other = xrv.CheX_Dataset(str(root), str(root / "train.csv"), views=theirs, unique_patients=False)
    data = CheXpert(views=views, split="hash", blank="ignore").read(root)
    assert (SMALL + "/" + data.image_id.astype(object)).tolist() == other.csv["Path"].tolist()
    ours = data.targets.copy()
    # torchxrayvision has no label "No Finding": where it is marked, it sets the others to 0, devices apart.
    # Here a blank stays what the setting says.
    healthy = np.flatnonzero(ours[:, 0] == 1)
    assert len(healthy)
    ours[healthy, 1:-1] = 0
    # It calls Pleural Effusion "Effusion".
    names = [name if name != "Effusion" else "Pleural Effusion" for name in other.pathologies]
    assert set(names) == set(data.labels[1:])
    np.testing.assert_array_equal(ours[:, [data.labels.index(name) for name in names]], other.labels)


@pytest.mark.parametrize("name", ["test_labels.csv", "Test_Labels.csv", "groundtruth.csv", "GroundTruth.csv"])
def test_test_labels_under_other_names(tmp_path: Path, name: str) -> None:
    want = CheXpert(views="all").read(tree(tmp_path, test=True))
    (tmp_path / "test_labels.csv").rename(tmp_path / name)
    data = CheXpert(views="all").read(tmp_path)
    assert data.fingerprint == want.fingerprint
    assert data.choices["split"] == f"official, test images from {name}"


def test_a_ground_truth_without_images_is_no_test_table_and_named(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "groundtruth.csv").write_text("Study,Edema\nCheXpert-v1.0/test/patient64741/study1,1\n")
    data = CheXpert().read(tmp_path)
    assert (
        data.choices["split"]
        == "the patients of valid.csv are the test set, for test_labels.csv is not there"
    )
    assert any("groundtruth.csv" in note and "test_labels.csv" in note for note in data.notes)


@pytest.mark.parametrize("inside", ["", "CheXpert-v1.0"])
@pytest.mark.parametrize("tables", ["", "CheXpert-v1.0 batch 1 (validate & csv)"])
def test_the_full_release_in_its_batches(tmp_path: Path, inside: str, tables: str) -> None:
    place = tmp_path / inside
    tree(place / tables, prefix="CheXpert-v1.0")
    batch = {"patient00001": 2, "patient00002": 3, "patient00003": 4}
    for row in ROWS:
        name = row.split(",")[0].removeprefix("train/")
        k = batch[name.split("/")[0]]
        path = place / f"CheXpert-v1.0 batch {k} (train {k - 1})" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), k).save(path)
    path = place / "CheXpert-v1.0 batch 1 (validate & csv)" / VALID[0].split(",")[0]
    path.parent.mkdir(parents=True)
    Image.new("L", (4, 4), 1).save(path)
    data = CheXpert(views="all").read(tmp_path)
    assert data.image_id.tolist() == [*ORDER, VALID[0].split(",")[0]]
    assert data.images.exists(np.arange(5)).all()
    pictures = data.images.load(np.arange(5))
    assert [picture.getpixel((0, 0)) for picture in pictures] == [2, 3, 3, 4, 1]  # type: ignore[union-attr]
    assert data.fingerprint == CheXpert(views="all").read(tree(tmp_path / "plain")).fingerprint
