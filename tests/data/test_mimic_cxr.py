"""The MIMIC-CXR-JPG reader on tiny trees in the published format, and against torchxrayvision."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.data import findings
from retune.data.dataset import Dataset
from retune.data.readers.mimic_cxr import MimicCxr
from retune.errors import BadImage, BadSetting, BadTable, MissingFiles, UserError

NAN = float("nan")
META = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
)
# The labels of MIMIC-CXR's tables are in alphabetical order.
ALPHABETICAL = sorted(findings.CHEXPERT)
IDS = [f"{k:08x}-bde0afdd-112c0b34-7bc16630-4e384014" for k in range(8)]
IMAGES = (  # patient, study, view
    (10000032, 50414267, "PA"),
    (10000032, 50414267, "LATERAL"),
    (10000032, 53189527, "AP"),
    (10000764, 57375967, "AP"),
    (10000898, 50771383, ""),
    (11000935, 50578979, "LL"),
    (11000935, 50578980, "AP"),
    (11000935, 50578979, "PA LLD"),
)
STUDIES: dict[tuple[int, int], dict[str, str]] = {
    (10000032, 50414267): {"No Finding": "1.0"},
    (10000032, 53189527): {"Cardiomegaly": "-1.0", "Edema": "1.0"},
    (10000764, 57375967): {"Cardiomegaly": "1.0", "Pneumonia": "0.0"},
    (10000898, 50771383): {"Cardiomegaly": "0.0"},
    (11000935, 50578979): {"Support Devices": "1.0"},
    # 50578980 has no report and hence no labels.
}
SPLIT = ("train", "train", "train", "validate", "test", "test", "test", "test")


def save(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def tree(
    root: Path,
    images: tuple[tuple[Any, Any, str], ...] = IMAGES,
    studies: dict[tuple[int, int], dict[str, str]] = STUDIES,
    *,
    version: str = "2.0.0",
    end: str = ".gz",
    labeler: str = "chexpert",
) -> Path:
    table = {kind: root / f"mimic-cxr-{version}-{kind}.csv{end}" for kind in ("metadata", "split", labeler)}
    meta = [
        f"{name},{patient},{study},CHEST (PA AND LAT),{view},3056,2544,21800506,213014.5,,,Erect"
        for name, (patient, study, view) in zip(IDS, images, strict=False)
    ]
    save(table["metadata"], [META, *meta])
    labels = [
        f"{patient},{study}," + ",".join(marks.get(label, "") for label in ALPHABETICAL)
        for (patient, study), marks in studies.items()
    ]
    save(table[labeler], ["subject_id,study_id," + ",".join(ALPHABETICAL), *labels])
    split = [
        f"{name},{study},{patient},{part}"
        for name, (patient, study, _), part in zip(IDS, images, SPLIT, strict=False)
    ]
    # The tables are not in one order.
    save(table["split"], ["dicom_id,study_id,subject_id,split", *reversed(split)])
    return root


def failure(root: Path | None, kind: type[UserError] = BadTable, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        MimicCxr(**settings).read(root)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def known(data: Dataset, row: int) -> dict[str, float]:
    values = zip(data.labels, data.targets[row].tolist(), strict=True)
    return {label: value for label, value in values if not np.isnan(value)}


@pytest.mark.parametrize(
    ("version", "end"), [("2.0.0", ".gz"), ("2.0.0", ""), ("2.1.0", ".gz"), ("2.1.0", "")]
)
def test_the_published_tables(tmp_path: Path, version: str, end: str) -> None:
    data = MimicCxr(views="all", blank="ignore").read(tree(tmp_path, version=version, end=end))
    assert data.name == "mimic-cxr"
    assert data.labels == findings.CHEXPERT
    assert data.image_id.tolist() == [*IDS[:6], IDS[7]]
    assert data.patient_id.tolist() == [
        *("10000032", "10000032", "10000032", "10000764", "10000898", "11000935", "11000935")
    ]
    assert data.split.tolist() == ["train", "train", "train", "valid", "test", "test", "test"]
    # A label belongs to a study, that is to all its images.
    assert known(data, 0) == known(data, 1) == {"No Finding": 1}
    assert known(data, 2) == {"Edema": 1}
    assert known(data, 3) == {"Cardiomegaly": 1, "Pneumonia": 0}
    assert known(data, 5) == known(data, 6) == {"Support Devices": 1}
    assert data.columns["view"].tolist() == ["PA", "lateral", "AP", "AP", "", "lateral", "other"]
    assert data.columns["study"].tolist()[:3] == ["50414267", "50414267", "53189527"]
    assert set(data.columns) == {"view", "study"}
    assert data.dropped == {"the study has no labels": 1}
    assert data.images.describe(0) == f"files/p10/p10000032/s50414267/{IDS[0]}.jpg"
    assert data.images.describe(5) == f"files/p11/p11000935/s50578979/{IDS[5]}.jpg"
    assert "Johnson" in data.source
    assert not data.synthetic


@pytest.mark.parametrize(
    ("uncertain", "blank", "cardiomegaly"),
    [
        ("ignore", "zeros", [0, NAN, 1]),
        ("zeros", "zeros", [0, 0, 1]),
        ("ones", "ignore", [NAN, 1, 1]),
    ],
)
def test_policies(tmp_path: Path, uncertain: Any, blank: Any, cardiomegaly: list[float]) -> None:
    data = MimicCxr(uncertain=uncertain, blank=blank).read(tree(tmp_path))
    np.testing.assert_array_equal(data.targets[:, data.labels.index("Cardiomegaly")], cardiomegaly)


@pytest.mark.parametrize(
    ("views", "kept"), [("frontal", [0, 2, 3]), ("PA", [0]), ("AP", [2, 3]), ("lateral", [1, 5])]
)
def test_views(tmp_path: Path, views: Any, kept: list[int]) -> None:
    data = MimicCxr(views=views).read(tree(tmp_path))
    assert data.image_id.tolist() == [IDS[row] for row in kept]
    # An image without labels is counted once, whatever its view.
    assert data.dropped == {"the study has no labels": 1, f"view is not {views}": 7 - len(kept)}


@pytest.mark.parametrize(
    ("position", "view"),
    [
        *(
            ("PA", "PA"),
            ("AP", "AP"),
            ("LATERAL", "lateral"),
            ("LL", "lateral"),
            ("XTABLE LATERAL", "lateral"),
        ),
        *((name, "other") for name in ("AP AXIAL", "AP LLD", "PA RLD", "SWIMMERS", "LAO", "LPO", "L5 S1")),
        ("", ""),
    ],
)
def test_view_positions(tmp_path: Path, position: str, view: str) -> None:
    root = tree(tmp_path, ((10000032, 50414267, position), *IMAGES[1:]))
    assert MimicCxr(views="all").read(root).columns["view"][0] == view


def test_no_image_is_left(tmp_path: Path) -> None:
    assert "no image is left with views=PA" in failure(tree(tmp_path, IMAGES[1:2]), views="PA")


def test_labels_of_negbio(tmp_path: Path) -> None:
    tree(tmp_path)
    assert "mimic-cxr-2.1.0-negbio.csv" in failure(tmp_path, MissingFiles, labeler="negbio")
    tree(tmp_path, studies={(10000032, 50414267): {"Fracture": "1.0"}}, labeler="negbio")
    data = MimicCxr(labeler="negbio", blank="ignore").read(tmp_path)
    assert [known(data, row) for row in range(len(data))] == [{"Fracture": 1}]
    assert data.dropped == {"the study has no labels": 6, "view is not frontal": 1}
    assert known(MimicCxr(blank="ignore").read(tmp_path), 0) == {"No Finding": 1}


def test_splits(tmp_path: Path) -> None:
    root = tree(tmp_path, end="")
    table = root / "mimic-cxr-2.0.0-split.csv"
    lines = table.read_text().splitlines()
    save(table, [line for line in lines if IDS[3] not in line])
    data = MimicCxr().read(root)
    assert data.image_id.tolist() == [IDS[0], IDS[2]]
    assert data.dropped["in no row of the official split"] == 1
    hashed = MimicCxr(split="hash", valid=0).read(root)
    assert len(hashed) == 3
    table.unlink()
    message = failure(root, MissingFiles, split="official")
    assert "mimic-cxr-2.0.0-split.csv" in message
    assert "split=hash" in message
    assert MimicCxr(valid=0).read(root).split.tolist() == hashed.split.tolist()


def test_the_hash_splits_patients(tmp_path: Path) -> None:
    lines = [f"{k:x},{10_000_000 + k // 2},{50_000_000 + k // 2},CHEST,PA,1,1,1,1,,," for k in range(800)]
    studies = {(10_000_000 + k, 50_000_000 + k): {"Edema": "1.0"} for k in range(400)}
    root = tree(tmp_path, studies=studies)
    save(root / "mimic-cxr-2.0.0-metadata.csv.gz", [META, *lines])
    data = MimicCxr(split="hash", valid=0.1).read(root)
    shares = [(data.split == name).mean() for name in ("train", "valid", "test")]
    assert np.allclose(shares, [0.7, 0.1, 0.2], atol=0.07)
    assert (data.split[::2] == data.split[1::2]).all()


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, end="")
    table = root / "mimic-cxr-2.0.0-split.csv"
    table.write_text(
        table.read_text().replace(f"{IDS[2]},53189527,10000032,train", f"{IDS[2]},53189527,10000032,test")
    )
    assert "patient '10000032' is in test and train" in failure(root)


@pytest.mark.parametrize(
    ("kind", "old", "new", "row", "column", "part"),
    [
        ("metadata", IDS[1], "../x", 3, "dicom_id", "'../x' is not made of hexadecimal digits and dashes"),
        ("metadata", IDS[1], "", 3, "dicom_id", "'' is not made of"),
        ("metadata", IDS[1], IDS[0], 3, "dicom_id", f"image '{IDS[0]}' stands in the table twice"),
        ("metadata", "10000764", "1/2", 5, "subject_id", "'1/2' is not a whole number"),
        ("metadata", "10000764", "7", 5, "subject_id", "'7' is below 10"),
        ("metadata", "57375967", "", 5, "study_id", "'' is not a whole number"),
        (
            "metadata",
            "10000764",
            "10000765",
            5,
            "subject_id",
            "is not the patient that mimic-cxr-2.0.0-chexpert.csv",
        ),
        ("chexpert", "53189527", "50414267", 3, "study_id", "study_id '50414267' stands in the table twice"),
        ("chexpert", "-1.0", "-2.0", 3, "Cardiomegaly", "'-2.0' is no label value"),
        ("split", IDS[7], IDS[6], 3, "dicom_id", "stands in the table twice"),
        ("split", "validate", "valid", 6, "split", "'valid' is not train or validate or test"),
        (
            "split",
            "57375967,10000764",
            "57375967,10000765",
            5,
            "subject_id",
            "mimic-cxr-2.0.0-split.csv gives",
        ),
    ],
)
def test_bad_rows(tmp_path: Path, kind: str, old: str, new: str, row: int, column: str, part: str) -> None:
    root = tree(tmp_path, end="")
    table = root / f"mimic-cxr-2.0.0-{kind}.csv"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))
    message = failure(root)
    assert f"row {row}, column '{column}'" in message
    assert part in message


def test_missing_columns(tmp_path: Path) -> None:
    root = tree(tmp_path, end="")
    for kind, column in (("split", "split"), ("chexpert", "Lung Lesion"), ("metadata", "ViewPosition")):
        table = root / f"mimic-cxr-2.0.0-{kind}.csv"
        table.write_text(table.read_text().replace(column, "x", 1))
        message = failure(root)
        assert f"missing column '{column}'" in message
        assert table.name in message


def test_no_known_label(tmp_path: Path) -> None:
    root = tree(tmp_path, studies={study: {} for study in STUDIES})
    message = failure(root, blank="ignore")
    assert "chexpert.csv.gz: no label of any image is known with uncertain=ignore and blank=ignore" in message


def test_missing_root_and_tables(tmp_path: Path) -> None:
    assert "--root DIR is needed" in failure(None, UserError)
    assert "there is no such folder" in failure(tmp_path / "nowhere", MissingFiles)
    assert "mimic-cxr-2.1.0-metadata.csv or mimic-cxr-2.0.0-metadata.csv" in failure(tmp_path, MissingFiles)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"views": "LL"}, "views is 'LL'"),
        ({"labeler": "chexbert"}, "choose chexpert or negbio"),
        ({"split": "train"}, "choose auto or official or hash"),
        ({"valid": -0.1}, "valid is -0.1"),
    ],
)
def test_bad_settings(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(BadSetting) as caught:
        MimicCxr(**settings)
    assert "data set mimic-cxr" in str(caught.value)
    assert part in str(caught.value)


def test_reports(tmp_path: Path) -> None:
    root = tree(tmp_path)
    message = failure(root, MissingFiles, reports=True)
    assert "no report found (looked for files/p10/p10000032/s50414267.txt and others)" in message
    assert "reports=true" in message
    folder = root / "files/p10/p10000032"
    folder.mkdir(parents=True)
    (folder / "s50414267.txt").write_bytes("\n  FINAL REPORT\n Naïve.\n".encode())
    data = MimicCxr(views="all", reports=True).read(root)
    assert data.columns["report"].tolist() == ["FINAL REPORT\n Naïve."] * 2 + [""] * 5
    assert data.fingerprint == MimicCxr(views="all").read(root).fingerprint


def test_a_truncated_picture_stands_in_its_place(tmp_path: Path) -> None:
    data = MimicCxr().read(tree(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    paths = [tmp_path / data.images.describe(row) for row in range(2)]
    for path in paths:
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    paths[0].write_bytes(paths[0].read_bytes()[:700])
    first, second, missing = data.images.load(np.arange(3))
    assert isinstance(first, BadImage)
    assert str(paths[0]) in str(first)
    assert isinstance(second, Image.Image)
    assert isinstance(missing, BadImage)


@pytest.mark.parametrize(("views", "theirs"), [("all", ["*"]), ("PA", ["PA"]), ("AP", ["AP"])])
def test_labels_equal_those_of_torchxrayvision(tmp_path: Path, views: Any, theirs: list[str]) -> None:
    xrv = pytest.importorskip("torchxrayvision.datasets")
    rng = np.random.default_rng(2)
    marks = np.array(["", "1.0", "0.0", "-1.0"])[rng.integers(4, size=(len(STUDIES), 14))]
    marks[:, 0] = ["1.0", "", "", "", "1.0"]
    studies = {
        study: dict(zip(findings.CHEXPERT, row.tolist(), strict=True))
        for study, row in zip(STUDIES, marks, strict=True)
    }
    root = tree(tmp_path, studies=studies)
    tables = [str(root / f"mimic-cxr-2.0.0-{kind}.csv.gz") for kind in ("chexpert", "metadata")]
    other = xrv.MIMIC_Dataset(str(root / "files"), *tables, views=theirs, unique_patients=False)
    data = MimicCxr(views=views, blank="ignore").read(root)
    ours = dict(zip(data.image_id.tolist(), data.targets.copy(), strict=True))
    assert sorted(ours) == sorted(other.csv["dicom_id"])
    names = [name if name != "Effusion" else "Pleural Effusion" for name in other.pathologies]
    assert set(names) == set(data.labels[1:])
    healthy = 0
    for name, theirs_of_image in zip(other.csv["dicom_id"], other.labels, strict=True):
        expected = ours[name][[data.labels.index(label) for label in names]]
        # torchxrayvision has no label "No Finding": where it is marked, it sets the others to 0, devices too.
        # Here a blank stays what the setting says.
        if ours[name][0] == 1:
            healthy += 1
            expected = np.zeros_like(expected)
        np.testing.assert_array_equal(expected, theirs_of_image)
    assert healthy == {"all": 4, "PA": 1, "AP": 0}[views]


def test_the_split_taken_is_said(tmp_path: Path) -> None:
    table = tree(tmp_path) / "mimic-cxr-2.0.0-split.csv.gz"
    want = MimicCxr().read(tmp_path)
    assert want.choices["split"] == f"official, by {table.name}"
    (tmp_path / "tables").mkdir()
    table.rename(tmp_path / "tables" / "MIMIC-CXR-2.0.0-split.csv.gz")
    assert MimicCxr().read(tmp_path).fingerprint == want.fingerprint
    (tmp_path / "tables" / "MIMIC-CXR-2.0.0-split.csv.gz").rename(tmp_path / "my-split.csv.gz")
    data = MimicCxr().read(tmp_path)
    assert "by a hash of patients" in data.choices["split"]
    assert "is not there" in data.choices["split"]
    assert any("my-split.csv.gz" in note and "-split.csv" in note for note in data.notes)


def patients(root: Path, *rows: str) -> Path:
    save(root / "patients.csv.gz", ["subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod", *rows])
    return root


def test_years_are_those_of_mimic_iv_put_back_by_the_patients_shift(tmp_path: Path) -> None:
    # All studies are of 2180: three and no years after what their patients' groups tell of.
    root = patients(
        tree(tmp_path), "10000032,F,52,2177,2008 - 2010,", "10000764,M,86,2180,2014 - 2016,2180-01-01"
    )
    data = MimicCxr(views="all", dates=True).read(root)
    assert data.image_id.tolist() == IDS[:4]
    assert data.columns["date"].tolist() == ["2012", "2012", "2012", "2015"]
    assert data.dropped == {"the study has no labels": 1, "the patient is not in patients.csv": 3}
    plain = MimicCxr(views="all").read(root)
    assert "date" not in plain.columns
    assert len(plain) == 7


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("10000032,F,52,2177,later,",), "column 'anchor_year_group': 'later' is not like 2011 - 2013"),
        (("10000032,F,52,2177,2008 - 2010,",) * 2, "patient '10000032' stands in the table twice"),
        (("10000032,F,52,soon,2008 - 2010,",), "column 'anchor_year': 'soon' is not a whole number"),
    ],
    ids=["group", "twice", "year"],
)
def test_a_table_of_patients_that_cannot_be_right(
    tmp_path: Path, rows: tuple[str, ...], message: str
) -> None:
    assert message in failure(patients(tree(tmp_path), *rows), dates=True)


def test_dates_need_the_table_of_patients(tmp_path: Path) -> None:
    assert "it comes with MIMIC-IV" in failure(tree(tmp_path), MissingFiles, dates=True)


def test_sex_age_and_race_come_from_mimic_iv_where_it_is_there(tmp_path: Path) -> None:
    root = tree(tmp_path)
    without = MimicCxr().read(root)
    assert any("patients.csv is not there" in note for note in without.notes)
    assert "sex" not in without.columns
    # All studies are of 2180; its tables may lie in the folder that they come in.
    patients(root / "hosp", "10000032,F,52,2177,2008 - 2010,", "11000935,M,91,2180,2014 - 2016,")
    stays = ("10000032,1,,", "10000032,2,,WHITE", "10000032,3,,UNKNOWN")
    save(root / "hosp" / "admissions.csv.gz", ["subject_id,hadm_id,admittime,race", *stays])
    data = MimicCxr().read(root)
    assert data.columns["sex"].tolist() == ["F", "F", ""]
    np.testing.assert_array_equal(data.columns["age"], [55, 55, NAN])
    assert data.columns["race"].tolist() == ["WHITE", "WHITE", ""]
    assert data.choices["tables"].endswith("patients.csv.gz, admissions.csv.gz")
    assert any("Sex and age of 2 patients are not known" in note for note in data.notes)
    assert data.fingerprint == without.fingerprint
    patients(root / "hosp", "10000032,female,52,2177,2008 - 2010,")
    assert "row 2, column 'gender': 'female' is not M or F" in failure(root)
