"""NIH ChestX-ray14 (Wang et al., CVPR 2017) in the layouts it is published in."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from retune.data import findings
from retune.data.dataset import Array, Dataset, FloatArray, split_by_patient
from retune.data.images import FileImages, listed
from retune.data.lists import look_for, unread
from retune.data.outlines import Outlined, Outlines, Square
from retune.data.readers._lists import LISTS as LISTED
from retune.data.readers._lists import listed_split, settled
from retune.data.readers.base import HashedReader, Published, kept
from retune.data.tables import (
    OLDEST,
    SEXES,
    find_table,
    read_table,
    read_text,
    recode,
    refuse,
    refuse_blank,
    refuse_folders,
    refuse_twice,
    table_notes,
    text,
    whole_numbers,
)
from retune.data.views import in_views, read_views
from retune.errors import BadTable, MissingFiles

if TYPE_CHECKING:
    import pandas as pd

TABLES: Final = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
LISTS: Final = {
    "train_val_list.txt": ("train_val_list.txt", "train_val_list_NIH.txt"),
    "test_list.txt": ("test_list.txt", "test_list_NIH.txt"),
}
"""The lists of the official split, and what copies call them."""
NAMES: Final = {"Effusion": "Pleural Effusion", "Pleural_Thickening": "Pleural Thickening"}
"""NIH's spellings where they differ from the canonical ones."""
SPELLINGS: Final = {**NAMES, **{name: name for name in findings.NIH if name not in NAMES.values()}}
NO_FINDING: Final = "No Finding"
IMAGE, LABELS, FOLLOW_UP, PATIENT, AGE, SEX, VIEW = COLUMNS = (
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
)

BOXES: Final = "BBox_List_2017.csv"
BOX_COLUMNS: Final = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
"""Its header is ``Image Index,Finding Label,Bbox [x,y,w,h],,,``: more columns than a row has values."""
BOXED: Final = {
    **{name: SPELLINGS[name] for name in ("Atelectasis", "Cardiomegaly", "Effusion")},
    "Infiltrate": "Infiltration",
    **{name: SPELLINGS[name] for name in ("Mass", "Nodule", "Pneumonia", "Pneumothorax")},
}
"""The box list's spellings of its eight findings."""
SIDE: Final = 1024
"""Boxes are in pixels of the published pictures, which are squares of so many."""


