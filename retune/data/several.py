"""Several data sets as one: for streams that go from one data set to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from retune.data.dataset import Array, BoolArray, Dataset, ImageSource, IntArray
from retune.data.findings import FINDINGS
from retune.data.readers.base import Reader
from retune.data.reading import read
from retune.data.shares import Share, with_share
from retune.errors import BadImage, BadSetting, UnknownName

T = TypeVar("T")


@dataclass(frozen=True)
class SeveralReader:
    """Reads one data set, or several as one.

    Args:
        readers: In the order in which the data sets are named.
        shares: How much is used of the training part of each, by name; all where nothing is said.

    Raises:
        BadSetting: If there is none, one is named twice, or two hold the same images.
    """

    readers: tuple[Reader, ...]
    shares: Mapping[str, Share] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _refuse_names([reader.name for reader in self.readers])
        for k, one in enumerate(self.readers):
            for other in self.readers[k + 1 :]:
                _refuse_shared(one, other)

    @property
    def name(self) -> str:
        """The names as a user gives them, e.g. ``"chexpert,nih"``."""
        return ",".join(reader.name for reader in self.readers)

    def read(self, roots: Mapping[str, Path | None]) -> Dataset:
        """Read the tables; no picture is opened.

        Args:
            roots: Folder of each data set's files by its name, where it needs one.

        Returns:
            The data set itself where there is one only, else all of them by :func:`combine`.

        Raises:
            UserError: If a folder is of no data set here, or files are missing or wrong.
        """
        names = [reader.name for reader in self.readers]
        for name in roots:
            if name not in names:
                raise UnknownName("data set", name, names, where="--root")
        datasets = [
            with_share(read(reader, roots.get(reader.name)), self.shares.get(reader.name, Share()))
            for reader in self.readers
        ]
        return datasets[0] if len(datasets) == 1 else combine(datasets)


@dataclass(frozen=True)
class Several:
    """The pictures of several data sets, one after the other; an ``ImageSource``.

    Args:
        names: Name of each data set.
        parts: Where the pictures of each come from.
        sizes: How many rows each has.
    """

    names: tuple[str, ...]
    parts: tuple[ImageSource, ...]
    sizes: tuple[int, ...]

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
        """The pictures of some rows."""
        return self._ask(rows, lambda part, own: part.load(own, at_least))

    def keys(self, rows: IntArray) -> list[bytes | None]:
        """Digest of each row's image content."""
        return self._ask(rows, lambda part, own: part.keys(own))

    def exists(self, rows: IntArray) -> BoolArray:
        """Which rows' pictures are there."""
        return np.array(self._ask(rows, lambda part, own: part.exists(own).tolist()), dtype=bool)

    def describe(self, row: int) -> str:
        """Data set and name of the row's picture."""
        part, own = self._locate(np.array([row]))
        return f"{self.names[part[0]]}/{self.parts[part[0]].describe(int(own[0]))}"

    def _locate(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """The part each row lies in, and its row there."""
        starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        part = np.searchsorted(starts, rows, side="right").astype(np.int64) - 1
        return part, rows - starts[part]

    def _ask(self, rows: IntArray, ask: Callable[[ImageSource, IntArray], Sequence[T]]) -> list[T]:
        """Ask every part once, and put the answers into the order of the rows."""
        part, own = self._locate(rows)
        answers: list[T] = []
        for k in np.unique(part).tolist():
            answers.extend(ask(self.parts[k], own[part == k]))
        place = np.argsort(np.argsort(part, kind="stable"))
        return [answers[i] for i in place.tolist()]


def combine(datasets: Sequence[Dataset]) -> Dataset:
    """Put data sets one after the other, so that a scenario sees them as one.

    Labels are the union in the order of :data:`retune.data.findings.FINDINGS`, others after them as they
    appear. Images and patients are named ``NAME/...``. A column ``dataset`` says where an image is
    from; a column that a data set lacks is ``""`` or NaN there.

    Args:
        datasets: Of distinct names.

    Returns:
        A data set named ``"NAME,NAME"``. Targets are NaN where a data set does not have the label. It
        counts as synthetic if any part is: no number of it may pass for one on people.

    Raises:
        BadSetting: If there is none, or two have one name.
    """
    names = tuple(dataset.name for dataset in datasets)
    _refuse_names(names)
    sizes = tuple(map(len, datasets))
    found = list(dict.fromkeys(label for dataset in datasets for label in dataset.labels))
    labels: list[str] = [label for label in FINDINGS if label in found]
    labels += [label for label in found if label not in FINDINGS]
    targets = np.full((sum(sizes), len(labels)), np.nan, dtype=np.float32)
    for dataset, end in zip(datasets, np.cumsum(sizes).tolist(), strict=True):
        targets[end - len(dataset) : end, [labels.index(label) for label in dataset.labels]] = dataset.targets
    columns = dict.fromkeys(name for dataset in datasets for name in dataset.columns)
    return Dataset(
        name=",".join(names),
        labels=tuple(labels),
        image_id=np.concatenate([np.char.add(f"{d.name}/", d.image_id.astype(str)) for d in datasets]),
        patient_id=np.concatenate([np.char.add(f"{d.name}/", d.patient_id.astype(str)) for d in datasets]),
        split=np.concatenate([dataset.split for dataset in datasets]),
        targets=targets,
        images=Several(names, tuple(dataset.images for dataset in datasets), sizes),
        columns={
            **{column: _column(datasets, column) for column in columns},
            "dataset": np.repeat(np.array(names), sizes),
        },
        dropped={f"{d.name}: {why}": count for d in datasets for why, count in d.dropped.items()},
        notes=tuple(f"{data.name}: {note}" for data in datasets for note in data.notes),
        choices={f"{d.name} {what}": choice for d in datasets for what, choice in d.choices.items()},
        synthetic=any(dataset.synthetic for dataset in datasets),
        partly_synthetic=len({dataset.synthetic for dataset in datasets}) > 1
        or any(dataset.partly_synthetic for dataset in datasets),
        source="; ".join(f"{dataset.name}: {dataset.source}" for dataset in datasets if dataset.source),
        share=min(dataset.share for dataset in datasets),
    )


def _column(datasets: Sequence[Dataset], name: str) -> Array:
    """A column of all data sets, shape (N,): numbers where all are numbers, else text."""
    found = [dataset.columns.get(name) for dataset in datasets]
    if all(values is None or values.dtype.kind in "biuf" for values in found):
        missing: Any = np.float32(np.nan)
    else:
        missing = ""
        found = [None if values is None else _as_text(values) for values in found]
    return np.concatenate(
        [
            np.full(len(dataset), missing) if values is None else values
            for dataset, values in zip(datasets, found, strict=True)
        ]
    )


def _as_text(values: Array) -> Array:
    if values.dtype.kind not in "biuf":
        return values
    return np.where(np.isnan(values.astype(float)), "", values.astype(str))


def _refuse_names(names: Sequence[str]) -> None:
    if not names:
        raise BadSetting("no data set is named", where="--data", fix="name one, or several as chexpert,nih")
    twice = [name for k, name in enumerate(names) if name in names[:k]]
    if twice:
        raise BadSetting(f"data set {twice[0]} is named twice", where="--data", fix="name it once")


def _refuse_shared(one: Reader, other: Reader) -> None:
    # Their splits differ, so that an image of one's training set may be a test image of the other.
    shared = {one.name, *one.part_of} & {other.name, *other.part_of}
    if shared:
        raise BadSetting(
            f"{one.name} and {other.name} both hold images of {min(shared)}, so test images would be trained on",
            where="--data",
            fix="name one of them",
        )
