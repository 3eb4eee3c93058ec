"""The feature store: encode once, notice damage, survive a kill, keep what is large small."""

from __future__ import annotations

import hashlib
import os
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from retune.backbones.base import Backbone, BackboneCard, Capability
from retune.cache import changed_files, digests_path, file_digests, forget_digests
from retune.data.dataset import BoolArray, Dataset, IntArray
from retune.data.dicom import NOTE
from retune.data.images import FileImages
from retune.errors import BadImage, StorageError, UserError
from retune.features.encode import BATCH, SHARD, encode_images, encode_texts, held
from retune.features.housekeeping import prune, spaces, verify
from retune.features.store import MAPPED, Index, Space, as_keys, spaces_dir

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
        return BackboneCard("here", "none", ("none",), SIDE, 2, token_dim=SIDE)

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
    keys = [key for key in data.images.keys(rows) if key is not None]
    assert held(Counting(), "images", keys) == 0
    assert not shards(store)
    assert not spaces()
    first = encode_images(Counting(), data, rows)
    assert first.images_encoded == 700
    assert (held(Counting(), "images", keys[:9]), held(Counting("b"), "images", keys)) == (9, 0)
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


def test_few_pictures_are_at_full_size_at_once_and_progress_is_told_from_the_start() -> None:
    loads, told = list[int](), list[tuple[int, int]]()

    class Heard(Squares):
        def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
            loads.append(len(rows))
            return super().load(rows, at_least)

    source = Heard(BATCH + 5)
    data = replace(squares(BATCH + 5), images=source)
    encode_images(
        Counting(), data, np.arange(BATCH + 5), progress=lambda stage, done, total: told.append((done, total))
    )
    assert max(loads) <= BATCH // 4
    assert sorted(source.loaded) == list(range(BATCH + 5))
    assert told == [(0, BATCH + 5), (BATCH, BATCH + 5), (BATCH + 5, BATCH + 5)]


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


def test_a_space_of_more_shards_than_files_may_be_open(store: Path) -> None:
    space = Space({"backbone": "a"}, "images", name="a")
    keys = as_keys([hashlib.sha256(b"%d" % row).digest() for row in range(300)])
    for row in range(0, 300, 3):
        space.add(keys[row : row + 3], np.arange(row, row + 3, dtype=np.float32)[:, None])
    space.refresh()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + MAPPED + 18, limits[1]))
    try:
        order = np.random.default_rng(0).permutation(300)
        found = space.gather(space.find(keys[order]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    np.testing.assert_array_equal(found[:, 0], order)


def test_keys_are_found_though_they_begin_alike() -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 3, (500, 32), dtype=np.uint8)
    keys[:, : rng.integers(0, 30)] = 1
    keys[100:200, 2:30] = keys[0, 2:30]
    keys[300] = keys[7]
    wanted = np.concatenate([keys[rng.permutation(500)], rng.integers(0, 3, (200, 32), dtype=np.uint8)])
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key.tobytes(), row)
    assert Index(keys).find(wanted).tolist() == [first.get(key.tobytes(), -1) for key in wanted]
    assert Index(keys[:0]).find(wanted).tolist() == [-1] * len(wanted)


def spoil_unseen(shard: Path, at: int) -> None:
    """Change a byte as a disk does: nothing of the file tells, and it is remembered as sound."""
    content = bytearray(shard.read_bytes())
    content[at] ^= 1
    shard.write_bytes(bytes(content))
    stat = shard.stat()
    row = str(shard.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, str(stat.st_ino)
    with sqlite3.connect(digests_path()) as db:
        db.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?)", (*row, bytes.fromhex(shard.stem)))


@pytest.mark.parametrize("compare", ["cache verify", "--recheck"])
def test_a_shard_is_read_whole_once_and_again_when_all_is_compared(compare: str, store: Path) -> None:
    encode_images(Counting(), squares(100), np.arange(100))
    (victim,) = shards(store)
    spoil_unseen(victim, -100 * 32 - 3)
    assert encode_images(Counting(), squares(100), np.arange(100)).images_encoded == 0
    if compare == "--recheck":
        forget_digests()
    else:
        assert changed_files(beside=store) == []
        assert verify(spaces()) == [victim]
    assert encode_images(Counting(), squares(100), np.arange(100)).images_encoded == 100
    assert hashlib.sha256(victim.read_bytes()).hexdigest() == victim.stem


@pytest.mark.parametrize("at", [0, 7, 8, 12])
def test_a_shard_whose_header_cannot_be_read_is_made_again(at: int, store: Path) -> None:
    encode_images(Counting(), squares(100), np.arange(100))
    (victim,) = shards(store)
    spoil_unseen(victim, at)
    assert encode_images(Counting(), squares(100), np.arange(100)).images_encoded == 100


def test_a_wrong_or_damaged_memory_costs_no_sound_shard(store: Path) -> None:
    encode_images(Counting(), squares(600), np.arange(600))
    time.sleep(0.06)
    encode_images(Counting(), squares(600), np.arange(600))
    with sqlite3.connect(digests_path()) as db:
        assert db.execute("UPDATE file SET sha256 = ?", (b"wrong",)).rowcount == len(shards(store))
    assert encode_images(Counting(), squares(600), np.arange(600)).images_encoded == 0
    digests_path().write_bytes(b"no database" * 100)
    assert encode_images(Counting(), squares(600), np.arange(600)).images_encoded == 0


