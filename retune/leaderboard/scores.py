"""The scores of an entry as a safetensors file: sixteen bits each, and nothing that a header could hide.

Of R runs, T experiences, N test images and C labels it holds ``items``, uint8 (N, 16), the salted digests of the
images' names in ascending order; ``scores``, uint16 (R, C, T+1, N), as steps between the lowest and the highest
score of each run, label and moment; and ``range``, float32 (R, C, T+1, 2), these two. Where sixteen bits change a
number by more than :data:`TOLERANCE`, ``scores`` is float32 and there is no ``range``.

Where the runs have a transfer, of N test images and K findings it also holds ``transfer.sums``, uint32
(R, 2, T+1, N, K, 3), the pixels of each image that are both predicted and true, predicted, and true, by the probe fitted
anew and by the one that was kept; and ``transfer.patients``, uint32 (N,). No image is named: they are sorted by their
sums.

A label's moments lie beside each other so that git stores what did not change once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from retune.errors import UserError
from retune.leaderboard.entry import Entry, Transfer
from retune.leaderboard.untrusted import parse
from retune.metrics import dense
from retune.results.image_digests import WIDTH, Digests

TOLERANCE: Final = 1e-4
"""By how much a recomputed number may differ from the one published."""
STEPS: Final = 2**16 - 1
HEADER: Final = 2**10
"""Bytes that a header may have: five tensors need a few hundred, and blanks could hide something."""
SIZES: Final = {"U8": 1, "U16": 2, "U32": 4, "F32": 4}
OUTLINES: Final = ("transfer.sums", "transfer.patients")

Floats = npt.NDArray[np.float32]
Outlines = Mapping[str, npt.NDArray[np.uint32]]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of several runs on the same test images.

    Args:
        items: uint8 (N, 16), salted digests, ascending.
        values: float32 (R, T+1, N, C).
        outlines: Sums and patients of a transfer by their names in the file; empty where there is none.
    """

    items: Digests
    values: Floats
    outlines: Outlines = field(default_factory=dict)


def pack(scores: Scores, *, exact: bool = False) -> bytes:
    """The file's content.

    Args:
        scores: What to write.
        exact: In thirty-two bits.
    """
    columns = np.ascontiguousarray(scores.values.transpose(0, 3, 1, 2))
    if exact:
        return save({"items": scores.items, "scores": columns, **scores.outlines})
    low, high = columns.min(axis=-1), columns.max(axis=-1)
    width = np.where(high > low, high.astype(np.float64) - low, 1.0)
    steps = np.rint((columns - low[..., None].astype(np.float64)) / width[..., None] * STEPS)
    ends = np.stack([low, high], axis=-1)
    return save({"items": scores.items, "scores": steps.astype(np.uint16), "range": ends, **scores.outlines})


def unpack(content: bytes, entry: Entry, where: str) -> Scores:
    """Read a file that may be anything.

    Args:
        content: The file's.
        entry: What it belongs to.
        where: Its name, for messages.

    Raises:
        UserError: If it is not exactly what ``entry`` says it is.
    """
    _require(content, entry, where)
    try:
        arrays: dict[str, npt.NDArray[Any]] = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"is not a safetensors file ({error})", where=where) from None
    columns = arrays["scores"]
    if "range" in arrays:
        ends = arrays["range"].astype(np.float64)
        if not np.isfinite(ends).all() or (ends[..., 1] < ends[..., 0]).any():
            raise UserError("range does not hold the lowest and highest scores", where=where)
        low, width = ends[..., :1], ends[..., 1:] - ends[..., :1]
        # One run after another: in between, they take four times as much room.
        per_run = zip(low, columns, width / STEPS, strict=True)
        columns = np.stack([(least + run * step).astype(np.float32) for least, run, step in per_run])
    if not np.isfinite(columns).all():
        raise UserError("scores hold NaN or infinity", where=where)
    items = arrays["items"]
    if not _ascending(items):
        raise UserError("items are not distinct and ascending", where=where)
    outlines: Outlines = {key: arrays[key] for key in OUTLINES if key in arrays}
    if entry.transfer:
        _require_outlines(outlines, entry.transfer, where)
    return Scores(items, np.ascontiguousarray(columns.transpose(0, 2, 3, 1)), outlines)


def _require_outlines(outlines: Outlines, of: Transfer, where: str) -> None:
    """See that sums can be of pixels, and of one test set."""
    sums, patients = (outlines[key] for key in OUTLINES)
    both, predicted, true = (sums[..., i] for i in (dense.BOTH, dense.PREDICTED, dense.TRUE))
    if (both > np.minimum(predicted, true)).any():
        raise UserError("transfer.sums has more pixels right than are predicted or true", where=where)
    if (true != true[0, 0, 0]).any():
        raise UserError("transfer.sums has other outlines at one moment than at another", where=where)
    n = len(np.unique(patients))
    if n != of.n_test_patients:
        raise UserError(f"transfer.patients are {n:,}, entry.json says {of.n_test_patients:,}", where=where)


def _require(content: bytes, entry: Entry, where: str) -> None:
    """See that the header says what an entry's must say, and that nothing stands beside it."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > HEADER or size > len(content) - 8:
        raise UserError(f"its header cannot be {size:,} bytes long", where=where)
    header = parse(content[8 : 8 + size], f"{where}, header", most=HEADER)
    runs, labels, moments, n = len(entry.runs), len(entry.labels), entry.scenario.steps + 1, entry.data.n_test
    exact = {"items": ("U8", [n, WIDTH]), "scores": ("F32", [runs, labels, moments, n])}
    if entry.transfer:
        n, k = entry.transfer.n_test, len(entry.transfer.findings)
        exact |= dict(zip(OUTLINES, (("U32", [runs, 2, moments, n, k, 3]), ("U32", [n])), strict=True))
    short = {**exact, "scores": ("U16", exact["scores"][1]), "range": ("F32", [runs, labels, moments, 2])}
    if not isinstance(header, dict) or set(header) not in (set(exact), set(short)):
        beside = f", {' and '.join(OUTLINES)}" if entry.transfer else ""
        raise UserError(f"must hold items, scores and perhaps range{beside}, and nothing else", where=where)
    wanted = short if "range" in header else exact
    spans = []
    for name, (dtype, shape) in wanted.items():
        told = header[name]
        if not isinstance(told, dict) or set(told) != {"dtype", "shape", "data_offsets"}:
            raise UserError(f"{name} is not described by dtype, shape and data_offsets", where=where)
        if told["dtype"] != dtype or told["shape"] != shape:
            raise UserError(
                f"{name} is {json.dumps(told['dtype'])} {json.dumps(told['shape'])}, must be {dtype} {shape}"[
                    :300
                ],
                where=where,
            )
        if not _pair(told["data_offsets"]):
            raise UserError(f"{name}: data_offsets are no two whole numbers", where=where)
        spans.append((told["data_offsets"], SIZES[dtype] * math.prod(shape)))
    at = 0
    for offsets, length in sorted(spans):
        if offsets != [at, at + length]:
            raise UserError(f"its tensors do not follow each other without gaps at byte {at:,}", where=where)
        at += length
    if 8 + size + at != len(content):
        raise UserError(f"is {len(content):,} bytes long, its header says {8 + size + at:,}", where=where)


def _ascending(items: Digests) -> bool:
    """Whether rows of bytes are distinct and in order."""
    high, low = np.ascontiguousarray(items).view(">u8").T
    rises = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
    return bool(rises.all())


def _pair(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(type(v) is int and 0 <= v < 2**63 for v in value)
    )
