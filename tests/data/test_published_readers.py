"""Readers of further public data sets, each on a tiny tree in exactly the published layout."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.check import check_dataset
from retune.cli.main import main
from retune.data.dataset import Dataset
from retune.data.findings import CHEXPERT
from retune.data.readers.cxr_lt import TASK_1, TASK_2, TASK_3
from retune.data.source import DataSource
from retune.errors import UserError

NAN = float("nan")


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def picture(path: Path, side: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.as_posix())).integers(0, 256, (side, side), dtype=np.uint8)
    pixels[0, :4] = list(path.as_posix().encode()[-8:-4])
    Image.fromarray(pixels).save(path)


def read(name: str, root: Path, **settings: Any) -> Dataset:
    return DataSource.make(name, root, settings).read()


def column(data: Dataset, label: str) -> list[float]:
    return data.targets[:, data.labels.index(label)].tolist()


# CXR-LT: patient, study, image, view and the labels that are present.
HEAD = "dicom_id,subject_id,study_id,ViewPosition,ViewCodeSequence_CodeMeaning,fpath"
LT = {
    "train_labeled.csv": (
        ("10000032", "50414267", "02aa804e-1", "PA", ("Normal",)),
        ("10000032", "50414267", "174413ec-2", "LATERAL", ("Normal",)),
        ("10000764", "57375967", "096052b7-3", "AP", ("Rib Fracture", "Fracture", "Kyphosis")),
        ("10000898", "50771383", "8d4ffd4f-4", "AP", ("Round(ed) Atelectasis", "Support Devices")),
    ),
    "development_labeled_task1.csv": (("10000935", "50578979", "d0b71acc-5", "PA", ("Hernia",)),),
    "development_labeled_task2.csv": (("10000935", "50578979", "d0b71acc-5", "PA", ("Hernia",)),),
    "development_labeled_task3.csv": (("10000935", "50578979", "d0b71acc-5", "PA", ("Bulla",)),),
    "test_labeled_task1.csv": (("11000011", "51029426", "fffabebf-6", "PA", ("Tortuous Aorta",)),),
    # This task tests on an image that is trained on.
    "test_labeled_task2.csv": (("10000764", "57375967", "096052b7-3", "AP", ("Fracture",)),),
    "test_labeled_task3.csv": (("11000011", "51029426", "fffabebf-6", "PA", ("Scoliosis", "Bulla")),),
}


def cxr_lt(root: Path) -> None:
    for name, rows in LT.items():
        # In the published tables labels are in alphabetical order.
        labels = sorted(TASK_3 if "task3" in name else TASK_2 if "task2" in name else TASK_1)
        lines = []
        for patient, study, image, view, present in rows:
            file = f"files/p{patient[:2]}/p{patient}/s{study}/{image}.jpg"
            marks = ",".join(str(int(label in present)) for label in labels)
            lines.append(f"{image},{patient},s{study},{view},postero-anterior,{file},{marks}")
            picture(root / file)
        write(root / "cxr-lt-2024" / name, f"{HEAD},{','.join(labels)}", *lines)


def test_cxr_lt_has_three_tasks(tmp_path: Path) -> None:
    cxr_lt(tmp_path)
    assert (len(TASK_1), len(TASK_2), len(TASK_3)) == (40, 26, 5)
    assert DataSource.make("cxr-lt", tmp_path).prompts == "long-tail"
    data = read("cxr-lt", tmp_path)
    assert (len(data.labels), data.labels[0], data.labels[-1]) == (40, "No Finding", "Tortuous Aorta")
    assert data.split.tolist() == ["train"] * 3 + ["valid", "test"]
    assert (column(data, "No Finding"), column(data, "Fracture")) == ([1, 0, 0, 0, 0], [0, 1, 0, 0, 0])
    assert column(data, "Round(ed) Atelectasis") == [0, 0, 1, 0, 0]
    assert data.images.describe(1) == "files/p10/p10000764/s57375967/096052b7-3.jpg"
    assert data.dropped == {"view is not frontal": 1}
    gold = read("cxr-lt", tmp_path, task="gold", views="all")
    assert (len(gold.labels), gold.split.tolist()) == (26, ["train"] * 3 + ["valid", "test"])
    assert gold.dropped == {"of a patient who is tested on": 1}
    unseen = read("cxr-lt", tmp_path, task="zero-shot")
    assert len(unseen.labels) == 45
    np.testing.assert_array_equal(column(unseen, "Bulla"), [NAN, NAN, NAN, 1, 1])
    np.testing.assert_array_equal(column(unseen, "Fracture"), [0, 1, 0, NAN, NAN])
    # Ages need the dates of studies, which MIMIC-CXR's own table has.
    write(tmp_path / "patients.csv", "subject_id,gender,anchor_age,anchor_year", "10000764,M,86,2180")
    assert "age" not in read("cxr-lt", tmp_path).columns
    meta = "dicom_id,subject_id,study_id,StudyDate", "096052b7-3,10000764,57375967,21831015"
    write(tmp_path / "mimic-cxr-2.0.0-metadata.csv", *meta)
    people = read("cxr-lt", tmp_path).columns
    assert people["sex"].tolist() == ["", "M", "", "", ""]
    np.testing.assert_array_equal(people["age"], [NAN, 89, NAN, NAN, NAN])


REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
   <meta type="rr"/>
   <uId id="CXR{uid}"/>
   <MedlineCitation Owner="Indiana University" Status="supplied by publisher"><Article PubModel="Electronic"><Abstract>
            <AbstractText Label="COMPARISON">None.</AbstractText>
            <AbstractText Label="INDICATION">Dyspnea in XXXX.</AbstractText>
            <AbstractText Label="FINDINGS">{said} &amp; so on.</AbstractText>
            <AbstractText Label="IMPRESSION">{said}</AbstractText>
   </Abstract></Article></MedlineCitation>
   <MeSH>{terms}</MeSH>
   {images}
</eCitation>
"""
IMAGE = """<parentImage id="{name}">
      <figureId>F1</figureId>
      <caption>Chest, 2 views, frontal and lateral</caption>
      <panel type="single"><url>/hadoop/storage/radiology/extract/{name}.jpg</url></panel>
   </parentImage>"""