@pytest.mark.parametrize("what", ["changed", "gone"])
def test_a_shard_that_changes_while_it_is_in_use_is_refused(what: str, store: Path) -> None:
    found = encode_images(Counting(), squares(600), np.arange(600))
    victim = shards(store)[1]
    content = victim.read_bytes()
    victim.chmod(0o600)  # Its times change, its bytes do not.
    assert len(found.take(np.arange(600))) == 600
    again = encode_images(Counting(), squares(600), np.arange(600))
    victim.unlink()
    if what == "changed":
        victim.write_bytes(content[:-1] + b"\0")
    with pytest.raises(UserError, match=f"{victim.name}: has {what} while it was in use; issue the command"):
        again.take(np.arange(600))


def spoil(store: Path, file: str) -> Path:
    """Put a folder where a file should be: nobody, not even root, can read it as one."""
    (space,) = store.iterdir()
    path = shards(store)[0] if file == "shard" else space / file
    path.unlink(missing_ok=True)
    path.mkdir()
    return path


@pytest.mark.parametrize("file", ["shard", ".lock", "about.json"])
def test_a_file_of_the_store_that_cannot_be_used_is_named_with_the_mend(file: str, store: Path) -> None:
    encode_images(Counting(), squares(3), np.arange(3))
    path = spoil(store, file)
    with pytest.raises(UserError, match=r"chmod g\+rw.*RETUNE_CACHE") as told:
        encode_images(Counting(), squares(5), np.arange(5))
    assert str(path) in str(told.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"backbone": "a"}', b"\xff"])
def test_a_broken_or_older_about_json_is_mended(content: bytes, store: Path) -> None:
    encode_images(Counting(), squares(3), np.arange(3))
    (about,) = store.glob("*/about.json")
    before = about.read_bytes()
    about.write_bytes(content)
    assert [(space.backbone, space.kind) for space in spaces()] == [("unknown", "unknown")]
    assert verify(spaces()) == [about]
    assert encode_images(Counting(), squares(3), np.arange(3)).images_encoded == 0
    assert about.read_bytes() == before
    about.write_bytes(content)
    prune(spaces())
    assert list(store.iterdir()) == []


@pytest.mark.parametrize("file", ["shard", "about.json"])
def test_verify_goes_on_past_a_file_that_it_cannot_read(file: str, store: Path) -> None:
    encode_images(Counting(), squares(1100), np.arange(1100))
    victim = shards(store)[2]
    victim.write_bytes(victim.read_bytes()[:-1])
    path = spoil(store, file)
    with pytest.raises(UserError, match="cannot be used") as told:
        verify(spaces())
    assert str(path) in str(told.value)
    assert not victim.exists()
    prune(spaces())
    assert list(store.iterdir()) == []


def test_damaged_digests_are_removed_by_verify(store: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture"
    picture.write_bytes(b"x")
    digest = file_digests([picture])
    (tmp_path / "digests.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match=r"digests.sqlite: is damaged.*retune cache verify"):
        file_digests([picture])
    assert verify(spaces()) == [tmp_path / "digests.sqlite"]
    assert file_digests([picture]) == digest


def test_two_users_of_one_group_share_a_store(store: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    before = os.umask(0o077)
    try:
        picture = tmp_path / "picture"
        picture.write_bytes(b"x")
        file_digests([picture])
        encode_images(Counting(), squares(3), np.arange(3))
    finally:
        os.umask(before)
    made = [store, *store.rglob("*"), tmp_path / "digests.sqlite"]
    assert len(made) == 6
    for path in made:
        needed = 0o070 if path.is_dir() else 0o060
        assert path.stat().st_mode & needed == needed, path


def test_a_store_of_ones_own_stays_so(store: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    before = os.umask(0o077)
    try:
        encode_images(Counting(), squares(3), np.arange(3))
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o077 == 0 for path in [store, *store.rglob("*[!k]")])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("concurrent", [False, True])
def test_everything_is_encoded_in_one_thread_whatever_the_process_has(
    threads: int, concurrent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, right = set(), Counting.encode_images
    monkeypatch.setattr(Counting, "concurrent", concurrent)
    monkeypatch.setattr("retune.features.encode.cores", lambda: 3)

    def counted(self: Counting, pixels: torch.Tensor) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return right(self, pixels)

    monkeypatch.setattr(Counting, "encode_images", counted)
    monkeypatch.setattr(
        Counting, "encode_texts", lambda self, texts: torch.full((len(texts), 2), torch.get_num_threads())
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = encode_images(Counting(), squares(900), np.arange(900))
        assert encode_texts(Counting(), ["a"]).tolist() == [[1, 1]]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert seen == {1}
    np.testing.assert_array_equal(found.features, shades(np.arange(900)))


def test_a_file_decoded_otherwise_is_another_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    images = FileImages(np.array(["a.png", "b.png"]), tmp_path)
    before = images.keys(np.arange(2))
    monkeypatch.setattr("retune.data.images.DECODER", b"3")
    after = images.keys(np.arange(2))
    assert before[1] is after[1] is None
    assert len({before[0], after[0], hashlib.sha256(b"x").digest()}) == 3


@contextmanager
def somebody() -> Iterator[None]:
    """Be a user to whom permissions apply, though the tests be root's."""
    before = os.geteuid()
    try:
        if before == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("closed", ["", "features", "features/a-space"])
def test_a_store_that_cannot_be_looked_into_is_named_and_does_not_count_as_empty(
    closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "features" / "a-space").mkdir(parents=True)
        root.chmod(0o755)
        (root / closed).chmod(0)
        monkeypatch.setenv("RETUNE_CACHE", name)
        try:
            with somebody(), pytest.raises(UserError, match="Permission denied") as caught:
                spaces()
        finally:
            (root / closed).chmod(0o755)
    assert str(caught.value).startswith(f"{root / closed}: ")
    assert "set RETUNE_CACHE" in str(caught.value)
