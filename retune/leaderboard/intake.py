"""Reading a submission as if it were hostile: nothing in it is followed, executed or believed."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from retune.errors import UserError
from retune.leaderboard.entry import ENTRY_FILE, SCORES_FILE, Entry
from retune.leaderboard.scores import Scores, unpack
from retune.leaderboard.strict_json import parse

MOST: Final = {ENTRY_FILE: 2**20, SCORES_FILE: 2**28}
"""Bytes that each file may have."""


@dataclass(frozen=True, eq=False)
class Submission:
    """An entry that is what its schema says; whether it is true is another question.

    Args:
        entry: What it says.
        digest: SHA-256 of ``entry.json``, which holds that of the scores.
        scores: What it rests on; None where only the entry was asked for.
    """

    entry: Entry
    digest: str
    scores: Scores | None


def read(folder: Path, *, scores: bool = True) -> Submission:
    """Read one submission.

    Args:
        folder: ``.../TRACK/ENTRY``.
        scores: Whether to read the scores, too.

    Raises:
        UserError: One line with the first thing that is wrong.
    """
    _require_plain(folder)
    where = f"{folder.parent.name}/{folder.name}"
    content = _content(folder / ENTRY_FILE, f"{where}/{ENTRY_FILE}")
    entry = entry_of(content, f"{where}/{ENTRY_FILE}")
    if (entry.track, entry.name) != (folder.parent.name, folder.name):
        raise UserError(
            f"says that it is {entry.track}/{entry.name}, which is another folder",
            where=f"{where}/{ENTRY_FILE}",
        )
    file, name = folder / SCORES_FILE, f"{where}/{SCORES_FILE}"
    if not scores:
        if os.lstat(file).st_size != entry.scores.bytes:
            raise UserError("has another size than entry.json says", where=name)
        return Submission(entry, hashlib.sha256(content).hexdigest(), None)
    packed = _content(file, name)
    if len(packed) != entry.scores.bytes or hashlib.sha256(packed).hexdigest() != entry.scores.sha256:
        raise UserError("is not the file that entry.json was written with (its SHA-256 differs)", where=name)
    return Submission(entry, hashlib.sha256(content).hexdigest(), unpack(packed, entry, name))


def entry_of(content: bytes, where: str) -> Entry:
    """Check an ``entry.json`` against its schema.

    Args:
        content: Its bytes.
        where: Its name, for messages.

    Raises:
        UserError: Says where in it what is wrong.
    """
    document = parse(content, where, most=MOST[ENTRY_FILE])
    try:
        return Entry.model_validate(document)
    except ValidationError as error:
        raise UserError(_first(error), where=where) from None


def _first(error: ValidationError) -> str:
    found: Any = error.errors(include_url=False, include_input=False)[0]
    spot = _seen(".".join(map(str, found["loc"])))
    if found["type"] == "extra_forbidden":
        return f"holds the field '{spot}', which no entry has"
    reason = str(found["msg"]).removeprefix("Value error, ")
    return _seen(f"{spot}: {reason}" if spot else reason)


def _seen(text: str, length: int = 200) -> str:
    """Text of a stranger's as a terminal may show it."""
    plain = re.sub(r"[^ -~]", "?", text)
    return plain if len(plain) <= length else plain[:length] + "..."


def _require_plain(folder: Path) -> None:
    """See that a folder holds the two files and nothing else, and that neither it nor they are links."""
    where = _seen(f"{folder.parent.name}/{folder.name}")
    for place in (folder.parent, folder):
        mode = os.lstat(place).st_mode if os.path.lexists(place) else None
        if mode is None:
            raise UserError("there is no such submission", where=where)
        if not stat.S_ISDIR(mode):
            raise UserError("is not a folder but a link or a file", where=where)
        if not re.fullmatch(r"[a-z0-9]+(?:[-.][a-z0-9]+)*", place.name):
            raise UserError(
                "may hold small letters, digits, dashes and dots only", where=f"name of folder {where}"
            )
    names = sorted(entry.name for entry in os.scandir(folder))
    more = [name for name in names if name not in MOST]
    if more:
        raise UserError(f"holds '{_seen(more[0], 60)}', which is no part of a submission", where=where)
    for name in MOST:
        if name not in names:
            raise UserError(f"has no {name}", where=where)
        if not stat.S_ISREG(os.lstat(folder / name).st_mode):
            raise UserError("is not a file but a link, a folder or a device", where=f"{where}/{name}")


def _content(file: Path, where: str) -> bytes:
    """A file's bytes, without following a link that has taken its place since it was looked at."""
    most = MOST[file.name]
    try:
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=where) from None
    with os.fdopen(handle, "rb") as opened:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UserError("is not a file but a link, a folder or a device", where=where)
        content = opened.read(most + 1)
    if len(content) > most:
        raise UserError(f"is larger than {most:,} bytes", where=where)
    return content
