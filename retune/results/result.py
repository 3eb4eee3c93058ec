"""The record of one run: everything needed to recompute every number in it."""

from __future__ import annotations

import math
from html import escape
from inspect import Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from retune.errors import UnknownName, UserError, mistake
from retune.files import write_whole
from retune.metrics.facts import LabelFacts
from retune.metrics.table import BY_KEY, Basis, Metric, in_table
from retune.results.text import number
from retune.sealed import Untrusted, open_json, seal_json

if TYPE_CHECKING:
    import pandas as pd
    from pydantic._internal._model_construction import ModelMetaclass as _Model
else:
    _Model = type(BaseModel)

SCHEMA: Final = "retune.result/1"
RESULT_FILE: Final = "result.json"
RUN_FILE: Final = "run.json"
CHECKPOINT_FILE: Final = "checkpoint.safetensors"
SCORES_FILE: Final = "scores.safetensors"
MODEL_FILE: Final = "model.safetensors"
PROMPTS_FILE: Final = "prompts.jsonl"
FILES: Final = (RESULT_FILE, SCORES_FILE, MODEL_FILE, PROMPTS_FILE, CHECKPOINT_FILE, RUN_FILE)
"""What a run writes into its folder; its mark last."""


def _null_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_null_if_nan)]
"""A number, or null where it is undefined: JSON has no NaN."""


class _Short(_Model):
    """Lets ``help`` and a notebook's completion name what a record holds and does, and nothing of pydantic's."""

    def __dir__(self) -> list[str]:
        own = (base for base in self.__mro__ if isinstance(base, _Short))
        return sorted({name for base in own for name in vars(base) if not name.startswith(("_", "model_"))})


