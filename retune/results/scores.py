"""A result and the scores it follows from: written together, and read only if they belong together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
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
OF: Final = "of."
"""Before the name of a column that says who and where a test image is of: ``of.sex``, as :func:`as_bytes` has it."""
COLUMNS: Final = ("sex", "age", "race", "view", "site", "dataset", "date")
"""Those that a run keeps of its test images, where its data set knows them. No entry of a leaderboard holds any."""
WIDEST: Final = 64
"""Bytes that are kept of a value."""


def as_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Text or numbers (N,) as UTF-8, uint8 (N, W), filled up with zeros; what is missing is empty."""
    given = values.tolist()
    told = {v: b"" if v is None or v != v else _text(v).encode()[:WIDEST] for v in dict.fromkeys(given)}
    place = {v: k for k, v in enumerate(told)}
    # Few values of many images.
    found = np.array([*told.values(), b"\0"], dtype=np.bytes_)
    chosen = found[np.array([place[v] for v in given], dtype=np.int64)]
    return chosen.view(np.uint8).reshape(len(given), found.itemsize)


def as_text(values: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
    """What :func:`as_bytes` was given, as text (N,)."""
    if values.dtype != np.uint8 or values.ndim != 2:
        raise ValueError(f"a column must be uint8 (N, W), not {values.dtype} {values.shape}")
    found, place = np.unique(
        np.ascontiguousarray(values).view(f"S{values.shape[1]}")[:, 0], return_inverse=True
    )
    return np.array([one.decode(errors="ignore") for one in found.tolist()], dtype=np.str_)[place]


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).strip()


def write_finished(result: Result, arrays: Mapping[str, npt.NDArray[Any]], folder: Path) -> Result:
    """Write a run's scores, then its result, which names their digest.

    Args:
        result: Of the run.
        arrays: ``scores``, ``targets``, ``patients``, ``rows`` and ``items``, the replicates of metrics, and columns.
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
    again = f"remove {folder} and issue the run's command again"
    try:
        data, about = open_tensors(file, fix=again)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(file), fix=again) from error
    if about.get("run_id") != result.run.id or about[DIGEST] != result.scores_digest:
        raise Untrusted(
            "holds other scores than the result beside it follows from", where=str(file), fix=again
        )
    return load(data)
