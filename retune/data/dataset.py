"""The indexed table of radiographs that every scenario starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from retune.data.patients import one_spelling, placed, shown
from retune.data.regions import Regions, SomeRegions
from retune.errors import BadImage, BadSetting, BadTable, MissingFiles, UnknownName

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Split = Literal["train", "valid", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "valid", "test")


class ImageSource(Protocol):
    """Where the pictures of a data set come from: files on disk, a generator, an archive."""

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
        """The pictures of some rows as 8-bit grey; in place of an undecodable one, what is wrong with it.

        Args:
            rows: Which pictures.
            at_least: Pictures may come reduced as long as no side falls below so many pixels, where
                that saves time; None for the full size.
        """
        ...

    def keys(self, rows: IntArray) -> list[bytes | None]:
        """Digest of each row's image content (32 bytes), or None where the image is missing."""
        ...

    def exists(self, rows: IntArray) -> BoolArray:
        """Which rows' pictures are there, without reading them; bool (n,)."""
        ...

    def describe(self, row: int) -> str:
        """A name for the row's picture that a user recognises."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A table with one row per image and a label matrix.

    Args:
        name: Name in the registry, e.g. ``"nih"``.
        labels: Canonical names of the C labels.
        image_id: Unique identifier per image, shape (N,).
        patient_id: Patient per image, shape (N,); one who is written in several ways is written in one of
            them (:mod:`retune.data.patients`), and ``notes`` say so.
        split: ``"train"``, ``"valid"`` or ``"test"`` per image, shape (N,).
        targets: float32 (N, C): 1 present, 0 absent, NaN unknown or uncertain.
        images: Where the pictures come from.
        columns: Further columns, each of shape (N,); of old ``view``, ``site``, ``age``, ``sex``, ``report``, and
            ``date``: when the image was taken, ISO text (``2014-09-15``) or only its year or month, ``""`` unknown.
        dropped: How many images each filter removed on reading.
        synthetic: Whether pictures were computed rather than taken of people.
        partly_synthetic: Whether pictures of people are among them all the same.
        source: Citation or origin, for the result and the card.
        notes: What a user should know of how the table was read, a line each.
        choices: What was chosen on reading because no setting said it, e.g. ``{"split": "official, from ..."}``.
        regions: Where findings are in the pictures; None where nobody outlined any.
        share: Share of the training patients that reading kept (:mod:`retune.data.shares`).

    Raises:
        BadTable: If shapes disagree, an identifier repeats, a label is neither 0, 1 nor NaN,
            or a patient stands in two splits, even if written in another way.
    """

    name: str
    labels: tuple[str, ...]
    image_id: Array
    patient_id: Array
    split: Array
    targets: FloatArray
    images: ImageSource
    columns: Mapping[str, Array] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    synthetic: bool = False
    partly_synthetic: bool = False
    source: str = ""
    notes: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    regions: Regions | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        n = len(self.image_id)
        if self.targets.shape != (n, len(self.labels)):
            raise BadTable(
                f"label matrix is {self.targets.shape}, not {(n, len(self.labels))}", where=self.name
            )
        for column, values in {"patient_id": self.patient_id, "split": self.split, **self.columns}.items():
            if len(values) != n:
                raise BadTable(f"column {column} has {len(values)} rows, not {n}", where=self.name)
        # A set takes less time and memory than sorting what is nearly always distinct.
        if len(set(self.image_id.tolist())) < n:
            ids, counts = np.unique(self.image_id, return_counts=True)
            raise BadTable(
                f"image '{ids[counts > 1][0]}' stands in the table {counts.max()} times",
                where=self.name,
                fix="keep one row per image",
            )
        if not np.isin(self.split, SPLITS).all():
            odd = self.split[~np.isin(self.split, SPLITS)][0]
            raise BadTable(f"split '{odd}' is none of {', '.join(SPLITS)}", where=self.name)
        self._check_patients()
        if not (np.isnan(self.targets) | (self.targets == 0) | (self.targets == 1)).all():
            raise BadTable("labels must be 1, 0 or NaN", where=self.name)

    def _check_patients(self) -> None:
        ids, several = one_spelling(np.asarray(self.patient_id))
        _, patient = np.unique(ids, return_inverse=True)
        names, split = np.unique(self.split, return_inverse=True)
        seen = np.zeros((patient.max(initial=-1) + 1, len(names)), dtype=bool)
        seen[patient, split] = True
        twice = np.flatnonzero(seen.sum(axis=1) > 1)
        if len(twice):
            raise self._in_two_splits(patient == twice[0], len(twice) - 1)
        if several:
            # Whoever reads the column from here on sees one patient: streams, intervals, the fingerprint.
            object.__setattr__(self, "patient_id", ids)
            first = " and ".join(shown(*several[0]))
            more = f" (and {len(several) - 1:,} more such)" if len(several) > 1 else ""
            note = f"Patients written in several ways count as one each: {first}{more}"
            object.__setattr__(self, "notes", (*self.notes, note))

    def _in_two_splits(self, rows: BoolArray, others: int) -> BadTable:
        """What is wrong with a patient whose images, bool (N,), stand in several splits."""
        spelt: dict[str, str] = {}
        for split, name in zip(self.split[rows].tolist(), self.patient_id[rows].tolist(), strict=True):
            spelt.setdefault(split, str(name))
        more = f", and so are {others} others" if others else ""
        if len(set(spelt.values())) == 1:
            where = " and ".join(sorted(spelt))
            what = f"patient '{next(iter(spelt.values()))}' is in {where}{more}"
            return BadTable(what, where=self.name, fix="put all images of a patient into one split")
        parts = sorted(spelt)
        names = shown(*(spelt[part] for part in parts))
        places = " and ".join(f"{name} in {part}" for name, part in zip(names, parts, strict=True))
        return BadTable(
            f"one patient, written in several ways, is in several splits: {places}{more}",
            where=self.name,
            fix="write each patient in one way and put all its images into one split",
        )

    def __len__(self) -> int:
        return len(self.image_id)

    def rows(self, split: Split) -> IntArray:
        """Row numbers of one split, in table order."""
        return np.flatnonzero(self.split == split).astype(np.int64)

    def require_images(self, rows: IntArray, keys: Sequence[bytes | None]) -> None:
        """See that no image is missing.

        Args:
            rows: The images needed.
            keys: What ``images.keys(rows)`` gave.

        Raises:
            MissingFiles: Says how many are missing, and the first three.
        """
        missing = [int(row) for row, key in zip(rows, keys, strict=True) if key is None]
        if missing:
            names = ", ".join(self.images.describe(row) for row in missing[:3])
            raise MissingFiles(
                f"{len(missing):,} of {len(rows):,} images are missing: {names}{', ...' if len(missing) > 3 else ''}",
                where=f"data set {self.name}",
                fix="check --root, or go on without them with --skip-bad-images",
            )

    def take(self, rows: IntArray, *, dropped: Mapping[str, int] | None = None) -> Dataset:
        """The data set with only these rows, in this order.

        Args:
            rows: Row numbers to keep.
            dropped: Further entries for ``dropped``: why rows went, and how many.
        """
        return replace(
            self,
            image_id=self.image_id[rows],
            patient_id=self.patient_id[rows],
            split=self.split[rows],
            targets=self.targets[rows],
            images=SomeImages(self.images, rows),
            columns={name: values[rows] for name, values in self.columns.items()},
            dropped={**self.dropped, **(dropped or {})},
            regions=SomeRegions(self.regions, rows) if self.regions else None,
        )

    def with_labels(self, labels: Sequence[str]) -> Dataset:
        """The data set with only these labels, in this order.

        Args:
            labels: Canonical names, each one of ``self.labels``.

        Raises:
            UnknownName: If it has no such label.
        """
        for label in labels:
            if label not in self.labels:
                raise UnknownName("label", label, self.labels, where=f"data set {self.name}")
        columns = [self.labels.index(label) for label in labels]
        return replace(self, labels=tuple(labels), targets=self.targets[:, columns])

    def with_split(self, split: Array) -> Dataset:
        """The data set with another split, ``"train"``, ``"valid"`` or ``"test"`` per image, shape (N,).

        Raises:
            BadSetting: If a share of the training patients was taken by the split there was.
        """
        if self.share < 1:
            raise BadSetting(
                "patients are split anew, so a share of those who were for training means nothing",
                where=f"data set {self.name}, setting share",
                fix="leave it out or choose another scenario",
            )
        choices = {name: choice for name, choice in self.choices.items() if not name.endswith("split")}
        return replace(self, split=split, choices=choices)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should read above a result: each choice made on reading, and the notes."""
        return (*(f"Chosen {what}: {choice}" for what, choice in self.choices.items()), *self.notes)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of labels, identifiers, patients, splits and targets; no path enters it."""
        digest = hashlib.sha256()
        for part in (self.name, *self.labels):
            digest.update(part.encode() + b"\0")
        for values in (self.image_id, self.patient_id, self.split):
            digest.update("\0".join(map(str, values.tolist())).encode())
        # NaN has many bit patterns: spell it as one code.
        codes = np.where(np.isnan(self.targets), 2, self.targets).astype(np.uint8)
        digest.update(codes.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class SomeImages:
    """Some rows of another image source."""

    source: ImageSource
    index: IntArray

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
        """The pictures of some rows."""
        return self.source.load(self.index[rows], at_least)

    def keys(self, rows: IntArray) -> list[bytes | None]:
        """Digest of each row's image content."""
        return self.source.keys(self.index[rows])

    def exists(self, rows: IntArray) -> BoolArray:
        """Which rows' pictures are there."""
        return self.source.exists(self.index[rows])

    def describe(self, row: int) -> str:
        """A name for the row's picture."""
        return self.source.describe(int(self.index[row]))


def split_by_patient(
    patients: Sequence[Any] | Array, *, valid: float = 0.1, test: float = 0.2, salt: str = "retune"
) -> Array:
    """Assign splits by a hash of the patient, stable when rows or patients are added.

    A patient written in several ways is one patient (:func:`retune.data.patients.one_spelling`).

    Args:
        patients: Patient per image, length N.
        valid: Expected share of validation patients.
        test: Expected share of test patients.
        salt: Changes the assignment.

    Returns:
        Array of shape (N,) holding ``"train"``, ``"valid"`` or ``"test"``.
    """
    place = placed(np.asarray(patients), salt)
    return np.where(place < test, "test", np.where(place < test + valid, "valid", "train"))
