"""What is read back is what was written, of this run, or is refused in one line."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_runs import change_json, made_run, made_scores, made_targets
from safetensors.numpy import save

from retune.backbones.load import load_backbone
from retune.backbones.lookup.file import to_pieces
from retune.backbones.lookup.model import Precomputed
from retune.cache import cache_dir, changed_files, digests_path, file_digests
from retune.cli.main import main
from retune.errors import StorageError, UserError
from retune.files import write_whole
from retune.leaderboard.records import Record
from retune.plugins import registry
from retune.results.result import Result
from retune.results.scores import read_scores
from retune.runner.checkpoint import Checkpoint
from retune.runner.plan import plan
from retune.runner.resolve import origin_of
from retune.runner.spec import Spec
from retune.sealed import Untrusted, open_json, seal_json, seal_tensors
from retune.suite.document import read_names
from retune.suite.summary import Summary, summarise
from retune.suite.tables import write_tables

RUN = "class-incremental-made-one-0"
FLIPS = int(os.environ.get("RETUNE_TEST_FLIPS", "90"))
ENTRY = "ab" * 32
WORDS = [
    "run",
    "--strategy",
    "zero-shot",
    "--set",
    "data.images=120",
    "--set",
    "data.size=64",
    "--replicates",
    "5",
]


def checkpoint(folder: Path) -> Any:
    found = Checkpoint.read(folder, RUN)
    assert found is not None
    return [found.scores.tolist(), found.state["w"].tolist(), found.state["n"], found.progress]


def features(folder: Path) -> Any:
    backbone = load_backbone(f"features:{folder / 'features.safetensors'}")
    assert isinstance(backbone, Precomputed)
    # Asked for by every run: only then are all bytes looked at.
    assert backbone.fingerprint
    return [backbone.features_of(np.array(["a", "b"])).tolist(), backbone.card]


READERS: dict[str, Callable[[Path], Any]] = {
    "checkpoint.safetensors": checkpoint,
    "result.json": lambda folder: Result.read(folder).to_json(),
    "scores.safetensors": lambda folder: {
        name: array.tobytes() for name, array in read_scores(Result.read(folder), folder).items()
    },
    "run.json": lambda folder: open_json(folder / "run.json"),
    "table.json": lambda folder: Summary.read(folder / "table.json").model_dump_json(),
    "suite.json": read_names,
    "record.json": lambda folder: Record.read(folder / "record.json", ENTRY),
    "features.safetensors": features,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sealed")
    targets, patients = made_targets()
    runs = [
        made_run(out, n, 0, made_scores(targets, 1.0, k), targets, patients)
        for k, n in enumerate(("one", "two"))
    ]
    home = runs[0].folder
    (home / "run.json").write_bytes(seal_json({"id": RUN, "data": {"name": "made"}}))
    state = {"w": torch.arange(6.0).reshape(2, 3), "n": 3}
    Checkpoint(RUN, torch.zeros(2, 4, 3), state, {"fit_seconds": 1.5}).write(home)
    write_tables(summarise(runs, replicates=5), home)
    named = dict.fromkeys(("strategy", "scenario", "data", "backbone", "order"), "one")
    rows = [{"id": RUN, "folder": "runs/one", "seed": 0, **named}]
    (home / "suite.json").write_bytes(seal_json({"schema": "retune.suite-plan/1", "runs": rows}))
    known = {"difference": 1e-5, "rerun_difference": None, "remarks": ["a"], "replicates": [0.5, 0.25]}
    Record(entry=ENTRY, tier="recomputed", **known).write(home / "record.json")
    pieces = to_pieces(["a", "b"], [np.eye(2, dtype=np.float32)], 2, about={"licence": "none"})
    write_whole(home / "features.safetensors", pieces)
    return home


def test_a_flipped_bit_is_refused_or_changes_nothing(folder: Path) -> None:
    before = {name: read(folder) for name, read in READERS.items()}
    draw = np.random.default_rng(0)
    told = []
    for k in range(FLIPS):
        name = list(READERS)[k % len(READERS)]
        file = folder / name
        whole = file.read_bytes()
        spoilt = bytearray(whole)
        # Headers are short beside values: every other flip falls into the beginning.
        spoilt[int(draw.integers(len(whole) if k % 2 else min(300, len(whole))))] ^= 1 << int(
            draw.integers(8)
        )
        file.write_bytes(spoilt)
        try:
            assert READERS[name](folder) == before[name], f"flip {k} of {name} gives other numbers"
        except UserError as error:
            told.append((str(error), str(file)))
        finally:
            file.write_bytes(whole)
    assert len(told) > FLIPS / 2
    assert all(file in line and "\n" not in line for line, file in told)


def test_scores_or_a_result_of_another_run_are_refused(folder: Path, tmp_path: Path) -> None:
    other = folder.with_name(folder.name.replace("-one-", "-two-"))
    for name, told in (
        ("scores.safetensors", "other scores than the result"),
        ("result.json", "of another run"),
    ):
        mixed = Path(shutil.copytree(folder, tmp_path / name))
        shutil.copy(other / name, mixed / name)
        with pytest.raises(Untrusted, match=told):
            READERS["scores.safetensors"](mixed)
    with pytest.raises(Untrusted, match="of another run"):
        Checkpoint.read(folder, "two-0")


def test_what_is_nested_deeply_or_of_another_kind_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = "[" * 10_000 + "]" * 10_000
    scores = folder / "scores.safetensors"
    header = f'{{"__metadata__": {deep}}}'.encode()
    about, _ = seal_tensors(save({"scores": np.zeros(1)}, {"retune": deep}))
    for name, read in READERS.items():
        other = Path(shutil.copytree(folder, tmp_path / name))
        bad = [header] if name.endswith("s") else [deep.encode(), b'{"a": ' + deep.encode() + b"}"]
        if name == "checkpoint.safetensors":
            bad += [about, scores.read_bytes()]
        for content in bad:
            head = len(content).to_bytes(8, "little") if content == header else b""
            (other / name).write_bytes(head + content)
            with pytest.raises(UserError) as told:
                read(other)
            assert str(other / name) in str(told.value)
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    space = cache_dir() / "features" / "a"
    space.mkdir(parents=True)
    (space / "about.json").write_text(deep)
    (space / "b.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert main(["cache", "list"]) == 0
    assert main(["cache", "verify"]) == 1
    assert not any(space.iterdir())


def test_a_file_without_a_digest_is_of_an_earlier_version(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"id": "one"}')
    with pytest.raises(
        Untrusted, match=r"earlier version.*remove that file and issue the run.s command again"
    ):
        open_json(tmp_path / "run.json")


def test_the_command_issued_again_shows_no_other_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert main(words) == 0
    file = tmp_path / "out" / "result.json"
    whole = file.read_text()
    file.write_text(whole.replace('"value": 0.', '"value": 7.', 1))
    assert main(words) == 2
    assert "is not as it was written" in capsys.readouterr().err.splitlines()[-1]
    # As if written so, by another run.
    change_json(file, lambda document: document["run"].update(id="0" * 12))
    assert main(words) == 2
    assert "another run" in capsys.readouterr().err.splitlines()[-1]
    file.unlink()
    assert main(words) == 0
    assert file.read_text().partition('"first"')[2].partition('"cost"')[0] in whole
    (tmp_path / "out" / "run.json").write_text("{")
    assert main(words) == 2
    (tmp_path / "out" / "run.json").unlink()
    assert main(words) == 0


def test_a_picture_replaced_with_its_time_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    before = file_digests([file])
    file.write_bytes(b"two")
    os.utime(file, ns=times)
    assert file_digests([file]) != before


def test_remembered_digests_are_compared_with_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    time.sleep(0.06)  # A file of this moment is not remembered: it may change without another time.
    (right,) = file_digests([file])
    assert changed_files() == []
    with sqlite3.connect(cache_dir() / "digests.sqlite") as db:
        db.execute("UPDATE file SET sha256 = ?", (b"wrong",))
    assert file_digests([file]) == [b"wrong"]
    assert changed_files() == [str(file.resolve())]
    assert file_digests([file]) == [right]
    whole = digests_path().read_bytes()
    for spoilt in (
        b"no data base at all" * 99,
        whole.replace(b"sqlite_autoindex_file", b"sqlite_autoindex\xfffile"),
        whole.replace(b"size INT", b"sizd INT"),
    ):
        assert spoilt != whole
        digests_path().write_bytes(spoilt)
        with pytest.raises(StorageError, match=r"is damaged.*retune cache verify"):
            file_digests([file])
        assert main(["cache", "verify"]) == 1
        assert file_digests([file]) == [right]


METHOD = """
import torch
from retune import Strategy
from .parts.deep import A

