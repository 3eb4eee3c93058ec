"""From folders to results: found at any depth, read, checked, each run once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retune.errors import UserError
from retune.metrics.continual import check_first
from retune.metrics.table import in_table
from retune.plugins import registry
from retune.progress import Progress, silent
from retune.results.own import with_own
from retune.results.result import RESULT_FILE, RUN_FILE, Result
from retune.results.text import number
from retune.results.transfers import misfit
from retune.settings import typed

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Collected:
    """Every run once.

    Args:
        results: By run id.
        folders: Of each run, by its id.
        notes: What must be said of copies and of unfinished runs.
    """

    results: list[Result]
    folders: dict[str, Path]
    notes: list[str]


def collect(paths: Iterable[str | Path], progress: Progress, metrics: Sequence[str] = ()) -> Collected:
    """Read every run; the order of folders does not matter.

    Args:
        paths: Folders of runs, folders that hold runs at any depth, or ``result.json`` files.
        progress: Told what is done.
        metrics: Of one's own, beside those that are installed.

    Raises:
        UserError: If there is no run or a result is broken.
    """
    for metric in metrics:
        registry("metrics").load(metric)
    folders = [Path(path) for path in paths]
    found = finished(folders, progress, metrics)
    distinct, notes = _distinct(found)
    left = len(unfinished(folders))
    if left:
        notes.append(f"{left} unfinished {'run' if left == 1 else 'runs'} left out.")
    return Collected([result for result, _ in distinct], {r.run.id: folder for r, folder in distinct}, notes)


class Results(list[Result]):
    """Several runs, in the order of their folders."""

    def to_frame(self) -> pd.DataFrame:
        """A row for each run: ``strategy``, ``scenario``, ``data``, ``backbone``, ``seed``, and metrics by their keys.

        Where runs of one strategy, scenario or data set are not set alike, ``settings`` holds what tells them apart,
        as ``--set`` has it: ``k=7``, ``k=15``. Runs with a transfer have ``dense_final`` and its kin, and ``transfer``:
        what was measured on which data set; metrics of one's own stand under ``own.NAME``.
        """
        import pandas as pd

        told = _settings_apart(self)
        return pd.DataFrame(
            {
                "strategy": result.strategy.called,
                "scenario": result.scenario.name,
                "data": result.dataset.name,
                "backbone": result.backbone.name,
                "seed": result.run.seed,
                **({"settings": apart} if any(told) else {}),
                **{key: one.value for key, one in result.metrics.items()},
                **{key: one.value for of in result.transfer for key, one in of.metrics.items()},
                **{f"own.{name}": one.value for name, one in result.own.items()},
                **({"transfer": _measured(result)} if result.transfer else {}),
            }
            for result, apart in zip(self, told, strict=True)
        )

    def plot(self) -> Any:
        """Draw the mean AUC of each method after each experience, by stream; see :func:`retune.plot`."""
        import retune

        return retune.plot(self)

    def __repr__(self) -> str:
        return "[" + ",\n ".join(map(repr, self)) + "]"

    def _repr_html_(self) -> str:
        shown = self.to_frame()
        named = shown.columns[: 6 if "settings" in shown else 5]
        heads = [*named, *(metric.key for metric in in_table("suite") if metric.key in shown)]
        table: str = shown[heads].to_html(index=False, float_format=number, na_rep="-")
        return table


def _settings_apart(results: Sequence[Result]) -> list[str]:
    """Of each run the settings in which not all runs of its strategy, its scenario or its data set are alike."""
    every = [
        {
            (kind, name): {f"{kind}{key}": typed(value) for key, value in settings.items()}
            for kind, name, settings in (
                ("", of.strategy.name, of.strategy.settings),
                ("scenario.", of.scenario.name, of.scenario.settings),
                ("data.", of.dataset.name, of.dataset.settings),
            )
        }
        for of in results
    ]
    seen: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for parts in every:
        for part, settings in parts.items():
            seen[part].append(settings)
    return [
        " ".join(
            f"{key}={value}"
            for part, settings in parts.items()
            for key, value in settings.items()
            if any(other.get(key) != value for other in seen[part])
        )
        for parts in every
    ]


def _measured(result: Result) -> str:
    """What a run's transfers measured, and on which data sets."""
    return ", ".join(f"{of.name}:{of.data}" for of in result.transfer)


