"""Reading a file that a stranger put there: a file and no link, pipe or device, and not larger than it may be."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from retune.errors import UserError


def plain_content(file: Path, where: str, *, most: int) -> bytes | None:
    """A file's bytes; None where there is none.

    Opened first and looked at then, so that nothing can take its place in between; without waiting, so that a pipe
    that nobody writes to holds nothing up.

    Args:
        file: Where it is.
        where: Its name, for messages.
        most: How many bytes it may have.

    Raises:
        UserError: If it is no plain file, larger, or cannot be read.
    """
    try:
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = "it is a link" if file.is_symlink() else error.strerror
        raise UserError(f"cannot be read ({reason})", where=where) from None
    told = os.fstat(handle)
    if not stat.S_ISREG(told.st_mode):
        os.close(handle)
        raise UserError("is not a file but a folder, a pipe or a device", where=where)
    with open(handle, "rb") as opened:
        if told.st_size > most:
            raise UserError(f"is larger than {most:,} bytes", where=where)
        # No more than it had then: it may grow, and as much is set aside at once as is asked for.
        return opened.read(told.st_size)
