"""ChestX-Det's reader on a tiny tree in the published layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.data.dataset import Dataset
from retune.data.readers.chestx_det import ChestXDet
from retune.errors import BadTable, MissingFiles, UserError

TRIANGLE = [[100, 100], [500, 100], [100, 500]]
SQUARE = [[600, 200], [800, 200], [800, 400], [600, 400]]
BOX = [10, 20, 110, 220]


def entry(name: str, *outlines: tuple[str, list[int], list[list[int]]]) -> dict[str, Any]:
    syms, boxes, polygons = ([outline[k] for outline in outlines] for k in range(3))
    return {"file_name": name, "syms": syms, "boxes": boxes, "polygons": polygons}


TRAIN = [
    entry(
        "36204.png", ("Effusion", BOX, TRIANGLE), ("Effusion", BOX, SQUARE), ("Diffuse Nodule", BOX, SQUARE)
    ),
    entry("36205.png"),
    entry("36206.png", ("Nodule", BOX, []), ("Pleural Thickening", BOX, TRIANGLE)),
]
TEST = [entry("36199.png", ("Mass", BOX, SQUARE))]


def tree(
    root: Path, train: Any = TRAIN, test: Any = TEST, folders: tuple[str, str] = ("train", "test")
) -> Path:
    for split, entries, folder in zip(("train", "test"), (train, test), folders, strict=True):
        (root / folder).mkdir(parents=True, exist_ok=True)
        text = entries if isinstance(entries, str) else json.dumps(entries)
        (root / f"ChestX_Det_{split}.json").write_text(text)
    return root


def drawn(root: Path) -> Any:
    data = ChestXDet().read(root)
    assert data.regions is not None
    return data.regions.masks(np.arange(len(data)))


def failure(root: Path, kind: type[UserError] = BadTable) -> str:
    with pytest.raises(UserError) as caught:
        drawn(root)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def mask(data: Dataset, row: int, finding: str) -> Any:
    assert data.regions is not None
    (found,) = data.regions.masks(np.array([row]))
    return found[data.regions.findings.index(finding)]


def test_labels_and_split(tmp_path: Path) -> None:
    data = ChestXDet(valid=0).read(tree(tmp_path))
    assert data.name == "chestx-det"
    assert data.image_id.tolist() == data.patient_id.tolist() == [e["file_name"] for e in TRAIN + TEST]
    assert data.split.tolist() == ["train"] * 3 + ["test"]
    assert len(data.labels) == 12
    shown = [{label for label, on in zip(data.labels, row, strict=True) if on} for row in data.targets]
    assert shown == [{"Pleural Effusion", "Nodule"}, set(), {"Nodule", "Pleural Thickening"}, {"Mass"}]
    assert data.choices == {"split": "official, by ChestX_Det_train.json and ChestX_Det_test.json"}
    assert any("every image counts as a patient" in note for note in data.notes)
    assert ChestXDet.part_of == ("nih",)
    assert "valid" in ChestXDet(valid=0.7).read(tmp_path).split
    assert ChestXDet(valid=0.7).read(tmp_path).split[3] == "test"


def test_regions_are_polygons_or_else_boxes(tmp_path: Path) -> None:
    data = ChestXDet().read(tree(tmp_path))
    regions = data.regions
    assert regions is not None
    assert len(regions.findings) == 13
    assert regions.known(np.arange(4)).all()
    masks = regions.masks(np.arange(4))
    assert {found.shape for found in masks} == {(13, 1024, 1024)}
    shown = [{regions.findings[k] for k in np.flatnonzero(found.any((1, 2)))} for found in masks]
    # A label of both, a region of each.
    assert shown == [
        {"Pleural Effusion", "Diffuse Nodule"},
        set(),
        {"Nodule", "Pleural Thickening"},
        {"Mass"},
    ]
    y, x = np.mgrid[:1024, :1024]
    inside = (x > 100) & (y > 100) & (x + y < 600) | (x > 600) & (x < 800) & (y > 200) & (y < 400)
    outside = ~((x > 98) & (y > 98) & (x + y < 603) | (x > 598) & (x < 802) & (y > 198) & (y < 402))
    both = mask(data, 0, "Pleural Effusion")
    assert both[inside].all()
    assert not both[outside].any()
    box = np.zeros((1024, 1024), dtype=bool)
    box[20:220, 10:110] = True
    assert np.logical_xor(mask(data, 2, "Nodule"), box).sum() <= 301


def test_keys_follow_the_outlines(tmp_path: Path) -> None:
    keys = ChestXDet().read(tree(tmp_path)).regions.keys(np.arange(4))  # type: ignore[union-attr]
    assert len({*keys}) == 4
    moved = [
        *TRAIN[:2],
        entry("36206.png", ("Nodule", [11, *BOX[1:]], []), ("Pleural Thickening", BOX, TRIANGLE)),
    ]
    again = ChestXDet().read(tree(tmp_path, moved)).regions.keys(np.arange(4))  # type: ignore[union-attr]
    assert [one == other for one, other in zip(keys, again, strict=True)] == [True, True, False, True]
    part = ChestXDet().read(tree(tmp_path)).take(np.array([2, 0]))
    assert part.regions is not None
    assert part.regions.keys(np.array([0, 1])) == [keys[2], keys[0]]


@pytest.mark.parametrize(
    "folders",
    [("train", "test"), ("train_data", "test_data"), ("train_data/train", "test_data/test"), (".", ".")],
)
def test_pictures_where_they_are_unpacked(tmp_path: Path, folders: tuple[str, str]) -> None:
    root = tree(tmp_path, folders=folders)
    for folder, name in zip(folders, ("36205.png", "36199.png"), strict=True):
        Image.new("L", (8, 8)).save(root / folder / name)
    data = ChestXDet().read(root)
    assert data.images.exists(np.arange(4)).tolist() == [False, True, False, True]
    assert data.images.describe(0) == "train/36204.png"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (entry("1.png", ("Efusion", BOX, [])), "unknown finding 'Efusion', did you mean 'Effusion'?"),
        (entry("1.png", ("Mass", BOX, TRIANGLE[:2])), "a polygon of 2 points encloses nothing"),
        ({**TRAIN[0], "boxes": [BOX]}, "lists of unequal length: 3 syms and 1 boxes and 3 polygons"),
        (
            entry("1.png", ("Mass", [10, 20, 1025, 30], [])),
            "box 10, 20, 1025, 30 leaves the picture of 1024 x 1024",
        ),
        (entry("1.png", ("Mass", [10, 20, 10, 30], [])), "box 10, 20, 10, 30 has no area"),
        (entry("1.png", ("Mass", BOX, [[-1, 5], *TRIANGLE])), "a polygon leaves the picture of 1024 x 1024"),
        (entry("1.png", ("Mass", BOX, [[None, 5], *TRIANGLE])), "a polygon leaves the picture"),
        (entry("1.png", ("Mass", BOX, [[1, 2, 3], [4, 5, 6]])), "a polygon is not pairs x, y"),
        (entry("1.png", ("Mass", BOX, [[10**400, 2], *TRIANGLE])), "a polygon is not pairs x, y"),
        (entry("1.png", ("Mass", BOX, "polygon")), "a polygon is not pairs x, y"),  # type: ignore[arg-type]
        (entry("1.png", ("Mass", BOX[:3], [])), "a box is not x1, y1, x2, y2"),
        (entry("1.png", ([], BOX, [])), "unknown finding []"),  # type: ignore[arg-type]
        (entry("../1.png"), "file_name '../1.png' is not a plain file name"),
        (entry(".."), "file_name '..' is not a plain file name"),
        ({"file_name": "1.png"}, "syms, boxes, polygons are not three lists"),
        (["1.png"], "is not an object"),
        (TRAIN[0], "('36204.png'): the image stands in "),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, wrong: Any, words: str) -> None:
    message = failure(tree(tmp_path, [*TRAIN, wrong]))
    assert "ChestX_Det_train.json, entry 4" in message
    assert words in message


def test_an_image_in_both_files_is_refused(tmp_path: Path) -> None:
    message = failure(tree(tmp_path, TRAIN, [*TEST, TRAIN[1]]))
    assert "ChestX_Det_test.json, entry 2 ('36205.png'): the image stands in" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[{", "is no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "no list of images"),
        ("{}", "no list"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: str) -> None:
    message = failure(tree(tmp_path, TRAIN, text))
    assert words in message
    assert "ChestX_Det_test.json" in message


def test_both_files_are_needed(tmp_path: Path) -> None:
    (tree(tmp_path) / "ChestX_Det_test.json").unlink()
    assert "ChestX_Det_test.json not found" in failure(tmp_path, MissingFiles)
