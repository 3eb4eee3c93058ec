"""A limit on how long a piece of code may run, wherever it runs."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

LONGEST: Final = 1e8
"""More than three years: what timers of every system can hold."""


class OutOfTime(BaseException):
    """The limit has passed; no ``Exception``, so that code which catches everything does not catch it."""


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Stop what is done inside after some time.

    In the main thread a signal stops whatever waits or computes in Python, sleeping included. In any other
    thread, and where there are no such signals, it is stopped before the next step of Python: a single call
    into compiled code ends first. An alarm that was set before is put back with the time it has left.

    Args:
        seconds: How long it may take; None for as long as it likes.

    Raises:
        OutOfTime: If it takes longer.
    """
    if seconds is None:
        yield
        return
    by_signal = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    with (_by_signal if by_signal else _by_thread)(min(seconds, LONGEST)):
        yield


@contextmanager
def _by_signal(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    begun = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    handler = signal.signal(signal.SIGALRM, stop)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            yield
        finally:
            # If it rings just now, what follows is still done.
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        # None stands for a handler that was not set from Python and cannot be put back from it.
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        if left:
            # One that is overdue rings at once: 0 would mean never.
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - begun), 1e-6), interval)


@dataclass
class _Bell:
    """Rings once in the thread that made it, unless it is put away before."""

    thread: int = field(default_factory=threading.get_ident)
    lock: threading.Lock = field(default_factory=threading.Lock)
    away: bool = False
    rung: bool = False

    def ring(self) -> None:
        with self.lock:
            if not self.away:
                self.rung = True
                _raise_in(self.thread, ctypes.py_object(OutOfTime))

    def put_away(self) -> None:
        with self.lock:
            self.away = True
        if self.rung:
            # It may have rung after the work was done and not have been heard yet.
            _raise_in(self.thread, None)


@contextmanager
def _by_thread(seconds: float) -> Iterator[None]:
    bell = _Bell()
    timer = threading.Timer(seconds, bell.ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        bell.put_away()


def _raise_in(thread: int, error: ctypes.py_object[type[OutOfTime]] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)
