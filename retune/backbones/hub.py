"""Files of a model on the Hugging Face hub: the local cache first, one clear line where that fails."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from retune.backbones.quiet import quiet
from retune.errors import MissingFiles, StorageError, UserError

_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

PATIENCE: Final = 4.0
"""Seconds that the hub may take to answer; its own client would go on asking for half a minute."""


def from_hub(repository: str, names: Sequence[str], *, needs: str, revision: str | None = None) -> Path:
    """The first of some files of a model on the Hugging Face hub, from the local cache if it is there.

    Args:
        repository: ``ORG/REPO``.
        names: File names, the most wanted first.
        needs: The files that make a model, for the message where the hub cannot be reached.
        revision: Commit to take them from; the newest where None.

    Raises:
        MissingFiles: If there is none, or the hub cannot be asked.
        StorageError: If it cannot be kept.
        UserError: If the repository's name is malformed.
    """
    found = fetched(repository, names, needs=needs, revision=revision)
    if found is None:
        raise MissingFiles(f"has no {' or '.join(names)}", where=f"hf-hub:{repository}")
    return found


def fetched(repository: str, names: Sequence[str], *, needs: str, revision: str | None = None) -> Path | None:
    """As ``from_hub``; None where the hub has none of the files."""
    from huggingface_hub import errors, hf_hub_download

    where = f"hf-hub:{repository}"
    pinned: dict[str, Any] = {} if revision is None else {"revision": revision}
    found = cached(repository, names, revision=revision)
    if found is not None:
        return found
    try:
        for name in names:
            try:
                with quiet():
                    answers(repository, name)
                    return Path(hf_hub_download(repository, name, **pinned))
            except errors.RemoteEntryNotFoundError:
                continue
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            raise StorageError(f"{where}: cannot keep it in the hub's cache ({error.strerror})") from error
        # A hub in trouble answers with a number from 500 on.
        if isinstance(error, errors.HfHubHTTPError) and _status(error) < 500:
            raise MissingFiles(
                "the hub has no such model, or does not let you read it",
                where=where,
                fix="check the name, and for a gated model accept its terms and run 'hf auth login'",
            ) from error
        # Which errors a broken connection raises depends on the hub client's version.
        raise MissingFiles(
            f"{names[0]} is not in the local cache and the hub cannot be reached",
            where=where,
            fix=f"run 'hf download {repository}' where there is a network, or put a model's {needs} "
            "in one folder and name it local-dir:FOLDER",
        ) from error
    return None


def cached(repository: str, names: Sequence[str], *, revision: str | None = None) -> Path | None:
    """The first of some files that the local cache holds.

    Raises:
        UserError: If the repository's name is malformed.
    """
    from huggingface_hub import errors, try_to_load_from_cache

    for name in names:
        try:
            found = try_to_load_from_cache(repository, name, revision=revision)
        except errors.HFValidationError as error:
            raise UserError("is not a name of the form ORG/REPO", where=f"hf-hub:{repository}") from error
        if isinstance(found, str):
            return Path(found)
    return None


def known_absent(repository: str, name: str, *, revision: str | None = None) -> bool:
    """Whether the local cache remembers that a model has no such file."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name, revision=revision)
    return found is not None and not isinstance(found, str)


def answers(repository: str, name: str) -> None:
    """Ask the hub for a file once and briefly; whatever a broken connection raises goes through."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repository, name), timeout=PATIENCE)
    except errors.HfHubHTTPError as error:
        # An answer, if not the one hoped for: the download that follows tells what is wrong.
        if _status(error) >= 500:
            raise


def _status(error: Exception) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)
