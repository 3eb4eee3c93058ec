"""Where a site stands: written beside its place, then put there whole, and no other folder is ever replaced."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from retune.errors import UserError
from retune.files import PARTIAL, make_folder, storing

MARKER: Final = ".retune-site"
"""Names every file of a site: what it names may be replaced, and a folder that holds anything else is left alone."""
LOCK: Final = ".lock"
ANOTHER: Final = "give another folder with --out"


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give an empty folder; what is written to it takes the place of an older site once all is done.

    Args:
        out: The site's place.

    Raises:
        UserError: If something else than a site stands there.
    """
    require_free(out)
    make_folder(out.parent)
    with storing(out):
        half = Path(tempfile.mkdtemp(dir=out.parent, prefix=_prefix(out)))
        # Let go of however the build ends, so that a later one knows what is left over.
        lock = FileLock(half / LOCK)
        lock.acquire()
    try:
        site = half / "site"
        site.mkdir()
        yield site
        files = sorted(_names(site))
        (site / MARKER).write_text("\n".join([*files, MARKER]) + "\n", encoding="utf-8")
        require_free(out)
        with storing(out):
            _swap(site, out, half / "before")
        # Not earlier: a build that was killed half-way through may have left the older site there.
        _sweep(out)
    finally:
        lock.release()
        shutil.rmtree(half, ignore_errors=True)


def _prefix(out: Path) -> str:
    return f"{PARTIAL}{out.name}-"


def _sweep(out: Path) -> None:
    """Remove what killed builds of this site left beside it, and nothing that another build is at."""
    for folder in out.parent.iterdir():
        # Python ends the names that it makes up like this: a site of a longer name has another.
        if not re.fullmatch(re.escape(_prefix(out)) + "[a-z0-9_]{8}", folder.name):
            continue
        if folder.is_symlink() or not (folder / LOCK).is_file():
            continue
        with suppress(Timeout, OSError), FileLock(folder / LOCK, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)


def _swap(site: Path, out: Path, before: Path) -> None:
    """Put a site in its place; the older one goes back there if that fails."""
    if out.exists():
        out.rename(before)
    try:
        site.rename(out)
    except OSError:
        if before.exists():
            before.rename(out)
        raise


def require_free(out: Path) -> None:
    """See that a site may be written to a place: there is nothing, an empty folder, or a site and no more.

    Raises:
        UserError: Says what stands there.
    """
    if out.is_symlink():
        raise UserError("is a link", where=str(out), fix=ANOTHER)
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError("is no folder", where=str(out), fix=ANOTHER)
    here = set(_names(out))
    more = sorted(here - _known(out))
    if more:
        what = f"holds {more[0]}, which is no part of a site built before"
        raise UserError(what, where=str(out), fix=ANOTHER)


def require_site(folder: Path) -> None:
    """See that a folder is a site.

    Raises:
        UserError: If it is not.
    """
    if not (folder / MARKER).is_file():
        raise UserError(
            "is no site of a leaderboard",
            where=str(folder),
            fix="build one with: retune leaderboard build --out DIR",
        )


def _known(out: Path) -> set[str]:
    marker = out / MARKER
    return set(marker.read_text(encoding="utf-8").splitlines()) if marker.is_file() else set()


def _names(folder: Path) -> Iterator[str]:
    """Every file below a folder; an empty folder counts, for somebody made it."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir() or not any(path.iterdir()):
            yield path.relative_to(folder).as_posix()
