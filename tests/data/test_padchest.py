"""The PadChest reader on tiny trees in the published layouts, and on the published table."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.data import findings
from retune.data.check import check
from retune.data.dataset import Dataset
from retune.data.readers.padchest import PHOTOMETRIC, TABLE, PadChest
from retune.errors import BadImage, BadSetting, BadTable, MissingFiles, UserError

COLUMNS = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,"
    "Projection,MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,PhotometricInterpretation_DICOM,"
    "PixelRepresentation_DICOM,PixelAspectRatio_DICOM,SpatialResolution_DICOM,BitsStored_DICOM,"
    "WindowCenter_DICOM,WindowWidth_DICOM,Rows_DICOM,Columns_DICOM,XRayTubeCurrent_DICOM,Exposure_DICOM,"
    "ExposureInuAs_DICOM,ExposureTime,RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,Labels,"
    "Localizations,LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS"
)
HEADER = COLUMNS.split(",")
USUAL = {
    "ImageDir": "0",
    "StudyDate_DICOM": "20140915",
    "PatientID": "839860488694292331637988235681460987",
    "PatientBirth": "1930.0",
    "PatientSex_DICOM": "F",
    "Projection": "PA",
    "PixelAspectRatio_DICOM": "['1', '1']",
    "Report": " sin hallazg patolog edad pacient .",
    "MethodLabel": "Physician",
    "Labels": "['normal']",
    "LabelsLocalizationsBySentence": "[['normal'], ['loc left', 'x']]",
}


def tree(root: Path, *rows: dict[str, str], zipped: bool = False, header: list[str] = HEADER) -> Path:
    """A table of these rows, which say only what is unusual."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for k, row in enumerate(rows):
        writer.writerow({"": str(k), "ImageID": f"{k}.png", **USUAL, **row})
    data = text.getvalue().encode()
    if zipped:
        (root / f"{TABLE}.gz").write_bytes(gzip.compress(data))
    else:
        (root / TABLE).write_bytes(data)
    return root


def labelled(root: Path, *cells: str) -> Path:
    return tree(root, *({"Labels": cell} for cell in cells))


def labels_of(data: Dataset) -> list[set[str]]:
    assert np.isin(data.targets, (0, 1)).all()
    return [{data.labels[k] for k in np.flatnonzero(row)} for row in data.targets]


def failure(root: Path | None, kind: type[UserError] = BadTable, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        PadChest(**settings).read(root)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [False, True])
def test_the_published_table(tmp_path: Path, zipped: bool) -> None:
    rows = (
        {
            "Labels": "['pulmonary fibrosis', 'chronic changes', 'kyphosis', ' pseudonodule']",
            "PatientID": "1",
        },
        {
            "PatientBirth": "",
            "PatientSex_DICOM": "O",
            "Projection": "AP_horizontal",
            "MethodLabel": "RNN_model",
        },
        {"PatientBirth": "1700.0", "PatientSex_DICOM": "nan", "StudyDate_DICOM": "20170101", "Report": ""},
    )
    data = PadChest().read(tree(tmp_path, *rows, zipped=zipped))
    assert data.name == "padchest"
    assert data.image_id.tolist() == ["0.png", "1.png", "2.png"]
    assert data.patient_id.tolist() == ["1", USUAL["PatientID"], USUAL["PatientID"]]
    assert labels_of(data) == [{"Fibrosis"}, {"No Finding"}, {"No Finding"}]
    assert data.columns["view"].tolist() == ["PA", "AP", "PA"]
    assert data.columns["sex"].tolist() == ["F", "", ""]
    np.testing.assert_array_equal(data.columns["age"], np.array([84, np.nan, np.nan], dtype=np.float32))
    assert data.columns["report"].tolist() == ["sin hallazg patolog edad pacient ."] * 2 + [""]
    assert data.columns["date"].tolist() == ["2014-09-15", "2014-09-15", "2017-01-01"]
    assert data.dropped == {}
    assert "Bustos" in data.source


