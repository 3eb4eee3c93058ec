"""CheXpert Plus (Chambon et al., 2024): CheXpert's images with their reports and who the patients were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np

from retune.data import findings
from retune.data.chexpert_labels import Blank, Uncertain, targets_of
from retune.data.dataset import Array, Dataset, FloatArray, split_by_patient
from retune.data.images import FileImages
from retune.data.lists import look_for
from retune.data.readers.base import HashedReader, Published, Rows, assembled
from retune.data.readers.chexpert import SEXES, ages_of, views_of
from retune.data.tables import find_table, read_table, recode, refuse, refuse_twice, table_notes, text
from retune.data.views import Views, in_views
from retune.errors import BadTable, MissingFiles
from retune.files import parse_json, read_small

TABLE: Final = "df_chexpert_plus_240401.csv"
PATH, PATIENT, SIDE, PROJECTION, AGE, SEX, RACE, SPLIT = (
    *("path_to_image", "deid_patient_id", "frontal_lateral", "ap_pa", "age", "sex", "race", "split"),
)
SECTIONS: Final = {"findings": "section_findings", "impression": "section_impression", "report": "report"}
PICTURES: Final = ("PNG", "PNG/PNG", "PNGs", "CheXpert-v1.0", "CheXpert-v1.0-small", ".")
_IMAGE: Final = r"^((?:train|valid)/patient\d+/study\d+/view\d+_(?:frontal|lateral))\.(?:jpg|png)$"
MOST: Final = 2**28
"""Bytes that a file of labels may have; the published ones have 84 million."""


@dataclass(frozen=True)
class CheXpertPlus(HashedReader):
    """CheXpert Plus: CheXpert's 223,462 radiographs of 64,725 patients with reports, age, sex and race.

    The folder holds ``df_chexpert_plus_240401.csv``, the labels ``chexbert_labels/impression_fixed.json`` (or beside the
    table), and the pictures as published, ``PNG/train/...``, or those of CheXpert, ``CheXpert-v1.0-small/train/...``.
    The column ``report`` is a report's findings and impression; its other sections say what was asked.

    The 234 images of 200 patients that CheXpert calls its validation set are the test set, with the labels of a program
    here; CheXpert's own labels of them are radiologists'.

    Columns and files are those that public code reads; the table itself needs an agreement and was not seen.

    Args:
        views: Which projections to keep.
        uncertain: What a label marked uncertain (-1) becomes.
        blank: What a label that the report does not mention becomes.
        labels_from: From which section of a report CheXbert took the labels; an image whose section is blank is dropped,
            as CheXbert calls it normal. ``report`` includes what was known before the image was taken.
        split: ``official``: the table's, whose ``valid`` is the test set; ``hash``: 20 % of patients are test patients.
        valid: Share of validation patients.
    """

    name: ClassVar[str] = "chexpert+"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Stanford AIMI; Chambon et al., CheXpert Plus: Augmenting a Large Chest X-ray Dataset with Text Radiology "
        "Reports, Patient Demographics and Additional Image Formats, arXiv:2405.19538, 2024; images of CheXpert, Irvin "
        "et al., AAAI 2019"
    )
    licence: ClassVar[str] = (
        "Stanford University Dataset Research Use Agreement: no commerce, no redistribution"
    )
    labels: ClassVar[tuple[str, ...]] = findings.CHEXPERT
    mapping: ClassVar[Mapping[str, str]] = {name: name for name in findings.CHEXPERT}
    published: ClassVar[Published | None] = Published(images=223_462, patients=64_725)
    part_of: ClassVar[tuple[str, ...]] = ("chexpert",)

    views: Views = "frontal"
    uncertain: Uncertain = "ignore"
    blank: Blank = "zeros"
    labels_from: Literal["impression", "findings", "report"] = "impression"
    split: Literal["official", "hash"] = "official"
    valid: float = 0.1

    def read(self, root: Path | None) -> Dataset:
        """Read the table, the labels and where the pictures lie.

        Args:
            root: Folder of the published files.

        Raises:
            MissingFiles: If the table or the labels are not there.
            BadTable: With file, row and column, if a row cannot be right.
        """
        folder = self.require_root(root, (TABLE,))
        table = find_table(folder, (TABLE,))
        frame = read_table(
            table, (PATH, PATIENT, SIDE, PROJECTION, AGE, SEX, RACE, SPLIT, *SECTIONS.values())
        )
        pieces = frame[PATH].str.extract(
            r"^((train|valid)/patient\d+/study\d+/view\d+_(?:frontal|lateral))\.(?:jpg|png)$"
        )
        refuse(
            frame,
            pieces[0].isna(),
            PATH,
            table,
            "'{}' is not like train/patient00001/study1/view1_frontal.jpg",
        )
        refuse_twice(frame, pieces[0], PATH, table)
        names, patients = text(pieces[0]), text(frame[PATIENT].str.strip())
        refuse(frame, patients == "", PATIENT, table, "the patient is blank")
        part = recode(frame, SPLIT, {"train": "train", "valid": "test"}, table)
        chosen = f"official, by column '{SPLIT}', whose valid is the test set"
        split = np.where(part == "test", "test", split_by_patient(patients, valid=self.valid, test=0.0))
        if self.split == "hash":
            split, chosen = (
                split_by_patient(patients, valid=self.valid),
                "by a hash of patients, 20 % for testing",
            )
        marks, file = self._labels(folder, names)
        view = views_of(frame, table, SIDE, PROJECTION)
        said = [frame[SECTIONS[name]].str.strip().to_numpy(object) for name in ("findings", "impression")]
        columns: dict[str, Array] = {
            "view": view,
            "age": ages_of(frame, table, AGE),
            "sex": recode(frame, SEX, SEXES, table),
            "race": text(frame[RACE].str.strip()),
            "report": np.array(
                ["\n".join(filter(None, both)) for both in zip(*said, strict=True)], dtype=object
            ),
        }
        files, pictures = _pictures(folder, names)
        unsaid = (frame[SECTIONS[self.labels_from]].str.strip() == "").to_numpy(bool)
        unknown = np.asarray(np.isnan(marks).all(axis=1))
        return assembled(
            self,
            Rows(names, patients, split, targets_of(marks, self.uncertain, self.blank, file), files, columns),
            pictures,
            table,
            drops={
                f"the report has no {self.labels_from}": unsaid,
                "no label is told": unknown,
                f"view is not {self.views}": ~in_views(view, self.views),
            },
            notes=table_notes((frame, table)),
            choices={"split": chosen, "tables": f"{table.name}, {file.relative_to(folder).as_posix()}"},
        )

    def _labels(self, folder: Path, names: Array) -> tuple[FloatArray, Path]:
        """Labels as published, float32 (N, 14), NaN where nothing is said; and their file."""
        wanted = f"{self.labels_from}_fixed.json"
        path = look_for(folder, (wanted,), deep=True)
        if path is None:
            raise MissingFiles(
                f"{wanted} not found", where=str(folder), fix="unpack chexbert_labels.zip there"
            )
        place = {name: row for row, name in enumerate(names.tolist())}
        found = np.full((len(names), len(findings.CHEXPERT)), np.nan, dtype=np.float32)
        for line, words in enumerate(read_small(path, MOST).splitlines(), start=1):
            if not words.strip():
                continue
            try:
                entry = parse_json(words)
                row = place.get(str(entry[PATH]).rpartition(".")[0])
                values = [np.nan if entry[name] is None else float(entry[name]) for name in findings.CHEXPERT]
            except (ValueError, KeyError, TypeError) as error:
                what = f"is no image with its 14 labels ({error})"
                raise BadTable(what, where=f"{path}, line {line}", fix="fetch it again") from error
            if not all(value in (1, 0, -1) or value != value for value in values):
                raise BadTable("a label is neither 1, 0, -1 nor null", where=f"{path}, line {line}")
            if row is not None:
                found[row] = values
        return found, path


def _pictures(folder: Path, names: Array) -> tuple[Array, Path]:
    """File of each image, (N,), and the folder that they are relative to: the first in which one of some lies."""
    some = np.arange(min(len(names), 100))
    for place in PICTURES:
        for ending in (".png", ".jpg"):
            files = np.char.add(names, ending)
            if FileImages(files, folder / place).exists(some).any():
                return files, folder / place
    return np.char.add(names, ".png"), folder / PICTURES[0]