OPENI: Mapping[int, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    1: ("Clear.", ("major:normal",), ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")),
    2: (
        "Nodule.",
        ("major:Nodule/lung/upper lobe/right", "major:Thickening/bronchi", "automatic:nodule"),
        ("CXR2_IM-0652-1001",),
    ),
    3: ("Fluid.", ("major:Pleural Effusion", "automatic:pericardial effusion"), ("CXR3_IM-1384-1001",)),
    5: ("Unread.", ("major:No Indexing", "automatic:Opacity"), ("CXR5_IM-2117-1003002",)),
    6: ("No image.", ("major:normal",), ()),
    **{k: ("Clear.", ("major:normal",), (f"CXR{k}_IM-0001-1001",)) for k in range(10, 16)},
}


def openi(root: Path) -> None:
    for uid, (said, terms, names) in OPENI.items():
        pairs = [term.split(":") for term in terms]
        marks = "".join(f"<{kind}>{term}</{kind}>" for kind, term in pairs)
        images = "".join(IMAGE.format(name=name) for name in names)
        report = REPORT.format(uid=uid, said=said, terms=marks, images=images)
        write(root / "ecgen-radiology" / f"{uid}.xml", report)
        for name in names:
            picture(root / "NLMCXR_png" / f"{name}.png")


def test_openi_reads_what_people_indexed(tmp_path: Path) -> None:
    openi(tmp_path)
    data = read("openi", tmp_path)
    assert data.image_id.tolist()[:4] == [
        *("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR2_IM-0652-1001", "CXR3_IM-1384-1001")
    ]
    assert data.patient_id.tolist()[:3] == ["CXR1", "CXR1", "CXR2"]
    assert [
        column(data, name)[:4] for name in ("No Finding", "Nodule", "Lung Lesion", "Pleural Effusion")
    ] == [*([1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1])]
    assert sum(column(data, "Pleural Thickening")) == 0
    assert data.columns["report"][2] == "Nodule. & so on.\nNodule."
    assert data.dropped == {"nobody indexed the report": 1}
    found = read("openi", tmp_path, labels_from="automatic")
    assert [column(found, name)[2:5] for name in ("Nodule", "Pleural Effusion", "Lung Opacity")] == [
        *([1, 0, 0], [0, 0, 0], [0, 0, 1])
    ]
    assert np.isnan(column(found, "No Finding")).all()
    # Kaggle's copy tells projections, and calls pictures otherwise.
    rows = (
        "1,1_IM-0001-3001.dcm.png,Frontal",
        "1,1_IM-0001-4001.dcm.png,Lateral",
        "2,2_IM-0652-1001.dcm.png,Frontal",
    )
    write(tmp_path / "indiana_projections.csv", "uid,filename,projection", *rows)
    frontal = read("openi", tmp_path)
    assert frontal.image_id.tolist() == ["CXR1_1_IM-0001-3001", "CXR2_IM-0652-1001"]
    (tmp_path / "NLMCXR_png" / "CXR2_IM-0652-1001.png").rename(tmp_path / "2_IM-0652-1001.dcm.png")
    assert read("openi", tmp_path).images.exists(np.arange(2)).all()


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("<eCitation>", '<!DOCTYPE x [<!ENTITY a "aaaa">]><eCitation>', "declares a type of its own"),
        ("</eCitation>", "", "is no XML"),
        ('encoding="utf-8"', 'encoding="no-such"', "is no XML"),
        ('uId id="CXR2"', 'uId id=""', "has no uId"),
        ('parentImage id="', 'parentImage id="../', "is not the name of an image"),
        ("None.", "x" * 2**20, "is larger than 1 MiB"),
    ],
)
def test_openi_trusts_no_report(tmp_path: Path, old: str, new: str, what: str) -> None:
    openi(tmp_path)
    report = tmp_path / "ecgen-radiology" / "2.xml"
    report.write_text(report.read_text().replace(old, new))
    with pytest.raises(UserError, match=what) as caught:
        read("openi", tmp_path)
    assert str(report) in str(caught.value)


