"""Metrics of one's own, worked out beside the benchmark's; a broken one is told and stops nothing."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from retune.errors import BadSetting, RetuneError, UserError
from retune.metrics.own.base import OwnMetric
from retune.metrics.table import BY_KEY
from retune.plugins import code_of, raised, registry
from retune.results.result import SCORES_FILE, OwnRecord, Result
from retune.results.scores import read_scores

NOT_OURS: Final = "not part of the benchmark"


def own_metrics(
    names: Sequence[str], matrix: npt.NDArray[Any], scores: npt.NDArray[Any], targets: npt.NDArray[Any]
) -> dict[str, OwnRecord]:
    """Work out every metric that is installed, and those that are named.

    Args:
        names: Names, or Python files.
        matrix: ``(T+1, C)`` AUROC.
        scores: ``(T+1, N, C)``.
        targets: ``(N, C)``.

    Returns:
        By name; of one that breaks, why.
    """
    return _worked_out(asked_for(names), matrix, scores, targets)


def with_own(result: Result, folder: Path, names: Sequence[str] = ()) -> Result:
    """A result with the metrics that are installed or named now; those that it holds of the same code stand.

    Args:
        result: That was read.
        folder: Where its scores are; without them nothing can be added.
        names: Beside those that are installed.
    """
    held = {(record.asked, record.code) for record in result.own.values()}
    lacking = [name for name in asked_for(names) if (name, _code(name)) not in held]
    if not lacking or not (folder / SCORES_FILE).exists():
        return result
    arrays = read_scores(result, folder)
    added = _worked_out(lacking, result.array("auc_matrix"), arrays["scores"], arrays["targets"])
    return result.model_copy(update={"own": {**result.own, **added}})


def problems(result: Result) -> list[str]:
    """Which metrics of one's own give no number, and why not."""
    return [
        f"metric {one.asked} gives no number: {one.problem}" for one in result.own.values() if one.problem
    ]


def checked_name(cls: type[OwnMetric], asked: str) -> str:
    """What a metric is called.

    Raises:
        UserError: If it has no name, or that of a metric of the benchmark.
    """
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name:
        raise UserError(f"{cls.__name__} lacks a name", where=f"metric {asked}", fix="add name = 'text'")
    if name in BY_KEY or name in {metric.heading for metric in BY_KEY.values()}:
        raise UserError(
            f"is called '{name}' like a metric of the benchmark",
            where=f"metric {asked}",
            fix="choose another name",
        )
    return name


def asked_for(names: Sequence[str]) -> list[str]:
    """Metrics that are installed and those that are named, as they are asked for.

    Args:
        names: Names, or Python files.

    Raises:
        BadSetting: If two have one name: only one of them could stand in a result.
    """
    asked = list(dict.fromkeys((*registry("metrics").names(), *names)))
    called: dict[str, str] = {}
    for one in asked:
        try:
            name = checked_name(registry("metrics").load(one), one)
        except UserError:  # Of a broken one it is told where its number would stand.
            continue
        if name in called:
            raise BadSetting(
                f"{called[name]} and {one} are both called '{name}'",
                where="--metric",
                fix="rename one, or leave it out",
            )
        called[name] = one
    return asked


def _worked_out(asked: Sequence[str], *arrays: npt.NDArray[Any]) -> dict[str, OwnRecord]:
    # What is handed over cannot be changed: others are worked out from it, too.
    given = [array.view() for array in arrays]
    for array in given:
        array.flags.writeable = False
    found = [_measured(name, *given) for name in asked]
    return {record.name: record for record in found}


def _code(name: str) -> str:
    """Digest of its code; nothing where that cannot be read."""
    try:
        return code_of("metrics", name, registry("metrics").load(name))
    except UserError:
        return ""


def _measured(asked: str, *given: npt.NDArray[Any]) -> OwnRecord:
    cls: type[OwnMetric] | None = None
    told: dict[str, Any] = {"name": asked, "asked": asked, "value": None}
    try:
        cls = registry("metrics").load(asked)
        told["name"] = checked_name(cls, asked)
        told["meaning"] = (inspect.getdoc(cls) or "").partition("\n")[0]
        with redirect_stdout(sys.stderr), np.errstate(all="ignore"):
            value = float(cls().measure(*given))
        if math.isinf(value):
            raise ValueError(f"it gave {value}, not a number")
        told["value"] = value
    except RetuneError as error:
        told["problem"] = str(error)
    except (Exception, SystemExit) as error:
        what = raised(error, cls or OwnMetric)
        told["problem"] = f"{what}; mend it, and look with: retune check metric {asked}"
    better = getattr(cls, "better", "higher")
    return OwnRecord(
        **told, better="lower" if better == "lower" else "higher", origin=registry("metrics").origin(asked),
        code=_code(asked),
    )  # fmt: skip
