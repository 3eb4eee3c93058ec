"""The file of features: vectors by image id, where pictures cannot be shared.

It is one of these, told apart by its content; ``retune embed`` writes the first.

===================  ==========================================  ================================
what                 safetensors                                 npz, as ``numpy.savez`` writes it
===================  ==========================================  ================================
``image_ids``        uint8: N ids in UTF-8, line feeds between   (N,) text, e.g. of dtype ``<U20``
``image_features``   (N, d) float32, float16 or bfloat16         (N, d) float32 or float16
``texts``            uint8: P texts, likewise                    (P,) text
``text_features``    (P, d) in the space of the images           (P, d)
``about``            an entry of the metadata, a JSON object     () text, a JSON object
===================  ==========================================  ================================

A safetensors file that retune writes ends with ``sha256``, uint8 (32,): the checksum of all bytes before it.
The last three above may be left out; texts and their features only together. ``about`` may say what the card
shows: ``backbone`` (what made the features), ``fingerprint``, ``licence``, and as lists ``pretraining_data`` and
``may_include``. Nothing in a file is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from retune.data.dataset import Array, FloatArray
from retune.errors import MissingFiles, UserError
from retune.files import DAMAGE, parse_json, require_plain
from retune.system import map_array, safetensors_header

CHECKSUM: Final = "sha256"
NAMES: Final = ("image_ids", "image_features", "texts", "text_features")
BFLOAT: Final = "BF16"
_DTYPES: Final = {"F32": "<f4", "F16": "<f2", BFLOAT: "<u2", "U8": "|u1"}
_ZIP: Final = b"PK\x03\x04"


class Entry(NamedTuple):
    """One array of the file."""

    kind: str
    """Its type as the format calls it; ``text`` for an array of strings."""
    values: Array
    """Memory-mapped from safetensors; bfloat16, which numpy lacks, as uint16."""


def opened(path: Path) -> tuple[dict[str, Entry], Mapping[str, Any]]:
    """The arrays of a file and what it says of itself; of a safetensors file the header alone is read.

    Args:
        path: The file.

    Raises:
        MissingFiles: If there is none.
        UserError: If it is damaged, or types and shapes are not those of the format.
    """
    from safetensors import SafetensorError

    try:
        with path.open("rb") as file:
            head = file.read(len(_ZIP))
    except FileNotFoundError:
        raise MissingFiles(
            "there is no such file of features", where=str(path), fix="check the path"
        ) from None
    except OSError as error:
        raise MissingFiles(f"cannot be read ({error.strerror})", where=str(path)) from error
    try:
        entries, text = (_npz if head == _ZIP else _safetensors)(path)
    except (*DAMAGE, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"is damaged, or neither safetensors nor npz ({reason})", where=str(path), fix="write it again"
        ) from error
    try:
        about = parse_json(text)
    except ValueError as error:
        raise UserError("'about' is not JSON", where=str(path)) from error
    if not isinstance(about, dict):
        raise UserError("'about' is not a JSON object", where=str(path))
    _check(entries, path)
    return entries, about


def _safetensors(path: Path) -> tuple[dict[str, Entry], str]:
    from safetensors import safe_open

    # The library sees to it that the header is sound; where values start it does not tell.
    with safe_open(path, framework="np") as checked:
        text = (checked.metadata() or {}).get("about", "{}")
    header, start = safetensors_header(path)
    entries: dict[str, Entry] = {}
    for name in NAMES:
        if name in header:
            kind, shape, (offset, _) = (header[name][key] for key in ("dtype", "shape", "data_offsets"))
            _check_kind(path, name, kind, len(shape))
            entries[name] = Entry(kind, map_array(path, _DTYPES[kind], shape, start + offset))
    return entries, text


def _npz(path: Path) -> tuple[dict[str, Entry], str]:
    entries: dict[str, Entry] = {}
    about = np.array("{}")
    require_plain(path)
    with np.load(path, allow_pickle=False) as archive:
        # Asked of the whole: numpy reads no further than the shape says, and a member's checksum is at its end.
        if (broken := archive.zip.testzip()) is not None:
            raise ValueError(f"the checksum of {broken} does not hold")
        for name in (*NAMES, "about"):
            if name not in archive:
                continue
            try:
                values = archive[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                if name == "about":
                    raise ValueError("'about' is not a text") from None
                raise UserError(
                    f"{name} holds pickled objects, which are never read",
                    where=str(path),
                    fix="save ids and texts with numpy.array(..., dtype=str)",
                ) from None
            if name == "about":
                about = values
                continue
            kind = "text" if values.dtype.kind == "U" else values.dtype.name
            _check_kind(path, name, kind, values.ndim)
            entries[name] = Entry(kind, values)
    if about.dtype.kind != "U" or about.shape:
        raise ValueError("'about' is not a text")
    return entries, str(about)


def _check_kind(path: Path, name: str, kind: str, ndim: int) -> None:
    known: tuple[str, ...] = ("U8", "text")
    wanted, ndims = "text (in safetensors uint8)", 1
    if name.endswith("features"):
        known = ("F32", "F16", BFLOAT, "float32", "float16")
        wanted, ndims = "float32, float16 or bfloat16", 2
    if kind not in known:
        raise UserError(f"{name} is {kind}, not {wanted}", where=str(path))
    if ndim != ndims:
        raise UserError(f"{name} has {ndim} dimensions, not {ndims}", where=str(path))


def _check(found: Mapping[str, Entry], path: Path) -> None:
    where = str(path)
    for name in ("image_ids", "image_features"):
        if name not in found:
            raise UserError(
                f"has no {name}",
                where=where,
                fix="it needs image_ids and image_features; 'retune embed' writes such files",
            )
    if ("texts" in found) != ("text_features" in found):
        raise UserError("texts and text_features only come together", where=where)
    if not len(found["image_features"].values):
        raise UserError("holds no image", where=where)
    if "texts" in found:
        d, d_text = (found[name].values.shape[1] for name in ("image_features", "text_features"))
        if d != d_text:
            raise UserError(f"images have {d} dimensions, texts {d_text}", where=where)


def to_pieces(
    ids: Sequence[str],
    blocks: Iterable[FloatArray],
    dim: int,
    *,
    texts: Sequence[str] = (),
    text_features: FloatArray | None = None,
    about: Mapping[str, Any],
) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file of features, piece by piece; the same content gives the same bytes.

    Args:
        ids: N image ids.
        blocks: Features of the images in that order, as arrays (k, d) one after another.
        dim: Dimension d.
        texts: P texts.
        text_features: Their features, (P, d).
        about: What the file says of itself, of JSON values.

    Raises:
        UserError: If an id or a text has a line break.
    """
    # Floats first, so that they are aligned.
    parts: list[tuple[str, str, tuple[int, ...], Iterable[Any]]] = [
        ("image_features", "F32", (len(ids), dim), blocks)
    ]
    names = {"image_ids": ids}
    if text_features is not None:
        parts.append(("text_features", "F32", text_features.shape, [text_features]))
        names["texts"] = texts
    for name, values in names.items():
        joined = _joined(values, name)
        parts.append((name, "U8", joined.shape, [joined]))
    # Last, for it is of everything before it.
    parts.append((CHECKSUM, "U8", (32,), ()))
    # One entry: the library writes several in an order of chance.
    header: dict[str, Any] = {"__metadata__": {"about": json.dumps(about, sort_keys=True)}}
    end = 0
    for name, dtype, shape, _ in parts:
        start, end = end, end + math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    digest = hashlib.sha256(head)
    yield head
    for _, dtype, _, arrays in parts:
        for array in arrays:
            piece = np.ascontiguousarray(array, _DTYPES[dtype]).data.cast("B")
            digest.update(piece)
            yield piece
    yield digest.digest()


def require_sound(path: Path) -> None:
    """See that a file which carries its checksum holds what was written; others cannot be checked.

    Raises:
        UserError: If it does not.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) == _ZIP or CHECKSUM not in safetensors_header(path)[0]:
            return
        left = path.stat().st_size - 32
        digest = hashlib.sha256()
        file.seek(0)
        while piece := file.read(min(left, 2**22)):
            digest.update(piece)
            left -= len(piece)
        if file.read() != digest.digest():
            raise UserError("is damaged: its checksum does not hold", where=str(path), fix="write it again")


def _joined(values: Sequence[str], name: str) -> Array:
    broken = [value for value in values if "\n" in value]
    if broken:
        raise UserError(f"{broken[0]!r} has a line break, which {name} cannot hold", fix="take it out")
    return np.frombuffer("\n".join(values).encode(), np.uint8)
