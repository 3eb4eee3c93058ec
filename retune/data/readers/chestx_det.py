"""ChestX-Det (Lian et al., IEEE TMI 2021): NIH radiographs on which radiologists outlined 13 findings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from retune.data import findings
from retune.data.dataset import Array, Dataset, split_by_patient
from retune.data.images import FileImages, listed
from retune.data.lists import look_for, unread
from retune.data.outlines import Outlined, Outlines, Square
from retune.data.readers.base import HashedReader, Published
from retune.errors import BadTable, MissingFiles
from retune.files import parse_json, read_small

FILES: Final = {"train": "ChestX_Det_train.json", "test": "ChestX_Det_test.json"}
FOLDERS: Final = ("{}", "{}_data", "{}_data/{}", "{}_data/{}_data", "images/{}", "images", ".")
"""Where the pictures of a split lie: as they are unpacked, or all in one folder."""
SIDE: Final = 1024
"""Every picture is a square of so many pixels, as NIH published them."""
SYMPTOMS: Final = {
    "Atelectasis": "Atelectasis",
    "Calcification": "Calcification",
    "Cardiomegaly": "Cardiomegaly",
    "Consolidation": "Consolidation",
    # As a label many nodules are nodules. They are outlined together, as a region of the lung, so their masks differ.
    "Diffuse Nodule": "Nodule",
    "Effusion": "Pleural Effusion",
    "Emphysema": "Emphysema",
    "Fibrosis": "Fibrosis",
    "Fracture": "Fracture",
    "Mass": "Mass",
    "Nodule": "Nodule",
    "Pleural Thickening": "Pleural Thickening",
    "Pneumothorax": "Pneumothorax",
}
"""The data set's names of its findings, to ours."""
NAMES: Final = tuple(SYMPTOMS)
OUTLINED: Final = tuple(name if name == "Diffuse Nodule" else finding for name, finding in SYMPTOMS.items())
KEYS: Final = ("syms", "boxes", "polygons")
MOST: Final = 2**28
"""Bytes that a file of outlines may have; the larger of the published two has 2.2 million."""


@dataclass(frozen=True)
class ChestXDet(HashedReader):
    """ChestX-Det: 3,578 of NIH's radiographs on which three radiologists outlined 13 findings.

    The folder holds ``ChestX_Det_train.json`` and ``ChestX_Det_test.json`` (3,025 and 553 images), and the
    pictures in ``train/`` and ``test/`` or in folders of the names of their archives. A finding is where
    its polygons are, or its boxes where no polygon was drawn. Every image was searched for all 13.

    The files were renamed, and patients are not published: every image counts as a patient, so one may be
    in training and test.

    Args:
        valid: Share of validation images, of the official training images.
    """

    name: ClassVar[str] = "chestx-det"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Lian et al., A Structure-Aware Relation Network for Thoracic Diseases Detection and Segmentation, "
        "IEEE Transactions on Medical Imaging 40, 2021; images of the NIH Clinical Center"
    )
    licence: ClassVar[str] = "Apache-2.0 (outlines); of the images: attribute the NIH Clinical Center"
    labels: ClassVar[tuple[str, ...]] = tuple(name for name in findings.FINDINGS if name in SYMPTOMS.values())
    mapping: ClassVar[Mapping[str, str]] = SYMPTOMS
    published: ClassVar[Published | None] = Published(images=3_578)
    part_of: ClassVar[tuple[str, ...]] = ("nih",)

    valid: float = 0.1

    def read(self, root: Path | None) -> Dataset:
        """Read the outlines and where the pictures lie.

        Args:
            root: Folder of the published files.

        Raises:
            MissingFiles: If one of the two files is not there.
            BadTable: With file and image, if an entry cannot be right.
        """
        folder = self.require_root(root, tuple(FILES.values()))
        files = {
            split: path for split, name in FILES.items() if (path := look_for(folder, (name,), deep=True))
        }
        missing = [name for split, name in FILES.items() if split not in files]
        if missing:
            raise MissingFiles(
                f"{' and '.join(missing)} not found", where=str(folder), fix="put it there or check --root"
            )
        parts = {split: _entries(path) for split, path in files.items()}
        entries = [entry for part in parts.values() for entry in part]
        _refuse_twice(entries)
        names = np.array([entry.image for entry in entries], dtype=str)
        places = np.repeat(list(parts), [len(part) for part in parts.values()])
        split = np.where(places == "test", "test", split_by_patient(names, valid=self.valid, test=0.0))
        targets = np.zeros((len(entries), len(self.labels)), dtype=np.float32)
        row = np.repeat(np.arange(len(entries)), [len(entry.shapes) for entry in entries])
        shown = np.array([k for entry in entries for k in entry.symptoms], dtype=np.int64)
        column = np.array([self.labels.index(finding) for finding in SYMPTOMS.values()])
        targets[row, column[shown]] = 1
        known = np.ones((len(entries), len(NAMES)), dtype=bool)
        shapes = [shape for entry in entries for shape in entry.shapes]
        where = [entry.where for entry in entries for _ in entry.shapes]
        outlines = Outlines(known, row, shown, shapes, where)
        return Dataset(
            name=self.name,
            labels=self.labels,
            image_id=names,
            patient_id=names,
            split=split,
            targets=targets,
            images=FileImages(_paths(folder, names, places), folder),
            source=self.source,
            notes=(
                "Patients are not published: every image counts as a patient, so one may be in training and test",
                *unread(folder, [*files.values()], "the split is in the two files read"),
            ),
            choices={"split": f"official, by {' and '.join(FILES.values())}"},
            regions=Outlined(OUTLINED, lambda: outlines, Square(SIDE)),
        )


