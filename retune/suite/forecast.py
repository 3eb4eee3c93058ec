"""How long what is left of a suite will take, from runs that were made before; nothing is promised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Final

from retune.errors import UserError
from retune.results.result import RESULT_FILE, Result
from retune.suite.plans import Images, Job, Plans

MOST: Final = 2000
"""Earlier runs that are read, the latest first."""


@dataclass(frozen=True)
class Forecast:
    """What is left to do.

    Args:
        learning: Seconds of one core for searching, learning and scoring, of the runs that can be told of.
        encoding: Seconds for the images that are not encoded yet; None where nothing tells how long one takes.
        to_encode: How many these are.
        earlier: How many runs it is drawn from.
        unknown: Methods that no earlier run tells of.
    """

    learning: float
    encoding: float | None
    to_encode: int
    earlier: int
    unknown: tuple[str, ...]


def forecast(plans: Plans, folders: Iterable[Path]) -> Forecast:
    """Estimate the time that is left.

    Of each run that is left, the earlier runs of its method count that are most like it: on the same stream, data and
    backbone, else with the same backbone, else any. Their seconds are taken by the training image.

    Args:
        plans: With the images counted.
        folders: Where earlier runs lie, at any depth.
    """
    earlier = _read(folders)
    learning, unknown = 0.0, dict[str, None]()
    for job in plans.left:
        found = _like(job, earlier)
        if found:
            learning += mean(_by_image(run) for run in found) * plans.images[job.stream].train
        else:
            unknown[job.run.strategy] = None
    left = {(job.run.data, job.run.backbone): plans.images[job.stream] for job in _widest_last(plans)}
    to_encode = sum(images.needed - images.held for images in left.values())
    rates = [r.cost.encode_seconds / r.cost.images_encoded for r in earlier if r.cost.images_encoded]
    return Forecast(
        learning, mean(rates) * to_encode if rates else None, to_encode, len(earlier), tuple(unknown)
    )


def _widest_last(plans: Plans) -> list[Job]:
    """What is left, the jobs whose streams lack most images last: streams of one data set share their images."""

    def lacking(job: Job) -> int:
        images: Images = plans.images[job.stream]
        return images.needed - images.held

    return sorted(plans.left, key=lacking)


def _like(job: Job, earlier: list[Result]) -> list[Result]:
    """The earlier runs of a job's method that are most like it."""
    own = [run for run in earlier if run.strategy.called == job.run.spec.strategy or run.run.id == job.id]
    backbone = [run for run in own if run.backbone.name == job.run.backbone]
    stream = [
        run for run in backbone if (run.dataset.name, run.scenario.name) == (job.run.data, job.run.scenario)
    ]
    return stream or backbone or own


def _by_image(run: Result) -> float:
    """Seconds for a training image."""
    cost = run.cost
    return (cost.search_seconds + cost.fit_seconds + cost.score_seconds) / max(1, run.dataset.n_train)


def _read(folders: Iterable[Path]) -> list[Result]:
    """Earlier runs, each once; what cannot be read tells nothing."""
    files = {file.resolve() for folder in folders if folder.is_dir() for file in folder.rglob(RESULT_FILE)}
    found: dict[str, Result] = {}
    for file in sorted(files, key=lambda file: -file.stat().st_mtime)[:MOST]:
        try:
            result = Result.read(file)
        except UserError:
            continue
        found.setdefault(result.run.id, result)
    return list(found.values())
