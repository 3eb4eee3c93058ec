"""VinDr-CXR (Nguyen et al., Scientific Data 2022) as published on PhysioNet or, in part, on Kaggle."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np

from retune.data import findings
from retune.data.dataset import Array, BoolArray, Dataset, FloatArray, IntArray, split_by_patient
from retune.data.dicom import dicom_size
from retune.data.images import FileImages, listed
from retune.data.lists import unread
from retune.data.outlines import Outlined, Outlines
from retune.data.readers._lists import LISTS, Chosen, listed_split
from retune.data.readers.base import HashedReader, Published
from retune.data.tables import (
    find_table,
    numbers,
    read_table,
    refuse,
    refuse_blank,
    refuse_folders,
    table_notes,
    text,
    whole_numbers,
)
from retune.errors import BadImage, BadTable, MissingFiles
from retune.settings import LATER

if TYPE_CHECKING:
    import pandas as pd

    Read = tuple[pd.DataFrame, Path]

TRAIN, TEST, KAGGLE = "image_labels_train.csv", "image_labels_test.csv", "train.csv"
IMAGE, READER, CLASS = "image_id", "rad_id", "class_name"
FOLDERS: Final = (".", "annotations")
"""Where the tables lie."""
DICOM: Final = (".dicom", ".dcm")
ENDINGS: Final = (*DICOM, ".png", ".jpg", ".jpeg")
"""Of several files of one image the first kind is taken: the one that was published."""
NO_FINDING: Final = "No Finding"
LOCAL: Final = {
    "Aortic enlargement": "Aortic Enlargement",
    "Atelectasis": "Atelectasis",
    "Calcification": "Calcification",
    "Cardiomegaly": "Cardiomegaly",
    "Consolidation": "Consolidation",
    "ILD": "Interstitial Lung Disease",
    "Infiltration": "Infiltration",
    "Lung Opacity": "Lung Opacity",
    # One class in VinDr-CXR. CheXpert's Lung Lesion covers nodules and masses, too.
    "Nodule/Mass": "Lung Lesion",
    "Other lesion": "",
    "Pleural effusion": "Pleural Effusion",
    "Pleural thickening": "Pleural Thickening",
    "Pneumothorax": "Pneumothorax",
    "Pulmonary fibrosis": "Fibrosis",
    "No finding": NO_FINDING,
}
"""The classes of the Kaggle competition, which put the rarer ones into "Other lesion"."""
CLASSES: Final = {
    **LOCAL,
    "Clavicle fracture": "Fracture",
    "Edema": "Edema",
    "Emphysema": "Emphysema",
    "Enlarged PA": "Enlarged Pulmonary Artery",
    "Lung cavity": "Lung Cavity",
    "Lung cyst": "Lung Cyst",
    "Mediastinal shift": "Mediastinal Shift",
    "Rib fracture": "Fracture",
    "COPD": "COPD",
    "Lung tumor": "Lung Tumor",
    "Pneumonia": "Pneumonia",
    "Tuberculosis": "Tuberculosis",
    # So in the training table, and without the "s" in the test table.
    "Other diseases": "",
    "Other disease": "",
}
USED: Final = tuple(name for name, finding in CLASSES.items() if finding)
GLOBAL: Final = (
    "COPD",
    "Lung tumor",
    "Pneumonia",
    "Tuberculosis",
    "No finding",
    "Other diseases",
    "Other disease",
)
"""Classes of a whole image, which are outlined nowhere."""
BOXES: Final = {"train": "annotations_train.csv", "test": "annotations_test.csv"}
"""PhysioNet's boxes; Kaggle's stand in its only table."""
BOX: Final = ("x_min", "y_min", "x_max", "y_max")
SIZES: Final = ("train_meta.csv", "test_meta.csv")
"""Where copies that were resized say how many pixels the published pictures have: ``image_id,dim0,dim1``."""


@dataclass(frozen=True)
class VinDrCxr(HashedReader):
    """VinDr-CXR: PA radiographs of two hospitals in Hanoi, labelled by radiologists for 28 classes.

    From PhysioNet: 15,000 training images, read by three radiologists each, and 3,000 test images, labelled
    by the consensus of five. The folder holds ``image_labels_train.csv`` and ``image_labels_test.csv``, there
    or in ``annotations/``, and the pictures in ``train/`` and ``test/``. From Kaggle: the training images
    with 15 of the classes; the folder holds ``train.csv`` and ``train/``. PhysioNet's tables win. A
    picture is ``<image_id>.dicom``, or a ``.png`` or ``.jpg`` that was made of it.

    With PhysioNet's ``annotations_train.csv`` and ``annotations_test.csv``, and in Kaggle's table, findings have regions:
    all boxes of all radiologists together, so a box of one of three is enough, whatever ``vote`` says of the label.
    They are in pixels of the DICOM file; of a picture made of one, ``train_meta.csv`` or ``test_meta.csv`` must say how
    large that was (``image_id,dim0,dim1``: height, width).

    Patients are not published: every image counts as a patient.

    Args:
        vote: When a finding counts as present: if more than half of the radiologists who read an image saw it,
            if any did, or only if all did. No Finding is the absence of all, so ``any`` and ``all`` change places.
        valid: Share of validation images: of PhysioNet's training images, or of all of Kaggle's, of which 20 %
            are test images, chosen by a hash.
        split: ``official``: as said; ``benchx``: by BenchX's three lists, whose test images are PhysioNet's;
            ``benchx-10`` and ``benchx-1``: by those with a part of the training images.
    """

    name: ClassVar[str] = "vindr-cxr"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Nguyen et al., VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations, "
        "Scientific Data 9, 2022; PhysioNet, version 1.0.0, 2021"
    )
    licence: ClassVar[str] = (
        "PhysioNet Credentialed Health Data License, or the rules of the Kaggle competition"
    )
    labels: ClassVar[tuple[str, ...]] = tuple(name for name in findings.FINDINGS if name in CLASSES.values())
    mapping: ClassVar[Mapping[str, str]] = CLASSES
    published: ClassVar[Published | None] = Published(images=18_000)

    vote: Literal["majority", "any", "all"] = "majority"
    valid: float = 0.1
    split: Literal["official", "benchx", "benchx-10", "benchx-1"] = field(
        default="official", kw_only=True, metadata=LATER
    )

    def read(self, root: Path | None) -> Dataset:
        """Read the tables and where the pictures lie.

        Args:
            root: Folder of the published files.

        Raises:
            MissingFiles: If there is no table, or only one of PhysioNet's two.
            BadTable: With file and row, if a row cannot be right.
        """
        folder = self.require_root(root, (TRAIN, TEST, KAGGLE))
        tables = {name: _find(folder, name) for name in (TRAIN, TEST)}
        train, test = tables.values()
        if train and test:
            read, names, targets, split = self._physionet(train, test)
            labels, places = self.labels, np.where(split == "test", "test", "train")
        elif train or test:
            missing = next(name for name, path in tables.items() if path is None)
            # One table alone would silently be another benchmark.
            raise MissingFiles(f"{missing} not found", where=str(folder), fix="add it or check --root")
        else:
            read, names, targets = self._kaggle(folder)
            split = split_by_patient(names, valid=self.valid)
            labels, places = self._kaggle_labels(), np.full(len(names), "train")
        chosen = Chosen(
            split,
            f"official, by {TRAIN} and {TEST}"
            if train and test
            else f"by a hash of images, 20 % for testing; {TRAIN} and {TEST} are not there",
        )
        if self.split in LISTS:
            chosen = listed_split(folder, names, self.split)
        images = FileImages(_paths(folder, names, places), folder)
        if train and test:
            boxes = [path for name in BOXES.values() if (path := _find(folder, name))]
        else:
            boxes = [table for frame, table in read if set(BOX) <= set(frame.columns)]
        outlined = tuple(
            name for name in labels if name in {CLASSES[kind] for kind in CLASSES if kind not in GLOBAL}
        )
        whole = Dataset(
            name=self.name,
            labels=labels,
            image_id=names,
            patient_id=names,
            # What is in none of the lists is left out below.
            split=np.where(chosen.split == "", "train", chosen.split),
            targets=targets,
            images=images,
            columns={"view": np.full(len(names), "PA")},
            source=self.source,
            notes=(
                *table_notes(*read),
                *chosen.notes,
                *unread(
                    folder,
                    [*(table for _, table in read), *chosen.lists],
                    f"only {TRAIN} with {TEST}, or {KAGGLE}, say what is trained and tested on",
                ),
            ),
            choices={
                "split": chosen.choice,
                "tables": ", ".join(table.name for _, table in read),
            },
            regions=Outlined(
                outlined, partial(_outlines, boxes, names, outlined), OriginalSizes(folder, names, images)
            )
            if boxes
            else None,
        )
        return whole.take(chosen.kept, dropped=chosen.dropped) if chosen.dropped else whole

    def _physionet(self, train: Path, test: Path) -> tuple[list[Read], Array, FloatArray, Array]:
        import pandas as pd

        frame = read_table(train, (IMAGE, *USED))
        names = _names(frame, train)
        reader = next((name for name in frame.columns if name.lower() == READER), "")
        if not reader:
            raise BadTable(f"missing column '{READER}': who labelled the image", where=str(train))
        refuse_blank(frame, reader, train)
        twice = frame.duplicated([IMAGE, reader])
        refuse(frame, twice, IMAGE, train, "one radiologist has two rows for image '{}'")
        image, unique = pd.factorize(names)
        voted = self._vote(image, _marks(frame, train, self.labels), self.labels)
        other = read_table(test, (IMAGE, *USED))
        test_names = _names(other, test)
        refuse(other, other.duplicated(IMAGE), IMAGE, test, "image '{}' has two rows")
        refuse(other, np.isin(test_names, unique), IMAGE, test, f"image '{{}}' stands in {train.name}, too")
        consensus = _marks(other, test, self.labels).astype(np.float32)
        split = split_by_patient(unique, valid=self.valid, test=0.0)
        return (
            [(frame, train), (other, test)],
            np.concatenate([unique, test_names]),
            np.concatenate([voted, consensus]),
            np.concatenate([split, np.full(len(test_names), "test")]),
        )

    def _kaggle(self, folder: Path) -> tuple[list[Read], Array, FloatArray]:
        import pandas as pd

        # The other two are not there, but a message that nothing is must name them.
        table = find_table(folder, (TRAIN, TEST, KAGGLE))
        frame = read_table(table, (IMAGE, CLASS, READER))
        names = _names(frame, table)
        refuse_blank(frame, READER, table)
        kinds = _kinds(frame, table, LOCAL)
        labels = self._kaggle_labels()
        # A row is a box: a radiologist who drew none of a class has voted against it.
        image, unique = pd.factorize(names)
        radiologist, people = pd.factorize(frame[READER])
        readings, reading = np.unique(image * len(people) + radiologist, return_inverse=True)
        marks = np.zeros((len(readings), len(labels)), dtype=bool)
        column = kinds.map({name: labels.index(to) for name, to in LOCAL.items() if to}).to_numpy(np.float64)
        used = ~np.isnan(column)
        marks[reading[used], column[used].astype(np.int64)] = True
        return [(frame, table)], unique, self._vote(readings // len(people), marks, labels)

    def _kaggle_labels(self) -> tuple[str, ...]:
        return tuple(name for name in self.labels if name in LOCAL.values())

    def _vote(self, image: IntArray, marks: BoolArray, labels: Sequence[str]) -> FloatArray:
        """Combine readings (R, C) of images numbered (R,) to targets, float32 (N, C)."""
        readers = np.bincount(image)[:, None]
        votes = np.zeros((len(readers), len(labels)), dtype=np.int64)
        np.add.at(votes, image, marks)
        decided = {"majority": 2 * votes > readers, "any": votes > 0, "all": votes == readers}
        present = decided[self.vote].copy()
        opposite = {"majority": "majority", "any": "all", "all": "any"}[self.vote]
        normal = labels.index(NO_FINDING)
        present[:, normal] = decided[opposite][:, normal]
        return np.asarray(present, dtype=np.float32)


def _find(folder: Path, name: str) -> Path | None:
    for inner in FOLDERS:
        try:
            return find_table(folder / inner, (name,))
        except MissingFiles:
            continue
    return None


def _names(frame: pd.DataFrame, table: Path) -> Array:
    refuse_blank(frame, IMAGE, table)
    refuse_folders(frame, IMAGE, table, "'{}' is not a plain name")
    return text(frame[IMAGE])


def _kinds(frame: pd.DataFrame, table: Path, classes: Mapping[str, str]) -> pd.Series[Any]:
    """The class that each row is of, one of these."""
    kinds = frame[CLASS]
    unknown = ~kinds.isin(classes).to_numpy(bool)
    if unknown.any():
        near = difflib.get_close_matches(kinds[unknown].iloc[0], classes, n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        refuse(frame, unknown, CLASS, table, "unknown class '{}'" + hint)
    return kinds


def _outlines(tables: Sequence[Path], names: Array, outlined: Sequence[str]) -> Outlines:
    """The boxes of images of these names (N,), in tables of one row for each box or for none on an image."""
    import pandas as pd

    known = np.zeros((len(names), len(outlined)), dtype=bool)
    row, finding, boxes, where = [], [], [], []
    for table in tables:
        frame = read_table(table, (IMAGE, CLASS, *BOX))
        at = pd.Index(names).get_indexer(pd.Index(_names(frame, table)))
        refuse(frame, at < 0, IMAGE, table, "image '{}' has no labels")
        known[at] = True
        column = _kinds(frame, table, CLASSES).map(
            {kind: outlined.index(name) for kind, name in CLASSES.items() if name in outlined}
        )
        drawn = np.flatnonzero(column.notna() & ~frame[CLASS].isin(GLOBAL))
        sides = np.stack([numbers(frame, side, table) for side in BOX], axis=1).astype(np.float64)
        for k, side in enumerate(BOX):
            blank = np.zeros(len(frame), dtype=bool)
            blank[drawn] = np.isnan(sides[drawn, k])
            refuse(frame, blank, side, table, "a box without one of its sides")
        row.append(at[drawn])
        finding.append(column.to_numpy(np.float64)[drawn].astype(np.int64))
        boxes += list(sides[drawn])
        where += [f"{table}, row {number}" for number in frame.index[drawn]]
    return Outlines(known, np.concatenate(row), np.concatenate(finding), boxes, where)


@dataclass(frozen=True)
class OriginalSizes:
    """How large the published pictures are, whatever their copies are.

    Args:
        folder: Folder of the published files.
        names: Name of each image, (N,).
        images: Where its picture is.
    """

    folder: Path
    names: Array
    images: FileImages

    def of(self, row: int) -> tuple[int, int]:
        """Height and width in pixels.

        Raises:
            BadImage: If neither a DICOM file nor a table of sizes says so.
        """
        path = self.images.path(row)
        if path.suffix in DICOM:
            return dicom_size(path)
        if (size := self._table.get(str(self.names[row]))) is None:
            raise BadImage(
                "is no DICOM file, so where its boxes lie in it is not known",
                where=str(path),
                fix=f"put {' and '.join(SIZES)} (image_id,dim0,dim1) beside its table",
            )
        return size

    def keys(self, rows: IntArray) -> list[bytes]:
        """The picture, which may be the DICOM file, and what a table says of its size."""
        found = zip(self.names[rows].tolist(), self.images.keys(rows), strict=True)
        return [f"{self._table.get(name)}".encode() + (key or b"") for name, key in found]

    @cached_property
    def _table(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for path in filter(None, (_find(self.folder, name) for name in SIZES)):
            frame = read_table(path, (IMAGE, "dim0", "dim1"))
            sides = [whole_numbers(frame, side, path, minimum=1).tolist() for side in ("dim0", "dim1")]
            found |= dict(zip(_names(frame, path).tolist(), zip(*sides, strict=True), strict=True))
        return found


def _marks(frame: pd.DataFrame, table: Path, labels: Sequence[str]) -> BoolArray:
    """Which findings each row marks, bool (R, C); of two classes of one finding either will do."""
    marks = np.zeros((len(frame), len(labels)), dtype=bool)
    for name in USED:
        values = numbers(frame, name, table)
        refuse(frame, ~np.isin(values, (0, 1)), name, table, "'{}' is neither 0 nor 1")
        marks[:, labels.index(CLASSES[name])] |= values == 1
    return marks


def _paths(root: Path, names: Array, folders: Array) -> Array:
    """File of each image relative to the root, (N,); where there is none, where it ought to be."""
    there = {f"{folder}/{name}" for folder, name in listed(root, set(folders.tolist()))}
    stems = [f"{folder}/{name}" for folder, name in zip(folders.tolist(), names.tolist(), strict=True)]
    files = [next((s + end for end in ENDINGS if s + end in there), s + ENDINGS[0]) for s in stems]
    return np.array(files, dtype=str)
