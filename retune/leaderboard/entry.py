"""The schema of ``entry.json``: what a submission says of a method, and every number it publishes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, create_model, model_validator

from retune.leaderboard.fields import (
    Count,
    Hex,
    Line,
    Link,
    Name,
    Part,
    Seconds,
    Settings,
    Sha256,
    Share,
    Signed,
    Slug,
    Version,
    slug,
)
from retune.metrics.facts import LabelFacts
from retune.metrics.seeds import mean_and_sd
from retune.metrics.table import DENSE, PUBLISHED, Metric

SCHEMA: Final = "retune.entry/1"
ENTRY_FILE: Final = "entry.json"
SCORES_FILE: Final = "scores.safetensors"
MOST_RUNS: Final = 50
MOST_STEPS: Final = 100
MOST_LABELS: Final = 200
MOST_FINDINGS: Final = 50
MOST_OUTLINED: Final = 100_000
"""Test images of a transfer: their resamples are in memory at once, and no data set of the verifier's says how many."""
LONGEST_NAME: Final = 100
"""Letters of a folder's name."""


class Method(Part):
    """What a reader sees first.

    Attributes:
        name: Of the method.
        version: Of this entry; a correction is a new version.
        authors: As given by who submits.
        paper: Link to it.
        code: Link to it.
        note: A line of the submitter's.
    """

    name: Name
    version: Version
    authors: Annotated[list[Line], Field(max_length=60)]
    paper: Link | None
    code: Link | None
    note: Line | None


class Strategy(Part):
    """The strategy as a run records it."""

    name: Line
    version: Line
    origin: Line
    settings: Settings
    sees_everything: bool
    keeps_samples: bool
    searched: bool

    @property
    def is_file(self) -> bool:
        """Whether it is a file of the submitter's, which nobody can look up by its name."""
        return self.origin.startswith("file ")


class Backbone(Part):
    """The frozen model."""

    name: Line
    fingerprint: Line
    pretraining_data: Annotated[list[Line], Field(max_length=100)]
    licence: Line | Literal[""]
    dim: Count
    contaminated: Literal["no", "possibly", "yes"]
    synthetic: bool
    looked_up: bool
    precision: Literal["fp32", "bf16"]


class Prompts(Part):
    """The prompt bank."""

    name: Line
    fingerprint: Line


class Data(Part):
    """What it ran on."""

    name: Line
    fingerprint: Sha256
    settings: Settings
    labels: Annotated[list[Line], Field(min_length=1, max_length=MOST_LABELS)]
    n_train: Count
    n_test: Count
    n_test_patients: Count
    synthetic: bool
    repeated_images: Count
    unreadable_images: Count


class Transfer(Part):
    """Whose outlines its track's transfer is judged on; see :class:`retune.results.result.TransferRecord`.

    Attributes:
        prior: Dice of the mean training mask, which looks at no picture, of each finding.
    """

    fingerprint: Line
    contaminated: Literal["no", "possibly", "yes"]
    findings: Annotated[list[Line], Field(min_length=1, max_length=MOST_FINDINGS)]
    n_train: Count
    n_test: Annotated[int, Field(ge=1, le=MOST_OUTLINED)]
    n_test_patients: Count
    positives_train: list[Count]
    prior: list[Share]


class Scenario(Part):
    """How the stream was cut."""

    name: Line
    settings: Settings
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)]


class Cost(Part):
    """What a run cost; see :class:`retune.results.result.Cost`."""

    trainable_parameters: Count
    total_parameters: Count
    search_seconds: Seconds
    fit_seconds: Seconds
    score_seconds: Seconds
    encode_seconds: Seconds
    images_encoded: Count
    peak_memory_bytes: Count
    stored_images: Count
    stored_features: Count
    stored_bytes: Count


class Estimate(Part):
    """A number over seeds: mean, deviation, how many, and the patient-bootstrap interval of the mean.

    Metrics without an interval have none for ``low`` and ``high``.
    """

    mean: Signed
    sd: Share
    n: Annotated[int, Field(ge=0, le=MOST_RUNS)]
    low: Signed
    high: Signed


UNDEFINED: Final = Estimate(mean=None, sd=None, n=0, low=None, high=None)

if TYPE_CHECKING:

    class Values(Part):  # noqa: D101
        def __getattr__(self, key: str) -> float | None: ...

    class Metrics(Part):  # noqa: D101
        def __getattr__(self, key: str) -> Estimate: ...

else:
    Values = create_model(
        "Values",
        __base__=Part,
        __doc__="The numbers of one run; null where undefined.",
        **{m.key: (Signed if m.low else Share, None if m.later else ...) for m in (*PUBLISHED, *DENSE)},
    )
    Metrics = create_model(
        "Metrics",
        __base__=Part,
        __doc__="Every number over the seeds.",
        **{m.key: (Estimate, UNDEFINED if m.later else ...) for m in (*PUBLISHED, *DENSE)},
    )


