"""The jobs of a suite on this machine: a process for each that runs at the same time.

The processes are joblib's, one to a pool: a pool of several is broken as a whole by one that dies, and does not say
whose job it was.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from retune.suite.plans import Job
from retune.suite.runs import THREADS
from retune.suite.watch import Watch
from retune.suite.work import Ended, begin, work

TRIES: Final = 2
"""How often a run is begun whose process dies."""
ENDED_LATE: Final = 1
"""Exit code of a process that was ended because its time was long over."""
LIMITS: Final = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


class Slot:
    """One process at a time. Its death is nobody's but its own job's, and a fresh one takes its place.

    Args:
        log: Where the process's output goes.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self.origin = ""
        self._pool: Any = None

    def submit(self, job: Job) -> Future[Ended]:
        """Begin a job."""
        from joblib.externals.loky import ProcessPoolExecutor

        # A process that has run a plugin runs nothing else: whatever that has changed stays with it.
        if self._pool is None or self.origin != job.origin:
            self.close()
            few = dict.fromkeys(LIMITS, str(THREADS))
            start = (str(self.log), os.getpid())
            self._pool = ProcessPoolExecutor(1, initializer=begin, initargs=start, env=few)
            self.origin = job.origin
        with _undisturbed():
            future: Future[Ended] = self._pool.submit(work, job)
        return future

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._pool is not None:
            # What is not waited for here is when Python ends, where Ctrl-C would be told with a traceback.
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None


def run_here(jobs: Sequence[Job], workers: int, log: Path, watch: Watch) -> None:
    """Do jobs beside each other in processes of their own.

    A process that dies takes no other with it: its job is begun once more, which continues after its last
    experience, and then has failed.

    Args:
        jobs: What to do, in order.
        workers: How many at the same time.
        log: File for what the processes print.
        watch: Is told of each.
    """
    from joblib.externals.loky import BrokenProcessPool

    # joblib exchanges a process that has grown for a fresh one, and warns of it in a thread of its own.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    queue, deaths = deque(jobs), Counter[str]()
    slots = [Slot(log) for _ in range(max(1, min(workers, len(jobs))))]
    idle = list(slots)
    running: dict[Future[Ended], tuple[Slot, Job, float]] = {}
    try:
        while queue or running:
            while queue and idle:
                job = queue.popleft()
                # A process that has run such jobs, where there is one.
                slot = next((slot for slot in idle if slot.origin == job.origin), idle[0])
                idle.remove(slot)
                running[slot.submit(job)] = (slot, job, time.monotonic())
                watch.began(job)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                slot, job, since = running.pop(future)
                idle.append(slot)
                try:
                    how = future.result()
                    again, place = how.state == "busy", queue.append
                except BrokenProcessPool as error:
                    slot.close()
                    deaths[job.id] += 1
                    how, again = _death(job, str(error), deaths[job.id], time.monotonic() - since)
                    place = queue.appendleft
                if again:
                    place(job)
                    watch.put_off(job)
                else:
                    watch.ended(job, how)
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


def _death(job: Job, message: str, deaths: int, seconds: float) -> tuple[Ended, bool]:
    """Why a job's process died, from what joblib says of it, and whether the job is begun again."""
    exited = re.search(r"\w+\((-?\d+)\)\}", message)
    code = int(exited[1]) if exited else 0
    limit = job.run.spec.time_limit
    if code == ENDED_LATE and limit is not None and seconds > limit:
        reason = (
            f"strategy {job.run.strategy} did not come back long after its time limit of {limit:g} s; "
            "its process was ended"
        )
        return Ended("failed", reason, seconds), False
    known = {0: "", -9: " (signal 9: perhaps out of memory)", -11: " (signal 11: segmentation fault)"}
    meaning = known.get(code, f" (signal {-code})" if code < 0 else f" (exit code {code})")
    reason = f"strategy {job.run.strategy}: its process died{meaning}, {deaths} times"
    return Ended("failed", reason, seconds), deaths < TRIES
