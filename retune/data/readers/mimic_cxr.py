"""MIMIC-CXR-JPG 2.0.0 or 2.1.0 (Johnson et al., 2019) as PhysioNet publishes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from retune.data import findings
from retune.data.chexpert_labels import Blank, Uncertain, read_labels, targets_of
from retune.data.dataset import Array, Dataset, IntArray, split_by_patient
from retune.data.images import FileImages
from retune.data.lists import look_for, unread
from retune.data.readers.base import HashedReader, Published, kept
from retune.data.tables import (
    find_table,
    read_table,
    recode,
    refuse,
    refuse_twice,
    table_notes,
    text,
    whole_numbers,
)
from retune.data.views import Views, in_views, read_views
from retune.errors import BadTable, MissingFiles
from retune.settings import LATER

if TYPE_CHECKING:
    import pandas as pd

VERSIONS: Final = ("2.1.0", "2.0.0")
IMAGE, PATIENT, STUDY, VIEW, SPLIT = ("dicom_id", "subject_id", "study_id", "ViewPosition", "split")
DATE, ANCHOR, YEARS = ("StudyDate", "anchor_year", "anchor_year_group")
MIMIC_IV: Final = "patients.csv"
SPLITS: Final = {"train": "train", "validate": "valid", "test": "test"}


@dataclass(frozen=True)
class MimicCxr(HashedReader):
    """MIMIC-CXR-JPG: 377,110 radiographs of 65,379 Boston patients, 14 labels mined from reports.

    The folder holds the tables ``mimic-cxr-2.0.0-*.csv.gz`` and the pictures in ``files/``. A label belongs to
    a study, that is to all its images. Age and sex are not in the tables. The radiologists' test labels that came
    with 2.1.0 are not read.

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
        folder = self.require_root(root, _names("metadata"))
        table, label_table = (find_table(folder, _names(kind)) for kind in ("metadata", self.labeler))
        frame = read_table(table, [IMAGE, PATIENT, STUDY, VIEW, *([DATE] if self.dates else [])])
        names = _image_names(frame, table)
        # A picture's folder is called by the first two digits of its patient.
        patients = whole_numbers(frame, PATIENT, table, minimum=10).astype(str)
        studies = whole_numbers(frame, STUDY, table).astype(str)
        view, strange = read_views(text(frame[VIEW]))
        published = read_table(label_table, [PATIENT, STUDY, *findings.CHEXPERT])
        labelled = _join(frame, table, STUDY, published, label_table)
        split, listed = self._split(frame, table, patients)
        chosen = "by a hash of patients, 20 % for testing"
        if listed:
            chosen = f"official, by {listed.relative_to(folder).as_posix()}"
        elif self.split == "auto":
            chosen += f"; {_names('split')[0]} is not there"
        drops = {
            "the study has no labels": labelled < 0,
            "in no row of the official split": split == "",
            f"view is not {self.views}": ~in_views(view, self.views),
        }
        if self.dates:
            dates = _dates(frame, table)
            drops[f"the patient is not in {MIMIC_IV}"] = dates == ""
        keep, dropped = kept(drops)
        if not len(keep):
            raise BadTable(f"no image is left with views={self.views}", where=str(table))
        labels = read_labels(published, label_table)[labelled[keep]]
        folders = _folders(patients[keep], studies[keep])
        columns = {"view": view[keep], "study": studies[keep]}
        if self.dates:
            columns["date"] = dates[keep]
        if self.reports:
            columns["report"] = _reports(folder, folders + ".txt")
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
                *unread(
                    folder,
                    [table, label_table, *([listed] if listed else [])],
                    f"call the split table {_names('split')[0]} to split by it",
                ),
            ),
            choices={"split": chosen, "tables": f"{table.name}, {label_table.name}"},
        )

    def _split(self, frame: pd.DataFrame, table: Path, patients: Array) -> tuple[Array, Path | None]:
        """Split of each image, (N,), ``""`` for those that the official one leaves out; and its table, if read."""
        path = None if self.split == "hash" else look_for(table.parent, _names("split"), deep=True)
        if path is None:
            if self.split == "official":
                find_table(table.parent, _names("split"), fix="put it there or choose split=hash")
            return split_by_patient(patients, valid=self.valid), None
        other = read_table(path, [IMAGE, PATIENT, SPLIT])
        split = recode(other, SPLIT, SPLITS, path)
        at = _join(frame, table, IMAGE, other, path)
        return np.where(at < 0, "", split[at]), path


