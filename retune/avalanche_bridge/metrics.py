"""AUROC and forgetting as Avalanche plugin metrics, with the formulas of :mod:`retune.metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from retune.avalanche_bridge.quiet import quietly
from retune.metrics import auroc, forgetting_per_label
from retune.metrics.continual import nan_mean

with quietly():
    from avalanche.evaluation import PluginMetric
    from avalanche.evaluation.metric_results import MetricValue
    from avalanche.evaluation.metric_utils import get_metric_name

Floats = npt.NDArray[np.float64]


def multilabel_auroc_metrics(labels: Sequence[str] = ()) -> list[PluginMetric]:
    """For ``EvaluationPlugin(multilabel_auroc_metrics(), loggers=...)``.

    Args:
        labels: Names of the columns; where given, the AUROC of each is logged too.
    """
    return [MultilabelAUROC(labels)]


class MultilabelAUROC(PluginMetric):  # type: ignore[misc]  # Avalanche has no types.
    """Test AUROC of each label after each experience, and what has been forgotten since.

    Of every evaluation it emits, where they are defined,

    - ``MultilabelAUROC_Exp``, for each experience: mean AUROC of the labels known in it;
    - ``MultilabelAUROC_Stream``: mean AUROC of all labels; after the last experience, the final AUC;
    - ``MultilabelAUROC_Label/.../NAME``: the AUROC of each label, where labels are named;
    - ``ExperienceForgetting_AUROC`` and ``StreamForgetting_AUROC``: best AUROC since the label was first
      trained minus the present one, mean over an experience's labels and over all (Chaudhry et al., 2018).
      Avalanche's own forgetting is first minus last.

    Avalanche's CSVLogger has three fixed columns: it takes up the forgetting, and AUROC is no accuracy.

    Attributes:
        matrix: float64 (t+1, C): row 0 before training, row i after experience i; NaN where not evaluated
            then, or a class is lacking. Made for :mod:`retune.metrics`, as is ``first``.
        first: int64 (C,): the experience, from 1, by which training had shown each label both present and absent; 0
            for none.
    """

    def __init__(self, labels: Sequence[str] = ()) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.reset()

    def reset(self) -> None:
        """Forget all evaluations."""
        self.trained = 0
        self._training = False
        self._rows: dict[int, Floats] = {}
        # When a label was first shown absent, and present.
        self._shown: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._clear()

    def result(self) -> float | None:
        """Mean AUROC of the latest evaluation between experiences."""
        return float(nan_mean(self._rows[max(self._rows)])) if self._rows else None

    def __str__(self) -> str:
        return "MultilabelAUROC"

    @property
    def first(self) -> npt.NDArray[np.int64]:
        """See the class."""
        return self._first(len(next(iter(self._rows.values()), ())))

    @property
    def matrix(self) -> Floats:
        """See the class."""
        return self._matrix(self._rows)

    def before_training_exp(self, strategy: Any) -> None:
        """Evaluations from here on are no moment of the stream."""
        self._training = True

    def after_training_iteration(self, strategy: Any) -> None:
        """Note which labels training has seen; those of remembered images have been seen before."""
        for value, shown in enumerate(self._shown):
            for c in (strategy.mb_y == value).any(dim=0).nonzero().flatten().tolist():
                shown.setdefault(c, self.trained + 1)

    def after_training_exp(self, strategy: Any) -> None:
        """One experience more."""
        self._training = False
        self.trained += 1

    def before_eval(self, strategy: Any) -> None:
        """Begin a new row."""
        self._clear()

    def before_eval_exp(self, strategy: Any) -> None:
        """Begin a new experience."""
        self._begun = len(self._targets)

    def after_eval_iteration(self, strategy: Any) -> None:
        """Keep scores and targets."""
        self._scores.append(strategy.mb_output.detach().double().cpu().numpy())
        self._targets.append(strategy.mb_y.detach().double().cpu().numpy())

    def after_eval_exp(self, strategy: Any) -> list[MetricValue] | None:
        """Values of one experience."""
        return self._values(strategy, "Experience", self._auroc(self._begun))

    def after_eval(self, strategy: Any) -> list[MetricValue] | None:
        """Values of the whole stream."""
        row = self._auroc(0)
        if not self._training:
            self._rows[self.trained] = row
        values = self._values(strategy, "Stream", row)
        self._clear()
        return values

    def _clear(self) -> None:
        self._begun = 0
        self._scores: list[Floats] = []
        self._targets: list[Floats] = []

    def _auroc(self, start: int) -> Floats:
        """Of each label over the batches since one; an image may come more than once."""
        found = auroc(np.concatenate(self._targets[start:]), np.concatenate(self._scores[start:]))
        return np.asarray(found, dtype=np.float64)

    def _first(self, width: int) -> npt.NDArray[np.int64]:
        absent, present = self._shown
        both = absent.keys() & present.keys()
        return np.array(
            [max(absent[c], present[c]) if c in both else 0 for c in range(width)], dtype=np.int64
        )

    def _matrix(self, rows: dict[int, Floats]) -> Floats:
        width = len(next(iter(rows.values()), ()))
        return np.stack(
            [rows.get(i, np.full(width, np.nan)) for i in range(max(rows, default=-1) + 1)] or [np.empty(0)]
        )

    def _values(self, strategy: Any, of: str, row: Floats) -> list[MetricValue]:
        whole = of == "Stream"
        named = {f"MultilabelAUROC_{'Stream' if whole else 'Exp'}": nan_mean(row)}
        if self.trained and not self._training:
            so_far = {i: r for i, r in self._rows.items() if i < self.trained} | {self.trained: row}
            lost = forgetting_per_label(self._matrix(so_far), self._first(len(row)))
            named[f"{of}Forgetting_AUROC"] = nan_mean(lost)
        values = {
            get_metric_name(name, strategy, add_experience=not whole, add_task=False): value
            for name, value in named.items()
        }
        if whole and self.labels:
            name = get_metric_name("MultilabelAUROC_Label", strategy, add_task=False)
            values |= {f"{name}/{label}": v for label, v in zip(self.labels, row, strict=True)}
        x = strategy.clock.train_iterations
        return [MetricValue(self, k, float(v), x) for k, v in values.items() if not np.isnan(v)]
