"""The ChestMNIST reader on tiny files in the published format, against the package that publishes it."""

from __future__ import annotations

import _thread
import hashlib
import os
import signal
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.data import findings
from retune.data.readers.chestmnist import SIZES, URL, ChestMNIST
from retune.errors import BadSetting, BadTable, MissingFiles, StorageError, UserError, install

COUNTS = {"train": 30, "val": 5, "test": 12}


def arrays(size: int = 28, seed: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for split, n in COUNTS.items():
        made[f"{split}_images"] = draw.integers(0, 256, (n, size, size), dtype=np.uint8)
        made[f"{split}_labels"] = draw.integers(0, 2, (n, 14), dtype=np.uint8)
    return made


def name_of(size: int) -> str:
    return "chestmnist.npz" if size == 28 else f"chestmnist_{size}.npz"


def archive(root: Path, size: int = 28, made: dict[str, Any] | None = None) -> Path:
    np.savez_compressed(root / name_of(size), **(arrays(size) if made is None else made))
    return root


def failure(root: Path | None, size: int = 28, kind: type[UserError] = BadTable) -> str:
    with pytest.raises(UserError) as caught:
        ChestMNIST(size=size).read(root)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def medmnist() -> Any:
    return pytest.importorskip("medmnist", reason="needs medmnist (the extra chestmnist)")


@pytest.fixture
def info(medmnist: Any) -> dict[str, Any]:
    """What the package says of ChestMNIST."""
    found: dict[str, Any] = medmnist.INFO["chestmnist"]
    return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "chestmnist"


@pytest.fixture
def unreachable(medmnist: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nothing answers at: every download fails at once."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if Path(self.directory, "interrupt").exists():
            _thread.interrupt_main()
        super().do_GET()


@pytest.fixture
def publisher(tmp_path: Path, info: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder behind a web server, from which medmnist downloads size 64."""
    folder = tmp_path / "published"
    folder.mkdir()
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    monkeypatch.setitem(info, "url_64", f"http://127.0.0.1:{server.server_port}/{name_of(64)}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("size", SIZES)
def test_the_same_as_medmnist(tmp_path: Path, medmnist: Any, size: int) -> None:
    root = archive(tmp_path, size)
    data = ChestMNIST(size=size).read(root)
    assert len(data) == sum(COUNTS.values())
    for split, ours in (("train", "train"), ("val", "valid"), ("test", "test")):
        theirs = medmnist.ChestMNIST(split=split, root=str(root), size=size, download=False)
        rows = data.rows(ours)
        np.testing.assert_array_equal(data.targets[rows], theirs.labels)
        pictures = data.images.load(rows)
        assert [picture.mode for picture in pictures] == ["L"] * COUNTS[split]
        for picture, (image, _) in zip(pictures, (theirs[i] for i in range(COUNTS[split])), strict=True):
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(image))


def test_labels_splits_and_names(tmp_path: Path, info: dict[str, Any]) -> None:
    data = ChestMNIST(size=28).read(archive(tmp_path))
    assert data.name == "chestmnist"
    assert [ChestMNIST.mapping[info["label"][str(k)]] for k in range(14)] == list(data.labels)
    assert data.labels == findings.NIH
    assert data.targets.dtype == np.float32
    assert data.image_id[[0, 30, 46]].tolist() == ["train-000000", "val-000000", "test-000011"]
    assert data.patient_id.tolist() == data.image_id.tolist()
    assert [len(data.rows(split)) for split in ("train", "valid", "test")] == [30, 5, 12]
    assert set(data.columns["view"].tolist()) == {"frontal"}
    assert data.images.describe(46) == "chestmnist test image 11"
    assert "Wang" in data.source
    assert not data.synthetic


def test_what_the_publisher_says(info: dict[str, Any]) -> None:
    assert {size: URL.format(name_of(size)) for size in SIZES} == {
        size: info["url" if size == 28 else f"url_{size}"] for size in SIZES
    }
    assert ChestMNIST.published is not None
    assert ChestMNIST.published.images == sum(info["n_samples"].values())
    assert info["license"] in ChestMNIST.licence
    assert ChestMNIST.part_of == ("nih",)


def test_pictures_in_any_order_and_a_part_of_the_rows(tmp_path: Path) -> None:
    made = arrays(28)
    data = ChestMNIST(size=28).read(archive(tmp_path, made=made))
    whole = np.concatenate([made[f"{split}_images"] for split in COUNTS])
    rows = np.array([46, 0, 31, 29, 30, 0, 35])
    for picture, row in zip(data.images.load(rows), rows, strict=True):
        np.testing.assert_array_equal(np.asarray(picture), whole[row])
    some = data.take(np.array([40, 3]))
    np.testing.assert_array_equal(np.asarray(some.images.load(np.array([0]))[0]), whole[40])
    assert data.images.load(np.array([], dtype=np.int64)) == []


def test_arrays_stored_column_by_column(tmp_path: Path) -> None:
    made = {name: np.asfortranarray(values) for name, values in arrays(28).items()}
    data = ChestMNIST(size=28).read(archive(tmp_path, made=made))
    np.testing.assert_array_equal(np.asarray(data.images.load(np.array([7]))[0]), made["train_images"][7])
    np.testing.assert_array_equal(data.targets[:30], made["train_labels"])


def test_keys_tell_pictures_and_files_apart_and_paths_do_not_matter(tmp_path: Path, own_cache: Path) -> None:
    rows = np.arange(47)
    sources = {}
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        sources[folder] = ChestMNIST(size=28).read(archive(tmp_path / folder, made=arrays(seed=seed)))
    keys = {folder: data.images.keys(rows) for folder, data in sources.items()}
    assert {len(key) for key in keys["a"] if key} == {32}
    assert len(set(keys["a"])) == 47
    assert keys["a"] == keys["b"]
    assert sources["a"].fingerprint == sources["b"].fingerprint
    assert not set(keys["a"]) & set(keys["c"])
    assert sources["a"].images.keys(rows[[40, 3]]) == [keys["a"][40], keys["a"][3]]
    # Neither the table nor the keys cost the room of unpacked pictures.
    assert not own_cache.exists()


def test_pictures_are_unpacked_once_and_split_by_split(tmp_path: Path, own_cache: Path) -> None:
    data = ChestMNIST(size=28).read(archive(tmp_path))
    data.images.load(np.array([46]))
    (first,) = own_cache.glob("*.npy")
    assert np.load(first).shape == (12, 28, 28)
    written = first.stat().st_mtime_ns
    data.images.load(np.arange(47))
    assert len(list(own_cache.glob("*.npy"))) == 3
    assert first.stat().st_mtime_ns == written
    # A file that changed under the same name is unpacked anew.
    other = arrays(seed=5)
    again = ChestMNIST(size=28).read(archive(tmp_path, made=other))
    np.testing.assert_array_equal(np.asarray(again.images.load(np.array([46]))[0]), other["test_images"][11])


def test_a_file_that_went_away(tmp_path: Path) -> None:
    data = ChestMNIST(size=28).read(archive(tmp_path))
    assert data.images.exists(np.arange(3)).tolist() == [True] * 3
    (tmp_path / name_of(28)).unlink()
    assert data.images.exists(np.arange(3)).tolist() == [False] * 3
    assert data.images.keys(np.arange(2)) == [None, None]
    with pytest.raises(MissingFiles, match=r"chestmnist\.npz is no longer there"):
        data.images.load(np.arange(2))


def test_a_missing_file_says_what_to_put_where(tmp_path: Path) -> None:
    message = failure(tmp_path, 64, MissingFiles)
    for part in (str(tmp_path), "no chestmnist_64.npz", URL.format("chestmnist_64.npz"), "leave --root out"):
        assert part in message
    assert "size=28" not in message
    assert "choose size=28" in failure(archive(tmp_path), 64, MissingFiles)
    message = failure(tmp_path / "nowhere", 64, MissingFiles)
    assert "there is no such folder" in message
    assert "chestmnist_64.npz" in message


@pytest.mark.usefixtures("unreachable")
def test_an_unreachable_network_says_what_to_put_where(own_cache: Path) -> None:
    message = failure(None, 128, MissingFiles)
    for part in (str(own_cache), "chestmnist_128.npz", URL.format("chestmnist_128.npz"), "refused", "--root"):
        assert part in message
    assert [path.name for path in own_cache.iterdir() if path.name != ".lock"] == []


def test_a_download_is_kept(
    publisher: Path, own_cache: Path, info: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(publisher, 64)
    content = (publisher / name_of(64)).read_bytes()
    monkeypatch.setitem(info, "MD5_64", hashlib.md5(content).hexdigest())
    first = ChestMNIST(size=64).read(None)
    assert (own_cache / name_of(64)).read_bytes() == content
    assert sorted(path.name for path in own_cache.iterdir()) == [".lock", name_of(64)]
    (publisher / name_of(64)).unlink()
    assert ChestMNIST(size=64).read(None).fingerprint == first.fingerprint


def test_a_download_of_a_wrong_md5_is_refused(publisher: Path, own_cache: Path) -> None:
    archive(publisher, 64)
    message = failure(None, 64, MissingFiles)
    assert "could not be downloaded (File not found or corrupted.)" in message
    assert URL.format(name_of(64)) in message
    assert [path.name for path in own_cache.iterdir()] == [".lock"]


def test_an_interrupted_download_is_no_network_error(publisher: Path, own_cache: Path) -> None:
    (archive(publisher, 64) / "interrupt").touch()
    # A shell makes its background jobs deaf to interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            ChestMNIST(size=64).read(None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [path.name for path in own_cache.iterdir()] == [".lock"]


def test_only_a_download_needs_medmnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", None)
    message = failure(None, 64, UserError)
    for part in ("needs the package medmnist", install("chestmnist"), URL.format(name_of(64))):
        assert part in message
    assert len(ChestMNIST(size=28).read(archive(tmp_path))) == sum(COUNTS.values())


def without(key: str) -> dict[str, Any]:
    return {name: values for name, values in arrays(28).items() if name != key}


def changed(**values: Any) -> dict[str, Any]:
    return {**arrays(28), **values}


def odd_label() -> dict[str, Any]:
    made = arrays(28)
    made["val_labels"][3, 2] = 7
    return made


@pytest.mark.parametrize(
    ("made", "parts"),
    [
        (without("val_labels"), ("holds no array val_labels",)),
        (without("test_images"), ("holds no array test_images",)),
        (odd_label(), ("val_labels, row 3, column 2", "'7' is neither 0 nor 1")),
        (changed(train_labels=np.zeros((30, 13), np.uint8)), ("train_labels", "(30, 13), not (N, 14)")),
        (changed(train_labels=np.uint8(1)), ("train_labels", "shape (), not (N, 14)")),
        (changed(test_images=np.zeros((11, 28, 28), np.uint8)), ("test_images", "(11, 28, 28), not (12,")),
        (changed(test_images=np.zeros((12, 64, 64), np.uint8)), ("(12, 64, 64)", "the file of size=64?")),
        (changed(val_images=np.zeros((5, 28, 28), np.float32)), ("val_images", "float32, not uint8")),
        # Object arrays are pickles: never unpickled.
        (changed(train_labels=np.full((30, 14), None)), ("not a whole npz file", "fetch it again")),
    ],
)
def test_bad_files(tmp_path: Path, made: dict[str, Any], parts: tuple[str, ...]) -> None:
    message = failure(archive(tmp_path, made=made))
    for part in (name_of(28), *parts):
        assert part in message


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_a_cut_off_file(tmp_path: Path, keep: float) -> None:
    path = archive(tmp_path) / name_of(28)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert "is not a whole npz file" in failure(tmp_path)


def test_a_damaged_picture_leaves_nothing_half_unpacked(tmp_path: Path, own_cache: Path) -> None:
    path = archive(tmp_path) / name_of(28)
    with zipfile.ZipFile(path) as packed:
        at = packed.getinfo("test_images.npy").header_offset
    content = bytearray(path.read_bytes())
    content[at + 5000] ^= 0xFF
    path.write_bytes(content)
    data = ChestMNIST(size=28).read(tmp_path)
    with pytest.raises(BadTable, match=r"chestmnist\.npz: is not a whole npz file .*; fetch it again"):
        data.images.load(data.rows("test"))
    assert not [p for p in own_cache.iterdir() if p.name != ".lock"]
    assert len(data.images.load(data.rows("train"))) == 30


def test_a_cache_that_cannot_be_written(tmp_path: Path, own_cache: Path) -> None:
    own_cache.parent.mkdir()
    own_cache.touch()
    data = ChestMNIST(size=28).read(archive(tmp_path))
    for act in (lambda: data.images.load(np.arange(2)), lambda: ChestMNIST(size=28).read(None)):
        with pytest.raises((UserError, StorageError), match=str(own_cache)):
            act()


def test_a_size_that_is_not_published() -> None:
    with pytest.raises(BadSetting, match="size is 100; choose 28 or 64 or 128 or 224"):
        ChestMNIST(size=100)


def test_an_archive_that_becomes_too_large_is_refused(tmp_path: Path) -> None:
    made = changed(train_labels=np.zeros((8_000_000, 14), np.uint8))
    assert "unpacks to more than 100 MB" in failure(archive(tmp_path, made=made), kind=UserError)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(archive(tmp_path) / name_of(28), "a") as file, pytest.warns(match="Duplicate"):
        file.writestr("val_labels.npy", b"")
    assert "two members have one name" in failure(tmp_path)


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path) / name_of(28)
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    path.write_bytes(content[: start + 8] + b"\1" + content[start + 9 :])
    assert "encrypted" in failure(tmp_path)


def test_unpacked_pictures_are_the_group_s_whatever_the_umask(tmp_path: Path, own_cache: Path) -> None:
    own_cache.parent.mkdir()
    own_cache.parent.chmod(0o2770)
    before = os.umask(0o077)
    try:
        images = ChestMNIST(size=28).read(archive(tmp_path)).images
        assert isinstance(images.load(np.arange(2))[0], Image.Image)
    finally:
        os.umask(before)
    for path in (own_cache, *own_cache.iterdir()):
        assert path.stat().st_mode & 0o060 == 0o060