def _names(kind: str) -> list[str]:
    return [f"mimic-cxr-{version}-{kind}.csv" for version in VERSIONS]


def _image_names(frame: pd.DataFrame, table: Path) -> Array:
    names = frame[IMAGE]
    # They become file names, so nothing else may stand in them.
    plain = names.str.fullmatch(r"[0-9a-f]+(?:-[0-9a-f]+)*")
    refuse(frame, ~plain, IMAGE, table, "'{}' is not made of hexadecimal digits and dashes")
    refuse_twice(frame, names, IMAGE, table)
    return text(names)


def _join(frame: pd.DataFrame, table: Path, key: str, other: pd.DataFrame, path: Path) -> IntArray:
    """Row of another table that has each image's key, or -1; shape (N,). Both must name the same patient."""
    import pandas as pd

    # A table saved anew may hold 50414267.0 for a study.
    ours, theirs = (
        pd.Index(rows[key] if key == IMAGE else whole_numbers(rows, key, file))
        for rows, file in ((frame, table), (other, path))
    )
    refuse(other, theirs.duplicated(), key, path, f"{key} '{{}}' stands in the table twice")
    at: IntArray = theirs.get_indexer(ours).astype(np.int64)
    patients = whole_numbers(frame, PATIENT, table), whole_numbers(other, PATIENT, path)
    strange = (at >= 0) & (patients[0] != patients[1][at])
    refuse(frame, strange, PATIENT, table, f"'{{}}' is not the patient that {path.name} gives this {key}")
    return at


def _dates(frame: pd.DataFrame, table: Path) -> Array:
    """Year of each image's study, text (N,), to a year; ``""`` where MIMIC-IV does not have the patient."""
    import pandas as pd

    path = find_table(
        table.parent, [MIMIC_IV], fix="it comes with MIMIC-IV, in hosp/; or leave out dates=true"
    )
    refuse(frame, ~frame[DATE].str.fullmatch(r"[0-9]{8}"), DATE, table, "'{}' is not a date as 21800506")
    other = read_table(path, [PATIENT, ANCHOR, YEARS])
    whose = pd.Index(whole_numbers(other, PATIENT, path))
    refuse(other, whose.duplicated(), PATIENT, path, "patient '{}' stands in the table twice")
    group = other[YEARS].str.extract(r"^\s*([0-9]{4})\s*-\s*([0-9]{4})\s*$")
    refuse(other, group[0].isna(), YEARS, path, "'{}' is not like 2011 - 2013")
    middle = (group[0].astype(int) + group[1].astype(int)).to_numpy() // 2
    shift = middle - whole_numbers(other, ANCHOR, path)
    at = whose.get_indexer(pd.Index(whole_numbers(frame, PATIENT, table)))
    years = frame[DATE].str[:4].astype(int).to_numpy() + shift[at]
    return np.where(at < 0, "", years.astype("U4"))


def _folders(patients: Array, studies: Array) -> Array:
    """Folder of each image's study relative to the root, shape (N,)."""
    group = patients.astype("U2").astype(object)
    # Objects, as fixed-width text of this length takes hundreds of megabytes.
    return np.asarray("files/p" + group + "/p" + patients.astype(object) + "/s" + studies.astype(object))


def _reports(root: Path, files: Array) -> Array:
    """Text of each image's report, shape (N,); a study's file is read once."""
    import pandas as pd

    which, unique = pd.factorize(files)
    texts = [_report(root / file) for file in unique.tolist()]
    if not any(texts):
        what = f"no report found (looked for {unique[0]} and others)"
        raise MissingFiles(
            what, where=str(root), fix="unpack MIMIC-CXR's reports there or leave out reports=true"
        )
    return np.array(texts, dtype=object)[which]


def _report(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise MissingFiles(f"cannot be read ({error.strerror})", where=str(path)) from error
