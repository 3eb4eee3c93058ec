"""Killed at random moments, a run continues to the same bits; where it cannot write, it says so."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest
from made_processes import ended, start
from safetensors.numpy import load_file

from retune.cli.main import main

DATA = ["--set", "data.images=120", "--set", "data.size=64", "--replicates", "50"]
WORDS = [
    "run", "--scenario", "label-incremental", "--set", "adaptors=shared", "--set", "epochs=15",
    "--prompts", "chexzero", *DATA,
]  # fmt: skip


def command(out: Path, *more: str) -> list[str]:
    return [*WORDS, "--out", str(out), *more]


def written(file: Path) -> int:
    """When a file was written last."""
    return file.stat().st_mtime_ns if file.exists() else 0


@pytest.mark.slow
def test_killed_and_issued_again_gives_the_same_bits(tmp_path: Path) -> None:
    # A store for each, so that encoding is interrupted too.
    caches = {name: {"RETUNE_CACHE": str(tmp_path / f"{name} cache")} for name in ("whole", "killed")}
    assert ended(start(command(tmp_path / "whole"), tmp_path / "log", caches["whole"])) == 0
    cost = json.loads((tmp_path / "whole" / "result.json").read_text())["cost"]
    learning = cost["fit_seconds"] + cost["score_seconds"]
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    moments = random.Random(0)
    kills = 0
    for seconds in (cost["encode_seconds"], learning, learning):
        before = written(checkpoint)
        process = start(command(tmp_path / "killed"), tmp_path / "log", caches["killed"])
        while seconds is learning and written(checkpoint) == before and process.is_alive():
            time.sleep(0.001)
        process.join(moments.uniform(0, 0.4) * seconds)
        process.kill()
        kills += ended(process) == -signal.SIGKILL
    assert kills >= 1
    # What a kill in the middle of writing leaves.
    (tmp_path / "killed" / ".partial-left").touch()
    assert ended(start(command(tmp_path / "killed"), tmp_path / "log", caches["killed"])) == 0
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed")]
    assert results[0]["auc_matrix"] == results[1]["auc_matrix"]
    assert results[0]["metrics"] == results[1]["metrics"]
    scores = [load_file(tmp_path / name / "scores.safetensors")["scores"] for name in ("whole", "killed")]
    assert scores[0].tobytes() == scores[1].tobytes()
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left <= {"run.json", "result.json", "scores.safetensors", "model.safetensors", ".lock"}


@pytest.mark.slow
def test_two_processes_at_once_share_the_work(tmp_path: Path) -> None:
    environment = {"RETUNE_CACHE": str(tmp_path / "cache")}
    outs = [tmp_path / "first", tmp_path / "second"]
    processes = [
        start(command(out, "--seed", str(k)), tmp_path / f"log {k}", environment)
        for k, out in enumerate(outs)
    ]
    assert [ended(process) for process in processes] == [0, 0]
    results = [json.loads((out / "result.json").read_text()) for out in outs]
    needed = results[0]["dataset"]["n_train"] + results[0]["dataset"]["n_test"]
    assert sum(result["cost"]["images_encoded"] for result in results) == needed
    held = [load_file(path) for path in (tmp_path / "cache" / "features").glob("*/*.safetensors")]
    keys = [bytes(key) for shard in held for key in shard["keys"]]
    assert len(keys) == len(set(keys))


@pytest.mark.slow
def test_continues_after_its_last_experience(tmp_path: Path) -> None:
    """Stopped by its own strategy in the third experience, then continued: the first two are not fitted again."""
    strategy = tmp_path / "stops.py"
    strategy.write_text(
        "import os, torch\nfrom pathlib import Path\nfrom retune import Strategy\n\n"
        "class Stops(Strategy):\n"
        "    name = 'stops'\n"
        "    def setup(self, context):\n"
        "        super().setup(context)\n"
        "        self.seen = torch.zeros(())\n"
        "    def fit(self, experience):\n"
        f"        log = Path({str(tmp_path / 'log')!r})\n"
        "        log.write_text((log.read_text() if log.exists() else '') + f'{experience.observed[-1]} ')\n"
        "        if experience.observed[-1] == 8 and log.read_text().count('8 ') == 1:\n"
        "            os.kill(os.getpid(), 9)\n"
        "        self.seen = self.seen + len(experience)\n"
        "    def score(self, images):\n"
        "        return images.features[:, :14] * (1 + self.seen)\n"
        "    def state_dict(self):\n"
        "        return {'seen': self.seen}\n"
        "    def load_state_dict(self, state):\n"
        "        self.seen = state['seen']\n"
    )
    words = ["run", "--scenario", "class-incremental", "--strategy", str(strategy), *DATA]
    assert ended(start([*words, "--out", str(tmp_path / "out")], tmp_path / "told")) == -signal.SIGKILL
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "run.json",
        "checkpoint.safetensors",
        ".lock",
    }
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "log").read_text().split() == ["2", "5", "8", "8", "11", "13"]
    # Now it is never stopped.
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    scores = [load_file(tmp_path / name / "scores.safetensors")["scores"] for name in ("out", "whole")]
    assert scores[0].tobytes() == scores[1].tobytes()


@pytest.mark.slow
def test_a_full_disk_is_exit_code_1_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    assert main(command(tmp_path / "fills the store")) == 0
    assert ended(start(command(out), log, largest_file=20_000)) == 1
    told = log.read_text()
    assert told.splitlines()[-1].startswith("error: ")
    assert "the disk is full" in told.splitlines()[-1]
    assert "Traceback" not in told
    assert {path.name for path in out.iterdir()} <= {"run.json", ".lock"}
    assert main(command(out)) == 0


def test_a_folder_that_cannot_be_made_is_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(command(tmp_path / "file" / "out")) == 2
    complaint = capsys.readouterr().err
    assert "cannot write here" in complaint
    assert "--out" in complaint
    assert "Traceback" not in complaint
