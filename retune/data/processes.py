"""Pictures decoded in processes: much of what a decoder does, one thread of an interpreter does at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Final, cast

import numpy as np
from PIL import Image

from retune.data.dicom import NOTE
from retune.errors import BadImage, MissingPackage, RetuneError

READY: Final = b"ready\n"
ONE_CORE: Final = dict.fromkeys(
    ("LOKY_MAX_CPU_COUNT", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
"""What a process is told of the machine, so that it takes the fastest decoder of one thread."""
SERVE: Final = "import sys; sys.path[:] = sys.argv[1:]; from retune.data.decoder import serve; serve()"


class _Process:
    """A process that decodes, and what one thread at a time says to it. Once its input ends, it does too."""

    def __init__(self) -> None:
        # Not multiprocessing: its processes run the user's script once more, and pass results through one thread.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | ONE_CORE,
        )
        self._requests = cast(IO[bytes], self._process.stdin)
        self._answers = cast(BufferedReader, self._process.stdout)

    def begins(self) -> bool:
        """Wait until it can decode; False where it cannot."""
        return self._answers.readline() == READY

    def decode(self, paths: Sequence[Path], at_least: int | None) -> list[Image.Image | BadImage]:
        request = json.dumps([[str(path) for path in paths], at_least, Image.MAX_IMAGE_PIXELS])
        with suppress(OSError):  # What ended is told by what it does not answer.
            self._requests.write(request.encode() + b"\n")
            self._requests.flush()
        return [self._answer(path) for path in paths]

    def _answer(self, path: Path) -> Image.Image | BadImage:
        with suppress(OSError, ValueError):
            answer = json.loads(self._answers.readline())
            if "error" in answer:
                what, where, fix = answer["error"]
                if answer["package"]:
                    raise MissingPackage(what, where=where, fix=fix)
                return BadImage(what, where=where, fix=fix)
            pixels = np.empty(answer["shape"], np.uint8)
            if self._answers.readinto(pixels.reshape(-1).data) == pixels.size:
                picture = Image.fromarray(pixels)
                picture.info.update({NOTE: answer["note"]} if answer["note"] else {})
                return picture
        ended = self.close()
        how = f"was killed by signal {-ended}" if ended < 0 else f"ended with code {ended}"
        raise RetuneError(
            f"{path}: the process that decoded this picture {how}; issue the command again, it goes on where it "
            f"was. Memory may have been short; if it ends here again, leave the picture out"
        )

    def dismiss(self) -> None:
        """Ask nothing more of it."""
        with suppress(OSError):
            self._requests.close()

    def close(self) -> int:
        """End it, and return its exit code."""
        self.dismiss()
        self._answers.close()
        try:
            return self._process.wait(1)
        except subprocess.TimeoutExpired:  # Still at a picture.
            self._process.kill()
            return self._process.wait()


class _Processes:
    """As many processes as are allowed, begun when they are first needed."""

    def __init__(self, most: int) -> None:
        self._most, self._begun = most, list[_Process]()
        self._idle: SimpleQueue[_Process | None] = SimpleQueue()
        self._lock = threading.Lock()

    def load(self, paths: Sequence[Path], at_least: int | None) -> list[Image.Image | BadImage] | None:
        """Decode some files in a process; None where there is none to be had."""
        if (process := self._taken()) is None:
            self._idle.put(None)
            return None
        try:
            found = process.decode(paths, at_least)
        except BaseException:
            # Nobody is to wait for it, nor to read its answers to what else was asked.
            process.close()
            self._idle.put(None)
            raise
        self._idle.put(process)
        return found

    def _taken(self) -> _Process | None:
        with self._lock:
            process = None
            if self._idle.empty() and len(self._begun) < self._most:
                with suppress(OSError):
                    process = _Process()
                    self._begun.append(process)
                self._most = self._most if process else len(self._begun)
        if process is None:
            return self._idle.get() if self._begun else None
        return process if process.begins() else None

    def close(self) -> None:
        """End all; whoever still waits for one decodes by itself."""
        self._idle.put(None)
        for process in self._begun:
            process.dismiss()
        for process in self._begun:
            process.close()


_open: _Processes | None = None
_users = 0
_guard: Final = threading.Lock()


@contextmanager
def decoding(most: int) -> Iterator[None]:
    """Have files decoded in processes meanwhile, by whichever thread they are loaded.

    They import no torch, hear no Ctrl-C, and end with this block or with this process, however that ends.

    Args:
        most: How many processes at most; 0 for none.
    """
    global _open, _users
    if most == 0:
        yield
        return
    with _guard:
        _users, processes = _users + 1, _open or _Processes(most)
        _open = processes
    try:
        yield
    finally:
        with _guard:
            _users -= 1
            last = _users == 0
            _open = None if last else _open
        if last:
            processes.close()


def decoded(paths: Sequence[Path], at_least: int | None) -> list[Image.Image | BadImage] | None:
    """Some files' pictures, decoded in a process; None outside of :func:`decoding`.

    Args:
        paths: The files.
        at_least: As for :func:`retune.data.images.decode`.

    Raises:
        RetuneError: If the process is killed.
        MissingPackage: If a package that decodes DICOM is not installed.
    """
    return None if _open is None else _open.load(paths, at_least)