@dataclass(frozen=True)
class Entry:
    """What is written of one image.

    Args:
        image: Its file's name.
        where: Where it is written, for messages.
        symptoms: The finding of each outline, as a column of :data:`OUTLINED`.
        shapes: Each outline, a box or a polygon.
    """

    image: str
    where: str
    symptoms: list[int]
    shapes: list[Array]


def _entries(path: Path) -> list[Entry]:
    """What a file says of each image."""
    try:
        found = parse_json(read_small(path, MOST))
    except OSError as error:
        raise MissingFiles(f"cannot be read ({error.strerror})", where=str(path)) from error
    except ValueError as error:
        raise BadTable(f"is no JSON ({error})", where=str(path), fix="fetch it again") from error
    if not isinstance(found, list) or not found:
        raise BadTable("is no list of images", where=str(path), fix="fetch it again")
    return [_entry(given, f"{path}, entry {k}") for k, given in enumerate(found, start=1)]


def _entry(given: Any, where: str) -> Entry:
    if not isinstance(given, dict):
        raise BadTable("is not an object", where=where)
    image = given.get("file_name")
    if not isinstance(image, str) or not re.fullmatch(r"[^/\\:]*[^/\\:.\s][^/\\:]*", image):
        raise BadTable(f"file_name {image!r} is not a plain file name", where=where)
    where += f" ('{image}')"
    lists: list[Any] = [given.get(key) for key in KEYS]
    names, boxes, polygons = lists
    if not all(isinstance(values, list) for values in lists):
        raise BadTable(f"{', '.join(KEYS)} are not three lists", where=where)
    sizes = [len(values) for values in lists]
    if len(set(sizes)) > 1:
        told = " and ".join(f"{size} {key}" for key, size in zip(KEYS, sizes, strict=True))
        raise BadTable(f"lists of unequal length: {told}", where=where)
    unknown = next((name for name in names if name not in NAMES), None)
    if unknown is not None:
        near = difflib.get_close_matches(str(unknown), NAMES, n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        raise BadTable(f"unknown finding {unknown!r}{hint}", where=where)
    shapes = [
        _numbers(polygon, (-1, 2), "polygon", where) if polygon else _numbers(box, (4,), "box", where)
        for box, polygon in zip(boxes, polygons, strict=True)
    ]
    return Entry(image, where, [NAMES.index(name) for name in names], shapes)


def _numbers(given: Any, shape: tuple[int, ...], what: str, where: str) -> Array:
    try:
        numbers = np.asarray(given, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        numbers = np.empty(0)
    if numbers.shape[-1:] != shape[-1:] or numbers.ndim != len(shape):
        wanted = "pairs x, y" if what == "polygon" else "x1, y1, x2, y2"
        raise BadTable(f"a {what} is not {wanted}", where=where)
    return numbers


def _refuse_twice(entries: list[Entry]) -> None:
    first: dict[str, str] = {}
    for entry in entries:
        if entry.image in first:
            raise BadTable(f"the image stands in {first[entry.image]}, too", where=entry.where)
        first[entry.image] = entry.where


def _paths(root: Path, names: Array, places: Array) -> Array:
    """File of each image relative to the root, (N,); where there is none, where it ought to be."""
    found = []
    for split in FILES:
        folders = [folder.format(split, split) for folder in FOLDERS]
        there = {name: folder for folder, name in listed(root, reversed(folders))}
        own = names[places == split].tolist()
        found += [f"{there.get(name, split)}/{name}".removeprefix("./") for name in own]
    return np.array(found, dtype=str)