def test_the_published_reports_of_openi_have_the_published_counts(tmp_path: Path) -> None:
    spec = find_spec("torchxrayvision")
    if spec is None or spec.origin is None:
        pytest.skip("torchxrayvision, which has the published reports, is not installed")
    with tarfile.open(Path(spec.origin).parent / "data" / "NLMCXR_reports.tgz") as archive:
        archive.extractall(tmp_path, filter="data")
    data = read("openi", tmp_path, labels_from="automatic")
    assert (len(data), len(np.unique(data.patient_id))) == (7_470, 3_851)
    # As torchxrayvision reads the same terms.
    theirs = {
        "Atelectasis": 711,
        "Edema": 144,
        "Fracture": 189,
        "Hernia": 97,
        "Nodule": 157,
        "Pneumonia": 158,
    }
    assert {name: int(sum(column(data, name))) for name in theirs} == theirs


PLUS = (
    "path_to_image,path_to_dcm,frontal_lateral,ap_pa,deid_patient_id,patient_report_date_order,report,section_narrative,"
    "section_clinical_history,section_history,section_comparison,section_technique,section_procedure_comments,"
    "section_findings,section_impression,section_end_of_impression,section_summary,section_accession_number,age,sex,race,"
    "ethnicity,interpreter_needed,insurance_type,recent_bmi,deceased,split"
)
PLUS_ROWS = (  # split, patient, view, side, projection, findings, impression, sex, labels
    (
        "train",
        1,
        "1_frontal",
        "Frontal",
        "AP",
        "",
        "1. Edema,\n2. effusion.",
        "Male",
        {"Edema": 1.0, "Fracture": -1.0},
    ),
    ("train", 1, "2_lateral", "Lateral", "", "", "1. Edema.", "Male", {"Edema": 1.0}),
    ("train", 2, "1_frontal", "Frontal", "PA", "Clear.", "Normal.", "Female", {"No Finding": 1.0}),
    ("train", 3, "1_frontal", "Frontal", "PA", "Clear.", "", "Unknown", {"No Finding": 1.0}),
    ("valid", 64541, "1_frontal", "Frontal", "AP", "", "Edema.", "Female", {"Edema": 1.0, "Pneumonia": 0.0}),
)