class Record(BaseModel, metaclass=_Short):
    """A part of a result; fields may be added by later versions, never renamed."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *vars(self)})


class MetricRecord(Record):
    """A value with its patient-bootstrap interval."""

    value: Number
    low: Number
    high: Number


class RunRecord(Record):
    """Which run it was."""

    id: str
    created: str
    command: str
    seed: int
    versions: dict[str, str]
    threads: int | None = None
    """Of PyTorch: the last bits of a product may depend on it."""


class DatasetRecord(Record):
    """What it ran on."""

    name: str
    fingerprint: str
    labels: list[str]
    n_train: int
    n_test: int
    n_test_patients: int
    synthetic: bool
    source: str
    settings: dict[str, Any]
    dropped: dict[str, int]
    unreadable_images: list[str]
    repeated_images: int
    notes: list[str]
    undefined_labels: list[str]
    """Labels without both classes in the test set: they have no AUC."""
    unlearnable_labels: list[str] = []
    """Labels without both classes in the training images of the stream: they cannot have been learnt."""
    choices: dict[str, str] = Field(default_factory=dict)
    """What ``split=auto`` and the like became."""
    partly_synthetic: bool = False
    """Whether pictures of people are among them all the same."""

    @property
    def synthetic_word(self) -> str:
        """``synthetic``, ``partly synthetic`` where pictures of people are among them, or nothing."""
        return ("partly synthetic" if self.partly_synthetic else "synthetic") if self.synthetic else ""

    @property
    def marked(self) -> str:
        """Its name, and behind it whether its pictures are synthetic."""
        return f"{self.name} ({self.synthetic_word})" if self.synthetic else self.name


class ExperienceRecord(Record):
    """What one experience showed."""

    labels: list[str]
    n_train: int
    holds: dict[str, dict[str, int]] = {}
    """How many of its training images are of each sex, view, site, data set and year; empty where none is known."""


class ScenarioRecord(Record):
    """How the stream was cut."""

    name: str
    fingerprint: str
    settings: dict[str, Any]
    experiences: list[ExperienceRecord]
    hidden: Literal["masked", "absent"] = "masked"
    """What a label that an experience does not observe looked like."""
    altered: Literal["", "withheld", "flipped"] = ""
    """What was done to observed labels of training images."""
    breaches: list[str] = []
    """What of the contract the stream does not keep to, as ``retune check scenario`` has it; of plugins alone."""


class BackboneRecord(Record):
    """The frozen model, and whether it has seen the data in pre-training."""

    name: str
    fingerprint: str
    pretraining_data: list[str]
    licence: str
    dim: int
    contaminated: Literal["no", "possibly", "yes"]
    synthetic: bool
    looked_up: bool
    precision: str
    device: str


class PromptsRecord(Record):
    """The prompt bank."""

    name: str
    fingerprint: str


class CandidateRecord(Record):
    """Some settings that were tried, and the mean AUC they gave on held-out patients, or why they failed."""

    settings: dict[str, Any]
    auc: Number
    failure: str | None


Bound = Literal["", "floor", "upper bound"]
"""Nothing, of a method; of what stands beside methods in a table, whether these are expected above it or below."""
BOUNDS: Final[tuple[Bound, ...]] = get_args(Bound)
"""In the order in which they stand in a table."""
BOUND_LINES: Final[dict[Bound, str]] = {
    "upper bound": "Upper bound: it sees all images and all labels at once, as no continual method may.",
    "floor": "Floor, no method: reached without the picture, without a backbone, or with labels shuffled.",
}


class SearchRecord(Record):
    """How settings were chosen: on held-out patients of the first experience; see :mod:`retune.runner.candidates`."""

    candidates: list[CandidateRecord]
    chosen: dict[str, Any]
    labels: list[str]
    n_train: int
    n_valid: int


class StrategyRecord(Record):
    """The method and its settings; those that a search chose are among them."""

    name: str
    version: str
    origin: str
    settings: dict[str, Any]
    code: str = ""
    """Digest of an installed plugin's code; ``origin`` has that of a file."""
    sees_everything: bool
    floor: bool = False
    needs: list[str] = []
    """What it is given of an image and its data set; empty where the result was made before it was kept."""
    keeps_samples: bool
    diagnostics: dict[str, Any]
    search: SearchRecord | None = None
    preset: str = ""
    """By whose name the settings were asked for, as ``paper`` in ``re-tune/paper``; empty where by none."""

    @property
    def called(self) -> str:
        """What a reader is told: ``NAME`` or ``NAME/PRESET``."""
        return f"{self.name}/{self.preset}" if self.preset else self.name

    @property
    def bound(self) -> Bound:
        """Which side it bounds the methods from, if it is none of them."""
        return "upper bound" if self.sees_everything else "floor" if self.floor else ""


class Cost(Record):
    """What it cost; seconds are wall time, summed over interruptions.

    Of past patients are stored, at most at any time: ``stored_images`` pictures, ``stored_features``
    images as vectors or tokens, and ``stored_bytes`` of these with their labels and scores.
    """

    trainable_parameters: int
    total_parameters: int
    search_seconds: float = 0.0
    fit_seconds: float
    score_seconds: float
    encode_seconds: float
    images_encoded: int
    peak_memory_bytes: int
    stored_images: int
    stored_features: int
    stored_bytes: int


class IdentificationRecord(Record):
    """Rank-1 re-identification: how often the closest picture is of the same patient."""

    queries: int
    """Pictures that were looked up, each of a patient who is in the gallery, too."""
    patients: int
    """Of whom they are."""
    gallery: int
    """What each was compared with: what a method keeps, or all other test images."""
    rank_one: float
    low: float
    high: float
    chance: float
    """What a random guess scores."""


