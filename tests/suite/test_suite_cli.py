"""``retune suite`` as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import made_suites as made
import pytest

from retune.cli.main import main

SMALL = [
    "--scenario", "class-incremental", "--seeds", "2", "--steps", "2", "--replicates", "20",
    "--set", "data.images=120", "--set", "data.size=64", "--jobs", "1",
]  # fmt: skip
COMMAND = [sys.executable, "-m", "retune", "suite", *SMALL]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["suite", *SMALL, *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Processes that work for a suite: children of its process whose command line is joblib's."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    return [int(pid) for pid, ppid, words in rows if int(ppid) == process.pid and "popen_loky" in words]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
def test_a_suite_from_its_plan_to_its_tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "absent.py"
    file.write_text("import nothing_of_that_name\n")
    nasty = made.write(tmp_path, "nasty", fit="torch.Tensor.softmax = torch.Tensor.sigmoid = None")
    out, ours = tmp_path / "out", ["zero-shot", "ridge"]
    # A plugin is asked for first; built-in methods run before it nevertheless, and never after it in one process.
    strategies = [word for name in (nasty, *ours, str(file)) for word in ("--strategy", name)]
    code, text, _ = call(capsys, *strategies, "--out", str(out), "--dry-run")
    assert code == 1
    assert "6 runs, 6 of them left: 3 methods, 1 stream, 2 seeds." in text
    assert "images are encoded" in text
    assert not out.exists()
    code, text, lines = call(capsys, *strategies, "--out", str(out))
    assert code == 1
    # Without a terminal: a line for each run.
    assert [line.partition("]")[0] for line in lines.splitlines() if line.startswith("[")] == [
        f"[{k}/6" for k in (1, 2, 3, 4, 5, 6)
    ]
    assert "ridge" in text
    assert "nothing_of_that_name" in text
    assert f"retune run --scenario class-incremental --strategy {file}" in text
    document = json.loads((out / "suite.json").read_text())
    assert [row["state"] for row in document["runs"]] == ["done"] * 6 + ["failed"] * 2
    assert [row["strategy"] for row in document["runs"][:6]] == [*ours, *ours, "nasty", "nasty"]
    assert all((out / row["folder"] / "result.json").exists() for row in document["runs"][:6])
    assert {"table.json", "table.csv", "table.md", "table.tex"} <= {path.name for path in out.iterdir()}
    # Whatever the plugin has changed, and however many runs there are at a time: test_execute has two.
    bits = {name: found for name, found in made.scores(out).items() if not name.startswith("nasty")}
    assert bits == made.undisturbed(tmp_path / "again", ours)
    # Once more: nothing is run, everything is shown, and what a plugin prints or breaks stays out of the JSON.
    code, text, lines = call(capsys, *strategies, "--out", str(out), "--json")
    assert code == 1
    assert {**json.loads(text), "digest": document["digest"]} == document
    assert "[1/6]" not in lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategy", "retune"], "did you mean re-tune"),
        (["--strategy", "joint", "--order", "alphabet"], "--order: "),
        (["--strategy", "joint", "--root", "/data"], "--root"),
        (["--strategy", "joint", "--data", "nih"], "--root DIR is needed"),
        (["nowhere.toml"], "cannot be read"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = [word for word in SMALL if not word.startswith("data.")]
    given = [word for k, word in enumerate(settings) if word != "--set"]
    code = main(["suite", *given, *arguments, "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert code == 2
    assert words in error.splitlines()[-1]
    assert error.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()


def heed_ctrl_c() -> None:
    """What is started in the background is told to ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_interrupted_and_issued_again_gives_the_same_bits(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    going, free = tmp_path / "going", tmp_path / "free"
    # Waits in its second experience until it may go on.
    waits = made.write(
        tmp_path,
        "waits",
        fit=f"""
        if experience.observed[0] == 7:
            Path({str(going)!r}).write_text("")
            while not Path({str(free)!r}).exists():
                time.sleep(0.05)
""",
    )
    given = ["--strategy", waits, "--out", str(tmp_path / "out")]
    for how, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        going.unlink(missing_ok=True)
        process = subprocess.Popen(
            [*COMMAND, *given],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            preexec_fn=heed_ctrl_c,
        )
        while not going.exists():
            assert process.poll() is None
            time.sleep(0.05)
        workers = workers_of(process)
        process.send_signal(how)
        _, errors = process.communicate()
        assert len(workers) == 1
        assert process.returncode == code
        assert "Traceback" not in errors
        # No worker outlives its suite: it would hold the lock of the run that is to be continued.
        while not gone(workers[0]):
            time.sleep(0.05)
    free.write_text("")
    assert call(capsys, *given)[0] == 0
    assert made.scores(tmp_path / "out") == made.undisturbed(tmp_path / "whole", [waits])
