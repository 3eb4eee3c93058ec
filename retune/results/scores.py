"""A result and the scores it follows from: written together, and read only if they belong together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from retune.errors import UserError
from retune.files import write_whole
from retune.results.result import SCORES_FILE, Result
from retune.sealed import DIGEST, Untrusted, open_tensors, seal_tensors

Arrays = dict[str, npt.NDArray[Any]]
REPLICATES: Final = "replicates."
"""Before a metric's key: an array of what it is on every resample of the test patients."""
TRANSFER: Final = "transfer."
"""Before the name of an array that the numbers of a transfer follow from."""


def write_finished(result: Result, arrays: Mapping[str, npt.NDArray[Any]], folder: Path) -> Result:
    """Write a run's scores, then its result, which names their digest.

    Args:
        result: Of the run.
        arrays: ``scores``, ``targets``, ``patients``, ``rows`` and ``items``, and the replicates of metrics.
        folder: Must exist.

    Returns:
        The result as it was written.
    """
    from safetensors.numpy import save

    scores, digest = seal_tensors(save(dict(arrays), {"run_id": result.run.id}))
    write_whole(folder / SCORES_FILE, scores)
    bound = result.model_copy(update={"scores_digest": digest})
    bound.write(folder)
    return bound


def read_scores(result: Result, folder: Path) -> Arrays:
    """The scores that a result follows from.

    Raises:
        UserError: If they are not there, not as they were written, or another run's.
    """
    from safetensors.numpy import load

    file = folder / SCORES_FILE
    again = f"remove {folder} and issue the command again"
    try:
        data, about = open_tensors(file, fix=again)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(file), fix=again) from error
    if about.get("run_id") != result.run.id or about[DIGEST] != result.scores_digest:
        raise Untrusted(
            "holds other scores than the result beside it follows from", where=str(file), fix=again
        )
    return load(data)
