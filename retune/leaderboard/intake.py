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
from retune.leaderboard.fields import in_ascii
from retune.leaderboard.scores import Scores, unpack
from retune.leaderboard.untrusted import parse, plain_content

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
    where = in_ascii(f"{folder.parent.name}/{folder.name}")
    try:
        return _read(folder, where, scores)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=where) from None


def _read(folder: Path, where: str, scores: bool) -> Submission:
    _require_plain(folder, where)
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
    spot = in_ascii(".".join(map(str, found["loc"])))
    if found["type"] == "extra_forbidden":
        return f"holds the field '{spot}', which no entry has"
    reason = str(found["msg"]).removeprefix("Value error, ")
    return in_ascii(f"{spot}: {reason}" if spot else reason)


def _require_plain(folder: Path, where: str) -> None:
    """See that a folder holds the two files and nothing else, and that neither it nor they are links."""
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
        raise UserError(f"holds '{in_ascii(more[0], 60)}', which is no part of a submission", where=where)
    for name in MOST:
        if name not in names:
            raise UserError(f"has no {name}", where=where)
        if not stat.S_ISREG(os.lstat(folder / name).st_mode):
            raise UserError("is not a file but a link, a folder or a device", where=f"{where}/{name}")


def _content(file: Path, where: str) -> bytes:
    content = plain_content(file, where, most=MOST[file.name])
    if content is None:
        raise UserError("is gone", where=where)
    return content
