"""SIIM-ACR Pneumothorax Segmentation 2019: radiographs with masks of the pneumothorax."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np
from PIL import Image

from retune.data.dataset import Array, BoolArray, Dataset, IntArray, split_by_patient
from retune.data.images import FileImages
from retune.data.lists import look_for
from retune.data.readers._lists import LISTS, Chosen, drawn_split, listed_split, settled
from retune.data.readers.base import HashedReader, Published
from retune.data.shapes import Runs, dialect_of, runs_mask
from retune.data.tables import (
    read_table,
    refuse,
    refuse_blank,
    refuse_folders,
    refuse_twice,
    table_notes,
    text,
)
from retune.errors import BadSetting, BadTable, MissingFiles

if TYPE_CHECKING:
    import pandas as pd

TABLES: Final = ("train-rle.csv", "stage_2_train.csv")
SHEETS: Final = {"train": "stage_1_train_images.csv", "test": "stage_1_test_images.csv"}
"""Of the copy as PNG, which Kaggle has as well."""
IMAGE, RUNS, FILE, POSITIVE = "ImageId", "EncodedPixels", "new_filename", "has_pneumo"
PNG: Final = ("png_images", "png_masks")
SIDE: Final = 1024
"""Every picture is a square of so many pixels."""


@dataclass(frozen=True)
class Siim(HashedReader):
    """SIIM-ACR: 12,047 radiographs, 2,669 of them with a pneumothorax, which radiologists outlined.

    The folder holds ``train-rle.csv`` (``ImageId, EncodedPixels``) or ``stage_2_train.csv``, and DICOM files anywhere
    below, ``<ImageId>.dcm``; or Kaggle's copy as PNG: ``stage_1_train_images.csv`` and ``stage_1_test_images.csv``
    with ``png_images/`` and ``png_masks/``, there or in ``siim-acr-pneumothorax/``.

    The pictures are NIH's, by their organisers' word, and no list says which: every image counts as a patient, so one
    may be in training and test.

    Args:
        split: patient, 20 % of the images for testing, by a hash; kaggle, the copy's own, as PNG; mgca, the one that
            GLoRIA's successors share, over rows of the table, so that images with several rows stand in several parts;
            benchx, by its three lists, and benchx-10 and benchx-1, by those with a part of the training images.
        valid: Share of validation images, where the split has none of its own.
    """

    name: ClassVar[str] = "siim"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "SIIM-ACR Pneumothorax Segmentation, Kaggle, 2019; Filice et al., Crowdsourcing pneumothorax annotations using "
        "machine learning annotations on the NIH chest X-ray dataset, Journal of Digital Imaging 33, 2020"
    )
    licence: ClassVar[str] = "the rules of the Kaggle competition; NIH: attribute the Clinical Center"
    labels: ClassVar[tuple[str, ...]] = ("Pneumothorax",)
    mapping: ClassVar[Mapping[str, str]] = {POSITIVE: "Pneumothorax"}
    published: ClassVar[Published | None] = Published(images=12_047, positives={"Pneumothorax": 2_669})
    part_of: ClassVar[tuple[str, ...]] = ("nih",)

    split: Literal["patient", "kaggle", "mgca", "benchx", "benchx-10", "benchx-1"] = "patient"
    valid: float = 0.1

    def read(self, root: Path | None) -> Dataset:
        """Read the table and where the pictures lie.

        Args:
            root: Folder of the published files.

        Raises:
            MissingFiles: If there is no table, or not what the split needs.
            BadTable: With file and row, if a row cannot be right.
        """
        folder = self.require_root(root, (*TABLES, *SHEETS.values()))
        table = look_for(folder, TABLES)
        if table is not None:
            return self._of_runs(folder, table)
        for place in (folder, folder / "siim-acr-pneumothorax"):
            if place.is_dir() and look_for(place, tuple(SHEETS.values())):
                return self._of_pictures(place)
        raise MissingFiles(
            f"none of {', '.join((*TABLES, *SHEETS.values()))} found", where=str(folder), fix="check --root"
        )

    def _of_runs(self, folder: Path, table: Path) -> Dataset:
        import pandas as pd

        frame = read_table(table, (IMAGE,))
        runs = next((name for name in frame.columns if name.strip() == RUNS), "")
        if not runs:
            raise BadTable(f"missing column '{RUNS}'", where=str(table), fix="fetch it again")
        refuse_blank(frame, IMAGE, table)
        refuse_folders(frame, IMAGE, table, "'{}' is not a plain name")
        image, names = pd.factorize(text(frame[IMAGE]))
        texts = frame[runs].str.strip().to_numpy(dtype=object)
        refuse(frame, texts == "", runs, table, "no runs; an image without any has -1")
        drawn = texts != "-1"
        positive = np.zeros(len(names), dtype=bool)
        positive[image[drawn]] = True
        refuse(frame, positive[image] & ~drawn, runs, table, "-1 where another row of the image has runs")
        rows: list[list[int]] = [[] for _ in names]
        for k in np.flatnonzero(drawn).tolist():
            rows[image[k]].append(k)
        where = [f"{table}, row {number}" for number in frame.index]
        if self.split == "mgca":
            # An image with several rows may stand in several parts.
            drawn = Chosen(drawn_split(len(frame), 0.3, 0.5), "MGCA's rule, over rows of the table")
            of_rows = settled(drawn, image)
            chosen = replace(of_rows, split=of_rows.split[np.unique(image, return_index=True)[1]])
        else:
            chosen = self._split(folder, np.asarray(names))
        paths = _dicoms(folder, np.asarray(names))
        regions = RunRegions(texts.tolist(), rows, where)
        return self._dataset(folder, np.asarray(names), positive, paths, chosen, regions, (frame, table))

    def _of_pictures(self, folder: Path) -> Dataset:
        import pandas as pd

        parts, tables = [], []
        for split, name in SHEETS.items():
            path = look_for(folder, (name,))
            if path is None:
                raise MissingFiles(f"{name} not found", where=str(folder), fix="add it or check --root")
            frame = read_table(path, (FILE, POSITIVE))
            refuse_blank(frame, FILE, path)
            refuse_folders(frame, FILE, path, "'{}' is not a plain name")
            refuse(
                frame, ~frame[POSITIVE].isin(("0", "1")).to_numpy(), POSITIVE, path, "'{}' is neither 0 nor 1"
            )
            parts.append(frame.assign(part=split)[[FILE, POSITIVE, "part"]])
            tables.append((frame, path))
        whole = pd.concat(parts)
        refuse_twice(whole, whole[FILE], FILE, tables[0][1])
        names = np.array([name.rpartition(".")[0] or name for name in whole[FILE].tolist()])
        positive = (whole[POSITIVE] == "1").to_numpy()
        if self.split == "mgca":
            raise BadSetting(
                "MGCA's rule needs the rows of train-rle.csv", where="data set siim, setting split"
            )
        if self.split == "kaggle":
            by_hash = split_by_patient(names, valid=self.valid, test=0.0)
            parted = np.where(whole["part"] == "test", "test", by_hash)
            chosen = Chosen(parted, f"by {' and '.join(SHEETS.values())}")
        else:
            chosen = self._split(folder, names)
        files = [f"{PNG[0]}/{name}" for name in whole[FILE].tolist()]
        masks = [f"{PNG[1]}/{name}" for name in whole[FILE].tolist()]
        regions = PictureRegions(folder, np.array(files), np.array(masks), positive)
        return self._dataset(folder, names, positive, np.array(files), chosen, regions, *tables)

    def _split(self, folder: Path, names: Array) -> Chosen:
        """The split of each image."""
        if self.split in LISTS:
            return listed_split(folder, names, self.split)
        if self.split == "kaggle":
            raise BadSetting(
                f"is kaggle, and {' and '.join(SHEETS.values())} are not there",
                where="data set siim, setting split",
                fix="choose patient, mgca or benchx",
            )
        return Chosen(split_by_patient(names, valid=self.valid), "by a hash of images, 20 % for testing")

    def _dataset(
        self,
        folder: Path,
        names: Array,
        positive: BoolArray,
        paths: Array,
        chosen: Chosen,
        regions: RunRegions | PictureRegions,
        *tables: tuple[pd.DataFrame, Path],
    ) -> Dataset:
        whole = Dataset(
            name=self.name,
            labels=self.labels,
            image_id=names,
            patient_id=names,
            # What is in none of the lists is left out below.
            split=np.where(chosen.split == "", "train", chosen.split),
            targets=positive.astype(np.float32)[:, None],
            images=FileImages(paths, folder),
            source=self.source,
            notes=(
                "Patients are not published: every image counts as a patient, so one may be in training and test",
                *chosen.notes,
                *table_notes(*tables),
            ),
            choices={"split": chosen.choice},
            regions=regions,
        )
        return whole.take(chosen.kept, dropped=chosen.dropped) if chosen.dropped else whole


@dataclass(frozen=True)
class RunRegions:
    """Masks written as runs of pixels, several rows a picture; a ``Regions``.

    Args:
        texts: Runs of each row of the table.
        rows: Of each picture, its rows.
        where: Where each row is, for messages.
    """

    texts: list[str]
    rows: list[list[int]]
    where: list[str]
    findings: tuple[str, ...] = ("Pneumothorax",)

    @cached_property
    def dialect(self) -> Runs:
        """How the table counts starts."""
        for k in sorted(k for rows in self.rows for k in rows):
            with _told(self.where[k]):
                if dialect_of([self.texts[k]]) == "relative":
                    return "relative"
        return "columns"

    def known(self, rows: IntArray) -> BoolArray:
        """All."""
        return np.ones((len(rows), 1), dtype=bool)

    def masks(self, rows: IntArray) -> list[BoolArray]:
        """Bool (1, H, W) for each row.

        Raises:
            BadTable: If a row holds no runs, or one leaves the picture.
        """
        found = []
        for row in rows.tolist():
            mask = np.zeros((SIDE, SIDE), dtype=bool)
            for k in self.rows[row]:
                with _told(self.where[k]):
                    mask |= runs_mask(self.texts[k], (SIDE, SIDE), self.dialect)
            found.append(mask[None])
        return found

    def keys(self, rows: IntArray) -> list[bytes]:
        """Digest of each row's runs."""
        stem = f"siim runs 1\0{self.dialect}\0"
        texts = ("\0".join(self.texts[k] for k in self.rows[row]) for row in rows.tolist())
        return [hashlib.sha256((stem + text).encode()).digest() for text in texts]


