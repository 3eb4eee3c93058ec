"""The hospitals of the phantom: how each one takes and shows its radiographs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final


@dataclass(frozen=True)
class Site:
    """One synthetic hospital.

    Args:
        ap_share: Share of AP (bedside) images; the rest is PA.
        exposure: Photons a pixel receives without a body, relative; few photons, much grain.
        scatter: Scattered over primary radiation behind the body.
        energy: Factor on all attenuation: a harder beam attenuates less.
        level: Attenuation displayed as mid grey.
        width: Width of the display window, in attenuation.
        gamma: Exponent of the display curve; below 1 brightens.
        blur: Detector blur, in units of half the image's side.
        rotation: Standard deviation of the patient's rotation, degrees.
        zoom: Mean magnification of the patient in the frame.
        marker: Text burnt into AP and PA images, and the corner: 0 top left, 1 top right, 2 lower right.
        collimation: Mean width of the dark border, in units of half the image's side.
        prevalence: Shifts of findings' latent normals, in standard deviations.
    """

    ap_share: float
    exposure: float
    scatter: float
    energy: float
    level: float
    width: float
    gamma: float
    blur: float
    rotation: float
    zoom: float
    marker: tuple[str, str, int]
    collimation: float
    prevalence: dict[str, float] = field(default_factory=dict)


SITES: Final[dict[str, Site]] = {
    "A": Site(0.35, 20000, 0.20, 1.00, 1.85, 2.3, 1.00, 0.004, 1.2, 1.00, ("L", "L", 1), 0.00),
    "B": Site(0.55, 9000, 0.40, 0.92, 1.55, 2.1, 0.95, 0.008, 2.0, 0.97, ("AP", "R", 0), 0.03,
              {"Edema": 0.15, "Support Devices": 0.15}),
    "C": Site(0.85, 2800, 0.75, 1.06, 1.35, 1.7, 0.80, 0.014, 3.5, 0.92, ("AP L", "L", 1), 0.07,
              {"Support Devices": 0.35, "Edema": 0.20, "Fracture": -0.10, "Lung Lesion": -0.20}),
    "D": Site(0.10, 9000, 0.08, 1.12, 2.40, 3.4, 1.40, 0.002, 1.5, 1.07, ("R", "R", 2), 0.01,
              {"Support Devices": -0.40, "Lung Lesion": 0.25, "Pleural Other": 0.15, "Edema": -0.25}),
    "E": Site(0.50, 12000, 0.55, 0.96, 1.55, 1.8, 1.10, 0.006, 2.5, 1.03, ("R AP", "R", 0), 0.05,
              {"Pneumonia": 0.10}),
    "F": Site(0.25, 6000, 0.30, 1.05, 1.90, 2.7, 0.85, 0.010, 1.8, 0.95, ("L AP", "L", 2), 0.02,
              {"Fracture": 0.15}),
}  # fmt: skip
"""Every site by name."""

BENCHMARK_SITES: Final = ("A", "B", "C", "D")
"""The sites of the benchmark's streams."""

PRETRAIN_SITES: Final = ("A", "B", "E", "F")
"""The sites a backbone is pre-trained on; it never sees C and D."""

DRIFT: Final = {
    "Pneumonia": 0.5, "Support Devices": 0.4, "Lung Lesion": 0.3, "Edema": -0.5, "Fracture": -0.3,
}  # fmt: skip
"""How much findings' latent normals shift from the first year to the last, in standard deviations."""


@cache
def site_in(name: str, progress: float) -> Site:
    """A site part of the way from the first year (0), as it stands in ``SITES``, to the last (1).

    Detectors are replaced over the years: the last ones need a third of the photons, scatter and blur less, and show
    darker images of a wider window.
    """
    site = SITES[name]
    if progress == 0:
        return site
    return replace(
        site,
        exposure=site.exposure * (1 - 2 / 3 * progress),
        scatter=site.scatter * (1 - 0.5 * progress),
        blur=site.blur * (1 - 0.5 * progress),
        width=site.width * (1 + 0.35 * progress),
        gamma=site.gamma * (1 + 0.35 * progress),
    )
