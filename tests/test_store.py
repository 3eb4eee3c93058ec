"""The feature store: encode once, notice damage, survive a kill, keep what is large small."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from retune.backbones.base import Backbone, BackboneCard, Capability
from retune.data.dataset import BoolArray, Dataset, IntArray
from retune.data.dicom import NOTE
from retune.errors import BadImage, UserError
from retune.features.encode import BATCH, SHARD, encode_images, encode_texts
from retune.features.store import as_keys, spaces_dir

SIDE = 8


class Counting(Backbone):
    """Means over halves of a picture; counts what it is asked."""

    name = "counting"
    capabilities: frozenset[Capability] = frozenset({"features", "texts", "joint", "tokens", "pixels"})

    def __init__(self, fingerprint: str = "a") -> None:
        self._fingerprint = fingerprint
        self.batches: list[int] = []
        self.texts: list[str] = []

    @property
    def card(self) -> BackboneCard:
        return BackboneCard("here", "none", (), SIDE, 2, token_dim=SIDE)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def parameters(self) -> int:
        return 0

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image.resize((SIDE, SIDE))))

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.dtype == torch.uint8
        self.batches.append(len(pixels))
        return torch.stack([pixels[:, :4].float().mean((1, 2)), pixels[:, 4:].float().mean((1, 2))], 1)

    def encode_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(pixels))
        return pixels.float()

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        self.texts += texts
        return torch.tensor([[len(text), text.count("e")] for text in texts], dtype=torch.float32)


@dataclass
class Squares:
    """Grey squares, one shade each; row ``bad`` cannot be decoded."""

    n: int
    bad: int = -1
    loaded: list[int] = field(default_factory=list)

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
        self.loaded += rows.tolist()
        return [
            BadImage("is torn", where=f"square {row}")
            if row == self.bad
            else Image.new("L", (20, 20), int(row) % 251)
            for row in rows
        ]

    def keys(self, rows: IntArray) -> list[bytes | None]:
        return [hashlib.sha256(f"square {row}".encode()).digest() for row in rows]

    def exists(self, rows: IntArray) -> BoolArray:
        return np.ones(len(rows), dtype=bool)

    def describe(self, row: int) -> str:
        return f"square {row}"


def squares(n: int, bad: int = -1) -> Dataset:
    ids = np.array([f"s{i}" for i in range(n)])
    split = np.full(n, "train")
    return Dataset("squares", ("A",), ids, ids, split, np.zeros((n, 1), np.float32), Squares(n, bad))


def shades(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    return np.repeat((rows % 251)[:, None], 2, axis=1).astype(np.float32)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path))
    return spaces_dir()


def shards(store: Path) -> list[Path]:
    return sorted(store.glob("*/*.safetensors"))


def test_every_image_is_encoded_once(store: Path) -> None:
    data, rows = squares(700), np.arange(700)
    first = encode_images(Counting(), data, rows)
    assert first.images_encoded == 700
    np.testing.assert_array_equal(first.features, shades(rows))
    again = Counting()
    later = encode_images(again, data, rows[::-1].copy())
    assert (later.images_encoded, again.batches) == (0, [])
    np.testing.assert_array_equal(later.features, shades(rows[::-1]))
    assert len(shards(store)) == -(-700 // SHARD)


def test_only_what_is_new_is_encoded() -> None:
    data = squares(300)
    encode_images(Counting(), data, np.arange(100))
    mixed = np.array([250, 3, 250, 99, 120])
    encoder = Counting()
    found = encode_images(encoder, data, mixed)
    assert found.images_encoded == 2
    np.testing.assert_array_equal(found.features, shades(mixed))


def test_batches_are_always_full() -> None:
    encoder = Counting()
    encode_images(encoder, squares(BATCH + 1), np.arange(BATCH + 1))
    assert encoder.batches == [BATCH, BATCH]


def test_values_are_copied_in_any_order_from_many_shards() -> None:
    data = squares(2000)
    found = encode_images(Counting(), data, np.arange(2000))
    order = np.random.default_rng(0).permutation(2000)[:1500]
    np.testing.assert_array_equal(found.take(order), shades(order))


def test_another_backbone_precision_or_kind_has_its_own_space(store: Path) -> None:
    data, rows = squares(10), np.arange(10)
    rounded = Counting()
    rounded.precision = "bf16"
    for encoder in (Counting("a"), Counting("b"), rounded):
        assert encode_images(encoder, data, rows).images_encoded == 10
    for kind in ("tokens", "pixels"):
        assert encode_images(Counting("a"), data, rows, kind=kind).images_encoded == 10
    assert len(list(store.iterdir())) == 5


def test_tokens_and_pixels_are_kept_small() -> None:
    data, rows = squares(600), np.arange(600)
    tokens = encode_images(Counting(), data, rows, kind="tokens").take(rows[590:])
    assert (tokens.dtype, tokens.shape) == (np.float16, (10, SIDE, SIDE))
    np.testing.assert_array_equal(tokens[:, 0, 0], rows[590:] % 251)
    pixels = encode_images(Counting(), data, rows, kind="pixels").take(rows[:5])
    assert (pixels.dtype, pixels.shape) == (np.uint8, (5, SIDE, SIDE))


def test_damage_is_noticed_and_encoded_again(store: Path) -> None:
    data, rows = squares(1100), np.arange(1100)
    encode_images(Counting(), data, rows)
    victim = shards(store)[0]
    content = bytearray(victim.read_bytes())
    content[-3] ^= 1
    victim.write_bytes(bytes(content))
    again = encode_images(Counting(), data, rows)
    assert 0 < again.images_encoded <= SHARD
    np.testing.assert_array_equal(again.features, shades(rows))
    assert encode_images(Counting(), data, rows).images_encoded == 0


def test_a_cut_or_lost_shard_costs_only_itself(store: Path) -> None:
    data, rows = squares(1100), np.arange(1100)
    encode_images(Counting(), data, rows)
    first, second, third = shards(store)
    first.write_bytes(first.read_bytes()[:50])
    second.unlink()
    kept = third
    again = encode_images(Counting(), data, rows)
    np.testing.assert_array_equal(again.features, shades(rows))
    assert again.images_encoded < 1100
    assert kept.exists()


def test_what_was_finished_before_a_bad_image_stays() -> None:
    rows = np.arange(900)
    with pytest.raises(BadImage, match=r"square 800: is torn.*--skip-bad-images"):
        encode_images(Counting(), squares(900, bad=800), rows)
    rest = encode_images(Counting(), squares(900, bad=800), rows, skip_bad_images=True)
    assert rest.images_encoded < 900 - SHARD + 1
    assert rest.good.tolist() == [row != 800 for row in range(900)]
    np.testing.assert_array_equal(rest.features, shades(rows[rows != 800]))


@pytest.mark.parametrize("kind", ["images", "tokens"])
def test_values_that_are_not_finite_are_refused(
    kind: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {"images": "encode_images", "tokens": "encode_tokens"}[kind]
    right = getattr(Counting, name)
    monkeypatch.setattr(Counting, name, lambda self, pixels: right(self, pixels) / 0)
    with pytest.raises(UserError, match="not finite"):
        encode_images(Counting(), squares(3), np.arange(3), kind=kind)  # type: ignore[arg-type]
    assert shards(store) == []


def test_a_wrong_dimension_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "encode_images", lambda self, pixels: torch.ones(len(pixels), 3))
    with pytest.raises(UserError, match="gives 3 dimensions, its card says 2"):
        encode_images(Counting(), squares(3), np.arange(3))


def test_texts_are_encoded_once_and_keep_their_order() -> None:
    encoder = Counting()
    first = encode_texts(encoder, ["edema", "no edema", "edema"])
    np.testing.assert_array_equal(first, [[5, 2], [8, 2], [5, 2]])
    assert encoder.texts == ["edema", "no edema"]
    second = encode_texts(encoder, ["hernia", "no edema"])
    np.testing.assert_array_equal(second, [[6, 1], [8, 2]])
    assert encoder.texts == ["edema", "no edema", "hernia"]


def test_keys_are_32_bytes_each() -> None:
    assert as_keys([b"a" * 32, b"b" * 32]).shape == (2, 32)


def test_files_that_contradict_themselves_are_told_by_name() -> None:
    class Odd(Squares):
        def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
            pictures = super().load(rows, at_least)
            for row, picture in zip(rows.tolist(), pictures, strict=True):
                if row in (70, 3) and isinstance(picture, Image.Image):
                    picture.info[NOTE] = "its header says two things"
            return pictures

    data = replace(squares(100), images=Odd(100))
    found = encode_images(Counting(), data, np.arange(100))
    told = tuple(f"square {row}: its header says two things" for row in (3, 70))
    assert found.contradictions == told
    # What was decoded long ago is not decoded again for that.
    assert encode_images(Counting(), data, np.arange(100)).contradictions == ()
