"""BRAX (Reis et al., Scientific Data 2022): a hospital in São Paulo, labelled like CheXpert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from retune.data import findings
from retune.data.chexpert_labels import Blank, Uncertain, read_labels, targets_of
from retune.data.dataset import Array, Dataset, split_by_patient
from retune.data.readers.base import HashedReader, Published, Rows, assembled
from retune.data.tables import (
    find_table,
    read_table,
    recode,
    refuse,
    refuse_blank,
    refuse_escapes,
    refuse_twice,
    table_notes,
    text,
)
from retune.data.views import Views, in_views, read_views

TABLES: Final = ("master_spreadsheet_update.csv", "master_spreadsheet.csv")
PNG, DICOM, PATIENT, SEX, AGE, VIEW = (
    *("PngPath", "DicomPath", "PatientID", "PatientSex", "PatientAge", "ViewPosition"),
)
SEXES: Final = {"M": "M", "F": "F", "O": "", "": ""}


@dataclass(frozen=True)
class Brax(HashedReader):
    """BRAX: 40,967 radiographs of a hospital in Brazil, 14 labels mined from Portuguese reports.

    The folder holds ``master_spreadsheet_update.csv`` and the pictures in ``images/``, or the DICOM files in
    ``Anonymized_DICOMs/``. Ages are told in groups of five years, of which the lower end is taken; dates are made up and
    not read. Reports are not published, and neither is a split.

    Names of columns and folders are those that the publisher's page and public code tell; the table itself needs
    credentials and was not seen.

    Args:
        views: Which projections to keep.
        uncertain: What a label marked uncertain (-1) becomes.
        blank: What a label that the report does not mention becomes.
        valid: Share of validation patients; 20 % are test patients, chosen by a hash.
    """

    name: ClassVar[str] = "brax"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "PhysioNet, version 1.1.0; Reis et al., BRAX, Brazilian labeled chest x-ray dataset, Scientific Data 9, 2022"
    )
    licence: ClassVar[str] = "PhysioNet Credentialed Health Data Use Agreement: no redistribution"
    labels: ClassVar[tuple[str, ...]] = findings.CHEXPERT
    mapping: ClassVar[Mapping[str, str]] = {name: name for name in findings.CHEXPERT}
    published: ClassVar[Published | None] = Published(images=40_967)

    views: Views = "frontal"
    uncertain: Uncertain = "ignore"
    blank: Blank = "zeros"
    valid: float = 0.1

    def read(self, root: Path | None) -> Dataset:
        """Read the table and where the pictures lie.

        Args:
            root: Folder of the published files.

        Raises:
            MissingFiles: If the table is not there.
            BadTable: With file, row and column, if a row cannot be right.
        """
        folder = self.require_root(root, TABLES)
        table = find_table(folder, TABLES)
        file = PNG if (folder / "images").is_dir() or not (folder / "Anonymized_DICOMs").is_dir() else DICOM
        frame = read_table(table, (file, PATIENT, SEX, AGE, VIEW, *findings.CHEXPERT))
        refuse_escapes(frame, file, table)
        refuse_twice(frame, frame[file], file, table)
        refuse_blank(frame, PATIENT, table, "the patient is blank")
        files, patients = text(frame[file]), text(frame[PATIENT].str.strip())
        view, strange = read_views(text(frame[VIEW]))
        years = frame[AGE].str.extract(r"^\s*([0-9]{1,3})(?:\.0)?\s*(?:-.*|or more)?\s*$")[0]
        refuse(
            frame, years.isna() & (frame[AGE].str.strip() != ""), AGE, table, "'{}' is not an age in years"
        )
        columns: dict[str, Array] = {
            "view": view,
            "age": years.astype(float).to_numpy(np.float32),
            "sex": recode(frame, SEX, SEXES, table),
        }
        # A picture keeps its name whether it is read as PNG or as DICOM.
        names = np.array([name.partition("/")[2].rpartition(".")[0] or name for name in files.tolist()])
        return assembled(
            self,
            Rows(
                names,
                patients,
                split_by_patient(patients, valid=self.valid),
                targets_of(read_labels(frame, table), self.uncertain, self.blank, table),
                files,
                columns,
            ),
            folder,
            table,
            drops={f"view is not {self.views}": ~in_views(view, self.views)},
            notes=(*table_notes((frame, table)), *strange),
            choices={
                "split": "by a hash of patients, 20 % for testing",
                "tables": table.name,
                "pictures": file,
            },
        )
