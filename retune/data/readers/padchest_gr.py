"""PadChest-GR (Castro et al., NEJM AI 2025): reports of PadChest with a box round what each sentence tells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from PIL import Image

from retune.data.dataset import Array, Dataset
from retune.data.images import FileImages, listed
from retune.data.outlines import Outlined, Outlines
from retune.data.readers._padchest import BESIDE_NORMAL, COLUMNS_OF, FINDINGS, MAPPING
from retune.data.readers.base import Published, Reader, Rows, assembled
from retune.data.tables import (
    OLDEST,
    SEXES,
    find_table,
    numbers,
    read_table,
    recode,
    refuse,
    table_notes,
    text,
)
from retune.errors import BadImage, BadTable, MissingFiles
from retune.files import parse_json, read_small

if TYPE_CHECKING:
    import pandas as pd

REPORTS: Final = "grounded_reports_20240819.json"
TABLE: Final = "master_table.csv"
IMAGE, PATIENT, SPLIT, SEX, AGE = ("ImageID", "PatientID", "split", "PatientSex_DICOM", "PatientAge")
SPLITS: Final = {"train": "train", "validation": "valid", "test": "test"}
PICTURES: Final = ("Padchest_GR_files/PadChest_GR", "Padchest_GR_files", "PadChest_GR", "images", ".")
MOST: Final = 2**26
"""Bytes that the reports may have; the published ones have 6 million."""
OUTLINED: Final = tuple(name for name in FINDINGS if name != "No Finding")


@dataclass(frozen=True)
class PadChestGr(Reader):
    """PadChest-GR: 4,555 of PadChest's radiographs, with reports whose every finding radiologists boxed.

    The folder holds ``grounded_reports_20240819.json``, ``master_table.csv`` (unpacked) and the pictures in
    ``Padchest_GR_files/``. A finding that no sentence tells is absent, as in ``padchest``, and labels stand in every
    finding that they are an example of. No Finding is a report that tells nothing abnormal but devices.

    Regions are the boxes of the first of two radiologists (``boxes``, not ``extra_boxes``): weak masks. A finding that is
    told without a box is unknown there; one that is not told counts as looked for, and absent.

    Columns are those that public code reads; the files themselves need an agreement and were not seen.

    Args:
        reports: In which language the column ``report`` is; the English is a translation.
    """

    name: ClassVar[str] = "padchest-gr"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "BIMCV; Castro et al., PadChest-GR: A bilingual chest X-ray dataset for grounded radiology report generation, "
        "NEJM AI 2, 2025; images of Bustos et al., PadChest, 2020"
    )
    licence: ClassVar[str] = (
        "PadChest-GR Dataset Research Use Agreement of BIMCV, to be accepted on downloading"
    )
    labels: ClassVar[tuple[str, ...]] = FINDINGS
    mapping: ClassVar[Mapping[str, str]] = MAPPING
    published: ClassVar[Published | None] = Published(images=4_555)
    part_of: ClassVar[tuple[str, ...]] = ("padchest",)

    reports: Literal["en", "es"] = "en"

    def read(self, root: Path | None) -> Dataset:
        """Read the reports, the table and where the pictures lie.

        Args:
            root: Folder of the published files.

        Raises:
            MissingFiles: If reports or table are not there.
            BadTable: If a report or a row cannot be right.
        """
        folder = self.require_root(root, (REPORTS, TABLE))
        path, table = folder / REPORTS, find_table(folder, (TABLE,), fix="unpack master_table.csv.zip there")
        if not path.is_file():
            raise MissingFiles(f"{REPORTS} not found", where=str(folder), fix="put it there or check --root")
        told = _told(path)
        names = np.array([str(report[IMAGE]) for report in told])
        frame = read_table(table, (IMAGE, PATIENT, SPLIT, SEX, AGE))
        rows, at = _of_images(frame, table, names, path)
        targets = np.zeros((len(names), len(FINDINGS)), dtype=np.float32)
        for row, report in enumerate(told):
            labels = {label for sentence in report["findings"] for label in _labels(sentence)}
            targets[row, [k for label in labels for k in COLUMNS_OF.get(label, ())]] = 1
            targets[row, FINDINGS.index("No Finding")] = labels <= BESIDE_NORMAL
        spoken = [
            " ".join(str(part.get(f"sentence_{self.reports}") or "").strip() for part in one["findings"])
            for one in told
        ]
        age = numbers(rows, AGE, table)[at]
        files = _paths(folder, names)
        images = FileImages(files, folder)
        return assembled(
            self,
            Rows(
                names,
                text(rows[PATIENT].str.strip())[at],
                recode(rows, SPLIT, SPLITS, table)[at],
                targets,
                files,
                {
                    "age": np.where((age < 0) | (age > OLDEST), np.nan, age).astype(np.float32),
                    "sex": recode(rows, SEX, {**SEXES, "O": ""}, table)[at],
                    "report": np.array(spoken, dtype=object),
                },
                Outlined(OUTLINED, partial(_boxes, path, told, targets), PictureSizes(images), shares=True),
            ),
            folder,
            table,
            drops={},
            notes=table_notes((frame, table)),
            choices={"split": f"official, by column '{SPLIT}' of {table.name}"},
        )


@dataclass(frozen=True)
class PictureSizes:
    """How large pictures are, by their files' first bytes.

    Args:
        images: The pictures.
    """

    images: FileImages

    def of(self, row: int) -> tuple[int, int]:
        """Height and width in pixels.

        Raises:
            BadImage: If there is no such picture.
        """
        path = self.images.path(row)
        try:
            with Image.open(path) as picture:
                return picture.height, picture.width
        except (OSError, Image.DecompressionBombError) as error:
            raise BadImage("is not a picture whose size can be told", where=str(path)) from error

    def keys(self, rows: Array) -> list[bytes]:
        """The picture's."""
        return [key or b"" for key in self.images.keys(rows)]


