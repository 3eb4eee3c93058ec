"""CXR-LT 2024 (Holste et al.): MIMIC-CXR's images with a long tail of findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from retune.data.dataset import SPLITS, Array, BoolArray, Dataset, FloatArray
from retune.data.findings import FINDINGS
from retune.data.lists import look_for
from retune.data.readers._mimic import (
    DATE,
    IMAGE,
    PATIENT,
    PATIENTS,
    VIEW,
    folders_of,
    image_names,
    joined,
    names_of,
    people_of,
    reports_of,
)
from retune.data.readers.base import Published, Reader, Rows, assembled
from retune.data.tables import numbers, read_table, refuse, table_notes, text, whole_numbers
from retune.data.views import Views, in_views, read_views
from retune.errors import MissingFiles

if TYPE_CHECKING:
    import pandas as pd

FILE: Final = "fpath"
TABLES: Final = {
    "long-tail": ("train_labeled.csv", "development_labeled_task1.csv", "test_labeled_task1.csv"),
    "gold": ("train_labeled.csv", "development_labeled_task2.csv", "test_labeled_task2.csv"),
    "zero-shot": ("train_labeled.csv", "development_labeled_task3.csv", "test_labeled_task3.csv"),
}
"""The tables of each task, for training, validation and testing."""
TASK_2: Final = (
    *("Atelectasis", "Calcification of the Aorta", "Cardiomegaly", "Consolidation", "Edema", "Emphysema"),
    *("Enlarged Cardiomediastinum", "Fibrosis", "Fracture", "Hernia", "Infiltration", "Lung Lesion"),
    *("Lung Opacity", "Mass", "Normal", "Nodule", "Pleural Effusion", "Pleural Other", "Pleural Thickening"),
    *("Pneumomediastinum", "Pneumonia", "Pneumoperitoneum", "Pneumothorax", "Subcutaneous Emphysema"),
    *("Support Devices", "Tortuous Aorta"),
)
"""The labels of CXR-LT 2023, which people checked."""
TASK_1: Final = (
    *TASK_2,
    *("Adenopathy", "Azygos Lobe", "Clavicle Fracture", "Fissure", "Granuloma", "Hydropneumothorax"),
    *("Infarction", "Kyphosis", "Lobar Atelectasis", "Pulmonary Embolism", "Pulmonary Hypertension"),
    *("Rib Fracture", "Round(ed) Atelectasis", "Tuberculosis"),
)
TASK_3: Final = ("Bulla", "Cardiomyopathy", "Hilum", "Osteopenia", "Scoliosis")
"""The labels that nobody was to train on."""
NAMES: Final = {name: "No Finding" if name == "Normal" else name for name in (*TASK_1, *TASK_3)}
IN_ORDER: Final = tuple(
    sorted(
        NAMES.values(), key=lambda name: (FINDINGS.index(name) if name in FINDINGS else len(FINDINGS), name)
    )
)
"""Labels of the vocabulary in its order, and then the others."""


@dataclass(frozen=True)
class CxrLt(Reader):
    """CXR-LT 2024: 377,110 radiographs of MIMIC-CXR with 40 labels mined from reports, most of them rare.

    The folder is MIMIC-CXR-JPG's, with the pictures in ``files/``; the challenge's tables lie there or in a folder
    within, such as ``cxr-lt-2024/``. Each task has its own split, by patient. Blanks and uncertain labels do not occur.
    18 labels and the five of zero-shot are outside the vocabulary and keep their published names; the prompt bank
    ``long-tail`` has words for them. Labels overlap: who has a rib fracture has a fracture.

    Layout and columns are those that public code reads (``dicom_id, subject_id, study_id, ViewPosition,
    ViewCodeSequence_CodeMeaning, fpath`` and the labels); the tables themselves need credentials and were not seen.

    Args:
        task: ``long-tail``: 40 labels, 78,946 test images, labelled as the others are; ``gold``: 26 of them, 406 test
            images that people labelled; ``zero-shot``: the test images have five further labels, and the training images
            the 40, in which those five are unknown.
        views: Which projections to keep.
        reports: Whether to read MIMIC-CXR's reports into the column ``report``, see ``mimic-cxr``.
    """

    name: ClassVar[str] = "cxr-lt"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "PhysioNet, version 2.0.0; Lin, Holste et al., CXR-LT 2024: A MICCAI challenge on long-tailed, multi-label, and "
        "zero-shot disease classification from chest X-ray, arXiv:2506.07984, 2025; images of MIMIC-CXR-JPG, Johnson et "
        "al., 2019"
    )
    licence: ClassVar[str] = "PhysioNet Credentialed Health Data Use Agreement: no redistribution"
    labels: ClassVar[tuple[str, ...]] = IN_ORDER
    mapping: ClassVar[Mapping[str, str]] = NAMES
    published: ClassVar[Published | None] = Published(images=377_110, patients=65_379)
    part_of: ClassVar[tuple[str, ...]] = ("mimic-cxr",)
    prompts: ClassVar[str] = "long-tail"

    task: Literal["long-tail", "gold", "zero-shot"] = "long-tail"
    views: Views = "frontal"
    reports: bool = False

    @property
    def expected(self) -> Published | None:
        """All of MIMIC-CXR, in the first task; of the others it is not known how many images have labels."""
        return self.published if self.task == "long-tail" else None

    def read(self, root: Path | None) -> Dataset:
        """Read the task's three tables.

        Args:
            root: Folder of MIMIC-CXR-JPG, with these tables in it.

        Raises:
            MissingFiles: If a table is not there, or no report is where they were asked for.
            BadTable: With file, row and column, if a row cannot be right.
        """
        import pandas as pd

        folder = self.require_root(root, TABLES[self.task])
        wanted = {"long-tail": TASK_1, "gold": TASK_2, "zero-shot": (*TASK_1, *TASK_3)}[self.task]
        wanted = tuple(sorted(wanted, key=lambda name: IN_ORDER.index(NAMES[name])))
        files = [_find(folder, name) for name in TABLES[self.task]]
        taken = _metadata(folder)
        frames, parts = [], []
        for named, path in zip(SPLITS, files, strict=True):
            asked = wanted if self.task != "zero-shot" else TASK_1 if named == "train" else TASK_3
            frame = read_table(path, (IMAGE, PATIENT, VIEW, FILE, *asked))
            frames.append((frame, path))
            parts.append(_part(frame, path, wanted, asked, named))
        whole = pd.concat([_dated(frame, path, taken) for frame, path in frames])
        names = text(whole[IMAGE])
        patients, studies, split, targets = (np.concatenate([part[k] for part in parts]) for k in range(4))
        view, strange = read_views(text(whole[VIEW]))
        folders = folders_of(patients, studies)
        people, unknown, read = people_of(folder, whole, files[0])
        columns = {"view": view, "study": studies, **people}
        if self.reports:
            columns["report"] = reports_of(folder, folders)
        paths = folders + "/" + names.astype(object) + ".jpg"
        return assembled(
            self,
            Rows(names, patients, split, targets, paths, columns),
            folder,
            files[0],
            labels=[NAMES[name] for name in wanted],
            drops={
                "of a patient who is tested on": _met(patients, split),
                f"view is not {self.views}": ~in_views(view, self.views),
            },
            notes=(*table_notes(*frames), *strange, *unknown),
            choices={
                "split": f"official, of the task {self.task}",
                "tables": ", ".join(path.relative_to(folder).as_posix() for path in (*files, *read)),
            },
        )


def _find(folder: Path, name: str) -> Path:
    path = look_for(folder, [name], deep=True)
    if path is None:
        fix = "put the folder cxr-lt-2024 of the challenge's files there"
        raise MissingFiles(f"{name} not found", where=str(folder), fix=fix)
    return path


def _part(
    frame: pd.DataFrame, path: Path, wanted: tuple[str, ...], asked: tuple[str, ...], split: str
) -> tuple[Array, Array, Array, FloatArray]:
    """Patient, study and split of each image of a table, and its labels, NaN for those that it is not asked for."""
    names = image_names(frame, path)
    pieces = frame[FILE].str.extract(r"(?:^|/)files/p([0-9]{2})/p([0-9]{2,})/s([0-9]+)/([0-9a-f-]+)\.jpg$")
    right = (
        (pieces[1].str[:2] == pieces[0])
        & (pieces[1] == whole_numbers(frame, PATIENT, path).astype(str))
        & (pieces[3] == names)
    )
    refuse(frame, ~right, FILE, path, "'{}' is not where MIMIC-CXR-JPG has this patient's image")
    targets = np.full((len(frame), len(wanted)), np.nan, dtype=np.float32)
    for name in asked:
        values = numbers(frame, name, path)
        refuse(frame, ~np.isin(values, (0, 1)), name, path, "'{}' is neither 0 nor 1")
        targets[:, wanted.index(name)] = values
    return text(pieces[1]), text(pieces[2]), np.full(len(frame), split), targets


def _met(patients: Array, split: Array) -> BoolArray:
    """Which images are of a patient who stands in a later part of the task, too; bool (N,)."""
    tested, valid = (np.isin(patients, patients[split == part]) for part in ("test", "valid"))
    return np.asarray((tested & (split != "test")) | (valid & (split == "train")))


def _metadata(folder: Path) -> tuple[pd.DataFrame, Path] | None:
    """MIMIC-CXR's table of images, which has the dates of studies, where it is there and ages follow from these."""
    table = look_for(folder, names_of("metadata")) if look_for(folder, [PATIENTS], deep=True) else None
    return None if table is None else (read_table(table, (IMAGE, PATIENT, DATE)), table)


def _dated(frame: pd.DataFrame, path: Path, taken: tuple[pd.DataFrame, Path] | None) -> pd.DataFrame:
    """The images of a table with the dates of their studies, where these are known."""
    if taken is None:
        return frame[[IMAGE, PATIENT, VIEW]]
    other, table = taken
    at = joined(frame, path, IMAGE, other, table)
    dates = np.where(at < 0, "", text(other[DATE])[at])
    return frame[[IMAGE, PATIENT, VIEW]].assign(**{DATE: dates})
