"""Commands in processes of their own, forked from one that has imported what takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
# It only imports: no thread and no lock of a library's is there when it forks.
_CONTEXT.set_forkserver_preload(
    ["torch._dynamo", "distributed", "retune.cli.tables", "retune.runner.loop", "retune.runner.record"]
)


def ready() -> None:
    """Have the process that they are forked from, so that whoever else forks from it finds these imports."""
    forkserver.ensure_running()


def start(
    words: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    largest_file: int | None = None,
) -> BaseProcess:
    """Begin ``retune WORDS``; its exit code is the process's.

    Args:
        words: What is typed after ``retune``.
        log: Takes what it prints.
        environment: Beside that of the test.
        largest_file: Bytes that a file may have.
    """
    arguments = (list(words), log, {**os.environ, **(environment or {})}, largest_file)
    process = _CONTEXT.Process(target=_run, args=arguments, daemon=True)
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    """Its exit code, once it has ended; that of a signal is negative."""
    process.join()
    return process.exitcode


def _run(words: list[str], log: Path, environment: dict[str, str], largest_file: int | None) -> None:
    os.environ.clear()
    os.environ.update(environment)
    file = log.open("ab", buffering=0)
    for printed in (1, 2):
        os.dup2(file.fileno(), printed)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    from retune.cli.main import main

    sys.exit(main(words))
