"""Open-i, the Indiana University chest X-ray collection (Demner-Fushman et al., JAMIA 2016)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np

from retune.data import findings
from retune.data.dataset import Array, Dataset, split_by_patient
from retune.data.images import listed
from retune.data.lists import look_for
from retune.data.readers.base import HashedReader, Published, Rows, assembled
from retune.data.tables import read_table, text
from retune.data.views import Views, in_views, read_views
from retune.errors import BadTable, MissingFiles
from retune.files import parse_xml, read_small

REPORTS: Final = ("ecgen-radiology", "NLMCXR_reports/ecgen-radiology", "reports/ecgen-radiology", ".")
PICTURES: Final = (
    ".",
    "NLMCXR_png",
    "images",
    "images/NLMCXR_png",
    "images_normalized",
    "images/images_normalized",
)
ENDINGS: Final = (".png", ".dcm.png", ".jpg")
PROJECTIONS: Final = "indiana_projections.csv"
"""What a copy on Kaggle says of projections (``uid, filename, projection``); the publisher says nothing."""
MOST: Final = 2**20
"""Bytes that a report may have; the longest has 9 thousand."""
_NAME: Final = re.compile(r"CXR(\d+)_(?:\1_)?(IM-[0-9-]+)")
"""An image's name; Kaggle's copy calls ``CXR2_IM-0652-1001`` and ``CXR1_1_IM-0001-3001`` by what follows ``CXR``."""

NORMAL, UNREAD = "normal", "no indexing"
_NODULES, _MASSES = ("nodule/lung",), ("mass/lung",)
_SOLID: Final = ("consolidation/lung", "infiltrate/lung", "airspace disease/lung")
_GAS: Final = ("pneumothorax", "hydropneumothorax", "hemopneumothorax")
# MeSH calls a bulla a blister.
_EMPHYSEMA: Final = ("emphysema", "pulmonary emphysema", "bullous emphysema", "blister/lung")
MAJOR: Final[Mapping[str, tuple[str, ...]]] = {
    "No Finding": (NORMAL,),
    "Enlarged Cardiomediastinum": ("mediastinum/enlarged", "mediastinum/prominent"),
    "Cardiomegaly": ("cardiomegaly", "cardiac shadow/enlarged"),
    "Lung Opacity": ("opacity/lung", "density/lung", *_SOLID),
    "Lung Lesion": (*_NODULES, *_MASSES, "cavitation/lung"),
    "Edema": ("pulmonary edema",),
    "Consolidation": ("consolidation/lung",),
    "Pneumonia": ("pneumonia",),
    "Atelectasis": ("pulmonary atelectasis",),
    "Pneumothorax": _GAS,
    "Pleural Effusion": ("pleural effusion", "hydropneumothorax", "hemopneumothorax", "hemothorax"),
    "Fracture": ("fractures, bone",),
    "Support Devices": (
        *("catheters, indwelling", "implanted medical device", "medical device", "tube, inserted", "stents"),
    ),
    "Infiltration": ("infiltrate/lung",),
    "Mass": _MASSES,
    "Nodule": _NODULES,
    "Emphysema": _EMPHYSEMA,
    "Fibrosis": ("pulmonary fibrosis",),
    "Pleural Thickening": ("thickening/pleura",),
    "Hernia": ("hernia, hiatal", "hernia, diaphragmatic"),
    "Aortic Enlargement": ("aortic aneurysm", "aorta/enlarged", "aorta, thoracic/enlarged"),
    "Calcification": ("calcified granuloma/lung", "calcinosis/lung"),
    "Enlarged Pulmonary Artery": ("pulmonary artery/enlarged", "pulmonary artery/prominent"),
    "Interstitial Lung Disease": ("lung diseases, interstitial",),
    "Lung Cavity": ("cavitation/lung",),
    "Lung Cyst": ("cysts/lung",),
    "Mediastinal Shift": ("shift/mediastinum",),
    "COPD": ("pulmonary disease, chronic obstructive",),
    "Tuberculosis": ("tuberculosis",),
}
"""What people wrote of each finding: a heading, and after the stroke a qualifier that must stand with it."""
AUTOMATIC: Final[Mapping[str, str]] = {
    "Cardiomegaly": r"cardiomegaly|enlarged heart",
    "Lung Opacity": r"opacity|consolidation|infiltrate",
    "Lung Lesion": r"nodule|^mass lesion|lung (cancer|carcinoma|neoplasm)|pulmonary metasta",
    "Edema": r"edema",
    "Pneumonia": r"pneumonia(?!e)",
    "Atelectasis": r"atelecta",
    "Pneumothorax": r"pneumothorax",
    "Pleural Effusion": r"(?<!pericardial )effusion|hydropneumothorax",
    "Fracture": r"fracture",
    "Infiltration": r"infiltrate",
    "Nodule": r"nodule",
    "Emphysema": r"(?<!subcutaneous )emphysema",
    "Fibrosis": r"(?<!cystic )fibros",
    "Pleural Thickening": r"pleural thickening",
    "Hernia": r"hernia",
    "COPD": r"copd|chronic obstructive|disease, chronic obstructive",
    "Tuberculosis": r"tuberculos",
}
"""How the terms that a program found tell each finding; of others they say nothing."""


@dataclass(frozen=True)
class OpenI(HashedReader):
    """Open-i: 7,470 radiographs with 3,955 reports of two hospitals in Indiana, indexed by people.

    The folder holds the reports as ``ecgen-radiology/1.xml`` ... and the pictures ``CXR1_1_IM-0001-3001.png`` ..., there,
    in ``NLMCXR_png/`` or in ``images/``. 104 reports have no picture. Each report counts as a patient, as the collection
    has one examination of each. The column ``report`` is its findings and its impression, with ``XXXX`` for what told of
    persons.

    A report that has no term of a finding counts as its absence; one that nobody indexed is dropped. A term stands in
    every finding that it is an example of, as in ``padchest``.

    Projections are not published; with ``indiana_projections.csv`` of the copy on Kaggle they are known to be frontal
    or lateral, and without it every image is kept.

    Args:
        views: Which projections to keep, where they are known.
        labels_from: ``major``: the MeSH terms by which people indexed a report; ``automatic``: those that a program found
            in it, of which 17 findings are told and others unknown.
        valid: Share of validation patients; 20 % are test patients, chosen by a hash.
    """

    name: ClassVar[str] = "openi"
    needs_root: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Open-i, National Library of Medicine; Demner-Fushman et al., Preparing a collection of radiology examinations "
        "for distribution and retrieval, Journal of the American Medical Informatics Association 23, 2016"
    )
    licence: ClassVar[str] = "CC BY-NC-ND 4.0"
    labels: ClassVar[tuple[str, ...]] = tuple(name for name in findings.FINDINGS if name in MAJOR)
    mapping: ClassVar[Mapping[str, str]] = {
        term: min((name for name in MAJOR if term in MAJOR[name]), key=lambda name: len(MAJOR[name]))
        for terms in MAJOR.values()
        for term in terms
    }
    published: ClassVar[Published | None] = Published(images=7_470, patients=3_851)

    views: Views = "frontal"
    labels_from: Literal["major", "automatic"] = "major"
    valid: float = 0.1

    def read(self, root: Path | None) -> Dataset:
        """Read the reports and where the pictures lie.

        Args:
            root: Folder of reports and pictures.

        Raises:
            MissingFiles: If there is no report.
            BadTable: If a report is no such XML, or no image is left.
        """
        folder = self.require_root(root, REPORTS[:1])
        place = next((folder / name for name in REPORTS if any((folder / name).glob("[0-9]*.xml"))), None)
        if place is None:
            fix = "unpack NLMCXR_reports.tgz there (tar -xzf)"
            raise MissingFiles(f"no report found (looked for {REPORTS[0]}/1.xml)", where=str(folder), fix=fix)
        files = sorted(place.glob("[0-9]*.xml"), key=lambda path: (len(path.name), path.name))
        images = [image for path in files for image in _images(path, self.labels_from)]
        if not images:
            raise BadTable("no report has an image", where=str(place))
        names, patients, told, terms = zip(*images, strict=True)
        image_id, patient_id = np.array(names), np.array(patients)
        view, notes = _views(folder, image_id)
        nobody = np.array([self.labels_from == "major" and (not row or UNREAD in row) for row in terms])
        known = bool((view != "").any())
        return assembled(
            self,
            Rows(
                image_id,
                patient_id,
                split_by_patient(patient_id, valid=self.valid),
                self._targets(terms),
                _paths(folder, image_id),
                {"view": view, "report": np.array(told, dtype=object)},
            ),
            folder,
            place,
            drops={
                "nobody indexed the report": nobody,
                f"view is not {self.views}": ~in_views(view, self.views) if known else np.zeros_like(nobody),
            },
            notes=notes,
            choices={
                "split": "by a hash of patients, 20 % for testing",
                "views": f"by {PROJECTIONS}" if known else f"all, for no {PROJECTIONS} names them",
            },
        )

    def _targets(self, terms: Sequence[tuple[str, ...]]) -> Array:
        """Label matrix, float32 (N, C), of the terms of each image's report."""
        rows = {row: np.full(len(self.labels), np.nan, dtype=np.float32) for row in set(terms)}
        for row, values in rows.items():
            for k, name in enumerate(self.labels):
                if self.labels_from == "major":
                    values[k] = any(_fits(term, row) for term in MAJOR[name]) and (
                        name != "No Finding" or len(row) == 1
                    )
                elif name in AUTOMATIC:
                    values[k] = any(re.search(AUTOMATIC[name], term) for term in row)
        return np.stack([rows[row] for row in terms])


