"""Pictures that were replaced so that nothing of their files tells."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retune.cache import digests_path
from retune.cli.main import main

PATIENTS = 24
Ask = Callable[..., tuple[int, Any, str]]


def draw(file: Path, shade: int) -> None:
    """A picture of one size in bytes whatever it shows."""
    pixels = np.random.default_rng(shade).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(file, compress_level=0)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of a few pictures, and a cache of its own."""
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    rows = ["image,patient,split,Edema"]
    for k in range(PATIENTS):
        draw(folder / f"{k}.png", k)
        rows.append(f"{k}.png,{k},{'train' if k % 3 else 'test'},{k % 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """The command line: its exit code, its document, and what it wrote on standard error."""

    def run(*words: str) -> tuple[int, Any, str]:
        code = main([*words, "--json"])
        told = capsys.readouterr()
        return code, json.loads(told.out) if told.out else None, told.err

    return run


def test_replaced_pictures_are_seen_or_read_anew_or_named(root: Path, tmp_path: Path, ask: Ask) -> None:
    words = ["run", "--data", "csv", "--root", str(root), "--strategy", "zero-shot", "--steps", "1"]
    words += ["--replicates", "5", "--out"]

    def ran(out: str, *more: str) -> tuple[str, list[list[float]]]:
        code, result, told = ask(*words, str(tmp_path / out), *more)
        assert code == 0, told
        return result["run"]["id"], result["auc_matrix"]

    # Present and absent by turns: each is given the picture of one that is the other.
    tested = [root / f"{k}.png" for k in range(0, PATIENTS, 3)]
    pictures = [file.read_bytes() for file in tested]
    first = ran("first")
    for file, picture in zip(tested, pictures[1:] + pictures[:1], strict=True):
        before = file.stat()
        file.write_bytes(picture)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    # What was written a moment ago is not remembered.
    time.sleep(0.1)
    second = ran("second")
    assert second[0] != first[0]
    assert second[1] == [[pytest.approx(1 - auc)] for (auc,) in first[1]] != first[1]
    assert ask("cache", "verify")[1]["changed"] == []
    # As on a file system on which the time of the entry does not tell either.
    with sqlite3.connect(digests_path()) as db:
        for file, picture in zip(tested, pictures, strict=True):
            file.write_bytes(picture)
            now = file.stat().st_mtime_ns, file.stat().st_ctime_ns, os.path.realpath(file)
            db.execute("UPDATE file SET mtime = ?, ctime = ? WHERE path = ?", now)
    time.sleep(0.1)
    assert ran("trusting") == second
    assert ran("third", "--recheck") == first
    with sqlite3.connect(digests_path()) as db:
        db.execute("UPDATE file SET sha256 = zeroblob(32) WHERE path LIKE '%.png'")
    code, found, told = ask("cache", "verify")
    assert (code, len(found["changed"])) == (1, PATIENTS)
    assert "comparing files ..." in told
    assert ask("cache", "verify")[:2] == (0, {**found, "changed": []})
    assert ran("third") == first
