"""Running a suite: what is left of it, here or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from retune.errors import RetuneError
from retune.files import make_folder
from retune.plugins import BUILT_IN
from retune.suite.cluster import connect, encode_there, run_there, work_there
from retune.suite.grid import Failure
from retune.suite.local import run_here
from retune.suite.plans import Job, Plans, first_of_each_stream
from retune.suite.runs import Finished, in_a_line
from retune.suite.watch import Watch
from retune.suite.work import Ended, encode
from retune.system import cores

if TYPE_CHECKING:
    from rich.console import Console

    from retune.progress import Progress

LOG_FILE: Final = "log.txt"


@dataclass
class Outcome:
    """How a suite ended.

    Args:
        finished: The runs that have a result, in order.
        failures: The others.
        printed: By strategy, what plugins printed.
    """

    finished: list[Finished]
    failures: list[Failure]
    printed: dict[str, str]


def execute(
    plans: Plans,
    out: Path,
    console: Console,
    *,
    workers: int | None = None,
    dask: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
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
    first = first_of_each_stream(left)
    watch = Watch(console, len(plans.jobs) - len(left), len(plans.jobs))
    with ExitStack() as stack:
        if dask is not None and left:
            client = stack.enter_context(connect(dask))
            stack.enter_context(watch)
            encoded: dict[str, Ended] = {}
            run_there(encode_there, first, client, lambda job, how: encoded.update({job.id: how}))
            spoilt = {key: how.reason for key, how in encoded.items() if how.state == "failed"}
            run_there(work_there, watch.without_spoilt(left, spoilt), client, watch.ended)
        elif left:
            spoilt = _encoded(first, progress)
            stack.enter_context(watch)
            run_here(watch.without_spoilt(left, spoilt), workers or cores(), out / LOG_FILE, watch)
    failed = [Failure(job.run, watch.failed[job.id]) for job in plans.jobs if job.id in watch.failed]
    finished = [job.finished for job in plans.jobs if job.done]
    return Outcome(finished, [*plans.failures, *failed], watch.printed)


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
            failed[job.id] = f"{job.origin}: {in_a_line(error)}"
    return failed
