"""The reader of any table: real-life headers and values, and each mistake in one line."""

from __future__ import annotations

import gzip
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.catalog import card
from retune.data.dataset import Dataset, split_by_patient
from retune.data.findings import FINDINGS, canonical
from retune.data.readers.csv import Csv
from retune.errors import BadImage, BadSetting, BadTable, MissingFiles, UserError
from retune.plugins import registry
from retune.settings import make, values_of

NAN = float("nan")
PLAIN = """image,patient,split,site,view,report,age,sex,Cardiomegaly,Effusion
a/1.png,p1,train,North,PA,"Heart large, effusion.",61,M,1,0
a/2.png,p1,Training,North,LL,,61,male,1,
b/3.png,p2,VAL,South,ap,Clear.,,f,0,-1
b/4.png,p3,test,South,frontal,,44.5,,true,FALSE
b/5.png,p3,test,South,oblique,,44.5,,0.0,1.0
"""


def folder(root: Path, text: str | bytes = PLAIN, name: str = "labels.csv") -> Path:
    data = text.encode() if isinstance(text, str) else text
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return root


def failure(root: Path | None, kind: type[UserError] = BadTable, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        Csv(**settings).read(root)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def labelled(data: Dataset) -> dict[str, list[float]]:
    return {label: data.targets[:, k].tolist() for k, label in enumerate(data.labels)}


@pytest.mark.parametrize("name", ["labels.csv", "labels.csv.gz", "LABELS.CSV"])
def test_a_plain_table(tmp_path: Path, name: str) -> None:
    data = Csv(views="all").read(folder(tmp_path, name=name))
    assert data.name == "csv"
    assert data.image_id.tolist() == ["a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5.png"]
    assert data.patient_id.tolist() == ["p1", "p1", "p2", "p3", "p3"]
    assert data.split.tolist() == ["train", "train", "valid", "test", "test"]
    assert data.labels == ("Cardiomegaly", "Pleural Effusion")
    assert data.targets.dtype == np.float32
    np.testing.assert_array_equal(data.targets, [[1, 0], [1, NAN], [0, NAN], [1, 0], [0, 1]])
    columns = {key: values.tolist() for key, values in data.columns.items() if key != "age"}
    assert columns == {
        "view": ["PA", "lateral", "AP", "frontal", "other"],
        "site": ["North", "North", "South", "South", "South"],
        "sex": ["M", "M", "F", "", ""],
        "report": ["Heart large, effusion.", "", "Clear.", "", ""],
    }
    np.testing.assert_array_equal(data.columns["age"], np.array([61, 61, NAN, 44.5, 44.5], np.float32))
    assert data.dropped == {}


@pytest.mark.parametrize(
    ("settings", "effusion"),
    [
        ({}, [0, NAN, NAN, 0, 1]),
        ({"uncertain": "zeros"}, [0, NAN, 0, 0, 1]),
        ({"uncertain": "ones"}, [0, NAN, 1, 0, 1]),
        ({"blank": "zeros"}, [0, 0, NAN, 0, 1]),
        ({"blank": "zeros", "uncertain": "ones"}, [0, 0, 1, 0, 1]),
    ],
)
def test_uncertain_and_blank(tmp_path: Path, settings: dict[str, Any], effusion: list[float]) -> None:
    data = Csv(views="all", **settings).read(folder(tmp_path))
    np.testing.assert_array_equal(data.targets[:, 1], effusion)


@pytest.mark.parametrize(
    ("views", "kept"),
    [("frontal", [0, 2, 3]), ("PA", [0]), ("AP", [2]), ("lateral", [1]), ("all", [0, 1, 2, 3, 4])],
)
def test_views(tmp_path: Path, views: Any, kept: list[int]) -> None:
    data = Csv(views=views).read(folder(tmp_path))
    assert data.image_id.tolist() == [f"{'aabbb'[k]}/{k + 1}.png" for k in kept]
    assert data.dropped == ({} if views == "all" else {f"view is not {views}": 5 - len(kept)})
    assert [data.images.describe(row) for row in range(len(data))] == data.image_id.tolist()


def test_image_and_patient_are_enough(tmp_path: Path) -> None:
    data = Csv().read(folder(tmp_path, "image,patient,Mass\n1.png,1,1\n2.png,2,0\n"))
    assert data.labels == ("Mass",)
    assert dict(data.columns) == {}


def test_columns_in_any_language_with_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufeffBild,Patientin,Aufteilung,Herzvergrößerung,Ödem\n1.png,ü1,train,1,0\n2.png,ü2,test,0,1\n"
    data = Csv(
        image="Bild", patient="Patientin", split="Aufteilung", findings=("Ödem", "Herzvergrößerung")
    ).read(folder(tmp_path, text.encode()))
    assert labelled(data) == {"Ödem": [0, 1], "Herzvergrößerung": [1, 0]}
    assert data.patient_id.tolist() == ["ü1", "ü2"]
    assert data.split.tolist() == ["train", "test"]


def test_settings_as_typed_on_a_command_line(tmp_path: Path) -> None:
    given = {"findings": '["Effusion", "Device"]', "split": "", "test": "0.5", "blank": "zeros"}
    reader = make(Csv, given, owner="data set csv")
    text = "image,patient,split,Effusion,Device,Mass\n1.png,1,fold 3,1,0,1\n2.png,2,fold 4,,1,0\n"
    data = reader.read(folder(tmp_path, text))
    assert labelled(data) == {"Pleural Effusion": [1, 0], "Device": [0, 1]}
    assert data.split.tolist() == split_by_patient(["1", "2"], valid=0.1, test=0.5).tolist()


@pytest.mark.parametrize(
    ("column", "label"),
    [
        ("Effusion", "Pleural Effusion"),
        ("pleural_effusion", "Pleural Effusion"),
        ("PLEURAL-EFFUSION", "Pleural Effusion"),
        ("Pleural_Thickening", "Pleural Thickening"),
        (" no  finding ", "No Finding"),
        ("Enlarged Cardiomediastinum", "Enlarged Cardiomediastinum"),
        ("Airspace Opacity", "Lung Opacity"),
        ("oedema", "Edema"),
        ("support_devices", "Support Devices"),
    ],
)
def test_known_spellings(tmp_path: Path, column: str, label: str) -> None:
    text = f"image,patient,smoker,{column}\n1.png,1,yes,1\n2.png,2,no,0\n"
    assert labelled(Csv().read(folder(tmp_path, text))) == {label: [1, 0]}


def test_every_packaged_spelling_means_the_same_here() -> None:
    from retune.data.readers.chestmnist import ChestMNIST
    from retune.data.readers.nih import NIH

    spelt = {name: label for name, label in NIH.mapping.items() if label}
    assert {name: canonical(name) for name in spelt} == spelt
    spelt = {name: label for name, label in ChestMNIST.mapping.items() if name != "pleural"}
    assert {name: canonical(name) for name in spelt} == spelt
    assert [canonical(name) for name in FINDINGS] == list(FINDINGS)
    assert canonical("smoker") is None


def test_the_order_of_columns_does_not_matter_nor_do_other_columns(tmp_path: Path) -> None:
    rows = [line.split(",") for line in PLAIN.replace('"Heart large, effusion."', "Large.").splitlines()]
    shuffled = "\n".join(",".join([*reversed(row), "x"]) for row in rows)
    shuffled = shuffled.replace(",x", ",comment", 1)
    first = Csv().read(folder(tmp_path / "a"))
    second = Csv().read(folder(tmp_path / "b", shuffled, "other.csv.gz"))
    assert first.labels == second.labels == ("Cardiomegaly", "Pleural Effusion")
    assert first.fingerprint == second.fingerprint
    named = Csv(findings=("Effusion", "Cardiomegaly")).read(tmp_path / "a")
    assert named.labels == ("Pleural Effusion", "Cardiomegaly")
    np.testing.assert_array_equal(named.targets, first.targets[:, ::-1])


def many(patients: range) -> str:
    rows = "".join(f"{p}-{k}.png,p{p},{p % 2}\n" for p in patients for k in (0, 1))
    return f"image,patient,Mass\n{rows}"


def test_patients_stay_in_their_split_when_rows_are_added(tmp_path: Path) -> None:
    before = Csv().read(folder(tmp_path / "a", many(range(200, 500))))
    after = Csv().read(folder(tmp_path / "b", many(range(700))))
    kept = np.flatnonzero(np.isin(after.image_id, before.image_id))
    assert after.split[kept].tolist() == before.split.tolist()
    shares = [(after.split == name).mean() for name in ("train", "valid", "test")]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.05)
    other = Csv(valid=0.3, test=0.0).read(tmp_path / "b")
    assert set(other.split.tolist()) == {"train", "valid"}
    assert 0.2 < (other.split == "valid").mean() < 0.4