def chexpert_plus(root: Path) -> None:
    lines, labels = [], []
    for part, patient, view, side, projection, found, impression, sex, marks in PLUS_ROWS:
        stem = f"{part}/patient{patient:05}/study1/view{view}"
        sections = f',"NARRATIVE:\nHISTORY: {found} {impression}",,,,,,,{found},"{impression}",,,'
        people = f"61.0,{sex},White,Non-Hispanic,No,Medicare,27.1,No,{part}"
        lines.append(f"{stem}.jpg,{stem}.dcm,{side},{projection},patient{patient:05},1{sections},{people}")
        labels.append(
            json.dumps({"path_to_image": f"{stem}.jpg", **{name: marks.get(name) for name in CHEXPERT}})
        )
        picture(root / "PNG" / f"{stem}.png")
    write(root / "df_chexpert_plus_240401.csv", PLUS, *lines)
    for section in ("impression", "findings", "report"):
        write(root / "chexbert_labels" / f"{section}_fixed.json", *labels)


def test_chexpert_plus_has_reports_and_patients(tmp_path: Path) -> None:
    chexpert_plus(tmp_path)
    data = read("chexpert+", tmp_path, valid=0.0)
    assert data.split.tolist() == ["train", "train", "test"]
    assert data.patient_id.tolist() == ["patient00001", "patient00002", "patient64541"]
    assert data.dropped == {"the report has no impression": 1, "view is not frontal": 1}
    assert data.columns["report"].tolist() == ["1. Edema,\n2. effusion.", "Clear.\nNormal.", "Edema."]
    assert [data.columns[name].tolist() for name in ("view", "sex", "race", "age")] == [
        *(["AP", "PA", "AP"], ["M", "F", "F"], ["White"] * 3, [61] * 3)
    ]
    assert (column(data, "Edema"), column(data, "No Finding")) == ([1, 0, 1], [0, 1, 0])
    np.testing.assert_array_equal(column(data, "Fracture"), [NAN, 0, 0])
    assert len(read("chexpert+", tmp_path, labels_from="report", views="all")) == 5
    assert read("chexpert+", tmp_path, labels_from="findings").columns["sex"].tolist() == ["F", ""]
    # With CheXpert's own pictures, too.
    (tmp_path / "PNG").rename(tmp_path / "CheXpert-v1.0-small")
    for path in (tmp_path / "CheXpert-v1.0-small").rglob("*.png"):
        path.rename(path.with_suffix(".jpg"))
    again = read("chexpert+", tmp_path, valid=0.0)
    assert (again.fingerprint, again.images.exists(np.arange(3)).all()) == (data.fingerprint, True)
    labels = tmp_path / "chexbert_labels" / "impression_fixed.json"
    labels.write_text(labels.read_text().replace('"Edema": 1.0', '"Edema": 2', 1))
    with pytest.raises(UserError, match=r"impression_fixed.json, line 1: a label is neither"):
        read("chexpert+", tmp_path)
    with pytest.raises(UserError, match="both hold images of chexpert"):
        DataSource.make("chexpert,chexpert+", {"chexpert": tmp_path, "chexpert+": tmp_path}).read()


BRAX_ROWS = (  # patient, sex, age, view, labels
    ("P1", "M", "45", "PA", {"Cardiomegaly": "1"}),
    ("P1", "M", "45", "L", {"Cardiomegaly": "1"}),
    ("P2", "F", "85 or more", "AP", {"Edema": "-1.0"}),
    ("P3", "O", "", "RLO", {"No Finding": "1"}),
    *((f"P{k}", "F", "30", "PA", {"Edema": "0"}) for k in range(4, 14)),
)


