"""CheXpert (Irvin et al., AAAI 2019), the full release or the small one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from retune.data import findings
from retune.data.chexpert_labels import Blank, Uncertain, read_labels, targets_of
from retune.data.dataset import Array, Dataset, FloatArray, split_by_patient
from retune.data.images import FileImages, listed
from retune.data.lists import look_for, unread
from retune.data.readers.base import HashedReader, Published, kept
from retune.data.tables import (
    OLDEST,
    find_table,
    numbers,
    read_table,
    recode,
    refuse,
    refuse_twice,
    table_notes,
    text,
)
from retune.data.views import KEPT, Views, in_views, read_views
from retune.errors import BadTable, MissingFiles, UserError

if TYPE_CHECKING:
    import pandas as pd

RELEASES: Final = ("CheXpert-v1.0-small", "CheXpert-v1.0")
BATCH: Final = re.compile(r"(?:CheXpert-v1\.0 )?batch \d+ \(.*\)", re.IGNORECASE)
"""Folders of the full release as unzipped: ``batch 1 (validate & csv)``, ``batch 2 (train 1)`` ..."""
GROUND_TRUTH: Final = "groundtruth.csv"
"""What some copies call the test labels; a table of that name without paths of images is another one."""
TABLES: Final = {"train": "train.csv", "valid": "valid.csv", "test": "test_labels.csv"}
VISUAL: Final = "train_visualCheXbert.csv"
PATH, SEX, AGE, SIDE, PROJECTION = DESCRIPTION = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
SEXES: Final = {"Male": "M", "Female": "F", "Unknown": "", "": ""}
SIDES: Final = {"Frontal": "frontal", "Lateral": "lateral"}
PUBLISHED: Final = Published(images=223_414 + 234, patients=64_540 + 200)
"""What ``train.csv`` and ``valid.csv`` hold: ``views=all split=auto`` of a copy without the test labels.

