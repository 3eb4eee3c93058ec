"""PadChest (Bustos et al., Medical Image Analysis 2020), its Spanish reports' labels mapped to findings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from retune.data.dataset import Array, BoolArray, Dataset, FloatArray, split_by_patient
from retune.data.dates import read_dates
from retune.data.images import FileImages, listed
from retune.data.lists import unread
from retune.data.readers._padchest import BESIDE_NORMAL, COLUMNS_OF, EXCLUDE, FINDINGS, MAPPING, NOTHING
from retune.data.readers.base import INTERPRETATION, HashedReader, Published, kept
from retune.data.tables import (
    OLDEST,
    SEXES,
    find_table,
    read_table,
    recode,
    refuse,
    refuse_folders,
    refuse_twice,
    table_notes,
    text,
)
from retune.data.views import Views, in_views, read_views
from retune.errors import BadTable

if TYPE_CHECKING:
    import pandas as pd

TABLE: Final = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
IMAGE, FOLDER, DATE, PATIENT, BIRTH, SEX, PROJECTION, REPORT, METHOD, LABELS = COLUMNS = (
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
    "Report",
    "MethodLabel",
    "Labels",
)
BLANK: Final = ("", "nan", "None")
"""How the table writes that a value is missing."""
PHOTOMETRIC: Final = "PhotometricInterpretation_DICOM"
STORED_WHITE: Final = "MONOCHROME1"
_PHOTOMETRIC: Final = re.compile(r"\W*photometric[\W_]*interpretation([\W_]*dicom)?\W*", re.IGNORECASE)
_MONOCHROME: Final = re.compile(r"(?:b?['\"])?\s*monochrome[\W_]*([12])\s*['\"]?", re.IGNORECASE)
"""How copies spell the column, and what stands in it."""
"""What the column says of pictures whose DICOM file held high values for black."""
METHODS: Final = ("Physician", "RNN_model")

_ITEM: Final = r"""(?:'[^'"\\]*'|"[^'"\\]*")"""
_LIST: Final = re.compile(rf"\[\s*(?:{_ITEM}(?:\s*,\s*{_ITEM})*)?\s*\]")
_LABEL: Final = re.compile(r"""['"]([^'"\\]*)['"]""")


@dataclass(frozen=True)
class PadChest(HashedReader):
    """PadChest: 160,861 radiographs of 67,625 patients of San Juan hospital, 193 labels from Spanish reports.

    Physicians read 27 % of the reports, a network the others. A report's labels are all it says: a finding
    that is not among them is absent. An image labelled ``exclude``, or only ``unchanged``, ``suboptimal
    study`` or nothing at all, is dropped, for its findings are not known; beside other labels the latter
    are passed over. No Finding is ``normal`` with no other label than of devices.

    A label stands in every finding that it is an example of, though a table of spellings names only the narrowest:
    consolidation is also an infiltration and a lung opacity; nodules, masses, tumors and cavities are lung
    lesions; a thickened pleura is also Pleural Other.

    The folder holds the table, and the pictures in ``0/`` to ``54/`` or flat, there or in ``images*/``.

    Args:
        views: Which projections to keep.
        reviewed: ``physician``: only images whose report a physician labelled.
        monochrome1: What to do with the pictures of rows that say ``MONOCHROME1`` in the column
            ``PhotometricInterpretation_DICOM``: ``as-stored`` takes it that the publisher turned them when he made
            PNG of DICOM; ``inverted`` turns them, as some projects do. ``retune data check`` compares how bright their
            borders are with those of the others, and says which is right for a copy.
        valid: Share of validation patients; 20 % are test patients, chosen by a hash.
    """

    name: ClassVar[str] = "padchest"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Bustos et al., PadChest: A large chest x-ray image dataset with multi-label annotated reports, "
        "Medical Image Analysis 66, 2020"
    )
    licence: ClassVar[str] = "PadChest Dataset Research Use Agreement of BIMCV, to be accepted on downloading"
    labels: ClassVar[tuple[str, ...]] = FINDINGS
    mapping: ClassVar[Mapping[str, str]] = MAPPING
    published: ClassVar[Published | None] = Published(images=160_861, patients=67_625)

    views: Views = "frontal"
    reviewed: Literal["all", "physician"] = "all"
    monochrome1: Literal["as-stored", "inverted"] = "as-stored"
    valid: float = 0.1

    def read(self, root: Path | None) -> Dataset:
        """Read the table and where the pictures lie.

        Args:
            root: Folder of the published files.

        Raises:
            MissingFiles: If the table is not there.
            BadTable: With file and row, if a row cannot be right; or if no image is left.
        """
        folder = self.require_root(root, (TABLE,))
        table = find_table(folder, (TABLE,))
        frame = read_table(table, COLUMNS)
        names, patients = _names(frame, table)
        targets, known, excluded = _targets(frame, table)
        columns = _columns(frame, table)
        if INTERPRETATION not in columns and self.monochrome1 == "inverted":
            what = f"has no column '{PHOTOMETRIC}', which monochrome1=inverted needs"
            raise BadTable(what, where=str(table), fix="add it or choose monochrome1=as-stored")
        turned = columns.get(INTERPRETATION, np.full(len(names), "")) == STORED_WHITE
        columns["view"], strange = read_views(columns["view"])
        columns["date"], undated = read_dates(frame[DATE].replace(BLANK, ""))
        method = text(frame[METHOD])
        refuse(frame, ~np.isin(method, METHODS), METHOD, table, "'{}' is neither Physician nor RNN_model")
        rows, dropped = kept(
            {
                f"labelled '{EXCLUDE}'": excluded,
                "labels say nothing of findings": ~known,
                f"view is not {self.views}": ~in_views(columns["view"], self.views),
                "labels not by a physician": (method != METHODS[0]) & (self.reviewed != "all"),
            }
        )
        if not len(rows):
            left = f"no image with known labels is left with views={self.views} and reviewed={self.reviewed}"
            raise BadTable(left, where=str(table))
        paths = _paths(folder, names[rows], text(frame[FOLDER])[rows])
        return Dataset(
            name=self.name,
            labels=self.labels,
            image_id=names[rows],
            patient_id=patients[rows],
            split=split_by_patient(patients[rows], valid=self.valid),
            targets=targets[rows],
            images=FileImages(paths, folder, turned[rows] if self.monochrome1 == "inverted" else None),
            columns={name: values[rows] for name, values in columns.items()},
            dropped=dropped,
            source=self.source,
            notes=(
                *table_notes((frame, table)),
                *strange,
                *undated,
                *self._turned(int(turned[rows].sum())),
                *unread(folder, [table], "PadChest is split by a hash; your own lists need --data csv"),
            ),
            choices={"split": "by a hash of patients, 20 % for testing", "table": table.name},
        )

    def _turned(self, count: int) -> tuple[str, ...]:
        if not count:
            return ()
        done = "inverted" if self.monochrome1 == "inverted" else "taken as stored"
        other = "as-stored" if self.monochrome1 == "inverted" else "inverted"
        return (
            f"Pictures that {PHOTOMETRIC} says are {STORED_WHITE}: {count:,}, {done} (data.monochrome1={other} for "
            "the contrary; retune data check compares their borders)",
        )


def _names(frame: pd.DataFrame, table: Path) -> tuple[Array, Array]:
    """Image and patient of each row, both (N,)."""
    names, folders, patients = frame[IMAGE], frame[FOLDER], frame[PATIENT].str.strip()
    refuse(frame, names.str.strip().isin(BLANK), IMAGE, table, "the image name is blank")
    refuse_folders(frame, IMAGE, table)
    refuse_twice(frame, names, IMAGE, table)
    refuse(frame, ~folders.str.fullmatch(r"[0-9]+"), FOLDER, table, "'{}' is not a folder's number")
    refuse(
        frame,
        patients.isin(BLANK) | ~patients.str.contains(r"[\w!-~]"),
        PATIENT,
        table,
        "the patient is blank",
    )
    return text(names), text(patients)


def _targets(frame: pd.DataFrame, table: Path) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Label matrix, float32 (N, C); whose labels speak of findings, and whose hold ``exclude``, bool (N,)."""
    import pandas as pd

    # A few ten thousand combinations stand for all rows.
    codes, cells = pd.factorize(frame[LABELS])
    matrix = np.zeros((len(cells), len(FINDINGS)), dtype=np.float32)
    known, excluded = np.zeros((2, len(cells)), dtype=bool)
    for k, cell in enumerate(map(str.strip, cells)):
        if cell in BLANK:
            continue
        # The cell is Python source, which is matched and never run.
        if not _LIST.fullmatch(cell):
            refuse(frame, codes == k, LABELS, table, "'{}' is not a list such as ['nodule', 'scoliosis']")
        labels = {label.strip().lower() for label in _LABEL.findall(cell)}
        known[k], excluded[k] = not labels <= NOTHING, EXCLUDE in labels
        matrix[k, [column for label in labels for column in COLUMNS_OF.get(label, ())]] = 1
        if not labels <= BESIDE_NORMAL:
            matrix[k, FINDINGS.index("No Finding")] = 0
    return matrix[codes], known[codes], excluded[codes]


def _columns(frame: pd.DataFrame, table: Path) -> dict[str, Array]:
    sexes = frame[SEX].replace([*BLANK, "O"], "")
    sex = recode(frame, SEX, SEXES, table, "'{}' is none of M, F and O", words=sexes)
    age = _year(frame, DATE, r"([0-9]{4})[0-9]{4}", table) - _year(frame, BIRTH, r"([0-9]{4})(?:\.0)?", table)
    impossible = (age < 0) | (age > OLDEST)
    found = [name for name in frame.columns if _PHOTOMETRIC.fullmatch(str(name))]
    return {
        "view": text(frame[PROJECTION]),
        **({INTERPRETATION: _interpretation(frame[found[0]])} if found else {}),
        "age": np.where(impossible, np.nan, age).astype(np.float32),
        "sex": sex,
        "report": frame[REPORT].str.strip().to_numpy(object),
    }


def _interpretation(words: pd.Series[str]) -> Array:
    """``MONOCHROME1`` and ``MONOCHROME2`` however they are spelt, other words as they stand; (N,)."""
    import pandas as pd

    codes, unique = pd.factorize(words.str.strip())
    found = [(word, _MONOCHROME.fullmatch(word)) for word in map(str, unique)]
    return np.array([f"MONOCHROME{match[1]}" if match else word for word, match in found])[codes]


def _year(frame: pd.DataFrame, column: str, pattern: str, table: Path) -> FloatArray:
    """The year in a column, float32 (N,), NaN where it is blank."""
    import pandas as pd

    codes, unique = pd.factorize(frame[column])
    values = pd.Series(unique).str.strip()
    years = pd.to_numeric(values.str.extract(f"^{pattern}$")[0]).to_numpy(np.float32, na_value=np.nan)
    wrong = np.isnan(years) & ~values.isin(BLANK).to_numpy(bool)
    refuse(frame, wrong[codes], column, table, "'{}' is not a date")
    return np.asarray(years[codes])


def _paths(root: Path, names: Array, folders: Array) -> Array:
    """File of each image relative to the root, (N,); where there is none, where it ought to be."""
    tops = ["", *sorted(f"{path.name}/" for path in root.glob("images*"))]
    places = [top + inner for top in tops for inner in ("", *sorted(f"{d}/" for d in set(folders.tolist())))]
    place = {name: folder for folder, name in listed(root, reversed(places))}
    pairs = zip(names.tolist(), folders.tolist(), strict=True)
    return np.array([f"{place.get(name, f'{inner}/')}{name}" for name, inner in pairs], dtype=str)
