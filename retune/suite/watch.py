"""What becomes of a suite's jobs: kept, and shown on a terminal, or as a line for each that has ended elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from retune.suite.plans import Job
from retune.suite.work import Ended

SHOWN: Final = 16
"""So many running jobs are named at most."""


class _Left(ProgressColumn):
    """The time left, from how long the jobs done so far took."""

    def render(self, task: Task) -> Text:
        seconds = task.fields.get("seconds_left")
        return Text(f"about {spoken(seconds)} left" if seconds is not None else "", style="dim")


class Watch:
    """Shows what runs, how many are done, have failed and are left, and the time left.

    Args:
        console: Where to; standard error.
        finished: How many were finished before.
        total: How many there are, those included.

    Attributes:
        failed: Why jobs failed, by identity.
        printed: What plugins printed, by strategy.
    """

    def __init__(self, console: Console, finished: int, total: int) -> None:
        self.console, self.total = console, total
        self.failed: dict[str, str] = {}
        self.printed: dict[str, str] = {}
        self._ended = self._before = finished
        self._start = time.monotonic()
        self._running: dict[str, TaskID] = {}
        columns = (
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Left(),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._overall = self._progress.add_task(self._headline(), total=total, completed=finished)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.stop()

    def began(self, job: Job) -> None:
        """A job runs."""
        if len(self._running) < SHOWN:
            self._running[job.id] = self._progress.add_task(f"  {job.run.name}", total=None)

    def put_off(self, job: Job) -> None:
        """A job runs no more, and will be begun again."""
        task = self._running.pop(job.id, None)
        if task is not None:
            self._progress.remove_task(task)

    def ended(self, job: Job, how: Ended) -> None:
        """A job is done or has failed."""
        self.put_off(job)
        self._ended += 1
        if how.state != "done":
            self.failed[job.id] = how.reason
        if how.printed:
            self.printed.setdefault(job.run.strategy, how.printed)
        self._progress.update(
            self._overall,
            description=self._headline(),
            completed=self._ended,
            seconds_left=self._seconds_left(),
        )
        if not self.console.is_terminal or how.state != "done":
            state = f"failed: {how.reason}" if how.state != "done" else f"done in {how.seconds:.1f} s"
            line = f"[{self._ended}/{self.total}] {job.run.name}: {state}"
            self.console.print(line, markup=False, soft_wrap=True)

    def without_spoilt(self, jobs: Sequence[Job], failed: dict[str, str]) -> list[Job]:
        """Fail the jobs whose images cannot be encoded; returns the others.

        Args:
            jobs: All of them.
            failed: Why not, by the identity of the job that stood for each stream.
        """
        reasons = {job.stream: failed[job.id] for job in jobs if job.id in failed}
        for job in jobs:
            if job.stream in reasons:
                self.ended(job, Ended("failed", reasons[job.stream]))
        return [job for job in jobs if job.stream not in reasons]

    def _headline(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        done, left = self._ended - len(self.failed), self.total - self._ended
        return f"{done} of {self.total} done{failed}, {left} left"

    def _seconds_left(self) -> float | None:
        ended, left = self._ended - self._before, self.total - self._ended
        return (time.monotonic() - self._start) / ended * left if ended and left else None


def spoken(seconds: float) -> str:
    """A time in words, as exactly as it is known."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