class TransferRecord(Record):
    """What the adapted image side still sees of another task: one measurement at every moment.

    Matrices have a row before training and one per experience, a column per finding; null where undefined.
    """

    name: str
    """Of the measurement: ``segmentation``, ``localisation``."""
    data: str
    fingerprint: str
    synthetic: bool
    contaminated: Literal["no", "possibly", "yes"]
    settings: dict[str, Any]
    """``share``, ``draw``, ``decoder``, ``size`` ..."""
    findings: list[str]
    n_train: int
    n_valid: int
    n_test: int
    n_test_patients: int
    positives_train: list[int]
    positives_test: list[int]
    grid: int
    """Side of the maps, in cells."""
    cropped: list[Number]
    """Of each finding, the share of its test masks that the backbone's preprocessing cuts off."""
    moves: bool
    """Whether the image side changes at all; where it does not, one moment was measured for all."""
    headline: str
    """Which of the numbers the metrics are worked out from: ``dice``, ``froc``."""
    refit: dict[str, list[list[Number]]]
    """Numbers by name, ``dice_low`` and ``dice_high`` among them, of a decoder fitted anew at every moment."""
    kept: dict[str, list[list[Number]]]
    """The same of the decoder that was fitted first."""
    trivial: dict[str, dict[str, list[Number]]]
    """What predictors score that look at no picture, by predictor and number: ``empty``, ``prior``, ``random``."""
    metrics: dict[str, MetricRecord]
    """``dense_final``, ``dense_transfer``, ``dense_forgetting``, ``head_drift``."""
    notes: list[str] = []
    cost: dict[str, float]


class PartRecord(Record):
    """How some of the test images fare: before any training, as the earlier run ended, after the new experience."""

    n_test: int
    auc_matrix: list[list[Number]]
    metrics: dict[str, MetricRecord]
    """``backward_transfer`` is what the new experience did to the labels known before."""


class ContinuedRecord(Record):
    """What a continued run went on from."""

    run: str
    parts: dict[str, PartRecord]
    """Of the ``earlier`` test images, and of those of the data that arrived, by its name."""
    lost: int
    """Earlier test images of which the feature store lacked some: then no earlier one is judged."""


class OwnRecord(Record):
    """A metric of one's own, worked out from the test scores: not part of the benchmark."""

    name: str
    asked: str
    """As it is named on a command line."""
    value: Number
    problem: str = ""
    """Why it has no value, where it broke."""
    meaning: str = ""
    better: Literal["higher", "lower"]
    origin: str
    """The distribution that brings it, or that it is a local file."""
    code: str
    """Digest of its code."""


class Bootstrap(Record):
    """How intervals were made."""

    replicates: int
    level: float
    seed: int


Matrix = list[list[Number]]
Named = Literal["auc_matrix", "auc_low", "auc_high", "ap_matrix", "f1_matrix"]
MATRICES: Final[dict[Basis, Named]] = {"auc": "auc_matrix", "ap": "ap_matrix", "f1": "f1_matrix"}
"""What a metric is worked out from; of the calibration error no result holds more than the mean."""


