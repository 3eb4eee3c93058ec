"""RSNA Pneumonia Detection Challenge 2018, stage 2: NIH radiographs with boxes round opacities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from retune.data.dataset import Array, Dataset, split_by_patient
from retune.data.images import FileImages, listed
from retune.data.lists import look_for, unread
from retune.data.outlines import Outlined, Outlines, Square
from retune.data.readers._lists import LISTS, Chosen, drawn_split, listed_split, settled
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
)
from retune.errors import BadTable, MissingFiles
from retune.files import parse_json, read_small

if TYPE_CHECKING:
    import pandas as pd

TABLE: Final = "stage_2_train_labels.csv"
DETAILS: Final = "stage_2_detailed_class_info.csv"
MAPPING: Final = "pneumonia-challenge-dataset-mappings_2018.json"
NIH_LISTS: Final = ("train_val_list.txt", "test_list.txt")
IMAGE, TARGET, CLASS = "patientId", "Target", "class"
BOX: Final = ("x", "y", "width", "height")
FOLDERS: Final = ("stage_2_train_images", "images", ".")
ENDINGS: Final = (".dcm", ".png", ".jpg")
SIDE: Final = 1024
"""Every picture is a square of so many pixels."""
HELD: Final = 5337
"""Images of MGCA's validation and of its test part."""
MOST: Final = 2**27
"""Bytes that the mapping or a list may have."""


