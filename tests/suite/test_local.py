"""Processes of a suite on this machine: Ctrl-C is for the process that started them, and none is left behind."""

from __future__ import annotations

import io
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import made_suites as made
import pytest
from rich.console import Console

from retune.suite.local import Slot, run_here
from retune.suite.plans import Job
from retune.suite.watch import Watch


def ignores_ctrl_c(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    ignored = next(line.split()[1] for line in lines if line.startswith("SigIgn"))
    return bool(int(ignored, 16) >> signal.SIGINT - 1 & 1)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (job,) = made.planned(tmp_path / "out", ["zero-shot"], seeds=1).jobs
    return job


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_a_process_ignores_ctrl_c_from_its_first_instruction(job: Job, tmp_path: Path) -> None:
    """The terminal sends it to all: while it still imports, a process would answer with a traceback."""
    before, slot = signal.getsignal(signal.SIGINT), Slot(tmp_path / "log.txt")
    try:
        slot.submit(job)
        (pid,) = slot._pool._processes
        assert ignores_ctrl_c(pid)
        assert not ignores_ctrl_c(os.getpid())
        assert signal.getsignal(signal.SIGINT) is before
        # What a plugin changes for its process stays with it.
        slot.submit(replace(job, origin="another"))
        assert pid not in slot._pool._processes
    finally:
        slot.close()


class Interrupted(Watch):
    """Ctrl-C is pressed as soon as a job runs."""

    def began(self, job: Job) -> None:
        raise KeyboardInterrupt


def test_nothing_is_left_to_wait_for_when_python_is_interrupted(job: Job, tmp_path: Path) -> None:
    others, watch = set(threading.enumerate()), Interrupted(Console(file=io.StringIO()), 0, 1)
    with pytest.raises(KeyboardInterrupt):
        run_here([job], 1, tmp_path / "log.txt", watch)
    made.require_nothing_to_wait_for(others)
