"""Files that a few bytes make huge, deep or double are refused in one line, before they take memory or time."""

from __future__ import annotations

import gzip
import io
import resource
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from retune.backbones.files import read_json
from retune.backbones.lookup.file import opened
from retune.cli.main import main
from retune.data.tables import read_table
from retune.errors import UserError
from retune.files import MOST
from retune.prompts.bank import PromptBank
from retune.results.result import Result
from retune.suite.document import read_names
from retune.suite.spec import read_suite
from retune.suite.summary import Summary

DEEP = b"[" * 100_000


@pytest.fixture(autouse=True)
def cheap() -> Iterator[None]:
    """See that neither time nor much memory is taken."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def refusal(read: Callable[..., object], *given: object) -> str:
    with pytest.raises(UserError) as caught:
        read(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def zeros(size: int, wbits: int) -> bytes:
    """So many equal bytes, packed."""
    packer = zlib.compressobj(1, wbits=wbits)
    piece = b"0" * 10**6
    return b"".join(packer.compress(piece) for _ in range(size // 10**6)) + packer.flush()


def test_a_small_gzip_file_that_becomes_a_large_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n") + zeros(3 * 10**8, 31))
    line = refusal(read_table, path, ["a"])
    assert line == (
        f"{path}: unpacks to more than 100 MB, 50 times its size; if that is right, unpack it yourself "
        "(gunzip t.csv.gz)"
    )


def test_a_gzip_table_of_an_honest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 100_000))
    assert len(read_table(path, ["a"])) == 100_000


def test_a_table_of_very_many_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(",".join(map(str, range(200_000))).encode() + b"\n")
    assert refusal(read_table, path, ["a"]) == f"{path}, row 1: 200,000 columns, more than 10,000"


def member(name: str, data: bytes) -> tuple[str, bytes]:
    return f"{name}.npy", data


def npy(array: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


IDS = member("image_ids", npy(np.array(["a", "b"])))
FEATURES = member("image_features", npy(np.ones((2, 3), np.float32)))


def archive(path: Path, *members: tuple[str, bytes], packed: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packed) as made:
        for name, data in members:
            made.writestr(name, data)
    return path


def test_a_small_npz_that_becomes_a_large_one(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made,
        made.open("image_features.npy", "w") as file,
    ):
        for _ in range(300):
            file.write(bytes(10**6))
    line = refusal(opened, path)
    assert line.startswith(
        f"{path}: unpacks to more than 100 MB, 100 times its size; if that is right, save it"
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path) -> None:
    other = member("image_features", npy(np.zeros((2, 3), np.float32)))
    assert "two members have one name" in refusal(opened, archive(tmp_path / "f.npz", IDS, FEATURES, other))


def test_two_tensors_of_one_name(tmp_path: Path) -> None:
    one = '"image_ids":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
    head = f"{{{one},{one}}}".encode()
    path = tmp_path / "f.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"a")
    assert "damaged" in refusal(opened, path)


def test_an_npz_with_a_broken_header(tmp_path: Path) -> None:
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3"
    broken = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    assert "damaged" in refusal(opened, archive(tmp_path / "f.npz", IDS, member("image_features", broken)))


def test_an_encrypted_npz(tmp_path: Path) -> None:
    path = archive(tmp_path / "f.npz", IDS, FEATURES)
    data = bytearray(path.read_bytes())
    for sign, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(sign)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(sign, at + 1)
    path.write_bytes(data)
    assert "encrypted" in refusal(opened, path)


def test_about_that_is_deep(tmp_path: Path) -> None:
    about = member("about", npy(np.array(DEEP.decode())))
    assert refusal(opened, archive(tmp_path / "f.npz", IDS, FEATURES, about)).endswith("'about' is not JSON")


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (read_json, "config.json"),
        (Result.read, "result.json"),
        (Summary.read, "table.json"),
        (lambda path: read_names(path.parent), "suite.json"),
        (read_suite, "suite.toml"),
        (PromptBank.read, "bank.jsonl"),
    ],
)
def test_text_that_is_deep_or_large(tmp_path: Path, read: Callable[[Path], object], name: str) -> None:
    path = tmp_path / name
    path.write_bytes((b"a = " if name == "suite.toml" else b"") + DEEP)
    assert str(path) in refusal(read, path)
    with path.open("wb") as file:
        file.truncate(MOST + 1)
    assert "is larger than" in refusal(read, path)


def test_a_run_s_mark_that_is_deep(tmp_path: Path) -> None:
    from retune.runner.run import claim

    (tmp_path / "run.json").write_bytes(DEEP)
    line = refusal(claim, tmp_path, None)
    assert line.startswith(f"{tmp_path}/run.json: is not as it was written")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("a = " + "[" * 40 + "]" * 40, "nested more than 32 deep"),
        ("[" + ".".join("a" * 900) + "]", "nested more than 32 deep"),
        (".".join("a" * 300_000) + " = 1", "more than 1,000 dots"),
        ("seeds = 1000000000", "1,000,000,000 is more than 10,000"),
        (f"seeds = {list(range(10_001))}", "10000 items"),
    ],
)
def test_a_suite_that_asks_for_too_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    assert main(["suite", str(path), "--dry-run"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert reason in line


def test_seeds_by_the_thousand_million(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--seeds", "1000000000"]) == 2
    assert "--seeds: 1,000,000,000 is more than 10,000" in capsys.readouterr().err
