"""Your own radiographs: any CSV table with an image, a patient and a column per finding."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from retune.data.chexpert_labels import UNCERTAIN, Blank, Uncertain, decide
from retune.data.dataset import Array, Dataset, FloatArray, split_by_patient
from retune.data.dates import read_dates
from retune.data.findings import FINDINGS, canonical
from retune.data.images import FileImages
from retune.data.lists import unread
from retune.data.readers.base import Reader, kept
from retune.data.tables import (
    by_value,
    numbers,
    read_table,
    recode,
    refuse,
    refuse_escapes,
    refuse_twice,
    table_notes,
    text,
)
from retune.data.views import Views, in_views, read_views
from retune.errors import BadSetting, BadTable, MissingFiles
from retune.settings import LATER, Share

if TYPE_CHECKING:
    import pandas as pd

ROLES: Final = ("image", "patient", "split", "site", "view", "report", "age", "sex", "date")
"""Settings that name a column which is no finding."""
VALUES: Final = {
    "1": 1.0,
    "1.0": 1.0,
    "true": 1.0,
    "0": 0.0,
    "0.0": 0.0,
    "false": 0.0,
    "-1": UNCERTAIN,
    "-1.0": UNCERTAIN,
    "1,0": 1.0,
    "0,0": 0.0,
    "-1,0": UNCERTAIN,
    "": float("nan"),
}
"""What may stand in a column of a finding, in any case."""
SPLIT_NAMES: Final = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validate": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
SEX_NAMES: Final = {"": "", "m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O"}


@dataclass(frozen=True)
class Csv(Reader):
    """Radiographs of your own: a table with one row per image, and the pictures in files.

    The table is a ``.csv`` or ``.csv.gz`` file in UTF-8, separated by commas, semicolons or tabs. It has a
    column of picture files (in ``--root``; relative to it, or to the table's folder), a column of patients, and
    a column for each finding with 1 or true (present), 0 or false (absent), -1 (uncertain) or nothing (not
    said). Which labels the data set has depends on the table. Findings that retune knows come under their canonical
    names and in its order; other columns, where ``findings`` names them, under their own name, and then
    a prompt bank must say what they look like. Columns may be called anything, in any language.

    Without a column of splits, patients are put into them by a hash of their identifier: a patient stays
    where it is when rows are added. A setting that names a column may be blank for "do not use it".

    Args:
        table: File name of the table in ``--root``; blank for the only .csv or .csv.gz file there.
        image: Column of picture files.
        patient: Column of patient identifiers. Those that differ in their writing only are one patient: 7, 007
            and 7.0; P7 and p7; with and without blanks around or characters that cannot be seen.
        split: Column of splits (train, valid or val, test), used if it is there.
        site: Column of sites (hospitals, scanners), used if it is there.
        view: Column of projections (PA, AP supine, frontal, LL ...; one that is not understood counts as
            other and is named), used if it is there.
        report: Column of reports, used if it is there.
        age: Column of ages in years, used if it is there.
        sex: Column of sexes (M, F, O or blank), used if it is there.
        findings: Columns of findings, as ["Effusion", "Fracture"]; none for every column that is called
            like a known finding.
        uncertain: What -1 becomes: unknown, absent or present.
        blank: What a blank becomes: unknown, or absent. Choose zeros where people wrote down only what they
            found.
        views: Which projections to keep; without a column of them, all images.
        valid: Share of validation patients, where there is no column of splits.
        test: Share of test patients, where there is no column of splits.
        date: Column of dates (2014, 2014-09 or 2014-09-15; any that is not understood counts as unknown), used if it is
            there.
    """

    name: ClassVar[str] = "csv"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = "your table"
    licence: ClassVar[str] = "yours"
    labels: ClassVar[tuple[str, ...]] = ()

    table: str = ""
    image: str = "image"
    patient: str = "patient"
    split: str = "split"
    site: str = "site"
    view: str = "view"
    report: str = "report"
    age: str = "age"
    sex: str = "sex"
    findings: tuple[str, ...] = ()
    uncertain: Uncertain = "ignore"
    blank: Blank = "ignore"
    views: Views = "frontal"
    valid: Share = 0.1
    test: Share = 0.2
    date: str = field(default="date", kw_only=True, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        where = f"data set {self.name}"
        if Path(self.table).is_absolute() or ".." in Path(self.table).parts:
            raise BadSetting(f"table is '{self.table}'", where=where, fix="name a file within --root")
        if not (min(self.valid, self.test) >= 0 and self.valid + self.test < 1):
            what = f"valid is {self.valid} and test {self.test}"
            raise BadSetting(what, where=where, fix="choose shares that leave some patients for training")
        for role in ("image", "patient"):
            if not getattr(self, role):
                raise BadSetting(f"{role} is blank", where=where, fix="name the table's column")
        named = [column for column in (getattr(self, role) for role in ROLES) if column]
        twice = next((column for column in named if named.count(column) > 1), None)
        if twice:
            raise BadSetting(f"column '{twice}' is named for two things", where=where)

    def read(self, root: Path | None) -> Dataset:
        """Read the table; no picture is opened.

        Args:
            root: Folder of the table and the pictures.

        Raises:
            MissingFiles: If the table is not there.
            BadTable: With file and row, if a row cannot be right; or if no column is a finding.
            BadSetting: If a column that a setting names is not there.
        """
        folder = self.require_root(root)
        table = self._table(folder)
        frame = read_table(table, ())
        roles = self._roles(frame, table)
        names = _image_names(frame, self.image, table, folder)
        patients = _text(frame, self.patient)
        blank = by_value(frame[self.patient], lambda values: ~values.str.contains(r"[\w!-~]"))
        refuse(frame, blank, self.patient, table, "the patient is blank")
        labels, targets = self._targets(frame, roles, table)
        columns = self._columns(frame, roles, table)
        strange: tuple[str, ...] = ()
        undated: tuple[str, ...] = ()
        if "view" in columns:
            columns["view"], strange = read_views(columns["view"])
        if "date" in roles:
            columns["date"], undated = read_dates(frame[self.date])
        if "split" in roles:
            words, what = _folded(frame, self.split), "'{}' is none of train, valid and test"
            split = recode(frame, self.split, SPLIT_NAMES, table, what, words=words)
        else:
            split = split_by_patient(patients, valid=self.valid, test=self.test)
        seen = in_views(columns["view"], self.views) if "view" in columns else np.ones(len(names), dtype=bool)
        keep, dropped = kept({f"view is not {self.views}": ~seen})
        if not len(keep):
            what = f"no image is left with views={self.views}"
            what += f" ({strange[0]})" if strange else ""
            raise BadTable(what, where=f"{table}, column '{self.view}'", fix="choose --set data.views=all")
        notes = (
            *table_notes((frame, table)),
            *strange,
            *undated,
            *self._notes(frame, roles, table),
            *unread(folder, [table], f"a split is read from a column of {table.name}: data.split=COLUMN"),
        )
        choices = self._choices(frame, roles, table)
        pictures = _image_folder(folder, table, names)
        # The table takes more memory than all that is made of it, and so would a second copy of this.
        del frame
        names = names[keep]
        return Dataset(
            name=self.name,
            labels=labels,
            image_id=names,
            patient_id=patients[keep],
            split=split[keep],
            targets=targets[keep],
            images=FileImages(names, pictures),
            columns={name: values[keep] for name, values in columns.items()},
            dropped=dropped,
            source=self.source,
            notes=notes,
            choices=choices,
        )

    def _choices(self, frame: pd.DataFrame, roles: dict[str, str], table: Path) -> dict[str, str]:
        """Where the split is from, and which table was taken where none is named."""
        split = f"by column '{self.split}'"
        if "split" not in roles:
            split = f"by a hash of patients, {self.test:.0%} for testing"
            split += f"; there is no column '{self.split}'" if self.split else ""
            for name in _names(frame):
                words = set(_folded(frame, name)) - {""}
                if name not in roles.values() and len(words) > 1 and words <= SPLIT_NAMES.keys():
                    split += f" (column '{name}' looks like one: --set data.split='{name}')"
        return {"split": split} if self.table else {"split": split, "table": table.name}

    def _notes(self, frame: pd.DataFrame, roles: dict[str, str], table: Path) -> tuple[str, ...]:
        """Which columns nobody uses: one of them may be a finding that is spelt otherwise."""
        used = {*roles.values(), *self._findings(frame, roles, table).values()}
        unused = [name for name in _names(frame) if name not in used]
        return (f"Columns of {table.name} not used: {', '.join(unused)}",) if unused else ()

    def _table(self, folder: Path) -> Path:
        if self.table:
            if not (folder / self.table).is_file():
                what = f"there is no {self.table} here"
                raise MissingFiles(what, where=str(folder), fix="check data.table and --root")
            return folder / self.table
        found = sorted(
            path.name
            for path in folder.iterdir()
            if path.name.lower().endswith((".csv", ".csv.gz")) and path.name[0] != "." and path.is_file()
        )
        if not found:
            fix = "put it there, check --root, or say --set data.table=FILE"
            raise MissingFiles("no .csv or .csv.gz table here", where=str(folder), fix=fix)
        if len(found) > 1:
            listed = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
            fix = f"choose one with --set data.table={found[0]}"
            raise BadSetting(f"{len(found)} tables here ({listed})", where=str(folder), fix=fix)
        return folder / found[0]

    def _roles(self, frame: pd.DataFrame, table: Path) -> dict[str, str]:
        """The column of each role that the table has."""
        usual = {field.name: field.default for field in fields(self)}
        roles = {role: getattr(self, role) for role in ROLES if getattr(self, role)}
        for role, column in roles.items():
            if column in frame:
                continue
            if role in ("image", "patient"):
                fix = f"say which column it is: --set data.{role}=COLUMN"
                raise BadTable(_no_column(column, frame), where=str(table), fix=fix)
            if column != usual[role]:
                raise BadSetting(_no_column(column, frame), where=str(table), fix=f"check data.{role}")
        roles = {role: column for role, column in roles.items() if column in frame}
        if "view" not in roles and self.views not in ("frontal", "all"):
            what = f"views is '{self.views}', but there is no column '{self.view}'"
            raise BadSetting(what, where=str(table), fix="say which column it is: --set data.view=COLUMN")
        return roles

    def _targets(
        self, frame: pd.DataFrame, roles: dict[str, str], table: Path
    ) -> tuple[tuple[str, ...], FloatArray]:
        """Label names, and the label matrix (N, C)."""
        found = self._findings(frame, roles, table)
        raw = np.stack([_values(frame, column, table) for column in found.values()], axis=1)
        targets = decide(raw, self.uncertain, self.blank)
        listed = ", ".join(f"'{column}'" for column in found.values())
        if not (targets == 1).any():
            raise BadTable(f"no finding is present in any image (looked at {listed})", where=str(table))
        if not (targets == 0).any():
            fix = "if blanks mean absent, choose --set data.blank=zeros" if np.isnan(raw).any() else None
            raise BadTable(
                f"no finding is absent in any image (looked at {listed})", where=str(table), fix=fix
            )
        return tuple(found), targets

    def _findings(self, frame: pd.DataFrame, roles: dict[str, str], table: Path) -> dict[str, str]:
        """The column of each label, by its canonical name where it has one."""
        for column in self.findings:
            if column not in frame or column in roles.values():
                what = _no_column(column, frame) if column not in frame else f"'{column}' is no finding"
                raise BadSetting(what, where=str(table), fix="check data.findings")
        known = [name for name in _names(frame) if name not in roles.values() and canonical(name)]
        found: dict[str, str] = {}
        for column in self.findings or known:
            label = canonical(column) or column.strip()
            if label in found:
                what = f"columns '{found[label]}' and '{column}' both are {label}"
                raise BadTable(what, where=str(table), fix="name the columns to use with data.findings")
            found[label] = column
        if not found:
            what = f"no column is called like a known finding (there are {_listed(frame)})"
            fix = """name the findings: --set 'data.findings=["COLUMN", "COLUMN"]'"""
            raise BadTable(what, where=str(table), fix=fix)
        # The order of the columns is no part of the data, unless the user gave it.
        return found if self.findings else {name: found[name] for name in FINDINGS if name in found}

    def _columns(self, frame: pd.DataFrame, roles: dict[str, str], table: Path) -> dict[str, Array]:
        columns: dict[str, Array] = {}
        if "site" in roles:
            columns["site"] = _text(frame, self.site)
        if "report" in roles:
            columns["report"] = frame[self.report].to_numpy(object)
        if "view" in roles:
            columns["view"] = text(frame[self.view])
        if "age" in roles:
            columns["age"] = numbers(frame, self.age, table)
            refuse(frame, columns["age"] < 0, self.age, table, "'{}' is below 0")
        if "sex" in roles:
            words, what = _folded(frame, self.sex), "'{}' is none of M, F, O and blank"
            columns["sex"] = recode(frame, self.sex, SEX_NAMES, table, what, words=words)
        return columns


def _text(frame: pd.DataFrame, column: str) -> Array:
    return text(by_value(frame[column], lambda values: values.str.strip()))


def _folded(frame: pd.DataFrame, column: str) -> pd.Series[str]:
    return by_value(frame[column], lambda values: values.str.strip().str.lower())


def _values(frame: pd.DataFrame, column: str, table: Path) -> FloatArray:
    values = by_value(
        frame[column],
        lambda distinct: distinct.str.strip().str.lower().map(lambda word: VALUES.get(word, np.inf)),
    )
    what = "'{}' is none of 1, 0, -1, true, false and blank"
    refuse(frame, np.isinf(values), column, table, what)
    return values.to_numpy(np.float32)


def _image_names(frame: pd.DataFrame, column: str, table: Path, root: Path) -> Array:
    # A table written on Windows, or by `find .`, means the same files; so does one with whole paths into the root.
    names = frame[column].str.strip().str.replace("\\", "/")
    if names.str.startswith("./").any():
        names = names.str.replace(r"^(?:\./+)+", "", regex=True)
    # One picture is one name, however its path is spelt.
    if any(names.str.contains(part, regex=False).any() for part in ("//", "/./")):
        names = names.str.replace(r"(?<=.)/(?:\.?/)+", "/", regex=True)
    if names.str.startswith("/").any():
        for top in {os.path.abspath(root), os.path.realpath(root)}:
            names = names.str.replace(f"^{re.escape(top.rstrip('/'))}/+", "", regex=True)
    refuse_escapes(frame.assign(**{column: names}), column, table)
    # Letters may be composed in one row and not in the other.
    refuse_twice(frame, names.str.normalize("NFC"), column, table)
    return text(names)


def _image_folder(root: Path, table: Path, names: Array) -> Path:
    """What the file names are relative to: the root, unless the first pictures lie only beside the table."""
    if table.parent == root:
        return root
    first = np.arange(min(len(names), 100))
    folders = (root, table.parent)
    return next((folder for folder in folders if FileImages(names, folder).exists(first).any()), root)


def _names(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame.columns]


def _listed(frame: pd.DataFrame) -> str:
    return ", ".join(f"'{name}'" for name in _names(frame))


def _no_column(column: str, frame: pd.DataFrame) -> str:
    by_case = {name.lower(): name for name in _names(frame)}
    near = difflib.get_close_matches(column.lower(), by_case, n=1)
    meant = f"; is '{by_case[near[0]]}' meant?" if near else ""
    return f"there is no column '{column}' (there are {_listed(frame)}){meant}"