class Kept(Strategy):
    name = "kept"

    def fit(self, experience):
        pass

    def score(self, images):
        return torch.full((len(images), len(self.context.labels)), A)
"""
CUT = """
import helper
from retune.scenarios.class_incremental import ClassIncremental

class Mine(ClassIncremental):
    name = "mine"
"""


def test_modules_of_an_installed_plugin_and_of_a_scenario_are_of_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "made_up_package"
    (package / "parts").mkdir(parents=True)
    helper, deep, unused = tmp_path / "helper.py", package / "parts" / "deep.py", package / "unused.py"
    (tmp_path / "cut.py").write_text(CUT)
    (package / "method.py").write_text(METHOD)
    for file in (package / "__init__.py", package / "parts" / "__init__.py", helper, unused):
        file.write_text("")
    deep.write_text("from made_up_package.parts import deeper\nA = 1.0\n")
    (package / "parts" / "deeper.py").write_text("")
    point = EntryPoint("kept", "made_up_package.method:Kept", "retune.strategies")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("retune.plugins.entry_points", lambda group: [point] if group == point.group else [])
    registry.cache_clear()

    def identity() -> str:
        words = {"strategy": "kept", "settings": {"data.images": 120, "data.size": 64}}
        return plan(Spec(scenario=f"{tmp_path / 'cut.py'}", **words)).id

    ids = [identity()]
    for file in (deep, package / "parts" / "deeper.py", package / "__init__.py", helper):
        file.write_text(file.read_text() + "# another\n")
        ids.append(identity())
    unused.write_text("# another\n")
    assert len(set(ids)) == len(ids)
    assert identity() == ids[-1]
    registry.cache_clear()


def test_helpers_beside_a_plugin_are_of_its_identity(tmp_path: Path) -> None:
    alone, plugin = tmp_path / "alone.py", tmp_path / "plugin.py"
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    deep = tmp_path / "parts" / "deep.py"
    deep.write_text("A = 1\n")
    (tmp_path / "helper.py").write_text("def f():\n    from parts import deep\n")
    alone.write_text("import json\n")
    plugin.write_text("import json, helper\n")
    before = origin_of(str(alone)), origin_of(str(plugin))
    deep.write_text("A = 2\n")
    assert origin_of(str(alone)) == before[0]
    assert origin_of(str(plugin)) != before[1]