Those came later and apart; with them it is 668 images of 500 patients more. Label counts are published for
``train.csv`` alone, not for what is read here, so there are none.
"""


@dataclass(frozen=True)
class CheXpert(HashedReader):
    """CheXpert: 224,316 radiographs of 65,240 Stanford patients, 14 labels mined from reports.

    The folder is the one of ``train.csv`` or the one above it, whose ``CheXpert-v1.0-small`` or
    ``CheXpert-v1.0`` it is; the full release may lie in its batches' folders. Test labels may be called
    ``groundtruth.csv``. Validation and test labels are radiologists', whatever ``labels_from`` says.

    Args:
        views: Which projections to keep; test images are frontal or lateral, not said to be PA or AP.
        uncertain: What a label marked uncertain (-1) becomes.
        blank: What a label that the report does not mention becomes.
        labels_from: ``chexpert``: the labels of ``train.csv``, mined from reports by rules; ``visualchexbert``:
            those of ``train_visualCheXbert.csv`` (Jain et al., 2021), trained to agree with who sees the image.
        split: ``official``: ``train.csv``, ``valid.csv`` and ``test_labels.csv`` are training, validation and
            test; ``auto``: official where ``test_labels.csv`` is there, else the patients of ``valid.csv``
            are the test set and validation patients come from ``train.csv``, as most papers on the small
            release do; ``hash``: ``train.csv`` alone, 20 % of its patients are test patients.
        valid: Share of validation patients among those of ``train.csv``; not used by the official split.
    """

    name: ClassVar[str] = "chexpert"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Stanford ML Group; Irvin et al., CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels "
        "and Expert Comparison, AAAI 2019"
    )
    licence: ClassVar[str] = (
        "Stanford University Dataset Research Use Agreement: no commerce, no redistribution"
    )

    labels: ClassVar[tuple[str, ...]] = findings.CHEXPERT
    mapping: ClassVar[Mapping[str, str]] = {name: name for name in findings.CHEXPERT}
    published: ClassVar[Published | None] = PUBLISHED

    views: Views = "frontal"
    uncertain: Uncertain = "ignore"
    blank: Blank = "zeros"
    labels_from: Literal["chexpert", "visualchexbert"] = "chexpert"
    split: Literal["auto", "official", "hash"] = "auto"
    valid: float = 0.1

    def read(self, root: Path | None) -> Dataset:
        """Read the label tables, the split and where the pictures lie.

        Args:
            root: Folder of ``train.csv``, or the folder above it.

        Raises:
            MissingFiles: If a table is not there.
            BadTable: With file, row and column, if a row cannot be right.
        """
        wanted = {**TABLES, "train": VISUAL if self.labels_from == "visualchexbert" else TABLES["train"]}
        above = self.require_root(root, [wanted["train"]])
        folder = _release(above)
        places = list(dict.fromkeys((folder, above, *_batches(folder), *_batches(above))))
        test = self._test_table(places)
        official = self.split == "official" or (self.split == "auto" and test is not None)
        used = {"train": True, "valid": self.split != "hash", "test": official}
        files = {part: self._find(places, part, wanted[part], test) for part in wanted if used[part]}
        read = [_read_part(part, file) for part, file in files.items()]
        parts = [part for part, _ in read]
        rows = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
        keep, dropped = kept({f"view is not {self.views}": ~in_views(rows["view"], self.views)})
        if not len(keep):
            raise BadTable(f"no image is left with views={self.views}", where=str(files["train"]))
        names = rows["image_id"][keep]
        return Dataset(
            name=self.name,
            labels=self.labels,
            image_id=names,
            patient_id=rows["patient_id"][keep],
            split=self._split(rows["patient_id"], rows["part"], official)[keep],
            targets=targets_of(rows["labels"][keep], self.uncertain, self.blank, files["train"]),
            images=FileImages(*_located(names, folder, above)),
            columns={column: rows[column][keep] for column in ("view", "age", "sex")},
            dropped=dropped,
            source=self.source,
            notes=(
                *(note for _, notes in read for note in notes),
                *(
                    note
                    for place in dict.fromkeys((folder, above))
                    for note in unread(
                        place, [*files.values()], f"call the test labels {TABLES['test']} to test on them"
                    )
                ),
            ),
            choices={
                "split": self._chosen(files),
                "tables": ", ".join(path.relative_to(above).as_posix() for path in files.values()),
            },
        )

    def _chosen(self, files: Mapping[str, Path]) -> str:
        """Which split it is, for the user."""
        if "test" in files:
            return f"official, test images from {files['test'].name}"
        if "valid" in files:
            missing = f"{TABLES['test']} is not there"
            return f"the patients of {files['valid'].name} are the test set, for {missing}"
        return f"by a hash of the patients of {files['train'].name}, 20 % for testing"

    def _test_table(self, places: Sequence[Path]) -> Path | None:
        if self.split == "hash":
            return None
        found = (look_for(place, [TABLES["test"]]) for place in places)
        other = (look_for(place, [GROUND_TRUTH]) for place in places)
        named = next((path for path in found if path), None)
        return named or next((path for path in other if path and _has_paths(path)), None)

    def _find(self, places: Sequence[Path], part: str, name: str, test: Path | None) -> Path:
        """A table beside the pictures, or in the folder above: some copies keep tables and pictures apart."""
        if part == "test" and test is not None:
            return test
        found = next((path for path in (look_for(place, [name]) for place in places) if path), None)
        if found is None and part != "train":
            # Going on without a test table would silently be another benchmark.
            what = f"there is no {name}, which split={self.split} needs"
            raise MissingFiles(what, where=str(places[0]), fix="put it there or choose split=hash")
        return found or find_table(places[0], [name])

    def _split(self, patients: Array, parts: Array, official: bool) -> Array:
        """Split of shape (N,) from patients and the part each image was published in, both (N,)."""
        if official:
            return parts
        test = 0.2 if self.split == "hash" else 0.0
        return np.where(parts == "valid", "test", split_by_patient(patients, valid=self.valid, test=test))


def _release(above: Path) -> Path:
    """The folder that pictures are relative to: a release in the given folder, or the given folder."""
    inside = [above / name for name in RELEASES if (above / name).is_dir()]
    if (above / "train").is_dir() or not inside:
        return above
    if len(inside) > 1:
        names = " and ".join(path.name for path in inside)
        raise UserError(f"holds both {names}", where=str(above), fix="give one of them as --root")
    return inside[0]


def _batches(folder: Path) -> list[Path]:
    """The folders of the full release's batches in a folder."""
    return sorted(folder / name for _, name in listed(folder, [""]) if BATCH.fullmatch(name))


