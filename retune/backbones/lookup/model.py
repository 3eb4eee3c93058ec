"""Features made elsewhere as a backbone, ``features:FILE``: vectors are looked up by image id.

:mod:`retune.backbones.lookup.file` tells what the file holds. Features stay on disk until rows are
asked for, except those of an npz.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
from PIL import Image

from retune.backbones.base import Backbone, BackboneCard, Capability
from retune.backbones.lookup.file import BFLOAT, opened, require_sound
from retune.cache import file_digests
from retune.data.dataset import Array, FloatArray, IntArray
from retune.errors import MissingFiles, UserError
from retune.system import take_rows

if TYPE_CHECKING:
    import torch

SCHEME: Final = "features:"


class Precomputed(Backbone):
    """Vectors of images, and perhaps of texts, that an encoder made elsewhere.

    Its card's ``image_size`` is 0: there are no pictures. Making one reads the file's header only.

    Args:
        source: ``features:FILE``.

    Raises:
        MissingFiles: If there is no such file.
        UserError: If it is damaged, or not as :mod:`retune.backbones.lookup.file` tells.
    """

    precomputed = True

    def __init__(self, source: str) -> None:
        self.name = source
        file = source.removeprefix(SCHEME)
        if not file:
            raise UserError("names no file", where=source, fix="write features:FILE")
        self.path = Path(file).expanduser()
        self._entries, self.about = opened(self.path)
        texts: set[Capability] = {"texts", "joint"} if "texts" in self._entries else set()
        self.capabilities = frozenset({"features", *texts})

    @property
    def card(self) -> BackboneCard:
        """What the file says of itself; ``unknown`` where it says nothing."""
        maker = self._said("backbone", str, "")
        return BackboneCard(
            source=f"features of {maker} in {self.path.name}" if maker else f"features in {self.path.name}",
            licence=self._said("licence", str, "unknown"),
            pretraining_data=tuple(map(str, self._said("pretraining_data", list, []))) or ("unknown",),
            image_size=0,
            dim=self._entries["image_features"].values.shape[1],
            may_include=tuple(map(str, self._said("may_include", list, []))),
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file."""
        require_sound(self.path)
        (digest,) = file_digests([self.path])
        if digest is None:
            raise MissingFiles("cannot be read", where=str(self.path))
        return digest.hex()

    @property
    def parameters(self) -> int:
        """None: there is no encoder."""
        return 0

    def rows_of(self, ids: Array) -> IntArray:
        """Row of each image in the file, -1 where it is not there; (n,) ids to (n,).

        Raises:
            UserError: If an id stands in the file twice.
        """
        wanted = np.asarray(ids).astype(str, copy=False).tolist()
        return np.fromiter(map(self._row.get, wanted, repeat(-1)), dtype=np.int64, count=len(wanted))

    def gather(self, rows: IntArray) -> FloatArray:
        """Copy rows of features out of the file; (n,) rows to float32 (n, d).

        Raises:
            UserError: If one is not finite.
            ValueError: If a row is negative.
        """
        found = self._floats("image_features", rows)
        self._require_finite(found, "image", self._ids, rows)
        return found

    def features_of(self, ids: Array) -> FloatArray:
        """Features of images by id; (n,) ids to float32 (n, d).

        Raises:
            MissingFiles: If an image is not in the file.
        """
        rows = self.rows_of(ids)
        missing = np.asarray(ids)[rows < 0]
        if len(missing):
            raise MissingFiles(
                f"has no features of {len(missing):,} of {len(rows):,} images, the first '{missing[0]}'",
                where=str(self.path),
                fix="add them, or leave these images out",
            )
        return self.gather(rows)

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Look up the vectors of P texts, float32 (P, d).

        Raises:
            UserError: If a text is not in the file.
        """
        import torch

        missing = [text for text in texts if text not in self._text_row]
        if missing:
            raise UserError(
                f"has no vectors of {len(missing):,} of {len(texts):,} texts, the first '{missing[0]}'",
                where=str(self.path),
                fix="write it again with 'retune embed ... --prompts BANK' and the bank that you use",
            )
        rows = np.array([self._text_row[text] for text in texts], dtype=np.int64)
        if not len(rows):
            return torch.empty(0, self.card.dim)
        found = self._floats("text_features", rows)
        self._require_finite(found, "text", texts, np.arange(len(texts)))
        return torch.from_numpy(found)

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Not possible.

        Raises:
            UserError: Always.
        """
        self._refuse()

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Not possible.

        Raises:
            UserError: Always.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UserError(
            "holds features, no encoder", where=str(self.path), fix="name the backbone that made them"
        )

    @cached_property
    def _ids(self) -> list[str]:
        return self._names("image_ids", "image_features")

    @cached_property
    def _row(self) -> dict[str, int]:
        return self._numbered(self._ids, "image")

    @cached_property
    def _text_row(self) -> dict[str, int]:
        if "texts" not in self._entries:
            return {}
        return self._numbered(self._names("texts", "text_features"), "text")

    def _names(self, name: str, of: str) -> list[str]:
        kind, values = self._entries[name]
        try:
            found: list[str] = values.tobytes().decode().split("\n") if kind == "U8" else values.tolist()
        except UnicodeDecodeError as error:
            raise UserError(f"{name} is not UTF-8", where=str(self.path)) from error
        wanted = len(self._entries[of].values)
        if len(found) != wanted:
            raise UserError(f"{name} has {len(found):,} entries, {of} {wanted:,} rows", where=str(self.path))
        return found

    def _numbered(self, names: list[str], what: str) -> dict[str, int]:
        rows = dict(zip(names, range(len(names)), strict=True))
        if len(rows) < len(names):
            # The dictionary keeps the last row of each, so an earlier one gives itself away.
            twice = next(name for row, name in enumerate(names) if rows[name] != row)
            raise UserError(
                f"{what} '{twice}' stands in it twice", where=str(self.path), fix="keep one of them"
            )
        return rows

    def _floats(self, name: str, rows: IntArray) -> FloatArray:
        if len(rows) and rows.min() < 0:
            raise ValueError("a row of -1 stands for an image that is not there")
        kind, mapped = self._entries[name]
        out = np.empty((len(rows), mapped.shape[1]), dtype=np.float32)
        if kind != BFLOAT:
            take_rows(mapped, rows, out)
            return out
        # bfloat16 is the upper half of a float32.
        half = np.empty(out.shape, dtype=np.uint16)
        take_rows(mapped, rows, half)
        bits = out.view(np.uint32)
        bits[...] = half
        bits <<= 16
        return out

    def _require_finite(self, found: FloatArray, what: str, names: Sequence[str], rows: IntArray) -> None:
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(bad):
            raise UserError(
                f"features of {what} '{names[int(rows[bad[0]])]}' are not finite ({len(bad):,} such)",
                where=str(self.path),
                fix="leave it out of the file",
            )

    def _said(self, key: str, kind: type[Any], default: Any) -> Any:
        value = self.about.get(key, default)
        if not isinstance(value, kind):
            noun = "a list" if kind is list else "text"
            raise UserError(f"'about' says {key} = {value!r}, which is not {noun}", where=str(self.path))
        return value
