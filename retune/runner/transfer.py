"""What ``--transfer`` asks for: the measurement, the data set with the masks, and which of its images are whose."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retune.backbones.base import Backbone
from retune.backbones.contamination import Contaminated, contamination
from retune.data.dataset import SPLITS, Dataset, IntArray, Split
from retune.data.patients import normal_form
from retune.data.source import DataSource
from retune.errors import BadSetting, UserError
from retune.plugins import blamed, code_of, registry
from retune.progress import Progress
from retune.runner.content import content_of
from retune.settings import make, settings_of, values_of
from retune.streams.stream import Stream
from retune.transfers.base import Transfer

Root = str | Path | Mapping[str, str | Path] | None
NAMES = {"train": "training", "valid": "validation", "test": "test"}


@dataclass(frozen=True)
class Asked:
    """A transfer as it is asked for; nothing has been read yet.

    Args:
        transfer: The measurement.
        source: The data set with the masks.
        called: Its name, or a preset's, as ``phantom/regions``.
        code: Digest of a plugin's code.
    """

    transfer: Transfer
    source: DataSource
    called: str
    code: str = ""

    def identity(self) -> dict[str, Any]:
        """Whatever names and settings determine what is measured."""
        return {
            "name": self.transfer.name,
            "settings": values_of(self.transfer),
            "data": {"name": self.source.name, "settings": self.source.settings},
            **({"code": self.code} if self.code else {}),
        }


def ask(
    text: str, data: str, root: Root, given: Mapping[str, Any], beside: Mapping[str, Any]
) -> tuple[Asked, Root]:
    """Make the measurement and the reader of its data set.

    Args:
        text: ``NAME`` or ``NAME:DATA``.
        data: The data sets of the stream.
        root: Where files are; of both data sets, by name.
        given: Settings; those that are none of the measurement's go to its data set.
        beside: Settings of the stream's data set, which its own transfer reads in the same way.

    Returns:
        The transfer, and the folders that are left for the stream.

    Raises:
        UserError: If a name or a setting is wrong.
    """
    name, _, chosen = text.partition(":")
    cls = registry("transfers").load(name)
    streams = [registry("datasets").load_preset(one.strip()) for one in data.split(",")]
    names = [plain for _, plain, _ in streams]
    if text.endswith(":"):
        raise BadSetting(
            "names no data set behind the colon", where=f"--transfer {text}", fix=f"write {name}:DATA"
        )
    if not chosen:
        if len(streams) > 1:
            raise BadSetting(
                f"which of {', '.join(names)} has the masks is not said",
                where="--transfer",
                fix=f"write {name}:DATA",
            )
        chosen = streams[0][0].transfer or data
    same = chosen == data
    _, own, _ = registry("datasets").load_preset(chosen)
    mine = {setting.name for setting in settings_of(cls)}
    settings = {key: value for key, value in given.items() if key.replace("-", "_") in mine}
    rest = {key: value for key, value in given.items() if key not in settings}
    rest = {**beside, **rest} if same else rest
    place, left = root, root
    if isinstance(root, Mapping):
        place = root.get(own)
        left = {key: value for key, value in root.items() if key != own or own in names} or None
    elif own not in names:
        # One folder is the stream's, unless that has no files.
        takes = any(reader.takes_root for reader, _, _ in streams)
        place, left = (None, root) if takes else (root, None)
    with blamed(cls, "transfer", "__init__"):
        made = make(cls, settings, owner=f"transfer {name}")
    source = DataSource.make(chosen, place, rest)
    return Asked(made, source, chosen, code_of("transfers", name, cls)), left


@dataclass(frozen=True)
class Arranged:
    """Which images a transfer learns from, chooses on and is judged on.

    Args:
        dataset: With regions.
        rows: Of each split; of some of their findings somebody looked for.
        content: Digests of the images' content, in the order of the splits.
        contaminated: Whether the backbone saw the data set in pre-training.
        notes: What a reader should know.
    """

    dataset: Dataset
    rows: Mapping[Split, IntArray]
    content: list[bytes | None]
    contaminated: Contaminated
    notes: tuple[str, ...]

    @property
    def every(self) -> IntArray:
        """All rows, one split after the other."""
        return np.concatenate([self.rows[split] for split in SPLITS])

    def identity(self) -> dict[str, Any]:
        """Digests of the table, the pictures and the outlines."""
        assert self.dataset.regions is not None
        outlines = self.dataset.regions.keys(self.every)
        return {
            "dataset": self.dataset.fingerprint,
            "images": hashlib.sha256(b"".join(key or b"\0" for key in self.content)).hexdigest(),
            "regions": hashlib.sha256(b"".join(outlines)).hexdigest(),
        }


def arrange(
    asked: Asked,
    dataset: Dataset,
    backbone: Backbone,
    *,
    taught: Taught,
    skip_bad_images: bool,
    progress: Progress | None,
) -> Arranged:
    """Find the images of a transfer, and see which of them the stream teaches.

    Args:
        asked: The transfer.
        dataset: Its data set.
        backbone: Whose pre-training may have seen it.
        taught: What the stream teaches.
        skip_bad_images: Whether images may be missing.
        progress: Told what is done.

    Raises:
        UserError: If the data set has no outlines, or a split of it no images with any.
        MissingFiles: If images are missing.
    """
    where = f"data set {dataset.name}"
    if dataset.regions is None:
        raise UserError(
            "holds no outlines of findings",
            where=where,
            fix=f"'retune show dataset {asked.called}' tells what files it reads, or name another one: "
            f"--transfer {asked.transfer.name}:DATA",
        )
    every = np.arange(len(dataset), dtype=np.int64)
    looked = np.asarray(dataset.regions.known(every).any(axis=1))
    rows = {split: dataset.rows(split)[looked[dataset.rows(split)]] for split in SPLITS}
    for split, of in rows.items():
        if not len(of):
            raise UserError(
                f"has no {NAMES[split]} images whose findings were outlined",
                where=where,
                fix="check its splits, or take a larger share",
            )
    chosen = np.concatenate(list(rows.values()))
    content = content_of(dataset, chosen, progress)
    if not skip_bad_images:
        dataset.require_images(chosen, content)
    seen = contamination(backbone.card, asked.source.origins, synthetic=dataset.synthetic)
    test = rows["test"]
    notes = (*dataset.remarks, *taught.notes(asked.source.origins, dataset, test, content[-len(test) :]))
    return Arranged(dataset, rows, content, seen, notes)


@dataclass(frozen=True)
class Taught:
    """What a stream teaches, so that nothing of it is judged elsewhere without a word.

    Args:
        stream: The stream.
        origins: Names of the public data sets whose images it holds.
        content: Digests of its training images' content.
    """

    stream: Stream
    origins: Collection[str]
    content: Collection[bytes]

    def notes(
        self, origins: Collection[str], dataset: Dataset, test: IntArray, content: Sequence[bytes | None]
    ) -> list[str]:
        """What of some test images is taught, a line each.

        Args:
            origins: Of their data set.
            dataset: Theirs.
            test: Their rows.
            content: Their digests.
        """
        found = []
        same = sum(key in self.content for key in content)
        if same:
            found.append(
                f"{same:,} of {len(test):,} test images of the transfer are training images of the stream"
            )
        shared = sorted(set(origins) & set(self.origins))
        if shared and not dataset.synthetic:
            learnt, judged = (
                set(map(normal_form, of.patient_id[rows].astype(str).tolist()))
                for of, rows in ((self.stream.dataset, self.stream.joint().rows), (dataset, test))
            )
            both = len(learnt & judged)
            what = (
                f"{both:,} of {len(judged):,} test patients of the transfer"
                if both
                else "no patient known by name"
            )
            names = " and ".join(shared)
            found.append(f"Stream and transfer both hold pictures of {names}: the stream teaches {what}")
        return found
