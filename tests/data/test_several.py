"""Several data sets as one: labels, names, columns, pictures, and what must not be combined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from retune.data.dataset import Dataset
from retune.data.images import FileImages
from retune.data.readers.base import Reader
from retune.data.several import SeveralReader, combine
from retune.errors import BadImage, BadSetting, UserError


def made(folder: Path, name: str, labels: tuple[str, ...], **changes: Any) -> Dataset:
    """Three patients, the same names in every data set; each picture has a grey value of its own."""
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(3):
        Image.new("L", (64, 64), 10 * len(name) + k).save(folder / f"{k}.png")
    fields: dict[str, Any] = {
        "name": name,
        "labels": labels,
        "image_id": np.array(["0", "1", "2"]),
        "patient_id": np.array([1, 2, 3]),
        "split": np.array(["train", "valid", "test"]),
        "targets": np.eye(3, len(labels), dtype=np.float32),
        "images": FileImages(np.array([f"{k}.png" for k in range(3)]), folder),
        "dropped": {"lateral": 4},
        "source": f"who made {name}",
    }
    return Dataset(**{**fields, **changes})


def left(folder: Path, **changes: Any) -> Dataset:
    columns = {"view": np.array(["PA", "AP", "PA"]), "age": np.array([1.0, np.nan, 3], np.float32)}
    return made(folder, "one", ("Hernia", "Edema", "Bee Sting"), **{"columns": columns, **changes})


def right(folder: Path, **changes: Any) -> Dataset:
    columns = {"sex": np.array(["F", "M", ""]), "age": np.array([7, 8, 9]), "follow_up": np.array([0, 1, 2])}
    return made(folder, "three", ("Edema", "Mass"), **{"columns": columns, **changes})


@pytest.fixture
def both(tmp_path: Path) -> Dataset:
    return combine([left(tmp_path), right(tmp_path)])


def test_labels_are_the_union_in_canonical_order_and_unknown_where_a_data_set_lacks_them(
    both: Dataset,
) -> None:
    assert both.labels == ("Edema", "Mass", "Hernia", "Bee Sting")
    x = np.nan
    expected = [[0, x, 1, 0], [1, x, 0, 0], [0, x, 0, 1], [1, 0, x, x], [0, 1, x, x], [0, 0, x, x]]
    assert np.array_equal(both.targets, np.array(expected, np.float32), equal_nan=True)
    assert both.targets.dtype == np.float32


def test_names_tell_the_data_set_and_splits_stay(both: Dataset) -> None:
    assert both.name == "one,three"
    assert both.image_id.tolist() == ["one/0", "one/1", "one/2", "three/0", "three/1", "three/2"]
    assert both.patient_id.tolist() == ["one/1", "one/2", "one/3", "three/1", "three/2", "three/3"]
    assert both.split.tolist() == ["train", "valid", "test"] * 2
    assert both.dropped == {"one: lateral": 4, "three: lateral": 4}
    assert both.source == "one: who made one; three: who made three"


def test_columns_are_the_union(both: Dataset) -> None:
    assert set(both.columns) == {"view", "age", "sex", "follow_up", "dataset"}
    assert both.columns["dataset"].tolist() == ["one"] * 3 + ["three"] * 3
    assert both.columns["view"].tolist() == ["PA", "AP", "PA", "", "", ""]
    assert both.columns["sex"].tolist() == ["", "", "", "F", "M", ""]
    assert np.array_equal(both.columns["age"], [1, np.nan, 3, 7, 8, 9], equal_nan=True)
    assert np.array_equal(both.columns["follow_up"], [np.nan] * 3 + [0, 1, 2], equal_nan=True)


def test_a_column_of_numbers_and_texts_becomes_text(tmp_path: Path) -> None:
    texts = right(tmp_path, columns={"age": np.array(["ten", "", "old"], dtype=object)})
    assert combine([left(tmp_path), texts]).columns["age"].tolist() == ["1.0", "", "3.0", "ten", "", "old"]


def test_pictures_come_from_their_data_set_in_the_order_asked_for(both: Dataset) -> None:
    rows = np.array([4, 0, 5, 2, 0])
    greys = [image.getpixel((0, 0)) for image in both.images.load(rows) if isinstance(image, Image.Image)]
    assert greys == [51, 30, 52, 32, 30]
    keys = both.images.keys(rows)
    assert len(set(keys)) == 4
    assert keys == [both.images.keys(np.array([row]))[0] for row in rows]
    assert both.images.exists(rows).tolist() == [True] * 5
    assert both.images.describe(4) == "three/1.png"
    assert both.images.load(np.array([], dtype=np.int64)) == []


def test_missing_and_broken_pictures_are_told_in_their_place(tmp_path: Path) -> None:
    both = combine([left(tmp_path), right(tmp_path)])
    (tmp_path / "one" / "1.png").unlink()
    (tmp_path / "three" / "0.png").write_bytes(b"nonsense")
    rows = np.array([3, 1, 0])
    assert both.images.exists(rows).tolist() == [True, False, True]
    assert [key is None for key in both.images.keys(rows)] == [False, True, False]
    broken, missing, good = both.images.load(rows)
    assert isinstance(broken, BadImage)
    assert isinstance(missing, BadImage)
    assert "0.png" in str(broken)
    assert "1.png" in str(missing)
    assert isinstance(good, Image.Image)


def test_the_smallest_side_wanted_reaches_every_part(tmp_path: Path) -> None:
    def jpeg(dataset: Dataset) -> Dataset:
        images = dataset.images
        assert isinstance(images, FileImages)
        assert images.root is not None
        Image.new("L", (64, 64), 9).save(images.root / "0.jpg")
        return replace(dataset, images=FileImages(np.array(["0.jpg"] * 3), images.root))

    both = combine([jpeg(left(tmp_path)), jpeg(right(tmp_path))])
    small = both.images.load(np.array([0, 5]), at_least=16)
    assert [image.size for image in small if isinstance(image, Image.Image)] == [(16, 16)] * 2


def test_fingerprint_knows_the_data_and_no_folder(tmp_path: Path) -> None:
    here = combine([left(tmp_path / "here"), right(tmp_path / "here")])
    there = combine([left(tmp_path / "there"), right(tmp_path / "there")])
    turned = combine([right(tmp_path / "here"), left(tmp_path / "here")])
    assert here.fingerprint == there.fingerprint
    assert here.fingerprint != turned.fingerprint


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [(False, False, (False, False)), (True, False, (True, True)), (True, True, (True, False))],
)
def test_is_synthetic_if_any_part_is(
    tmp_path: Path, first: bool, second: bool, together: tuple[bool, bool]
) -> None:
    both = combine([left(tmp_path, synthetic=first), right(tmp_path, synthetic=second)])
    assert (both.synthetic, both.partly_synthetic) == together


def test_a_part_of_the_rows_can_be_taken(both: Dataset) -> None:
    part = both.take(np.array([5, 1]))
    assert part.columns["dataset"].tolist() == ["three", "one"]
    assert part.images.describe(0) == "three/2.png"


@dataclass(frozen=True)
class One(Reader):
    name: ClassVar[str] = "one"

    def read(self, root: Path | None) -> Dataset:
        return left(self.require_root(root))


@dataclass(frozen=True)
class Three(Reader):
    name: ClassVar[str] = "three"

    def read(self, root: Path | None) -> Dataset:
        return right(self.require_root(root))


@dataclass(frozen=True)
class PartOfOne(Three):
    name: ClassVar[str] = "small"
    part_of: ClassVar[tuple[str, ...]] = ("one",)


@dataclass(frozen=True)
class AlsoPartOfOne(Three):
    name: ClassVar[str] = "other"
    part_of: ClassVar[tuple[str, ...]] = ("one",)


def test_one_reader_gives_its_own_data_set(tmp_path: Path) -> None:
    reader = SeveralReader((One(),))
    assert reader.name == "one"
    assert reader.read({"one": tmp_path}).fingerprint == left(tmp_path).fingerprint


def test_several_readers_give_one_data_set(tmp_path: Path) -> None:
    reader = SeveralReader((Three(), One()))
    assert reader.name == "three,one"
    roots: Mapping[str, Path | None] = {"one": tmp_path, "three": tmp_path}
    assert reader.read(roots).fingerprint == combine([right(tmp_path), left(tmp_path)]).fingerprint


@pytest.mark.parametrize(
    ("mistake", "parts"),
    [
        (lambda root: SeveralReader(()), ("--data", "no data set")),
        (lambda root: SeveralReader((One(), Three(), One())), ("one is named twice", "--data")),
        (lambda root: SeveralReader((One(), PartOfOne())), ("one and small both hold images of one",)),
        (lambda root: SeveralReader((PartOfOne(), One())), ("small and one both hold images of one",)),
        (lambda root: SeveralReader((PartOfOne(), Three(), AlsoPartOfOne())), ("small and other", "of one")),
        (lambda root: combine([]), ("--data", "no data set")),
        (lambda root: combine([left(root), left(root)]), ("one is named twice",)),
        (lambda root: SeveralReader((One(), Three())).read({"one": root}), ("--root", "'three'")),
        (
            lambda root: SeveralReader((One(), Three())).read({"tree": root}),
            ("--root", "'tree'", "did you mean three"),
        ),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, mistake: Callable[[Path], object], parts: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        mistake(tmp_path)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_data_sets_of_other_images_are_let_pass() -> None:
    assert SeveralReader((PartOfOne(), Three())).name == "small,three"
    with pytest.raises(BadSetting):
        SeveralReader((PartOfOne(), AlsoPartOfOne()))
