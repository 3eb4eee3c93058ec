"""The VinDr-CXR reader on tiny trees in both published layouts, and on the table of the Kaggle competition."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.data import findings
from retune.data.dataset import Dataset
from retune.data.readers.vindr_cxr import VinDrCxr
from retune.errors import BadImage, BadSetting, BadTable, MissingFiles, UserError

A, B, C, D = (letter * 32 for letter in "abcd")
HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
BOXES = (
    f"{A},Cardiomegaly,3,R8,691.0,1375.0,1653.0,1831.0",
    f"{A},Cardiomegaly,3,R8,700.0,1375.0,1653.0,1831.0",
    f"{A},Nodule/Mass,8,R8,1.0,2.0,30.0,40.0",
    f"{B},No finding,14,R1,,,,",
    f"{A},Cardiomegaly,3,R9,700.0,1370.0,1650.0,1830.0",
    f"{A},Other lesion,9,R10,1.0,2.0,3.0,4.0",
    f"{B},No finding,14,R2,,,,",
    f"{B},Pleural effusion,10,R3,1.0,2.0,3.0,4.0",
)
COLUMNS = (
    "Aortic enlargement,Atelectasis,Calcification,Cardiomegaly,Clavicle fracture,Consolidation,Edema,Emphysema,"
    "Enlarged PA,ILD,Infiltration,Lung Opacity,Lung cavity,Lung cyst,Mediastinal shift,Nodule/Mass,"
    "Pleural effusion,Pleural thickening,Pneumothorax,Pulmonary fibrosis,Rib fracture,Other lesion,COPD,"
    "Lung tumor,Pneumonia,Tuberculosis,Other diseases,No finding"
)
CLASSES = COLUMNS.split(",")
READINGS = (
    (A, "R8", ("Cardiomegaly", "Rib fracture", "Enlarged PA")),
    (A, "R9", ("Cardiomegaly", "Clavicle fracture", "Enlarged PA")),
    (A, "R10", ("No finding",)),
    (B, "R8", ("COPD", "Tuberculosis")),
    (B, "R9", ("Other diseases", "COPD")),
    (B, "R10", ("COPD", "ILD")),
)
CONSENSUS = ((C, "", ("Lung tumor", "Other disease")), (D, "", ("No finding",)))


def kaggle(root: Path, rows: tuple[str, ...] = BOXES, header: str = HEADER) -> Path:
    (root / "train.csv").write_text("\n".join((header, *rows)))
    return root


def rows_of(readings: tuple[Any, ...], classes: list[str], reader: str) -> str:
    head = ["image_id", *([reader] if reader else []), *classes]
    lines = [
        [image, *([who] if reader else []), *(str(int(name in seen)) for name in classes)]
        for image, who, seen in readings
    ]
    return "".join(",".join(line) + "\n" for line in (head, *lines))


def physionet(root: Path, inner: str = "", reader: str = "rad_id") -> Path:
    (root / inner).mkdir(exist_ok=True)
    test = [name.replace("Other diseases", "Other disease") for name in CLASSES]
    (root / inner / "image_labels_train.csv").write_text(rows_of(READINGS, CLASSES, reader))
    (root / inner / "image_labels_test.csv").write_text(rows_of(CONSENSUS, test, ""))
    return root


def labels_of(data: Dataset) -> dict[str, set[str]]:
    assert np.isin(data.targets, (0, 1)).all()
    rows = zip(data.image_id.tolist(), data.targets, strict=True)
    return {image: {data.labels[k] for k in np.flatnonzero(row)} for image, row in rows}


def failure(root: Path | None, kind: type[UserError] = BadTable) -> str:
    with pytest.raises(UserError) as caught:
        VinDrCxr().read(root)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("vote", "first", "second"),
    [
        ("majority", {"Cardiomegaly"}, {"No Finding"}),
        # R10 reads A, too, and draws no heart.
        ("all", set(), {"No Finding"}),
        ("any", {"Cardiomegaly", "Lung Lesion"}, {"Pleural Effusion"}),
    ],
)
def test_kaggle_readers_vote_by_boxes(tmp_path: Path, vote: Any, first: set[str], second: set[str]) -> None:
    data = VinDrCxr(vote=vote).read(kaggle(tmp_path))
    assert labels_of(data) == {A: first, B: second}
    assert len(data.labels) == 14
    assert "Fracture" not in data.labels
    assert data.patient_id.tolist() == data.image_id.tolist() == [A, B]
    assert data.columns["view"].tolist() == ["PA", "PA"]


@pytest.mark.parametrize(("inner", "reader"), [("", "rad_id"), ("annotations", "rad_ID")])
@pytest.mark.parametrize(
    ("vote", "first", "second"),
    [
        # Two readers broke different bones: both saw a fracture.
        ("majority", {"Cardiomegaly", "Fracture", "Enlarged Pulmonary Artery"}, {"COPD"}),
        ("all", {"No Finding"}, {"COPD"}),
        (
            "any",
            {"Cardiomegaly", "Fracture", "Enlarged Pulmonary Artery"},
            {"COPD", "Tuberculosis", "Interstitial Lung Disease"},
        ),
    ],
)
def test_physionet(
    tmp_path: Path, inner: str, reader: str, vote: Any, first: set[str], second: set[str]
) -> None:
    # A table of Kaggle's beside them is passed over.
    data = VinDrCxr(vote=vote, valid=0).read(kaggle(physionet(tmp_path, inner, reader)))
    # The test labels are a consensus, whatever the vote.
    assert labels_of(data) == {A: first, B: second, C: {"Lung Tumor"}, D: {"No Finding"}}
    assert data.labels == VinDrCxr.labels
    assert len(data.labels) == 25
    assert data.split.tolist() == ["train", "train", "test", "test"]


def test_an_even_number_of_readers_has_no_majority_at_a_tie(tmp_path: Path) -> None:
    rows = (f"{A},Pneumothorax,12,R1,1,2,3,4", f"{A},No finding,14,R2,,,,")
    assert labels_of(VinDrCxr().read(kaggle(tmp_path, rows))) == {A: set()}


def test_the_mapping_reaches_the_vocabulary() -> None:
    assert set(VinDrCxr.mapping) == {*CLASSES, "Other disease"}
    assert set(VinDrCxr.mapping.values()) - {""} == set(VinDrCxr.labels) <= set(findings.FINDINGS)
    assert [name for name in findings.FINDINGS if name in VinDrCxr.labels] == list(VinDrCxr.labels)
    assert set(findings.OTHERS) < set(VinDrCxr.labels)
    assert len(set(findings.codes(findings.FINDINGS))) == len(findings.FINDINGS)
    assert max(map(len, findings.codes(findings.FINDINGS))) <= 4


def test_splits(tmp_path: Path) -> None:
    many = tuple(f"{k:032},No finding,14,R1,,,," for k in range(400))
    data = VinDrCxr(valid=0.25).read(kaggle(tmp_path, many))
    shares = [(data.split == name).mean() for name in ("train", "valid", "test")]
    assert np.allclose(shares, [0.55, 0.25, 0.2], atol=0.07)
    # All of Kaggle's pictures lie in train/, whatever their split.
    assert {data.images.describe(row).split("/")[0] for row in range(400)} == {"train"}
    readings = tuple((f"{k:032}", "R1", ()) for k in range(400))
    text = rows_of(readings, CLASSES, "rad_id")
    (physionet(tmp_path) / "image_labels_train.csv").write_text(text)
    official = VinDrCxr(valid=0.25).read(tmp_path)
    assert set(official.split[:400].tolist()) == {"train", "valid"}
    assert (official.split[:400] == "valid").mean() == pytest.approx(0.25, abs=0.07)
    assert official.split[400:].tolist() == ["test", "test"]


def test_pictures_as_published_or_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    root = physionet(tmp_path)
    (root / "train").mkdir()
    (root / "test").mkdir()
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    grey.save(root / "train" / f"{B}.png")
    (root / "train" / f"{A}.dicom").touch()
    grey.save(root / "train" / f"{A}.png")
    grey.save(root / "test" / f"{C}.png")
    whole = (root / "test" / f"{C}.png").read_bytes()
    (root / "test" / f"{C}.png").write_bytes(whole[: len(whole) // 2])
    data = VinDrCxr().read(root)
    assert [data.images.describe(row) for row in range(4)] == [
        *(f"train/{A}.dicom", f"train/{B}.png", f"test/{C}.png", f"test/{D}.dicom")
    ]
    assert data.images.exists(np.arange(4)).tolist() == [True, True, True, False]
    picture, truncated = data.images.load(np.array([1, 2]))
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(grey))
    assert isinstance(truncated, BadImage)
    assert f"{C}.png" in str(truncated)


@pytest.mark.parametrize(
    ("row", "column", "part"),
    [
        (
            f"{C},cardiomegalie,3,R1,,,,",
            "class_name",
            "unknown class 'cardiomegalie', did you mean 'Cardiomegaly'",
        ),
        (f"{C},Rib fracture,3,R1,,,,", "class_name", "unknown class 'Rib fracture'"),
        (f"{C},,3,R1,,,,", "class_name", "unknown class ''"),
        (f"{C},ILD,5,,,,,", "rad_id", "blank"),
        (",ILD,5,R1,,,,", "image_id", "blank"),
        ("../x,ILD,5,R1,,,,", "image_id", "'../x' is not a plain name"),
        ("..,ILD,5,R1,,,,", "image_id", "'..' is not a plain name"),
    ],
)
def test_bad_rows_of_kaggles_table_are_named(tmp_path: Path, row: str, column: str, part: str) -> None:
    message = failure(kaggle(tmp_path, (*BOXES, row)))
    assert f"train.csv, row 10, column '{column}'" in message
    assert part in message


@pytest.mark.parametrize(
    ("table", "old", "new", "parts"),
    [
        (
            "train",
            f"{A},R10,0",
            f"{A},R10,2",
            ("row 4, column 'Aortic enlargement'", "'2' is neither 0 nor 1"),
        ),
        ("train", f"{A},R10,0", f"{A},R10,", ("row 4, column 'Aortic enlargement'", "neither 0 nor 1")),
        ("test", f"{D},0", f"{D},yes", ("row 3, column 'Aortic enlargement'", "'yes' is not a number")),
        ("train", f"{A},R10", f"{A},R9", ("row 4, column 'image_id'", "one radiologist has two rows")),
        ("train", f"{A},R10", f"{A},", ("row 4, column 'rad_id'", "blank")),
        ("test", D, C, ("row 3, column 'image_id'", f"image '{C}' has two rows")),
        ("test", D, A, ("row 3, column 'image_id'", f"image '{A}' stands in image_labels_train.csv, too")),
        ("test", D, f"../{D}", ("row 3, column 'image_id'", "is not a plain name")),
        ("train", "Lung tumor", "Lung tumour", ("missing column 'Lung tumor'", "is 'Lung tumour' meant")),
        ("test", "No finding", "Healthy", ("missing column 'No finding'",)),
        ("train", "rad_id", "doctor", ("missing column 'rad_id'",)),
    ],
)
def test_bad_tables_of_physionet_are_named(
    tmp_path: Path, table: str, old: str, new: str, parts: tuple[str, ...]
) -> None:
    path = physionet(tmp_path) / f"image_labels_{table}.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    message = failure(tmp_path)
    for part in (path.name, *parts):
        assert part in message


def test_missing_files(tmp_path: Path) -> None:
    assert "--root DIR is needed" in failure(None, UserError)
    for where in (tmp_path, tmp_path / "nowhere"):
        message = failure(where, MissingFiles)
        for part in (str(where), "image_labels_train.csv", "image_labels_test.csv", "train.csv"):
            assert part in message
    (physionet(tmp_path) / "image_labels_test.csv").unlink()
    assert "image_labels_test.csv not found" in failure(tmp_path, MissingFiles)
    root = tmp_path / "empty"
    root.mkdir()
    assert "no rows" in failure(kaggle(root, ()))
    assert "missing column 'rad_id'" in failure(kaggle(root, (f"{A},ILD",), "image_id,class_name"))


@pytest.mark.parametrize(
    ("settings", "part"),
    [({"vote": "most"}, "majority or any or all"), ({"valid": 0.8}, "0.8"), ({"valid": -1.0}, "-1")],
)
def test_bad_settings(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(BadSetting, match="vindr-cxr") as caught:
        VinDrCxr(**settings)
    assert part in str(caught.value)


def test_the_whole_kaggle_table_as_torchxrayvision_reads_it(tmp_path: Path) -> None:
    xrv = pytest.importorskip("torchxrayvision")
    table = Path(xrv.datasets.datapath) / "vinbigdata-train.csv.gz"
    if not table.is_file():
        pytest.skip("torchxrayvision comes without its copy of the table")
    shutil.copy(table, tmp_path / "train.csv.gz")
    data = VinDrCxr(vote="any").read(tmp_path)
    theirs = xrv.datasets.VinBrain_Dataset(str(tmp_path), csvpath=str(table))
    assert len(data) == len(theirs) == 15_000
    order = np.argsort(data.image_id)
    assert data.image_id[order].tolist() == theirs.csv["image_id"].tolist()
    # Theirs is a union over the readers, and has "Other lesion", which stands for no finding, and no No Finding.
    own = {"Aortic enlargement": "Aortic Enlargement", "ILD": "Interstitial Lung Disease"}
    own |= {"Nodule/Mass": "Lung Lesion", "Pulmonary Fibrosis": "Fibrosis", "Effusion": "Pleural Effusion"}
    own |= {"Pleural_Thickening": "Pleural Thickening"}
    compared = {own.get(name, name): k for k, name in enumerate(theirs.pathologies) if name != "Other Lesion"}
    assert set(compared) == set(data.labels) - {"No Finding"}
    for label, column in compared.items():
        ours = data.targets[order, data.labels.index(label)]
        np.testing.assert_array_equal(ours, theirs.labels[:, column], err_msg=label)
    normal = (theirs.csv["class_name"] == "No finding").to_numpy(np.float32)
    np.testing.assert_array_equal(data.targets[order, data.labels.index("No Finding")], normal)
    # Three radiologists read every image: so many of them drew a box of the class.
    boxes = theirs.rawcsv.groupby(["image_id", "class_name"])["rad_id"].nunique().unstack(fill_value=0)
    assert data.regions is not None
    assert data.regions.known(np.arange(15_000)).all()
    others = (theirs.rawcsv["class_name"] == "Other lesion").sum()
    assert len(data.regions.outlines.shapes) == 36_096 - others  # type: ignore[attr-defined]
    for vote, least in (("any", 1), ("majority", 2), ("all", 3)):
        voted = VinDrCxr(vote=vote).read(tmp_path)
        for spelling in set(boxes) - {"Other lesion", "No finding"}:
            column = voted.labels.index(VinDrCxr.mapping[spelling])
            np.testing.assert_array_equal(voted.targets[order, column], boxes[spelling] >= least)


def test_the_split_taken_is_said(tmp_path: Path) -> None:
    (tmp_path / "test_ids.txt").write_text(f"{B}\n")
    data = VinDrCxr().read(kaggle(tmp_path))
    assert data.choices["split"].startswith("by a hash of images")
    assert data.choices["tables"] == "train.csv"
    assert any("test_ids.txt" in note for note in data.notes)


SIZES = f"image_id,dim0,dim1\n{A},2000,1800\n{B},600,300\n"


def test_boxes_of_all_radiologists_are_one_region(tmp_path: Path) -> None:
    (kaggle(tmp_path) / "train_meta.csv").write_text(SIZES)
    (tmp_path / "train").mkdir()
    for name in (A, B):
        Image.new("L", (64, 64)).save(tmp_path / "train" / f"{name}.png")
    data = VinDrCxr().read(tmp_path)
    regions = data.regions
    assert regions is not None
    assert set(regions.findings) == set(data.labels) - {"No Finding"}
    assert regions.known(np.arange(2)).all()
    large, small = regions.masks(np.arange(2))
    # In proportion to the published picture, whatever the copy is.
    assert (large.shape, small.shape) == ((13, 1024, 922), (13, 600, 300))
    shown = [{regions.findings[k] for k in np.flatnonzero(mask.any((1, 2)))} for mask in (large, small)]
    # One of three is enough, whatever the vote made of the label.
    assert shown == [{"Cardiomegaly", "Lung Lesion"}, {"Pleural Effusion"}]
    heart = large[regions.findings.index("Cardiomegaly")]
    assert heart.sum() == pytest.approx(
        ((1653 - 691) * (1831 - 1370) - 9 * 5 - 3 * 5) * (1024 / 2000) ** 2, rel=0.01
    )
    fluid = np.zeros((600, 300), dtype=bool)
    fluid[2:4, 1:3] = True
    np.testing.assert_array_equal(small[regions.findings.index("Pleural Effusion")], fluid)


def test_dicom_files_say_how_large_they_are(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.Rows, header.Columns = 200, 100
    root = physionet(tmp_path, "annotations")
    (root / "train").mkdir()
    header.save_as(root / "train" / f"{A}.dicom", enforce_file_format=True)
    (root / "annotations" / "annotations_train.csv").write_text(
        "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n"
        f"{A},R8,Rib fracture,10,20,30,40\n{A},R9,Clavicle fracture,50.0,0,100,200\n{B},R1,No finding,,,,\n"
    )
    data = VinDrCxr().read(root)
    regions = data.regions
    assert regions is not None
    # Without their table nothing is known of the test images.
    assert regions.known(np.arange(4)).all(axis=1).tolist() == [True, True, False, False]
    (mask,) = regions.masks(np.array([0]))
    expected = np.zeros((200, 100), dtype=bool)
    expected[20:40, 10:30] = expected[:, 50:] = True
    np.testing.assert_array_equal(mask[regions.findings.index("Fracture")], expected)
    assert mask.any((1, 2)).sum() == 1
    assert not {"COPD", "Pneumonia", "No Finding", "Lung Tumor"} & set(regions.findings)
    assert len(regions.findings) == 20


def test_without_boxes_there_are_no_regions(tmp_path: Path) -> None:
    assert VinDrCxr().read(physionet(tmp_path)).regions is None
    assert VinDrCxr().read(kaggle(tmp_path, (f"{A},ILD,R1",), "image_id,class_name,rad_id")).regions is None


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (f"{A},ILD,5,R1,1,2,3,2001", "box 1, 2, 3, 2001 leaves the picture of 1800 x 2000 pixels"),
        (f"{A},ILD,5,R1,30,2,3,20", "box 30, 2, 3, 20 has no area"),
        (f"{A},ILD,5,R1,1,2,,4", "column 'x_max': a box without one of its sides"),
        (f"{A},ILD,5,R1,1,two,3,4", "column 'y_min': 'two' is not a number"),
    ],
)
def test_bad_boxes_are_named(tmp_path: Path, row: str, words: str) -> None:
    (kaggle(tmp_path, (*BOXES, row)) / "train_meta.csv").write_text(SIZES)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / f"{A}.png").touch()
    data = VinDrCxr().read(tmp_path)
    with pytest.raises(BadTable) as caught:
        data.regions.masks(np.array([0]))  # type: ignore[union-attr]
    assert "train.csv, row 10" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("png", "is no DICOM file"), ("dicom", "is not a DICOM file"), ("dcm", "cannot be read")],
)
def test_a_size_that_nobody_says(tmp_path: Path, name: str, words: str) -> None:
    (kaggle(tmp_path) / "train").mkdir()
    path = tmp_path / "train" / f"{A}.{name}"
    path.mkdir() if name == "dcm" else path.write_bytes(b"something else")
    with pytest.raises(BadImage) as caught:
        VinDrCxr().read(tmp_path).regions.masks(np.array([0]))  # type: ignore[union-attr]
    assert str(caught.value).startswith(f"{path}: {words}")


def test_benchx_lists_are_a_split_by_name(tmp_path: Path) -> None:
    physionet(tmp_path)
    for part, names in (("train", [A]), ("train_10", [B]), ("val", [D]), ("test", [C])):
        (tmp_path / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
    data = VinDrCxr(split="benchx").read(tmp_path)
    assert dict(zip(data.image_id.tolist(), data.split.tolist(), strict=True)) == {
        A: "train",
        C: "test",
        D: "valid",
    }
    assert data.dropped == {"in none of the lists": 1}
    assert "sha256" in data.choices["split"]
    assert not any("Not read" in note for note in data.notes if "train.txt" in note)
    assert VinDrCxr(split="benchx-10").read(tmp_path).image_id.tolist() == [B, C, D]
