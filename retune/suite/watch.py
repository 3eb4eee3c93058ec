"""What a suite is doing: a display on a terminal, one line for each run that has ended where there is none."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

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
    """

    def __init__(self, console: Console, finished: int, total: int) -> None:
        self.console, self.total = console, total
        self.done, self.failed, self.before = finished, 0, finished
        self._start = time.monotonic()
        self._running: dict[str, TaskID] = {}
        columns = (
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Left(),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._overall = self._progress.add_task(self._headline(), total=total, completed=finished)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def began(self, job: Job) -> None:
        """A job runs."""
        if len(self._running) < SHOWN:
            self._running[job.id] = self._progress.add_task(f"  {job.cell.name}", total=None)

    def put_off(self, job: Job) -> None:
        """A job will be begun again."""
        self._forget(job)

    def ended(self, job: Job, how: Ended) -> None:
        """A job is done or has failed."""
        self._forget(job)
        self.done += how.state == "done"
        self.failed += how.state != "done"
        self._progress.update(
            self._overall,
            description=self._headline(),
            completed=self.done + self.failed,
            seconds_left=self._seconds_left(),
        )
        if not self.console.is_terminal or how.state != "done":
            number = self.done + self.failed
            state = f"failed: {how.reason}" if how.state != "done" else f"done in {how.seconds:.1f} s"
            self.console.print(
                f"[{number}/{self.total}] {job.cell.name}: {state}", markup=False, soft_wrap=True
            )

    def _forget(self, job: Job) -> None:
        task = self._running.pop(job.id, None)
        if task is not None:
            self._progress.remove_task(task)

    def _headline(self) -> str:
        left = self.total - self.done - self.failed
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} done{failed}, {left} left"

    def _seconds_left(self) -> float | None:
        ended = self.done + self.failed - self.before
        left = self.total - self.done - self.failed
        return (time.monotonic() - self._start) / ended * left if ended and left else None


def spoken(seconds: float) -> str:
    """A time in words, as exactly as it is known."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