@dataclass(frozen=True)
class RsnaPneumonia(HashedReader):
    """RSNA's pneumonia challenge: 26,684 of NIH's radiographs, on which radiologists boxed opacities.

    The folder holds ``stage_2_train_labels.csv`` and ``stage_2_train_images/`` with ``<patientId>.dcm``, or a ``.png`` or
    ``.jpg`` that was made of it. What is boxed is an opacity suspicious for pneumonia, so both labels say the same. With
    ``stage_2_detailed_class_info.csv`` there is No Finding, too. ``stage_2_test_images`` have no public labels.

    ``patientId`` names an image. With the official ``pneumonia-challenge-dataset-mappings_2018.json`` images belong to
    NIH's patients; without it every image counts as a patient, so one may be in training and test.

    Args:
        split: patient, 20 % of the patients for testing, by a hash; nih, by NIH's official lists, which must lie there
            with the mapping; mgca, the one that GLoRIA's successors share, over images; benchx, by its three lists, and
            benchx-10 and benchx-1, by those with a part of the training images.
        valid: Share of validation images, where the split has none of its own.
    """

    name: ClassVar[str] = "rsna-pneumonia"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Shih et al., Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations of "
        "Possible Pneumonia, Radiology: Artificial Intelligence 1, 2019; images of the NIH Clinical Center"
    )
    licence: ClassVar[str] = "NIH: attribute the Clinical Center; the rules of the Kaggle competition"
    labels: ClassVar[tuple[str, ...]] = ("No Finding", "Lung Opacity", "Pneumonia")
    mapping: ClassVar[Mapping[str, str]] = {
        "Normal": "No Finding", "Lung Opacity": "Lung Opacity", "Target": "Pneumonia",
        "No Lung Opacity / Not Normal": "",
    }  # fmt: skip
    published: ClassVar[Published | None] = Published(
        images=26_684, positives={"Pneumonia": 6_012, "Lung Opacity": 6_012, "No Finding": 8_851}
    )
    part_of: ClassVar[tuple[str, ...]] = ("nih",)

    split: Literal["patient", "nih", "mgca", "benchx", "benchx-10", "benchx-1"] = "patient"
    valid: float = 0.1

    def read(self, root: Path | None) -> Dataset:
        """Read the table and where the pictures lie.

        Args:
            root: Folder of the published files.

        Raises:
            MissingFiles: If the table is not there, or what the split needs.
            BadTable: With file and row, if a row cannot be right.
        """
        folder = self.require_root(root, (TABLE,))
        table = find_table(folder, (TABLE,))
        frame = read_table(table, (IMAGE, *BOX, TARGET))
        names, image, target = _targets(frame, table)
        read, columns = [(frame, table)], [target, target]
        labels: tuple[str, ...] = ("Lung Opacity", "Pneumonia")
        details = look_for(folder, (DETAILS,))
        if details is not None:
            more = read_table(details, (IMAGE, CLASS))
            read.append((more, details))
            labels, columns = self.labels, [_normal(more, details, names), *columns]
        patients, notes = (
            names,
            ["Patients are not told without the official mapping: every image counts as one"],
        )
        mapping = look_for(folder, (MAPPING,), deep=True)
        original = None
        if mapping is not None:
            original = _mapped(mapping, names)
            patients, notes = np.array([name[:8] for name in original.tolist()]), []
        chosen = self._split(folder, names, patients, original)
        kept = chosen.kept
        place = np.full(len(names), -1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        return Dataset(
            name=self.name,
            labels=labels,
            image_id=names[kept],
            patient_id=patients[kept],
            split=chosen.split[kept],
            targets=np.stack(columns, axis=1)[kept],
            images=FileImages(_paths(folder, names[kept]), folder),
            dropped=chosen.dropped,
            source=self.source,
            notes=(
                *notes,
                *chosen.notes,
                *table_notes(*read),
                *unread(folder, [*(path for _, path in read), *chosen.lists], "see split"),
            ),
            choices={"split": chosen.choice},
            regions=Outlined(
                ("Pneumonia",), partial(_boxes, frame, table, place[image], len(kept)), Square(SIDE)
            ),
        )

    def _split(self, folder: Path, names: Array, patients: Array, original: Array | None) -> Chosen:
        """The split of each image."""
        if self.split in LISTS:
            return settled(listed_split(folder, names, self.split), patients)
        if self.split == "mgca":
            if len(names) <= 2 * HELD:
                raise BadTable(
                    f"holds {len(names):,} images, and MGCA's rule puts {2 * HELD:,} aside",
                    where=str(folder / TABLE),
                    fix="leave split out",
                )
            drawn = Chosen(drawn_split(len(names), 2 * HELD, HELD), "MGCA's rule, over images")
            return settled(drawn, patients)
        if self.split == "nih":
            if original is None:
                raise MissingFiles(
                    f"{MAPPING} not found", where=str(folder), fix="put it there, or leave split out"
                )
            lists = [look_for(folder, (name,), deep=True) for name in NIH_LISTS]
            for name, path in zip(NIH_LISTS, lists, strict=True):
                if path is None:
                    raise MissingFiles(f"{name} not found", where=str(folder), fix="put NIH's lists there")
            learnt, tested = (
                np.isin(original, read_small(path, MOST).decode().split()) for path in lists if path
            )
            part = split_by_patient(patients, valid=self.valid, test=0.0)
            found = np.where(tested, "test", np.where(learnt, part, ""))
            return Chosen(found, f"NIH's official, by {' and '.join(NIH_LISTS)}")
        return Chosen(split_by_patient(patients, valid=self.valid), "by a hash of patients, 20 % for testing")


def _targets(frame: pd.DataFrame, table: Path) -> tuple[Array, Array, Array]:
    """Names of the images in order, (N,); of each row its image, (R,); and the target of each image, float32 (N,)."""
    import pandas as pd

    refuse_blank(frame, IMAGE, table)
    refuse_folders(frame, IMAGE, table, "'{}' is not a plain name")
    target = frame[TARGET].to_numpy()
    refuse(frame, ~np.isin(target, ("0", "1")), TARGET, table, "'{}' is neither 0 nor 1")
    # In the order of names, as the published rules take them.
    image, names = pd.factorize(text(frame[IMAGE]), sort=True)
    positive = target == "1"
    found = np.zeros(len(names), dtype=np.float32)
    found[image[positive]] = 1
    refuse(frame, (found[image] == 1) & ~positive, TARGET, table, "'{}' where another row of the image has 1")
    boxed = np.all([frame[side].to_numpy() != "" for side in BOX], axis=0)
    refuse(frame, positive & ~boxed, BOX[0], table, "a positive row has no box")
    return np.asarray(names), image, found


def _normal(frame: pd.DataFrame, table: Path, names: Array) -> Array:
    """Which images are normal, float32 (N,)."""
    import pandas as pd

    refuse(frame, ~frame[CLASS].isin(RsnaPneumonia.mapping).to_numpy(), CLASS, table, "unknown class '{}'")
    at = pd.Index(names).get_indexer(pd.Index(text(frame[IMAGE])))
    found = np.full(len(names), np.nan, dtype=np.float32)
    found[at[at >= 0]] = (frame[CLASS].to_numpy() == "Normal")[at >= 0]
    return found


def _mapped(path: Path, names: Array) -> Array:
    """NIH's file name of each image, (N,)."""
    try:
        found = {str(one["subset_img_id"]): str(one["img_id"]) for one in parse_json(read_small(path, MOST))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadTable(
            f"is not the official mapping ({error})", where=str(path), fix="fetch it again"
        ) from error
    missing = [name for name in names.tolist() if not found.get(name, "")[:8].isdigit()]
    if missing:
        raise BadTable(
            f"names no image of NIH for {len(missing):,} images, such as {missing[0]}", where=str(path)
        )
    return np.array([found[name] for name in names.tolist()])


def _boxes(frame: pd.DataFrame, table: Path, row: Array, n: int) -> Outlines:
    drawn = np.flatnonzero((frame[TARGET].to_numpy() == "1") & (row >= 0))
    x, y, width, height = (numbers(frame, side, table).astype(np.float64)[drawn] for side in BOX)
    shapes = list(np.stack([x, y, x + width, y + height], axis=1))
    where = [f"{table}, row {number}" for number in frame.index[drawn]]
    return Outlines(
        np.ones((n, 1), dtype=bool), row[drawn], np.zeros(len(drawn), dtype=np.int64), shapes, where
    )


def _paths(root: Path, names: Array) -> Array:
    """File of each image relative to the root, (N,); where there is none, where it ought to be."""
    there: dict[str, str] = {}
    for folder, name in listed(root, reversed(FOLDERS)):
        stem, dot, ending = name.rpartition(".")
        if dot + ending in ENDINGS:
            there[stem] = f"{folder}/{name}".removeprefix("./")
    return np.array(
        [there.get(name, f"{FOLDERS[0]}/{name}{ENDINGS[0]}") for name in names.tolist()], dtype=str
    )