def brax(root: Path) -> None:
    lines = []
    for k, (patient, sex, age, view, marks) in enumerate(BRAX_ROWS):
        stem = f"id_{patient}/Study_1.{k}/Series_2.{k}/image-3.{k}"
        labels = ",".join(marks.get(name, "") for name in CHEXPERT)
        files = f"Anonymized_DICOMs/{stem}.dcm,images/{stem}.png"
        lines.append(f"{k},{files},{patient},{sex},{age},7{k},20101010,{labels},{view},2320,2828,1")
        picture(root / "images" / f"{stem}.png")
    head = f"DicomPath,PngPath,PatientID,PatientSex,PatientAge,AccessionNumber,StudyDate,{','.join(CHEXPERT)}"
    write(root / "master_spreadsheet_update.csv", f",{head},ViewPosition,Rows,Columns,Manufacturer", *lines)


def test_brax_is_labelled_like_chexpert(tmp_path: Path) -> None:
    brax(tmp_path)
    data = read("brax", tmp_path)
    assert (len(data), data.dropped) == (12, {"view is not frontal": 2})
    assert data.image_id[0] == "id_P1/Study_1.0/Series_2.0/image-3.0"
    np.testing.assert_array_equal(data.columns["age"][:3], [45, 85, 30])
    assert data.columns["sex"].tolist()[:2] == ["M", "F"]
    np.testing.assert_array_equal(column(data, "Edema")[:3], [0, NAN, 0])
    everything = read("brax", tmp_path, views="all")
    assert (everything.columns["view"][3], everything.notes) == ("other", ())
    (tmp_path / "images").rename(tmp_path / "Anonymized_DICOMs")
    assert read("brax", tmp_path).images.describe(0).endswith("Series_2.0/image-3.0.dcm")
    assert read("brax", tmp_path).fingerprint == data.fingerprint


GR_HEAD = (
    "StudyID,ImageID,label,boxes_count,extra_boxes_count,locations,prior_study,progression_status,prior_imageID,sentence_en,"
    "sentence_es,study_is_benchmark,study_is_validation,split,PatientID,patient_is_benchmark,PatientBirth,"
    "PatientSex_DICOM,StudyDate_DICOM,StudyDate,PatientAge,label_group,Year"
)
NODULE = {
    "sentence_en": "A nodule.", "sentence_es": "Un nódulo.", "abnormal": True, "boxes": [[0.25, 0.5, 0.5, 1.0]],
    "extra_boxes": [[0.0, 0.0, 0.5, 1.0]], "labels": ["nodule"], "locations": ["right lung"], "progression": None,
}  # fmt: skip
UNBOXED = {"sentence_en": "Some fluid.", "abnormal": True, "boxes": [], "labels": ["pleural effusion"]}
HEALTHY = {"sentence_en": "No other findings.", "sentence_es": "Nada más.", "abnormal": False}
GR_ROWS: tuple[tuple[str, str, list[dict[str, Any]]], ...] = (
    ("train", "P1", [NODULE, UNBOXED, HEALTHY]),
    ("train", "P1", [HEALTHY]),
    ("validation", "P2", [{**NODULE, "labels": ["multiple nodules", "NSG tube"]}]),
    ("test", "P3", [{**NODULE, "labels": ["NSG tube"]}]),
    ("test", "P4", [NODULE]),
)


