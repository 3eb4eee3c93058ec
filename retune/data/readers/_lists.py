"""Published splits of sets whose publishers split nothing: lists of files, and rules that others follow."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from retune.data.dataset import SPLITS, Array
from retune.data.lists import look_for
from retune.errors import BadTable, MissingFiles
from retune.files import read_small

LISTS = {"train": "train.txt", "valid": "val.txt", "test": "test.txt"}
MOST = 2**26
"""Bytes that a list may have."""


def listed_split(root: Path, names: Array) -> tuple[Array, str]:
    """The split that BenchX's lists say (Zhou et al., NeurIPS 2024): ``train.txt``, ``val.txt`` and ``test.txt``.

    Args:
        root: Folder of the data set; the lists lie in it or in a folder within.
        names: Each image's name without its ending, (N,).

    Returns:
        ``"train"``, ``"valid"``, ``"test"``, or ``""`` for an image in no list, (N,); and the lists with their digests.

    Raises:
        MissingFiles: If a list is not there.
        BadTable: If an image stands in two lists, or a list names none of the images.
    """
    found, told = np.full(len(names), "", dtype="U5"), []
    place = {name: i for i, name in enumerate(names.tolist())}
    for split in SPLITS:
        path = look_for(root, (LISTS[split],), deep=True)
        if path is None:
            raise MissingFiles(
                f"{LISTS[split]} not found",
                where=str(root),
                fix="put BenchX's three lists there, or leave split out",
            )
        data = read_small(path, MOST)
        lines = [
            line.split()[0].split(",")[0]
            for line in data.decode(errors="replace").splitlines()
            if line.strip()
        ]
        stems = (Path(line.replace("\\", "/")).name for line in lines)
        rows = [place[stem] for name in stems if (stem := name.rpartition(".")[0] or name) in place]
        if not rows:
            raise BadTable("names none of the images", where=str(path), fix="fetch the list of this data set")
        twice = np.unique(found[rows][found[rows] != ""])
        if len(twice):
            raise BadTable(f"names images that {LISTS[str(twice[0])]} names, too", where=str(path))
        found[rows] = split
        told.append(f"{path.name} (sha256 {hashlib.sha256(data).hexdigest()[:12]})")
    return found, ", ".join(told)


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


def settled(split: Array, patients: Array) -> tuple[Array, list[str]]:
    """A published split of images as one of patients: whoever is tested on is not learnt from.

    Args:
        split: ``"train"``, ``"valid"``, ``"test"``, or ``""`` for an image that is not used, (N,).
        patients: Whose each image is, (N,).

    Returns:
        The split, and a note where the published one shares patients.
    """
    found = split.copy()
    for part in ("valid", "test"):
        found[np.isin(patients, patients[split == part]) & (split != "")] = part
    tested = np.unique(patients[split == "test"])
    both = int(np.isin(tested, patients[(split != "test") & (split != "")]).sum())
    note = (
        f"The published split has {both:,} of its {len(tested):,} test patients in training or validation, too: "
        "here they are test patients only"
    )
    return found, [note] if both else []