def test_pictures_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    text = "image,patient,Mass\n./deep/a.png,1,1\ndeep\\b.jpg,2,0\nbad.png,3,0\nnone.png,4,0\n"
    folder(root, text)
    (root / "deep").mkdir()
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ramp).save(root / "deep" / "a.png")
    Image.fromarray(ramp).save(root / "deep" / "b.jpg")
    (root / "bad.png").write_bytes((root / "deep" / "a.png").read_bytes()[:50])
    data = Csv().read(root)
    assert data.image_id.tolist() == ["deep/a.png", "deep/b.jpg", "bad.png", "none.png"]
    first, second, cut, missing = data.images.load(np.arange(4))
    assert isinstance(first, Image.Image)
    assert isinstance(second, Image.Image)
    np.testing.assert_array_equal(np.asarray(first), ramp)
    assert second.mode == "L"
    for bad, name in ((cut, "bad.png"), (missing, "none.png")):
        assert isinstance(bad, BadImage)
        assert name in str(bad)
    assert [key is None for key in data.images.keys(np.arange(4))] == [False, False, False, True]


@pytest.mark.parametrize("beside", [False, True])
def test_files_relative_to_the_root_or_to_the_table(tmp_path: Path, beside: bool) -> None:
    root = folder(tmp_path, "image,patient,Mass\nx/1.png,1,1\nx/2.png,2,0\n", "tables/labels.csv")
    place = (root / "tables" if beside else root) / "x"
    place.mkdir()
    Image.new("L", (4, 4), 9).save(place / "2.png")
    data = Csv(table="tables/labels.csv").read(root)
    assert data.images.exists(np.arange(2)).tolist() == [False, True]
    assert data.image_id.tolist() == ["x/1.png", "x/2.png"]


