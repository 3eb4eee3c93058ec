"""The jobs of a suite on a Dask cluster that is already there.

Every worker must see the same files under the same paths: the data, plugins, the suite's folder and the feature
store. Results are gathered from that folder, and the lock of a run goes with the process that held it. A worker
process does one job at a time; a job whose worker dies continues on another after its last experience.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from retune.cache import cache_dir
from retune.errors import MissingPackage, RetuneError, UserError, install
from retune.suite.plans import Job
from retune.suite.runs import in_a_line
from retune.suite.work import Ended, encode, work

RETRIES: Final = 1
"""How often a task is repeated that raises what no job raises: where a worker cannot take it up."""
PATIENCE: Final = 15.0
"""Seconds to look for the scheduler."""


def connect(address: str) -> Any:
    """A client of a cluster.

    Args:
        address: Of its scheduler, e.g. ``tcp://10.0.0.1:8786``.

    Raises:
        MissingPackage: If ``distributed`` is not installed.
        UserError: If there is no scheduler.
    """
    try:
        from distributed import Client
        from distributed.comm.addressing import get_address_host_port
    except ImportError:
        raise MissingPackage(
            "Dask's distributed is not installed", where="--dask", fix=install("dask")
        ) from None
    try:
        # Looked for first: a client that finds none lives on for half a minute.
        socket.create_connection(get_address_host_port(address, strict=True), PATIENCE).close()
        client = Client(address, timeout=PATIENCE, set_as_default=False)
        if not client.scheduler_info()["workers"]:
            print("the cluster has no workers yet: waiting for one ...", file=sys.stderr)
        return client
    except (OSError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"there is no Dask scheduler ({reason})", where=f"--dask {address}", fix="check its address"
        ) from None


def run_there(
    what: Callable[[Job, str], Ended], jobs: Sequence[Job], client: Any, ended: Callable[[Job, Ended], None]
) -> None:
    """Do something with jobs in the workers of a cluster.

    Args:
        what: :func:`encode_there` or :func:`work_there`.
        jobs: What to do.
        client: See :func:`connect`.
        ended: Is told of each.
    """
    from distributed import as_completed

    store = str(cache_dir().absolute())
    tasks: dict[Any, Job] = {}

    def submit(job: Job) -> Any:
        there = replace(job, folder=job.folder.absolute())
        task = client.submit(what, there, store, pure=False, retries=RETRIES)
        tasks[task] = job
        return task

    try:
        waiting = as_completed([submit(job) for job in jobs], loop=client.loop)
        for task in waiting:
            job = tasks.pop(task)
            how = _answer(task, job)
            if how.state == "busy":
                waiting.add(submit(job))
            else:
                ended(job, how)
    finally:
        client.cancel(list(tasks), force=True)


def _answer(task: Any, job: Job) -> Ended:
    """How a job ended; where it could not even begin, or one worker after another died of it, why."""
    try:
        how: Ended = task.result()
    except Exception as error:
        reason = f"strategy {job.run.strategy}: the cluster gave it up ({in_a_line(error)})"
        return Ended("failed", reason)
    return how


def work_there(job: Job, store: str) -> Ended:
    """Do a job in a worker of the cluster."""
    os.environ.setdefault("RETUNE_CACHE", store)
    return work(job)


def encode_there(job: Job, store: str) -> Ended:
    """Encode what a job needs in a worker of the cluster."""
    os.environ.setdefault("RETUNE_CACHE", store)
    try:
        encode(job)
    except RetuneError as error:
        return Ended("failed", str(error))
    return Ended("done")
