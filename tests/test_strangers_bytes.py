"""Whatever a file holds, reading it gives what it says or one clean line, soon, and writes nothing.

Each kind of file is taken from whole ones that are cut, doubled and written over. ``RETUNE_EXAMPLES=20000 pytest
tests/test_strangers_bytes.py`` tries as many of each kind, new ones every time; ``-n 0 -x`` shows the first that fails.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leaderboard.made_entries import document
from made_runs import made_run, made_scores, made_targets
from PIL import Image
from safetensors.numpy import save

from retune.backbones.files import read_json
from retune.backbones.lookup.file import opened, require_sound
from retune.data.images import decode
from retune.data.tables import numbers, read_table, whole_numbers
from retune.errors import RetuneError
from retune.leaderboard.intake import entry_of
from retune.prompts.bank import PromptBank
from retune.prompts.lint import lint
from retune.results.collect import finished
from retune.suite.document import read_names
from retune.suite.spec import read_suite
from retune.suite.summary import Summary, summarise
from retune.suite.tables import write_tables

EXAMPLES = os.environ.get("RETUNE_EXAMPLES")

PIECES = (
    b"", b"\0", b"\n", b"\r", b"\r\n", b",", b'"', b"'", b"\\", b".", b"-", b"=", b"\x1b[2J", b"\x07", b"\xff", b"\xc3",
    "\u202e".encode(), "\u2028".encode(), "\x9b".encode(), b"\\u001b", b"\\ud800", b"\\u202e", b"null", b"true", b"-1",
    b"0", b"1e999", b"NaN", b"9" * 5000, b"1" * 25, b"[]", b"{}", b"[" * 5000, b'{"a":' * 5000, b"{" * 300,
    b"a." * 900, b"]", b"}", b"x" * 20_000, b"\xff\xff\xff\xff", b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xef\xbb\xbf",
)  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, whole: tuple[bytes, ...]) -> bytes:
    """A file that is nearly whole."""
    content = draw(st.sampled_from(whole))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        # Mostly short, and now and then all that follows.
        end = start + draw(st.integers(0, 12) | st.just(len(content)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=8) | st.just(content[start:end] * 2))
        content = content[:start] + piece + content[end:]
    return content


def files(*whole: bytes) -> st.SearchStrategy[bytes]:
    return spoilt(whole) | st.binary(max_size=64)


def tried(strategy: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    many = settings(
        max_examples=int(EXAMPLES or 30),
        derandomize=EXAMPLES is None,
        database=None,
        deadline=timedelta(seconds=10),
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: many(given(strategy)(test))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strangers")


def holds(read: Callable[[Path], Any], path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        read(path)
    except RetuneError as error:
        line = str(error)
        assert line
        assert not {c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}, line
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == content
    path.unlink()


TABLE = b'image_id,age,note\n1.png,44,"a, b"\n2.png,,\n3.png,7.0,"two\nlines"\n'


def table(path: Path) -> None:
    frame = read_table(path, ["image_id", "age"])
    numbers(frame, "age", path)
    whole_numbers(frame, "age", path)


@tried(files(TABLE, TABLE.replace(b'"', b"")))
def test_tables(folder: Path, content: bytes) -> None:
    holds(table, folder / "table.csv", content)


@tried(files(gzip.compress(TABLE, mtime=0)) | files(TABLE).map(lambda text: gzip.compress(text, mtime=0)))
def test_packed_tables(folder: Path, content: bytes) -> None:
    holds(table, folder / "table.csv.gz", content)


def rows() -> bytes:
    source = {"kind": "language-model", "model": "m", "instruction": "i", "date": "2026-01-01", "seed": 3}
    texts = [("positive", "Mild edema."), ("negative", "No edema is seen."), ("negative", "Clear lungs.")]
    made = [{"finding": "Edema", "polarity": p, "text": t, "source": source} for p, t in texts]
    return "\n".join(map(json.dumps, made)).encode()


def bank(path: Path) -> None:
    lint(path)
    PromptBank.read(path)


@tried(files(rows()))
def test_banks(folder: Path, content: bytes) -> None:
    holds(bank, folder / "bank.jsonl", content)


def npz(save_as: Callable[..., None]) -> bytes:
    buffer = io.BytesIO()
    ids, features = np.array(["a", "b", "c"]), np.ones((3, 4), np.float32)
    texts = {"texts": np.array(["x"]), "text_features": features[:1], "about": np.array("{}")}
    save_as(buffer, image_ids=ids, image_features=features, **texts)
    return buffer.getvalue()


def tensors() -> bytes:
    ids, features = np.frombuffer(b"a\nb\nc", np.uint8), np.ones((3, 4), np.float32)
    return save({"image_ids": ids, "image_features": features}, {"about": '{"backbone": "b"}'})


def features(path: Path) -> None:
    opened(path)
    require_sound(path)


@st.composite
def headed(draw: st.DrawFn) -> bytes:
    """Files of features whose headers, not whose checksums, are spoilt."""
    whole = tensors()
    size = struct.unpack("<Q", whole[:8])[0]
    head = draw(spoilt((whole[8 : 8 + size],)))
    if draw(st.booleans()):
        return struct.pack("<Q", len(head)) + head + whole[8 + size :]
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz(np.savez))) as good, zipfile.ZipFile(buffer, "w") as made:
        for name in good.namelist():
            made.writestr(name, draw(spoilt((good.read(name),))))
    return buffer.getvalue()


@tried(files(npz(np.savez), npz(np.savez_compressed), tensors()) | headed())
def test_files_of_features(folder: Path, content: bytes) -> None:
    holds(features, folder / "features.bin", content)


@tried(files(json.dumps(document()).encode()))
def test_entries(folder: Path, content: bytes) -> None:
    holds(lambda path: entry_of(path.read_bytes(), "entry.json"), folder / "entry.json", content)


def made() -> Iterator[bytes]:
    """A result, and a suite's table."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        targets, patients = made_targets(30)
        run = made_run(Path(name), "m", 0, made_scores(targets, 1.0, 0), targets, patients)
        yield (run.folder / "result.json").read_bytes()
        write_tables(summarise([run], replicates=2), Path(name))
        yield (Path(name) / "table.json").read_bytes()