def test_one_table_among_several_is_to_be_chosen(tmp_path: Path) -> None:
    folder(tmp_path)
    folder(tmp_path, "macOS", "._labels.csv")
    assert len(Csv().read(tmp_path)) == 3
    folder(tmp_path, "image,patient,Mass\n1.png,1,1\n2.png,2,0\n", "extra.csv.gz")
    message = failure(tmp_path, BadSetting)
    for part in (str(tmp_path), "2 tables here (extra.csv.gz, labels.csv)", "--set data.table="):
        assert part in message
    assert len(Csv(table="extra.csv.gz").read(tmp_path)) == 2
    assert "there is no other.csv here" in failure(tmp_path, MissingFiles, table="other.csv")


def test_missing_root_and_table(tmp_path: Path) -> None:
    assert "--root DIR is needed" in failure(None, UserError)
    assert "there is no such folder" in failure(tmp_path / "nowhere", MissingFiles)
    message = failure(tmp_path, MissingFiles)
    for part in (str(tmp_path), "no .csv or .csv.gz table here", "--root"):
        assert part in message


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("Image,patient,Mass", ("no column 'image'", "is 'Image' meant?", "--set data.image=COLUMN")),
        ("image,PATIENT_ID,Mass", ("no column 'patient'", "'PATIENT_ID'", "--set data.patient=COLUMN")),
        ("image;patient;Mass", ("row 2", "1 field", "read as separated by semicolons")),
        ("image\tpatient\tMass", ("row 2", "1 field", "read as separated by tabs")),
        ("image,patient,Mass,Mass", ("column 'Mass' stands in the header more than once",)),
        ("image,patient,Effusion,pleural_effusion", ("'Effusion' and 'pleural_effusion' both are Pleural",)),
        ("image,patient,smoker", ("no column is called like a known finding", "'smoker'", "data.findings=[")),
        ("", ("is empty",)),
    ],
)
def test_bad_headers(tmp_path: Path, header: str, parts: tuple[str, ...]) -> None:
    row = "1.png,1" + ",0" * (header.count(",") - 1)
    message = failure(folder(tmp_path, f"{header}\n{row}\n" if header else ""))
    for part in ("labels.csv", *parts):
        assert part in message