class Result(Record):
    """What one run found: what it was, every number, and what must be said of them.

    ``result.to_frame()`` is every number by moment and label, ``result.plot()`` its figures, and
    ``result.metric("final_auc")`` a metric with its interval: ``value``, ``low``, ``high``.
    ``result.array("auc_matrix")`` is a matrix for NumPy; matrices have a row before training and one for each
    experience, a column for each label. Every part is an object with named fields: ``result.strategy.settings``.

    Attributes:
        run: ``id``, ``created``, ``command``, ``seed``, ``versions``.
        dataset: ``name``, ``labels``, ``n_train``, ``n_test``, ``n_test_patients``, ``notes``, ...
        scenario: ``name``, ``settings``, and of each of ``experiences`` its ``labels`` and ``n_train``.
        backbone: ``name``, ``licence``, ``pretraining_data``, ``contaminated``, ...
        prompts: ``name`` of the prompt bank.
        strategy: ``name``, ``settings``, ``diagnostics``, ``search``, ...
        labels: Names of the columns.
        first: Of each label, the first experience that can have taught it; 0 if none can.
        prevalence: Of each label, in the training images.
        auc_matrix: AUROC; ``auc_low`` and ``auc_high`` are the ends of its interval.
        ap_matrix: Average precision.
        f1_matrix: F1 at ``thresholds``, which are frozen when a label is first learnt.
        forgetting: Of each label.
        metrics: By key: ``final_auc``, ``forgetting``, ``gain``, ...; ``scenarios/README.md`` has their formulas.
        bootstrap: How intervals were made.
        cost: ``trainable_parameters``, ``fit_seconds``, ``stored_images``, ...
        transfer: What ``--transfer`` measured.
        energy: Joules by counter.
        identification: How well what a method keeps identifies patients.
        own: Metrics of one's own, by name: ``value``, ``meaning``, ``origin``; none is part of the benchmark.
        cautions: What must stand beside the numbers.
    """

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    schema_name: Literal["retune.result/1"] = Field(default=SCHEMA, alias="schema")
    run: RunRecord
    dataset: DatasetRecord
    scenario: ScenarioRecord
    backbone: BackboneRecord
    prompts: PromptsRecord
    strategy: StrategyRecord
    first: list[int]
    prevalence: list[Number] = []
    """Of each label in the training images; empty where the result was made before it was kept."""
    auc_matrix: Matrix
    auc_low: Matrix
    auc_high: Matrix
    ap_matrix: Matrix
    f1_matrix: Matrix
    thresholds: list[Number]
    forgetting: list[Number]
    metrics: dict[str, MetricRecord]
    bootstrap: Bootstrap
    cost: Cost
    transfer: list[TransferRecord] = []
    """What ``--transfer`` measured; empty where nothing was asked."""
    own: dict[str, OwnRecord] = {}
    """Metrics of one's own, by name; none is part of the benchmark."""
    energy: dict[str, float] = {}
    """Joules that the machine counted while it learnt and scored, by counter; empty where it tells none."""
    identification: dict[str, IdentificationRecord] = {}
    """Of what a method keeps (``kept``), and beside it of the backbone's features; empty where nothing is kept."""
    continued: ContinuedRecord | None = None
    """Of a run that went on from another one's model."""
    cautions: list[str] = []
    """What must stand beside the numbers, as :func:`retune.results.cautions.cautions` has it."""
    scores_digest: str = ""
    """Of the scores beside it, from which its numbers follow."""
    model_digest: str = ""
    """Of what was learnt, beside it; empty where the result was made before that was kept."""

    @property
    def labels(self) -> list[str]:
        """Names of the columns."""
        return self.dataset.labels

    @property
    def steps(self) -> int:
        """How many experiences it learnt from; of a continued run, those before it went on are among them."""
        return int(
            self.scenario.settings.get("step", 0) if self.continued else len(self.scenario.experiences)
        )

    def metric(self, key: str) -> MetricRecord:
        """One of ``metrics``; where the result was made before there was such a metric, what its matrices say of it.

        Args:
            key: Of the metric, e.g. ``final_auc``.
        """
        beside = self.transfer[0].metrics if self.transfer else {}
        return (
            self.metrics.get(key)
            or beside.get(key)
            or MetricRecord(value=self._worked_out(BY_KEY[key]), low=None, high=None)
        )

    def _worked_out(self, metric: Metric) -> float | None:
        name = MATRICES.get(metric.basis)
        return float(metric.of(self.array(name), self.facts)) if name else None

    @property
    def facts(self) -> LabelFacts:
        """What metrics need to know of the training images."""
        shares = np.array(self.prevalence, dtype=np.float64) if self.prevalence else None
        return LabelFacts.of(np.array(self.first, dtype=np.int64), shares)

    def array(self, name: Named) -> npt.NDArray[np.float64]:
        """A matrix as float64 (T+1, C), NaN where undefined.

        Args:
            name: ``auc_matrix``, ``auc_low``, ``auc_high``, ``ap_matrix`` or ``f1_matrix``.

        Raises:
            UnknownName: If it is none of these.
        """
        if name not in get_args(Named):
            raise UnknownName("matrix", name, get_args(Named))
        return np.array(getattr(self, name), dtype=np.float64)

    def to_frame(self) -> pd.DataFrame:
        """Every number of every moment and label.

        Returns:
            Rows ``moment`` (0 is before training), ``label``, ``learnt`` (by then), ``auc``, ``low``, ``high``, ``ap``
            and ``f1``; NaN where undefined.
        """
        import pandas as pd

        names = {
            "auc": "auc_matrix",
            "low": "auc_low",
            "high": "auc_high",
            "ap": "ap_matrix",
            "f1": "f1_matrix",
        }
        values = {name: self.array(of).ravel() for name, of in names.items()}  # type: ignore[arg-type]
        moments, labels = len(self.auc_matrix), self.labels
        rows = [
            (i, label, 0 < first <= i)
            for i in range(moments)
            for label, first in zip(labels, self.first, strict=True)
        ]
        return pd.DataFrame(rows, columns=["moment", "label", "learnt"]).assign(**values)

    def plot(self) -> Any:
        """Draw the AUC of every label at every moment, and their mean; see :func:`retune.plot`."""
        import retune

        return retune.plot(self)

    def __repr__(self) -> str:
        final = self.metric("final_auc")
        told = f"{number(final.value)} ({number(final.low)} to {number(final.high)})"
        return (
            f"<Result {self.strategy.called} on {self.dataset.name}, {self.scenario.name}, seed {self.run.seed}: "
            f"final AUC {told}>"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(metric.heading)}</th><td>{number(one.value)}</td>"
            f"<td>{number(one.low)} to {number(one.high)}</td>"
            f"<td style='text-align:left'>{escape(metric.meaning)}</td></tr>"
            for metric in in_table("run")
            if (one := self.metric(metric.key)).value is not None
        )
        rows += "".join(
            f"<tr><th style='text-align:left'>{escape(one.name)} *</th><td>{number(one.value)}</td><td></td>"
            f"<td style='text-align:left'>{escape(one.meaning)} (* not part of the benchmark)</td></tr>"
            for one in self.own.values()
        )
        beside = "".join(f"<li>{escape(caution)}</li>" for caution in self.cautions)
        head = "<tr><th></th><th>value</th><th>95 %</th><th></th></tr>"
        return (
            f"<p><b>{escape(self.strategy.called)}</b> on {escape(self.dataset.name)}, {escape(self.scenario.name)}, "
            f"{escape(self.backbone.name)}, seed {self.run.seed}</p><table>{head}{rows}</table><ul>{beside}</ul>"
        )

    def to_json(self) -> str:
        """The text of ``result.json``."""
        return seal_json(self.model_dump(by_alias=True)).decode()

    def write(self, folder: Path) -> None:
        """Write ``result.json`` whole.

        Args:
            folder: Must exist.
        """
        write_whole(folder / RESULT_FILE, self.to_json().encode())

    @classmethod
    def read(cls, path: str | Path) -> Result:
        """Read a result from its file or its folder.

        Raises:
            UserError: If it is not there, not a result, not as it was written, or not of the run of its folder.
        """
        file = Path(path)
        file = file / RESULT_FILE if file.is_dir() else file
        try:
            found = cls.model_validate(open_json(file))
            marker = file.with_name(RUN_FILE)
            of = open_json(marker).get("id") if marker.exists() else found.run.id
        except OSError as error:
            raise UserError(
                f"no result here ({error.strerror})", where=str(file), fix="give a run's folder"
            ) from error
        except ValidationError as error:
            raise UserError(f"is not a result: {mistake(error)}", where=str(file)) from error
        if found.run.id != of:
            raise Untrusted(
                f"is the result of another run ({found.run.id}, this folder is of {of})",
                where=str(file),
                fix="remove that file and issue the run's command again",
            )
        return found


# Nobody makes one by hand: what ``help`` tells first is what it is.
Result.__signature__ = Signature()
