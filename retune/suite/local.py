"""The jobs of a suite on this machine: a process for each that runs at the same time."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from retune.suite.cells import THREADS
from retune.suite.plans import Job
from retune.suite.work import Ended, begin, work

TRIES: Final = 2
"""How often a run is begun whose process dies."""
ENDED_LATE: Final = 1
"""Exit code of a process that was ended because its time was long over."""
LIMITS: Final = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


class Watcher(Protocol):
    """Is told what becomes of each job."""

    def began(self, job: Job) -> None:
        """It runs."""

    def put_off(self, job: Job) -> None:
        """It will be begun again."""

    def ended(self, job: Job, how: Ended) -> None:
        """It is done or has failed."""


class Slot:
    """One process at a time. Its death is nobody's but its own job's, and a fresh one takes its place.

    Args:
        log: Where the process's output goes.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._pool: Any = None
        self._origin = ""

    def submit(self, job: Job, command: str) -> Future[Ended]:
        """Begin a job."""
        # A process that has run a plugin runs nothing else: whatever that has changed stays with it.
        if self._pool is None or self._origin != job.origin:
            self.close()
            self._pool, self._origin = _process(self.log), job.origin
        with _undisturbed():
            future: Future[Ended] = self._pool.submit(work, job, command)
        return future

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._pool is not None:
            # What is not waited for here is when Python ends, where Ctrl-C would be told with a traceback.
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None


def _process(log: Path) -> Any:
    from joblib.externals.loky import ProcessPoolExecutor

    few = dict.fromkeys(LIMITS, str(THREADS))
    return ProcessPoolExecutor(1, initializer=begin, initargs=(str(log), os.getpid()), env=few)


def run_here(
    jobs: Sequence[Job],
    workers: int,
    log: Path,
    watcher: Watcher,
    command: Callable[[Job], str],
) -> None:
    """Do jobs beside each other in processes of their own.

    A process that dies takes no other with it: its job is begun once more, which continues after its last
    experience, and then has failed.

    Args:
        jobs: What to do, in order.
        workers: How many at the same time.
        log: File for what the processes print.
        watcher: Is told of each.
        command: How a job is said on a command line.
    """
    # joblib exchanges a process that has grown for a fresh one, and warns of it in a thread of its own.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    queue = deque((job, 1) for job in jobs)
    idle = [Slot(log) for _ in range(max(1, min(workers, len(jobs))))]
    slots = list(idle)
    running: dict[Future[Ended], tuple[Slot, Job, int, float]] = {}
    try:
        while queue or running:
            while queue and idle:
                slot, (job, attempt) = _fitting(idle, queue[0][0]), queue.popleft()
                running[slot.submit(job, command(job))] = (slot, job, attempt, time.monotonic())
                watcher.began(job)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                slot, job, attempt, since = running.pop(future)
                idle.append(slot)
                how, again = _outcome(future, slot, job, attempt, time.monotonic() - since)
                if again:
                    # One that another process is at goes to the end; one whose process died comes next.
                    place = queue.append if how.state == "busy" else queue.appendleft
                    place((job, attempt + (how.state != "busy")))
                    watcher.put_off(job)
                else:
                    watcher.ended(job, how)
    finally:
        with _undisturbed():
            for slot in slots:
                slot.close()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C for a moment; a process that is started in it ignores it from its first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _fitting(idle: list[Slot], job: Job) -> Slot:
    """An idle process, one that has run such jobs where there is one."""
    slot = next((slot for slot in idle if slot._origin == job.origin), idle[0])
    idle.remove(slot)
    return slot


def _outcome(future: Future[Ended], slot: Slot, job: Job, attempt: int, seconds: float) -> tuple[Ended, bool]:
    """How a job ended, and whether it is begun again."""
    from joblib.externals.loky import BrokenProcessPool

    try:
        how = future.result()
    except BrokenProcessPool as error:
        slot.close()
        code = _exit_code(str(error))
        limit = job.cell.spec.time_limit
        if code == ENDED_LATE and limit is not None and seconds > limit:
            reason = (
                f"strategy {job.cell.strategy} did not come back long after its time limit of {limit:g} s; "
                "its process was ended"
            )
            return Ended("failed", reason, seconds), False
        reason = f"strategy {job.cell.strategy}: its process died{_meaning(code)}, {attempt} times"
        return Ended("failed", reason, seconds), attempt < TRIES
    return how, how.state == "busy"


def _meaning(code: int) -> str:
    known = {0: "", -9: " (signal 9: perhaps out of memory)", -11: " (signal 11: segmentation fault)"}
    return known.get(code, f" (signal {-code})" if code < 0 else f" (exit code {code})")


def _exit_code(message: str) -> int:
    """The exit code in what joblib says of a dead process, 0 where there is none."""
    found = re.search(r"\w+\((-?\d+)\)\}", message)
    return int(found[1]) if found else 0
