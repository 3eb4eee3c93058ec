"""Phantom: SYNTHETIC chest radiographs with CheXpert's labels, no files; larger: phantom/large, phantom/chexpert-5."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from annotated_types import Ge, Le, Lt
from PIL import Image

from retune.data.dataset import BoolArray, Dataset, IntArray, split_by_patient
from retune.data.findings import CHEXPERT, COMPETITION
from retune.data.phantom import (
    BENCHMARK_SITES,
    GENERATOR_VERSION,
    OUTLINED,
    REGIONS_VERSION,
    SITES,
    Exams,
    exams,
    regions,
    render,
    reports,
)
from retune.data.readers.base import Reader
from retune.errors import BadImage, BadSetting, UnknownName
from retune.settings import LATER, Count

FIRST_YEAR: Final = 2010
"""Of pictures that have dates."""


@dataclass(frozen=True)
class Phantom(Reader):
    """Computed projections of made-up patients at four sites; no claim about people rests on them.

    Args:
        images: How many radiographs, train, validation and test together.
        seed: Which endless sequence of patients they are the first of.
        size: Side in pixels.
        sites: Sites the patients come from.
        label_noise: Share of training labels flipped; validation and test labels are always true.
        findings: Labels that the table has, in this order.
        years: Number of years over which the patients come, from 2010, with a column of dates; prevalence and equipment
            drift from the first, which is as without years, to the last. Made up, as all of it.
    """

    name: ClassVar[str] = "phantom"
    needs_root: ClassVar[bool] = False
    takes_root: ClassVar[bool] = False
    source: ClassVar[str] = f"synthetic, computed by retune's phantom generator, version {GENERATOR_VERSION}"
    licence: ClassVar[str] = "Apache-2.0"
    synthetic: ClassVar[bool] = True
    labels: ClassVar[tuple[str, ...]] = CHEXPERT
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "large": {"images": 34_000},
        # Where RE-tune's paper began: CheXpert's five labels, some 20,000 training images, a poor zero-shot.
        "chexpert-5": {"images": 34_000, "findings": COMPETITION, "prompts": "lay"},
        # Patients that no stream has, nor the pre-training of phantom-clip, for measurements beside a stream.
        "regions": {"images": 1250, "seed": 2_000_003},
        # The same patients over five years in which prevalence and equipment drift.
        "years": {"years": 5},
    }
    transfer: ClassVar[str] = "phantom/regions"

    images: Count = 4000
    seed: Annotated[int, Ge(0)] = 0
    size: Annotated[int, Ge(32)] = 128
    sites: tuple[str, ...] = BENCHMARK_SITES
    label_noise: Annotated[float, Ge(0), Lt(0.5)] = 0.02
    findings: tuple[str, ...] = field(default=CHEXPERT, kw_only=True, metadata=LATER)
    years: Annotated[int, Ge(1), Le(50)] = field(default=1, kw_only=True, metadata=LATER)

    def read(self, root: Path | None) -> Dataset:
        """Compute the table; pictures are rendered when they are asked for.

        Args:
            root: Not used.
        """
        for site in self.sites:
            if site not in SITES:
                raise UnknownName("site", site, SITES, where="data set phantom")
        for finding in self.findings:
            if finding not in CHEXPERT:
                raise UnknownName("finding", finding, CHEXPERT, where="data set phantom")
        if len(set(self.findings)) < max(1, len(self.findings)):
            raise BadSetting(
                "no finding is named, or one twice",
                where="data set phantom, setting findings",
                fix="name each once",
            )
        table = exams(self.seed, self.images, self.sites, label_noise=self.label_noise, years=self.years)
        date = {"date": (FIRST_YEAR + table.year).astype(str)} if self.years > 1 else {}
        patient = np.char.add("P", np.char.zfill(table.patient.astype(str), 6))
        split = split_by_patient(patient, valid=0.1, test=0.3)
        targets = np.where((split == "train")[:, None], table.noisy_labels, table.labels)
        images = PhantomImages(table, self.size, self.sites, self.years)
        whole = Dataset(
            name=self.name,
            labels=self.labels,
            image_id=np.char.add("I", np.char.zfill(table.image_index.astype(str), 6)),
            patient_id=patient,
            split=split,
            targets=targets.astype(np.float32),
            images=images,
            regions=PhantomRegions(images),
            columns={
                "view": np.asarray(table.view),
                "site": np.asarray(table.site),
                "age": np.asarray(table.age),
                "sex": np.asarray(table.sex),
                "report": np.array(reports(table, np.arange(len(table))), dtype=object),
                **date,
            },
            synthetic=True,
            source=self.source,
        )
        return whole.with_labels(self.findings)


@dataclass(frozen=True)
class PhantomImages:
    """Pictures that are computed when asked for; an ``ImageSource``.

    Args:
        table: The exams.
        size: Side in pixels.
        sites: The sites the table was drawn from; they decide what image i shows.
        years: The years it was drawn over; likewise.
    """

    table: Exams
    size: int
    sites: tuple[str, ...]
    years: int = 1

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
        """Render some rows, always at full size."""
        return [Image.fromarray(pixels) for pixels in render(self.table, rows, size=self.size)]

    def keys(self, rows: IntArray) -> list[bytes | None]:
        """Digest of whatever determines each picture."""
        return [hashlib.sha256(what.encode()).digest() for what in self.identities(rows)]

    def identities(self, rows: IntArray) -> list[str]:
        """Whatever determines each picture; patients of two seeds are told apart by it, not by their names."""
        years = f"years {self.years}\0" if self.years > 1 else ""
        stem = (
            f"phantom\0{GENERATOR_VERSION}\0{self.table.seed}\0{self.size}\0{','.join(self.sites)}\0{years}"
        )
        return [f"{stem}{i}" for i in self.table.image_index[rows].tolist()]

    def exists(self, rows: IntArray) -> BoolArray:
        """Every picture can be computed."""
        return np.ones(len(rows), dtype=bool)

    def describe(self, row: int) -> str:
        """Name of the row's picture."""
        return f"phantom image {int(self.table.image_index[row])}"


@dataclass(frozen=True)
class PhantomRegions:
    """Outlines that are computed when asked for, always of the true findings; ``Regions``.

    Args:
        images: The pictures.
    """

    images: PhantomImages

    @property
    def findings(self) -> tuple[str, ...]:
        """Five findings and two organs."""
        return OUTLINED

    def known(self, rows: IntArray) -> BoolArray:
        """Everything is known of every picture, bool (n, K)."""
        return np.ones((len(rows), len(OUTLINED)), dtype=bool)

    def masks(self, rows: IntArray) -> list[BoolArray]:
        """Where each is, (K, size, size) for each row."""
        return list(regions(self.images.table, rows, size=self.images.size))

    def keys(self, rows: IntArray) -> list[bytes]:
        """Digest of whatever determines each row's masks."""
        stem = f"regions\0{REGIONS_VERSION}\0"
        return [hashlib.sha256((stem + what).encode()).digest() for what in self.images.identities(rows)]
