"""Mistakes a user can make, each told in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def printable(text: str) -> str:
    """Text without control characters, which may move a cursor, ring, or turn a line around.

    Blanks of every kind, line ends among them, become spaces; what cannot be seen becomes U+FFFD.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


class RetuneError(Exception):
    """Base of everything retune raises on purpose. Its text is one line that any terminal may show."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class UserError(RetuneError):
    """The user's input is at fault: one line with what, where and how to mend it.

    Args:
        what: What is wrong.
        where: File, row and column, or setting, that is at fault.
        fix: What to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        line = what if where is None else f"{where}: {what}"
        super().__init__(" ".join((line if fix is None else f"{line}; {fix}").split()))


_SHOWN = 60
"""How many known names a message lists."""


class UnknownName(UserError):
    """A name that is not in a list of known names; the message offers the nearest ones.

    Args:
        kind: What the name was meant to be, e.g. ``"scenario"``.
        name: The name given.
        known: The names there are.
        elsewhere: Names of another kind that it may have been meant to be, which are offered first.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str],
        *,
        where: str | None = None,
        elsewhere: Sequence[str] = (),
    ) -> None:
        self.name, names = name, sorted(known)
        spelt = {n.lower(): n for n in reversed(names)}
        close = list(elsewhere) or [
            spelt[n] for n in difflib.get_close_matches(name.lower(), spelt, n=3, cutoff=0.5)
        ]
        shown = ", ".join(names[:_SHOWN]) + f" and {len(names) - _SHOWN:,} more" * (len(names) > _SHOWN)
        fix = f"did you mean {' or '.join(close)}?" if close else f"known: {shown or 'none'}"
        super().__init__(f"unknown {kind} '{name}'", where=where, fix=fix)


class BadSetting(UserError):
    """A setting with an unknown name, a wrong type or an impossible value."""


class BadTable(UserError):
    """A table of labels that lacks a column or has a bad row."""


class MissingFiles(UserError):
    """Files that a data set or a model needs are not where they were looked for."""


class BadImage(UserError):
    """An image that cannot be decoded."""


class MissingPackage(UserError):
    """An optional package that this data or this model needs is not installed."""


class RunConflict(UserError):
    """An output directory that already holds another run."""


class PluginError(UserError):
    """The code of a plugin that is no strategy raised something."""


class StrategyError(RetuneError):
    """A strategy broke its contract."""


class StorageError(RetuneError):
    """The disk is full or cannot be written to."""


def mistake(error: ValidationError, *within: str) -> str:
    """The first thing that is wrong with a document: its place, and what is wrong there.

    Args:
        error: What validating the document raised.
        within: Where in a larger document it stands.
    """
    first = error.errors()[0]
    place = ".".join(map(str, (*within, *first["loc"])))
    return ": ".join(filter(None, (place, first["msg"].removeprefix("Value error, "))))


def install(extra: str) -> str:
    """The command that installs an extra: of the checkout that this runs from, else of the index."""
    checkout = (Path(__file__).parents[1] / "pyproject.toml").is_file()
    return f"pip install -e '.[{extra}]'" if checkout else f"pip install 'retune-cxr[{extra}]'"


def gist(error: BaseException) -> str:
    """The gist of another library's message: its kind and its first two lines, cut."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2])
    if "weights_only" in text:
        # torch goes on to explain how to run the code in a pickle all the same.
        return f"{type(error).__name__}: its pickle holds more than tensors"
    return f"{type(error).__name__}: {text[:200]}{'...' if len(text) > 200 or len(lines) > 2 else ''}"