def _told(path: Path) -> list[dict[str, Any]]:
    """The reports, as far as it must be looked at, of the right shape."""
    try:
        reports = parse_json(read_small(path, MOST))
        for report in reports:
            if not re.fullmatch(r"[\w-][\w.-]*", report[IMAGE]):
                raise ValueError(f"'{report[IMAGE]}' is not the name of a picture")
            for part in report["findings"]:
                list(map(str.lower, part.get("labels") or ()))
                boxes = np.array(part.get("boxes") or np.zeros((0, 4)), dtype=np.float64)
                if boxes.shape[1:] != (4,):
                    raise ValueError(f"{part['boxes']} are not boxes")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadTable(
            f"is no list of grounded reports ({error})", where=str(path), fix="fetch it again"
        ) from error
    if not reports:
        raise BadTable("holds no report", where=str(path))
    return list(reports)


def _labels(sentence: Mapping[str, Any]) -> set[str]:
    """What a sentence says is there, in PadChest's words and small letters."""
    return (
        {label.strip().lower() for label in sentence.get("labels") or ()}
        if sentence.get("abnormal")
        else set()
    )


def _of_images(frame: pd.DataFrame, table: Path, names: Array, path: Path) -> tuple[pd.DataFrame, Array]:
    """The first row of each image of a table of sentences, and which of these each report's image has."""
    import pandas as pd

    rows = frame.drop_duplicates(IMAGE)
    several = frame.drop_duplicates([IMAGE, PATIENT, SPLIT])
    refuse(several, several[IMAGE].duplicated(), IMAGE, table, "image '{}' has two patients or splits")
    refuse(rows, rows[PATIENT].str.strip() == "", PATIENT, table, "the patient is blank")
    at = pd.Index(rows[IMAGE]).get_indexer(pd.Index(names))
    if (at < 0).any():
        first = names[at < 0][0]
        what = f"image '{first}' has no row in {table.name} (so have {(at < 0).sum():,} of {len(names):,})"
        raise BadTable(what, where=str(path), fix="fetch both again")
    return rows, at


def _boxes(path: Path, told: list[dict[str, Any]], targets: Array) -> Outlines:
    row, finding, boxes, where = [], [], [], []
    column = [FINDINGS.index(name) for name in OUTLINED]
    for i, report in enumerate(told):
        for part in report["findings"]:
            kinds = {k for label in _labels(part) for k in COLUMNS_OF.get(label, ()) if k in column}
            for box in part.get("boxes") or ():
                for k in sorted(kinds):
                    row.append(i)
                    finding.append(column.index(k))
                    boxes.append(np.array(box, dtype=np.float64))
                    where.append(f"{path}, image {report[IMAGE]}")
    known = targets[:, column] == 0
    known[row, finding] = True
    return Outlines(known, np.array(row, np.int64), np.array(finding, np.int64), boxes, where)


def _paths(root: Path, names: Array) -> Array:
    """File of each image relative to the root, (N,); where there is none, where it ought to be."""
    place = {name: folder for folder, name in listed(root, reversed(PICTURES))}
    return np.array([f"{place.get(name, PICTURES[0])}/{name}".removeprefix("./") for name in names.tolist()])
