"""Published splits of sets whose publishers split nothing: lists of files, and rules that others follow."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from retune.data.dataset import SPLITS, Array, IntArray
from retune.data.lists import look_for
from retune.errors import BadTable, MissingFiles
from retune.files import read_small

LISTS: Final = {
    "benchx": ("train.txt", "val.txt", "test.txt"),
    "benchx-10": ("train_10.txt", "val.txt", "test.txt"),
    "benchx-1": ("train_1.txt", "val.txt", "test.txt"),
    "arnoweng": ("train_list.txt", "val_list.txt", "test_list.txt"),
}
"""Files of a published split, for training, validation and testing.

BenchX (Zhou et al., NeurIPS 2024) has them for each of its data sets in ``preprocess/datasets/`` of its repository, with
two more that hold 1 and 10 % of the training images. Arnoweng's are those of ``ChestX-ray14/labels/`` in the repository
CheXNet, which follow Rajpurkar et al., 2017: 78,468, 11,219 and 22,433 images, by patient.
"""
WHOSE: Final = {kind: "Arnoweng's" if kind == "arnoweng" else "BenchX's" for kind in LISTS}
MOST: Final = 2**26
"""Bytes that a list may have."""


@dataclass(frozen=True)
class Chosen:
    """A split, and what is to be said of it.

    Args:
        split: ``"train"``, ``"valid"``, ``"test"``, or ``""`` for an image that is in none of the lists, (N,).
        choice: How it came about.
        notes: What is wrong with it, a line each.
        lists: The files that say so.
    """

    split: Array
    choice: str
    notes: tuple[str, ...] = ()
    lists: tuple[Path, ...] = ()

    @property
    def kept(self) -> IntArray:
        """Rows that are in any part, (n,)."""
        return np.flatnonzero(self.split != "")

    @property
    def dropped(self) -> dict[str, int]:
        """How many are in none."""
        left = int((self.split == "").sum())
        return {"in none of the lists": left} if left else {}


def listed_split(root: Path, names: Array, kind: str) -> Chosen:
    """The split that published lists say, with their digests, and a note where they name images that are not here.

    Args:
        root: Folder of the data set; the lists lie together in it or in a folder within.
        names: Each image's name without its ending, (N,).
        kind: Whose lists, one of :data:`LISTS`.

    Raises:
        MissingFiles: If a list is not there.
        BadTable: If an image stands in two lists, or a list names none of the images.
    """
    found, told, absent, paths = np.full(len(names), "", dtype="U5"), [], [], []
    place = {name: i for i, name in enumerate(names.tolist())}
    # Other publishers call their lists likewise: the second name tells whose folder it is.
    first = look_for(root, (LISTS[kind][1],), deep=True)
    for split, name in zip(SPLITS, LISTS[kind], strict=True):
        path = look_for(first.parent if first else root, (name,))
        if path is None:
            raise MissingFiles(
                f"{name} not found",
                where=str(first.parent if first else root),
                fix=f"put {WHOSE[kind]} three lists there, or leave split out",
            )
        data = read_small(path, MOST)
        lines = [
            line.split()[0].split(",")[0]
            for line in data.decode(errors="replace").splitlines()
            if line.strip()
        ]
        stems = [Path(line.replace("\\", "/")).name for line in lines]
        rows = [place[stem] for name in stems if (stem := name.rpartition(".")[0] or name) in place]
        if not rows:
            raise BadTable("names none of the images", where=str(path), fix="fetch the list of this data set")
        twice = np.unique(found[rows][found[rows] != ""])
        if len(twice):
            other = LISTS[kind][SPLITS.index(twice[0])]
            raise BadTable(f"names images that {other} names, too", where=str(path))
        found[rows] = split
        paths.append(path)
        told.append(f"{path.name} (sha256 {hashlib.sha256(data).hexdigest()[:12]})")
        if len(rows) < len(stems):
            absent.append(f"{len(stems) - len(rows):,} of {path.name}'s {len(stems):,}")
    notes = (f"Images that the lists name and that are not here: {', '.join(absent)}",) if absent else ()
    return Chosen(found, f"{WHOSE[kind]} lists, {', '.join(told)}", notes, tuple(paths))


def drawn_split(n: int, held: int | float, test: int | float) -> Array:
    """The split that GLoRIA and MGCA draw: two of scikit-learn's, with ``random_state=0``.

    Args:
        n: How many rows.
        held: How many, or what share, are put aside from training.
        test: How many, or what share, of these are put aside from testing for validation.

    Returns:
        ``"train"``, ``"valid"`` or ``"test"`` of each row, (n,).
    """
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

    found = np.full(n, "train", dtype="U5")
    _, rest = train_test_split(np.arange(n), test_size=held, random_state=0)
    tested, valid = train_test_split(rest, test_size=test, random_state=0)
    found[tested], found[valid] = "test", "valid"
    return found


def settled(chosen: Chosen, patients: Array) -> Chosen:
    """A published split of images as one of patients: whoever is tested on is not learnt from.

    Args:
        chosen: Of N images.
        patients: Whose each image is, (N,).

    Returns:
        The split, with a note where the published one shares patients.
    """
    split, found = chosen.split, chosen.split.copy()
    for part in ("valid", "test"):
        found[np.isin(patients, patients[split == part]) & (split != "")] = part
    tested = np.unique(patients[split == "test"])
    both = int(np.isin(tested, patients[(split != "test") & (split != "")]).sum())
    note = (
        f"The published split has {both:,} of its {len(tested):,} test patients in training or validation, too: "
        "here they are test patients only"
    )
    return replace(chosen, split=found, notes=(*chosen.notes, note) if both else chosen.notes)
