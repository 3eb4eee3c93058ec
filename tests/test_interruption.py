"""Killed at random moments, a run continues to the same bits; where it cannot write, it says so."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

COMMAND = [
    sys.executable, "-m", "retune", "run", "--scenario", "label-incremental", "--set", "data.images=300",
    "--set", "data.size=64", "--set", "adaptors=shared", "--set", "epochs=15", "--replicates", "50",
    "--prompts", "chexzero",
]  # fmt: skip


def start(out: Path, *more: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "--out", str(out), *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )


@pytest.mark.slow
def test_killed_and_issued_again_gives_the_same_bits(tmp_path: Path) -> None:
    begun = time.monotonic()
    assert start(tmp_path / "whole").wait() == 0
    whole_seconds = time.monotonic() - begun
    # A store of its own, so that encoding is interrupted too.
    environment = {**os.environ, "RETUNE_CACHE": str(tmp_path / "cache")}
    # The earliest first: work that is kept makes every later run shorter.
    moments = random.Random(0)
    kills = 0
    for share in sorted(moments.uniform(0.3, 1.2) for _ in range(4)):
        process = start(tmp_path / "killed", environment=environment)
        try:
            process.wait(timeout=share * whole_seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills >= 1
    assert start(tmp_path / "killed", environment=environment).wait() == 0
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed")]
    assert results[0]["auc_matrix"] == results[1]["auc_matrix"]
    assert results[0]["metrics"] == results[1]["metrics"]
    scores = [load_file(tmp_path / name / "scores.safetensors")["scores"] for name in ("whole", "killed")]
    assert scores[0].tobytes() == scores[1].tobytes()
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left <= {"run.json", "result.json", "scores.safetensors", ".lock"}


@pytest.mark.slow
def test_two_processes_at_once_share_the_work(tmp_path: Path) -> None:
    environment = {**os.environ, "RETUNE_CACHE": str(tmp_path / "cache")}
    outs = [tmp_path / "first", tmp_path / "second"]
    processes = [start(out, "--seed", str(k), environment=environment) for k, out in enumerate(outs)]
    assert [process.wait() for process in processes] == [0, 0]
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
    arguments = ["--strategy", str(strategy), "--set", "data.images=300", "--set", "data.size=64"]
    command = [*COMMAND[:4], "--scenario", "class-incremental", *arguments, "--out", str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert (tmp_path / "log").read_text().split() == ["2", "5", "8", "8", "11", "13"]


@pytest.mark.slow
def test_a_full_disk_is_exit_code_1_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    run_it = "from retune.cli.main import main; sys.exit(main(sys.argv[1:]))"
    assert start(tmp_path / "fills the store").wait() == 0
    process = subprocess.run(
        [sys.executable, "-c", limit + run_it, *COMMAND[3:], "--out", str(out)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert "the disk is full" in process.stderr
    assert len(process.stderr.strip().splitlines()[-1:]) == 1
    assert "Traceback" not in process.stderr
    assert {path.name for path in out.iterdir()} <= {"run.json", ".lock"}
    assert start(out).wait() == 0


def test_a_folder_that_cannot_be_made_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    process = start(tmp_path / "file" / "out")
    _, complaint = process.communicate()
    assert process.returncode == 2
    assert b"cannot write here" in complaint
    assert b"--out" in complaint
    assert b"Traceback" not in complaint