@dataclass(frozen=True)
class NIH(HashedReader):
    """NIH ChestX-ray14: 112,120 frontal radiographs of 30,805 patients, 14 findings mined from reports.

    The folder holds the label table, and the pictures in ``images/``, in ``images_001/images/`` to
    ``images_012/images/``, in ``images-224/images-224/`` or beside the table. With ``BBox_List_2017.csv`` beside
    it, eight findings have regions: 984 boxes on 880 images, each of one finding that the label table has, too. On
    an image with a box, what the table says is absent counts as absent, and what it says is there without a box is
    unknown; of images without a box nothing is known.

    Args:
        views: Which projections to keep; all of NIH's are frontal, PA or AP.
        split: ``official``: by ``train_val_list.txt`` and ``test_list.txt``; ``hash``: 20 % of patients are
            test patients; ``auto``: official where the lists are there. In capitals, with ``_NIH`` at the end or
            in a folder within they are the same lists.
        valid: Share of validation patients: of the official train_val patients, or of all under ``hash``.
    """

    name: ClassVar[str] = "nih"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "NIH Clinical Center; Wang et al., ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks "
        "on Weakly-Supervised Classification and Localization of Common Thorax Diseases, CVPR 2017"
    )
    licence: ClassVar[str] = "no restrictions; attribute the NIH Clinical Center and cite Wang et al., 2017"

    labels: ClassVar[tuple[str, ...]] = findings.NIH
    mapping: ClassVar[Mapping[str, str]] = {**SPELLINGS, NO_FINDING: ""}
    published: ClassVar[Published | None] = Published(
        images=112_120,
        patients=30_805,
        positives={
            "Infiltration": 19_894,
            "Pleural Effusion": 13_317,
            "Atelectasis": 11_559,
            "Nodule": 6_331,
            "Mass": 5_782,
            "Pneumothorax": 5_302,
            "Consolidation": 4_667,
            "Pleural Thickening": 3_385,
            "Cardiomegaly": 2_776,
            "Emphysema": 2_516,
            "Edema": 2_303,
            "Fibrosis": 1_686,
            "Pneumonia": 1_431,
            "Hernia": 227,
        },
    )

    views: Literal["frontal", "PA", "AP", "all"] = "frontal"
    split: Literal["auto", "official", "hash", "arnoweng", "benchx", "benchx-10", "benchx-1"] = "auto"
    valid: float = 0.1

    def read(self, root: Path | None) -> Dataset:
        """Read the label table, the split and where the pictures lie.

        Args:
            root: Folder of the published files.

        Raises:
            MissingFiles: If the table, or a list of the official split, is not there.
            BadTable: With file and row, if a row cannot be right.
        """
        folder = self.require_root(root, TABLES)
        table = find_table(folder, TABLES)
        frame = read_table(table, COLUMNS)
        names = _image_names(frame, table)
        patients = whole_numbers(frame, PATIENT, table).astype(str)
        targets = _targets(frame, table)
        columns = _columns(frame, table)
        columns["view"], strange = read_views(columns["view"])
        lists = self._official(folder)
        given = None
        if self.split in LISTED:
            stems = np.array([name.rpartition(".")[0] or name for name in names.tolist()])
            given = settled(listed_split(folder, stems, self.split), patients)
            split, in_lists, chosen = given.split, given.split != "", given.choice
        elif lists:
            split, in_lists = _official_split(names, patients, lists, self.valid)
            chosen = f"official, by {' and '.join(path.relative_to(folder).as_posix() for path in lists)}"
        else:
            split = split_by_patient(patients.tolist(), valid=self.valid)
            in_lists = np.ones(len(names), dtype=bool)
            why = "" if self.split == "hash" else f"; {' and '.join(LISTS)} are not there"
            chosen = f"by a hash of patients, 20 % for testing{why}"
        keep, dropped = kept(
            {
                "in none of the lists" if given else "in no list of the official split": ~in_lists,
                f"view is not {self.views}": ~in_views(columns["view"], self.views),
            }
        )
        if not len(keep):
            raise BadTable(f"no image is left with views={self.views}", where=str(table))
        boxes = next((path for path in (folder / BOXES, folder / f"{BOXES}.gz") if path.is_file()), None)
        return Dataset(
            name=self.name,
            labels=self.labels,
            image_id=names[keep],
            patient_id=patients[keep],
            split=split[keep],
            targets=targets[keep],
            images=FileImages(_paths(folder, names[keep]), folder),
            columns={name: values[keep] for name, values in columns.items()},
            dropped=dropped,
            source=self.source,
            notes=(
                *table_notes((frame, table)),
                *strange,
                *(given.notes if given else ()),
                *unread(
                    folder,
                    [table, *(given.lists if given else lists)],
                    f"call them {' and '.join(LISTS)} to split by them",
                ),
            ),
            choices={"split": chosen, "table": table.name},
            regions=Outlined(
                tuple(BOXED.values()),
                partial(_outlines, boxes, names[keep], targets[keep]),
                Square(SIDE),
            )
            if boxes
            else None,
        )

    def _official(self, folder: Path) -> list[Path]:
        """The two lists of the official split, where it is the one to take."""
        if self.split not in ("auto", "official"):
            return []
        found = {name: look_for(folder, names, deep=True) for name, names in LISTS.items()}
        missing = [name for name, path in found.items() if path is None]
        if self.split == "auto" and len(missing) == len(LISTS):
            return []
        if missing:
            # One list alone is a broken download: falling back would silently be another benchmark.
            there = [path for path in found.values() if path]
            others = " ".join(unread(folder, there, "rename it if it is the one"))
            other = "arnoweng" if look_for(folder, LISTED["arnoweng"][1:2], deep=True) else "hash"
            raise MissingFiles(
                f"{' and '.join(missing)} of the official split not found{f' ({others})' if others else ''}",
                where=str(folder),
                fix=f"add it or choose split={other}",
            )
        return [path for path in found.values() if path]


def _image_names(frame: pd.DataFrame, table: Path) -> Array:
    refuse_blank(frame, IMAGE, table, "the image name is blank")
    refuse_folders(frame, IMAGE, table)
    refuse_twice(frame, frame[IMAGE], IMAGE, table)
    return text(frame[IMAGE])


def _targets(frame: pd.DataFrame, table: Path) -> FloatArray:
    """Label matrix, float32 (N, 14), without NaN: NIH knows no uncertainty."""
    import pandas as pd

    # A few hundred combinations stand for all rows.
    codes, cells = pd.factorize(frame[LABELS])
    column = {label: k for k, label in enumerate(findings.NIH)}
    matrix = np.zeros((len(cells), len(column)), dtype=np.float32)
    wrong: dict[int, str] = {}
    for k, cell in enumerate(cells):
        parts = str(cell).split("|")
        known = [column.get(SPELLINGS.get(part, "")) for part in parts]
        if not str(cell).strip():
            wrong[k] = f"the label is blank; '{NO_FINDING}' says that there is none"
        elif parts == [NO_FINDING]:
            continue
        elif NO_FINDING in parts:
            wrong[k] = f"'{NO_FINDING}' stands beside a finding in '{{}}'"
        elif None in known:
            wrong[k] = _unknown(parts[known.index(None)])
        else:
            matrix[k, [c for c in known if c is not None]] = 1
    if wrong:
        first = min(wrong)
        refuse(frame, codes == first, LABELS, table, wrong[first])
    return np.asarray(matrix[codes])


