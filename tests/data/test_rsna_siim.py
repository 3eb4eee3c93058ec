"""The readers of RSNA's and SIIM's challenges: on tiny trees in the published layouts, and on the published tables."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.cli.main import main
from retune.data.dataset import Dataset
from retune.data.readers.rsna_pneumonia import RsnaPneumonia
from retune.data.readers.siim import Siim
from retune.data.shapes import dialect_of, runs_mask
from retune.errors import BadTable, MissingFiles, UserError

HEAD = "patientId,x,y,width,height,Target\n"
RSNA = HEAD + "b,264.0,152.0,213.0,379.0,1\na,,,,,0\nb,562.0,152.0,256.0,453.0,1\nc,10,20,30,40,1\nd,,,,,0\n"
SIIM = "ImageId, EncodedPixels\n1.2.3,-1\n1.2.4,1025 3 1021 3\n1.2.4,5 2\n1.2.5, -1\n1.2.6,0 1048576\n"


@pytest.fixture(scope="module")
def published() -> Path:
    spec = find_spec("torchxrayvision")
    if spec is None or spec.origin is None:
        pytest.skip("torchxrayvision, which has the published tables, is not installed")
    return Path(spec.origin).parent / "data"


def rsna(root: Path, table: str = RSNA) -> Path:
    (root / "stage_2_train_images").mkdir(parents=True)
    (root / "stage_2_train_labels.csv").write_text(table)
    for name in "abcd":
        Image.new("L", (1024, 1024), 90).save(root / "stage_2_train_images" / f"{name}.png")
    return root


def mapped(root: Path, names: dict[str, str]) -> None:
    rows = [{"subset_img_id": name, "img_id": image, "orig_labels": []} for name, image in names.items()]
    (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(rows))


NIH = {"a": "00000007_000.png", "b": "00000007_001.png", "c": "00000008_000.png", "d": "00000009_003.png"}


def masks(data: Dataset) -> dict[str, Any]:
    assert data.regions is not None
    found = data.regions.masks(np.arange(len(data)))
    return dict(zip(data.image_id.tolist(), (mask[0] for mask in found), strict=True))


def test_rsna_boxes_of_an_image_are_one_mask_and_its_rows_one_image(tmp_path: Path) -> None:
    data = RsnaPneumonia().read(rsna(tmp_path))
    assert data.image_id.tolist() == ["a", "b", "c", "d"]
    assert data.labels == ("Lung Opacity", "Pneumonia")
    assert data.targets[:, 1].tolist() == [0, 1, 1, 0]
    found = masks(data)
    assert not found["a"].any()
    assert found["c"].sum() == 30 * 40
    assert found["b"].sum() == 213 * 379 + 256 * 453
    assert found["b"][152, 264]
    assert not found["b"][151, 264]
    assert any("every image counts as one" in note for note in data.notes)
    assert data.images.exists(np.arange(4)).all()


def test_rsna_with_the_official_mapping_has_nihs_patients_and_split(tmp_path: Path) -> None:
    folder = rsna(tmp_path)
    mapped(folder, NIH)
    (folder / "train_val_list.txt").write_text("00000007_000.png\n00000007_001.png\n")
    (folder / "test_list.txt").write_text("00000008_000.png\n00000009_003.png\n")
    data = RsnaPneumonia(split="nih", valid=0.0).read(folder)
    assert data.patient_id.tolist() == ["00000007", "00000007", "00000008", "00000009"]
    assert data.split.tolist() == ["train", "train", "test", "test"]
    assert not any("every image" in note for note in data.notes)


def test_rsna_knows_normal_images_where_the_details_are_there(tmp_path: Path) -> None:
    folder = rsna(tmp_path)
    rows = "a,Normal\nb,Lung Opacity\nb,Lung Opacity\nc,Lung Opacity\nd,No Lung Opacity / Not Normal\n"
    (folder / "stage_2_detailed_class_info.csv").write_text("patientId,class\n" + rows)
    data = RsnaPneumonia().read(folder)
    assert data.labels == ("No Finding", "Lung Opacity", "Pneumonia")
    assert data.targets[:, 0].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("reader", ["rsna", "siim"])
def test_lists_are_followed_and_named(tmp_path: Path, reader: str) -> None:
    folder = rsna(tmp_path) if reader == "rsna" else siim(tmp_path)
    names = ["a", "b", "c", "d"] if reader == "rsna" else ["1.2.3", "1.2.4", "1.2.5", "1.2.6"]
    (folder / "benchx").mkdir()
    for part, chosen in (("train", names[:2]), ("val", names[2:3]), ("test", names[3:])):
        (folder / "benchx" / f"{part}.txt").write_text("".join(f"images/{name}.png\n" for name in chosen))
    data = (RsnaPneumonia if reader == "rsna" else Siim)(split="benchx").read(folder)
    assert data.split.tolist() == ["train", "train", "valid", "test"]
    assert "sha256" in data.choices["split"]
    (folder / "benchx" / "test.txt").write_text(f"images/{names[0]}.png\n")
    with pytest.raises(BadTable, match=r"images that train.txt names, too"):
        (RsnaPneumonia if reader == "rsna" else Siim)(split="benchx").read(folder)


def test_rsna_shared_patients_of_a_published_split_are_tested_on_alone(tmp_path: Path) -> None:
    folder = rsna(tmp_path)
    mapped(folder, NIH)
    for part, chosen in (("train", "ad"), ("val", "c"), ("test", "b")):
        (folder / f"{part}.txt").write_text("".join(f"{name}\n" for name in chosen))
    data = RsnaPneumonia(split="benchx").read(folder)
    assert data.split.tolist() == ["test", "test", "valid", "train"]
    assert any("1 of its 1 test patients" in note for note in data.notes)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("e,1,2,3,4,2\n", "row 7, column 'Target': '2' is neither 0 nor 1"),
        ("e,,,,,1\n", "row 7, column 'x': a positive row has no box"),
        ("b,,,,,0\n", "row 7, column 'Target': '0' where another row of the image has 1"),
        ("e,1000,2,30,4,1\n", "row 7: box 1000, 2, 1030, 6 leaves the picture of 1024 x 1024"),
        ("e,10,2,0,4,1\n", "row 7: box 10, 2, 10, 6 has no area"),
    ],
)
def test_rsna_tells_what_is_wrong_and_where(tmp_path: Path, row: str, what: str) -> None:
    with pytest.raises(BadTable) as caught:
        masks(RsnaPneumonia().read(rsna(tmp_path, RSNA + row)))
    assert what in str(caught.value).replace('"', "'")


def siim(root: Path, table: str = SIIM) -> Path:
    (root / "train-rle.csv").write_text(table)
    for name in ("1.2.3", "1.2.4", "1.2.5", "1.2.6"):
        folder = root / "dicom-images-train" / f"{name}.1" / f"{name}.2"
        folder.mkdir(parents=True)
        (folder / f"{name}.dcm").write_bytes(b"not read here")
    return root


def test_siim_runs_of_an_image_are_one_mask_column_by_column(tmp_path: Path) -> None:
    data = Siim().read(siim(tmp_path))
    assert data.image_id.tolist() == ["1.2.3", "1.2.4", "1.2.5", "1.2.6"]
    assert data.targets[:, 0].tolist() == [0, 1, 0, 1]
    found = masks(data)
    assert found["1.2.6"].all()
    # 1,025 pixels on: the second of the second column; 1,021 after these three: the first of the third.
    expected = {(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2), (5, 0), (6, 0)}
    assert set(zip(*(axis.tolist() for axis in np.nonzero(found["1.2.4"])), strict=True)) == expected
    assert data.images.exists(np.arange(4)).all()
    assert any("every image counts as a patient" in note for note in data.notes)


def test_absolute_starts_are_told_by_their_rising(tmp_path: Path) -> None:
    assert dialect_of(["1 2 5 2", "7 1"]) == "columns"
    assert dialect_of(["7 1", "5 2 3 2"]) == "relative"
    assert np.argwhere(runs_mask("1 2 5 1", (4, 3), "columns")).tolist() == [[0, 0], [0, 1], [1, 0]]
    assert np.argwhere(runs_mask("1 2 5 1", (4, 3), "rows")).tolist() == [[0, 0], [0, 1], [1, 1]]
    later = (
        SIIM.replace("1025 3 1021 3", "1026 3 2050 3").replace("0 1048576", "1 1048576").replace("5 2", "6 2")
    )
    first, second = (
        masks(Siim().read(siim(tmp_path / str(k), table))) for k, table in enumerate(made(tmp_path, later))
    )
    assert all((first[name] == second[name]).all() for name in first)


def made(root: Path, later: str) -> tuple[str, str]:
    for k in range(2):
        (root / str(k)).mkdir()
    return SIIM, later


@pytest.mark.parametrize(
    ("runs", "what"),
    [
        ("5 2 3", "3 numbers are no pairs"),
        ("5 x", "not whole numbers"),
        ("1048570 10", "a run leaves the picture of 1024 x 1024"),
        ("5 0", "a run has no length"),
        ("-5 3", "not whole numbers"),
    ],
)
def test_siim_tells_what_is_wrong_with_runs_and_where(tmp_path: Path, runs: str, what: str) -> None:
    with pytest.raises(BadTable) as caught:
        masks(Siim().read(siim(tmp_path, SIIM + f"1.2.7,{runs}\n")))
    assert what in str(caught.value)
    assert "train-rle.csv, row 7" in str(caught.value)


def pictures(root: Path) -> Path:
    inner = root / "siim-acr-pneumothorax"
    for folder in ("png_images", "png_masks"):
        (inner / folder).mkdir(parents=True)
    rows = {"train": [("0_train_0_.png", 0), ("1_train_1_.png", 1)], "test": [("0_test_1_.png", 1)]}
    for part, of in rows.items():
        text = "new_filename,ImageId,has_pneumo\n" + "".join(f"{name},x,{has}\n" for name, has in of)
        (inner / f"stage_1_{part}_images.csv").write_text(text)
        for name, has in of:
            mask = np.zeros((64, 64), np.uint8)
            mask[10:20, 30:50] = 255 * has
            Image.fromarray(mask).save(inner / "png_masks" / name)
            Image.fromarray(np.full((64, 64), 90, np.uint8)).save(inner / "png_images" / name)
    return root


def test_siim_as_pictures(tmp_path: Path) -> None:
    data = Siim(split="kaggle", valid=0.0).read(pictures(tmp_path))
    assert data.split.tolist() == ["train", "train", "test"]
    assert [int(mask.sum()) for mask in masks(data).values()] == [0, 200, 200]
    file = tmp_path / "siim-acr-pneumothorax" / "png_masks" / "1_train_1_.png"
    Image.fromarray(np.full((32, 64), 255, np.uint8)).save(file)
    with pytest.raises(BadTable, match="64 x 32 pixels, its picture has 64 x 64"):
        masks(Siim(split="kaggle").read(tmp_path))
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(file)
    with pytest.raises(BadTable, match="says 1 for a pneumothorax, and none is drawn"):
        masks(Siim(split="kaggle").read(tmp_path))
    file.unlink()
    with pytest.raises(MissingFiles, match="mask is missing"):
        masks(Siim(split="kaggle").read(tmp_path))


@pytest.mark.parametrize("name", ["rsna-pneumonia", "siim"])
def test_an_empty_folder_is_told_in_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", name, "--root", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith("error: ")
    assert told.count("error:") == 1
    assert "check --root" in told


def test_what_a_split_needs_is_named(tmp_path: Path) -> None:
    for reader, folder, what in (
        (RsnaPneumonia(split="nih"), rsna(tmp_path / "r"), "mappings_2018.json not found"),
        (RsnaPneumonia(split="mgca"), tmp_path / "r", "MGCA's rule puts 10,674 aside"),
        (RsnaPneumonia(split="benchx"), tmp_path / "r", "train.txt not found"),
        (Siim(split="kaggle"), siim(made_folder(tmp_path / "s")), "stage_1_train_images.csv"),
        (Siim(split="mgca"), pictures(tmp_path / "p"), "needs the rows of train-rle.csv"),
    ):
        with pytest.raises(UserError, match=what):
            reader.read(folder)


def made_folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_the_published_table_of_rsna_has_the_published_counts(tmp_path: Path, published: Path) -> None:
    with zipfile.ZipFile(published / "kaggle_stage_2_train_labels.csv.zip") as archive:
        name = next(
            name for name in archive.namelist() if name.endswith("labels.csv") and "MACOSX" not in name
        )
        (tmp_path / "stage_2_train_labels.csv").write_bytes(archive.read(name))
    data = RsnaPneumonia(split="mgca").read(tmp_path)
    assert len(data) == 26_684
    parts = {
        part: (len(rows := data.rows(part)), int(data.targets[rows, 1].sum()))
        for part in ("train", "valid", "test")
    }
    assert parts == {"train": (16_010, 3_579), "valid": (5_337, 1_182), "test": (5_337, 1_251)}
    assert data.regions is not None
    assert len(data.regions.outlines.row) == 9_555  # type: ignore[attr-defined]


def test_the_published_table_of_siim_has_the_published_counts(tmp_path: Path, published: Path) -> None:
    table = gzip.decompress((published / "siim-pneumothorax-train-rle.csv.gz").read_bytes())
    (tmp_path / "train-rle.csv").write_bytes(table)
    data = Siim(split="mgca").read(tmp_path)
    assert (len(data), int(data.targets.sum())) == (12_047, 2_669)
    # 154 of the 1,903 images that the rule tests on are among those that it trains on, and 62 in validation.
    assert len(data.rows("test")) == 1_903
    assert any("of its 1,903 test patients in training or validation" in note for note in data.notes)
    regions: Any = data.regions
    assert regions.dialect == "relative"
    some = np.flatnonzero(data.targets[:, 0] == 1)[:40]
    found = regions.masks(some)
    lengths = [sum(map(int, regions.texts[k].split()[1::2])) for k in regions.rows[int(some[3])]]
    assert 0 < found[3].sum() <= sum(lengths)
    assert io.StringIO(table.decode()).readline() == "ImageId, EncodedPixels\n"
