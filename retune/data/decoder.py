"""What a process does that decodes for :mod:`retune.data.processes`: files are asked for, pixels are answered."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from PIL import Image

from retune.data.dicom import NOTE
from retune.data.images import decode_file
from retune.data.processes import READY
from retune.errors import MissingPackage, UserError
from retune.system import keep_freed_memory


def serve() -> None:
    """Answer until there is nothing more to read: a line of JSON for each file asked for, and its pixels behind."""
    # Ctrl-C goes to all processes of a terminal; this one ends when the one that asks does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    # What a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        paths, at_least, Image.MAX_IMAGE_PIXELS = json.loads(line)
        for path in paths:
            head, pixels = _answer(path, at_least)
            answers.write(json.dumps(head).encode() + b"\n")
            answers.write(pixels)
            answers.flush()


def _answer(path: str, at_least: int | None) -> tuple[dict[str, object], bytes]:
    try:
        picture: Image.Image | UserError = decode_file(Path(path), at_least)
    except MissingPackage as error:
        picture = error
    if isinstance(picture, Image.Image):
        head = {"shape": (picture.height, picture.width), "note": picture.info.get(NOTE)}
        return head, picture.tobytes()
    told = (picture.what, picture.where, picture.fix)
    return {"error": told, "package": isinstance(picture, MissingPackage)}, b""
