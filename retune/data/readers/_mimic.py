"""What readers of MIMIC-CXR's images share: where a study lies, its report, and who the patient was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from retune.data.dataset import Array, IntArray
from retune.data.lists import look_for
from retune.data.tables import (
    SEXES,
    find_table,
    numbers,
    read_table,
    recode,
    refuse,
    refuse_twice,
    text,
    whole_numbers,
)
from retune.errors import MissingFiles

if TYPE_CHECKING:
    import pandas as pd

VERSIONS: Final = ("2.1.0", "2.0.0")
IMAGE, PATIENT, STUDY, VIEW = ("dicom_id", "subject_id", "study_id", "ViewPosition")
DATE, ANCHOR, YEARS = ("StudyDate", "anchor_year", "anchor_year_group")
SEX, AGE, RACE = ("gender", "anchor_age", "race")
PATIENTS, STAYS = ("patients.csv", "admissions.csv")
"""MIMIC-IV's tables of patients and of their stays, in its folder ``hosp/``."""


def names_of(kind: str) -> list[str]:
    """What a table of MIMIC-CXR-JPG is called, in each of its versions."""
    return [f"mimic-cxr-{version}-{kind}.csv" for version in VERSIONS]


def image_names(frame: pd.DataFrame, table: Path) -> Array:
    """Name of each image, (N,), made of hexadecimal digits and dashes."""
    names = frame[IMAGE]
    # They become file names, so nothing else may stand in them.
    plain = names.str.fullmatch(r"[0-9a-f]+(?:-[0-9a-f]+)*")
    refuse(frame, ~plain, IMAGE, table, "'{}' is not made of hexadecimal digits and dashes")
    refuse_twice(frame, names, IMAGE, table)
    return text(names)


def joined(frame: pd.DataFrame, table: Path, key: str, other: pd.DataFrame, path: Path) -> IntArray:
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


def folders_of(patients: Array, studies: Array) -> Array:
    """Folder of each image's study relative to the root, shape (N,)."""
    group = patients.astype("U2").astype(object)
    # Objects, as fixed-width text of this length takes hundreds of megabytes.
    return np.asarray("files/p" + group + "/p" + patients.astype(object) + "/s" + studies.astype(object))


def reports_of(root: Path, folders: Array) -> Array:
    """Text of the report of each image's study, shape (N,); a study's file is read once.

    Raises:
        MissingFiles: If there is none at all.
    """
    import pandas as pd

    which, unique = pd.factorize(folders + ".txt")
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


def years_of(frame: pd.DataFrame, table: Path) -> Array:
    """Year of each image's study, text (N,), to a year; ``""`` where MIMIC-IV does not have the patient.

    Args:
        frame: With columns of patients and of dates of studies.
        table: Its file; MIMIC-IV's table of patients lies beside it, or in a folder within.
    """
    path = _patients(table.parent) or find_table(
        table.parent, [PATIENTS], fix="it comes with MIMIC-IV, in hosp/; or leave out dates=true"
    )
    refuse(frame, ~frame[DATE].str.fullmatch(r"[0-9]{8}"), DATE, table, "'{}' is not a date as 21800506")
    other = read_table(path, [PATIENT, ANCHOR, YEARS])
    at = _rows_of(frame, table, other, path)
    group = other[YEARS].str.extract(r"^\s*([0-9]{4})\s*-\s*([0-9]{4})\s*$")
    refuse(other, group[0].isna(), YEARS, path, "'{}' is not like 2011 - 2013")
    middle = (group[0].astype(int) + group[1].astype(int)).to_numpy() // 2
    shift = middle - whole_numbers(other, ANCHOR, path)
    years = frame[DATE].str[:4].astype(int).to_numpy() + shift[at]
    return np.where(at < 0, "", years.astype("U4"))


def people_of(
    folder: Path, frame: pd.DataFrame, table: Path
) -> tuple[dict[str, Array], tuple[str, ...], list[Path]]:
    """Sex, age and race of each image's patient, as far as MIMIC-IV's tables lie in a folder.

    A patient's age is ``anchor_age`` at the studies of ``anchor_year``, and a year more with each year after; both
    years are shifted alike. Who is older than 89 has 91 there. A race is the one that the first of a patient's stays
    in the table tells.

    Args:
        folder: Where ``patients.csv`` and ``admissions.csv`` may lie, there or in a folder within.
        frame: With a column of patients and one of dates of studies, if it has any.
        table: Its file.

    Returns:
        The columns ``sex``, ``age`` and ``race``, each (N,), those that are known at all; a note of what is not; and the
        files read.
    """
    path, stays = _patients(folder), look_for(folder, [STAYS], deep=True)
    if path is None:
        return {}, (f"Sex and age are not known: MIMIC-IV's {PATIENTS} is not there",), []
    other = read_table(path, [PATIENT, SEX, AGE, ANCHOR])
    at = _rows_of(frame, table, other, path)
    found = {"sex": np.where(at < 0, "", recode(other, SEX, SEXES, path)[at])}
    notes, read = [], [path]
    if DATE in frame:
        # A copy's dates may be unreadable, which is no reason not to read its pictures.
        year = frame[DATE].str.extract(r"^([0-9]{4})[0-9]{4}$")[0].astype(float).to_numpy()
        born = (whole_numbers(other, ANCHOR, path) - numbers(other, AGE, path))[at]
        found["age"] = np.where(at < 0, np.nan, year - born).astype(np.float32)
    else:
        notes.append(
            f"Ages are not known: {names_of('metadata')[0]} is not there, which has the dates of studies"
        )
    if stays is not None:
        rows = read_table(stays, [PATIENT, RACE])
        told = rows[rows[RACE].str.strip() != ""].drop_duplicates(PATIENT)
        which = _rows_of(frame, table, told, stays)
        found["race"] = (
            np.where(which < 0, "", text(told[RACE])[which]) if len(told) else np.full(len(at), "")
        )
        read.append(stays)
    if (at < 0).any():
        strangers = len(np.unique(frame[PATIENT].to_numpy(object)[at < 0].astype(str)))
        notes.append(f"Sex and age of {strangers:,} patients are not known, who are not in {path.name}")
    return found, tuple(notes), read


def _patients(folder: Path) -> Path | None:
    return look_for(folder, [PATIENTS], deep=True)


def _rows_of(frame: pd.DataFrame, table: Path, other: pd.DataFrame, path: Path) -> IntArray:
    """Row of another table that has each image's patient, (N,), -1 where none has."""
    import pandas as pd

    whose = pd.Index(whole_numbers(other, PATIENT, path))
    refuse(other, whose.duplicated(), PATIENT, path, "patient '{}' stands in the table twice")
    return whose.get_indexer(pd.Index(whole_numbers(frame, PATIENT, table))).astype(np.int64)
