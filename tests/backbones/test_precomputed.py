"""Features from a file: the right rows, bounded memory, and one line for whatever is wrong."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from retune.backbones.load import load_backbone
from retune.backbones.lookup.file import to_pieces
from retune.backbones.lookup.model import Precomputed
from retune.errors import MissingFiles, UserError

IDS = ["b.png", "a.png", "Thorax-Ärzte.png", "c.png", "d.png"]
TEXTS = ["No edema.", "Ödem, beidseits."]
ABOUT = {
    "backbone": "some-clip",
    "licence": "CC-BY-4.0",
    "pretraining_data": ["mimic-cxr"],
    "may_include": ["nih"],
    "fingerprint": "0" * 64,
}


def features(n: int = 5, d: int = 3, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def joined(texts: list[str]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer("\n".join(texts).encode(), np.uint8)


def arrays(**changes: Any) -> dict[str, Any]:
    """The tensors of a good safetensors file; None takes one out."""
    whole = {
        "image_ids": joined(IDS),
        "image_features": features(),
        "texts": joined(TEXTS),
        "text_features": features(2, 3, 1),
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


def safetensors(path: Path, about: Any = ABOUT, **changes: Any) -> Path:
    save_file(arrays(**changes), path, {"about": json.dumps(about)})
    return path


def npz(path: Path, save: Callable[..., None] = np.savez, about: Any = ABOUT, **changes: Any) -> Path:
    """The arrays of a good npz file."""
    whole = {
        "image_ids": np.array(IDS),
        "image_features": features(),
        "texts": np.array(TEXTS),
        "text_features": features(2, 3, 1),
        "about": np.array(json.dumps(about)),
    }
    save(path, **{name: value for name, value in {**whole, **changes}.items() if value is not None})
    return path


def load(path: Path) -> Precomputed:
    backbone = load_backbone(f"features:{path}")
    assert isinstance(backbone, Precomputed)
    return backbone


MAKERS: dict[str, Callable[[Path], Path]] = {
    "safetensors": lambda folder: safetensors(folder / "x.safetensors"),
    "npz": lambda folder: npz(folder / "x.npz"),
    "compressed npz": lambda folder: npz(folder / "x.npz", np.savez_compressed),
    "big-endian, column by column": lambda folder: npz(
        folder / "x.npz", image_features=np.asfortranarray(features().astype(">f4"))
    ),
}


@pytest.fixture(params=MAKERS)
def backbone(request: pytest.FixtureRequest, tmp_path: Path) -> Precomputed:
    return load(MAKERS[request.param](tmp_path))


def test_rows_and_features_are_those_of_the_file(backbone: Precomputed) -> None:
    wanted = np.array(["c.png", "missing.png", "Thorax-Ärzte.png", "b.png", "c.png"])
    rows = backbone.rows_of(wanted)
    assert rows.dtype == np.int64
    assert rows.tolist() == [3, -1, 2, 0, 3]
    assert backbone.rows_of(wanted.astype(object)).tolist() == rows.tolist()
    found = backbone.gather(rows[rows >= 0])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, features()[[3, 2, 0, 3]])
    np.testing.assert_array_equal(backbone.features_of(np.array(["a.png"])), features()[[1]])
    assert backbone.gather(np.empty(0, dtype=np.int64)).shape == (0, 3)
    with pytest.raises(ValueError, match="-1"):
        backbone.gather(rows)
    with pytest.raises(MissingFiles, match=r"no features of 1 of 5 images, the first 'missing\.png'"):
        backbone.features_of(wanted)


def test_texts_are_looked_up(backbone: Precomputed) -> None:
    assert backbone.capabilities == {"features", "texts", "joint"}
    found = backbone.encode_texts(TEXTS[::-1])
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), features(2, 3, 1)[::-1])
    assert backbone.encode_texts([]).shape == (0, 3)
    with pytest.raises(UserError, match=r"2 of 3 texts, the first 'Edema\.'.*--prompts BANK"):
        backbone.encode_texts(["Edema.", TEXTS[0], "Fracture."])


def test_there_is_no_encoder(backbone: Precomputed) -> None:
    assert backbone.precomputed
    assert backbone.parameters == 0
    for use in (
        lambda: backbone.preprocess(Image.new("L", (8, 8))),
        lambda: backbone.encode_images(torch.zeros(1, 8, 8, dtype=torch.uint8)),
    ):
        with pytest.raises(UserError, match="holds features, no encoder"):
            use()


def test_the_card_says_what_the_file_says(backbone: Precomputed, tmp_path: Path) -> None:
    card = backbone.card
    assert "some-clip" in card.source
    assert (card.licence, card.pretraining_data, card.may_include) == ("CC-BY-4.0", ("mimic-cxr",), ("nih",))
    assert (card.dim, card.image_size) == (3, 0)
    silent = load(safetensors(tmp_path / "silent.safetensors", {}, texts=None, text_features=None))
    assert (silent.card.licence, silent.card.pretraining_data) == ("unknown", ("unknown",))
    assert silent.capabilities == {"features"}


def test_the_fingerprint_is_the_file_s_digest(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "x.safetensors")
    assert load(path).fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.from_numpy(features()).to(dtype)
    tensors = {"image_ids": torch.from_numpy(joined(IDS).copy()), "image_features": values}
    save_torch_file(tensors, tmp_path / "half.safetensors")
    found = load(tmp_path / "half.safetensors").gather(np.array([4, 0, 2]))
    np.testing.assert_array_equal(found, values.float().numpy()[[4, 0, 2]])
    if dtype == torch.float16:
        half = npz(tmp_path / "half.npz", image_features=values.numpy())
        np.testing.assert_array_equal(load(half).gather(np.arange(5)), values.float().numpy())


def test_what_is_written_is_what_safetensors_reads(tmp_path: Path) -> None:
    from safetensors import safe_open

    blocks = [features()[:2], features()[2:]]
    pieces = to_pieces(IDS, blocks, 3, texts=TEXTS, text_features=features(2, 3, 1), about=ABOUT)
    (tmp_path / "x.safetensors").write_bytes(b"".join(pieces))
    with safe_open(tmp_path / "x.safetensors", framework="np") as file:
        assert json.loads(file.metadata()["about"]) == ABOUT
        for name, values in arrays().items():
            np.testing.assert_array_equal(file.get_tensor(name), values)
    with pytest.raises(UserError, match="line break"):
        list(to_pieces(["a\nb"], [features(1)], 3, about={}))


def _edit_header(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def _taller(header: dict[str, Any]) -> None:
    header["image_features"]["shape"] = [500, 3]


def _beyond(header: dict[str, Any]) -> None:
    header["image_features"]["data_offsets"][1] += 1 << 40
    header["image_features"]["shape"] = [5, 3 + (1 << 40) // 20]


def _lying_npz(path: Path) -> None:
    """An array whose own header promises more rows than there are."""
    npz(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["image_features.npy"] = members["image_features.npy"].replace(b"(5, 3)", b"(9, 3)")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _nan(row: int) -> Any:
    values = features()
    values[row, 1] = np.nan
    return values


def _infinite() -> Any:
    values = features(2, 3, 1)
    values[1] = np.inf
    return values


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no file": (lambda p: None, "there is no such file"),
    "a folder": (lambda p: p.mkdir(), "cannot be read"),
    "empty": (lambda p: p.write_bytes(b""), "is damaged, or neither"),
    "a pickle": (lambda p: p.write_bytes(pickle.dumps({"image_features": 1})), "is damaged, or neither"),
    "cut": (lambda p: p.write_bytes(safetensors(p).read_bytes()[:-1]), "is damaged, or neither"),
    "cut npz": (lambda p: (npz(p), p.write_bytes(p.read_bytes()[:-30])), "is damaged, or neither"),
    "no ids": (lambda p: safetensors(p, image_ids=None), "has no image_ids"),
    "no features": (lambda p: safetensors(p, image_features=None), "has no image_features"),
    "texts alone": (lambda p: safetensors(p, text_features=None), "only come together"),
    "one dimension": (lambda p: safetensors(p, image_features=features().ravel()), "has 1 dimensions, not 2"),
    "float64": (lambda p: safetensors(p, image_features=features().astype("f8")), "is F64, not float32"),
    "float64 npz": (lambda p: npz(p, image_features=features().astype("f8")), "is float64, not float32"),
    "ids of numbers": (lambda p: npz(p, image_ids=np.arange(5)), "image_ids is int64, not text"),
    "pickled ids": (lambda p: npz(p, image_ids=np.array(IDS, dtype=object)), "pickled objects"),
    "pickled about": (lambda p: np.savez(p, about=np.array({"a": 1}, dtype=object)), "'about' is not a text"),
    "no image": (
        lambda p: safetensors(p, image_features=features(0), image_ids=joined([])),
        "holds no image",
    ),
    "fewer ids": (lambda p: safetensors(p, image_ids=joined(IDS[:4])), "4 entries, image_features 5 rows"),
    "fewer texts": (lambda p: npz(p, texts=np.array(TEXTS[:1])), "1 entries, text_features 2 rows"),
    "an id twice": (
        lambda p: safetensors(p, image_ids=joined([*IDS[:4], "a.png"])),
        r"image 'a\.png' stands in",
    ),
    "a text twice": (lambda p: safetensors(p, texts=joined(["x", "x"])), "text 'x' stands in it twice"),
    "not UTF-8": (lambda p: safetensors(p, image_ids=np.full(5, 255, "u1")), "image_ids is not UTF-8"),
    "other width": (
        lambda p: safetensors(p, text_features=features(2, 4)),
        "images have 3 dimensions, texts 4",
    ),
    "NaN": (lambda p: safetensors(p, image_features=_nan(2)), r"image 'Thorax-Ärzte\.png' are not finite"),
    "infinite text": (
        lambda p: npz(p, text_features=_infinite()),
        r"text 'Ödem, beidseits\.' are not finite",
    ),
    "lying shape": (lambda p: _edit_header(safetensors(p), _taller), "is damaged, or neither"),
    "lying offsets": (lambda p: _edit_header(safetensors(p), _beyond), "is damaged, or neither"),
    "lying npz": (_lying_npz, "is damaged, or neither .*expected 108 bytes got 60"),
    "about no JSON": (lambda p: save_file(arrays(), p, {"about": "{"}), "'about' is not JSON"),
    "about a list": (lambda p: safetensors(p, about=[1]), "'about' is not a JSON object"),
    "odd licence": (lambda p: safetensors(p, about={"licence": 3}), "licence = 3, which is not text"),
    "odd data": (lambda p: safetensors(p, about={"pretraining_data": "nih"}), "which is not a list"),
}


def use(path: Path) -> None:
    """Everything that a run asks of a file."""
    backbone = load(path)
    assert backbone.card.dim
    backbone.gather(backbone.rows_of(np.array(IDS)))
    backbone.encode_texts(TEXTS)


@pytest.mark.parametrize("case", WRONG)
def test_whatever_is_wrong_is_told_in_one_line(tmp_path: Path, case: str) -> None:
    make, message = WRONG[case]
    path = tmp_path / "x.npz"
    make(path)
    with pytest.raises(UserError, match=message) as caught:
        use(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.parametrize("place", [0.3, 0.6, 0.999])
def test_a_flipped_byte_is_noticed_where_the_file_has_a_checksum(tmp_path: Path, place: float) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"".join(to_pieces(IDS, [features()], 3, about=ABOUT)))
    assert load(path).fingerprint
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start + int(place * (len(content) - start))] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="checksum does not hold"):
        _ = load(path).fingerprint


def test_a_name_without_a_file() -> None:
    with pytest.raises(UserError, match="names no file; write features:FILE"):
        load_backbone("features:")


def test_a_bad_row_hurts_only_who_asks_for_it(tmp_path: Path) -> None:
    backbone = load(safetensors(tmp_path / "x.safetensors", image_features=_nan(2)))
    np.testing.assert_array_equal(backbone.gather(np.array([0, 3])), features()[[0, 3]])


def test_making_one_imports_no_torch_and_reads_the_header_only(tmp_path: Path) -> None:
    good, sparse = safetensors(tmp_path / "x.safetensors"), tmp_path / "sparse.safetensors"
    # 40 GB that are not there: reading them would take minutes.
    n = 10**8
    header = {
        "image_features": {"dtype": "F32", "shape": [n, 100], "data_offsets": [0, 400 * n]},
        "image_ids": {"dtype": "U8", "shape": [n], "data_offsets": [400 * n, 401 * n]},
    }
    text = json.dumps(header).encode()
    with sparse.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 401 * n)
    code = (
        "import sys\n"
        "from retune.backbones.load import load_backbone\n"
        f"print(load_backbone('features:{good}').fingerprint)\n"
        f"print(load_backbone('features:{sparse}').card.dim)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "100"


def test_a_million_images_take_little_memory(tmp_path: Path) -> None:
    n, d = 1_000_000, 32
    ids = [f"{k:016x}.png" for k in range(n)]
    path = tmp_path / "x.safetensors"
    half = features(1000, d).astype(np.float16)

    def blocks() -> Iterator[Any]:
        for _ in range(n // 1000):
            yield half

    with path.open("wb") as file:
        for piece in to_pieces(ids, blocks(), d, about={}):
            file.write(piece)
    backbone = load(path)
    wanted = np.array(ids[::-1])
    rows = backbone.rows_of(wanted)
    np.testing.assert_array_equal(rows, np.arange(n)[::-1])
    rows = np.random.default_rng(0).permutation(rows)
    tracemalloc.start()
    found = backbone.gather(rows[:20_000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found[:50], half[rows[:50] % 1000])
    assert peak < 4 * found.nbytes