@pytest.mark.parametrize(
    ("row", "column", "part"),
    [
        (",p9,train,,PA,,50,M,1,0", "image", "the file name is blank"),
        ("../9.png,p9,train,,PA,,50,M,1,0", "image", "'../9.png' leads out of the data set's folder"),
        ("/etc/9.png,p9,train,,PA,,50,M,1,0", "image", "leads out of"),
        ("a/../../9.png,p9,train,,PA,,50,M,1,0", "image", "leads out of"),
        ("C:\\9.png,p9,train,,PA,,50,M,1,0", "image", "leads out of"),
        ("b/3.png,p9,train,,PA,,50,M,1,0", "image", "stands in the table twice"),
        ("./b\\3.png,p9,train,,PA,,50,M,1,0", "image", "stands in the table twice"),
        ("b//3.png,p9,train,,PA,,50,M,1,0", "image", "stands in the table twice"),
        ("b/././3.png,p9,train,,PA,,50,M,1,0", "image", "stands in the table twice"),
        ("9.png, ,train,,PA,,50,M,1,0", "patient", "the patient is blank"),
        ("9.png,p9,,,PA,,50,M,1,0", "split", "'' is none of train, valid and test"),
        ("9.png,p9,fold1,,PA,,50,M,1,0", "split", "'fold1' is none of"),
        ("9.png,p9,train,,PA,,old,M,1,0", "age", "'old' is not a number"),
        ("9.png,p9,train,,PA,,-4,M,1,0", "age", "'-4' is below 0"),
        ("9.png,p9,train,,PA,,50,X,1,0", "sex", "'X' is none of M, F, O and blank"),
        ("9.png,p9,train,,PA,,50,M,2,0", "Cardiomegaly", "'2' is none of 1, 0, -1"),
        ("9.png,p9,train,,PA,,50,M,1,0.3", "Effusion", "'0.3' is none of"),
        ("9.png,p9,train,,PA,,50,M,1,yes", "Effusion", "'yes' is none of"),
        ("9.png,p9,train,,PA,,50,M,1,nan", "Effusion", "'nan' is none of"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: str, column: str, part: str) -> None:
    message = failure(folder(tmp_path, f"{PLAIN}{row}\nz.png,p10,train,,PA,,50,M,1,0\n"))
    assert f"labels.csv, row 7, column '{column}': " in message
    assert part in message


def test_a_patient_in_two_splits_and_a_short_row(tmp_path: Path) -> None:
    message = failure(folder(tmp_path, f"{PLAIN}9.png,p1,test,,PA,,50,M,1,0\n"))
    assert "patient 'p1' is in test and train" in message
    assert "row 7" in failure(folder(tmp_path, f"{PLAIN}9.png,p1\n"))


@pytest.mark.parametrize("role", ["split", "site", "view", "report", "age", "sex"])
def test_a_column_named_by_the_user_must_be_there(tmp_path: Path, role: str) -> None:
    message = failure(folder(tmp_path), BadSetting, **{role: "Effusoin"})
    for part in ("no column 'Effusoin'", "is 'Effusion' meant?", f"check data.{role}"):
        assert part in message
    assert role in Csv(**{role: role}, views="all").read(tmp_path).columns or role == "split"
    assert role not in Csv(**{role: ""}).read(tmp_path).columns


@pytest.mark.parametrize(
    ("finding", "part"),
    [("Efusion", "is 'Effusion' meant?"), ("site", "'site' is no finding")],
)
def test_findings_that_are_none(tmp_path: Path, finding: str, part: str) -> None:
    message = failure(folder(tmp_path), BadSetting, findings=("Cardiomegaly", finding))
    assert part in message
    assert "check data.findings" in message


def test_no_usable_label(tmp_path: Path) -> None:
    head = "image,patient,Mass,Nodule\n"
    assert "no finding is present in any image (looked at 'Mass', 'Nodule')" in failure(
        folder(tmp_path, f"{head}1.png,1,0,\n2.png,2,-1,0\n")
    )
    root = folder(tmp_path, f"{head}1.png,1,1,\n2.png,2,,1\n")
    message = failure(root)
    assert "no finding is absent" in message
    assert "--set data.blank=zeros" in message
    assert labelled(Csv(blank="zeros").read(root)) == {"Mass": [1, 0], "Nodule": [0, 1]}
    assert "blank=zeros" not in failure(folder(tmp_path, f"{head}1.png,1,1,1\n"))


def test_no_image_is_left(tmp_path: Path) -> None:
    root = folder(tmp_path, "image,patient,view,Mass\n1.png,1,LL,1\n2.png,2,LL,0\n")
    message = failure(root)
    assert "labels.csv, column 'view': no image is left with views=frontal" in message
    assert "data.views=all" in message
    bare = folder(tmp_path / "bare", "image,patient,Mass\n1.png,1,1\n2.png,2,0\n")
    message = failure(bare, BadSetting, views="lateral")
    assert "views is 'lateral', but there is no column 'view'" in message
    assert len(Csv(views="all").read(bare)) == len(Csv().read(bare)) == 2


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"views": "top"}, "views is 'top'"),
        ({"blank": "ones"}, "blank is 'ones'"),
        ({"valid": 0.5, "test": 0.5}, "valid is 0.5 and test 0.5"),
        ({"valid": NAN}, "valid is nan"),
        ({"test": -0.1}, "test -0.1"),
        ({"table": "../labels.csv"}, "table is '../labels.csv'; name a file within --root"),
        ({"table": "/data/labels.csv"}, "name a file within --root"),
        ({"image": ""}, "image is blank"),
        ({"site": "patient"}, "column 'patient' is named for two things"),
    ],
)
def test_bad_settings(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(BadSetting) as caught:
        Csv(**settings)
    assert "data set csv" in str(caught.value)
    assert part in str(caught.value)


def test_the_card() -> None:
    assert registry("datasets").load("csv") is Csv
    shown = card("dataset", "csv")
    assert shown["labels"] == []
    assert shown["licence"] == "yours"
    settings = {setting["name"]: setting for setting in shown["settings"]}
    assert settings["findings"]["type"] == "list of text"
    assert all(setting["doc"] for setting in settings.values())
    assert "depends on the table" in " ".join(shown["description"].split())


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_names_composed_otherwise_on_disk(tmp_path: Path, stored: str) -> None:
    said = "NFD" if stored == "NFC" else "NFC"
    name = "Bücher/é 1.png"
    path = tmp_path / unicodedata.normalize(stored, name)
    path.parent.mkdir()
    Image.new("L", (4, 4), 9).save(path)
    rows = f"{unicodedata.normalize(said, name)},1,1\nnot there é.png,2,0\n"
    data = Csv().read(folder(tmp_path, "image,patient,Mass\n" + rows))
    assert data.images.exists(np.arange(2)).tolist() == [True, False]
    assert data.images.keys(np.arange(1))[0] is not None
    both = "".join(f"{unicodedata.normalize(form, name)},1,1\n" for form in ("NFC", "NFD"))
    assert "stands in the table twice" in failure(folder(tmp_path, "image,patient,Mass\n" + both))


def test_whole_paths_into_the_root(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "a" / "1.png")
    text = "image,patient,Mass\n{},1,1\n2.png,2,0\n"
    data = Csv().read(folder(tmp_path, text.format(tmp_path / "a" / "1.png")))
    assert data.image_id.tolist() == ["a/1.png", "2.png"]
    assert data.images.exists(np.arange(1)).all()
    for outside in (tmp_path.parent / "1.png", f"{tmp_path}/../1.png", f"{tmp_path}2/1.png"):
        assert "leads out of" in failure(folder(tmp_path, text.format(outside)))


def test_a_column_that_looks_like_a_split_is_named(tmp_path: Path) -> None:
    rows = "".join(
        f"{k}.png,{k},{part},{k % 2}\n" for k, part in enumerate(("train", "val", "test", "train"))
    )
    data = Csv().read(folder(tmp_path, "image,patient,Fold,Mass\n" + rows))
    assert data.choices["split"].startswith("by a hash of patients")
    assert "column 'Fold' looks like one" in data.choices["split"]
    (tmp_path / "test_list.txt").write_text("1.png\n")
    assert any("test_list.txt" in note and "data.split" in note for note in Csv().read(tmp_path).notes)


def test_a_name_too_long_for_a_disk_is_a_missing_picture(tmp_path: Path) -> None:
    data = Csv().read(folder(tmp_path, f"image,patient,Mass\n{'a' * 300}.png,1,1\n{'é' * 300}.png,2,0\n"))
    assert data.images.exists(np.arange(2)).tolist() == [False, False]
    assert data.images.keys(np.arange(2)) == [None, None]


def test_dates_are_read_and_one_that_is_not_understood_is_told(tmp_path: Path) -> None:
    words = [
        "2014",
        "2014-09",
        "2014-09-15",
        "20140915",
        "2014-09-15 13:05:00",
        "2014.0",
        "",
        "15.09.2014",
        "2014-13",
    ]
    lines = [f"{k}.png,p{k},{word},{k % 2}" for k, word in enumerate(words)]
    data = Csv().read(folder(tmp_path, "\n".join(["image,patient,date,Edema", *lines])))
    assert data.columns["date"].tolist() == [
        *("2014", "2014-09", "2014-09-15", "2014-09-15", "2014-09-15", "2014"),
        *("", "", ""),
    ]
    assert data.notes == (
        "Dates not understood, so that 2 count as unknown: '15.09.2014' in row 9 and the like; "
        "write 2014, 2014-09 or 2014-09-15",
    )
    undated = Csv(date="").read(tmp_path)
    assert "date" not in undated.columns
    assert undated.fingerprint == data.fingerprint
    assert values_of(Csv()) == {k: v for k, v in values_of(Csv(date="when")).items() if k != "date"}
    assert "there is no column 'when'" in failure(tmp_path, BadSetting, date="when")