def load(path: str | Path) -> Result | Results:
    """Read a finished run, or every finished run below a folder.

    Args:
        path: A run's folder or its ``result.json``; or a folder that holds runs at any depth.

    Returns:
        One result, or a list of them in the order of their folders.

    Raises:
        UserError: If there is none, or one is broken.
    """
    place = Path(path)
    if place.is_file() or (place / RESULT_FILE).exists():
        return with_own(Result.read(place), place if place.is_dir() else place.parent)
    return Results(result for result, _ in finished([place], silent))


def unfinished(paths: Iterable[str | Path]) -> list[Path]:
    """Folders of runs that were begun and have no result, sorted.

    Args:
        paths: Folders of runs, or folders that hold runs at any depth.
    """
    begun = {file.parent.resolve() for path in paths for file in Path(path).rglob(RUN_FILE)}
    return sorted(folder for folder in begun if not (folder / RESULT_FILE).exists())


def finished(
    paths: Iterable[str | Path], progress: Progress, metrics: Sequence[str] = ()
) -> list[tuple[Result, Path]]:
    """Read every finished run with its folder, in the order of folders; a folder named twice counts once.

    Args:
        paths: Folders of runs, folders that hold runs at any depth, or ``result.json`` files.
        progress: Told what is done.
        metrics: Of one's own, beside those that are installed.

    Raises:
        UserError: If there is no run or a result is broken.
    """
    files = sorted({file for path in paths for file in _files(Path(path))})
    found = []
    for k, file in enumerate(files):
        found.append((with_own(_checked(Result.read(file), file), file.parent, metrics), file.parent))
        progress("reading results", k + 1, len(files))
    return found


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = [file.resolve() for file in path.rglob(RESULT_FILE)]
        if not files:
            raise UserError(
                f"no {RESULT_FILE} here or below",
                where=str(path),
                fix="give folders of finished runs, or a folder that holds them",
            )
        return files
    if not path.exists():
        raise UserError("no such folder", where=str(path), fix="give folders of finished runs")
    return [path.resolve()]


def _checked(result: Result, file: Path) -> Result:
    """See that the parts of a result fit each other: what is drawn relies on it."""
    moments, labels = len(result.scenario.experiences) + 1, len(result.labels)
    problem = None if labels else "it has no labels"
    for name in ("auc_matrix", "auc_low", "auc_high"):
        rows = getattr(result, name)
        if len(rows) != moments or any(len(row) != labels for row in rows):
            problem = f"{name} must have {moments} rows of {labels} labels"
    if result.prevalence and len(result.prevalence) != labels:
        problem = f"prevalence must hold {labels} numbers"
    if len(result.forgetting) != labels:
        problem = f"forgetting must hold {labels} numbers"
    absent = [m.key for m in in_table("report") if not m.later and m.key not in result.metrics]
    if absent:
        problem = f"metrics lacks {', '.join(absent)}"
    # A number that JSON should not hold: infinite, or more than anything can cost.
    if not all(0 <= value < 1e18 for value in vars(result.cost).values()):
        problem = "cost must hold numbers from 0"
    problem = problem or next(filter(None, (misfit(of, moments) for of in result.transfer)), None)
    if problem is None:
        try:
            check_first(result.array("auc_matrix"), np.array(result.first, dtype=np.int64))
        except ValueError as error:
            problem = str(error)
    if problem:
        raise UserError(f"is not a result: {problem}", where=str(file), fix="run it again")
    return result


def _distinct(found: list[tuple[Result, Path]]) -> tuple[list[tuple[Result, Path]], list[str]]:
    """One of every run; of copies that differ, the earliest."""
    copies: dict[str, list[tuple[Result, Path]]] = defaultdict(list)
    for result, folder in found:
        copies[result.run.id].append((result, folder))
    notes = []
    more = len(found) - len(copies)
    if more:
        notes.append(f"{more} {'copy of a run' if more == 1 else 'copies of runs'} left out.")
    for key, same in sorted(copies.items()):
        same.sort(key=lambda one: (one[0].run.created, one[0].to_json()))
        first, _ = same[0]
        if any(other.auc_matrix != first.auc_matrix for other, _ in same):
            notes.append(
                f"Run {key} was found twice, with different numbers; that of {first.run.created} stands."
            )
    return [copies[key][0] for key in sorted(copies)], notes