def _located(names: Array, folder: Path, above: Path) -> tuple[Array, Path]:
    """File of each image, (N,), and what it is relative to: batches' folders where the pictures lie in such."""
    base = folder if (folder / "train").is_dir() or _batches(folder) else above
    batches = _batches(base)
    if not batches:
        return names, folder
    # Training patients lie in a batch, validation images in a folder "valid" of one.
    place = {inner: batch for batch, inner in listed(base, [batch.name for batch in batches])}
    files = []
    for name in names.tolist():
        part, patient, rest = name.split("/", 2)
        if (base / part).is_dir() and part not in place and patient not in place:
            files.append(name)
        elif part == "train" and patient in place:
            files.append(f"{place[patient]}/{patient}/{rest}")
        else:
            files.append(f"{place[part]}/{name}" if part in place else name)
    return np.array(files, dtype=str), base


def _has_paths(table: Path) -> bool:
    try:
        read_table(table, [PATH])
    except BadTable:
        return False
    return True


def _read_part(part: str, table: Path) -> tuple[dict[str, Array], tuple[str, ...]]:
    """One table's columns, each of N rows, under the names of ``Dataset``, and ``part`` and ``labels``; and notes."""
    # The test table was published with paths and labels alone.
    described = part != "test"
    frame = read_table(table, [*(DESCRIPTION if described else [PATH]), *findings.CHEXPERT])
    pieces = frame[PATH].str.extract(
        rf"^(?:CheXpert-v1\.0[^/\\]*/)?({part}/(patient\d+)/study\d+/view\d+_(frontal|lateral)\.jpg)$"
    )
    what = f"'{{}}' is not like {part}/patient00001/study1/view1_frontal.jpg"
    refuse(frame, pieces[0].isna(), PATH, table, what)
    refuse_twice(frame, pieces[0], PATH, table)
    n = len(frame)
    columns = {
        "image_id": text(pieces[0]),
        "patient_id": text(pieces[1]),
        "part": np.full(n, part, dtype="U5"),
        "labels": read_labels(frame, table),
        "view": views_of(frame, table) if described else text(pieces[2]),
        "age": ages_of(frame, table) if described else np.full(n, np.nan, dtype=np.float32),
        "sex": recode(frame, SEX, SEXES, table) if described else np.full(n, "", dtype="U1"),
    }
    return columns, table_notes((frame, table))


def views_of(frame: pd.DataFrame, table: Path, side: str = SIDE, projection: str = PROJECTION) -> Array:
    """View of each image, (N,)."""
    sides = recode(frame, side, SIDES, table)
    # A few frontal images are marked LL or RL: whether PA or AP is then not known.
    view, _ = read_views(text(frame[projection]))
    return np.where(np.isin(view, KEPT["frontal"]) & (sides == "frontal"), view, sides)


def ages_of(frame: pd.DataFrame, table: Path, column: str = AGE) -> FloatArray:
    """Age in years, float32 (N,); 0 stands for unknown, as all patients are adults."""
    years = numbers(frame, column, table)
    refuse(frame, years < 0, column, table, "'{}' is not an age in years")
    return np.where((years == 0) | (years > OLDEST), np.nan, years).astype(np.float32)
