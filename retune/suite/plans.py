"""From cells to runs with a folder each: what is finished, what is left, and what cannot be run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from retune.errors import RetuneError, StrategyError, UserError
from retune.plugins import BUILT_IN, Kind, is_file, registry
from retune.results.result import RESULT_FILE
from retune.runner.plan import Plan, plan
from retune.runner.shared import Shared, key_of
from retune.suite.cells import Cell, Finished
from retune.suite.expand import Expanded, Failure, Skipped

if TYPE_CHECKING:
    from retune.progress import Progress


@dataclass(frozen=True)
class Job:
    """One cell with its run's identity and folder.

    Args:
        cell: What is run.
        id: The run's identity.
        folder: Where it is kept.
        origin: ``retune`` where nothing but built-in code takes part, else the plugins that do.
        stream: Which images are needed of which backbone: jobs of one stream share them.
    """

    cell: Cell
    id: str
    folder: Path
    origin: str
    stream: tuple[str, ...] = field(repr=False, default=())

    @property
    def done(self) -> bool:
        """Whether its result is there."""
        return (self.folder / RESULT_FILE).exists()

    @property
    def finished(self) -> Finished:
        """The cell with its result."""
        return self.cell.finished(self.folder)


@dataclass(frozen=True)
class Plans:
    """What a suite comes to on the data that is there.

    Args:
        jobs: Every run once, built-in methods first.
        skipped: What is left out.
        failures: What cannot be run.
    """

    jobs: list[Job]
    skipped: list[Skipped]
    failures: list[Failure]

    @cached_property
    def left(self) -> list[Job]:
        """What was not finished when it was planned."""
        return [job for job in self.jobs if not job.done]


def plan_suite(
    expanded: Expanded, out: Path, *, shared: Shared | None = None, progress: Progress | None = None
) -> Plans:
    """Plan every cell; nothing is encoded or written.

    Args:
        expanded: The cells.
        out: Folder of the suite; each run gets one below ``runs/`` in it.
        shared: What is read once for all cells.
        progress: Told what is done.

    Raises:
        UserError: If the input is at fault. Where a plugin is, its cells fail.
    """
    shared = shared or Shared()
    jobs: dict[str, Job] = {}
    skipped, failures = list(expanded.skipped), list(expanded.failures)
    tell = progress or (lambda stage, done, total: None)
    for k, cell in enumerate(expanded.cells):
        tell("planning", k, len(expanded.cells))
        try:
            planned = plan(cell.spec, progress, shared=shared)
        except StrategyError as error:
            failures.append(Failure(cell, str(error)))
        except UserError as error:
            if not _elsewhere(cell):
                raise
            skipped.append(Skipped(f"{cell.scenario} on {cell.data}", str(error)))
        except RetuneError:
            raise
        except Exception as error:
            if _origin(cell) == BUILT_IN:
                raise
            what = " ".join(f"{type(error).__name__}: {error}".split())
            failures.append(Failure(cell, f"{_origin(cell)} failed before anything was learnt: {what}"))
        else:
            folder = out / planned.default_folder()
            job = Job(cell, planned.id, folder, _origin(cell), _stream(planned))
            if planned.id in jobs and jobs[planned.id].cell.strategy != cell.strategy:
                skipped.append(Skipped(cell.name, f"is the same run as {jobs[planned.id].cell.strategy}"))
            jobs.setdefault(planned.id, job)
    tell("planning", len(expanded.cells), len(expanded.cells))
    # Python's sort is stable: the cells of one origin stay in order.
    ordered = sorted(jobs.values(), key=lambda job: (job.origin != BUILT_IN, job.origin))
    return Plans(ordered, list(dict.fromkeys(skipped)), failures)


def _stream(planned: Plan) -> tuple[str, ...]:
    parts = planned.parts
    return (
        key_of(parts.source),
        parts.scenario.name,
        repr(parts.scenario),
        parts.backbone.name,
        " ".join(sorted(parts.needs)),
    )


def _elsewhere(cell: Cell) -> bool:
    """Whether a published stream is asked for on other data than it was published on."""
    scenario = registry("scenarios").load(cell.spec.scenario or "")
    published = {name.strip() for name in scenario.data.split(",")} - {""}
    return bool(published) and {name.strip() for name in (cell.spec.data or "").split(",")} != published


def _origin(cell: Cell) -> str:
    """Whose code takes part in a run beside retune's own."""
    spec = cell.spec
    named: list[tuple[str, Callable[[str], str]]] = [
        (spec.strategy, _maker("strategies")),
        (spec.scenario or "", _maker("scenarios")),
        (spec.backbone, _maker("backbones")),
        *((name.strip(), _maker("datasets")) for name in (spec.data or "").split(",")),
    ]
    foreign = sorted({name for name, origin in named if name and origin(name) != BUILT_IN})
    return ", ".join(foreign) or BUILT_IN


def _maker(kind: Kind) -> Callable[[str], str]:
    def origin(name: str) -> str:
        if is_file(name):
            return name
        entries = registry(kind).entries
        stems = {name, name.rpartition("/")[0]}
        found = [e.origin for e in entries if stems & {e.name, f"{e.origin}/{e.name}"}]
        return found[0] if found else BUILT_IN

    return origin


def first_of_each_stream(jobs: Sequence[Job]) -> list[Job]:
    """One job for every stream: whoever encodes its images has encoded all or nearly all of the others'."""
    return list({job.stream: job for job in reversed(jobs)}.values())[::-1]


def absolute(job: Job) -> Job:
    """The job with its folder as other processes find it."""
    return replace(job, folder=job.folder.absolute())