RESULT, SUITE_TABLE = made()


@tried(files(RESULT))
def test_results(folder: Path, content: bytes) -> None:
    holds(lambda path: finished([path], lambda *step: None), folder / "result.json", content)


@tried(files(SUITE_TABLE))
def test_tables_of_suites(folder: Path, content: bytes) -> None:
    holds(Summary.read, folder / "table.json", content)


PLAN = {
    "schema": "retune.suite-plan/1",
    "runs": [{"id": "a", "strategy": "s", "scenario": "c", "data": "d", "backbone": "b", "order": "", "seed": 0,
              "folder": "runs/a"}],
}  # fmt: skip


@tried(files(json.dumps(PLAN).encode()))
def test_documents_of_suites(folder: Path, content: bytes) -> None:
    holds(lambda path: read_names(path.parent), folder / "suite.json", content)


@tried(files(b'{"model_type": "clip", "layers": [1, 2.5e3, null], "name": "a\\u00e9"}'))
def test_settings_of_models(folder: Path, content: bytes) -> None:
    holds(read_json, folder / "config.json", content)


TOML = b"""strategies = ["re-tune", { strategy = "ridge", name = "r", set = { a.b = 1 } }]
scenarios = "class-incremental"
data = [{ data = "csv", root = "../x" }]
seeds = 3
[set]
epochs = 2
[search.ridge]
strength = [1, 2.5, "x"]
"""


@tried(files(TOML))
def test_suites(folder: Path, content: bytes) -> None:
    holds(read_suite, folder / "suite.toml", content)


def picture(kind: str, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def dicom() -> bytes:
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.Modality, data.PhotometricInterpretation = "DX", "MONOCHROME2"
    data.Rows = data.Columns = 8
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.WindowCenter, data.WindowWidth = "100", "50"
    data.PixelData = np.arange(64, dtype="<u2").tobytes()
    data["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@tried(files(picture("PNG"), picture("PNG", "P"), picture("JPEG"), picture("JPEG", "CMYK"), dicom()))
def test_pictures(folder: Path, content: bytes) -> None:
    holds(lambda path: decode(path.read_bytes(), name=path.name), folder / "picture", content)