@dataclass(frozen=True)
class PictureRegions:
    """Masks that are pictures; a ``Regions``.

    Args:
        root: Folder of the data set.
        images: File of each picture in it, (N,).
        masks: File of each mask, (N,).
        positive: Which pictures have one, bool (N,).
    """

    root: Path
    images: Array
    files: Array
    positive: BoolArray
    findings: tuple[str, ...] = ("Pneumothorax",)

    def known(self, rows: IntArray) -> BoolArray:
        """All."""
        return np.ones((len(rows), 1), dtype=bool)

    def masks(self, rows: IntArray) -> list[BoolArray]:
        """Bool (1, H, W) for each row.

        Raises:
            MissingFiles: If a mask is not there.
            BadTable: If it is none of its picture, or empty where the table says that there is a pneumothorax.
        """
        return [self._mask(row)[None] for row in rows.tolist()]

    def keys(self, rows: IntArray) -> list[bytes]:
        """Digest of each row's mask."""
        digests = FileImages(self.files, self.root).keys(rows)
        found = zip(rows.tolist(), digests, strict=True)
        return [
            digest or hashlib.sha256(f"no mask {self.files[row]}".encode()).digest() for row, digest in found
        ]

    def _mask(self, row: int) -> BoolArray:
        file = self.root / str(self.files[row])
        picture = FileImages(self.files, self.root).load(np.array([row]))[0]
        if isinstance(picture, Exception):
            raise MissingFiles(
                f"{picture.what}, so the mask is missing", where=str(file), fix="fetch it again"
            )
        with Image.open(self.root / str(self.images[row])) as image:
            size = image.size
        if picture.size != size:
            raise BadTable(
                f"a mask of {picture.width} x {picture.height} pixels, its picture has {size[0]} x {size[1]}",
                where=str(file),
                fix="fetch both again",
            )
        mask = np.asarray(picture) > 127
        if self.positive[row] != mask.any():
            has = "none is drawn" if self.positive[row] else "one is drawn"
            raise BadTable(
                f"the table says {int(self.positive[row])} for a pneumothorax, and {has}", where=str(file)
            )
        return mask


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Say in which row runs are wrong."""
    try:
        yield
    except BadTable as error:
        raise BadTable(error.what, where=where, fix=error.fix) from None


def _dicoms(folder: Path, names: Array) -> Array:
    """File of each image relative to the folder, (N,), wherever it lies below; where there is none, where it might be."""
    there: dict[str, str] = {}
    for place, _, files in os.walk(folder):
        here = Path(place).relative_to(folder)
        there |= {name.removesuffix(".dcm"): str(here / name) for name in files if name.endswith(".dcm")}
    return np.array([there.get(name, f"{name}.dcm") for name in names.tolist()], dtype=str)
