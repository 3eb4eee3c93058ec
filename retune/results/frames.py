"""A result as a table for a notebook: one row for each moment and label."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from retune.metrics.table import in_table
from retune.results.text import number

if TYPE_CHECKING:
    import pandas as pd

    from retune.results.result import Result


def frame(result: Result) -> pd.DataFrame:
    """Every number of every moment and label.

    Returns:
        Rows ``moment`` (0 is before training), ``label``, ``learnt`` (by then), ``auc``, ``low``, ``high``, ``ap`` and
        ``f1``; NaN where undefined.
    """
    import pandas as pd

    names = {"auc": "auc_matrix", "low": "auc_low", "high": "auc_high", "ap": "ap_matrix", "f1": "f1_matrix"}
    values = {name: result.array(of).ravel() for name, of in names.items()}  # type: ignore[arg-type]
    moments, labels = len(result.auc_matrix), result.labels
    rows = [
        (i, label, 0 < first <= i)
        for i in range(moments)
        for label, first in zip(labels, result.first, strict=True)
    ]
    return pd.DataFrame(rows, columns=["moment", "label", "learnt"]).assign(**values)


class Results(list["Result"]):
    """Several runs, in the order of their folders."""

    def to_frame(self) -> pd.DataFrame:
        """A row for each run: ``strategy``, ``scenario``, ``data``, ``backbone``, ``seed``, and metrics by their keys."""
        import pandas as pd

        return pd.DataFrame(
            {
                "strategy": result.strategy.called,
                "scenario": result.scenario.name,
                "data": result.dataset.name,
                "backbone": result.backbone.name,
                "seed": result.run.seed,
                **{key: one.value for key, one in result.metrics.items()},
            }
            for result in self
        )

    def __repr__(self) -> str:
        return "[" + ",\n ".join(map(repr, self)) + "]"

    def _repr_html_(self) -> str:
        shown = self.to_frame()
        heads = [*shown.columns[:5], *(metric.key for metric in in_table("suite") if metric.key in shown)]
        table: str = shown[heads].to_html(index=False, float_format=number, na_rep="-")
        return table


def line(result: Result) -> str:
    """A result in a line."""
    final = result.metric("final_auc")
    told = f"{number(final.value)} ({number(final.low)} to {number(final.high)})"
    return (
        f"<Result {result.strategy.called} on {result.dataset.name}, {result.scenario.name}, seed {result.run.seed}: "
        f"final AUC {told}>"
    )


def html(result: Result) -> str:
    """A result as a notebook shows it: what it was, its metrics, and what must stand beside them."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(metric.heading)}</th><td>{number(one.value)}</td>"
        f"<td>{number(one.low)} to {number(one.high)}</td><td style='text-align:left'>{escape(metric.meaning)}</td></tr>"
        for metric in in_table("run")
        if (one := result.metric(metric.key)).value is not None
    )
    beside = "".join(f"<li>{escape(caution)}</li>" for caution in result.cautions)
    head = "<tr><th></th><th>value</th><th>95 %</th><th></th></tr>"
    return (
        f"<p><b>{escape(result.strategy.called)}</b> on {escape(result.dataset.name)}, {escape(result.scenario.name)}, "
        f"{escape(result.backbone.name)}, seed {result.run.seed}</p><table>{head}{rows}</table><ul>{beside}</ul>"
    )