def _outlines(path: Path, names: Array, targets: FloatArray) -> Outlines:
    """The boxes of images of these names (N,), whose labels are ``targets`` (N, 14)."""
    place = {name: row for row, name in enumerate(names.tolist())}
    kinds = list(BOXED)
    row, finding, boxes, where = [], [], [], []
    for line, (name, label, *numbers) in _box_rows(path):
        if label not in BOXED:
            raise BadTable(_unknown(label, kinds), where=f"{path}, row {line}, column '{BOX_COLUMNS[1]}'")
        try:
            x, y, width, height = map(float, numbers)
        except ValueError:
            raise BadTable(
                f"'{','.join(numbers)}' is not a box x,y,w,h", where=f"{path}, row {line}"
            ) from None
        if name in place:
            row.append(place[name])
            finding.append(kinds.index(label))
            boxes.append(np.array([x, y, x + width, y + height]))
            where.append(f"{path}, row {line}")
    columns = [findings.NIH.index(canonical) for canonical in BOXED.values()]
    known = np.zeros((len(names), len(kinds)), dtype=bool)
    known[row] = targets[np.ix_(row, columns)] == 0
    known[row, finding] = True
    return Outlines(known, np.array(row, np.int64), np.array(finding, np.int64), boxes, where)


def _box_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and values of each row of the list of boxes."""
    try:
        for line, fields in enumerate(csv.reader(StringIO(read_text(path).decode(), newline="")), start=1):
            values = [field.strip() for field in fields]
            if line == 1 and tuple(values[: len(BOX_COLUMNS)]) != BOX_COLUMNS:
                raise BadTable(f"the columns are not {','.join(BOX_COLUMNS)}", where=str(path))
            if line > 1 and any(values):
                if len(values) < len(BOX_COLUMNS) or any(values[len(BOX_COLUMNS) :]):
                    raise BadTable(f"is not {','.join(BOX_COLUMNS)}", where=f"{path}, row {line}")
                yield line, values[: len(BOX_COLUMNS)]
    except csv.Error as error:
        raise BadTable(
            f"cannot be read as a table ({error})", where=str(path), fix="fetch it again"
        ) from error


def _unknown(label: str, spellings: Sequence[str] = (*SPELLINGS, NO_FINDING)) -> str:
    near = difflib.get_close_matches(label, spellings, n=1)
    return f"unknown label '{label}'" + (f", did you mean '{near[0]}'?" if near else "")


def _columns(frame: pd.DataFrame, table: Path) -> dict[str, Array]:
    sex = recode(frame, SEX, SEXES, table, "'{}' is neither M nor F")
    return {
        "view": text(frame[VIEW]),
        "age": _ages(frame, table),
        "sex": sex,
        "follow_up": whole_numbers(frame, FOLLOW_UP, table),
    }


def _ages(frame: pd.DataFrame, table: Path) -> FloatArray:
    """Age in years, float32 (N,), NaN where blank or impossible; the first release wrote ``058Y``."""
    import pandas as pd

    parts = frame[AGE].str.strip().str.extract(r"^(\d+(?:\.\d+)?)([YMD]?)$")
    years = pd.to_numeric(parts[0], errors="coerce") / parts[1].map({"Y": 1, "M": 12, "D": 365.25}).fillna(1)
    blank = frame[AGE].str.strip() == ""
    refuse(frame, years.isna() & ~blank, AGE, table, "'{}' is not an age in years")
    ages = years.to_numpy(np.float64)
    return np.where(ages > OLDEST, np.nan, ages).astype(np.float32)


def _official_split(names: Array, patients: Array, lists: list[Path], valid: float) -> tuple[Array, Array]:
    """Split of shape (N,), and which images the lists hold, bool (N,)."""
    train_val, test = (_read_list(path) for path in lists)
    both = train_val.keys() & test.keys()
    if both:
        line, name = min((test[name], name) for name in both)
        raise BadTable(f"'{name}' stands in {lists[0].name} too", where=f"{lists[1]}, line {line}")
    known = set(names.tolist())
    for path, lines in zip(lists, (train_val, test), strict=True):
        unknown = lines.keys() - known
        if unknown:
            line, name = min((lines[name], name) for name in unknown)
            raise BadTable(
                f"'{name}' is not in the label table ({len(unknown):,} such)",
                where=f"{path}, line {line}",
                fix="for a part of the data choose split=hash",
            )
    in_test = np.array([name in test for name in names.tolist()], dtype=bool)
    in_train = np.array([name in train_val for name in names.tolist()], dtype=bool)
    split = np.where(in_test, "test", split_by_patient(patients.tolist(), valid=valid, test=0.0))
    return split, in_test | in_train


def _read_list(path: Path) -> dict[str, int]:
    """Line number of each image in a list of one name a line."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadTable("cannot be read as a list of images", where=str(path), fix="fetch it again") from error
    return {name.strip(): k for k, name in enumerate(lines, start=1) if name.strip()}


def _paths(root: Path, names: Array) -> Array:
    """File of each image relative to the root, shape (N,); where there is none, where it ought to be."""
    outer = sorted(name for _, name in listed(root, [""]) if name.lower().startswith("images"))
    inner = sorted(f"{top}/{name}" for top, name in listed(root, outer) if name.lower().startswith("images"))
    folders = [*dict.fromkeys(["images", *inner, *outer]), "."]
    place = {name: folder for folder, name in listed(root, reversed(folders))}
    paths = [f"{place.get(name, 'images')}/{name}".removeprefix("./") for name in names.tolist()]
    return np.array(paths, dtype=str)