@pytest.mark.parametrize(
    ("cell", "present"),
    [
        ("['COPD signs', ' pleural effusion']", {"COPD", "Pleural Effusion"}),
        ("""[ "nodule",'Cardiomegaly ']""", {"Nodule", "Lung Lesion", "Cardiomegaly"}),
        # A narrower label stands in the wider findings, never the other way round.
        ("['air bronchogram']", {"Consolidation", "Infiltration", "Lung Opacity"}),
        ("['interstitial pattern']", {"Infiltration", "Lung Opacity"}),
        ("['increased density']", {"Lung Opacity"}),
        ("['hydropneumothorax']", {"Pneumothorax", "Pleural Effusion"}),
        ("['calcified pleural thickening']", {"Pleural Thickening", "Pleural Other"}),
        ("['abscess']", {"Lung Lesion"}),
        ("['lung metastasis']", {"Lung Tumor", "Lung Lesion"}),
        # What only sounds like one.
        ("['pseudonodule', 'mediastinal mass', 'pericardial effusion', 'subcutaneous emphysema']", set()),
        ("['tuberculosis sequelae', 'aortic elongation', 'tracheal shift']", set()),
        ("['unchanged', 'NSG tube', 'pacemaker', '']", {"Support Devices"}),
        ("['suboptimal study', 'a label of another release']", set()),
        # "normal" beside an abnormality does not count, beside a device it does.
        ("[' normal', 'scoliosis']", set()),
        ("['infiltrates', ' normal']", {"Infiltration", "Lung Opacity"}),
        ("['NSG tube', ' normal', 'unchanged']", {"No Finding", "Support Devices"}),
    ],
)
def test_labels(tmp_path: Path, cell: str, present: set[str]) -> None:
    assert labels_of(PadChest().read(labelled(tmp_path, "['hiatal hernia']", cell))) == [{"Hernia"}, present]


def test_images_whose_findings_are_unknown_are_dropped(tmp_path: Path) -> None:
    cells = ("nan", "", "[]", "['']", "['unchanged', '']", "['suboptimal study']", "['normal']")
    excluded = ("['exclude']", "['cardiomegaly', ' exclude']")
    data = PadChest().read(labelled(tmp_path, *cells, *excluded))
    assert data.image_id.tolist() == ["6.png"]
    assert data.dropped == {"labelled 'exclude'": 2, "labels say nothing of findings": 6}
    assert "no image with known labels is left" in failure(labelled(tmp_path, *cells[:6], *excluded))


def test_views_and_review(tmp_path: Path) -> None:
    views = ("PA", "AP", "AP_horizontal", "L", "COSTAL", "EXCLUDE", "UNK", "")
    rows = [{"Projection": view, "MethodLabel": "RNN_model"} for view in views]
    root = tree(tmp_path, *rows, {"MethodLabel": "Physician"}, {"Projection": "L"})
    every = PadChest(views="all").read(root)
    assert every.columns["view"].tolist() == [
        *("PA", "AP", "AP", "lateral", "other", "other", "", ""),
        "PA",
        "lateral",
    ]
    assert every.dropped == {}
    frontal = PadChest().read(root)
    assert frontal.image_id.tolist() == ["0.png", "1.png", "2.png", "8.png"]
    assert frontal.dropped == {"view is not frontal": 6}
    assert PadChest(views="lateral").read(root).image_id.tolist() == ["3.png", "9.png"]
    physician = PadChest(reviewed="physician").read(root)
    assert physician.image_id.tolist() == ["8.png"]
    assert physician.dropped == {"view is not frontal": 6, "labels not by a physician": 3}
    assert "views=AP and reviewed=physician" in failure(root, views="AP", reviewed="physician")


def test_patients_are_split_by_a_hash(tmp_path: Path) -> None:
    rows = [{"PatientID": f"p{k // 2}"} for k in range(800)]
    data = PadChest(valid=0.3).read(tree(tmp_path, *rows))
    assert (data.split[::2] == data.split[1::2]).all()
    shares = [(data.split == name).mean() for name in ("train", "valid", "test")]
    assert np.allclose(shares, [0.5, 0.3, 0.2], atol=0.07)


