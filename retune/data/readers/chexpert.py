"""CheXpert (Irvin et al., AAAI 2019), the full release or the small one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from retune.data import findings
from retune.data.chexpert_labels import Blank, Uncertain, read_labels, targets_of
from retune.data.dataset import Array, Dataset, FloatArray, split_by_patient
from retune.data.images import FileImages
from retune.data.readers.base import HashedReader, Published, kept
from retune.data.tables import OLDEST, find_table, numbers, read_table, recode, refuse, refuse_twice, text
from retune.data.views import Views, in_views
from retune.errors import BadTable, MissingFiles, UserError

if TYPE_CHECKING:
    import pandas as pd

RELEASES: Final = ("CheXpert-v1.0-small", "CheXpert-v1.0")
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
    ``CheXpert-v1.0`` it is. Validation and test labels are radiologists', whatever ``labels_from`` says.

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
        places = (folder, above)
        official = self.split == "official" or (self.split == "auto" and _is_in(places, wanted["test"]))
        used = {"train": True, "valid": self.split != "hash", "test": official}
        files = {part: self._find(places, part, wanted[part]) for part in wanted if used[part]}
        parts = [_read_part(part, file) for part, file in files.items()]
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
            images=FileImages(names, folder),
            columns={column: rows[column][keep] for column in ("view", "age", "sex")},
            dropped=dropped,
            source=self.source,
        )

    def _find(self, places: Sequence[Path], part: str, name: str) -> Path:
        """A table beside the pictures, or in the folder above: some copies keep tables and pictures apart."""
        place = next((place for place in places if _is_in([place], name)), None)
        if place is None and part != "train":
            # Going on without a test table would silently be another benchmark.
            what = f"there is no {name}, which split={self.split} needs"
            raise MissingFiles(what, where=str(places[0]), fix="put it there or choose split=hash")
        return find_table(place or places[0], [name])

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


def _is_in(places: Sequence[Path], name: str) -> bool:
    return any((place / file).is_file() for place in places for file in (name, f"{name}.gz"))


def _read_part(part: str, table: Path) -> dict[str, Array]:
    """One table's columns, each of N rows, under the names of ``Dataset``; and ``part`` and ``labels``."""
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
    return {
        "image_id": text(pieces[0]),
        "patient_id": text(pieces[1]),
        "part": np.full(n, part, dtype="U5"),
        "labels": read_labels(frame, table),
        "view": _views(frame, table) if described else text(pieces[2]),
        "age": _ages(frame, table) if described else np.full(n, np.nan, dtype=np.float32),
        "sex": recode(frame, SEX, SEXES, table) if described else np.full(n, "", dtype="U1"),
    }


def _views(frame: pd.DataFrame, table: Path) -> Array:
    side = recode(frame, SIDE, SIDES, table)
    # A few frontal images are marked LL or RL: whether PA or AP is then not known.
    known = frame[PROJECTION].isin(["PA", "AP"]).to_numpy(bool) & (side == "frontal")
    return np.where(known, text(frame[PROJECTION]), side)


def _ages(frame: pd.DataFrame, table: Path) -> FloatArray:
    """Age in years, float32 (N,); 0 stands for unknown, as all patients are adults."""
    years = numbers(frame, AGE, table)
    refuse(frame, years < 0, AGE, table, "'{}' is not an age in years")
    return np.where((years == 0) | (years > OLDEST), np.nan, years).astype(np.float32)