def _images(path: Path, kind: str) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Name, patient, report and terms of each image of a report."""
    fix = "fetch it again"
    try:
        report = parse_xml(read_small(path, MOST))
    except (OSError, ValueError) as error:
        raise BadTable(str(error), where=str(path), fix=fix) from error
    who = report.find("uId")
    patient = "" if who is None else who.get("id", "").strip()
    if not patient:
        raise BadTable("has no uId, which tells the patient", where=str(path), fix=fix)
    parts = {part.get("Label", ""): (part.text or "").strip() for part in report.iter("AbstractText")}
    said = "\n".join(filter(None, (parts.get("FINDINGS"), parts.get("IMPRESSION"))))
    found = ((term.text or "").strip().lower() for term in report.iterfind(f"MeSH/{kind}"))
    terms = tuple(sorted({*found} - {""}))
    names = [image.get("id", "") for image in report.iterfind("parentImage")]
    for name in names:
        # It becomes a file name.
        if not _NAME.fullmatch(name):
            raise BadTable(
                f"'{name}' is not the name of an image, as CXR2_IM-0652-1001", where=str(path), fix=fix
            )
    return [(name, patient, said, terms) for name in names]


def _fits(wanted: str, row: tuple[str, ...]) -> bool:
    """Whether one of an image's terms is this heading with this qualifier."""
    heading, _, qualifier = wanted.partition("/")
    parts = (term.split("/") for term in row)
    return any(part[0] == heading and (not qualifier or qualifier in part[1:]) for part in parts)


def _views(folder: Path, names: Array) -> tuple[Array, tuple[str, ...]]:
    """Projection of each image, (N,), ``""`` where no table says so, and what is wrong with it."""
    path = look_for(folder, [PROJECTIONS], deep=True)
    if path is None:
        return np.full(len(names), ""), ()
    frame = read_table(path, ("filename", "projection"))
    stems = frame["filename"].str.replace(r"(\.dcm)?\.png$", "", regex=True)
    said, strange = read_views(text(frame["projection"]))
    of = dict(zip(stems.tolist(), said.tolist(), strict=True))
    return np.array([of.get(_short(name), "") for name in names.tolist()]), strange


def _short(name: str) -> str:
    return _NAME.sub(r"\1_\2", name)


def _paths(root: Path, names: Array) -> Array:
    """File of each image relative to the root, (N,); where there is none, where it ought to be."""
    there: dict[str, str] = {}
    for folder, file in listed(root, reversed(PICTURES)):
        for ending in ENDINGS:
            if file.endswith(ending):
                there[file.removesuffix(ending)] = f"{folder}/{file}".removeprefix("./")
    return np.array(
        [there.get(name) or there.get(_short(name), f"NLMCXR_png/{name}.png") for name in names.tolist()]
    )
