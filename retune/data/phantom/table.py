"""The table of synthetic exams: who is imaged where, and what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from retune.data.findings import CHEXPERT
from retune.data.phantom.rng import F32, F64, I64, Draws
from retune.data.phantom.sites import DRIFT, SITES
from retune.data.phantom.tables import DRAWN, OPACITY_CHILDREN, OPACITY_GIVEN_CHILD, PREVALENCE, correlations
from retune.errors import BadSetting, UnknownName

RIGHT, LEFT, BOTH = 0, 1, 2
SIDES: Final = ("right", "left", "bilateral")

# Chance of (right, left); the rest is bilateral. Findings left out have no side.
_SIDE_CHANCES: Final = {
    "Lung Opacity": (0.42, 0.36),
    "Lung Lesion": (0.45, 0.40),
    "Edema": (0.0, 0.0),
    "Consolidation": (0.50, 0.38),
    "Pneumonia": (0.48, 0.38),
    "Atelectasis": (0.30, 0.35),
    "Pneumothorax": (0.53, 0.44),
    "Pleural Effusion": (0.36, 0.30),
    "Pleural Other": (0.40, 0.35),
    "Fracture": (0.48, 0.48),
}

# Least severity of findings that, milder still, nobody would have noticed; 0.05 for the rest.
_MILDEST: Final = {
    "Lung Lesion": 0.30,
    "Consolidation": 0.12,
    "Pneumothorax": 0.30,
    "Pleural Other": 0.35,
    "Fracture": 0.40,
    "Support Devices": 0.30,
}

_PATIENT_SHARE: Final = 0.7
"""Share of a latent normal's variance that one patient's images have in common."""


@dataclass(frozen=True)
class Exams:
    """A table of n synthetic exams, one array per column; everything ``render`` needs is in it.

    Args:
        seed: The seed it was made with.
        image_index: (n,) place in the endless sequence of images.
        patient: (n,) patient number.
        site: (n,) name of the site.
        view: (n,) "PA" or "AP".
        age: (n,) years.
        sex: (n,) "F" or "M".
        labels: (n, 14) true labels, 1 present and 0 absent, in the order of ``CHEXPERT``.
        noisy_labels: (n, 14) the same with a share flipped: what a reader of reports would have written down.
        severity: (n, 14) in (0, 1] where a finding is present, else 0.
        side: (n, 14) 0 right, 1 left, 2 bilateral, -1 where a finding is absent or has no side.
        zone: (n, 14) height of a finding in the lung, 0 at the apex and 1 at the base.
        year: (n,) years since the first.
        progress: (n,) how far that is from the first year (0) to the last (1); 0 where there is one only.
    """

    seed: int
    image_index: I64
    patient: I64
    site: npt.NDArray[Any]
    view: npt.NDArray[Any]
    age: F32
    sex: npt.NDArray[Any]
    labels: F32
    noisy_labels: F32
    severity: F32
    side: npt.NDArray[np.int8]
    zone: F32
    year: I64
    progress: F64

    def __len__(self) -> int:
        return len(self.image_index)

    def checked(self, rows: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """(m,) the rows asked for, if they are all in the table.

        Raises:
            BadSetting: One is not.
        """
        chosen = np.atleast_1d(np.asarray(rows)).astype(np.intp)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise BadSetting(
                "a row outside the table", where="rows", fix=f"rows run from 0 to {len(self) - 1}"
            )
        return chosen

    def of_patients(self) -> Draws:
        """Random numbers that images of one patient share."""
        return Draws(self.seed, self.patient, "patient")

    def of_images(self) -> Draws:
        """Random numbers of each image alone."""
        return Draws(self.seed, self.image_index, "image")


def exams(
    seed: int, n_images: int, sites: Sequence[str], *, label_noise: float = 0.02, years: int = 1
) -> Exams:
    """Makes a table of synthetic exams: the first ``n_images`` of an endless sequence.

    Args:
        seed: Seed of the sequence.
        n_images: Number of images, at least 1.
        sites: Names of the sites that patients are spread over.
        label_noise: Share of ``noisy_labels`` that is flipped, in [0, 0.5).
        years: Number of years over which patients come, with prevalence and equipment drifting from the first, which
            is as if there were one only, to the last.

    Returns:
        The table; row i is the same whatever ``n_images`` is.

    Raises:
        BadSetting: ``n_images`` or ``label_noise`` out of range, or no site.
        UnknownName: A site that does not exist.
    """
    sites = tuple(sites)
    _check(n_images, sites, label_noise)
    patient = _patients(seed, n_images)
    index = np.arange(n_images, dtype=np.int64)
    of_patient, of_image = Draws(seed, patient, "patient"), Draws(seed, index, "image")
    site = np.array(sites)[(of_patient.uniform("site")[:, 0] * len(sites)).astype(np.intp)]
    year = _years(of_patient, of_image, years)
    progress = year / max(1, years - 1)
    labels, device_latent = _labels(of_patient, of_image, site, progress)
    present = labels > 0
    grade = ndtr(0.8 * of_patient.normal("severity", 14) + 0.6 * of_image.normal("severity", 14))
    mildest = np.array([_MILDEST.get(name, 0.05) for name in CHEXPERT])
    severity = np.where(present, mildest + (1 - mildest) * grade, 0.0).astype(np.float32)
    severity[:, 0] = 0.0
    side, zone = _sides(of_patient, present), of_patient.between("zone", 0.0, 1.0, 14)
    _inherit_opacity(labels, severity, side, zone)
    flips = (of_image.uniform("label noise", 14) < label_noise) & (np.arange(14) > 0)
    noisy = np.where(flips, 1 - labels, labels).astype(np.float32)
    noisy[:, 0] = (noisy[:, 1:13].max(axis=1) == 0).astype(np.float32)
    ap = np.array([SITES[name].ap_share for name in sites])[_codes(site, sites)]
    bedside = 0.45 * device_latent + math.sqrt(1 - 0.45**2) * of_image.normal("view")[:, 0] > ndtri(1 - ap)
    age = np.clip(58 + 17 * of_patient.normal("age")[:, 0], 18, 95).astype(np.float32)
    return Exams(
        seed=seed,
        image_index=index,
        patient=patient,
        site=site,
        view=np.where(bedside, "AP", "PA"),
        age=age,
        sex=np.where(of_patient.uniform("sex")[:, 0] < 0.44, "F", "M"),
        labels=labels,
        noisy_labels=noisy,
        severity=severity,
        side=side,
        zone=zone,
        year=year,
        progress=progress,
    )


def _check(n_images: int, sites: Sequence[str], label_noise: float) -> None:
    if n_images < 1:
        raise BadSetting(f"{n_images} images asked for", where="n_images", fix="ask for at least 1")
    if not 0.0 <= label_noise < 0.5:
        raise BadSetting(f"{label_noise} is not in [0, 0.5)", where="label_noise", fix="use for example 0.02")
    if len(sites) == 0:
        raise BadSetting("no site given", where="sites", fix=f"name some of {', '.join(SITES)}")
    for name in sites:
        if name not in SITES:
            raise UnknownName("site", str(name), SITES)


def _patients(seed: int, n_images: int) -> I64:
    """(n_images,) patient numbers: 70 % of patients have one image, 20 % two, 10 % three."""
    number = np.arange(n_images, dtype=np.int64)
    draw = Draws(seed, number, "patient").uniform("images")[:, 0]
    return np.repeat(number, 1 + (draw > 0.7) + (draw > 0.9))[:n_images]


def _years(of_patient: Draws, of_image: Draws, years: int) -> I64:
    """(n,) years since the first: patients come in one of them, and for every third image in the next."""
    later = of_image.uniform("year")[:, 0] < 1 / 3
    return np.minimum((of_patient.uniform("year")[:, 0] * years).astype(np.int64) + later, years - 1)


def _codes(site: npt.NDArray[Any], sites: Sequence[str]) -> npt.NDArray[np.intp]:
    order = {name: k for k, name in enumerate(sites)}
    return np.array([order[str(name)] for name in site], dtype=np.intp)


def _labels(of_patient: Draws, of_image: Draws, site: npt.NDArray[Any], progress: F64) -> tuple[F32, F64]:
    """(n, 14) labels from a Gaussian copula, and (n,) the latent normal of Support Devices."""
    n, count = len(site), len(DRAWN)
    mixed = math.sqrt(_PATIENT_SHARE) * of_patient.normal("latent", count)
    mixed += math.sqrt(1 - _PATIENT_SHARE) * of_image.normal("latent", count)
    root = np.linalg.cholesky(correlations())
    latent = np.zeros((n, count))
    for k in range(count):  # not a matrix product: its rounding may depend on n
        latent += mixed[:, k, None] * root[:, k]
    device = latent[:, DRAWN.index("Support Devices")].copy()
    for name, settings in SITES.items():
        for finding, shift in settings.prevalence.items():
            latent[site == name, DRAWN.index(finding)] += shift
    for finding, drift in DRIFT.items():
        latent[:, DRAWN.index(finding)] += drift * progress
    positive = latent > ndtri(1 - np.array([PREVALENCE[name] for name in DRAWN]))
    labels = np.zeros((n, 14), dtype=np.float32)
    labels[:, [CHEXPERT.index(name) for name in DRAWN]] = positive
    child = positive[:, [DRAWN.index(name) for name in OPACITY_CHILDREN]].any(axis=1)
    draw = of_image.uniform("opacity", 2)
    alone = of_patient.uniform("opacity")[:, 0] < 0.19
    labels[:, 3] = np.where(child, draw[:, 0] < OPACITY_GIVEN_CHILD, alone)
    labels[:, 0] = labels[:, 1:13].max(axis=1) == 0
    return labels, device


def _inherit_opacity(labels: F32, severity: F32, side: npt.NDArray[np.int8], zone: F32) -> None:
    """Lung Opacity is as severe as the worst finding it stands for, and where that one is."""
    children = np.array([CHEXPERT.index(name) for name in OPACITY_CHILDREN])
    worst = children[severity[:, children].argmax(axis=1)]
    every = np.arange(len(labels))
    rows = every[(labels[:, 3] > 0) & (severity[every, worst] > 0)]
    for column in (severity, side, zone):
        column[rows, 3] = column[rows, worst[rows]]


def _sides(of_patient: Draws, present: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    draw = of_patient.uniform("side", 14)
    side = np.full(present.shape, -1, dtype=np.int8)
    for name, (right, left) in _SIDE_CHANCES.items():
        k = CHEXPERT.index(name)
        value = np.where(draw[:, k] < right, RIGHT, np.where(draw[:, k] < right + left, LEFT, BOTH))
        side[:, k] = np.where(present[:, k], value, -1)
    return side
