"""What every reader of a public data set has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, get_args, get_origin, get_type_hints

import numpy as np

from retune.data.dataset import Array, BoolArray, Dataset, FloatArray, IntArray
from retune.data.images import FileImages
from retune.data.regions import Regions, SomeRegions
from retune.data.shares import Share
from retune.errors import BadSetting, BadTable, MissingFiles, UserError

INTERPRETATION: Final = "photometric_interpretation"
"""Name of a data set's column of what DICOM says of black and white, where pictures no longer say it themselves."""


@dataclass(frozen=True)
class Published:
    """What the publisher counts, so that a copy can be checked against it.

    Args:
        images: Images in the whole data set, every view and split.
        patients: Patients, where known.
        positives: Images per canonical label that are labelled present, where known.
    """

    images: int
    patients: int | None = None
    positives: Mapping[str, int] = field(default_factory=dict)


class Reader(ABC):
    """Reads one data set from its published files.

    A subclass is a dataclass whose fields are the reader's settings, each with a default.

    Attributes:
        name: Name in the registry.
        needs_root: Whether ``read`` needs the folder of the files.
        takes_root: Whether it has any use for one.
        source: Citation.
        licence: Terms of use, in a line.
        labels: Canonical names of its labels.
        mapping: The data set's spelling of each label it has, to the canonical name; labels that
            are not used map to ``""``. Several spellings may share one name.
        published: What a complete copy holds; None where that is not known.
        part_of: Names of data sets whose images these are, too; needed to flag contamination.
        synthetic: Whether the pictures were computed rather than taken of people.
        presets: Named settings: ``phantom/large`` is ``phantom`` with those of its preset ``large``. Beside settings one
            may name the bank of ``prompts`` for runs that name none.
        beside: Settings of every data set, applied to what ``read`` returns.
        transfer: The data set that ``--transfer`` takes in a stream of this one, where none is named; this one if empty.
        prompts: The prompt bank of runs that name none, where labels are outside the vocabulary of the usual one.
    """

    name: ClassVar[str]
    needs_root: ClassVar[bool]
    takes_root: ClassVar[bool] = True
    source: ClassVar[str]
    licence: ClassVar[str]
    labels: ClassVar[tuple[str, ...]]
    mapping: ClassVar[Mapping[str, str]] = {}
    published: ClassVar[Published | None] = None
    part_of: ClassVar[tuple[str, ...]] = ()
    synthetic: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    beside: ClassVar[type[Share]] = Share
    transfer: ClassVar[str] = ""
    prompts: ClassVar[str] = ""

    @property
    def expected(self) -> Published | None:
        """What a complete copy holds when it is read with these settings; None where that is not known."""
        return self.published

    @abstractmethod
    def read(self, root: Path | None) -> Dataset:
        """Read the table; no picture is opened.

        Args:
            root: Folder of the files, as published.

        Raises:
            UserError: If files are missing or wrong, in one line.
        """

    def __post_init__(self) -> None:
        """Refuse a value that is not among a setting's choices."""
        if not is_dataclass(self):
            return
        hints = get_type_hints(type(self))
        for setting in fields(self):
            choices = get_args(hints[setting.name]) if get_origin(hints[setting.name]) is Literal else ()
            value = getattr(self, setting.name)
            if choices and value not in choices:
                raise BadSetting(
                    f"{setting.name} is '{value}'",
                    where=f"data set {self.name}",
                    fix=f"choose {' or '.join(map(str, choices))}",
                )

    def require_root(self, root: Path | None, wanted: Sequence[str] = ()) -> Path:
        """The folder of the files, ``~`` expanded.

        Args:
            root: What the user gave.
            wanted: Files that will be looked for in it, for the message.

        Raises:
            UserError: If none was given.
            MissingFiles: If there is no such folder.
        """
        if root is None:
            raise UserError(f"--root DIR is needed: the folder that holds the files of '{self.name}'")
        folder = Path(root).expanduser()
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "there is no such folder"
            looked = f" (looked for {' or '.join(wanted)} in it)" if wanted else ""
            raise MissingFiles(what + looked, where=str(folder), fix="check --root")
        return folder


class HashedReader(Reader):
    """A reader whose setting ``valid`` is the share of patients that a hash puts aside for validation."""

    valid: float

    def __post_init__(self) -> None:
        """Refuse a share that leaves too few for training: it is from 0 to 0.8."""
        super().__post_init__()
        if not 0 <= self.valid < 0.8:
            raise BadSetting(
                f"valid is {self.valid}", where=f"data set {self.name}", fix="choose from 0 to 0.8"
            )


@dataclass(frozen=True)
class Rows:
    """What tables say of N images, before any is dropped.

    Args:
        image_id: Unique identifier per image, (N,).
        patient_id: Patient per image, (N,).
        split: ``"train"``, ``"valid"`` or ``"test"`` per image, (N,); ``""`` for one that is dropped.
        targets: float32 (N, C), C being the labels of the data set.
        files: File of each image relative to the folder, (N,).
        columns: Further columns of :class:`Dataset`, each (N,).
        regions: Where findings are in these N images, if anybody outlined them.
    """

    image_id: Array
    patient_id: Array
    split: Array
    targets: FloatArray
    files: Array
    columns: Mapping[str, Array]
    regions: Regions | None = None


def assembled(
    reader: Reader,
    rows: Rows,
    folder: Path,
    table: Path,
    *,
    drops: Mapping[str, BoolArray],
    notes: Sequence[str],
    choices: Mapping[str, str],
    labels: Sequence[str] = (),
) -> Dataset:
    """The data set of the rows that no filter drops.

    Args:
        reader: Whose it is.
        rows: All that the tables have.
        folder: What files are relative to.
        table: The table to name where nothing is left.
        drops: Which rows (N,) each filter drops, by what is said of them.
        notes: A line each.
        choices: What was chosen on reading.
        labels: Names of the columns of targets; the reader's where left out.

    Raises:
        BadTable: If no row is left.
    """
    keep, dropped = kept({"": np.zeros(len(rows.image_id), dtype=bool), **drops})
    if not len(keep):
        why = ", ".join(f"{name} ({count:,})" for name, count in dropped.items())
        raise BadTable(f"no image is left: {why}", where=str(table), fix="try --set data.views=all")
    return Dataset(
        name=reader.name,
        labels=tuple(labels or reader.labels),
        image_id=rows.image_id[keep],
        patient_id=rows.patient_id[keep],
        split=rows.split[keep],
        targets=rows.targets[keep],
        images=FileImages(rows.files[keep], folder),
        columns={name: values[keep] for name, values in rows.columns.items()},
        dropped=dropped,
        source=reader.source,
        notes=tuple(notes),
        choices=choices,
        regions=SomeRegions(rows.regions, keep) if rows.regions else None,
    )


def kept(drops: Mapping[str, BoolArray]) -> tuple[IntArray, dict[str, int]]:
    """The rows that no filter drops, and how many each drops of those that earlier ones left.

    Args:
        drops: Which rows (N,) each filter drops, by what is said of them.
    """
    left = ~np.zeros_like(next(iter(drops.values())))
    dropped = {}
    for why, gone in drops.items():
        dropped[why] = int((left & gone).sum())
        left = left & ~gone
    return np.flatnonzero(left), {why: count for why, count in dropped.items() if count}
