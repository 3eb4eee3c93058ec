"""Processes of a suite on this machine: Ctrl-C is for the process that started them, and none is left behind."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import made_suites as made
import pytest

from retune.suite.local import Slot, run_here
from retune.suite.plans import Job
from retune.suite.work import Ended


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
        slot.submit(job, "")
        (pid,) = slot._pool._processes
        assert ignores_ctrl_c(pid)
        assert not ignores_ctrl_c(os.getpid())
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        slot.close()


class Nobody:
    """Is told and keeps nothing; raises what Ctrl-C does where it is to stop."""

    def __init__(self, stops: bool) -> None:
        self.stops = stops

    def began(self, job: Job) -> None:
        if self.stops:
            raise KeyboardInterrupt

    put_off = began

    def ended(self, job: Job, how: Ended) -> None:
        assert how.state == "done"


@pytest.mark.parametrize("stops", [False, True])
def test_nothing_is_left_to_wait_for_when_python_ends(job: Job, tmp_path: Path, stops: bool) -> None:
    others = set(threading.enumerate())
    try:
        run_here([job], 1, tmp_path / "log.txt", Nobody(stops), lambda job: "")
    except KeyboardInterrupt:
        assert stops
    left = {thread.name for thread in set(threading.enumerate()) - others}
    assert left <= {"QueueFeederThread"}  # which nobody waits for
