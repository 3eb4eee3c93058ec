"""The phantom: a generator of synthetic chest radiographs with known findings.

No image is of a person. Each is a projection: thickness times attenuation of body, lungs, heart, bones and
vessels is added up along the rays, findings change these, then come beam, scatter, photon noise and display.

- Findings are CheXpert's 14, at the frequencies of its training set (Irvin et al., 2019). Departure: those
  rarer than 4 % are raised to 4 %, so that a small test set can measure them.
- Which findings occur together: a Gaussian copula with the correlations of NIH's label table (Wang et
  al., 2017); ``tables`` holds them and says which are assumed. Lung Opacity follows CheXpert's hierarchy.
  No Finding is 1 where none of the 12 pathologies is; that is more often than in CheXpert (about 25 % against
  10 %), whose blanks are not all negatives.
- Everything is a function of (seed, patient, image): no image depends on how many others are made or drawn.
- ``Exams.labels`` are always the truth; ``Exams.noisy_labels`` are for training with a reader's mistakes.
"""

from __future__ import annotations

from retune.data.phantom.drawing import GENERATOR_VERSION, masks, render
from retune.data.phantom.regions import OUTLINED, REGIONS_VERSION, regions
from retune.data.phantom.reports import reports
from retune.data.phantom.sites import BENCHMARK_SITES, PRETRAIN_SITES, SITES, Site
from retune.data.phantom.table import SIDES, Exams, exams

__all__ = [
    "BENCHMARK_SITES",
    "GENERATOR_VERSION",
    "OUTLINED",
    "PRETRAIN_SITES",
    "REGIONS_VERSION",
    "SIDES",
    "SITES",
    "Exams",
    "Site",
    "exams",
    "masks",
    "regions",
    "render",
    "reports",
]