def test_pictures_are_found_in_every_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    deep = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 16)
    places = {
        "folders": ("0/0.png", "54/1.png"),
        "within": ("images/0/0.png", "images/54/1.png"),
        "flat": ("0.png", "1.png"),
        "small": ("images-224/0.png", "images-224/1.png"),
    }
    keys = []
    for layout, files in places.items():
        root = tmp_path / layout
        for name in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            deep.save(root / name)
        whole = (root / files[1]).read_bytes()
        (root / files[1]).write_bytes(whole[: len(whole) // 2])
        data = PadChest().read(tree(root, {}, {"ImageDir": "54"}, {"ImageDir": "7"}))
        assert [data.images.describe(row) for row in range(3)] == [*files, "7/2.png"]
        picture, truncated, missing = data.images.load(np.arange(3))
        assert (np.asarray(picture).min(), np.asarray(picture).max()) == (0, 255)
        assert isinstance(truncated, BadImage)
        assert files[1] in str(truncated)
        assert isinstance(missing, BadImage)
        keys.append((data.fingerprint, data.images.keys(np.arange(3))))
    assert all(key == keys[0] for key in keys)


@pytest.mark.parametrize(
    ("column", "value", "part"),
    [
        ("Labels", "nodule", "'nodule' is not a list"),
        ("Labels", "['nodule'", "is not a list"),
        ("Labels", "['nodule' 'mass']", "is not a list"),
        ("Labels", "['nodule', 3]", "is not a list"),
        ("Labels", "['nodule'] + ['mass']", "is not a list"),
        ("Labels", "['nodule',]", "is not a list"),
        ("Labels", "{'nodule'}", "is not a list"),
        ("Labels", "[__import__('os').getcwd()]", "is not a list"),
        ("Labels", "[['nodule']]", "is not a list"),
        ("PatientID", " ", "the patient is blank"),
        ("PatientID", "nan", "the patient is blank"),
        ("ImageID", "../1.png", "'../1.png' is not a plain file name"),
        ("ImageID", "/etc/1.png", "not a plain file name"),
        ("ImageID", "..", "not a plain file name"),
        ("ImageID", "", "the image name is blank"),
        ("ImageID", "0.png", "image '0.png' stands in the table twice"),
        ("ImageDir", "../54", "'../54' is not a folder's number"),
        ("ImageDir", "", "'' is not a folder's number"),
        ("StudyDate_DICOM", "2014", "'2014' is not a date"),
        ("PatientBirth", "thirty", "'thirty' is not a date"),
        ("PatientSex_DICOM", "X", "'X' is none of M, F and O"),
        ("MethodLabel", "me", "'me' is neither Physician nor RNN_model"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, column: str, value: str, part: str) -> None:
    message = failure(tree(tmp_path, {}, {column: value}, {}))
    assert f"{TABLE}, row 3, column '{column}'" in message
    assert part in message


def test_missing_files_and_columns(tmp_path: Path) -> None:
    assert "--root DIR is needed" in failure(None, UserError)
    for where in (tmp_path, tmp_path / "nowhere"):
        message = failure(where, MissingFiles)
        assert str(where) in message
        assert TABLE in message
    assert "no rows" in failure(tree(tmp_path))
    part = [name for name in HEADER if name not in ("Labels", "PatientID")]
    assert "missing columns 'PatientID', 'Labels'" in failure(tree(tmp_path, {}, header=part))
    # The columns that are not used may be missing.
    used = ["ImageID", "Report", *(name for name in USUAL if name in HEADER and "Pixel" not in name)]
    used = [name for name in dict.fromkeys(used) if not name.startswith("LabelsLoc")]
    assert len(used) == 10
    assert len(PadChest().read(tree(tmp_path, {}, header=used))) == 1


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"views": "front"}, "frontal or PA or AP or lateral or all"),
        ({"reviewed": "nobody"}, "all or physician"),
        ({"valid": 0.8}, "valid is 0.8"),
        ({"valid": float("nan")}, "valid is nan"),
    ],
)
def test_bad_settings(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(BadSetting, match="padchest") as caught:
        PadChest(**settings)
    assert part in str(caught.value)


# Where torchxrayvision's labels differ from these, by the PadChest label that makes the difference: it looks
# for a word anywhere in the cell, so that a pseudonodule is a nodule and subcutaneous emphysema is emphysema.
ONLY_THEIRS = {
    "Nodule": {"pseudonodule"},
    "Mass": {"mediastinal mass", "pleural mass", "breast mass", "soft tissue mass"},
    "Pleural Effusion": {"pericardial effusion"},
    "Emphysema": {"subcutaneous emphysema"},
    "Tuberculosis": {"tuberculosis sequelae"},
}
ONLY_OURS = {
    "Pleural Effusion": {"hydropneumothorax", "empyema"},
    "Emphysema": {"bullas"},
    "Infiltration": {"miliary opacities"},
    # It knows what is called a tube, a stent, a device or a pacemaker.
    "Support Devices": {
        "catheter",
        "central venous catheter",
        "central venous catheter via jugular vein",
        "central venous catheter via subclavian vein",
        "central venous catheter via umbilical vein",
        "reservoir central venous catheter",
        "artificial heart valve",
        "artificial aortic heart valve",
        "artificial mitral heart valve",
        "dai",
    },
}
SAME = {
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Fibrosis",
    "Fracture",
    "Hernia",
    "Pneumonia",
}
SAME |= {"Pleural Thickening", "Pneumothorax"}
THEIR_NAMES = {
    "Pleural Effusion": ("Effusion",),
    "Pleural Thickening": ("Pleural_Thickening",),
    "Support Devices": ("Support Devices", "Tube"),
}


@pytest.mark.filterwarnings("ignore:Parsing integer or float")
def test_the_whole_table_as_torchxrayvision_reads_it(tmp_path: Path) -> None:
    xrv = pytest.importorskip("torchxrayvision")
    pd = pytest.importorskip("pandas")
    table = Path(xrv.datasets.datapath) / f"{TABLE}.gz"
    if not table.is_file():
        pytest.skip("torchxrayvision comes without its copy of the table")
    shutil.copy(table, tmp_path)
    data = PadChest(views="all").read(tmp_path)
    assert PadChest.published is not None
    assert len(data) + sum(data.dropped.values()) == PadChest.published.images == 160_861
    assert data.dropped == {"labelled 'exclude'": 1312, "labels say nothing of findings": 5018}
    raw = pd.read_csv(table, usecols=["PatientID", "Labels"], dtype=str)
    assert raw["PatientID"].nunique() == PadChest.published.patients
    cells = raw["Labels"].dropna().unique()
    spellings = {label.strip() for cell in cells for label in ast.literal_eval(cell)}
    assert spellings - {""} == set(PadChest.mapping)
    # It leaves children, broken files and unknown labels out; "exclude" it keeps.
    theirs = xrv.datasets.PC_Dataset(str(tmp_path), views="*", unique_patients=False)
    _, ours_at, theirs_at = np.intersect1d(data.image_id, theirs.csv["ImageID"], return_indices=True)
    assert len(ours_at) > 150_000
    sources = theirs.csv["Labels"].to_numpy()[theirs_at]
    for label in SAME | ONLY_THEIRS.keys() | ONLY_OURS.keys():
        ours = data.targets[ours_at, data.labels.index(label)] == 1
        names = THEIR_NAMES.get(label, (label,))
        other = theirs.labels[:, [theirs.pathologies.index(name) for name in names]].any(axis=1)[theirs_at]
        assert (ours & other).sum() > 50
        for rows, reasons in ((other & ~ours, ONLY_THEIRS), (ours & ~other, ONLY_OURS)):
            held = [{part.strip() for part in ast.literal_eval(cell)} for cell in sources[rows]]
            assert all(one & reasons.get(label, set()) for one in held), label
            assert reasons.get(label, set()) <= set().union(*held), label


def test_the_mapping_reaches_the_vocabulary() -> None:
    assert [name for name in findings.FINDINGS if name in PadChest.labels] == list(PadChest.labels)
    assert set(PadChest.mapping.values()) - {""} == set(PadChest.labels)
    assert PadChest.mapping["consolidation"] == "Consolidation"
    assert PadChest.mapping["hydropneumothorax"] == "Pneumothorax"
    assert PadChest.mapping["exclude"] == PadChest.mapping["pseudonodule"] == ""


def bright(root: Path, *interpretations: str, centre: tuple[int, ...], border: tuple[int, ...]) -> Path:
    """Pictures of which only the border is asked for."""
    tree(root, *({"PatientID": str(k), PHOTOMETRIC: word} for k, word in enumerate(interpretations)))
    (root / "0").mkdir(exist_ok=True)
    for k, (inner, outer) in enumerate(zip(centre, border, strict=True)):
        pixels = np.full((40, 40), outer, np.uint8)
        pixels[4:-4, 4:-4] = inner
        Image.fromarray(pixels).save(root / "0" / f"{k}.png")
    return root


def test_monochrome1_is_a_setting(tmp_path: Path) -> None:
    kinds = ("MONOCHROME2", "MONOCHROME1", "MONOCHROME1")
    root = bright(tmp_path, *kinds, centre=(200, 50, 60), border=(10, 240, 250))
    stored, turned = PadChest().read(root), PadChest(monochrome1="inverted").read(root)
    rows = np.arange(3)
    for data, want in ((stored, [200, 50, 60]), (turned, [200, 205, 195])):
        assert [p.getpixel((20, 20)) for p in data.images.load(rows)] == want  # type: ignore[union-attr]
    same = [a == b for a, b in zip(stored.images.keys(rows), turned.images.keys(rows), strict=True)]
    assert same == [True, False, False]
    assert stored.fingerprint == turned.fingerprint
    assert any("MONOCHROME1: 2, taken as stored" in note for note in stored.notes)
    assert any("MONOCHROME1: 2, inverted" in note for note in turned.notes)
    assert not any(
        "MONOCHROME" in note for note in PadChest().read(tree(root, {PHOTOMETRIC: "MONOCHROME2"})).notes
    )


@pytest.mark.parametrize(
    "word", ["monochrome1", "MONOCHROME 1", "'MONOCHROME1'", "b'MONOCHROME1'", " Monochrome1 "]
)
@pytest.mark.parametrize("column", [PHOTOMETRIC, "photometric_interpretation", "PhotometricInterpretation"])
def test_monochrome1_is_understood_however_a_copy_spells_it(tmp_path: Path, column: str, word: str) -> None:
    table = tree(tmp_path, {PHOTOMETRIC: word}) / TABLE
    table.write_text(table.read_text().replace(PHOTOMETRIC, column))
    (note,) = PadChest(monochrome1="inverted").read(tmp_path).notes
    assert "MONOCHROME1: 1, inverted" in note


def test_inverting_needs_the_column(tmp_path: Path) -> None:
    table = tree(tmp_path, {}) / TABLE
    table.write_text(table.read_text().replace(PHOTOMETRIC, "Other"))
    with pytest.raises(BadTable, match=f"no column '{PHOTOMETRIC}', which monochrome1=inverted needs"):
        PadChest(monochrome1="inverted").read(tmp_path)


@pytest.mark.parametrize(
    ("border", "setting", "says"),
    [
        ((10, 240, 250), "as-stored", "choose the other value"),
        ((10, 240, 250), "inverted", "is right"),
        ((10, 20, 15), "as-stored", "is right"),
        ((10, 20, 15), "inverted", "choose the other value"),
        ((120, 130, 130), "as-stored", "too grey"),
    ],
)
def test_check_compares_borders(tmp_path: Path, border: tuple[int, ...], setting: str, says: str) -> None:
    kinds = ("MONOCHROME2", "MONOCHROME1", "MONOCHROME1")
    root = bright(tmp_path, *kinds, centre=(200, 50, 60), border=border)
    found = check("padchest", root, {"monochrome1": setting})
    assert sum(note.startswith("Borders of 2 pictures") and says in note for note in found.notes) == 1


def test_one_patient_in_two_spellings(tmp_path: Path) -> None:
    rows = ({"PatientID": "17"}, {"PatientID": "\uff11\uff17"}, {"PatientID": "17.0"})
    data = PadChest().read(tree(tmp_path, *rows))
    assert data.patient_id.tolist() == ["17"] * 3
    assert len(set(data.split.tolist())) == 1


def test_a_strange_projection_is_named(tmp_path: Path) -> None:
    data = PadChest().read(tree(tmp_path, {}, {"Projection": "TOP"}))
    assert len(data) == 1
    assert any("'TOP' (1)" in note for note in data.notes)


def test_a_date_that_is_none_is_unknown(tmp_path: Path) -> None:
    data = PadChest().read(tree(tmp_path, {"StudyDate_DICOM": "nan"}, {"StudyDate_DICOM": "20149999"}))
    assert data.columns["date"].tolist() == ["", ""]
    (told,) = [note for note in data.notes if "Dates" in note]
    assert told.startswith("Dates not understood, so that 1 count as unknown: '20149999' in row 3")
