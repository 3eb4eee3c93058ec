"""ChestMNIST (Yang et al., 2023): NIH ChestX-ray14 made small; downloads itself, without an account."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Final

import numpy as np
from filelock import FileLock
from PIL import Image

from retune.cache import cache_dir, file_digests
from retune.data import findings
from retune.data.dataset import Array, BoolArray, Dataset, FloatArray, IntArray
from retune.data.readers.base import Published, Reader
from retune.errors import BadImage, BadSetting, BadTable, MissingFiles, UserError, install
from retune.files import DAMAGE, PARTIAL, group_of, make_shared, require_plain, storing, write_whole

SIZES: Final = (28, 64, 128, 224)
SPLITS: Final = {"train": "train", "val": "valid", "test": "test"}
"""ChestMNIST's names of the splits, to retune's."""
URL: Final = "https://zenodo.org/records/10519652/files/{}?download=1"
"""Where each file is published; the same as in ``medmnist.INFO``."""


@dataclass(frozen=True)
class ChestMNIST(Reader):
    """ChestMNIST: the 112,120 frontal radiographs of NIH ChestX-ray14, square and small, with its 14 findings.

    With ``--root`` the file ``chestmnist.npz`` (28 pixels) or ``chestmnist_SIZE.npz`` is looked for
    there. Without, it lies in the folder ``chestmnist`` of retune's cache, and is downloaded where it is not.

    The file holds no patient numbers, so every image counts as a patient of its own. The published split
    is by patient, so none stands in two splits; but a patient may have several images within one, and then
    intervals over "patients" are intervals over images, a little too narrow, and the experiences of a stream
    may share patients.

    Where pictures are needed, those of a split are unpacked into the cache once (1.8 GB in all at 128 pixels,
    5.6 GB at 224) and read from there: no more than a batch of them is in memory.

    Args:
        size: Side of the pictures in pixels: 28, 64, 128 or 224.
    """

    name: ClassVar[str] = "chestmnist"
    needs_root: ClassVar[bool] = False
    source: ClassVar[str] = (
        "Yang et al., MedMNIST v2: A large-scale lightweight benchmark for 2D and 3D biomedical image "
        "classification, Scientific Data 10:41, 2023; pictures and labels: NIH Clinical Center; "
        "Wang et al., CVPR 2017"
    )
    licence: ClassVar[str] = "CC BY 4.0; cite Yang et al., 2023, and Wang et al., 2017"
    labels: ClassVar[tuple[str, ...]] = findings.NIH
    mapping: ClassVar[Mapping[str, str]] = {
        "atelectasis": "Atelectasis",
        "cardiomegaly": "Cardiomegaly",
        "effusion": "Pleural Effusion",
        "infiltration": "Infiltration",
        "mass": "Mass",
        "nodule": "Nodule",
        "pneumonia": "Pneumonia",
        "pneumothorax": "Pneumothorax",
        "consolidation": "Consolidation",
        "edema": "Edema",
        "emphysema": "Emphysema",
        "fibrosis": "Fibrosis",
        "pleural": "Pleural Thickening",
        "hernia": "Hernia",
    }
    published: ClassVar[Published | None] = Published(images=112_120)
    part_of: ClassVar[tuple[str, ...]] = ("nih",)

    size: int = 128

    def __post_init__(self) -> None:
        """Refuse a size that is not published."""
        super().__post_init__()
        if self.size not in SIZES:
            sizes = " or ".join(map(str, SIZES))
            raise BadSetting(f"size is {self.size}", where=f"data set {self.name}", fix=f"choose {sizes}")

    def read(self, root: Path | None) -> Dataset:
        """Read the labels, after a download where that is needed; no picture is unpacked.

        Args:
            root: Folder of the file; None for retune's cache.

        Raises:
            MissingFiles: If the file is not there and cannot be downloaded.
            BadTable: If it is damaged, or not ChestMNIST of this size.
        """
        path = self._downloaded() if root is None else self._found(root)
        targets: list[FloatArray] = []
        with _reading(path), zipfile.ZipFile(path) as archive:
            require_plain(path)
            for split in SPLITS:
                with archive.open(f"{split}_labels.npy") as stream:
                    labels = np.lib.format.read_array(stream, allow_pickle=False)
                with archive.open(f"{split}_images.npy") as stream:
                    shape, dtype = _header(stream)
                _check(split, labels, shape, dtype, self.size, path)
                targets.append(labels.astype(np.float32))
        counts = tuple(len(labels) for labels in targets)
        ids = np.concatenate([_ids(split, count) for split, count in zip(SPLITS, counts, strict=True)])
        return Dataset(
            name=self.name,
            labels=self.labels,
            image_id=ids,
            patient_id=ids,
            split=np.repeat(list(SPLITS.values()), counts),
            targets=np.concatenate(targets),
            images=NpzImages(path, counts),
            columns={"view": np.full(len(ids), "frontal")},
            source=self.source,
            choices={"split": f"as published in {path.name}"},
        )

    def _found(self, root: Path) -> Path:
        file = _file(self.size)
        folder = self.require_root(root, (file,))
        if not (folder / file).is_file():
            others = [f"size={size}" for size in SIZES if (folder / _file(size)).is_file()]
            instead = f"choose {' or '.join(others)}, which is there, or " if others else ""
            raise MissingFiles(
                f"there is no {file} here",
                where=str(folder),
                fix=f"{instead}put {URL.format(file)} there, or leave --root out to have it downloaded",
            )
        return folder / file

    def _downloaded(self) -> Path:
        file = _file(self.size)
        folder = cache_dir() / self.name
        if (folder / file).is_file():
            return folder / file
        make_shared(folder)
        with FileLock(folder / ".lock", mode=0o666):
            if not (folder / file).is_file():
                _download(self.size, folder)
        return folder / file


@dataclass(frozen=True)
class NpzImages:
    """The pictures of a ChestMNIST file; an ``ImageSource``.

    Args:
        path: The file.
        counts: How many pictures each split has, in the order of ``SPLITS``; rows are numbered through.
    """

    path: Path
    counts: tuple[int, ...]

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
        """The pictures of some rows, always at full size.

        Raises:
            BadTable: If the file is damaged.
            StorageError: If they cannot be unpacked for want of space.
        """
        pictures: dict[int, Image.Image | BadImage] = {}
        part, index = self._places(rows)
        for k in np.unique(part).tolist():
            here = np.flatnonzero(part == k)
            # The map lives for this batch only: its pages would count as this process's memory.
            pixels = np.load(self._unpacked(list(SPLITS)[k]), mmap_mode="r", allow_pickle=False)[index[here]]
            pictures.update(zip(here.tolist(), map(Image.fromarray, np.asarray(pixels)), strict=True))
        return [pictures[i] for i in range(len(rows))]

    def keys(self, rows: IntArray) -> list[bytes | None]:
        """Digest of the whole file and the picture's place in it: nothing needs to be unpacked."""
        file = file_digests([self.path])[0]
        if file is None:
            return [None] * len(rows)
        names = list(SPLITS)
        part, index = (values.tolist() for values in self._places(rows))
        return [
            hashlib.sha256(file + f"{names[k]}\0{i}".encode()).digest()
            for k, i in zip(part, index, strict=True)
        ]

    def exists(self, rows: IntArray) -> BoolArray:
        """All pictures are there, or none is."""
        return np.full(len(rows), self.path.is_file())

    def describe(self, row: int) -> str:
        """Split and number of the row's picture."""
        part, index = self._places(np.array([row]))
        return f"chestmnist {list(SPLITS)[part[0]]} image {index[0]}"

    def _places(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Number of each row's split, and its place in that split."""
        ends = np.cumsum(self.counts)
        part = np.searchsorted(ends, rows, side="right").astype(np.int64)
        return part, np.asarray(rows - (ends - self.counts)[part], dtype=np.int64)

    def _unpacked(self, split: str) -> Path:
        """The pictures of a split as an array file in the cache; a map into compressed data is not possible."""
        digest = file_digests([self.path])[0]
        if digest is None:
            raise MissingFiles(f"{self.path.name} is no longer there", where=str(self.path.parent))
        folder = cache_dir() / ChestMNIST.name
        target = folder / f"{digest.hex()[:32]}-{split}.npy"
        if target.is_file():
            return target
        make_shared(folder)
        with FileLock(folder / ".lock", mode=0o666):
            if not target.is_file():
                _unpack(self.path, f"{split}_images.npy", target)
        return target


def _file(size: int) -> str:
    return "chestmnist.npz" if size == 28 else f"chestmnist_{size}.npz"


def _ids(split: str, count: int) -> Array:
    return np.char.add(f"{split}-", np.char.zfill(np.arange(count).astype(str), 6))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into one line."""
    try:
        yield
    except KeyError as error:
        name = str(error.args[0]).partition("'")[2].partition(".npy")[0]
        raise BadTable(
            f"holds no array {name}", where=str(path), fix="is it a file of ChestMNIST?"
        ) from error
    except PermissionError as error:
        raise MissingFiles(f"cannot be read ({error.strerror})", where=str(path)) from error
    except DAMAGE as error:
        raise BadTable(f"is not a whole npz file ({error})", where=str(path), fix="fetch it again") from error


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array file, without its values."""
    first = np.lib.format.read_magic(stream) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def _check(
    split: str, labels: Array, shape: tuple[int, ...], dtype: np.dtype[Any], size: int, path: Path
) -> None:
    n, c = len(labels) if labels.ndim else 0, len(ChestMNIST.labels)
    if labels.shape != (n, c):
        raise BadTable(f"{split}_labels is of shape {labels.shape}, not (N, {c})", where=str(path))
    if not np.isin(labels, (0, 1)).all():
        row, column = np.argwhere(~np.isin(labels, (0, 1)))[0].tolist()
        where = f"{path}, {split}_labels, row {row}, column {column}"
        raise BadTable(f"'{labels[row, column]}' is neither 0 nor 1", where=where)
    if shape != (n, size, size):
        known = f"is this the file of size={shape[-1]}?" if shape[-1:] and shape[-1] in SIZES else None
        what = f"{split}_images is of shape {shape}, not {(n, size, size)}"
        raise BadTable(what, where=str(path), fix=known)
    if dtype != np.uint8:
        raise BadTable(f"{split}_images is of {dtype}, not uint8", where=str(path))


def _download(size: int, folder: Path) -> None:
    """Put the whole file into a folder, or nothing."""
    file = _file(size)
    try:
        import medmnist
    except ImportError as error:
        raise UserError(
            f"needs the package medmnist to download {file}",
            where="data set chestmnist",
            fix=f"{install('chestmnist')}, or put {URL.format(file)} into {folder}",
        ) from error
    with tempfile.TemporaryDirectory(dir=folder, prefix=PARTIAL) as partial:
        try:
            # medmnist compares the MD5 it publishes; "val" is the smallest array to open after that.
            medmnist.ChestMNIST(split="val", root=partial, size=size, download=True)
        except RuntimeError as error:
            # medmnist catches everything and tells how to do it by hand, over twelve lines.
            reason = error.__context__ or error
            if isinstance(reason, KeyboardInterrupt):
                raise reason from None
            raise MissingFiles(
                f"{file} could not be downloaded ({reason})",
                where=str(folder),
                fix=f"put {URL.format(file)} there, or name its folder with --root",
            ) from error
        with storing(folder / file):
            os.chmod(Path(partial) / file, 0o644 | group_of(folder))
            os.replace(Path(partial) / file, folder / file)


def _unpack(path: Path, member: str, target: Path) -> None:
    """Copy an array out of an archive, checked by its CRC-32; whole or not at all."""
    with _reading(path), zipfile.ZipFile(path) as archive, archive.open(member) as packed:
        write_whole(target, iter(lambda: packed.read(2**20), b""), shared=True)
