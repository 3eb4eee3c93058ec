"""What a process does that works for a suite: one job after another, sharing what can be shared."""

from __future__ import annotations

import faulthandler
import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TextIO

from retune.backbones.precision import threads
from retune.errors import RetuneError, UserError
from retune.plugins import BUILT_IN
from retune.progress import Progress
from retune.runner.plan import Plan, plan
from retune.runner.run import Run, RunBusy, claim
from retune.runner.shared import Shared
from retune.suite.plans import Job
from retune.suite.runs import THREADS, in_a_line

WAIT: Final = 5.0
"""Seconds to wait for another process that is at work on a run before it is put off."""
GRACE: Final = 10.0
"""Seconds beyond all time limits after which a process that does not even stop is ended."""
HELD: Final = 2000
"""Characters kept of what a plugin prints."""

_one_at_a_time = threading.Lock()
shared = Shared()
"""What the runs of this process share."""
_without_backbones = Shared(backbones=False)


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Args:
        state: ``busy`` where another process is at it.
        reason: Why it failed, in a line.
        seconds: How long it took.
        printed: What a plugin printed.
    """

    state: Literal["done", "failed", "busy"]
    reason: str = ""
    seconds: float = 0.0
    printed: str = ""


def work(job: Job) -> Ended:
    """Do what is left of one run, in this process, with as many threads as every run gets."""
    # The runner seeds the generators of the whole process: two runs at once would disturb each other.
    with _one_at_a_time:
        begun, heard = time.monotonic(), io.StringIO()
        with threads(THREADS), redirect_stderr(_Tee(sys.stderr, heard)):
            how = _attempt(job)
        printed = "" if job.origin == BUILT_IN else heard.getvalue().strip()
        return replace(how, seconds=time.monotonic() - begun, printed=printed)


def _attempt(job: Job) -> Ended:
    try:
        _execute(job)
    except RunBusy:
        return Ended("busy", "another process is at work on this run")
    except RetuneError as error:
        return Ended("failed", str(error))
    except (Exception, SystemExit) as error:
        return Ended("failed", in_a_line(error))
    return Ended("done")


def _execute(job: Job) -> None:
    # What is not retune's own may change a backbone's weights: it gets one of its own every time.
    own = shared if job.origin == BUILT_IN else _without_backbones
    planned = plan(job.run.spec, shared=own)
    if planned.id != job.id:
        # Files may have changed since they were read by a process that lives long.
        own.clear()
        planned = plan(job.run.spec, shared=own)
    if planned.id != job.id:
        raise UserError(
            "this process sees other data, weights or settings than the one that planned the suite",
            where=job.run.name,
            fix="give both the same files and the same version of retune, and issue the command again",
        )
    claim(job.folder, planned)
    with _bounded(planned) as progress:
        Run(planned, job.folder).execute(command=job.command, progress=progress, wait=WAIT)


def encode(job: Job, progress: Progress | None = None) -> None:
    """Encode the images and the prompts that a run needs."""
    from retune.runner.images import embed_prompts
    from retune.runner.images import encode as encode_images

    planned = plan(job.run.spec, progress, shared=shared)
    parts = planned.parts
    encode_images(planned, progress or (lambda stage, done, total: None))
    embed_prompts(
        parts.bank, parts.backbone, planned.stream.labels, wanted=bool(parts.needs & {"joint", "texts"})
    )


@contextmanager
def _bounded(planned: Plan) -> Iterator[Progress]:
    """Progress of a run whose process is ended where an experience goes on long after its time.

    The limit itself stops whatever Python can stop; compiled code that never returns is beyond it.
    """
    from retune.runner.session import SCORED

    limit = planned.spec.time_limit
    # In a cluster the process is not this suite's to end.
    armed = limit is not None and threading.current_thread() is threading.main_thread()
    # Learning is one call; scores of test and training images are taken in parts.
    calls = 3 + len(planned.stream.rows) // SCORED

    def tell(stage: str, done: int, total: int) -> None:
        faulthandler.cancel_dump_traceback_later()
        if armed and limit is not None and stage == "learning" and done < total:
            faulthandler.dump_traceback_later(calls * limit + GRACE, exit=True, file=_log)

    try:
        yield tell
    finally:
        faulthandler.cancel_dump_traceback_later()


_log: TextIO = sys.__stderr__ or sys.stderr


def begin(log: str, parent: int) -> None:
    """Make this process one that works for a suite.

    Args:
        log: Where its standard output and standard error go.
        parent: Identifier of the process that started it; it ends with that.
    """
    global _log
    import signal

    # Standard output belongs to the results; Ctrl-C is for the process that started this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _log = Path(log).open("a", buffering=1, encoding="utf-8", errors="replace")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os.dup2(_log.fileno(), 1)
    os.dup2(_log.fileno(), 2)
    faulthandler.enable(_log)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    import torch

    torch.set_num_threads(THREADS)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class _Tee(io.TextIOBase):
    """Passes text on and keeps the beginning of it."""

    def __init__(self, onward: TextIO, kept: io.StringIO) -> None:
        self.onward, self.kept = onward, kept

    def write(self, text: str) -> int:
        if self.kept.tell() < HELD:
            self.kept.write(text[:HELD])
        return self.onward.write(text)

    def flush(self) -> None:
        self.onward.flush()
