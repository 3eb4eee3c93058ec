"""Running a suite: what is left of it, here or on a cluster, and the tables at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from retune.errors import RetuneError
from retune.files import make_folder
from retune.plugins import BUILT_IN
from retune.suite.cells import Finished, command
from retune.suite.expand import Failure
from retune.suite.plans import Job, Plans, first_of_each_stream
from retune.suite.watch import Watch
from retune.suite.work import Ended, encode
from retune.system import cores

if TYPE_CHECKING:
    from rich.console import Console

    from retune.progress import Progress

LOG_FILE: Final = "log.txt"


@dataclass
class Report:
    """How a suite ended.

    Args:
        finished: The cells that have a result, in order.
        failures: The others.
        printed: By strategy, what plugins printed.
    """

    finished: list[Finished] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    printed: dict[str, str] = field(default_factory=dict)


@dataclass
class _Book:
    """Keeps what becomes of each job, and shows it."""

    watch: Watch
    failed: dict[str, str] = field(default_factory=dict)
    printed: dict[str, str] = field(default_factory=dict)

    def began(self, job: Job) -> None:
        self.watch.began(job)

    def put_off(self, job: Job) -> None:
        self.watch.put_off(job)

    def ended(self, job: Job, how: Ended) -> None:
        if how.state != "done":
            self.failed[job.id] = how.reason
        if how.printed:
            self.printed.setdefault(job.cell.strategy, how.printed)
        self.watch.ended(job, how)


def execute(
    plans: Plans,
    out: Path,
    console: Console,
    *,
    workers: int | None = None,
    dask: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Do what is left of a suite; one failure does not stop the rest.

    Args:
        plans: What there is to do.
        out: Folder of the suite.
        console: Shows what is going on.
        workers: How many runs at the same time; one for each core where left out.
        dask: Address of a Dask scheduler that runs them instead.
        progress: Told what is done before the first run.

    Raises:
        UserError: If ``out`` cannot be written or there is no such scheduler.
        StorageError: If the disk is full.
    """
    make_folder(out)
    left = plans.left
    client = None
    if dask is not None and left:
        from retune.suite.cluster import connect

        client = connect(dask)
    book = _Book(Watch(console, len(plans.jobs) - len(left), len(plans.jobs)))
    try:
        if client is not None:
            from retune.suite.cluster import run_on_cluster

            with book.watch:
                spoilt = run_on_cluster(first_of_each_stream(left), left, client, book, _said)
                _spoil(book, left, spoilt)
        elif left:
            from retune.suite.local import run_here

            spoilt = _encoded(first_of_each_stream(left), progress)
            with book.watch:
                sound = _spoil(book, left, spoilt)
                run_here(sound, workers or cores(), out / LOG_FILE, book, _said)
    finally:
        if client is not None:
            client.close()
    failures = [*plans.failures]
    failures += [Failure(job.cell, book.failed[job.id]) for job in plans.jobs if job.id in book.failed]
    return Report([job.finished for job in plans.jobs if job.done], failures, book.printed)


def _said(job: Job) -> str:
    return command(job.cell.spec, job.folder)


def _encoded(first: Sequence[Job], progress: Progress | None) -> dict[str, str]:
    """Encode the images of every stream, with all cores; returns why some could not be, by job."""
    failed: dict[str, str] = {}
    for job in first:
        try:
            encode(job, progress)
        except RetuneError as error:
            failed[job.id] = str(error)
        except Exception as error:
            if job.origin == BUILT_IN:
                raise
            failed[job.id] = " ".join(f"{job.origin}: {type(error).__name__}: {error}".split())
    return failed


def _spoil(book: _Book, jobs: Sequence[Job], failed: dict[str, str]) -> list[Job]:
    """Fail the jobs whose images cannot be encoded; returns the others."""
    reasons = {job.stream: failed[job.id] for job in jobs if job.id in failed}
    for job in jobs:
        if job.stream in reasons:
            book.ended(job, Ended("failed", reasons[job.stream]))
    return [job for job in jobs if job.stream not in reasons]