def padchest_gr(root: Path) -> None:
    reports, lines = [], []
    for k, (split, patient, parts) in enumerate(GR_ROWS):
        study = {
            "StudyID": f"25{k}",
            "ImageID": f"25{k}_wigcpj.png",
            "PreviousStudyID": None,
            "PreviousImageID": None,
        }
        reports.append({**study, "findings": parts})
        picture(root / "Padchest_GR_files" / "PadChest_GR" / f"25{k}_wigcpj.png")
        for part in parts:
            told = f',,,"{part["sentence_en"]}",,False,False'
            lines.append(
                f"25{k},25{k}_wigcpj.png,x,1,1,,{told},{split},{patient},False,1950,F,20140101,,64,x,2014"
            )
    write(root / "grounded_reports_20240819.json", json.dumps(reports))
    write(root / "master_table.csv", GR_HEAD, *lines)


def test_padchest_gr_has_boxes(tmp_path: Path) -> None:
    padchest_gr(tmp_path)
    data = read("padchest-gr", tmp_path)
    assert data.split.tolist() == ["train", "train", "valid", "test", "test"]
    assert [
        column(data, name) for name in ("No Finding", "Nodule", "Pleural Effusion", "Support Devices")
    ] == [*([0, 1, 0, 1, 0], [1, 0, 1, 0, 1], [1, 0, 0, 0, 0], [0, 0, 1, 1, 0])]
    assert data.columns["report"][0] == "A nodule. Some fluid. No other findings."
    assert read("padchest-gr", tmp_path, reports="es").columns["report"][4] == "Un nódulo."
    assert (data.columns["sex"][0], data.columns["age"][0]) == ("F", 64)
    regions = data.regions
    assert regions is not None
    nodule, fluid = (regions.findings.index(name) for name in ("Nodule", "Pleural Effusion"))
    known = regions.known(np.arange(5))
    assert (known[:, nodule].all(), known[:, fluid].tolist()) == (True, [False, True, True, True, True])
    first, normal = regions.masks(np.array([0, 1]))
    # The box is in shares of the picture's sides.
    assert np.argwhere(first[nodule]).min(axis=0).tolist() == [16, 8]
    assert (first[nodule].sum(), first[fluid].any(), normal.any()) == (16 * 8, False, False)
    report = tmp_path / "grounded_reports_20240819.json"
    report.write_text(report.read_text().replace("[0.25, 0.5, 0.5, 1.0]", "[0.25, 0.5, 0.5, 1.5]"))
    with pytest.raises(UserError, match=r"box 0.25, 0.5, 0.5, 1.5 leaves the picture of 1 x 1") as caught:
        read("padchest-gr", tmp_path).regions.masks(np.array([0]))  # type: ignore[union-attr]
    assert "250_wigcpj.png" in str(caught.value)
    for old, new in (
        ("251_wigcpj.png", "../x"),
        ("[0.25", '["x"'),
        ("[0.25, 0.5, 0.5, 1.0]", "[1, 2]"),
        ('"nodule"', "7"),
        ("250_wigcpj", "259_wigcpj"),
    ):
        padchest_gr(tmp_path)
        report.write_text(report.read_text().replace(old, new))
        with pytest.raises(UserError, match=r"is no list of grounded reports|has no row in master_table"):
            read("padchest-gr", tmp_path)


TBX = {
    "h0775": "health",
    "s0330": "sick",
    "tb0029": "tb",
    "tb1160": "tb",
    **{f"h{k:04}": "health" for k in range(6)},
}
TBX_BOXES = {"tb0029": [[10.5, 20, 100, 50], [300, 20, 10, 10]], "tb1160": [[5, 5, 5, 5]]}


def tbx11k(root: Path) -> None:
    for part, names in (("train", list(TBX)[:-4]), ("val", list(TBX)[-4:])):
        images = [
            {"id": k, "file_name": f"{TBX[name]}/{name}.png", "height": 512, "width": 512}
            for k, name in enumerate(names)
        ]
        boxes = [(k, box) for k, name in enumerate(names) for box in TBX_BOXES.get(name, [])]
        told = {
            "images": images,
            "annotations": [
                {"id": n, "image_id": k, "category_id": 1, "bbox": box} for n, (k, box) in enumerate(boxes)
            ],
            "categories": [{"id": 1, "name": "ActiveTuberculosis", "supercategory": "Tuberculosis"}],
        }
        write(root / "annotations" / "json" / f"TBX11K_{part}.json", json.dumps(told))
        for name in names:
            picture(root / "imgs" / TBX[name] / f"{name}.png")