class Run(Part):
    """One seed.

    Attributes:
        seed: Of every random draw.
        id: The run's.
        stream: Fingerprint of its stream.
        device: Where it learnt.
        threads: Of PyTorch.
        versions: Of the packages that numbers depend on.
        settings: Those of the strategy where a search chose them; else null, and the entry has them.
        first: The first experience that can have taught each label, 0 if none can.
        prevalence: Of each label in the training images; None in an entry made before it was told.
        images: Training images of each experience.
        auc_matrix: ``(T+1, C)`` test AUROC, before training and after each experience.
        dice: ``(2, T+1, K)`` Dice of a transfer's findings, by the probe fitted anew and by the one that was kept.
        values: Its numbers.
        cost: What it cost.
    """

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    id: Hex
    stream: Sha256
    device: Literal["cpu", "cuda", "mps", "xpu"]
    threads: Annotated[int, Field(ge=1, le=4096)] | None
    versions: Annotated[dict[Line, Line], Field(max_length=40)]
    settings: Settings | None
    first: list[Annotated[int, Field(ge=0, le=MOST_STEPS)]]
    prevalence: list[Share] | None = None
    images: list[Count]
    auc_matrix: list[list[Share]]
    dice: list[list[list[Share]]] | None = None
    values: Values
    cost: Cost

    def value(self, metric: Metric) -> float | None:
        """One of its numbers; where it was made before there was such a metric, what its AUC matrix says of it."""
        if metric.key in self.values.model_fields_set or metric.basis != "auc":
            found: float | None = getattr(self.values, metric.key)
            return found
        value = float(metric.of(np.array(self.auc_matrix, dtype=np.float64), self.facts))
        return None if np.isnan(value) else value

    @property
    def facts(self) -> LabelFacts:
        """What metrics need to know of the training images."""
        shares = None if self.prevalence is None else np.array(self.prevalence, dtype=np.float64)
        return LabelFacts.of(np.array(self.first), shares)


class Bootstrap(Part):
    """How intervals were made."""

    replicates: Annotated[int, Field(ge=1, le=10_000)]
    level: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class ScoresFile(Part):
    """The file of scores beside the entry."""

    sha256: Sha256
    bytes: Count


class Entry(Part):
    """A submission: several seeds of one method on one track."""

    model_config = ConfigDict(title="retune.entry/1")

    schema_name: Literal["retune.entry/1"] = Field(alias="schema")
    track: Slug
    method: Method
    strategy: Strategy
    backbone: Backbone
    prompts: Prompts
    data: Data
    scenario: Scenario
    salt: Hex
    transfer: Transfer | None = None
    bootstrap: Bootstrap
    metrics: Metrics
    scores: ScoresFile
    runs: Annotated[list[Run], Field(min_length=1, max_length=MOST_RUNS)]

    @property
    def name(self) -> str:
        """Of its folder: the method's name and the entry's version."""
        return f"{slug(self.method.name)}-{self.method.version}"

    @property
    def labels(self) -> list[str]:
        """Names of the columns."""
        return self.data.labels

    def estimate(self, metric: Metric) -> Estimate:
        """A number over the seeds; without an interval where it was made before there was such a metric."""
        if metric.key in self.metrics.model_fields_set:
            found: Estimate = getattr(self.metrics, metric.key)
            return found
        known = [value for run in self.runs if (value := run.value(metric)) is not None]
        mean, sd = map(float, mean_and_sd(known))
        return Estimate(
            mean=mean if known else None, sd=sd if len(known) > 1 else None, n=len(known), low=None, high=None
        )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """See that lists are as long as they say of each other."""
        labels, steps = len(self.data.labels), self.scenario.steps
        if len(self.name) > LONGEST_NAME:
            raise ValueError(
                f"the method's name and version make a folder's name of {len(self.name)} letters"
            )
        if len(set(self.data.labels)) != labels:
            raise ValueError("a label stands twice")
        for key in ("seed", "id"):
            if len({getattr(run, key) for run in self.runs}) != len(self.runs):
                raise ValueError(f"two runs have the same {key}")
        for k, run in enumerate(self.runs):
            if len(run.first) != labels or max(run.first) > steps or len(run.images) != steps:
                raise ValueError(f"runs.{k} does not have {labels} labels and {steps} experiences")
            if run.prevalence is not None and len(run.prevalence) != labels:
                raise ValueError(f"runs.{k}.prevalence does not have {labels} labels")
            if (run.settings is not None) != self.strategy.searched:
                raise ValueError(
                    f"runs.{k}.settings: runs have their own where a search chose them, else none has"
                )
            if len(run.auc_matrix) != steps + 1 or any(len(row) != labels for row in run.auc_matrix):
                raise ValueError(f"runs.{k}.auc_matrix is not {steps + 1} rows of {labels} labels")
        self._require_transfer()
        return self

    def _require_transfer(self) -> None:
        """See that there are numbers of a transfer where there is one, and only there."""
        of, dense = self.transfer, {metric.key for metric in DENSE}
        n = len(of.findings) if of else 0
        if of and not len(set(of.findings)) == len(of.positives_train) == len(of.prior) == n:
            raise ValueError(f"transfer does not have numbers of {n} findings")
        wanted = (2, self.scenario.steps + 1, n) if of else ()
        for k, run in enumerate(self.runs):
            # Rows of different lengths make no array of three axes.
            if np.shape(np.array(run.dice, dtype=object)) != wanted:
                raise ValueError(f"runs.{k}.dice is not {' x '.join(map(str, wanted)) or 'left out'}")
        for part in (self.metrics, *(run.values for run in self.runs)):
            if part.model_fields_set & dense != (dense if of else set()):
                raise ValueError(
                    "there is not each number of a transfer where there is one, and none elsewhere"
                )

    def to_json(self) -> str:
        """The text of ``entry.json``."""
        document = self.model_dump(by_alias=True, exclude_unset=True)
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
