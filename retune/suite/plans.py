"""What each run of a suite is on the data that is there: finished, left with a folder to go to, or impossible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from retune.errors import PluginError, RetuneError, StrategyError, UserError
from retune.features.encode import held
from retune.plugins import BUILT_IN, Kind, is_file, registry
from retune.results.result import RESULT_FILE
from retune.runner.plan import Plan, plan
from retune.runner.shared import Shared, key_of
from retune.suite.grid import Failure, Grid, Skipped
from retune.suite.runs import Finished, Wanted, in_a_line
from retune.suite.spec import split

if TYPE_CHECKING:
    from retune.progress import Progress


@dataclass(frozen=True)
class Job:
    """A run that is wanted, with its identity and its folder.

    Args:
        run: What is run.
        id: The run's identity.
        folder: Where it is kept.
        command: The command line that does it alone.
        origin: ``retune`` where nothing but built-in code takes part, else the plugins that do.
        stream: Which images are needed of which backbone: jobs of one stream share them.
    """

    run: Wanted
    id: str
    folder: Path
    command: str
    origin: str
    stream: tuple[str, ...] = field(repr=False)

    @property
    def done(self) -> bool:
        """Whether its result is there."""
        return (self.folder / RESULT_FILE).exists()

    @property
    def finished(self) -> Finished:
        """The run with its result."""
        return self.run.finished(self.folder)


@dataclass(frozen=True)
class Images:
    """The images of a stream.

    Args:
        train: How many there are to learn from.
        needed: How many values of them and of the test images its runs ask for.
        held: How many of these the feature store holds.
    """

    train: int
    needed: int
    held: int

    @classmethod
    def of(cls, planned: Plan) -> Images:
        """Look into the store; nothing is encoded or written."""
        from retune.runner.images import KINDS

        keys = [key for key in planned.content or () if key is not None]
        kinds = [kind for need, kind in KINDS.items() if need in planned.parts.needs]
        there = sum(held(planned.parts.backbone, kind, keys) for kind in kinds)
        return cls(len(planned.stream.joint()), len(keys) * len(kinds), there)


@dataclass(frozen=True)
class Plans:
    """What a suite comes to on the data that is there.

    Args:
        jobs: Every run once, built-in methods first.
        skipped: What is left out.
        failures: What cannot be run.
        images: Of each stream, where they were counted.
    """

    jobs: list[Job]
    skipped: list[Skipped]
    failures: list[Failure]
    images: dict[tuple[str, ...], Images] = field(default_factory=dict)

    @cached_property
    def left(self) -> list[Job]:
        """What was not finished when it was planned."""
        return [job for job in self.jobs if not job.done]


def plan_suite(
    grid: Grid, out: Path, *, shared: Shared, count: bool = False, progress: Progress | None = None
) -> Plans:
    """Plan every run; nothing is encoded or written.

    Args:
        grid: The runs.
        out: Folder of the suite; each run gets one below ``runs/`` in it.
        shared: What is read once for all runs.
        count: Whether to count the images of every stream, and those that are encoded already.
        progress: Told what is done.

    Raises:
        UserError: If the input is at fault. Where a plugin is, its runs fail.
    """
    jobs: dict[str, Job] = {}
    images: dict[tuple[str, ...], Images] = {}
    skipped, failures = list(grid.skipped), list(grid.failures)
    tell = progress or (lambda stage, done, total: None)
    for k, run in enumerate(grid.runs):
        tell("planning", k, len(grid.runs))
        origin = _origin(run)
        try:
            planned = plan(run.spec, progress, shared=shared)
        except (StrategyError, PluginError) as error:
            failures.append(Failure(run, str(error)))
        except UserError as error:
            if not _elsewhere(run):
                raise
            skipped.append(Skipped(f"{run.scenario} on {run.data}", str(error)))
        except RetuneError:
            raise
        except Exception as error:
            if origin == BUILT_IN:
                raise
            reason = f"{origin} failed before anything was learnt: {in_a_line(error)}"
            failures.append(Failure(run, reason))
        else:
            folder = out / planned.default_folder()
            job = Job(run, planned.id, folder, run.command(folder), origin, _stream(planned))
            if count and job.stream not in images:
                images[job.stream] = Images.of(planned)
            if planned.id in jobs and jobs[planned.id].run.strategy != run.strategy:
                skipped.append(Skipped(run.name, f"is the same run as {jobs[planned.id].run.strategy}"))
            jobs.setdefault(planned.id, job)
    tell("planning", len(grid.runs), len(grid.runs))
    # Python's sort is stable: the runs of one origin stay in order.
    ordered = sorted(jobs.values(), key=lambda job: (job.origin != BUILT_IN, job.origin))
    return Plans(ordered, list(dict.fromkeys(skipped)), failures, images)


def _stream(planned: Plan) -> tuple[str, ...]:
    parts = planned.parts
    return (
        key_of(parts.source),
        parts.scenario.name,
        repr(parts.scenario),
        parts.backbone.name,
        " ".join(sorted(parts.needs)),
    )


def _elsewhere(run: Wanted) -> bool:
    """Whether a published stream is asked for on other data than it was published on."""
    published = set(split(registry("scenarios").load(run.spec.scenario or "").data))
    return bool(published) and set(split(run.spec.data or "")) != published


def _origin(run: Wanted) -> str:
    """Whose code takes part in a run beside retune's own."""
    spec = run.spec
    named: list[tuple[Kind, str]] = [
        ("strategies", spec.strategy),
        ("scenarios", spec.scenario or ""),
        ("backbones", spec.backbone),
        *(("datasets", name) for name in split(spec.data or "")),
    ]
    foreign = {name for kind, name in named if _is_foreign(kind, name)}
    return ", ".join(sorted(foreign)) or BUILT_IN


def _is_foreign(kind: Kind, name: str) -> bool:
    """Whether a name, or what a preset is of, is not retune's own."""
    stems = {name, name.rpartition("/")[0]}
    if any(map(is_file, stems)):
        return True
    found = (e.origin for e in registry(kind).entries if stems & {e.name, f"{e.origin}/{e.name}"})
    return next(found, BUILT_IN) != BUILT_IN


def first_of_each_stream(jobs: Sequence[Job]) -> list[Job]:
    """One job for every stream: whoever encodes its images has encoded all or nearly all of the others'."""
    return list({job.stream: job for job in reversed(jobs)}.values())[::-1]
