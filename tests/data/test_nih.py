"""The NIH reader on tiny trees in the published layouts, and on the published table."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.data import findings
from retune.data.dataset import Dataset
from retune.data.readers.nih import NIH
from retune.errors import BadSetting, BadTable, MissingFiles, UserError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = (
    "00000001_000.png,Cardiomegaly|Effusion,0,1,58,M,PA,2682,2749,0.143,0.143",
    "00000001_001.png,No Finding,1,1,58,M,AP,2500,2048,0.168,0.168",
    "00000002_000.png,Pleural_Thickening,0,2,414,F,PA,2500,2048,0.168,0.168",
    "00000003_000.png,Hernia,0,3,,F,PA,2500,2048,0.168,0.168",
)
NAMES = [row.split(",")[0] for row in ROWS]
TABLE = "Data_Entry_2017_v2020.csv"


def tree(root: Path, rows: tuple[str, ...] = ROWS, table: str = TABLE, end: str = "") -> Path:
    text = "".join(f"{line}{end}\n" for line in (HEADER, *rows))
    data = text.encode()
    (root / table).write_bytes(gzip.compress(data) if table.endswith(".gz") else data)
    return root


def lists(root: Path, train_val: list[str], test: list[str]) -> Path:
    (root / "train_val_list.txt").write_text("\n".join(train_val))
    (root / "test_list.txt").write_text("".join(f"{name}\r\n" for name in test))
    return root


def failure(root: Path | None, kind: type[UserError] = BadTable, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        NIH(**settings).read(root)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def labels_of(data: Dataset, row: int) -> list[str]:
    return [label for label, value in zip(data.labels, data.targets[row], strict=True) if value]


@pytest.mark.parametrize(
    ("table", "end"),
    [(TABLE, ""), (TABLE + ".gz", ""), ("Data_Entry_2017.csv", ","), ("Data_Entry_2017.csv.gz", ",")],
)
def test_the_published_tables(tmp_path: Path, table: str, end: str) -> None:
    data = NIH().read(tree(tmp_path, table=table, end=end))
    assert data.name == "nih"
    assert data.labels == findings.NIH
    assert data.image_id.tolist() == NAMES
    assert data.patient_id.tolist() == ["1", "1", "2", "3"]
    assert [labels_of(data, row) for row in range(4)] == [
        ["Cardiomegaly", "Pleural Effusion"],
        [],
        ["Pleural Thickening"],
        ["Hernia"],
    ]
    assert data.targets.dtype == np.float32
    assert not np.isnan(data.targets).any()
    assert data.columns["view"].tolist() == ["PA", "AP", "PA", "PA"]
    assert data.columns["sex"].tolist() == ["M", "M", "F", "F"]
    assert data.columns["follow_up"].tolist() == [0, 1, 0, 0]
    assert data.columns["age"].dtype == np.float32
    # 414 years is a slip of the pen, a blank is unknown.
    np.testing.assert_array_equal(data.columns["age"], np.array([58, 58, np.nan, np.nan], dtype=np.float32))
    assert data.dropped == {}
    assert not data.synthetic
    assert "Wang" in data.source


def test_the_2020_table_wins(tmp_path: Path) -> None:
    tree(tmp_path, rows=ROWS[:1], table="Data_Entry_2017.csv", end=",")
    assert len(NIH().read(tree(tmp_path))) == 4


def test_ages_with_units_as_in_the_first_release(tmp_path: Path) -> None:
    rows = tuple(row.replace(",58,", ",058Y,").replace(",414,", ",006M,") for row in ROWS)
    np.testing.assert_array_equal(
        NIH().read(tree(tmp_path, rows)).columns["age"], np.array([58, 58, 0.5, np.nan], dtype=np.float32)
    )


def test_rows_of_the_same_labels_in_any_order(tmp_path: Path) -> None:
    cells = ("Mass", "Hernia|Mass", "Mass", "No Finding", "Hernia|Mass", "Mass|Hernia")
    rows = tuple(f"{k}.png,{cell},0,{k},50,F,PA,1,1,0.1,0.1" for k, cell in enumerate(cells))
    data = NIH().read(tree(tmp_path, rows))
    both = ["Mass", "Hernia"]
    assert [labels_of(data, row) for row in range(6)] == [["Mass"], both, ["Mass"], [], both, both]


def test_pictures_are_found_in_every_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    layouts = {
        "flat": ["images"] * 3,
        "parts": ["images_001/images", "images_002/images", "images_012/images"],
        "beside": ["."] * 3,
    }
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    deep = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 16)
    found = {}
    for layout, folders in layouts.items():
        root = tmp_path / layout
        for folder, name, image in zip(folders, NAMES, (grey, grey.convert("RGBA"), deep), strict=False):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image.save(root / folder / name)
        (root / "images_003.tar.gz").touch()
        data = NIH().read(tree(root))
        keys = data.images.keys(np.arange(4))
        assert None not in keys[:3]
        assert keys[3] is None
        assert [data.images.describe(row) for row in range(4)] == [
            *(f"{folder}/{name}".removeprefix("./") for folder, name in zip(folders, NAMES, strict=False)),
            f"images/{NAMES[3]}",
        ]
        found[layout] = (data.fingerprint, keys)
        first, colour, windowed, missing = data.images.load(np.arange(4))
        assert isinstance(missing, UserError)
        assert NAMES[3] in str(missing)
        assert np.array_equal(np.asarray(first), np.asarray(colour))
        assert (np.asarray(windowed).min(), np.asarray(windowed).max()) == (0, 255)
    assert found["flat"] == found["parts"] == found["beside"]


def test_views(tmp_path: Path) -> None:
    root = tree(tmp_path, (*ROWS, "00000004_000.png,Mass,0,4,50,F,LL,1,1,0.1,0.1"))
    assert NIH().read(root).dropped == {"view is not frontal": 1}
    pa = NIH(views="PA").read(root)
    assert pa.image_id.tolist() == [NAMES[0], *NAMES[2:]]
    assert pa.dropped == {"view is not PA": 2}
    assert pa.images.describe(1).endswith(NAMES[2])
    ap = NIH(views="AP").read(root)
    assert ap.image_id.tolist() == [NAMES[1]]
    assert labels_of(ap, 0) == []
    assert "views=AP" in failure(tree(tmp_path, ROWS[2:]), views="AP")


def test_official_split(tmp_path: Path) -> None:
    root = lists(tree(tmp_path), NAMES[:2], NAMES[2:3])
    for split in ("auto", "official"):
        data = NIH(split=split, valid=0).read(root)
        assert data.image_id.tolist() == NAMES[:3]
        assert data.split.tolist() == ["train", "train", "test"]
        assert data.dropped == {"in no list of the official split": 1}
    hashed = NIH(split="hash").read(root)
    assert len(hashed) == 4
    assert hashed.dropped == {}


def test_validation_patients_come_from_train_val_only(tmp_path: Path) -> None:
    rows = tuple(f"{p:08}_{k:03}.png,Mass,{k},{p},50,F,PA,1,1,0.1,0.1" for p in range(1, 401) for k in (0, 1))
    names = [row.split(",")[0] for row in rows]
    data = NIH(valid=0.25).read(lists(tree(tmp_path, rows), names[:600], names[600:]))
    assert set(data.split[:600].tolist()) == {"train", "valid"}
    assert set(data.split[600:].tolist()) == {"test"}
    assert 0.15 < (data.split[:600] == "valid").mean() < 0.35
    hashed = NIH(valid=0.25, split="hash").read(tmp_path)
    assert {
        name: 0.1 < (hashed.split == name).mean() < 0.7 for name in ("train", "valid", "test")
    } == dict.fromkeys(("train", "valid", "test"), True)


def test_one_patient_in_both_lists_is_refused(tmp_path: Path) -> None:
    assert "patient '1'" in failure(lists(tree(tmp_path), NAMES[:1], NAMES[1:]), valid=0)


def test_bad_official_lists(tmp_path: Path) -> None:
    root = tree(tmp_path)
    message = failure(lists(root, NAMES[:3], ["", NAMES[3], NAMES[2]]))
    assert "test_list.txt, line 3" in message
    assert NAMES[2] in message
    message = failure(lists(root, [NAMES[0], "00000009_000.png"], NAMES[1:]))
    assert "train_val_list.txt, line 2" in message
    assert "'00000009_000.png' is not in the label table" in message
    assert "split=hash" in message
    (root / "test_list.txt").write_bytes(b"\xff\xfe")
    assert "test_list.txt" in failure(root)
    (root / "test_list.txt").unlink()
    for split in ("auto", "official"):
        assert "test_list.txt of the official split not found" in failure(root, MissingFiles, split=split)
    (root / "train_val_list.txt").unlink()
    assert "train_val_list.txt and test_list.txt" in failure(root, MissingFiles, split="official")
    assert len(NIH().read(root)) == 4


@pytest.mark.parametrize(
    ("row", "column", "part"),
    [
        ("9.png,Mass|No Finding,0,9,50,F,PA", "Finding Labels", "'No Finding' stands beside a finding"),
        ("9.png,Efusion,0,9,50,F,PA", "Finding Labels", "unknown label 'Efusion', did you mean 'Effusion'?"),
        ("9.png,Mass|,0,9,50,F,PA", "Finding Labels", "unknown label ''"),
        ("9.png,,0,9,50,F,PA", "Finding Labels", "blank"),
        ("9.png,Mass,0,p9,50,F,PA", "Patient ID", "'p9' is not a whole number"),
        ("9.png,Mass,0,,50,F,PA", "Patient ID", "'' is not a whole number"),
        ("9.png,Mass,0,-9,50,F,PA", "Patient ID", "'-9' is below 0"),
        ("9.png,Mass,x,9,50,F,PA", "Follow-up #", "'x' is not a whole number"),
        ("9.png,Mass,0,9,old,F,PA", "Patient Age", "'old' is not an age"),
        ("9.png,Mass,0,9,-1,F,PA", "Patient Age", "'-1' is not an age"),
        ("9.png,Mass,0,9,50,X,PA", "Patient Gender", "'X' is neither M nor F"),
        ("../9.png,Mass,0,9,50,F,PA", "Image Index", "'../9.png' is not a plain file name"),
        ("/etc/9.png,Mass,0,9,50,F,PA", "Image Index", "not a plain file name"),
        ("a\\9.png,Mass,0,9,50,F,PA", "Image Index", "not a plain file name"),
        ("..,Mass,0,9,50,F,PA", "Image Index", "not a plain file name"),
        (" ,Mass,0,9,50,F,PA", "Image Index", "blank"),
        ("00000001_000.png,Mass,0,1,50,F,PA", "Image Index", "'00000001_000.png' stands in the table twice"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: str, column: str, part: str) -> None:
    rows = (*ROWS, f"{row},1,1,0.1,0.1", "00000010_000.png,Mass,0,10,50,F,PA,1,1,0.1,0.1")
    message = failure(tree(tmp_path, rows))
    assert f"{TABLE}, row 6, column '{column}': " in message
    assert part in message


def test_a_short_row_is_named(tmp_path: Path) -> None:
    assert "row 6" in failure(tree(tmp_path, (*ROWS, "9.png,Mass,0,9")))


def test_missing_column(tmp_path: Path) -> None:
    (tmp_path / TABLE).write_text("Image Index,Finding Labels\n9.png,Mass\n")
    assert "'Patient ID'" in failure(tmp_path)


def test_missing_root_and_table(tmp_path: Path) -> None:
    assert "--root DIR is needed" in failure(None, UserError)
    (tmp_path / "file").touch()
    told = {"": "no table here", "nowhere": "there is no such folder", "file": "is not a folder"}
    for name, what in told.items():
        message = failure(tmp_path / name, MissingFiles)
        for part in (str(tmp_path / name), what, TABLE, "Data_Entry_2017.csv"):
            assert part in message


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"views": "lateral"}, ("views is 'lateral'", "frontal or PA or AP or all")),
        ({"split": "random"}, ("split is 'random'", "auto or official or hash")),
        ({"valid": 0.9}, ("valid is 0.9",)),
        ({"valid": float("nan")}, ("valid is nan",)),
    ],
)
def test_bad_settings(settings: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(BadSetting) as caught:
        NIH(**settings)
    for part in ("nih", *parts):
        assert part in str(caught.value)


WHOLE = SHARED / "nih-labels"
SAMPLE = SHARED / "nih-sample"


@pytest.mark.skipif(not WHOLE.is_dir(), reason=f"the NIH label table is not at {WHOLE}")
def test_the_whole_table() -> None:
    data = NIH().read(WHOLE)
    assert len(data) == 112_120
    assert len(np.unique(data.patient_id)) == 30_805
    counts = dict(zip(data.labels, data.targets.sum(axis=0).astype(int).tolist(), strict=True))
    assert counts == {
        "Infiltration": 19_894,
        "Pleural Effusion": 13_317,
        "Atelectasis": 11_559,
        "Nodule": 6_331,
        "Mass": 5_782,
        "Pneumothorax": 5_302,
        "Consolidation": 4_667,
        "Pleural Thickening": 3_385,
        "Cardiomegaly": 2_776,
        "Emphysema": 2_516,
        "Edema": 2_303,
        "Fibrosis": 1_686,
        "Pneumonia": 1_431,
        "Hernia": 227,
    }
    assert (data.targets.sum(axis=1) == 0).sum() == 60_361
    assert {name: int((data.columns["view"] == name).sum()) for name in ("PA", "AP")} == {
        "PA": 67_310,
        "AP": 44_810,
    }
    # The hash splits patients 70 : 10 : 20.
    shares = [(data.split == name).mean() for name in ("train", "valid", "test")]
    assert np.allclose(shares, [0.7, 0.1, 0.2], atol=0.02)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"the NIH sample is not at {SAMPLE}")
def test_the_sample() -> None:
    data = NIH().read(SAMPLE)
    assert len(data) == len(np.unique(data.patient_id)) == 621
    assert data.targets[:, data.labels.index("Hernia")].sum() == 20
    assert (data.targets.sum(axis=1) == 0).sum() == 100
    assert (data.targets.sum(axis=1) > 1).sum() == 233
    assert all((SAMPLE / data.images.describe(row)).is_file() for row in range(621))


@pytest.mark.parametrize(
    ("train_val", "test"),
    [
        ("train_val_list_NIH.txt", "test_list_NIH.txt"),
        ("Train_Val_List.txt", "TEST_LIST.TXT"),
        ("lists/train_val_list.txt", "lists/test_list.txt"),
        ("train_val_list.txt", "test_list.txt"),
    ],
)
def test_official_lists_under_other_names(tmp_path: Path, train_val: str, test: str) -> None:
    want = NIH().read(lists(tree(tmp_path), NAMES[:3], NAMES[3:]))
    for name, other in (("train_val_list.txt", train_val), ("test_list.txt", test)):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / other)
    data = NIH().read(tmp_path)
    assert data.split.tolist() == want.split.tolist()
    assert data.split.tolist()[3] == "test"
    assert "test" not in data.split.tolist()[:3]
    assert data.choices["split"] == f"official, by {train_val} and {test}"
    assert data.remarks[0] == f"Chosen split: official, by {train_val} and {test}"
    assert data.fingerprint == want.fingerprint


def test_lists_of_other_names_are_named_as_unread(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "my_test.txt").write_text(NAMES[0])
    (tmp_path / "train_val_list").write_text(NAMES[0])
    (tmp_path / "test_notes.txt").write_text("nothing of images")
    (tmp_path / "BBox_List_2017.csv").write_text(f"Image Index\n{NAMES[0]}\n")
    data = NIH().read(tmp_path)
    assert "by a hash of patients" in data.choices["split"]
    assert "not there" in data.choices["split"]
    (note,) = data.notes
    assert "my_test.txt, train_val_list " in note
    assert "test_list.txt" in note
    assert "notes" not in note
    assert "BBox" not in note


def test_one_list_alone_is_refused_and_others_are_named(tmp_path: Path) -> None:
    lists(tree(tmp_path), NAMES[:3], NAMES[3:])
    (tmp_path / "test_list.txt").rename(tmp_path / "heldout_list.txt")
    message = failure(tmp_path, MissingFiles)
    assert "test_list.txt of the official split not found" in message
    assert "heldout_list.txt" in message


def test_two_lists_that_may_be_meant_are_refused(tmp_path: Path) -> None:
    lists(tree(tmp_path), NAMES[:3], NAMES[3:])
    (tmp_path / "test_list.txt").rename(tmp_path / "Test_List.txt")
    (tmp_path / "TEST_LIST.txt").write_text(NAMES[0])
    assert "TEST_LIST.txt and Test_List.txt may both be test_list.txt" in failure(tmp_path)


@pytest.mark.parametrize("folder", ["images-224/images-224", "images-224", "images"])
def test_pictures_of_the_small_copy_are_found(tmp_path: Path, folder: str) -> None:
    tree(tmp_path)
    (tmp_path / folder).mkdir(parents=True)
    for name in NAMES:
        Image.new("L", (4, 4)).save(tmp_path / folder / name)
    data = NIH().read(tmp_path)
    assert data.images.exists(np.arange(4)).all()


def test_views_spelt_otherwise(tmp_path: Path) -> None:
    rows = (ROWS[0].replace(",PA,", ",PA erect,"), ROWS[1], ROWS[2].replace(",PA,", ",strange,"), ROWS[3])
    data = NIH().read(tree(tmp_path, rows))
    assert data.columns["view"].tolist() == ["PA", "AP", "PA"]
    assert any("'strange' (1)" in note for note in data.notes)


BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
BOXES = (
    "00000001_000.png,Cardiomegaly,100.0,200.0,300.0,400.0",
    "00000005_000.png,Infiltrate,10.5,20.25,30,40,,",
    "00000005_000.png,Mass,0,0,1024,512,,,",
    "00000009_000.png,Mass,1,2,3,4",
)
BOXED = ("00000005_000.png,Infiltration|Mass|Nodule,0,5,50,M,PA,1,1,1,1",)


def boxes(root: Path, rows: tuple[str, ...] = BOXES, header: str = BOX_HEADER) -> Path:
    (root / "BBox_List_2017.csv").write_text("\n".join((header, *rows)) + "\n")
    return tree(root, ROWS + BOXED)


def test_boxes_are_regions_and_nothing_else_changes(tmp_path: Path) -> None:
    plain = NIH().read(tree(tmp_path, ROWS + BOXED))
    data = NIH().read(boxes(tmp_path))
    assert plain.regions is None
    assert data.fingerprint == plain.fingerprint
    assert (data.notes, data.choices, data.dropped) == (plain.notes, plain.choices, plain.dropped)
    regions = data.regions
    assert regions is not None
    known = regions.known(np.arange(5))
    unsure = {row: [regions.findings[k] for k in np.flatnonzero(~known[row])] for row in (0, 4)}
    # A label without a box may be anywhere; an image without a box was not looked at.
    assert unsure == {0: ["Pleural Effusion"], 4: ["Nodule"]}
    assert not known[1:4].any()
    heart, both = regions.masks(np.array([0, 4]))
    assert heart.shape == (8, 1024, 1024)
    expected = np.zeros((8, 1024, 1024), dtype=bool)
    expected[1, 200:600, 100:400] = True
    np.testing.assert_array_equal(heart, expected)
    assert [regions.findings[k] for k in np.flatnonzero(both.any((1, 2)))] == ["Infiltration", "Mass"]
    np.testing.assert_array_equal(both[4], np.arange(1024)[:, None] < np.full(1024, 512))
    assert len(set(regions.keys(np.arange(5)))) == 3


def test_boxes_are_not_read_before_they_are_asked_for(tmp_path: Path) -> None:
    data = NIH(views="PA").read(boxes(tmp_path, header="anything"))
    assert data.regions is not None
    with pytest.raises(BadTable, match=r"BBox_List_2017.csv: the columns are not Image Index,"):
        data.regions.known(np.arange(4))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            "00000001_000.png,Cardiomegally,1,2,3,4",
            "column 'Finding Label': unknown label 'Cardiomegally', did you mean",
        ),
        ("00000001_000.png,Cardiomegaly,1,2,3", "is not Image Index,Finding Label"),
        ("00000001_000.png,Cardiomegaly,1,2,3,4,5", "is not Image Index,Finding Label"),
        ("00000001_000.png,Cardiomegaly,1,2,three,4", "'1,2,three,4' is not a box x,y,w,h"),
        (
            "00000001_000.png,Cardiomegaly,1000,2,30,4",
            "box 1000, 2, 1030, 6 leaves the picture of 1024 x 1024 pixels",
        ),
        ("00000001_000.png,Cardiomegaly,1,2,0,4", "box 1, 2, 1, 6 has no area"),
        ("00000001_000.png,Cardiomegaly,nan,2,3,4", "box nan"),
        ('00000001_000.png,"Cardio', "BBox_List_2017.csv"),
    ],
)
def test_bad_boxes_are_named(tmp_path: Path, row: str, words: str) -> None:
    data = NIH().read(boxes(tmp_path, (*BOXES, row)))
    with pytest.raises(BadTable) as caught:
        data.regions.masks(np.array([0]))  # type: ignore[union-attr]
    assert "BBox_List_2017.csv, row 6" in str(caught.value)
    assert words in str(caught.value)


def test_the_published_boxes(tmp_path: Path) -> None:
    xrv = pytest.importorskip("torchxrayvision")
    published = Path(xrv.datasets.datapath) / "BBox_List_2017.csv.gz"
    if not published.is_file() or not WHOLE.is_dir():
        pytest.skip("the published boxes or the published labels are not here")
    shutil.copy(published, tmp_path)
    images = {line.split(",")[0] for line in gzip.decompress(published.read_bytes()).decode().splitlines()}
    with gzip.open(WHOLE / f"{TABLE}.gz", "rt") as lines:
        (tmp_path / TABLE).write_text("".join(line for line in lines if line.split(",")[0] in images))
    data = NIH().read(tmp_path)
    regions = data.regions
    assert regions is not None
    assert len(data) == 880
    drawn = np.zeros((880, 8), dtype=bool)
    drawn[regions.outlines.row, regions.outlines.finding] = True  # type: ignore[attr-defined]
    counts = dict(zip(regions.findings, drawn.sum(0).tolist(), strict=True))
    assert counts == {
        "Atelectasis": 180,
        "Cardiomegaly": 146,
        "Pleural Effusion": 153,
        "Infiltration": 123,
        "Mass": 85,
        "Nodule": 79,
        "Pneumonia": 120,
        "Pneumothorax": 98,
    }
    few = np.arange(0, 880, 200)
    np.testing.assert_array_equal([mask.any((1, 2)) for mask in regions.masks(few)], drawn[few])
    labels = data.targets[:, [data.labels.index(name) for name in regions.findings]]
    # Whatever has a box is labelled; what is labelled without one is not known.
    assert (labels[drawn] == 1).all()
    np.testing.assert_array_equal(regions.known(np.arange(880)), drawn | (labels == 0))


def test_lists_that_others_follow_are_splits_by_name(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "labels").mkdir()
    rows = {"train": [NAMES[0], NAMES[3]], "val": ["99999999_000.png", NAMES[2]], "test": [NAMES[1]]}
    for part, names in rows.items():
        text = "".join(f"{name} 0 1 0 0 0 0 0 0 0 0 0 0 0 0\n" for name in names)
        (tmp_path / "labels" / f"{part}_list.txt").write_text(text)
    # One of the lists is called like one of NIH's.
    assert "choose split=arnoweng" in failure(tmp_path, MissingFiles)
    data = NIH(split="arnoweng").read(tmp_path)
    # The first patient is tested on, so is not learnt from.
    assert data.split.tolist() == ["test", "test", "valid", "train"]
    assert data.choices["split"].startswith("Arnoweng's lists, train_list.txt (sha256 ")
    assert data.notes == (
        "Images that the lists name and that are not here: 1 of val_list.txt's 2",
        "The published split has 1 of its 1 test patients in training or validation, too: here they are test patients "
        "only",
    )
    for part, names in {**rows, "train_1": [NAMES[3]]}.items():
        (tmp_path / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
    assert NIH(split="benchx").read(tmp_path).fingerprint == data.fingerprint
    some = NIH(split="benchx-1").read(tmp_path)
    assert (some.split.tolist(), some.dropped) == (["test", "valid", "train"], {"in none of the lists": 1})
    assert "train_10.txt not found" in failure(tmp_path, MissingFiles, split="benchx-10")
