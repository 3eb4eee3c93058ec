"""TBX11K (Liu et al., CVPR 2020): radiographs of the healthy, of the sick, and of tuberculosis with boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np

from retune.data.dataset import Array, Dataset, split_by_patient
from retune.data.outlines import Outlined, Outlines, Square
from retune.data.readers._lists import LISTS, Chosen, listed_split
from retune.data.readers.base import HashedReader, Published, Rows, assembled
from retune.data.tables import find_table, read_table, refuse, refuse_folders, text
from retune.errors import BadTable, MissingFiles
from retune.files import parse_json, read_small

TABLE: Final = "data.csv"
PARTS: Final = {"train": "TBX11K_train.json", "test": "TBX11K_val.json"}
"""What the publisher calls validation is all that can be tested on: labels of the test images are kept back."""
KINDS: Final = {"healthy": "health", "sick_but_no_tb": "sick", "tb": "tb"}
"""What the copy on Kaggle calls an image's kind, and the publisher's folder of these."""
_SIDE: Final = r"([0-9]+(?:\.[0-9]+)?)"
_BOX: Final = rf"^\{{'xmin': {_SIDE}, 'ymin': {_SIDE}, 'width': {_SIDE}, 'height': {_SIDE}\}}$"
SIDE: Final = 512
"""Every picture is a square of so many pixels."""
MOST: Final = 2**27
"""Bytes that a file of annotations may have."""

Box = tuple[str, tuple[float, ...], str]
"""File of the image, left, upper, right and lower side, and where that is written."""


@dataclass(frozen=True)
class Tbx11k(HashedReader):
    """TBX11K: 8,399 radiographs with public labels, 3,800 healthy, 3,800 sick of something else, 799 of tuberculosis.

    The folder holds ``annotations/json/TBX11K_train.json`` and ``TBX11K_val.json`` with pictures in ``imgs/``; or
    Kaggle's copy, ``data.csv`` and ``images/``. Patients are not published: every image counts as one. What else the
    sick have is not told, so Tuberculosis and No Finding are all that is known. Boxes are weak masks.

    Names of files and columns are those that public code reads; the files were not seen.

    Args:
        split: ``official``: the publisher's training and validation images, the latter for testing; of Kaggle's copy,
            which has none, 20 % of the images by a hash; ``benchx``: by BenchX's three lists, and ``benchx-10`` and
            ``benchx-1`` by those with a part of the training images.
        valid: Share of validation images, where the split has none of its own.
    """

    name: ClassVar[str] = "tbx11k"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = "Liu et al., Rethinking Computer-Aided Tuberculosis Diagnosis, CVPR 2020"
    licence: ClassVar[str] = "CC BY-NC-SA 2.0; of some images their own collections'"
    labels: ClassVar[tuple[str, ...]] = ("No Finding", "Tuberculosis")
    mapping: ClassVar[Mapping[str, str]] = {
        "healthy": "No Finding",
        "tb": "Tuberculosis",
        "sick_but_no_tb": "",
    }
    published: ClassVar[Published | None] = Published(
        images=8_399, positives={"No Finding": 3_800, "Tuberculosis": 799}
    )

    split: Literal["official", "benchx", "benchx-10", "benchx-1"] = "official"
    valid: float = 0.1

    def read(self, root: Path | None) -> Dataset:
        """Read the annotations and where the pictures lie.

        Args:
            root: Folder of the published files, or of the copy.

        Raises:
            MissingFiles: If neither annotations nor the table are there, or not what the split needs.
            BadTable: If an annotation or a row cannot be right.
        """
        folder = self.require_root(root, (PARTS["train"], TABLE))
        place = folder / "annotations" / "json"
        official = place.is_dir()
        files, kinds, parts, boxes = _annotated(place) if official else _tabled(folder)
        names = np.array([Path(file).stem for file in files.tolist()])
        if self.split in LISTS:
            chosen = listed_split(folder, names, self.split)
        elif official:
            part = np.where(parts == "test", "test", split_by_patient(names, valid=self.valid, test=0.0))
            chosen = Chosen(
                part, f"official, by {' and '.join(PARTS.values())}, of which the latter is the test set"
            )
        else:
            hashed = split_by_patient(names, valid=self.valid)
            chosen = Chosen(hashed, f"by a hash of images, 20 % for testing; {PARTS['train']} is not there")
        return assembled(
            self,
            Rows(
                names,
                names,
                chosen.split,
                np.stack([kinds == "health", kinds == "tb"], axis=1).astype(np.float32),
                files,
                {},
                Outlined(("Tuberculosis",), partial(_outlines, files, kinds, boxes), Square(SIDE)),
            ),
            folder,
            place if official else folder / TABLE,
            drops={"in none of the lists": chosen.split == ""},
            notes=("Patients are not published: every image counts as a patient", *chosen.notes),
            choices={"split": chosen.choice},
        )


def _annotated(place: Path) -> tuple[Array, Array, Array, list[Box]]:
    """File, kind and part of each image, all (N,), and the boxes, as the publisher annotates them."""
    files: list[str] = []
    parts: list[str] = []
    boxes: list[Box] = []
    for part, name in PARTS.items():
        path = place / name
        if not path.is_file():
            raise MissingFiles(f"{name} not found", where=str(place), fix="put it there or check --root")
        try:
            told: dict[str, Any] = parse_json(read_small(path, MOST))
            of = {image["id"]: f"imgs/{image['file_name']}" for image in told["images"]}
            for box in told["annotations"]:
                x, y, width, height = map(float, box["bbox"])
                boxes.append(
                    (of[box["image_id"]], (x, y, x + width, y + height), f"{path}, annotation {box['id']}")
                )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadTable(
                f"is no list of annotations ({error!r})", where=str(path), fix="fetch it again"
            ) from error
        files += of.values()
        parts += [part] * len(of)
        for file in of.values():
            _, kind, *rest = file.split("/")
            if kind not in KINDS.values() or len(rest) != 1 or ".." in file or "\\" in file:
                raise BadTable(
                    f"'{file}' is not like imgs/tb/tb0003.png", where=str(path), fix="fetch it again"
                )
    return np.array(files), np.array([file.split("/")[1] for file in files]), np.array(parts), boxes


def _tabled(folder: Path) -> tuple[Array, Array, Array, list[Box]]:
    """The same of Kaggle's table, which has a row for each box, or one for an image without any."""
    import pandas as pd

    table = find_table(folder, (TABLE,))
    frame = read_table(table, ("fname", "bbox", "image_type"))
    refuse_folders(frame, "fname", table)
    refuse(
        frame, ~frame["image_type"].isin(KINDS), "image_type", table, f"'{{}}' is not {' or '.join(KINDS)}"
    )
    sides = frame["bbox"].str.extract(_BOX)
    boxed = sides[0].notna() & (frame["image_type"] == "tb")
    unboxed = ~boxed & (frame["image_type"] == "tb")
    refuse(frame, unboxed, "bbox", table, "'{}' is not a box of xmin, ymin, width and height")
    x, y, width, height = sides[boxed].astype(float).to_numpy().T
    files = "images/" + frame["fname"]
    where = [f"{table}, row {number}" for number in frame.index[boxed]]
    corners = np.stack([x, y, x + width, y + height], axis=1).tolist()
    boxes = [(file, tuple(box), told) for file, box, told in zip(files[boxed], corners, where, strict=True)]
    first = ~frame["fname"].duplicated()
    kinds = text(frame["image_type"].map(KINDS)[first])
    again = pd.Series(kinds, index=frame["fname"][first]).reindex(frame["fname"]).to_numpy()
    refuse(
        frame,
        again != frame["image_type"].map(KINDS).to_numpy(),
        "image_type",
        table,
        "'{}', and another row has another",
    )
    return text(files[first]), kinds, np.full(int(first.sum()), ""), boxes


def _outlines(files: Array, kinds: Array, boxes: list[Box]) -> Outlines:
    place = {file: row for row, file in enumerate(files.tolist())}
    row = np.array([place[file] for file, _, _ in boxes], dtype=np.int64)
    known = (kinds != "tb")[:, None]
    known[row] = True
    shapes = [np.array(box, dtype=np.float64) for _, box, _ in boxes]
    return Outlines(known, row, np.zeros(len(boxes), dtype=np.int64), shapes, [where for *_, where in boxes])
