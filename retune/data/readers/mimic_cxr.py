"""MIMIC-CXR-JPG 2.0.0 or 2.1.0 (Johnson et al., 2019) as PhysioNet publishes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from retune.data import findings
from retune.data.chexpert_labels import Blank, Uncertain, read_labels, targets_of
from retune.data.dataset import Array, Dataset, split_by_patient
from retune.data.images import FileImages
from retune.data.lists import look_for, unread
from retune.data.readers._mimic import (
    DATE,
    IMAGE,
    PATIENT,
    PATIENTS,
    STUDY,
    VIEW,
    folders_of,
    image_names,
    joined,
    names_of,
    people_of,
    reports_of,
    years_of,
)
from retune.data.readers.base import HashedReader, Published, kept
from retune.data.tables import find_table, read_table, recode, table_notes, text, whole_numbers
from retune.data.views import Views, in_views, read_views
from retune.errors import BadTable
from retune.settings import LATER

if TYPE_CHECKING:
    import pandas as pd

SPLIT: Final = "split"
SPLITS: Final = {"train": "train", "validate": "valid", "test": "test"}


@dataclass(frozen=True)
class MimicCxr(HashedReader):
    """MIMIC-CXR-JPG: 377,110 radiographs of 65,379 Boston patients, 14 labels mined from reports.

    The folder holds the tables ``mimic-cxr-2.0.0-*.csv.gz`` and the pictures in ``files/``. A label belongs to
    a study, that is to all its images. Age and sex are not in these tables but in MIMIC-IV's: put its ``patients.csv``
    (and ``admissions.csv``, which tells races) beside them or in ``hosp/`` there. The radiologists' test labels that
    came with 2.1.0 are not read.

    Args:
        views: Which projections to keep; some 15,800 images do not say theirs, and only ``all`` keeps them.
        uncertain: What a label marked uncertain (-1) becomes.
        blank: What a label that the report does not mention becomes.
        labeler: Which program's labels to take: ``-chexpert`` or ``-negbio``.
        split: ``official``: by the table ``-split``; ``hash``: 20 % of patients are test patients; ``auto``:
            official where the table is there.
        valid: Share of validation patients under ``hash``; the official split has its own.
        reports: Whether to read the reports ``files/p10/p10000032/s50414267.txt`` into the column
            ``report``, ``""`` where there is none; they come with MIMIC-CXR, not with MIMIC-CXR-JPG.
        dates: Whether to read the year of each study into the column ``date``, and to keep only images of which it is
            known. It takes ``patients.csv`` of MIMIC-IV beside the tables: studies are dated years off to hide when they
            were, and ``anchor_year_group`` tells to which three years one of a patient's belongs; the middle one is
            taken, which is right to a year.
    """

    name: ClassVar[str] = "mimic-cxr"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "PhysioNet; Johnson et al., MIMIC-CXR-JPG, a large publicly available database of labeled chest "
        "radiographs, arXiv:1901.07042, 2019"
    )
    licence: ClassVar[str] = "PhysioNet Credentialed Health Data Use Agreement: no redistribution"

    labels: ClassVar[tuple[str, ...]] = findings.CHEXPERT
    mapping: ClassVar[Mapping[str, str]] = {name: name for name in findings.CHEXPERT}
    published: ClassVar[Published | None] = Published(images=377_110, patients=65_379)

    views: Views = "frontal"
    uncertain: Uncertain = "ignore"
    blank: Blank = "zeros"
    labeler: Literal["chexpert", "negbio"] = "chexpert"
    split: Literal["auto", "official", "hash"] = "auto"
    valid: float = 0.1
    reports: bool = False
    dates: bool = field(default=False, kw_only=True, metadata=LATER)

    def read(self, root: Path | None) -> Dataset:
        """Read the images' table, the studies' labels, the split, and the reports if asked for.

        Args:
            root: Folder of the tables and of ``files/``.

        Raises:
            MissingFiles: If a table is not there, or no report is where they were asked for.
            BadTable: With file, row and column, if a row cannot be right.
        """
        folder = self.require_root(root, names_of("metadata"))
        table, label_table = (find_table(folder, names_of(kind)) for kind in ("metadata", self.labeler))
        frame = read_table(table, [IMAGE, PATIENT, STUDY, VIEW, *([DATE] if self.dates else [])])
        names = image_names(frame, table)
        # A picture's folder is called by the first two digits of its patient.
        patients = whole_numbers(frame, PATIENT, table, minimum=10).astype(str)
        studies = whole_numbers(frame, STUDY, table).astype(str)
        view, strange = read_views(text(frame[VIEW]))
        published = read_table(label_table, [PATIENT, STUDY, *findings.CHEXPERT])
        labelled = joined(frame, table, STUDY, published, label_table)
        split, listed = self._split(frame, table, patients)
        chosen = "by a hash of patients, 20 % for testing"
        if listed:
            chosen = f"official, by {listed.relative_to(folder).as_posix()}"
        elif self.split == "auto":
            chosen += f"; {names_of('split')[0]} is not there"
        drops = {
            "the study has no labels": labelled < 0,
            "in no row of the official split": split == "",
            f"view is not {self.views}": ~in_views(view, self.views),
        }
        if self.dates:
            dates = years_of(frame, table)
            drops[f"the patient is not in {PATIENTS}"] = dates == ""
        keep, dropped = kept(drops)
        if not len(keep):
            raise BadTable(f"no image is left with views={self.views}", where=str(table))
        labels = read_labels(published, label_table)[labelled[keep]]
        folders = folders_of(patients[keep], studies[keep])
        columns = {"view": view[keep], "study": studies[keep]}
        if self.dates:
            columns["date"] = dates[keep]
        people, unknown, tables = people_of(folder, frame, table)
        columns |= {name: values[keep] for name, values in people.items()}
        if self.reports:
            columns["report"] = reports_of(folder, folders)
        return Dataset(
            name=self.name,
            labels=self.labels,
            image_id=names[keep],
            patient_id=patients[keep],
            split=split[keep],
            targets=targets_of(labels, self.uncertain, self.blank, label_table),
            images=FileImages(folders + "/" + names[keep].astype(object) + ".jpg", folder),
            columns=columns,
            dropped=dropped,
            source=self.source,
            notes=(
                *table_notes((frame, table), (published, label_table)),
                *strange,
                *unknown,
                *unread(
                    folder,
                    [table, label_table, *([listed] if listed else [])],
                    f"call the split table {names_of('split')[0]} to split by it",
                ),
            ),
            choices={
                "split": chosen,
                "tables": ", ".join(path.name for path in (table, label_table, *tables)),
            },
        )

    def _split(self, frame: pd.DataFrame, table: Path, patients: Array) -> tuple[Array, Path | None]:
        """Split of each image, (N,), ``""`` for those that the official one leaves out; and its table, if read."""
        path = None if self.split == "hash" else look_for(table.parent, names_of("split"), deep=True)
        if path is None:
            if self.split == "official":
                find_table(table.parent, names_of("split"), fix="put it there or choose split=hash")
            return split_by_patient(patients, valid=self.valid), None
        other = read_table(path, [IMAGE, PATIENT, SPLIT])
        split = recode(other, SPLIT, SPLITS, path)
        at = joined(frame, table, IMAGE, other, path)
        return np.where(at < 0, "", split[at]), path
