"""Encode a data set once and write a file of features that can be shared where pictures cannot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from retune.backbones.base import Backbone
from retune.backbones.load import load_backbone
from retune.backbones.lookup.file import to_pieces
from retune.backbones.names import without_folder
from retune.backbones.precision import Precision
from retune.cache import file_digests
from retune.data.dataset import SPLITS, Dataset, FloatArray, IntArray, Split
from retune.data.source import DataSource
from retune.errors import BadSetting, UnknownName, UserError
from retune.features.encode import Encoded, encode_images, encode_texts
from retune.files import make_folder, write_whole
from retune.progress import Progress, silent

BLOCK: Final = 8192
"""Images whose features are in memory at a time."""
SUFFIX: Final = ".safetensors"


@dataclass(frozen=True)
class Embedded:
    """What was written.

    Args:
        path: The file; ``features:PATH`` names it as a backbone.
        images: Images in it.
        dim: Dimension of a vector.
        texts: Texts in it.
        images_encoded: How many images went through the encoder now, rather than long ago.
        unreadable: Images left out because they are missing or cannot be decoded.
        seconds: Time spent decoding and encoding images.
        bytes: Size of the file.
        fingerprint: Its SHA-256, which is the fingerprint of the backbone that it is.
    """

    path: Path
    images: int
    dim: int
    texts: int
    images_encoded: int
    unreadable: int
    seconds: float
    bytes: int
    fingerprint: str


def embed(
    out: str | Path,
    *,
    data: str = "phantom",
    root: str | Path | Mapping[str, str | Path] | None = None,
    backbone: str = "phantom-clip",
    texts: Sequence[str] = (),
    split: Split | Literal["all"] = "all",
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    skip_bad_images: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> Embedded:
    """Encode images, and texts, and write their features whole or not at all.

    What the feature store holds is not encoded again. The same features give the same file to the bit.

    Args:
        out: The file, ``.safetensors``.
        data: Name of a data set, or several with commas between.
        root: Folder of the data set's files, as a run takes it.
        backbone: What encodes.
        texts: Prompts whose features go into the file, too.
        split: Which images.
        settings: Of the data set: ``data.views`` and the like.
        device: Where to encode.
        precision: Of the products.
        skip_bad_images: Leave out images that are missing or cannot be decoded.
        force: Replace a file of other content.
        progress: Told what is done.

    Raises:
        UserError: If the input is at fault, or a file of other content is there.
        StorageError: If the disk is full.
    """
    path = _target(out)
    if split != "all" and split not in SPLITS:
        raise UnknownName("split", split, ("all", *SPLITS), where="--split")
    encoder = load_backbone(backbone, device=device, precision=precision)
    if encoder.precomputed:
        raise UserError("holds features already", where=encoder.name, fix="name the backbone that made them")
    if texts and not {"texts", "joint"} <= encoder.capabilities:
        raise UserError(
            "does not embed texts in the space of its images",
            where=f"backbone {encoder.name}",
            fix="leave out --prompts",
        )
    prompts = list(dict.fromkeys(texts))
    source = DataSource.make(data, root, of_data(settings or {}))
    dataset = source.read()
    rows = np.arange(len(dataset), dtype=np.int64) if split == "all" else dataset.rows(split)
    if not len(rows):
        raise UserError(f"has no {split} images", where=f"data set {data}", fix="choose another --split")
    about = _about(encoder, dataset, source.origins, split)
    if not force:
        _require_same(path, about)
    encoded = encode_images(
        encoder,
        dataset,
        rows,
        skip_bad_images=skip_bad_images,
        progress=progress,
    )
    ids = dataset.image_id[rows[encoded.good]].astype(str).tolist()
    if not ids:
        raise UserError("has no image that can be read", where=f"data set {data}", fix="check --root")
    fingerprint = _write(path, _pieces(encoder, ids, encoded, prompts, about, progress), force)
    return Embedded(
        path=path,
        images=len(ids),
        dim=encoder.card.dim,
        texts=len(prompts),
        images_encoded=encoded.images_encoded,
        unreadable=len(rows) - len(ids),
        seconds=encoded.seconds,
        bytes=path.stat().st_size,
        fingerprint=fingerprint,
    )


def _target(out: str | Path) -> Path:
    path = Path(out).expanduser()
    if path.suffix != SUFFIX:
        raise BadSetting(f"'{out}' does not end in {SUFFIX}", where="--out", fix=f"write --out FILE{SUFFIX}")
    if path.is_dir():
        raise BadSetting(f"'{out}' is a folder", where="--out", fix="name a file in it")
    return path


def of_data(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the data set, without ``data.``; there is nothing else to set."""
    for key in settings:
        if not key.startswith("data."):
            raise BadSetting(f"'{key}' does not start with data.", where="--set", fix=f"write data.{key}")
    return {key.removeprefix("data."): value for key, value in settings.items()}


def _about(encoder: Backbone, dataset: Dataset, origins: tuple[str, ...], split: str) -> dict[str, Any]:
    """What the file says of itself; no path enters it."""
    card = encoder.card
    side = card.image_size
    return {
        "backbone": without_folder(encoder.name),
        "fingerprint": encoder.fingerprint,
        "licence": card.licence,
        "pretraining_data": list(card.pretraining_data),
        "may_include": list(card.may_include),
        "preprocessing": f"8-bit grey, {side} x {side} pixels, as the backbone wants it",
        "precision": encoder.precision,
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "origins": list(origins),
        "split": split,
    }


def _pieces(
    encoder: Backbone,
    ids: list[str],
    encoded: Encoded,
    texts: list[str],
    about: Mapping[str, Any],
    progress: Progress,
) -> Iterator[bytes | memoryview]:
    """The file's bytes; features of images are read as they are written."""
    vectors = None
    if texts:
        progress("encoding prompts", 0, len(texts))
        vectors = encode_texts(encoder, texts)
        progress("encoding prompts", len(texts), len(texts))

    def blocks() -> Iterator[FloatArray]:
        for start in range(0, len(ids), BLOCK):
            rows: IntArray = np.arange(start, min(start + BLOCK, len(ids)), dtype=np.int64)
            yield np.asarray(encoded.take(rows), dtype=np.float32)
            progress("writing", start + len(rows), len(ids))

    yield from to_pieces(ids, blocks(), encoder.card.dim, texts=texts, text_features=vectors, about=about)


def _require_same(path: Path, about: Mapping[str, Any]) -> None:
    """See, before hours of encoding, that a file already there is not of something else."""
    if not path.exists():
        return
    from retune.backbones.lookup.file import opened

    try:
        found = opened(path)[1]
    except UserError:
        raise _conflict(path, "is there already and holds something else") from None
    for key, value in about.items():
        if found.get(key) != value:
            raise _conflict(path, f"is there already, with another {key.replace('_', ' ')}")


def _conflict(path: Path, what: str) -> UserError:
    return UserError(what, where=str(path), fix="choose another --out, or replace it with --force")


def _write(path: Path, pieces: Iterable[bytes | memoryview], force: bool) -> str:
    """Write a file whole or not at all; one of the same content stays, one of other content needs force."""
    make_folder(path.parent)
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes | memoryview]:
        for piece in pieces:
            digest.update(piece)
            yield piece

    def differs() -> bool:
        (before,) = file_digests([path])
        if before not in (None, digest.digest()) and not force:
            raise _conflict(path, "is there already, with other features")
        return before != digest.digest()

    write_whole(path, hashed(), wanted=differs)
    return digest.hexdigest()