def test_tbx11k_as_published_and_as_copied(tmp_path: Path) -> None:
    tbx11k(tmp_path)
    data = read("tbx11k", tmp_path, valid=0.0)
    assert data.split.tolist() == ["train"] * 6 + ["test"] * 4
    assert (column(data, "No Finding")[:4], column(data, "Tuberculosis")[:4]) == ([1, 0, 0, 0], [0, 0, 1, 1])
    copy = tmp_path / "copy"
    kinds = {"health": "healthy", "sick": "sick_but_no_tb", "tb": "tb"}
    rows = []
    for name, kind in TBX.items():
        for box in TBX_BOXES.get(name, [None]):
            sides = (
                "none"
                if box is None
                else str(dict(zip(("xmin", "ymin", "width", "height"), box, strict=True)))
            )
            rows.append(f'{name}.png,512,512,train,"{sides}",{"tb" if box else "no_tb"},x,{kinds[kind]}')
    write(copy / "data.csv", "fname,image_height,image_width,source,bbox,target,tb_type,image_type", *rows)
    for part, names in (
        ("train", ["h0775"]),
        ("train_1", ["tb0029"]),
        ("val", ["s0330"]),
        ("test", ["tb1160"]),
    ):
        write(copy / f"{part}.txt", *names)
    other = read("tbx11k", copy)
    assert "by a hash of images" in other.choices["split"]
    assert (other.targets == data.targets).all()
    assert data.regions is not None
    assert other.regions is not None
    assert data.regions.known(np.arange(10)).all()
    for one, two in zip(data.regions.masks(np.arange(4)), other.regions.masks(np.arange(4)), strict=True):
        assert (one == two).all()
    assert [int(mask.sum()) for mask in data.regions.masks(np.arange(4))] == [0, 0, 5_100, 25]
    some = read("tbx11k", copy, split="benchx-1")
    assert (some.image_id.tolist(), some.split.tolist()) == (
        ["s0330", "tb0029", "tb1160"],
        ["valid", "train", "test"],
    )
    table = copy / "data.csv"
    for old, new, what in (
        ("'xmin': 10.5", "'xmin': 1.2.3", "row 4, column 'bbox'"),
        ("healthy", "well", "row 2, column 'image"),
    ):
        kept = table.read_text()
        table.write_text(kept.replace(old, new, 1))
        with pytest.raises(UserError, match=what):
            read("tbx11k", copy)
        table.write_text(kept)
    report = tmp_path / "annotations" / "json" / "TBX11K_val.json"
    report.write_text(report.read_text().replace("health/", "../", 1))
    with pytest.raises(UserError, match=r"is not like imgs/tb/tb0003.png"):
        read("tbx11k", tmp_path)


TREES: Mapping[str, Callable[[Path], None]] = {
    "cxr-lt": cxr_lt,
    "openi": openi,
    "chexpert+": chexpert_plus,
    "brax": brax,
    "padchest-gr": padchest_gr,
    "tbx11k": tbx11k,
}


@pytest.mark.parametrize("name", TREES)
def test_every_reader_keeps_the_contract_and_tells_a_mistake(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", name, "--root", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert (told.count("error:"), "Traceback" in told, str(tmp_path) in told) == (1, False, True)
    TREES[name](tmp_path)
    report = check_dataset(name, tmp_path)
    assert report.passed, report.failed
    assert main(["data", "check", name, "--root", str(tmp_path)]) in (0, 1)
    assert "missing              0" in capsys.readouterr().out


def test_whose_images_they_are_is_told() -> None:
    # Whatever was pre-trained on them is contaminated, and two sets of the same images are no stream.
    for name, origin in (("cxr-lt", "mimic-cxr"), ("chexpert+", "chexpert"), ("padchest-gr", "padchest")):
        assert DataSource.make(name, Path()).origins == (name, origin)
